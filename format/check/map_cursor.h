// One side of a comparison of two maps: a walk that can step over whole subtrees.
//
// The cursor stands before a *node* not yet opened (the root at first) or on a *piece*, an item or
// what is left of it. `expand` opens the node, `skip` passes it or the piece, `consume` passes the
// first blocks of the piece. Nothing is recursive; the stack has one entry for each level.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "format/check/tree_walk.h"

namespace coppice::checker {

struct MapPiece {
    std::uint64_t lba = 0;
    std::uint64_t length = 0;
    std::uint64_t block = 0;
    std::uint64_t birth = 0;
    layout::MapKind kind = layout::MapKind::data;
    std::uint32_t detail = 0;

    std::uint64_t end() const { return lba + length; }
    bool same_content(const MapPiece& other) const
    {
        return kind == other.kind && block == other.block && birth == other.birth &&
               (kind == layout::MapKind::data || detail == other.detail);
    }
};

// First and last lba below a map node, noted when its owner's map is walked, so that overlaps are
// found although shared subtrees are not walked again.
struct SubtreeRange {
    std::uint64_t first = UINT64_MAX;
    std::uint64_t end = 0;
};
using SubtreeRanges = std::unordered_map<std::uint64_t, SubtreeRange>;

struct ExpandedNode {
    Pointer pointer;
    NodePlace place;
};

class MapCursor {
public:
    struct Environment {
        Image& image;
        NodeReader& reader;
        SubtreeRanges& ranges;
        Findings* findings;  // null: the walk is silent (the parent's side, a second walk)
    };

    // What of a map counts: all from block `lba` on. Below it a version that is being removed has
    // dropped its items, and the nodes whose keys all lie there. Another map still has those; its
    // last item below `lba` may reach over it.
    struct From {
        std::uint64_t lba = 0;
        bool dropped = false;
    };
    // Nodes born after `shared_up_to` are read ahead.
    MapCursor(const Environment& environment, const TreeName& name, const Pointer& root,
              const From& from, std::uint64_t shared_up_to, std::uint64_t birth_limit);

    enum class At : std::uint8_t { end, node, piece };
    At at() const { return at_; }

    // At a node: where its keys lie, and its level (kMaxLevel + 1 for the root, which is unknown).
    std::uint64_t low() const { return place_.low[0]; }
    std::uint64_t high() const { return place_.high ? (*place_.high)[0] : UINT64_MAX; }
    unsigned level() const;
    const Pointer& pointer() const { return pointer_; }
    const MapPiece& piece() const { return piece_; }

    void expand();
    void skip();
    void consume(std::uint64_t blocks);

    const std::vector<ExpandedNode>& expanded() const { return expanded_; }
    bool complete() const { return complete_; }  // false: something could not be read

private:
    struct Frame {
        NodeView node;
        NodePlace place;
        std::uint64_t block = 0;
        unsigned next = 0;
        SubtreeRange range{};
    };

    void advance();
    bool passed_over(const NodeView& node, unsigned index, const NodePlace& child) const;
    void leave_frame();
    bool take_item(const NodeView& leaf, unsigned index);
    std::string judge_item(const layout::MapItem& item) const;
    void note_range(std::uint64_t first, std::uint64_t end);
    void prefetch_children(const NodeView& node);

    Environment environment_;
    const TreeName& name_;
    From from_;
    std::uint64_t shared_up_to_;
    std::uint64_t birth_limit_;

    At at_ = At::end;
    Pointer pointer_{};
    NodePlace place_{};
    MapPiece piece_{};
    std::vector<Frame> stack_;
    std::vector<ExpandedNode> expanded_;
    std::unordered_set<std::uint64_t> expanded_blocks_;
    std::uint64_t previous_end_ = 0;
    bool complete_ = true;
};

// No lba of any map lies behind this: the largest volume, and VM state behind its end.
using layout::kMapEnd;

}  // namespace coppice::checker
