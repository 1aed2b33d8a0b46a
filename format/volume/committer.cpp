#include "format/volume/committer.h"

#include <algorithm>

#include "format/base/check.h"
#include "format/base/rules.h"
#include "format/journal/supersede.h"

namespace coppice {

namespace {

// Operations of one commit at most, but for what one command has: with them superseding and
// formatting take less than a millisecond. All that is pending when nobody flushes may be a hundred
// times as many.
// So many fill whole journal blocks: a million of them fit the largest ring.
constexpr std::size_t kOperationsAtOnce = before_others(503, 12);

// Blocks of data that an operation wrote, which recovery has to read when no sync covers it.
std::uint64_t data_blocks(const JournalOperation& operation)
{
    const bool elsewhere =
        operation.type() == layout::OperationType::write && !operation.has_data();
    return elsewhere ? std::uint64_t{operation.record.length} : 0;
}

}  // namespace

Status Committer::make_durable(DomainId domain)
{
    return make_durable(std::vector<DomainId>{domain});
}

Status Committer::make_durable(VolumeId volume)
{
    return make_durable(state_.domains.covered_by_flush(volume));
}

Status Committer::make_durable(const std::vector<DomainId>& domains)
{
    // What a replay showed may come from commits that were never synced: a flush covers it too.
    if (state_.recovery_open && state_.replayed_commits != 0 && !state_.options.read_only) {
        COPPICE_TRY(open_for_writing());
    }
    COPPICE_TRY(state_.sync_what_was_found());
    std::map<DomainId, Sequence> targets;
    for (const DomainId id : domains) {
        const Domain* domain = state_.domains.find(id);
        if (domain != nullptr && domain->durable < domain->last) {
            targets[id] = domain->last;
        }
    }
    // A domain that is gone was a closed stream with nothing left to be written.
    const auto still_wanted = [&] {
        bool any = false;
        for (const auto& [id, target] : targets) {
            Domain* domain = state_.domains.find(id);
            const bool wanted = domain != nullptr && domain->durable < target;
            if (wanted) {
                domain->wanted = true;
            }
            any = any || wanted;
        }
        return any;
    };
    if (!still_wanted()) {
        return {};
    }
    COPPICE_TRY(state_.check_writable());
    LockGuard turn(turn_);
    // Somebody else's round may have had them.
    return still_wanted() ? round() : Status();
}

Status Committer::make_all_durable()
{
    LockGuard turn(turn_);
    bool any = false;
    for (auto& [id, domain] : state_.domains) {
        domain.wanted = domain.durable < domain.last;
        any = any || domain.wanted;
    }
    return any ? round() : Status();
}

Status Committer::write_pending()
{
    // Not in our turn: somebody's flush would wait for the data of all.
    COPPICE_TRY(state_.write_late());
    LockGuard turn(turn_);
    COPPICE_TRY(state_.check_writable());
    return write_domains(false);
}

Status Committer::round()
{
    COPPICE_TRY(state_.check_writable());
    COPPICE_TRY(write_domains(true));
    return sync();
}

Status Committer::write_domains(bool wanted_only)
{
    std::vector<DomainId> chosen;
    for (const auto& [id, domain] : state_.domains) {
        if (domain.wanted || !wanted_only) {
            chosen.push_back(id);
        }
    }
    chosen = state_.domains.with_joined(std::move(chosen));
    if (!obeys(Rule::commit_before_acknowledge)) {
        return {};
    }
    std::map<DomainId, Sequence> newest;
    for (const DomainId id : chosen) {
        newest[id] = state_.domains.at(id).last;
    }
    state_.domains.begin_taking(chosen);
    // In parts, between which others run. One that comes meanwhile and builds on what is not taken
    // yet has a later sequence, and so stands behind it.
    const Sequence up_to = state_.sequence;
    for (bool more = true; more;) {
        auto operations = state_.domains.take_pending(chosen, up_to, kOperationsAtOnce);
        more = operations.size() >= kOperationsAtOnce;
        COPPICE_TRY(write_operations(std::move(operations), wanted_only));
        if (more) {
            state_.tasks.yield();
        }
    }
    for (const auto& [id, sequence] : newest) {
        if (Domain* domain = state_.domains.find(id)) {
            domain->written = std::max(domain->written, sequence);
        }
    }
    return {};
}

// How many of the operations, from `begin` on, fit into one commit; never a part of a command, and
// no more data than the tail may have.
Committer::Cut Committer::next_commit(std::span<const JournalOperation> operations,
                                      std::size_t begin) const
{
    Cut cut{begin, 0};
    std::uint64_t payload = 0;
    std::uint64_t data = 0;
    while (cut.end < operations.size()) {
        std::size_t command_end = cut.end;
        std::uint64_t command_payload = 0;
        std::uint64_t command_data = 0;
        bool continues = true;
        while (continues && command_end < operations.size()) {
            command_payload += operations[command_end].payload.size();
            command_data += data_blocks(operations[command_end]);
            continues = operations[command_end].continues() && obeys(Rule::atomic_commands);
            ++command_end;
        }
        const std::uint64_t blocks = commit_blocks(command_end - begin, payload + command_payload);
        const bool full = blocks > state_.ring.commit_limit();
        const bool much = data + command_data > state_.options.tail_blocks;
        if (cut.end > begin && (full || much || !obeys(Rule::atomic_commands))) {
            break;
        }
        CHECK(!full);  // what takes effect as one fits into one
        payload += command_payload;
        data += command_data;
        cut = {command_end, blocks};
    }
    return cut;
}

// What a later operation of the same commit undoes is not written, and nor are its data. Those that
// a superblock contains are at their place, which may be somebody else's by now.
void Committer::leave_out_superseded(std::vector<JournalOperation>& operations)
{
    const std::vector<JournalOperation> superseded = supersede(operations);
    for (const JournalOperation& operation : superseded) {
        const bool data = operation.type() == layout::OperationType::write &&
                          operation.sequence() > state_.durable_sequence;
        for (std::uint64_t i = 0; data && i < operation.record.length; ++i) {
            state_.late.forget(state_.generation, BlockNo(operation.record.block + i));
        }
    }
    state_.statistics.superseded_operations += superseded.size();
}

// Recovery reads the data of all operations that no sync covers. A sync, although nobody waits for
// one, keeps them few; that it was done stands in the next commit.
Status Committer::bound_tail(std::span<const JournalOperation> commit)
{
    std::uint64_t blocks = 0;
    for (const JournalOperation& operation : commit) {
        blocks += data_blocks(operation);
    }
    if (unsynced_blocks_ != 0 && unsynced_blocks_ + blocks > state_.options.tail_blocks) {
        COPPICE_TRY(sync());
    }
    unsynced_blocks_ += blocks;
    return {};
}

// The data go along in the commit.
void Committer::carry_data(JournalOperation& operation)
{
    auto& record = operation.record;
    const std::size_t checksums = operation.payload.size();
    operation.payload.resize(checksums + record.length * kBlockBytes);
    for (std::uint64_t i = 0; i < record.length; ++i) {
        std::memcpy(operation.payload.data() + checksums + i * kBlockBytes,
                    state_.late.find(BlockNo(record.block + i)), kBlockBytes);
    }
    record.flags = static_cast<std::uint8_t>(record.flags | layout::kOperationHasData);
    state_.statistics.journaled_blocks += record.length;
}

// Late data of the operations: few that somebody waits for go along in the journal, which saves a
// host write and, mostly, a change of the host's own metadata; others go to their places first.
Status Committer::prepare_data(std::vector<JournalOperation>& operations, bool wanted)
{
    std::vector<JournalOperation*> whole;  // operations all of whose data are late
    std::vector<BlockNo> late_blocks;
    bool mixed = false;  // a part of an operation's data is at its place
    std::uint64_t blocks = 0;
    std::uint64_t payload = 0;
    for (JournalOperation& operation : operations) {
        payload += operation.payload.size();
        if (operation.type() != layout::OperationType::write) {
            continue;
        }
        std::uint64_t late = 0;
        for (std::uint64_t i = 0; i < operation.record.length; ++i) {
            const BlockNo block(operation.record.block + i);
            if (state_.late.find(block) != nullptr) {
                late_blocks.push_back(block);
                ++late;
            }
        }
        mixed = mixed || (late != 0 && late != operation.record.length);
        if (late == operation.record.length) {
            whole.push_back(&operation);
            blocks += late;
        }
    }
    const bool few = wanted && !mixed && blocks <= state_.options.journaled_blocks &&
                     commit_blocks(operations.size(), payload + blocks * kBlockBytes) <=
                         state_.ring.commit_limit();
    if (few) {
        for (JournalOperation* operation : whole) {
            carry_data(*operation);
        }
    } else if (obeys(Rule::late_data_before_commit)) {
        // Not what others hold: a sync of one domain does not wait for the data of all.
        COPPICE_TRY(state_.write_late(late_blocks));
    }
    return {};
}

Status Committer::write_commit(std::vector<JournalOperation> operations)
{
    std::uint64_t payload = 0;
    for (const JournalOperation& operation : operations) {
        payload += operation.payload.size();
    }
    COPPICE_TRY(state_.check_writable());
    Status written = state_.ring.write(operations, state_.durable, 0);
    if (!written) {
        return state_.stop_writing(std::move(written.error()));
    }
    ++state_.statistics.commits;
    state_.statistics.commit_operations += operations.size();
    state_.statistics.journal_bytes += commit_blocks(operations.size(), payload) * kBlockBytes;
    return {};
}

Status Committer::write_operations(std::vector<JournalOperation> operations, bool wanted)
{
    if (operations.empty()) {
        return {};
    }
    COPPICE_TRY(close_recovery());
    const bool one = next_commit(operations, 0).end == operations.size();
    if (one) {
        leave_out_superseded(operations);
    }
    COPPICE_TRY(prepare_data(operations, wanted));
    for (std::size_t begin = 0; begin < operations.size();) {
        const Cut cut = next_commit(operations, begin);
        if (cut.blocks >= state_.ring.free_blocks() && obeys(Rule::ring_tail_kept)) {
            // The checkpoint has all of them, as they took effect before it: none is needed in the
            // journal any more.
            COPPICE_TRY(make_room_());
            CHECK(operations[begin].sequence() <= state_.durable_sequence);
            break;
        }
        std::vector<JournalOperation> commit(
            std::make_move_iterator(operations.begin() + static_cast<std::ptrdiff_t>(begin)),
            std::make_move_iterator(operations.begin() + static_cast<std::ptrdiff_t>(cut.end)));
        if (!one) {
            leave_out_superseded(commit);
        }
        COPPICE_TRY(bound_tail(commit));
        COPPICE_TRY(write_commit(std::move(commit)));
        begin = cut.end;
    }
    return {};
}

// Before: the data of every operation that took effect, and the commits written so far.
// After: the acknowledgement of whoever waits, and commits that say so.
Status Committer::sync()
{
    const CommitNo covered = state_.ring.last_written();
    std::map<DomainId, Sequence> written;
    for (const auto& [id, domain] : state_.domains) {
        written[id] = obeys(Rule::commit_before_acknowledge) ? domain.written : domain.last;
    }
    if (obeys(Rule::sync_before_acknowledge)) {
        COPPICE_TRY(state_.sync());
    }
    state_.ring.note_synced(std::max(state_.ring.synced(), covered));
    unsynced_blocks_ = 0;  // only who has the turn writes commits, and that is us
    for (const auto& [id, sequence] : written) {
        if (Domain* domain = state_.domains.find(id)) {
            domain->durable = std::max(domain->durable, sequence);
        }
    }
    return {};
}

Status Committer::open_for_writing()
{
    COPPICE_TRY(state_.check_writable());
    if (!state_.recovery_open) {
        return {};
    }
    LockGuard turn(turn_);
    return close_recovery();
}

Status Committer::close_recovery()
{
    if (!state_.recovery_open || !obeys(Rule::close_recovery)) {
        return {};
    }
    COPPICE_TRY(state_.check_writable());  // it may have failed while we waited for our turn
    // What was replayed is durable before anything says so; then nothing that was not replayed can
    // continue the chain any more. A ring without room for the closing commit has no room for a
    // commit that replay could have dropped either: each leaves one block free behind it, also
    // behind the older tail of a writer that did not know yet that its superblock was durable.
    COPPICE_TRY(state_.sync());
    state_.ring.note_synced(state_.ring.last_written());
    if (state_.ring.free_blocks() > 1) {
        Status written = state_.ring.write({}, state_.durable, layout::kCommitClosesRecovery);
        if (!written) {
            return state_.stop_writing(std::move(written.error()));
        }
        COPPICE_TRY(state_.sync());
    }
    state_.recovery_open = false;
    return {};
}

}  // namespace coppice
