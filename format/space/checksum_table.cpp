#include "format/space/checksum_table.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace coppice {

namespace {

constexpr std::uint64_t kPerItem = layout::kChecksumsPerItem;

std::size_t parity(Generation generation) { return generation.value % 2; }

}  // namespace

ChecksumTable::ChecksumTable(NodeCache& cache, Space& space, const NodeRef& root)
    : space_(space), tree_(cache, kChecksumShape), root_(root)
{
}

void ChecksumTable::put(Generation generation, BlockNo block, std::uint32_t checksum)
{
    Pending& pending = pending_[parity(generation)];
    const std::uint64_t number = block.value / kPerItem;
    const auto found = pending.chunks.find(number);
    Chunk* known = found == pending.chunks.end() ? nullptr : found->second;
    if (known == nullptr) {
        Chunk chunk;
        chunk.number = number;
        known = &pending.all.push_back(chunk);
        pending.chunks.emplace(number, known);
    }
    Chunk& chunk = *known;
    const std::uint64_t index = block.value % kPerItem;
    chunk.present |= std::uint32_t{1} << index;
    chunk.values[index] = checksum;
}

ChecksumTable::Found ChecksumTable::get(Generation current, BlockNo block) const
{
    const std::uint64_t chunk_number = block.value / kPerItem;
    const std::uint64_t index = block.value % kPerItem;
    for (std::size_t age = 0; age < 2; ++age) {
        const auto& chunks = pending_[(parity(current) + age) % 2].chunks;
        auto found = chunks.find(chunk_number);
        if (found != chunks.end() && (found->second->present >> index & 1U) != 0) {
            return {std::nullopt, true, found->second->values[index]};
        }
    }
    Cursor cursor(tree_.cache(), tree_.shape(), root_);
    Found result;
    result.missing = cursor.seek(Key(chunk_number));
    if (!result.missing && cursor.valid() && cursor.key() == Key(chunk_number)) {
        const auto item = cursor.get<layout::ChecksumItem>();
        result.present = (item.present >> index & 1U) != 0;
        result.checksum = item.values[index];
    }
    return result;
}

Status ChecksumTable::update(std::uint64_t chunk, const Change& change,
                             const std::function<void(layout::ChecksumItem&)>& edit)
{
    const Key key(chunk);
    for (;;) {
        COPPICE_TRY(space_.ensure_nodes(kMaxNodesPerChange, 0));
        CacheUse use(tree_.cache());
        auto missing = tree_.prepare(root_, key, key);
        Cursor cursor(tree_.cache(), tree_.shape(), root_);
        if (!missing) {
            missing = cursor.seek(key);
        }
        if (missing) {
            COPPICE_TRY(tree_.load(*missing));
            continue;
        }
        layout::ChecksumItem item{};
        if (cursor.valid() && cursor.key() == key) {
            item = cursor.get<layout::ChecksumItem>();
        }
        item.chunk = chunk;
        edit(item);
        tree_.insert(root_, reinterpret_cast<const std::byte*>(&item), change);
        return {};
    }
}

Status ChecksumTable::write(Generation generation, Sequence sequence)
{
    constexpr std::uint64_t kLookNs = 20;
    constexpr std::uint64_t kUpdateNs = 2'500;
    Pace pace(tree_.cache().tasks());
    Pending& pending = pending_[parity(generation)];
    std::vector<std::uint64_t> numbers;
    numbers.reserve(pending.all.size());
    pending.all.each([&](const Chunk& chunk) {
        numbers.push_back(chunk.number);
        pace.step(kLookNs);
    });
    sort_in_steps(pace, numbers, std::less<>());
    const Change change{space_, generation, sequence, Sequence(), ListId()};
    for (const std::uint64_t number : numbers) {
        const Chunk& values = *pending.chunks.at(number);
        COPPICE_TRY(update(number, change, [&](layout::ChecksumItem& item) {
            item.present = item.present | values.present;
            for (std::uint64_t i = 0; i < kPerItem; ++i) {
                if ((values.present >> i & 1U) != 0) {
                    item.values[i] = values.values[i];
                }
            }
        }));
        pending.chunks.erase(number);  // from here on the tree has it
        pace.step(kUpdateNs);
    }
    while (!pending.all.empty()) {
        pace.step(pending.all.take().size() * kLookNs);
    }
    return {};
}

}  // namespace coppice
