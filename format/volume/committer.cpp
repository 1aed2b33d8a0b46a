#include "format/volume/committer.h"

#include <algorithm>

#include "format/base/check.h"
#include "format/base/rules.h"

namespace coppice {

namespace {

// Blocks of data that an operation wrote, which recovery has to read when no sync covers it.
std::uint64_t data_blocks(const JournalOperation& operation)
{
    const bool write = operation.type() == layout::OperationType::write;
    return write ? std::uint64_t{operation.record.length} : 0;
}

}  // namespace

Status Committer::make_durable(VolumeId volume)
{
    // What a replay showed may come from commits that were never synced: a flush covers it too.
    if (state_.recovery_open && state_.replayed_commits != 0 && !state_.options.read_only) {
        COPPICE_TRY(open_for_writing());
    }
    auto found = state_.domains.find(volume);
    if (found == state_.domains.end()) {
        return {};
    }
    const Sequence target = found->second.last;
    if (found->second.durable >= target) {
        return {};
    }
    COPPICE_TRY(state_.check_writable());
    found->second.wanted = true;
    LockGuard turn(turn_);
    if (state_.domains[volume].durable >= target) {
        return {};  // somebody else's round had it
    }
    state_.domains[volume].wanted = true;
    return round();
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

// The operations of the chosen domains, in the order in which they took effect.
std::vector<JournalOperation> Committer::take_pending(const std::vector<VolumeId>& chosen)
{
    std::vector<JournalOperation> operations;
    for (VolumeId id : chosen) {
        Domain& domain = state_.domains[id];
        domain.joined = 0;
        domain.wanted = false;
        std::move(domain.pending.begin(), domain.pending.end(), std::back_inserter(operations));
        domain.pending.clear();
    }
    std::sort(operations.begin(), operations.end(), [](const auto& a, const auto& b) {
        return obeys(Rule::order_in_domain) ? a.sequence() < b.sequence()
                                            : a.sequence() > b.sequence();
    });
    return operations;
}

Status Committer::write_domains(bool wanted_only)
{
    std::vector<VolumeId> chosen;
    std::set<std::uint64_t> joined;
    for (const auto& [id, domain] : state_.domains) {
        if (domain.wanted || !wanted_only) {
            chosen.push_back(id);
            joined.insert(domain.joined);
        }
    }
    joined.erase(0);
    for (const auto& [id, domain] : state_.domains) {
        const bool taken = std::find(chosen.begin(), chosen.end(), id) != chosen.end();
        if (!taken && joined.count(domain.joined) != 0) {
            chosen.push_back(id);
        }
    }
    if (!obeys(Rule::commit_before_acknowledge)) {
        return {};
    }
    return write_operations(take_pending(chosen));
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
        CHECK(!full);
        payload += command_payload;
        data += command_data;
        cut = {command_end, blocks};
    }
    return cut;
}

void Committer::note_written(std::span<const JournalOperation> operations)
{
    for (const JournalOperation& operation : operations) {
        Domain& domain = state_.domains[operation.volume()];
        domain.written = std::max(domain.written, operation.sequence());
    }
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

Status Committer::write_operations(std::vector<JournalOperation> operations)
{
    COPPICE_TRY(operations.empty() ? Status() : close_recovery());
    for (std::size_t begin = 0; begin < operations.size();) {
        const Cut cut = next_commit(operations, begin);
        if (cut.blocks >= state_.ring.free_blocks() && obeys(Rule::ring_tail_kept)) {
            // The checkpoint has all of them, as they took effect before it: none is needed in the
            // journal any more.
            COPPICE_TRY(make_room_());
            CHECK(operations[begin].sequence() <= state_.durable_sequence);
            note_written(std::span(operations).subspan(begin));
            return {};
        }
        const auto commit =
            std::span<const JournalOperation>(operations).subspan(begin, cut.end - begin);
        COPPICE_TRY(bound_tail(commit));
        COPPICE_TRY(state_.check_writable());
        Status written = state_.ring.write(commit, state_.durable, 0);
        if (!written) {
            return state_.stop_writing(std::move(written.error()));
        }
        ++state_.statistics.commits;
        state_.statistics.commit_operations += commit.size();
        state_.statistics.journal_bytes += cut.blocks * kBlockBytes;
        note_written(commit);
        begin = cut.end;
    }
    return {};
}

// Before: the data of every operation that took effect, and the commits written so far.
// After: the acknowledgement of whoever waits, and commits that say so.
Status Committer::sync()
{
    const CommitNo covered = state_.ring.last_written();
    std::map<VolumeId, Sequence> written;
    for (const auto& [id, domain] : state_.domains) {
        written[id] = obeys(Rule::commit_before_acknowledge) ? domain.written : domain.last;
    }
    if (obeys(Rule::sync_before_acknowledge)) {
        COPPICE_TRY(state_.sync());
    }
    state_.ring.note_synced(std::max(state_.ring.synced(), covered));
    unsynced_blocks_ = 0;  // only who has the turn writes commits, and that is us
    for (const auto& [id, sequence] : written) {
        Domain& domain = state_.domains[id];
        domain.durable = std::max(domain.durable, sequence);
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
    // commit that replay could have dropped either: each leaves one block free behind it.
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
