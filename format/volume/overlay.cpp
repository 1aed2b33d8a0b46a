#include "format/volume/overlay.h"

#include <algorithm>

#include "format/volume/ranges.h"

namespace coppice {

Overlay::Item Overlay::part(const Item& item, std::uint64_t offset, std::uint64_t length)
{
    Item result;
    result.kind = item.kind;
    result.length = length;
    result.buffer = item.buffer;
    if (item.kind == Kind::placed) {
        result.block = item.block + offset;
        const auto begin = item.checksums.begin() + static_cast<std::ptrdiff_t>(offset);
        result.checksums.assign(begin, begin + static_cast<std::ptrdiff_t>(length));
    }
    return result;
}

// The first item that ends behind `lba`.
Overlay::Items::const_iterator Overlay::first_of(Lba lba) const
{
    auto next = items_.upper_bound(lba);
    if (next != items_.begin()) {
        const auto before = std::prev(next);
        if (before->first + before->second.length > lba) {
            return before;
        }
    }
    return next;
}

bool Overlay::touches(Lba begin, Lba end) const
{
    const auto next = first_of(begin);
    return begin < end && next != items_.end() && next->first < end;
}

const Overlay::Item* Overlay::at(Lba lba, Lba& first) const
{
    const auto found = first_of(lba);
    if (found == items_.end() || found->first > lba) {
        return nullptr;
    }
    first = found->first;
    return &found->second;
}

bool Overlay::memory_at(Lba lba) const
{
    const auto found = items_.find(lba);
    return found != items_.end() && found->second.kind == Kind::memory;
}

std::uint64_t Overlay::data_blocks(Lba lba, std::uint64_t count) const
{
    std::uint64_t blocks = 0;
    visit(lba, count, [&](Lba, std::uint64_t length, const Item& item, std::uint64_t) {
        blocks += item.kind == Kind::memory || item.kind == Kind::placed ? length : 0;
    });
    return blocks;
}

void Overlay::insert(Lba lba, Item item)
{
    switch (item.kind) {
    case Kind::memory:
        ++memory_blocks_;
        ++memory_runs_;
        memory_runs_ -= lba.value > 0 && memory_at(Lba(lba.value - 1)) ? 1U : 0U;
        memory_runs_ -= memory_at(lba + 1) ? 1U : 0U;
        break;
    case Kind::placed:
        placed_blocks_ += item.length;
        ++placed_items_;
        break;
    case Kind::deallocate:
    case Kind::write_zeroes: cuts_ += divide_up(item.length, kLongestRecord); break;
    case Kind::unchanged: ++kept_; break;
    }
    items_.insert_or_assign(lba, std::move(item));
}

Overlay::Item Overlay::take(Lba first)
{
    Item item = std::move(items_.extract(first).mapped());
    switch (item.kind) {
    case Kind::memory:
        --memory_blocks_;
        --memory_runs_;
        memory_runs_ += first.value > 0 && memory_at(Lba(first.value - 1)) ? 1U : 0U;
        memory_runs_ += memory_at(first + 1) ? 1U : 0U;
        break;
    case Kind::placed:
        placed_blocks_ -= item.length;
        --placed_items_;
        break;
    case Kind::deallocate:
    case Kind::write_zeroes: cuts_ -= divide_up(item.length, kLongestRecord); break;
    case Kind::unchanged: --kept_; break;
    }
    return item;
}

// Takes out what is in [lba, lba + length); what an item has on both sides of it stays.
void Overlay::cut(Lba lba, std::uint64_t length, std::vector<Extent>& gone)
{
    const Lba end = lba + length;
    for (auto found = first_of(lba); found != items_.end() && found->first < end;
         found = first_of(lba)) {
        const Lba first = found->first;
        const Item old = take(first);
        const Lba last = first + old.length;
        const Lba from = std::max(lba, first);
        const Lba to = std::min(end, last);
        if (old.kind == Kind::placed) {
            gone.push_back({old.block + (from - first), to - from});
        }
        if (first < from) {
            insert(first, part(old, 0, from - first));
        }
        if (to < last) {
            insert(to, part(old, to - first, last - to));
        }
    }
}

void Overlay::put(Lba lba, Item item, std::vector<Extent>& gone)
{
    cut(lba, item.length, gone);
    insert(lba, std::move(item));
}

void Overlay::take_over(Overlay& newer, std::vector<Extent>& gone)
{
    while (!newer.items_.empty()) {
        auto node = newer.items_.extract(newer.items_.begin());
        put(node.key(), std::move(node.mapped()), gone);
    }
    newer = Overlay();
}

std::vector<Extent> Overlay::clear()
{
    std::vector<Extent> placed;
    for (const auto& [lba, item] : items_) {
        if (item.kind == Kind::placed) {
            placed.push_back({item.block, item.length});
        }
    }
    *this = Overlay();
    return placed;
}

}  // namespace coppice
