// Operations beside each other: who waits for whom at the blocks of a volume, what a rollback and a
// resize do to a write that is under way, and what everybody is told once a sync has failed.
#include "format/tests/slow_disk_store.h"

#include <cerrno>
#include <utility>

#include "format/layout/layout.h"
#include "format/volume/state.h"

using namespace coppice;

namespace {

constexpr VolumeId kVolume(1);
constexpr std::uint64_t kMillisecond = 1'000'000;
constexpr std::uint64_t kSector = 512;

}  // namespace

// ---- Locks of blocks ------------------------------------------------------------------------

TEST_CASE("an exclusive lock that waits comes before shared ones that came later")
{
    FiberTasks tasks;
    BlockLocks locks(tasks);
    std::string order;
    const auto spawn = [&](char name, const BlockLocks::Held& wanted, unsigned turns) {
        tasks.spawn([&, name, wanted, turns] {
            const auto handle = locks.lock(wanted);
            order += name;
            for (unsigned i = 0; i < turns; ++i) {
                tasks.yield();
            }
            locks.unlock(handle);
        });
        tasks.yield();
    };
    tasks.run([&] {
        const auto shared = [](std::uint64_t begin, std::uint64_t end) {
            return BlockLocks::Held{kVolume, Lba(begin), Lba(end), false};
        };
        spawn('a', shared(0, 8), 20);
        spawn('b', shared(4, 12), 10);
        CHECK(order == "ab");  // shared ones do not exclude each other
        spawn('X', {kVolume, Lba(6), Lba(7), true}, 10);
        spawn('c', shared(0, 8), 10);
        spawn('d', shared(7, 8), 1);                         // not at X's block
        spawn('e', {VolumeId(2), Lba(0), Lba(9), true}, 1);  // another volume
        spawn('f', {kVolume, Lba(12), Lba(13), true}, 1);    // beside all of them
        CHECK(order == "abdef");
    });
    tasks.run_until_idle();
    CHECK(order == "abdefXc");
    CHECK(tasks.unfinished() == 0);
}

TEST_CASE("writes of whole blocks without end do not keep a partial one waiting")
{
    constexpr unsigned kWriters = 4;
    constexpr unsigned kMostWrites = 4000;
    SlowDiskStore bench;
    bench.run([&] {
        bench.create(kMiB);
        bench.write(kVolume, 0, 2 * kBlockBytes, 1);
        bench.delay = [](const IoRequest& request) {
            return request.kind == IoRequest::Kind::write ? kMillisecond : 0;
        };
        unsigned written = 0;
        unsigned writing = kWriters;
        bool stop = false;
        for (unsigned i = 0; i < kWriters; ++i) {
            bench.tasks.spawn([&, i] {
                // Out of step, so that there is always one of them at work.
                bench.tasks.sleep_until(bench.tasks.now_ns() + i * kMillisecond / kWriters);
                while (!stop && written < kMostWrites) {
                    bench.write(kVolume, 0, 2 * kBlockBytes, 2);
                    ++written;
                }
                --writing;
            });
        }
        bench.tasks.sleep_until(bench.tasks.now_ns() + 10 * kMillisecond);
        const unsigned before = written;
        bench.write(kVolume, kSector, kSector, 3);
        CHECK(written - before <= 2 * kWriters);
        stop = true;
        while (writing != 0) {
            bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
        }
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

// ---- A read-modify-write and those who change all of the volume -----------------------------

namespace {

// Reads of data take long from now on; the maps are in memory, what was written is not.
void make_reads_slow(SlowDiskStore& bench)
{
    REQUIRE(bench.store->checkpoint());
    bench.delay = [](const IoRequest& request) {
        return request.kind == IoRequest::Kind::read ? 10 * kMillisecond : 0;
    };
}

// Runs `body` beside the caller, who goes on when `body` waits.
void beside(SlowDiskStore& bench, bool& ended, const std::function<void()>& body)
{
    ended = false;
    bench.tasks.spawn([&ended, body] {
        body();
        ended = true;
    });
    bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
}

void wait_for(SlowDiskStore& bench, const bool& ended)
{
    while (!ended) {
        bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
    }
}

}  // namespace

TEST_CASE("a partial write that began before a rollback brings nothing old into the volume")
{
    SlowDiskStore bench;
    bench.run([&] {
        bench.create(kMiB);
        bench.write(kVolume, 0, kBlockBytes, 1);
        NewSnapshot snapshot;
        snapshot.name = "one";
        const auto one = bench.store->snapshot(kVolume, snapshot);
        REQUIRE(one);
        bench.write(kVolume, 0, kBlockBytes, 2);
        make_reads_slow(bench);

        bool first_ended = false;
        bool rollback_ended = false;
        bool second_ended = false;
        beside(bench, first_ended, [&] { bench.write(kVolume, 0, kSector, 3); });
        beside(bench, rollback_ended, [&] { REQUIRE(bench.store->rollback(kVolume, *one)); });
        // This one comes after the rollback, though that still waits for the first.
        beside(bench, second_ended, [&] { bench.write(kVolume, 2 * kSector, kSector, 4); });
        REQUIRE_FALSE(first_ended);  // else nothing is shown
        wait_for(bench, first_ended);
        wait_for(bench, rollback_ended);
        wait_for(bench, second_ended);

        CHECK(bench.holds(kVolume, 0, 2 * kSector, 1));
        CHECK(bench.holds(kVolume, 2 * kSector, kSector, 4));
        CHECK(bench.holds(kVolume, 3 * kSector, kBlockBytes - 3 * kSector, 1));
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("a partial write beside a volume that shrinks and grows brings back nothing cut off")
{
    SlowDiskStore bench;
    bench.run([&] {
        bench.create(kMiB);
        const std::uint64_t last = kMiB - kBlockBytes;
        bench.write(kVolume, last, kBlockBytes, 1);
        make_reads_slow(bench);

        bool write_ended = false;
        bool resize_ended = false;
        beside(bench, write_ended, [&] { (void)bench.try_write(kVolume, last, kSector, 2); });
        beside(bench, resize_ended, [&] {
            REQUIRE(bench.store->resize(kVolume, last));
            REQUIRE(bench.store->resize(kVolume, kMiB));
        });
        REQUIRE_FALSE(write_ended);  // else nothing is shown
        wait_for(bench, write_ended);
        wait_for(bench, resize_ended);

        CHECK(bench.holds(kVolume, last + kSector, kBlockBytes - kSector, 0));
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

// ---- After a failed sync --------------------------------------------------------------------

namespace {

// The host fails one sync and says nothing of it afterwards.
void fail_one_sync(SlowDiskStore& bench)
{
    bench.fault = [failed = false](const IoRequest& request) mutable {
        const bool fails = request.kind == IoRequest::Kind::sync && !failed;
        failed = failed || fails;
        return fails ? EIO : 0;
    };
}

// Nobody is told any more that something is durable, and all can be read.
void expect_stopped(SlowDiskStore& bench, VolumeId volume, std::uint8_t fill)
{
    INFO("volume " << volume.value);
    const Status flushed = bench.store->flush(volume);
    REQUIRE_FALSE(flushed.has_value());
    CHECK(flushed.error().code == ErrorCode::poisoned);
    CHECK(error_errno(flushed.error().code) == EIO);
    const Status written = bench.try_write(volume, 0, kBlockBytes, 9);
    REQUIRE_FALSE(written.has_value());
    CHECK(written.error().code == ErrorCode::poisoned);
    CHECK(bench.holds(volume, 0, kBlockBytes, fill));
}

}  // namespace

TEST_CASE("after a failed sync no flush succeeds, in neither mode, and reads go on")
{
    SlowDiskStore bench;
    bench.run([&] {
        bench.create(kMiB);
        NewVolume wanted;
        wanted.name = "ordered";
        wanted.size_bytes = kMiB;
        wanted.flush = FlushMode::ordered;
        const auto made = bench.store->create_volume(wanted);
        REQUIRE(made);
        const VolumeId ordered = *made;
        bench.write(kVolume, 0, kBlockBytes, 1);
        bench.write(ordered, 0, kBlockBytes, 2);
        REQUIRE(bench.store->flush(ordered));

        SECTION("a flush that waited for the sync")
        {
            fail_one_sync(bench);
            const Status failed = bench.store->flush(kVolume);
            REQUIRE_FALSE(failed.has_value());
            CHECK(failed.error().code == ErrorCode::sync_failed);
            CHECK(error_errno(failed.error().code) == EIO);
        }
        SECTION("flushes that came while it was under way")
        {
            bench.delay = [](const IoRequest& request) {
                return request.kind == IoRequest::Kind::sync ? 10 * kMillisecond : 0;
            };
            fail_one_sync(bench);
            unsigned failed = 0;
            bool first = false;
            bool second = false;
            const auto flush = [&] { failed += bench.store->flush(kVolume) ? 0U : 1U; };
            beside(bench, first, flush);
            beside(bench, second, flush);
            wait_for(bench, first);
            wait_for(bench, second);
            CHECK(failed == 2);
        }
        SECTION("a periodic commit of what was flushed in order, for which nobody waited")
        {
            fail_one_sync(bench);
            bench.tick_for(10);
        }
        SECTION("a checkpoint")
        {
            fail_one_sync(bench);
            CHECK_FALSE(bench.store->checkpoint().has_value());
        }
        CHECK(bench.store->read_only());
        expect_stopped(bench, kVolume, 1);
        expect_stopped(bench, ordered, 2);
        // Forced unit access asks for the same.
        for (const VolumeId volume : {kVolume, ordered}) {
            Bytes bytes(kBlockBytes, 9);
            const iovec buffer{bytes.data(), bytes.size()};
            CHECK_FALSE(bench.store->write(volume, 0, {&buffer, 1}, true).has_value());
        }
        CHECK_FALSE(bench.store->close().has_value());
    });
}

// ---- Copies beside changes ------------------------------------------------------------------

TEST_CASE("a copy of several sources has them as of one moment")
{
    const bool staged = GENERATE(false, true);
    const unsigned moment = GENERATE(range(0U, 12U));  // half seconds
    SlowDiskStore bench;
    bench.run([&] {
        constexpr std::uint64_t kFar = kMiB;
        bench.create(4 * kMiB);
        bench.write(kVolume, 0, kSector, 1);
        bench.write(kVolume, kFar, kSector, 1);
        REQUIRE(bench.store->close());
        bench.open();  // nothing is in memory
        bench.delay = [](const IoRequest& request) {
            return request.kind == IoRequest::Kind::read ? kSecond : 0;
        };
        bool done = false;
        bench.tasks.spawn([&] {
            // On no boundary of a block, so bytes are copied.
            const std::vector<CloneSource> sources = {{kVolume, {0, kSector}},
                                                      {kVolume, {kFar, kSector}}};
            Operation copy{.kind = Operation::Kind::clone,
                           .volume = kVolume,
                           .offset_bytes = 2 * kMiB + kSector,
                           .length_bytes = 2 * kSector,
                           .sources = sources};
            if (staged) {
                copy.transaction = *bench.store->begin(kVolume);
            }
            CHECK(bench.store->perform(copy));
            CHECK((!staged || bench.store->commit(copy.transaction, false)));
            done = true;
        });
        bench.tasks.sleep_until(bench.tasks.now_ns() + moment * kSecond / 2);
        // Both sources at once.
        Bytes bytes(2 * kBlockBytes, 2);
        const iovec buffer{bytes.data(), bytes.size()};
        const std::vector<Range> ranges = {{0, kBlockBytes}, {kFar, kBlockBytes}};
        REQUIRE(bench.store->perform({.kind = Operation::Kind::write_ranges,
                                      .volume = kVolume,
                                      .buffers = {&buffer, 1},
                                      .ranges = ranges}));
        while (!done) {
            bench.tasks.sleep_until(bench.tasks.now_ns() + kSecond);
        }
        bench.delay = nullptr;
        const Bytes copied = bench.read(kVolume, 2 * kMiB + kSector, 2 * kSector);
        CHECK(copied.front() == copied.back());
        CHECK((copied.front() == 1 || copied.front() == 2));
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

// ---- Memory ---------------------------------------------------------------------------------

TEST_CASE("every request to the host can go past its page cache")
{
    SlowDiskStore bench;
    unsigned requests = 0;
    unsigned crooked = 0;
    bench.fault = [&](const IoRequest& request) {
        for (const iovec& buffer : request.buffers) {
            constexpr std::uintptr_t kLeast = 512;
            crooked += reinterpret_cast<std::uintptr_t>(buffer.iov_base) % kLeast != 0 ? 1 : 0;
        }
        crooked += request.offset_bytes % kBlockBytes != 0 ? 1 : 0;
        crooked += request.length_bytes % kBlockBytes != 0 ? 1 : 0;
        requests += static_cast<unsigned>(request.buffers.size());
        return 0;
    };
    bench.run([&] {
        bench.create(4 * kMiB);
        bench.write(kVolume, kSector, 3 * kSector, 1);
        REQUIRE(bench.store->flush(kVolume));
        bench.write(kVolume, kMiB + kSector, kMiB, 2);
        REQUIRE(bench.store->flush(kVolume));
        bench.store->abandon();
        bench.open();  // with something to replay and to verify
        CHECK(bench.holds(kVolume, kMiB + kSector, kMiB, 2));
        NewSnapshot snapshot;
        snapshot.name = "s";
        REQUIRE(bench.store->snapshot(kVolume, snapshot));
        bench.deallocate(kVolume, kMiB, kMiB);
        REQUIRE(bench.store->checkpoint());
        REQUIRE(bench.store->close());
        bench.open();
        CHECK(bench.holds(kVolume, kSector, 3 * kSector, 1));
        REQUIRE(bench.store->close());
    });
    CHECK(requests > 30);
    CHECK(crooked == 0);
    bench.fault = nullptr;
    bench.expect_clean();
}

// ---- What was there before ------------------------------------------------------------------

TEST_CASE("what an open found is synced before anything says that it is durable")
{
    SlowDiskStore bench;
    unsigned syncs = 0;
    bench.fault = [&](const IoRequest& request) {
        syncs += request.kind == IoRequest::Kind::sync ? 1 : 0;
        return 0;
    };
    bench.run([&] {
        bench.create(kMiB);
        bench.write(kVolume, 0, kMiB, 1);
        // A checkpoint whose second sync did not come to its end any more: the superblock is in the
        // host's cache, and an open finds nothing behind it to replay.
        REQUIRE(bench.store->checkpoint());
        bench.store->abandon();
        bench.open();
        REQUIRE(bench.store->info().replayed_operations == 0);
        CHECK(bench.holds(kVolume, 0, kMiB, 1));
        syncs = 0;
        SECTION("a flush") { REQUIRE(bench.store->flush(kVolume)); }
        SECTION("a checkpoint") { REQUIRE(bench.store->checkpoint()); }
        SECTION("a close")
        {
            REQUIRE(bench.store->close());
            CHECK(syncs == 1);
            return;
        }
        CHECK(syncs == 1);
        REQUIRE(bench.store->flush(kVolume));
        CHECK(syncs == 1);
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

// ---- Beside a checkpoint --------------------------------------------------------------------

TEST_CASE("nodes that came and went beside a checkpoint can be taken by it")
{
    const unsigned rounds = GENERATE(range(250U, 4001U, 250U));
    INFO(rounds << " rounds");
    SlowDiskStore bench;
    bench.run([&] {
        bench.create(kMiB);
        NewVolume volume;
        volume.name = "other";
        volume.size_bytes = kMiB;
        const auto other = bench.store->create_volume(volume);
        REQUIRE(other);
        bench.write(kVolume, 0, kMiB, 1);
        // The first node of a checkpoint, one of a map, takes long; its own trees come behind.
        bool slow = true;
        bench.delay = [&](const IoRequest& request) -> std::uint64_t {
            const std::uint64_t block = request.offset_bytes / kBlockBytes;
            const bool node = request.kind == IoRequest::Kind::write && block > 1040 &&
                              block < layout::kGroupBlocks;
            return node && std::exchange(slow, false) ? 10 * kSecond : 0;
        };
        bool done = false;
        bench.tasks.spawn([&] {
            CHECK(bench.store->checkpoint());
            done = true;
        });
        bench.tasks.yield();
        // Beside it a map gets its first node and loses it, over and over, until the search for
        // free nodes has come round.
        for (unsigned i = 0; i < rounds; ++i) {
            bench.write(*other, 0, kBlockBytes, 2);
            bench.deallocate(*other, 0, kBlockBytes);
        }
        CHECK_FALSE(done);
        while (!done) {
            bench.tasks.sleep_until(bench.tasks.now_ns() + kSecond);
        }
        const Status second = bench.store->checkpoint();
        INFO(text_of(second));
        CHECK(second.has_value());
        CHECK_FALSE(bench.store->read_only());
        CHECK(bench.holds(kVolume, 0, kMiB, 1));
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}
