// Random numbers of the simulator: the same on every machine for the same seed (the standard fixes
// the engine's output, but not that of its distributions).
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>

namespace coppice::sim {

class Random {
public:
    explicit Random(std::uint64_t seed) : engine_(seed) {}

    std::uint64_t next() { return engine_(); }
    // 0 .. end - 1; `end` is not 0.
    std::uint64_t below(std::uint64_t end) { return engine_() % end; }
    // first .. last.
    std::uint64_t between(std::uint64_t first, std::uint64_t last)
    {
        return first + below(last - first + 1);
    }
    bool chance(unsigned percent) { return below(100) < percent; }

    // An index into `weights`, each with the probability of its share.
    std::size_t weighted(std::span<const unsigned> weights)
    {
        std::uint64_t sum = 0;
        for (const unsigned weight : weights) {
            sum += weight;
        }
        std::uint64_t at = below(sum);
        for (std::size_t i = 0; i < weights.size(); ++i) {
            if (at < weights[i]) {
                return i;
            }
            at -= weights[i];
        }
        return 0;
    }

private:
    std::mt19937_64 engine_;
};

}  // namespace coppice::sim
