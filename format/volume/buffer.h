// Memory for whole blocks, aligned for direct I/O, and its exchange with a caller's buffers.
#pragma once

#include <cstdlib>
#include <memory>
#include <new>
#include <span>
#include <sys/uio.h>

#include "format/base/units.h"

namespace coppice {

class BlockBuffer {
public:
    explicit BlockBuffer(std::uint64_t blocks)
        : bytes_(static_cast<std::byte*>(
              ::operator new (blocks* kBlockBytes, std::align_val_t{kBlockBytes}))),
          size_(blocks * kBlockBytes)
    {
    }
    BlockBuffer(const BlockBuffer&) = delete;
    BlockBuffer& operator=(const BlockBuffer&) = delete;
    ~BlockBuffer() { ::operator delete (bytes_, std::align_val_t{kBlockBytes}); }

    std::uint64_t blocks() const { return size_ / kBlockBytes; }
    std::span<std::byte> span() { return {bytes_, size_}; }
    std::span<std::byte> block(std::uint64_t index)
    {
        return span().subspan(index * kBlockBytes, kBlockBytes);
    }

private:
    std::byte* bytes_;
    std::size_t size_;
};

std::uint64_t total_bytes(std::span<const iovec> buffers);
// Copies `bytes` to, or from, the start of the buffers.
void scatter(std::span<const std::byte> bytes, std::span<const iovec> buffers);
void gather(std::span<const iovec> buffers, std::span<std::byte> bytes);

}  // namespace coppice
