// The limits of transactions, their time, and the space that they give back.
#include "format/layout/layout.h"
#include "format/tests/transaction_bench.h"

using namespace coppice;

// ---- Limits ---------------------------------------------------------------------------------

TEST_CASE("so many transactions are open and no more")
{
    Bench bench;
    bench.run_and_close([&] {
        std::vector<TransactionId> open;
        for (std::size_t i = 0; i < kMaxTransactions; ++i) {
            open.push_back(bench.begin());
        }
        const auto refused = bench.store->begin(kVolume);
        REQUIRE_FALSE(refused.has_value());
        CHECK(refused.error().code == ErrorCode::busy);
        Bench::expect(bench.store->abort(open[5]));
        CHECK(bench.begin() > open.back());
        bench.tick_for(61);
        bench.expect_error(bench.store->commit(open[0], false), ErrorCode::not_found,
                           "was not used for 60 s");
        bench.begin();
    });
}

TEST_CASE("a transaction that reaches a limit goes on without what was too much")
{
    Bench bench;
    bench.run_and_close(
        [&] {
            const TransactionId id = bench.begin();
            SECTION("of data")
            {
                bench.stage(id, 0, kMaxTransactionBytes, 2);
                bench.expect_error(bench.try_stage(id, kMaxTransactionBytes, kBlockBytes, 3),
                                   ErrorCode::too_large);
                bench.expect_error(bench.try_stage(id, 0, kMaxTransactionBytes + kSector, 3),
                                   ErrorCode::too_large);
                bench.stage(id, kBlockBytes, kMaxTransactionBytes / 2, 4);  // over its own
                bench.stage(id, kBlockBytes, kSector, 4);
                Bench::expect(bench.try_clear(id, Kind::deallocate, {0, kBlockBytes}));
                bench.stage(id, kMaxTransactionBytes, kBlockBytes, 5);
                Bench::expect(bench.store->commit(id, false));
                CHECK(bench.holds(kVolume, kBlockBytes, kMaxTransactionBytes / 2, 4));
                CHECK(bench.holds(kVolume, kMaxTransactionBytes, kBlockBytes, 5));
            }
            SECTION("of pieces")
            {
                std::uint64_t staged = 0;
                Status refused;
                for (std::uint64_t i = 0; refused && i < 9000; ++i) {
                    refused = bench.try_clear(id, Kind::deallocate, {i * 2 * kBlockBytes, kSector});
                    refused = refused ? bench.try_stage(id, i * 2 * kBlockBytes, kBlockBytes, 2)
                                      : refused;
                    staged += refused ? 1U : 0U;
                }
                bench.expect_error(refused, ErrorCode::too_large, "pieces");
                CHECK(staged > 7000);
                Bench::expect(bench.store->commit(id, true));
                CHECK(bench.holds(kVolume, (staged - 1) * 2 * kBlockBytes, kBlockBytes, 2));
                CHECK(bench.holds(kVolume, staged * 2 * kBlockBytes, kBlockBytes, 0));
            }
            SECTION("of pieces of which nothing becomes an operation")
            {
                Status refused;
                std::uint64_t staged = 0;
                for (; refused && staged < 9000; ++staged) {
                    refused =
                        bench.try_clear(id, Kind::deallocate, {staged * 2 * kBlockBytes, kSector});
                }
                bench.expect_error(refused, ErrorCode::too_large, "pieces");
                CHECK(staged > 7000);
                Bench::expect(bench.store->commit(id, true));
            }
            SECTION("of all together")
            {
                std::vector<TransactionId> others;
                for (std::uint64_t all = kMaxTransactionBytes; all <= kMaxStagedBytes;
                     all += kMaxTransactionBytes) {
                    others.push_back(bench.begin());
                    bench.stage(others.back(), 0, kMaxTransactionBytes, 2);
                }
                bench.expect_error(bench.try_stage(id, 0, kSector, 3), ErrorCode::busy);
                // What never fits is not told to wait.
                bench.expect_error(bench.try_stage(id, 0, kMaxTransactionBytes + kSector, 3),
                                   ErrorCode::too_large);
                Bench::expect(bench.store->abort(others.front()));
                bench.stage(id, 0, kSector, 3);
                Bench::expect(bench.store->commit(id, false));
                CHECK(bench.holds(kVolume, 0, kSector, 3));
            }
        },
        128 * kMiB);
}

TEST_CASE("a transaction that nobody uses is aborted, one in use is not")
{
    Bench bench;
    bench.run_and_close([&] {
        bench.write(kVolume, 0, kBlockBytes, 1);
        const TransactionId idle = bench.begin();
        const TransactionId used = bench.begin();
        bench.stage(idle, 0, kLarge, 2);
        for (unsigned i = 0; i < 5; ++i) {
            bench.tick_for(30);
            bench.stage(used, kMiB / 2 + i * kSector, kSector, 2);
        }
        bench.expect_error(bench.store->commit(idle, false), ErrorCode::not_found,
                           "was not used for 60 s");
        Bench::expect(bench.store->commit(used, false));
        CHECK(bench.holds(kVolume, 0, kBlockBytes, 1));
        CHECK(bench.holds(kVolume, kMiB / 2, 5 * kSector, 2));
    });
}

TEST_CASE("a pause waits for no transaction, and a close ends them")
{
    Bench bench;
    bench.run([&] {
        bench.create(8 * kMiB);
        Bench::expect(bench.store->close());
        bench.open();
        const std::uint64_t empty = bench.disk.bytes().allocated_bytes();
        const TransactionId id = bench.begin();
        bench.stage(id, 0, 4 * kMiB, 2);
        CHECK(bench.disk.bytes().allocated_bytes() >= empty + 4 * kMiB);
        bench.store->pause();
        bench.store->resume();
        CHECK(bench.sees(id, 0, 4 * kMiB, 2));
        bench.begin();
        Bench::expect(bench.store->close());
        CHECK(bench.disk.bytes().allocated_bytes() < empty + kMiB);  // the host has them again
        bench.open();
        CHECK(bench.holds(kVolume, 0, 8 * kMiB, 0));
        Bench::expect(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("what cannot be part of a transaction is refused")
{
    Bench bench;
    bench.run_and_close([&] {
        VolumeId snapshot;
        bench.snapshot("one", &snapshot);
        CHECK(bench.store->begin(snapshot).error().code == ErrorCode::read_only);
        CHECK(bench.store->begin(VolumeId(99)).error().code == ErrorCode::not_found);
        const TransactionId id = bench.begin();
        bench.expect_error(
            bench.store->perform({.kind = Kind::flush, .volume = kVolume, .transaction = id}),
            ErrorCode::invalid_argument);
        bench.expect_error(bench.try_stage(id, 0, kSector, 1, snapshot), ErrorCode::not_found,
                           "is one of volume 1");
        bench.expect_error(
            bench.store->perform({.kind = Kind::commit, .volume = snapshot, .transaction = id}),
            ErrorCode::not_found, "is one of volume 1");
        bench.expect_error(bench.try_stage(id, 100, kSector, 1), ErrorCode::invalid_argument);
        bench.expect_error(bench.try_stage(id, kMiB, kSector, 1), ErrorCode::out_of_range);
        bench.expect_error(
            bench.try_clear(id, Kind::deallocate, {kSector, ~std::uint64_t{0} - 511}),
            ErrorCode::out_of_range);
        // None of them has changed anything: this write is no conflict.
        bench.write(kVolume, 0, kBlockBytes, 1);
        Bench::expect(bench.store->commit(id, false));
        CHECK(bench.holds(kVolume, 0, kBlockBytes, 1));
    });
    bench.run([&] {
        OpenOptions options;
        options.read_only = true;
        bench.open(options);
        CHECK(bench.store->begin(kVolume).error().code == ErrorCode::read_only);
        bench.store->abandon();
    });
}

// ---- Space ----------------------------------------------------------------------------------

namespace {

constexpr std::uint64_t kVolumeBytes = layout::kGroupBlocks * kBlockBytes;

// The host has room for so many bytes more, in groups that are there already.
void leave_room(Bench& bench, std::uint64_t bytes, OpenOptions options = {})
{
    options.punch = false;
    bench.create(kVolumeBytes, options);
    bench.write(kVolume, 0, kVolumeBytes - bytes, 1);
    bench.expect(bench.store->checkpoint());
    const auto size = bench.disk.size_bytes();
    REQUIRE(size.has_value());
    bench.write(kVolume, kVolumeBytes - bytes, bytes, 1);
    bench.deallocate(kVolume, kVolumeBytes - bytes, bytes);
    bench.expect(bench.store->settle());
    bench.disk.set_limit_bytes(bench.disk.bytes().allocated_bytes());
}

}  // namespace

TEST_CASE("blocks that were staged come back, however the transaction ends")
{
    constexpr std::uint64_t kRoom = 4 * kMiB;
    const std::string end = GENERATE(
        values<std::string>({"abort", "timeout", "conflict", "overwritten", "deallocated"}));
    const std::uint64_t piece = GENERATE(kBlockBytes, kMiB);
    INFO(end << ", in pieces of " << piece);
    Bench bench;
    bench.run([&] {
        OpenOptions options;
        options.late_write_blocks = 0;  // all that is staged has its place at once
        leave_room(bench, kRoom, options);
        const auto stage_all = [&](TransactionId id) {
            for (std::uint64_t at = 0; at < 2 * kMiB; at += piece) {
                bench.stage(id, at, piece, 2);
            }
        };
        for (unsigned i = 0; i < 12; ++i) {
            const TransactionId id = bench.begin();
            stage_all(id);
            if (end == "abort") {
                Bench::expect(bench.store->abort(id));
            } else if (end == "timeout") {
                bench.tick_for(61);
            } else if (end == "conflict") {
                bench.write(kVolume, 0, kSector, 1);
                bench.expect_error(bench.store->commit(id, false), ErrorCode::conflict);
            } else if (end == "overwritten") {
                stage_all(id);
                stage_all(id);
                Bench::expect(bench.store->abort(id));
            } else {
                Bench::expect(bench.try_clear(id, Kind::deallocate, {kSector, 2 * kMiB}));
                stage_all(id);
                Bench::expect(bench.store->abort(id));
            }
        }
        CHECK(bench.holds(kVolume, 0, kVolumeBytes - kRoom, 1));
        bench.write(kVolume, kVolumeBytes - kRoom, kRoom - kMiB, 3);
        Bench::expect(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("what a commit found for data in memory comes back when it is too late after all")
{
    constexpr std::uint64_t kRoom = 4 * kMiB;
    Bench bench;
    bench.run([&] {
        leave_room(bench, kRoom);
        Bench::expect(bench.store->close());
        OpenOptions options;
        options.punch = false;
        bench.open(options);  // it does not know that the host still has the room
        const TransactionId id = bench.begin();
        for (std::uint64_t at = 0; at < 2 * kMiB; at += kBlockBytes) {
            bench.stage(id, at, kBlockBytes, 2);
        }
        bench.delay = [](const IoRequest& request) {
            return request.kind == IoRequest::Kind::allocate ? 10 * kMillisecond : 0;
        };
        Status committed;
        bool ended = false;
        bench.tasks.spawn([&] {
            committed = bench.store->commit(id, false);
            ended = true;
        });
        bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
        bench.deallocate(kVolume, 0, kBlockBytes);
        REQUIRE_FALSE(ended);
        while (!ended) {
            bench.tasks.sleep_until(bench.tasks.now_ns() + kMillisecond);
        }
        bench.delay = nullptr;
        bench.expect_error(committed, ErrorCode::conflict);
        bench.write(kVolume, kVolumeBytes - kRoom, kRoom - kMiB, 3);
        Bench::expect(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("on a full host a transaction meets no_space and goes on")
{
    Bench bench;
    bench.run([&] {
        leave_room(bench, 4 * kMiB);
        const TransactionId id = bench.begin();
        bench.stage(id, 0, 2 * kMiB, 2);
        bench.expect_error(bench.try_stage(id, 2 * kMiB, 8 * kMiB, 2), ErrorCode::no_space);
        CHECK(bench.sees(id, 0, 2 * kMiB, 2));
        CHECK(bench.sees(id, 2 * kMiB, 8 * kMiB, 1));
        // In memory it takes no space before the commit; that fails as a whole.
        for (std::uint64_t at = 0; at < 8 * kMiB; at += kBlockBytes) {
            bench.stage(id, 8 * kMiB + at, kBlockBytes, 3);
        }
        bench.expect_error(bench.store->commit(id, false), ErrorCode::no_space);
        CHECK(bench.holds(kVolume, 0, 16 * kMiB, 1));
        CHECK(bench.sees(id, 8 * kMiB, 8 * kMiB, 3));
        // Somebody makes room on the host.
        bench.disk.set_limit_bytes(bench.disk.bytes().allocated_bytes() + 64 * kMiB);
        Bench::expect(bench.store->commit(id, true));
        CHECK(bench.holds(kVolume, 0, 2 * kMiB, 2));
        CHECK(bench.holds(kVolume, 2 * kMiB, 6 * kMiB, 1));
        CHECK(bench.holds(kVolume, 8 * kMiB, 8 * kMiB, 3));
        Bench::expect(bench.store->close());
    });
    bench.expect_clean();
}
