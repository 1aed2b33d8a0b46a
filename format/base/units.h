// The units of the format as distinct types, so that a block of the image cannot be passed where
// a block of a volume is meant. All are counted in blocks of 4 KiB unless the name says bytes.
#pragma once

#include <compare>
#include <cstdint>

namespace coppice {

inline constexpr std::uint64_t kBlockBytes = 4096;
inline constexpr unsigned kBlockShift = 12;

template <typename Tag>
struct Unit {
    std::uint64_t value = 0;

    constexpr Unit() = default;
    constexpr explicit Unit(std::uint64_t v) : value(v) {}
    constexpr auto operator<=>(const Unit&) const = default;
};

// A position (block of the image, block of a volume) moves by plain counts.
template <typename Tag>
constexpr Unit<Tag> operator+(Unit<Tag> position, std::uint64_t count)
{
    return Unit<Tag>(position.value + count);
}
template <typename Tag>
constexpr std::uint64_t operator-(Unit<Tag> end, Unit<Tag> begin)
{
    return end.value - begin.value;
}

// A 4 KiB block of the image file; 0 is the image header and so means "none" in pointers.
using BlockNo = Unit<struct BlockNoTag>;
// A 4 KiB block of a volume's address space.
using Lba = Unit<struct LbaTag>;
// The place of an operation in the order in which operations took effect; 0 is "before all".
using Sequence = Unit<struct SequenceTag>;
// One state of all trees, made durable by a superblock.
using Generation = Unit<struct GenerationTag>;
// Number of a commit in the journal, from 1.
using CommitNo = Unit<struct CommitNoTag>;
// Number of a version (one state of a volume: its head, a snapshot, a held state), never re-used.
using VersionId = Unit<struct VersionIdTag>;
// Number of a volume or snapshot as users and guests see it (an NVMe namespace id), never re-used.
using VolumeId = Unit<struct VolumeIdTag>;
// Number of a stream: a further domain of order inside a volume; 0 is the volume's own.
using StreamId = Unit<struct StreamIdTag>;
// Number of a consistency group: volumes that have one order together; 0: none.
using ConsistencyGroup = Unit<struct ConsistencyGroupTag>;
// Number of a dead list (see FORMAT.md, "Who owns a block").
using ListId = Unit<struct ListIdTag>;
// Number of a transaction, from 1, below 2^32; not re-used before all of them were used.
using TransactionId = Unit<struct TransactionIdTag>;

constexpr std::uint64_t byte_offset(BlockNo block) { return block.value << kBlockShift; }

constexpr std::uint64_t divide_up(std::uint64_t value, std::uint64_t by)
{
    return value / by + (value % by != 0 ? 1 : 0);
}

}  // namespace coppice
