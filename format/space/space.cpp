#include "format/space/space.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include "format/base/check.h"
#include "format/tree/read_ahead.h"

namespace coppice {

namespace {

using layout::kGroupBlocks;

// Metadata is made physically present in steps of this many blocks.
constexpr std::uint64_t kAllocationStep = 64;

// Blocks for small writes are made physically present in steps of so many.
constexpr std::uint64_t kBackedStep = 128;

std::uint64_t group_index(BlockNo block) { return block.value / kGroupBlocks; }

// Appends, or lengthens the last one.
void append_extent(std::vector<Extent>& extents, const Extent& extent)
{
    if (!extents.empty() && extents.back().block + extents.back().length == extent.block) {
        extents.back().length += extent.length;
    } else {
        extents.push_back(extent);
    }
}

}  // namespace

Space::Space(Disk& disk, NodeCache& cache, std::uint64_t fixed_blocks, const NodeRef& root,
             const Totals& tree_totals, bool read_only)
    : disk_(disk),
      cache_(cache),
      tree_(cache, kFreeShape),
      root_(root),
      totals_(tree_totals),
      fixed_blocks_(fixed_blocks),
      read_only_(read_only),
      groups_(tree_totals.image_blocks / kGroupBlocks),
      noted_data_(groups_.size()),
      loading_(disk.tasks()),
      backing_(disk.tasks()),
      data_cursor_(fixed_blocks),
      node_cursor_(fixed_blocks)
{
}

Group& Space::group_of(BlockNo block)
{
    Group* group = groups_[group_index(block)].get();
    CHECK(group != nullptr);
    return *group;
}

void Space::note_data_block(BlockNo block)
{
    const std::uint64_t index = group_index(block);
    if (index >= noted_data_.size()) {
        noted_data_.resize(index + 1);
    }
    noted_data_[index] = true;
}

Status Space::read_noted_groups()
{
    constexpr std::size_t kTogether = 1024;  // some leaves for each group, at most
    std::vector<std::uint64_t> groups;
    for (std::uint64_t index = 0; index < std::min(groups_.size(), noted_data_.size()); ++index) {
        if (noted_data_[index] && groups_[index] == nullptr) {
            groups.push_back(index);
        }
    }
    for (std::size_t begin = 0; begin < groups.size(); begin += kTogether) {
        const auto some = std::span<const std::uint64_t>(groups).subspan(
            begin, std::min(kTogether, groups.size() - begin));
        std::vector<Key> keys;
        for (const std::uint64_t index : some) {
            keys.emplace_back(index * kGroupBlocks * 4);
            keys.emplace_back((index + 1) * kGroupBlocks * 4 - 1);
        }
        CacheUse use(cache_);
        COPPICE_TRY(read_ahead(tree_, root_, keys));
        for (const std::uint64_t index : some) {
            COPPICE_TRY(load_group(index));
        }
    }
    return {};
}

void Space::count_node_space(const Group& group, bool add)
{
    std::uint64_t count = 0;
    const std::uint64_t end = std::min(group.allocated_blocks, kGroupBlocks);
    for (std::uint64_t bit = group.free.next_set(0); bit < end; bit = group.free.next_set(bit)) {
        const std::uint64_t run_end = std::min(group.free.next_clear(bit), end);
        count += run_end - bit;
        bit = run_end;
    }
    nodes_free_ = add ? nodes_free_ + count : nodes_free_ - count;
}

Status Space::load_group(std::uint64_t index)
{
    LockGuard loading(loading_);
    if (groups_[index] != nullptr) {
        return {};
    }
    const std::uint64_t first_block = index * kGroupBlocks;
    auto damaged = [&](std::string_view what) {
        return fail(ErrorCode::bad_record, fmt::format("free-space tree, group {} (block {}): {}",
                                                       index, first_block, what));
    };
    for (;;) {
        CacheUse use(cache_);
        auto group = std::make_unique<Group>();
        Cursor cursor(cache_, tree_.shape(), root_);
        auto missing = cursor.seek(Key(first_block * 4));
        if (!missing && (!cursor.valid() || cursor.key() != Key(first_block * 4))) {
            return damaged("has no info item");
        }
        bool info_read = false;
        while (!missing && cursor.valid() &&
               cursor.key().words[0] / 4 < first_block + kGroupBlocks) {
            const auto item = cursor.get<layout::FreeItem>();
            const std::uint64_t start = item.key / 4 - first_block;
            const auto kind = static_cast<layout::FreeKind>(item.key % 4);
            bool fits = true;
            if (kind == layout::FreeKind::group && !info_read) {
                layout::GroupInfo info;
                std::memcpy(static_cast<void*>(&info), item.value.data(), sizeof(info));
                group->metadata = (info.flags & layout::kGroupHoldsMetadata) != 0;
                group->bitmaps = (info.flags & layout::kGroupUsesBitmaps) != 0;
                group->allocated_blocks = info.allocated_blocks;
                info_read = true;
                fits = info.allocated_blocks <= kGroupBlocks;
            } else if (kind == layout::FreeKind::extent) {
                layout::FreeExtent extent;
                std::memcpy(static_cast<void*>(&extent), item.value.data(), sizeof(extent));
                fits = extent.length <= kGroupBlocks && start + extent.length <= kGroupBlocks &&
                       group->tree_free.set(start, extent.length);
            } else if (kind == layout::FreeKind::bitmap && start % layout::kBitmapBlocks == 0) {
                layout::FreeBitmap bitmap;
                std::memcpy(static_cast<void*>(&bitmap), item.value.data(), sizeof(bitmap));
                group->tree_free.set_word(start / 64, bitmap.bits[0]);
                group->tree_free.set_word(start / 64 + 1, bitmap.bits[1]);
            } else {
                fits = false;
            }
            if (!fits) {
                return damaged("has an impossible item");
            }
            missing = cursor.next();
        }
        if (missing) {
            COPPICE_TRY(tree_.load(*missing));
            continue;
        }
        if (fixed_blocks_ > first_block &&
            group->tree_free.next_set(0) < std::min(fixed_blocks_ - first_block, kGroupBlocks)) {
            return damaged("lists a block of the fixed region as free");
        }
        group->in_tree = true;
        group->free = group->tree_free;
        group->free_count = group->free.count();
        if (group->metadata) {
            count_node_space(*group, true);
        } else {
            data_free_ += group->free_count;
        }
        groups_[index] = std::move(group);
        return {};
    }
}

Status Space::load_extent(const Extent& extent)
{
    for (std::uint64_t index = group_index(extent.block);
         index <= (extent.block.value + extent.length - 1) / kGroupBlocks; ++index) {
        if (index >= groups_.size()) {
            return fail(ErrorCode::bad_record,
                        fmt::format("block {} is beyond the end of the image", extent.block.value));
        }
        if (groups_[index] == nullptr) {
            COPPICE_TRY(load_group(index));
        }
    }
    return {};
}

// Adds a group at the end of the image, unless somebody does so meanwhile: the caller looks again.
Status Space::grow(bool metadata)
{
    const std::uint64_t index = groups_.size();
    LockGuard loading(loading_);
    if (groups_.size() != index) {
        return {};
    }
    if ((index + 1) * kGroupBlocks > layout::kMaxBlock) {
        return fail(ErrorCode::no_space, "the image has reached its largest size");
    }
    // The host file has the group's length before anything is put there.
    IoRequest request{.kind = IoRequest::Kind::truncate,
                      .offset_bytes = (index + 1) * kGroupBlocks * kBlockBytes};
    auto length = disk_.size_bytes();
    if (!length) {
        return pass_on(length);
    }
    if (*length < request.offset_bytes && !read_only_) {
        Status longer = disk_.run({&request, 1});
        if (!longer) {
            return fail(ErrorCode::no_space, longer.error().text);
        }
    }
    auto group = std::make_unique<Group>();
    const std::uint64_t first_block = index * kGroupBlocks;
    const std::uint64_t begin =
        fixed_blocks_ > first_block ? std::min(fixed_blocks_ - first_block, kGroupBlocks) : 0;
    group->free.set(begin, kGroupBlocks - begin);
    group->tree_free = group->free;
    group->free_count = kGroupBlocks - begin;
    group->metadata = metadata || begin > 0;
    if (index < noted_data_.size() && noted_data_[index]) {
        group->metadata = false;
    }
    if (group->metadata) {
        group->allocated_blocks = begin;
    } else {
        data_free_ += group->free_count;
    }
    totals_.image_blocks += kGroupBlocks;
    totals_.free_blocks += group->free_count;
    groups_.push_back(std::move(group));
    return {};
}

// ---- Data ---------------------------------------------------------------------------------

// `absent`: those of them that the host may not have yet.
bool Space::take_from(std::uint64_t index, std::uint64_t& wanted, std::vector<Extent>& taken,
                      std::vector<Extent>& absent)
{
    Group* group = groups_[index].get();
    if (group == nullptr || group->metadata || group->free_count == 0) {
        return false;
    }
    const std::uint64_t first_block = index * kGroupBlocks;
    std::uint64_t from = data_cursor_ > first_block ? data_cursor_ - first_block : 0;
    while (wanted > 0) {
        const std::uint64_t begin = group->free.next_set(from);
        if (begin >= kGroupBlocks) {
            break;
        }
        const std::uint64_t end = std::min(group->free.next_clear(begin), begin + wanted);
        CHECK(group->free.clear(begin, end - begin));
        for (std::uint64_t bit = group->stale.next_clear(begin); bit < end;) {
            const std::uint64_t run_end = std::min(group->stale.next_set(bit), end);
            append_extent(absent, {BlockNo(first_block + bit), run_end - bit});
            bit = group->stale.next_clear(run_end);
        }
        forget_stale(*group, begin, end - begin);
        group->free_count -= end - begin;
        data_free_ -= end - begin;
        wanted -= end - begin;
        append_extent(taken, {BlockNo(first_block + begin), end - begin});
        from = end;
        data_cursor_ = first_block + end;
    }
    return wanted == 0;
}

Result<std::vector<Extent>> Space::take_data(std::uint64_t blocks)
{
    std::vector<Extent> absent;
    return take_data(blocks, absent);
}

Result<std::vector<Extent>> Space::take_data(std::uint64_t blocks, std::vector<Extent>& absent)
{
    // See that there is enough before taking any: groups not read yet first, then a larger file.
    while (data_free_ < blocks) {
        Status grown;
        if (next_unread_ < groups_.size()) {
            // Not counted before it is there: who comes meanwhile waits for it, rather than grow.
            const std::uint64_t index = next_unread_;
            grown = groups_[index] == nullptr ? load_group(index) : Status();
            next_unread_ = std::max(next_unread_, index + 1);
        } else {
            grown = grow(false);
        }
        if (!grown) {
            return pass_on(grown);
        }
    }
    std::vector<Extent> taken;
    std::uint64_t wanted = blocks;
    const std::uint64_t start = data_cursor_ / kGroupBlocks;
    for (std::uint64_t i = 0; i <= groups_.size(); ++i) {
        const std::uint64_t index = (start + i) % groups_.size();
        if (i > 0) {
            data_cursor_ = index * kGroupBlocks;
        }
        if (take_from(index, wanted, taken, absent)) {
            return taken;
        }
    }
    CHECK(false);  // data_free_ said that there is enough
    return taken;
}

// Takes so many blocks and makes present those that the host may not have. What could not be made
// present is given back; the others are for whoever comes. (task)
Status Space::back_more(std::uint64_t blocks)
{
    std::vector<Extent> absent;
    auto taken = take_data(blocks, absent);
    if (!taken) {
        return pass_on(taken);
    }
    std::vector<IoRequest> requests;
    for (const Extent& extent : absent) {
        requests.push_back({.kind = IoRequest::Kind::allocate,
                            .offset_bytes = byte_offset(extent.block),
                            .length_bytes = extent.length * kBlockBytes});
    }
    Status present = requests.empty() ? Status() : disk_.run(requests);
    const auto back = [&](BlockNo block, std::uint64_t length) {
        if (length != 0) {
            backed_.push_back({block, length});
            backed_blocks_ += length;
        }
    };
    auto missing = absent.begin();
    for (const Extent& extent : *taken) {
        BlockNo from = extent.block;
        const auto inside = [&](const Extent& other) {
            return other.block >= extent.block && other.block < extent.block + extent.length;
        };
        for (; !present && missing != absent.end() && inside(*missing); ++missing) {
            back(from, missing->block - from);
            return_data(*missing, false);
            from = missing->block + missing->length;
        }
        back(from, extent.block + extent.length - from);
    }
    return present;
}

// Blocks for small writes are made present in steps, by one of those who wait for all. A host that
// has no room for a step may have some for what is needed now. (task)
Status Space::ensure_backed(std::uint64_t blocks)
{
    while (backed_blocks_ < blocks) {
        LockGuard backing(backing_);
        if (backed_blocks_ >= blocks) {
            return {};
        }
        if (!backable_) {
            return fail(ErrorCode::not_supported, "the host does not keep room for later writes");
        }
        const std::uint64_t step = std::max(blocks, std::min(kBackedStep, data_free_));
        Status done = back_more(step);
        backable_ = done || done.error().code != ErrorCode::not_supported;
        if (!done && backable_ && backed_blocks_ < blocks && step > blocks) {
            done = back_more(blocks);
        }
        if (backed_blocks_ < blocks) {
            COPPICE_TRY(std::move(done));
        }
    }
    return {};
}

Result<std::vector<Extent>> Space::take_backed(std::uint64_t blocks)
{
    COPPICE_TRY(ensure_backed(blocks));
    std::vector<Extent> taken;
    backed_blocks_ -= blocks;
    while (blocks > 0) {
        Extent& next = backed_.front();
        const std::uint64_t count = std::min(blocks, next.length);
        append_extent(taken, {next.block, count});
        next = {next.block + count, next.length - count};
        if (next.length == 0) {
            backed_.pop_front();
        }
        blocks -= count;
    }
    return taken;
}

void Space::return_backed()
{
    for (const Extent& extent : std::exchange(backed_, {})) {
        return_data(extent, true);
    }
    backed_blocks_ = 0;
}

void Space::return_data(const Extent& extent, bool present) { make_free(extent, present); }

void Space::use_data(Generation generation, const Extent& extent)
{
    deltas_[parity(generation)].push_back({extent, true, false});
}

Status Space::take_named(const Extent& extent)
{
    while (extent.block.value + extent.length > groups_.size() * kGroupBlocks) {
        COPPICE_TRY(grow(false));
    }
    COPPICE_TRY(load_extent(extent));
    for (std::uint64_t done = 0; done < extent.length;) {
        const BlockNo block = extent.block + done;
        Group& group = group_of(block);
        const std::uint64_t bit = block.value % kGroupBlocks;
        const std::uint64_t count = std::min(kGroupBlocks - bit, extent.length - done);
        if (group.metadata || !group.free.clear(bit, count)) {
            return fail(ErrorCode::bad_record,
                        fmt::format("the journal names blocks {} to {}, which are in use",
                                    block.value, block.value + count - 1));
        }
        group.free_count -= count;
        data_free_ -= count;
        done += count;
    }
    return {};
}

// ---- Nodes --------------------------------------------------------------------------------

// Of space that never held anything. A checkpoint that found no room for a node would stop all
// writing; so a host that does not keep room gets zeroes.
Status Space::make_present(std::uint64_t offset_bytes, std::uint64_t length_bytes)
{
    IoRequest request{.kind = IoRequest::Kind::allocate,
                      .offset_bytes = offset_bytes,
                      .length_bytes = length_bytes};
    Status present = disk_.run({&request, 1});
    if (present || present.error().code != ErrorCode::not_supported) {
        return present;
    }
    return disk_.write_zeroes(offset_bytes, length_bytes);
}

// Makes a further step of a metadata group physically present, unless somebody does so meanwhile:
// the caller looks again.
Status Space::extend_allocation(std::uint64_t index)
{
    Group& group = *groups_[index];
    const std::uint64_t begin = group.allocated_blocks;
    LockGuard loading(loading_);
    if (group.allocated_blocks != begin) {
        return {};
    }
    const std::uint64_t end = std::min(begin + kAllocationStep, kGroupBlocks);
    if (!read_only_) {
        COPPICE_TRY(make_present((index * kGroupBlocks + begin) * kBlockBytes,
                                 (end - begin) * kBlockBytes));
    }
    count_node_space(group, false);
    group.allocated_blocks = end;
    count_node_space(group, true);
    return {};
}

Status Space::ensure_nodes(std::uint64_t count, std::uint64_t reserve)
{
    while (nodes_free_ < count + reserve) {
        // Room in a group that is there; else a group not read yet; else a new one.
        std::uint64_t chosen = groups_.size();
        std::uint64_t unread = groups_.size();
        for (std::uint64_t i = groups_.size(); i-- > 0;) {
            const Group* group = groups_[i].get();
            if (group == nullptr) {
                unread = i;
            } else if (group->metadata && group->allocated_blocks < kGroupBlocks) {
                chosen = i;
            }
        }
        Status done;
        if (chosen < groups_.size()) {
            done = extend_allocation(chosen);
        } else {
            done = unread < groups_.size() ? load_group(unread) : grow(true);
        }
        if (!done && chosen < groups_.size() && unread < groups_.size()) {
            done = load_group(unread);  // a full host: there may be room in what was not read yet
        }
        COPPICE_TRY(std::move(done));
    }
    return {};
}

BlockNo Space::take_node(Generation generation)
{
    CHECK(nodes_free_ > 0);
    const std::uint64_t start = node_cursor_ / kGroupBlocks;
    for (std::uint64_t i = 0; i <= groups_.size(); ++i) {
        const std::uint64_t index = (start + i) % groups_.size();
        Group* group = groups_[index].get();
        if (group == nullptr || !group->metadata) {
            continue;
        }
        const std::uint64_t from = i == 0 ? node_cursor_ % kGroupBlocks : 0;
        const std::uint64_t bit = group->free.next_set(from);
        if (bit < group->allocated_blocks) {
            CHECK(group->free.clear(bit, 1));
            --group->free_count;
            --nodes_free_;
            const BlockNo block(index * kGroupBlocks + bit);
            node_cursor_ =
                block.value + 1 == (index + 1) * kGroupBlocks ? block.value : block.value + 1;
            group->taken.note(parity(generation), bit);
            deltas_[parity(generation)].push_back({{block, 1}, true, true});
            return block;
        }
    }
    CHECK(false);  // nodes_free_ said that there is one
    return {};
}

void Space::return_node(BlockNo block, Generation generation)
{
    // Used and freed within one generation. No superblock ever names it, so it need not wait for
    // one, and a large tree that is emptied on a full host does with few nodes. The checkpoint of
    // the generation before may take it next, and writes that down first; so nothing may be left of
    // this use.
    Group& group = group_of(block);
    if (group.taken.forget(parity(generation), block.value % kGroupBlocks)) {
        ++undone_nodes_[parity(generation)][block];
    } else {
        deltas_[parity(generation)].push_back({{block, 1}, false, true});  // the tree has the use
    }
    CHECK(group.free.set(block.value % kGroupBlocks, 1));
    ++group.free_count;
    ++nodes_free_;
}

void Space::drop_node(ListId list, BlockNo block, Sequence birth, Generation generation)
{
    if (list.value == 0) {
        free_node(generation, block);
    } else {
        drop(generation, {list, birth, layout::DeadKind::node, block.value, 1});
    }
}

// ---- Drops --------------------------------------------------------------------------------

void Space::drop(Generation generation, const Drop& drop)
{
    drops_[parity(generation)].push_back(drop);
    drop_blocks_[parity(generation)] += drop.kind == layout::DeadKind::data ? drop.length : 0;
}

DropList Space::take_drops(Generation generation)
{
    drop_blocks_[parity(generation)] = 0;
    return std::exchange(drops_[parity(generation)], DropList());
}

void Space::free_data(Generation generation, const Extent& extent)
{
    deltas_[parity(generation)].push_back({extent, false, false});
    freed_[parity(generation)].push_back(extent);
    unreleased_ += extent.length;
}

void Space::free_node(Generation generation, BlockNo block)
{
    deltas_[parity(generation)].push_back({{block, 1}, false, true});
    freed_[parity(generation)].push_back({block, 1});
    ++unreleased_;
}

ExtentList Space::take_freed(Generation generation)
{
    return std::exchange(freed_[parity(generation)], ExtentList());
}

void Space::release(const Extent& extent)
{
    make_free(extent, true);
    unreleased_ -= extent.length;
}

// May be taken again from now on. `stale`: the host keeps the blocks though nothing needs them.
void Space::make_free(const Extent& extent, bool stale)
{
    for (std::uint64_t done = 0; done < extent.length;) {
        const BlockNo block = extent.block + done;
        Group& group = group_of(block);
        const std::uint64_t bit = block.value % kGroupBlocks;
        const std::uint64_t count = std::min(kGroupBlocks - bit, extent.length - done);
        CHECK(group.free.set(bit, count));
        group.free_count += count;
        if (group.metadata) {
            nodes_free_ += std::min(bit + count, std::max(bit, group.allocated_blocks)) - bit;
        } else {
            data_free_ += count;
            if (stale) {
                group.stale.set(bit, count);
                stale_ += count;
                punch_cursor_ = std::min(punch_cursor_, block.value / kGroupBlocks);
            }
        }
        done += count;
    }
}

// ---- Space for the host ---------------------------------------------------------------------

void Space::forget_stale(Group& group, std::uint64_t bit, std::uint64_t count)
{
    stale_ -= group.stale.count(bit, count);
    group.stale.clear(bit, count);
}

Status Space::mark_stale()
{
    for (std::uint64_t index = 0; index < groups_.size(); ++index) {
        if (groups_[index] == nullptr) {
            COPPICE_TRY(load_group(index));
        }
        Group& group = *groups_[index];
        for (std::uint64_t bit = group.free.next_set(0); !group.metadata && bit < kGroupBlocks;) {
            const std::uint64_t end = group.free.next_clear(bit);
            forget_stale(group, bit, end - bit);
            group.stale.set(bit, end - bit);
            stale_ += end - bit;
            bit = group.free.next_set(end);
        }
    }
    punch_cursor_ = 0;
    return {};
}

std::vector<Extent> Space::take_stale(std::uint64_t shortest, std::uint64_t most)
{
    constexpr std::uint64_t kGroupsAtOnce = 16;  // nobody else runs meanwhile
    std::vector<Extent> taken;
    std::uint64_t blocks = 0;
    const std::uint64_t end = std::min(groups_.size(), punch_cursor_ + kGroupsAtOnce);
    while (punch_cursor_ < end && blocks < most) {
        const std::uint64_t index = punch_cursor_++;
        Group* group = groups_[index].get();
        if (group == nullptr || group->metadata) {
            continue;
        }
        for (std::uint64_t bit = group->stale.next_set(0); bit < kGroupBlocks;) {
            const std::uint64_t count = group->stale.next_clear(bit) - bit;
            if (count >= shortest) {
                CHECK(group->free.clear(bit, count));
                forget_stale(*group, bit, count);
                group->free_count -= count;
                data_free_ -= count;
                taken.push_back({BlockNo(index * kGroupBlocks + bit), count});
                blocks += count;
            }
            bit = group->stale.next_set(bit + count);
        }
    }
    return taken;
}

void Space::punched(const std::vector<Extent>& extents)
{
    for (const Extent& extent : extents) {
        Group& group = group_of(extent.block);
        CHECK(group.free.set(extent.block.value % kGroupBlocks, extent.length));
        group.free_count += extent.length;
        data_free_ += extent.length;
    }
}

}  // namespace coppice
