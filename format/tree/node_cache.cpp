#include "format/tree/node_cache.h"

#include <algorithm>
#include <fmt/format.h>
#include <tuple>
#include <utility>

#include "format/base/check.h"
#include "format/base/checksum.h"

namespace coppice {

namespace {

// Nodes written, or read, with one submit; bounds the memory that the requests take.
constexpr std::size_t kWriteBatch = before_others(64, 3);
constexpr std::size_t kReadBatch = 256;
// Neighbouring nodes in one request.
constexpr std::size_t kTogether = 32;

std::size_t parity(Generation generation) { return generation.value % 2; }

// A request for one more block, or the last one made longer; the buffers stand behind each other.
void add_block(std::vector<IoRequest>& requests, IoRequest::Kind kind, std::uint64_t offset_bytes,
               const iovec& buffer)
{
    if (!requests.empty() && requests.back().buffers.size() < kTogether &&
        requests.back().offset_bytes + requests.back().length_bytes == offset_bytes) {
        IoRequest& last = requests.back();
        last.length_bytes += kBlockBytes;
        last.buffers = {last.buffers.data(), last.buffers.size() + 1};
    } else {
        requests.push_back({.kind = kind,
                            .offset_bytes = offset_bytes,
                            .length_bytes = kBlockBytes,
                            .buffers = {&buffer, 1}});
    }
}

std::string_view tree_name(layout::TreeKind kind)
{
    switch (kind) {
    case layout::TreeKind::map: return "map";
    case layout::TreeKind::catalog: return "catalog";
    case layout::TreeKind::checksums: return "checksum tree";
    case layout::TreeKind::references: return "reference tree";
    case layout::TreeKind::dead: return "dead tree";
    case layout::TreeKind::free_space: return "free-space tree";
    case layout::TreeKind::range_operations: return "range-operation tree";
    }
    return "tree";
}

}  // namespace

NodeCache::NodeCache(Disk& disk, std::uint64_t image_seed, std::uint64_t capacity_bytes)
    : disk_(disk), image_seed_(image_seed), capacity_(capacity_bytes / kBlockBytes)
{
    // Room for what there commonly is: when the table grows, nobody else runs.
    constexpr std::size_t kDirtyNodes = 16384;
    nodes_.reserve(capacity_ + kDirtyNodes);
    ring_.reserve(capacity_ + kDirtyNodes);
}

Node* NodeCache::insert(std::unique_ptr<Node> node)
{
    Node* result = node.get();
    result->cache_slot = ring_.size();
    result->referenced = true;
    result->last_use = clock_;
    ring_.push_back(result);
    nodes_[result->block().value] = std::move(node);
    return result;
}

void NodeCache::remove(Node* node)
{
    Node* last = ring_.back();
    ring_[node->cache_slot] = last;
    last->cache_slot = node->cache_slot;
    ring_.pop_back();
    nodes_.erase(node->block().value);
}

Status NodeCache::load(const TreeShape& shape, const NodeRef& reference, int level)
{
    auto node = std::make_unique<Node>(shape, reference.block);
    COPPICE_TRY(disk_.read(byte_offset(reference.block), {node->bytes(), kBlockBytes}));
    return accept(std::move(node), reference, level);
}

Status NodeCache::load_all(const TreeShape& shape, std::vector<Missing> nodes)
{
    std::sort(nodes.begin(), nodes.end(),
              [](const Missing& a, const Missing& b) { return a.node.block < b.node.block; });
    for (std::size_t begin = 0; begin < nodes.size(); begin += kReadBatch) {
        const std::size_t count = std::min(kReadBatch, nodes.size() - begin);
        std::vector<std::unique_ptr<Node>> read(count);
        std::vector<iovec> buffers(count);
        std::vector<IoRequest> requests;
        requests.reserve(count);
        for (std::size_t i = 0; i < count; ++i) {
            const BlockNo block = nodes[begin + i].node.block;
            read[i] = std::make_unique<Node>(shape, block);
            buffers[i] = {read[i]->bytes(), kBlockBytes};
            add_block(requests, IoRequest::Kind::read, byte_offset(block), buffers[i]);
        }
        COPPICE_TRY(disk_.run(requests));
        for (std::size_t i = 0; i < count; ++i) {
            const Missing& wanted = nodes[begin + i];
            COPPICE_TRY(accept(std::move(read[i]), wanted.node, wanted.level));
        }
    }
    return {};
}

// Takes a node that was read in, if it is the one that was asked for.
Status NodeCache::accept(std::unique_ptr<Node> node, const NodeRef& reference, int level)
{
    ++nodes_read_;
    const TreeShape& shape = node->shape();
    auto wrong = [&](std::string what) {
        return fail(ErrorCode::bad_node,
                    fmt::format("block {}, a node of the {}, {}", reference.block.value,
                                tree_name(shape.kind), what));
    };
    if (metadata_checksum(node->span(), image_seed_) != node->checksum() ||
        node->checksum() != reference.checksum) {
        return wrong("does not have its checksum");
    }
    if (auto what = validate(*node); !what.empty()) {
        return wrong(what);
    }
    if (node->birth() != reference.birth) {
        return wrong("is of another birth than its pointer says");
    }
    if (level < 0 && node->level() + 1 >= kMaxTreeLevels) {
        return wrong(fmt::format("is a root of level {}", node->level()));  // no room to grow
    }
    if (level >= 0 && node->level() != static_cast<unsigned>(level)) {
        return wrong(fmt::format("has level {} below level {}", node->level(), level + 1));
    }
    if (find(reference.block) == nullptr) {
        evict();
        insert(std::move(node));
    } else if (find(shape, reference, level) == nullptr) {
        return wrong("is in use as another node");
    }
    return {};
}

Node* NodeCache::create(const TreeShape& shape, BlockNo block, unsigned level,
                        Generation generation, Sequence birth, std::uint64_t owner)
{
    forget(block);
    evict();
    Node* node = insert(std::make_unique<Node>(shape, block));
    layout::NodeHeader header{};
    header.magic = layout::kNodeMagic;
    header.kind = static_cast<std::uint8_t>(shape.kind);
    header.level = static_cast<std::uint8_t>(level);
    header.block = block.value;
    header.birth = birth.value;
    header.generation = generation.value;
    header.owner = owner;
    node->set_header(header);
    node->dirty = true;
    dirty_[parity(generation)].push_back(node);
    ++dirty_count_;
    return node;
}

void NodeCache::discard_dirty(Node* node)
{
    CHECK(node->dirty);
    auto& list = dirty_[parity(node->generation())];
    auto found = std::find(list.rbegin(), list.rend(), node);
    CHECK(found != list.rend());
    *found = list.back();
    list.pop_back();
    --dirty_count_;
    remove(node);
}

void NodeCache::forget(BlockNo block)
{
    auto found = nodes_.find(block.value);
    if (found != nodes_.end()) {
        CHECK(!found->second->dirty);
        remove(found->second.get());
    }
}

void NodeCache::evict()
{
    if (ring_.size() < capacity_) {
        return;
    }
    std::uint64_t oldest_use = clock_ + 1;
    for (std::uint64_t ticket : uses_) {
        oldest_use = std::min(oldest_use, ticket);
    }
    // Two rounds at most: the first takes the marks away, the second finds what has none.
    for (std::size_t steps = 0; ring_.size() >= capacity_ && steps < 64 && !ring_.empty();
         ++steps) {
        hand_ = hand_ + 1 < ring_.size() ? hand_ + 1 : 0;
        Node* node = ring_[hand_];
        if (node->dirty || node->keep_until > kept_until_ || node->last_use >= oldest_use) {
            continue;
        }
        if (node->referenced) {
            node->referenced = false;
        } else {
            remove(node);
        }
    }
}

std::uint64_t NodeCache::begin_use()
{
    uses_.push_back(++clock_);
    return clock_;
}

void NodeCache::end_use(std::uint64_t ticket)
{
    auto found = std::find(uses_.begin(), uses_.end(), ticket);
    CHECK(found != uses_.end());
    *found = uses_.back();
    uses_.pop_back();
}

// Fills in the checksums of children that were not known when they were written into the node, and
// the node's own. What was read may be out of order across nodes, and then what is made of it.
Status NodeCache::finish(Node& node)
{
    if (node.level() > 0) {
        for (unsigned i = 0; i < node.count(); ++i) {
            NodeRef child = node.child(i);
            if (child.checksum == 0) {
                auto found = nodes_.find(child.block.value);
                CHECK(found != nodes_.end() && !found->second->dirty);
                child.checksum = found->second->checksum();
                node.set_child(i, child);
            }
        }
    }
    if (const std::string problem = validate(node); !problem.empty()) {
        return fail(ErrorCode::bad_node,
                    fmt::format("block {}, a node of the {} that is to be written, {}",
                                node.block().value, tree_name(node.shape().kind), problem));
    }
    auto header = node.header();
    header.checksum = metadata_checksum(node.span(), image_seed_);
    node.set_header(header);
    return {};
}

// Children before parents, whose pointers say their checksums. Others run between the nodes: to
// them a node of this generation is one to be copied, whether it is finished or not, and a checksum
// that is not known when it is copied is filled in when the copy is finished itself.
Status NodeCache::write_dirty(Generation generation, bool maps)
{
    constexpr std::uint64_t kLookNs = 150;
    Pace pace(disk_.tasks());
    std::vector<Node*> others;
    std::vector<Written> chosen;
    const std::vector<Node*> nodes = std::exchange(dirty_[parity(generation)], {});
    chosen.reserve(nodes.size());  // to move what is there would take longer than a turn
    for (Node* node : nodes) {
        CHECK(node->generation() == generation);
        if ((node->shape().kind == layout::TreeKind::map) == maps) {
            chosen.push_back({node->level(), node->block(), node});
        } else {
            others.push_back(node);
        }
        pace.step(kLookNs);
    }
    dirty_[parity(generation)] = std::move(others);
    sort_in_steps(pace, chosen, [](const Written& a, const Written& b) {
        return std::tie(a.level, a.block) < std::tie(b.level, b.block);
    });
    for (std::size_t begin = 0; begin < chosen.size(); begin += kWriteBatch) {
        COPPICE_TRY(write_batch(
            generation,
            std::span(chosen).subspan(begin, std::min(kWriteBatch, chosen.size() - begin)), pace));
    }
    return {};
}

Status NodeCache::write_batch(Generation generation, std::span<const Written> batch, Pace& pace)
{
    constexpr std::uint64_t kFinishNs = 2'000;
    constexpr std::uint64_t kChildrenNs = 25'000;  // to find them and their checksums
    constexpr std::uint64_t kWriteNs = 1'000;
    std::vector<iovec> buffers(batch.size());
    std::vector<IoRequest> requests;
    for (std::size_t i = 0; i < batch.size(); ++i) {
        Node& node = *batch[i].node;
        COPPICE_TRY(finish(node));
        node.dirty = false;
        node.keep_until = generation + 1;
        --dirty_count_;
        pace.step(batch[i].level == 0 ? kFinishNs : kChildrenNs);
        buffers[i] = {node.bytes(), kBlockBytes};
        add_block(requests, IoRequest::Kind::write, byte_offset(batch[i].block), buffers[i]);
    }
    COPPICE_TRY(disk_.run(requests));
    nodes_written_ += batch.size();
    pace.step(batch.size() * kWriteNs);
    return {};
}

}  // namespace coppice
