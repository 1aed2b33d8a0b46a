// Runs each seed in a process of its own: what goes wrong in it (a violation, a broken CHECK, a
// fault of memory, an endless loop) is one failed seed, and the others go on.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace coppice::sim {

struct SeedResult {
    bool failed = false;
    bool timed_out = false;
    std::string text;  // what was seen
};

// Runs `body` in a child and adds its counters to ours. `timeout_seconds` of processor time.
SeedResult run_in_child(const std::function<void()>& body, unsigned timeout_seconds);

struct SeedsOptions {
    std::uint64_t first = 1;
    std::uint64_t count = 1;
    unsigned jobs = 1;
    unsigned timeout_seconds = 60;
    bool stop_at_first_failure = false;
};

// Calls `body` for each seed, in children; `finished` in this process, in the order in which they
// end. Returns how many failed.
std::uint64_t run_seeds(const SeedsOptions& options,
                        const std::function<void(std::uint64_t seed)>& body,
                        const std::function<void(std::uint64_t seed, const SeedResult&)>& finished);

}  // namespace coppice::sim
