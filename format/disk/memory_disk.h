// A disk in memory: sparse, completes every request at once. For tests, fuzzers and benches; a
// limit makes it a full host, a hook makes it a failing one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>

#include "format/disk/disk.h"

namespace coppice {

// The bytes of a sparse file, in chunks of 4 KiB that exist once written or allocated. Copies are
// cheap: they share chunks until one of them writes. Copies that share belong to one thread.
class SparseBytes {
public:
    static constexpr std::size_t kChunkBytes = 4096;

    void read(std::uint64_t offset_bytes, std::span<std::byte> into) const;
    void write(std::uint64_t offset_bytes, std::span<const std::byte> from);
    // Whole chunks are given back.
    void zero(std::uint64_t offset_bytes, std::uint64_t length_bytes);
    // Makes chunks exist; what they hold stays. The file grows.
    void allocate(std::uint64_t offset_bytes, std::uint64_t length_bytes);
    void truncate(std::uint64_t size_bytes);

    std::uint64_t size_bytes() const { return size_bytes_; }
    std::uint64_t allocated_bytes() const { return chunks_.size() * kChunkBytes; }
    // True if the chunk at this offset exists.
    bool allocated(std::uint64_t offset_bytes) const
    {
        return chunks_.contains(offset_bytes / kChunkBytes);
    }

private:
    using Chunk = std::array<std::byte, kChunkBytes>;

    Chunk& own_chunk(std::shared_ptr<Chunk>& chunk);

    // Null: allocated, and never written.
    std::unordered_map<std::uint64_t, std::shared_ptr<Chunk>> chunks_;
    std::uint64_t size_bytes_ = 0;
};

// A sparse file on a host that may be full. Does what a request says.
class MemoryFile {
public:
    MemoryFile() = default;
    explicit MemoryFile(SparseBytes bytes) : bytes_(std::move(bytes)) {}

    // 0 or a negative errno. Reads fill their buffers.
    int perform(const IoRequest& request);

    // Writes and allocations that would take more than this fail with ENOSPC.
    void set_limit_bytes(std::uint64_t limit_bytes) { limit_bytes_ = limit_bytes; }
    SparseBytes& bytes() { return bytes_; }
    const SparseBytes& bytes() const { return bytes_; }

private:
    bool has_room(std::uint64_t offset_bytes, std::uint64_t length_bytes) const;

    SparseBytes bytes_;
    std::uint64_t limit_bytes_ = UINT64_MAX;
};

class MemoryDisk final : public Disk {
public:
    // Sees each request before it is done; a positive errno makes it fail with nothing done.
    using FaultHook = std::function<int(const IoRequest&)>;

    explicit MemoryDisk(Tasks& tasks) : Disk(tasks) {}
    MemoryDisk(Tasks& tasks, SparseBytes bytes) : Disk(tasks), file_(std::move(bytes)) {}

    Result<std::uint64_t> size_bytes() override { return file_.bytes().size_bytes(); }
    bool read_only() const override { return read_only_; }

    void set_read_only(bool read_only) { read_only_ = read_only; }
    void set_limit_bytes(std::uint64_t limit_bytes) { file_.set_limit_bytes(limit_bytes); }
    void set_fault_hook(FaultHook hook) { fault_hook_ = std::move(hook); }

    SparseBytes& bytes() { return file_.bytes(); }
    const SparseBytes& bytes() const { return file_.bytes(); }

protected:
    void start(std::span<IoRequest> requests) override;

private:
    MemoryFile file_;
    bool read_only_ = false;
    FaultHook fault_hook_;
};

}  // namespace coppice
