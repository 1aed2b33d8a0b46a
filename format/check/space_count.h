// Who uses which block of the image: the checker's own count.
//
// Every user of blocks is added once: each map item of kind data for the version that owns it, each
// tree node and mirror. The count is kept as sorted segments of blocks that are used alike, and a
// list of what came since; they are merged now and then. So memory follows the number of
// *different* neighbours, which is small even where a disk was written at random, and never the
// image's size.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace coppice::checker {

struct UsedSegment {
    std::uint64_t start = 0;
    std::uint64_t end = 0;    // behind the last block
    std::uint32_t data = 0;   // map items of kind data, each for the version that owns it
    std::uint32_t nodes = 0;  // tree nodes and mirrors
};

class SpaceCount {
public:
    void add_data(std::uint64_t block, std::uint64_t length, std::uint32_t times = 1)
    {
        add(block, length, times, 0);
    }
    void add_node(std::uint64_t block) { add(block, 1, 0, 1); }

    // All segments in ascending order, none empty, neighbours different.
    std::span<const UsedSegment> segments();

    // The first segment that ends behind `block`; the end of `segments()` if there is none.
    std::span<const UsedSegment>::iterator find(std::uint64_t block);

private:
    void add(std::uint64_t block, std::uint64_t length, std::uint32_t data, std::uint32_t nodes);
    void merge();

    std::vector<UsedSegment> merged_;
    std::vector<UsedSegment> pending_;
};

}  // namespace coppice::checker
