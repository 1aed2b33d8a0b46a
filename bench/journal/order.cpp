// False order: 150 MB are submitted by one who does not wait for them, then somebody else writes
// two small blocks and syncs. With one order for all the sync waits for everything; with streams
// for what is its own.
#include <fmt/format.h>

#include "bench/journal/journal.h"
#include "bench/stamp_disk.h"
#include "bench/thread_disk.h"

namespace coppice::bench {

namespace {

constexpr std::uint64_t kLarge = 1'000'000 / kBlockBytes * kBlockBytes;
constexpr unsigned kCount = 150;
constexpr unsigned kRounds = 5;

Operation flush_of(StreamId stream)
{
    return {.kind = Operation::Kind::flush, .volume = kVolume, .stream = stream};
}

// Milliseconds until the sync is answered, by the clock of the tasks. Where there is one order for
// all, whoever needs it waits for the answers to what came before: no disk orders commands that are
// under way.
double time_to_sync(FiberTasks& tasks, Store& store, bool streams)
{
    StreamId bulk;
    StreamId small;
    if (streams) {
        bulk = *store.open_stream(kVolume);
        small = *store.open_stream(kVolume);
    }
    Stamped data(kLarge);
    const iovec large = data.with(1);
    const iovec little{large.iov_base, kBlockBytes};
    unsigned answered = 0;
    WaitQueue answers(tasks);
    const auto all_answered = [&] {
        while (answered < kCount) {
            answers.wait();
        }
    };
    const std::uint64_t begin = tasks.now_ns();
    for (unsigned i = 0; i < kCount; ++i) {
        store.submit(write_of(i * kLarge, large, bulk), [&](const Status& done) {
            require(done);
            ++answered;
            answers.wake_all();
        });
    }
    tasks.yield();
    if (!streams) {
        all_answered();
    }
    require(store.perform(write_of(200 * kMiB, little, small)));
    require(store.perform(write_of(201 * kMiB, little, small)));
    require(store.perform(flush_of(small)));
    const std::uint64_t took = tasks.now_ns() - begin;
    all_answered();
    require(store.flush(kVolume));
    if (streams) {
        require(store.close_stream(kVolume, bulk));
        require(store.close_stream(kVolume, small));
    }
    return static_cast<double>(took) / 1e6;
}

void measure(FiberTasks& tasks, Disk& disk, std::string_view name, unsigned rounds,
             const std::function<void()>& begin, Report& report)
{
    tasks.run([&] {
        NewImage image;
        image.volume_bytes = 256 * kMiB;
        const auto store = make_store(disk, image);
        begin();
        std::vector<double> together;
        std::vector<double> apart;
        for (unsigned i = 0; i < rounds; ++i) {
            together.push_back(time_to_sync(tasks, *store, false));
            apart.push_back(time_to_sync(tasks, *store, true));
            require(store->checkpoint());
        }
        report.row(fmt::format("{}: one order for all", name), median_of(together), "ms");
        report.row(fmt::format("{}: streams", name), median_of(apart), "ms");
        require(store->close());
    });
}

}  // namespace

bool run_order(const Settings& settings, Report& report)
{
    report.section("order", "150 MB in one stream, two writes of 4 KiB and a sync in another");
    {
        FiberTasks tasks({.virtual_time = true});
        StampDisk disk(tasks);
        constexpr double kBytesPerNs = 0.075;
        measure(
            tasks, disk, "75 MB/s, virtual time", 1,
            [&] {
                disk.set_speed({0, kBytesPerNs});
            },
            report);
    }
    if (settings.dir.empty()) {
        report.text("a real file is left out: needs --dir");
        return true;
    }
    FiberTasks tasks;
    ThreadDisk disk(tasks, settings.dir + "/coppice-bench-journal.image", true);
    const char* name = disk.direct() ? "a file, past the page cache" : "a file, in the page cache";
    measure(
        tasks, disk, name, kRounds, [] {}, report);
    return true;
}

}  // namespace coppice::bench
