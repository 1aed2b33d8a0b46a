// Runs of blocks of the image, and what is known of them when they are given up.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "format/base/units.h"
#include "format/layout/layout.h"

namespace coppice {

struct Extent {
    BlockNo block;
    std::uint64_t length = 0;
};

// What a checkpoint has to do with may be long. A vector would be moved as a whole, in one go, when
// it grows.
using ExtentList = std::deque<Extent>;

// Something that left a version (FORMAT.md, "Who owns a block"). Whether it is free or only dead
// is decided in a checkpoint, by its birth and the version that then has the list.
struct Drop {
    ListId list;  // of the version that it left
    Sequence birth;
    layout::DeadKind kind;
    std::uint64_t block;   // of the image, or for range references the version
    std::uint64_t length;  // blocks
};
using DropList = std::deque<Drop>;

}  // namespace coppice
