// Runs of blocks of the image, and what is known of them when they are given up.
#pragma once

#include <cstdint>
#include <vector>

#include "format/base/long_list.h"
#include "format/base/units.h"
#include "format/layout/layout.h"

namespace coppice {

struct Extent {
    BlockNo block;
    std::uint64_t length = 0;
};

using ExtentList = LongList<Extent>;

// Something that left a version (FORMAT.md, "Who owns a block"). Whether it is free or only dead
// is decided in a checkpoint, by its birth and the version that then has the list.
struct Drop {
    ListId list;  // of the version that it left
    Sequence birth;
    layout::DeadKind kind;
    std::uint64_t block;   // of the image, or for range references the version
    std::uint64_t length;  // blocks
};
using DropList = LongList<Drop>;

}  // namespace coppice
