// Directed scenarios of consistency groups.
#pragma once

#include "format/sim/directed.h"

namespace coppice::sim {

std::vector<Directed> group_stories();

}  // namespace coppice::sim
