// A host without room: what can be made free is used, what truly does not fit is refused with
// nothing lost, and deleting goes on.
#include "format/layout/layout.h"
#include "format/tests/slow_disk_store.h"

#include <string>

using namespace coppice;

namespace {

constexpr VolumeId kVolume(1);
constexpr std::uint64_t kBlocks = layout::kGroupBlocks;

// The host takes no more than it has now.
void fill_host(SlowDiskStore& bench)
{
    bench.disk.set_limit_bytes(bench.disk.bytes().allocated_bytes());
}

// A volume of one group in pieces of one block: written backwards, none continues the other.
void create_in_pieces(SlowDiskStore& bench, const OpenOptions& options)
{
    bench.create(kBlocks * kBlockBytes, options);
    for (std::uint64_t block = kBlocks; block-- > 0;) {
        bench.write(kVolume, block * kBlockBytes, kBlockBytes, 1);
    }
    REQUIRE(bench.store->checkpoint());
}

NewVolume small_volume(const std::string& name)
{
    NewVolume volume;
    volume.name = name;
    volume.size_bytes = kBlockBytes;
    return volume;
}

NewSnapshot snapshot_named(const std::string& name)
{
    NewSnapshot snapshot;
    snapshot.name = name;
    return snapshot;
}

}  // namespace

TEST_CASE("management on a full host makes room by a checkpoint")
{
    SlowDiskStore bench;
    bench.run([&] {
        OpenOptions options;
        options.punch = false;
        create_in_pieces(bench, options);
        const auto kept = bench.store->snapshot(kVolume, snapshot_named("kept"));
        REQUIRE(kept);
        bench.write(kVolume, 0, kBlockBytes, 2);
        REQUIRE(bench.store->checkpoint());
        fill_host(bench);
        bench.store->pause();  // nobody else writes a checkpoint
        // What was dropped in so many pieces may need more nodes than the host has left; behind a
        // checkpoint it needs none.
        bench.deallocate(kVolume, 0, kBlocks * kBlockBytes);
        const std::uint64_t before = bench.store->statistics().checkpoints;
        SECTION("a snapshot")
        {
            const auto made = bench.store->snapshot(kVolume, snapshot_named("second"));
            INFO((made ? "" : made.error().text));
            CHECK(made.has_value());
        }
        SECTION("a volume")
        {
            const auto made = bench.store->create_volume(small_volume("second"));
            INFO((made ? "" : made.error().text));
            CHECK(made.has_value());
        }
        SECTION("a removal")
        {
            const Status removed = bench.store->remove(*kept);
            INFO(text_of(removed));
            CHECK(removed.has_value());
        }
        CHECK(bench.store->statistics().checkpoints == before + 1);
        bench.store->resume();
        CHECK(bench.holds(kVolume, 0, kBlocks * kBlockBytes, 0));
        REQUIRE(bench.store->settle());
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("a host that is full refuses new volumes and snapshots, and loses nothing")
{
    SlowDiskStore bench;
    bench.run([&] {
        OpenOptions options;
        options.punch = false;
        create_in_pieces(bench, options);
        const auto snapshot = bench.store->snapshot(kVolume, snapshot_named("first"));
        REQUIRE(snapshot);
        fill_host(bench);
        std::vector<VolumeId> made;
        Status refused;
        while (refused && made.size() < 20000) {
            const auto id = bench.store->create_volume(small_volume(std::to_string(made.size())));
            if (id) {
                made.push_back(*id);
            } else {
                refused = tl::unexpected<Error>(id.error());
            }
        }
        REQUIRE_FALSE(refused.has_value());
        CHECK(refused.error().code == ErrorCode::no_space);
        CHECK(bench.store->volumes().size() == made.size() + 2);
        const auto also = bench.store->snapshot(kVolume, snapshot_named("second"));
        REQUIRE_FALSE(also.has_value());
        CHECK(also.error().code == ErrorCode::no_space);
        CHECK_FALSE(bench.store->find("second", kVolume).has_value());
        CHECK_FALSE(bench.store->read_only());
        CHECK(bench.holds(kVolume, 0, kBlocks * kBlockBytes, 1));

        SECTION("deleting goes on, and makes room")
        {
            REQUIRE(bench.store->remove(*snapshot));
            bench.deallocate(kVolume, 0, kBlocks / 2 * kBlockBytes);
            while (made.size() > 10) {
                const Status removed = bench.store->remove(made.back());
                INFO(text_of(removed));
                REQUIRE(removed.has_value());
                made.pop_back();
            }
            REQUIRE(bench.store->settle());
            CHECK(bench.store->snapshot(kVolume, snapshot_named("second")).has_value());
        }
        SECTION("nothing but the end") {}
        REQUIRE(bench.store->close());
        bench.open(options);
        CHECK(bench.holds(kVolume, kBlocks / 2 * kBlockBytes, kBlocks / 2 * kBlockBytes, 1));
        for (const VolumeId id : made) {
            CHECK(bench.store->volume(id).has_value());
        }
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("the catalog that a full host must still take is seen to while it grows")
{
    SlowDiskStore bench;
    bench.run([&] {
        OpenOptions options;
        options.punch = false;
        // A journal so large that no checkpoint comes before there are thousands of volumes.
        bench.create(kMiB, options, 16 * kMiB);
        bench.write(kVolume, 0, kMiB, 1);
        REQUIRE(bench.store->checkpoint());
        fill_host(bench);
        std::size_t made = 0;
        Status refused;
        while (refused && made < 20000) {
            const auto id = bench.store->create_volume(small_volume(std::to_string(made)));
            made += id ? 1U : 0U;
            refused = id ? Status() : Status(tl::unexpected<Error>(id.error()));
        }
        REQUIRE_FALSE(refused.has_value());
        CHECK(refused.error().code == ErrorCode::no_space);
        CHECK_FALSE(bench.store->read_only());
        const Status closed = bench.store->close();
        INFO(text_of(closed));
        REQUIRE(closed.has_value());
        bench.open(options);
        CHECK(bench.store->volumes().size() == made + 1);
        CHECK(bench.holds(kVolume, 0, kMiB, 1));
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("a snapshot with a long list of what died is deleted on a full host")
{
    SlowDiskStore bench;
    bench.run([&] {
        constexpr std::uint64_t kPieces = 131072;
        OpenOptions options;
        options.punch = false;
        bench.create(kPieces * kBlockBytes, options, 64 * kMiB);
        // Many pieces without much data: all of them show one block.
        bench.write(kVolume, 0, kBlockBytes, 1);
        for (std::uint64_t i = 1; i < kPieces; ++i) {
            const CloneSource source{kVolume, {0, kBlockBytes}};
            REQUIRE(bench.store->clone(kVolume, i * kBlockBytes, {&source, 1}));
        }
        const auto snapshot = bench.store->snapshot(kVolume, snapshot_named("first"));
        REQUIRE(snapshot);
        // Not at once, so that few nodes are set aside.
        constexpr std::uint64_t kStep = 1024;
        for (std::uint64_t i = kStep; i < kPieces; i += kStep) {
            bench.deallocate(kVolume, i * kBlockBytes, kStep * kBlockBytes);
            REQUIRE(bench.store->checkpoint());
        }
        fill_host(bench);
        const std::uint64_t before = bench.store->info().space.node_bytes;
        REQUIRE(bench.store->remove(*snapshot));
        const Status settled = bench.store->settle();
        INFO(text_of(settled));
        REQUIRE(settled.has_value());
        CHECK_FALSE(bench.store->read_only());
        CHECK(bench.store->info().space.node_bytes < before / 10);
        CHECK(bench.holds(kVolume, 0, kStep * kBlockBytes, 1));
        CHECK(bench.holds(kVolume, kStep * kBlockBytes, kMiB, 0));
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("clones on a full host are counted by a checkpoint before they are too many for it")
{
    SlowDiskStore bench;
    bench.run([&] {
        OpenOptions options;
        options.punch = false;
        bench.create(2 * kBlocks * kBlockBytes, options);
        bench.write(kVolume, 0, kBlocks * kBlockBytes, 1);
        REQUIRE(bench.store->checkpoint());
        fill_host(bench);
        bench.store->pause();  // nobody else writes a checkpoint
        const std::uint64_t before = bench.store->statistics().checkpoints;
        // References of single blocks that are no neighbours: each may take a leaf of its own when
        // it is counted, for which the host has to have room. Nothing is dropped.
        std::uint64_t made = 0;
        while (bench.store->statistics().checkpoints == before && 2 * made < kBlocks) {
            const CloneSource source{kVolume, {2 * made * kBlockBytes, kBlockBytes}};
            const std::uint64_t to = (kBlocks + 2 * made) * kBlockBytes;
            REQUIRE(bench.store->clone(kVolume, to, {&source, 1}));
            ++made;
        }
        // The host has some ten nodes more than are always kept.
        CHECK(made <= 16);
        bench.store->resume();
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("a host that keeps no room for later writes is asked for it by writing")
{
    SlowDiskStore bench;
    bench.fault = [](const IoRequest& request) {
        return request.kind == IoRequest::Kind::allocate ? EOPNOTSUPP : 0;
    };
    bench.run([&] {
        bench.create(kMiB);
        bench.write(kVolume, 0, kMiB / 2, 1);
        fill_host(bench);
        // A small write is not answered from memory here: it could find no room afterwards, with
        // its answer given.
        const Status refused = bench.try_write(kVolume, kMiB / 2, kMiB / 2, 2);
        const Status small = bench.try_write(kVolume, kMiB / 2, kBlockBytes, 2);
        REQUIRE_FALSE(refused.has_value());
        CHECK(refused.error().code == ErrorCode::no_space);
        REQUIRE_FALSE(small.has_value());
        CHECK(small.error().code == ErrorCode::no_space);
        CHECK_FALSE(bench.store->read_only());
        bench.disk.set_limit_bytes(UINT64_MAX);
        bench.write(kVolume, kMiB / 2, kBlockBytes, 3);
        REQUIRE(bench.store->flush(kVolume));
        CHECK(bench.holds(kVolume, 0, kMiB / 2, 1));
        CHECK(bench.holds(kVolume, kMiB / 2, kBlockBytes, 3));
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("who finds a full host waits for what a removal gives back in all its steps")
{
    SlowDiskStore bench;
    bench.run([&] {
        OpenOptions options;
        options.punch = false;
        options.removal_step = 1000;
        create_in_pieces(bench, options);
        const auto snapshot = bench.store->snapshot(kVolume, snapshot_named("first"));
        REQUIRE(snapshot);
        for (std::uint64_t block = kBlocks; block-- > 0;) {
            bench.write(kVolume, block * kBlockBytes, kBlockBytes, 2);
        }
        REQUIRE(bench.store->checkpoint());
        fill_host(bench);
        bench.store->pause();  // nobody else writes a checkpoint
        REQUIRE(bench.store->remove(*snapshot));
        // More than one step gives back; and at first there are free blocks that the host has not.
        constexpr std::uint64_t kWritten = 3000;
        const Status written = bench.try_write(kVolume, 0, kWritten * kBlockBytes, 3);
        INFO(text_of(written));
        REQUIRE(written.has_value());
        CHECK(bench.store->statistics().removal_steps > 2);
        CHECK(bench.holds(kVolume, 0, kWritten * kBlockBytes, 3));
        bench.store->resume();
        REQUIRE(bench.store->settle());
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("a large volume of clones is deleted on a full host, a few nodes at a time")
{
    SlowDiskStore bench;
    bench.run([&] {
        constexpr std::uint64_t kShared = 8 * kBlocks;
        constexpr std::uint64_t kAtOnce = 64;
        OpenOptions options;
        options.punch = false;
        bench.create(kShared * kBlockBytes, options, 16 * kMiB);
        for (std::uint64_t i = 0; i < kShared; i += kBlocks) {
            bench.write(kVolume, i * kBlockBytes, kBlocks * kBlockBytes, 1);
        }
        NewVolume large = small_volume("large");
        large.size_bytes = kShared * kBlockBytes;
        const auto other = bench.store->create_volume(large);
        REQUIRE(other);
        // Each block of the first volume somewhere in the other one. In descending order, which
        // leaves the leaves of the references half full; not at once, so that few nodes are set
        // aside.
        for (std::uint64_t i = kShared; i-- > 0;) {
            const CloneSource source{kVolume, {i * kBlockBytes, kBlockBytes}};
            const std::uint64_t to = i * 40503 % kShared;
            REQUIRE(bench.store->clone(*other, to * kBlockBytes, {&source, 1}));
            if (i % kAtOnce == 0) {
                REQUIRE(bench.store->checkpoint());
            }
        }
        // A third volume with a large map and one block of data, and snapshots of it: what is left
        // for nodes goes to copies of its leaves.
        large.name = "third";
        const auto third = bench.store->create_volume(large);
        REQUIRE(third);
        for (std::uint64_t i = 0; i < kShared; ++i) {
            const CloneSource source{kVolume, {0, kBlockBytes}};
            REQUIRE(bench.store->clone(*third, i * kBlockBytes, {&source, 1}));
            if (i % (8 * kAtOnce) == 0) {
                REQUIRE(bench.store->checkpoint());
            }
        }
        unsigned snapshots = 0;
        const auto take_snapshot = [&] {
            const std::string name = std::to_string(++snapshots);
            return bench.store->snapshot(*third, snapshot_named(name)).has_value();
        };
        REQUIRE(take_snapshot());
        fill_host(bench);
        Status refused;
        for (std::uint64_t at = 0; refused; at += 80) {
            const Range range{at % kShared * kBlockBytes, kBlockBytes};
            refused = bench.store->deallocate(*third, {&range, 1});
            if (at > kShared * snapshots && !take_snapshot()) {
                break;
            }
        }
        // To drop the other volume's references is to copy all leaves that count them.
        REQUIRE(bench.store->remove(*other));
        const std::uint64_t before = bench.store->statistics().checkpoints;
        const Status settled = bench.store->settle();
        INFO(text_of(settled));
        REQUIRE(settled.has_value());
        CHECK_FALSE(bench.store->read_only());
        CHECK(bench.store->statistics().checkpoints > before + 2);
        CHECK(bench.holds(kVolume, 0, kShared * kBlockBytes, 1));
        const auto again = bench.store->create_volume(small_volume("again"));
        INFO((again ? "" : again.error().text));
        CHECK(again.has_value());
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}
