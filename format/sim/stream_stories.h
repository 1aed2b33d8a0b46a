// Directed scenarios where domains of one volume meet.
#pragma once

#include "format/sim/directed.h"

namespace coppice::sim {

std::vector<Directed> stream_stories();

}  // namespace coppice::sim
