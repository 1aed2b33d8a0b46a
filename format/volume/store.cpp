// The store behind its front door: which part does what is asked for, and what an image begins
// with. What a write, a checkpoint, a replay, management or the background does is in the files
// named after it.
#include "format/volume/store.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <sys/random.h>

#include "format/base/block_bytes.h"
#include "format/base/check.h"
#include "format/base/rules.h"
#include "format/volume/background.h"
#include "format/volume/recovery.h"
#include "format/volume/transactions.h"
#include "format/volume/volumes.h"
#include "format/volume/writer.h"

namespace coppice {

static_assert(kMaxGroup == layout::kMaxConsistencyGroup);

namespace {

// Longest piece of a map that one question for its status looks at: 256 MiB.
constexpr std::uint64_t kStatusBlocks = 65536;

class StoreImpl : public Store {
public:
    explicit StoreImpl(std::unique_ptr<State> state)
        : state_(std::move(state)),
          checkpoint_(*state_, [this] { return committer_.open_for_writing(); }),
          committer_(*state_, [this] { return checkpoint_.run(); }),
          reader_(*state_),
          effects_(*state_),
          writer_(*state_, reader_, effects_, committer_, checkpoint_),
          transactions_(*state_, reader_, writer_),
          background_(*state_, committer_, checkpoint_),
          volumes_(*state_, writer_, background_)
    {
    }

    Status close() override;
    void abandon() override;
    void tick() override;
    void pause() override { background_.pause(); }
    void resume() override { background_.resume(); }
    bool read_only() const override
    {
        return state_->options.read_only || state_->failure.has_value();
    }
    ImageInfo info() override;
    Statistics statistics() const override;

    std::vector<VolumeInfo> volumes() override { return volumes_.volumes(); }
    Result<VolumeInfo> volume(VolumeId id) override { return volumes_.volume(id); }
    Result<VolumeInfo> find(const std::string& name, std::optional<VolumeId> of) override
    {
        return volumes_.find(name, of);
    }
    Result<VolumeId> create_volume(const NewVolume& volume) override
    {
        return volumes_.create_volume(volume);
    }
    Result<VolumeId> snapshot(VolumeId volume, const NewSnapshot& snapshot) override
    {
        return volumes_.snapshot(volume, snapshot);
    }
    Result<VolumeId> clone_volume(VolumeId snapshot, const std::string& name,
                                  bool guest_made) override
    {
        return volumes_.clone_volume(snapshot, name, guest_made);
    }
    Status remove(VolumeId id) override;
    Status rollback(VolumeId volume, VolumeId snapshot) override
    {
        return volumes_.rollback(volume, snapshot);
    }
    Status resize(VolumeId volume, std::uint64_t size_bytes) override
    {
        return volumes_.resize(volume, size_bytes);
    }
    Status rename(VolumeId id, const std::string& name) override
    {
        return volumes_.rename(id, name);
    }
    Status set_flush_mode(VolumeId volume, FlushMode mode) override
    {
        return volumes_.set_flush_mode(volume, mode);
    }
    Status set_group(VolumeId volume, ConsistencyGroup group) override
    {
        return volumes_.set_group(volume, group);
    }
    Result<std::vector<VolumeId>> snapshot_group(ConsistencyGroup group, const std::string& name,
                                                 bool guest_made) override
    {
        return volumes_.snapshot_group(group, name, guest_made);
    }

    Status read(VolumeId volume, std::uint64_t offset_bytes, std::span<const iovec> into) override;
    Status write(VolumeId volume, std::uint64_t offset_bytes, std::span<const iovec> from,
                 bool fua) override;
    Status deallocate(VolumeId volume, std::span<const Range> ranges) override;
    Status write_zeroes(VolumeId volume, Range range) override;
    Status clone(VolumeId destination, std::uint64_t offset_bytes,
                 std::span<const CloneSource> sources) override;
    Status flush(VolumeId volume) override;
    Result<BlockStatus> block_status(VolumeId volume, Range range) override;
    Result<StreamId> open_stream(VolumeId volume) override;
    Status close_stream(VolumeId volume, StreamId stream) override;
    Result<TransactionId> begin(VolumeId volume) override { return transactions_.begin(volume); }
    Status commit(TransactionId transaction, bool durable) override;
    Result<VolumeId> volume_of(TransactionId transaction) override
    {
        return transactions_.volume_of(transaction);
    }
    Status abort(TransactionId transaction) override { return transactions_.abort(transaction); }
    Status checkpoint() override;
    Status settle() override;
    Status trim() override;
    Status perform(const Operation& operation) override;
    void submit(const Operation& operation, Completion completion) override;

private:
    Result<Volume*> known(VolumeId id) { return volumes_.known(id); }
    Status change(DomainId domain, const Operation& operation);
    Status flush_domain(DomainId domain);
    Status flush_as_set(DomainId domain);
    Status finish(Status done, DomainId domain, bool fua);

    std::unique_ptr<State> state_;
    Checkpoint checkpoint_;
    Committer committer_;
    Reader reader_;
    Effects effects_;
    Writer writer_;
    Transactions transactions_;
    Background background_;
    Volumes volumes_;
};

// ---- Life ---------------------------------------------------------------------------------

void StoreImpl::tick()
{
    transactions_.tick();
    background_.tick();
}

void StoreImpl::abandon()
{
    transactions_.abort_all("the image was abandoned");
    pause();
}

Status StoreImpl::close()
{
    transactions_.abort_all("the image was closed");
    pause();
    if (state_->options.read_only) {
        return {};
    }
    COPPICE_TRY(state_->check_writable());
    COPPICE_TRY(committer_.make_all_durable());
    COPPICE_TRY(checkpoint_.run());
    COPPICE_TRY(state_->sync_what_was_found());
    state_->space.return_backed();
    (void)background_.punch_all();  // a host that cannot do it has lost nothing
    return {};
}

Status StoreImpl::trim()
{
    COPPICE_TRY(checkpoint());
    COPPICE_TRY(settle());
    COPPICE_TRY(state_->space.mark_stale());
    bool more = true;
    while (more) {
        COPPICE_ASSIGN(punched, state_->punch_some());
        more = punched;
    }
    return {};
}

// What takes effect stands, also when making it durable fails.
Status StoreImpl::remove(VolumeId id)
{
    Status removed = volumes_.remove(id);
    transactions_.end_removed();
    return removed;
}

// ---- Description --------------------------------------------------------------------------

ImageInfo StoreImpl::info()
{
    const State& state = *state_;
    ImageInfo info;
    info.uuid.bytes = state.header.uuid;
    info.major_version = state.header.major_version;
    info.minor_version = state.header.minor_version;
    info.generation = state.durable;
    info.sequence = state.sequence;
    info.durable_sequence = state.durable_sequence;
    info.journal_bytes = state.ring.blocks() * kBlockBytes;
    info.journal_used_bytes = state.ring.used_blocks() * kBlockBytes;
    info.replayed_operations = state.replayed_operations;
    info.replayed_commits = state.replayed_commits;
    info.removals = state.catalog.removals.size();
    info.recovery = state.recovery;
    info.created_unix_ns = state.header.created_unix_ns;
    const Space::Totals& totals = state.space.tree_totals();
    info.space.image_bytes = totals.image_blocks * kBlockBytes;
    info.space.free_bytes = totals.free_blocks * kBlockBytes;
    info.space.fixed_bytes = state.header.fixed_blocks * kBlockBytes;
    info.space.data_bytes = totals.data_blocks * kBlockBytes;
    info.space.node_bytes = totals.node_blocks * kBlockBytes;
    info.space.pending_free_bytes = state.space.pending_free_blocks() * kBlockBytes;
    return info;
}

Statistics StoreImpl::statistics() const
{
    Statistics result = state_->statistics;
    result.nodes_read = state_->cache.nodes_read();
    result.nodes_written = state_->cache.nodes_written();
    result.late_blocks = state_->late.written_blocks();
    return result;
}

// ---- Streams ------------------------------------------------------------------------------

Result<StreamId> StoreImpl::open_stream(VolumeId volume)
{
    COPPICE_TRY(state_->check_writable());
    COPPICE_TRY(volumes_.known_writable(volume));
    return state_->domains.open_stream(volume);
}

Status StoreImpl::close_stream(VolumeId volume, StreamId stream)
{
    COPPICE_TRY(known(volume));
    return state_->domains.close_stream({volume, stream});
}

// As the volume's flush mode says. Operations of one domain are ordered anyway; an ordered flush of
// the volume is a cut through all its domains, and those of its group: what is pending in them
// stays together.
Status StoreImpl::flush_as_set(DomainId domain)
{
    const Volume* found = state_->catalog.volume(domain.volume);
    const auto ordered = static_cast<std::uint8_t>(FlushMode::ordered);
    const bool whole = domain.stream == StreamId();
    if (found != nullptr && found->record.flush_mode == ordered) {
        if (whole && obeys(Rule::ordered_flush_cuts_all)) {
            state_->domains.join_covered_by_flush(domain.volume);
        }
        background_.flush_later(domain.volume);
        return {};
    }
    return whole ? committer_.make_durable(domain.volume) : committer_.make_durable(domain);
}

// ---- Input and output ---------------------------------------------------------------------

// After a change: durable if that was asked for, and background work if any is due.
Status StoreImpl::finish(Status done, DomainId domain, bool fua)
{
    if (done && fua) {
        done = flush_as_set(domain);
    }
    background_.after_change();
    return done;
}

Status StoreImpl::read(VolumeId volume, std::uint64_t offset_bytes, std::span<const iovec> into)
{
    const std::uint64_t length = total_bytes(into);
    COPPICE_ASSIGN(found, known(volume));
    if (offset_bytes % 512 != 0 || length % 512 != 0) {
        return fail(ErrorCode::invalid_argument, "offset and length must be multiples of 512");
    }
    if (offset_bytes > found->size_bytes() || length > found->size_bytes() - offset_bytes) {
        return fail(ErrorCode::out_of_range,
                    fmt::format("bytes {} to {} are beyond the end of volume {}", offset_bytes,
                                offset_bytes + length, volume.value));
    }
    if (length == 0) {
        return {};
    }
    const std::uint64_t first = offset_bytes / kBlockBytes;
    const std::uint64_t count = divide_up(offset_bytes + length, kBlockBytes) - first;
    Pin pin(*state_);
    BlockBuffer buffer(count);
    COPPICE_TRY(reader_.read_blocks(volume, Lba(first), count, buffer.span()));
    scatter(buffer.span().subspan(offset_bytes % kBlockBytes, length), into);
    ++state_->statistics.reads;
    state_->statistics.read_bytes += length;
    return {};
}

Status StoreImpl::write(VolumeId volume, std::uint64_t offset_bytes, std::span<const iovec> from,
                        bool fua)
{
    return perform({.kind = Operation::Kind::write,
                    .volume = volume,
                    .offset_bytes = offset_bytes,
                    .buffers = from,
                    .fua = fua});
}

Status StoreImpl::deallocate(VolumeId volume, std::span<const Range> ranges)
{
    return perform({.kind = Operation::Kind::deallocate, .volume = volume, .ranges = ranges});
}

Status StoreImpl::write_zeroes(VolumeId volume, Range range)
{
    return perform({.kind = Operation::Kind::write_zeroes,
                    .volume = volume,
                    .offset_bytes = range.offset_bytes,
                    .length_bytes = range.length_bytes});
}

Status StoreImpl::clone(VolumeId destination, std::uint64_t offset_bytes,
                        std::span<const CloneSource> sources)
{
    return perform({.kind = Operation::Kind::clone,
                    .volume = destination,
                    .offset_bytes = offset_bytes,
                    .sources = sources});
}

Status StoreImpl::flush(VolumeId volume)
{
    return perform({.kind = Operation::Kind::flush, .volume = volume});
}

Status StoreImpl::flush_domain(DomainId domain)
{
    COPPICE_TRY(known(domain.volume));
    ++state_->statistics.flushes;
    if (state_->options.read_only) {
        return {};
    }
    COPPICE_TRY(state_->check_writable());
    return flush_as_set(domain);
}

Result<BlockStatus> StoreImpl::block_status(VolumeId volume, Range range)
{
    COPPICE_ASSIGN(found, known(volume));
    const std::uint64_t size = found->size_bytes();
    if (range.offset_bytes >= size) {
        return fail(ErrorCode::out_of_range, "the range is beyond the end of the volume");
    }
    Pin pin(*state_);
    const std::uint64_t end =
        std::min(size, range.offset_bytes + std::min(range.length_bytes, size));
    const Lba lba(range.offset_bytes / kBlockBytes);
    const std::uint64_t count = std::min(divide_up(end, kBlockBytes) - lba.value, kStatusBlocks);
    COPPICE_ASSIGN(run, reader_.run_at(volume, lba, count));
    BlockStatus status;
    status.state = run.state;
    const std::uint64_t skipped = range.offset_bytes % kBlockBytes;
    status.length_bytes =
        std::min((lba.value + run.length) * kBlockBytes, end) - range.offset_bytes;
    if (run.state == BlockState::data && !run.late) {
        status.host_offset = byte_offset(BlockNo(run.block)) + skipped;
    }
    return status;
}

Status StoreImpl::checkpoint()
{
    COPPICE_TRY(state_->check_writable());
    COPPICE_TRY(checkpoint_.run());
    return state_->sync_what_was_found();
}

Status StoreImpl::settle()
{
    COPPICE_TRY(state_->check_writable());
    // Only up to here: somebody who goes on writing must not keep this from ending.
    const Sequence wanted = state_->sequence;
    while (state_->durable_sequence < wanted || checkpoint_.removable()) {
        COPPICE_TRY(checkpoint_.run());
        if (checkpoint_.removal_stuck()) {
            state_->wait_for_released();
        }
    }
    (void)background_.punch_all();  // a host that cannot do it has lost nothing
    return {};
}

Status StoreImpl::commit(TransactionId transaction, bool durable)
{
    COPPICE_TRY(state_->check_writable());
    COPPICE_ASSIGN(volume, transactions_.commit(transaction));
    return finish({}, {volume, StreamId()}, durable);
}

// Carries out a change; what follows it is `finish`.
Status StoreImpl::change(DomainId domain, const Operation& operation)
{
    Statistics& statistics = state_->statistics;
    const Range range{operation.offset_bytes, operation.length_bytes};
    switch (operation.kind) {
    case Operation::Kind::write:
        ++statistics.writes;
        statistics.written_bytes += total_bytes(operation.buffers);
        return writer_.write(domain, operation.offset_bytes, operation.buffers);
    case Operation::Kind::deallocate:
        ++statistics.deallocations;
        return writer_.clear(domain, operation.ranges, layout::OperationType::deallocate);
    case Operation::Kind::write_zeroes:
        return writer_.clear(domain, {&range, 1}, layout::OperationType::write_zeroes);
    case Operation::Kind::clone:
        ++statistics.clones;
        return writer_.clone(domain, operation.offset_bytes, operation.sources);
    case Operation::Kind::write_ranges:
        ++statistics.writes;
        statistics.written_bytes += total_bytes(operation.buffers);
        return transactions_.write_ranges(domain.volume, operation.ranges, operation.buffers);
    case Operation::Kind::read:
    case Operation::Kind::flush:
    case Operation::Kind::commit: break;
    }
    return fail(ErrorCode::invalid_argument, "unknown operation");
}

Status StoreImpl::perform(const Operation& operation)
{
    using Kind = Operation::Kind;
    const bool in_transaction =
        operation.kind == Kind::commit || operation.transaction != TransactionId();
    if ((in_transaction || operation.kind == Kind::write_ranges) &&
        operation.stream != StreamId()) {
        return fail(ErrorCode::invalid_argument,
                    fmt::format("transactions and writes of several ranges belong to the volume's "
                                "own order, not to stream {}",
                                operation.stream.value));
    }
    if (operation.kind == Kind::commit) {
        COPPICE_TRY(state_->check_writable());
        COPPICE_TRY(transactions_.check_volume(operation.transaction, operation.volume));
        return commit(operation.transaction, operation.fua);
    }
    if (in_transaction) {
        return transactions_.perform(operation);
    }
    const DomainId domain{operation.volume, operation.stream};
    COPPICE_TRY(state_->domains.check_open(domain));
    if (operation.kind == Kind::read) {
        return read(operation.volume, operation.offset_bytes, operation.buffers);
    }
    if (operation.kind == Kind::flush) {
        return flush_domain(domain);
    }
    COPPICE_TRY(state_->check_writable());
    return finish(change(domain, operation), domain, operation.fua);
}

void StoreImpl::submit(const Operation& operation, Completion completion)
{
    state_->tasks.spawn(
        [this, operation, completion = std::move(completion)] { completion(perform(operation)); });
}

}  // namespace

std::string_view flush_mode_name(FlushMode mode)
{
    return mode == FlushMode::ordered ? "ordered" : "durable";
}

std::optional<FlushMode> flush_mode_of(std::string_view name)
{
    for (const FlushMode mode : {FlushMode::durable, FlushMode::ordered}) {
        if (name == flush_mode_name(mode)) {
            return mode;
        }
    }
    return std::nullopt;
}

Status Store::create(Disk& disk, const CreateOptions& options)
{
    if (options.volume_bytes == 0) {
        return fail(ErrorCode::invalid_argument, "an image is made with a volume; it needs a size");
    }
    COPPICE_TRY(check_size(options.volume_bytes));
    COPPICE_TRY(check_lba(options.lba_shift, options.volume_bytes));
    if (const std::string problem = check_name(options.volume_name); !problem.empty()) {
        return fail(ErrorCode::invalid_argument, problem);
    }
    const Geometry geometry = geometry_for(options.volume_bytes, options.journal_bytes);
    auto superblock_memory = std::make_unique<layout::Superblock>();  // not on the task's stack
    auto header_memory = std::make_unique<layout::ImageHeader>();
    layout::Superblock& superblock = *superblock_memory;
    superblock.magic = layout::kSuperblockMagic;
    superblock.major_version = layout::kMajorVersion;
    superblock.minor_version = layout::kMinorVersion;
    superblock.uuid = options.uuid.bytes;
    superblock.journal_start = geometry.journal_start;
    superblock.journal_blocks = geometry.journal_blocks;
    superblock.superblock_near = geometry.superblock_near;
    superblock.superblock_far = geometry.superblock_far;
    superblock.fixed_blocks = geometry.fixed_blocks;
    superblock.journal_commit = 1;
    superblock.next_version = 1;
    superblock.next_volume = 1;
    superblock.next_list = 1;
    superblock.next_operation = 1;
    layout::ImageHeader& header = *header_memory;
    header.magic = layout::kMagic;
    header.uuid = superblock.uuid;
    header.major_version = layout::kMajorVersion;
    header.minor_version = layout::kMinorVersion;
    header.block_shift = static_cast<std::uint16_t>(kBlockShift);
    header.journal_start = geometry.journal_start;
    header.journal_blocks = geometry.journal_blocks;
    header.superblock_near = geometry.superblock_near;
    header.superblock_far = geometry.superblock_far;
    header.fixed_blocks = geometry.fixed_blocks;
    header.group_blocks = static_cast<std::uint32_t>(layout::kGroupBlocks);
    header.created_unix_ns = disk.tasks().unix_ns();
    finish_header(header);

    // An old image's blocks must not be taken for the new one's: the fixed region is emptied first.
    // The journal is written once, so that a full host does not stop a commit, and so that a commit
    // changes bytes of the host file and nothing else, which makes its sync cheaper.
    std::vector<IoRequest> requests(2);
    requests[0] = {.kind = IoRequest::Kind::truncate, .offset_bytes = 0};
    requests[1] = {.kind = IoRequest::Kind::truncate,
                   .offset_bytes = divide_up(geometry.fixed_blocks, layout::kGroupBlocks) *
                                   layout::kGroupBlocks * kBlockBytes};
    for (IoRequest& request : requests) {
        COPPICE_TRY(disk.run({&request, 1}));
    }
    COPPICE_TRY(disk.write_zeroes(0, geometry.fixed_blocks * kBlockBytes));

    // The first checkpoint makes the trees; the header comes last and makes it an image.
    OpenOptions open;
    auto state = std::make_unique<State>(disk, open, header, superblock);
    StoreImpl store(std::move(state));
    NewVolume volume;
    volume.name = options.volume_name;
    volume.size_bytes = options.volume_bytes;
    volume.lba_shift = options.lba_shift;
    volume.flush = options.flush;
    COPPICE_TRY(store.create_volume(volume));
    COPPICE_TRY(store.close());
    BlockBytes header_block(kBlockBytes);
    std::memcpy(header_block.data(), static_cast<const void*>(&header), sizeof(header));
    COPPICE_TRY(disk.write(0, header_block));
    return disk.sync();
}

Result<std::unique_ptr<Store>> Store::open(Disk& disk, const OpenOptions& options)
{
    COPPICE_ASSIGN(state, recover(disk, options));
    return std::unique_ptr<Store>(std::make_unique<StoreImpl>(std::move(state)));
}

}  // namespace coppice
