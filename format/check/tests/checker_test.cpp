// The checker on images made by hand: silent on a whole one, and one damage gives one finding of
// the right kind that names the right place.
#include "coppice-catch.h"
#include "format/check/tests/image_builder.h"

using namespace coppice;
using namespace coppice::layout;
using coppice::test::bytes_of;
using coppice::test::ExampleImage;
using coppice::test::map_child;
using coppice::test::map_item;

namespace {

std::string all_texts(const CheckReport& report)
{
    std::string text;
    for (const Finding& finding : report.findings) {
        text += std::string(severity_name(finding.severity)) + " " +
                std::string(finding_name(finding.kind)) + ": " + finding.text + "\n";
    }
    return text;
}

const Finding* find(const CheckReport& report, FindingKind kind)
{
    for (const Finding& finding : report.findings) {
        if (finding.kind == kind) {
            return &finding;
        }
    }
    return nullptr;
}

// Exactly one finding, of this kind and severity; it is returned.
Finding only(const CheckReport& report, FindingKind kind, Severity severity)
{
    INFO(all_texts(report));
    REQUIRE(report.findings.size() == 1);
    const Finding& finding = report.findings.front();
    REQUIRE(finding_name(finding.kind) == finding_name(kind));
    REQUIRE(severity_name(finding.severity) == severity_name(severity));
    return finding;
}

// At least one finding of this kind and severity.
Finding some(const CheckReport& report, FindingKind kind, Severity severity)
{
    INFO("wanted: " << finding_name(kind) << "\n" << all_texts(report));
    const Finding* finding = find(report, kind);
    REQUIRE(finding != nullptr);
    REQUIRE(severity_name(finding->severity) == severity_name(severity));
    return *finding;
}

bool says(const Finding& finding, std::string_view part)
{
    return finding.text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a whole image is clean")
{
    ExampleImage image;
    image.finish();
    const CheckReport report = image.check();
    INFO(all_texts(report));
    REQUIRE(report.clean());
    REQUIRE(report.volumes == 2);
    REQUIRE(report.snapshots == 1);
    REQUIRE(report.versions == 3);
    REQUIRE(report.data_blocks == 16);
    REQUIRE(report.verified_blocks == 16);
    REQUIRE(report.shared_blocks == 1);
    REQUIRE(report.fixed_blocks + report.data_blocks + report.node_blocks + report.free_blocks ==
            report.image_blocks);
}

// ---- Header and superblocks ---------------------------------------------------------------

TEST_CASE("a damaged header is repairable while a superblock is good")
{
    ExampleImage image;
    image.finish();
    image.flip(0, GENERATE(std::size_t{3}, std::size_t{20}, std::size_t{2000}));
    only(image.check(), FindingKind::header, Severity::repairable);
}

TEST_CASE("each damaged superblock copy is repairable")
{
    ExampleImage image;
    image.finish();
    const std::uint64_t far = image.superblock.superblock_far;
    const std::uint64_t block = GENERATE_COPY(std::uint64_t{1}, std::uint64_t{2}, far, far + 1);
    image.flip(block, 900);
    const Finding finding = only(image.check(), FindingKind::superblock, Severity::repairable);
    REQUIRE(finding.block == block);
}

TEST_CASE("without superblocks there is an error, not a report")
{
    ExampleImage image;
    image.finish();
    const std::uint64_t far = image.superblock.superblock_far;
    for (const std::uint64_t block : {std::uint64_t{1}, std::uint64_t{2}, far, far + 1}) {
        image.flip(block, 900);
    }
    auto result = image.try_check();
    REQUIRE(!result);
    REQUIRE(result.error().code == ErrorCode::bad_superblock);
    image.flip(0, 1);
    result = image.try_check();
    REQUIRE(!result);
    REQUIRE(result.error().code == ErrorCode::not_an_image);
}

TEST_CASE("unknown features and versions are refused")
{
    ExampleImage image;
    ErrorCode expected = ErrorCode::unknown_feature;
    switch (GENERATE(0, 1, 2)) {
    case 0: image.header.incompatible = 1ULL << 40; break;
    case 1: image.header.read_only_compatible = 2; break;
    default: image.header.major_version = 7; expected = ErrorCode::unsupported_version;
    }
    image.finish();
    const auto result = image.try_check();
    REQUIRE(!result);
    REQUIRE(result.error().code == expected);
}

TEST_CASE("header and superblock must agree")
{
    ExampleImage image;
    image.change_superblock = [](Superblock& superblock) { superblock.compatible = 5; };
    image.finish();
    only(image.check(), FindingKind::geometry, Severity::corruption);
}

TEST_CASE("a truncated file is corrupt")
{
    ExampleImage image;
    image.finish();
    image.disk.bytes().truncate((test::kImageBlocks - 3) * kBlockBytes);
    only(image.check(), FindingKind::file_length, Severity::corruption);
}

// ---- Nodes --------------------------------------------------------------------------------

TEST_CASE("a damaged leaf names the volume and the range that is lost")
{
    ExampleImage image;
    image.finish();
    image.flip(image.leaf_c.block, 100);
    const CheckReport report = image.check();
    const Finding finding = some(report, FindingKind::node, Severity::corruption);
    REQUIRE(finding.volume == "volume 'main'");
    REQUIRE(finding.block == image.leaf_c.block);
    REQUIRE(finding.lba == 100);
    REQUIRE(finding.lba_blocks == 900);
    REQUIRE(report.leaks == 0);  // what the leaf had is not called leaked
    REQUIRE(!report.space_complete);
}

TEST_CASE("damage in a shared leaf is said once, with its owner")
{
    ExampleImage image;
    image.finish();
    image.flip(image.leaf_a.block, 100);
    const CheckReport report = image.check();
    const Finding finding = only(report, FindingKind::node, Severity::corruption);
    REQUIRE(finding.volume == "snapshot 'snap' of volume 'main'");
    REQUIRE(finding.lba == 0);
    REQUIRE(finding.lba_blocks == 100);
}

TEST_CASE("every field of a node's header is compared")
{
    ExampleImage image;
    std::string part;
    const int which = GENERATE(range(0, 7));
    image.change_node = [&](NodeHeader& header) {
        if (header.kind != static_cast<std::uint8_t>(TreeKind::catalog)) {
            return;
        }
        switch (which) {
        case 0: header.magic = 1, part = "magic"; break;
        case 1: header.kind = 3, part = "another tree"; break;
        case 2: header.block = 77, part = "place"; break;
        case 3: header.birth = 19, part = "born at 19"; break;
        case 4: header.generation = 3, part = "generation 3"; break;
        case 5: header.level = 16, part = "level"; break;
        default: header.count = 15, part = "claims 15"; break;
        }
    };
    image.finish();
    const CheckReport report = image.check();
    const Finding finding = some(report, FindingKind::node, Severity::corruption);
    REQUIRE(says(finding, part));
    REQUIRE(finding.tree == "catalog");
}

TEST_CASE("a stale node, whole but not the one that is meant, is found")
{
    ExampleImage image;
    image.finish();
    image.copy_block(image.leaf_b.block, image.leaf_c.block);
    some(image.check(), FindingKind::node, Severity::corruption);
}

TEST_CASE("keys out of order or out of bounds are found")
{
    ExampleImage image;
    const int which = GENERATE(0, 1, 2);
    std::vector<test::Bytes> items = {bytes_of(map_item(200, image.new_data, 4, 12)),
                                      bytes_of(map_item(300, image.shared_data + 2, 1, 14))};
    if (which == 0) {
        std::swap(items[0], items[1]);
    }
    const std::uint64_t separator = which == 1 ? 250 : 100;
    const std::uint64_t behind = which == 2 ? 299 : 900;
    const auto leaf = image.node(TreeKind::map, 0, items, 12, 1);
    const auto last =
        image.node(TreeKind::map, 0, {bytes_of(map_item(950, 0, 1, 12, MapKind::zero))}, 12, 1);
    image.main_version.map = image.node(
        TreeKind::map, 1,
        {map_child(0, image.leaf_a), map_child(separator, leaf), map_child(behind, last)}, 12, 1);
    image.finish();
    some(image.check(), FindingKind::node, Severity::corruption);
}

TEST_CASE("mirrors stand in for their primaries")
{
    ExampleImage image;
    image.leaf_c = image.node(TreeKind::map, 0,
                              {bytes_of(map_item(200, image.new_data, 4, 12)),
                               bytes_of(map_item(300, image.shared_data + 2, 1, 14))},
                              12, 1, true);
    image.next_data += 0;
    image.main_version.map = image.node(
        TreeKind::map, 1, {map_child(0, image.leaf_a), map_child(100, image.leaf_c)}, 12, 1);
    image.finish();
    // The first versions of leaf and root that the example made are nobody's now.
    REQUIRE(image.check().corruptions == 1);  // the count of nodes
    const std::uint64_t leaks = image.check().leaks;
    SECTION("primary")
    {
        image.flip(image.leaf_c.block, 80);
        some(image.check(), FindingKind::mirror, Severity::repairable);
    }
    SECTION("mirror")
    {
        image.flip(image.leaf_c.mirror, 80);
        some(image.check(), FindingKind::mirror, Severity::repairable);
    }
    SECTION("both")
    {
        image.flip(image.leaf_c.block, 80);
        image.flip(image.leaf_c.mirror, 80);
        some(image.check(), FindingKind::node, Severity::corruption);
        return;
    }
    const CheckReport report = image.check();
    REQUIRE(report.repairables == 1);
    REQUIRE(report.corruptions == 1);
    REQUIRE(report.leaks == leaks);
}

TEST_CASE("a root that points to itself, and a node reached twice, end the walk")
{
    ExampleImage image;
    NodePointer self = image.root_new;
    self.block = image.next_node;
    const auto first = image.node(TreeKind::map, 1, {map_child(0, self)}, 12, 1);
    // The checksum cannot be right for a node that holds it: a pointer back is a damaged one.
    SECTION("back to itself") { image.main_version.map = first; }
    SECTION("one leaf twice")
    {
        image.main_version.map = image.node(
            TreeKind::map, 1, {map_child(0, image.leaf_c), map_child(150, image.leaf_c)}, 12, 1);
    }
    image.finish();
    REQUIRE(image.check().corruptions > 0);
}

// ---- Map items and the birth rule ---------------------------------------------------------

namespace {

// The example with another last leaf in main's map.
CheckReport with_leaf(ExampleImage& image, const std::vector<MapItem>& items)
{
    std::vector<test::Bytes> bytes;
    bytes.reserve(items.size());
    for (const MapItem& item : items) {
        bytes.push_back(bytes_of(item));
    }
    image.leaf_c = image.node(TreeKind::map, 0, bytes, 12, 1);
    image.main_version.map = image.node(
        TreeKind::map, 1, {map_child(0, image.leaf_a), map_child(100, image.leaf_c)}, 12, 1);
    image.finish();
    return image.check();
}

}  // namespace

TEST_CASE("impossible map items are found, with what is lost")
{
    ExampleImage image;
    MapItem item = map_item(400, image.new_data, 2, 15);
    switch (GENERATE(range(0, 9))) {
    case 0: item.length = 0; break;
    case 1: item.kind = 9; break;
    case 2: item.block = 100; break;
    case 3: item.block = test::kImageBlocks - 1; break;
    case 4: item.birth = 21; break;
    case 5: item.birth = 0; break;
    case 6: item.flags = 1; break;
    case 7: item.lba = 1ULL << 60; break;
    default: item.kind = static_cast<std::uint8_t>(MapKind::unwritable); item.detail = 0x100;
    }
    const CheckReport report = with_leaf(image, {item});
    const Finding finding = some(report, FindingKind::map_item, Severity::corruption);
    REQUIRE(finding.volume == "volume 'main'");
    REQUIRE(finding.lba == item.lba);
}

TEST_CASE("overlapping items are found, also across leaves that are shared")
{
    ExampleImage image;
    SECTION("in a leaf")
    {
        some(with_leaf(image, {map_item(200, image.new_data, 4, 12),
                               map_item(203, image.shared_data + 2, 1, 14)}),
             FindingKind::map_item, Severity::corruption);
    }
    SECTION("into a shared leaf")
    {
        // New leaf first, then the snapshot's leaf B at lba 200.
        const auto leaf =
            image.node(TreeKind::map, 0, {bytes_of(map_item(90, image.new_data, 115, 12))}, 12, 1);
        image.main_version.map =
            image.node(TreeKind::map, 1, {map_child(0, leaf), map_child(100, image.leaf_b)}, 12, 1);
        image.finish();
        some(image.check(), FindingKind::map_item, Severity::corruption);
    }
}

TEST_CASE("an item with an old birth that the parent has not is against the birth rule")
{
    ExampleImage image;
    const CheckReport report = with_leaf(
        image, {map_item(200, image.new_data, 4, 9), map_item(300, image.shared_data + 2, 1, 14)});
    const Finding finding = some(report, FindingKind::birth, Severity::corruption);
    REQUIRE(finding.lba == 200);
}

TEST_CASE("a node with an old birth that the parent has not is against the birth rule")
{
    ExampleImage image;
    const auto leaf =
        image.node(TreeKind::map, 0, {bytes_of(map_item(200, image.new_data, 4, 12))}, 9, 1);
    image.main_version.map =
        image.node(TreeKind::map, 1, {map_child(0, image.leaf_a), map_child(100, leaf)}, 12, 1);
    image.finish();
    some(image.check(), FindingKind::birth, Severity::corruption);
}

// ---- Catalog ------------------------------------------------------------------------------

TEST_CASE("a catalog that does not fit together is found")
{
    ExampleImage image;
    std::string part;
    switch (GENERATE(range(0, 17))) {
    case 0: image.main_record.version = 7, part = "version 7 does not exist"; break;
    case 1: image.main_record.lba_shift = 10, part = "LBA size"; break;
    case 2: image.main_record.size_bytes = 700, part = "size of 700"; break;
    case 3: image.main_record.size_bytes = 1ULL << 63, part = "impossible"; break;
    case 4: image.main_record.flags = kVolumeSnapshot, part = "still written"; break;
    case 5: image.main_version.volume = 3, part = "belongs to volume 3"; break;
    case 6: image.main_version.parent = 8, part = "parent 8 does not exist"; break;
    case 7: image.main_version.parent = 3, part = "was not taken before"; break;
    case 8: image.main_version.parent = 2, part = "does not exist"; break;
    case 9: image.main_version.first_list = 9, part = "list 9 does not exist"; break;
    case 10: image.main_version.first_list = 3, part = "belongs to versions"; break;
    case 11: image.snapshot_version.sequence = 21, part = "after the superblock's"; break;
    case 12: image.main_version.sequence = 15, part = "marked as a head"; break;
    case 13: image.superblock.next_volume = 3, part = "volume 3 is not below"; break;
    case 14: image.superblock.next_version = 3, part = "version 3 is not below"; break;
    case 15: image.main_version.reference_depth = 3, part = "3 deep"; break;
    default: image.main_record.parent_volume = 44, part = "parent is volume 44"; break;
    }
    image.finish();
    const CheckReport report = image.check();
    INFO(all_texts(report));
    bool said = false;
    for (const Finding& finding : report.findings) {
        said = said || (finding.kind == FindingKind::catalog && says(finding, part) &&
                        finding.severity == Severity::corruption);
    }
    REQUIRE(said);
}

TEST_CASE("a consistency group is a small number, and snapshots have none")
{
    ExampleImage image;
    image.main_record.consistency_group = 255;
    image.copy_record.consistency_group = 255;
    SECTION("as it should be")
    {
        image.finish();
        REQUIRE(image.check().clean());
    }
    SECTION("too large")
    {
        image.copy_record.consistency_group = 256;
        image.finish();
        const Finding finding = only(image.check(), FindingKind::catalog, Severity::corruption);
        REQUIRE(says(finding, "consistency group 256"));
    }
    SECTION("of a snapshot")
    {
        image.snapshot_record.consistency_group = 255;
        image.finish();
        const Finding finding = only(image.check(), FindingKind::catalog, Severity::corruption);
        REQUIRE(says(finding, "consistency group 255"));
    }
}

TEST_CASE("names are unique and whole")
{
    ExampleImage image;
    SECTION("twice")
    {
        image.finish();
        image.add_volume(3, "main", image.copy_record);
        image.ImageBuilder::finish();
        some(image.check(), FindingKind::catalog, Severity::corruption);
    }
    SECTION("not UTF-8")
    {
        image.finish();
        image.add_volume(3, "\xff\xfe", image.copy_record);
        image.ImageBuilder::finish();
        some(image.check(), FindingKind::catalog, Severity::corruption);
    }
}

TEST_CASE("a list that goes in a circle is found")
{
    ExampleImage image;
    image.add_list(2, 2, 2);
    image.finish();
    some(image.check(), FindingKind::catalog, Severity::corruption);
}

TEST_CASE("a list of no version, and a version that nothing needs, are leaks")
{
    ExampleImage image;
    SECTION("list")
    {
        image.add_list(5, 2);
        image.finish();
        only(image.check(), FindingKind::catalog, Severity::leak);
    }
    SECTION("version")
    {
        VersionRecord record{};
        record.sequence = 11;
        image.add_version(6, record);
        image.finish();
        only(image.check(), FindingKind::catalog, Severity::leak);
    }
}

// ---- Dead lists, held versions, removal ---------------------------------------------------

TEST_CASE("a missing dead record is a leak, one too many is corruption")
{
    ExampleImage image;
    SECTION("data missing")
    {
        image.dead.erase(image.dead.begin());
        image.finish();
        const Finding finding = only(image.check(), FindingKind::dead_record, Severity::leak);
        REQUIRE(finding.block == image.old_data);
        REQUIRE(finding.blocks == 4);
    }
    SECTION("node missing")
    {
        image.dead.pop_back();
        image.finish();
        const Finding finding = only(image.check(), FindingKind::dead_record, Severity::leak);
        REQUIRE(finding.block == image.root_old.block);
    }
    SECTION("cut in two, as freeing a part first leaves it")
    {
        image.dead.front().length = 1;
        image.add_dead(2, 7, image.old_data + 1, 3, DeadKind::data);
        image.finish();
        REQUIRE(image.check().clean());
    }
    SECTION("still in use")
    {
        image.add_dead(3, 7, image.old_data, 4, DeadKind::data);  // the clone still has it
        image.finish();
        only(image.check(), FindingKind::dead_record, Severity::corruption);
    }
    SECTION("wrong birth")
    {
        image.dead.front().birth = 6;
        image.finish();
        REQUIRE(image.check().corruptions == 1);
        REQUIRE(image.check().leaks == 1);
    }
    SECTION("born after the parent")
    {
        image.add_dead(2, 12, image.new_data, 4, DeadKind::data);
        image.finish();
        only(image.check(), FindingKind::dead_record, Severity::corruption);
    }
    SECTION("of an unknown list")
    {
        image.add_dead(8, 3, image.shared_data, 4, DeadKind::data);
        image.finish();
        only(image.check(), FindingKind::dead_record, Severity::leak);
    }
    SECTION("of an unknown kind")
    {
        image.add_dead(2, 3, image.shared_data, 4, static_cast<DeadKind>(7));
        image.finish();
        only(image.check(), FindingKind::dead_record, Severity::corruption);
    }
}

TEST_CASE("range references hold blocks of their version")
{
    ExampleImage image;
    const std::vector<MapItem> items = {map_item(200, image.new_data, 4, 12),
                                        map_item(300, image.shared_data + 2, 1, 14),
                                        map_item(400, 0, 50, 15, MapKind::range_reference, 1)};
    image.main_version.reference_depth = 1;
    image.snapshot_version.held_blocks = 50;
    SECTION("right")
    {
        const CheckReport report = with_leaf(image, items);
        REQUIRE(find(report, FindingKind::held_blocks) == nullptr);
    }
    SECTION("too few")
    {
        image.snapshot_version.held_blocks = 49;
        some(with_leaf(image, items), FindingKind::held_blocks, Severity::corruption);
    }
    SECTION("too many")
    {
        image.snapshot_version.held_blocks = 51;
        some(with_leaf(image, items), FindingKind::held_blocks, Severity::leak);
    }
    SECTION("depth")
    {
        image.main_version.reference_depth = 0;
        some(with_leaf(image, items), FindingKind::map_item, Severity::corruption);
    }
    SECTION("no such version")
    {
        std::vector<MapItem> wrong = items;
        wrong[2].detail = 8;
        some(with_leaf(image, wrong), FindingKind::map_item, Severity::corruption);
    }
}

TEST_CASE("a removed version of which a part is dropped is accounted for")
{
    // The snapshot is gone but for main, its only child: what main has no more is pending.
    ExampleImage image;
    image.snapshot_version.volume = 0;
    image.snapshot_version.flags = kVersionRemoved;
    image.copy_version.parent = 0;
    image.copy_version.map = {};
    image.copy_version.mapped_blocks = 0;
    RangeOperationItem removal{};
    removal.id = 1;
    removal.kind = static_cast<std::uint8_t>(RangeOperationKind::remove_version);
    removal.version = 1;
    image.range_operations.push_back(removal);
    image.add_volume(1, "main", image.main_record);
    image.add_volume(3, "copy", image.copy_record);
    image.add_version(2, image.main_version);
    image.add_version(3, image.copy_version);
    image.add_version(1, image.snapshot_version);
    SECTION("nothing yet")
    {
        image.ImageBuilder::finish();
        const CheckReport report = image.check();
        INFO(all_texts(report));
        REQUIRE(report.clean());
    }
    SECTION("the old data are free")
    {
        image.dead.erase(image.dead.begin());
        image.ImageBuilder::finish();
        const CheckReport report = image.check();
        INFO(all_texts(report));
        // ... but here the free-space tree was not told.
        REQUIRE(find(report, FindingKind::leaked)->block == image.old_data);
        REQUIRE(report.leaked_blocks == 4);
    }
}

// ---- References, checksums, free space ----------------------------------------------------

TEST_CASE("references must be what the maps add up to")
{
    ExampleImage image;
    SECTION("none")
    {
        image.references.clear();
        image.finish();
        const Finding finding =
            only(image.check(), FindingKind::reference_count, Severity::corruption);
        REQUIRE(finding.block == image.shared_data + 2);
        REQUIRE(says(finding, "lba 2 to 2 of snapshot 'snap'"));
        REQUIRE(says(finding, "lba 300 to 300 of volume 'main'"));
    }
    SECTION("too many")
    {
        image.references.front().extra = 2;
        image.finish();
        only(image.check(), FindingKind::reference_count, Severity::leak);
    }
    SECTION("too long")
    {
        image.references.front().length = 2;
        image.finish();
        const Finding finding = only(image.check(), FindingKind::reference_count, Severity::leak);
        REQUIRE(finding.block == image.shared_data + 3);
    }
    SECTION("impossible")
    {
        image.references.front().extra = 0;
        image.finish();
        some(image.check(), FindingKind::reference_count, Severity::corruption);
    }
}

TEST_CASE("a block of two volumes without a reference is used twice")
{
    ExampleImage image;
    const CheckReport report = with_leaf(image, {map_item(200, image.shared_data, 4, 12)});
    some(report, FindingKind::reference_count, Severity::corruption);
}

TEST_CASE("a node where data lie is used twice")
{
    ExampleImage image;
    const CheckReport report = with_leaf(image, {map_item(200, image.new_data, 4, 12),
                                                 map_item(300, image.shared_data + 2, 1, 14),
                                                 map_item(500, image.leaf_a.block, 1, 15)});
    const Finding finding = some(report, FindingKind::double_use, Severity::corruption);
    REQUIRE(finding.block == image.leaf_a.block);
    REQUIRE(finding.lba == 500);
}

TEST_CASE("mapped blocks need a checksum")
{
    ExampleImage image;
    image.checksums.erase(image.new_data + 1);
    image.finish();
    const Finding finding =
        only(image.check(), FindingKind::checksum_missing, Severity::corruption);
    REQUIRE(finding.block == image.new_data + 1);
    REQUIRE(finding.volume == "volume 'main'");
    REQUIRE(finding.lba == 201);
}

TEST_CASE("without any checksums every mapped block lacks one")
{
    ExampleImage image;
    image.checksums.clear();
    image.finish();
    const CheckReport report = image.check();
    some(report, FindingKind::checksum_missing, Severity::corruption);
    std::uint64_t blocks = 0;
    for (const Finding& finding : report.findings) {
        blocks += finding.blocks;
    }
    REQUIRE(blocks == 16);
}

TEST_CASE("a flipped bit of data names volume and lba")
{
    ExampleImage image;
    image.finish();
    image.flip(image.old_data + 3, 4095);
    REQUIRE(image.check(false).clean());
    const Finding finding = only(image.check(), FindingKind::data, Severity::corruption);
    REQUIRE(finding.block == image.old_data + 3);
    REQUIRE(finding.lba == 203);
    REQUIRE(finding.volume == "snapshot 'snap' of volume 'main'");
}

TEST_CASE("free space must be exactly what is not used")
{
    ExampleImage image;
    FindingKind kind = FindingKind::free_space;
    Severity severity = Severity::corruption;
    std::function<void(std::vector<FreeItem>&)> change;
    const auto set_extent = [](FreeItem& item, std::uint64_t block, std::uint64_t length) {
        item.key = block * 4 + static_cast<std::uint64_t>(FreeKind::extent);
        FreeExtent extent{};
        extent.length = length;
        std::memcpy(item.value.data(), static_cast<const void*>(&extent), sizeof(extent));
    };
    const std::uint64_t data_end = image.next_data;
    const std::uint64_t left = 2 * kGroupBlocks - data_end;
    switch (GENERATE(range(0, 9))) {
    case 0:  // data given out
        change = [&](auto& items) { set_extent(items[3], data_end - 2, left + 2); };
        kind = FindingKind::used_but_free;
        break;
    case 1:  // a node given out
        change = [&](auto& items) {
            set_extent(items[1], items[1].key / 4 - 1, kGroupBlocks - items[1].key / 4 + 1);
        };
        kind = FindingKind::used_but_free;
        break;
    case 2:  // less than there is
        change = [&](auto& items) { set_extent(items[3], data_end + 5, left - 5); };
        kind = FindingKind::leaked;
        severity = Severity::leak;
        break;
    case 3: change = [](auto& items) { items.pop_back(); }; break;
    case 4:  // no info item for the second group
        change = [](auto& items) { items.erase(items.begin() + 2, items.end()); };
        break;
    case 5: change = [&](auto& items) { set_extent(items[3], data_end, left + 1); }; break;
    case 6:  // a bitmap among extents
        change = [&](auto& items) {
            FreeItem item{};
            item.key = (kGroupBlocks + 128) * 4 + static_cast<std::uint64_t>(FreeKind::bitmap);
            item.value[0] = 1;
            items[3] = item;
        };
        break;
    case 7: change = [](auto& items) { items[2].value[8] = kGroupHoldsMetadata; }; break;
    default: change = [](auto& items) { items[0].value[8] = 0; }; break;
    }
    image.change_free = change;
    image.finish();
    some(image.check(), kind, severity);
}

TEST_CASE("the superblock's totals are counted again")
{
    ExampleImage image;
    image.change_superblock = [](Superblock& superblock) {
        superblock.data_blocks = superblock.data_blocks + 1;
        superblock.free_blocks = superblock.free_blocks - 1;
    };
    image.finish();
    const CheckReport report = image.check();
    INFO(all_texts(report));
    REQUIRE(report.corruptions == 2);
    some(report, FindingKind::space_counts, Severity::corruption);
}

TEST_CASE("a version's count of mapped blocks is counted again")
{
    ExampleImage image;
    image.main_version.mapped_blocks = 12;
    image.finish();
    only(image.check(), FindingKind::mapped_blocks, Severity::corruption);
}
