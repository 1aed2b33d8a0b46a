// Blocks that are written and cancelled at once, over and over, at the full rate: nothing may pile
// up behind it. The ring's tail goes on, what is used of the ring and what waits to be free stay
// bounded, and so does the image; and no write of new blocks waits for a journal write.
//
// In virtual time on a simulated disk (100 us for a request, 200 MB/s); each command takes 10 us.
#include <algorithm>
#include <fmt/format.h>
#include <functional>
#include <map>
#include <memory>
#include <random>

#include "bench/journal/journal.h"
#include "bench/stamp_disk.h"
#include "bench/thread_disk.h"
#include "format/layout/layout.h"

namespace coppice::bench {

namespace {

constexpr std::uint64_t kVolumeBytes = kGiB;
constexpr std::uint64_t kPlaces = 65'536;  // blocks that the churn is at
constexpr std::uint64_t kCommandNs = 10'000;
constexpr unsigned kFlushEvery = 2'000;
constexpr unsigned kStepSeconds = 5;

// Where replay would begin.
struct Tail {
    std::uint64_t commit = 0;
    std::uint64_t position = 0;
};

Tail tail_of(Disk& disk)
{
    std::uint64_t newest = 0;
    Tail tail;
    for (const std::uint64_t slot : {1U, 2U}) {
        auto superblock = std::make_unique<layout::Superblock>();
        static_assert(sizeof(layout::Superblock) == kBlockBytes);
        const std::unique_ptr<void, decltype(&std::free)> memory(
            std::aligned_alloc(kBlockBytes, kBlockBytes), &std::free);
        require(
            disk.read(slot * kBlockBytes, {static_cast<std::byte*>(memory.get()), kBlockBytes}));
        std::memcpy(static_cast<void*>(superblock.get()), memory.get(), kBlockBytes);
        if (superblock->magic == layout::kSuperblockMagic && superblock->generation >= newest) {
            newest = superblock->generation;
            tail = {superblock->journal_commit, superblock->journal_position};
        }
    }
    return tail;
}

struct Sample {
    Tail tail;
    std::uint64_t used = 0;
    std::uint64_t ring = 0;
    std::uint64_t pending = 0;
    std::uint64_t image = 0;
};

class Churn {
public:
    Churn(FiberTasks& tasks, Disk& disk, Store& store, bool real)
        : tasks_(tasks), disk_(disk), store_(store), real_(real)
    {
    }

    // Writes, and cancels by deallocation or by a write over it.
    void run_for(std::uint64_t duration_ns)
    {
        const std::uint64_t end = tasks_.now_ns() + duration_ns;
        while (tasks_.now_ns() < end) {
            const std::uint64_t at = random_() % kPlaces * kBlockBytes;
            write_at(store_, at, data_.with(++stamp_));
            command_done();
            if (random_() % 2 == 0) {
                const Range range{at, kBlockBytes};
                require(store_.deallocate(kVolume, {&range, 1}));
            } else {
                write_at(store_, at, data_.with(++stamp_));
            }
            command_done();
        }
    }

    Sample sample()
    {
        const ImageInfo info = store_.info();
        return {tail_of(disk_), info.journal_used_bytes / kBlockBytes,
                info.journal_bytes / kBlockBytes, info.space.pending_free_bytes,
                info.space.image_bytes};
    }

    std::uint64_t commands() const { return commands_; }

private:
    void command_done()
    {
        if (++commands_ % kFlushEvery == 0) {
            require(store_.flush(kVolume));
        }
        if (tasks_.now_ns() - ticked_ns_ >= kSecond) {
            ticked_ns_ = tasks_.now_ns();
            store_.tick();
        }
        if (!real_) {
            tasks_.sleep_until(tasks_.now_ns() + kCommandNs);
        } else if (commands_ % 32 == 0) {
            tasks_.yield();
        }
    }

    FiberTasks& tasks_;
    Disk& disk_;
    Store& store_;
    bool real_;
    std::mt19937_64 random_{1};
    Stamped data_;
    std::uint64_t stamp_ = 0;
    std::uint64_t commands_ = 0;
    std::uint64_t ticked_ns_ = 0;
};

// What must not be: a tail that stands still, and something that grows and grows.
bool judge(const std::vector<Sample>& samples, Report& report)
{
    // A checkpoint begins at half a ring, or when 256 MiB wait to be free; while it is under way as
    // much may come again.
    constexpr std::uint64_t kMostPending = 512 * kMiB;
    bool well = true;
    const auto must = [&](bool holds, std::string_view what) {
        if (!holds) {
            fmt::print(stderr, "coppice-bench-journal: churn: {}\n", what);
        }
        well = well && holds;
    };
    std::uint64_t early = 0;  // of the first third
    for (std::size_t i = 0; i < samples.size(); ++i) {
        const Sample& now = samples[i];
        must(i == 0 || now.tail.commit > samples[i - 1].tail.commit, "the ring's tail stood still");
        must(now.used * 10 < now.ring * 9, "the ring is nearly full");
        must(now.pending < kMostPending, "more and more space waits to be free");
        if (i <= samples.size() / 3) {
            early = std::max(early, now.image);
        }
        must(now.image <= early + 128 * kMiB, "the image grows and grows");
    }
    report.row("the tail moved, and all stayed bounded", well ? 1 : 0, "", "1");
    return well;
}

bool churn(FiberTasks& tasks, Disk& disk, const Settings& settings, Report& report)
{
    bool well = false;
    tasks.run([&] {
        NewImage image;
        image.volume_bytes = kVolumeBytes;
        const auto store = make_store(disk, image);
        Churn churn(tasks, disk, *store, settings.real);
        std::vector<Sample> samples;
        report.text(fmt::format("{:>4} {:>11} {:>11} {:>14} {:>11} {:>12} {:>10}", "s", "commands",
                                "tail commit", "tail position", "ring used", "pending MiB",
                                "image MiB"));
        for (unsigned at = kStepSeconds; at <= settings.seconds; at += kStepSeconds) {
            churn.run_for(kStepSeconds * kSecond);
            samples.push_back(churn.sample());
            const Sample& now = samples.back();
            report.text(fmt::format("{:>4} {:>11} {:>11} {:>14} {:>4} of {:>4} {:>12} {:>10}", at,
                                    churn.commands(), now.tail.commit, now.tail.position, now.used,
                                    now.ring, now.pending / kMiB, now.image / kMiB));
        }
        well = judge(samples, report);
        require(store->close());
    });
    return well;
}

// ---- New blocks and the journal -------------------------------------------------------------

// From the disk's log: a host write that ended between a command and the host write of the
// command's data was waited for, unless the command was at another request of its own (the file
// made longer) when it ended. Every write is to new blocks; with late writes off each goes to the
// host at once, with as much in the journal before it as there can be.
struct Waited {
    std::uint64_t commands = 0;
    std::uint64_t writes = 0;
    std::uint64_t others = 0;  // the file made longer, metadata made present
};

Waited count_waited(unsigned seconds)
{
    FiberTasks tasks({.virtual_time = true});
    StampDisk disk(tasks);
    Waited waited;
    tasks.run([&] {
        NewImage image;
        image.volume_bytes = kVolumeBytes;
        image.open.late_write_blocks = 0;
        const auto store = make_store(disk, image);
        constexpr std::uint64_t kLatencyNs = 100'000;
        // A command that only gave way, and waited for nothing.
        constexpr std::uint64_t kTurnsNs = 10'000;
        disk.set_speed({kLatencyNs, 0.2});
        struct Ended {
            std::uint64_t begin_ns;
            std::uint64_t end_ns;
            bool write;
        };
        std::vector<Ended> log;
        std::uint64_t stamp = 0;
        std::uint64_t begin_ns = 0;  // of the command
        bool armed = false;
        disk.set_log([&](const IoRequest& request, std::uint64_t end_ns) {
            const bool write = request.kind == IoRequest::Kind::write;
            std::uint64_t first = 0;
            if (armed && write) {
                std::memcpy(&first, request.buffers[0].iov_base, sizeof(first));
            }
            if (!armed || first != stamp) {
                log.push_back({tasks.now_ns(), end_ns, write});
                return;
            }
            armed = false;
            if (tasks.now_ns() - begin_ns < kTurnsNs) {
                return;
            }
            std::erase_if(log, [&](const Ended& ended) {
                return ended.end_ns <= begin_ns || ended.end_ns > tasks.now_ns();
            });
            for (const Ended& ended : log) {
                const bool beside = std::any_of(log.begin(), log.end(), [&](const Ended& other) {
                    return !other.write && other.begin_ns < ended.end_ns &&
                           ended.end_ns < other.end_ns;
                });
                waited.writes += ended.write && !beside ? 1 : 0;
                waited.others += ended.write ? 0 : 1;
            }
        });
        Stamped data;
        std::mt19937_64 random(1);
        // The first one after an open ends the recovery in the journal, which is no matter of
        // blocks.
        write_at(*store, 0, data.with(1));
        const std::uint64_t end = tasks.now_ns() + seconds * kSecond;
        std::uint64_t ticked_ns = 0;
        while (tasks.now_ns() < end) {
            const std::uint64_t at = random() % kPlaces * kBlockBytes;
            stamp = ++waited.commands << 20;  // no other block begins so
            begin_ns = tasks.now_ns();
            std::erase_if(log, [&](const Ended& ended) { return ended.end_ns <= begin_ns; });
            armed = true;
            write_at(*store, at, data.with(stamp));
            if (armed) {
                require(fail(ErrorCode::io, "a write did not reach the disk"));
            }
            const Range range{at, kBlockBytes};
            require(store->deallocate(kVolume, {&range, 1}));
            if (waited.commands % 64 == 0) {
                require(store->flush(kVolume));
            }
            if (tasks.now_ns() - ticked_ns >= kSecond) {
                ticked_ns = tasks.now_ns();
                store->tick();
            }
        }
        require(store->close());
    });
    return waited;
}

}  // namespace

bool run_churn(const Settings& settings, Report& report)
{
    report.section("churn",
                   fmt::format("blocks written and cancelled for {} seconds, {}", settings.seconds,
                               settings.real ? "in real time" : "in virtual time"));
    FiberTasks tasks({.virtual_time = !settings.real});
    bool well = false;
    if (settings.real && !settings.dir.empty()) {
        ThreadDisk disk(tasks, settings.dir + "/coppice-bench-journal.image", true);
        well = churn(tasks, disk, settings, report);
    } else {
        StampDisk disk(tasks);
        if (!settings.real) {
            disk.set_speed({100'000, 0.2});
        }
        well = churn(tasks, disk, settings, report);
    }
    const Waited waited = count_waited(std::min(settings.seconds, 20U));
    report.row("writes of new blocks looked at", static_cast<double>(waited.commands), "");
    report.row("host writes waited for before their data", static_cast<double>(waited.writes), "",
               "0");
    report.row("other host requests waited for (the file made longer)",
               static_cast<double>(waited.others), "");
    if (waited.writes != 0) {
        fmt::print(stderr, "coppice-bench-journal: churn: a new block's write waited for others\n");
    }
    return well && waited.writes == 0;
}

}  // namespace coppice::bench
