// The dead tree: what a version's parent has and the version has no more, by list and birth.
#pragma once

#include <vector>

#include "format/space/extent.h"
#include "format/space/space.h"
#include "format/tree/tree.h"

namespace coppice {

class DeadTable {
public:
    DeadTable(NodeCache& cache, Space& space, const NodeRef& root);

    // Records something dead in its list. (task)
    Status insert(Generation generation, Sequence sequence, const Drop& drop);

    // Takes the records of a list with births in (after, up_to] out and appends them to `taken`,
    // at most `limit`; returns whether there may be more. (task)
    Result<bool> take(Generation generation, Sequence sequence, ListId list, Sequence after,
                      Sequence up_to, std::size_t limit, std::vector<Drop>& taken);

    const NodeRef& root() const { return root_; }
    NodeRef& mutable_root() { return root_; }

private:
    Space& space_;
    Tree tree_;
    NodeRef root_;
};

}  // namespace coppice
