#include "format/sim/workload.h"

#include <algorithm>
#include <fmt/format.h>

#include "format/base/check.h"
#include "format/sim/report.h"

namespace coppice::sim {

namespace {

constexpr std::uint64_t kSectorsPerBlock = kBlockBytes / kSectorBytes;
constexpr std::uint64_t kHotSectors = 128;

// A buffer as a guest might give it: in one to three pieces.
std::vector<iovec> pieces(std::span<std::byte> bytes, Random& random)
{
    std::vector<iovec> buffers;
    std::uint64_t parts = random.between(1, 3);
    while (!bytes.empty()) {
        std::size_t length = bytes.size();
        if (parts > 1 && length > kSectorBytes) {
            length = random.between(1, length / kSectorBytes) * kSectorBytes;
            --parts;
        }
        buffers.push_back({bytes.data(), length});
        bytes = bytes.subspan(length);
    }
    return buffers;
}

}  // namespace

Workload::Workload(FiberTasks& tasks, Store& store, Model& model, EventClock& clock, Random random,
                   const Plan& plan, Stamp first_stamp)
    : tasks_(tasks),
      store_(store),
      model_(model),
      clock_(clock),
      random_(random),
      plan_(plan),
      locks_(tasks),
      next_stamp_(first_stamp),
      left_(plan.actions)
{
}

void Workload::run()
{
    for (unsigned i = 0; i < plan_.first_volumes && !stopped_; ++i) {
        do_create_volume();
    }
    for (const VolumeId id : candidates(true, false)) {
        if (plan_.grouped && !stopped_) {
            join_group(id, ConsistencyGroup(1));
        }
    }
    if (plan_.ordered_first && !stopped_) {
        set_flush_mode(VolumeId(1), FlushMode::ordered);
    }
    if (plan_.flushes_first) {
        random_.chance(30) ? do_checkpoint() : do_flush();
    }
    waiter_ = tasks_.current();
    running_ = plan_.fibers;
    for (unsigned i = 0; i < plan_.fibers; ++i) {
        tasks_.spawn([this] { fiber(); });
    }
    while (running_ != 0) {
        tasks_.suspend();
    }
}

void Workload::fiber()
{
    while (left_ != 0 && !stopped_) {
        --left_;
        act(static_cast<Action>(random_.weighted(plan_.weights)));
    }
    if (--running_ == 0) {
        tasks_.wake(waiter_);
    }
}

void Workload::act(Action action)
{
    switch (action) {
    case Action::write: do_write(false); break;
    case Action::read: do_read(true); break;
    case Action::read_beside_writes: do_read(false); break;
    case Action::deallocate: do_deallocate(); break;
    case Action::write_zeroes: do_write_zeroes(); break;
    case Action::clone: do_clone(); break;
    case Action::contest: do_contest(); break;
    case Action::transaction:
        do_transaction();
        do_write(true);
        break;
    case Action::write_ranges: do_write_ranges(); break;
    case Action::open_stream: do_open_stream(); break;
    case Action::close_stream: do_close_stream(); break;
    case Action::flush: do_flush(); break;
    case Action::checkpoint: do_checkpoint(); break;
    case Action::rest: do_rest(); break;
    case Action::snapshot: do_snapshot(); break;
    case Action::read_snapshot: do_read_snapshot(); break;
    case Action::rollback: do_rollback(); break;
    case Action::clone_volume: do_clone_volume(); break;
    case Action::create_volume: do_create_volume(); break;
    case Action::remove: do_remove(); break;
    case Action::resize: do_resize(); break;
    case Action::rename: do_rename(); break;
    case Action::set_flush_mode: do_set_flush_mode(); break;
    case Action::set_group: do_set_group(); break;
    case Action::snapshot_group: do_snapshot_group(); break;
    case Action::count_: CHECK(false && "count_ is no action");
    }
}

// ---- Choosing -------------------------------------------------------------------------------

std::vector<VolumeId> Workload::candidates(bool writable, bool snapshots) const
{
    std::vector<VolumeId> found = model_.present();
    std::erase_if(found, [&](VolumeId id) {
        const Volume& volume = model_.volumes.at(id.value);
        return volume.snapshot ? !snapshots : !writable;
    });
    return found;
}

// VolumeId(0) if there is none.
VolumeId Workload::choose(bool writable, bool snapshots)
{
    const std::vector<VolumeId> found = candidates(writable, snapshots);
    return found.empty() ? VolumeId(0) : found[random_.below(found.size())];
}

SectorRange Workload::choose_range(const Volume& volume, std::uint64_t largest)
{
    const std::uint64_t sectors = volume.now.size();
    const bool aligned = random_.chance(plan_.aligned_percent);
    const std::uint64_t unit = aligned ? kSectorsPerBlock : 1;
    const std::uint64_t area =
        random_.chance(plan_.hot_percent) ? std::min(kHotSectors, sectors) : sectors;
    // Small ones are the usual ones.
    std::uint64_t most = std::max<std::uint64_t>(std::min(largest, area) / unit, 1);
    most = random_.between(1, most);
    const std::uint64_t count = std::min(random_.between(1, most) * unit, sectors);
    const std::uint64_t first = random_.below(area / unit + 1) * unit;
    SectorRange range{std::min(first, sectors - count), count};
    if (aligned) {
        range.first = range.first / unit * unit;
    }
    return range;
}

std::optional<Workload::Target> Workload::choose_target(bool writable)
{
    const VolumeId id = choose(true, !writable);
    if (id == VolumeId(0) || model_.find(id)->now.empty()) {
        return std::nullopt;
    }
    return Target{id, choose_range(*model_.find(id), plan_.largest_sectors)};
}

Stamps Workload::fresh_stamps(std::uint64_t count)
{
    Stamps stamps(count);
    for (Stamp& stamp : stamps) {
        stamp = next_stamp_++;
    }
    return stamps;
}

std::string Workload::fresh_name() { return fmt::format("v{}", next_stamp_++); }

bool Workload::still_there(VolumeId id) const
{
    const Volume& volume = model_.volumes.at(id.value);
    return volume.removed_asked == kNever && !stopped_;
}

// ---- Telling the model ----------------------------------------------------------------------

std::size_t Workload::ask(Volume& volume, Change change)
{
    change.asked = clock_.tick();
    if (tracing()) {
        trace(fmt::format("{:6} ask {}", change.asked, change.what));
    }
    volume.changes.push_back(std::move(change));
    return volume.changes.size() - 1;
}

bool Workload::excuse(const Error& error, const std::string& what)
{
    if (error.code == ErrorCode::no_space && plan_.full_host) {
        reached(Case::no_space_errors);
        return true;
    }
    const bool host_failed = error.code == ErrorCode::io || error.code == ErrorCode::sync_failed ||
                             error.code == ErrorCode::poisoned;
    if (plan_.disk.fails() && host_failed) {
        if (error.code != ErrorCode::io && !store_.read_only()) {
            violation(fmt::format("{} failed with {}, and the image can still be written", what,
                                  error.text));
        }
        reached(Case::host_errors);
        stopped_ = stopped_ || store_.read_only();
        return true;
    }
    violation(fmt::format("{} failed with {}: {}", what, error_name(error.code), error.text));
}

bool Workload::answer(Volume& volume, std::size_t index, const Status& status)
{
    const Event event = clock_.tick();
    Change& change = volume.changes[index];
    if (tracing()) {
        trace(fmt::format("{:6} answer {}: {}", event, change.what,
                          status ? "done" : status.error().text));
    }
    if (!status) {
        excuse(status.error(), change.what);
        // After a failed sync nobody knows: it stays open for good.
        change.failed = !stopped_;
        return false;
    }
    change.answered = event;
    if (change.whole) {
        volume.now = *change.whole;
    }
    for (const Patch& patch : change.patches) {
        for (std::size_t i = 0; i < patch.stamps.size(); ++i) {
            Stamp& now = volume.now[patch.first + i];
            now = patch.stamps[i] == kUntouched ? now : patch.stamps[i];
        }
    }
    if (change.durable && change.whole) {
        model_.note_all_durable(change.asked, event);
    } else if (change.durable) {
        // It is a flush of what it belongs to as well.
        model_.note_flush(volume.id, {change.asked, event, change.stream});
    }
    return true;
}

// ---- Input and output -----------------------------------------------------------------------

Status Workload::submit(const Operation& operation)
{
    Status result;
    bool done = false;
    Task* self = tasks_.current();
    store_.submit(operation, [&](Status status) {
        result = std::move(status);
        done = true;
        tasks_.wake(self);
    });
    if (done) {
        violation("a completion was called inside submit");
    }
    while (!done) {
        tasks_.suspend();
    }
    return result;
}

Status Workload::write(VolumeId volume, std::uint64_t first, const Stamps& stamps, bool fua,
                       StreamId stream)
{
    std::vector<std::byte> bytes(stamps.size() * kSectorBytes);
    write_stamps(stamps, bytes);
    const std::vector<iovec> buffers = pieces(bytes, random_);
    if (stream == StreamId() && random_.chance(50)) {
        return store_.write(volume, first * kSectorBytes, buffers, fua);
    }
    Operation operation;
    operation.kind = Operation::Kind::write;
    operation.volume = volume;
    operation.stream = stream;
    operation.offset_bytes = first * kSectorBytes;
    operation.length_bytes = bytes.size();
    operation.buffers = buffers;
    operation.fua = fua;
    return submit(operation);
}

Result<Stamps> Workload::read(VolumeId volume, const SectorRange& range)
{
    std::vector<std::byte> bytes(range.count * kSectorBytes, std::byte{0xee});
    const std::vector<iovec> buffers = pieces(bytes, random_);
    const bool asynchronous = random_.chance(50);
    for (;;) {
        Status status;
        if (asynchronous) {
            Operation operation;
            operation.kind = Operation::Kind::read;
            operation.volume = volume;
            operation.offset_bytes = range.first * kSectorBytes;
            operation.length_bytes = bytes.size();
            operation.buffers = buffers;
            status = submit(operation);
        } else {
            status = store_.read(volume, range.first * kSectorBytes, buffers);
        }
        if (status) {
            return read_stamps(bytes);
        }
        // A host that failed once may do it the next time.
        if (status.error().code != ErrorCode::io || plan_.disk.failing_permille == 0) {
            return pass_on(status);
        }
        reached(Case::host_errors);
    }
}

void Workload::do_write(bool flushes)
{
    const auto target = choose_target(true);
    if (!target) {
        return;
    }
    const auto held = locks_.take({{Hold::Kind::sectors_alone, target->volume, target->range}});
    Volume& volume = *model_.find(target->volume);
    if (!still_there(target->volume) || target->range.end() > volume.now.size()) {
        return;
    }
    const bool fua = random_.chance(plan_.forced_percent);
    const Stamps stamps = fresh_stamps(target->range.count);
    const StreamId stream = choose_stream(target->volume);
    Change change;
    change.what =
        fmt::format("write of sectors {} + {} of volume {}, stream {}{}", target->range.first,
                    target->range.count, target->volume.value, stream.value, fua ? ", forced" : "");
    change.stream = stream;
    change.durable = fua && !volume.ordered;
    change.patches = {{target->range.first, stamps}};
    const std::size_t index = ask(volume, std::move(change));
    const Status status = write(target->volume, target->range.first, stamps, fua, stream);
    if (answer(volume, index, status)) {
        reached(Case::writes);
        if (stream != StreamId()) {
            reached(Case::writes_in_streams);
        }
        const bool partial = target->range.first % kSectorsPerBlock != 0 ||
                             target->range.count % kSectorsPerBlock != 0;
        if (partial) {
            reached(Case::partial_block_writes);
        }
        if (fua) {
            reached(Case::forced_writes);
        }
        if (flushes && stream != StreamId()) {
            flush(target->volume, stream);
        }
    }
}

void Workload::do_read(bool exact)
{
    const auto target = choose_target(false);
    if (!target) {
        return;
    }
    const auto held = locks_.take({{exact ? Hold::Kind::sectors_shared : Hold::Kind::volume_shared,
                                    target->volume, target->range}});
    Volume& volume = *model_.find(target->volume);
    if (!still_there(target->volume) || target->range.end() > volume.now.size()) {
        return;
    }
    const std::string what =
        fmt::format("read of sectors {} + {} of volume {}", target->range.first,
                    target->range.count, target->volume.value);
    MatchQuestion question;
    question.from = clock_.tick();
    const Result<Stamps> found = read(target->volume, target->range);
    question.until = clock_.tick();
    if (!found) {
        excuse(found.error(), what);
        return;
    }
    if (exact) {
        const auto begin = volume.now.begin() + static_cast<std::ptrdiff_t>(target->range.first);
        const Stamps expected(begin, begin + static_cast<std::ptrdiff_t>(target->range.count));
        if (*found != expected) {
            violation(
                fmt::format("{}: {}", what, differences(expected, *found, target->range.first)));
        }
        reached(Case::reads);
        return;
    }
    question.first = target->range.first;
    question.whole_volume = false;
    std::string why_not;
    if (!match(volume, *found, question, why_not)) {
        violation(fmt::format("{} between events {} and {} agrees with no moment; {}", what,
                              question.from, question.until, why_not));
    }
    reached(Case::reads_beside_writes);
}

void Workload::do_read_snapshot()
{
    const VolumeId id = choose(false, true);
    if (id == VolumeId(0)) {
        return;
    }
    const auto held = locks_.take({{Hold::Kind::volume_shared, id}});
    if (!still_there(id)) {
        return;
    }
    const Stamps& expected = model_.find(id)->now;
    const Result<Stamps> found = read(id, {0, expected.size()});
    if (!found) {
        excuse(found.error(), fmt::format("read of snapshot {}", id.value));
    } else if (*found != expected) {
        violation(
            fmt::format("snapshot {} changed: {}", id.value, differences(expected, *found, 0)));
    }
}

void Workload::do_deallocate()
{
    const VolumeId id = choose(true, false);
    if (id == VolumeId(0) || model_.find(id)->now.empty()) {
        return;
    }
    // Several ranges are one atomic change; they do not overlap here.
    std::vector<SectorRange> ranges;
    for (std::uint64_t i = random_.between(1, 3); i > 0; --i) {
        const SectorRange range = choose_range(*model_.find(id), plan_.largest_sectors * 2);
        const bool apart = std::none_of(ranges.begin(), ranges.end(),
                                        [&](const SectorRange& r) { return overlap(range, r); });
        if (apart) {
            ranges.push_back(range);
        }
    }
    std::vector<Hold> holds;
    holds.reserve(ranges.size());
    for (const SectorRange& range : ranges) {
        holds.push_back({Hold::Kind::sectors_alone, id, range});
    }
    const auto held = locks_.take(std::move(holds));
    Volume& volume = *model_.find(id);
    Change change;
    change.stream = choose_stream(id);
    change.what =
        fmt::format("deallocation of {} ranges from sector {} + {} of volume {}, "
                    "stream {}",
                    ranges.size(), ranges[0].first, ranges[0].count, id.value, change.stream.value);
    std::vector<Range> bytes;
    for (const SectorRange& range : ranges) {
        if (!still_there(id) || range.end() > volume.now.size()) {
            return;
        }
        change.patches.push_back({range.first, Stamps(range.count, kZeroes)});
        bytes.push_back({range.first * kSectorBytes, range.count * kSectorBytes});
    }
    const StreamId stream = change.stream;
    const std::size_t index = ask(volume, std::move(change));
    Status status;
    if (stream == StreamId() && random_.chance(50)) {
        status = store_.deallocate(id, bytes);
    } else {
        Operation operation;
        operation.kind = Operation::Kind::deallocate;
        operation.volume = id;
        operation.stream = stream;
        operation.ranges = bytes;
        status = submit(operation);
    }
    if (answer(volume, index, status)) {
        reached(Case::deallocations);
    }
}

void Workload::do_write_zeroes()
{
    const auto target = choose_target(true);
    if (!target) {
        return;
    }
    const auto held = locks_.take({{Hold::Kind::sectors_alone, target->volume, target->range}});
    Volume& volume = *model_.find(target->volume);
    if (!still_there(target->volume) || target->range.end() > volume.now.size()) {
        return;
    }
    Change change;
    change.what = fmt::format("zero write of sectors {} + {} of volume {}", target->range.first,
                              target->range.count, target->volume.value);
    change.patches = {{target->range.first, Stamps(target->range.count, kZeroes)}};
    const std::size_t index = ask(volume, std::move(change));
    const Status status = store_.write_zeroes(
        target->volume, {target->range.first * kSectorBytes, target->range.count * kSectorBytes});
    if (answer(volume, index, status)) {
        reached(Case::zero_writes);
    }
}

void Workload::do_clone()
{
    const VolumeId destination = choose(true, false);
    if (destination == VolumeId(0) || model_.find(destination)->now.empty()) {
        return;
    }
    std::vector<CloneSource> sources;
    std::vector<Hold> holds;
    std::uint64_t sectors = 0;
    const bool same_volume = random_.chance(50);
    for (std::uint64_t i = random_.chance(80) ? 1 : 3; i > 0; --i) {
        const VolumeId id = same_volume ? destination : choose(true, true);
        const Volume& source = *model_.find(id);
        if (source.now.empty()) {
            return;
        }
        const SectorRange range = choose_range(source, plan_.largest_sectors * 2);
        sources.push_back({id, {range.first * kSectorBytes, range.count * kSectorBytes}});
        holds.push_back({Hold::Kind::sectors_shared, id, range});
        sectors += range.count;
    }
    if (sectors > model_.find(destination)->now.size()) {
        return;
    }
    SectorRange into = choose_range(*model_.find(destination), 1);
    into.count = sectors;
    const std::uint64_t last_first = model_.find(destination)->now.size() - sectors;
    into.first = std::min(into.first, last_first);
    holds.push_back({Hold::Kind::sectors_alone, destination, into});
    const bool onto_source = std::any_of(holds.begin(), holds.end() - 1, [&](const Hold& hold) {
        return hold.volume == destination && overlap(hold.sectors, into);
    });
    const std::vector<Hold> wanted = holds;
    const auto held = locks_.take(std::move(holds));
    bool aligned = true;
    for (const Hold& hold : wanted) {
        if (!still_there(hold.volume) ||
            hold.sectors.end() > model_.find(hold.volume)->now.size()) {
            return;
        }
        aligned = aligned && hold.sectors.first % kSectorsPerBlock == 0 &&
                  hold.sectors.count % kSectorsPerBlock == 0;
    }

    Stamps stamps;
    for (std::size_t i = 0; i + 1 < wanted.size(); ++i) {
        const Stamps& now = model_.find(wanted[i].volume)->now;
        const auto begin = now.begin() + static_cast<std::ptrdiff_t>(wanted[i].sectors.first);
        stamps.insert(stamps.end(), begin,
                      begin + static_cast<std::ptrdiff_t>(wanted[i].sectors.count));
    }
    Volume& volume = *model_.find(destination);
    Change change;
    change.what = fmt::format("clone of {} ranges from volume {} sector {} to sectors {} + {} of "
                              "volume {}",
                              sources.size(), wanted[0].volume.value, wanted[0].sectors.first,
                              into.first, into.count, destination.value);
    change.patches = {{into.first, std::move(stamps)}};
    const StreamId stream = choose_stream(destination);
    change.what += fmt::format(", stream {}", stream.value);
    change.stream = stream;
    const Event before = clock_.tick();
    for (std::size_t i = 0; i + 1 < wanted.size(); ++i) {
        change.sources.push_back({wanted[i].volume, wanted[i].sectors, before});
    }
    const std::size_t index = ask(volume, std::move(change));
    Status status;
    if (stream == StreamId() && random_.chance(50)) {
        status = store_.clone(destination, into.first * kSectorBytes, sources);
    } else {
        Operation operation;
        operation.kind = Operation::Kind::clone;
        operation.volume = destination;
        operation.stream = stream;
        operation.offset_bytes = into.first * kSectorBytes;
        operation.sources = sources;
        status = submit(operation);
    }
    if (answer(volume, index, status)) {
        reached(Case::clones);
        if (!same_volume) {
            reached(Case::clones_between_volumes);
        }
        if (onto_source) {
            reached(Case::clones_onto_their_source);
        }
        if (!aligned) {
            reached(Case::clones_not_aligned);
        }
    }
}

void Workload::do_flush()
{
    const VolumeId id = choose(true, false);
    if (id == VolumeId(0)) {
        return;
    }
    const auto held = locks_.take({{Hold::Kind::volume_shared, id}});
    if (!still_there(id)) {
        return;
    }
    flush(id, choose_stream(id));
}

void Workload::flush(VolumeId id, StreamId stream)
{
    Flush flush;
    flush.stream = stream;
    flush.asked = clock_.tick();
    Status status;
    if (stream == StreamId() && random_.chance(50)) {
        status = store_.flush(id);
    } else {
        Operation operation;
        operation.kind = Operation::Kind::flush;
        operation.volume = id;
        operation.stream = stream;
        status = submit(operation);
    }
    if (!status) {
        excuse(status.error(), fmt::format("flush of volume {}", id.value));
        return;
    }
    flush.answered = clock_.tick();
    if (tracing()) {
        trace(fmt::format("{:6} flush of volume {}, stream {} asked for at {}", flush.answered,
                          id.value, stream.value, flush.asked));
    }
    if (model_.find(id)->ordered) {
        reached(Case::ordered_flushes);
        if (stream == StreamId()) {
            model_.ordered_flushes.push_back(
                {flush.asked, flush.answered, model_.with_group(id, flush.asked, flush.answered)});
        }
        return;
    }
    model_.note_flush(id, flush);
    reached(stream == StreamId() ? Case::flushes : Case::stream_flushes);
    if (stream == StreamId() && model_.with_group(id, flush.asked, flush.answered).size() > 1) {
        reached(Case::group_flushes);
    }
}

void Workload::do_checkpoint()
{
    const Event asked = clock_.tick();
    const Status status = store_.checkpoint();
    if (!status) {
        excuse(status.error(), "checkpoint");
        return;
    }
    model_.note_all_durable(asked, clock_.tick());
    reached(Case::checkpoints);
}

void Workload::do_rest()
{
    const std::uint64_t end = tasks_.now_ns() + random_.between(1'000, 30'000'000);
    const bool drains = random_.chance(20);
    if (drains) {
        store_.pause();
    }
    tasks_.sleep_until(end);
    if (drains) {
        store_.resume();
    }
}

Result<Stamps> read_all(Store& store, const VolumeInfo& volume)
{
    constexpr std::size_t kStep = 256 << 10;
    Stamps stamps;
    stamps.reserve(volume.size_bytes / kSectorBytes);
    std::vector<std::byte> bytes;
    for (std::uint64_t at = 0; at < volume.size_bytes; at += kStep) {
        bytes.assign(std::min<std::uint64_t>(kStep, volume.size_bytes - at), std::byte{0xee});
        const iovec buffer{bytes.data(), bytes.size()};
        Status status = store.read(volume.id, at, {&buffer, 1});
        if (!status) {
            return pass_on(status);
        }
        const Stamps part = read_stamps(bytes);
        stamps.insert(stamps.end(), part.begin(), part.end());
    }
    return stamps;
}

}  // namespace coppice::sim
