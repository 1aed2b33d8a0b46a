// Compares what a cut left with what was promised: which volumes are there, what they are called,
// what they hold.
#pragma once

#include <string>

#include "format/sim/survivors.h"

namespace coppice::sim {

// Why a cut at `event` of the run that the model saw cannot leave this; "" if it can. What it shows
// is counted then.
std::string complaint(const Contents& contents, const Model& model, Event event);

// From which event on a cut leaves what the model began with: the first answer that promised that
// something is durable, or kNever. (Only where it began with what a process that was killed had
// left in the host's cache does this say anything.)
Event first_promise(const Model& model);

}  // namespace coppice::sim
