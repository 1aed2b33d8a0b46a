// When blocks were in use again, as the log of the disk shows it.
#pragma once

#include <utility>
#include <vector>

#include "format/sim/sim_disk.h"

namespace coppice::sim {

inline bool within(const std::vector<std::pair<Event, Event>>& spans, Event event)
{
    for (const auto& [first, end] : spans) {
        if (first < event && event < end) {
            return true;
        }
    }
    return false;
}

// From when to when a block was in use again that an earlier checkpoint had freed, and no later one
// had written its superblock: the one that is there must not reach the block.
std::vector<std::pair<Event, Event>> reuse_before_checkpoints(const DiskLog& log);

}  // namespace coppice::sim
