#include "format/sim/stamps.h"

#include <array>
#include <cstring>

#include "format/base/check.h"
#include "format/sim/sim_disk.h"

namespace coppice::sim {

namespace {

constexpr std::size_t kWords = kSectorBytes / sizeof(std::uint64_t);

std::array<std::uint64_t, kWords> words_of(Stamp stamp)
{
    std::array<std::uint64_t, kWords> words{};
    if (stamp != kZeroes) {
        std::uint64_t word = stamp;
        for (std::uint64_t& each : words) {
            each = word;
            word = word * 6364136223846793005ULL + 1442695040888963407ULL;
        }
    }
    return words;
}

}  // namespace

void write_stamps(std::span<const Stamp> stamps, std::span<std::byte> bytes)
{
    CHECK(bytes.size() == stamps.size() * kSectorBytes);
    for (std::size_t i = 0; i < stamps.size(); ++i) {
        const auto words = words_of(stamps[i]);
        std::memcpy(bytes.data() + i * kSectorBytes, words.data(), kSectorBytes);
    }
}

Stamps read_stamps(std::span<const std::byte> bytes)
{
    CHECK(bytes.size() % kSectorBytes == 0);
    Stamps stamps(bytes.size() / kSectorBytes);
    for (std::size_t i = 0; i < stamps.size(); ++i) {
        Stamp stamp = 0;
        std::memcpy(&stamp, bytes.data() + i * kSectorBytes, sizeof(stamp));
        const auto words = words_of(stamp);
        const bool whole =
            std::memcmp(bytes.data() + i * kSectorBytes, words.data(), kSectorBytes) == 0;
        stamps[i] = whole ? stamp : kGarbage;
    }
    return stamps;
}

}  // namespace coppice::sim
