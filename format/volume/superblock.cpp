#include "format/volume/superblock.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <optional>
#include <vector>

#include "format/base/checksum.h"
#include "format/base/rules.h"

namespace coppice {

namespace {

using Block = std::array<std::byte, kBlockBytes>;

std::uint64_t seed_of(const std::array<std::uint8_t, 16>& uuid)
{
    Le64 seed;
    std::memcpy(static_cast<void*>(&seed), uuid.data(), sizeof(seed));
    return seed;
}

template <typename Record>
Block bytes_of(const Record& record)
{
    static_assert(sizeof(Record) == kBlockBytes);
    Block block;
    std::memcpy(block.data(), static_cast<const void*>(&record), sizeof(record));
    return block;
}

bool header_valid(const layout::ImageHeader& header)
{
    const Block block = bytes_of(header);
    return header.checksum == metadata_checksum(std::span(block).subspan(8), 0);
}

bool superblock_valid(const layout::Superblock& superblock)
{
    const Block block = bytes_of(superblock);
    return superblock.magic == layout::kSuperblockMagic &&
           superblock.checksum == metadata_checksum(block, seed_of(superblock.uuid));
}

// A header with the identity and geometry that a superblock repeats.
layout::ImageHeader header_from(const layout::Superblock& superblock)
{
    layout::ImageHeader header{};
    header.magic = layout::kMagic;
    header.uuid = superblock.uuid;
    header.major_version = superblock.major_version;
    header.minor_version = superblock.minor_version;
    header.oldest_minor_writer = superblock.minor_version;
    header.block_shift = static_cast<std::uint16_t>(kBlockShift);
    header.incompatible = superblock.incompatible;
    header.read_only_compatible = superblock.read_only_compatible;
    header.compatible = superblock.compatible;
    header.journal_start = superblock.journal_start;
    header.journal_blocks = superblock.journal_blocks;
    header.superblock_near = superblock.superblock_near;
    header.superblock_far = superblock.superblock_far;
    header.fixed_blocks = superblock.fixed_blocks;
    header.group_blocks = static_cast<std::uint32_t>(layout::kGroupBlocks);
    return header;
}

// Does the geometry make sense at all? It comes from disk.
bool geometry_possible(const layout::ImageHeader& header)
{
    return header.journal_start == layout::kJournalStart &&
           header.journal_blocks >= layout::kMinJournalBlocks &&
           header.journal_blocks <= layout::kMaxJournalBlocks &&
           header.superblock_near == layout::kSuperblockNear &&
           header.superblock_far == header.journal_start + header.journal_blocks &&
           header.fixed_blocks == header.superblock_far + layout::kSuperblockSlots &&
           header.group_blocks == layout::kGroupBlocks && header.block_shift == kBlockShift;
}

Result<Block> read_block(Disk& disk, std::uint64_t block)
{
    Block bytes;
    COPPICE_TRY(disk.read(block * kBlockBytes, bytes));
    return bytes;
}

// Refuses what this build cannot read; says whether it may write.
Result<bool> check_features(const layout::ImageHeader& header)
{
    if (header.major_version != layout::kMajorVersion) {
        return fail(ErrorCode::unsupported_version,
                    fmt::format("the image has format version {}.{}; this build reads {}.x",
                                header.major_version.get(), header.minor_version.get(),
                                layout::kMajorVersion));
    }
    const std::uint64_t unknown = header.incompatible & ~layout::kKnownIncompatible;
    if (unknown != 0) {
        return fail(ErrorCode::unknown_feature,
                    fmt::format("the image uses incompatible features {:#x} that this build does "
                                "not know; open it with a newer build",
                                unknown));
    }
    const std::uint64_t unknown_writes =
        header.read_only_compatible & ~layout::kKnownReadOnlyCompatible;
    return unknown_writes != 0 || header.oldest_minor_writer > layout::kMinorVersion;
}

// The newest valid superblock in the copies at `near` and `far`.
Result<std::optional<layout::Superblock>> newest(Disk& disk, std::vector<std::uint64_t> places)
{
    std::optional<layout::Superblock> best;
    for (std::uint64_t place : places) {
        COPPICE_ASSIGN(block, read_block(disk, place));
        layout::Superblock superblock;
        std::memcpy(static_cast<void*>(&superblock), block.data(), sizeof(superblock));
        if (superblock_valid(superblock) &&
            (!best || superblock.generation > best->generation)) {
            best = superblock;
        }
    }
    return best;
}

// The header is damaged: is there a superblock that can restore it?
Result<layout::ImageHeader> restored_header(Disk& disk)
{
    COPPICE_ASSIGN(found, newest(disk, {layout::kSuperblockNear, layout::kSuperblockNear + 1}));
    if (!found) {
        return fail(ErrorCode::bad_header,
                    "the image header (block 0) is damaged, and so are the superblocks behind it");
    }
    return header_from(*found);
}

}  // namespace

Geometry geometry_for(std::uint64_t volume_bytes, std::uint64_t journal_bytes)
{
    // 1/256 of the volume: a 16 GiB volume has the largest journal.
    const std::uint64_t wanted = journal_bytes != 0 ? journal_bytes : volume_bytes / 256;
    Geometry geometry;
    geometry.journal_start = layout::kJournalStart;
    geometry.journal_blocks = std::clamp(divide_up(wanted, kBlockBytes),
                                         layout::kMinJournalBlocks, layout::kMaxJournalBlocks);
    geometry.superblock_near = layout::kSuperblockNear;
    geometry.superblock_far = geometry.journal_start + geometry.journal_blocks;
    geometry.fixed_blocks = geometry.superblock_far + layout::kSuperblockSlots;
    return geometry;
}

void finish_header(layout::ImageHeader& header)
{
    header.checksum = 0;
    const Block block = bytes_of(header);
    header.checksum = metadata_checksum(std::span(block).subspan(8), 0);
}

Status write_superblock(Disk& disk, layout::Superblock& superblock)
{
    Block block = bytes_of(superblock);
    superblock.checksum = metadata_checksum(block, seed_of(superblock.uuid));
    block = bytes_of(superblock);
    const std::uint64_t slot =
        obeys(Rule::alternate_slots) ? superblock.generation % layout::kSuperblockSlots : 0;
    iovec buffer{block.data(), block.size()};
    std::array<IoRequest, 2> requests{};
    const std::array<std::uint64_t, 2> places{superblock.superblock_near,
                                              superblock.superblock_far};
    for (std::size_t i = 0; i < requests.size(); ++i) {
        requests[i].kind = IoRequest::Kind::write;
        requests[i].offset_bytes = (places[i] + slot) * kBlockBytes;
        requests[i].length_bytes = kBlockBytes;
        requests[i].buffers = {&buffer, 1};
    }
    return disk.run(requests);
}

Result<Opened> find_superblock(Disk& disk)
{
    COPPICE_ASSIGN(size, disk.size_bytes());
    if (size == 0) {
        return fail(ErrorCode::not_an_image, "the file is empty, not a Coppice image");
    }
    COPPICE_ASSIGN(block, read_block(disk, 0));
    Opened opened{};
    std::memcpy(static_cast<void*>(&opened.header), block.data(), sizeof(opened.header));
    if (opened.header.magic != layout::kMagic || !header_valid(opened.header)) {
        auto restored = restored_header(disk);
        if (!restored) {
            if (opened.header.magic != layout::kMagic) {
                return fail(ErrorCode::not_an_image, "the file is not a Coppice image");
            }
            return pass_on(restored);
        }
        opened.header = *restored;
    }
    COPPICE_ASSIGN(read_only, check_features(opened.header));
    opened.read_only = read_only;
    if (!geometry_possible(opened.header)) {
        return fail(ErrorCode::bad_header, "the image header describes an impossible layout");
    }
    const std::uint64_t near = opened.header.superblock_near;
    const std::uint64_t far = opened.header.superblock_far;
    COPPICE_ASSIGN(found, newest(disk, {near, near + 1, far, far + 1}));
    if (!found) {
        return fail(ErrorCode::bad_superblock,
                    "none of the four superblocks is valid; the image cannot be opened");
    }
    opened.superblock = *found;
    if (opened.superblock.uuid != opened.header.uuid ||
        opened.superblock.fixed_blocks != opened.header.fixed_blocks ||
        opened.superblock.image_blocks % layout::kGroupBlocks != 0 ||
        opened.superblock.image_blocks < opened.header.fixed_blocks ||
        opened.superblock.image_blocks > layout::kMaxBlock ||
        opened.superblock.journal_position >= opened.header.journal_blocks) {
        return fail(ErrorCode::bad_superblock, "the superblock does not belong to this image");
    }
    if (size < opened.superblock.image_blocks * kBlockBytes) {
        return fail(ErrorCode::truncated,
                    fmt::format("the file has {} bytes, but the image has {}; it was cut off", size,
                                opened.superblock.image_blocks * kBlockBytes));
    }
    return opened;
}

}  // namespace coppice
