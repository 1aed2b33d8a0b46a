#include "format/tree/tree.h"

#include "format/base/check.h"

namespace coppice {

namespace {

// A node with fewer items than this part of its capacity is joined with a neighbour, if both
// together fill at most three quarters.
constexpr unsigned kSmallPart = 4;

// Index of the child that covers `key`: the first one also covers everything below it.
unsigned child_index(const Node& node, const Key& key)
{
    const unsigned bound = node.upper_bound(key);
    return bound == 0 ? 0 : bound - 1;
}

// May the node be changed in place: made by this generation, and seen by no version but this one?
bool in_place(const Node& node, const Change& change)
{
    return node.dirty && node.generation() == change.generation && node.birth() > change.parent;
}

}  // namespace

std::optional<Missing> Tree::prepare(const NodeRef& root, const Key& first, const Key& last) const
{
    if (!root) {
        return std::nullopt;
    }
    return prepare_below(root, -1, first, last);
}

// Recursion over at most kMaxTreeLevels levels, with small frames.
std::optional<Missing> Tree::prepare_below(const NodeRef& reference, int level, const Key& first,
                                           const Key& last) const
{
    const Node* node = cache_.find(shape_, reference, level);
    if (node == nullptr) {
        return Missing{reference, level};
    }
    if (node->level() == 0) {
        return std::nullopt;
    }
    const unsigned begin = child_index(*node, first);
    const unsigned end = child_index(*node, last);
    for (unsigned i = begin; i <= end; ++i) {
        auto missing =
            prepare_below(node->child(i), static_cast<int>(node->level()) - 1, first, last);
        if (missing) {
            return missing;
        }
    }
    return std::nullopt;
}

std::optional<Missing> Tree::find_leaf(const NodeRef& root, const Key& key, const Change& change,
                                       Leaf& leaf) const
{
    leaf = {};
    leaf.end.words.fill(~std::uint64_t{0});
    if (!root) {
        return std::nullopt;
    }
    NodeRef reference = root;
    int level = -1;
    bool own = true;
    for (;;) {
        Node* node = cache_.find(shape_, reference, level);
        if (node == nullptr) {
            return Missing{reference, level};
        }
        own = own && in_place(*node, change);
        if (node->level() == 0) {
            leaf.node = node;
            leaf.own = own;
            return std::nullopt;
        }
        const unsigned index = child_index(*node, key);
        leaf.begin = node->key(index);
        if (index + 1 < node->count()) {
            leaf.end = node->key(index + 1);
        }
        reference = node->child(index);
        level = static_cast<int>(node->level()) - 1;
    }
}

void Tree::own_leaf(NodeRef& root, const Key& key, const Change& change)
{
    NodeRef updated;
    Node* node = writable(root, change, updated);
    root = updated;
    while (node->level() > 0) {
        const unsigned index = child_index(*node, key);
        Node* child = writable(node->child(index), change, updated);
        node->set_child(index, updated);
        node = child;
    }
}

bool Tree::small(unsigned items, unsigned capacity) { return items * kSmallPart < capacity; }

void Tree::drop(Node* node, const Change& change)
{
    if (in_place(*node, change)) {
        const BlockNo block = node->block();
        cache_.discard_dirty(node);
        change.space.return_node(block, change.generation);
    } else {
        change.space.drop_node(change.list, node->block(), node->birth(), change.generation);
    }
}

// The node itself if it may be changed in place, else a copy; `updated` becomes its reference.
Node* Tree::writable(const NodeRef& reference, const Change& change, NodeRef& updated)
{
    Node* node = cache_.find(reference.block);
    CHECK(node != nullptr && cache_.in_use());
    if (in_place(*node, change)) {
        updated = {node->block(), node->birth(), 0};
        return node;
    }
    const BlockNo block = change.space.take_node(change.generation);
    Node* copy =
        cache_.create(shape_, block, node->level(), change.generation, change.birth, change.owner);
    std::memcpy(copy->bytes() + sizeof(layout::NodeHeader),
                node->bytes() + sizeof(layout::NodeHeader), layout::kNodeBodyBytes);
    copy->set_count(node->count());
    drop(node, change);
    updated = {copy->block(), copy->birth(), 0};
    return copy;
}

// Splits the full child at `index`. Where items arrive in order the left half stays nearly full.
void Tree::split_child(Node* parent, unsigned index, Node* child, const Key& key,
                       const Change& change)
{
    const unsigned items = child->count();
    const bool ascending = child->upper_bound(key) == items;
    const unsigned keep = ascending ? items - items / 8 - 1 : items / 2;
    Node* right = cache_.create(shape_, change.space.take_node(change.generation), child->level(),
                                change.generation, change.birth, change.owner);
    std::memcpy(right->item(0), child->item(keep), (items - keep) * child->item_bytes());
    right->set_count(items - keep);
    child->remove_items(keep, items - keep);

    std::array<std::byte, 64> entry{};
    write_key(entry.data(), right->key(0), shape_.key_words);
    parent->insert_item(index + 1, entry.data());
    parent->set_child(index + 1, {right->block(), right->birth(), 0});
}

void Tree::insert(NodeRef& root, const std::byte* item, const Change& change)
{
    const Key key = read_key(item, shape_.key_words);
    if (!root) {
        Node* leaf = cache_.create(shape_, change.space.take_node(change.generation), 0,
                                   change.generation, change.birth, change.owner);
        leaf->insert_item(0, item);
        root = {leaf->block(), leaf->birth(), 0};
        return;
    }
    NodeRef updated;
    Node* node = writable(root, change, updated);
    root = updated;
    if (node->count() == node->capacity()) {
        Node* top = cache_.create(shape_, change.space.take_node(change.generation),
                                  node->level() + 1, change.generation, change.birth, change.owner);
        CHECK(top->level() < kMaxTreeLevels);
        std::array<std::byte, 64> entry{};
        write_key(entry.data(), node->key(0), shape_.key_words);
        top->insert_item(0, entry.data());
        top->set_child(0, updated);
        root = {top->block(), top->birth(), 0};
        node = top;
    }
    while (node->level() > 0) {
        unsigned index = child_index(*node, key);
        if (key < node->key(index)) {
            node->set_key(index, key);
        }
        Node* child = writable(node->child(index), change, updated);
        node->set_child(index, updated);
        if (child->count() == child->capacity()) {
            split_child(node, index, child, key, change);
            index = child_index(*node, key);
            child = cache_.find(node->child(index).block);
        }
        node = child;
    }
    const unsigned bound = node->upper_bound(key);
    if (bound > 0 && node->key(bound - 1) == key) {
        std::memcpy(node->item(bound - 1), item, shape_.item_bytes);
    } else {
        node->insert_item(bound, item);
    }
}

// The child at `index` has become small: joins it with a neighbour that is in memory.
void Tree::join_small(Node* parent, unsigned index, const Change& change)
{
    const unsigned left_index = index > 0 ? index - 1 : index;
    if (left_index + 1 >= parent->count()) {
        return;
    }
    Node* left = cache_.find(parent->child(left_index).block);
    Node* right = cache_.find(parent->child(left_index + 1).block);
    if (left == nullptr || right == nullptr ||
        (left->count() + right->count()) * 4 > left->capacity() * 3) {
        return;
    }
    NodeRef updated;
    const NodeRef right_reference = parent->child(left_index + 1);
    left = writable(parent->child(left_index), change, updated);
    parent->set_child(left_index, updated);
    right = cache_.find(right_reference.block);
    std::memcpy(left->item(left->count()), right->item(0), right->count() * right->item_bytes());
    left->set_count(left->count() + right->count());
    drop(right, change);
    parent->remove_items(left_index + 1, 1);
}

bool Tree::contains(const NodeRef& root, const Key& key) const
{
    if (!root) {
        return false;
    }
    const Node* node = cache_.find(root.block);
    while (node != nullptr && node->level() > 0) {
        node = cache_.find(node->child(child_index(*node, key)).block);
    }
    CHECK(node != nullptr);
    const unsigned bound = node->upper_bound(key);
    return bound > 0 && node->key(bound - 1) == key;
}

bool Tree::erase(NodeRef& root, const Key& key, const Change& change)
{
    if (!contains(root, key)) {
        return false;  // nothing is copied for a key that is not there
    }
    std::array<Step, kMaxTreeLevels> path{};
    unsigned depth = 0;
    NodeRef updated;
    Node* node = writable(root, change, updated);
    root = updated;
    while (node->level() > 0) {
        const unsigned index = child_index(*node, key);
        path[depth++] = {node, index};
        Node* child = writable(node->child(index), change, updated);
        node->set_child(index, updated);
        node = child;
    }
    const unsigned bound = node->upper_bound(key);
    node->remove_items(bound - 1, 1);
    while (depth > 0) {
        const Step step = path[--depth];
        if (node->count() == 0) {
            drop(node, change);
            step.node->remove_items(step.index, 1);
        } else if (small(node->count(), node->capacity())) {
            join_small(step.node, step.index, change);
        }
        node = step.node;
    }
    // A root without items is no tree; one with a single child gives its place to that.
    while (node != nullptr && (node->count() == 0 || (node->level() > 0 && node->count() == 1))) {
        root = node->count() == 0 ? NodeRef() : node->child(0);
        drop(node, change);
        node = root ? cache_.find(root.block) : nullptr;
        if (node != nullptr && node->level() == 0) {
            break;
        }
    }
    return true;
}

std::optional<Missing> Cursor::descend(NodeRef reference, int level, const Key* key)
{
    for (;;) {
        const Node* node = cache_.find(shape_, reference, level);
        if (node == nullptr) {
            depth_ = 0;
            return Missing{reference, level};
        }
        const unsigned index = key == nullptr ? 0 : child_index(*node, *key);
        CHECK(depth_ < kMaxTreeLevels);
        path_[depth_++] = {node, index};
        if (node->level() == 0) {
            return std::nullopt;
        }
        reference = node->child(index);
        level = static_cast<int>(node->level()) - 1;
    }
}

std::optional<Missing> Cursor::seek(const Key& key)
{
    depth_ = 0;
    if (!root_) {
        return std::nullopt;
    }
    auto missing = descend(root_, -1, &key);
    if (missing) {
        return missing;
    }
    // The keys of inner nodes may be lower than what is below them: then the item before `key` is
    // in the leaf to the left, and this leaf's first item is greater. Go back one leaf.
    if (this->key() > key) {
        unsigned up = depth_ - 1;
        while (up > 0 && path_[up - 1].index == 0) {
            --up;
        }
        if (up > 0) {
            depth_ = up;
            Step& step = path_[depth_ - 1];
            --step.index;
            // Down along the last children.
            NodeRef reference = step.node->child(step.index);
            int level = static_cast<int>(step.node->level()) - 1;
            for (;;) {
                const Node* node = cache_.find(shape_, reference, level);
                if (node == nullptr) {
                    depth_ = 0;
                    return Missing{reference, level};
                }
                path_[depth_++] = {node, node->count() - 1};
                if (node->level() == 0) {
                    break;
                }
                reference = node->child(node->count() - 1);
                level = static_cast<int>(node->level()) - 1;
            }
        }
    }
    return std::nullopt;
}

std::optional<Missing> Cursor::next()
{
    if (depth_ == 0) {
        return std::nullopt;
    }
    if (++path_[depth_ - 1].index < path_[depth_ - 1].node->count()) {
        return std::nullopt;
    }
    while (depth_ > 0 && path_[depth_ - 1].index + 1 >= path_[depth_ - 1].node->count()) {
        --depth_;
    }
    if (depth_ == 0) {
        return std::nullopt;
    }
    Step& step = path_[depth_ - 1];
    ++step.index;
    return descend(step.node->child(step.index), static_cast<int>(step.node->level()) - 1, nullptr);
}

}  // namespace coppice
