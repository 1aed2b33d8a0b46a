// One tree node in memory: the 4 KiB as they lie on disk, and a few facts that do not.
//
// A node is *dirty* from the moment it is made until the checkpoint of its generation has written
// it. A dirty node is changed in place only by its own generation and only while no version older
// than the changer's parent can see it (Tree decides); otherwise it is copied. A clean node never
// changes.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "format/base/result.h"
#include "format/base/units.h"
#include "format/layout/layout.h"

namespace coppice {

// A key of one to three integers; those that a tree does not use are 0.
struct Key {
    std::array<std::uint64_t, 3> words{};

    Key() = default;
    explicit Key(std::uint64_t a, std::uint64_t b = 0, std::uint64_t c = 0) : words{a, b, c} {}
    auto operator<=>(const Key&) const = default;
};

// What distinguishes one kind of tree from another.
struct TreeShape {
    layout::TreeKind kind;
    unsigned key_words;
    std::size_t item_bytes;  // of a leaf item, key included

    constexpr std::size_t key_bytes() const { return key_words * 8; }
    constexpr std::size_t inner_bytes() const { return key_bytes() + sizeof(layout::NodePointer); }
    constexpr unsigned capacity(unsigned level) const
    {
        return static_cast<unsigned>(layout::kNodeBodyBytes /
                                     (level == 0 ? item_bytes : inner_bytes()));
    }
};

inline constexpr TreeShape kMapShape{layout::TreeKind::map, 1, sizeof(layout::MapItem)};
inline constexpr TreeShape kCatalogShape{layout::TreeKind::catalog, 2, sizeof(layout::CatalogItem)};
inline constexpr TreeShape kChecksumShape{layout::TreeKind::checksums, 1,
                                          sizeof(layout::ChecksumItem)};
inline constexpr TreeShape kReferenceShape{layout::TreeKind::references, 1,
                                           sizeof(layout::ReferenceItem)};
inline constexpr TreeShape kDeadShape{layout::TreeKind::dead, 3, sizeof(layout::DeadItem)};
inline constexpr TreeShape kFreeShape{layout::TreeKind::free_space, 1, sizeof(layout::FreeItem)};
inline constexpr TreeShape kRangeShape{layout::TreeKind::range_operations, 1,
                                       sizeof(layout::RangeOperationItem)};

// A tree of this height holds more items than an image has blocks.
inline constexpr unsigned kMaxTreeLevels = 12;

// A pointer to a node, decoded. block 0: none.
struct NodeRef {
    BlockNo block;
    Sequence birth;
    std::uint64_t checksum = 0;  // 0: the node is not yet written

    explicit operator bool() const { return block.value != 0; }
    bool operator==(const NodeRef&) const = default;
};

NodeRef decode(const layout::NodePointer& pointer);
layout::NodePointer encode(const NodeRef& reference);
// Can a pointer that was read be this? One that names a node has its checksum.
bool possible(const NodeRef& reference);

class Node {
public:
    Node(const TreeShape& shape, BlockNo block) : shape_(&shape), block_(block) {}

    const TreeShape& shape() const { return *shape_; }
    BlockNo block() const { return block_; }
    std::byte* bytes() { return bytes_.data(); }
    const std::byte* bytes() const { return bytes_.data(); }
    std::span<const std::byte, kBlockBytes> span() const { return bytes_; }

    unsigned level() const { return header().level; }
    unsigned count() const { return header().count; }
    Sequence birth() const { return Sequence(header().birth); }
    Generation generation() const { return Generation(header().generation); }
    std::uint64_t checksum() const { return header().checksum; }
    unsigned capacity() const { return shape_->capacity(level()); }

    // Copies the header out and in; the body is reached through the functions below.
    layout::NodeHeader header() const
    {
        layout::NodeHeader result;
        std::memcpy(static_cast<void*>(&result), bytes_.data(), sizeof(result));
        return result;
    }
    void set_header(const layout::NodeHeader& value)
    {
        std::memcpy(bytes_.data(), static_cast<const void*>(&value), sizeof(value));
    }
    void set_count(unsigned count);

    std::size_t item_bytes() const
    {
        return level() == 0 ? shape_->item_bytes : shape_->inner_bytes();
    }
    const std::byte* item(unsigned index) const
    {
        return bytes_.data() + sizeof(layout::NodeHeader) + index * item_bytes();
    }
    std::byte* item(unsigned index)
    {
        return bytes_.data() + sizeof(layout::NodeHeader) + index * item_bytes();
    }
    Key key(unsigned index) const;
    void set_key(unsigned index, const Key& key);

    // Number of items with a key not greater than `key`: the candidate is one before.
    unsigned upper_bound(const Key& key) const;

    // Inner nodes: the pointer of an item.
    NodeRef child(unsigned index) const;
    void set_child(unsigned index, const NodeRef& reference);

    // Makes room at `index` and copies an item there; removes items.
    void insert_item(unsigned index, const std::byte* item);
    void remove_items(unsigned index, unsigned removed);
    // Puts `added` items in the place of `removed` ones; there must be room.
    void replace_items(unsigned index, unsigned removed, const std::byte* items, unsigned added);

    // Not on disk.
    bool dirty = false;
    bool referenced = false;     // used since the cache's hand last passed
    std::uint64_t last_use = 0;  // the cache's clock
    Generation keep_until;       // not evicted before this generation is written
    std::size_t cache_slot = 0;

private:
    const TreeShape* shape_;
    BlockNo block_;
    // Read and written as it lies here; at the next block's start it would cost a block.
    alignas(512) std::array<std::byte, kBlockBytes> bytes_{};
};

// Reads a key from the start of an item.
Key read_key(const std::byte* item, unsigned words);
void write_key(std::byte* item, const Key& key, unsigned words);

// The conditions that every node keeps: run after reading and before writing one. Says what is
// wrong in a few words; empty when nothing is.
std::string validate(const Node& node);

}  // namespace coppice
