// One namespace over a plain block device: for when something stands between the device and the
// store (a throttle, a mirror job, a bitmap), which must see every request. No snapshots; Copy
// moves bytes through a buffer, and neither it nor a write is atomic.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <sys/uio.h>

#include "controller/backend.h"

namespace coppice::nvme {

struct BlockIo {
    enum class Kind : std::uint8_t {
        read,
        write,
        flush,
        discard,  // reads as zeroes afterwards, and space is given back if that is possible
        write_zeroes,
    };
    Kind kind = Kind::read;
    bool fua = false;
    std::uint64_t offset_bytes = 0;
    std::uint64_t length_bytes = 0;
    std::span<const iovec> buffers{};
    std::function<void(int)> completion;  // 0 or a negative errno; once, at once or later
};

class BlockDevice {
public:
    BlockDevice() = default;
    BlockDevice(const BlockDevice&) = delete;
    BlockDevice& operator=(const BlockDevice&) = delete;
    virtual ~BlockDevice() = default;

    virtual std::uint64_t size_bytes() = 0;
    virtual bool read_only() = 0;
    virtual void start(BlockIo io) = 0;
};

class BlockBackend final : public Backend {
public:
    struct Namespace {
        std::uint32_t nsid = 1;
        unsigned lba_shift = 9;
        std::array<std::uint8_t, 16> nguid{};
        std::array<std::uint8_t, 8> eui64{};
    };
    // `device` outlives the backend.
    BlockBackend(BlockDevice& device, const Namespace& identity)
        : device_(device), identity_(identity)
    {
    }

    Abilities abilities() const override { return {}; }
    std::vector<NamespaceInfo> namespaces() override;
    Capacity capacity() override;
    void submit(const Operation& operation, Completion completion) override;

    // Never called: abilities() has neither snapshots nor order. They say so, too.
    void spawn(std::function<void()> body) override;
    Result<VolumeId> create(const NewVolume& volume) override;
    Status remove(VolumeId id) override;
    Result<VolumeId> snapshot(VolumeId volume, const std::string& name) override;
    Result<VolumeId> snapshot_group(VolumeId volume, const std::string& name) override;
    Result<VolumeId> clone(VolumeId snapshot, const std::string& name) override;
    Status rollback(VolumeId volume, VolumeId snapshot) override;
    Status checkpoint() override;
    Status set_flush_mode(VolumeId volume, FlushMode mode) override;
    Status set_group(VolumeId volume, ConsistencyGroup group) override;
    Result<StreamId> open_stream(VolumeId volume) override;
    Status close_stream(VolumeId volume, StreamId stream) override;
    Result<TransactionId> begin(VolumeId volume) override;
    bool is_open(VolumeId volume, TransactionId transaction) override;
    Status abort(VolumeId volume, TransactionId transaction) override;

private:
    class Steps;
    void start_steps(std::shared_ptr<Steps> steps);
    void steps_ended();

    BlockDevice& device_;
    Namespace identity_;
    unsigned copies_ = 0;                         // that hold a buffer
    std::deque<std::shared_ptr<Steps>> waiting_;  // for one of them to end
};

}  // namespace coppice::nvme
