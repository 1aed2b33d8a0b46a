// The dead tree, list by list, and the comparison of what it says with what two maps say.
//
// What the lists of a version name must be exactly what its parent's map has and its own has not:
// what is missing there is never given back, what is too much is freed under a reader.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "format/check/catalog.h"
#include "format/check/map_diff.h"

namespace coppice::checker {

struct DeadRecord {
    std::uint64_t birth = 0;
    std::uint64_t block = 0;  // range reference: the version
    std::uint64_t length = 0;
    layout::DeadKind kind = layout::DeadKind::data;
    std::uint64_t count = 1;  // how many times this left the version
};

class DeadLists {
public:
    // Reads the dead tree. False: part of it could not be read.
    bool load(Image& image, TreeWalk& walk, const Catalog& catalog, Findings& findings);

    const std::vector<DeadRecord>& of(std::uint64_t list) const;

private:
    std::map<std::uint64_t, std::vector<DeadRecord>> lists_;
};

// Where expected and actual records of one kind differ.
struct DeadDifference {
    DeadRecord record;     // the blocks in question
    bool missing = false;  // expected and not recorded; else recorded and not expected
};

// Both are multisets of blocks by birth: the order and how runs are cut do not matter.
std::vector<DeadDifference> compare_dead(const std::vector<DeadRecord>& expected,
                                         const std::vector<DeadRecord>& actual);

}  // namespace coppice::checker
