// Many writers of which each flushes every write: the store on a file, and threads that write and
// sync a file of the same file system themselves.
#include <atomic>
#include <fmt/format.h>
#include <random>

#include "bench/journal/journal.h"
#include "bench/thread_disk.h"

namespace coppice::bench {

namespace {

constexpr unsigned kWriters = 16;
constexpr std::uint64_t kBytes = 256 * kMiB;  // of the volume, and of the raw file
constexpr unsigned kRounds = 3;

struct Rate {
    double per_second = 0;
    double syncs = 0;   // of the host, for each flush
    double writes = 0;  // likewise
};

double per_second(std::uint64_t operations, std::uint64_t begin_ns)
{
    return static_cast<double>(operations) * 1e9 / static_cast<double>(wall_ns() - begin_ns);
}

// All blocks are there before: no file system has to find room for any.
Rate raw_rate(const Settings& settings)
{
    const ScratchFile file(settings.dir + "/coppice-bench-journal.raw", true);
    const auto memory = [] {
        return std::unique_ptr<void, decltype(&std::free)>(std::aligned_alloc(kBlockBytes, kMiB),
                                                           &std::free);
    };
    const auto whole = memory();
    std::memset(whole.get(), 1, kMiB);
    for (std::uint64_t at = 0; at < kBytes; at += kMiB) {
        if (::pwrite(file.descriptor(), whole.get(), kMiB, static_cast<off_t>(at)) !=
            static_cast<ssize_t>(kMiB)) {
            require(fail(ErrorCode::io, "cannot write the raw file"));
        }
    }
    ::fsync(file.descriptor());
    std::atomic<std::uint64_t> started = 0;
    std::atomic<bool> failed = false;
    const std::uint64_t begin = wall_ns();
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < kWriters; ++i) {
        threads.emplace_back([&, i] {
            std::mt19937_64 random(i);
            const auto data = memory();
            std::memset(data.get(), static_cast<int>(i + 1), kBlockBytes);
            while (started++ < settings.commits) {
                const auto at = static_cast<off_t>(random() % (kBytes / kBlockBytes) * kBlockBytes);
                if (::pwrite(file.descriptor(), data.get(), kBlockBytes, at) !=
                        static_cast<ssize_t>(kBlockBytes) ||
                    ::fdatasync(file.descriptor()) != 0) {
                    failed = true;
                }
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    if (failed) {
        require(fail(ErrorCode::io, "a write or sync of the raw file failed"));
    }
    return {per_second(settings.commits, begin), 1, 1};
}

Rate store_rate(const Settings& settings)
{
    FiberTasks tasks;
    ThreadDisk disk(tasks, settings.dir + "/coppice-bench-journal.image", true);
    Rate rate;
    tasks.run([&] {
        NewImage image;
        image.volume_bytes = kBytes;
        const auto store = make_store(disk, image);
        Stamped large(kMiB);
        for (std::uint64_t at = 0; at < kBytes; at += kMiB) {
            write_at(*store, at, large.with(at + 1));
        }
        require(store->checkpoint());
        const std::uint64_t writes = disk.writes;
        const std::uint64_t syncs = disk.syncs;
        const std::uint64_t begin = wall_ns();
        std::uint64_t started = 0;
        unsigned running = kWriters;
        WaitQueue done(tasks);
        for (unsigned i = 0; i < kWriters; ++i) {
            tasks.spawn([&, i] {
                std::mt19937_64 random(i);
                Stamped data;
                while (started++ < settings.commits) {
                    const std::uint64_t at = random() % (kBytes / kBlockBytes) * kBlockBytes;
                    write_at(*store, at, data.with(started));
                    require(store->flush(kVolume));
                }
                if (--running == 0) {
                    done.wake_all();
                }
            });
        }
        while (running != 0) {
            done.wait();
        }
        const auto flushes = static_cast<double>(settings.commits);
        rate.per_second = per_second(settings.commits, begin);
        rate.syncs = static_cast<double>(disk.syncs - syncs) / flushes;
        rate.writes = static_cast<double>(disk.writes - writes) / flushes;
        require(store->close());
    });
    return rate;
}

}  // namespace

bool run_group(const Settings& settings, Report& report)
{
    report.section("group", fmt::format("{} writers, each write of 4 KiB with a flush of its own; "
                                        "past the page cache where the file system has that",
                                        kWriters));
    if (settings.dir.empty()) {
        report.text("left out: needs --dir");
        return true;
    }
    std::vector<double> raw;
    std::vector<double> store;
    Rate last;
    for (unsigned i = 0; i < kRounds; ++i) {  // in turns
        raw.push_back(raw_rate(settings).per_second);
        last = store_rate(settings);
        store.push_back(last.per_second);
    }
    report.row("threads with pwrite and fdatasync", median_of(raw), "/s");
    report.row("the store", median_of(store), "/s");
    report.row("the store / threads", median_of(store) / median_of(raw), "times", "1.5");
    report.row("host syncs for each flush", last.syncs, "");
    report.row("host writes for each flush", last.writes, "");
    return true;
}

}  // namespace coppice::bench
