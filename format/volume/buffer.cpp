#include "format/volume/buffer.h"

#include <algorithm>
#include <cstring>

namespace coppice {

std::uint64_t total_bytes(std::span<const iovec> buffers)
{
    std::uint64_t total = 0;
    for (const iovec& buffer : buffers) {
        total += buffer.iov_len;
    }
    return total;
}

void scatter(std::span<const std::byte> bytes, std::span<const iovec> buffers)
{
    std::size_t done = 0;
    for (const iovec& buffer : buffers) {
        const std::size_t part = std::min(buffer.iov_len, bytes.size() - done);
        std::memcpy(buffer.iov_base, bytes.data() + done, part);
        done += part;
    }
}

void gather(std::span<const iovec> buffers, std::span<std::byte> bytes)
{
    std::size_t done = 0;
    for (const iovec& buffer : buffers) {
        const std::size_t part = std::min(buffer.iov_len, bytes.size() - done);
        std::memcpy(bytes.data() + done, buffer.iov_base, part);
        done += part;
    }
}

}  // namespace coppice
