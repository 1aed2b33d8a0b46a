// Operations as the journal holds them, and commits as runs of journal blocks (FORMAT.md,
// "Journal"). Bytes only: nothing here reads or writes a disk.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "format/base/block_bytes.h"
#include "format/base/result.h"
#include "format/base/units.h"
#include "format/layout/layout.h"

namespace coppice {

// One operation: its record and what it has in the commit's payload (for a write the checksums of
// its blocks from the second on and perhaps their data, for management a VolumeRecord).
struct JournalOperation {
    layout::OperationRecord record{};
    std::vector<std::byte> payload;

    layout::OperationType type() const { return static_cast<layout::OperationType>(record.type); }
    Sequence sequence() const { return Sequence(record.sequence); }
    VolumeId volume() const { return VolumeId(record.volume); }
    bool continues() const { return (record.flags & layout::kOperationContinues) != 0; }
    // Write: the checksum of block `index` of the operation.
    std::uint32_t checksum(std::uint64_t index) const;
    bool has_data() const { return (record.flags & layout::kOperationHasData) != 0; }
    // Write that has its data: all of them.
    std::span<const std::byte> data() const;
};

// Does an operation of this type say what is to be given back later, in steps (FORMAT.md, "Redo and
// intent")? Such a record is flagged as an intent, and no other one is.
constexpr bool is_intent(layout::OperationType type)
{
    return type == layout::OperationType::remove_volume || type == layout::OperationType::rollback;
}

// Journal blocks that a commit of these operations takes.
std::uint64_t commit_blocks(std::uint64_t operations, std::uint64_t payload_bytes);

// What the blocks of a commit carry beside its operations.
struct CommitPlace {
    CommitNo commit;
    Generation generation;
    CommitNo synced;
    std::uint64_t previous = 0;  // checksum of the journal block before it
    std::uint64_t image_seed = 0;
    std::uint8_t flags = 0;
};

// Formats a commit; `last_checksum` becomes that of its last block.
BlockBytes encode_commit(std::span<const JournalOperation> operations, const CommitPlace& place,
                         std::uint64_t& last_checksum);

struct DecodedCommit {
    CommitNo commit;
    std::uint8_t flags = 0;
    std::vector<JournalOperation> operations;
};

// The stream of a commit's blocks (without their headers) as operations; an Error names the field
// that cannot be. Data lie behind the first `fixed_blocks` blocks.
Result<DecodedCommit> decode_commit(CommitNo commit, std::span<const std::byte> stream,
                                    std::uint64_t fixed_blocks);

}  // namespace coppice
