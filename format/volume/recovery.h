// From what lies in the host file to a State: superblock, catalog, journal (FORMAT.md, "Recovery").
#pragma once

#include <memory>

#include "format/volume/state.h"
#include "format/volume/superblock.h"

namespace coppice {

// Finds the newest state and replays the journal in memory. What the next recovery would find stays
// as it is: opened read-only nothing at all is written, else the file may become longer, and free
// space in it physically present, for nodes. (task)
Result<std::unique_ptr<State>> recover(Disk& disk, const OpenOptions& options);

}  // namespace coppice
