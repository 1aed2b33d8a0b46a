// Contents of simulated volumes. A sector of 512 bytes is known by a stamp, a number that is given
// to one written sector only; stamp 0 is a sector of zeroes. The bytes say the stamp and can be
// verified alone, so the model keeps 8 bytes for a sector.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace coppice::sim {

using Stamp = std::uint64_t;
using Stamps = std::vector<Stamp>;
inline constexpr Stamp kZeroes = 0;
inline constexpr Stamp kGarbage = ~Stamp{0};  // bytes that no stamp has

// Fills whole sectors: `bytes` has 512 for each stamp.
void write_stamps(std::span<const Stamp> stamps, std::span<std::byte> bytes);
// The stamps of whole sectors.
Stamps read_stamps(std::span<const std::byte> bytes);

}  // namespace coppice::sim
