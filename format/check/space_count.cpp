#include "format/check/space_count.h"

#include <algorithm>

namespace coppice::checker {

namespace {

// Merging costs a pass over everything, so what is pending grows with what is merged.
constexpr std::size_t kPendingAtLeast = std::size_t{1} << 18;

// A place where the use changes by so much.
struct Step {
    std::uint64_t block;
    std::int64_t data;
    std::int64_t nodes;
};

}  // namespace

void SpaceCount::add(std::uint64_t block, std::uint64_t length, std::uint32_t data,
                     std::uint32_t nodes)
{
    if (!pending_.empty()) {
        // Data is mostly written in a row: what continues the last entry is joined at once.
        UsedSegment& last = pending_.back();
        if (last.end == block && last.data == data && last.nodes == nodes) {
            last.end += length;
            return;
        }
    }
    pending_.push_back({block, block + length, data, nodes});
    if (pending_.size() >= std::max(kPendingAtLeast, merged_.size() / 2)) {
        merge();
    }
}

std::span<const UsedSegment> SpaceCount::segments()
{
    merge();
    return merged_;
}

std::span<const UsedSegment>::iterator SpaceCount::find(std::uint64_t block)
{
    const std::span<const UsedSegment> all = segments();
    return std::upper_bound(
        all.begin(), all.end(), block,
        [](std::uint64_t value, const UsedSegment& segment) { return value < segment.end; });
}

void SpaceCount::merge()
{
    if (pending_.empty()) {
        return;
    }
    std::vector<Step> steps;
    steps.reserve(2 * (merged_.size() + pending_.size()));
    for (const std::vector<UsedSegment>* list : {&merged_, &pending_}) {
        for (const UsedSegment& segment : *list) {
            steps.push_back({segment.start, segment.data, segment.nodes});
            steps.push_back({segment.end, -static_cast<std::int64_t>(segment.data),
                             -static_cast<std::int64_t>(segment.nodes)});
        }
    }
    pending_.clear();
    merged_.clear();
    std::sort(steps.begin(), steps.end(),
              [](const Step& a, const Step& b) { return a.block < b.block; });
    std::int64_t data = 0;
    std::int64_t nodes = 0;
    std::uint64_t from = 0;
    for (std::size_t i = 0; i < steps.size();) {
        const std::uint64_t here = steps[i].block;
        std::int64_t data_after = data;
        std::int64_t nodes_after = nodes;
        for (; i < steps.size() && steps[i].block == here; ++i) {
            data_after += steps[i].data;
            nodes_after += steps[i].nodes;
        }
        if (data_after == data && nodes_after == nodes) {
            continue;
        }
        if (data != 0 || nodes != 0) {
            constexpr std::int64_t kMost = UINT32_MAX;
            merged_.push_back({from, here, static_cast<std::uint32_t>(std::min(data, kMost)),
                               static_cast<std::uint32_t>(std::min(nodes, kMost))});
        }
        from = here;
        data = data_after;
        nodes = nodes_after;
    }
}

}  // namespace coppice::checker
