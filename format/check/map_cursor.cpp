#include "format/check/map_cursor.h"

#include <algorithm>
#include <fmt/format.h>

namespace coppice::checker {

MapCursor::MapCursor(const Environment& environment, const TreeName& name, const Pointer& root,
                     const From& from, std::uint64_t shared_up_to, std::uint64_t birth_limit)
    : environment_(environment),
      name_(name),
      from_(from),
      shared_up_to_(shared_up_to),
      birth_limit_(birth_limit)
{
    if (root.block != 0) {
        at_ = At::node;
        pointer_ = root;
        place_ = {.shape = name.shape};
    }
}

unsigned MapCursor::level() const
{
    return place_.level == kAnyLevel ? kMaxLevel + 1 : static_cast<unsigned>(place_.level);
}

void MapCursor::note_range(std::uint64_t first, std::uint64_t end)
{
    if (!stack_.empty()) {
        SubtreeRange& range = stack_.back().range;
        range.first = std::min(range.first, first);
        range.end = std::max(range.end, end);
    }
}

void MapCursor::prefetch_children(const NodeView& node)
{
    std::vector<std::uint64_t> children;
    for (unsigned i = 0; i < node.count(); ++i) {
        const Pointer child = node.child(i);
        if (child.birth > shared_up_to_) {
            children.push_back(child.block);
        }
    }
    environment_.reader.prefetch(children);
}

void MapCursor::expand()
{
    const Pointer pointer = pointer_;
    NodePlace place = place_;
    // A node that was opened in this walk before would make a broken tree endless; it is reported
    // when the nodes are claimed.
    expanded_.push_back({pointer, place});
    if (!expanded_blocks_.insert(pointer.block).second) {
        complete_ = false;
        advance();
        return;
    }
    NodeRead read = environment_.reader.read(pointer, place, environment_.findings != nullptr);
    const bool usable = environment_.findings == nullptr
                            ? read.node.has_value()
                            : report_read(read, name_, pointer, place, *environment_.findings);
    if (!usable) {
        complete_ = false;
        advance();
        return;
    }
    place.level = static_cast<int>(read.node->level());
    if (place.level == 1) {
        prefetch_children(*read.node);
    }
    stack_.push_back({*read.node, place, pointer.block});
    advance();
}

void MapCursor::skip()
{
    if (at_ == At::node) {
        const auto known = environment_.ranges.find(pointer_.block);
        if (known != environment_.ranges.end() && known->second.end != 0) {
            const SubtreeRange& range = known->second;
            if (range.first < previous_end_ && environment_.findings != nullptr) {
                environment_.findings->add(node_finding(
                    Severity::corruption, FindingKind::map_item, name_, pointer_, place_,
                    fmt::format("its first item, at lba {}, overlaps the one before it, which ends "
                                "at {}",
                                range.first, previous_end_),
                    "has two meanings"));
            }
            previous_end_ = std::max(previous_end_, range.end);
            note_range(range.first, range.end);
        }
    }
    advance();
}

void MapCursor::consume(std::uint64_t blocks)
{
    if (blocks >= piece_.length) {
        advance();
        return;
    }
    piece_.lba += blocks;
    piece_.length -= blocks;
    if (piece_.kind == layout::MapKind::data || piece_.kind == layout::MapKind::range_reference) {
        piece_.block += blocks;
    }
}

void MapCursor::leave_frame()
{
    const Frame& frame = stack_.back();
    const SubtreeRange range = frame.range;
    // The first walk of a node is its owner's and sees all of it.
    environment_.ranges.emplace(frame.block, range);
    stack_.pop_back();
    if (range.end != 0) {
        note_range(range.first, range.end);
    }
}

// Does all below a child lie before the place from which on the map counts? Where the child is
// there, only if that is so of the next one too: an item may reach over the end of its leaf's keys.
bool MapCursor::passed_over(const NodeView& node, unsigned index, const NodePlace& child) const
{
    if (!child.high || (*child.high)[0] > from_.lba) {
        return false;
    }
    return from_.dropped || (index + 2 < node.count() && node.key(index + 2)[0] <= from_.lba);
}

void MapCursor::advance()
{
    while (!stack_.empty()) {
        Frame& frame = stack_.back();
        if (frame.next == frame.node.count()) {
            leave_frame();
            continue;
        }
        const unsigned index = frame.next++;
        if (frame.node.level() == 0) {
            if (take_item(frame.node, index)) {
                at_ = At::piece;
                return;
            }
            continue;
        }
        NodePlace below{.shape = name_.shape,
                        .level = static_cast<int>(frame.node.level()) - 1,
                        .low = frame.node.key(index),
                        .high = frame.place.high};
        if (index + 1 < frame.node.count()) {
            below.high = frame.node.key(index + 1);
        }
        if (passed_over(frame.node, index, below)) {
            continue;
        }
        at_ = At::node;
        pointer_ = frame.node.child(index);
        place_ = below;
        return;
    }
    at_ = At::end;
}

std::string MapCursor::judge_item(const layout::MapItem& item) const
{
    const std::uint64_t lba = item.lba;
    const std::uint64_t block = item.block;
    const std::uint64_t length = item.length;
    if (length == 0 || lba > kMapEnd || length > kMapEnd - lba) {
        return fmt::format("a length of {} blocks", length);
    }
    if (item.birth == 0 || item.birth > birth_limit_) {
        return fmt::format("birth {}, but this version ends at {}", item.birth.get(), birth_limit_);
    }
    if (item.flags != 0) {
        return fmt::format("flags {:#x}", item.flags);
    }
    switch (item.kind) {
    case static_cast<std::uint8_t>(layout::MapKind::data):
        if (block < environment_.image.fixed_blocks() ||
            block + length > environment_.image.image_blocks()) {
            return fmt::format("data in blocks {} to {}, outside the image's data", block,
                               block + length - 1);
        }
        return {};
    case static_cast<std::uint8_t>(layout::MapKind::zero): return {};
    case static_cast<std::uint8_t>(layout::MapKind::unwritable):
        return item.detail > 0xFF ? fmt::format("a mask of {:#x}", item.detail.get()) : "";
    case static_cast<std::uint8_t>(layout::MapKind::range_reference):
        return block + length > kMapEnd ? fmt::format("a source at lba {}", block) : "";
    default: return fmt::format("the unknown kind {}", item.kind);
    }
}

bool MapCursor::take_item(const NodeView& leaf, unsigned index)
{
    const auto item = leaf.item<layout::MapItem>(index);
    const std::string problem = judge_item(item);
    const std::uint64_t lba = item.lba;
    if (!problem.empty()) {
        complete_ = false;
        if (environment_.findings != nullptr) {
            environment_.findings->add(
                {.severity = Severity::corruption,
                 .kind = FindingKind::map_item,
                 .text = fmt::format("{}: the item at lba {} has {}; {} blocks of {} are lost",
                                     name_.tree, lba, problem, item.length.get(), name_.volume),
                 .tree = name_.tree,
                 .volume = name_.volume,
                 .lba = lba,
                 .lba_blocks = item.length});
        }
        return false;
    }
    piece_ = {
        lba,        item.length, item.block, item.birth, static_cast<layout::MapKind>(item.kind),
        item.detail};
    if (lba < previous_end_) {
        if (environment_.findings != nullptr) {
            environment_.findings->add(
                {.severity = Severity::corruption,
                 .kind = FindingKind::map_item,
                 .text =
                     fmt::format("{}: the item at lba {} overlaps the one before it, which ends "
                                 "at {}; {} has two meanings there",
                                 name_.tree, lba, previous_end_, name_.volume),
                 .tree = name_.tree,
                 .volume = name_.volume,
                 .lba = lba,
                 .lba_blocks = std::min(previous_end_, piece_.end()) - lba});
        }
        complete_ = false;
    }
    previous_end_ = std::max(previous_end_, piece_.end());
    note_range(lba, piece_.end());
    if (piece_.end() <= from_.lba) {
        return false;
    }
    if (piece_.lba < from_.lba) {
        consume(from_.lba - piece_.lba);
    }
    return true;
}

}  // namespace coppice::checker
