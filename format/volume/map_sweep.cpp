#include "format/volume/map_sweep.h"

#include <algorithm>

#include "format/tree/read_ahead.h"

namespace coppice {

namespace {

// So many changes are made between two times of reading ahead; the nodes for them stay in memory
// meanwhile: at most one leaf and a little more for each, 32 MiB.
constexpr std::size_t kTogether = 8192;
// Nodes made ready at a time, so that not every leaf asks for its own: no more than any change in
// the usual way wants.
constexpr std::uint64_t kNodesAtOnce = 4 * kMaxNodesPerChange;

layout::MapItem item_at(const Node& leaf, unsigned index)
{
    layout::MapItem item;
    std::memcpy(static_cast<void*>(&item), leaf.item(index), sizeof(item));
    return item;
}

layout::MapItem item_of(const MapRun& run)
{
    layout::MapItem item{};
    item.lba = run.lba.value;
    item.block = run.block;
    item.kind = static_cast<std::uint8_t>(run.kind);
    item.birth = run.birth.value;
    item.length = static_cast<std::uint32_t>(run.length);
    item.detail = run.detail;
    return item;
}

}  // namespace

MapSweep::MapSweep(State& state, Effects& effects, VolumeId volume)
    : state_(state), effects_(effects), volume_(volume), tree_(state.cache, kMapShape)
{
}

Status MapSweep::apply(std::span<const NewRun> runs)
{
    while (!runs.empty()) {
        const std::size_t count = std::min(runs.size(), kTogether);
        CacheUse use(state_.cache);
        COPPICE_TRY(read_paths(runs.first(count)));
        leaf_ = {};
        for (const NewRun& next : runs.first(count)) {
            COPPICE_TRY(apply_one(next));
        }
        runs = runs.subspan(count);
    }
    return {};
}

Status MapSweep::read_paths(std::span<const NewRun> runs)
{
    std::vector<Key> keys;
    keys.reserve(runs.size());
    for (const NewRun& next : runs) {
        keys.emplace_back(next.run.lba.value);
    }
    return read_ahead(tree_, head().map, keys);
}

Status MapSweep::apply_one(const NewRun& next)
{
    const Key key(next.run.lba.value);
    if (leaf_.node == nullptr || key >= leaf_.end) {
        position_ = 0;
        Version& version = head();
        const auto missing = tree_.find_leaf(version.map, key, state_.change_for(version), leaf_);
        if (missing || leaf_.node == nullptr) {
            return change_usual_way(next);
        }
    }
    bool own = true;
    if (change_leaf(next, own)) {
        return {};
    }
    if (!own) {
        COPPICE_TRY(own_leaf(next.run.lba));
        if (leaf_.node != nullptr && change_leaf(next, own)) {
            return {};
        }
    }
    return change_usual_way(next);
}

// A copy of the leaf and the path to it, if they are not ours yet.
Status MapSweep::own_leaf(Lba lba)
{
    if (state_.space.nodes_at_hand() < kMaxTreeLevels) {
        COPPICE_TRY(state_.space.ensure_nodes(kNodesAtOnce, 0));
    }
    Version& version = head();
    const Change change = state_.change_for(version);
    const Key key(lba.value);
    // Nothing here gives way but the line above, which reads and drops no node of a map.
    tree_.own_leaf(version.map, key, change);
    if (tree_.find_leaf(version.map, key, change, leaf_)) {
        leaf_ = {};
    }
    return {};
}

// Makes the change in the leaf at hand, if all of it lies there and the leaf stays neither too full
// nor too small. False: nothing was changed; because the leaf is not ours, if `own` becomes false.
bool MapSweep::change_leaf(const NewRun& next, bool& own)
{
    Node& leaf = *leaf_.node;
    const Lba begin = next.run.lba;
    const Lba end = begin + next.run.length;
    if (Key(begin.value) < leaf_.begin || Key(end.value) > leaf_.end) {
        return false;
    }
    const unsigned count = leaf.count();
    if (position_ == 0) {
        position_ = leaf.upper_bound(Key(begin.value));
    }
    while (position_ < count && leaf.key(position_) <= Key(begin.value)) {
        ++position_;
    }
    if (position_ == 0 && leaf_.begin != Key()) {
        return false;  // an item of the leaf before may reach in here
    }
    // The items [first, last) overlap the range.
    MapRun before;
    unsigned first = position_;
    if (position_ > 0) {
        before = run_of(item_at(leaf, position_ - 1));
        first = before.lba + before.length > begin ? position_ - 1 : position_;
    }
    unsigned last = position_;
    while (last < count && leaf.key(last) < Key(end.value)) {
        ++last;
    }
    if (first == last && !next.mapped) {
        return true;  // there is nothing
    }

    // What is there instead: a rest to the left, the new run, a rest to the right.
    std::array<layout::MapItem, 3> items{};
    unsigned added = 0;
    unsigned replaced_from = first;
    Version& version = head();
    if (first < position_ && before.lba < begin) {
        before.length = begin - before.lba;
        items[added++] = item_of(before);
    }
    if (next.mapped) {
        const bool left_rest = added > 0;
        const bool neighbour = position_ > 0 && (left_rest || first == position_) &&
                               before.lba + before.length == begin;
        const auto joined = neighbour
                                ? Map::joined(before, next.run, state_.change_for(version).parent)
                                : std::nullopt;
        if (joined && left_rest) {
            items[added - 1] = item_of(*joined);
        } else if (joined) {
            items[added++] = item_of(*joined);
            replaced_from = position_ - 1;
        } else {
            items[added++] = item_of(next.run);
        }
    }
    if (last > first) {
        const MapRun overlapped = run_of(item_at(leaf, last - 1));
        if (overlapped.lba + overlapped.length > end) {
            if (Key(end.value) == leaf_.end) {
                return false;  // the rest belongs into the next leaf
            }
            items[added++] = item_of(overlapped.part(end, overlapped.lba + overlapped.length));
        }
    }
    const unsigned left = count - (last - replaced_from) + added;
    if (left > leaf.capacity() || left == 0 ||
        (left < count && Tree::small(left, leaf.capacity()))) {
        return false;
    }
    if (!leaf_.own) {
        own = false;
        return false;
    }
    for (unsigned i = first; i < last; ++i) {
        effects_.drop(version, run_of(item_at(leaf, i)).part(begin, end));
    }
    leaf.replace_items(replaced_from, last - replaced_from,
                       reinterpret_cast<const std::byte*>(items.data()), added);
    version.mapped_blocks += next.mapped ? next.run.length : 0;
    position_ = std::min(position_, replaced_from);
    return true;
}

Status MapSweep::change_usual_way(const NewRun& next)
{
    leaf_ = {};
    JournalOperation range;
    range.record.type = static_cast<std::uint8_t>(layout::OperationType::deallocate);
    range.record.volume = static_cast<std::uint32_t>(volume_.value);
    range.record.lba = next.run.lba.value;
    range.record.length = static_cast<std::uint32_t>(next.run.length);
    CacheUse use(state_.cache);
    for (;;) {
        COPPICE_ASSIGN(ready, effects_.prepare({&range, 1}, 0));
        if (ready) {
            break;
        }
    }
    Version& version = head();
    const Change change = state_.change_for(version);
    state_.map.cut(version.map, next.run.lba, next.run.length, change,
                   [&](const MapRun& part) { effects_.drop(version, part); });
    if (next.mapped) {
        state_.map.put(version.map, next.run, change);
        version.mapped_blocks += next.run.length;
    }
    return {};
}

}  // namespace coppice
