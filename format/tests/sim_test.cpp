// The simulator is tried on a store so simple that it is right, and on faults planted in it: a
// simulator that finds nothing in either would prove nothing about the real store.
#include "coppice-catch.h"

#include "format/sim/report.h"
#include "format/sim/seeds.h"
#include "format/sim/toy_store.h"

using namespace coppice;
using namespace coppice::sim;

namespace {

// The text of the first failing seed; "" if all go well.
std::string first_failure(ToyFault fault, std::uint64_t seeds)
{
    const StoreKind kind = toy_store(fault);
    SeedsOptions options;
    options.count = seeds;
    options.jobs = 2;
    options.stop_at_first_failure = true;
    std::string text;
    run_seeds(
        options,
        [&](std::uint64_t seed) {
            ScenarioOptions scenario;
            scenario.seed = seed;
            scenario.cuts = 10;
            scenario.rings = false;
            scenario.full_hosts = false;
            scenario.streams = false;
            scenario.transactions = false;
            run_scenario(kind, scenario);
        },
        [&](std::uint64_t seed, const SeedResult& result) {
            if (result.failed && text.empty()) {
                text = "seed " + std::to_string(seed) + ": " + result.text;
            }
        });
    return text;
}

}  // namespace

TEST_CASE("the simulator finds nothing wrong with a store that is right")
{
    const std::string text = first_failure(ToyFault::none, 40);
    INFO(text);
    CHECK(text.empty());
}

TEST_CASE("the simulator finds planted faults")
{
    const auto found = [](ToyFault fault) {
        const std::string text = first_failure(fault, 200);
        UNSCOPED_INFO(text);
        return !text.empty();
    };
    CHECK(found(ToyFault::acknowledges_before_sync));
    CHECK(found(ToyFault::acknowledges_before_write));
    CHECK(found(ToyFault::one_half_only));
    CHECK(found(ToyFault::no_checksum));
    CHECK(found(ToyFault::tears_writes));
    CHECK(found(ToyFault::forgets_partial_block));
    CHECK(found(ToyFault::clone_reads_late));
    CHECK(found(ToyFault::snapshot_moves));
    CHECK(found(ToyFault::rollback_not_durable));
    CHECK(found(ToyFault::keeps_failed_sync));
}
