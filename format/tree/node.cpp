#include "format/tree/node.h"

#include <fmt/format.h>

#include "format/base/check.h"

namespace coppice {

NodeRef decode(const layout::NodePointer& pointer)
{
    return {BlockNo(pointer.block), Sequence(pointer.birth), pointer.checksum};
}

layout::NodePointer encode(const NodeRef& reference)
{
    layout::NodePointer pointer{};
    pointer.block = reference.block.value;
    pointer.birth = reference.birth.value;
    pointer.checksum = reference.checksum;
    return pointer;
}

Key read_key(const std::byte* item, unsigned words)
{
    Key key;
    for (unsigned i = 0; i < words; ++i) {
        Le64 word;
        std::memcpy(static_cast<void*>(&word), item + i * 8, 8);
        key.words[i] = word;
    }
    return key;
}

void write_key(std::byte* item, const Key& key, unsigned words)
{
    for (unsigned i = 0; i < words; ++i) {
        const Le64 word = key.words[i];
        std::memcpy(item + i * 8, static_cast<const void*>(&word), 8);
    }
}

void Node::set_count(unsigned count)
{
    auto changed = header();
    changed.count = static_cast<std::uint16_t>(count);
    set_header(changed);
}

Key Node::key(unsigned index) const { return read_key(item(index), shape_->key_words); }

void Node::set_key(unsigned index, const Key& key)
{
    write_key(item(index), key, shape_->key_words);
}

unsigned Node::upper_bound(const Key& key) const
{
    unsigned low = 0;
    unsigned high = count();
    while (low < high) {
        const unsigned middle = (low + high) / 2;
        if (this->key(middle) <= key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

NodeRef Node::child(unsigned index) const
{
    layout::NodePointer pointer;
    std::memcpy(static_cast<void*>(&pointer), item(index) + shape_->key_bytes(), sizeof(pointer));
    return decode(pointer);
}

void Node::set_child(unsigned index, const NodeRef& reference)
{
    const auto pointer = encode(reference);
    std::memcpy(item(index) + shape_->key_bytes(), static_cast<const void*>(&pointer),
                sizeof(pointer));
}

void Node::insert_item(unsigned index, const std::byte* new_item)
{
    const unsigned items = count();
    CHECK(items < capacity() && index <= items);
    const std::size_t size = item_bytes();
    std::memmove(item(index + 1), item(index), (items - index) * size);
    std::memcpy(item(index), new_item, size);
    set_count(items + 1);
}

void Node::remove_items(unsigned index, unsigned removed)
{
    const unsigned items = count();
    CHECK(index + removed <= items);
    const std::size_t size = item_bytes();
    std::memmove(item(index), item(index + removed), (items - index - removed) * size);
    std::memset(item(items - removed), 0, removed * size);
    set_count(items - removed);
}

void Node::replace_items(unsigned index, unsigned removed, const std::byte* new_items,
                         unsigned added)
{
    const unsigned items = count();
    const unsigned result = items - removed + added;
    CHECK(index + removed <= items && result <= capacity());
    const std::size_t size = item_bytes();
    if (removed != added) {
        std::memmove(item(index + added), item(index + removed), (items - index - removed) * size);
    }
    std::memcpy(item(index), new_items, added * size);
    if (result < items) {
        std::memset(item(result), 0, (items - result) * size);
    }
    set_count(result);
}

namespace {

// A map's items have a kind and a length, and do not overlap.
std::string validate_map_leaf(const Node& node)
{
    std::uint64_t free_from = 0;
    for (unsigned i = 0; i < node.count(); ++i) {
        layout::MapItem item;
        std::memcpy(static_cast<void*>(&item), node.item(i), sizeof(item));
        const bool possible =
            item.kind >= static_cast<std::uint8_t>(layout::MapKind::data) &&
            item.kind <= static_cast<std::uint8_t>(layout::MapKind::range_reference) &&
            item.length > 0 && item.lba >= free_from && item.lba < layout::kMapEnd &&
            (item.kind != static_cast<std::uint8_t>(layout::MapKind::data) ||
             item.block + item.length <= layout::kMaxBlock);
        if (!possible) {
            return fmt::format("has an impossible map item {}", i);
        }
        free_from = item.lba + item.length;
    }
    return {};
}

}  // namespace

bool possible(const NodeRef& reference)
{
    return !reference || (reference.block.value <= layout::kMaxBlock && reference.checksum != 0);
}

std::string validate(const Node& node)
{
    const auto header = node.header();
    if (header.magic != layout::kNodeMagic) {
        return "is not a tree node";
    }
    if (header.kind != static_cast<std::uint8_t>(node.shape().kind)) {
        return fmt::format("belongs to a tree of kind {}, not {}", header.kind,
                           static_cast<int>(node.shape().kind));
    }
    if (header.block != node.block().value) {
        return fmt::format("says that it is block {}", header.block.get());
    }
    if (header.level >= kMaxTreeLevels || header.count == 0 || header.count > node.capacity()) {
        return fmt::format("has level {} and {} items", header.level, header.count.get());
    }
    for (unsigned i = 0; i < header.count; ++i) {
        if (i > 0 && !(node.key(i - 1) < node.key(i))) {
            return fmt::format("has its items {} and {} out of order", i - 1, i);
        }
        if (header.level > 0) {
            const NodeRef child = node.child(i);
            if (!possible(child) || !child) {
                return fmt::format("has an impossible pointer in item {}", i);
            }
        }
    }
    return header.kind == static_cast<std::uint8_t>(layout::TreeKind::map) && header.level == 0
               ? validate_map_leaf(node)
               : std::string();
}

}  // namespace coppice
