#include "format/volume/writer.h"

#include <algorithm>
#include <fmt/format.h>
#include <optional>

#include "format/base/check.h"
#include "format/base/checksum.h"
#include "format/base/rules.h"
#include "format/volume/ranges.h"

namespace coppice {

namespace {

// Dirty nodes in memory at which a writer waits for a checkpoint: 128 MiB of them.
constexpr std::uint64_t kMostDirtyNodes = 32768;

// Sources that continue each other become one.
std::vector<CloneSource> merged(std::span<const CloneSource> sources)
{
    std::vector<CloneSource> result;
    for (const CloneSource& source : sources) {
        if (source.range.length_bytes == 0) {
            continue;
        }
        if (!result.empty() && result.back().volume == source.volume &&
            result.back().range.offset_bytes + result.back().range.length_bytes ==
                source.range.offset_bytes) {
            result.back().range.length_bytes += source.range.length_bytes;
        } else {
            result.push_back(source);
        }
    }
    return result;
}

// Does the command only take away?
bool frees_space(std::span<const JournalOperation> command)
{
    return std::all_of(command.begin(), command.end(), [](const JournalOperation& operation) {
        return operation.type() == layout::OperationType::deallocate ||
               operation.type() == layout::OperationType::write_zeroes ||
               operation.type() == layout::OperationType::remove_volume;
    });
}

bool aligned(std::uint64_t offset_bytes, std::span<const CloneSource> sources)
{
    bool result = offset_bytes % kBlockBytes == 0;
    for (const CloneSource& source : sources) {
        result = result && source.range.offset_bytes % kBlockBytes == 0 &&
                 source.range.length_bytes % kBlockBytes == 0;
    }
    return result;
}

}  // namespace

Writer::Staged::~Staged()
{
    for (const Extent& extent : extents_) {
        state_.space.return_data(extent, false);
    }
    for (const Late& late : late_) {
        state_.space.return_data(late.extent, true);
    }
}

Result<std::vector<Extent>> Writer::Staged::take(std::uint64_t blocks)
{
    auto taken = state_.space.take_data(blocks);
    if (taken) {
        extents_.insert(extents_.end(), taken->begin(), taken->end());
    }
    return taken;
}

Result<std::vector<Extent>> Writer::Staged::take_late(const std::shared_ptr<BlockBuffer>& buffer)
{
    auto taken = state_.space.take_backed(buffer->blocks());
    std::uint64_t first = 0;
    for (std::size_t i = 0; taken && i < taken->size(); ++i) {
        late_.push_back({(*taken)[i], buffer, first});
        first += (*taken)[i].length;
    }
    return taken;
}

void Writer::Staged::keep()
{
    extents_.clear();
    for (const Late& late : late_) {
        state_.late.hold(state_.generation, late.extent, late.buffer, late.first);
    }
    late_.clear();
}

// Runs `body`; when there is no space and a checkpoint may find some, once more after it, and again
// as long as the next one gives back more of a version that is being removed. The body holds no pin
// and no lock between the two.
template <typename Body>
Status Writer::with_space(Body body)
{
    COPPICE_TRY(committer_.open_for_writing());
    checkpoint_.make_way();
    if (state_.cache.dirty_count() > kMostDirtyNodes) {
        COPPICE_TRY(checkpoint_.run());
    }
    COPPICE_TRY(state_.make_room_for_late());
    Status done = body();
    for (bool more = true; more; done = body()) {
        if (done || done.error().code != ErrorCode::no_space || state_.failure) {
            return done;
        }
        COPPICE_TRY(checkpoint_.run());
        state_.wait_for_released();
        state_.space.return_backed();
        more = checkpoint_.removable();
    }
    return done;
}

Status Writer::attempt(const std::function<Status()>& body) { return with_space(body); }

Status Writer::check_range(VolumeId volume, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                           bool for_writing) const
{
    const Volume* found = state_.catalog.volume(volume);
    if (found == nullptr) {
        return fail(ErrorCode::not_found, fmt::format("there is no volume {}", volume.value));
    }
    if (for_writing && found->read_only()) {
        return fail(ErrorCode::read_only,
                    fmt::format("volume {} is {}", volume.value,
                                found->snapshot() ? "a snapshot" : "read-only"));
    }
    if (offset_bytes % 512 != 0 || length_bytes % 512 != 0) {
        return fail(ErrorCode::invalid_argument, "offset and length must be multiples of 512");
    }
    if (offset_bytes > found->size_bytes() || length_bytes > found->size_bytes() - offset_bytes) {
        return fail(ErrorCode::out_of_range,
                    fmt::format("bytes {} to {} are beyond the end of volume {}", offset_bytes,
                                offset_bytes + length_bytes, volume.value));
    }
    return {};
}

// Writes whole blocks, not more at once than what others may stand behind. (task)
Status Writer::write_now(std::span<const Extent> extents, BlockBuffer& buffer, std::uint64_t most)
{
    const std::uint64_t piece_blocks = most / kBlockBytes;
    std::vector<iovec> buffers;
    std::vector<IoRequest> requests;
    std::uint64_t done = 0;
    for (const Extent& extent : extents) {
        for (std::uint64_t at = 0; at < extent.length; at += piece_blocks) {
            const std::uint64_t bytes = std::min(piece_blocks, extent.length - at) * kBlockBytes;
            buffers.push_back({buffer.block(done + at).data(), bytes});
            requests.push_back({.kind = IoRequest::Kind::write,
                                .offset_bytes = byte_offset(extent.block + at),
                                .length_bytes = bytes});
        }
        done += extent.length;
    }
    for (std::size_t begin = 0; begin < requests.size();) {
        std::size_t end = begin;
        std::uint64_t bytes = 0;
        while (end < requests.size() &&
               (end == begin || bytes + requests[end].length_bytes <= most)) {
            requests[end].buffers = {&buffers[end], 1};
            bytes += requests[end].length_bytes;
            ++end;
        }
        COPPICE_TRY(state_.disk.run(std::span(requests).subspan(begin, end - begin)));
        begin = end;
    }
    return {};
}

Status Writer::stage(DomainId domain, Lba lba, const std::shared_ptr<BlockBuffer>& buffer,
                     bool late, Staged& staged, Command& command)
{
    const std::uint64_t count = buffer->blocks();
    const std::uint64_t most = state_.domains.several() ? kBulkBytesShared : kBulkBytesAlone;
    std::optional<BulkGate::Turn> turn;
    if (!late) {
        turn.emplace(state_.bulk, domain, count * kBlockBytes, most);
    }
    while (state_.punching && state_.space.data_at_hand() < count) {
        state_.punch_waiters.wait();  // rather than grow the file
    }
    auto found = late ? staged.take_late(buffer) : staged.take(count);
    if (late && !found && found.error().code == ErrorCode::not_supported) {
        late = false;  // then its room is found by writing
        found = staged.take(count);
    }
    if (!found) {
        return pass_on(found);
    }
    const std::vector<Extent>& extents = *found;
    std::uint64_t done = 0;
    for (const Extent& extent : extents) {
        JournalOperation operation =
            make_operation(layout::OperationType::write, domain, lba + done, extent.length);
        operation.record.block = extent.block.value;
        operation.payload.resize((extent.length - 1) * 4);
        for (std::uint64_t block = 0; block < extent.length; ++block) {
            const Le32 checksum = data_checksum(buffer->block(done + block));
            if (block == 0) {
                operation.record.checksum = checksum;
            } else {
                std::memcpy(operation.payload.data() + (block - 1) * 4,
                            static_cast<const void*>(&checksum), 4);
            }
        }
        command.push_back(std::move(operation));
        done += extent.length;
    }
    if (late) {
        return {};
    }
    if (!obeys(Rule::data_before_effect)) {
        Command early = command;
        COPPICE_TRY(take_effect(domain, early, 0));
        staged.keep();
        command.clear();
    }
    return write_now(extents, *buffer, most);
}

// What the command reads may have changed while it waited.
Status Writer::check_sources(const Command& command) const
{
    for (const JournalOperation& operation : command) {
        const bool reference = operation.type() == layout::OperationType::clone_reference;
        if (!reference && operation.type() != layout::OperationType::clone) {
            continue;
        }
        const VolumeId source(operation.record.source_volume);
        COPPICE_TRY(check_range(source, operation.record.source_lba * kBlockBytes,
                                operation.record.length * kBlockBytes, false));
        if (reference && !may_be_referred_to(source)) {
            return fail(ErrorCode::busy, "another clone made the source's references too deep");
        }
    }
    return {};
}

// Whoever has a change of the same blocks prepared comes too late.
void Writer::mark(const Command& command)
{
    for (const JournalOperation& operation : command) {
        const auto& record = operation.record;
        marks_.note(operation.volume(), Lba(record.lba), Lba(record.lba + record.length));
    }
}

// ... as does who has one where a volume was rolled back, removed or cut off.
void Writer::mark_managed(const JournalOperation& operation, std::uint64_t old_size)
{
    const VolumeId volume = operation.volume();
    const Volume* found = state_.catalog.volume(volume);
    if (operation.type() == layout::OperationType::rollback || found == nullptr) {
        marks_.note(volume, Lba(0), Lba(~std::uint64_t{0}));
    } else if (found->size_bytes() < old_size) {
        marks_.note(volume, lba_of(found->size_bytes()), Lba(~std::uint64_t{0}));
    }
}

// A command stands in one commit.
Status Writer::check_fits(const Command& command) const
{
    std::uint64_t payload = 0;
    for (const JournalOperation& operation : command) {
        payload += operation.payload.size();
    }
    if (commit_blocks(command.size(), payload) > state_.ring.commit_limit()) {
        return fail(ErrorCode::too_large,
                    fmt::format("the command falls into {} pieces, more than the image's journal "
                                "takes as one; use smaller commands",
                                command.size()));
    }
    return {};
}

void Writer::number(Command& command) const
{
    for (std::size_t i = 0; i < command.size(); ++i) {
        command[i].record.sequence = state_.sequence.value + 1 + i;
        command[i].record.flags = static_cast<std::uint8_t>(
            (i + 1 < command.size() ? layout::kOperationContinues : 0) |
            (is_intent(command[i].type()) ? layout::kOperationIntent : 0));
    }
}

Status Writer::take_effect(DomainId domain, Command& command, std::uint64_t end_bytes,
                           const Condition& condition)
{
    const VolumeId volume = domain.volume;
    if (command.empty()) {
        return {};
    }
    COPPICE_TRY(check_fits(command));
    CacheUse use(state_.cache);
    bool ready = false;
    while (!ready) {
        COPPICE_TRY(condition ? condition() : Status());
        COPPICE_TRY(check_range(volume, 0, end_bytes, true));
        COPPICE_TRY(check_sources(command));
        COPPICE_ASSIGN(prepared,
                       effects_.prepare(command, state_.node_reserve(frees_space(command))));
        ready = prepared;
    }
    // Nothing suspends from here on.
    COPPICE_TRY(condition ? condition() : Status());
    COPPICE_TRY(state_.check_writable());
    COPPICE_TRY(check_range(volume, 0, end_bytes, true));
    COPPICE_TRY(check_sources(command));
    number(command);
    const Status applied = effects_.apply(command);
    CHECK(applied.has_value());
    mark(command);
    take_along(domain, command);
    state_.domains.enqueue(command);
    return {};
}

// What a clone copies goes into the journal with it. One that makes a version goes with everything,
// as management does.
void Writer::take_along(DomainId domain, const Command& command)
{
    for (const JournalOperation& operation : command) {
        const auto& record = operation.record;
        if (operation.type() == layout::OperationType::clone) {
            state_.domains.join_over(domain, VolumeId(record.source_volume), Lba(record.source_lba),
                                     Lba(record.source_lba + record.length));
        } else if (operation.type() == layout::OperationType::clone_reference) {
            state_.domains.join_all(domain);
        }
    }
}

// A block of which only a part is written holds what others have pending for the rest.
void Writer::take_along_partial(DomainId domain, Lba block)
{
    if (obeys(Rule::partial_blocks_take_along)) {
        state_.domains.join_over(domain, domain.volume, block, block + 1);
    }
}

// ---- Write --------------------------------------------------------------------------------

Status Writer::write(DomainId domain, std::uint64_t offset_bytes, std::span<const iovec> from)
{
    return with_space([&] { return write_once(domain, offset_bytes, from); });
}

Status Writer::write_once(DomainId domain, std::uint64_t offset_bytes, std::span<const iovec> from)
{
    const VolumeId volume = domain.volume;
    const std::uint64_t length = total_bytes(from);
    COPPICE_TRY(check_range(volume, offset_bytes, length, true));
    if (length == 0) {
        return {};
    }
    if (length > kMaxWriteBytes) {
        return fail(ErrorCode::too_large,
                    fmt::format("one write has at most {} bytes", kMaxWriteBytes));
    }
    const std::uint64_t end = offset_bytes + length;
    const std::uint64_t begin_block = round_down(offset_bytes);
    const std::uint64_t end_block = round_up(end);
    const bool head = offset_bytes != begin_block;
    const bool tail = end != end_block;
    RangeLock lock(state_, volume, offset_bytes, end, head || tail);
    Pin pin(state_);
    const std::uint64_t count = (end_block - begin_block) / kBlockBytes;
    auto buffer = std::make_shared<BlockBuffer>(count);
    if (head || (tail && count == 1)) {
        COPPICE_TRY(reader_.read_blocks(volume, lba_of(begin_block), 1, buffer->block(0)));
    }
    if (tail && count > 1) {
        COPPICE_TRY(
            reader_.read_blocks(volume, lba_of(end_block - 1), 1, buffer->block(count - 1)));
    }
    gather(from, buffer->span().subspan(offset_bytes - begin_block, length));
    Staged staged(state_);
    Command command;
    COPPICE_TRY(stage(domain, lba_of(begin_block), buffer, may_be_late(count), staged, command));
    COPPICE_TRY(take_effect(domain, command, end));
    staged.keep();
    if (head) {
        take_along_partial(domain, lba_of(begin_block));
    }
    if (tail) {
        take_along_partial(domain, lba_of(end_block - 1));
    }
    return {};
}

// ---- Deallocate, write zeroes -------------------------------------------------------------

Status Writer::clear(DomainId domain, std::span<const Range> ranges, layout::OperationType type)
{
    return with_space([&] { return clear_once(domain, ranges, type); });
}

// Sorted, and those that touch or overlap joined, so that no block is dealt with twice.
std::vector<Range> Writer::disjoint(std::span<const Range> ranges)
{
    std::vector<Range> sorted(ranges.begin(), ranges.end());
    std::sort(sorted.begin(), sorted.end(),
              [](const Range& a, const Range& b) { return a.offset_bytes < b.offset_bytes; });
    std::vector<Range> result;
    for (const Range& range : sorted) {
        if (range.length_bytes == 0) {
            continue;
        }
        const std::uint64_t end = range.offset_bytes + range.length_bytes;
        if (!result.empty() &&
            result.back().offset_bytes + result.back().length_bytes >= range.offset_bytes) {
            Range& last = result.back();
            last.length_bytes =
                std::max(last.offset_bytes + last.length_bytes, end) - last.offset_bytes;
        } else {
            result.push_back(range);
        }
    }
    return result;
}

// Zeroes 512-byte parts of one block (bit i of `parts`: part i), if it is mapped at all.
Status Writer::clear_parts(DomainId domain, Lba lba, unsigned parts, Staged& staged,
                           Command& command)
{
    const VolumeId volume = domain.volume;
    COPPICE_ASSIGN(run, reader_.run_at(volume, lba, 1));
    if (run.state != BlockState::data) {
        // It reads as zeroes; but that may be another domain's doing, which then goes along.
        if (state_.domains.others_pending(domain)) {
            command.push_back(make_operation(layout::OperationType::deallocate, domain, lba, 1));
        }
        return {};
    }
    auto buffer = std::make_shared<BlockBuffer>(1);
    COPPICE_TRY(reader_.read_blocks(volume, lba, 1, buffer->span()));
    for (unsigned part = 0; part < kBlockBytes / 512; ++part) {
        if ((parts >> part & 1U) != 0) {
            const auto bytes = buffer->span().subspan(part * 512, 512);
            std::fill(bytes.begin(), bytes.end(), std::byte{0});
        }
    }
    return stage(domain, lba, buffer, may_be_late(1), staged, command);
}

Status Writer::clear_once(DomainId domain, std::span<const Range> ranges,
                          layout::OperationType type)
{
    const VolumeId volume = domain.volume;
    for (const Range& range : ranges) {
        COPPICE_TRY(check_range(volume, range.offset_bytes, range.length_bytes, true));
    }
    const std::vector<Range> all = disjoint(ranges);
    if (all.empty()) {
        return {};
    }
    const std::uint64_t size = state_.catalog.volume(volume)->size_bytes();
    Command command;
    std::map<Lba, unsigned> parts;  // blocks that are cleared in part, and which parts
    for (const Range& range : all) {
        const std::uint64_t end = range.offset_bytes + range.length_bytes;
        // What lies behind the end of the volume in its last block is zero anyway.
        const std::uint64_t last = end == size ? round_up(end) : round_down(end);
        for (std::uint64_t at = round_up(range.offset_bytes); at < last;) {
            const std::uint64_t blocks = std::min((last - at) / kBlockBytes, kLongestRecord);
            command.push_back(make_operation(type, domain, lba_of(at), blocks));
            at += blocks * kBlockBytes;
        }
        const std::uint64_t head_end = std::min(round_up(range.offset_bytes), end);
        for (std::uint64_t at = range.offset_bytes; at < head_end; at += 512) {
            parts[lba_of(at)] |= 1U << (at % kBlockBytes / 512);
        }
        for (std::uint64_t at = std::max(head_end, last); at < end; at += 512) {
            parts[lba_of(at)] |= 1U << (at % kBlockBytes / 512);
        }
    }
    const std::uint64_t furthest = all.back().offset_bytes + all.back().length_bytes;
    // One lock over all of them: two commands that lock several ranges cannot wait for each other.
    RangeLock lock(state_, volume, all.front().offset_bytes, furthest, !parts.empty());
    Pin pin(state_);
    Staged staged(state_);
    for (const auto& [lba, mask] : parts) {
        COPPICE_TRY(clear_parts(domain, lba, mask, staged, command));
    }
    COPPICE_TRY(take_effect(domain, command, furthest));
    staged.keep();
    for (const auto& [lba, mask] : parts) {
        take_along_partial(domain, lba);
    }
    return {};
}

Status Writer::clear_behind_end(VolumeId volume)
{
    return with_space([&] { return clear_tail_once(volume); });
}

Status Writer::clear_tail_once(VolumeId volume)
{
    COPPICE_TRY(check_range(volume, 0, 0, true));
    const std::uint64_t size = state_.catalog.volume(volume)->size_bytes();
    if (size % kBlockBytes == 0) {
        return {};
    }
    RangeLock lock(state_, volume, round_down(size), size, true);
    Pin pin(state_);
    Staged staged(state_);
    Command command;
    const unsigned inside = static_cast<unsigned>(size % kBlockBytes / 512);
    const DomainId domain{volume, StreamId()};
    COPPICE_TRY(clear_parts(domain, lba_of(size), 0xFFU << inside & 0xFFU, staged, command));
    COPPICE_TRY(take_effect(domain, command, 0));
    staged.keep();
    take_along_partial(domain, lba_of(size));
    return {};
}

// ---- Clone --------------------------------------------------------------------------------

Status Writer::clone(DomainId destination, std::uint64_t offset_bytes,
                     std::span<const CloneSource> sources)
{
    const std::vector<CloneSource> all = merged(sources);
    std::uint64_t total = 0;
    for (const CloneSource& source : all) {
        COPPICE_TRY(check_range(source.volume, source.range.offset_bytes, source.range.length_bytes,
                                false));
        total += source.range.length_bytes;
    }
    COPPICE_TRY(check_range(destination.volume, offset_bytes, total, true));
    if (total == 0) {
        return {};
    }
    if (aligned(offset_bytes, all)) {
        Status done = fail(ErrorCode::busy, "");
        while (!done && done.error().code == ErrorCode::busy) {
            done = with_space([&] { return share_once(destination, offset_bytes, all); });
        }
        return done;
    }
    if (total > kMaxWriteBytes) {
        return fail(ErrorCode::too_large,
                    fmt::format("a clone of ranges that are not multiples of 4096 has at most {} "
                                "bytes",
                                kMaxWriteBytes));
    }
    return with_space([&] { return copy_bytes(destination, offset_bytes, all); });
}

bool Writer::may_be_referred_to(VolumeId source) const
{
    const Volume* volume = state_.catalog.volume(source);
    return volume != nullptr &&
           state_.catalog.versions.at(volume->version).reference_depth < kMaxReferenceDepth;
}

// Many items are not copied one by one if a range reference can stand for them.
Result<bool> Writer::worth_a_reference(std::span<const CloneSource> sources)
{
    for (const CloneSource& source : sources) {
        if (!may_be_referred_to(source.volume)) {
            return false;
        }
    }
    const std::size_t few = state_.options.inline_clone_items;
    for (;;) {
        CacheUse use(state_.cache);
        std::vector<MapRun> runs;
        std::optional<Missing> missing;
        for (const CloneSource& source : sources) {
            COPPICE_TRY(check_range(source.volume, source.range.offset_bytes,
                                    source.range.length_bytes, false));
            const Volume* volume = state_.catalog.volume(source.volume);
            const NodeRef& map = state_.catalog.versions.at(volume->version).map;
            missing =
                state_.map.collect(map, lba_of(source.range.offset_bytes),
                                   source.range.length_bytes / kBlockBytes, runs, nullptr, few + 1);
            if (missing || runs.size() > few) {
                break;
            }
        }
        if (runs.size() > few || !missing) {
            return runs.size() > few;
        }
        COPPICE_TRY(state_.map.load(*missing));
    }
}

Status Writer::share_once(DomainId destination, std::uint64_t offset_bytes,
                          std::span<const CloneSource> sources)
{
    std::uint64_t total = 0;
    for (const CloneSource& source : sources) {
        total += source.range.length_bytes;
    }
    RangeLock lock(state_, destination.volume, offset_bytes, offset_bytes + total, false);
    Pin pin(state_);
    COPPICE_ASSIGN(by_reference, worth_a_reference(sources));
    Command command;
    std::uint64_t to = offset_bytes;
    for (const CloneSource& source : sources) {
        std::uint64_t from = source.range.offset_bytes;
        const std::uint64_t end = from + source.range.length_bytes;
        while (from < end) {
            const std::uint64_t blocks = std::min((end - from) / kBlockBytes, kLongestRecord);
            JournalOperation operation =
                make_operation(by_reference ? layout::OperationType::clone_reference
                                            : layout::OperationType::clone,
                               destination, lba_of(to), blocks);
            operation.record.source_lba = lba_of(from).value;
            operation.record.source_volume = static_cast<std::uint32_t>(source.volume.value);
            command.push_back(std::move(operation));
            from += blocks * kBlockBytes;
            to += blocks * kBlockBytes;
        }
    }
    COPPICE_TRY(take_effect(destination, command, offset_bytes + total));
    state_.statistics.range_references += by_reference ? 1 : 0;
    return {};
}

Status Writer::copy_bytes(DomainId destination, std::uint64_t offset_bytes,
                          std::span<const CloneSource> sources)
{
    std::uint64_t total = 0;
    for (const CloneSource& source : sources) {
        total += source.range.length_bytes;
    }
    BlockBuffer bytes(divide_up(total, kBlockBytes));
    {
        Pin pin(state_);
        COPPICE_TRY(reader_.read_sources(sources, bytes.span().first(total)));
    }
    const iovec buffer{bytes.span().data(), total};
    COPPICE_TRY(write_once(destination, offset_bytes, {&buffer, 1}));
    for (const CloneSource& source : sources) {
        const std::uint64_t end = source.range.offset_bytes + source.range.length_bytes;
        state_.domains.join_over(destination, source.volume, lba_of(source.range.offset_bytes),
                                 lba_of(round_up(end)));
    }
    return {};
}

// ---- Management ---------------------------------------------------------------------------

Status Writer::manage(const Command& command, const std::vector<VolumeId>& involved)
{
    COPPICE_TRY(with_space([&] { return manage_once(command, involved); }));
    return committer_.make_durable(command.back().volume());
}

Status Writer::manage_once(const Command& wanted, const std::vector<VolumeId>& involved)
{
    const JournalOperation& operation = wanted.back();
    const VolumeId volume = operation.volume();
    // Whoever reads a part of a block to write the whole must not have read it before a rollback,
    // or before a shrink: the volume may have grown again when the write takes effect.
    const bool excludes =
        operation.type() == layout::OperationType::rollback || operation.record.length > 0;
    RangeLock lock(state_, volume, 0, excludes ? layout::kMaxVolumeBytes : 0, excludes);
    Command command = wanted;
    COPPICE_TRY(check_fits(command));
    CacheUse use(state_.cache);
    bool ready = false;
    while (!ready) {
        COPPICE_ASSIGN(prepared,
                       effects_.prepare(command, state_.node_reserve(frees_space(command))));
        ready = prepared;
    }
    COPPICE_TRY(state_.check_writable());
    number(command);
    const Volume* before = state_.catalog.volume(volume);
    const std::uint64_t old_size = before == nullptr ? 0 : before->size_bytes();
    COPPICE_TRY(effects_.apply(command));
    mark_managed(operation, old_size);
    const DomainId own{volume, StreamId()};
    for (const VolumeId other : involved) {
        state_.domains.join(own, {other, StreamId()});
    }
    state_.domains.enqueue(command);
    state_.domains.join_all(own);
    if (operation.type() == layout::OperationType::change_volume) {
        // What takes effect from now on belongs to the group that the volume is in now.
        state_.domains.set_group(volume, state_.catalog.volume(volume)->group());
    }
    return {};
}

}  // namespace coppice
