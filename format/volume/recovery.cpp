#include "format/volume/recovery.h"

#include "format/journal/scan.h"
#include "format/volume/removal.h"
#include "format/volume/replay.h"
#include "format/volume/superblock.h"
#include "format/volume/verify.h"

namespace coppice {

namespace {

Status load_catalog(State& state)
{
    const Tree tree(state.cache, kCatalogShape);
    Catalog fresh;
    Key next;  // all before it is in `fresh`
    for (;;) {
        CacheUse use(state.cache);
        Cursor cursor(state.cache, kCatalogShape, state.catalog_root);
        auto missing = cursor.seek(next);
        while (!missing && cursor.valid()) {
            const auto item = cursor.get<layout::CatalogItem>();
            COPPICE_TRY(fresh.add_item(item));
            next = Key(item.kind, item.id + 1);
            missing = cursor.next();
        }
        if (missing) {
            COPPICE_TRY(state.cache.load(kCatalogShape, missing->node, missing->level));
            continue;
        }
        fresh.next_version = state.catalog.next_version;
        fresh.next_volume = state.catalog.next_volume;
        fresh.next_list = state.catalog.next_list;
        fresh.next_operation = state.catalog.next_operation;
        COPPICE_TRY(fresh.verify());
        state.catalog = std::move(fresh);
        return {};
    }
}

}  // namespace

Result<std::unique_ptr<State>> recover(Disk& disk, const OpenOptions& options)
{
    COPPICE_ASSIGN(opened, find_superblock(disk));
    if (!options.read_only) {
        if (disk.read_only()) {
            return fail(ErrorCode::read_only, "the host file cannot be written; open it read-only");
        }
        COPPICE_TRY(opened.writable);
    }
    auto state = std::make_unique<State>(disk, options, *opened.header, *opened.superblock);
    const layout::Superblock& superblock = *opened.superblock;
    ScanStart start;
    start.start_block = state->header.journal_start;
    start.blocks = state->header.journal_blocks;
    start.fixed_blocks = state->header.fixed_blocks;
    start.image_seed = state->cache.image_seed();
    start.generation = state->durable;
    start.position = {CommitNo(superblock.journal_commit), superblock.journal_position,
                      superblock.journal_chain};
    start.synced = CommitNo(superblock.journal_synced);
    const std::uint64_t begin_ns = state->tasks.now_ns();
    COPPICE_ASSIGN(scan, scan_journal(disk, start));
    const std::uint64_t scanned_ns = state->tasks.now_ns();
    // Behind the scan: where the ring names a newer superblock, nodes of this one may be gone, and
    // what is wrong with the image is that the superblock is lost.
    COPPICE_TRY(load_catalog(*state));
    COPPICE_TRY(load_removals(*state));
    const std::uint64_t loaded_ns = state->tasks.now_ns();
    COPPICE_TRY(verify_tail(*state, scan));
    const std::uint64_t verified_ns = state->tasks.now_ns();
    COPPICE_TRY(replay(*state, scan));
    state->recovery.scan_ns = scanned_ns - begin_ns;
    state->recovery.verify_ns = verified_ns - loaded_ns;
    state->recovery.replay_ns = state->tasks.now_ns() - verified_ns;

    for (const auto& [id, volume] : state->catalog.volumes) {
        state->domains.set_group(id, volume.group());
    }
    const JournalPosition head = scan.commits.empty() ? start.position : scan.commits.back().end;
    state->ring.set(start.position, head, scan.synced);
    state->recovery_open = true;
    return state;
}

}  // namespace coppice
