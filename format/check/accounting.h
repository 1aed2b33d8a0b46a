// The trees that describe the space of the image, against the checker's own count of it.
//
//   references   extra = users - 1, for every block with more than one
//   checksums    one for every mapped block; with verify_data the blocks are read and compared
//   free space   exactly what is not in use; its info items, and the superblock's totals
//
// Whose block it is that has gone wrong is found afterwards, by one more walk of the maps.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "format/check/versions.h"

namespace coppice::checker {

// Something is wrong with blocks that maps name; `what` is said with the volumes that have them.
struct BlockProblem {
    FindingKind kind;
    std::uint64_t start = 0;
    std::uint64_t end = 0;
    std::string what;
};

struct BlockRange {
    std::uint64_t start = 0;
    std::uint64_t end = 0;
};

class Accounting {
public:
    Accounting(Image& image, TreeWalk& walk, SpaceCount& space, Findings& findings)
        : image_(image), walk_(walk), space_(space), findings_(findings)
    {
    }

    // After all maps were walked. `complete`: all of them could be read, so that what is not known
    // to be in use is not in use.
    void run(bool complete, Versions& versions);

    // What the free-space tree gives out, ascending; for the replay.
    const std::vector<BlockRange>& free_ranges() const { return free_; }

private:
    struct GroupState;

    void walk_references();
    void check_reference(const layout::ReferenceItem& item);
    void compare_references();
    void walk_checksums();
    void missing_checksums(std::uint64_t from, std::uint64_t to);
    void take_checksums(const layout::ChecksumItem& item, bool verify);
    void verify(std::uint64_t block, std::uint32_t checksum);
    void flush_verification();
    void walk_free_space();
    void take_free_item(const layout::FreeItem& item, GroupState& group);
    void begin_group(const layout::FreeItem& item, GroupState& group);
    void end_group(const GroupState& group);
    void missing_groups(std::uint64_t from, std::uint64_t to);
    void add_free(std::uint64_t start, std::uint64_t end);
    void compare_space();
    void judge_segment(const UsedSegment& segment);
    void judge_groups(const UsedSegment& segment);
    void check_totals();
    void attribute(Versions& versions);
    void problem(FindingKind kind, std::uint64_t start, std::uint64_t end, std::string what);
    void tree_finding(Severity severity, FindingKind kind, std::string_view tree,
                      std::uint64_t block, std::uint64_t blocks, std::string text);

    Image& image_;
    TreeWalk& walk_;
    SpaceCount& space_;
    Findings& findings_;

    struct Reference {
        std::uint64_t start, end;
        std::uint32_t extra;
    };
    std::vector<Reference> references_;
    std::vector<BlockRange> data_;  // blocks in use as data
    std::size_t data_index_ = 0;    // ... of which those before are judged for checksums
    std::uint64_t checked_to_ = 0;
    std::vector<BlockRange> free_;
    std::set<std::uint64_t> metadata_groups_;
    std::vector<BlockProblem> problems_;

    struct Verification {
        std::uint64_t start = 0;
        std::vector<std::uint32_t> checksums;
        std::unique_ptr<Block[]> buffer;
        std::uint64_t total = 0, done = 0;
    } verification_;

    bool complete_ = true;
};

}  // namespace coppice::checker
