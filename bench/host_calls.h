// Counts what a program writes and syncs where it meets the host: the C library's calls, of our own
// disks and of any library alike, so that all rows of a bench are counted by the same measure.
// Linking host_calls.cpp is what turns it on.
#pragma once

#include <cstdint>

namespace coppice::bench {

struct HostCalls {
    std::uint64_t writes = 0;
    std::uint64_t written_bytes = 0;
    std::uint64_t syncs = 0;  // fdatasync and fsync
};
extern HostCalls host_calls;

}  // namespace coppice::bench
