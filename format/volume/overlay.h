// What is to become of blocks of one volume when a command that is being gathered takes effect: new
// data, in memory or at new places in the image already, or nothing. A table only; it takes and
// returns no space.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "format/space/extent.h"
#include "format/volume/buffer.h"

namespace coppice {

class Overlay {
public:
    enum class Kind : std::uint8_t {
        memory,        // one block, in `buffer`
        placed,        // `length` blocks from `block` of the image on
        deallocate,    // the range has no data any more
        write_zeroes,  // the same, as another operation
        unchanged,     // stays as it is, and nobody else may change it
    };
    struct Item {
        Kind kind = Kind::unchanged;
        std::uint64_t length = 1;
        std::shared_ptr<BlockBuffer> buffer{};
        BlockNo block{};
        std::vector<std::uint32_t> checksums{};  // placed: one for each block
    };

    // Puts an item in place of what was there. Placed blocks that are no longer named are added to
    // `gone`.
    void put(Lba lba, Item item, std::vector<Extent>& gone);
    // Takes over everything of `newer`, which is empty afterwards.
    void take_over(Overlay& newer, std::vector<Extent>& gone);
    // Nothing is left; returns the placed blocks that it named.
    std::vector<Extent> clear();

    const std::map<Lba, Item>& items() const { return items_; }
    bool empty() const { return items_.empty(); }
    // Is there an item that has a block of [begin, end)?
    bool touches(Lba begin, Lba end) const;
    // The item of a block, else null; `first` becomes where the item begins.
    const Item* at(Lba lba, Lba& first) const;
    // Calls visit(first block of the part, its length, item, offset in the item) for each part of
    // an item in [lba, lba + count), in ascending order.
    template <typename Visit>
    void visit(Lba lba, std::uint64_t count, Visit visit) const;

    // Blocks with new data; those of them in [lba, lba + count).
    std::uint64_t data_blocks() const { return memory_blocks_ + placed_blocks_; }
    std::uint64_t data_blocks(Lba lba, std::uint64_t count) const;
    // What the journal will hold for it at most, as long as neighbours in memory get neighbouring
    // places. What stays unchanged is counted, so that it does not become any number in memory.
    std::uint64_t operations() const { return memory_runs_ + placed_items_ + cuts_ + kept_; }
    std::uint64_t payload_bytes() const
    {
        return 4 * (data_blocks() - memory_runs_ - placed_items_);
    }

private:
    using Items = std::map<Lba, Item>;

    static Item part(const Item& item, std::uint64_t offset, std::uint64_t length);
    Items::const_iterator first_of(Lba lba) const;
    bool memory_at(Lba lba) const;
    void insert(Lba lba, Item item);
    Item take(Lba first);
    void cut(Lba lba, std::uint64_t length, std::vector<Extent>& gone);

    Items items_;
    std::uint64_t memory_blocks_ = 0;
    std::uint64_t memory_runs_ = 0;  // of neighbours
    std::uint64_t placed_blocks_ = 0;
    std::uint64_t placed_items_ = 0;
    std::uint64_t cuts_ = 0;  // operations of the two kinds without data
    std::uint64_t kept_ = 0;  // unchanged blocks
};

template <typename Visit>
void Overlay::visit(Lba lba, std::uint64_t count, Visit visit) const
{
    const Lba end = lba + count;
    for (auto next = first_of(lba); next != items_.end() && next->first < end; ++next) {
        const Lba from = std::max(lba, next->first);
        const Lba to = std::min(end, next->first + next->second.length);
        visit(from, to - from, next->second, from - next->first);
    }
}

}  // namespace coppice
