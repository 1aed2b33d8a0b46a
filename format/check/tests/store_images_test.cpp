// The checker on what the store makes: silent on every state that a store leaves behind.
#include <cstdlib>
#include <fmt/format.h>
#include <random>

#include "coppice-catch.h"
#include "format/check/checker.h"
#include "format/disk/fiber_tasks.h"
#include "format/disk/memory_disk.h"
#include "format/volume/store.h"

using namespace coppice;

namespace {

constexpr std::uint64_t kMiB = 1 << 20;

std::string all_texts(const CheckReport& report)
{
    std::string text;
    for (const Finding& finding : report.findings) {
        text += std::string(severity_name(finding.severity)) + " " +
                std::string(finding_name(finding.kind)) + ": " + finding.text + "\n";
    }
    return text;
}

// A store on a disk in memory, with the operations that a test wants in one line.
class Bench {
public:
    Bench() : disk(tasks) {}

    void create(std::uint64_t bytes)
    {
        tasks.run([&] {
            CreateOptions options;
            options.uuid = random_uuid();
            options.volume_bytes = bytes;
            options.journal_bytes = 4 * kMiB;
            REQUIRE(Store::create(disk, options));
        });
        open();
    }

    void open()
    {
        tasks.run([&] {
            OpenOptions options;
            auto opened = Store::open(disk, options);
            REQUIRE(opened);
            store = std::move(*opened);
        });
    }

    void close()
    {
        tasks.run([&] { REQUIRE(store->close()); });
        store.reset();
    }

    void write(VolumeId volume, std::uint64_t block, std::uint64_t blocks)
    {
        std::vector<std::byte> bytes(blocks * kBlockBytes);
        for (auto& byte : bytes) {
            byte = static_cast<std::byte>(random());
        }
        iovec buffer{bytes.data(), bytes.size()};
        auto status = store->write(volume, block * kBlockBytes, {&buffer, 1}, false);
        INFO((status ? "" : status.error().text));
        REQUIRE(status);
    }

    CheckReport check()
    {
        CheckReport report;
        tasks.run([&] {
            auto result = coppice::check(disk, {.verify_data = true});
            INFO((result ? "" : result.error().text));
            REQUIRE(result);
            report = *result;
        });
        return report;
    }

    void expect_clean()
    {
        const CheckReport report = check();
        INFO(all_texts(report));
        REQUIRE(report.clean());
        REQUIRE(report.space_complete);
        REQUIRE(report.replay_complete);
        if (std::getenv("COPPICE_SHOW_REPORTS") != nullptr) {
            fmt::print("{} versions, {} data, {} shared, {} nodes, {} verified, {} commits, {} "
                       "operations\n",
                       report.versions, report.data_blocks, report.shared_blocks,
                       report.node_blocks, report.verified_blocks, report.journal_commits,
                       report.journal_operations);
        }
    }

    std::mt19937 random{7};
    FiberTasks tasks;
    MemoryDisk disk;
    std::unique_ptr<Store> store;
};

}  // namespace

TEST_CASE("a new image is clean")
{
    Bench bench;
    bench.create(64 * kMiB);
    bench.expect_clean();
    bench.close();
    bench.expect_clean();
}

TEST_CASE("writes, flushes and checkpoints leave a clean image")
{
    Bench bench;
    bench.create(64 * kMiB);
    bench.tasks.run([&] {
        for (unsigned i = 0; i < 300; ++i) {
            bench.write(VolumeId(1), bench.random() % 16000, 1 + bench.random() % 8);
        }
        REQUIRE(bench.store->flush(VolumeId(1)));
    });
    bench.expect_clean();  // with a journal to replay
    bench.tasks.run([&] { REQUIRE(bench.store->checkpoint()); });
    bench.expect_clean();
    bench.close();
    bench.expect_clean();
}

TEST_CASE("snapshots, clones, rollbacks and removals leave a clean image")
{
    Bench bench;
    const auto seed = static_cast<unsigned>(GENERATE(range(1, 13)));
    bench.random.seed(seed);
    INFO("seed " << seed);
    bench.create(64 * kMiB);
    unsigned names = 0;
    for (unsigned round = 0; round < 25; ++round) {
        bench.tasks.run([&] {
            for (unsigned step = 0; step < 12; ++step) {
                std::vector<VolumeInfo> volumes = bench.store->volumes();
                const VolumeInfo& one = volumes[bench.random() % volumes.size()];
                const auto block = [&] { return bench.random() % 15000; };
                const VolumeId id = one.id;
                const auto choice = bench.random() % 14;
                Status status;
                if (choice < 5 && !one.snapshot) {
                    bench.write(id, block(), 1 + bench.random() % 40);
                } else if (choice == 5 && !one.snapshot && volumes.size() < 12) {
                    auto made = bench.store->snapshot(id, {.name = std::to_string(++names)});
                    REQUIRE(made);
                } else if (choice == 6 && one.snapshot && volumes.size() < 12) {
                    REQUIRE(bench.store->clone_volume(id, "c" + std::to_string(++names), false));
                } else if (choice == 7 && id != VolumeId(1)) {
                    status = bench.store->remove(id);
                } else if (choice == 8 && one.snapshot) {
                    status = bench.store->rollback(one.parent, id);
                } else if ((choice == 9 || choice == 10) && !one.snapshot) {
                    const CloneSource source{
                        volumes[bench.random() % volumes.size()].id,
                        {block() * kBlockBytes, kBlockBytes * (1 + block() % 1000)}};
                    status = bench.store->clone(id, block() * kBlockBytes, {&source, 1});
                } else if (choice == 11 && !one.snapshot) {
                    const Range range{block() * kBlockBytes, kBlockBytes * (1 + block() % 2000)};
                    status = bench.store->deallocate(id, {&range, 1});
                } else if (choice == 12) {
                    status = bench.store->flush(VolumeId(1));
                } else if (choice == 13) {
                    status = bench.store->checkpoint();
                    REQUIRE(status);
                }
            }
        });
        if (round % 5 == 4) {
            bench.tasks.run([&] { REQUIRE(bench.store->checkpoint()); });
        }
        bench.expect_clean();
    }
    bench.tasks.run([&] { REQUIRE(bench.store->settle()); });
    bench.close();
    bench.expect_clean();
}

TEST_CASE("deep trees, shared and cut in many places, are clean")
{
    Bench bench;
    const auto seed = static_cast<unsigned>(GENERATE(1, 2, 3));
    bench.random.seed(seed);
    INFO("seed " << seed);
    constexpr std::uint64_t kBlocks = 60000;
    bench.create(kBlocks * kBlockBytes);
    unsigned names = 0;
    for (unsigned round = 0; round < 8; ++round) {
        bench.tasks.run([&] {
            // Scattered single blocks, so that no two neighbours make one item.
            for (unsigned i = 0; i < 1500; ++i) {
                bench.write(VolumeId(1), bench.random() % kBlocks, 1);
            }
            const Range hole{bench.random() % (kBlocks / 2) * kBlockBytes, 5000 * kBlockBytes};
            REQUIRE(bench.store->deallocate(VolumeId(1), {&hole, 1}));
            // More items than a clone copies: a range reference.
            const CloneSource source{VolumeId(1), {0, 20000 * kBlockBytes}};
            REQUIRE(
                bench.store->clone(VolumeId(1), (30000 + round * 10) * kBlockBytes, {&source, 1}));
            REQUIRE(bench.store->snapshot(VolumeId(1), {.name = std::to_string(++names)}));
            REQUIRE(bench.store->checkpoint());
            for (const VolumeInfo& volume : bench.store->volumes()) {
                if (volume.snapshot && bench.random() % 3 == 0) {
                    REQUIRE(bench.store->remove(volume.id));
                }
            }
            REQUIRE(bench.store->flush(VolumeId(1)));
        });
        bench.expect_clean();
    }
    bench.tasks.run([&] { REQUIRE(bench.store->settle()); });
    bench.close();
    bench.expect_clean();
}
