// A list that may become long, filled at its end and used up a part at a time. It lies in parts of
// some KiB: a vector would be moved as a whole when it grows, and small pieces would keep the
// allocator busy, both in one go, while nobody else runs.
#pragma once

#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

namespace coppice {

template <typename Item>
class LongList {
public:
    // Returns the item in its place, where it stays until it is taken.
    Item& push_back(const Item& item)
    {
        if (parts_.empty() || parts_.back().size() == kPart) {
            parts_.emplace_back().reserve(kPart);
        }
        parts_.back().push_back(item);
        ++size_;
        return parts_.back().back();
    }

    // From the oldest item on.
    template <typename Body>
    void each(Body body) const
    {
        for (const std::vector<Item>& part : parts_) {
            for (const Item& item : part) {
                body(item);
            }
        }
    }

    // The oldest items, some of them; none if the list is empty.
    std::vector<Item> take()
    {
        if (parts_.empty()) {
            return {};
        }
        std::vector<Item> part = std::move(parts_.front());
        parts_.pop_front();
        size_ -= part.size();
        return part;
    }

    // The newest item; there is one.
    Item take_last()
    {
        const Item item = parts_.back().back();
        parts_.back().pop_back();
        if (parts_.back().empty()) {
            parts_.pop_back();
        }
        --size_;
        return item;
    }

    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }

private:
    static constexpr std::size_t kPart = 512;

    std::deque<std::vector<Item>> parts_;  // none is empty
    std::size_t size_ = 0;
};

}  // namespace coppice
