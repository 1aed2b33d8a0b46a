// Reading the ring after a crash: the commits that continue the superblock's chain, and whether
// something is missing that must be there (FORMAT.md, "Recovery").
#pragma once

#include <vector>

#include "format/disk/disk.h"
#include "format/journal/ring.h"

namespace coppice {

struct ScannedCommit {
    DecodedCommit commit;
    JournalPosition end;  // where the next one would begin
};

struct Scan {
    std::vector<ScannedCommit> commits;  // whole and chained, in order
    CommitNo synced;                     // newest that a completed sync is known to cover
};

struct ScanStart {
    std::uint64_t start_block = 0;
    std::uint64_t blocks = 0;
    std::uint64_t fixed_blocks = 0;  // of the image
    std::uint64_t image_seed = 0;
    Generation generation;  // of the superblock
    JournalPosition position;
    CommitNo synced;
};

Result<Scan> scan_journal(Disk& disk, const ScanStart& start);  // (task)

}  // namespace coppice
