// How long it takes to open an image after a crash, with as many operations behind the superblock
// as the journal holds.
//
// Each image is made by the store itself: some extents and a checkpoint, then 4 KiB writes at
// random places with background work paused, so that no checkpoint begins at half a ring as it
// otherwise does, and the store is dropped as a crash drops it. Data repeat a stamp, so that 4 GB
// of them take no memory; they are read and verified like any.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <ctime>
#include <fmt/format.h>
#include <random>
#include <tsl/robin_map.h>

#include "bench/stamp_disk.h"
#include "format/volume/store.h"

using namespace coppice;
using namespace coppice::bench;

namespace {

constexpr std::uint64_t kGiB = 1ULL << 30;
constexpr std::uint64_t kJournalBytes = 64ULL << 20;
// What may lie unverified behind the last sync: 256 MiB.
constexpr std::uint64_t kTailOperations = 65536;

struct Case {
    std::uint64_t volume_bytes;
    std::uint64_t extents_before;
    bool tail;  // else everything is synced
};

struct Timed {
    Case image;
    const char* disk;
    double open_ms = 0;
    double cpu_ms = 0;  // what the open took of a processor: says more where others run beside it
    ImageInfo info;
    std::uint64_t reads = 0;
    std::uint64_t read_bytes = 0;
};

void require(const Status& status)
{
    if (!status) {
        fmt::print(stderr, "coppice-bench-recovery: {}\n", status.error().text);
        std::exit(1);
    }
}

double cpu_ms()
{
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

class Image {
public:
    Image(FiberTasks& tasks, const Case& image) : tasks_(tasks), disk_(tasks), image_(image) {}

    void make(std::uint64_t operations)
    {
        CreateOptions create;
        create.uuid = random_uuid();
        create.volume_bytes = image_.volume_bytes;
        create.journal_bytes = kJournalBytes;
        require(Store::create(disk_, create));
        auto store = open({.cache_bytes = kGiB});
        write(*store, image_.extents_before);
        require(store->checkpoint());
        store->pause();
        const std::uint64_t behind = image_.tail ? kTailOperations : 1;
        write(*store, operations - std::min(behind, operations));
        require(store->flush(VolumeId(1)));
        write(*store, std::min(behind, operations));
        require(store->flush(VolumeId(1)));
        store->abandon();
    }

    // Writes with background work as it comes, and returns the most operations that were behind
    // the superblock at a time.
    std::uint64_t most_behind(std::uint64_t operations, const DiskSpeed& speed)
    {
        constexpr unsigned kDepth = 64;
        CreateOptions create;
        create.uuid = random_uuid();
        create.volume_bytes = image_.volume_bytes;
        create.journal_bytes = kJournalBytes;
        require(Store::create(disk_, create));
        auto store = open({});
        write(*store, image_.extents_before);
        require(store->checkpoint());
        disk_.set_speed(speed);
        std::uint64_t most = 0;
        std::uint64_t started = 0;
        unsigned running = kDepth;
        WaitQueue done(tasks_);
        for (unsigned i = 0; i < kDepth; ++i) {
            tasks_.spawn([&] {
                while (started < operations) {
                    const std::uint64_t number = ++started;
                    write(*store, 1);
                    if (number % 1000 == 0) {
                        require(store->flush(VolumeId(1)));
                        const ImageInfo info = store->info();
                        most = std::max(most, info.sequence - info.durable_sequence);
                    }
                }
                if (--running == 0) {
                    done.wake_all();
                }
            });
        }
        while (running != 0) {
            done.wait();
        }
        disk_.set_speed({});
        require(store->close());
        return most;
    }

    // Opens it as after a crash, and looks whether it holds what was written.
    Timed open_timed(const char* name, const DiskSpeed& speed)
    {
        Timed timed{image_, name, 0, 0, {}, 0, 0};
        disk_.set_speed(speed);
        disk_.reads = disk_.read_bytes = 0;
        const double cpu_begin_ms = cpu_ms();
        const auto begin = std::chrono::steady_clock::now();
        auto store = open({});
        const std::chrono::duration<double, std::milli> time =
            std::chrono::steady_clock::now() - begin;
        timed.open_ms = time.count();
        timed.cpu_ms = cpu_ms() - cpu_begin_ms;
        timed.reads = disk_.reads;
        timed.read_bytes = disk_.read_bytes;
        timed.info = store->info();
        disk_.set_speed({});
        look(*store);
        store->abandon();
        return timed;
    }

private:
    std::unique_ptr<Store> open(const OpenOptions& options)
    {
        auto opened = Store::open(disk_, options);
        if (!opened) {
            require(pass_on(opened));
        }
        return std::move(*opened);
    }

    void write(Store& store, std::uint64_t operations)
    {
        std::array<std::uint64_t, kBlockBytes / 8> words;
        const iovec buffer{words.data(), kBlockBytes};
        for (std::uint64_t i = 0; i < operations; ++i) {
            const std::uint64_t lba = random_() % (image_.volume_bytes / kBlockBytes);
            const std::uint64_t stamp = ++stamp_;
            words.fill(stamp);
            require(store.write(VolumeId(1), lba * kBlockBytes, {&buffer, 1}, false));
            written_[lba] = stamp;
            if (i % 64 == 63) {
                tasks_.yield();
            }
        }
    }

    void look(Store& store) const
    {
        std::array<std::uint64_t, kBlockBytes / 8> words{};
        const iovec buffer{words.data(), kBlockBytes};
        std::size_t skip = 0;
        for (const auto& [lba, stamp] : written_) {
            if (skip++ % 1000 != 0) {
                continue;
            }
            require(store.read(VolumeId(1), lba * kBlockBytes, {&buffer, 1}));
            if (words.front() != stamp || words.back() != stamp) {
                fmt::print(stderr, "coppice-bench-recovery: lba {} is wrong after the open\n", lba);
                std::exit(1);
            }
        }
    }

    FiberTasks& tasks_;
    StampDisk disk_;
    Case image_;
    std::mt19937_64 random_{1};
    std::uint64_t stamp_ = 0;
    tsl::robin_map<std::uint64_t, std::uint64_t> written_;
};

std::string size_name(std::uint64_t bytes)
{
    return bytes >= 1024 * kGiB ? fmt::format("{} TiB", bytes / kGiB / 1024)
                                : fmt::format("{} GiB", bytes / kGiB);
}

double ms(std::uint64_t ns) { return static_cast<double>(ns) / 1e6; }

void print_row(const Timed& timed)
{
    const RecoveryWork& work = timed.info.recovery;
    fmt::print(
        "{:>7} {:>9} {:<8} {:<7} {:>10} {:>8.0f} {:>7.0f} {:>7.0f} {:>7.0f} {:>7.0f} {:>9} {:>8} "
        "{:>8}\n",
        size_name(timed.image.volume_bytes), timed.image.extents_before,
        timed.image.tail ? "tail" : "synced", timed.disk, timed.info.replayed_operations,
        timed.open_ms, timed.cpu_ms, ms(work.scan_ns), ms(work.verify_ns), ms(work.replay_ns),
        work.verified_blocks, timed.reads, timed.read_bytes >> 20);
}

std::string json_of(const Timed& timed)
{
    const RecoveryWork& work = timed.info.recovery;
    return fmt::format(
        "{{\"volume_bytes\": {}, \"extents_before\": {}, \"journal\": \"{}\", \"disk\": \"{}\", "
        "\"operations\": {}, \"open_ms\": {:.1f}, \"cpu_ms\": {:.1f}, \"scan_ms\": {:.1f}, "
        "\"verify_ms\": {:.1f}, "
        "\"replay_ms\": {:.1f}, \"verified_blocks\": {}, \"reads\": {}, \"read_bytes\": {}}}",
        timed.image.volume_bytes, timed.image.extents_before, timed.image.tail ? "tail" : "synced",
        timed.disk, timed.info.replayed_operations, timed.open_ms, timed.cpu_ms, ms(work.scan_ns),
        ms(work.verify_ns), ms(work.replay_ns), work.verified_blocks, timed.reads,
        timed.read_bytes);
}

std::vector<Timed> measure(FiberTasks& tasks, const Case& image, std::uint64_t operations,
                           const DiskSpeed& ssd)
{
    std::vector<Timed> rows;
    tasks.run([&] {
        Image made(tasks, image);
        made.make(operations);
        rows.push_back(made.open_timed("memory", {}));
        rows.push_back(made.open_timed("ssd", ssd));
    });
    return rows;
}

void measure_most_behind(FiberTasks& tasks, std::span<const std::uint64_t> gibibytes,
                         std::span<const std::uint64_t> before, std::uint64_t operations,
                         const DiskSpeed& ssd)
{
    fmt::print("most operations behind the superblock, 64 writes at a time, checkpoints as they "
               "come\n\n{:>7} {:>9} {:>10}\n",
               "volume", "extents", "operations");
    for (const std::uint64_t size : gibibytes) {
        for (const std::uint64_t extents : before) {
            tasks.run([&] {
                Image image(tasks, {size * kGiB, extents, false});
                fmt::print("{:>7} {:>9} {:>10}\n", size_name(size * kGiB), extents,
                           image.most_behind(operations, ssd));
            });
        }
    }
}

}  // namespace

int main(int argc, char** argv)
{
    CLI::App app{"Time to open an image after a crash"};
    std::uint64_t operations = 1'000'000;
    std::uint64_t latency_us = 100;
    double gigabytes = 2;
    std::vector<std::uint64_t> gibibytes{10, 1024, 50 * 1024};
    std::vector<std::uint64_t> before{1000, 1'000'000};
    bool json = false;
    bool normal = false;
    app.add_option("--operations", operations, "4 KiB writes behind the superblock")
        ->capture_default_str();
    app.add_option("--size", gibibytes, "sizes of the volume in GiB")->capture_default_str();
    app.add_option("--before", before, "extents in the volume before")->capture_default_str();
    app.add_option("--latency", latency_us, "of a read in the rows 'ssd', in microseconds")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--bandwidth", gigabytes, "in the rows 'ssd', in GB/s")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_flag("--most-behind", normal,
                 "instead: how many operations are behind the superblock in normal work");
    app.add_flag("--json", json, "one line of JSON for each row, and no table");
    CLI11_PARSE(app, argc, argv);
    std::setvbuf(stdout, nullptr, _IOLBF, 0);

    FiberTasks tasks;
    const DiskSpeed ssd{latency_us * 1000, gigabytes};
    if (normal) {
        measure_most_behind(tasks, gibibytes, before, operations, ssd);
        return 0;
    }
    if (!json) {
        fmt::print(
            "{:>7} {:>9} {:<8} {:<7} {:>10} {:>8} {:>7} {:>7} {:>7} {:>7} {:>9} {:>8} {:>8}\n",
            "volume", "extents", "journal", "disk", "operations", "open ms", "cpu ms", "scan",
            "verify", "replay", "verified", "reads", "MiB read");
    }
    for (const std::uint64_t size : gibibytes) {
        for (const std::uint64_t extents : before) {
            for (const bool tail : {false, true}) {
                for (const Timed& row :
                     measure(tasks, {size * kGiB, extents, tail}, operations, ssd)) {
                    if (json) {
                        fmt::print("{}\n", json_of(row));
                    } else {
                        print_row(row);
                    }
                }
            }
        }
    }
    return 0;
}
