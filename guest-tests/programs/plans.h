// plans.h: what write n of a seeded job covers; shared by those who write and those who judge.
#pragma once

#include "common.h"

#include <algorithm>
#include <vector>

namespace guest {

// sync-write: odd batches are one FUA write, even ones a few writes and an fsync.
struct Batch {
    std::vector<std::uint64_t> blocks;  // in the order of writing
    bool fua;
};

inline Batch batch(std::uint64_t seed, std::uint64_t number, std::uint64_t blocks)
{
    Random random(mix(seed) ^ (number << 8));
    Batch made{{}, number % 2 == 1};
    const std::uint64_t count = made.fua ? 1 : 1 + random.below(12);
    // No block twice: the order of a batch's writes must show in what is there.
    while (made.blocks.size() < count) {
        const std::uint64_t block = random.below(blocks);
        if (std::find(made.blocks.begin(), made.blocks.end(), block) == made.blocks.end())
            made.blocks.push_back(block);
    }
    return made;
}

// atomic-write: write n fills one unit of `units`.
inline std::uint64_t unit_of(std::uint64_t seed, std::uint64_t write, std::uint64_t units)
{
    return mix(mix(seed) ^ write) % units;
}

}  // namespace guest
