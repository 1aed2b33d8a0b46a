// The image header and the superblocks: formatted, written, found.
#pragma once

#include <memory>

#include "format/disk/disk.h"
#include "format/layout/layout.h"

namespace coppice {

struct Geometry {
    std::uint64_t journal_start = 0;
    std::uint64_t journal_blocks = 0;
    std::uint64_t superblock_near = 0;
    std::uint64_t superblock_far = 0;
    std::uint64_t fixed_blocks = 0;
};

// The geometry of a new image for volumes of this size.
Geometry geometry_for(std::uint64_t volume_bytes, std::uint64_t journal_bytes);

void finish_header(layout::ImageHeader& header);

// Writes the superblock of a generation to both copies of its slot. Durable after a sync. (task)
Status write_superblock(Disk& disk, layout::Superblock& superblock);

// On the heap: a task has 64 KiB of stack, and these are 4 KiB each.
struct Opened {
    std::unique_ptr<layout::ImageHeader> header;
    std::unique_ptr<layout::Superblock> superblock;
    Status writable;  // else why this build may only read it
};

// Reads and checks the header, or restores it in memory from a superblock; finds the newest valid
// superblock. (task)
Result<Opened> find_superblock(Disk& disk);

}  // namespace coppice
