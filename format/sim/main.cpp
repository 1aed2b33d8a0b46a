// coppice-sim: crashes the store in every way that the fault model (sim_disk.h) knows, and compares
// what is left with what was promised.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <fmt/format.h>
#include <string>
#include <vector>

#include "format/base/rules.h"
#include "format/sim/directed.h"
#include "format/sim/report.h"
#include "format/sim/scenario.h"
#include "format/sim/seeds.h"
#include "format/sim/toy_store.h"

namespace {

using namespace coppice;
using namespace coppice::sim;

// From this many seeds on, each named case must have been reached.
constexpr std::uint64_t kEnoughSeeds = 60;

struct Arguments {
    std::uint64_t seeds = 100;
    std::uint64_t first_seed = 1;
    std::uint64_t cuts = 20;
    unsigned jobs = 1;
    unsigned timeout_seconds = 120;
    std::string rule;
    std::string directed;
    bool each_rule = false;
    bool seeds_only = false;
    bool long_runs = false;
    bool toy = false;
    bool debug = false;
};

std::string last_line(const std::string& text)
{
    const std::size_t end = text.find_last_not_of('\n');
    const std::size_t begin = text.find_last_of('\n', end);
    return text.substr(begin == std::string::npos ? 0 : begin + 1,
                       end == std::string::npos ? std::string::npos : end - begin);
}

void run_seed(const Arguments& arguments, std::uint64_t seed)
{
    ScenarioOptions options;
    options.seed = seed;
    options.cuts = arguments.cuts;
    options.quick = !arguments.long_runs;
    options.full_hosts = !arguments.toy;
    options.streams = !arguments.toy;
    options.transactions = !arguments.toy;
    run_scenario(arguments.toy ? toy_store(ToyFault::none) : real_store(), options);
}

std::string replay_command(const Arguments& arguments, std::uint64_t seed)
{
    return fmt::format("coppice-sim --seeds 1 --first-seed {} --cuts {}{}{}", seed, arguments.cuts,
                       arguments.long_runs ? " --long" : "",
                       arguments.rule.empty() ? "" : " --rule " + arguments.rule);
}

bool print_counters(std::uint64_t seeds)
{
    std::string missing;
    for (std::size_t i = 0; i < kCases; ++i) {
        const std::string_view name = case_name(static_cast<Case>(i));
        fmt::print("  {:34} {}\n", name, case_counts[i]);
        missing += case_counts[i] == 0 ? fmt::format(" {}", name) : "";
    }
    if (!missing.empty() && seeds >= kEnoughSeeds) {
        fmt::print("never reached, so that the simulator no longer tests it:{}\n", missing);
        return false;
    }
    return true;
}

int run_all(const Arguments& arguments)
{
    std::uint64_t failures = 0;
    for (const Directed& scenario : directed_scenarios()) {
        const SeedResult result =
            run_in_child([&] { scenario.run(real_store()); }, arguments.timeout_seconds);
        if (result.failed) {
            ++failures;
            fmt::print("directed scenario {} failed: {}  replay: coppice-sim --directed {}\n",
                       scenario.name, result.text, scenario.name);
        }
    }
    SeedsOptions options;
    options.first = arguments.first_seed;
    options.count = arguments.seeds;
    options.jobs = arguments.jobs;
    options.timeout_seconds = arguments.timeout_seconds;
    failures += run_seeds(
        options, [&](std::uint64_t seed) { run_seed(arguments, seed); },
        [&](std::uint64_t seed, const SeedResult& result) {
            if (result.failed) {
                fmt::print("seed {} failed: {}  replay: {}\n", seed, result.text,
                           replay_command(arguments, seed));
            }
        });
    const bool reached_all = print_counters(arguments.seeds);
    fmt::print("{} seeds, {} cuts, {} failures\n", arguments.seeds,
               case_counts[static_cast<std::size_t>(Case::cuts)], failures);
    return failures == 0 && reached_all ? 0 : 1;
}

// Turns a rule off and looks for something that notices. True if found.
bool hunt(const Arguments& arguments, const RuleName& rule)
{
    broken_rules = 1U << static_cast<unsigned>(rule.rule);
    bool found = false;
    for (const Directed& scenario : directed_scenarios()) {
        if (found || arguments.seeds_only ||
            std::find(scenario.rules.begin(), scenario.rules.end(), rule.rule) ==
                scenario.rules.end()) {
            continue;
        }
        const SeedResult result =
            run_in_child([&] { scenario.run(real_store()); }, arguments.timeout_seconds);
        // An endless run shows that something is wrong, not what.
        if (result.failed && !result.timed_out) {
            found = true;
            fmt::print("{:26} found by scenario {}: {}\n", rule.name, scenario.name,
                       last_line(result.text));
        }
    }
    if (!found) {
        SeedsOptions options;
        options.first = arguments.first_seed;
        options.count = arguments.seeds;
        options.jobs = arguments.jobs;
        options.timeout_seconds = arguments.timeout_seconds;
        options.stop_at_first_failure = true;
        run_seeds(
            options, [&](std::uint64_t seed) { run_seed(arguments, seed); },
            [&](std::uint64_t seed, const SeedResult& result) {
                if (result.failed && !result.timed_out && !found) {
                    found = true;
                    fmt::print("{:26} found by seed {}: {}\n", rule.name, seed,
                               last_line(result.text));
                }
            });
    }
    if (!found) {
        fmt::print("{:26} NOT FOUND in {} seeds: nothing notices when it is broken\n", rule.name,
                   arguments.seeds);
    }
    std::fflush(stdout);
    broken_rules = 0;
    return found;
}

int hunt_rules(const Arguments& arguments)
{
    bool all = true;
    bool known = false;
    for (const RuleName& rule : kRuleNames) {
        if (arguments.each_rule || rule.name == arguments.rule) {
            known = true;
            all = hunt(arguments, rule) && all;
        }
    }
    if (!known) {
        fmt::print(stderr, "coppice-sim: there is no rule {}; the rules are:\n", arguments.rule);
        for (const RuleName& rule : kRuleNames) {
            fmt::print(stderr, "  {}\n", rule.name);
        }
        return 2;
    }
    return all ? 0 : 1;
}

int run_directed(const Arguments& arguments)
{
    for (const Directed& scenario : directed_scenarios()) {
        if (scenario.name == arguments.directed) {
            for (const RuleName& rule : kRuleNames) {
                if (rule.name == arguments.rule) {
                    broken_rules = 1U << static_cast<unsigned>(rule.rule);
                }
            }
            const SeedResult result =
                run_in_child([&] { scenario.run(real_store()); }, arguments.timeout_seconds);
            fmt::print("{}{}\n", result.text, result.failed ? "failed" : "passed");
            return result.failed ? 1 : 0;
        }
    }
    fmt::print(stderr, "coppice-sim: there is no scenario {}\n", arguments.directed);
    return 2;
}

}  // namespace

int main(int count, char** words)
{
    Arguments arguments;
    CLI::App app("Cuts the power of simulated disks under the Coppice store and compares what is "
                 "left with a model. COPPICE_SIM_TRACE=1 prints each event of a seed.");
    app.add_option("--seeds", arguments.seeds, "how many seeds to run")->capture_default_str();
    app.add_option("--first-seed", arguments.first_seed, "the first of them")
        ->capture_default_str();
    app.add_option("--cuts", arguments.cuts, "cuts for each seed")->capture_default_str();
    app.add_option("--jobs", arguments.jobs, "processes at a time")->capture_default_str();
    app.add_option("--timeout", arguments.timeout_seconds, "processor seconds for each seed")
        ->capture_default_str();
    app.add_option("--rule", arguments.rule,
                   "turn this ordering rule off; succeed if a seed fails");
    app.add_flag("--each-rule", arguments.each_rule, "the same for every rule, one by one");
    app.add_flag("--seeds-only", arguments.seeds_only,
                 "a rule must be noticed by a seed; the directed scenarios are left out");
    app.add_option("--directed", arguments.directed, "run one directed scenario by its name");
    app.add_flag("--debug", arguments.debug, "run the first seed in this process, for a debugger");
    app.add_flag("--toy", arguments.toy, "try the simulator on its toy store");
    app.add_flag("--long", arguments.long_runs, "longer runs for each seed");
    CLI11_PARSE(app, count, words);

    if (arguments.debug) {
        run_seed(arguments, arguments.first_seed);
        return 0;
    }
    if (!arguments.directed.empty()) {
        return run_directed(arguments);
    }
    if (arguments.each_rule || !arguments.rule.empty()) {
        return hunt_rules(arguments);
    }
    return run_all(arguments);
}
