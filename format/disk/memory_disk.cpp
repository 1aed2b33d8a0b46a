#include "format/disk/memory_disk.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "format/base/check.h"

namespace coppice {

SparseBytes::Chunk& SparseBytes::own_chunk(std::shared_ptr<Chunk>& chunk)
{
    if (chunk == nullptr) {
        chunk = std::make_shared<Chunk>();
    } else if (chunk.use_count() > 1) {
        chunk = std::make_shared<Chunk>(*chunk);
    }
    return *chunk;
}

void SparseBytes::read(std::uint64_t offset_bytes, std::span<std::byte> into) const
{
    while (!into.empty()) {
        const std::size_t within = static_cast<std::size_t>(offset_bytes % kChunkBytes);
        const std::size_t length = std::min(into.size(), kChunkBytes - within);
        const auto chunk = chunks_.find(offset_bytes / kChunkBytes);
        if (chunk == chunks_.end() || chunk->second == nullptr) {
            std::memset(into.data(), 0, length);
        } else {
            std::memcpy(into.data(), chunk->second->data() + within, length);
        }
        offset_bytes += length;
        into = into.subspan(length);
    }
}

void SparseBytes::write(std::uint64_t offset_bytes, std::span<const std::byte> from)
{
    size_bytes_ = std::max(size_bytes_, offset_bytes + from.size());
    while (!from.empty()) {
        const std::size_t within = static_cast<std::size_t>(offset_bytes % kChunkBytes);
        const std::size_t length = std::min(from.size(), kChunkBytes - within);
        std::shared_ptr<Chunk>& chunk = chunks_[offset_bytes / kChunkBytes];
        std::memcpy(own_chunk(chunk).data() + within, from.data(), length);
        offset_bytes += length;
        from = from.subspan(length);
    }
}

void SparseBytes::zero(std::uint64_t offset_bytes, std::uint64_t length_bytes)
{
    const std::uint64_t end = std::min(offset_bytes + length_bytes, size_bytes_);
    while (offset_bytes < end) {
        const std::size_t within = static_cast<std::size_t>(offset_bytes % kChunkBytes);
        const std::size_t length = static_cast<std::size_t>(
            std::min<std::uint64_t>(end - offset_bytes, kChunkBytes - within));
        const auto chunk = chunks_.find(offset_bytes / kChunkBytes);
        if (chunk != chunks_.end()) {
            if (length == kChunkBytes) {
                chunks_.erase(chunk);
            } else if (chunk->second != nullptr) {
                std::memset(own_chunk(chunk->second).data() + within, 0, length);
            }
        }
        offset_bytes += length;
    }
}

void SparseBytes::allocate(std::uint64_t offset_bytes, std::uint64_t length_bytes)
{
    const std::uint64_t end = offset_bytes + length_bytes;
    for (std::uint64_t at = offset_bytes / kChunkBytes; at * kChunkBytes < end; ++at) {
        chunks_.try_emplace(at);
    }
    size_bytes_ = std::max(size_bytes_, end);
}

void SparseBytes::truncate(std::uint64_t size_bytes)
{
    if (size_bytes < size_bytes_) {
        // What is cut off must read as zeroes when the file grows again.
        zero(size_bytes, size_bytes_ - size_bytes);
    }
    size_bytes_ = size_bytes;
}

bool MemoryFile::has_room(std::uint64_t offset_bytes, std::uint64_t length_bytes) const
{
    if (limit_bytes_ == UINT64_MAX || length_bytes == 0) {
        return true;
    }
    std::uint64_t needed = 0;
    const std::uint64_t last = (offset_bytes + length_bytes - 1) / SparseBytes::kChunkBytes;
    for (std::uint64_t chunk = offset_bytes / SparseBytes::kChunkBytes; chunk <= last; ++chunk) {
        const bool taken = bytes_.allocated(chunk * SparseBytes::kChunkBytes);
        needed += taken ? 0 : SparseBytes::kChunkBytes;
    }
    return needed == 0 || bytes_.allocated_bytes() + needed <= limit_bytes_;
}

int MemoryFile::perform(const IoRequest& request)
{
    using Kind = IoRequest::Kind;
    std::uint64_t offset = request.offset_bytes;
    switch (request.kind) {
    case Kind::read:
        for (const iovec& buffer : request.buffers) {
            bytes_.read(offset, {static_cast<std::byte*>(buffer.iov_base), buffer.iov_len});
            offset += buffer.iov_len;
        }
        return 0;
    case Kind::write:
        if (!has_room(offset, request.length_bytes)) {
            return -ENOSPC;
        }
        for (const iovec& buffer : request.buffers) {
            bytes_.write(offset, {static_cast<std::byte*>(buffer.iov_base), buffer.iov_len});
            offset += buffer.iov_len;
        }
        return 0;
    case Kind::allocate:
        if (!has_room(offset, request.length_bytes)) {
            return -ENOSPC;
        }
        bytes_.allocate(offset, request.length_bytes);
        return 0;
    case Kind::discard: bytes_.zero(offset, request.length_bytes); return 0;
    case Kind::truncate: bytes_.truncate(offset); return 0;
    case Kind::sync: return 0;
    }
    CHECK(false && "the kind of a request is one of IoRequest::Kind");
    return -EINVAL;
}

void MemoryDisk::start(std::span<IoRequest> requests)
{
    for (IoRequest& request : requests) {
        const bool changes =
            request.kind != IoRequest::Kind::read && request.kind != IoRequest::Kind::sync;
        int error = fault_hook_ ? fault_hook_(request) : 0;
        if (error == 0 && read_only_ && changes) {
            error = EROFS;
        }
        complete(request, error != 0 ? -error : file_.perform(request));
    }
}

}  // namespace coppice
