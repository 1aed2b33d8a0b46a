// Extra references to data blocks that range clones share, in the reference tree. Additions are
// gathered by generation and, like drops, counted in its checkpoint.
#pragma once

#include <vector>

#include "format/space/extent.h"
#include "format/space/space.h"
#include "format/tree/tree.h"

namespace coppice {

class ReferenceTable {
public:
    ReferenceTable(NodeCache& cache, Space& space, const NodeRef& root);

    // The blocks have one reference more, from this generation on.
    void add(Generation generation, const Extent& extent);
    std::uint64_t pending() const { return pending_; }

    // Counts the additions of a generation. (task)
    Status write(Generation generation, Sequence sequence);

    // The blocks lose one reference; those that have none left are appended to `freed`. (task)
    Status drop(Generation generation, Sequence sequence, const Extent& extent, ExtentList& freed);

    const NodeRef& root() const { return root_; }
    NodeRef& mutable_root() { return root_; }

private:
    // Changes the count of a piece at the start of [block, end) that has one count, by +1 or -1;
    // returns the piece's end and whether it had no extra reference. (task)
    struct Piece {
        BlockNo end;
        bool single;
    };
    Result<Piece> change_piece(BlockNo block, BlockNo end, bool add, const Change& change);

    Space& space_;
    Tree tree_;
    NodeRef root_;
    ExtentList additions_[2];
    std::uint64_t pending_ = 0;
};

}  // namespace coppice
