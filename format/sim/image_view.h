// An image as bytes: its superblocks, and the commits in its ring, as FORMAT.md says and with no
// code of the store's but layout and checksums.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "format/disk/memory_disk.h"
#include "format/layout/layout.h"

namespace coppice::sim {

class ImageView {
public:
    static constexpr std::uint64_t kRing = layout::kJournalStart;
    static constexpr std::uint64_t kRingBlocks = layout::kMinJournalBlocks;
    static constexpr std::uint64_t kFar = kRing + kRingBlocks;
    // Slot 0 and 1, near; slot 0 and 1, far.
    static constexpr std::array<std::uint64_t, 4> kSuperblocks = {1, 2, kFar, kFar + 1};

    // Of an image whose header is whole.
    explicit ImageView(const SparseBytes& image);

    template <typename Record>
    Record read(std::uint64_t block) const
    {
        static_assert(sizeof(Record) <= kBlockBytes);
        const std::vector<std::byte> bytes = block_bytes(block);
        Record record;
        std::memcpy(static_cast<void*>(&record), bytes.data(), sizeof(record));
        return record;
    }
    std::vector<std::byte> block_bytes(std::uint64_t block) const;
    SparseBytes& bytes() { return image_; }

    std::optional<layout::Superblock> superblock(std::size_t copy) const;
    // Of the newest that is valid.
    const layout::Superblock& newest() const { return newest_; }
    std::optional<layout::JournalBlockHeader> journal_block(std::uint64_t position) const;

    // What stands at the places of the commits behind the superblock, up to the end of replay.
    struct Commit {
        std::uint64_t number = 0;
        std::uint64_t position = 0;
        std::uint64_t blocks = 0;
        bool whole = false;     // all blocks fit
        bool verified = false;  // ... and the data have their checksums
    };
    std::vector<Commit> commits() const;
    // The newest commit that the superblock or a valid block of the ring says is synced.
    std::uint64_t synced() const;

    // -- changing it
    void flip(std::uint64_t block, std::size_t byte);
    // Writes bytes of a block and gives it its checksum again.
    void put(std::uint64_t block, std::size_t offset, std::span<const std::byte> bytes);
    template <typename Value>
    void put(std::uint64_t block, std::size_t offset, const Value& value)
    {
        put(block, offset, std::as_bytes(std::span(&value, 1)));
    }

private:
    bool fits(const Commit& commit, std::uint64_t index, std::uint64_t& chain) const;
    bool data_are_right(const Commit& commit) const;

    SparseBytes image_;
    std::uint64_t seed_ = 0;
    layout::ImageHeader header_{};
    layout::Superblock newest_{};
};

}  // namespace coppice::sim
