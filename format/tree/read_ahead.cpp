#include "format/tree/read_ahead.h"

#include <algorithm>

namespace coppice {

namespace {

// Appends the topmost nodes on the paths to the keys that are not in memory. Recursion over at most
// kMaxTreeLevels levels: a node of level n is only looked for below one of level n + 1.
void collect_missing(const Tree& tree, const NodeRef& reference, int level,
                     std::span<const Key> keys, std::vector<Missing>& missing)
{
    const Node* node = tree.cache().find(tree.shape(), reference, level);
    if (node == nullptr) {
        missing.push_back({reference, level});
        return;
    }
    if (node->level() == 0) {
        return;
    }
    while (!keys.empty()) {
        const unsigned bound = node->upper_bound(keys.front());
        const unsigned index = bound == 0 ? 0 : bound - 1;
        std::size_t below = keys.size();
        if (index + 1 < node->count()) {
            const Key end = node->key(index + 1);
            below = static_cast<std::size_t>(std::lower_bound(keys.begin(), keys.end(), end) -
                                             keys.begin());
        }
        collect_missing(tree, node->child(index), static_cast<int>(node->level()) - 1,
                        keys.first(below), missing);
        keys = keys.subspan(below);
    }
}

}  // namespace

Status read_ahead(Tree& tree, const NodeRef& root, std::span<const Key> keys)
{
    if (!root || keys.empty()) {
        return {};
    }
    for (unsigned level = 0; level < kMaxTreeLevels; ++level) {
        std::vector<Missing> missing;
        collect_missing(tree, root, -1, keys, missing);
        if (missing.empty()) {
            return {};
        }
        COPPICE_TRY(tree.cache().load_all(tree.shape(), std::move(missing)));
    }
    return {};
}

}  // namespace coppice
