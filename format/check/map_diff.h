// A version's map against its parent's: what only the one has, and what only the other.
//
// Both are walked side by side in the order of lba. Where both come to the same node it is stepped
// over: that is the sharing a snapshot lives from, and why a thousand snapshots are checked in the
// time of what changed between them. The two trees need not have the same shape.
#pragma once

#include <functional>
#include <vector>

#include "format/check/map_cursor.h"

namespace coppice::checker {

struct MapDiffEvents {
    std::function<void(const MapPiece&)> only_in_child;
    std::function<void(const MapPiece&)> only_in_parent;
    std::function<void(const MapPiece&)> in_both;  // of leaves that were opened, not of all
};

struct MapDiffNodes {
    std::vector<ExpandedNode> only_in_child;
    std::vector<ExpandedNode> only_in_parent;
    std::vector<ExpandedNode> in_both;    // opened on both sides, though the same
    std::vector<ExpandedNode> met_twice;  // in the child, by two ways
};

// Runs both cursors to their ends.
MapDiffNodes diff_maps(MapCursor& parent, MapCursor& child, const MapDiffEvents& events);

}  // namespace coppice::checker
