// Transactions: what is staged is seen by nobody, takes effect as one command, comes too late when
// others were first, and leaves nothing when it ends in any other way.
#include <cerrno>
#include <functional>

#include "format/layout/layout.h"
#include "format/tests/transaction_bench.h"

using namespace coppice;

// ---- Staging, committing, aborting ----------------------------------------------------------

TEST_CASE("what is staged is seen by the transaction alone until it is committed")
{
    Bench bench;
    bench.run_and_close([&] {
        bench.write(kVolume, 0, 2 * kLarge, 1);
        const TransactionId id = bench.begin();
        const TransactionId other = bench.begin();
        bench.stage(id, kBlockBytes, kBlockBytes, 2);
        bench.stage(id, kLarge, kLarge, 3);
        CHECK(bench.holds(kVolume, 0, 2 * kLarge, 1));
        CHECK(bench.sees(other, 0, 2 * kLarge, 1));
        const auto check_new =
            [&](const std::function<bool(std::uint64_t, std::uint64_t, std::uint8_t)>& shows) {
                CHECK(shows(0, kBlockBytes, 1));
                CHECK(shows(kBlockBytes, kBlockBytes, 2));
                CHECK(shows(2 * kBlockBytes, kLarge - 2 * kBlockBytes, 1));
                CHECK(shows(kLarge, kLarge, 3));
            };
        check_new([&](std::uint64_t offset, std::uint64_t length, std::uint8_t fill) {
            return bench.sees(id, offset, length, fill);
        });
        // It sees the state as it is now below its own changes.
        bench.write(kVolume, 3 * kBlockBytes, kBlockBytes, 7);
        CHECK(bench.sees(id, 3 * kBlockBytes, kBlockBytes, 7));
        bench.write(kVolume, 3 * kBlockBytes, kBlockBytes, 1);

        Bench::expect(bench.store->commit(id, false));
        check_new([&](std::uint64_t offset, std::uint64_t length, std::uint8_t fill) {
            return bench.holds(kVolume, offset, length, fill);
        });
        CHECK(bench.store->statistics().transactions == 1);
        bench.expect_error(bench.store->commit(id, false), ErrorCode::not_found, "was committed");
        bench.expect_error(bench.try_stage(id, 0, kSector, 1), ErrorCode::not_found,
                           "was committed");
        Bench::expect(bench.store->abort(other));
        // Numbers are never used again.
        CHECK(bench.begin() > other);
    });
}

TEST_CASE("an aborted transaction leaves nothing")
{
    Bench bench;
    bench.run_and_close([&] {
        bench.write(kVolume, 0, kLarge, 1);
        const TransactionId id = bench.begin();
        bench.stage(id, 0, kSector, 2);
        bench.stage(id, kLarge, kLarge, 2);
        Bench::expect(bench.try_clear(id, Kind::deallocate, {kBlockBytes, kBlockBytes}));
        const std::uint64_t operations = bench.store->info().sequence.value;
        Bench::expect(bench.store->abort(id));
        CHECK(bench.store->info().sequence.value == operations);
        CHECK(bench.holds(kVolume, 0, kLarge, 1));
        CHECK(bench.holds(kVolume, kLarge, kLarge, 0));
        bench.expect_error(bench.store->commit(id, false), ErrorCode::not_found, "was aborted");
        bench.expect_error(bench.store->abort(id), ErrorCode::not_found, "was aborted");
        const auto seen = bench.try_see(id, 0, kSector);
        REQUIRE_FALSE(seen.has_value());
        CHECK(seen.error().code == ErrorCode::not_found);
        bench.expect_error(bench.store->abort(TransactionId(77)), ErrorCode::not_found,
                           "there is no transaction 77");
    });
}

TEST_CASE("parts of blocks are staged, several in one block too")
{
    const std::uint64_t late = GENERATE(0U, 16U);  // ... at their places at once, or in memory
    Bench bench;
    bench.run([&] {
        OpenOptions options;
        options.late_write_blocks = late;
        bench.create(kMiB, options);
        bench.write(kVolume, 0, 4 * kBlockBytes, 1);
        const TransactionId id = bench.begin();
        bench.stage(id, kSector, kSector, 2);
        bench.stage(id, 3 * kSector, kSector, 3);
        bench.stage(id, 7 * kSector, 2 * kSector, 4);  // into the next block
        bench.stage(id, 3 * kSector, kSector, 5);      // once more
        Bench::expect(bench.try_clear(id, Kind::write_zeroes, {5 * kSector, kSector}));
        bench.stage(id, kMiB - kSector, kSector, 6);  // nothing was there
        const Bytes expected = [&] {
            Bytes bytes(4 * kBlockBytes, 1);
            const auto put = [&](std::uint64_t sector, std::uint8_t fill) {
                std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(sector * kSector), kSector,
                            fill);
            };
            put(1, 2);
            put(3, 5);
            put(5, 0);
            put(7, 4);
            put(8, 4);
            return bytes;
        }();
        CHECK(bench.try_see(id, 0, 4 * kBlockBytes).value() == expected);
        CHECK(bench.sees(id, kMiB - kBlockBytes, kBlockBytes - kSector, 0));
        CHECK(bench.holds(kVolume, 0, 4 * kBlockBytes, 1));
        Bench::expect(bench.store->commit(id, true));
        CHECK(bench.read(kVolume, 0, 4 * kBlockBytes) == expected);
        bench.crash();
        CHECK(bench.read(kVolume, 0, 4 * kBlockBytes) == expected);
        CHECK(bench.holds(kVolume, kMiB - kSector, kSector, 6));
        Bench::expect(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("deallocations and zero writes are staged, over staged data and under them")
{
    const Kind kind = GENERATE(Kind::deallocate, Kind::write_zeroes);
    Bench bench;
    bench.run_and_close([&] {
        bench.write(kVolume, 0, 2 * kLarge, 1);
        const TransactionId id = bench.begin();
        bench.stage(id, kBlockBytes, kBlockBytes, 2);
        bench.stage(id, kLarge, kLarge, 3);
        // From the middle of a block to the middle of one.
        Bench::expect(bench.try_clear(id, kind, {kBlockBytes + kSector, kLarge}));
        bench.stage(id, 4 * kBlockBytes, kBlockBytes + kSector, 4);
        CHECK(bench.holds(kVolume, 0, 2 * kLarge, 1));
        const auto before = bench.try_see(id, 0, 2 * kLarge);
        REQUIRE(before.has_value());
        Bench::expect(bench.store->commit(id, false));
        const Bytes after = bench.read(kVolume, 0, 2 * kLarge);
        CHECK(after == *before);
        CHECK(bench.holds(kVolume, kBlockBytes, kSector, 2));
        CHECK(bench.holds(kVolume, kBlockBytes + kSector, 3 * kBlockBytes - kSector, 0));
        CHECK(bench.holds(kVolume, 4 * kBlockBytes, kBlockBytes + kSector, 4));
        CHECK(bench.holds(kVolume, 5 * kBlockBytes + kSector, kLarge - 4 * kBlockBytes, 0));
        CHECK(bench.holds(kVolume, kLarge + kBlockBytes + kSector, kLarge - kBlockBytes - kSector,
                          3));
        const auto status = bench.store->block_status(kVolume, {2 * kBlockBytes, kBlockBytes});
        REQUIRE(status.has_value());
        CHECK(status->state == BlockState::hole);
    });
}

TEST_CASE("a clone into a transaction has its sources as they were then, with what is staged")
{
    Bench bench;
    bench.run_and_close([&] {
        bench.write(kVolume, 0, 2 * kBlockBytes, 1);
        const TransactionId id = bench.begin();
        bench.stage(id, kBlockBytes, kBlockBytes, 2);
        Bench::expect(bench.try_clone(id, 8 * kBlockBytes, {kVolume, {0, 2 * kBlockBytes}}));
        Bench::expect(
            bench.try_clone(id, 12 * kBlockBytes + kSector, {kVolume, {kSector, kBlockBytes}}));
        // Sources are not staged: that they change is no conflict, and not seen.
        bench.write(kVolume, 0, kBlockBytes, 3);
        bench.stage(id, kBlockBytes, kBlockBytes, 4);
        Bench::expect(bench.store->commit(id, false));
        CHECK(bench.holds(kVolume, 0, kBlockBytes, 3));
        CHECK(bench.holds(kVolume, kBlockBytes, kBlockBytes, 4));
        CHECK(bench.holds(kVolume, 8 * kBlockBytes, kBlockBytes, 1));
        CHECK(bench.holds(kVolume, 9 * kBlockBytes, kBlockBytes, 2));
        CHECK(bench.holds(kVolume, 12 * kBlockBytes + kSector, kBlockBytes - kSector, 1));
        CHECK(bench.holds(kVolume, 13 * kBlockBytes, kSector, 2));
    });
}

TEST_CASE("a committed transaction is in the journal as one command")
{
    Bench bench;
    bench.run_and_close([&] {
        bench.write(kVolume, 0, kMiB, 1);
        Bench::expect(bench.store->flush(kVolume));
        const TransactionId id = bench.begin();
        for (std::uint64_t block = 0; block < 200; block += 2) {
            bench.stage(id, block * kBlockBytes, kBlockBytes, 2);
        }
        bench.stage(id, 205 * kBlockBytes, 40 * kBlockBytes, 2);
        const Statistics before = bench.store->statistics();
        Bench::expect(bench.store->commit(id, true));
        const Statistics after = bench.store->statistics();
        CHECK(after.commits == before.commits + 1);
        CHECK(after.syncs == before.syncs + 1);
        bench.crash();
        CHECK(bench.store->info().replayed_operations >= 101);
        for (std::uint64_t block = 0; block < 200; ++block) {
            CHECK(bench.holds(kVolume, block * kBlockBytes, kBlockBytes, block % 2 == 0 ? 2 : 1));
        }
        CHECK(bench.holds(kVolume, 205 * kBlockBytes, 40 * kBlockBytes, 2));
    });
}

TEST_CASE("a command of thousands of scattered pieces does not make the image much larger")
{
    constexpr std::uint64_t kBlocks = 4 * layout::kGroupBlocks;
    Bench bench;
    bench.run_and_close(
        [&] {
            OpenOptions options;
            Bench::expect(bench.store->close());
            options.late_write_blocks = 0;  // neighbours in the volume lie apart in the image
            bench.open(options);
            bench.store->pause();
            for (std::uint64_t block = kBlocks; block-- > 0;) {
                bench.write(kVolume, block * kBlockBytes, kBlockBytes, 1);
            }
            bench.store->resume();
            Bench::expect(bench.store->checkpoint());
            bench.snapshot("before");  // nodes are shared: all on the paths are copied
            const std::uint64_t before = bench.store->info().space.image_bytes;
            const TransactionId id = bench.begin();
            for (std::uint64_t i = 0; i < 5000; ++i) {
                bench.stage(id, (i * 6 + 1) * kBlockBytes, kBlockBytes, 2);
            }
            Bench::expect(bench.store->commit(id, true));
            Bench::expect(bench.store->checkpoint());
            CHECK(bench.store->info().space.image_bytes <= before + 2 * 32 * kMiB);
            CHECK(bench.holds(kVolume, 4999 * 6 * kBlockBytes, kBlockBytes, 1));
            CHECK(bench.holds(kVolume, (4999 * 6 + 1) * kBlockBytes, kBlockBytes, 2));
        },
        kBlocks * kBlockBytes);
}

TEST_CASE("a commit waits for durability only when asked to")
{
    Bench bench;
    bench.run_and_close([&] {
        bench.write(kVolume, 0, kBlockBytes, 1);
        Bench::expect(bench.store->flush(kVolume));
        const std::uint64_t syncs = bench.store->statistics().syncs;
        TransactionId id = bench.begin();
        bench.stage(id, 0, kBlockBytes, 2);
        Bench::expect(bench.store->commit(id, false));
        CHECK(bench.store->statistics().syncs == syncs);
        id = bench.begin();
        bench.stage(id, kBlockBytes, kBlockBytes, 3);
        Bench::expect(bench.store->perform(
            {.kind = Kind::commit, .volume = kVolume, .fua = true, .transaction = id}));
        CHECK(bench.store->statistics().syncs == syncs + 1);
        bench.crash();
        CHECK(bench.holds(kVolume, 0, kBlockBytes, 2));
        CHECK(bench.holds(kVolume, kBlockBytes, kBlockBytes, 3));
        // An empty one is nothing.
        Bench::expect(bench.store->commit(bench.begin(), true));
    });
}

TEST_CASE("a crash leaves nothing of an open transaction")
{
    Bench bench;
    bench.run_and_close([&] {
        bench.write(kVolume, 0, kLarge, 1);
        Bench::expect(bench.store->checkpoint());
        const std::uint64_t data = bench.store->info().space.data_bytes;
        const TransactionId id = bench.begin();
        bench.stage(id, 0, kLarge, 2);
        bench.stage(id, kLarge, kBlockBytes, 2);
        bench.write(kVolume, 2 * kLarge, kBlockBytes, 3);
        Bench::expect(bench.store->flush(kVolume));
        bench.crash();
        CHECK(bench.holds(kVolume, 0, kLarge, 1));
        CHECK(bench.holds(kVolume, kLarge, kLarge, 0));
        bench.expect_error(bench.store->commit(id, false), ErrorCode::not_found);
        Bench::expect(bench.store->checkpoint());
        CHECK(bench.store->info().space.data_bytes == data + kBlockBytes);
    });
}

// ---- First committer wins -------------------------------------------------------------------

TEST_CASE("a transaction comes too late when others changed its blocks first")
{
    struct Rival {
        std::string what;
        std::function<void(Bench&)> change;
    };
    static const auto cleared = [](Bench& bench, Kind kind, const Range& range) {
        Bench::expect(bench.store->perform({.kind = kind,
                                            .volume = kVolume,
                                            .offset_bytes = range.offset_bytes,
                                            .length_bytes = range.length_bytes,
                                            .ranges = {&range, 1}}));
    };
    static const Range first{0, kBlockBytes};
    const Rival rival = GENERATE(values<Rival>({
        {"a write of the block", [](Bench& b) { b.write(kVolume, 0, kBlockBytes, 9); }},
        {"a write of another part of it",
         [](Bench& b) { b.write(kVolume, 7 * kSector, kSector, 9); }},
        {"a deallocation", [](Bench& b) { cleared(b, Kind::deallocate, first); }},
        {"a zero write", [](Bench& b) { cleared(b, Kind::write_zeroes, first); }},
        {"a clone over it",
         [](Bench& b) {
             const CloneSource source{kVolume, {16 * kBlockBytes, kBlockBytes}};
             Bench::expect(b.store->clone(kVolume, 0, {&source, 1}));
         }},
        {"a write of several ranges",
         [](Bench& b) {
             Bench::expect(b.try_write_ranges({{64 * kBlockBytes, kSector}, {0, kSector}},
                                              Bytes(2 * kSector, 9)));
         }},
        {"another transaction",
         [](Bench& b) {
             const TransactionId other = b.begin();
             b.stage(other, 2 * kSector, kSector, 9);
             Bench::expect(b.store->commit(other, false));
         }},
        {"a rollback",
         [](Bench& b) {
             const auto snapshot = b.store->find("old", kVolume);
             REQUIRE(snapshot.has_value());
             Bench::expect(b.store->rollback(kVolume, snapshot->id));
         }},
    }));
    // Staged in memory, at its place, or as nothing.
    const unsigned how = GENERATE(0U, 1U, 2U, 3U);
    INFO(rival.what << ", staged " << how);
    Bench bench;
    bench.run_and_close([&] {
        bench.snapshot("old");
        if (how != 3) {
            bench.write(kVolume, 0, 2 * kLarge, 1);
        }
        const TransactionId id = bench.begin();
        switch (how) {
        case 0: bench.stage(id, kSector, kSector, 2); break;
        case 1: bench.stage(id, 0, kLarge, 2); break;
        case 2: Bench::expect(bench.try_clear(id, Kind::deallocate, {0, kLarge})); break;
        default: Bench::expect(bench.try_clear(id, Kind::deallocate, {kSector, kSector})); break;
        }
        bench.stage(id, 3 * kLarge, kBlockBytes, 2);
        rival.change(bench);
        const Bytes before = bench.read(kVolume, 0, kMiB);
        bench.expect_error(bench.store->commit(id, true), ErrorCode::conflict);
        CHECK(bench.read(kVolume, 0, kMiB) == before);
        bench.expect_error(bench.store->commit(id, true), ErrorCode::not_found, "conflict");
        CHECK(bench.store->statistics().transaction_conflicts == 1);
    });
}

TEST_CASE("what happens elsewhere is no conflict")
{
    Bench bench;
    bench.run_and_close([&] {
        bench.write(kVolume, 0, 2 * kLarge, 1);
        NewVolume wanted;
        wanted.name = "second";
        wanted.size_bytes = kMiB;
        wanted.lba_shift = 9;
        const auto second = bench.store->create_volume(wanted);
        REQUIRE(second.has_value());
        const TransactionId aborted = bench.begin();
        const TransactionId id = bench.begin();
        bench.stage(aborted, kBlockBytes, kBlockBytes, 8);
        bench.stage(id, kBlockBytes, kBlockBytes, 2);
        bench.stage(id, kLarge, kLarge, 2);
        bench.write(kVolume, 0, kBlockBytes, 3);
        bench.write(kVolume, 2 * kBlockBytes, kBlockBytes, 3);
        bench.write(*second, 0, kLarge, 3);
        bench.snapshot("a snapshot");
        Bench::expect(bench.store->rename(kVolume, "renamed"));
        Bench::expect(bench.store->resize(kVolume, 2 * kMiB));
        Bench::expect(bench.store->resize(kVolume, kMiB));
        Bench::expect(bench.store->checkpoint());
        Bench::expect(bench.store->abort(aborted));
        // What somebody wanted and did not get changed nothing.
        bench.expect_error(bench.try_write_ranges({{kBlockBytes, kSector}}, Bytes(kBlockBytes, 9)),
                           ErrorCode::invalid_argument);
        Bench::expect(bench.store->commit(id, false));
        CHECK(bench.holds(kVolume, kBlockBytes, kBlockBytes, 2));
        CHECK(bench.holds(kVolume, kLarge, kLarge, 2));
    });
}

TEST_CASE("a transaction in a volume that shrinks or goes away comes too late")
{
    Bench bench;
    bench.run_and_close([&] {
        const TransactionId inside = bench.begin();
        const TransactionId behind = bench.begin();
        const TransactionId part = bench.begin();
        bench.stage(inside, 0, kBlockBytes, 2);
        bench.stage(behind, kMiB - kBlockBytes, kBlockBytes, 2);
        bench.stage(part, kMiB / 2, kSector, 2);
        Bench::expect(bench.store->resize(kVolume, kMiB / 2 + 2 * kSector));
        Bench::expect(bench.store->resize(kVolume, kMiB));
        bench.expect_error(bench.store->commit(behind, false), ErrorCode::conflict);
        bench.expect_error(bench.store->commit(part, false), ErrorCode::conflict);
        Bench::expect(bench.store->commit(inside, false));
        CHECK(bench.holds(kVolume, kMiB / 2, kMiB / 2, 0));

        NewVolume wanted;
        wanted.name = "second";
        wanted.size_bytes = kMiB;
        const auto second = bench.store->create_volume(wanted);
        REQUIRE(second.has_value());
        const TransactionId id = bench.begin(*second);
        bench.stage(id, 0, kLarge, 2, *second);
        const TransactionId other = bench.begin();
        bench.stage(other, 0, kBlockBytes, 3);
        Bench::expect(bench.store->remove(*second));
        bench.expect_error(bench.try_stage(id, 0, kSector, 2, *second), ErrorCode::not_found,
                           "volume 2 was removed");
        bench.expect_error(bench.store->commit(id, false), ErrorCode::not_found,
                           "volume 2 was removed");
        CHECK_FALSE(bench.store->volume_of(id).has_value());
        Bench::expect(bench.store->commit(other, false));
        CHECK(bench.holds(kVolume, 0, kBlockBytes, 3));
    });
}

TEST_CASE("a volume that is removed gives the places of its transactions back")
{
    Bench bench;
    bench.run_and_close([&] {
        NewVolume wanted;
        wanted.name = "second";
        wanted.size_bytes = kMiB;
        const auto second = bench.store->create_volume(wanted);
        REQUIRE(second.has_value());
        for (std::size_t i = 0; i < kMaxTransactions; ++i) {
            bench.begin(*second);
        }
        CHECK_FALSE(bench.store->begin(kVolume).has_value());
        Bench::expect(bench.store->remove(*second));
        bench.begin();
    });
}

TEST_CASE("a commit under way when its volume is removed comes too late, and is gone")
{
    const bool fails = GENERATE(false, true);  // ... or the host fails it
    Bench bench;
    bench.run_and_close([&] {
        NewVolume wanted;
        wanted.name = "second";
        wanted.size_bytes = kMiB;
        const auto second = bench.store->create_volume(wanted);
        REQUIRE(second.has_value());
        const TransactionId id = bench.begin(*second);
        bench.stage(id, 0, 16 * kBlockBytes, 2, *second);
        bench.delay = [](const IoRequest& request) {
            return request.kind == IoRequest::Kind::allocate ? 100 * kMillisecond : 0;
        };
        bench.fault = [&](const IoRequest& request) {
            return fails && request.kind == IoRequest::Kind::allocate ? EIO : 0;
        };
        Status committed;
        bool ended = false;
        bench.tasks.spawn([&] {
            committed = bench.store->commit(id, false);
            ended = true;
        });
        bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
        Bench::expect(bench.store->remove(*second));
        REQUIRE_FALSE(ended);
        while (!ended) {
            bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
        }
        bench.fault = nullptr;
        bench.expect_error(committed, fails ? ErrorCode::io : ErrorCode::conflict);
        bench.expect_error(bench.store->commit(id, false), ErrorCode::not_found);
        CHECK_FALSE(bench.store->volume_of(id).has_value());
    });
}

TEST_CASE("a change that takes effect while one is staged, or while it is committed, comes first")
{
    Bench bench;
    bench.run_and_close([&] {
        bench.write(kVolume, 0, 4 * kBlockBytes, 1);
        Bench::expect(bench.store->checkpoint());
        bench.delay = [](const IoRequest& request) {
            return request.kind == IoRequest::Kind::read ? 10 * kMillisecond : 0;
        };
        const TransactionId id = bench.begin();
        bool ended = false;
        SECTION("while the rest of a block is read")
        {
            bench.tasks.spawn([&] {
                bench.stage(id, kSector, kSector, 2);
                ended = true;
            });
            bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
            bench.write(kVolume, 0, kBlockBytes, 3);
            REQUIRE_FALSE(ended);
            while (!ended) {
                bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
            }
            bench.expect_error(bench.store->commit(id, false), ErrorCode::conflict);
            CHECK(bench.holds(kVolume, 0, kBlockBytes, 3));
        }
        SECTION("while the commit waits for a write of part of a block")
        {
            bench.stage(id, 0, kBlockBytes, 2);
            bench.stage(id, 3 * kBlockBytes, kBlockBytes, 2);
            Status committed;
            bench.tasks.spawn([&] { bench.write(kVolume, kSector, kSector, 3); });
            bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
            bench.tasks.spawn([&] {
                committed = bench.store->commit(id, false);
                ended = true;
            });
            bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
            REQUIRE_FALSE(ended);
            bench.expect_error(bench.store->abort(id), ErrorCode::busy, "is being committed");
            bench.expect_error(bench.try_stage(id, 0, kSector, 4), ErrorCode::busy);
            bench.expect_error(bench.store->commit(id, false), ErrorCode::busy);
            CHECK(bench.store->volume_of(id).value() == kVolume);
            while (!ended) {
                bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
            }
            bench.expect_error(committed, ErrorCode::conflict);
            CHECK(bench.holds(kVolume, kSector, kSector, 3));
            CHECK(bench.holds(kVolume, 2 * kSector, kSector, 1));
            CHECK(bench.holds(kVolume, 3 * kBlockBytes, kBlockBytes, 1));
        }
    });
}

TEST_CASE("a write of part of a block that waits has what a commit put there")
{
    constexpr std::uint64_t kStaged = 160 * kBlockBytes;  // more than is ready for small writes
    Bench bench;
    bench.run_and_close([&] {
        bench.write(kVolume, 0, kBlockBytes, 1);
        const TransactionId id = bench.begin();
        for (std::uint64_t at = 0; at < kStaged; at += kBlockBytes) {
            bench.stage(id, at, kBlockBytes, 2);
        }
        // The commit waits for room on the host, and holds the blocks meanwhile.
        bench.delay = [](const IoRequest& request) {
            return request.kind == IoRequest::Kind::allocate ? 10 * kMillisecond : 0;
        };
        bool committed = false;
        bool written = false;
        bench.tasks.spawn([&] {
            Bench::expect(bench.store->commit(id, false));
            committed = true;
        });
        bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
        REQUIRE_FALSE(committed);
        bench.tasks.spawn([&] {
            bench.write(kVolume, kSector, kSector, 3);
            CHECK(committed);
            written = true;
        });
        while (!written) {
            bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
        }
        CHECK(bench.holds(kVolume, 0, kSector, 2));
        CHECK(bench.holds(kVolume, kSector, kSector, 3));
        CHECK(bench.holds(kVolume, 2 * kSector, kStaged - 2 * kSector, 2));
    });
}

// ---- One command of several ranges ----------------------------------------------------------

TEST_CASE("several ranges are written as one command")
{
    Bench bench;
    bench.run_and_close([&] {
        bench.write(kVolume, 0, kMiB, 1);
        Bench::expect(bench.store->flush(kVolume));
        Bytes bytes(kSector, 2);
        bytes.insert(bytes.end(), kLarge, 3);
        bytes.insert(bytes.end(), 2 * kSector, 4);
        // The third is in the same block as the first, and the second ends within a block.
        const std::vector<Range> ranges = {
            {kSector, kSector}, {kLarge + kSector, kLarge}, {2 * kSector, 2 * kSector}};
        const std::uint64_t before = bench.store->statistics().commits;
        Bench::expect(bench.try_write_ranges(ranges, bytes));
        Bench::expect(bench.store->flush(kVolume));
        CHECK(bench.store->statistics().commits == before + 1);
        bench.crash();
        CHECK(bench.holds(kVolume, 0, kSector, 1));
        CHECK(bench.holds(kVolume, kSector, kSector, 2));
        CHECK(bench.holds(kVolume, 2 * kSector, 2 * kSector, 4));
        CHECK(bench.holds(kVolume, 4 * kSector, kLarge - 3 * kSector, 1));
        CHECK(bench.holds(kVolume, kLarge + kSector, kLarge, 3));
        CHECK(bench.holds(kVolume, 2 * kLarge + kSector, kBlockBytes, 1));
        // Where they overlap, the later one counts.
        Bytes both(kSector, 5);
        both.insert(both.end(), kSector, 6);
        Bench::expect(bench.try_write_ranges({{0, kSector}, {0, kSector}}, both));
        CHECK(bench.holds(kVolume, 0, kSector, 6));
        // In a transaction too.
        const TransactionId id = bench.begin();
        Bench::expect(bench.try_write_ranges({{kLarge, kSector}, {0, kSector}}, both, id));
        CHECK(bench.holds(kVolume, 0, kSector, 6));
        Bench::expect(bench.store->commit(id, false));
        CHECK(bench.holds(kVolume, kLarge, kSector, 5));
    });
}

TEST_CASE("a write of several ranges is all or nothing")
{
    Bench bench;
    bench.run_and_close([&] {
        bench.write(kVolume, 0, kMiB, 1);
        bench.expect_error(
            bench.try_write_ranges({{0, kSector}, {kMiB, kSector}}, Bytes(2 * kSector, 2)),
            ErrorCode::out_of_range);
        bench.expect_error(
            bench.try_write_ranges({{0, kSector}, {100, kSector}}, Bytes(2 * kSector, 2)),
            ErrorCode::invalid_argument);
        bench.expect_error(bench.try_write_ranges({{0, kSector}}, Bytes(2 * kSector, 2)),
                           ErrorCode::invalid_argument);
        const std::vector<Range> large(33, Range{0, kMiB});
        bench.expect_error(bench.try_write_ranges(large, Bytes(33 * kMiB, 2)),
                           ErrorCode::too_large);
        Bench::expect(bench.try_write_ranges({}, {}));
        CHECK(bench.holds(kVolume, 0, kMiB, 1));
        // A host that fails in between.
        unsigned writes = 0;
        bench.fault = [&](const IoRequest& request) {
            return request.kind == IoRequest::Kind::write && ++writes == 2 ? EIO : 0;
        };
        bench.expect_error(
            bench.try_write_ranges({{0, kLarge}, {2 * kLarge, kLarge}}, Bytes(2 * kLarge, 2)),
            ErrorCode::io);
        bench.fault = nullptr;
        CHECK(writes == 2);
        CHECK(bench.holds(kVolume, 0, kMiB, 1));
    });
}

TEST_CASE("a host error while staging changes nothing of the transaction")
{
    Bench bench;
    bench.run_and_close([&] {
        bench.write(kVolume, 0, kMiB, 1);
        Bench::expect(bench.store->checkpoint());
        const TransactionId id = bench.begin();
        bench.stage(id, 0, kLarge, 2);
        bench.fault = [](const IoRequest& request) {
            return request.kind == IoRequest::Kind::write ? EIO : 0;
        };
        bench.delay = [](const IoRequest& request) {
            return request.kind == IoRequest::Kind::write ? 10 * kMillisecond : 0;
        };
        bool ended = false;
        bench.tasks.spawn([&] {
            bench.expect_error(bench.try_stage(id, 0, 2 * kLarge, 3), ErrorCode::io);
            ended = true;
        });
        bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
        REQUIRE_FALSE(ended);
        bench.write(kVolume, kLarge, kBlockBytes, 1);  // as it was, and no conflict
        while (!ended) {
            bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
        }
        bench.fault = nullptr;
        bench.delay = nullptr;
        CHECK(bench.sees(id, 0, kLarge, 2));
        CHECK(bench.sees(id, kLarge, kLarge, 1));
        bench.write(kVolume, kLarge, kBlockBytes, 4);  // was not staged: no conflict
        Bench::expect(bench.store->commit(id, false));
        CHECK(bench.holds(kVolume, 0, kLarge, 2));
        CHECK(bench.holds(kVolume, kLarge, kBlockBytes, 4));
    });
}
