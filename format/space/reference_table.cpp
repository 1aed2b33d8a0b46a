#include "format/space/reference_table.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

namespace coppice {

namespace {

layout::ReferenceItem make_item(BlockNo block, std::uint64_t length, std::uint32_t extra)
{
    layout::ReferenceItem item{};
    item.block = block.value;
    item.length = static_cast<std::uint32_t>(length);
    item.extra = extra;
    return item;
}

}  // namespace

ReferenceTable::ReferenceTable(NodeCache& cache, Space& space, const NodeRef& root)
    : space_(space), tree_(cache, kReferenceShape), root_(root)
{
}

void ReferenceTable::add(Generation generation, const Extent& extent)
{
    additions_[generation.value % 2].push_back(extent);
    ++pending_;
}

Result<ReferenceTable::Piece> ReferenceTable::change_piece(BlockNo block, BlockNo end, bool add,
                                                           const Change& change)
{
    for (;;) {
        COPPICE_TRY(space_.ensure_nodes(4 * kMaxNodesPerChange, 0));
        CacheUse use(tree_.cache());
        auto missing = tree_.prepare(root_, Key(block.value), Key(end.value));
        Cursor cursor(tree_.cache(), tree_.shape(), root_);
        if (!missing) {
            missing = cursor.seek(Key(block.value));
        }
        // The item that covers `block`, or else the next one, which bounds the piece.
        layout::ReferenceItem item{};
        bool covers = false;
        if (!missing && cursor.valid()) {
            item = cursor.get<layout::ReferenceItem>();
            covers = item.block <= block.value && block.value < item.block + item.length;
            if (!covers && item.block <= block.value) {
                missing = cursor.next();
                if (!missing && cursor.valid()) {
                    item = cursor.get<layout::ReferenceItem>();
                }
            }
        }
        if (!missing && covers) {
            // In a damaged tree its key need not lead to where it was found.
            missing = tree_.prepare(root_, Key(item.block), Key(item.block));
        }
        if (missing) {
            COPPICE_TRY(tree_.load(*missing));
            continue;
        }
        if (!covers) {
            if (cursor.valid() && item.block > block.value) {
                end = std::min(end, BlockNo(item.block));
            }
            if (add) {
                const auto fresh = make_item(block, end - block, 1);
                tree_.insert(root_, reinterpret_cast<const std::byte*>(&fresh), change);
            }
            return Piece{end, true};
        }
        const BlockNo item_begin(item.block);
        const BlockNo item_end = item_begin + item.length;
        end = std::min(end, item_end);
        const std::uint32_t extra = add ? item.extra + 1 : item.extra - 1;
        if (add && extra == 0) {
            return fail(ErrorCode::too_large,
                        fmt::format("block {} has too many references", block.value));
        }
        tree_.erase(root_, Key(item_begin.value), change);
        auto put = [&](BlockNo from, BlockNo to, std::uint32_t count) {
            if (from < to && count > 0) {
                const auto piece = make_item(from, to - from, count);
                tree_.insert(root_, reinterpret_cast<const std::byte*>(&piece), change);
            }
        };
        put(item_begin, block, item.extra);
        put(block, end, extra);
        put(end, item_end, item.extra);
        return Piece{end, false};
    }
}

Status ReferenceTable::write(Generation generation, Sequence sequence)
{
    constexpr std::uint64_t kPieceNs = 2'500;
    ExtentList additions = std::exchange(additions_[generation.value % 2], ExtentList());
    pending_ -= additions.size();
    Pace pace(tree_.cache().tasks());
    const Change change{space_, generation, sequence, Sequence(), ListId()};
    while (!additions.empty()) {
        for (const Extent& extent : additions.take()) {
            const BlockNo end = extent.block + extent.length;
            for (BlockNo block = extent.block; block < end;) {
                COPPICE_ASSIGN(piece, change_piece(block, end, true, change));
                block = piece.end;
                pace.step(kPieceNs);
            }
        }
    }
    return {};
}

Status ReferenceTable::drop(Generation generation, Sequence sequence, const Extent& extent,
                            ExtentList& freed)
{
    if (!root_) {
        freed.push_back(extent);
        return {};
    }
    const Change change{space_, generation, sequence, Sequence(), ListId()};
    const BlockNo end = extent.block + extent.length;
    for (BlockNo block = extent.block; block < end;) {
        COPPICE_ASSIGN(piece, change_piece(block, end, false, change));
        if (piece.single) {
            freed.push_back({block, piece.end - block});
        }
        block = piece.end;
    }
    return {};
}

}  // namespace coppice
