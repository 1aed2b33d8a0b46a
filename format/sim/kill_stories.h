// Directed scenarios of processes that are killed while their host lives on.
#pragma once

#include "format/sim/directed.h"

namespace coppice::sim {

std::vector<Directed> kill_stories();

}  // namespace coppice::sim
