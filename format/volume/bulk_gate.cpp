#include "format/volume/bulk_gate.h"

namespace coppice {

void BulkGate::enter(DomainId domain, std::uint64_t bytes)
{
    if (waiting_.empty() && fits(bytes)) {
        under_way_ += bytes;
        return;
    }
    Waiting self{tasks_.current(), bytes};
    waiting_[domain].push_back(&self);
    while (!self.admitted) {
        tasks_.suspend();
    }
}

void BulkGate::leave(std::uint64_t bytes)
{
    under_way_ -= bytes;
    while (!waiting_.empty()) {
        auto turn = waiting_.upper_bound(last_);
        if (turn == waiting_.end()) {
            turn = waiting_.begin();
        }
        Waiting* next = turn->second.front();
        if (!fits(next->bytes)) {
            return;
        }
        under_way_ += next->bytes;
        next->admitted = true;
        tasks_.wake(next->task);
        last_ = turn->first;
        turn->second.pop_front();
        if (turn->second.empty()) {
            waiting_.erase(turn);
        }
    }
}

}  // namespace coppice
