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
    const std::optional<Edit> edit = plan(next);
    if (!edit) {
        return change_usual_way(next);
    }
    if (edit->last == edit->from && edit->added == 0) {
        return {};  // nothing was there
    }
    if (!leaf_.own) {
        COPPICE_TRY(own_leaf(next.run.lba));  // the copy has the same items
    }
    if (!leaf_.own) {
        return change_usual_way(next);  // in an image whose births cannot be
    }
    carry_out(next, *edit);
    return {};
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

// What the change means for the items of the leaf at hand. None: not all of it lies there, or the
// leaf would become too full or too small.
std::optional<MapSweep::Edit> MapSweep::plan(const NewRun& next)
{
    const Node& leaf = *leaf_.node;
    const Key begin(next.run.lba.value);
    const Key end(next.run.lba.value + next.run.length);
    if (begin < leaf_.begin || end > leaf_.end) {
        return std::nullopt;
    }
    if (position_ == 0) {
        position_ = leaf.upper_bound(begin);
    }
    while (position_ < leaf.count() && leaf.key(position_) <= begin) {
        ++position_;
    }
    if (position_ == 0 && leaf_.begin != Key()) {
        return std::nullopt;  // an item of the leaf before may reach in here
    }
    Edit edit;
    edit.from = position_;
    edit.last = position_;
    while (edit.last < leaf.count() && leaf.key(edit.last) < end) {
        ++edit.last;
    }
    plan_left(next, edit);
    if (!plan_right(next, edit)) {
        return std::nullopt;
    }
    const unsigned left = leaf.count() - (edit.last - edit.from) + edit.added;
    const bool small = left < leaf.count() && Tree::small(left, leaf.capacity());
    if (left == 0 || left > leaf.capacity() || small) {
        return std::nullopt;
    }
    return edit;
}

// The item before the change: cut off where it reaches in, joined where the new run continues it;
// then the new run.
void MapSweep::plan_left(const NewRun& next, Edit& edit)
{
    const Lba begin = next.run.lba;
    std::optional<MapRun> before;  // what is left of that item
    if (position_ > 0) {
        const MapRun item = run_of(item_at(*leaf_.node, position_ - 1));
        if (item.lba + item.length > begin) {
            edit.from = position_ - 1;
        }
        if (item.lba < begin) {
            before = item.part(item.lba, begin);
        }
    }
    const bool touches = before && before->lba + before->length == begin;
    const Sequence parent = state_.catalog.parent_sequence(head());
    const auto both =
        next.mapped && touches ? Map::joined(*before, next.run, parent) : std::nullopt;
    if (both) {
        edit.from = position_ - 1;
        edit.items[edit.added++] = item_of(*both);
        return;
    }
    if (edit.from < position_ && before) {
        edit.items[edit.added++] = item_of(*before);
    }
    if (next.mapped) {
        edit.items[edit.added++] = item_of(next.run);
    }
}

// What is left of the last item behind the change. False: that belongs into the next leaf.
bool MapSweep::plan_right(const NewRun& next, Edit& edit) const
{
    if (edit.last == 0) {
        return true;
    }
    const Lba end = next.run.lba + next.run.length;
    const MapRun item = run_of(item_at(*leaf_.node, edit.last - 1));
    const Lba item_end = item.lba + item.length;
    if (item_end <= end) {
        return true;
    }
    if (Key(end.value) == leaf_.end) {
        return false;
    }
    edit.items[edit.added++] = item_of(item.part(end, item_end));
    return true;
}

void MapSweep::carry_out(const NewRun& next, const Edit& edit)
{
    Version& version = head();
    const Lba begin = next.run.lba;
    const Lba end = begin + next.run.length;
    for (unsigned i = edit.from; i < edit.last; ++i) {
        const MapRun item = run_of(item_at(*leaf_.node, i));
        if (item.lba + item.length > begin) {  // not one that is only joined
            effects_.drop(version, item.part(begin, end));
        }
    }
    leaf_.node->replace_items(edit.from, edit.last - edit.from,
                              reinterpret_cast<const std::byte*>(edit.items.data()), edit.added);
    version.mapped_blocks += next.mapped ? next.run.length : 0;
    position_ = edit.from;
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
