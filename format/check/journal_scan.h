// The journal's ring: which commits recovery would take, and what the ring proves to be missing
// (FORMAT.md section 5, the table under "Recovery").
//
//   read all blocks once, keep their headers -> follow the chain from the superblock's place
//   -> the newest `synced` -> rows of the table -> decode the commits one by one
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "format/check/image.h"

namespace coppice::checker {

// A commit as the ring holds it.
struct CommitPlace {
    std::uint64_t commit = 0;
    std::uint64_t position = 0;  // of its first block in the ring
    std::uint32_t blocks = 0;
    std::uint64_t synced = 0;
    std::uint64_t generation = 0;
};

struct JournalOperation {
    layout::OperationRecord record{};
    std::span<const std::byte> payload{};
};

struct Commit {
    layout::CommitHeader header{};
    std::vector<JournalOperation> operations;
    std::vector<std::byte> stream;  // what the payloads point into
};

// Where the chain of whole commits ends, and why: a row of FORMAT.md's table "Which commits".
struct JournalEnd {
    std::uint64_t commit = 0;  // the one that would come next
    std::uint64_t block = 0;   // of the image, where it would begin
    std::string row;
    std::string why;
};

class JournalScan {
public:
    JournalScan(Image& image, Findings& findings) : image_(image), findings_(findings) {}

    // Reads the ring and follows the chain; findings for what the ring proves to be missing.
    void run();

    // Whole, chained commits behind the superblock, in order, not yet verified by their data.
    const std::vector<CommitPlace>& commits() const { return commits_; }
    std::uint64_t newest_synced() const { return newest_synced_; }
    JournalEnd end() const;

    // Reads a commit and takes it apart. Empty text: every field is possible.
    std::string decode(const CommitPlace& place, Commit& into);

private:
    struct BlockFacts {
        bool journal = false;  // has the magic
        bool valid = false;    // ... and its checksum
        std::uint32_t index = 0;
        std::uint32_t count = 0;
        std::uint64_t commit = 0;
        std::uint64_t generation = 0;
        std::uint64_t previous = 0;
        std::uint64_t synced = 0;
        std::uint64_t checksum = 0;
    };

    const BlockFacts& at(std::uint64_t position) const
    {
        return blocks_[position % blocks_.size()];
    }
    bool read_ring();
    bool take_commit();
    void look_for_loss();
    JournalEnd end_at_a_loss(bool first_fits) const;
    bool first_fits() const;
    // Index of the first block of the next commit that does not continue it.
    std::uint64_t torn_block() const;

    Image& image_;
    Findings& findings_;
    std::vector<BlockFacts> blocks_;
    std::vector<CommitPlace> commits_;
    std::uint64_t next_commit_ = 0;
    std::uint64_t position_ = 0;
    std::uint64_t chain_ = 0;
    std::uint64_t newest_synced_ = 0;
    const BlockFacts* lost_superblock_ = nullptr;  // names a generation that was not found
    const BlockFacts* lost_commit_ = nullptr;      // says that a commit behind the end was synced
};

// "write", "write_zeroes", ..., "unknown (99)".
std::string operation_type_name(std::uint8_t type);

// What is wrong with the fields of one operation, by themselves; empty: nothing.
std::string judge_operation(const JournalOperation& operation, std::uint64_t fixed_blocks);

// Can it be of the command that the one before it belongs to? Empty: it can, or need not.
std::string judge_command(const layout::OperationRecord& before,
                          const layout::OperationRecord& record);

}  // namespace coppice::checker
