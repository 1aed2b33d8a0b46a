#include "format/check/map_diff.h"

#include <algorithm>

namespace coppice::checker {

namespace {

using At = MapCursor::At;

class Diff {
public:
    Diff(MapCursor& parent, MapCursor& child, const MapDiffEvents& events)
        : parent_(parent), child_(child), events_(events)
    {
    }

    void run()
    {
        while (parent_.at() != At::end || child_.at() != At::end) {
            step();
        }
    }

private:
    void step()
    {
        const bool parent_node = parent_.at() == At::node;
        const bool child_node = child_.at() == At::node;
        if (parent_node && child_node) {
            step_nodes();
        } else if (parent_node) {
            step_node_and_piece(parent_, child_, events_.only_in_child);
        } else if (child_node) {
            step_node_and_piece(child_, parent_, events_.only_in_parent);
        } else {
            step_pieces();
        }
    }

    // Opened is the node that lies before the other; if they overlap, the higher one.
    void step_nodes()
    {
        const bool parent_before = parent_.high() <= child_.low();
        const bool child_before = child_.high() <= parent_.low();
        if (parent_.pointer() == child_.pointer()) {
            parent_.skip();
            child_.skip();
        } else if (parent_before || (!child_before && parent_.level() >= child_.level())) {
            parent_.expand();
        } else {
            child_.expand();
        }
    }

    // A node on one side; a piece or the end on the other. A piece that lies before all keys of the
    // node is on one side only; else the node must be opened.
    static void step_node_and_piece(MapCursor& node, MapCursor& other,
                                    const std::function<void(const MapPiece&)>& only_there)
    {
        if (other.at() == At::piece && other.piece().end() <= node.low()) {
            only_there(other.piece());
            other.skip();
        } else {
            node.expand();
        }
    }

    void pass(MapCursor& side, std::uint64_t blocks, const std::function<void(const MapPiece&)>& to)
    {
        MapPiece piece = side.piece();
        piece.length = std::min(piece.length, blocks);
        to(piece);
        side.consume(blocks);
    }

    void step_pieces()
    {
        if (child_.at() == At::end) {
            pass(parent_, UINT64_MAX, events_.only_in_parent);
            return;
        }
        if (parent_.at() == At::end) {
            pass(child_, UINT64_MAX, events_.only_in_child);
            return;
        }
        const MapPiece& p = parent_.piece();
        const MapPiece& c = child_.piece();
        if (p.lba < c.lba) {
            pass(parent_, c.lba - p.lba, events_.only_in_parent);
            return;
        }
        if (c.lba < p.lba) {
            pass(child_, p.lba - c.lba, events_.only_in_child);
            return;
        }
        const std::uint64_t common = std::min(p.length, c.length);
        if (p.same_content(c)) {
            MapPiece piece = c;
            piece.length = common;
            events_.in_both(piece);
            parent_.consume(common);
            child_.consume(common);
            return;
        }
        pass(parent_, common, events_.only_in_parent);
        pass(child_, common, events_.only_in_child);
    }

    MapCursor& parent_;
    MapCursor& child_;
    const MapDiffEvents& events_;
};

bool by_block(const ExpandedNode& a, const ExpandedNode& b)
{
    return a.pointer.block < b.pointer.block;
}

}  // namespace

MapDiffNodes diff_maps(MapCursor& parent, MapCursor& child, const MapDiffEvents& events)
{
    Diff(parent, child, events).run();

    // The same node may have been opened on both sides where the shapes of the trees differ.
    std::vector<ExpandedNode> above = parent.expanded();
    std::vector<ExpandedNode> below = child.expanded();
    std::stable_sort(above.begin(), above.end(), by_block);
    std::stable_sort(below.begin(), below.end(), by_block);
    MapDiffNodes nodes;
    std::size_t i = 0;
    std::size_t k = 0;
    while (i < above.size() || k < below.size()) {
        if (k == below.size() || (i < above.size() && by_block(above[i], below[k]))) {
            nodes.only_in_parent.push_back(above[i++]);
            continue;
        }
        const bool both = i < above.size() && above[i].pointer == below[k].pointer;
        const std::uint64_t block = below[k].pointer.block;
        (both ? nodes.in_both : nodes.only_in_child).push_back(below[k++]);
        for (; k < below.size() && below[k].pointer.block == block; ++k) {
            nodes.met_twice.push_back(below[k]);
        }
        for (; both && i < above.size() && above[i].pointer.block == block; ++i) {}
    }
    return nodes;
}

}  // namespace coppice::checker
