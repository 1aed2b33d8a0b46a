// Runs with several streams in one volume. Each has blocks of its own, so that after a cut its
// blocks tell exactly how many of its operations are there: a beginning of them, and all that a
// flush covers. Between streams any order may be found, unless an ordered flush of the volume lies
// between.
#pragma once

#include "format/sim/scenario.h"

namespace coppice::sim {

// Ends the process at the first violation.
void run_streams(const StoreKind& kind, std::uint64_t seed, std::uint64_t cuts);

}  // namespace coppice::sim
