#include "format/sim/scenario.h"

#include <algorithm>
#include <fmt/format.h>

#include "format/sim/killed.h"
#include "format/sim/recovery_rows.h"
#include "format/sim/report.h"
#include "format/sim/reuse.h"
#include "format/sim/streams.h"
#include "format/sim/workload.h"

namespace coppice::sim {

namespace {

constexpr unsigned kDeepest = 3;
// No task of the store may need more.
constexpr std::size_t kStackBytes = 64 * 1024;
// Virtual time after which a run must have come to its end; runs take a few seconds.
constexpr std::uint64_t kLongestRunNs = 600'000'000'000;
constexpr std::uint64_t kJournalBytes = 4 << 20;  // the smallest ring

OpenOptions quiet_options(bool read_only)
{
    OpenOptions options;
    options.read_only = read_only;
    options.cache_bytes = 4 << 20;
    options.removal_step = 2;
    return options;
}

void run_checker(const StoreKind& kind, const SparseBytes& image, const char* when)
{
    if (!kind.check) {
        return;
    }
    reached(Case::images_checked);
    if (const std::string complaints = kind.check(image); !complaints.empty()) {
        violation(fmt::format("the checker complains {}: {}", when, complaints));
    }
}

}  // namespace

Contents read_contents(Store& store)
{
    Contents contents;
    for (const VolumeInfo& info : store.volumes()) {
        Result<Stamps> stamps = read_all(store, info);
        if (!stamps) {
            violation(fmt::format("volume {} cannot be read: {}: {}", info.id.value,
                                  error_name(stamps.error().code), stamps.error().text));
        }
        contents.volumes[info.id.value] = {info, std::move(*stamps)};
    }
    return contents;
}

void compare(const Contents& expected, const Contents& found, const std::string& what)
{
    for (const auto& [id, entry] : expected.volumes) {
        const auto other = found.volumes.find(id);
        if (other == found.volumes.end()) {
            violation(fmt::format("{}: volume {} is gone", what, id));
        }
        if (entry.stamps != other->second.stamps) {
            violation(fmt::format("{}: volume {} has other contents: {}", what, id,
                                  differences(entry.stamps, other->second.stamps, 0)));
        }
        if (entry.info.name != other->second.info.name) {
            violation(fmt::format("{}: volume {} has another name", what, id));
        }
    }
    if (expected.volumes.size() != found.volumes.size()) {
        violation(fmt::format("{}: {} volumes instead of {}", what, found.volumes.size(),
                              expected.volumes.size()));
    }
}

SparseBytes fresh_image(const StoreKind& kind, std::uint64_t seed, std::uint64_t volume_bytes)
{
    FiberTasks tasks({.stack_bytes = kStackBytes, .virtual_time = true});
    MemoryDisk disk(tasks);
    tasks.run([&] {
        CreateOptions options;
        for (std::size_t i = 0; i < options.uuid.bytes.size(); ++i) {
            options.uuid.bytes[i] = static_cast<std::uint8_t>(seed >> (8 * (i % 8)) ^ i);
        }
        options.volume_bytes = volume_bytes;
        options.lba_shift = 9;
        options.journal_bytes = kJournalBytes;
        if (const Status status = kind.create(disk, options); !status) {
            violation("an image cannot be made: " + status.error().text);
        }
    });
    return disk.bytes();
}

Model model_of(const Contents& contents)
{
    Model model;
    for (const auto& [id, entry] : contents.volumes) {
        Volume volume;
        volume.id = VolumeId(id);
        volume.snapshot = entry.info.snapshot;
        volume.parent = entry.info.parent;
        volume.name = entry.info.name;
        volume.ordered = entry.info.flush == FlushMode::ordered;
        volume.group = entry.info.group;
        volume.start = entry.stamps;
        volume.now = entry.stamps;
        model.volumes[id] = std::move(volume);
    }
    return model;
}

Recording record(const StoreKind& kind, const SparseBytes& image, Model model, const Plan& plan,
                 std::uint64_t scheduler_seed, const Body& body)
{
    return record(kind, HostFile{image, {}}, std::move(model), plan, scheduler_seed, body);
}

Recording record(const StoreKind& kind, const HostFile& host, Model model, const Plan& plan,
                 std::uint64_t scheduler_seed, const Body& body)
{
    Recording recording;
    recording.model = std::move(model);
    FiberTasks tasks(
        {.stack_bytes = plan.stack_bytes, .seed = scheduler_seed, .virtual_time = true});
    SimDiskOptions disk_options = plan.disk;
    if (plan.full_host) {
        disk_options.limit_bytes = host.seen().allocated_bytes() + plan.room_bytes;
    }
    SimDisk disk(tasks, recording.clock, host, disk_options);
    std::unique_ptr<Store> store;
    bool ticker_ended = false;
    Task* ticker_waiter = nullptr;
    const auto excused = [&](const Error& error) {
        const bool failed = plan.disk.fails() &&
                            (error.code == ErrorCode::io || error.code == ErrorCode::sync_failed ||
                             error.code == ErrorCode::poisoned);
        return failed || (plan.full_host && error.code == ErrorCode::no_space);
    };
    tasks.run([&] {
        OpenOptions options;
        options.cache_bytes = plan.cache_bytes;
        options.commit_interval_ns = plan.commit_interval_ns;
        options.inline_clone_items = plan.inline_clone_items;
        options.removal_step = plan.removal_step;
        options.late_write_blocks = plan.late_write_blocks;
        options.journaled_blocks = plan.journaled_blocks;
        options.punch_delay_ns = plan.punch_delay_ns;
        options.punch_blocks = plan.punch_blocks;
        options.tail_blocks = plan.tail_blocks;
        options.transaction_timeout_ns = plan.transaction_timeout_ns;
        auto opened = kind.open(disk, options);
        if (!opened) {
            if (!excused(opened.error())) {
                violation(fmt::format("open failed with {}: {}", error_name(opened.error().code),
                                      opened.error().text));
            }
            return;
        }
        store = std::move(*opened);
        recording.opened = recording.clock.tick();
        reached(store->info().replayed_operations != 0 ? Case::opens_with_replay
                                                       : Case::opens_without_replay);
        if (store->info().removals != 0) {
            reached(Case::runs_that_go_on_removing);
        }
        bool ticking = true;
        tasks.spawn([&] {
            while (ticking) {
                if (tasks.now_ns() > kLongestRunNs) {
                    violation("all callers wait for ever");
                }
                store->tick();
                tasks.sleep_until(tasks.now_ns() + plan.tick_ns);
            }
            ticker_ended = true;
            if (ticker_waiter != nullptr) {
                tasks.wake(ticker_waiter);
            }
        });
        body(tasks, *store, recording.model, recording.clock);
        ticking = false;
        ticker_waiter = tasks.current();
        while (!ticker_ended) {
            tasks.suspend();
        }
        if (plan.closes) {
            const Event asked = recording.clock.tick();
            const Status status = store->close();
            if (status) {
                recording.closed = true;
                recording.model.note_all_durable(asked, recording.clock.tick());
            } else if (!excused(status.error())) {
                violation(fmt::format("close failed with {}: {}", error_name(status.error().code),
                                      status.error().text));
            } else {
                store->abandon();
            }
        } else {
            store->abandon();
        }
        store.reset();
    });
    tasks.run_for(10'000'000'000);
    if (tasks.unfinished() != 0) {
        violation(fmt::format("{} tasks are left behind by the store", tasks.unfinished()));
    }
    if (disk.under_way() != 0) {
        violation(fmt::format("{} requests are left behind by the store", disk.under_way()));
    }
    recording.ended = recording.clock.tick();
    recording.log = disk.log();
    return recording;
}

namespace {

// One durable write of one block to the first volume that has one; changes `contents` alike. What
// recovery dropped must not come back behind it.
void touch(Store& store, Contents& contents)
{
    for (auto& [id, entry] : contents.volumes) {
        if (entry.info.snapshot || entry.stamps.size() < 8 ||
            entry.info.flush == FlushMode::ordered) {
            continue;  // no place for a durable write
        }
        constexpr Stamp kTouched = Stamp{1} << 60;
        std::fill_n(entry.stamps.begin(), 8, kTouched);
        std::vector<std::byte> bytes(8 * kSectorBytes);
        write_stamps(Stamps(8, kTouched), bytes);
        const iovec buffer{bytes.data(), bytes.size()};
        if (const Status status = store.write(VolumeId(id), 0, {&buffer, 1}, true); !status) {
            violation("a write after recovery failed: " + status.error().text);
        }
        return;
    }
}

void expect_contents(const StoreKind& kind, MemoryDisk& disk, FiberTasks& tasks,
                     const Contents& contents, bool replays, const char* when)
{
    disk.set_read_only(true);
    tasks.run([&] {
        auto store = kind.open(disk, quiet_options(true));
        if (!store) {
            violation(fmt::format("open {} failed with {}: {}", when,
                                  error_name(store.error().code), store.error().text));
        }
        if (!replays && (*store)->info().replayed_operations != 0) {
            violation("there is something to replay after a close");
        }
        compare(contents, read_contents(**store), when);
        (*store)->abandon();
        store->reset();
    });
    disk.set_read_only(false);
}

// Opens for writing, which must show the same; then closes, or writes a little, or does nothing,
// and opens again.
void examine_by_writing(const StoreKind& kind, const SparseBytes& image, Contents contents,
                        Event event)
{
    const Context context("opened for writing");
    const bool closes = event % 3 == 0;
    const bool touches = event % 3 == 1;
    FiberTasks tasks({.stack_bytes = kStackBytes, .virtual_time = true});
    MemoryDisk disk(tasks, image);
    tasks.run([&] {
        auto store = kind.open(disk, quiet_options(false));
        if (!store) {
            violation(fmt::format("open failed with {}: {}", error_name(store.error().code),
                                  store.error().text));
        }
        reached((*store)->info().replayed_operations != 0 ? Case::opens_with_replay
                                                          : Case::opens_without_replay);
        compare(contents, read_contents(**store), "opened for writing");
        if (touches) {
            touch(**store, contents);
        }
        if (closes) {
            if (const Status status = (*store)->close(); !status) {
                violation("close failed: " + status.error().text);
            }
        } else {
            (*store)->abandon();
        }
        store->reset();
    });
    const char* when = closes    ? "after close"
                       : touches ? "after a write behind recovery"
                                 : "after recovery";
    run_checker(kind, disk.bytes(), when);
    if (closes || touches) {
        expect_contents(kind, disk, tasks, contents, touches, when);
    }
}

}  // namespace

Contents examine(const StoreKind& kind, const SparseBytes& image, const Recording& recording,
                 Event event)
{
    return examine(kind, image, event, [&](const Contents& contents) {
        if (const std::string wrong = complaint(contents, recording.model, event); !wrong.empty()) {
            violation(wrong);
        }
    });
}

Contents examine(const StoreKind& kind, const SparseBytes& image, Event event,
                 const std::function<void(const Contents&)>& judge)
{
    Contents contents;
    {
        const Context context("opened read-only");
        FiberTasks tasks({.stack_bytes = kStackBytes, .virtual_time = true});
        MemoryDisk disk(tasks, image);
        disk.set_read_only(true);
        disk.set_fault_hook([](const IoRequest& request) {
            if (request.kind != IoRequest::Kind::read) {
                violation("a read-only open sent something else than reads");
            }
            return 0;
        });
        tasks.run([&] {
            auto store = kind.open(disk, quiet_options(true));
            if (!store) {
                violation(fmt::format("open failed with {}: {}", error_name(store.error().code),
                                      store.error().text));
            }
            if ((*store)->info().removals != 0) {
                reached(Case::cuts_in_removals);
            }
            contents = read_contents(**store);
            (*store)->abandon();
            store->reset();
        });
        judge(contents);
    }
    run_checker(kind, image, "after the cut");
    if (kind.check) {
        count_rows(image);
    }
    examine_by_writing(kind, image, contents, event);
    return contents;
}

std::vector<Event> draw_events(const Recording& recording, Random& random, std::uint64_t count)
{
    std::vector<Event> special;
    for (const LoggedRequest& request : recording.log.requests) {
        if (request.kind == IoRequest::Kind::sync && request.completed != kNever) {
            special.insert(special.end(), {request.submitted, request.completed,
                                           request.completed + 1, request.completed + 2});
        }
    }
    for (const auto& [id, volume] : recording.model.volumes) {
        for (const Flush& flush : volume.flushes) {
            special.push_back(flush.answered);
        }
        for (const Change& change : volume.changes) {
            if (change.durable && change.answered != kNever) {
                special.push_back(change.answered);
            }
        }
    }
    std::sort(special.begin(), special.end());

    std::vector<Event> events;
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t kind = random.below(10);
        if (kind < 4 && !special.empty()) {
            events.push_back(special[random.below(special.size())]);
        } else if (kind < 5 && recording.opened != 0) {
            events.push_back(random.below(recording.opened + 1));
        } else {
            events.push_back(random.between(recording.opened, recording.ended));
        }
    }
    if (recording.closed) {
        events.push_back(recording.ended);
    }
    for (Event& event : events) {
        event = std::min(event, recording.ended);
    }
    std::sort(events.begin(), events.end());
    return events;
}

namespace {

void count_cut(const CutSummary& summary, const Recording& recording)
{
    reached(Case::cuts);
    if (summary.event < recording.opened && summary.event != 0) {
        reached(Case::cuts_in_recovery);
    }
    if (recording.closed && summary.event == recording.ended) {
        reached(Case::cuts_after_close);
    }
    if (summary.volatile_requests != 0) {
        reached(summary.kept == 0                           ? Case::cuts_that_kept_nothing
                : summary.kept == summary.volatile_requests ? Case::cuts_that_kept_all
                                                            : Case::cuts_that_kept_some);
    }
    if (summary.torn != 0) {
        reached(Case::cuts_with_a_torn_write);
    }
    if (summary.under_way != 0) {
        reached(Case::cuts_with_requests_under_way);
    }
    if (summary.lost_superblock) {
        reached(Case::cuts_that_lost_a_superblock);
    }
    if (within(recording.model.transactions, summary.event)) {
        reached(Case::cuts_in_transactions);
    }
}

// Journal blocks were written over: the ring has gone round.
bool ring_wrapped(const DiskLog& log)
{
    std::uint64_t written = 0;
    for (const LoggedRequest& request : log.requests) {
        const bool in_ring = request.kind == IoRequest::Kind::write &&
                             request.offset_bytes >= 16 * kBlockBytes &&
                             request.offset_bytes < 16 * kBlockBytes + kJournalBytes;
        written += in_ring ? request.length_bytes : 0;
    }
    return written > kJournalBytes;
}

void count_statistics(const Statistics& statistics)
{
    const auto count = [](std::uint64_t value, Case which) {
        if (value != 0) {
            reached(which);
        }
    };
    count(statistics.checkpoints, Case::checkpoints);
    count(statistics.removal_steps > 1, Case::runs_with_removal_steps);
    count(statistics.punched_bytes, Case::runs_with_holes);
    count(statistics.range_references, Case::runs_with_range_references);
    count(statistics.late_blocks, Case::runs_with_late_data);
    count(statistics.journaled_blocks, Case::runs_with_journaled_data);
    count(statistics.superseded_operations, Case::runs_with_superseded);
}

struct Life {
    const StoreKind& kind;
    const ScenarioOptions& options;
    Random random;
};

void live(Life& life, const SparseBytes& image, Model model, Stamp next_stamp, unsigned depth,
          std::uint64_t cuts)
{
    Plan plan = draw_plan(life.random, life.options.quick);
    while (!life.options.rings && plan.profile == "ring") {
        plan = draw_plan(life.random, life.options.quick);
    }
    plan.full_host = plan.full_host && life.options.full_hosts;
    if (!life.options.transactions) {
        plan.transactions = false;
        plan.weights[static_cast<std::size_t>(Action::transaction)] = 0;
        plan.weights[static_cast<std::size_t>(Action::write_ranges)] = 0;
    }
    if (!life.options.streams) {
        plan.stream_percent = 0;
        plan.weights[static_cast<std::size_t>(Action::open_stream)] = 0;
        plan.weights[static_cast<std::size_t>(Action::close_stream)] = 0;
    }
    if (depth > 0) {
        plan.actions = std::min<std::uint64_t>(plan.actions, 60);
    }
    const Context context(fmt::format("run {} ({})", depth + 1, plan.profile));
    const std::uint64_t scheduler_seed = life.random.next();
    const std::uint64_t workload_seed = life.random.next();
    bool stopped = false;
    const Recording recording =
        record(life.kind, image, std::move(model), plan, scheduler_seed,
               [&](FiberTasks& tasks, Store& store, Model& live_model, EventClock& clock) {
                   Workload workload(tasks, store, live_model, clock, Random(workload_seed), plan,
                                     next_stamp);
                   workload.run();
                   stopped = workload.stopped();
                   next_stamp = workload.next_stamp();
                   count_statistics(store.statistics());
               });
    if (plan.profile == "never flushed") {
        reached(Case::runs_with_no_flush);
    }
    if (plan.full_host) {
        reached(Case::runs_with_a_full_host);
    }
    if (stopped) {
        reached(Case::runs_with_stopped_writing);
    }
    if (ring_wrapped(recording.log)) {
        reached(Case::runs_with_a_wrapped_ring);
    }

    // A host that failed may have dropped what it shows; nobody can promise it then.
    if (!plan.disk.fails() && !stopped && recording.opened != 0 && life.random.chance(50)) {
        kill_and_go_on(life.kind, recording, plan, next_stamp, life.random,
                       std::max<std::uint64_t>(cuts / 4, 2));
    }

    // Part of the cuts is left to the runs that begin on what some of these leave.
    const std::uint64_t here =
        depth + 1 < kDeepest ? std::max<std::uint64_t>(cuts * 6 / 10, 1) : cuts;
    const std::vector<Event> events = draw_events(recording, life.random, here);
    const std::uint64_t goes_on =
        depth + 1 < kDeepest && cuts > here ? life.random.below(events.size()) : events.size();
    // A host that fails has some written again.
    const auto reuse = plan.disk.fails() ? std::vector<std::pair<Event, Event>>()
                                         : reuse_before_checkpoints(recording.log);
    CutMaker maker(recording.log);
    for (std::size_t i = 0; i < events.size(); ++i) {
        CutSummary summary;
        const SparseBytes left = maker.cut(events[i], life.random, summary);
        const Context where(summary.text());
        count_cut(summary, recording);
        if (within(reuse, events[i])) {
            reached(Case::cuts_with_reuse);
        }
        Contents contents = examine(life.kind, left, recording, events[i]);
        if (life.kind.check && life.random.chance(20)) {
            damage(life.kind, left, contents, life.random);
        }
        if (i == goes_on) {
            live(life, left, model_of(contents), next_stamp, depth + 1, cuts - here);
        }
    }
}

}  // namespace

void run_scenario(const StoreKind& kind, const ScenarioOptions& options)
{
    Life life{kind, options, Random(options.seed)};
    const std::uint64_t volume_bytes = life.random.between(16, 256) * 4096;
    const SparseBytes image = fresh_image(kind, options.seed, volume_bytes);
    Contents contents;
    {
        // The first volume of a new image reads as zeroes.
        Recording nothing;
        Volume first;
        first.id = VolumeId(1);
        first.name = CreateOptions{}.volume_name;
        first.start.assign(volume_bytes / kSectorBytes, kZeroes);
        nothing.model.volumes[1] = std::move(first);
        const Context context("new image");
        contents = examine(kind, image, nothing, 0);
    }
    live(life, image, model_of(contents), 1, 0, options.cuts);
    if (options.streams) {
        run_streams(kind, options.seed, std::max<std::uint64_t>(options.cuts / 4, 1));
    }
}

}  // namespace coppice::sim
