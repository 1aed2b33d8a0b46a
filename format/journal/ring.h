// The journal ring while the image is open: where the next commit goes, and how much of the ring a
// durable superblock still needs.
#pragma once

#include "format/disk/disk.h"
#include "format/journal/commit.h"

namespace coppice {

// A place in the journal: the next commit's number and block, and the chain up to there.
struct JournalPosition {
    CommitNo commit;          // number of the commit that begins here
    std::uint64_t block = 0;  // relative to the start of the ring
    std::uint64_t chain = 0;  // checksum of the journal block before it
};

class Ring {
public:
    Ring(Disk& disk, std::uint64_t start_block, std::uint64_t blocks, std::uint64_t image_seed);

    // After opening: the tail is where the superblock lets replay start, the head where it ended.
    void set(const JournalPosition& tail, const JournalPosition& head, CommitNo synced);

    // Writes one commit at the head. It must fit (free_blocks). (task)
    Status write(std::span<const JournalOperation> operations, Generation generation,
                 std::uint8_t flags);

    // Every commit before `commit` and all their data are durable.
    void note_synced(CommitNo commit) { synced_ = commit; }

    // A superblock that starts replay here is durable: what lies before may be overwritten.
    void move_tail(const JournalPosition& tail);

    const JournalPosition& head() const { return head_; }
    CommitNo synced() const { return synced_; }
    CommitNo last_written() const { return CommitNo(head_.commit.value - 1); }
    std::uint64_t blocks() const { return blocks_; }
    std::uint64_t used_blocks() const { return used_; }
    std::uint64_t free_blocks() const { return blocks_ - used_; }
    // The most blocks that one commit may take.
    std::uint64_t commit_limit() const { return blocks_ / layout::kCommitRingFraction; }

private:
    std::uint64_t distance(std::uint64_t from, std::uint64_t to) const
    {
        return (to + blocks_ - from) % blocks_;
    }

    Disk& disk_;
    std::uint64_t start_;
    std::uint64_t blocks_;
    std::uint64_t image_seed_;
    JournalPosition tail_;
    JournalPosition head_;
    CommitNo synced_;
    std::uint64_t used_ = 0;
};

}  // namespace coppice
