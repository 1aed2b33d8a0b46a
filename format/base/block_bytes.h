// Bytes that a host reads or writes past its page cache (O_DIRECT): in memory they begin where a
// block may begin. Others QEMU would copy first, and hand to a thread instead of the kernel's
// queue.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace coppice {

inline constexpr std::size_t kMemoryAlignment = 4096;

template <typename T>
struct BlockAllocator {
    using value_type = T;

    BlockAllocator() = default;
    template <typename Other>
    explicit BlockAllocator(const BlockAllocator<Other>&)
    {
    }

    T* allocate(std::size_t count)
    {
        return static_cast<T*>(
            ::operator new (count * sizeof(T), std::align_val_t{kMemoryAlignment}));
    }
    void deallocate(T* memory, std::size_t)
    {
        ::operator delete (memory, std::align_val_t{kMemoryAlignment});
    }
    bool operator==(const BlockAllocator&) const = default;
};

using BlockBytes = std::vector<std::byte, BlockAllocator<std::byte>>;

}  // namespace coppice
