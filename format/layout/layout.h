// Every byte of a Coppice image, and nothing else: fixed layouts, magics and limits. FORMAT.md says
// what they mean and in which order they are written; both are changed together. The store and the
// checker share this header and base/checksum.h, and no other code.
//
//   block 0            image header, written once at creation
//   block 1, 2         superblock slots, near copy (generation g goes to slot g % 2)
//   block 3 .. 15      reserved, zero
//   block 16 ..        journal ring
//   behind the ring    superblock slots, far copy (2 blocks), up to the end of the fixed region
//   the rest           block groups of 8192 blocks, counted from block 0; the first ones hold the
//                      fixed region above, which is never free
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "format/base/bytes.h"
#include "format/base/units.h"

namespace coppice::layout {

// ---- Limits and geometry ------------------------------------------------------------------

inline constexpr std::array<char, 8> kMagic = {'C', 'O', 'P', 'P', 'I', 'C', 'E', '\n'};
inline constexpr std::uint16_t kMajorVersion = 0;  // 0: unstable, no two builds need agree
inline constexpr std::uint16_t kMinorVersion = 1;

inline constexpr std::uint64_t kSuperblockNear = 1;
inline constexpr std::uint64_t kSuperblockSlots = 2;
inline constexpr std::uint64_t kJournalStart = 16;
inline constexpr std::uint64_t kMinJournalBlocks = 1024;   // 4 MiB
inline constexpr std::uint64_t kMaxJournalBlocks = 16384;  // 64 MiB
inline constexpr std::uint64_t kGroupBlocks = 8192;        // 32 MiB
inline constexpr std::uint64_t kMaxBlock = (1ULL << 48) - 1;
// By so many blocks (64 GiB) a crash may have undone the growth of the file behind operations whose
// data, zeroes, still verify. Who names blocks further behind its end is not believed.
inline constexpr std::uint64_t kMaxLostGrowth = 1ULL << 24;
inline constexpr std::uint64_t kMaxVolumeBytes = 1ULL << 56;
// No map reaches further: a volume, and the VM state behind its end.
inline constexpr std::uint64_t kMapEnd = kMaxVolumeBytes / kBlockBytes * 2;
inline constexpr std::size_t kNameBytes = 128;  // UTF-8, padded with zeroes, at most 127 used

// A commit takes at most this fraction of the ring, so that several are always in it.
inline constexpr std::uint64_t kCommitRingFraction = 8;

// ---- Features -----------------------------------------------------------------------------

// A reader that does not know a bit of `incompatible` refuses the image; of `read_only_compatible`
// opens it read-only; of `compatible` ignores it.
inline constexpr std::uint64_t kKnownIncompatible = 0;
inline constexpr std::uint64_t kKnownReadOnlyCompatible = 0;

// ---- Image header (block 0) ---------------------------------------------------------------

struct ImageHeader {
    std::array<char, 8> magic;
    Le64 checksum;  // metadata_checksum of bytes 8 .. 4095, seed 0
    std::array<std::uint8_t, 16> uuid;
    Le16 major_version;
    Le16 minor_version;        // of the writer
    Le16 oldest_minor_writer;  // lowest minor version that may write the image
    Le16 block_shift;          // 12
    Le64 incompatible;
    Le64 read_only_compatible;
    Le64 compatible;
    Le64 journal_start;  // blocks
    Le64 journal_blocks;
    Le64 superblock_near;  // block of slot 0; slot 1 follows
    Le64 superblock_far;
    Le64 fixed_blocks;  // blocks of the fixed region, from block 0
    Le32 group_blocks;
    std::array<std::uint8_t, 4> reserved0;
    Le64 created_unix_ns;
    std::array<std::uint8_t, 3976> reserved;
};
static_assert(sizeof(ImageHeader) == kBlockBytes);
static_assert(offsetof(ImageHeader, checksum) == 8);
static_assert(offsetof(ImageHeader, uuid) == 16);
static_assert(offsetof(ImageHeader, major_version) == 32);
static_assert(offsetof(ImageHeader, incompatible) == 40);
static_assert(offsetof(ImageHeader, journal_start) == 64);
static_assert(offsetof(ImageHeader, superblock_near) == 80);
static_assert(offsetof(ImageHeader, fixed_blocks) == 96);
static_assert(offsetof(ImageHeader, group_blocks) == 104);
static_assert(offsetof(ImageHeader, created_unix_ns) == 112);
static_assert(offsetof(ImageHeader, reserved) == 120);

// ---- Node pointers ------------------------------------------------------------------------

struct NodePointer {
    Le64 block;     // 0: the tree is empty
    Le64 mirror;    // second copy of an upper node; 0: there is none
    Le64 birth;     // sequence at which this version of the node was made; compared on reading
    Le64 checksum;  // equals the node's own
};
static_assert(sizeof(NodePointer) == 32);
static_assert(offsetof(NodePointer, mirror) == 8);
static_assert(offsetof(NodePointer, birth) == 16);
static_assert(offsetof(NodePointer, checksum) == 24);

// ---- Superblock ---------------------------------------------------------------------------

inline constexpr std::uint32_t kSuperblockMagic = 0x42535043;  // "CPSB"

struct Superblock {
    Le64 checksum;
    Le32 magic;
    Le16 major_version;
    Le16 minor_version;
    Le64 generation;  // slot is generation % 2
    Le64 sequence;    // operations up to and with this one are in the trees
    std::array<std::uint8_t, 16> uuid;
    Le64 incompatible;  // repeated from the header, so that it can be restored
    Le64 read_only_compatible;
    Le64 compatible;
    Le64 journal_start;
    Le64 journal_blocks;
    Le64 superblock_near;
    Le64 superblock_far;
    Le64 fixed_blocks;
    Le64 image_blocks;  // end of the managed space; a multiple of the group size
    // Space at this generation: fixed + used + free = image_blocks.
    Le64 free_blocks;
    Le64 data_blocks;  // used by data extents, each counted once
    Le64 node_blocks;  // used by tree nodes and their mirrors
    // Where replay starts.
    Le64 journal_commit;    // number of the first commit that replay looks for
    Le64 journal_position;  // its first block, relative to the start of the ring
    Le64 journal_chain;     // `checksum` of the journal block before it (0 for the first ever)
    Le64 journal_synced;    // last commit that a completed sync covers
    // Next numbers to give out.
    Le64 next_version;
    Le64 next_volume;
    Le64 next_list;
    Le64 next_operation;
    // The trees.
    NodePointer catalog;
    NodePointer checksums;
    NodePointer references;
    NodePointer dead;
    NodePointer free_space;
    NodePointer range_operations;
    Le64 written_unix_ns;
    // Reserved for a read-only base image: its uuid, snapshot number, and name length in payload.
    std::array<std::uint8_t, 16> base_uuid;
    Le64 base_snapshot;
    std::array<std::uint8_t, 3664> reserved;
};
static_assert(sizeof(Superblock) == kBlockBytes);
static_assert(offsetof(Superblock, generation) == 16);
static_assert(offsetof(Superblock, sequence) == 24);
static_assert(offsetof(Superblock, uuid) == 32);
static_assert(offsetof(Superblock, incompatible) == 48);
static_assert(offsetof(Superblock, image_blocks) == 112);
static_assert(offsetof(Superblock, journal_commit) == 144);
static_assert(offsetof(Superblock, next_version) == 176);
static_assert(offsetof(Superblock, catalog) == 208);
static_assert(offsetof(Superblock, written_unix_ns) == 400);
static_assert(offsetof(Superblock, base_uuid) == 408);

// ---- Tree nodes ---------------------------------------------------------------------------

inline constexpr std::uint32_t kNodeMagic = 0x444E5043;  // "CPND"

enum class TreeKind : std::uint8_t {
    map = 1,               // one for each version of a volume: lba -> MapItem
    catalog = 2,           // volumes, versions, dead lists
    checksums = 3,         // data checksums, by block
    references = 4,        // extra references to data blocks that range clones share
    dead = 5,              // what died, by list and birth
    free_space = 6,        // for each group an info item and extents or bitmaps
    range_operations = 7,  // unfinished deletions and the like
};

struct NodeHeader {
    Le64 checksum;
    Le32 magic;
    std::uint8_t kind;   // TreeKind
    std::uint8_t level;  // 0: leaf
    Le16 count;          // items in the node
    Le64 block;          // own place; a mirror names its primary
    Le64 birth;
    Le64 generation;  // the superblock it was first written for
    Le64 owner;       // volume that made it; 0 for the trees of the image
    std::array<std::uint8_t, 16> reserved;
};
static_assert(sizeof(NodeHeader) == 64);
static_assert(offsetof(NodeHeader, kind) == 12);
static_assert(offsetof(NodeHeader, count) == 14);
static_assert(offsetof(NodeHeader, block) == 16);
static_assert(offsetof(NodeHeader, birth) == 24);
static_assert(offsetof(NodeHeader, generation) == 32);
static_assert(offsetof(NodeHeader, owner) == 40);

inline constexpr std::size_t kNodeBodyBytes = kBlockBytes - sizeof(NodeHeader);

// Items follow the header without gaps, in ascending order of their keys, which are one to three
// Le64 compared from the first. An inner node's item is a key and a NodePointer; the first key of
// an inner node may be lower than the lowest key below it.

struct MapItem {
    Le64 lba;            // key: first block in the volume
    Le48 block;          // data: first block of the image; range reference: first lba there
    std::uint8_t kind;   // MapKind
    std::uint8_t flags;  // zero
    Le64 birth;          // sequence of the operation that mapped it here
    Le32 length;         // blocks, not 0
    Le32 detail;         // data: placement; range reference: version; unwritable: 8-bit mask of
                         // the 512-byte parts that are unwritable
};
static_assert(sizeof(MapItem) == 32);
static_assert(offsetof(MapItem, block) == 8);
static_assert(offsetof(MapItem, kind) == 14);
static_assert(offsetof(MapItem, birth) == 16);
static_assert(offsetof(MapItem, length) == 24);
static_assert(offsetof(MapItem, detail) == 28);

enum class MapKind : std::uint8_t {
    data = 1,
    zero = 2,             // reads as zeroes although a base image has data there
    unwritable = 3,       // Write Uncorrectable
    range_reference = 4,  // reads what version `detail` has at `block`
};

inline constexpr std::uint64_t kChecksumsPerItem = 32;
struct ChecksumItem {
    Le64 chunk;                                  // key: block / 32
    Le32 present;                                // bit i: block chunk * 32 + i has a checksum; one
                                                 // kept for a free block means nothing
    std::array<Le32, kChecksumsPerItem> values;  // CRC32C; zero where absent
};
static_assert(sizeof(ChecksumItem) == 140);

struct ReferenceItem {
    Le64 block;   // key: first block of the image
    Le32 length;  // blocks, not 0
    Le32 extra;   // references beyond the first, not 0
};
static_assert(sizeof(ReferenceItem) == 16);

enum class DeadKind : std::uint8_t { data = 1, node = 2, range_reference = 3 };

struct DeadItem {
    Le64 list;          // key
    Le64 birth;         // key
    Le48 block;         // key, low part: block of the image; range reference: the version
    Le16 copy;          // key, high part: tells items apart that have all else of the key in common
    Le32 length;        // blocks, not 0
    Le16 count;         // how many times this died, not 0
    std::uint8_t kind;  // DeadKind
    std::uint8_t flags;
};
static_assert(sizeof(DeadItem) == 32);
static_assert(offsetof(DeadItem, block) == 16);
static_assert(offsetof(DeadItem, copy) == 22);
static_assert(offsetof(DeadItem, length) == 24);
static_assert(offsetof(DeadItem, count) == 28);
static_assert(offsetof(DeadItem, kind) == 30);

// Key = block * 4 + kind, so that a group's info item comes before its first extent or bitmap.
enum class FreeKind : std::uint8_t { group = 0, extent = 1, bitmap = 2 };
inline constexpr std::uint64_t kBitmapBlocks = 128;

struct FreeItem {
    Le64 key;
    std::array<std::uint8_t, 16> value;  // GroupInfo, FreeExtent or FreeBitmap
};
static_assert(sizeof(FreeItem) == 24);

inline constexpr std::uint8_t kGroupHoldsMetadata = 1;  // else data
inline constexpr std::uint8_t kGroupUsesBitmaps = 2;    // else extents
struct GroupInfo {
    Le32 free_blocks;
    Le32 items;  // extents or bitmaps of the group
    std::uint8_t flags;
    std::array<std::uint8_t, 3> reserved;
    Le32 allocated_blocks;  // from the group's start: physically allocated in the host file
};
static_assert(sizeof(GroupInfo) == 16);
struct FreeExtent {
    Le64 length;
    Le64 reserved;
};
static_assert(sizeof(FreeExtent) == 16);
struct FreeBitmap {
    std::array<Le64, 2> bits;  // bit i of word i / 64 set: block + i is free; not all zero
};
static_assert(sizeof(FreeBitmap) == 16);

// ---- Catalog ------------------------------------------------------------------------------

enum class CatalogKind : std::uint8_t { volume = 1, version = 2, list = 3 };

inline constexpr std::size_t kCatalogValueBytes = 272;
struct CatalogItem {
    Le64 kind;                                           // key: CatalogKind
    Le64 id;                                             // key
    std::array<std::uint8_t, kCatalogValueBytes> value;  // one of the three below, rest zero
};
static_assert(sizeof(CatalogItem) == 288);

inline constexpr std::uint8_t kVolumeSnapshot = 1;  // read-only, made of `parent_volume`
inline constexpr std::uint8_t kVolumeReadOnly = 2;
inline constexpr std::uint8_t kVolumeGuestMade = 4;  // a guest made it and may manage it
inline constexpr std::uint8_t kVolumeHasVmState = 8;
enum class FlushMode : std::uint8_t { durable = 0, ordered = 1 };
inline constexpr std::uint32_t kMaxConsistencyGroup = 255;
struct VolumeRecord {
    Le32 version;        // its head, or the snapshot's state
    Le32 parent_volume;  // snapshot: of which volume; clone: of which snapshot; else 0
    std::uint8_t flags;
    std::uint8_t lba_shift;   // 9 or 12: the LBA size shown to guests
    std::uint8_t flush_mode;  // FlushMode
    std::uint8_t reserved0;
    Le32 consistency_group;  // 0: none, as for every snapshot
    Le64 size_bytes;         // a multiple of 512
    Le64 created_unix_ns;
    Le64 created_sequence;
    std::array<std::uint8_t, 16> nguid;
    std::array<std::uint8_t, 8> eui64;
    Le64 vm_state_bytes;  // savevm: bytes of VM state, kept behind the end of the volume
    Le64 vm_clock_ns;
    Le64 icount;
    std::array<char, kNameBytes> name;
    std::array<std::uint8_t, 56> reserved;
};
static_assert(sizeof(VolumeRecord) == kCatalogValueBytes);
static_assert(offsetof(VolumeRecord, size_bytes) == 16);
static_assert(offsetof(VolumeRecord, nguid) == 40);
static_assert(offsetof(VolumeRecord, vm_state_bytes) == 64);
static_assert(offsetof(VolumeRecord, name) == 88);

inline constexpr std::uint8_t kVersionHead = 1;     // of a writable volume
inline constexpr std::uint8_t kVersionHeld = 2;     // kept only by range references
inline constexpr std::uint8_t kVersionRemoved = 4;  // deleted; leaves when nothing needs it
struct VersionRecord {
    Le32 parent;       // the version it was made from; 0: none
    Le32 volume;       // the volume or snapshot that shows it; 0: none
    Le64 sequence;     // snapshot or held: its place in the order; head: 0
    Le64 first_list;   // dead list: what `parent` has and this version has no more
    Le64 held_blocks;  // blocks of range references that point here
    std::uint8_t flags;
    std::uint8_t reference_depth;  // longest chain of range references in the map
    std::array<std::uint8_t, 6> reserved0;
    NodePointer map;
    Le64 mapped_blocks;  // blocks with data
    std::array<std::uint8_t, 192> reserved;
};
static_assert(sizeof(VersionRecord) == kCatalogValueBytes);
static_assert(offsetof(VersionRecord, sequence) == 8);
static_assert(offsetof(VersionRecord, held_blocks) == 24);
static_assert(offsetof(VersionRecord, map) == 40);
static_assert(offsetof(VersionRecord, mapped_blocks) == 72);

struct ListRecord {
    Le64 next;     // next dead list of the same version; 0: last
    Le32 version;  // the version whose list it is
    std::array<std::uint8_t, 260> reserved;
};
static_assert(sizeof(ListRecord) == kCatalogValueBytes);

// ---- Unfinished range operations ----------------------------------------------------------

enum class RangeOperationKind : std::uint8_t {
    remove_version = 1,  // give back what `version` alone has: all born behind `birth`
    deallocate = 2,      // reserved
    resolve_clone = 3,   // reserved
};
struct RangeOperationItem {
    Le64 id;  // key
    std::uint8_t kind;
    std::array<std::uint8_t, 3> reserved0;
    Le32 version;
    Le64 lba;     // reserved
    Le64 length;  // reserved
    Le64 birth;   // sequence of the version's parent; 0: it has none
    Le64 cursor;  // a version without a child: what lies below this lba is given back
    std::array<std::uint8_t, 16> reserved;
};
static_assert(sizeof(RangeOperationItem) == 64);
static_assert(offsetof(RangeOperationItem, version) == 12);
static_assert(offsetof(RangeOperationItem, cursor) == 40);

// ---- Journal ------------------------------------------------------------------------------

inline constexpr std::uint32_t kJournalMagic = 0x4C4A5043;  // "CPJL"

// A commit is a run of journal blocks (around the end of the ring if need be). Behind the headers
// its blocks hold one stream of bytes: a CommitHeader, `operations` OperationRecords, the payload.
struct JournalBlockHeader {
    Le64 checksum;
    Le32 magic;
    Le32 index;  // of the block in its commit
    Le32 count;  // blocks of the commit
    Le32 reserved;
    Le64 commit;
    Le64 generation;  // newest durable superblock when it was written
    Le64 previous;    // `checksum` of the journal block before it: a chain
    Le64 synced;      // last commit that a completed sync covers
    Le64 reserved1;
};
static_assert(sizeof(JournalBlockHeader) == 64);
static_assert(offsetof(JournalBlockHeader, index) == 12);
static_assert(offsetof(JournalBlockHeader, commit) == 24);
static_assert(offsetof(JournalBlockHeader, generation) == 32);
static_assert(offsetof(JournalBlockHeader, previous) == 40);
static_assert(offsetof(JournalBlockHeader, synced) == 48);

inline constexpr std::size_t kJournalBodyBytes = kBlockBytes - sizeof(JournalBlockHeader);

inline constexpr std::uint8_t kCommitClosesRecovery = 1;  // what stood here before is void
struct CommitHeader {
    Le32 operations;
    Le32 payload_bytes;
    Le64 first_sequence;
    Le64 last_sequence;
    std::uint8_t flags;
    std::array<std::uint8_t, 7> reserved0;
    Le64 domains;  // reserved: the domains that the commit carries
    std::array<std::uint8_t, 24> reserved;
};
static_assert(sizeof(CommitHeader) == 64);
static_assert(offsetof(CommitHeader, first_sequence) == 8);
static_assert(offsetof(CommitHeader, flags) == 24);

enum class OperationType : std::uint8_t {
    write = 1,             // map [lba, +length) to [block, +length); payload: checksums 2 .. length
    deallocate = 2,        // unmap [lba, +length)
    write_zeroes = 3,      // as deallocate; the two differ over a base image
    write_unwritable = 4,  // reserved
    clone = 5,             // copy the items of volume `source_volume` [source_lba, +length) to lba
    clone_reference = 6,   // hold the source as version `block`; one item that refers to it
    snapshot = 7,          // payload: VolumeRecord of the snapshot; block: list for the head
    create_volume = 8,     // payload: VolumeRecord; `block`: origin version or 0
    remove_volume = 9,     // volume or snapshot
    rollback = 10,         // volume to snapshot `source_volume`
    change_volume = 11,    // payload: VolumeRecord (size, name, properties); the map stays
};

inline constexpr std::uint8_t kOperationContinues = 1;  // the next one belongs to the same command
inline constexpr std::uint8_t kOperationIntent = 2;     // what it gives back, it gives back later
// Write: behind the checksums the payload has the data themselves, which may not be at their place.
inline constexpr std::uint8_t kOperationHasData = 4;
struct OperationRecord {
    std::uint8_t type;
    std::uint8_t flags;
    Le16 placement;
    Le32 volume;  // the domain
    Le64 sequence;
    Le64 lba;
    Le32 length;    // blocks
    Le32 checksum;  // write: CRC32C of the first block
    Le64 block;
    Le64 source_lba;
    Le32 source_volume;
    Le32 payload_offset;  // from the start of the commit's payload
    Le32 payload_bytes;
    Le16 stream;  // 0: the volume's own domain
    Le16 reserved;
};
static_assert(sizeof(OperationRecord) == 64);
static_assert(offsetof(OperationRecord, sequence) == 8);
static_assert(offsetof(OperationRecord, length) == 24);
static_assert(offsetof(OperationRecord, block) == 32);
static_assert(offsetof(OperationRecord, source_lba) == 40);
static_assert(offsetof(OperationRecord, payload_offset) == 52);
static_assert(offsetof(OperationRecord, stream) == 60);

}  // namespace coppice::layout
