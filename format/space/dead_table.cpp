#include "format/space/dead_table.h"

#include <fmt/format.h>

namespace coppice {

DeadTable::DeadTable(NodeCache& cache, Space& space, const NodeRef& root)
    : space_(space), tree_(cache, kDeadShape), root_(root)
{
}

// One command can map the same blocks in several places with one birth (a clone of a range that
// has them twice). When they die in one list they are counted, or told apart by `copy` where their
// lengths differ.
Status DeadTable::insert(Generation generation, Sequence sequence, const Drop& drop)
{
    constexpr std::uint64_t kMostCopies = 0xFFFF;
    const Change change{space_, generation, sequence, Sequence(), ListId()};
    std::uint64_t copy = 0;
    for (;;) {
        const Key key(drop.list.value, drop.birth.value, copy << 48 | drop.block);
        COPPICE_TRY(space_.ensure_nodes(kMaxNodesPerChange, 0));
        CacheUse use(tree_.cache());
        auto missing = tree_.prepare(root_, key, key);
        Cursor cursor(tree_.cache(), tree_.shape(), root_);
        if (!missing) {
            missing = cursor.seek(key);
        }
        if (missing) {
            COPPICE_TRY(tree_.load(*missing));
            continue;
        }
        layout::DeadItem item{};
        if (cursor.valid() && cursor.key() == key) {
            item = cursor.get<layout::DeadItem>();
            if (item.length != drop.length || item.count == 0xFFFF) {
                if (++copy > kMostCopies) {
                    return fail(ErrorCode::too_large,
                                fmt::format("block {} died too often at once", drop.block));
                }
                continue;
            }
        }
        item.list = drop.list.value;
        item.birth = drop.birth.value;
        item.block = drop.block;
        item.copy = static_cast<std::uint16_t>(copy);
        item.length = static_cast<std::uint32_t>(drop.length);
        item.count = static_cast<std::uint16_t>(item.count + 1);
        item.kind = static_cast<std::uint8_t>(drop.kind);
        tree_.insert(root_, reinterpret_cast<const std::byte*>(&item), change);
        return {};
    }
}

Result<std::optional<DeadTable::Record>> DeadTable::take(Generation generation, Sequence sequence,
                                                         ListId list, Sequence after,
                                                         Sequence up_to, std::uint64_t most_blocks)
{
    const Change change{space_, generation, sequence, Sequence(), ListId()};
    const Key first(list.value, after.value + 1, 0);
    const Key last(list.value, up_to.value, ~std::uint64_t{0});
    Record record;
    for (;;) {
        COPPICE_TRY(space_.ensure_nodes(kMaxNodesPerChange, 0));
        CacheUse use(tree_.cache());
        Cursor cursor(tree_.cache(), tree_.shape(), root_);
        auto missing = cursor.seek(first);
        while (!missing && cursor.valid() && cursor.key() < first) {
            missing = cursor.next();
        }
        const bool found = !missing && cursor.valid() && cursor.key() <= last;
        if (!missing && !found) {
            return std::optional<Record>();
        }
        const Key key = found ? cursor.key() : Key();
        if (!missing) {
            missing = tree_.prepare(root_, key, key);
        }
        if (missing) {
            COPPICE_TRY(tree_.load(*missing));
            continue;
        }
        const auto item = cursor.get<layout::DeadItem>();
        record.drop = {list, Sequence(item.birth), static_cast<layout::DeadKind>(item.kind),
                       item.block, item.length};
        record.count = item.count;
        if (!tree_.erase(root_, key, change)) {
            return fail(ErrorCode::bad_record, "the dead tree has an item where none can be");
        }
        break;
    }
    if (record.drop.kind == layout::DeadKind::data && record.drop.length > most_blocks) {
        Drop rest = record.drop;
        rest.block += most_blocks;
        rest.length -= most_blocks;
        record.drop.length = most_blocks;
        for (unsigned i = 0; i < record.count; ++i) {
            COPPICE_TRY(insert(generation, sequence, rest));
        }
    }
    return std::optional<Record>(record);
}

}  // namespace coppice
