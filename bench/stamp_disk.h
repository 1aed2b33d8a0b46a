// A disk in memory for benches with more data than memory: a block that repeats one word of 8 bytes
// is kept as that word, any other (nodes, journal) as it is. It can take its time like an SSD:
// each request completes after a latency, and bytes pass one after the other.
//
// Words lie in a sparse range of addresses, found by the block's number, and other blocks in slots,
// which `prepare` makes present: nothing here is ever moved or searched, and no page of memory
// comes into being, so that a bench of the longest stop measures the store.
#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <sys/mman.h>
#include <vector>

#include "format/base/units.h"
#include "format/disk/disk.h"
#include "format/disk/fiber_tasks.h"

namespace coppice::bench {

struct DiskSpeed {
    std::uint64_t latency_ns = 0;  // of a request; 0: everything completes at once
    double bytes_per_ns = 0;       // of all requests together
};

// Zeroes that take memory where they are written.
class SparseMemory {
public:
    explicit SparseMemory(std::uint64_t bytes) : bytes_(bytes)
    {
        memory_ = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory_ == MAP_FAILED) {
            std::perror("bench: mmap");
            std::exit(1);
        }
        // A huge page is zeroed in one go, which takes longer than what is measured.
        ::madvise(memory_, bytes, MADV_NOHUGEPAGE);
    }
    ~SparseMemory() { ::munmap(memory_, bytes_); }
    SparseMemory(const SparseMemory&) = delete;
    SparseMemory& operator=(const SparseMemory&) = delete;

    std::byte* at(std::uint64_t offset) const { return static_cast<std::byte*>(memory_) + offset; }

private:
    void* memory_;
    std::uint64_t bytes_;
};

class StampDisk final : public Disk {
public:
    explicit StampDisk(FiberTasks& tasks) : Disk(tasks), fibers_(tasks) {}
    Result<std::uint64_t> size_bytes() override { return size_; }
    bool read_only() const override { return false; }

    // So many blocks that repeat no word can be written without memory being asked for.
    void prepare(std::uint64_t blocks)
    {
        for (std::uint64_t i = 0; i < blocks; ++i) {
            *blocks_.at(i * kBlockBytes) = std::byte{1};
        }
    }
    void set_speed(const DiskSpeed& speed) { speed_ = speed; }
    // Sees each request when it is begun, and when it will have completed.
    using Log = std::function<void(const IoRequest&, std::uint64_t end_ns)>;
    void set_log(Log log) { log_ = std::move(log); }
    std::uint64_t read_bytes = 0;
    std::uint64_t reads = 0;
    std::uint64_t written_bytes = 0;
    std::uint64_t writes = 0;
    std::uint64_t syncs = 0;

protected:
    void start(std::span<IoRequest> requests) override
    {
        for (IoRequest& request : requests) {
            perform(request);
            if (speed_.latency_ns == 0 && speed_.bytes_per_ns == 0) {
                note(request, fibers_.now_ns());
                complete(request, 0);
                continue;
            }
            const std::uint64_t now = fibers_.now_ns();
            busy_until_ns_ = std::max(busy_until_ns_, now) +
                             static_cast<std::uint64_t>(static_cast<double>(request.length_bytes) /
                                                        speed_.bytes_per_ns);
            note(request, busy_until_ns_ + speed_.latency_ns);
            fibers_.call_at(busy_until_ns_ + speed_.latency_ns,
                            [this, &request] { complete(request, 0); });
        }
    }

private:
    // 4 TiB; of each its word, or the slot that it is kept in as it is, and which of the two.
    static constexpr std::uint64_t kMostBlocks = 1ULL << 30;
    using Words = std::array<std::uint64_t, kBlockBytes / 8>;

    void note(const IoRequest& request, std::uint64_t end_ns)
    {
        if (log_) {
            log_(request, end_ns);
        }
    }

    void perform(const IoRequest& request)
    {
        switch (request.kind) {
        case IoRequest::Kind::read:
            ++reads;
            read_bytes += request.length_bytes;
            each_block(request, [this](std::uint64_t block, void* to) { read(block, to); });
            break;
        case IoRequest::Kind::write:
            ++writes;
            written_bytes += request.length_bytes;
            size_ = std::max(size_, request.offset_bytes + request.length_bytes);
            each_block(request, [this](std::uint64_t block, void* from) { write(block, from); });
            break;
        case IoRequest::Kind::truncate: size_ = request.offset_bytes; break;
        case IoRequest::Kind::sync: ++syncs; break;
        case IoRequest::Kind::allocate:
        case IoRequest::Kind::discard: break;
        }
    }

    template <typename Body>
    static void each_block(const IoRequest& request, Body body)
    {
        std::uint64_t block = request.offset_bytes / kBlockBytes;
        for (const iovec& buffer : request.buffers) {
            for (std::size_t at = 0; at < buffer.iov_len; at += kBlockBytes) {
                if (block >= kMostBlocks) {
                    std::fprintf(stderr, "bench: the image became larger than 4 TiB\n");
                    std::exit(1);
                }
                body(block++, static_cast<std::byte*>(buffer.iov_base) + at);
            }
        }
    }

    std::uint64_t word(std::uint64_t number) const
    {
        std::uint64_t word = 0;
        std::memcpy(&word, words_.at(number * 8), sizeof(word));
        return word;
    }
    bool whole(std::uint64_t number) const { return *whole_.at(number) != std::byte{0}; }

    void read(std::uint64_t number, void* to) const
    {
        if (whole(number)) {
            std::memcpy(to, blocks_.at(word(number) * kBlockBytes), kBlockBytes);
            return;
        }
        Words words;
        words.fill(word(number));
        std::memcpy(to, words.data(), kBlockBytes);
    }

    std::uint64_t take_slot()
    {
        if (free_slots_.empty()) {
            return next_slot_++;
        }
        const std::uint64_t slot = free_slots_.back();
        free_slots_.pop_back();
        return slot;
    }

    void write(std::uint64_t number, const void* from)
    {
        const auto* bytes = static_cast<const std::byte*>(from);
        // All words are the same when each is the one behind it.
        const bool repeats = std::memcmp(bytes, bytes + 8, kBlockBytes - 8) == 0;
        if (repeats && whole(number)) {
            free_slots_.push_back(word(number));
            *whole_.at(number) = std::byte{0};
        } else if (!repeats && !whole(number)) {
            const std::uint64_t slot = take_slot();
            std::memcpy(words_.at(number * 8), &slot, sizeof(slot));
            *whole_.at(number) = std::byte{1};
        }
        if (repeats) {
            std::memcpy(words_.at(number * 8), from, 8);
        } else {
            std::memcpy(blocks_.at(word(number) * kBlockBytes), from, kBlockBytes);
        }
    }

    FiberTasks& fibers_;
    DiskSpeed speed_;
    Log log_;
    std::uint64_t busy_until_ns_ = 0;
    SparseMemory blocks_{kMostBlocks * kBlockBytes};
    SparseMemory words_{kMostBlocks * 8};
    SparseMemory whole_{kMostBlocks};  // a byte for each block: 1, kept as it is
    std::vector<std::uint64_t> free_slots_;
    std::uint64_t next_slot_ = 0;
    std::uint64_t size_ = 0;
};

}  // namespace coppice::bench
