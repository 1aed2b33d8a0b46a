// The checker: reads an image and says what is wrong with it. It writes nothing.
//
// It is a second reader of the format, made to disagree with the store: it shares only
// layout/layout.h, the base library and the disk port with it, and has its own walk of the trees,
// its own count of space and its own replay of the journal. FORMAT.md, "What a checker must find",
// says what it counts and why that is exact.
//
//   checker.cpp        the order of the phases
//   image.*            header, superblocks, aligned reads
//   node_reader.*      one tree node, verified
//   tree_walk.*        the trees of the image, item by item
//   catalog.*          volumes, versions and lists, and what becomes of removed versions
//   map_cursor.*       one side of a comparison of two maps
//   map_diff.*         a version's map against its parent's
//   versions.*         all versions: who owns what, dead lists, held blocks
//   space_count.*      who uses which block of the image
//   accounting.*       references, checksums, free space and totals against that count
//   journal_scan.*     the ring and its decision table
//   journal_replay.*   operations behind the superblock, in a model
//
// Memory is bounded by the metadata of the image: at most some 64 bytes for each item of its trees,
// and much less where neighbouring blocks are used alike. No input makes it crash, loop or recurse.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "format/base/result.h"
#include "format/check/finding.h"
#include "format/disk/disk.h"

namespace coppice {

struct CheckProgress {
    std::string_view phase;
    std::uint64_t done = 0;   // blocks
    std::uint64_t total = 0;  // 0: not known
};

struct CheckOptions {
    bool verify_data = false;      // read every data block and compare its checksum
    bool replay = true;            // apply the operations of the journal to a model
    unsigned max_findings = 1000;  // further ones are counted, not kept
    std::function<void(const Finding&)> on_finding = {};
    std::function<void(const CheckProgress&)> on_progress = {};
};

struct CheckReport {
    std::vector<Finding> findings;
    std::uint64_t corruptions = 0;
    std::uint64_t leaks = 0;
    std::uint64_t repairables = 0;

    std::uint64_t generation = 0;
    std::uint64_t sequence = 0;
    std::uint64_t volumes = 0;  // snapshots are counted apart
    std::uint64_t snapshots = 0;
    std::uint64_t versions = 0;
    std::uint64_t image_blocks = 0;
    std::uint64_t fixed_blocks = 0;
    std::uint64_t data_blocks = 0;  // as counted here
    std::uint64_t node_blocks = 0;
    std::uint64_t free_blocks = 0;
    std::uint64_t leaked_blocks = 0;
    std::uint64_t shared_blocks = 0;    // with more than one reference
    std::uint64_t verified_blocks = 0;  // data blocks read and found right
    std::uint64_t journal_commits = 0;  // behind the superblock, that recovery would apply
    std::uint64_t journal_operations = 0;
    bool space_complete = true;   // false: damaged nodes made an exact count of space impossible
    bool replay_complete = true;  // false: more snapshots and writes than the model has memory for

    bool clean() const { return corruptions == 0 && leaks == 0 && repairables == 0; }
};

// Runs in a task. An error means that there is nothing to check: not an image, of an unknown
// version, or without any usable superblock.
Result<CheckReport> check(Disk& disk, const CheckOptions& options);

}  // namespace coppice
