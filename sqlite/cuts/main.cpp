// coppice-sqlite-cuts: SQLite with its journal off, on transactions of the disk, survives every
// power cut; and the same trial without transactions finds databases that did not.
#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "format/base/rules.h"
#include "sqlite/cuts/trial.h"

namespace {

using namespace coppice;
using namespace coppice::sqlite;

struct Arguments {
    std::uint64_t seeds = 3;
    std::uint64_t first_seed = 1;
    std::uint64_t steps = 16;
    std::uint64_t subsets = 1;
    std::string rule;
};

Verdict run_seeds(const Arguments& arguments, Way way)
{
    Verdict all;
    for (std::uint64_t i = 0; i < arguments.seeds; ++i) {
        TrialOptions options;
        options.seed = arguments.first_seed + i;
        options.steps = arguments.steps;
        options.subsets = arguments.subsets;
        options.way = way;
        switch (way) {
        case Way::disk_transactions:
            options.journal_mode = options.seed % 2 == 0 ? "MEMORY" : "OFF";
            break;
        case Way::pages: options.journal_mode = "OFF"; break;
        case Way::own_journal:
            options.journal_mode = options.seed % 2 == 0 ? "DELETE" : "TRUNCATE";
            break;
        }
        all.add(run_trial(options));
    }
    return all;
}

void print(std::string_view name, const Verdict& verdict)
{
    fmt::print("{:<30} {:>5} transactions, {:>3} rolled back, {:>5} pages written early\n", name,
               verdict.transactions, verdict.rolled_back, verdict.written_early);
    fmt::print("{:<30} {:>5} cuts: {} torn, {} in recovery, with a COMMIT not "
               "yet durable {} that kept it, {} that did not\n",
               "", verdict.cuts, verdict.torn, verdict.in_recovery, verdict.open_kept,
               verdict.open_dropped);
    fmt::print("{:<30} {:>5} broken{}{}\n", "", verdict.broken, verdict.broken != 0 ? "; " : "",
               verdict.first_complaint);
}

// A trial that never comes to these proves nothing.
bool reached_all(const Verdict& verdict)
{
    const bool all = verdict.rolled_back != 0 && verdict.written_early != 0 && verdict.torn != 0 &&
                     verdict.in_recovery != 0 && verdict.open_kept != 0 &&
                     verdict.open_dropped != 0;
    if (!all) {
        fmt::print("a case was never reached: the trial no longer tests it\n");
    }
    return all;
}

int run_all(const Arguments& arguments)
{
    std::array<Verdict, kWayNames.size()> verdicts;
    for (std::size_t i = 0; i < kWayNames.size(); ++i) {
        verdicts[i] = run_seeds(arguments, static_cast<Way>(i));
        print(kWayNames[i], verdicts[i]);
    }
    const auto& [disk_transactions, pages, own_journal] = verdicts;
    if (pages.broken == 0) {
        fmt::print("no cut broke a database without transactions: the trial finds nothing\n");
    }
    return disk_transactions.broken == 0 && pages.broken != 0 && own_journal.broken == 0 &&
                   reached_all(disk_transactions)
               ? 0
               : 1;
}

// Succeeds if the trial notices that the store no longer obeys the rule.
int run_without_rule(const Arguments& arguments)
{
    for (const RuleName& rule : kRuleNames) {
        if (rule.name == arguments.rule) {
            broken_rules = 1U << static_cast<unsigned>(rule.rule);
            const Verdict verdict = run_seeds(arguments, Way::disk_transactions);
            print(arguments.rule, verdict);
            return verdict.broken != 0 ? 0 : 1;
        }
    }
    fmt::print(stderr, "coppice-sqlite-cuts: there is no rule {}\n", arguments.rule);
    return 2;
}

}  // namespace

int main(int count, char** words)
{
    Arguments arguments;
    CLI::App app("Cuts the power of a simulated disk at every moment of a SQLite database's work, "
                 "with its journal off, and looks at what is left");
    app.add_option("--seeds", arguments.seeds, "how many seeds to run")->capture_default_str();
    app.add_option("--first-seed", arguments.first_seed, "the first of them")
        ->capture_default_str();
    app.add_option("--steps", arguments.steps, "transactions of each seed")->capture_default_str();
    app.add_option("--subsets", arguments.subsets, "images of each moment")->capture_default_str();
    app.add_option("--rule", arguments.rule,
                   "turn this rule of the store off; succeed if a database breaks");
    CLI11_PARSE(app, count, words);
    return arguments.rule.empty() ? run_all(arguments) : run_without_rule(arguments);
}
