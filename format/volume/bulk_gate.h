// Large data writes take turns, domain by domain: at most so many bytes of them find space and are
// at the host at once, so that what others wait for (a commit, a small write, a sync) does not
// stand behind all that one writer has submitted.
#pragma once

#include <algorithm>
#include <deque>
#include <map>

#include "format/disk/tasks.h"
#include "format/volume/domains.h"

namespace coppice {

// Most bytes of bulk data under way: where several domains are at work (13 ms of a disk with
// 75 MB/s), and where one is alone.
inline constexpr std::uint64_t kBulkBytesShared = 1ULL << 20;
inline constexpr std::uint64_t kBulkBytesAlone = 8ULL << 20;

class BulkGate {
public:
    explicit BulkGate(Tasks& tasks) : tasks_(tasks) {}

    // A turn, for as long as it lives.
    class Turn {
    public:
        Turn(BulkGate& gate, DomainId domain, std::uint64_t bytes, std::uint64_t most)
            : gate_(gate), bytes_(std::min(bytes, most))
        {
            gate_.most_ = most;
            gate_.enter(domain, bytes_);
        }
        Turn(const Turn&) = delete;
        Turn& operator=(const Turn&) = delete;
        ~Turn() { gate_.leave(bytes_); }

    private:
        BulkGate& gate_;
        std::uint64_t bytes_;
    };

private:
    void enter(DomainId domain, std::uint64_t bytes);  // (task)
    void leave(std::uint64_t bytes);
    struct Waiting {
        Task* task;
        std::uint64_t bytes;
        bool admitted = false;
    };
    bool fits(std::uint64_t bytes) const { return under_way_ == 0 || under_way_ + bytes <= most_; }

    Tasks& tasks_;
    std::map<DomainId, std::deque<Waiting*>> waiting_;  // no empty queues
    DomainId last_;                                     // whose turn it was
    std::uint64_t most_ = kBulkBytesAlone;
    std::uint64_t under_way_ = 0;
};

}  // namespace coppice
