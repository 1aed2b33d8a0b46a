// What one run of the simulator does, drawn from its seed: weights, sizes, how the host behaves.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "format/sim/random.h"
#include "format/sim/sim_disk.h"
#include "format/volume/store.h"

namespace coppice::sim {

enum class Action : std::uint8_t {
    write,
    read,
    read_beside_writes,
    deallocate,
    write_zeroes,
    clone,
    contest,
    transaction,
    write_ranges,
    open_stream,
    close_stream,
    flush,
    checkpoint,
    rest,
    snapshot,
    read_snapshot,
    rollback,
    clone_volume,
    create_volume,
    remove,
    resize,
    rename,
    set_flush_mode,
    set_group,
    snapshot_group,
    count_,
};
inline constexpr std::size_t kActions = static_cast<std::size_t>(Action::count_);

struct Plan {
    std::string profile;
    std::uint64_t volume_bytes = 1 << 20;
    unsigned fibers = 3;
    std::uint64_t actions = 100;  // of all fibers together
    std::array<unsigned, kActions> weights{};
    unsigned aligned_percent = 60;  // offsets and lengths of 4 KiB, else of 512 bytes
    unsigned forced_percent = 10;   // writes with FUA
    unsigned durable_percent = 30;  // commits of transactions that are to be durable
    unsigned hot_percent = 50;      // in the first 64 KiB of the volume
    std::uint64_t largest_sectors = 64;
    std::uint64_t most_volumes = 6;  // and snapshots
    unsigned first_volumes = 0;      // made before anything else
    bool grouped = false;            // ... and all volumes put into one group
    std::uint64_t cache_bytes = 1 << 20;
    std::uint64_t punch_delay_ns = 0;
    std::uint64_t punch_blocks = 1;  // small volumes have short holes
    std::uint64_t late_write_blocks = OpenOptions().late_write_blocks;
    std::uint64_t journaled_blocks = OpenOptions().journaled_blocks;
    std::uint64_t tail_blocks = 65536;    // small, so that commits are cut and synced for it
    std::size_t inline_clone_items = 64;  // small, so that small volumes have range references
    std::uint64_t removal_step = 4;       // small, so that small versions are removed in many steps
    std::uint64_t transaction_timeout_ns = OpenOptions().transaction_timeout_ns;
    bool transactions = true;     // the toy store has none
    unsigned stream_percent = 0;  // of what can belong to a stream, where the volume has one open
    bool ordered_first = false;   // the first volume has ordered flushes from the start
    bool flushes_first = false;   // a flush or a checkpoint before anything else
    std::uint64_t commit_interval_ns = 1'000'000'000;
    std::uint64_t tick_ns = 1'000'000;  // how often the host lets background work begin
    bool full_host = false;             // the host has little room beyond what the image takes
    std::uint64_t room_bytes = 0;
    bool closes = true;  // else it is abandoned
    // No task of the store may need more; what a body calls beside it may.
    std::size_t stack_bytes = 64 * 1024;
    SimDiskOptions disk;
};

Plan draw_plan(Random& random, bool quick);

}  // namespace coppice::sim
