// What the journal costs, and who waits for whom, on a disk in virtual time.
#include "slow_disk_store.h"

#include <fmt/format.h>
#include <map>

#include "format/layout/layout.h"

using namespace coppice;

namespace {

constexpr VolumeId kVolume{1};
constexpr std::uint64_t kMillisecond = 1'000'000;

// Counts the requests that reach the host.
struct Counted {
    std::map<IoRequest::Kind, std::uint64_t> requests;
    std::uint64_t written_bytes = 0;

    explicit Counted(SlowDiskStore& bench)
    {
        bench.fault = [this](const IoRequest& request) {
            ++requests[request.kind];
            written_bytes += request.kind == IoRequest::Kind::write ? request.length_bytes : 0;
            return 0;
        };
    }
    std::uint64_t writes() { return requests[IoRequest::Kind::write]; }
    std::uint64_t syncs() { return requests[IoRequest::Kind::sync]; }
};

// A disk that does one request after the other, 75 MB in a second.
void make_slow(SlowDiskStore& bench, std::uint64_t& busy_until)
{
    bench.delay = [&](const IoRequest& request) -> std::uint64_t {
        const std::uint64_t now = bench.tasks.now_ns();
        busy_until = std::max(busy_until, now) + request.length_bytes * 1000 / 75;
        return busy_until - now;
    };
}

Operation write_of(StreamId stream, std::uint64_t offset, const iovec& buffer)
{
    Operation operation;
    operation.kind = Operation::Kind::write;
    operation.volume = kVolume;
    operation.stream = stream;
    operation.offset_bytes = offset;
    operation.buffers = {&buffer, 1};
    return operation;
}

Operation flush_of(StreamId stream)
{
    Operation operation;
    operation.kind = Operation::Kind::flush;
    operation.volume = kVolume;
    operation.stream = stream;
    return operation;
}

// 150 MB are submitted in one stream; two small writes and a sync follow in another. Returns the
// nanoseconds until the sync is answered. Where there is one order for all, whoever needs it waits
// for the answers to what came before: no disk orders commands that are under way.
std::uint64_t time_to_sync(bool streams)
{
    constexpr std::uint64_t kLarge = 1'000'000 / kBlockBytes * kBlockBytes;
    constexpr unsigned kCount = 150;
    SlowDiskStore bench;
    std::uint64_t busy_until = 0;
    std::uint64_t took = 0;
    bench.run([&] {
        bench.create(256 * kMiB);
        StreamId bulk;
        StreamId small;
        if (streams) {
            bulk = *bench.store->open_stream(kVolume);
            small = *bench.store->open_stream(kVolume);
        }
        make_slow(bench, busy_until);
        Bytes bytes(kLarge, 1);
        const iovec large{bytes.data(), bytes.size()};
        const iovec little{bytes.data(), kBlockBytes};
        unsigned answered = 0;
        const std::uint64_t begin = bench.tasks.now_ns();
        for (unsigned i = 0; i < kCount; ++i) {
            bench.store->submit(write_of(bulk, i * kLarge, large),
                                [&](const Status& done) { answered += done ? 1U : 0U; });
        }
        bench.tasks.yield();
        const auto all_answered = [&] {
            while (answered < kCount) {
                bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
            }
        };
        if (!streams) {
            all_answered();
        }
        REQUIRE(bench.store->perform(write_of(small, 200 * kMiB, little)));
        REQUIRE(bench.store->perform(write_of(small, 201 * kMiB, little)));
        REQUIRE(bench.store->perform(flush_of(small)));
        took = bench.tasks.now_ns() - begin;
        all_answered();
        bench.delay = nullptr;
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
    return took;
}

}  // namespace

TEST_CASE("a lone synchronous write of 4 KiB is one host write and one sync")
{
    SlowDiskStore bench;
    bench.run([&] {
        bench.create(kMiB);
        bench.write(kVolume, 0, kBlockBytes, 1);  // the first makes blocks present
        REQUIRE(bench.store->flush(kVolume));
        Counted counted(bench);
        bench.write(kVolume, 0, kBlockBytes, 2);
        REQUIRE(bench.store->flush(kVolume));
        CHECK(counted.writes() == 1);
        CHECK(counted.written_bytes == 2 * kBlockBytes);  // its commit, which carries the data
        CHECK(counted.syncs() == 1);
        bench.fault = nullptr;
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("ten overwrites between two flushes are one record, and their data are written once")
{
    SlowDiskStore bench;
    bench.run([&] {
        bench.create(kMiB);
        REQUIRE(bench.store->flush(kVolume));
        const Statistics before = bench.store->statistics();
        for (std::uint8_t i = 1; i <= 10; ++i) {
            bench.write(kVolume, 8 * kBlockBytes, kBlockBytes, i);
        }
        REQUIRE(bench.store->flush(kVolume));
        const Statistics after = bench.store->statistics();
        CHECK(after.commit_operations - before.commit_operations == 1);
        CHECK(after.superseded_operations - before.superseded_operations == 9);
        CHECK(after.journaled_blocks - before.journaled_blocks == 1);
        REQUIRE(bench.store->checkpoint());
        CHECK(bench.store->statistics().late_blocks == 1);
        CHECK(bench.holds(kVolume, 8 * kBlockBytes, kBlockBytes, 10));
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("what is left out of a commit takes nothing of what has its blocks by now")
{
    constexpr std::uint64_t kSize = layout::kGroupBlocks * kBlockBytes;
    constexpr std::uint64_t kRoom = 8 * kBlockBytes;  // so that freed blocks are used again
    constexpr std::uint64_t kRingEnd = layout::kJournalStart + layout::kMinJournalBlocks;
    SlowDiskStore bench;
    bench.run([&] {
        OpenOptions options;
        options.punch = false;
        options.journaled_blocks = 0;
        options.tail_blocks = 2;  // two blocks of data in a commit
        bench.create(kSize, options);
        bench.write(kVolume, 0, kSize - kRoom, 1);
        REQUIRE(bench.store->checkpoint());
        bench.store->pause();
        for (const std::uint64_t block : {0U, 1U, 2U, 2U}) {
            bench.write(kVolume, block * kBlockBytes, kBlockBytes, 2);
        }
        // The first commit takes its time. Before the second, which leaves an operation out, a
        // superblock contains all of them, and others write to the blocks that are free with it.
        bench.delay = [&](const IoRequest& request) -> std::uint64_t {
            const std::uint64_t block = request.offset_bytes / kBlockBytes;
            return request.kind == IoRequest::Kind::write && block >= layout::kJournalStart &&
                           block < kRingEnd
                       ? kSecond
                       : 0;
        };
        bool flushed = false;
        bench.tasks.spawn([&] {
            REQUIRE(bench.store->flush(kVolume));
            flushed = true;
        });
        bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
        REQUIRE(bench.store->checkpoint());
        for (std::uint64_t block = 10; block < 18; ++block) {
            bench.write(kVolume, block * kBlockBytes, kBlockBytes, 3);
        }
        REQUIRE_FALSE(flushed);
        while (!flushed) {
            bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
        }
        CHECK(bench.store->statistics().superseded_operations == 1);
        CHECK(bench.holds(kVolume, 0, 3 * kBlockBytes, 2));
        CHECK(bench.holds(kVolume, 10 * kBlockBytes, 8 * kBlockBytes, 3));
        bench.delay = nullptr;
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("an operation takes 64 bytes in the journal, and 4 for each further block")
{
    SlowDiskStore bench;
    OpenOptions options;
    options.late_write_blocks = 0;
    bench.run([&] {
        bench.create(64 * kMiB, options);
        for (const std::uint64_t blocks : {1U, 16U}) {
            constexpr std::uint64_t kCount = 500;
            REQUIRE(bench.store->flush(kVolume));
            const Statistics before = bench.store->statistics();
            for (std::uint64_t i = 0; i < kCount; ++i) {
                bench.write(kVolume, i * 2 * 16 * kBlockBytes, blocks * kBlockBytes, 1);
            }
            REQUIRE(bench.store->flush(kVolume));
            const Statistics after = bench.store->statistics();
            REQUIRE(after.commit_operations - before.commit_operations == kCount);
            const std::uint64_t bytes = kCount * (64 + 4 * (blocks - 1));
            // Whole blocks, of which each has a head, and one head of the commit.
            const std::uint64_t most =
                divide_up(bytes + 64, layout::kJournalBodyBytes) * kBlockBytes;
            CHECK(after.journal_bytes - before.journal_bytes <= most);
        }
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("a write waits for no other host write than its own")
{
    SlowDiskStore bench;
    bench.run([&] {
        bench.create(64 * kMiB);
        bench.write(kVolume, 0, 32 * kBlockBytes, 1);
        Counted counted(bench);
        bench.write(kVolume, kMiB, 32 * kBlockBytes, 2);  // large: its data
        CHECK(counted.writes() == 1);
        bench.write(kVolume, 2 * kMiB, kBlockBytes, 3);  // small: nothing
        CHECK(counted.writes() == 1);
        CHECK(counted.syncs() == 0);
        bench.fault = nullptr;
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("a sync of one stream does not wait for what another has submitted")
{
    const std::uint64_t apart = time_to_sync(true);
    const std::uint64_t together = time_to_sync(false);
    fmt::print("150 MB in one stream, two writes and a sync in another: {} ms; one order: {} ms\n",
               apart / kMillisecond, together / kMillisecond);
    CHECK(apart < 100 * kMillisecond);
    CHECK(together > 1900 * kMillisecond);
}

TEST_CASE("streams are opened, used and closed by number")
{
    SlowDiskStore bench;
    bench.run([&] {
        bench.create(kMiB);
        Bytes bytes(kBlockBytes, 1);
        const iovec buffer{bytes.data(), bytes.size()};
        const auto none = bench.store->perform(write_of(StreamId(3), 0, buffer));
        REQUIRE_FALSE(none);
        CHECK(none.error().code == ErrorCode::not_found);
        std::vector<StreamId> open;
        for (std::size_t i = 0; i < kMaxStreams; ++i) {
            const auto id = bench.store->open_stream(kVolume);
            REQUIRE(id);
            open.push_back(*id);
        }
        const auto more = bench.store->open_stream(kVolume);
        REQUIRE_FALSE(more);
        CHECK(more.error().code == ErrorCode::busy);
        for (const StreamId id : open) {
            REQUIRE(bench.store->perform(write_of(id, 0, buffer)));
            REQUIRE(bench.store->close_stream(kVolume, id));
        }
        CHECK_FALSE(bench.store->perform(flush_of(open.front())));
        CHECK_FALSE(bench.store->close_stream(kVolume, StreamId()));
        REQUIRE(bench.store->open_stream(kVolume));
        REQUIRE(bench.store->flush(kVolume));
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("writers that flush each write share commits and syncs")
{
    constexpr unsigned kWriters = 16;
    constexpr unsigned kEach = 50;
    SlowDiskStore bench;
    bench.run([&] {
        bench.create(kMiB);
        for (unsigned i = 0; i < kWriters; ++i) {
            bench.write(kVolume, i * kBlockBytes, kBlockBytes, 1);
        }
        REQUIRE(bench.store->checkpoint());
        bench.delay = [](const IoRequest& request) -> std::uint64_t {
            return request.kind == IoRequest::Kind::sync ? kMillisecond : 0;
        };
        Counted counted(bench);
        unsigned running = kWriters;
        for (unsigned i = 0; i < kWriters; ++i) {
            bench.tasks.spawn([&, i] {
                for (unsigned number = 0; number < kEach; ++number) {
                    bench.write(kVolume, i * kBlockBytes, kBlockBytes, 2);
                    REQUIRE(bench.store->flush(kVolume));
                }
                --running;
            });
        }
        while (running != 0) {
            bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
        }
        // One for all, but for the first, who does not know that others come.
        CHECK(counted.syncs() <= kEach + 10);
        bench.delay = nullptr;
        bench.fault = nullptr;
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}
