#include "controller/block_backend.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "controller/limits.h"
#include "controller/spec/bits.h"
#include "format/base/check.h"

namespace coppice::nvme {

namespace {

constexpr std::size_t kCopyBufferBytes = 1U << 20;
constexpr unsigned kMaxCopies = 4;  // buffers at once: 4 MiB

Status status_of_errno(int result, Operation::Kind kind)
{
    if (result >= 0) {
        return {};
    }
    ErrorCode code = ErrorCode::io;
    if (result == -ENOSPC || result == -EDQUOT) {
        code = ErrorCode::no_space;
    } else if (result == -EROFS || result == -EACCES || result == -EPERM) {
        code = ErrorCode::read_only;
    }
    static constexpr const char* kNames[] = {"read",       "write",        "flush",
                                             "deallocate", "write zeroes", "copy"};
    return fail(code, std::string("the block device failed a ") +
                          kNames[static_cast<std::size_t>(kind)] + ": " + std::strerror(-result));
}

tl::unexpected<Error> not_here()
{
    return fail(ErrorCode::not_supported,
                "there are no snapshots while something stands between the device and its image");
}

}  // namespace

// An operation that takes several requests, one after the other: ranges to deallocate, or chunks to
// copy. The first failure ends it.
class BlockBackend::Steps : public std::enable_shared_from_this<Steps> {
public:
    Steps(BlockBackend& backend, const Operation& operation, Completion completion)
        : backend_(backend), operation_(operation), completion_(std::move(completion))
    {
    }

    bool copies() const { return operation_.kind == Operation::Kind::clone; }

    void run()
    {
        if (copies()) {
            buffer_ = std::make_unique<std::byte[]>(kCopyBufferBytes);
        }
        go_on();
    }

private:
    // A device may complete at once; then the loop goes round instead of the stack growing.
    void go_on()
    {
        if (running_) {
            again_ = true;
            return;
        }
        running_ = true;
        const auto self = shared_from_this();
        do {
            again_ = false;
            if (!next()) {
                finish();
                break;
            }
        } while (again_);
        running_ = false;
    }

    bool next()
    {
        if (result_ < 0) {
            return false;
        }
        return copies() ? next_copy() : next_range();
    }

    bool next_range()
    {
        if (index_ == operation_.ranges.size()) {
            return flush_last();
        }
        const Range& range = operation_.ranges[index_++];
        start(BlockIo::Kind::discard, range.offset_bytes, range.length_bytes, false);
        return true;
    }

    bool next_copy()
    {
        if (write_pending_) {
            write_pending_ = false;
            const std::uint64_t at = target_;
            target_ += chunk_.iov_len;
            start(BlockIo::Kind::write, operation_.offset_bytes + at, chunk_.iov_len, false);
            return true;
        }
        if (index_ == operation_.sources.size()) {
            return flush_last();
        }
        const Range& source = operation_.sources[index_].range;
        const std::uint64_t left = source.length_bytes - done_;
        chunk_ = {buffer_.get(),
                  static_cast<std::size_t>(std::min<std::uint64_t>(left, kCopyBufferBytes))};
        const std::uint64_t from = source.offset_bytes + done_;
        done_ += chunk_.iov_len;
        if (done_ == source.length_bytes) {
            done_ = 0;
            ++index_;
        }
        write_pending_ = true;
        start(BlockIo::Kind::read, from, chunk_.iov_len, true);
        return true;
    }

    // Force Unit Access for all of the steps: one flush behind the last.
    bool flush_last()
    {
        if (!operation_.fua) {
            return false;
        }
        operation_.fua = false;
        start(BlockIo::Kind::flush, 0, 0, false);
        return true;
    }

    void start(BlockIo::Kind kind, std::uint64_t offset, std::uint64_t length, bool reads)
    {
        BlockIo io;
        io.kind = kind;
        io.offset_bytes = offset;
        io.length_bytes = length;
        if (reads || kind == BlockIo::Kind::write) {
            io.buffers = std::span<const iovec>(&chunk_, 1);
        }
        io.completion = [self = shared_from_this()](int result) {
            self->result_ = result;
            self->go_on();
        };
        backend_.device_.start(std::move(io));
    }

    void finish()
    {
        const bool copied = copies();
        buffer_.reset();
        completion_(status_of_errno(result_, operation_.kind));
        if (copied) {
            backend_.steps_ended();
        }
    }

    BlockBackend& backend_;
    Operation operation_;
    Completion completion_;
    std::unique_ptr<std::byte[]> buffer_;
    iovec chunk_{};
    std::size_t index_ = 0;     // range or source
    std::uint64_t done_ = 0;    // of the source
    std::uint64_t target_ = 0;  // written so far
    bool write_pending_ = false;
    bool running_ = false;
    bool again_ = false;
    int result_ = 0;
};

std::vector<NamespaceInfo> BlockBackend::namespaces()
{
    NamespaceInfo info;
    info.nsid = identity_.nsid;
    info.lba_shift = identity_.lba_shift;
    const std::uint64_t size = device_.size_bytes();
    info.size_bytes = size - size % power_of_two(identity_.lba_shift);
    info.mapped_bytes = info.size_bytes;
    info.write_protected = device_.read_only();
    info.nguid = identity_.nguid;
    info.eui64 = identity_.eui64;
    return {info};
}

Capacity BlockBackend::capacity() { return {0, 0, 0, device_.read_only()}; }

void BlockBackend::submit(const Operation& operation, Completion completion)
{
    BlockIo io;
    switch (operation.kind) {
    case Operation::Kind::deallocate:
    case Operation::Kind::clone:
        start_steps(std::make_shared<Steps>(*this, operation, std::move(completion)));
        return;
    case Operation::Kind::read: io.kind = BlockIo::Kind::read; break;
    case Operation::Kind::write: io.kind = BlockIo::Kind::write; break;
    case Operation::Kind::flush: io.kind = BlockIo::Kind::flush; break;
    case Operation::Kind::write_zeroes: io.kind = BlockIo::Kind::write_zeroes; break;
    case Operation::Kind::write_ranges:
    case Operation::Kind::commit:
        CHECK(false);  // the controller asks no block node for them
        return;
    }
    io.fua = operation.fua;
    io.offset_bytes = operation.offset_bytes;
    io.length_bytes = operation.length_bytes;
    io.buffers = operation.buffers;
    io.completion = [kind = operation.kind, done = std::move(completion)](int result) {
        done(status_of_errno(result, kind));
    };
    device_.start(std::move(io));
}

void BlockBackend::start_steps(std::shared_ptr<Steps> steps)
{
    if (steps->copies()) {
        if (copies_ == kMaxCopies) {
            waiting_.push_back(std::move(steps));
            return;
        }
        ++copies_;
    }
    steps->run();
}

void BlockBackend::steps_ended()
{
    CHECK(copies_ > 0);
    --copies_;
    if (!waiting_.empty()) {
        const auto steps = std::move(waiting_.front());
        waiting_.pop_front();
        ++copies_;
        steps->run();
    }
}

void BlockBackend::spawn(std::function<void()> body) { body(); }
Result<VolumeId> BlockBackend::create(const NewVolume&) { return not_here(); }
Status BlockBackend::remove(VolumeId) { return not_here(); }
Result<VolumeId> BlockBackend::snapshot(VolumeId, const std::string&) { return not_here(); }
Result<VolumeId> BlockBackend::snapshot_group(VolumeId, const std::string&) { return not_here(); }
Result<VolumeId> BlockBackend::clone(VolumeId, const std::string&) { return not_here(); }
Status BlockBackend::rollback(VolumeId, VolumeId) { return not_here(); }
Status BlockBackend::checkpoint() { return not_here(); }
Status BlockBackend::set_flush_mode(VolumeId, FlushMode) { return not_here(); }
Status BlockBackend::set_group(VolumeId, ConsistencyGroup) { return not_here(); }
Result<StreamId> BlockBackend::open_stream(VolumeId) { return not_here(); }
Status BlockBackend::close_stream(VolumeId, StreamId) { return not_here(); }
Result<TransactionId> BlockBackend::begin(VolumeId) { return not_here(); }
bool BlockBackend::is_open(VolumeId, TransactionId) { return false; }
Status BlockBackend::abort(VolumeId, TransactionId) { return not_here(); }

}  // namespace coppice::nvme
