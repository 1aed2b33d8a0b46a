// The store on images that no store wrote: whatever stands in them, with checksums made right, it
// ends with an error or goes on, and never ends the process. What the checker says of such images
// is tested beside it.
#include "coppice-catch.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "format/check/tests/image_builder.h"
#include "format/volume/store.h"

using namespace coppice;
using namespace coppice::layout;
using coppice::test::bytes_of;
using coppice::test::ExampleImage;
using coppice::test::map_child;
using coppice::test::map_item;

namespace {

constexpr VolumeId kMain(1);

// Opens the image, and says how that or the use of it ended. What a failure leaves is closed as far
// as it lets itself be closed.
Status use(ExampleImage& image, const std::function<Status(Store&)>& body)
{
    Status result;
    image.tasks.run([&] {
        auto store = Store::open(image.disk, {});
        if (!store) {
            result = pass_on(store);
            return;
        }
        result = body(**store);
        const Status closed = (*store)->close();
        result = result ? closed : result;
    });
    return result;
}

Status write_blocks(Store& store, std::uint64_t lba, std::uint64_t blocks)
{
    std::vector<std::byte> bytes(blocks * kBlockBytes, std::byte{7});
    const iovec buffer{bytes.data(), bytes.size()};
    return store.write(kMain, lba * kBlockBytes, {&buffer, 1}, true);
}

Status nothing(Store&) { return {}; }

void expect(const Status& status, ErrorCode code)
{
    REQUIRE_FALSE(status.has_value());
    INFO(status.error().text);
    CHECK(error_name(status.error().code) == error_name(code));
}

// The main volume's map: two leaves, the second for lba 50 and up.
void set_map(ExampleImage& image, const std::vector<MapItem>& first,
             const std::vector<MapItem>& second)
{
    const auto leaf = [&](const std::vector<MapItem>& items) {
        std::vector<test::Bytes> bytes;
        for (const MapItem& item : items) {
            bytes.push_back(bytes_of(item));
        }
        return image.node(TreeKind::map, 0, bytes, 12, 1);
    };
    const NodePointer left = leaf(first);
    const NodePointer right = leaf(second);
    image.main_version.map =
        image.node(TreeKind::map, 1, {map_child(0, left), map_child(50, right)}, 12, 1);
}

}  // namespace

TEST_CASE("versions that are each other's parents are refused")
{
    ExampleImage image;
    for (std::uint32_t id : {4U, 5U}) {
        VersionRecord version{};
        version.parent = 9 - id;
        version.sequence = 15;
        version.first_list = id;
        version.flags = kVersionRemoved;
        image.add_version(id, version);
        image.add_list(id, id);
    }
    image.finish();
    expect(use(image, nothing), ErrorCode::bad_record);
}

TEST_CASE("a pointer without a checksum is refused, also where nobody follows it")
{
    ExampleImage image;
    SECTION("of a map")
    {
        image.copy_version.map.checksum = 0;
        image.finish();
        expect(use(image, [](Store& store) { return write_blocks(store, 200, 1); }),
               ErrorCode::bad_record);
    }
    SECTION("of a node")
    {
        NodePointer left = image.leaf_a;
        left.checksum = 0;
        image.main_version.map =
            image.node(TreeKind::map, 1, {map_child(0, left), map_child(100, image.leaf_c)}, 12, 1);
        image.finish();
        expect(use(image, [](Store& store) { return write_blocks(store, 302, 1); }),
               ErrorCode::bad_node);
    }
    SECTION("of a tree")
    {
        image.change_superblock = [](Superblock& superblock) {
            superblock.references.checksum = 0;
        };
        image.finish();
        expect(use(image, [](Store& store) { return write_blocks(store, 600, 1); }),
               ErrorCode::bad_superblock);
    }
}

TEST_CASE("what refers to a version that is not there cannot be cloned")
{
    ExampleImage image;
    set_map(image, {map_item(0, image.shared_data, 8, 3)},
            {map_item(400, 0, 4, 13, MapKind::range_reference, 9)});
    image.finish();
    expect(use(image,
               [](Store& store) -> Status {
                   const CloneSource source{kMain, {400 * kBlockBytes, 4 * kBlockBytes}};
                   return store.clone(kMain, 500 * kBlockBytes, {&source, 1});
               }),
           ErrorCode::bad_record);
}

TEST_CASE("a node may stand where its group was not made present")
{
    ExampleImage image;
    // Nodes behind free space, of which nothing was made present.
    image.next_node = 5000;
    image.change_free = [](std::vector<FreeItem>& free) {
        FreeExtent extent{};
        extent.length = 2000;
        FreeItem item{};
        item.key = 2000 * 4 + static_cast<std::uint64_t>(FreeKind::extent);
        std::memcpy(item.value.data(), static_cast<const void*>(&extent), sizeof(extent));
        free.push_back(item);
        std::sort(free.begin(), free.end(),
                  [](const FreeItem& a, const FreeItem& b) { return a.key < b.key; });
    };
    image.finish();
    const Status used = use(image, [](Store& store) -> Status {
        COPPICE_TRY(write_blocks(store, 200, 1));
        return store.settle();
    });
    INFO((used ? "" : used.error().text));
    CHECK(used.has_value());
}

TEST_CASE("items that overlap, or stand in the wrong leaf, end no process")
{
    ExampleImage image;
    const std::uint64_t data = image.shared_data;
    SECTION("what is left of one is put over another")
    {
        set_map(image, {map_item(0, data, 100, 12)}, {map_item(70, data, 10, 12)});
        image.finish();
        const Status used = use(image, [](Store& store) { return write_blocks(store, 45, 10); });
        expect(used, ErrorCode::bad_node);
    }
    SECTION("the key of what is cut leads to a leaf that nobody looked at")
    {
        set_map(image, {map_item(0, data, 1, 12)}, {map_item(10, data + 1, 100, 12)});
        image.finish();
        CHECK_FALSE(use(image, [](Store& store) { return write_blocks(store, 60, 1); }));
    }
}
