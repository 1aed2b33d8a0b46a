#include "format/volume/last_word.h"

#include <algorithm>

namespace coppice {

namespace {

// A sweep from left to right. The changes over the current place are in a heap, the newest on top;
// one that has ended stays in it until it comes to the top.
class Sweep {
public:
    explicit Sweep(std::span<const RangeChange> changes) : changes_(changes)
    {
        reached_.reserve(changes.size());
        for (const RangeChange& change : changes) {
            reached_.push_back(change.lba);
        }
        result_.counts.reserve(changes.size());
    }

    LastWord run()
    {
        std::size_t next = 0;
        Lba at;
        while (next < changes_.size() || !active_.empty()) {
            if (active_.empty()) {
                at = changes_[next].lba;
            }
            while (next < changes_.size() && changes_[next].lba == at) {
                push(next++);
            }
            Lba end = changes_[active_.front()].end();
            if (next < changes_.size()) {
                end = std::min(end, changes_[next].lba);
            }
            take(active_.front(), at, end);
            at = end;
            while (!active_.empty() && changes_[active_.front()].end() <= at) {
                pop();
            }
        }
        return std::move(result_);
    }

private:
    auto older() const
    {
        return
            [this](std::size_t a, std::size_t b) { return changes_[a].order < changes_[b].order; };
    }
    void push(std::size_t change)
    {
        active_.push_back(change);
        std::push_heap(active_.begin(), active_.end(), older());
    }
    void pop()
    {
        const std::size_t change = active_.front();
        std::pop_heap(active_.begin(), active_.end(), older());
        active_.pop_back();
        lose(change, changes_[change].end());
    }

    // The change counts in [begin, end).
    void take(std::size_t change, Lba begin, Lba end)
    {
        lose(change, begin);
        reached_[change] = end;
        if (!result_.counts.empty() && result_.counts.back().change == change &&
            result_.counts.back().lba + result_.counts.back().length == begin) {
            result_.counts.back().length += end - begin;
        } else {
            result_.counts.push_back({change, begin, end - begin});
        }
    }
    // The change does not count from where it last did up to here.
    void lose(std::size_t change, Lba end)
    {
        if (reached_[change] < end) {
            result_.superseded.push_back({change, reached_[change], end - reached_[change]});
        }
    }

    std::span<const RangeChange> changes_;
    std::vector<Lba> reached_;  // up to where each change is dealt with
    std::vector<std::size_t> active_;
    LastWord result_;
};

}  // namespace

LastWord last_word(std::span<const RangeChange> changes) { return Sweep(changes).run(); }

}  // namespace coppice
