#include "format/volume/transactions.h"

#include <algorithm>
#include <fmt/format.h>

#include "format/base/rules.h"
#include "format/volume/ranges.h"

namespace coppice {

namespace {

// Ended transactions of which it is known why.
constexpr std::size_t kRemembered = 256;

// Where an operation changes its volume.
std::vector<Range> changed_ranges(const Operation& operation)
{
    using Kind = Operation::Kind;
    std::uint64_t length = operation.length_bytes;
    switch (operation.kind) {
    case Kind::write_ranges:
    case Kind::deallocate: return {operation.ranges.begin(), operation.ranges.end()};
    case Kind::write: length = total_bytes(operation.buffers); break;
    case Kind::clone:
        length = 0;
        for (const CloneSource& source : operation.sources) {
            length += source.range.length_bytes;
        }
        break;
    default: break;
    }
    return {{operation.offset_bytes, length}};
}

}  // namespace

Transactions::Open::Open(State& state, Reader& reader, Writer& writer, TransactionId number,
                         VolumeId volume)
    : id(number),
      staging(state, reader, writer, volume),
      marks(writer.marks()),
      watch(marks.add({.volume = volume, .staged = &staging.overlay()})),
      turn(state.tasks),
      last_use_ns(state.tasks.now_ns())
{
}

Transactions::Open::~Open() { marks.remove(watch); }

// One call under way.
class Transactions::Use {
public:
    Use(Tasks& tasks, Open& open) : tasks_(tasks), open_(open) { ++open_.users; }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    ~Use()
    {
        --open_.users;
        open_.last_use_ns = tasks_.now_ns();
    }

private:
    Tasks& tasks_;
    Open& open_;
};

// ---- Beginning and ending -----------------------------------------------------------------

Result<TransactionId> Transactions::begin(VolumeId volume)
{
    COPPICE_TRY(state_.check_writable());
    COPPICE_TRY(writer_.check_range(volume, 0, 0, true));
    if (open_.size() >= kMaxTransactions) {
        return fail(ErrorCode::busy,
                    fmt::format("{} transactions are open, and more cannot be", open_.size()));
    }
    // Numbers that fit a completion's dword come round.
    do {
        last_ = TransactionId(last_.value % 0xFFFFFFFF + 1);
    } while (open_.contains(last_));
    open_[last_] = std::make_shared<Open>(state_, reader_, writer_, last_, volume);
    return last_;
}

tl::unexpected<Error> Transactions::gone(TransactionId id) const
{
    for (const auto& [ended, why] : ended_) {
        if (ended == id) {
            return fail(ErrorCode::not_found,
                        fmt::format("transaction {} is gone: {}", id.value, why));
        }
    }
    return fail(ErrorCode::not_found, fmt::format("there is no transaction {}", id.value));
}

Result<std::shared_ptr<Transactions::Open>> Transactions::find(TransactionId id)
{
    const auto found = open_.find(id);
    if (found == open_.end()) {
        return gone(id);
    }
    if (found->second->committing) {
        return fail(ErrorCode::busy, fmt::format("transaction {} is being committed", id.value));
    }
    return found->second;
}

// A call that is under way keeps it until it returns.
void Transactions::end(Open& open, const std::string& why)
{
    open.ended = true;
    ended_.emplace_back(open.id, why);
    if (ended_.size() > kRemembered) {
        ended_.pop_front();
    }
    open_.erase(open.id);
}

Status Transactions::abort(TransactionId id)
{
    COPPICE_ASSIGN(open, find(id));
    end(*open, "it was aborted");
    return {};
}

Result<VolumeId> Transactions::volume_of(TransactionId id)
{
    const auto found = open_.find(id);
    if (found == open_.end()) {
        return gone(id);
    }
    return found->second->staging.volume();
}

Status Transactions::check_volume(TransactionId id, VolumeId volume)
{
    COPPICE_ASSIGN(own, volume_of(id));
    if (own != volume) {
        return fail(ErrorCode::not_found,
                    fmt::format("transaction {} is one of volume {}", id.value, own.value));
    }
    return {};
}

void Transactions::abort_all(const std::string& why)
{
    const auto all = open_;
    for (const auto& [id, open] : all) {
        if (!open->committing) {
            end(*open, why);
        }
    }
}

void Transactions::end_if_removed(Open& open)
{
    const VolumeId volume = open.staging.volume();
    if (!open.committing && state_.catalog.volume(volume) == nullptr) {
        end(open, fmt::format("volume {} was removed", volume.value));
    }
}

void Transactions::end_removed()
{
    const auto all = open_;
    for (const auto& [id, open] : all) {
        end_if_removed(*open);
    }
}

void Transactions::tick()
{
    const std::uint64_t timeout = state_.options.transaction_timeout_ns;
    const std::uint64_t now = state_.tasks.now_ns();
    const auto all = open_;
    for (const auto& [id, open] : all) {
        if (timeout != 0 && open->users == 0 && now - open->last_use_ns >= timeout) {
            end(*open, fmt::format("it was not used for {} s", timeout / 1'000'000'000));
        }
    }
}

// ---- Staging ------------------------------------------------------------------------------

Status Transactions::perform(const Operation& operation)
{
    COPPICE_TRY(check_volume(operation.transaction, operation.volume));
    COPPICE_ASSIGN(open, find(operation.transaction));
    const Use in_use(state_.tasks, *open);
    LockGuard turn(open->turn);
    if (open->ended) {
        return gone(open->id);
    }
    const bool reads = operation.kind == Operation::Kind::read;
    Status done = reads ? open->staging.read(operation.offset_bytes, operation.buffers)
                        : stage(*open, operation);
    return open->ended ? Status(gone(open->id)) : done;
}

// What takes effect on these blocks while the change is being staged may be in it or not: it counts
// as coming behind it.
Status Transactions::stage(Open& open, const Operation& operation)
{
    COPPICE_TRY(state_.check_writable());
    Overlay claimed;
    std::uint64_t bytes = 0;
    COPPICE_TRY(claim(open.staging.volume(), operation, claimed, bytes));
    if (bytes > kMaxTransactionBytes) {
        return fail(ErrorCode::too_large,
                    fmt::format("a transaction stages at most {} bytes", kMaxTransactionBytes));
    }
    COPPICE_TRY(check_room(bytes));
    open.claimed_bytes = bytes;
    open.watch->claimed = &claimed;
    open.watch->claim_hit = false;
    Status done = writer_.attempt([&] { return apply(open.staging, operation); });
    open.watch->claimed = nullptr;
    open.watch->hit = open.watch->hit || (done && open.watch->claim_hit);
    open.watch->claim_hit = false;
    open.claimed_bytes = 0;
    return done;
}

Status Transactions::claim(VolumeId volume, const Operation& operation, Overlay& claimed,
                           std::uint64_t& bytes) const
{
    const bool data = operation.kind != Operation::Kind::deallocate &&
                      operation.kind != Operation::Kind::write_zeroes;
    std::vector<Extent> none;
    for (const Range& range : changed_ranges(operation)) {
        COPPICE_TRY(writer_.check_range(volume, range.offset_bytes, range.length_bytes, true));
        if (range.length_bytes == 0) {
            continue;
        }
        const std::uint64_t begin = round_down(range.offset_bytes);
        Overlay::Item item;
        item.length = (round_up(range.offset_bytes + range.length_bytes) - begin) / kBlockBytes;
        bytes += (data ? item.length : std::min<std::uint64_t>(item.length, 2)) * kBlockBytes;
        claimed.put(lba_of(begin), std::move(item), none);
    }
    return {};
}

Status Transactions::check_room(std::uint64_t more) const
{
    std::uint64_t staged = more;
    for (const auto& [id, open] : open_) {
        staged += open->staging.bytes() + open->claimed_bytes;
    }
    if (staged > kMaxStagedBytes) {
        return fail(ErrorCode::busy,
                    fmt::format("all transactions together stage at most {} bytes; commit or abort "
                                "some",
                                kMaxStagedBytes));
    }
    return {};
}

Status Transactions::apply(Staging& staging, const Operation& operation)
{
    using Kind = Operation::Kind;
    const Range range{operation.offset_bytes, operation.length_bytes};
    switch (operation.kind) {
    case Kind::write: {
        const Range written{operation.offset_bytes, total_bytes(operation.buffers)};
        return staging.write({&written, 1}, operation.buffers);
    }
    case Kind::write_ranges: return staging.write(operation.ranges, operation.buffers);
    case Kind::deallocate:
        return staging.clear(operation.ranges, layout::OperationType::deallocate);
    case Kind::write_zeroes: return staging.clear({&range, 1}, layout::OperationType::write_zeroes);
    case Kind::clone: return staging.clone(operation.offset_bytes, operation.sources);
    default: break;
    }
    return fail(ErrorCode::invalid_argument, "this cannot be part of a transaction");
}

// ---- Committing ---------------------------------------------------------------------------

Status Transactions::check_conflict(const Open& open)
{
    if (!open.watch->hit || !obeys(Rule::first_committer_wins)) {
        return {};
    }
    return fail(ErrorCode::conflict,
                fmt::format("others changed volume {} at block {} after transaction {} had staged "
                            "a change of it",
                            open.watch->volume.value, open.watch->where.value, open.id.value));
}

Result<VolumeId> Transactions::commit(TransactionId id)
{
    COPPICE_ASSIGN(open, find(id));
    const Use in_use(state_.tasks, *open);
    open->committing = true;
    LockGuard turn(open->turn);
    const VolumeId volume = open->staging.volume();
    const Status done = writer_.attempt([&]() -> Status {
        const auto& items = open->staging.overlay().items();
        if (items.empty()) {
            return {};
        }
        // Whoever writes parts of blocks has not read them before, or writes them before.
        const auto& [last, item] = *items.rbegin();
        RangeLock lock(state_, volume, items.begin()->first.value * kBlockBytes,
                       (last + item.length).value * kBlockBytes, false);
        return open->staging.take_effect(0, [&] { return check_conflict(*open); });
    });
    if (done) {
        ++state_.statistics.transactions;
        end(*open, "it was committed");
        return volume;
    }
    if (done.error().code == ErrorCode::conflict) {
        ++state_.statistics.transaction_conflicts;
        end(*open, "it met a conflict");
    }
    open->committing = false;
    if (!open->ended) {
        end_if_removed(*open);
    }
    return tl::unexpected<Error>(done.error());
}

Status Transactions::write_ranges(VolumeId volume, std::span<const Range> ranges,
                                  std::span<const iovec> from)
{
    std::uint64_t begin = ~std::uint64_t{0};
    std::uint64_t end = 0;
    bool partial = false;
    for (const Range& range : ranges) {
        COPPICE_TRY(writer_.check_range(volume, range.offset_bytes, range.length_bytes, true));
        begin = std::min(begin, range.offset_bytes);
        end = std::max(end, range.offset_bytes + range.length_bytes);
        partial = partial || range.offset_bytes % kBlockBytes != 0 ||
                  range.length_bytes % kBlockBytes != 0;
    }
    return writer_.attempt([&]() -> Status {
        // One lock over all of them: two that lock several ranges cannot wait for each other.
        RangeLock lock(state_, volume, std::min(begin, end), end, partial);
        Staging staging(state_, reader_, writer_, volume);
        COPPICE_TRY(staging.write(ranges, from));
        return staging.take_effect(end, nullptr);
    });
}

}  // namespace coppice
