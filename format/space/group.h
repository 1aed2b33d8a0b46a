// One block group in memory: two bitmaps of its 8192 blocks. `free` is what may be taken now;
// `tree_free` is what the free-space tree says. They differ by what was taken since the last
// checkpoint, and by what was freed but may not be re-used yet.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <vector>

#include "format/base/units.h"
#include "format/layout/layout.h"

namespace coppice {

class BlockBits {
public:
    static constexpr std::uint64_t kBits = layout::kGroupBlocks;

    bool test(std::uint64_t bit) const { return (words_[bit / 64] >> (bit % 64) & 1U) != 0; }
    // Sets or clears [begin, begin + count); all must have had the other value, else false.
    bool set(std::uint64_t begin, std::uint64_t count) { return change(begin, count, true); }
    bool clear(std::uint64_t begin, std::uint64_t count) { return change(begin, count, false); }

    // First set bit at or behind `from`, or kBits.
    std::uint64_t next_set(std::uint64_t from) const { return next(from, 0); }
    std::uint64_t next_clear(std::uint64_t from) const { return next(from, ~std::uint64_t{0}); }

    std::uint64_t count() const
    {
        std::uint64_t result = 0;
        for (std::uint64_t word : words_) {
            result += static_cast<std::uint64_t>(std::popcount(word));
        }
        return result;
    }
    // Set bits in [begin, begin + length).
    std::uint64_t count(std::uint64_t begin, std::uint64_t length) const
    {
        std::uint64_t result = 0;
        const std::uint64_t end = begin + length;
        for (std::uint64_t bit = next_set(begin); bit < end; bit = next_set(bit)) {
            const std::uint64_t run_end = std::min(next_clear(bit), end);
            result += run_end - bit;
            bit = run_end;
        }
        return result;
    }
    std::uint64_t word(std::uint64_t index) const { return words_[index]; }
    void set_word(std::uint64_t index, std::uint64_t value) { words_[index] = value; }

private:
    bool change(std::uint64_t begin, std::uint64_t count, bool to)
    {
        bool all_changed = true;
        while (count > 0) {
            const std::uint64_t shift = begin % 64;
            const std::uint64_t bits = std::min<std::uint64_t>(64 - shift, count);
            const std::uint64_t mask =
                (bits == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1) << shift;
            std::uint64_t& word = words_[begin / 64];
            all_changed = all_changed && (word & mask) == (to ? 0 : mask);
            word = to ? word | mask : word & ~mask;
            begin += bits;
            count -= bits;
        }
        return all_changed;
    }

    std::uint64_t next(std::uint64_t from, std::uint64_t flip) const
    {
        while (from < kBits) {
            const std::uint64_t word = (words_[from / 64] ^ flip) >> (from % 64);
            if (word != 0) {
                return from + static_cast<std::uint64_t>(std::countr_zero(word));
            }
            from = (from / 64 + 1) * 64;
        }
        return kBits;
    }

    std::array<std::uint64_t, kBits / 64> words_{};
};

// Nodes that a generation took and the tree has not been told of, by the generation's parity. A bit
// for each: a set's entries would be freed by the ten thousand while the tree is written, and the
// allocator then looks through all of them at once.
class TakenNodes {
public:
    void note(std::size_t parity, std::uint64_t bit)
    {
        if (bits_ == nullptr) {
            bits_ = std::make_unique<std::array<BlockBits, 2>>();
        }
        (*bits_)[parity].set(bit, 1);
    }
    // Was it one?
    bool forget(std::size_t parity, std::uint64_t bit)
    {
        return bits_ != nullptr && (*bits_)[parity].clear(bit, 1);
    }

private:
    std::unique_ptr<std::array<BlockBits, 2>> bits_;  // of groups that hold nodes
};

struct Group {
    BlockBits free;
    BlockBits tree_free;
    BlockBits stale;  // free data blocks that were freed since the open: the host still keeps them
    std::uint64_t free_count = 0;
    bool metadata = false;
    bool bitmaps = false;                // how the tree lists it
    bool in_tree = false;                // it has an info item
    std::uint64_t allocated_blocks = 0;  // metadata: physically there, from the group's start
    TakenNodes taken;
};

}  // namespace coppice
