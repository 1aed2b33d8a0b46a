#include "format/volume/map.h"

#include <algorithm>

#include "format/base/check.h"

namespace coppice {

MapRun run_of(const layout::MapItem& item)
{
    return {Lba(item.lba), item.length, static_cast<layout::MapKind>(item.kind),
            item.block,    item.detail, Sequence(item.birth)};
}

MapRun MapRun::part(Lba begin, Lba end) const
{
    MapRun result = *this;
    result.lba = std::max(begin, lba);
    result.length = std::min(end, lba + length) - result.lba;
    if (kind == layout::MapKind::data || kind == layout::MapKind::range_reference) {
        result.block = block + (result.lba - lba);
    }
    return result;
}

std::optional<Missing> Map::collect(const NodeRef& root, Lba lba, std::uint64_t length,
                                    std::vector<MapRun>& runs, Seen* seen, std::size_t most) const
{
    const Lba end = lba + length;
    Cursor cursor(tree_.cache(), tree_.shape(), root);
    auto missing = cursor.seek(Key(lba.value));
    const std::byte* last_item = nullptr;
    while (!missing && cursor.valid() && runs.size() < most) {
        const MapRun run = run_of(cursor.get<layout::MapItem>());
        if (run.lba >= end) {
            break;
        }
        if (seen != nullptr) {
            seen->first = std::min(seen->first, cursor.key());
            // Items of one leaf lie next to each other.
            if (last_item == nullptr || cursor.item() != last_item + sizeof(layout::MapItem)) {
                ++seen->leaves;
            }
            last_item = cursor.item();
        }
        if (run.lba + run.length > lba) {
            runs.push_back(run.part(lba, end));
        }
        missing = cursor.next();
    }
    return missing;
}

std::optional<Missing> Map::advance(const NodeRef& root, Lba& reached, Lba end) const
{
    Cursor cursor(tree_.cache(), tree_.shape(), root);
    auto missing = cursor.seek(Key(reached.value));
    while (!missing && cursor.valid() && cursor.key() < Key(end.value)) {
        reached = std::max(reached, Lba(cursor.key().words[0]));
        missing = cursor.next();
    }
    return missing;
}

std::optional<Missing> Map::prepare(const NodeRef& root, Lba lba, std::uint64_t length,
                                    std::uint64_t& leaves) const
{
    Seen seen;
    std::vector<MapRun> runs;
    auto missing = collect(root, lba, length, runs, &seen);
    leaves = seen.leaves;
    Key first = std::min(seen.first, Key(lba.value > 0 ? lba.value - 1 : 0));
    if (!missing && lba.value > 0) {
        // `put` looks at the item before, which may be in the leaf to the left of those touched.
        Cursor before(tree_.cache(), tree_.shape(), root);
        missing = before.seek(Key(lba.value - 1));
        if (!missing && before.valid()) {
            first = std::min(first, before.key());
        }
    }
    // An item that begins before the range is changed by its key, and in a damaged tree that need
    // not lead to the leaf where the item was found.
    return missing ? missing : tree_.prepare(root, first, Key(lba.value + length));
}

void Map::note_paths(const NodeRef& root, Lba lba, std::uint64_t length,
                     std::set<BlockNo>& nodes) const
{
    for (const Lba end : {Lba(lba.value > 0 ? lba.value - 1 : 0), lba, lba + length}) {
        Cursor cursor(tree_.cache(), tree_.shape(), root);
        CHECK(!cursor.seek(Key(end.value)));
        cursor.note_path(nodes);
    }
}

std::vector<MapRun> Map::overlapping(const NodeRef& root, Lba lba, std::uint64_t length) const
{
    std::vector<MapRun> items;
    Cursor cursor(tree_.cache(), tree_.shape(), root);
    CHECK(!cursor.seek(Key(lba.value)));
    while (cursor.valid()) {
        const MapRun run = run_of(cursor.get<layout::MapItem>());
        if (run.lba >= lba + length) {
            break;
        }
        if (run.lba + run.length > lba) {
            items.push_back(run);
        }
        CHECK(!cursor.next());
    }
    return items;
}

void Map::insert(NodeRef& root, const MapRun& run, const Change& change)
{
    layout::MapItem item{};
    item.lba = run.lba.value;
    item.block = run.block;
    item.kind = static_cast<std::uint8_t>(run.kind);
    item.birth = run.birth.value;
    item.length = static_cast<std::uint32_t>(run.length);
    item.detail = run.detail;
    tree_.insert(root, reinterpret_cast<const std::byte*>(&item), change);
}

void Map::cut(NodeRef& root, Lba lba, std::uint64_t length, const Change& change,
              const std::function<void(const MapRun&)>& removed)
{
    const Lba end = lba + length;
    for (const MapRun& run : overlapping(root, lba, length)) {
        const Lba run_end = run.lba + run.length;
        if (run.lba < lba) {
            insert(root, run.part(run.lba, lba), change);  // the same key, shorter
        } else {
            tree_.erase(root, Key(run.lba.value), change);
        }
        if (run_end > end) {
            insert(root, run.part(end, run_end), change);
        }
        removed(run.part(lba, end));
    }
}

std::optional<MapRun> Map::joined(const MapRun& first, const MapRun& second, Sequence parent)
{
    constexpr std::uint64_t kLongest = 0xFFFFFFFFULL;
    const bool continues = first.kind == second.kind && first.detail == second.detail &&
                           first.block + first.length == second.block;
    if (!continues || first.birth <= parent || second.birth <= parent ||
        first.length + second.length > kLongest) {
        return std::nullopt;
    }
    MapRun both = first;
    both.length += second.length;
    both.birth = std::max(first.birth, second.birth);
    return both;
}

void Map::put(NodeRef& root, const MapRun& run, const Change& change)
{
    if (run.lba.value > 0) {
        const auto before = overlapping(root, Lba(run.lba.value - 1), 1);
        if (!before.empty()) {
            if (const auto both = joined(before.front(), run, change.parent)) {
                insert(root, *both, change);
                return;
            }
        }
    }
    insert(root, run, change);
}

}  // namespace coppice
