#include "format/check/dead_lists.h"

#include <algorithm>
#include <fmt/format.h>
#include <tuple>

namespace coppice::checker {

bool DeadLists::load(Image& image, TreeWalk& walk, const Catalog& catalog, Findings& findings)
{
    const auto add = [&](const layout::DeadItem& item) {
        const std::uint64_t list = item.list;
        const auto report = [&](Severity severity, std::string text) {
            findings.add({.severity = severity,
                          .kind = FindingKind::dead_record,
                          .text = fmt::format("dead list {}, birth {}, block {}: {}", list,
                                              item.birth.get(), item.block.get(), text),
                          .tree = "dead",
                          .block = item.block,
                          .blocks = item.length});
        };
        const std::uint64_t block = item.block;
        const std::uint64_t length = item.length;
        const bool reference =
            item.kind == static_cast<std::uint8_t>(layout::DeadKind::range_reference);
        if (item.kind < static_cast<std::uint8_t>(layout::DeadKind::data) ||
            item.kind > static_cast<std::uint8_t>(layout::DeadKind::range_reference)) {
            report(Severity::corruption, fmt::format("the kind {} is unknown", item.kind));
            return;
        }
        const bool in_image = block >= image.fixed_blocks() && block < image.image_blocks() &&
                              length <= image.image_blocks() - block;
        const bool node = item.kind == static_cast<std::uint8_t>(layout::DeadKind::node);
        if (length == 0 || item.count == 0 || (node && (length != 1 || item.count != 1)) ||
            (!reference && !in_image)) {
            report(Severity::corruption, fmt::format("{} blocks from there, {} times, cannot be",
                                                     length, item.count.get()));
            return;
        }
        const bool known =
            catalog.version(static_cast<std::uint32_t>(block)) != nullptr && block <= UINT32_MAX;
        if (reference && !known) {
            report(Severity::corruption, "it refers to a version that does not exist");
            return;
        }
        const auto owner = catalog.lists().find(list);
        if (owner == catalog.lists().end()) {
            report(Severity::leak, "the list belongs to no version; nobody will act on it");
            return;
        }
        lists_[list].push_back(
            {item.birth, block, length, static_cast<layout::DeadKind>(item.kind), item.count});
        const VersionState* version = catalog.version(owner->second.version);
        if (version == nullptr) {
            return;  // said when the catalog was read
        }
        const VersionState* parent = catalog.version(version->record.parent);
        const std::uint64_t limit = parent == nullptr ? 0 : parent->record.sequence.get();
        if (item.birth == 0 || item.birth > limit) {
            report(Severity::corruption,
                   fmt::format("{} was taken at {}: it never had what was born later",
                               parent == nullptr ? "the parent" : parent->name, limit));
        }
    };
    return walk.walk({.shape = &shape_of(layout::TreeKind::dead), .tree = "dead"},
                     decode(image.superblock().dead), [&](const NodeView& leaf, unsigned index) {
                         add(leaf.item<layout::DeadItem>(index));
                     });
}

const std::vector<DeadRecord>& DeadLists::of(std::uint64_t list) const
{
    static const std::vector<DeadRecord> none;
    const auto found = lists_.find(list);
    return found == lists_.end() ? none : found->second;
}

namespace {

// A place where the number of expected or recorded users changes.
struct Step {
    layout::DeadKind kind;
    std::uint64_t birth;
    std::uint64_t block;
    std::int64_t balance;  // expected minus recorded
};

auto line_of(const Step& step) { return std::tie(step.kind, step.birth); }

void add_steps(std::vector<Step>& steps, const std::vector<DeadRecord>& records, std::int64_t sign)
{
    for (const DeadRecord& record : records) {
        if (record.kind == layout::DeadKind::range_reference) {
            // However the pieces of a reference are recorded, only their sum counts. It stands as a
            // weight on a run of one "block", the version.
            const auto weight = sign * static_cast<std::int64_t>(record.length * record.count);
            steps.push_back({record.kind, record.birth, record.block, weight});
            steps.push_back({record.kind, record.birth, record.block + 1, -weight});
            continue;
        }
        const auto weight = sign * static_cast<std::int64_t>(record.count);
        steps.push_back({record.kind, record.birth, record.block, weight});
        steps.push_back({record.kind, record.birth, record.block + record.length, -weight});
    }
}

}  // namespace

std::vector<DeadDifference> compare_dead(const std::vector<DeadRecord>& expected,
                                         const std::vector<DeadRecord>& actual)
{
    std::vector<Step> steps;
    steps.reserve(2 * (expected.size() + actual.size()));
    add_steps(steps, expected, 1);
    add_steps(steps, actual, -1);
    std::sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) {
        return std::tie(a.kind, a.birth, a.block) < std::tie(b.kind, b.birth, b.block);
    });
    std::vector<DeadDifference> differences;
    std::int64_t balance = 0;
    for (std::size_t i = 0; i < steps.size(); ++i) {
        const Step& step = steps[i];
        balance += step.balance;
        const bool more = i + 1 < steps.size() && line_of(steps[i + 1]) == line_of(step);
        if (balance == 0 || !more || steps[i + 1].block == step.block) {
            continue;
        }
        const bool reference = step.kind == layout::DeadKind::range_reference;
        const std::uint64_t length = reference ? static_cast<std::uint64_t>(std::abs(balance))
                                               : steps[i + 1].block - step.block;
        differences.push_back({{step.birth, step.block, length, step.kind}, balance > 0});
    }
    return differences;
}

}  // namespace coppice::checker
