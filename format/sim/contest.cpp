// Contests: several changes of the same sectors at once. Nobody knows their order until they have
// all been answered; then one order must explain what is there, and until then each of the possible
// outcomes of some of them in some order.
#include <algorithm>
#include <fmt/format.h>

#include "format/sim/report.h"
#include "format/sim/workload.h"

namespace coppice::sim {

namespace {

// What one of the racing changes puts where, relative to the contested range.
struct Contender {
    SectorRange range;
    Stamps stamps;
    bool zeroes = false;
    bool transaction = false;  // of one write
    bool conflict = false;     // ... that came too late
};

// What `outcome` leaves untouched is what was before.
Stamps over(const Stamps& before, Stamps outcome)
{
    for (std::size_t i = 0; i < outcome.size(); ++i) {
        outcome[i] = outcome[i] == kUntouched ? before[i] : outcome[i];
    }
    return outcome;
}

bool is_one_of(const std::vector<Stamps>& outcomes, const Stamps& before, const Stamps& found)
{
    return std::any_of(outcomes.begin(), outcomes.end(),
                       [&](const Stamps& outcome) { return over(before, outcome) == found; });
}

// Every result of some of the contenders in some order; `complete` has those of all of them.
void collect_outcomes(std::size_t sectors, const std::vector<Contender>& contenders,
                      std::vector<Stamps>& all, std::vector<Stamps>& complete)
{
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < contenders.size(); ++i) {
        if (!contenders[i].conflict) {
            order.push_back(i);
        }
    }
    do {
        Stamps state(sectors, kUntouched);
        for (const std::size_t index : order) {
            const Contender& contender = contenders[index];
            std::copy(contender.stamps.begin(), contender.stamps.end(),
                      state.begin() + static_cast<std::ptrdiff_t>(contender.range.first));
            all.push_back(state);
        }
        complete.push_back(state);
    } while (std::next_permutation(order.begin(), order.end()));
}

}  // namespace

Status Workload::write_in_transaction(VolumeId volume, std::uint64_t first, const Stamps& stamps)
{
    std::vector<std::byte> bytes(stamps.size() * kSectorBytes);
    write_stamps(stamps, bytes);
    const iovec buffer{bytes.data(), bytes.size()};
    COPPICE_ASSIGN(id, store_.begin(volume));
    Operation operation;
    operation.kind = Operation::Kind::write;
    operation.volume = volume;
    operation.offset_bytes = first * kSectorBytes;
    operation.length_bytes = bytes.size();
    operation.buffers = {&buffer, 1};
    operation.transaction = id;
    Status done = store_.perform(operation);
    if (!done) {
        (void)store_.abort(id);
        return done;
    }
    return store_.commit(id, false);
}

void Workload::do_contest()
{
    const auto target = choose_target(true);
    if (!target || target->range.count < 2) {
        return;
    }
    const auto held = locks_.take({{Hold::Kind::sectors_alone, target->volume, target->range}});
    const VolumeId id = target->volume;
    const SectorRange range = target->range;
    Volume& volume = *model_.find(id);
    if (!still_there(id) || range.end() > volume.now.size()) {
        return;
    }
    std::vector<Contender> contenders(random_.between(2, 3));
    for (Contender& contender : contenders) {
        contender.range.first = random_.below(range.count);
        contender.range.count = random_.between(1, range.count - contender.range.first);
        contender.transaction = plan_.transactions && random_.chance(30);
        contender.zeroes = !contender.transaction && random_.chance(25);
        contender.stamps = contender.zeroes ? Stamps(contender.range.count, kZeroes)
                                            : fresh_stamps(contender.range.count);
    }
    const auto begin = volume.now.begin() + static_cast<std::ptrdiff_t>(range.first);
    const Stamps before(begin, begin + static_cast<std::ptrdiff_t>(range.count));
    Change change;
    change.what = fmt::format("contest of {} for sectors {} + {} of volume {}", contenders.size(),
                              range.first, range.count, id.value);
    change.patches = {{range.first, before}};
    std::vector<Stamps> complete;
    collect_outcomes(range.count, contenders, change.outcomes, complete);
    const std::size_t index = ask(volume, std::move(change));

    // One more task reads meanwhile.
    std::vector<Status> results(contenders.size());
    std::size_t running = contenders.size() + 1;
    Task* self = tasks_.current();
    const auto ended = [&] {
        if (--running == 0) {
            tasks_.wake(self);
        }
    };
    for (std::size_t i = 0; i < contenders.size(); ++i) {
        tasks_.spawn([&, i] {
            const Contender& contender = contenders[i];
            const std::uint64_t first = range.first + contender.range.first;
            if (contender.transaction) {
                results[i] = write_in_transaction(id, first, contender.stamps);
            } else if (contender.zeroes) {
                const Range bytes{first * kSectorBytes, contender.range.count * kSectorBytes};
                results[i] = store_.deallocate(id, {&bytes, 1});
            } else {
                results[i] = write(id, first, contender.stamps, false, StreamId());
            }
            ended();
        });
    }
    std::string seen;
    tasks_.spawn([&] {
        const Result<Stamps> found = read(id, range);
        if (!found) {
            excuse(found.error(), "read in a contest");
        } else if (*found != before && !is_one_of(volume.changes[index].outcomes, before, *found)) {
            violation(fmt::format("a read beside a {} saw a part of a write: {}",
                                  volume.changes[index].what,
                                  differences(before, *found, range.first)));
        }
        ended();
    });
    while (running != 0) {
        tasks_.suspend();
    }

    bool failed = false;
    for (std::size_t i = 0; i < results.size(); ++i) {
        const Status& result = results[i];
        if (!result && contenders[i].transaction && result.error().code == ErrorCode::conflict) {
            contenders[i].conflict = true;
            reached(Case::transaction_conflicts);
        } else if (!result) {
            excuse(result.error(), volume.changes[index].what);
            failed = true;
        }
    }
    if (stopped_) {
        return;  // stays open
    }
    const Result<Stamps> found = read(id, range);
    if (!found) {
        excuse(found.error(), "read after a contest");
        return;
    }
    // Those that came too late never were there.
    std::vector<Stamps> partly;
    complete.clear();
    collect_outcomes(range.count, contenders, partly, complete);
    Change& done = volume.changes[index];
    done.outcomes = std::move(partly);
    const std::vector<Stamps>& possible = failed ? done.outcomes : complete;
    if (!is_one_of(possible, before, *found) && !(failed && *found == before)) {
        violation(fmt::format("the result of a {} is that of no order: {}", done.what,
                              differences(over(before, complete[0]), *found, range.first)));
    }
    // What no contender touched is not of the contest's making.
    Stamps& result = done.patches[0].stamps;
    result = *found;
    for (std::size_t i = 0; i < result.size(); ++i) {
        const auto& outcomes = done.outcomes;
        const bool touched =
            std::any_of(outcomes.begin(), outcomes.end(),
                        [i](const Stamps& outcome) { return outcome[i] != kUntouched; });
        result[i] = touched ? result[i] : kUntouched;
    }
    answer(volume, index, {});
    reached(Case::contests);
}

}  // namespace coppice::sim
