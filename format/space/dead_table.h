// The dead tree: what a version's parent has and the version has no more, by list and birth.
#pragma once

#include <optional>

#include "format/space/extent.h"
#include "format/space/space.h"
#include "format/tree/tree.h"

namespace coppice {

class DeadTable {
public:
    DeadTable(NodeCache& cache, Space& space, const NodeRef& root);

    // Records something dead in its list. (task)
    Status insert(Generation generation, Sequence sequence, const Drop& drop);

    struct Record {
        Drop drop;
        unsigned count = 0;  // how many times it died
    };
    // Takes the first record of a list with a birth in (after, up_to] out, if there is one; of data
    // at most `most_blocks`: the rest stays a record. (task)
    Result<std::optional<Record>> take(Generation generation, Sequence sequence, ListId list,
                                       Sequence after, Sequence up_to, std::uint64_t most_blocks);

    const NodeRef& root() const { return root_; }
    NodeRef& mutable_root() { return root_; }

private:
    Space& space_;
    Tree tree_;
    NodeRef root_;
};

}  // namespace coppice
