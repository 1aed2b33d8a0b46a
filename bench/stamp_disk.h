// A disk in memory for benches with more data than memory: a block that repeats one word of 8 bytes
// is kept as that word, any other (nodes, journal) as it is. It can take its time like an SSD:
// each request completes after a latency, and bytes pass one after the other.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <tsl/robin_map.h>

#include "format/base/units.h"
#include "format/disk/disk.h"
#include "format/disk/fiber_tasks.h"

namespace coppice::bench {

struct DiskSpeed {
    std::uint64_t latency_ns = 0;  // of a request; 0: everything completes at once
    double bytes_per_ns = 0;       // of all requests together
};

class StampDisk final : public Disk {
public:
    explicit StampDisk(FiberTasks& tasks) : Disk(tasks), fibers_(tasks) {}
    Result<std::uint64_t> size_bytes() override { return size_; }
    bool read_only() const override { return false; }

    void set_speed(const DiskSpeed& speed) { speed_ = speed; }
    std::uint64_t read_bytes = 0;
    std::uint64_t reads = 0;
    std::uint64_t written_bytes = 0;

protected:
    void start(std::span<IoRequest> requests) override
    {
        for (IoRequest& request : requests) {
            perform(request);
            if (speed_.latency_ns == 0) {
                complete(request, 0);
                continue;
            }
            const std::uint64_t now = fibers_.now_ns();
            busy_until_ns_ = std::max(busy_until_ns_, now) +
                             static_cast<std::uint64_t>(static_cast<double>(request.length_bytes) /
                                                        speed_.bytes_per_ns);
            fibers_.call_at(busy_until_ns_ + speed_.latency_ns,
                            [this, &request] { complete(request, 0); });
        }
    }

private:
    using Words = std::array<std::uint64_t, kBlockBytes / 8>;
    struct Block {
        std::uint64_t stamp = 0;
        std::unique_ptr<Words> words;  // null: the stamp, repeated
    };

    void perform(const IoRequest& request)
    {
        switch (request.kind) {
        case IoRequest::Kind::read:
            ++reads;
            read_bytes += request.length_bytes;
            each_block(request, [this](std::uint64_t block, void* to) { read(block, to); });
            break;
        case IoRequest::Kind::write:
            written_bytes += request.length_bytes;
            size_ = std::max(size_, request.offset_bytes + request.length_bytes);
            each_block(request, [this](std::uint64_t block, void* from) { write(block, from); });
            break;
        case IoRequest::Kind::truncate: size_ = request.offset_bytes; break;
        case IoRequest::Kind::allocate:
        case IoRequest::Kind::discard:
        case IoRequest::Kind::sync: break;
        }
    }

    template <typename Body>
    static void each_block(const IoRequest& request, Body body)
    {
        std::uint64_t block = request.offset_bytes / kBlockBytes;
        for (const iovec& buffer : request.buffers) {
            for (std::size_t at = 0; at < buffer.iov_len; at += kBlockBytes) {
                body(block++, static_cast<std::byte*>(buffer.iov_base) + at);
            }
        }
    }

    void read(std::uint64_t number, void* to) const
    {
        Words words;
        auto found = blocks_.find(number);
        if (found != blocks_.end() && found->second.words) {
            words = *found->second.words;
        } else {
            words.fill(found == blocks_.end() ? 0 : found->second.stamp);
        }
        std::memcpy(to, words.data(), kBlockBytes);
    }

    void write(std::uint64_t number, const void* from)
    {
        Words words;
        std::memcpy(words.data(), from, kBlockBytes);
        Block& block = blocks_[number];
        block.stamp = words[0];
        // All words are the same when each is the one behind it.
        if (std::memcmp(words.data(), words.data() + 1, kBlockBytes - 8) == 0) {
            block.words.reset();
        } else {
            block.words = std::make_unique<Words>(words);
        }
    }

    FiberTasks& fibers_;
    DiskSpeed speed_;
    std::uint64_t busy_until_ns_ = 0;
    tsl::robin_map<std::uint64_t, Block> blocks_;
    std::uint64_t size_ = 0;
};

}  // namespace coppice::bench
