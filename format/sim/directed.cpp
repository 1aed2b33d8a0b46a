#include "format/sim/directed.h"

#include <algorithm>
#include <fmt/format.h>

#include "format/layout/layout.h"
#include "format/sim/group_stories.h"
#include "format/sim/kill_stories.h"
#include "format/sim/report.h"
#include "format/sim/reuse.h"
#include "format/sim/story.h"
#include "format/sim/stream_stories.h"

namespace coppice::sim {

namespace {

constexpr std::uint64_t kBlockSectors = kBlockBytes / kSectorBytes;
constexpr VolumeId kFirst{1};
constexpr std::uint64_t kRingBlocks = layout::kMinJournalBlocks;
constexpr std::uint64_t kMillisecond = 1'000'000;

// A caller that tells the model what it does.
class Caller {
public:
    Caller(Store& store, Model& model, EventClock& clock)
        : store_(store), model_(model), clock_(clock)
    {
    }

    void write(VolumeId id, std::uint64_t first, const Stamps& stamps, bool fua = false)
    {
        Change change;
        change.what =
            fmt::format("write of sectors {} + {} of volume {}", first, stamps.size(), id.value);
        change.durable = fua;
        change.patches = {{first, stamps}};
        perform(id, std::move(change), [&] {
            std::vector<std::byte> bytes(stamps.size() * kSectorBytes);
            write_stamps(stamps, bytes);
            const iovec buffer{bytes.data(), bytes.size()};
            return store_.write(id, first * kSectorBytes, {&buffer, 1}, fua);
        });
    }

    void deallocate(VolumeId id, const std::vector<SectorRange>& ranges)
    {
        Change change;
        change.what =
            fmt::format("deallocation of {} ranges of volume {}", ranges.size(), id.value);
        std::vector<Range> bytes;
        for (const SectorRange& range : ranges) {
            change.patches.push_back({range.first, Stamps(range.count, kZeroes)});
            bytes.push_back({range.first * kSectorBytes, range.count * kSectorBytes});
        }
        perform(id, std::move(change), [&] { return store_.deallocate(id, bytes); });
    }

    // Stages the patches in a transaction and commits it; `between` is done before the commit.
    void transact(VolumeId id, const std::vector<Patch>& patches, bool durable,
                  const std::function<void()>& between = nullptr)
    {
        const TransactionId begun = require(store_.begin(id), "begin of a transaction");
        for (const Patch& patch : patches) {
            std::vector<std::byte> bytes(patch.stamps.size() * kSectorBytes);
            write_stamps(patch.stamps, bytes);
            const iovec buffer{bytes.data(), bytes.size()};
            Operation operation;
            operation.kind = Operation::Kind::write;
            operation.volume = id;
            operation.offset_bytes = patch.first * kSectorBytes;
            operation.length_bytes = bytes.size();
            operation.buffers = {&buffer, 1};
            operation.transaction = begun;
            require(store_.perform(operation), "a staged write");
        }
        if (between) {
            between();
            expect_conflict(store_.commit(begun, durable));
            return;
        }
        Change change;
        change.what =
            fmt::format("transaction of {} pieces in volume {}", patches.size(), id.value);
        change.durable = durable;
        change.patches = patches;
        perform(id, std::move(change), [&] { return store_.commit(begun, durable); });
    }

    void clone(VolumeId to, std::uint64_t first, VolumeId from, const SectorRange& range)
    {
        const Stamps& now = model_.find(from)->now;
        const auto begin = now.begin() + static_cast<std::ptrdiff_t>(range.first);
        Change change;
        change.what = fmt::format("clone of volume {} to sector {} of volume {}", from.value, first,
                                  to.value);
        change.patches = {{first, Stamps(begin, begin + static_cast<std::ptrdiff_t>(range.count))}};
        const CloneSource source{from, {range.first * kSectorBytes, range.count * kSectorBytes}};
        perform(to, std::move(change), [&] {
            return store_.clone(to, first * kSectorBytes, {&source, 1});
        });
    }

    void flush(VolumeId id)
    {
        const Event asked = clock_.tick();
        require(store_.flush(id), "flush");
        model_.find(id)->flushes.push_back({asked, clock_.tick()});
    }

    void checkpoint()
    {
        const Event asked = clock_.tick();
        require(store_.checkpoint(), "checkpoint");
        model_.note_all_durable(asked, clock_.tick());
    }

    VolumeId create_volume(std::uint64_t sectors)
    {
        NewVolume wanted;
        wanted.name = fmt::format("v{}", clock_.now);
        wanted.size_bytes = sectors * kSectorBytes;
        wanted.lba_shift = 9;
        Volume made;
        made.name = wanted.name;
        made.created_asked = clock_.tick();
        made.id = require(store_.create_volume(wanted), "create of a volume");
        made.created_answered = clock_.tick();
        made.start.assign(sectors, kZeroes);
        made.now = made.start;
        const VolumeId id = made.id;
        model_.volumes[id.value] = std::move(made);
        return id;
    }

private:
    static void expect_conflict(const Status& status)
    {
        if (status) {
            violation("a transaction was committed over what others had changed");
        }
        if (status.error().code != ErrorCode::conflict) {
            require(status, "a commit that comes too late");
        }
    }

    template <typename Call>
    void perform(VolumeId id, Change change, Call call)
    {
        Volume& volume = *model_.find(id);
        const std::string what = change.what;
        change.asked = clock_.tick();
        volume.changes.push_back(std::move(change));
        const std::size_t index = volume.changes.size() - 1;
        require(call(), what);
        Change& done = volume.changes[index];
        done.answered = clock_.tick();
        for (const Patch& patch : done.patches) {
            std::copy(patch.stamps.begin(), patch.stamps.end(),
                      volume.now.begin() + static_cast<std::ptrdiff_t>(patch.first));
        }
    }

    Store& store_;
    Model& model_;
    EventClock& clock_;
};

// Background work only where the story asks for it.
Plan steady_plan()
{
    Plan plan = story_plan();
    plan.commit_interval_ns = Plan().commit_interval_ns;
    plan.cache_bytes = 4 << 20;
    return plan;
}

Model new_model(std::uint64_t volume_bytes)
{
    Model model;
    Volume first;
    first.id = kFirst;
    first.name = CreateOptions{}.volume_name;
    first.start.assign(volume_bytes / kSectorBytes, kZeroes);
    first.now = first.start;
    model.volumes[1] = std::move(first);
    return model;
}

// Behind each write to the journal, with all that was completed.
void examine_after_each_ring_write(const StoreKind& kind, const Recording& recording)
{
    CutMaker maker(recording.log);
    for (const LoggedRequest& request : recording.log.requests) {
        if (is_ring_write(request)) {
            examine(kind, maker.cut(request.completed, keep_all), recording, request.completed);
        }
    }
}

// ---- The stories ----------------------------------------------------------------------------

// One command of more ranges than a commit has room for beside others stands whole in one commit:
// a cut between two commits shows all of it or nothing.
void long_command_is_whole(const StoreKind& kind)
{
    constexpr std::uint64_t kBlocks = 6000;
    constexpr std::uint64_t kVolumeBytes = kBlocks * kBlockBytes;
    const SparseBytes image = fresh_image(kind, 1, kVolumeBytes);
    const Recording recording =
        record(kind, image, new_model(kVolumeBytes), steady_plan(), 1,
               [](FiberTasks&, Store& store, Model& model, EventClock& clock) {
                   Caller caller(store, model, clock);
                   for (std::uint64_t at = 0; at < kBlocks; at += 250) {
                       caller.write(kFirst, at * kBlockSectors,
                                    stamps_from(1 + at * kBlockSectors, 250 * kBlockSectors));
                   }
                   caller.checkpoint();
                   // Three commands of 3,000 operations each: a commit of an eighth of the ring
                   // ends within the third one.
                   for (const std::uint64_t odd : {0U, 0U, 1U}) {
                       std::vector<SectorRange> ranges;
                       for (std::uint64_t block = odd; block < kBlocks; block += 2) {
                           ranges.push_back({block * kBlockSectors, kBlockSectors});
                       }
                       caller.deallocate(kFirst, ranges);
                   }
                   caller.flush(kFirst);
               });
    examine_after_each_ring_write(kind, recording);
}

// A commit of many blocks of which one did not arrive counts for nothing.
void torn_commit_is_nothing(const StoreKind& kind)
{
    constexpr std::uint64_t kVolumeBytes = 256 * kBlockBytes;
    const SparseBytes image = fresh_image(kind, 2, kVolumeBytes);
    const Recording recording =
        record(kind, image, new_model(kVolumeBytes), steady_plan(), 1,
               [](FiberTasks&, Store& store, Model& model, EventClock& clock) {
                   Caller caller(store, model, clock);
                   for (std::uint64_t block = 0; block < 250; ++block) {
                       caller.write(kFirst, block * kBlockSectors,
                                    stamps_from(1 + block * kBlockSectors, kBlockSectors));
                   }
                   caller.flush(kFirst);
               });
    // Four blocks; the chain shows the lack of an inner one too, of the last only its own absence.
    for (std::uint64_t lost = 0; lost < 4; ++lost) {
        Event event = 0;
        for (const LoggedRequest& request : recording.log.requests) {
            if (is_ring_write(request) && request.data.size() > lost * kBlockBytes) {
                event = request.completed;
            }
        }
        CutMaker maker(recording.log);
        const SparseBytes left = maker.cut(event, [lost](LoggedRequest& request) {
            if (is_ring_write(request) && request.data.size() >= (lost + 1) * kBlockBytes) {
                std::fill_n(request.data.begin() + static_cast<std::ptrdiff_t>(lost * kBlockBytes),
                            kBlockBytes, std::byte{0});
            }
            return true;
        });
        const Context context(fmt::format("block {} of the commit is lost", lost));
        examine(kind, left, recording, event);
    }
}

// The ring goes round and round while nobody looks after it: what stands in it and is needed stays.
void full_ring_waits(const StoreKind& kind)
{
    constexpr std::uint64_t kVolumeBytes = 16 * kBlockBytes;
    const SparseBytes image = fresh_image(kind, 3, kVolumeBytes);
    const Recording recording =
        record(kind, image, new_model(kVolumeBytes), steady_plan(), 1,
               [](FiberTasks&, Store& store, Model& model, EventClock& clock) {
                   Caller caller(store, model, clock);
                   // No checkpoint in the background: who writes must make room.
                   store.pause();
                   for (std::uint64_t i = 0; i < kRingBlocks + 200; ++i) {
                       caller.write(kFirst, i % 16 * kBlockSectors,
                                    stamps_from(1 + i * kBlockSectors, kBlockSectors), true);
                   }
                   store.resume();
               });
    CutMaker maker(recording.log);
    for (const Event event : {recording.ended / 2, recording.ended * 9 / 10, recording.ended}) {
        examine(kind, maker.cut(event, keep_all), recording, event);
    }
}

// More pending operations than the ring holds, twice over: a checkpoint takes them, and the flush
// comes to its end.
void flush_of_more_than_the_ring(const StoreKind& kind)
{
    constexpr std::uint64_t kBlocks = 6000;
    constexpr std::uint64_t kVolumeBytes = kBlocks * kBlockBytes;
    const SparseBytes image = fresh_image(kind, 8, kVolumeBytes);
    const Recording recording =
        record(kind, image, new_model(kVolumeBytes), steady_plan(), 1,
               [](FiberTasks&, Store& store, Model& model, EventClock& clock) {
                   Caller caller(store, model, clock);
                   store.pause();
                   std::vector<SectorRange> ranges;
                   for (std::uint64_t block = 0; block < kBlocks; block += 2) {
                       ranges.push_back({block * kBlockSectors, kBlockSectors});
                   }
                   // 3,000 operations each, in 48 blocks of the journal.
                   for (std::uint64_t i = 0; i < 2 * kRingBlocks / 48 + 2; ++i) {
                       caller.deallocate(kFirst, ranges);
                   }
                   caller.write(kFirst, 0, stamps_from(1, kBlockSectors));
                   caller.flush(kFirst);
                   store.resume();
               });
    CutMaker maker(recording.log);
    examine(kind, maker.cut(recording.ended, keep_none), recording, recording.ended);
}

// A command of many blocks of the journal begins so many blocks before the end of the ring and goes
// on at its start: two writes of the host, of which none, one or both are done.
void commit_around_the_end_at(const StoreKind& kind, std::uint64_t blocks_before)
{
    constexpr std::uint64_t kBlocks = 6000;
    constexpr std::uint64_t kVolumeBytes = kBlocks * kBlockBytes;
    const Context context(fmt::format("{} blocks before the end", blocks_before));
    const SparseBytes image = fresh_image(kind, 13, kVolumeBytes);
    Plan plan = steady_plan();
    plan.late_write_blocks = 0;  // commits of one block
    const Recording recording =
        record(kind, image, new_model(kVolumeBytes), plan, 1,
               [&](FiberTasks&, Store& store, Model& model, EventClock& clock) {
                   Caller caller(store, model, clock);
                   store.pause();
                   caller.write(kFirst, 0, stamps_from(1, kBlocks * kBlockSectors));
                   caller.flush(kFirst);
                   for (Stamp stamp = 1'000'000; store.info().journal_used_bytes <
                                                 (kRingBlocks - blocks_before) * kBlockBytes;
                        stamp += kBlockSectors) {
                       caller.write(kFirst, 0, stamps_from(stamp, kBlockSectors), true);
                   }
                   caller.checkpoint();
                   std::vector<SectorRange> ranges;
                   for (std::uint64_t block = 1; block < kBlocks; block += 2) {
                       ranges.push_back({block * kBlockSectors, kBlockSectors});
                   }
                   caller.deallocate(kFirst, ranges);
                   caller.flush(kFirst);
                   store.resume();
               });
    const auto& requests = recording.log.requests;
    std::size_t last = 0;  // the part before the end
    for (std::size_t i = 0; i < requests.size(); ++i) {
        const std::uint64_t end = requests[i].offset_bytes + requests[i].length_bytes;
        const bool ends_ring = end == (layout::kJournalStart + kRingBlocks) * kBlockBytes;
        last = is_ring_write(requests[i]) && ends_ring ? i : last;
    }
    if (last == 0 || last + 1 >= requests.size() || !is_ring_write(requests[last + 1])) {
        violation("no commit goes around the end: the scenario shows nothing");
    }
    const LoggedRequest& before = requests[last];
    const LoggedRequest& behind = requests[last + 1];
    const Event event = std::max(before.completed, behind.completed);
    for (unsigned kept = 0; kept < 4; ++kept) {
        CutMaker maker(recording.log);
        const SparseBytes left = maker.cut(event, [&](LoggedRequest& request) {
            return request.submitted == before.submitted   ? (kept & 1U) != 0
                   : request.submitted == behind.submitted ? (kept & 2U) != 0
                                                           : true;
        });
        reached(Case::cuts_in_commits_around_the_end);
        examine(kind, left, recording, event);
    }
}

void commit_around_the_end(const StoreKind& kind)
{
    for (const std::uint64_t blocks : {2U, 3U, 20U, 46U}) {
        commit_around_the_end_at(kind, blocks);
    }
}

// A crash finds the ring filled to its last block but one, and crashes follow each other: every
// open is whole, and each writes again.
void full_ring_opens_again(const StoreKind& kind)
{
    constexpr std::uint64_t kVolumeBytes = 16 * kBlockBytes;
    SparseBytes image = fresh_image(kind, 9, kVolumeBytes);
    Model model = new_model(kVolumeBytes);
    Stamp stamp = 1;
    Plan plan = steady_plan();
    plan.late_write_blocks = 0;  // commits of one block fill the ring to the last
    for (unsigned life = 0; life < 5; ++life) {
        const Context context(fmt::format("life {}", life));
        const Recording recording =
            record(kind, image, std::move(model), plan, 1,
                   [&](FiberTasks&, Store& store, Model& live_model, EventClock& clock) {
                       Caller caller(store, live_model, clock);
                       store.pause();
                       do {
                           caller.write(kFirst, stamp % 16 * kBlockSectors,
                                        stamps_from(stamp * kBlockSectors, kBlockSectors), true);
                           ++stamp;
                       } while (store.info().journal_used_bytes < (kRingBlocks - 1) * kBlockBytes);
                       store.resume();
                   });
        CutMaker maker(recording.log);
        image = maker.cut(recording.ended, keep_all);
        model = model_of(examine(kind, image, recording, recording.ended));
    }
}

// Recovery dropped a commit because its data had not arrived. Later the same data come to the same
// place (a caller that writes again what was lost): the old commit must not become valid by that.
void dropped_commits_stay_dropped(const StoreKind& kind)
{
    constexpr std::uint64_t kVolumeBytes = 64 * kBlockBytes;
    const SparseBytes image = fresh_image(kind, 4, kVolumeBytes);
    Plan plan = steady_plan();
    plan.late_write_blocks = 0;  // data that are lost are on their way when the commit is written
    plan.commit_interval_ns = 1;
    const Stamps lost = stamps_from(1000, kBlockSectors);
    const Recording before =
        record(kind, image, new_model(kVolumeBytes), plan, 1,
               [&](FiberTasks& tasks, Store& store, Model& model, EventClock& clock) {
                   Caller caller(store, model, clock);
                   caller.write(kFirst, 0, stamps_from(1, kBlockSectors), true);
                   // Two commits that no sync covers.
                   for (const std::uint64_t block : {1U, 2U}) {
                       caller.write(kFirst, block * kBlockSectors,
                                    block == 1 ? lost : stamps_from(2000, kBlockSectors));
                       tasks.sleep_until(tasks.now_ns() + 10 * kMillisecond);
                       store.tick();
                       tasks.sleep_until(tasks.now_ns() + 10 * kMillisecond);
                   }
               });
    std::vector<std::byte> lost_bytes(kBlockBytes);
    write_stamps(lost, lost_bytes);
    CutMaker first_maker(before.log);
    const SparseBytes first = first_maker.cut(
        before.ended, [&](LoggedRequest& request) { return request.data != lost_bytes; });
    const Contents contents = examine(kind, first, before, before.ended);

    const Recording after =
        record(kind, first, model_of(contents), plan, 1,
               [&](FiberTasks&, Store& store, Model& model, EventClock& clock) {
                   Caller(store, model, clock).write(kFirst, kBlockSectors, lost);
               });
    CutMaker maker(after.log);
    examine(kind, maker.cut(after.ended, keep_all), after, after.ended);
}

// A slow read under which its blocks are overwritten, let go by checkpoints and given out again
// still gets what was there when it began.
void slow_reader_keeps_its_blocks(const StoreKind& kind)
{
    constexpr std::uint64_t kVolumeBytes = 1024 * kBlockBytes;
    const SparseBytes image = fresh_image(kind, 5, kVolumeBytes);
    Plan plan = steady_plan();
    bool slow = false;
    plan.disk.duration_ns = [&slow](const IoRequest& request) -> std::uint64_t {
        const bool read = request.kind == IoRequest::Kind::read;
        return slow && read ? 1'000 * kMillisecond : 1'000;
    };
    record(kind, image, new_model(kVolumeBytes), plan, 1,
           [&](FiberTasks& tasks, Store& store, Model& model, EventClock& clock) {
               Caller caller(store, model, clock);
               const Stamps old = stamps_from(1, 64 * kBlockSectors);
               caller.write(kFirst, 0, old);
               caller.checkpoint();
               std::vector<std::byte> bytes(old.size() * kSectorBytes);
               const iovec buffer{bytes.data(), bytes.size()};
               Status done;
               bool ended = false;
               Task* self = tasks.current();
               // The map is read first, so that only the data are slow.
               require(store.read(kFirst, 0, {&buffer, 1}), "read");
               slow = true;
               tasks.spawn([&] {
                   done = store.read(kFirst, 0, {&buffer, 1});
                   ended = true;
                   tasks.wake(self);
               });
               tasks.sleep_until(tasks.now_ns() + kMillisecond);
               slow = false;
               // All free blocks of a group are given out once, then the first ones again.
               Stamp next = 1'000'000;
               for (std::uint64_t i = 0; i < 2 * layout::kGroupBlocks / 64; ++i) {
                   caller.write(kFirst, i % 4 * 64 * kBlockSectors,
                                stamps_from(next, 64 * kBlockSectors));
                   next += 64 * kBlockSectors;
                   if (i % 16 == 0) {
                       caller.checkpoint();
                   }
               }
               if (ended) {
                   violation("the slow read was not slow: the scenario shows nothing");
               }
               while (!ended) {
                   tasks.suspend();
               }
               require(done, "the slow read");
               if (const Stamps found = read_stamps(bytes); found != old) {
                   violation("the slow read saw later contents: " + differences(old, found, 0));
               }
           });
}

// The blocks of a group are given out until the first ones come round again, which checkpoints have
// freed; the power fails while they are written anew and no later checkpoint has been.
void freed_blocks_are_used_again(const StoreKind& kind)
{
    constexpr std::uint64_t kVolumeBytes = 256 * kBlockBytes;
    constexpr std::uint64_t kWriteSectors = 64 * kBlockSectors;
    const SparseBytes image = fresh_image(kind, 14, kVolumeBytes);
    const Recording recording = record(
        kind, image, new_model(kVolumeBytes), steady_plan(), 1,
        [](FiberTasks&, Store& store, Model& model, EventClock& clock) {
            Caller caller(store, model, clock);
            Stamp next = 1;
            for (std::uint64_t i = 0; i < 2 * layout::kGroupBlocks / 64; ++i) {
                caller.write(kFirst, i % 4 * kWriteSectors, stamps_from(next, kWriteSectors));
                next += kWriteSectors;
                if (i % 16 == 0) {
                    caller.checkpoint();
                }
            }
        });
    const auto reuse = reuse_before_checkpoints(recording.log);
    if (reuse.empty()) {
        violation("no block was used again: the scenario shows nothing");
    }
    Random random(1);
    std::vector<Event> events;
    for (unsigned i = 0; i < 40; ++i) {
        events.push_back(random.between(reuse.front().first, recording.ended));
    }
    std::sort(events.begin(), events.end());
    CutMaker maker(recording.log);
    for (const Event event : events) {
        CutSummary summary;
        const SparseBytes left = maker.cut(event, random, summary);
        const Context context(summary.text());
        if (within(reuse, event)) {
            reached(Case::cuts_with_reuse);
        }
        examine(kind, left, recording, event);
    }
}

// A clone that builds on another volume's pending write takes that along when it is flushed.
void clone_takes_its_source_along(const StoreKind& kind)
{
    constexpr std::uint64_t kVolumeBytes = 64 * kBlockBytes;
    const SparseBytes image = fresh_image(kind, 6, kVolumeBytes);
    const Recording recording =
        record(kind, image, new_model(kVolumeBytes), steady_plan(), 1,
               [](FiberTasks&, Store& store, Model& model, EventClock& clock) {
                   Caller caller(store, model, clock);
                   const VolumeId other = caller.create_volume(64 * kBlockSectors);
                   caller.write(other, 0, stamps_from(1, 16 * kBlockSectors));
                   caller.clone(kFirst, 0, other, {0, 16 * kBlockSectors});
                   caller.flush(kFirst);
               });
    CutMaker maker(recording.log);
    examine(kind, maker.cut(recording.ended, keep_all), recording, recording.ended);
}

// Creation is cut anywhere: the image is whole, or is refused with an error.
void cut_while_created(const StoreKind& kind)
{
    FiberTasks tasks({.stack_bytes = 64 * 1024, .seed = 1, .virtual_time = true});
    EventClock clock;
    SimDisk disk(tasks, clock, SparseBytes(), {});
    tasks.run([&] {
        CreateOptions options;
        options.uuid.bytes.fill(7);
        options.volume_bytes = 64 * kBlockBytes;
        options.journal_bytes = kRingBlocks * kBlockBytes;
        require(kind.create(disk, options), "create");
    });
    const Event created = clock.tick();
    Random random(1);
    CutMaker maker(disk.log());
    for (Event event = 0; event <= created; ++event) {
        CutSummary summary;
        const SparseBytes left = maker.cut(event, random, summary);
        const Context context(summary.text());
        FiberTasks reader({.stack_bytes = 64 * 1024, .virtual_time = true});
        MemoryDisk memory(reader, left);
        reader.run([&] {
            auto store = kind.open(memory, {});
            if (!store && event == created) {
                violation("an image that was made cannot be opened: " + store.error().text);
            }
            if (store) {
                (*store)->abandon();
                store->reset();
            }
        });
    }
}

// A volume's operations are committed behind younger ones of another volume; between them the
// volume's state was held by a clone. Recovery must not change what is held.
void replay_goes_by_sequence(const StoreKind& kind)
{
    constexpr std::uint64_t kVolumeBytes = 64 * kBlockBytes;
    const SparseBytes image = fresh_image(kind, 10, kVolumeBytes);
    Plan plan = steady_plan();
    plan.inline_clone_items = 0;
    const Recording recording =
        record(kind, image, new_model(kVolumeBytes), plan, 1,
               [](FiberTasks&, Store& store, Model& model, EventClock& clock) {
                   Caller caller(store, model, clock);
                   store.pause();
                   const VolumeId second = caller.create_volume(8 * kBlockSectors);
                   caller.write(kFirst, 0, stamps_from(1000, 8 * kBlockSectors));
                   caller.checkpoint();
                   caller.write(kFirst, 0, stamps_from(2000, kBlockSectors));
                   caller.clone(kFirst, 16 * kBlockSectors, kFirst, {0, 8 * kBlockSectors});
                   caller.write(second, 0, stamps_from(3000, kBlockSectors), true);
                   caller.write(kFirst, kBlockSectors, stamps_from(4000, kBlockSectors));
                   caller.flush(kFirst);
                   store.resume();
               });
    CutMaker maker(recording.log);
    examine(kind, maker.cut(recording.ended, keep_none), recording, recording.ended);
}

// A transaction of many small pieces and a large one, cut at every write to the journal, is there
// as a whole or not at all.
void transaction_is_whole(const StoreKind& kind)
{
    constexpr std::uint64_t kBlocks = 256;
    constexpr std::uint64_t kVolumeBytes = kBlocks * kBlockBytes;
    const SparseBytes image = fresh_image(kind, 11, kVolumeBytes);
    const Recording recording =
        record(kind, image, new_model(kVolumeBytes), steady_plan(), 1,
               [](FiberTasks& tasks, Store& store, Model& model, EventClock& clock) {
                   Caller caller(store, model, clock);
                   caller.write(kFirst, 0, stamps_from(1, kBlocks * kBlockSectors), true);
                   Stamp next = 1'000'000;
                   for (unsigned round = 0; round < 4; ++round) {
                       std::vector<Patch> patches;
                       for (std::uint64_t block = round; block < kBlocks / 2; block += 5) {
                           patches.push_back({block * kBlockSectors + round, stamps_from(next, 3)});
                           next += 3;
                       }
                       patches.push_back({kBlocks / 2 * kBlockSectors, stamps_from(next, 500)});
                       next += 500;
                       // Somebody flushes all the time, so that whatever took effect is in the
                       // journal.
                       bool committed = false;
                       bool flushed = false;
                       tasks.spawn([&] {
                           while (!committed) {
                               caller.flush(kFirst);
                               tasks.yield();
                           }
                           flushed = true;
                       });
                       caller.transact(kFirst, patches, round % 2 == 0);
                       committed = true;
                       while (!flushed) {
                           tasks.yield();
                       }
                   }
                   caller.flush(kFirst);
               });
    examine_after_each_ring_write(kind, recording);
}

// Who changes a block first wins, also where the two change different parts of it.
void transaction_comes_too_late(const StoreKind& kind)
{
    constexpr std::uint64_t kVolumeBytes = 64 * kBlockBytes;
    const SparseBytes image = fresh_image(kind, 12, kVolumeBytes);
    const Recording recording =
        record(kind, image, new_model(kVolumeBytes), steady_plan(), 1,
               [](FiberTasks&, Store& store, Model& model, EventClock& clock) {
                   Caller caller(store, model, clock);
                   caller.write(kFirst, 0, stamps_from(1, kBlockSectors), true);
                   caller.transact(kFirst, {{1, stamps_from(100, 1)}, {80, stamps_from(200, 80)}},
                                   true, [&] { caller.write(kFirst, 6, stamps_from(300, 1)); });
                   caller.transact(kFirst, {{1, stamps_from(400, 1)}}, true, [&] {
                       caller.transact(kFirst, {{3, stamps_from(500, 1)}}, false);
                   });
                   caller.flush(kFirst);
               });
    CutMaker maker(recording.log);
    examine(kind, maker.cut(recording.ended, keep_none), recording, recording.ended);
}

std::vector<Directed> with(std::vector<Directed> more, std::vector<Directed> all)
{
    all.insert(all.end(), more.begin(), more.end());
    return all;
}

}  // namespace

const std::vector<Directed>& directed_scenarios()
{
    static const std::vector<Directed> scenarios = with(
        with(kill_stories(), with(group_stories(), stream_stories())),
        {
            {"long-command-is-whole", {Rule::atomic_commands}, long_command_is_whole},
            {"torn-commit-is-nothing", {Rule::whole_commits}, torn_commit_is_nothing},
            {"full-ring-waits", {Rule::ring_tail_kept}, full_ring_waits},
            {"flush-of-more-than-the-ring", {}, flush_of_more_than_the_ring},
            {"full-ring-opens-again", {}, full_ring_opens_again},
            {"dropped-commits-stay-dropped",
             {Rule::close_recovery, Rule::chained_blocks},
             dropped_commits_stay_dropped},
            {"slow-reader-keeps-its-blocks", {Rule::pinned_readers}, slow_reader_keeps_its_blocks},
            {"freed-blocks-are-used-again", {}, freed_blocks_are_used_again},
            {"replay-goes-by-sequence", {Rule::replay_in_order}, replay_goes_by_sequence},
            {"clone-takes-its-source-along", {Rule::joined_domains}, clone_takes_its_source_along},
            {"transaction-is-whole", {Rule::transaction_is_one_command}, transaction_is_whole},
            {"transaction-comes-too-late",
             {Rule::first_committer_wins},
             transaction_comes_too_late},
            {"commit-around-the-end", {Rule::whole_commits}, commit_around_the_end},
            {"cut-while-created", {}, cut_while_created},
        });
    return scenarios;
}

}  // namespace coppice::sim
