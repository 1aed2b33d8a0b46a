#include "format/check/tests/image_builder.h"

#include <algorithm>

#include "format/base/checksum.h"

namespace coppice::test {

using namespace layout;

MapItem map_item(std::uint64_t lba, std::uint64_t block, std::uint32_t length, std::uint64_t birth,
                 MapKind kind, std::uint32_t detail)
{
    MapItem item{};
    item.lba = lba;
    item.block = block;
    item.kind = static_cast<std::uint8_t>(kind);
    item.birth = birth;
    item.length = length;
    item.detail = detail;
    return item;
}

Bytes map_child(std::uint64_t key, const NodePointer& pointer)
{
    Bytes item = bytes_of(Le64(key));
    const Bytes rest = bytes_of(pointer);
    item.insert(item.end(), rest.begin(), rest.end());
    return item;
}

OperationRecord write_operation(std::uint32_t volume, std::uint64_t sequence, std::uint64_t lba,
                                std::uint64_t block)
{
    OperationRecord record{};
    record.type = static_cast<std::uint8_t>(OperationType::write);
    record.volume = volume;
    record.sequence = sequence;
    record.lba = lba;
    record.length = 1;
    record.block = block;
    return record;
}

ImageBuilder::ImageBuilder() : disk(tasks)
{
    for (std::size_t i = 0; i < header.uuid.size(); ++i) {
        header.uuid[i] = static_cast<std::uint8_t>(0x10 + i);
        seed_ |= i < 8 ? std::uint64_t{header.uuid[i]} << (8 * i) : 0;
    }
    header.magic = kMagic;
    header.major_version = kMajorVersion;
    header.minor_version = kMinorVersion;
    header.block_shift = 12;
    header.journal_start = kJournalStart;
    header.journal_blocks = kJournalBlocks;
    header.superblock_near = kSuperblockNear;
    header.superblock_far = kJournalStart + kJournalBlocks;
    header.fixed_blocks = kFixedBlocks;
    header.group_blocks = static_cast<std::uint32_t>(kGroupBlocks);

    superblock.magic = kSuperblockMagic;
    superblock.major_version = kMajorVersion;
    superblock.minor_version = kMinorVersion;
    superblock.generation = 2;
    superblock.sequence = 20;
    superblock.uuid = header.uuid;
    superblock.journal_start = header.journal_start;
    superblock.journal_blocks = header.journal_blocks;
    superblock.superblock_near = header.superblock_near;
    superblock.superblock_far = header.superblock_far;
    superblock.fixed_blocks = kFixedBlocks;
    superblock.image_blocks = kImageBlocks;
    superblock.journal_commit = 1;
    superblock.next_version = 10;
    superblock.next_volume = 10;
    superblock.next_list = 10;
    superblock.next_operation = 10;
}

void ImageBuilder::write(std::uint64_t block, const Bytes& bytes)
{
    disk.bytes().write(block * kBlockBytes, bytes);
}

Bytes ImageBuilder::read(std::uint64_t block) const
{
    Bytes bytes(kBlockBytes);
    disk.bytes().read(block * kBlockBytes, bytes);
    return bytes;
}

void ImageBuilder::flip(std::uint64_t block, std::size_t offset)
{
    Bytes bytes = read(block);
    bytes[offset] ^= std::byte{0x40};
    write(block, bytes);
}

void ImageBuilder::copy_block(std::uint64_t from, std::uint64_t to) { write(to, read(from)); }

NodePointer ImageBuilder::node(TreeKind kind, unsigned level, const std::vector<Bytes>& items,
                               std::uint64_t birth, std::uint64_t owner, bool mirrored)
{
    NodePointer pointer{};
    pointer.block = next_node++;
    pointer.birth = birth;
    if (mirrored) {
        pointer.mirror = next_node++;
    }
    NodeHeader node_header{};
    node_header.magic = kNodeMagic;
    node_header.kind = static_cast<std::uint8_t>(kind);
    node_header.level = static_cast<std::uint8_t>(level);
    node_header.count = static_cast<std::uint16_t>(items.size());
    node_header.block = pointer.block;
    node_header.birth = birth;
    node_header.generation = 2;
    node_header.owner = owner;
    if (change_node) {
        change_node(node_header);
    }
    Bytes bytes = bytes_of(node_header);
    for (const Bytes& item : items) {
        bytes.insert(bytes.end(), item.begin(), item.end());
    }
    bytes.resize(kBlockBytes);
    node_header.checksum = metadata_checksum(bytes, seed_);
    std::memcpy(bytes.data(), static_cast<const void*>(&node_header), sizeof(node_header));
    pointer.checksum = node_header.checksum;
    write(pointer.block, bytes);
    if (mirrored) {
        write(pointer.mirror, bytes);
    }
    return pointer;
}

std::uint64_t ImageBuilder::data(std::uint64_t blocks)
{
    const std::uint64_t first = next_data;
    for (; next_data < first + blocks; ++next_data) {
        checksums[next_data] = journal_data(next_data);
    }
    return first;
}

std::uint32_t ImageBuilder::journal_data(std::uint64_t block)
{
    Bytes bytes(kBlockBytes);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        bytes[i] = static_cast<std::byte>(block * 31 + i / 7);
    }
    write(block, bytes);
    return data_checksum(bytes);
}

namespace {

template <typename Record>
CatalogItem catalog_item(CatalogKind kind, std::uint64_t id, const Record& record)
{
    CatalogItem item{};
    item.kind = static_cast<std::uint64_t>(kind);
    item.id = id;
    std::memcpy(item.value.data(), static_cast<const void*>(&record), sizeof(record));
    return item;
}

}  // namespace

void ImageBuilder::add_volume(std::uint32_t id, const std::string& name, const VolumeRecord& record)
{
    VolumeRecord named = record;
    std::copy(name.begin(), name.end(), named.name.begin());
    const auto kind = CatalogKind::volume;
    catalog[{static_cast<std::uint64_t>(kind), id}] = catalog_item(kind, id, named);
}

void ImageBuilder::add_version(std::uint32_t id, const VersionRecord& record)
{
    const auto kind = CatalogKind::version;
    catalog[{static_cast<std::uint64_t>(kind), id}] = catalog_item(kind, id, record);
}

void ImageBuilder::add_list(std::uint64_t id, std::uint32_t version, std::uint64_t next)
{
    ListRecord record{};
    record.version = version;
    record.next = next;
    const auto kind = CatalogKind::list;
    catalog[{static_cast<std::uint64_t>(kind), id}] = catalog_item(kind, id, record);
}

void ImageBuilder::add_dead(std::uint64_t list, std::uint64_t birth, std::uint64_t block,
                            std::uint32_t length, DeadKind kind)
{
    DeadItem item{};
    item.list = list;
    item.birth = birth;
    item.block = block;
    item.length = length;
    item.count = 1;
    item.kind = static_cast<std::uint8_t>(kind);
    dead.push_back(item);
}

NodePointer ImageBuilder::flat_tree(TreeKind kind, const std::vector<Bytes>& items)
{
    return items.empty() ? NodePointer{} : node(kind, 0, items, superblock.sequence);
}

void ImageBuilder::seal_superblock(const Superblock& value, std::uint64_t block)
{
    Superblock sealed = value;
    sealed.checksum = metadata_checksum(bytes_of(sealed), seed_);
    write(block, bytes_of(sealed));
}

void ImageBuilder::finish()
{
    std::vector<Bytes> items;
    for (const auto& [key, item] : catalog) {
        items.push_back(bytes_of(item));
    }
    superblock.catalog = flat_tree(TreeKind::catalog, items);

    std::map<std::uint64_t, ChecksumItem> chunks;
    for (const auto& [block, checksum] : checksums) {
        ChecksumItem& item = chunks[block / kChecksumsPerItem];
        item.chunk = block / kChecksumsPerItem;
        item.present = item.present.get() | 1U << (block % kChecksumsPerItem);
        item.values[block % kChecksumsPerItem] = checksum;
    }
    items.clear();
    for (const auto& [chunk, item] : chunks) {
        items.push_back(bytes_of(item));
    }
    superblock.checksums = flat_tree(TreeKind::checksums, items);

    items.clear();
    for (const auto& item : references) {
        items.push_back(bytes_of(item));
    }
    superblock.references = flat_tree(TreeKind::references, items);

    std::sort(dead.begin(), dead.end(), [](const DeadItem& a, const DeadItem& b) {
        return std::tuple(a.list.get(), a.birth.get(), a.block.get()) <
               std::tuple(b.list.get(), b.birth.get(), b.block.get());
    });
    items.clear();
    for (const auto& item : dead) {
        items.push_back(bytes_of(item));
    }
    superblock.dead = flat_tree(TreeKind::dead, items);

    items.clear();
    for (const auto& item : range_operations) {
        items.push_back(bytes_of(item));
    }
    superblock.range_operations = flat_tree(TreeKind::range_operations, items);

    // The free-space tree describes the place of its own node too.
    const std::uint64_t first_free = next_node + 1;
    const std::uint64_t free_nodes = kGroupBlocks - first_free;
    const std::uint64_t free_data = 2 * kGroupBlocks - next_data;
    std::vector<FreeItem> free;
    const auto add = [&](std::uint64_t block, FreeKind kind, const Bytes& value) {
        FreeItem item{};
        item.key = block * 4 + static_cast<std::uint64_t>(kind);
        std::memcpy(item.value.data(), value.data(), value.size());
        free.push_back(item);
    };
    GroupInfo info{};
    info.items = 1;
    info.free_blocks = static_cast<std::uint32_t>(free_nodes);
    info.flags = kGroupHoldsMetadata;
    FreeExtent extent{};
    extent.length = free_nodes;
    add(0, FreeKind::group, bytes_of(info));
    add(first_free, FreeKind::extent, bytes_of(extent));
    info.free_blocks = static_cast<std::uint32_t>(free_data);
    info.flags = 0;
    extent.length = free_data;
    add(kGroupBlocks, FreeKind::group, bytes_of(info));
    add(next_data, FreeKind::extent, bytes_of(extent));
    if (change_free) {
        change_free(free);
    }
    items.clear();
    for (const auto& item : free) {
        items.push_back(bytes_of(item));
    }
    superblock.free_space = flat_tree(TreeKind::free_space, items);

    superblock.data_blocks = next_data - kFirstData;
    superblock.node_blocks = next_node - kFixedBlocks;
    superblock.free_blocks = free_nodes + free_data;
    if (change_superblock) {
        change_superblock(superblock);
    }
    Superblock before = superblock;
    before.generation = superblock.generation - 1;
    for (const std::uint64_t start : {kSuperblockNear, superblock.superblock_far.get()}) {
        seal_superblock(superblock, start + superblock.generation % 2);
        seal_superblock(before, start + before.generation % 2);
    }
    Bytes header_bytes = bytes_of(header);
    header.checksum = metadata_checksum(std::span(header_bytes).subspan(8), 0);
    write(0, bytes_of(header));
    disk.bytes().truncate(kImageBlocks * kBlockBytes);
}

void ImageBuilder::commit(const std::vector<OperationRecord>& operations, const Bytes& payload,
                          std::uint64_t synced, std::uint64_t generation)
{
    CommitHeader commit_header{};
    commit_header.operations = static_cast<std::uint32_t>(operations.size());
    commit_header.payload_bytes = static_cast<std::uint32_t>(payload.size());
    if (!operations.empty()) {
        commit_header.first_sequence = operations.front().sequence;
        commit_header.last_sequence = operations.back().sequence;
    }
    Bytes stream = bytes_of(commit_header);
    for (const OperationRecord& operation : operations) {
        const Bytes record = bytes_of(operation);
        stream.insert(stream.end(), record.begin(), record.end());
    }
    stream.insert(stream.end(), payload.begin(), payload.end());
    const std::uint64_t count = divide_up(stream.size(), kJournalBodyBytes);
    stream.resize(count * kJournalBodyBytes);
    for (std::uint64_t i = 0; i < count; ++i) {
        JournalBlockHeader block_header{};
        block_header.magic = kJournalMagic;
        block_header.index = static_cast<std::uint32_t>(i);
        block_header.count = static_cast<std::uint32_t>(count);
        block_header.commit = next_commit_;
        block_header.generation = generation;
        block_header.previous = chain_;
        block_header.synced = synced;
        Bytes block = bytes_of(block_header);
        const auto begin = stream.begin() + static_cast<std::ptrdiff_t>(i * kJournalBodyBytes);
        block.insert(block.end(), begin, begin + kJournalBodyBytes);
        block_header.checksum = metadata_checksum(block, seed_);
        std::memcpy(block.data(), static_cast<const void*>(&block_header), sizeof(block_header));
        chain_ = block_header.checksum;
        write(kJournalStart + (ring_position_ + i) % kJournalBlocks, block);
    }
    ring_position_ += count;
    ++next_commit_;
}

Result<CheckReport> ImageBuilder::try_check()
{
    Result<CheckReport> result = CheckReport{};
    tasks.run([&] { result = coppice::check(disk, {.verify_data = true}); });
    return result;
}

CheckReport ImageBuilder::check(bool verify_data)
{
    CheckReport report;
    tasks.run([&] {
        auto result = coppice::check(disk, {.verify_data = verify_data});
        if (result) {
            report = *result;
        } else {
            report.corruptions = 1;
            report.findings.push_back({.text = "error: " + result.error().text});
        }
    });
    return report;
}

ExampleImage::ExampleImage()
{
    shared_data = data(8);
    old_data = data(4);
    new_data = data(4);
    leaf_a = node(TreeKind::map, 0, {bytes_of(map_item(0, shared_data, 8, 3))}, 4, 1);
    leaf_b = node(TreeKind::map, 0, {bytes_of(map_item(200, old_data, 4, 7))}, 7, 1);
    root_old = node(TreeKind::map, 1, {map_child(0, leaf_a), map_child(100, leaf_b)}, 7, 1);
    // Lba 300 of main is a clone of lba 2.
    leaf_c = node(
        TreeKind::map, 0,
        {bytes_of(map_item(200, new_data, 4, 12)), bytes_of(map_item(300, shared_data + 2, 1, 14))},
        12, 1);
    root_new = node(TreeKind::map, 1, {map_child(0, leaf_a), map_child(100, leaf_c)}, 12, 1);
    ReferenceItem shared{};
    shared.block = shared_data + 2;
    shared.length = 1;
    shared.extra = 1;
    references.push_back(shared);

    main_record.version = 2;
    main_record.lba_shift = 12;
    main_record.size_bytes = 1000 * kBlockBytes;
    copy_record = main_record;
    copy_record.version = 3;
    copy_record.parent_volume = 2;
    snapshot_record = main_record;
    snapshot_record.version = 1;
    snapshot_record.parent_volume = 1;
    snapshot_record.flags = kVolumeSnapshot;

    snapshot_version.volume = 2;
    snapshot_version.sequence = 10;
    snapshot_version.first_list = 1;
    snapshot_version.map = root_old;
    snapshot_version.mapped_blocks = 12;
    main_version.volume = 1;
    main_version.parent = 1;
    main_version.first_list = 2;
    main_version.flags = kVersionHead;
    main_version.map = root_new;
    main_version.mapped_blocks = 13;
    copy_version.volume = 3;
    copy_version.parent = 1;
    copy_version.first_list = 3;
    copy_version.flags = kVersionHead;
    copy_version.map = root_old;
    copy_version.mapped_blocks = 12;
    for (std::uint32_t i = 1; i <= 3; ++i) {
        add_list(i, i);
    }
    add_dead(2, 7, old_data, 4, DeadKind::data);
    add_dead(2, 7, leaf_b.block, 1, DeadKind::node);
    add_dead(2, 7, root_old.block, 1, DeadKind::node);
}

void ExampleImage::finish()
{
    add_volume(1, "main", main_record);
    add_volume(2, "snap", snapshot_record);
    add_volume(3, "copy", copy_record);
    add_version(1, snapshot_version);
    add_version(2, main_version);
    add_version(3, copy_version);
    ImageBuilder::finish();
}

void seal_again(ExampleImage& image)
{
    const std::uint64_t far = image.superblock.superblock_far;
    // Nodes stand behind what they point to, journal blocks behind what they continue.
    std::vector<std::uint64_t> blocks;
    for (std::uint64_t block = kFixedBlocks; block < image.next_node; ++block) {
        blocks.push_back(block);
    }
    for (const std::uint64_t block : {std::uint64_t{1}, std::uint64_t{2}, far, far + 1}) {
        blocks.push_back(block);
    }
    for (std::uint64_t i = 0; i < image.journal_blocks_used(); ++i) {
        blocks.push_back(kJournalStart + i);
    }
    std::vector<Bytes> contents;
    contents.reserve(blocks.size());
    for (const std::uint64_t block : blocks) {
        contents.push_back(image.read(block));
    }
    std::uint64_t seed = 0;
    for (std::size_t i = 0; i < 8; ++i) {
        seed |= std::uint64_t{image.header.uuid[i]} << (8 * i);
    }
    const auto word = [](Bytes& bytes, std::size_t index) { return bytes.data() + index * 8; };
    for (std::size_t i = 0; i < blocks.size(); ++i) {
        std::uint64_t old = 0;
        std::memcpy(&old, word(contents[i], 0), 8);
        const Le64 sealed(metadata_checksum(contents[i], seed));
        std::memcpy(word(contents[i], 0), static_cast<const void*>(&sealed), 8);
        // What never had a checksum is named by nothing: zeroes are everywhere.
        for (std::size_t later = i + 1; old != 0 && later < blocks.size(); ++later) {
            for (std::size_t at = 0; at < kBlockBytes / 8; ++at) {  // all fields stand on 8 bytes
                if (std::memcmp(word(contents[later], at), &old, 8) == 0) {
                    std::memcpy(word(contents[later], at), static_cast<const void*>(&sealed), 8);
                    break;
                }
            }
        }
    }
    for (std::size_t i = 0; i < blocks.size(); ++i) {
        image.write(blocks[i], contents[i]);
    }
    Bytes header = image.read(0);
    const Bytes sealed = bytes_of(Le64(metadata_checksum(std::span(header).subspan(8), 0)));
    std::copy(sealed.begin(), sealed.end(), header.begin() + 8);
    image.write(0, header);
}

}  // namespace coppice::test
