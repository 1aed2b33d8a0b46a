// The data of a commit's write operations: their checksums, where the data are, and whether they
// are there.
#pragma once

#include "format/check/journal_scan.h"

namespace coppice::checker {

// Write: the checksum of block `index` of the operation.
std::uint32_t expected_checksum(const JournalOperation& operation, std::uint64_t index);
// The data of a block that the commit carries itself; else nothing.
std::span<const std::byte> carried_data(const JournalOperation& operation, std::uint64_t index);
// Recovery takes a commit that no sync is known to cover only if this holds: each block that its
// writes put elsewhere in the image, behind the superblock's sequence, has its checksum. Reads
// them.
bool data_verify(Image& image, const Commit& commit);

}  // namespace coppice::checker
