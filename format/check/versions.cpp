#include "format/check/versions.h"

#include <fmt/format.h>

namespace coppice::checker {

namespace {

Finding item_finding(FindingKind kind, const TreeName& name, const MapPiece& piece,
                     std::string text)
{
    return {.severity = Severity::corruption,
            .kind = kind,
            .text =
                fmt::format("{}: lba {} to {}: {}", name.tree, piece.lba, piece.end() - 1, text),
            .tree = name.tree,
            .block = piece.kind == layout::MapKind::data ? piece.block : 0,
            .blocks = piece.kind == layout::MapKind::data ? piece.length : 0,
            .volume = name.volume,
            .lba = piece.lba,
            .lba_blocks = piece.length};
}

std::string_view kind_text(layout::DeadKind kind)
{
    switch (kind) {
    case layout::DeadKind::data: return "data";
    case layout::DeadKind::node: return "node";
    case layout::DeadKind::range_reference: return "range reference";
    }
    return "?";
}

}  // namespace

TreeName Versions::tree_name(const VersionState& version) const
{
    return {.shape = &shape_of(layout::TreeKind::map),
            .tree = fmt::format("map of {}", version.name),
            .volume = version.name,
            .lba_end = version.lba_end};
}

bool Versions::run(bool lists_complete)
{
    std::uint64_t done = 0;
    for (const std::uint32_t id : catalog_.order()) {
        findings_.progress("maps", done++, catalog_.order().size());
        walk_version(id, *catalog_.version(id), lists_complete);
    }
    if (complete_ && lists_complete) {
        check_held();
    }
    return complete_;
}

MapDiffNodes Versions::compare_with_parent(const VersionState& version, const TreeName& name,
                                           const MapDiffEvents& events, Findings* findings,
                                           bool& complete)
{
    const VersionState* parent = catalog_.version(version.effective_parent);
    const std::uint64_t parent_sequence = catalog_.parent_sequence(version);
    const TreeName parent_name =
        parent == nullptr ? TreeName{.shape = name.shape, .tree = {}} : tree_name(*parent);
    const Pointer parent_root = parent == nullptr ? Pointer{} : decode(parent->record.map);
    const std::uint64_t from = version.leaving ? version.cursor : 0;
    MapCursor above({image_, reader_, ranges_, nullptr}, parent_name, parent_root,
                    {.lba = from, .dropped = false}, UINT64_MAX, parent_sequence);
    MapCursor below({image_, reader_, ranges_, findings}, name, decode(version.record.map),
                    {.lba = from, .dropped = true}, parent_sequence, catalog_.birth_limit(version));
    MapDiffNodes nodes = diff_maps(above, below, events);
    complete = above.complete() && below.complete();
    return nodes;
}

void Versions::walk_version(std::uint32_t id, const VersionState& version, bool lists_complete)
{
    const TreeName name = tree_name(version);
    Account account;
    const MapDiffEvents events{
        .only_in_child = [&](const MapPiece& piece) { take_new(version, name, piece, account); },
        .only_in_parent = [&](const MapPiece& piece) { take_dead(piece, account); },
        .in_both = [&](const MapPiece& piece) { check_shared(version, name, piece); }};
    Walked walked;
    const MapDiffNodes nodes =
        compare_with_parent(version, name, events, &findings_, walked.complete);
    take_nodes(version, name, nodes, account);
    take_pending_drops(version);
    complete_ = complete_ && walked.complete;

    const auto parent = walked_.find(version.effective_parent);
    if (parent != walked_.end()) {
        walked.complete = walked.complete && parent->second.complete;
        walked.mapped_blocks = parent->second.mapped_blocks;
    }
    walked.mapped_blocks += account.data_new - account.data_died;
    if (version.leaving) {
        walked.complete = false;
    }
    if (walked.complete && walked.mapped_blocks != version.record.mapped_blocks) {
        findings_.add(
            {.severity = Severity::corruption,
             .kind = FindingKind::mapped_blocks,
             .text = fmt::format("{} has {} blocks mapped, its record says {}", version.name,
                                 walked.mapped_blocks, version.record.mapped_blocks.get()),
             .tree = "catalog",
             .volume = version.name});
    }
    if (walked.complete && lists_complete) {
        check_dead(version, account);
    }
    walked_[id] = walked;
}

void Versions::take_new(const VersionState& version, const TreeName& name, const MapPiece& piece,
                        Account& account)
{
    const std::uint64_t shared_up_to = catalog_.parent_sequence(version);
    if (piece.birth <= shared_up_to) {
        findings_.add(item_finding(
            FindingKind::birth, name, piece,
            fmt::format("born at {}, so the version it was made from at {} should have it, and has "
                        "not: its blocks may be freed under it",
                        piece.birth, shared_up_to)));
    }
    if (piece.kind == layout::MapKind::data) {
        account.data_new += piece.length;
        space_.add_data(piece.block, piece.length);
    } else if (piece.kind == layout::MapKind::range_reference) {
        take_reference(version, name, piece);
    }
}

void Versions::take_reference(const VersionState& version, const TreeName& name,
                              const MapPiece& piece)
{
    const VersionState* target = catalog_.version(piece.detail);
    if (target == nullptr || target->head()) {
        findings_.add(item_finding(
            FindingKind::map_item, name, piece,
            fmt::format("it reads what version {} has, which {}; it is lost", piece.detail,
                        target == nullptr ? "does not exist" : "is still written")));
        return;
    }
    held_[piece.detail] += piece.length;
    // The depth only shrinks from link to link, so no reader runs in a circle.
    if (version.record.reference_depth <= target->record.reference_depth) {
        findings_.add(item_finding(
            FindingKind::map_item, name, piece,
            fmt::format("a range reference to version {}, whose chains are {} deep, in a version "
                        "that says {}",
                        piece.detail, target->record.reference_depth,
                        version.record.reference_depth)));
    }
}

void Versions::take_dead(const MapPiece& piece, Account& account)
{
    if (piece.kind == layout::MapKind::data) {
        account.data_died += piece.length;
        account.died.push_back({piece.birth, piece.block, piece.length, layout::DeadKind::data});
    } else if (piece.kind == layout::MapKind::range_reference) {
        account.died.push_back(
            {piece.birth, piece.detail, piece.length, layout::DeadKind::range_reference});
    }
}

void Versions::check_shared(const VersionState& version, const TreeName& name,
                            const MapPiece& piece)
{
    const std::uint64_t shared_up_to = catalog_.parent_sequence(version);
    if (piece.birth > shared_up_to) {
        findings_.add(item_finding(
            FindingKind::birth, name, piece,
            fmt::format("born at {}, after the parent was taken at {}, and yet the parent has it",
                        piece.birth, shared_up_to)));
    }
}

void Versions::take_nodes(const VersionState& version, const TreeName& name,
                          const MapDiffNodes& nodes, Account& account)
{
    const std::uint64_t shared_up_to = catalog_.parent_sequence(version);
    for (const ExpandedNode& node : nodes.only_in_child) {
        if (node.pointer.block < image_.fixed_blocks() ||
            node.pointer.block >= image_.image_blocks()) {
            continue;  // said when it could not be read
        }
        if (node.pointer.birth <= shared_up_to) {
            findings_.add(node_finding(
                Severity::corruption, FindingKind::birth, name, node.pointer, node.place,
                fmt::format("born at {}, so the version it was made from at {} should have it, and "
                            "has not",
                            node.pointer.birth, shared_up_to),
                "may be overwritten"));
        }
        registry_.claim(node.pointer, name, node.place);
    }
    for (const ExpandedNode& node : nodes.in_both) {
        if (node.pointer.birth > shared_up_to) {
            findings_.add(node_finding(
                Severity::corruption, FindingKind::birth, name, node.pointer, node.place,
                fmt::format("born at {}, after the parent was taken at {}, and yet the parent has "
                            "it",
                            node.pointer.birth, shared_up_to),
                "may be overwritten"));
        }
    }
    for (const ExpandedNode& node : nodes.met_twice) {
        findings_.add(node_finding(Severity::corruption, FindingKind::double_use, name,
                                   node.pointer, node.place, "it is in this tree twice",
                                   "is reached twice"));
    }
    for (const ExpandedNode& node : nodes.only_in_parent) {
        account.died.push_back({node.pointer.birth, node.pointer.block, 1, layout::DeadKind::node});
        if (node.pointer.mirror != 0) {
            account.died.push_back(
                {node.pointer.birth, node.pointer.mirror, 1, layout::DeadKind::node});
        }
    }
}

void Versions::check_dead(const VersionState& version, const Account& account)
{
    const std::uint64_t shared_up_to = catalog_.parent_sequence(version);
    std::vector<DeadRecord> recorded;
    for (const std::uint64_t list : version.effective_lists) {
        for (const DeadRecord& record : dead_.of(list)) {
            if (record.birth <= shared_up_to) {
                recorded.push_back(record);
            }
        }
    }
    for (const DeadDifference& difference : compare_dead(account.died, recorded)) {
        const DeadRecord& record = difference.record;
        const bool reference = record.kind == layout::DeadKind::range_reference;
        const std::string what =
            reference ? fmt::format("{} blocks of range references to version {}, born at {}",
                                    record.length, record.block, record.birth)
                      : fmt::format("blocks {} to {} ({}, born at {})", record.block,
                                    record.block + record.length - 1, kind_text(record.kind),
                                    record.birth);
        const std::string text =
            difference.missing
                ? fmt::format("dead lists of {}: {} left it and are in no list: they are never "
                              "given back",
                              version.name, what)
                : fmt::format("dead lists of {}: {} are listed, but it still has them or its "
                              "parent never had: they would be freed while in use",
                              version.name, what);
        findings_.add({.severity = difference.missing ? Severity::leak : Severity::corruption,
                       .kind = FindingKind::dead_record,
                       .text = text,
                       .tree = "dead",
                       .block = reference ? 0 : record.block,
                       .blocks = reference ? 0 : record.length,
                       .volume = version.name});
    }
}

void Versions::take_pending_drops(const VersionState& version)
{
    if (version.effective_parent == version.record.parent) {
        return;
    }
    // What merging versions owned and this one has no more: in use until the record is gone.
    const std::uint64_t shared_up_to = catalog_.parent_sequence(version);
    for (const std::uint64_t list : version.effective_lists) {
        for (const DeadRecord& record : dead_.of(list)) {
            if (record.birth <= shared_up_to) {
                continue;
            }
            switch (record.kind) {
            case layout::DeadKind::data:
                space_.add_data(record.block, record.length,
                                static_cast<std::uint32_t>(record.count));
                break;
            case layout::DeadKind::node: space_.add_node(record.block); break;
            case layout::DeadKind::range_reference:
                held_[static_cast<std::uint32_t>(record.block)] += record.length * record.count;
                break;
            }
        }
    }
}

void Versions::check_held()
{
    for (const auto& [id, version] : catalog_.versions()) {
        const auto found = held_.find(id);
        const std::uint64_t held = found == held_.end() ? 0 : found->second;
        if (held == version.record.held_blocks) {
            continue;
        }
        const bool too_few = version.record.held_blocks < held;
        findings_.add(
            {.severity = too_few ? Severity::corruption : Severity::leak,
             .kind = FindingKind::held_blocks,
             .text = fmt::format("range references hold {} blocks of version {} ({}), its "
                                 "record says {}: it would be removed {}",
                                 held, id, version.name, version.record.held_blocks.get(),
                                 too_few ? "while it is needed" : "never"),
             .tree = "catalog",
             .volume = version.name});
    }
}

void Versions::visit_owned_data(const OnOwned& on_owned)
{
    for (const std::uint32_t id : catalog_.order()) {
        const VersionState& version = *catalog_.version(id);
        const TreeName name = tree_name(version);
        const MapDiffEvents events{.only_in_child =
                                       [&](const MapPiece& piece) {
                                           if (piece.kind == layout::MapKind::data) {
                                               on_owned(version, piece);
                                           }
                                       },
                                   .only_in_parent = [](const MapPiece&) {},
                                   .in_both = [](const MapPiece&) {}};
        bool complete = true;
        compare_with_parent(version, name, events, nullptr, complete);
    }
}

}  // namespace coppice::checker
