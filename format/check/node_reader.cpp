#include "format/check/node_reader.h"

#include <fmt/format.h>
#include <vector>

#include "format/base/checksum.h"

namespace coppice::checker {

namespace {

// 8 MiB: enough for the upper levels of the two maps that are compared, and for a batch of leaves.
constexpr std::size_t kCachedNodes = 2048;

Key read_key(const std::byte* from, unsigned words)
{
    Key key{};
    for (unsigned i = 0; i < words; ++i) {
        key[i] = copy_out<Le64>(from + i * sizeof(Le64));
    }
    return key;
}

constexpr std::array<TreeShape, 7> kShapes = {{
    {layout::TreeKind::map, "map", 1, sizeof(layout::MapItem)},
    {layout::TreeKind::catalog, "catalog", 2, sizeof(layout::CatalogItem)},
    {layout::TreeKind::checksums, "checksums", 1, sizeof(layout::ChecksumItem)},
    {layout::TreeKind::references, "references", 1, sizeof(layout::ReferenceItem)},
    {layout::TreeKind::dead, "dead", 3, sizeof(layout::DeadItem)},
    {layout::TreeKind::free_space, "free space", 1, sizeof(layout::FreeItem)},
    {layout::TreeKind::range_operations, "range operations", 1, sizeof(layout::RangeOperationItem)},
}};

}  // namespace

const TreeShape& shape_of(layout::TreeKind kind)
{
    return kShapes.at(static_cast<std::size_t>(kind) - 1);
}

Pointer decode(const layout::NodePointer& pointer)
{
    return {pointer.block, pointer.mirror, pointer.birth, pointer.checksum};
}

NodeView::NodeView(std::shared_ptr<const Block> block, const TreeShape& shape)
    : block_(std::move(block)), shape_(&shape)
{
    const auto header = copy_out<layout::NodeHeader>(block_->bytes.data());
    level_ = header.level;
    count_ = header.count;
    stride_ = level_ == 0 ? shape.item_bytes : shape.inner_bytes();
}

Key NodeView::key(unsigned index) const { return read_key(at(index), shape_->key_words); }

Pointer NodeView::child(unsigned index) const
{
    return decode(copy_out<layout::NodePointer>(at(index) + shape_->key_words * sizeof(Le64)));
}

std::string NodeReader::judge(const Block& block, const Pointer& pointer,
                              const NodePlace& place) const
{
    const auto header = copy_out<layout::NodeHeader>(block.bytes.data());
    const TreeShape& shape = *place.shape;
    if (header.magic != layout::kNodeMagic) {
        return "it has no node's magic";
    }
    if (header.checksum != metadata_checksum(block.bytes, image_.seed())) {
        return "its checksum is wrong";
    }
    if (header.checksum != pointer.checksum) {
        return "it is not the node that the pointer means: the checksums differ";
    }
    if (header.kind != static_cast<std::uint8_t>(shape.kind)) {
        return fmt::format("it is a node of another tree (kind {})", header.kind);
    }
    if (header.block != pointer.block) {
        return fmt::format("it names block {} as its place", header.block.get());
    }
    if (header.birth != pointer.birth) {
        return fmt::format("it was born at {}, the pointer says {}", header.birth.get(),
                           pointer.birth);
    }
    if (header.birth > image_.sequence()) {
        return fmt::format("it was born at {}, after the superblock's sequence {}",
                           header.birth.get(), image_.sequence());
    }
    if (header.generation > image_.generation()) {
        return fmt::format("it was written for generation {}, after the superblock's {}",
                           header.generation.get(), image_.generation());
    }
    if (place.level == kAnyLevel ? header.level > kMaxLevel : header.level != place.level) {
        return fmt::format("its level is {}", header.level);
    }
    const std::size_t stride = header.level == 0 ? shape.item_bytes : shape.inner_bytes();
    if (header.count > layout::kNodeBodyBytes / stride) {
        return fmt::format("it claims {} items", header.count.get());
    }
    if (header.count == 0 && (place.level != kAnyLevel || header.level != 0)) {
        return "it has no items";
    }
    Key before = place.low;
    for (unsigned i = 0; i < header.count; ++i) {
        const Key key = read_key(block.bytes.data() + sizeof(header) + i * stride, shape.key_words);
        if (i == 0 ? key < before : key <= before) {
            return fmt::format("item {} is out of order or below its parent's key", i);
        }
        if (place.high && key >= *place.high) {
            return fmt::format("item {} lies behind its parent's next key", i);
        }
        before = key;
    }
    return {};
}

std::shared_ptr<const Block> NodeReader::load(std::uint64_t block, std::string& problem)
{
    if (block < image_.fixed_blocks() || block >= image_.image_blocks()) {
        problem = fmt::format("block {} is not a place for a node", block);
        return nullptr;
    }
    if (const auto found = cache_.find(block); found != cache_.end()) {
        return found->second;
    }
    auto bytes = std::make_shared<Block>();
    ++nodes_read_;
    if (auto status = image_.read_block(block, *bytes); !status) {
        problem = status.error().text;
        return nullptr;
    }
    remember(block, bytes);
    return bytes;
}

void NodeReader::remember(std::uint64_t block, std::shared_ptr<const Block> bytes)
{
    if (!cache_.emplace(block, std::move(bytes)).second) {
        return;
    }
    cache_order_.push_back(block);
    while (cache_order_.size() > kCachedNodes) {
        cache_.erase(cache_order_.front());
        cache_order_.pop_front();
    }
}

void NodeReader::prefetch(std::span<const std::uint64_t> blocks)
{
    std::vector<std::shared_ptr<Block>> bytes;
    std::vector<std::uint64_t> places;
    for (const std::uint64_t block : blocks) {
        if (block >= image_.fixed_blocks() && block < image_.image_blocks() &&
            !cache_.contains(block)) {
            places.push_back(block);
            bytes.push_back(std::make_shared<Block>());
        }
    }
    std::vector<iovec> buffers(places.size());
    std::vector<IoRequest> requests(places.size());
    for (std::size_t i = 0; i < places.size(); ++i) {
        buffers[i] = {bytes[i]->bytes.data(), kBlockBytes};
        requests[i] = {.kind = IoRequest::Kind::read,
                       .offset_bytes = places[i] << kBlockShift,
                       .length_bytes = kBlockBytes,
                       .buffers = {&buffers[i], 1}};
    }
    IoGroup group;
    image_.disk().submit(requests, group);
    image_.disk().wait(group);
    for (std::size_t i = 0; i < places.size(); ++i) {
        // What failed here is read again by itself, and reported there.
        if (requests[i].result >= 0) {
            ++nodes_read_;
            remember(places[i], std::move(bytes[i]));
        }
    }
}

NodeRead NodeReader::read(const Pointer& pointer, const NodePlace& place, bool both)
{
    NodeRead result;
    std::shared_ptr<const Block> primary = load(pointer.block, result.problem);
    if (primary != nullptr) {
        result.problem = judge(*primary, pointer, place);
    }
    const bool primary_good = primary != nullptr && result.problem.empty();
    if (primary_good) {
        result.node.emplace(primary, *place.shape);
    }
    if (pointer.mirror == 0 || (primary_good && !both)) {
        return result;
    }
    std::shared_ptr<const Block> mirror = load(pointer.mirror, result.mirror_problem);
    if (mirror != nullptr) {
        result.mirror_problem = judge(*mirror, pointer, place);
    }
    if (!primary_good && mirror != nullptr && result.mirror_problem.empty()) {
        result.node.emplace(mirror, *place.shape);
    }
    return result;
}

}  // namespace coppice::checker
