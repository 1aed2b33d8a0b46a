// Long work gives way: sorting, a checkpoint, a commit of much that is pending, and what a
// checkpoint freed, which comes back in parts.
#include "format/tests/slow_disk_store.h"

#include <algorithm>
#include <random>

#include "format/base/long_list.h"
#include "format/disk/pace.h"

using namespace coppice;

namespace {

constexpr VolumeId kVolume(1);
constexpr std::uint64_t kMillisecond = 1'000'000;

// How often somebody else had a turn while `work` was done.
std::uint64_t turns_beside(FiberTasks& tasks, const std::function<void()>& work)
{
    bool ended = false;
    std::uint64_t turns = 0;
    tasks.spawn([&] {
        while (!ended) {
            tasks.yield();
            ++turns;
        }
        ended = false;
    });
    tasks.yield();
    turns = 0;
    work();
    const std::uint64_t seen = turns;
    ended = true;
    while (ended) {
        tasks.yield();
    }
    return seen;
}

// Every second block, so that none continues another, in an order that mixes all groups of nodes.
void overwrite(SlowDiskStore& bench, std::uint64_t blocks)
{
    for (std::uint64_t i = 0; i < blocks; ++i) {
        const std::uint64_t place = i * 7919 % blocks;
        bench.write(kVolume, place * 2 * kBlockBytes, kBlockBytes,
                    static_cast<std::uint8_t>(i % 250 + 1));
    }
}

}  // namespace

TEST_CASE("sorting in steps sorts, and others have their turns")
{
    FiberTasks tasks;
    std::mt19937_64 random(1);
    for (const std::size_t count : {0U, 1U, 2U, 511U, 512U, 513U, 1024U, 1500U, 50'000U}) {
        std::vector<std::uint64_t> items(count);
        for (std::uint64_t& item : items) {
            item = random() % (count + 1);  // some are the same
        }
        std::vector<std::uint64_t> sorted = items;
        std::sort(sorted.begin(), sorted.end());
        std::uint64_t turns = 0;
        tasks.run([&] {
            Pace pace(tasks);
            turns = turns_beside(tasks, [&] { sort_in_steps(pace, items, std::less<>()); });
        });
        CHECK(items == sorted);
        CHECK((count < 50'000 || turns >= 50));
    }
}

TEST_CASE("a long list gives back what was put in, from both ends")
{
    LongList<std::uint64_t> list;
    CHECK(list.take().empty());
    constexpr std::uint64_t kCount = 2'000;
    for (std::uint64_t i = 0; i < kCount; ++i) {
        list.push_back(i);
    }
    CHECK(list.size() == kCount);
    std::uint64_t last = kCount;
    while (last > 900) {
        REQUIRE(list.take_last() == --last);
    }
    list.push_back(last++);
    std::uint64_t next = 0;
    while (!list.empty()) {
        const std::size_t before = list.size();
        const std::vector<std::uint64_t> part = list.take();
        REQUIRE_FALSE(part.empty());
        REQUIRE(list.size() == before - part.size());
        for (const std::uint64_t item : part) {
            REQUIRE(item == next++);
        }
    }
    CHECK(next == last);
}

TEST_CASE("others have their turns within a checkpoint")
{
    constexpr std::uint64_t kBlocks = 20'000;
    SlowDiskStore bench;
    bench.run([&] {
        bench.create(256 * kMiB);
        overwrite(bench, kBlocks);
        REQUIRE(bench.store->checkpoint());
        // Blocks dropped and free again, each with its node.
        bench.store->pause();
        overwrite(bench, kBlocks);
        const auto checkpoint = [&] { REQUIRE(bench.store->checkpoint()); };
        CHECK(turns_beside(bench.tasks, checkpoint) > 100);
        // Blocks that a snapshot has: each is recorded as dead.
        NewSnapshot wanted;
        wanted.name = "before";
        const auto snapshot = bench.store->snapshot(kVolume, wanted);
        REQUIRE(snapshot);
        overwrite(bench, kBlocks);
        CHECK(turns_beside(bench.tasks, checkpoint) > 300);
        // ... and taken out again.
        REQUIRE(bench.store->remove(*snapshot));
        CHECK(turns_beside(bench.tasks, checkpoint) > 300);
        bench.store->resume();
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("all that is pending is committed in parts, and others have their turns between")
{
    constexpr std::uint64_t kBlocks = 5'000;
    SlowDiskStore bench;
    bench.run([&] {
        bench.create(64 * kMiB);
        bench.store->pause();
        overwrite(bench, kBlocks);
        const Statistics before = bench.store->statistics();
        CHECK(turns_beside(bench.tasks, [&] { REQUIRE(bench.store->flush(kVolume)); }) >= 9);
        const Statistics after = bench.store->statistics();
        CHECK(after.commits - before.commits == 10);
        CHECK(after.commit_operations - before.commit_operations == kBlocks);
        CHECK(after.syncs - before.syncs == 1);
        bench.store->abandon();
        bench.open();
        CHECK(bench.store->info().replayed_operations >= kBlocks);
        CHECK(bench.holds(kVolume, 0, kBlockBytes, 1));
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("what was freed under a reader comes back when it has ended, also when nothing follows")
{
    constexpr std::uint64_t kBlocks = 3'000;
    SlowDiskStore bench;
    bench.run([&] {
        OpenOptions options;
        options.punch = false;
        bench.create(64 * kMiB, options);
        overwrite(bench, kBlocks);
        REQUIRE(bench.store->checkpoint());
        bool read = false;
        bench.tasks.spawn([&] {
            bench.read(kVolume, 0, kBlockBytes);
            read = true;
        });
        bench.delay = [](const IoRequest& request) -> std::uint64_t {
            return request.kind == IoRequest::Kind::read ? 100 * kMillisecond : 0;
        };
        bench.tasks.yield();
        bench.delay = nullptr;
        overwrite(bench, kBlocks);
        REQUIRE(bench.store->checkpoint());
        CHECK_FALSE(read);
        CHECK(bench.store->info().space.pending_free_bytes >= kBlocks * kBlockBytes);
        while (!read) {
            bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
        }
        bench.store->tick();
        bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
        CHECK(bench.store->info().space.pending_free_bytes == 0);
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}
