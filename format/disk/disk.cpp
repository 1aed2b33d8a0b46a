#include "format/disk/disk.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fmt/format.h>

#include "format/base/block_bytes.h"

namespace coppice {

namespace {

const char* verb(IoRequest::Kind kind)
{
    switch (kind) {
    case IoRequest::Kind::read: return "read";
    case IoRequest::Kind::write: return "write";
    case IoRequest::Kind::allocate: return "allocate";
    case IoRequest::Kind::discard: return "discard";
    case IoRequest::Kind::sync: return "sync";
    case IoRequest::Kind::truncate: return "truncate";
    }
    return "?";
}

Error error_of(const IoRequest& request)
{
    ErrorCode code = ErrorCode::io;
    if (request.result == -ENOSPC || request.result == -EDQUOT || request.result == -EFBIG) {
        code = ErrorCode::no_space;
    } else if (request.result == -EOPNOTSUPP || request.result == -ENOSYS) {
        code = ErrorCode::not_supported;
    } else if (request.kind == IoRequest::Kind::sync) {
        code = ErrorCode::sync_failed;
    } else if (request.result == -EROFS || request.result == -EBADF) {
        code = ErrorCode::read_only;
    }
    return {code, fmt::format("host {} of {} bytes at byte {} of the image failed: {}",
                              verb(request.kind), request.length_bytes, request.offset_bytes,
                              std::strerror(-request.result))};
}

}  // namespace

Status Disk::run(std::span<IoRequest> requests)
{
    IoGroup group;
    submit(requests, group);
    wait(group);
    for (const IoRequest& request : requests) {
        if (request.result < 0) {
            return tl::unexpected<Error>(error_of(request));
        }
    }
    return {};
}

Status Disk::read(std::uint64_t offset_bytes, std::span<std::byte> into)
{
    iovec buffer{into.data(), into.size()};
    IoRequest request{.kind = IoRequest::Kind::read,
                      .offset_bytes = offset_bytes,
                      .length_bytes = into.size(),
                      .buffers = {&buffer, 1}};
    return run({&request, 1});
}

Status Disk::write(std::uint64_t offset_bytes, std::span<const std::byte> from)
{
    // iovec has no const; the port only reads from the buffers of a write.
    iovec buffer{const_cast<std::byte*>(from.data()), from.size()};  // NOLINT
    IoRequest request{.kind = IoRequest::Kind::write,
                      .offset_bytes = offset_bytes,
                      .length_bytes = from.size(),
                      .buffers = {&buffer, 1}};
    return run({&request, 1});
}

Status Disk::write_zeroes(std::uint64_t offset_bytes, std::uint64_t length_bytes)
{
    constexpr std::uint64_t kAtOnceBytes = 1 << 20;
    const BlockBytes zeroes(std::min(kAtOnceBytes, length_bytes));
    for (std::uint64_t done = 0; done < length_bytes; done += kAtOnceBytes) {
        const std::uint64_t length = std::min(kAtOnceBytes, length_bytes - done);
        COPPICE_TRY(write(offset_bytes + done, std::span(zeroes).first(length)));
    }
    return {};
}

Status Disk::sync()
{
    IoRequest request{.kind = IoRequest::Kind::sync};
    return run({&request, 1});
}

}  // namespace coppice
