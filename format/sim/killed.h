// Not the power fails, but the process is killed. What it had completed is in the host's cache and
// can be read, as if it were safe; the next process opens the image in the same host, shows what it
// finds, goes on, flushes; and only then the power fails. What the flush promised is not only what
// was done since, but also what the open had shown.
//
//   run --log--> kill --host's cache--> run --log--> cut, cut, cut
#pragma once

#include "format/sim/scenario.h"

namespace coppice::sim {

// Kills the process of a recorded run at some moment, and goes on. Ends the process at the first
// violation.
void kill_and_go_on(const StoreKind& kind, const Recording& first, Plan plan, Stamp next_stamp,
                    Random& random, std::uint64_t cuts);

}  // namespace coppice::sim
