// Applying the operations of the journal (FORMAT.md, "Recovery", 4).
//
// Operations take effect in ascending order of sequence. Between two that are anything else, writes
// and deallocations make a *run*, and what a run leaves can be known without going through its
// states: for each block of a volume the last of its operations counts. So a run is sorted, and
// changes each leaf of a map once, from left to right, instead of a leaf anywhere for each
// operation. It comes to the same, because nothing looks at a map within a run, no version is
// frozen within one, and what decides who owns a block is only whether it was born before or behind
// a freeze:
//
//   blocks       all that the run's writes name are in use, those of superseded writes too; the
//                next checkpoint frees these, as it does when a write is superseded later
//   births       that of the write that counts; of neighbours that become one item the greater
//   drops        what the map had before the run, with its own births, and what is superseded
//   checksums    of all blocks named: no two writes behind one superblock name the same
//   counts       mapped_blocks and the newest sequence as after the last operation
//   commands     whole ones, so nobody ever sees a part of one
#pragma once

#include "format/journal/scan.h"
#include "format/volume/state.h"

namespace coppice {

// Applies what the superblock does not contain. (task)
Status replay(State& state, Scan& scan);

}  // namespace coppice
