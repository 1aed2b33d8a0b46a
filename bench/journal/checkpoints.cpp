// How long a write takes while checkpoints come and go, and the longest time that a checkpoint lets
// nobody else run.
//
// In memory there is no device to wait for, and times are those of the thread's processor: what
// other programs do on the machine is not in them. A write's time counts from its submission, so
// it waits for the others that are under way before it, as a queue of that depth has it.
#include <algorithm>
#include <climits>
#include <fmt/format.h>
#include <functional>
#include <malloc.h>
#include <random>

#include "bench/journal/journal.h"
#include "bench/stamp_disk.h"
#include "bench/thread_disk.h"

namespace coppice::bench {

namespace {

constexpr unsigned kDepth = 32;
// Writes between two checkpoints that begin none by themselves, and many more.
constexpr std::uint64_t kFewWrites = 5'000;
constexpr std::uint64_t kManyWrites = 60'000;

constexpr std::size_t kMostWrites = 8'000'000;
// Of the ring, and nodes of some generations.
constexpr std::uint64_t kMetadataBlocks = 400'000;

using Clock = std::uint64_t (*)();

struct Latencies {
    Latencies() { ns.reserve(kMostWrites); }  // as it grows, the time for that would be in it
    std::vector<std::uint32_t> ns;

    double us(double part)
    {
        if (ns.empty()) {
            return 0;
        }
        const auto place = static_cast<std::size_t>(part * static_cast<double>(ns.size() - 1));
        std::nth_element(ns.begin(), ns.begin() + static_cast<std::ptrdiff_t>(place), ns.end());
        return ns[place] / 1e3;
    }
};

// Random overwrites of 4 KiB, so many under way at any time.
class Load {
public:
    Load(FiberTasks& tasks, Store& store, std::uint64_t volume_bytes, Clock clock)
        : store_(store), blocks_(volume_bytes / kBlockBytes), clock_(clock), done_(tasks)
    {
    }

    // Goes on for as long as `more` says, which is asked after each write. (task)
    void run(Latencies& into, const std::function<bool()>& more)
    {
        into_ = &into;
        more_ = more;
        running_ = kDepth;
        for (Slot& slot : slots_) {
            submit(slot);
        }
        while (running_ != 0) {
            done_.wait();
        }
    }

    void run(Latencies& into, std::uint64_t writes)
    {
        std::uint64_t left = writes;
        run(into, [&left] { return left != 0 && --left != 0; });
    }

private:
    struct Slot {
        Stamped data;
        iovec buffer{};
        std::uint64_t begin_ns = 0;
    };

    void submit(Slot& slot)
    {
        slot.buffer = slot.data.with(++stamp_);
        slot.begin_ns = clock_();
        store_.submit(write_of(random_() % blocks_ * kBlockBytes, slot.buffer),
                      [this, &slot](const Status& status) { completed(slot, status); });
    }

    void completed(Slot& slot, const Status& status)
    {
        require(status);
        into_->ns.push_back(static_cast<std::uint32_t>(
            std::min<std::uint64_t>(clock_() - slot.begin_ns, UINT32_MAX)));
        const std::uint64_t now = wall_ns();
        if (now - ticked_ns_ >= kSecond) {
            ticked_ns_ = now;
            store_.tick();
        }
        if (more_()) {
            submit(slot);
        } else if (--running_ == 0) {
            done_.wake_all();
        }
    }

    Store& store_;
    std::uint64_t blocks_;
    Clock clock_;
    WaitQueue done_;
    std::array<Slot, kDepth> slots_;
    std::mt19937_64 random_{1};
    std::uint64_t stamp_ = 0;
    std::uint64_t ticked_ns_ = wall_ns();
    unsigned running_ = 0;
    Latencies* into_ = nullptr;
    std::function<bool()> more_;
};

// Each block is an extent of its own: every second one is written first.
void fill(FiberTasks& tasks, Store& store, std::uint64_t volume_bytes)
{
    Stamped data;
    std::uint64_t number = 0;
    for (const std::uint64_t first : {0U, 1U}) {
        for (std::uint64_t at = first; at < volume_bytes / kBlockBytes; at += 2) {
            write_at(store, at * kBlockBytes, data.with(++number));
            if (number % 64 == 0) {
                tasks.yield();
            }
        }
    }
    require(store.checkpoint());
}

// The longest time, while `work` is done, that a task which only gives way had to wait. In time of
// the processor, and nothing else is to be done: it is one step of the work.
double longest_stop_us(FiberTasks& tasks, const std::function<void()>& work)
{
    bool ended = false;
    bool probe_ended = false;
    std::uint64_t longest = 0;
    tasks.spawn([&] {
        std::uint64_t before = cpu_ns();
        while (!ended) {
            tasks.yield();
            const std::uint64_t now = cpu_ns();
            longest = std::max(longest, now - before);
            before = now;
        }
        probe_ended = true;
    });
    tasks.yield();
    work();
    ended = true;
    while (!probe_ended) {
        tasks.yield();
    }
    return static_cast<double>(longest) / 1e3;
}

void snapshot(Store& store, unsigned number)
{
    NewSnapshot wanted;
    wanted.name = fmt::format("s{}", number);
    auto made = store.snapshot(kVolume, wanted);
    if (!made) {
        require(pass_on(made));
    }
}

class Bench {
public:
    Bench(FiberTasks& tasks, Store& store, const Settings& settings, Report& report, Clock clock)
        : tasks_(tasks),
          store_(store),
          settings_(settings),
          report_(report),
          load_(tasks, store, settings.gibibytes * kGiB, clock)
    {
    }

    void run()
    {
        fill(tasks_, store_, settings_.gibibytes * kGiB);
        without();
        with("checkpoints", false);
        with("checkpoints, a snapshot every third", true);
        if (settings_.dir.empty()) {
            stops();
        }
    }

private:
    // Between checkpoints that are not measured.
    void without()
    {
        Latencies all;
        for (unsigned i = 0; i < settings_.checkpoints; ++i) {
            require(store_.checkpoint());
            const std::uint64_t before = store_.statistics().checkpoints;
            load_.run(all, kFewWrites);
            if (store_.statistics().checkpoints != before) {
                report_.text("(a checkpoint came between)");
            }
        }
        median_us_ = all.us(0.5);
        print("no checkpoint", all);
    }

    void with(std::string_view name, bool snapshots)
    {
        Latencies all;
        const std::uint64_t before = store_.statistics().checkpoints;
        std::uint64_t snapshot_at = before + 1;
        unsigned snapshots_under_way = 0;
        WaitQueue made(tasks_);
        load_.run(all, [&] {
            const std::uint64_t now = store_.statistics().checkpoints;
            if (snapshots && now >= snapshot_at) {
                snapshot_at = now + 3;
                ++snapshots_under_way;
                tasks_.spawn([&] {
                    snapshot(store_, ++snapshots_);
                    --snapshots_under_way;
                    made.wake_all();
                });
            }
            return now < before + settings_.checkpoints;
        });
        while (snapshots_under_way != 0) {
            made.wait();
        }
        print(name, all);
        report_.row(fmt::format("{}: longest write / median without", name), all.us(1) / median_us_,
                    "times", "under 20");
    }

    void print(std::string_view name, Latencies& all)
    {
        report_.row(fmt::format("{}: writes", name), static_cast<double>(all.ns.size()), "");
        report_.row(fmt::format("{}: median", name), all.us(0.5), "us");
        report_.row(fmt::format("{}: 99 of 100", name), all.us(0.99), "us");
        report_.row(fmt::format("{}: 999 of 1000", name), all.us(0.999), "us");
        report_.row(fmt::format("{}: longest", name), all.us(1), "us");
    }

    // Much is changed with the background held back, so that the checkpoint is a large one.
    void change_much()
    {
        Latencies ignored;
        require(store_.checkpoint());
        store_.pause();
        load_.run(ignored, kManyWrites);
    }

    // The median over some times says what the work's longest step takes; the longest of all also
    // has in it what the machine was taken away for, where the machine is itself a guest.
    void stop(std::string_view name, const std::function<void()>& work, std::string_view goal)
    {
        constexpr unsigned kTimes = 5;
        std::vector<double> longest;
        for (unsigned i = 0; i < kTimes; ++i) {
            change_much();
            longest.push_back(longest_stop_us(tasks_, work));
            store_.resume();
        }
        report_.row(fmt::format("longest stop of {}, median of {}", name, kTimes),
                    median_of(longest), "us", goal);
        report_.row(fmt::format("longest stop of {}, of all", name),
                    *std::max_element(longest.begin(), longest.end()), "us");
    }

    void stops()
    {
        report_.text(fmt::format("what lets nobody else run, after {} writes:", kManyWrites));
        const auto checkpoint = [&] { require(store_.checkpoint()); };
        stop("a checkpoint", checkpoint, "under 1000");
        // A block that two have is dropped only from one: that is recorded in another tree.
        snapshot(store_, ++snapshots_);
        stop("a checkpoint after a snapshot", checkpoint, "under 1000");
        std::vector<VolumeId> old;
        for (const VolumeInfo& volume : store_.volumes()) {
            if (volume.snapshot) {
                old.push_back(volume.id);
            }
        }
        store_.pause();
        for (const VolumeId id : old) {
            require(store_.remove(id));
        }
        stop("a checkpoint that removes snapshots", checkpoint, "under 1000");
        stop(
            "a commit of as many writes", [&] { require(store_.flush(kVolume)); }, "");
    }

    FiberTasks& tasks_;
    Store& store_;
    const Settings& settings_;
    Report& report_;
    Load load_;
    double median_us_ = 1;
    unsigned snapshots_ = 0;
};

void run_on(FiberTasks& tasks, Disk& disk, const Settings& settings, Report& report, Clock clock)
{
    tasks.run([&] {
        NewImage image;
        image.volume_bytes = settings.gibibytes * kGiB;
        image.open.cache_bytes = kGiB;
        const auto store = make_store(disk, image);
        Bench(tasks, *store, settings, report, clock).run();
        require(store->close());
    });
}

}  // namespace

bool run_checkpoints(const Settings& settings, Report& report)
{
    // What is freed at the end of the heap may be given back to the kernel, tens of MiB in one
    // call. Whether the allocator does that is the program's choice; here it does not.
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
    mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that it takes
    FiberTasks tasks;
    const bool file = !settings.dir.empty();
    report.section("checkpoints",
                   fmt::format("random overwrites of 4 KiB in {} GiB, depth {}, over {} "
                               "checkpoints; {}",
                               settings.gibibytes, kDepth, settings.checkpoints,
                               file ? "a file" : "in memory, time of the processor"));
    if (file) {
        ThreadDisk disk(tasks, settings.dir + "/coppice-bench-journal.image", true);
        run_on(tasks, disk, settings, report, wall_ns);
    } else {
        StampDisk disk(tasks);
        disk.prepare(kMetadataBlocks);
        run_on(tasks, disk, settings, report, cpu_ns);
    }
    return true;
}

}  // namespace coppice::bench
