// A copy-on-write B+-tree (after O. Rodeh, "B-trees, Shadowing, and Clones", 2008): no links
// between leaves, nodes split on the way down, joined with a neighbour when one is at hand.
//
// Nothing here suspends. A function that needs a node that is not in memory changes nothing and
// says which; the caller loads it and asks again:
//
//   CacheUse use(cache);                         // what the walk touches stays
//   for (;;) {
//       auto missing = tree.prepare(root, first, last);
//       if (!missing) break;
//       COPPICE_TRY(tree.load(*missing));        // may suspend; the root may be another afterwards
//   }
//   tree.insert(root, item, change);             // everything it needs is in memory
//
// The tree does not know who owns its nodes. A Change says for whom it is made: the generation
// under construction, the birth that new nodes get, and the sequence of the parent version; a node
// is changed in place only if it is of this generation and born after the parent. Space for nodes
// comes from the caller, who has seen to it that there is enough (kMaxNodesPerChange each).
#pragma once

#include <optional>
#include <set>

#include "format/tree/node_cache.h"

namespace coppice {

class NodeSpace {
public:
    NodeSpace() = default;
    NodeSpace(const NodeSpace&) = delete;
    NodeSpace& operator=(const NodeSpace&) = delete;
    virtual ~NodeSpace() = default;

    virtual BlockNo take_node(Generation generation) = 0;
    // A node of the generation under construction that nothing else has seen.
    virtual void return_node(BlockNo block, Generation generation) = 0;
    // The tree has no more use for a node that an older state may still reach.
    virtual void drop_node(ListId list, BlockNo block, Sequence birth, Generation generation) = 0;
};

struct Change {
    NodeSpace& space;
    Generation generation;
    Sequence birth;
    Sequence parent;  // 0 for the trees of the image
    ListId list;      // dead list of the changed version; 0 for the trees of the image
    std::uint64_t owner = 0;
};

// A path of kMaxTreeLevels nodes, each copied and split, and a new root.
inline constexpr unsigned kMaxNodesPerChange = 2 * kMaxTreeLevels + 1;

class Tree {
public:
    Tree(NodeCache& cache, const TreeShape& shape) : cache_(cache), shape_(shape) {}

    // Is everything in memory that reads or changes of keys in [first, last] touch, including the
    // item before `first`? If not: a node to load.
    std::optional<Missing> prepare(const NodeRef& root, const Key& first, const Key& last) const;
    Status load(const Missing& missing) { return cache_.load(shape_, missing.node, missing.level); }

    // Puts an item in; an item of the same key is replaced. The path must be in memory.
    void insert(NodeRef& root, const std::byte* item, const Change& change);
    // Takes the item of this key out, if there is one: else false. The path must be in memory.
    bool erase(NodeRef& root, const Key& key, const Change& change);

    // A leaf, for one who changes many neighbouring items of it.
    struct Leaf {
        Node* node = nullptr;  // null: the tree has no items
        Key begin;             // keys in [begin, end) belong into it
        Key end;
        bool own = false;  // it may be changed in place
    };
    // The leaf into which `key` belongs, if the path to it is in memory.
    std::optional<Missing> find_leaf(const NodeRef& root, const Key& key, const Change& change,
                                     Leaf& leaf) const;
    // Makes the path to that leaf one that may be changed in place. The path must be in memory;
    // takes at most kMaxTreeLevels nodes.
    void own_leaf(NodeRef& root, const Key& key, const Change& change);
    // Has a node so few items that `erase` joins it with a neighbour?
    static bool small(unsigned items, unsigned capacity);

    const TreeShape& shape() const { return shape_; }
    NodeCache& cache() const { return cache_; }

private:
    struct Step {
        Node* node;
        unsigned index;
    };

    std::optional<Missing> prepare_below(const NodeRef& reference, int level, const Key& first,
                                         const Key& last) const;
    bool contains(const NodeRef& root, const Key& key) const;
    Node* writable(const NodeRef& reference, const Change& change, NodeRef& updated);
    void drop(Node* node, const Change& change);
    void split_child(Node* parent, unsigned index, Node* child, const Key& key,
                     const Change& change);
    void join_small(Node* parent, unsigned index, const Change& change);

    NodeCache& cache_;
    const TreeShape& shape_;
};

// Walks items in order; valid until the tree changes or the caller suspends.
class Cursor {
public:
    Cursor(const NodeCache& cache, const TreeShape& shape, const NodeRef& root)
        : cache_(const_cast<NodeCache&>(cache)),
          shape_(shape),
          root_(root)  // NOLINT: finding marks use
    {
    }

    // Goes to the last item with a key not greater than `key`, or to the first item if there is
    // none. A node that is not in memory is returned; the cursor is then not valid.
    std::optional<Missing> seek(const Key& key);
    // Goes to the next item.
    std::optional<Missing> next();

    // Adds the nodes from the root to the item.
    void note_path(std::set<BlockNo>& nodes) const
    {
        for (unsigned i = 0; i < depth_; ++i) {
            nodes.insert(path_[i].node->block());
        }
    }

    bool valid() const { return depth_ > 0; }  // false: behind the last item, or no items
    const std::byte* item() const
    {
        const Step& leaf = path_[depth_ - 1];
        return leaf.node->item(leaf.index);
    }
    Key key() const
    {
        const Step& leaf = path_[depth_ - 1];
        return leaf.node->key(leaf.index);
    }
    template <typename Item>
    Item get() const
    {
        Item result;
        std::memcpy(static_cast<void*>(&result), item(), sizeof(result));
        return result;
    }

private:
    struct Step {
        const Node* node;
        unsigned index;
    };

    std::optional<Missing> descend(NodeRef reference, int level, const Key* key);

    NodeCache& cache_;
    const TreeShape& shape_;
    NodeRef root_;
    std::array<Step, kMaxTreeLevels> path_{};
    unsigned depth_ = 0;
};

}  // namespace coppice
