// The tail of the journal: commits that no sync is known to cover (FORMAT.md, "Recovery", 3).
#pragma once

#include "format/journal/scan.h"
#include "format/volume/state.h"

namespace coppice {

// Cuts the commits off from the first whose data are not what their checksums say. What a completed
// sync covers is not read. (task)
Status verify_tail(State& state, Scan& scan);

}  // namespace coppice
