// Many changes of ranges, one after the other: which of them has the last word where, and what of
// each is superseded. Knows nothing of maps.
#pragma once

#include <span>
#include <vector>

#include "format/base/units.h"

namespace coppice {

// A change of [lba, lba + length); of two that overlap the one of higher order counts.
struct RangeChange {
    Lba lba;
    std::uint64_t length = 0;
    std::size_t order = 0;

    Lba end() const { return lba + length; }
};

// A part of a change.
struct ChangePart {
    std::size_t change = 0;  // index
    Lba lba;
    std::uint64_t length = 0;
};

struct LastWord {
    std::vector<ChangePart> counts;      // in ascending order; do not overlap
    std::vector<ChangePart> superseded;  // the rest
};

// `changes` are in ascending order of their lba; no two have the same order.
LastWord last_word(std::span<const RangeChange> changes);

}  // namespace coppice
