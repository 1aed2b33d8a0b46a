#include "format/volume/frozen.h"

namespace coppice {

Status drop_reference(State& state, Frozen& frozen, const Drop& drop)
{
    switch (drop.kind) {
    case layout::DeadKind::data:
        return state.references.drop(frozen.generation, frozen.sequence,
                                     {BlockNo(drop.block), drop.length}, frozen.freed);
    case layout::DeadKind::node:
        state.space.free_node(frozen.generation, BlockNo(drop.block));
        return {};
    case layout::DeadKind::range_reference:
        for (Catalog* catalog : {&frozen.catalog, &state.catalog}) {
            Version* held = catalog->version(VersionId(drop.block));
            if (held == nullptr || held->held_blocks < drop.length) {
                return fail(ErrorCode::bad_record,
                            "a range reference holds a version that is gone");
            }
            held->held_blocks -= drop.length;
        }
        return {};
    }
    return fail(ErrorCode::bad_record, "a dead record of unknown kind");
}

Status edit_item(State& state, const Frozen& frozen, Tree& tree, NodeRef& root, const Key& key,
                 const std::byte* item)
{
    const Change change = frozen.change(state);
    for (;;) {
        COPPICE_TRY(state.space.ensure_nodes(kMaxNodesPerChange, 0));
        CacheUse use(state.cache);
        auto missing = tree.prepare(root, key, key);
        if (missing) {
            COPPICE_TRY(tree.load(*missing));
            continue;
        }
        if (item == nullptr) {
            tree.erase(root, key, change);
        } else {
            tree.insert(root, item, change);
        }
        return {};
    }
}

}  // namespace coppice
