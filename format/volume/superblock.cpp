#include "format/volume/superblock.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <fmt/format.h>
#include <optional>
#include <vector>

#include "format/base/block_bytes.h"
#include "format/base/checksum.h"
#include "format/base/rules.h"
#include "format/tree/node.h"

namespace coppice {

namespace {

using Superblock = std::unique_ptr<layout::Superblock>;
using Header = std::unique_ptr<layout::ImageHeader>;

std::uint64_t seed_of(const std::array<std::uint8_t, 16>& uuid)
{
    Le64 seed;
    std::memcpy(static_cast<void*>(&seed), uuid.data(), sizeof(seed));
    return seed;
}

template <typename Record>
std::span<const std::byte> bytes_of(const Record& record)
{
    static_assert(sizeof(Record) == kBlockBytes);
    return std::as_bytes(std::span(&record, 1));
}

bool header_valid(const layout::ImageHeader& header)
{
    return header.checksum == metadata_checksum(bytes_of(header).subspan(8), 0);
}

bool superblock_valid(const layout::Superblock& superblock)
{
    return superblock.magic == layout::kSuperblockMagic &&
           superblock.checksum == metadata_checksum(bytes_of(superblock), seed_of(superblock.uuid));
}

// A header with the identity and geometry that a superblock repeats.
Header header_from(const layout::Superblock& superblock)
{
    auto result = std::make_unique<layout::ImageHeader>();
    layout::ImageHeader& header = *result;
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
    return result;
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

template <typename Record>
Result<std::unique_ptr<Record>> read_record(Disk& disk, std::uint64_t block)
{
    static_assert(sizeof(Record) == kBlockBytes);
    BlockBytes bytes(kBlockBytes);
    COPPICE_TRY(disk.read(block * kBlockBytes, bytes));
    auto record = std::make_unique<Record>();
    std::memcpy(static_cast<void*>(record.get()), bytes.data(), bytes.size());
    return record;
}

// Refuses what this build cannot read. Both header and superblock are asked: each repeats the
// other, and a build that does not know a feature cannot say which of the two to believe.
template <typename Record>
Status check_readable(const Record& record)
{
    if (record.major_version != layout::kMajorVersion) {
        return fail(ErrorCode::unsupported_version,
                    fmt::format("the image has format version {}.{}, and this build knows {}.{}; "
                                "open it with the build that wrote it",
                                record.major_version.get(), record.minor_version.get(),
                                layout::kMajorVersion, layout::kMinorVersion));
    }
    const std::uint64_t unknown = record.incompatible & ~layout::kKnownIncompatible;
    if (unknown != 0) {
        return fail(ErrorCode::unknown_feature,
                    fmt::format("the image uses incompatible features {:#x} that this build does "
                                "not know; open it with the build that wrote it",
                                unknown));
    }
    return {};
}

// Why this build may only read the image.
Status check_writable(const layout::ImageHeader& header, const layout::Superblock& superblock)
{
    const std::uint64_t unknown = (header.read_only_compatible | superblock.read_only_compatible) &
                                  ~layout::kKnownReadOnlyCompatible;
    if (unknown != 0) {
        return fail(ErrorCode::unknown_feature,
                    fmt::format("the image uses features {:#x} that this build can only read; open "
                                "it read-only, or with the build that wrote it",
                                unknown));
    }
    if (header.oldest_minor_writer > layout::kMinorVersion) {
        return fail(ErrorCode::unsupported_version,
                    fmt::format("only format version {0}.{1} and later may write the image, and "
                                "this build writes {0}.{2}; open it read-only, or with the build "
                                "that wrote it",
                                layout::kMajorVersion, header.oldest_minor_writer.get(),
                                layout::kMinorVersion));
    }
    return {};
}

// Where a superblock can stand: its block, and the slot that its generation must have.
struct Place {
    std::uint64_t block = 0;
    std::uint64_t slot = 0;
};

std::vector<Place> slots_at(std::uint64_t start) { return {{start, 0}, {start + 1, 1}}; }

// The newest valid superblock at these places; none if no one is valid. One of another image, or in
// the other slot, is what an earlier use of the file left, or a misplaced write: not valid here. A
// copy that the host cannot read does no harm as long as the other one of its slot is valid; else
// nobody knows how new it was.
Result<Superblock> newest(Disk& disk, const std::vector<Place>& places,
                          const layout::ImageHeader* of)
{
    Superblock best;
    std::array<bool, layout::kSuperblockSlots> known{};
    std::array<Status, layout::kSuperblockSlots> unreadable;
    for (const Place& place : places) {
        auto read = read_record<layout::Superblock>(disk, place.block);
        if (!read) {
            unreadable[place.slot] = pass_on(read);
            continue;
        }
        Superblock superblock = std::move(*read);
        const bool in_place = superblock->generation % layout::kSuperblockSlots == place.slot ||
                              !obeys(Rule::alternate_slots);
        const bool valid = superblock_valid(*superblock) && in_place &&
                           (of == nullptr || superblock->uuid == of->uuid);
        known[place.slot] = known[place.slot] || valid;
        if (valid && (!best || superblock->generation > best->generation)) {
            best = std::move(superblock);
        }
    }
    for (std::size_t slot = 0; slot < known.size(); ++slot) {
        const bool needed = of != nullptr || !best;  // for the identity alone any one will do
        if (needed && !known[slot]) {
            COPPICE_TRY(std::move(unreadable[slot]));
        }
    }
    return best;
}

// The header is damaged: is there a superblock that can restore it?
Result<Header> restored_header(Disk& disk)
{
    COPPICE_ASSIGN(found, newest(disk, slots_at(layout::kSuperblockNear), nullptr));
    if (!found) {
        return fail(ErrorCode::bad_header,
                    "the image header (block 0) is damaged, and so are the superblocks behind it");
    }
    return header_from(*found);
}

// Do superblock and header belong together, and is what the superblock says possible?
bool fits(const layout::Superblock& superblock, const layout::ImageHeader& header)
{
    for (const layout::NodePointer& root :
         {superblock.catalog, superblock.checksums, superblock.references, superblock.dead,
          superblock.free_space, superblock.range_operations}) {
        if (!possible(decode(root))) {
            return false;
        }
    }
    return superblock.fixed_blocks == header.fixed_blocks &&
           superblock.image_blocks % layout::kGroupBlocks == 0 &&
           superblock.image_blocks >= header.fixed_blocks &&
           superblock.image_blocks <= layout::kMaxBlock &&
           superblock.journal_position < header.journal_blocks;
}

}  // namespace

Geometry geometry_for(std::uint64_t volume_bytes, std::uint64_t journal_bytes)
{
    // 1/64 of the volume: one of 4 GiB has the largest journal. A checkpoint comes with each half
    // ring, and of scattered small writes each costs a node: the more of them it gathers the fewer.
    const std::uint64_t wanted = journal_bytes != 0 ? journal_bytes : volume_bytes / 64;
    Geometry geometry;
    geometry.journal_start = layout::kJournalStart;
    geometry.journal_blocks = std::clamp(divide_up(wanted, kBlockBytes), layout::kMinJournalBlocks,
                                         layout::kMaxJournalBlocks);
    geometry.superblock_near = layout::kSuperblockNear;
    geometry.superblock_far = geometry.journal_start + geometry.journal_blocks;
    geometry.fixed_blocks = geometry.superblock_far + layout::kSuperblockSlots;
    return geometry;
}

void finish_header(layout::ImageHeader& header)
{
    header.checksum = metadata_checksum(bytes_of(header).subspan(8), 0);
}

Status write_superblock(Disk& disk, layout::Superblock& superblock)
{
    superblock.checksum = metadata_checksum(bytes_of(superblock), seed_of(superblock.uuid));
    const std::uint64_t slot =
        obeys(Rule::alternate_slots) ? superblock.generation % layout::kSuperblockSlots : 0;
    BlockBytes bytes(kBlockBytes);
    std::memcpy(bytes.data(), static_cast<const void*>(&superblock), sizeof(superblock));
    iovec buffer{bytes.data(), bytes.size()};
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
    Opened opened;
    auto header = read_record<layout::ImageHeader>(disk, 0);
    Status unreadable;
    if (!header) {
        unreadable = pass_on(header);
    }
    opened.header = header ? std::move(*header) : std::make_unique<layout::ImageHeader>();
    if (opened.header->magic != layout::kMagic || !header_valid(*opened.header)) {
        auto restored = restored_header(disk);
        if (!restored) {
            COPPICE_TRY(std::move(unreadable));
            if (opened.header->magic != layout::kMagic) {
                return fail(ErrorCode::not_an_image, "the file is not a Coppice image");
            }
            return pass_on(restored);
        }
        opened.header = std::move(*restored);
    }
    COPPICE_TRY(check_readable(*opened.header));
    if (!geometry_possible(*opened.header)) {
        return fail(ErrorCode::bad_header, "the image header describes an impossible layout");
    }
    std::vector<Place> places = slots_at(opened.header->superblock_near);
    const std::vector<Place> far = slots_at(opened.header->superblock_far);
    places.insert(places.end(), far.begin(), far.end());
    COPPICE_ASSIGN(found, newest(disk, places, opened.header.get()));
    if (!found) {
        return fail(ErrorCode::bad_superblock,
                    "none of the four superblocks is valid; the image cannot be opened");
    }
    COPPICE_TRY(check_readable(*found));
    if (!fits(*found, *opened.header)) {
        return fail(ErrorCode::bad_superblock, "the superblock does not belong to this image");
    }
    if (size < found->image_blocks * kBlockBytes) {
        return fail(ErrorCode::truncated,
                    fmt::format("the file has {} bytes, but the image has {}; it was cut off", size,
                                found->image_blocks * kBlockBytes));
    }
    opened.writable = check_writable(*opened.header, *found);
    opened.superblock = std::move(found);
    return opened;
}

}  // namespace coppice
