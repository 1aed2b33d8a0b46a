// The checksum tree and the free-space tree, item by item; the comparison is in accounting.cpp.
#include <algorithm>
#include <fmt/format.h>

#include "format/base/checksum.h"
#include "format/check/accounting.h"

namespace coppice::checker {

namespace {

constexpr std::size_t kVerifyBlocks = 256;  // one host read: 1 MiB

}  // namespace

// ---- Checksums ----------------------------------------------------------------------------

void Accounting::walk_checksums()
{
    const bool verify = findings_.options().verify_data;
    findings_.progress(verify ? "data" : "checksums", 0, verify ? verification_.total : 0);
    const bool read = walk_.walk(
        {.shape = &shape_of(layout::TreeKind::checksums), .tree = "checksums"},
        decode(image_.superblock().checksums), [&](const NodeView& leaf, unsigned index) {
            take_checksums(leaf.item<layout::ChecksumItem>(index), verify);
        });
    // What a damaged node of this tree held was reported with it.
    if (read) {
        missing_checksums(checked_to_, UINT64_MAX);
    }
    flush_verification();
    verification_.buffer.reset();
    complete_ = complete_ && read;
}

// All blocks in use as data in [from, to) have no checksum.
void Accounting::missing_checksums(std::uint64_t from, std::uint64_t to)
{
    for (; data_index_ < data_.size() && data_[data_index_].start < to; ++data_index_) {
        const BlockRange& range = data_[data_index_];
        const std::uint64_t start = std::max(range.start, from);
        const std::uint64_t end = std::min(range.end, to);
        if (start < end) {
            problem(FindingKind::checksum_missing, start, end,
                    "mapped, but without a checksum: cannot be read");
        }
        if (range.end > to) {
            break;
        }
    }
}

void Accounting::take_checksums(const layout::ChecksumItem& item, bool verify_data)
{
    const std::uint64_t chunk = item.chunk;
    if (chunk > layout::kMaxBlock / layout::kChecksumsPerItem) {
        tree_finding(Severity::corruption, FindingKind::checksum_missing, "checksums", 0, 0,
                     fmt::format("an item for chunk {}, beyond any image", chunk));
        return;
    }
    const std::uint64_t first = chunk * layout::kChecksumsPerItem;
    const std::uint64_t end = first + layout::kChecksumsPerItem;
    missing_checksums(checked_to_, first);
    checked_to_ = end;
    // Every data range that touches the chunk; the last one may go on behind it.
    for (; data_index_ < data_.size() && data_[data_index_].start < end; ++data_index_) {
        const BlockRange& range = data_[data_index_];
        const std::uint64_t stop = std::min(range.end, end);
        for (std::uint64_t block = std::max(range.start, first); block < stop; ++block) {
            const auto bit = static_cast<std::size_t>(block - first);
            if ((item.present >> bit & 1U) == 0) {
                problem(FindingKind::checksum_missing, block, block + 1,
                        "mapped, but without a checksum: cannot be read");
            } else if (verify_data) {
                verify(block, item.values[bit]);
            }
        }
        if (range.end > end) {
            break;
        }
    }
}

void Accounting::verify(std::uint64_t block, std::uint32_t checksum)
{
    if (verification_.buffer == nullptr) {
        verification_.buffer = std::make_unique<Block[]>(kVerifyBlocks);
    }
    const std::uint64_t next = verification_.start + verification_.checksums.size();
    if (block != next || verification_.checksums.size() == kVerifyBlocks) {
        flush_verification();
        verification_.start = block;
    }
    verification_.checksums.push_back(checksum);
}

void Accounting::flush_verification()
{
    const std::size_t count = verification_.checksums.size();
    if (count == 0) {
        return;
    }
    Block* blocks = verification_.buffer.get();
    const std::span<std::byte> bytes(blocks->bytes.data(), count * kBlockBytes);
    // One bad sector must not take its neighbours with it.
    const bool all_read = image_.read_blocks(verification_.start, bytes).has_value();
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t block = verification_.start + i;
        if (!all_read && !image_.read_block(block, blocks[i])) {
            problem(FindingKind::data, block, block + 1, "the host cannot read it: lost");
        } else if (data_checksum(blocks[i].bytes) != verification_.checksums[i]) {
            problem(FindingKind::data, block, block + 1, "does not have its checksum: lost");
        } else {
            ++findings_.report().verified_blocks;
        }
    }
    verification_.done += count;
    verification_.checksums.clear();
    findings_.progress("data", verification_.done, verification_.total);
}

// ---- Free space ---------------------------------------------------------------------------

// The group whose items are being read.
struct Accounting::GroupState {
    std::uint64_t index = UINT64_MAX;  // none yet
    layout::GroupInfo info{};
    std::uint64_t start = 0;
    std::uint64_t end = 0;
    std::uint64_t used_to = 0;  // end of the last extent or bitmap
    std::uint64_t free = 0;
    std::uint64_t items = 0;
    std::uint64_t next_index() const { return index == UINT64_MAX ? 0 : index + 1; }
};

void Accounting::walk_free_space()
{
    findings_.progress("free space", 0, 0);
    GroupState group;
    const bool read = walk_.walk(
        {.shape = &shape_of(layout::TreeKind::free_space), .tree = "free space"},
        decode(image_.superblock().free_space), [&](const NodeView& leaf, unsigned index) {
            take_free_item(leaf.item<layout::FreeItem>(index), group);
        });
    complete_ = complete_ && read;
    if (!complete_) {
        return;
    }
    end_group(group);
    missing_groups(group.next_index(), divide_up(image_.image_blocks(), layout::kGroupBlocks));
}

void Accounting::missing_groups(std::uint64_t from, std::uint64_t to)
{
    if (from < to) {
        tree_finding(Severity::corruption, FindingKind::free_space, "free space",
                     from * layout::kGroupBlocks, (to - from) * layout::kGroupBlocks,
                     fmt::format("block groups {} to {} have no info item", from, to - 1));
    }
}

void Accounting::begin_group(const layout::FreeItem& item, GroupState& group)
{
    const std::uint64_t start = item.key / 4;
    const std::uint64_t index = start / layout::kGroupBlocks;
    if (start % layout::kGroupBlocks != 0 || start >= image_.image_blocks()) {
        tree_finding(Severity::corruption, FindingKind::free_space, "free space", start, 0,
                     fmt::format("an info item at block {}, where no group begins", start));
        return;
    }
    end_group(group);
    if (complete_) {
        missing_groups(group.next_index(), index);
    }
    group = {.index = index,
             .info =
                 copy_out<layout::GroupInfo>(reinterpret_cast<const std::byte*>(item.value.data())),
             .start = start,
             .end = std::min(start + layout::kGroupBlocks, image_.image_blocks()),
             .used_to = start};
    if ((group.info.flags & layout::kGroupHoldsMetadata) != 0) {
        metadata_groups_.insert(index);
    }
    const unsigned known = layout::kGroupHoldsMetadata | layout::kGroupUsesBitmaps;
    if ((group.info.flags & ~known) != 0 || group.info.allocated_blocks > layout::kGroupBlocks) {
        tree_finding(Severity::corruption, FindingKind::free_space, "free space", start, 0,
                     fmt::format("the info item of block group {} has impossible fields", index));
    }
}

void Accounting::end_group(const GroupState& group)
{
    if (group.index == UINT64_MAX || !complete_) {
        return;
    }
    if (group.free != group.info.free_blocks || group.items != group.info.items) {
        tree_finding(Severity::corruption, FindingKind::free_space, "free space", group.start,
                     group.end - group.start,
                     fmt::format("block group {} says {} free blocks in {} items, but has {} in {}",
                                 group.index, group.info.free_blocks.get(), group.info.items.get(),
                                 group.free, group.items));
    }
}

void Accounting::add_free(std::uint64_t start, std::uint64_t end)
{
    if (!free_.empty() && free_.back().end == start) {
        free_.back().end = end;
    } else {
        free_.push_back({start, end});
    }
}

void Accounting::take_free_item(const layout::FreeItem& item, GroupState& group)
{
    const std::uint64_t kind = item.key % 4;
    const std::uint64_t block = item.key / 4;
    const auto* value = reinterpret_cast<const std::byte*>(item.value.data());
    if (kind == static_cast<std::uint64_t>(layout::FreeKind::group)) {
        begin_group(item, group);
        return;
    }
    const auto report = [&](std::string text) {
        tree_finding(Severity::corruption, FindingKind::free_space, "free space", block, 0,
                     fmt::format("the item at block {}: {}", block, text));
    };
    const bool bitmap = kind == static_cast<std::uint64_t>(layout::FreeKind::bitmap);
    if (!bitmap && kind != static_cast<std::uint64_t>(layout::FreeKind::extent)) {
        report(fmt::format("unknown kind {}", kind));
        return;
    }
    if (group.index == UINT64_MAX || block < group.used_to || block >= group.end) {
        report("it overlaps the one before it, or its block group has no info item");
        return;
    }
    if (bitmap != ((group.info.flags & layout::kGroupUsesBitmaps) != 0)) {
        report("a bitmap among extents, or an extent among bitmaps");
    }
    ++group.items;
    if (!bitmap) {
        const std::uint64_t length = copy_out<layout::FreeExtent>(value).length;
        if (length == 0 || length > group.end - block) {
            report(fmt::format("an extent of {} blocks does not fit into its group", length));
            return;
        }
        group.free += length;
        group.used_to = block + length;
        add_free(block, block + length);
        return;
    }
    const auto bits = copy_out<layout::FreeBitmap>(value).bits;
    if (block % layout::kBitmapBlocks != 0 || (bits[0] == 0 && bits[1] == 0)) {
        report("a bitmap at an odd place, or an empty one");
        return;
    }
    for (std::uint64_t i = 0; i < layout::kBitmapBlocks; ++i) {
        if ((bits[i / 64] >> (i % 64) & 1U) == 0) {
            continue;
        }
        if (block + i >= group.end) {
            report("a bitmap that reaches behind the end of the image");
            return;
        }
        ++group.free;
        add_free(block + i, block + i + 1);
    }
    group.used_to = block + layout::kBitmapBlocks;
}

}  // namespace coppice::checker
