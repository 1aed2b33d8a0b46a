#include "format/check/accounting.h"

#include <algorithm>
#include <fmt/format.h>

namespace coppice::checker {

void Accounting::tree_finding(Severity severity, FindingKind kind, std::string_view tree,
                              std::uint64_t block, std::uint64_t blocks, std::string text)
{
    findings_.add({.severity = severity,
                   .kind = kind,
                   .text = fmt::format("{}: {}", tree, text),
                   .tree = std::string(tree),
                   .block = block,
                   .blocks = blocks});
}

void Accounting::problem(FindingKind kind, std::uint64_t start, std::uint64_t end, std::string what)
{
    if (!problems_.empty() && problems_.back().kind == kind && problems_.back().end == start &&
        problems_.back().what == what) {
        problems_.back().end = end;
        return;
    }
    // What nobody will be told need not be kept; it is counted.
    if (problems_.size() < findings_.limit()) {
        problems_.push_back({kind, start, end, std::move(what)});
    } else {
        findings_.add(
            {.kind = kind, .text = std::move(what), .block = start, .blocks = end - start});
    }
}

void Accounting::run(bool complete, Versions& versions)
{
    complete_ = complete;
    for (const UsedSegment& segment : space_.segments()) {
        if (segment.data == 0) {
            continue;
        }
        if (!data_.empty() && data_.back().end == segment.start) {
            data_.back().end = segment.end;
        } else {
            data_.push_back({segment.start, segment.end});
        }
        verification_.total += segment.end - segment.start;
    }
    walk_references();
    walk_checksums();
    walk_free_space();
    compare_space();
    compare_references();
    check_totals();
    attribute(versions);
    findings_.report().space_complete = complete_;
}

// ---- References ---------------------------------------------------------------------------

void Accounting::walk_references()
{
    findings_.progress("references", 0, 0);
    const bool read = walk_.walk(
        {.shape = &shape_of(layout::TreeKind::references), .tree = "references"},
        decode(image_.superblock().references), [this](const NodeView& leaf, unsigned index) {
            check_reference(leaf.item<layout::ReferenceItem>(index));
        });
    complete_ = complete_ && read;
}

void Accounting::check_reference(const layout::ReferenceItem& item)
{
    const std::uint64_t start = item.block;
    const std::uint64_t length = item.length;
    const bool inside = start >= image_.fixed_blocks() && start < image_.image_blocks() &&
                        length <= image_.image_blocks() - start;
    if (length == 0 || item.extra == 0 || !inside) {
        tree_finding(Severity::corruption, FindingKind::reference_count, "references", start,
                     length,
                     fmt::format("the item at block {} says {} more references for {} blocks, "
                                 "which cannot be",
                                 start, item.extra.get(), length));
        return;
    }
    if (!references_.empty() && references_.back().end > start) {
        tree_finding(Severity::corruption, FindingKind::reference_count, "references", start,
                     length, fmt::format("the item at block {} overlaps the one before it", start));
        return;
    }
    references_.push_back({start, start + length, item.extra});
}

void Accounting::compare_references()
{
    // Where the number of users, or the number recorded, changes.
    struct Step {
        std::uint64_t block;
        std::int64_t users, recorded;
    };
    std::vector<Step> steps;
    for (const UsedSegment& segment : space_.segments()) {
        if (segment.data > 1) {
            const auto extra = static_cast<std::int64_t>(segment.data) - 1;
            steps.push_back({segment.start, extra, 0});
            steps.push_back({segment.end, -extra, 0});
            findings_.report().shared_blocks += segment.end - segment.start;
        }
    }
    for (const Reference& reference : references_) {
        steps.push_back({reference.start, 0, reference.extra});
        steps.push_back({reference.end, 0, -static_cast<std::int64_t>(reference.extra)});
    }
    std::sort(steps.begin(), steps.end(),
              [](const Step& a, const Step& b) { return a.block < b.block; });
    std::int64_t users = 0;
    std::int64_t recorded = 0;
    for (std::size_t i = 0; i < steps.size(); ++i) {
        users += steps[i].users;
        recorded += steps[i].recorded;
        if (i + 1 == steps.size() || steps[i + 1].block == steps[i].block || users == recorded) {
            continue;
        }
        const std::uint64_t start = steps[i].block;
        const std::uint64_t end = steps[i + 1].block;
        if (users > recorded) {
            problem(FindingKind::reference_count, start, end,
                    fmt::format("{} users, but the references tree counts {}: freed while in use",
                                users + 1, recorded + 1));
        } else if (complete_) {
            tree_finding(Severity::leak, FindingKind::reference_count, "references", start,
                         end - start,
                         fmt::format("blocks {} to {} count {} extra references, but have {}: they "
                                     "are never given back",
                                     start, end - 1, recorded, users));
        }
    }
}

// ---- Free space and totals ----------------------------------------------------------------

void Accounting::judge_segment(const UsedSegment& segment)
{
    CheckReport& report = findings_.report();
    const std::uint64_t blocks = segment.end - segment.start;
    report.data_blocks += segment.data > 0 ? blocks : 0;
    report.node_blocks += segment.nodes > 0 ? blocks : 0;
    if (segment.data > 0 && segment.nodes > 0) {
        problem(FindingKind::double_use, segment.start, segment.end,
                "used for data and for tree nodes at once");
    }
    judge_groups(segment);
}

void Accounting::judge_groups(const UsedSegment& segment)
{
    const std::uint64_t first = segment.start / layout::kGroupBlocks;
    const std::uint64_t last = (segment.end - 1) / layout::kGroupBlocks;
    if (segment.data > 0) {
        const auto group = metadata_groups_.lower_bound(first);
        if (group != metadata_groups_.end() && *group <= last) {
            tree_finding(Severity::corruption, FindingKind::free_space, "free space", segment.start,
                         segment.end - segment.start,
                         fmt::format("blocks {} to {} hold data, but block group {} is for nodes",
                                     segment.start, segment.end - 1, *group));
        }
    }
    if (segment.nodes > 0) {
        for (std::uint64_t group = first; group <= last; ++group) {
            if (!metadata_groups_.contains(group)) {
                tree_finding(Severity::corruption, FindingKind::free_space, "free space",
                             segment.start, segment.end - segment.start,
                             fmt::format("blocks {} to {} hold nodes, but block group {} is for "
                                         "data",
                                         segment.start, segment.end - 1, group));
                break;
            }
        }
    }
}

void Accounting::compare_space()
{
    const std::span<const UsedSegment> used = space_.segments();
    for (const UsedSegment& segment : used) {
        judge_segment(segment);
    }
    // Used and free must tile the image behind the fixed region.
    std::size_t u = 0;
    std::size_t f = 0;
    std::uint64_t place = image_.fixed_blocks();
    CheckReport& report = findings_.report();
    while (place < image_.image_blocks()) {
        while (u < used.size() && used[u].end <= place) {
            ++u;
        }
        while (f < free_.size() && free_[f].end <= place) {
            ++f;
        }
        const std::uint64_t end = image_.image_blocks();
        const std::uint64_t used_from = u < used.size() ? std::max(used[u].start, place) : end;
        const std::uint64_t free_from = f < free_.size() ? std::max(free_[f].start, place) : end;
        if (used_from == place && free_from == place) {
            const std::uint64_t both = std::min(used[u].end, free_[f].end);
            if (used[u].data > 0) {
                problem(FindingKind::used_but_free, place, both,
                        "in use, and free for the free-space tree: would be overwritten");
            } else {
                tree_finding(Severity::corruption, FindingKind::used_but_free, "free space", place,
                             both - place,
                             fmt::format("blocks {} to {} hold tree nodes and are free: they would "
                                         "be overwritten",
                                         place, both - 1));
            }
            place = both;
        } else if (used_from == place || free_from == place) {
            const std::uint64_t stop = used_from == place ? std::min(used[u].end, free_from)
                                                          : std::min(free_[f].end, used_from);
            place = stop;
        } else {
            const std::uint64_t stop = std::min({used_from, free_from, end});
            report.leaked_blocks += stop - place;
            if (complete_) {
                tree_finding(
                    Severity::leak, FindingKind::leaked, "free space", place, stop - place,
                    fmt::format("blocks {} to {} are neither used nor free", place, stop - 1));
            }
            place = stop;
        }
    }
}

void Accounting::check_totals()
{
    CheckReport& report = findings_.report();
    const layout::Superblock& superblock = image_.superblock();
    for (const BlockRange& range : free_) {
        report.free_blocks += range.end - range.start;
    }
    const auto compare = [&](std::string_view what, std::uint64_t counted, std::uint64_t said) {
        if (counted != said) {
            findings_.add({.severity = Severity::corruption,
                           .kind = FindingKind::space_counts,
                           .text = fmt::format("the superblock counts {} {} blocks, there are {}",
                                               said, what, counted)});
        }
    };
    const std::uint64_t sum = superblock.fixed_blocks + superblock.data_blocks +
                              superblock.node_blocks + superblock.free_blocks;
    if (sum != superblock.image_blocks) {
        findings_.add({.severity = Severity::corruption,
                       .kind = FindingKind::space_counts,
                       .text = fmt::format("the superblock's fixed, data, node and free blocks add "
                                           "up to {}, not to the image's {}",
                                           sum, superblock.image_blocks.get())});
    }
    if (!complete_) {
        report.leaked_blocks = 0;
        return;
    }
    compare("data", report.data_blocks, superblock.data_blocks);
    compare("node", report.node_blocks, superblock.node_blocks);
    compare("free", report.free_blocks, superblock.free_blocks);
}

// ---- Whose blocks they are ----------------------------------------------------------------

void Accounting::attribute(Versions& versions)
{
    if (problems_.empty()) {
        return;
    }
    struct Owners {
        std::string text;
        unsigned count = 0;
        std::string volume;
        std::uint64_t lba = 0;
        std::uint64_t blocks = 0;
    };
    constexpr unsigned kNamed = 3;  // the rest is counted
    std::sort(problems_.begin(), problems_.end(),
              [](const BlockProblem& a, const BlockProblem& b) { return a.start < b.start; });
    std::uint64_t longest = 0;
    for (const BlockProblem& entry : problems_) {
        longest = std::max(longest, entry.end - entry.start);
    }
    std::vector<Owners> owners(problems_.size());
    versions.visit_owned_data([&](const VersionState& version, const MapPiece& piece) {
        const std::uint64_t piece_end = piece.block + piece.length;
        const std::uint64_t search = piece.block > longest ? piece.block - longest : 0;
        auto entry = std::lower_bound(
            problems_.begin(), problems_.end(), search,
            [](const BlockProblem& a, std::uint64_t block) { return a.start < block; });
        for (; entry != problems_.end() && entry->start < piece_end; ++entry) {
            if (entry->end <= piece.block) {
                continue;
            }
            Owners& found = owners[static_cast<std::size_t>(entry - problems_.begin())];
            const std::uint64_t start = std::max(entry->start, piece.block);
            const std::uint64_t blocks = std::min(entry->end, piece_end) - start;
            const std::uint64_t lba = piece.lba + (start - piece.block);
            if (found.count == 0) {
                found.volume = version.name;
                found.lba = lba;
                found.blocks = blocks;
            }
            if (found.count++ < kNamed) {
                found.text += fmt::format("{}lba {} to {} of {}", found.text.empty() ? "" : ", ",
                                          lba, lba + blocks - 1, version.name);
            }
        }
    });
    for (std::size_t i = 0; i < problems_.size(); ++i) {
        const BlockProblem& entry = problems_[i];
        Owners& found = owners[i];
        if (found.count > kNamed) {
            found.text += fmt::format(" and {} more places", found.count - kNamed);
        }
        findings_.add(
            {.severity = Severity::corruption,
             .kind = entry.kind,
             .text = fmt::format("blocks {} to {}: {}; {}", entry.start, entry.end - 1, entry.what,
                                 found.text.empty() ? "no map has them" : found.text),
             .block = entry.start,
             .blocks = entry.end - entry.start,
             .volume = found.volume,
             .lba = found.lba,
             .lba_blocks = found.blocks});
    }
}

}  // namespace coppice::checker
