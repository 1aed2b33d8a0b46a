// Removing versions that nothing needs any more, in steps: each checkpoint spends a bounded amount
// of work on it, and what is left stands in a range operation (FORMAT.md, "Removal of a version"),
// so that a large snapshot neither makes a long checkpoint nor needs many nodes at once.
//
//   unneeded --begin, at a freeze--> under way --steps--> gone
//
//   no child    its dead lists are discarded, then its map is walked in the order of lba from the
//               cursor on; what it alone has is dropped. A node is dropped with the last of what is
//               below it, so that the way to the cursor is always there.
//   one child   records are taken out of the child's lists: what the version alone had and the
//               child has not. What is still there is what is left to do.
//
// A version under way stands no more: Catalog::parent_sequence looks past it, so that what its
// child drops meanwhile is dropped, or recorded, as if the version were gone. A removal begins only
// where neither the parent nor a child is under way: so a version under way keeps its parent and,
// if it has one, a child, and what was dropped of it can be told from two maps.
#pragma once

#include "format/volume/frozen.h"

namespace coppice {

class Removals {
public:
    // `state`: as it was opened; its range operations are those of the tree.
    explicit Removals(State& state);

    // Is there a version to be removed, or one under way?
    bool waiting() const;
    // Takes versions that nothing needs under way, within a freeze.
    void begin();
    // Goes on with those under way, as far as one checkpoint may. (task)
    Status step(Frozen& frozen);
    // Brings the tree of range operations in line with the frozen catalog. (task)
    Status write_operations(Frozen& frozen);
    // Could the last step do nothing, because what was freed before is still pinned?
    bool stuck() const { return stuck_; }

private:
    class Allowance;
    class Walk;

    Result<bool> merge(Frozen& frozen, VersionId id, Allowance& allowance);
    Result<bool> leave(Frozen& frozen, VersionId id, Allowance& allowance);
    Result<bool> discard_lists(Frozen& frozen, const Version& version, Allowance& allowance);
    static void finish(Catalog& catalog, VersionId id);

    State& state_;
    std::map<std::uint64_t, layout::RangeOperationItem> written_;  // what the tree holds
    bool stuck_ = false;
};

// Reads the range operations of an image that is opened: removals that were under way. An Error
// names one that cannot be. (task)
Status load_removals(State& state);

}  // namespace coppice
