// The namespaces' port: what holds the data. Two implementations: the store, whose volumes and
// snapshots are namespaces (store_backend.h), and one plain block device (block_backend.h).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "format/volume/store.h"

namespace coppice::nvme {

struct NamespaceInfo {
    std::uint32_t nsid = 0;  // VolumeId
    std::string name;
    std::uint64_t size_bytes = 0;
    std::uint64_t mapped_bytes = 0;
    unsigned lba_shift = 12;
    bool write_protected = false;
    bool snapshot = false;
    bool guest_made = false;
    bool ordered_flush = false;
    std::uint8_t group = 0;    // consistency group; 0: none
    std::uint32_t parent = 0;  // of a snapshot: its volume; of a clone: its snapshot
    std::uint64_t created_unix_ns = 0;
    std::uint64_t created_sequence = 0;
    std::array<std::uint8_t, 16> nguid{};
    std::array<std::uint8_t, 8> eui64{};
};

struct Capacity {
    std::uint64_t total_bytes = 0;
    std::uint64_t free_bytes = 0;
    std::uint64_t generation = 0;
    bool read_only = false;
};

// What a backend can do; decides what Identify says.
struct Abilities {
    bool atomic_writes = false;  // writes of any accepted size are atomic, also after a crash
    bool shares_copies = false;  // Copy costs nothing; else it moves bytes
    bool snapshots = false;      // snapshots, clones, namespace management
    bool order = false;          // streams, transactions, Write Ranges
};

class Backend {
public:
    Backend() = default;
    Backend(const Backend&) = delete;
    Backend& operator=(const Backend&) = delete;
    virtual ~Backend() = default;

    virtual Abilities abilities() const = 0;
    // Volumes and snapshots, ascending by nsid.
    virtual std::vector<NamespaceInfo> namespaces() = 0;
    virtual Capacity capacity() = 0;

    // Input and output. The completion is called once, on the store's thread; the operation's
    // buffers and ranges stay in place until then.
    virtual void submit(const Operation& operation, Completion completion) = 0;

    // Management blocks, so it runs in a task. Only called with abilities().snapshots.
    virtual void spawn(std::function<void()> body) = 0;
    virtual Result<VolumeId> create(const NewVolume& volume) = 0;
    virtual Status remove(VolumeId id) = 0;
    virtual Result<VolumeId> snapshot(VolumeId volume, const std::string& name) = 0;
    // Of all volumes of its group at one moment; returns its own.
    virtual Result<VolumeId> snapshot_group(VolumeId volume, const std::string& name) = 0;
    virtual Result<VolumeId> clone(VolumeId snapshot, const std::string& name) = 0;
    virtual Status rollback(VolumeId volume, VolumeId snapshot) = 0;
    // One state of everything durable, nothing to replay, removals done.
    virtual Status checkpoint() = 0;
    virtual Status set_flush_mode(VolumeId volume, FlushMode mode) = 0;
    virtual Status set_group(VolumeId volume, ConsistencyGroup group) = 0;

    // Streams and transactions; never blocks. Only called with abilities().order.
    virtual Result<StreamId> open_stream(VolumeId volume) = 0;
    virtual Status close_stream(VolumeId volume, StreamId stream) = 0;
    virtual Result<TransactionId> begin(VolumeId volume) = 0;
    virtual bool is_open(VolumeId volume, TransactionId transaction) = 0;
    virtual Status abort(VolumeId volume, TransactionId transaction) = 0;
};

}  // namespace coppice::nvme
