// Large data writes take turns at the host: at most so many bytes of them are under way, domain by
// domain, so that what others wait for (a commit, a small write, a sync) does not stand behind all
// that one writer has submitted.
#pragma once

#include <deque>
#include <map>

#include "format/disk/tasks.h"
#include "format/volume/domains.h"

namespace coppice {

// Most bytes of bulk data under way: 50 ms of a disk with 75 MB/s, and enough for a fast one.
inline constexpr std::uint64_t kBulkBytes = 4ULL << 20;

class BulkGate {
public:
    explicit BulkGate(Tasks& tasks) : tasks_(tasks) {}

    void enter(DomainId domain, std::uint64_t bytes);  // (task)
    void leave(std::uint64_t bytes);

private:
    struct Waiting {
        Task* task;
        std::uint64_t bytes;
        bool admitted = false;
    };
    bool fits(std::uint64_t bytes) const
    {
        return under_way_ == 0 || under_way_ + bytes <= kBulkBytes;
    }

    Tasks& tasks_;
    std::map<DomainId, std::deque<Waiting*>> waiting_;  // no empty queues
    DomainId last_;                                     // whose turn it was
    std::uint64_t under_way_ = 0;
};

}  // namespace coppice
