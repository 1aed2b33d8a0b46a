// All nodes that are in memory, found by their block. Clean ones may leave; dirty ones stay until
// their checkpoint has written them, and then for one more: the nodes of the next generation may
// have been copied while the checksum of a child was not yet known, and ask for it when they are
// written themselves.
//
// Nothing here suspends but `load` and `write_dirty`.
#pragma once

#include <memory>
#include <span>
#include <tsl/robin_map.h>
#include <vector>

#include "format/disk/disk.h"
#include "format/disk/pace.h"
#include "format/tree/node.h"

namespace coppice {

// Nodes stand in groups of 8192 neighbouring blocks, some groups apart. With the block itself as
// hash, the nodes of two groups would fall on each other as a whole.
struct NodeHash {
    std::size_t operator()(std::uint64_t block) const
    {
        const std::uint64_t mixed = block * 0x9E3779B97F4A7C15ULL;
        return mixed ^ mixed >> 32;
    }
};

// A node that a walk needs.
struct Missing {
    NodeRef node;
    int level;  // -1: a root, of any level
};

class NodeCache {
public:
    NodeCache(Disk& disk, std::uint64_t image_seed, std::uint64_t capacity_bytes);

    // The node if it is in memory, else nullptr. Valid until the caller suspends.
    Node* find(BlockNo block)
    {
        auto found = nodes_.find(block.value);
        if (found == nodes_.end()) {
            return nullptr;
        }
        Node* node = found->second.get();
        node->referenced = true;
        node->last_use = clock_;
        return node;
    }

    // The same, but only if it is the node that the reference names: an image may say anything,
    // such as that a node is its own child.
    Node* find(const TreeShape& shape, const NodeRef& reference, int level)
    {
        Node* node = find(reference.block);
        const bool named = node != nullptr && node->shape().kind == shape.kind &&
                           node->birth() == reference.birth &&
                           (level < 0 || node->level() == static_cast<unsigned>(level));
        return named ? node : nullptr;
    }

    // Reads and verifies a node. `level`: what the parent expects, or nothing for a root. (task)
    Status load(const TreeShape& shape, const NodeRef& reference, int level);
    // The same for many: in order of their blocks, with many requests under way. (task)
    Status load_all(const TreeShape& shape, std::vector<Missing> nodes);

    // A new, empty, dirty node of the generation.
    Node* create(const TreeShape& shape, BlockNo block, unsigned level, Generation generation,
                 Sequence birth, std::uint64_t owner);

    // A dirty node is not needed any more and never was on disk.
    void discard_dirty(Node* node);

    // What was in these blocks is gone; they are about to be used for something else.
    void forget(BlockNo block);

    // Writes the dirty nodes of a generation whose tree is (is not) of kind map, children before
    // parents, with checksums filled in. (task)
    Status write_dirty(Generation generation, bool maps);

    // The generation is durable: what was kept for it may be evicted.
    void release_kept(Generation generation) { kept_until_ = generation; }

    // The use of nodes in a walk that restarts after each load: until `end_use`, no node touched
    // since `begin_use` is evicted, so the walk ends.
    std::uint64_t begin_use();
    void end_use(std::uint64_t ticket);

    bool in_use() const { return !uses_.empty(); }

    std::uint64_t dirty_count() const { return dirty_count_; }
    std::uint64_t dirty_count(Generation generation) const
    {
        return dirty_[generation.value % 2].size();
    }
    std::uint64_t nodes_read() const { return nodes_read_; }
    std::uint64_t nodes_written() const { return nodes_written_; }
    std::uint64_t image_seed() const { return image_seed_; }
    Tasks& tasks() const { return disk_.tasks(); }

private:
    Status accept(std::unique_ptr<Node> node, const NodeRef& reference, int level);
    Node* insert(std::unique_ptr<Node> node);
    void evict();
    void remove(Node* node);
    Status finish(Node& node);
    struct Written {
        unsigned level;
        BlockNo block;
        Node* node;
    };
    Status write_batch(Generation generation, std::span<const Written> batch, Pace& pace);

    Disk& disk_;
    std::uint64_t image_seed_;
    std::uint64_t capacity_;
    tsl::robin_map<std::uint64_t, std::unique_ptr<Node>, NodeHash> nodes_;
    std::vector<Node*> ring_;  // every node, for the evicting hand
    std::size_t hand_ = 0;
    std::uint64_t clock_ = 0;
    std::vector<std::uint64_t> uses_;  // tickets of walks under way, unsorted
    std::vector<Node*> dirty_[2];      // by generation % 2
    std::uint64_t dirty_count_ = 0;
    Generation kept_until_;  // what is kept until then, or earlier, may leave
    std::uint64_t nodes_read_ = 0;
    std::uint64_t nodes_written_ = 0;
};

// Holds the nodes that a walk touches until it is done.
class CacheUse {
public:
    explicit CacheUse(NodeCache& cache) : cache_(cache), ticket_(cache.begin_use()) {}
    CacheUse(const CacheUse&) = delete;
    CacheUse& operator=(const CacheUse&) = delete;
    ~CacheUse() { cache_.end_use(ticket_); }

private:
    NodeCache& cache_;
    std::uint64_t ticket_;
};

}  // namespace coppice
