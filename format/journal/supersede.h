// Delayed logging: what a later operation of the same commit undoes need not be in the journal
// (D. Chinner, XFS delayed logging; FORMAT.md, "Order of a commit").
#pragma once

#include <vector>

#include "format/journal/commit.h"

namespace coppice {

// Takes out of the operations of one commit, which stand in ascending sequence, each write and
// deallocation all of whose range is written or deallocated by later ones of the same domain.
// Nothing is taken out across an operation that sees more than its own range: clones, snapshots and
// other management. Returns what was taken out.
std::vector<JournalOperation> supersede(std::vector<JournalOperation>& operations);

}  // namespace coppice
