// Streams, transactions and writes of several ranges: the vendor I/O commands of NVME.md that are
// no standard command with a tag. Opening, closing, beginning and aborting never wait, so they end
// at once; a commit and Write Ranges are operations of the store like any other.
#include "controller/controller.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "format/base/check.h"

namespace coppice::nvme {

// ---- Streams ------------------------------------------------------------------------------

void Controller::run(Request& request, const StreamOpenCommand&)
{
    const auto entry = writable_namespace(request.entry.nsid);
    if (!entry) {
        complete(request, entry.error());
        return;
    }
    const auto opened = backend_->open_stream(VolumeId(request.entry.nsid));
    if (!opened) {
        complete(request, order_status_of(opened.error().code, Purpose::write));
        return;
    }
    streams_.insert({VolumeId(request.entry.nsid), *opened});
    complete(request, StatusCode::success, static_cast<std::uint32_t>(opened->value));
}

void Controller::run(Request& request, const StreamCloseCommand&)
{
    const auto entry = namespace_of(request.entry.nsid);
    if (!entry) {
        complete(request, entry.error());
        return;
    }
    const Status closed =
        backend_->close_stream(VolumeId(request.entry.nsid), request.operation.stream);
    streams_.erase({VolumeId(request.entry.nsid), request.operation.stream});
    complete(request,
             closed ? StatusCode::success : order_status_of(closed.error().code, Purpose::write));
}

// ---- Transactions -------------------------------------------------------------------------

void Controller::run(Request& request, const TransactionBeginCommand&)
{
    const auto entry = writable_namespace(request.entry.nsid);
    if (!entry) {
        complete(request, entry.error());
        return;
    }
    const auto begun = backend_->begin(VolumeId(request.entry.nsid));
    if (!begun) {
        complete(request, order_status_of(begun.error().code, Purpose::write));
        return;
    }
    transactions_[*begun] = VolumeId(request.entry.nsid);
    forget_ended_transactions();
    complete(request, StatusCode::success, static_cast<std::uint32_t>(begun->value));
}

void Controller::run(Request& request, const TransactionCommitCommand& command)
{
    const auto entry = writable_namespace(request.entry.nsid);
    if (!entry) {
        complete(request, entry.error());
        return;
    }
    hold(request, **entry);
    request.operation.kind = Operation::Kind::commit;
    request.operation.volume = VolumeId(request.entry.nsid);
    request.operation.fua = command.fua || !features_.write_cache();
    submit(request, IoClass::write);
}

void Controller::run(Request& request, const TransactionAbortCommand&)
{
    const auto entry = namespace_of(request.entry.nsid);
    if (!entry) {
        complete(request, entry.error());
        return;
    }
    const Status ended =
        backend_->abort(VolumeId(request.entry.nsid), request.operation.transaction);
    complete(request,
             ended ? StatusCode::success : order_status_of(ended.error().code, Purpose::write));
}

// What the guest had open before a reset: nobody knows the numbers any more. While something stands
// between the device and its store they stay, and go when the store is back.
void Controller::release_order()
{
    order_stale_ = !backend_->abilities().order;
    if (order_stale_) {
        return;
    }
    for (const auto& [volume, stream] : std::exchange(streams_, {})) {
        (void)backend_->close_stream(volume, stream);  // its volume may be gone
    }
    for (const auto& [transaction, volume] : std::exchange(transactions_, {})) {
        (void)backend_->abort(volume, transaction);  // it may have ended
    }
}

void Controller::forget_ended_transactions()
{
    if (transactions_.size() > 2 * kMaxTransactions) {
        std::erase_if(transactions_, [&](const auto& entry) {
            return !backend_->is_open(entry.second, entry.first);
        });
    }
}

// ---- Write Ranges -------------------------------------------------------------------------

// The data begins with the list, filled up to a whole logical block.
void Controller::run(Request& request, const WriteRangesCommand& command)
{
    const auto entry = writable_namespace(request.entry.nsid);
    if (!entry) {
        complete(request, entry.error());
        return;
    }
    request.ranges.clear();
    const auto list_bytes = read_write_ranges(request, command, **entry);
    if (!list_bytes) {
        complete(request, list_bytes.error());
        return;
    }
    std::uint64_t bytes = 0;
    for (const Range& range : request.ranges) {
        bytes += range.length_bytes;
    }
    if (!prepare(request, *list_bytes + bytes, Direction::from_guest)) {
        return;
    }
    hold(request, **entry);
    request.buffers.assign(request.transfer.buffers().begin(), request.transfer.buffers().end());
    skip_bytes(request.buffers, *list_bytes);
    request.operation.kind = Operation::Kind::write_ranges;
    request.operation.volume = VolumeId(request.entry.nsid);
    request.operation.length_bytes = bytes;
    request.operation.buffers = request.buffers;
    request.operation.ranges = request.ranges;
    request.operation.fua = command.fua || !features_.write_cache();
    submit(request, IoClass::write);
}

// Fills the request's ranges; returns the bytes of the list.
Checked<std::uint64_t> Controller::read_write_ranges(Request& request,
                                                     const WriteRangesCommand& command,
                                                     const Namespace& entry)
{
    std::array<WriteRange, kWriteRanges> list;
    CHECK(command.ranges <= list.size());  // NR has eight bits
    const std::span<WriteRange> used = std::span(list).first(command.ranges);
    if (auto read =
            copy_from_guest(host_, data_pointer(request.entry), std::as_writable_bytes(used));
        !read) {
        return refuse(read.error());
    }
    for (const WriteRange& range : used) {
        const auto bytes = entry.bytes_of({range.start_lba, range.blocks});
        if (!bytes) {
            return refuse(bytes.error());
        }
        // An empty one is a mistake; another meaning may come to the reserved bytes.
        if (range.blocks == 0 || range.reserved12 != 0) {
            return refuse(StatusCode::invalid_field);
        }
        if (bytes->length_bytes > kMaxTransferBytes) {
            return refuse(StatusCode::command_size_limit_exceeded);
        }
        request.ranges.push_back(*bytes);
    }
    const std::uint64_t block_bytes = power_of_two(entry.info.lba_shift);
    return divide_up(used.size_bytes(), block_bytes) * block_bytes;
}

void Controller::skip_bytes(std::vector<iovec>& buffers, std::uint64_t bytes)
{
    std::size_t whole = 0;
    while (bytes != 0 && buffers[whole].iov_len <= bytes) {
        bytes -= buffers[whole].iov_len;
        ++whole;
    }
    buffers.erase(buffers.begin(), buffers.begin() + static_cast<std::ptrdiff_t>(whole));
    if (bytes != 0) {
        buffers.front().iov_base = static_cast<std::byte*>(buffers.front().iov_base) + bytes;
        buffers.front().iov_len -= bytes;
    }
}

}  // namespace coppice::nvme
