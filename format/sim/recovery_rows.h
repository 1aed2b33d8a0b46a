// The rows of the two recovery tables of FORMAT.md, section 5, as cases of the simulator: which of
// them the images meet that cuts leave, and those that no cut can leave, made by damaging one of
// these. Written from FORMAT.md, with no code of the store's.
#pragma once

#include "format/sim/scenario.h"

namespace coppice::sim {

// Counts the rows that an image meets as a cut left it.
void count_rows(const SparseBytes& image);

// Damages the image in some ways, each of which is a row that no cut leaves, and compares the
// verdicts of the store and the checker with that of the row. `contents`: what the image shows as
// it is. Ends the process at the first violation.
void damage(const StoreKind& kind, const SparseBytes& image, const Contents& contents,
            Random& random);

}  // namespace coppice::sim
