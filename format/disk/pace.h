// Long work gives way: between its pieces it says what they cost, and every so often others run.
// No command then waits for more than about one step of a checkpoint.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "format/disk/tasks.h"

namespace coppice {

// How much is done before others may run. The simulator's images are small, and should give way in
// many places all the same: there it is less.
constexpr std::size_t before_others([[maybe_unused]] std::size_t amount,
                                    [[maybe_unused]] std::size_t simulated)
{
#if defined(COPPICE_BREAKABLE_RULES)
    return simulated;
#else
    return amount;
#endif
}

class Pace {
public:
    explicit Pace(Tasks& tasks) : tasks_(tasks) {}

    // A piece of work is done; what it took is an estimate in nanoseconds, as a clock would make
    // runs of the simulator differ. Others may run before this returns. (task)
    void step(std::uint64_t cost_ns)
    {
        spent_ns_ += cost_ns;
        if (spent_ns_ >= kTurnNs) {
            spent_ns_ = 0;
            tasks_.yield();
        }
    }

private:
    static constexpr std::uint64_t kTurnNs = before_others(100'000, 4'000);

    Tasks& tasks_;
    std::uint64_t spent_ns_ = 0;
};

// Sorts, in steps: short runs first, then two neighbours of them into one, until there is one. Only
// the caller has the items. (task)
template <typename Item, typename Less>
void sort_in_steps(Pace& pace, std::vector<Item>& items, Less less)
{
    constexpr std::size_t kRun = 512;
    constexpr std::uint64_t kSortNs = 200;  // of an item in a run
    constexpr std::uint64_t kMergeNs = 40;
    const auto at = [](std::vector<Item>& of, std::size_t index) {
        return of.begin() + static_cast<std::ptrdiff_t>(std::min(index, of.size()));
    };
    for (std::size_t begin = 0; begin < items.size(); begin += kRun) {
        std::sort(at(items, begin), at(items, begin + kRun), less);
        pace.step(std::min(kRun, items.size() - begin) * kSortNs);
    }
    std::vector<Item> merged;
    merged.reserve(items.size() > kRun ? items.size() : 0);
    for (std::size_t run = kRun; run < items.size(); run *= 2) {
        merged.clear();
        for (std::size_t begin = 0; begin < items.size(); begin += 2 * run) {
            auto left = at(items, begin);
            const auto left_end = at(items, begin + run);
            auto right = left_end;
            const auto right_end = at(items, begin + 2 * run);
            while (left != left_end || right != right_end) {
                const bool from_right =
                    left == left_end || (right != right_end && less(*right, *left));
                merged.push_back(std::move(from_right ? *right++ : *left++));
                pace.step(kMergeNs);
            }
        }
        items.swap(merged);
    }
}

}  // namespace coppice
