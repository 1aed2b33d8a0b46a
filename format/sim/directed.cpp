#include "format/sim/directed.h"

namespace coppice::sim {

const std::vector<Directed>& directed_scenarios()
{
    static const std::vector<Directed> scenarios = {};
    return scenarios;
}

}  // namespace coppice::sim
