// Brings what a long walk will need into memory before it, level by level: the nodes of one level
// are read together, in order of their blocks, instead of one after the other.
#pragma once

#include <span>

#include "format/tree/tree.h"

namespace coppice {

// Loads the paths to the keys, which are in ascending order. What is loaded stays only as long as
// the caller holds a CacheUse from before the call. (task)
Status read_ahead(Tree& tree, const NodeRef& root, std::span<const Key> keys);

}  // namespace coppice
