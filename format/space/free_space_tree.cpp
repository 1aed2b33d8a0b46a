// The part of Space that writes the free-space tree: the deltas of a generation are applied to the
// tree's bitmaps in memory, and the items of each touched group are brought in line. Writing the
// tree takes and frees nodes, which are further deltas of the same generation; it is repeated until
// there are none. It ends because a node is copied once in a generation.
#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <utility>

#include "format/base/check.h"
#include "format/space/space.h"

namespace coppice {

namespace {

using layout::kGroupBlocks;

// A group turns to bitmaps above the first number of extents and back below the second; between
// them it stays as it is, so that a group at the edge is not converted again and again. 64 bitmaps
// describe any group.
constexpr std::size_t kToBitmaps = 80;
constexpr std::size_t kToExtents = 48;

layout::FreeItem make_item(std::uint64_t block, layout::FreeKind kind, const void* value)
{
    layout::FreeItem item{};
    item.key = block * 4 + static_cast<std::uint64_t>(kind);
    std::memcpy(item.value.data(), value, item.value.size());
    return item;
}

}  // namespace

Status Space::apply_deltas(Generation generation, std::vector<bool>& touched, Pace& pace)
{
    constexpr std::uint64_t kDeltaNs = 200;
    LongList<Delta> deltas = std::exchange(deltas_[parity(generation)], LongList<Delta>());
    while (!deltas.empty()) {
        for (const Delta& delta : deltas.take()) {
            if (!undone(generation, delta)) {
                COPPICE_TRY(apply_delta(delta, touched));
            }
            pace.step(kDeltaNs);
        }
    }
    return {};
}

// Is this a use of a node that was taken back before the tree was told? Those come first of the
// uses of that node.
bool Space::undone(Generation generation, const Delta& delta)
{
    if (!delta.node || !delta.used) {
        return false;
    }
    auto& undone = undone_nodes_[parity(generation)];
    const auto found = undone.find(delta.extent.block);
    if (found == undone.end()) {
        const BlockNo block = delta.extent.block;
        group_of(block).taken.forget(parity(generation), block.value % kGroupBlocks);
        return false;
    }
    if (--found->second == 0) {
        undone.erase(found);
    }
    return true;
}

Status Space::apply_delta(const Delta& delta, std::vector<bool>& touched)
{
    COPPICE_TRY(load_extent(delta.extent));
    for (std::uint64_t done = 0; done < delta.extent.length;) {
        const BlockNo block = delta.extent.block + done;
        const std::uint64_t bit = block.value % kGroupBlocks;
        const std::uint64_t count = std::min(kGroupBlocks - bit, delta.extent.length - done);
        Group& group = group_of(block);
        const bool changed =
            delta.used ? group.tree_free.clear(bit, count) : group.tree_free.set(bit, count);
        if (!changed) {
            return fail(ErrorCode::bad_record,
                        fmt::format("free-space tree: blocks {} to {} are {} already", block.value,
                                    block.value + count - 1, delta.used ? "in use" : "free"));
        }
        touched.resize(groups_.size());
        touched[block.value / kGroupBlocks] = true;
        done += count;
    }
    std::uint64_t& kind_total = delta.node ? totals_.node_blocks : totals_.data_blocks;
    if (delta.used) {
        kind_total += delta.extent.length;
        totals_.free_blocks -= delta.extent.length;
    } else {
        kind_total -= delta.extent.length;
        totals_.free_blocks += delta.extent.length;
    }
    return {};
}

// What the tree should list for a group, behind its info item, in order of keys.
std::vector<layout::FreeItem> Space::items_of(std::uint64_t index)
{
    Group& group = *groups_[index];
    const std::uint64_t first_block = index * kGroupBlocks;
    std::vector<layout::FreeItem> extents;
    for (std::uint64_t bit = group.tree_free.next_set(0); bit < kGroupBlocks;) {
        const std::uint64_t end = group.tree_free.next_clear(bit);
        layout::FreeExtent extent{};
        extent.length = end - bit;
        extents.push_back(make_item(first_block + bit, layout::FreeKind::extent, &extent));
        bit = group.tree_free.next_set(end);
    }
    if (extents.size() > kToBitmaps) {
        group.bitmaps = true;
    } else if (extents.size() < kToExtents) {
        group.bitmaps = false;
    }
    std::vector<layout::FreeItem> items;
    if (!group.bitmaps) {
        items = std::move(extents);
    } else {
        for (std::uint64_t word = 0; word < kGroupBlocks / 64; word += 2) {
            layout::FreeBitmap bitmap{};
            bitmap.bits[0] = group.tree_free.word(word);
            bitmap.bits[1] = group.tree_free.word(word + 1);
            if (bitmap.bits[0] != 0 || bitmap.bits[1] != 0) {
                items.push_back(
                    make_item(first_block + word * 64, layout::FreeKind::bitmap, &bitmap));
            }
        }
    }
    layout::GroupInfo info{};
    info.free_blocks = static_cast<std::uint32_t>(group.tree_free.count());
    info.items = static_cast<std::uint32_t>(items.size());
    info.flags = static_cast<std::uint8_t>((group.metadata ? layout::kGroupHoldsMetadata : 0) |
                                           (group.bitmaps ? layout::kGroupUsesBitmaps : 0));
    info.allocated_blocks = static_cast<std::uint32_t>(group.allocated_blocks);
    items.insert(items.begin(), make_item(first_block, layout::FreeKind::group, &info));
    return items;
}

Status Space::write_group(std::uint64_t index, Generation generation, Sequence sequence)
{
    const Change change{*this, generation, sequence, Sequence(), ListId()};
    const Key first(index * kGroupBlocks * 4);
    const Key last((index + 1) * kGroupBlocks * 4 - 1);
    for (;;) {
        // A change of one item needs at most kMaxNodesPerChange; a group has at most 82 items,
        // which lie in at most two leaves, so that the later ones need no more copies.
        COPPICE_TRY(ensure_nodes(4 * kMaxNodesPerChange, 0));
        CacheUse use(cache_);
        auto missing = tree_.prepare(root_, first, last);
        std::map<std::uint64_t, layout::FreeItem> present;
        Cursor cursor(cache_, tree_.shape(), root_);
        if (!missing) {
            missing = cursor.seek(first);
        }
        while (!missing && cursor.valid() && cursor.key() <= last) {
            if (cursor.key() >= first) {
                present[cursor.key().words[0]] = cursor.get<layout::FreeItem>();
            }
            missing = cursor.next();
        }
        if (missing) {
            COPPICE_TRY(tree_.load(*missing));
            continue;
        }
        for (const layout::FreeItem& item : items_of(index)) {
            auto found = present.find(item.key);
            if (found == present.end() || found->second.value != item.value) {
                tree_.insert(root_, reinterpret_cast<const std::byte*>(&item), change);
            }
            if (found != present.end()) {
                present.erase(found);
            }
        }
        for (const auto& [key, item] : present) {
            tree_.erase(root_, Key(key), change);
        }
        groups_[index]->in_tree = true;
        return {};
    }
}

Status Space::write_tree(Generation generation, Sequence sequence)
{
    constexpr std::uint64_t kLookNs = 50;
    constexpr std::uint64_t kGroupNs = 200'000;
    Pace pace(disk_.tasks());
    for (;;) {
        std::vector<bool> touched(groups_.size());
        COPPICE_TRY(apply_deltas(generation, touched, pace));
        touched.resize(groups_.size());
        bool any = false;
        for (std::uint64_t index = 0; index < touched.size(); ++index) {
            const bool is_new = groups_[index] != nullptr && !groups_[index]->in_tree;
            if (touched[index] || is_new) {
                any = true;
                COPPICE_TRY(write_group(index, generation, sequence));
                pace.step(kGroupNs);
            } else {
                pace.step(kLookNs);
            }
        }
        if (!any && groups_.size() == touched.size() && deltas_[parity(generation)].empty()) {
            return {};
        }
    }
}

}  // namespace coppice
