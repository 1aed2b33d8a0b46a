// pattern.h: blocks that say what they are.
//
// A block of any size (512 bytes and up, a multiple of 8) written for byte position `place` as
// `generation` holds
//     0  magic    8  place    16  generation    24  a stream that follows from all three and the
//     size
// so a reader knows from the block alone which write it came from, and any torn, mixed, stale or
// misplaced block differs somewhere. Generation 0 is never written: it means a block of zeroes.
#pragma once

#include "common.h"

#include <cstring>

namespace guest {

constexpr std::uint64_t pattern_magic = 0x6b636f6c62706f63;  // "copblock"
constexpr std::uint64_t never_written = 0;

inline void put_u64(std::byte* at, std::uint64_t value) { std::memcpy(at, &value, sizeof value); }
inline std::uint64_t get_u64(const std::byte* at)
{
    std::uint64_t value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

inline void make_block(std::byte* block, std::size_t bytes, std::uint64_t place,
                       std::uint64_t generation)
{
    put_u64(block, pattern_magic);
    put_u64(block + 8, place);
    put_u64(block + 16, generation);
    std::uint64_t word = mix(place ^ mix(generation ^ mix(bytes)));
    for (std::size_t at = 24; at < bytes; at += 8) {
        word = word * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX generator
        put_u64(block + at, word);
    }
}

// What a block turned out to be.
struct Found {
    bool whole;                // exactly one write's block, or all zeroes
    std::uint64_t place;       // as the block says; meaningless for zeroes
    std::uint64_t generation;  // never_written for zeroes
};

inline Found read_block(const std::byte* block, std::size_t bytes)
{
    if (get_u64(block) == 0) {
        bool zero = block[0] == std::byte{0} && std::memcmp(block, block + 1, bytes - 1) == 0;
        return {zero, 0, never_written};
    }
    Found found{false, get_u64(block + 8), get_u64(block + 16)};
    if (get_u64(block) != pattern_magic || found.generation == never_written) return found;
    Buffer expected(bytes);
    make_block(expected.data(), bytes, found.place, found.generation);
    found.whole = std::memcmp(block, expected.data(), bytes) == 0;
    return found;
}

}  // namespace guest
