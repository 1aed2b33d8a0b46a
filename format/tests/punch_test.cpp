// Freed space that goes back to the host: when it begins without quiet, and how long it may keep a
// close waiting.
#include "format/layout/layout.h"
#include "format/tests/slow_disk_store.h"

using namespace coppice;

namespace {

constexpr VolumeId kVolume(1);
constexpr std::uint64_t kGroupBytes = layout::kGroupBlocks * kBlockBytes;

// So many groups full of data.
void fill(SlowDiskStore& bench, std::uint64_t groups)
{
    for (std::uint64_t i = 0; i < groups; ++i) {
        bench.write(kVolume, i * kGroupBytes, kGroupBytes, static_cast<std::uint8_t>(i + 1));
    }
}

}  // namespace

TEST_CASE("a close gives space back for two seconds at most, and leaves the rest")
{
    constexpr std::uint64_t kGroups = 6;
    SlowDiskStore bench;
    std::uint64_t discarded = 0;
    bench.delay = [&](const IoRequest& request) -> std::uint64_t {
        if (request.kind != IoRequest::Kind::discard) {
            return 0;
        }
        discarded += request.length_bytes;
        return kSecond * 9 / 10;
    };
    bench.run([&] {
        bench.create(kGroups * kGroupBytes);
        fill(bench, kGroups);
        bench.deallocate(kVolume, kGroupBytes, (kGroups - 1) * kGroupBytes);
        const std::uint64_t begin = bench.tasks.now_ns();
        REQUIRE(bench.store->close());
        const std::uint64_t took = bench.tasks.now_ns() - begin;
        // What was begun within the time is finished: a group at once.
        CHECK(took >= 2 * kSecond);
        CHECK(took < 3 * kSecond);
        CHECK(discarded == 3 * kGroupBytes);
        // The rest stays with the image.
        CHECK(bench.disk.bytes().allocated_bytes() >= (kGroups - 3) * kGroupBytes);
    });
    bench.expect_clean();
    bench.run([&] {
        bench.open();
        CHECK(bench.holds(kVolume, 0, kGroupBytes, 1));
        CHECK(bench.holds(kVolume, kGroupBytes, kGroupBytes, 0));
        // What was punched and what was not can both be used again.
        fill(bench, kGroups);
        for (std::uint64_t i = 0; i < kGroups; ++i) {
            CHECK(bench.holds(kVolume, i * kGroupBytes, kGroupBytes,
                              static_cast<std::uint8_t>(i + 1)));
        }
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("space goes back without quiet when more than a quarter of the image is free and kept")
{
    SlowDiskStore bench;
    bench.run([&] {
        OpenOptions options;
        options.punch_delay_ns = 1'000'000 * kSecond;  // it is never quiet
        bench.create(3 * kGroupBytes, options);
        fill(bench, 3);
        const auto free = [&](std::uint64_t offset, std::uint64_t length) {
            bench.deallocate(kVolume, offset, length);
            REQUIRE(bench.store->checkpoint());
            bench.tick_for(3);
            return bench.store->statistics().punched_bytes;
        };
        REQUIRE(bench.store->info().space.image_bytes == 4 * kGroupBytes);
        CHECK(free(0, kGroupBytes / 2) == 0);
        CHECK(free(kGroupBytes / 2, kGroupBytes / 2) == 0);  // a quarter, not more
        CHECK(free(kGroupBytes, kMiB) == kGroupBytes + kMiB);
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}
