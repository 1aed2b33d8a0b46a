// The checker on hostile images: any byte may be anything, with checksums made right again, so that
// the damage gets behind them. It must end, in bounded time and memory, and say something or
// nothing; plain flipped bits in anything that is in use it must notice.
#include <algorithm>
#include <array>
#include <cerrno>
#include <random>

#include "coppice-catch.h"
#include "format/check/tests/image_builder.h"

using namespace coppice;
using namespace coppice::layout;
using coppice::test::ExampleImage;

namespace {

constexpr std::array<std::uint64_t, 8> kInteresting = {
    0, 1, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1ULL << 48, ~std::uint64_t{0}};

}  // namespace

TEST_CASE("anything may stand in a node or superblock")
{
    const unsigned seed = GENERATE(range(1U, 41U));
    std::mt19937_64 random(seed);
    INFO("seed " << seed);
    ExampleImage image;
    image.finish();
    const SparseBytes whole = image.disk.bytes();
    unsigned noticed = 0;
    constexpr unsigned kRounds = 25;
    for (unsigned round = 0; round < kRounds; ++round) {
        image.disk.bytes() = whole;
        const unsigned changes = 1 + static_cast<unsigned>(random() % 3);
        for (unsigned i = 0; i < changes; ++i) {
            // Mostly the first items of a node, where the meaning is.
            const bool super = random() % 5 == 0;
            const std::uint64_t block =
                super ? (random() % 2 == 0 ? 2 : image.superblock.superblock_far.get())
                      : test::kFixedBlocks + random() % (image.next_node - test::kFixedBlocks);
            test::Bytes bytes = image.read(block);
            const std::size_t offset = 8 + random() % (random() % 3 == 0 ? 4080 : 400);
            if (random() % 2 == 0) {
                bytes[offset] = static_cast<std::byte>(random());
            } else {
                const test::Bytes value =
                    test::bytes_of(Le64(kInteresting[random() % kInteresting.size()]));
                const std::size_t length = std::min(bytes.size() - offset, value.size());
                std::copy_n(value.begin(), length,
                            bytes.begin() + static_cast<std::ptrdiff_t>(offset));
            }
            image.write(block, bytes);
        }
        seal_again(image);
        const auto result = image.try_check();
        noticed += !result || !result->clean() ? 1U : 0U;
    }
    // Reserved and unused bytes are half of all.
    REQUIRE(noticed > 0);
}

TEST_CASE("the ring may hold anything")
{
    const unsigned seed = GENERATE(range(1U, 21U));
    std::mt19937_64 random(seed);
    INFO("seed " << seed);
    for (unsigned round = 0; round < 20; ++round) {
        ExampleImage image;
        image.finish();
        std::vector<OperationRecord> operations;
        test::Bytes payload(2 * sizeof(VolumeRecord));
        for (std::byte& byte : payload) {
            byte = static_cast<std::byte>(random());
        }
        for (unsigned i = 0; i < 1 + random() % 30; ++i) {
            OperationRecord record = test::write_operation(
                1 + static_cast<std::uint32_t>(random() % 3), 21 + i, random() % 1000, 9000 + i);
            record.type = static_cast<std::uint8_t>(1 + random() % 11);
            record.length = static_cast<std::uint32_t>(random() % 4 == 0 ? random() : 1);
            record.source_volume = 1 + static_cast<std::uint32_t>(random() % 12);
            record.source_lba = random() % 1000;
            const bool management = record.type == 7 || record.type == 8 || record.type == 11;
            record.payload_bytes = management ? sizeof(VolumeRecord) : 0;
            record.block = management ? 10 + random() % 10 : record.block.get();
            if (random() % 10 == 0) {
                auto* bytes = reinterpret_cast<std::byte*>(&record);
                bytes[random() % sizeof(record)] = static_cast<std::byte>(random());
            }
            operations.push_back(record);
        }
        image.commit(operations, payload, 1);
        REQUIRE(image.try_check());
    }
}

TEST_CASE("every flipped bit of what is in use is noticed")
{
    ExampleImage image;
    image.finish();
    const SparseBytes whole = image.disk.bytes();
    std::mt19937_64 random(5);
    std::vector<std::uint64_t> blocks = {0, 1, 2, image.superblock.superblock_far,
                                         image.superblock.superblock_far + 1};
    for (std::uint64_t block = test::kFixedBlocks; block < image.next_node; ++block) {
        blocks.push_back(block);
    }
    for (std::uint64_t block = test::kFirstData; block < image.next_data; ++block) {
        blocks.push_back(block);
    }
    for (const std::uint64_t block : blocks) {
        for (unsigned i = 0; i < 8; ++i) {
            image.disk.bytes() = whole;
            image.flip(block, random() % kBlockBytes);
            const auto result = image.try_check();
            INFO("block " << block);
            REQUIRE((!result || !result->clean()));
        }
    }
}

TEST_CASE("files that are no images give one error")
{
    FiberTasks tasks;
    MemoryDisk disk(tasks);
    std::mt19937_64 random(9);
    ErrorCode expected = ErrorCode::not_an_image;
    SECTION("empty") {}
    SECTION("zeroes") { disk.bytes().truncate(1 << 20); }
    SECTION("random")
    {
        test::Bytes bytes(1 << 20);
        for (std::byte& byte : bytes) {
            byte = static_cast<std::byte>(random());
        }
        disk.bytes().write(0, bytes);
    }
    SECTION("cut off in the header's neighbours")
    {
        ExampleImage image;
        image.finish();
        image.disk.bytes().truncate(kBlockBytes + 100);
        disk.bytes() = image.disk.bytes();
        expected = ErrorCode::truncated;
    }
    Result<CheckReport> result = CheckReport{};
    tasks.run([&] { result = check(disk, {}); });
    REQUIRE(!result);
    REQUIRE(result.error().code == expected);
}

TEST_CASE("a host that cannot read says so and does not end the check")
{
    ExampleImage image;
    image.finish();
    const std::array<std::uint64_t, 3> places = {image.leaf_c.block, image.new_data + 1,
                                                 kJournalStart + 5};
    const std::uint64_t bad = places.at(GENERATE(0U, 1U, 2U));
    image.disk.set_fault_hook([bad](const IoRequest& request) {
        const std::uint64_t first = request.offset_bytes >> kBlockShift;
        const std::uint64_t end = first + (request.length_bytes >> kBlockShift);
        return first <= bad && bad < end ? EIO : 0;
    });
    const auto result = image.try_check();
    REQUIRE(result);
    REQUIRE(result->corruptions == (bad == kJournalStart + 5 ? 0 : result->corruptions));
    REQUIRE((result->corruptions > 0 || bad == kJournalStart + 5));
}
