#include "format/sim/image_view.h"

#include <algorithm>
#include <cstring>

#include "format/base/checksum.h"

namespace coppice::sim {

ImageView::ImageView(const SparseBytes& image)
    : image_(image), header_(read<layout::ImageHeader>(0))
{
    Le64 seed;
    std::memcpy(static_cast<void*>(&seed), header_.uuid.data(), sizeof(seed));
    seed_ = seed;
    for (std::size_t copy = 0; copy < kSuperblocks.size(); ++copy) {
        const auto found = superblock(copy);
        if (found && found->generation >= newest_.generation) {
            newest_ = *found;
        }
    }
}

std::vector<std::byte> ImageView::block_bytes(std::uint64_t block) const
{
    std::vector<std::byte> bytes(kBlockBytes);
    image_.read(block * kBlockBytes, bytes);
    return bytes;
}

std::optional<layout::Superblock> ImageView::superblock(std::size_t copy) const
{
    const auto found = read<layout::Superblock>(kSuperblocks[copy]);
    const bool valid =
        found.magic == layout::kSuperblockMagic && found.uuid == header_.uuid &&
        found.generation % layout::kSuperblockSlots == copy % layout::kSuperblockSlots &&
        found.checksum == metadata_checksum(block_bytes(kSuperblocks[copy]), seed_);
    return valid ? std::optional(found) : std::nullopt;
}

std::optional<layout::JournalBlockHeader> ImageView::journal_block(std::uint64_t position) const
{
    const std::uint64_t block = kRing + position % kRingBlocks;
    const auto found = read<layout::JournalBlockHeader>(block);
    const bool valid = found.magic == layout::kJournalMagic &&
                       found.checksum == metadata_checksum(block_bytes(block), seed_);
    return valid ? std::optional(found) : std::nullopt;
}

bool ImageView::fits(const Commit& commit, std::uint64_t index, std::uint64_t& chain) const
{
    const auto found = journal_block(commit.position + index);
    if (!found || found->commit != commit.number || found->index != index ||
        found->count != commit.blocks || found->previous != chain) {
        return false;
    }
    chain = found->checksum;
    return true;
}

std::vector<ImageView::Commit> ImageView::commits() const
{
    std::vector<Commit> found;
    std::uint64_t chain = newest_.journal_chain;
    Commit next{newest_.journal_commit, newest_.journal_position};
    const std::uint64_t known_synced = synced();
    for (bool more = true; more;) {
        const auto first = journal_block(next.position);
        next.blocks = first ? std::min<std::uint64_t>(first->count, kRingBlocks) : 0;
        next.whole = next.blocks != 0;
        for (std::uint64_t i = 0; i < next.blocks && next.whole; ++i) {
            next.whole = fits(next, i, chain);
        }
        next.verified = next.whole && data_are_right(next);
        found.push_back(next);
        more = next.whole && (next.verified || next.number <= known_synced);
        next = {next.number + 1, (next.position + next.blocks) % kRingBlocks};
    }
    return found;
}

std::uint64_t ImageView::synced() const
{
    std::uint64_t newest = newest_.journal_synced;
    for (std::uint64_t i = 0; i < kRingBlocks; ++i) {
        const auto found = journal_block(i);
        newest = std::max<std::uint64_t>(newest, found ? found->synced.get() : 0);
    }
    return newest;
}

bool ImageView::data_are_right(const Commit& commit) const
{
    std::vector<std::byte> stream;
    for (std::uint64_t i = 0; i < commit.blocks; ++i) {
        const auto block = block_bytes(kRing + (commit.position + i) % kRingBlocks);
        stream.insert(stream.end(), block.begin() + sizeof(layout::JournalBlockHeader),
                      block.end());
    }
    const auto take = [&](std::size_t offset, auto& record) {
        if (offset + sizeof(record) > stream.size()) {
            return false;
        }
        std::memcpy(static_cast<void*>(&record), stream.data() + offset, sizeof(record));
        return true;
    };
    layout::CommitHeader header{};
    take(0, header);
    const std::size_t payload =
        sizeof(header) + header.operations * sizeof(layout::OperationRecord);
    for (std::uint64_t i = 0; i < header.operations; ++i) {
        layout::OperationRecord record{};
        if (!take(sizeof(header) + i * sizeof(record), record)) {
            return false;
        }
        const bool elsewhere =
            record.type == static_cast<std::uint8_t>(layout::OperationType::write) &&
            (record.flags & layout::kOperationHasData) == 0;
        for (std::uint64_t block = 0; elsewhere && block < record.length; ++block) {
            Le32 checksum = record.checksum;
            if (block > 0 && !take(payload + record.payload_offset + (block - 1) * 4, checksum)) {
                return false;
            }
            if (data_checksum(block_bytes(record.block + block)) != checksum) {
                return false;
            }
        }
    }
    return true;
}

void ImageView::flip(std::uint64_t block, std::size_t byte)
{
    std::vector<std::byte> bytes = block_bytes(block);
    bytes[byte] ^= std::byte{1};
    image_.write(block * kBlockBytes, bytes);
}

void ImageView::put(std::uint64_t block, std::size_t offset, std::span<const std::byte> bytes)
{
    std::vector<std::byte> all = block_bytes(block);
    std::copy(bytes.begin(), bytes.end(), all.begin() + static_cast<std::ptrdiff_t>(offset));
    // The header has its magic in front.
    const std::size_t field = block == 0 ? offsetof(layout::ImageHeader, checksum) : 0;
    const Le64 checksum =
        metadata_checksum(std::span<const std::byte>(all).subspan(field), block == 0 ? 0 : seed_);
    std::memcpy(all.data() + field, static_cast<const void*>(&checksum), sizeof(checksum));
    image_.write(block * kBlockBytes, all);
}

}  // namespace coppice::sim
