// One tree node: read, verified against the pointer that led to it, and taken apart.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>

#include "format/check/image.h"

namespace coppice::checker {

// One to three integers; those that a tree does not use are 0.
using Key = std::array<std::uint64_t, 3>;

struct TreeShape {
    layout::TreeKind kind;
    std::string_view name;
    unsigned key_words;
    std::size_t item_bytes;  // of a leaf item, with its key

    std::size_t inner_bytes() const { return key_words * 8 + sizeof(layout::NodePointer); }
};
const TreeShape& shape_of(layout::TreeKind kind);

// No tree of one-block nodes over 2^48 blocks is higher.
inline constexpr unsigned kMaxLevel = 15;
inline constexpr int kAnyLevel = -1;

// A node pointer as numbers.
struct Pointer {
    std::uint64_t block = 0;
    std::uint64_t mirror = 0;
    std::uint64_t birth = 0;
    std::uint64_t checksum = 0;

    bool operator==(const Pointer&) const = default;
};
Pointer decode(const layout::NodePointer& pointer);

// What the way down from the root demands of a node.
struct NodePlace {
    const TreeShape* shape = nullptr;
    int level = kAnyLevel;  // kAnyLevel: a root
    Key low{};
    std::optional<Key> high = std::nullopt;  // behind the last key; none: no bound
};

class NodeView {
public:
    NodeView(std::shared_ptr<const Block> block, const TreeShape& shape);

    unsigned level() const { return level_; }
    unsigned count() const { return count_; }
    Key key(unsigned index) const;
    Pointer child(unsigned index) const;  // inner nodes
    template <typename Item>
    Item item(unsigned index) const  // leaves
    {
        return copy_out<Item>(at(index));
    }

private:
    const std::byte* at(unsigned index) const
    {
        return block_->bytes.data() + sizeof(layout::NodeHeader) + index * stride_;
    }

    std::shared_ptr<const Block> block_;
    const TreeShape* shape_;
    std::size_t stride_;
    unsigned level_;
    unsigned count_;
};

struct NodeRead {
    std::optional<NodeView> node;  // none: no copy is usable
    std::string problem;           // of the primary copy; empty: none
    std::string mirror_problem;    // of the mirror, when it was looked at
};

class NodeReader {
public:
    explicit NodeReader(Image& image) : image_(image) {}

    // Reads the node; the mirror is read when the primary is damaged or `both` is set.
    NodeRead read(const Pointer& pointer, const NodePlace& place, bool both);

    // Begins with reading these in one batch; a later read finds them in memory.
    void prefetch(std::span<const std::uint64_t> blocks);

    std::uint64_t nodes_read() const { return nodes_read_; }

    // What is wrong with the bytes as the node that a pointer names; empty: nothing.
    std::string judge(const Block& block, const Pointer& pointer, const NodePlace& place) const;

private:
    std::shared_ptr<const Block> load(std::uint64_t block, std::string& problem);
    void remember(std::uint64_t block, std::shared_ptr<const Block> bytes);

    Image& image_;
    std::unordered_map<std::uint64_t, std::shared_ptr<const Block>> cache_;
    std::deque<std::uint64_t> cache_order_;
    std::uint64_t nodes_read_ = 0;
};

}  // namespace coppice::checker
