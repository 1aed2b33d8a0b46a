// The simplest store that keeps the front door's promises: all volumes in memory; what must become
// durable writes everything, in turn, to one of two halves of the disk, and syncs. The simulator
// is tried on it before it may judge the real one: it must find nothing wrong with it, and must
// find each of the faults that can be planted.
#pragma once

#include <cstdint>

#include "format/sim/scenario.h"

namespace coppice::sim {

enum class ToyFault : std::uint8_t {
    none,
    acknowledges_before_sync,
    acknowledges_before_write,
    one_half_only,          // the state is written over the one before it
    no_checksum,            // a torn state is taken for a whole one
    tears_writes,           // a write takes effect in two steps
    forgets_partial_block,  // writes of one block at once lose one of the two
    clone_reads_late,       // the source of an overlapping clone is read while it is overwritten
    snapshot_moves,         // a snapshot shows its volume's later writes
    rollback_not_durable,
    keeps_failed_sync,  // a failed sync is passed over
};

StoreKind toy_store(ToyFault fault);

}  // namespace coppice::sim
