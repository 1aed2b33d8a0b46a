#include "format/check/tree_walk.h"

#include <fmt/format.h>

namespace coppice::checker {

namespace {

std::string key_text(const Key& key, unsigned words)
{
    switch (words) {
    case 1: return fmt::format("{}", key[0]);
    case 2: return fmt::format("({}, {})", key[0], key[1]);
    default: return fmt::format("({}, {}, {})", key[0], key[1], key[2]);
    }
}

}  // namespace

std::string range_text(const TreeName& name, const NodePlace& place)
{
    if (place.shape->kind == layout::TreeKind::map) {
        if (place.high) {
            return fmt::format("lba {} to {} of {}", place.low[0], (*place.high)[0] - 1,
                               name.volume);
        }
        return fmt::format("everything from lba {} on of {}", place.low[0], name.volume);
    }
    const unsigned words = place.shape->key_words;
    if (place.high) {
        return fmt::format("keys {} up to below {}", key_text(place.low, words),
                           key_text(*place.high, words));
    }
    return fmt::format("all keys from {} on", key_text(place.low, words));
}

Finding node_finding(Severity severity, FindingKind kind, const TreeName& name,
                     const Pointer& pointer, const NodePlace& place, std::string_view what,
                     std::string_view consequence)
{
    Finding finding{.severity = severity,
                    .kind = kind,
                    .text = fmt::format("{}: node in block {}: {}; {} {}", name.tree, pointer.block,
                                        what, range_text(name, place), consequence),
                    .tree = name.tree,
                    .block = pointer.block,
                    .blocks = 1};
    if (place.shape->kind == layout::TreeKind::map) {
        finding.volume = name.volume;
        finding.lba = place.low[0];
        const std::uint64_t end = place.high ? (*place.high)[0] : name.lba_end;
        finding.lba_blocks = end > finding.lba ? end - finding.lba : 0;
    }
    return finding;
}

std::uint32_t NodeRegistry::name_index(const std::string& tree)
{
    const auto [place, added] =
        name_indices_.emplace(tree, static_cast<std::uint32_t>(names_.size()));
    if (added) {
        names_.push_back(tree);
    }
    return place->second;
}

bool NodeRegistry::claim_block(std::uint64_t block, std::uint32_t owner, const Pointer& pointer,
                               const TreeName& name, const NodePlace& place)
{
    const auto [entry, added] = owners_.emplace(block, owner);
    if (!added) {
        findings_.add(node_finding(
            Severity::corruption, FindingKind::double_use, name, pointer, place,
            fmt::format("block {} is already a node of the {}", block, names_[entry->second]),
            "is reached twice"));
        return false;
    }
    space_.add_node(block);
    return true;
}

bool NodeRegistry::claim(const Pointer& pointer, const TreeName& name, const NodePlace& place)
{
    const std::uint32_t owner = name_index(name.tree);
    if (!claim_block(pointer.block, owner, pointer, name, place)) {
        return false;
    }
    if (pointer.mirror != 0) {
        claim_block(pointer.mirror, owner, pointer, name, place);
    }
    return true;
}

bool report_read(const NodeRead& read, const TreeName& name, const Pointer& pointer,
                 const NodePlace& place, Findings& findings)
{
    if (!read.node) {
        std::string what = read.problem;
        if (pointer.mirror != 0) {
            what += fmt::format(", and its mirror in block {}: {}", pointer.mirror,
                                read.mirror_problem);
        }
        findings.add(node_finding(Severity::corruption, FindingKind::node, name, pointer, place,
                                  what, "is lost"));
        return false;
    }
    if (!read.problem.empty()) {
        findings.add(node_finding(
            Severity::repairable, FindingKind::mirror, name, pointer, place, read.problem,
            fmt::format("is read from the mirror in block {}", pointer.mirror)));
    } else if (!read.mirror_problem.empty()) {
        findings.add(node_finding(Severity::repairable, FindingKind::mirror, name, pointer, place,
                                  fmt::format("its mirror in block {} is damaged: {}",
                                              pointer.mirror, read.mirror_problem),
                                  "has one copy only"));
    }
    return true;
}

bool TreeWalk::enter(const TreeName& name, const Pointer& pointer, const NodePlace& place)
{
    const bool possible =
        pointer.block >= image_.fixed_blocks() && pointer.block < image_.image_blocks();
    if (possible && !registry_.claim(pointer, name, place)) {
        return false;
    }
    NodeRead read = reader_.read(pointer, place, true);
    if (!report_read(read, name, pointer, place, findings_)) {
        return false;
    }
    NodePlace own = place;
    own.level = static_cast<int>(read.node->level());
    if (own.level == 1) {
        std::vector<std::uint64_t> children;
        for (unsigned i = 0; i < read.node->count(); ++i) {
            children.push_back(read.node->child(i).block);
        }
        reader_.prefetch(children);
    }
    stack_.push_back({*read.node, own, 0});
    return true;
}

bool TreeWalk::walk(const TreeName& name, const Pointer& root, const OnItem& on_item)
{
    if (root.block == 0) {
        return true;
    }
    stack_.clear();
    bool complete = enter(name, root, {.shape = name.shape});
    while (!stack_.empty()) {
        Frame& frame = stack_.back();
        if (frame.next == frame.node.count()) {
            stack_.pop_back();
            continue;
        }
        const unsigned index = frame.next++;
        if (frame.node.level() == 0) {
            on_item(frame.node, index);
            continue;
        }
        NodePlace below{.shape = name.shape,
                        .level = static_cast<int>(frame.node.level()) - 1,
                        .low = frame.node.key(index),
                        .high = frame.place.high};
        if (index + 1 < frame.node.count()) {
            below.high = frame.node.key(index + 1);
        }
        const Pointer pointer = frame.node.child(index);
        complete = enter(name, pointer, below) && complete;  // `frame` may have moved
    }
    return complete;
}

}  // namespace coppice::checker
