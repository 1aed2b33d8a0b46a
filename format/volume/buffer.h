// Memory for whole blocks, aligned for direct I/O, and its exchange with a caller's buffers.
#pragma once

#include <span>
#include <sys/uio.h>

#include "format/base/block_bytes.h"
#include "format/base/units.h"

namespace coppice {

// What it holds at first means nothing.
class BlockBuffer {
public:
    explicit BlockBuffer(std::uint64_t blocks)
        : size_(blocks * kBlockBytes), bytes_(BlockAllocator<std::byte>().allocate(size_))
    {
    }
    BlockBuffer(const BlockBuffer&) = delete;
    BlockBuffer& operator=(const BlockBuffer&) = delete;
    ~BlockBuffer() { BlockAllocator<std::byte>().deallocate(bytes_, size_); }

    std::uint64_t blocks() const { return size_ / kBlockBytes; }
    std::span<std::byte> span() { return {bytes_, size_}; }
    std::span<std::byte> block(std::uint64_t index)
    {
        return span().subspan(index * kBlockBytes, kBlockBytes);
    }

private:
    std::size_t size_;
    std::byte* bytes_;
};

std::uint64_t total_bytes(std::span<const iovec> buffers);
// Copies `bytes` to, or from, the start of the buffers.
void scatter(std::span<const std::byte> bytes, std::span<const iovec> buffers);
void gather(std::span<const iovec> buffers, std::span<std::byte> bytes);

}  // namespace coppice
