// Transactions of the workload. A fiber has the sectors that it stages alone, so that it can say
// what the transaction must see; others change other sectors of the same blocks, and now and then
// the fiber itself changes what it has staged before it commits, which must then be refused.
#include <algorithm>
#include <fmt/format.h>

#include "format/sim/report.h"
#include "format/sim/workload.h"

namespace coppice::sim {

namespace {

constexpr std::uint64_t kSectorsPerBlock = kBlockBytes / kSectorBytes;
constexpr unsigned kMostLeftOpen = 8;

}  // namespace

// An error of a call of a transaction: true if the transaction is gone.
bool Workload::ended_by(const Staged& staged, const Error& error, const std::string& what)
{
    if (error.code != ErrorCode::not_found) {
        excuse(error, what);
        return false;
    }
    if (tasks_.now_ns() - staged.used_ns < plan_.transaction_timeout_ns) {
        violation(fmt::format("{}: {}", what, error.text));
    }
    reached(Case::transactions_timed_out);
    return true;
}

void Workload::do_transaction()
{
    const VolumeId id = choose(true, false);
    if (id == VolumeId(0) || model_.find(id)->now.empty()) {
        return;
    }
    Staged staged;
    staged.volume = id;
    std::vector<Hold> holds;
    for (std::uint64_t i = random_.between(1, 4); i > 0; --i) {
        staged.ranges.push_back(choose_range(*model_.find(id), plan_.largest_sectors));
        holds.push_back({Hold::Kind::sectors_alone, id, staged.ranges.back()});
    }
    staged.source = choose_range(*model_.find(id), plan_.largest_sectors);
    holds.push_back({Hold::Kind::sectors_shared, id, staged.source});
    const std::vector<Hold> wanted = holds;
    const auto held = locks_.take(std::move(holds));
    for (const Hold& hold : wanted) {
        if (!still_there(id) || hold.sectors.end() > model_.find(id)->now.size()) {
            return;
        }
    }
    const std::size_t span = model_.transactions.size();
    model_.transactions.push_back({clock_.tick(), kNever});
    staged.begun = model_.transactions[span].first;
    const Result<TransactionId> begun = store_.begin(id);
    if (!begun) {
        excuse(begun.error(), "begin of a transaction");
    } else {
        staged.id = *begun;
        staged.used_ns = tasks_.now_ns();
        if (stage_all(staged) && !stopped_) {
            end_transaction(staged);
        }
    }
    model_.transactions[span].second = clock_.tick();
}

// False if the transaction is gone.
bool Workload::stage_all(Staged& staged)
{
    const std::uint64_t steps = random_.between(1, 2 * staged.ranges.size());
    for (std::uint64_t i = 0; i < steps && !stopped_; ++i) {
        const SectorRange& range = staged.ranges[random_.below(staged.ranges.size())];
        if (!stage_one(staged, range) || (random_.chance(40) && !see(staged))) {
            return false;
        }
        if (random_.chance(15)) {
            tasks_.sleep_until(tasks_.now_ns() + random_.between(1'000, 40'000'000));
        }
    }
    return true;
}

// Stages a write, a deallocation, a zero write or a clone of a range.
bool Workload::stage_one(Staged& staged, const SectorRange& range)
{
    Operation operation;
    operation.volume = staged.volume;
    operation.transaction = staged.id;
    operation.offset_bytes = range.first * kSectorBytes;
    operation.length_bytes = range.count * kSectorBytes;
    Stamps stamps(range.count, kZeroes);
    std::vector<std::byte> bytes(operation.length_bytes);
    const Range cleared{operation.offset_bytes, operation.length_bytes};
    const CloneSource source{staged.volume,
                             {staged.source.first * kSectorBytes,
                              std::min(staged.source.count, range.count) * kSectorBytes}};
    const std::uint64_t kind = random_.below(10);
    const iovec buffer{bytes.data(), bytes.size()};
    if (kind < 6) {
        stamps = fresh_stamps(range.count);
        write_stamps(stamps, bytes);
        operation.kind = Operation::Kind::write;
        operation.buffers = {&buffer, 1};
    } else if (kind < 7) {
        operation.kind = Operation::Kind::deallocate;
        operation.ranges = {&cleared, 1};
    } else if (kind < 8) {
        operation.kind = Operation::Kind::write_zeroes;
    } else {
        operation.kind = Operation::Kind::clone;
        operation.sources = {&source, 1};
        stamps = seen_by(staged, {staged.source.first, source.range.length_bytes / kSectorBytes});
    }
    const Event asked = clock_.tick();
    const Status status = random_.chance(50) ? store_.perform(operation) : submit(operation);
    if (!status) {
        return !ended_by(staged, status.error(), "a staged change");
    }
    staged.used_ns = tasks_.now_ns();
    for (std::size_t i = 0; operation.kind == Operation::Kind::clone && i < stamps.size(); ++i) {
        const std::uint64_t sector = staged.source.first + i;
        if (!staged.sectors.contains(sector)) {
            staged.copied.push_back({staged.volume, {sector, 1}, asked});
        }
    }
    for (std::size_t i = 0; i < stamps.size(); ++i) {
        staged.sectors[range.first + i] = stamps[i];
    }
    return true;
}

// What a transaction must see of sectors that nobody else may change.
Stamps Workload::seen_by(const Staged& staged, const SectorRange& range)
{
    const Stamps& now = model_.find(staged.volume)->now;
    const auto begin = now.begin() + static_cast<std::ptrdiff_t>(range.first);
    Stamps stamps(begin, begin + static_cast<std::ptrdiff_t>(range.count));
    for (std::size_t i = 0; i < stamps.size(); ++i) {
        const auto own = staged.sectors.find(range.first + i);
        stamps[i] = own != staged.sectors.end() ? own->second : stamps[i];
    }
    return stamps;
}

// The transaction sees what it staged, others see what was there.
bool Workload::see(Staged& staged)
{
    const SectorRange range = staged.ranges[random_.below(staged.ranges.size())];
    std::vector<std::byte> bytes(range.count * kSectorBytes, std::byte{0xee});
    const iovec buffer{bytes.data(), bytes.size()};
    Operation operation;
    operation.volume = staged.volume;
    operation.offset_bytes = range.first * kSectorBytes;
    operation.length_bytes = bytes.size();
    operation.buffers = {&buffer, 1};
    Staged others;
    others.volume = staged.volume;
    for (const bool own : {true, false}) {
        operation.transaction = own ? staged.id : TransactionId();
        const Status status = store_.perform(operation);
        if (!status) {
            if (ended_by(staged, status.error(), "a read beside a transaction")) {
                return false;
            }
            continue;
        }
        staged.used_ns = own ? tasks_.now_ns() : staged.used_ns;
        const Stamps expected = own ? seen_by(staged, range) : seen_by(others, range);
        if (const Stamps found = read_stamps(bytes); found != expected) {
            violation(fmt::format("{} sees something else of volume {}: {}",
                                  own ? "a transaction" : "who is in no transaction",
                                  staged.volume.value, differences(expected, found, range.first)));
        }
    }
    return true;
}

void Workload::end_transaction(Staged& staged)
{
    if (random_.chance(25) && !staged.sectors.empty()) {
        come_first(staged);
    }
    if (stopped_) {
        return;
    }
    if (left_open_ < kMostLeftOpen && random_.chance(4)) {
        ++left_open_;
        reached(Case::transactions_left_open);
        return;
    }
    if (random_.chance(25)) {
        const Status aborted = store_.abort(staged.id);
        if (aborted) {
            reached(Case::transactions_aborted);
        } else {
            ended_by(staged, aborted.error(), "abort of a transaction");
        }
        return;
    }
    commit(staged);
}

// The fiber itself, outside the transaction or in another one, changes what is staged.
void Workload::come_first(Staged& staged)
{
    auto sector = staged.sectors.begin();
    std::advance(sector, static_cast<std::ptrdiff_t>(random_.below(staged.sectors.size())));
    const std::uint64_t first = sector->first;
    Volume& volume = *model_.find(staged.volume);
    Change change;
    change.what = fmt::format("write of sector {} of volume {}, first", first, volume.id.value);
    const Stamps stamps = fresh_stamps(1);
    change.patches = {{first, stamps}};
    if (random_.chance(50)) {
        const StreamId stream = choose_stream(volume.id);
        change.stream = stream;
        const std::size_t index = ask(volume, std::move(change));
        staged.late = answer(volume, index, write(volume.id, first, stamps, false, stream));
        if (staged.late && stream != StreamId()) {
            reached(Case::conflicts_with_streams);
        }
        return;
    }
    Staged other;
    other.volume = staged.volume;
    other.begun = clock_.tick();
    const Result<TransactionId> begun = store_.begin(staged.volume);
    if (!begun) {
        excuse(begun.error(), "begin of a transaction");
        return;
    }
    other.id = *begun;
    other.used_ns = tasks_.now_ns();
    other.ranges = {{first, 1}};
    other.source = {first, 1};
    if (stage_one(other, other.ranges[0]) && !stopped_ && commit(other)) {
        // Zeroes where nothing was are no change.
        staged.late = !other.sectors.empty() && other.sectors.begin()->second != kZeroes;
    }
}

// May somebody have changed blocks of the transaction since it began?
bool Workload::may_conflict(const Staged& staged) const
{
    const Volume& volume = model_.volumes.at(staged.volume.value);
    return std::any_of(volume.changes.begin(), volume.changes.end(), [&](const Change& change) {
        if (change.answered < staged.begun) {
            return false;
        }
        return change.whole ||
               std::any_of(change.patches.begin(), change.patches.end(), [&](const Patch& patch) {
                   const std::uint64_t begin = patch.first / kSectorsPerBlock * kSectorsPerBlock;
                   const std::uint64_t end =
                       divide_up(patch.range().end(), kSectorsPerBlock) * kSectorsPerBlock;
                   const auto next = staged.sectors.lower_bound(begin);
                   return next != staged.sectors.end() && next->first < end;
               });
    });
}

// True if it took effect.
bool Workload::commit(Staged& staged)
{
    Volume& volume = *model_.find(staged.volume);
    const bool durable = random_.chance(plan_.durable_percent);
    Change change;
    change.what = fmt::format("commit of transaction {} of volume {}{}", staged.id.value,
                              staged.volume.value, durable ? ", durable" : "");
    change.durable = durable && !volume.ordered;
    change.transaction = true;
    change.sources = staged.copied;
    for (const auto& [sector, stamp] : staged.sectors) {
        if (change.patches.empty() || change.patches.back().range().end() != sector) {
            change.patches.push_back({sector, {}});
        }
        change.patches.back().stamps.push_back(stamp);
    }
    // Before the commit is one of the changes itself.
    const bool excused = may_conflict(staged);
    const std::size_t index = ask(volume, std::move(change));
    Operation operation;
    operation.kind = Operation::Kind::commit;
    operation.volume = staged.volume;
    operation.transaction = staged.id;
    operation.fua = durable;
    const Status status =
        random_.chance(50) ? store_.commit(staged.id, durable) : submit(operation);
    if (status) {
        if (staged.late) {
            violation(fmt::format("{} over what others had changed", volume.changes[index].what));
        }
        answer(volume, index, status);
        reached(Case::transactions_committed);
        build_on(staged);
        return true;
    }
    if (status.error().code == ErrorCode::conflict) {
        volume.changes[index].failed = true;
        if (!excused && !may_conflict(staged)) {
            violation(fmt::format("{} met a conflict with nobody: {}", volume.changes[index].what,
                                  status.error().text));
        }
        reached(Case::transaction_conflicts);
        return false;
    }
    if (status.error().code == ErrorCode::not_found) {
        volume.changes[index].failed = true;
        ended_by(staged, status.error(), volume.changes[index].what);
        return false;
    }
    answer(volume, index, status);
    return false;
}

void Workload::do_write_ranges()
{
    const VolumeId id = choose(true, false);
    if (id == VolumeId(0) || model_.find(id)->now.empty()) {
        return;
    }
    std::vector<SectorRange> ranges;
    std::vector<Hold> holds;
    for (std::uint64_t i = random_.between(2, 5); i > 0; --i) {
        const SectorRange range = choose_range(*model_.find(id), plan_.largest_sectors);
        const bool apart = std::none_of(ranges.begin(), ranges.end(),
                                        [&](const SectorRange& r) { return overlap(range, r); });
        if (apart) {
            ranges.push_back(range);
            holds.push_back({Hold::Kind::sectors_alone, id, range});
        }
    }
    const auto held = locks_.take(std::move(holds));
    Volume& volume = *model_.find(id);
    const bool fua = random_.chance(plan_.forced_percent);
    Change change;
    change.what = fmt::format("write of {} ranges from sector {} + {} of volume {}", ranges.size(),
                              ranges[0].first, ranges[0].count, id.value);
    change.durable = fua && !volume.ordered;
    std::vector<Range> places;
    Stamps all;
    for (const SectorRange& range : ranges) {
        if (!still_there(id) || range.end() > volume.now.size()) {
            return;
        }
        change.patches.push_back({range.first, fresh_stamps(range.count)});
        const Stamps& stamps = change.patches.back().stamps;
        all.insert(all.end(), stamps.begin(), stamps.end());
        places.push_back({range.first * kSectorBytes, range.count * kSectorBytes});
    }
    std::vector<std::byte> bytes(all.size() * kSectorBytes);
    write_stamps(all, bytes);
    const iovec buffer{bytes.data(), bytes.size()};
    Operation operation;
    operation.kind = Operation::Kind::write_ranges;
    operation.volume = id;
    operation.buffers = {&buffer, 1};
    operation.ranges = places;
    operation.fua = fua;
    const std::size_t index = ask(volume, std::move(change));
    if (answer(volume, index, submit(operation))) {
        reached(Case::multi_range_writes);
    }
}

}  // namespace coppice::sim
