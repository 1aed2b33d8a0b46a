#include "format/sim/killed.h"

#include <algorithm>
#include <fmt/format.h>

#include "format/layout/layout.h"
#include "format/sim/report.h"
#include "format/sim/workload.h"

namespace coppice::sim {

namespace {

constexpr std::uint64_t kMostActions = 25;

bool is_superblock(const LoggedRequest& request)
{
    const std::uint64_t block = request.offset_bytes / kBlockBytes;
    return request.kind == IoRequest::Kind::write &&
           (block == layout::kSuperblockNear || block == layout::kSuperblockNear + 1);
}

// Often while a sync is under way, and of these often the one behind a superblock: then much of
// what can be seen is not durable.
Event draw_kill(const Recording& recording, Random& random)
{
    std::vector<const LoggedRequest*> syncs;
    std::vector<const LoggedRequest*> behind_superblocks;
    bool superblock = false;
    for (const LoggedRequest& request : recording.log.requests) {
        superblock = superblock || is_superblock(request);
        if (request.kind == IoRequest::Kind::sync && request.completed != kNever) {
            syncs.push_back(&request);
            if (superblock) {
                behind_superblocks.push_back(&request);
            }
            superblock = false;
        }
    }
    const std::uint64_t kind = random.below(10);
    const auto& windows = kind < 4 ? behind_superblocks : syncs;
    if (kind < 7 && !windows.empty()) {
        const LoggedRequest& sync = *windows[random.below(windows.size())];
        return random.between(sync.submitted, sync.completed - 1);
    }
    return random.between(std::min(recording.opened, recording.ended), recording.ended);
}

// A state that may be left: of the second run, or, as long as nothing has promised anything, of the
// first, from which the host lost what it had in its cache.
void judge(const Contents& contents, const Recording& first, Event killed, const Recording& second,
           Event event)
{
    const bool promised = first_promise(second.model) <= event;
    const std::string wrong = complaint(contents, second.model, event);
    if (wrong.empty()) {
        return;
    }
    const std::string older = promised ? "a flush, or what is durable, was answered since"
                                       : complaint(contents, first.model, killed);
    if (!older.empty()) {
        violation(fmt::format("{}; nor is it what the killed process left: {}", wrong, older));
    }
    reached(Case::cuts_that_fell_behind_a_kill);
}

Plan plan_behind(Plan plan, Random& random)
{
    plan.actions = random.chance(30) ? 0 : std::min(plan.actions, random.between(1, kMostActions));
    plan.first_volumes = 0;
    plan.grouped = false;
    plan.full_host = false;
    plan.flushes_first = random.chance(70);
    plan.disk.seed = random.next();
    plan.closes = random.chance(30);
    return plan;
}

}  // namespace

void kill_and_go_on(const StoreKind& kind, const Recording& first, Plan plan, Stamp next_stamp,
                    Random& random, std::uint64_t cuts)
{
    const Event killed = draw_kill(first, random);
    const Context context(fmt::format("killed at event {}", killed));
    CutMaker killer(first.log);
    const HostFile host = killer.kill(killed, random);
    reached(Case::kills);
    const Contents contents = examine(kind, host.seen(), first, killed);

    plan = plan_behind(std::move(plan), random);
    const std::uint64_t workload_seed = random.next();
    const Recording second = record(
        kind, host, model_of(contents), plan, random.next(),
        [&](FiberTasks& tasks, Store& store, Model& model, EventClock& clock) {
            Workload(tasks, store, model, clock, Random(workload_seed), plan, next_stamp).run();
        });
    const Event promise = first_promise(second.model);
    CutMaker maker(second.log);
    for (const Event event : draw_events(second, random, cuts)) {
        CutSummary summary;
        const SparseBytes left = maker.cut(event, random, summary);
        const Context where(summary.text());
        reached(Case::cuts);
        if (!host.cached.empty()) {
            reached(event < promise ? Case::cuts_behind_a_kill
                                    : Case::cuts_behind_a_kill_and_flush);
        }
        examine(kind, left, event,
                [&](const Contents& found) { judge(found, first, killed, second, event); });
    }
}

}  // namespace coppice::sim
