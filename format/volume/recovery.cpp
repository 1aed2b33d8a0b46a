#include "format/volume/recovery.h"

#include <algorithm>
#include <fmt/format.h>

#include "format/base/checksum.h"
#include "format/base/rules.h"
#include "format/journal/scan.h"
#include "format/volume/buffer.h"
#include "format/volume/effects.h"

namespace coppice {

namespace {

// Data of the tail are read in pieces of this many blocks to be verified.
constexpr std::uint64_t kVerifyBlocks = 256;

Status load_catalog(State& state)
{
    const Tree tree(state.cache, kCatalogShape);
    for (;;) {
        CacheUse use(state.cache);
        Catalog fresh;
        Cursor cursor(state.cache, kCatalogShape, state.catalog_root);
        auto missing = cursor.seek(Key());
        while (!missing && cursor.valid()) {
            COPPICE_TRY(fresh.add_item(cursor.get<layout::CatalogItem>()));
            missing = cursor.next();
        }
        if (missing) {
            COPPICE_TRY(state.cache.load(kCatalogShape, missing->node, missing->level));
            continue;
        }
        fresh.next_version = state.catalog.next_version;
        fresh.next_volume = state.catalog.next_volume;
        fresh.next_list = state.catalog.next_list;
        COPPICE_TRY(fresh.verify());
        state.catalog = std::move(fresh);
        return {};
    }
}

// Are the data of an operation what its checksums say?
Result<bool> data_verify(State& state, const JournalOperation& operation)
{
    const auto& record = operation.record;
    if (operation.type() != layout::OperationType::write || operation.has_data() ||
        operation.sequence() <= state.durable_sequence) {
        return true;  // what the superblock contains was synced before it
    }
    BlockBuffer buffer(std::min<std::uint64_t>(kVerifyBlocks, record.length));
    for (std::uint64_t done = 0; done < record.length;) {
        const std::uint64_t count = std::min<std::uint64_t>(kVerifyBlocks, record.length - done);
        const auto bytes = buffer.span().first(count * kBlockBytes);
        COPPICE_TRY(state.disk.read(byte_offset(BlockNo(record.block + done)), bytes));
        for (std::uint64_t i = 0; i < count; ++i) {
            if (data_checksum(buffer.block(i)) != operation.checksum(done + i)) {
                return false;
            }
        }
        done += count;
    }
    return true;
}

// Commits that no sync is known to cover count only up to the first whose data do not verify.
Status verify_tail(State& state, Scan& scan)
{
    for (std::size_t i = 0; i < scan.commits.size(); ++i) {
        if (scan.commits[i].commit.commit <= scan.synced || !obeys(Rule::verify_tail)) {
            continue;
        }
        for (const JournalOperation& operation : scan.commits[i].commit.operations) {
            COPPICE_ASSIGN(verified, data_verify(state, operation));
            if (!verified) {
                scan.commits.resize(i);
                return {};
            }
        }
    }
    return {};
}

// Data that the commit carries may not be at their place.
void hold_data(State& state, const JournalOperation& operation)
{
    const std::uint64_t length = operation.record.length;
    auto buffer = std::make_shared<BlockBuffer>(length);
    std::memcpy(buffer->span().data(), operation.data().data(), length * kBlockBytes);
    state.late.hold(state.generation, {BlockNo(operation.record.block), length}, buffer, 0);
}

bool to_be_applied(const State& state, const JournalOperation& operation)
{
    return operation.sequence() > state.durable_sequence || !obeys(Rule::skip_contained);
}

Status apply_command(State& state, Effects& effects, std::span<JournalOperation> command)
{
    for (const JournalOperation& operation : command) {
        if (operation.type() == layout::OperationType::write) {
            COPPICE_TRY(
                state.space.take_named({BlockNo(operation.record.block), operation.record.length}));
        }
    }
    CacheUse use(state.cache);
    for (;;) {
        COPPICE_ASSIGN(ready, effects.prepare(command, 0));
        if (ready) {
            break;
        }
    }
    COPPICE_TRY(effects.apply(command));
    for (const JournalOperation& operation : command) {
        if (operation.has_data() && obeys(Rule::journaled_data_replayed)) {
            hold_data(state, operation);
        }
    }
    return {};
}

Status replay(State& state, Scan& scan)
{
    Effects effects(state);
    // First what is data, so that no node is put there on the way.
    for (const ScannedCommit& scanned : scan.commits) {
        for (const JournalOperation& operation : scanned.commit.operations) {
            const auto& record = operation.record;
            if (operation.type() == layout::OperationType::write &&
                to_be_applied(state, operation)) {
                for (std::uint64_t at = 0; at < record.length; at += layout::kGroupBlocks) {
                    state.space.note_data_block(BlockNo(record.block + at));
                }
                state.space.note_data_block(BlockNo(record.block + record.length - 1));
            }
        }
    }
    // Then the commands in the order in which they took effect. Domains may have been committed in
    // another; but births follow the sequence, and a node that seemed younger than the version that
    // shares it would be changed under that.
    std::vector<std::span<JournalOperation>> commands;
    for (ScannedCommit& scanned : scan.commits) {
        auto& operations = scanned.commit.operations;
        for (std::size_t begin = 0; begin < operations.size();) {
            std::size_t end = begin + 1;
            while (operations[end - 1].continues() && end < operations.size()) {
                ++end;
            }
            if (to_be_applied(state, operations[begin])) {
                commands.emplace_back(operations.data() + begin, end - begin);
            }
            begin = end;
        }
        ++state.replayed_commits;
    }
    if (obeys(Rule::replay_in_order)) {
        std::stable_sort(commands.begin(), commands.end(), [](const auto& a, const auto& b) {
            return a.front().sequence() < b.front().sequence();
        });
    }
    for (const std::span<JournalOperation> command : commands) {
        COPPICE_TRY(apply_command(state, effects, command));
        state.replayed_operations += command.size();
    }
    return {};
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
    COPPICE_TRY(load_catalog(*state));

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
    COPPICE_ASSIGN(scan, scan_journal(disk, start));
    COPPICE_TRY(verify_tail(*state, scan));
    COPPICE_TRY(replay(*state, scan));

    const JournalPosition head = scan.commits.empty() ? start.position : scan.commits.back().end;
    state->ring.set(start.position, head, scan.synced);
    state->recovery_open = true;
    return state;
}

}  // namespace coppice
