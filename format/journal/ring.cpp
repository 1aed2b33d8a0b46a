#include "format/journal/ring.h"

#include <array>

#include "format/base/check.h"
#include "format/base/rules.h"

namespace coppice {

namespace {

struct RingPlace {
    Disk& disk;
    std::uint64_t start;
    std::uint64_t blocks;
};

// Writes from a block of the ring on, around its end if need be.
Status write_around(const RingPlace& ring, std::uint64_t at, std::span<const std::byte> blocks)
{
    const std::size_t first = std::min(blocks.size(), (ring.blocks - at) * kBlockBytes);
    std::array<iovec, 2> buffers{};
    std::array<IoRequest, 2> requests{};
    for (std::size_t i = 0; i < 2; ++i) {
        const auto part = i == 0 ? blocks.first(first) : blocks.subspan(first);
        buffers[i] = {const_cast<std::byte*>(part.data()), part.size()};
        requests[i].kind = IoRequest::Kind::write;
        requests[i].offset_bytes = (ring.start + (i == 0 ? at : 0)) * kBlockBytes;
        requests[i].length_bytes = part.size();
        requests[i].buffers = {&buffers[i], 1};
    }
    return ring.disk.run(
        {requests.data(), blocks.size() > first ? std::size_t{2} : std::size_t{1}});
}

}  // namespace

Ring::Ring(Disk& disk, std::uint64_t start_block, std::uint64_t blocks, std::uint64_t image_seed)
    : disk_(disk), start_(start_block), blocks_(blocks), image_seed_(image_seed)
{
}

void Ring::set(const JournalPosition& tail, const JournalPosition& head, CommitNo synced)
{
    tail_ = tail;
    head_ = head;
    synced_ = synced;
    used_ = distance(tail.block, head.block);
}

Status Ring::write(std::span<const JournalOperation> operations, Generation generation,
                   std::uint8_t flags)
{
    const CommitPlace place{head_.commit, generation, synced_, head_.chain, image_seed_, flags};
    std::uint64_t last_checksum = 0;
    BlockBytes blocks = encode_commit(operations, place, last_checksum);
    const std::uint64_t count = blocks.size() / kBlockBytes;
    // One block always stays free, so that a full ring is not taken for an empty one.
    CHECK(count < free_blocks() || !obeys(Rule::ring_tail_kept));

    // The head moves first: the caller is the only writer, and a failed write ends all writing.
    const std::uint64_t at = head_.block;
    head_.commit = head_.commit + 1;
    head_.block = (head_.block + count) % blocks_;
    head_.chain = last_checksum;
    used_ = std::min(used_ + count, blocks_);
    if (!obeys(Rule::commit_before_sync)) {
        disk_.tasks().spawn(
            [place = RingPlace{disk_, start_, blocks_}, at, written = std::move(blocks)] {
                (void)write_around(place, at, written);
            });
        return {};
    }
    return write_around({disk_, start_, blocks_}, at, blocks);
}

void Ring::move_tail(const JournalPosition& tail)
{
    tail_ = tail;
    used_ = distance(tail.block, head_.block);
}

}  // namespace coppice
