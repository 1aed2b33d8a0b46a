// What goes into the journal: bytes for an operation, whatever the size of the trees; what ten
// changes of one block leave of each other; and what a lone synchronous write costs the host.
#include <algorithm>
#include <fmt/format.h>
#include <functional>
#include <random>

#include "bench/journal/journal.h"
#include "bench/stamp_disk.h"

namespace coppice::bench {

namespace {

constexpr std::uint64_t kFewExtents = 1'000;
// Of the large volume these are written one by one; the others it has by range clones of them,
// which share the nodes below.
constexpr std::uint64_t kOwnExtents = 1'000'000;
constexpr std::uint64_t kExtentBytes = 2 * kBlockBytes;  // a block, and a hole behind it
constexpr std::uint64_t kOperations = 1'000;

void write_extents(FiberTasks& tasks, Store& store, std::uint64_t count)
{
    Stamped data;
    for (std::uint64_t i = 0; i < count; ++i) {
        write_at(store, i * kExtentBytes, data.with(i + 1));
        if (i % 64 == 0) {
            tasks.yield();
        }
    }
}

class Volume {
public:
    Volume(FiberTasks& tasks, std::uint64_t extents)
        : tasks_(tasks), disk_(tasks), extents_(extents)
    {
        NewImage image;
        image.volume_bytes = extents * kExtentBytes;
        image.journal_bytes = 64 * kMiB;
        image.open.cache_bytes = 2 * kGiB;
        image.open.late_write_blocks = 0;  // data are at their places: the journal has records only
        store_ = make_store(disk_, image);
        const std::uint64_t own = std::min(extents, kOwnExtents);
        write_extents(tasks_, *store_, own);
        const std::vector<CloneSource> sources(extents / own - 1,
                                               CloneSource{kVolume, {0, own * kExtentBytes}});
        if (!sources.empty()) {
            require(store_->clone(kVolume, own * kExtentBytes, sources));
        }
        require(store_->checkpoint());
    }
    ~Volume() { require(store_->close()); }
    Volume(const Volume&) = delete;
    Volume& operator=(const Volume&) = delete;

    // Bytes of whole journal blocks for each operation, of many that are committed together.
    double bytes_for(const std::function<void(Store&, std::uint64_t)>& operation)
    {
        require(store_->checkpoint());
        require(store_->flush(kVolume));
        const Statistics before = store_->statistics();
        for (std::uint64_t i = 0; i < kOperations; ++i) {
            operation(*store_, random_() % (extents_ - 64) * kExtentBytes);
        }
        require(store_->flush(kVolume));
        const Statistics after = store_->statistics();
        return static_cast<double>(after.journal_bytes - before.journal_bytes) /
               static_cast<double>(after.commit_operations - before.commit_operations);
    }

private:
    FiberTasks& tasks_;
    StampDisk disk_;
    std::uint64_t extents_;
    std::unique_ptr<Store> store_;
    std::mt19937_64 random_{1};
};

void measure_operations(FiberTasks& tasks, std::uint64_t extents, Report& report)
{
    const std::uint64_t begin = wall_ns();
    Volume volume(tasks, extents);
    const auto seconds = static_cast<double>(wall_ns() - begin) / 1e9;
    const std::uint64_t own = std::min(extents, kOwnExtents);
    report.text(
        fmt::format("{} extents, made in {:.0f} s: {} written, the others by {} range clones "
                    "of these, which share their nodes",
                    extents, seconds, own, extents / own - 1));
    const auto row = [&](std::string_view what,
                         const std::function<void(Store&, std::uint64_t)>& operation) {
        report.row(fmt::format("{} extents: {}", extents, what), volume.bytes_for(operation),
                   "bytes");
    };
    Stamped small;
    Stamped large(16 * kBlockBytes);
    std::uint64_t stamp = 1ULL << 40;
    row("overwrite of 4 KiB",
        [&](Store& store, std::uint64_t at) { write_at(store, at, small.with(++stamp)); });
    row("write of 64 KiB over 8 extents",
        [&](Store& store, std::uint64_t at) { write_at(store, at, large.with(++stamp)); });
    row("deallocation of 64 KiB", [&](Store& store, std::uint64_t at) {
        const Range range{at, 16 * kBlockBytes};
        require(store.deallocate(kVolume, {&range, 1}));
    });
    row("clone of 64 KiB", [&](Store& store, std::uint64_t at) {
        const CloneSource source{kVolume, {at, 16 * kBlockBytes}};
        require(store.clone(kVolume, at + 32 * kBlockBytes, {&source, 1}));
    });
}

void measure_overwrites(FiberTasks& tasks, Report& report)
{
    constexpr unsigned kTimes = 10;
    StampDisk disk(tasks);
    NewImage image;
    image.volume_bytes = kGiB;
    const auto store = make_store(disk, image);
    Stamped data;
    write_at(*store, 0, data.with(1));
    require(store->flush(kVolume));
    const Statistics before = store->statistics();
    for (unsigned i = 0; i < kTimes; ++i) {
        write_at(*store, 8 * kBlockBytes, data.with(2 + i));
    }
    require(store->flush(kVolume));
    const Statistics after = store->statistics();
    report.row("ten overwrites between two flushes: records",
               static_cast<double>(after.commit_operations - before.commit_operations), "", "1");
    report.row("ten overwrites between two flushes: blocks of data that the journal carries",
               static_cast<double>(after.journaled_blocks - before.journaled_blocks), "", "1");

    const std::uint64_t writes = disk.writes;
    const std::uint64_t bytes = disk.written_bytes;
    const std::uint64_t syncs = disk.syncs;
    write_at(*store, 0, data.with(99));
    require(store->flush(kVolume));
    report.row("a lone synchronous 4 KiB: host writes", static_cast<double>(disk.writes - writes),
               "", "1");
    report.row("a lone synchronous 4 KiB: bytes of them",
               static_cast<double>(disk.written_bytes - bytes), "bytes");
    report.row("a lone synchronous 4 KiB: host syncs", static_cast<double>(disk.syncs - syncs), "",
               "1");
    report.text("(one write to the ring: a block with the head of the commit and the record of 64");
    report.text(" bytes, then the data; one sync makes both durable. The block itself goes to its");
    report.text(" place later, with its neighbours, before the next superblock.)");
    require(store->close());
}

}  // namespace

bool run_sizes(const Settings& settings, Report& report)
{
    report.section("sizes", fmt::format("journal bytes for an operation, of {} committed together "
                                        "(whole blocks, heads included)",
                                        kOperations));
    FiberTasks tasks;
    tasks.run([&] {
        measure_operations(tasks, kFewExtents, report);
        measure_operations(tasks, settings.extents / kOwnExtents * kOwnExtents, report);
        measure_overwrites(tasks, report);
    });
    return true;
}

}  // namespace coppice::bench
