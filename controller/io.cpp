// The NVM commands: NVM Command Set Specification 1.0, section 3.2. Each becomes one operation of
// the store, so each is as atomic and as ordered as the store makes it.
#include "controller/controller.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

#include "format/base/check.h"

namespace coppice::nvme {

namespace {

Purpose purpose_of(Operation::Kind kind)
{
    switch (kind) {
    case Operation::Kind::read: return Purpose::read;
    case Operation::Kind::write:
    case Operation::Kind::flush:
    case Operation::Kind::deallocate:
    case Operation::Kind::write_zeroes:
    case Operation::Kind::clone:
    case Operation::Kind::write_ranges:
    case Operation::Kind::commit: return Purpose::write;
    }
    return Purpose::write;
}

constexpr bool overlap(const Range& a, const Range& b)
{
    return a.offset_bytes < b.offset_bytes + b.length_bytes &&
           b.offset_bytes < a.offset_bytes + a.length_bytes;
}

StatusCode io_status(const Operation& operation, ErrorCode code)
{
    const bool tagged = operation.stream != StreamId() || operation.transaction != TransactionId();
    const Purpose purpose = purpose_of(operation.kind);
    return tagged ? order_status_of(code, purpose) : status_of(code, purpose);
}

}  // namespace

void Controller::execute_io(Request& request)
{
    const Checked<TaggedIo> tagged = parse_io(request.entry, backend_->abilities().order);
    if (!tagged) {
        complete(request, tagged.error());
        return;
    }
    request.operation.stream = StreamId(tagged->tag.stream);
    request.operation.transaction = TransactionId(tagged->tag.transaction);
    std::visit([&](const auto& typed) { run(request, typed); }, tagged->command);
}

// ---- Namespaces of a command --------------------------------------------------------------

// Base 3.2.1: an NSID outside 1 .. NN is invalid; inside it, one that is not attached is inactive.
Checked<Namespace*> Controller::namespace_of(std::uint32_t nsid)
{
    if (nsid == 0 || nsid > namespaces_.highest_nsid()) {
        return refuse(StatusCode::invalid_namespace_or_format);
    }
    Namespace* entry = namespaces_.find_attached(nsid);
    if (entry == nullptr) {
        return refuse(StatusCode::invalid_field);
    }
    return entry;
}

Checked<Namespace*> Controller::writable_namespace(std::uint32_t nsid)
{
    Checked<Namespace*> entry = namespace_of(nsid);
    if (entry && (*entry)->info.write_protected) {
        return refuse(StatusCode::namespace_write_protected);  // Base 8.12, NSATTR bit 0
    }
    return entry;
}

void Controller::hold(Request& request, Namespace& entry)
{
    ++entry.in_flight;
    request.held.push_back(&entry);
}

// ---- Data ---------------------------------------------------------------------------------

// True: go on. False: the request has been completed, or waits and will be executed anew.
bool Controller::settle(Request& request, const Checked<Transfer::Outcome>& outcome,
                        std::uint64_t bytes)
{
    if (!outcome) {
        complete(request, outcome.error());
        return false;
    }
    if (*outcome == Transfer::Outcome::no_memory) {
        request.wanted_bytes = bytes;
        waiting_for_memory_.push_back(&request);
        bounce_.close();
        return false;
    }
    return true;
}

bool Controller::prepare(Request& request, std::uint64_t bytes, Direction direction)
{
    if (bytes > kMaxTransferBytes) {  // Base 5.17.2.1, MDTS
        complete(request, StatusCode::invalid_field);
        return false;
    }
    return settle(
        request,
        request.transfer.prepare(host_, bounce_, data_pointer(request.entry), bytes, direction),
        bytes);
}

bool Controller::prepare_buffer(Request& request, std::uint64_t bytes)
{
    if (bytes > kMaxTransferBytes) {
        complete(request, StatusCode::invalid_field);
        return false;
    }
    return settle(request, request.transfer.prepare_buffer(bounce_, bytes), bytes);
}

// ---- Submitting and ending ----------------------------------------------------------------

void Controller::submit(Request& request, IoClass io_class)
{
    request.io_class = io_class;
    request.part_status = StatusCode::success;
    request.parts = 1;
    host_.io_begins(io_class, request.operation.length_bytes, request.cookie);
    backend_->submit(request.operation, [at = &request](Status status) {
        at->controller->part_done(*at, std::move(status));
    });
}

void Controller::part_done(Request& request, Status status)
{
    CHECK(request.parts > 0);
    if (!status) {
        const Error& error = status.error();
        request.part_status = io_status(request.operation, error.code);
        request.part_errno = is_hosts(error.code) ? error_errno(error.code) : 0;
        if (is_corruption(error.code)) {
            host_.report(error.text);  // the guest only learns that a block cannot be read
        }
    }
    if (--request.parts == 0) {
        io_done(request);
    }
}

void Controller::io_done(Request& request)
{
    const bool failed = request.part_status != StatusCode::success;
    host_.io_ends(request.io_class, request.cookie, failed);
    StatusCode status = request.part_status;
    if (failed && request.part_errno != 0 && state_ != State::disabling) {
        switch (host_.on_error(request.io_class, request.part_errno)) {
        case ErrorAction::report: break;
        case ErrorAction::ignore: status = StatusCode::success; break;
        case ErrorAction::retry:
            held_back_.push_back(&request);
            --in_flight_;
            want_poll();
            return;
        }
    }
    if (status == StatusCode::success) {
        const std::uint64_t bytes = request.operation.length_bytes;
        switch (request.operation.kind) {
        case Operation::Kind::read: health_.count_read(bytes); break;
        case Operation::Kind::write:
        case Operation::Kind::write_ranges: health_.count_write(bytes); break;
        case Operation::Kind::flush:
        case Operation::Kind::deallocate:
        case Operation::Kind::write_zeroes:
        case Operation::Kind::clone:
        case Operation::Kind::commit: break;
        }
        if (!failed && static_cast<IoOpcode>(request.entry.opcode) == IoOpcode::compare) {
            status = finish_compare(request);
        }
    }
    complete(request, status);
}

// ---- Read, Write (3.2.4, 3.2.6) -----------------------------------------------------------

void Controller::run(Request& request, const ReadCommand& command)
{
    const auto entry = namespace_of(request.entry.nsid);
    if (!entry) {
        complete(request, entry.error());
        return;
    }
    const auto range = (*entry)->bytes_of(command.range);
    if (!range) {
        complete(request, range.error());
        return;
    }
    if (!prepare(request, range->length_bytes, Direction::to_guest)) {
        return;
    }
    hold(request, **entry);
    request.operation.kind = Operation::Kind::read;
    request.operation.volume = VolumeId(request.entry.nsid);
    request.operation.offset_bytes = range->offset_bytes;
    request.operation.length_bytes = range->length_bytes;
    request.operation.buffers = request.transfer.buffers();
    submit(request, IoClass::read);
}

void Controller::run(Request& request, const WriteCommand& command)
{
    const auto entry = writable_namespace(request.entry.nsid);
    if (!entry) {
        complete(request, entry.error());
        return;
    }
    const auto range = (*entry)->bytes_of(command.range);
    if (!range) {
        complete(request, range.error());
        return;
    }
    if (!prepare(request, range->length_bytes, Direction::from_guest)) {
        return;
    }
    hold(request, **entry);
    request.operation.kind = Operation::Kind::write;
    request.operation.volume = VolumeId(request.entry.nsid);
    request.operation.offset_bytes = range->offset_bytes;
    request.operation.length_bytes = range->length_bytes;
    request.operation.buffers = request.transfer.buffers();
    // With the write cache off every write is durable when it completes (Base 5.27.1.4).
    request.operation.fua = command.fua || !features_.write_cache();
    submit(request, IoClass::write);
}

// ---- Flush (Base 7.1) ---------------------------------------------------------------------

void Controller::run(Request& request, const FlushCommand&)
{
    request.operation.kind = Operation::Kind::flush;
    // A stream is one namespace's.
    if (request.entry.nsid != kNsidAll || request.operation.stream != StreamId()) {
        const auto entry = namespace_of(request.entry.nsid);
        if (!entry) {
            complete(request, entry.error());
            return;
        }
        hold(request, **entry);
        request.operation.volume = VolumeId(request.entry.nsid);
        submit(request, IoClass::flush);
        return;
    }
    // All attached ones at once: the store makes one commit of flushes that come together.
    for (auto& [nsid, entry] : namespaces_.all()) {
        if (entry.attached && !entry.info.write_protected) {
            hold(request, entry);
        }
    }
    if (request.held.empty()) {
        complete(request, StatusCode::success);
        return;
    }
    submit_flushes(request);
}

void Controller::submit_flushes(Request& request)
{
    request.io_class = IoClass::flush;
    request.part_status = StatusCode::success;
    // One part of its own, so that no completion ends the request inside the loop.
    request.parts = static_cast<std::uint32_t>(request.held.size()) + 1;
    host_.io_begins(IoClass::flush, 0, request.cookie);
    for (const Namespace* entry : request.held) {
        Operation flush;
        flush.kind = Operation::Kind::flush;
        flush.volume = VolumeId(entry->info.nsid);
        backend_->submit(flush, [at = &request](Status status) {
            at->controller->part_done(*at, std::move(status));
        });
    }
    part_done(request, {});
}

// ---- Compare, Verify (3.2.1, 3.2.5) -------------------------------------------------------

void Controller::run(Request& request, const CompareCommand& command)
{
    run_checked_read(request, command.range);
}

void Controller::run(Request& request, const VerifyCommand& command)
{
    run_checked_read(request, command.range);
}

// Reads into a buffer of ours; the store checks the checksums, Compare then looks at the data.
void Controller::run_checked_read(Request& request, const BlockRange& blocks)
{
    const auto entry = namespace_of(request.entry.nsid);
    if (!entry) {
        complete(request, entry.error());
        return;
    }
    const auto range = (*entry)->bytes_of(blocks);
    if (!range) {
        complete(request, range.error());
        return;
    }
    if (!prepare_buffer(request, range->length_bytes)) {
        return;
    }
    hold(request, **entry);
    request.operation.kind = Operation::Kind::read;
    request.operation.volume = VolumeId(request.entry.nsid);
    request.operation.offset_bytes = range->offset_bytes;
    request.operation.length_bytes = range->length_bytes;
    request.operation.buffers = request.transfer.buffers();
    submit(request, IoClass::read);
}

StatusCode Controller::finish_compare(Request& request)
{
    std::span<const std::byte> stored = request.transfer.buffer();
    std::vector<GuestPiece> pieces;
    if (auto walked = walk_prps(host_, data_pointer(request.entry), stored.size(), pieces);
        !walked) {
        return walked.error();
    }
    std::array<std::byte, kPageBytes> page;
    for (const GuestPiece& piece : pieces) {
        for (std::uint64_t done = 0; done < piece.length_bytes;) {
            const auto length = static_cast<std::size_t>(
                std::min<std::uint64_t>(page.size(), piece.length_bytes - done));
            const std::span<std::byte> wanted = std::span(page).first(length);
            if (!host_.read_memory(piece.address + done, wanted)) {
                return StatusCode::data_transfer_error;
            }
            if (std::memcmp(wanted.data(), stored.data(), length) != 0) {
                return StatusCode::compare_failure;
            }
            stored = stored.subspan(length);
            done += length;
        }
    }
    return StatusCode::success;
}

// ---- Write Zeroes, Dataset Management (3.2.8, 3.2.3) --------------------------------------

void Controller::run(Request& request, const WriteZeroesCommand& command)
{
    const auto entry = writable_namespace(request.entry.nsid);
    if (!entry) {
        complete(request, entry.error());
        return;
    }
    const auto range = (*entry)->bytes_of(command.range);
    if (!range) {
        complete(request, range.error());
        return;
    }
    hold(request, **entry);
    Operation& operation = request.operation;
    operation.volume = VolumeId(request.entry.nsid);
    operation.fua = command.fua || !features_.write_cache();
    if (command.deallocate) {
        // DEAC: deallocated blocks read as zeroes (DLFEAT), so this is the same content.
        operation.kind = Operation::Kind::deallocate;
        request.ranges.push_back(*range);
        operation.ranges = request.ranges;
        submit(request, IoClass::deallocate);
        return;
    }
    operation.kind = Operation::Kind::write_zeroes;
    operation.offset_bytes = range->offset_bytes;
    operation.length_bytes = range->length_bytes;
    submit(request, IoClass::write);
}

void Controller::run(Request& request, const DatasetCommand& command)
{
    const auto entry = command.deallocate ? writable_namespace(request.entry.nsid)
                                          : namespace_of(request.entry.nsid);
    if (!entry) {
        complete(request, entry.error());
        return;
    }
    std::array<DsmRange, kDsmRanges> ranges;
    CHECK(command.ranges <= ranges.size());
    const auto read =
        copy_from_guest(host_, data_pointer(request.entry),
                        std::as_writable_bytes(std::span(ranges).first(command.ranges)));
    if (!read) {
        complete(request, read.error());
        return;
    }
    // All ranges are checked before anything is done: all of them, or none.
    for (const DsmRange& range : std::span(ranges).first(command.ranges)) {
        const auto bytes = (*entry)->bytes_of({range.start_lba, range.blocks});
        if (!bytes) {
            request.ranges.clear();
            complete(request, bytes.error());
            return;
        }
        if (bytes->length_bytes != 0) {
            request.ranges.push_back(*bytes);
        }
    }
    if (!command.deallocate || request.ranges.empty()) {
        complete(request, StatusCode::success);  // hints only
        return;
    }
    hold(request, **entry);
    request.operation.kind = Operation::Kind::deallocate;
    request.operation.volume = VolumeId(request.entry.nsid);
    request.operation.ranges = request.ranges;
    request.operation.fua = !features_.write_cache();
    submit(request, IoClass::deallocate);
}

// ---- Copy (3.2.2) -------------------------------------------------------------------------

void Controller::run(Request& request, const CopyCommand& command)
{
    const auto entry = writable_namespace(request.entry.nsid);
    if (!entry) {
        complete(request, entry.error());
        return;
    }
    // Format 0 always, format 2 once the host says that it knows it (Base 5.27.1.18).
    const bool known =
        command.format == 0 ||
        (command.format == 2 && copy_format_enabled(host_behavior_.copy_formats, command.format));
    if (!known) {
        complete(request, StatusCode::invalid_field);
        return;
    }
    if (const auto read = read_copy_ranges(request, command, **entry); !read) {
        // Nothing was copied, not even a part of the first range.
        complete(request, read.error(), 0);
        return;
    }
    hold(request, **entry);
    Operation& operation = request.operation;
    operation.kind = Operation::Kind::clone;
    operation.volume = VolumeId(request.entry.nsid);
    operation.sources = request.sources;
    operation.fua = command.fua || !features_.write_cache();
    submit(request, IoClass::write);
}

Checked<void> Controller::read_copy_ranges(Request& request, const CopyCommand& command,
                                           Namespace& destination)
{
    std::array<CopyRange, kCopyRanges> ranges;
    CHECK(command.ranges <= ranges.size());  // NR has eight bits, and MSRC is its largest value
    const auto read =
        copy_from_guest(host_, data_pointer(request.entry),
                        std::as_writable_bytes(std::span(ranges).first(command.ranges)));
    if (!read) {
        return read;
    }
    std::uint64_t blocks = 0;
    for (const CopyRange& range : std::span(ranges).first(command.ranges)) {
        blocks += std::uint64_t{range.blocks_z} + 1;
        if (std::uint64_t{range.blocks_z} + 1 > kCopyRangeBlocks) {  // MSSRL
            return refuse(StatusCode::command_size_limit_exceeded);
        }
    }
    const std::uint64_t block_bytes = power_of_two(destination.info.lba_shift);
    const std::uint64_t limit =
        backend_->abilities().shares_copies ? kCopyBlocks : kBounceCopyBytes / block_bytes;
    if (blocks > limit) {  // MCL
        return refuse(StatusCode::command_size_limit_exceeded);
    }
    const auto target = destination.bytes_of({command.destination, blocks});
    if (!target) {
        return refuse(target.error());
    }
    request.operation.offset_bytes = target->offset_bytes;
    for (const CopyRange& range : std::span(ranges).first(command.ranges)) {
        if (auto added = add_copy_source(request, range, command.format, destination); !added) {
            return added;
        }
    }
    // The store reads all sources as of the start; the specification still forbids the overlap.
    for (const CloneSource& source : request.sources) {
        if (source.volume.value == destination.info.nsid && overlap(source.range, *target)) {
            return refuse(StatusCode::overlapping_io_range);
        }
    }
    return {};
}

Checked<void> Controller::add_copy_source(Request& request, const CopyRange& range, unsigned format,
                                          const Namespace& destination)
{
    const std::uint32_t nsid = format == 2 ? range.source_nsid.get() : destination.info.nsid;
    const auto entry = namespace_of(nsid);
    if (!entry) {
        return refuse(entry.error());
    }
    if ((*entry)->info.lba_shift != destination.info.lba_shift) {
        return refuse(StatusCode::incompatible_namespace_or_format);
    }
    const auto bytes = (*entry)->bytes_of({range.start_lba, std::uint64_t{range.blocks_z} + 1});
    if (!bytes) {
        return refuse(bytes.error());
    }
    // Fast Copy Only: where no block can be shared the host would rather do it itself.
    const std::uint64_t target = request.operation.offset_bytes + request.operation.length_bytes;
    const bool shared = backend_->abilities().shares_copies &&
                        target % kBlockBytes == bytes->offset_bytes % kBlockBytes;
    if (format == 2 && copy_option_fast_only(range.options) && !shared) {
        return refuse(StatusCode::fast_copy_not_possible);
    }
    request.operation.length_bytes += bytes->length_bytes;
    hold(request, **entry);
    // Ranges that follow each other are one to the store: 1 GiB is one reference, not 128.
    if (!request.sources.empty()) {
        CloneSource& last = request.sources.back();
        if (last.volume.value == nsid &&
            last.range.offset_bytes + last.range.length_bytes == bytes->offset_bytes) {
            last.range.length_bytes += bytes->length_bytes;
            return {};
        }
    }
    request.sources.push_back({VolumeId(nsid), *bytes});
    return {};
}

}  // namespace coppice::nvme
