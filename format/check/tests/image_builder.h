// Images made by hand, byte for byte, without any code of the store: small, valid, and with hooks
// to break one thing at a time.
//
//   group 0   fixed region, then tree nodes in the order in which they are made
//   group 1   data
//
// `ExampleImage` is a volume, a snapshot of it and a clone of the snapshot:
//
//   version 1 (snapshot "snap", taken at 10)   root -> [leaf A, leaf B]
//   version 2 (head of "main", parent 1)       root' -> [leaf A, leaf B']  B' has one item anew and
//                                              a range clone of a block of A
//   version 3 (head of "copy", parent 1)       the snapshot's root itself
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "format/check/checker.h"
#include "format/disk/fiber_tasks.h"
#include "format/disk/memory_disk.h"
#include "format/layout/layout.h"

namespace coppice::test {

using Bytes = std::vector<std::byte>;

template <typename Struct>
Bytes bytes_of(const Struct& value)
{
    Bytes bytes(sizeof(value));
    std::memcpy(bytes.data(), static_cast<const void*>(&value), sizeof(value));
    return bytes;
}

inline constexpr std::uint64_t kJournalBlocks = layout::kMinJournalBlocks;
inline constexpr std::uint64_t kFixedBlocks = layout::kJournalStart + kJournalBlocks + 2;
inline constexpr std::uint64_t kImageBlocks = 2 * layout::kGroupBlocks;
inline constexpr std::uint64_t kFirstData = layout::kGroupBlocks;

layout::MapItem map_item(std::uint64_t lba, std::uint64_t block, std::uint32_t length,
                         std::uint64_t birth, layout::MapKind kind = layout::MapKind::data,
                         std::uint32_t detail = 0);

// An inner item of the map tree.
Bytes map_child(std::uint64_t key, const layout::NodePointer& pointer);

// One block's write in the journal.
layout::OperationRecord write_operation(std::uint32_t volume, std::uint64_t sequence,
                                        std::uint64_t lba, std::uint64_t block);

class ImageBuilder {
public:
    ImageBuilder();

    // Writes a node and returns the pointer to it. `block` 0: the next free one.
    layout::NodePointer node(layout::TreeKind kind, unsigned level, const std::vector<Bytes>& items,
                             std::uint64_t birth, std::uint64_t owner = 0, bool mirrored = false);
    // Fills blocks with bytes of their own and notes their checksums.
    std::uint64_t data(std::uint64_t blocks);

    void add_volume(std::uint32_t id, const std::string& name, const layout::VolumeRecord& record);
    void add_version(std::uint32_t id, const layout::VersionRecord& record);
    void add_list(std::uint64_t id, std::uint32_t version, std::uint64_t next = 0);
    void add_dead(std::uint64_t list, std::uint64_t birth, std::uint64_t block,
                  std::uint32_t length, layout::DeadKind kind);

    // Writes the trees of the image, header and superblocks.
    void finish();

    // A commit of the journal, behind those before it.
    void commit(const std::vector<layout::OperationRecord>& operations, const Bytes& payload,
                std::uint64_t synced, std::uint64_t generation = 2);
    std::uint64_t journal_blocks_used() const { return ring_position_; }
    // One block of data outside the trees, and its checksum.
    std::uint32_t journal_data(std::uint64_t block);

    void flip(std::uint64_t block, std::size_t offset);
    void copy_block(std::uint64_t from, std::uint64_t to);
    void write(std::uint64_t block, const Bytes& bytes);
    Bytes read(std::uint64_t block) const;

    CheckReport check(bool verify_data = true);
    Result<CheckReport> try_check();

    FiberTasks tasks;
    MemoryDisk disk;
    layout::ImageHeader header{};
    layout::Superblock superblock{};
    std::uint64_t next_node = kFixedBlocks;
    std::uint64_t next_data = kFirstData;

    // What finish() makes the trees of; to be changed before.
    std::map<std::pair<std::uint64_t, std::uint64_t>, layout::CatalogItem> catalog;
    std::map<std::uint64_t, std::uint32_t> checksums;  // by block
    std::vector<layout::ReferenceItem> references;
    std::vector<layout::DeadItem> dead;
    std::vector<layout::RangeOperationItem> range_operations;

    // Last words of a test, when everything else is decided.
    std::function<void(std::vector<layout::FreeItem>&)> change_free;
    std::function<void(layout::Superblock&)> change_superblock;
    std::function<void(layout::NodeHeader&)> change_node;  // before it gets its checksum

private:
    layout::NodePointer flat_tree(layout::TreeKind kind, const std::vector<Bytes>& items);
    void seal_superblock(const layout::Superblock& value, std::uint64_t block);

    std::uint64_t seed_ = 0;
    std::uint64_t next_commit_ = 1;
    std::uint64_t ring_position_ = 0;
    std::uint64_t chain_ = 0;
};

struct ExampleImage : ImageBuilder {
    ExampleImage();
    // Writes the versions' records with what the members say now, then everything else.
    void finish();

    std::uint64_t shared_data = 0;  // 8 blocks, lba 0 .. 7 of all
    std::uint64_t old_data = 0;     // 4 blocks, lba 200 .. 203 of snapshot and clone
    std::uint64_t new_data = 0;     // 4 blocks, lba 200 .. 203 of main
    layout::NodePointer leaf_a, leaf_b, leaf_c, root_old, root_new;
    layout::VersionRecord snapshot_version{}, main_version{}, copy_version{};
    layout::VolumeRecord main_record{}, snapshot_record{}, copy_record{};
};

// Computes the checksums of header, superblocks, nodes and journal blocks anew and puts them into
// whatever names the old ones, so that damage gets behind them.
void seal_again(ExampleImage& image);

}  // namespace coppice::test
