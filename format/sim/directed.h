// Scenarios with one story each, for what random workloads meet too seldom: each names the ordering
// rules that it would notice the lack of.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "format/base/rules.h"
#include "format/sim/scenario.h"

namespace coppice::sim {

struct Directed {
    std::string_view name;
    std::vector<Rule> rules;
    // Ends the process at the first violation.
    std::function<void(const StoreKind&)> run;
};

const std::vector<Directed>& directed_scenarios();

}  // namespace coppice::sim
