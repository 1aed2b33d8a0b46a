#include "format/volume/late_writes.h"

#include <algorithm>

#include "format/base/check.h"

namespace coppice {

namespace {

// One batch, and with that one host write at most, in blocks: 1 MiB.
constexpr std::size_t kBatchBlocks = 256;
constexpr std::size_t kWriteBlocks = 256;

}  // namespace

void LateWrites::hold(Generation generation, const Extent& extent,
                      const std::shared_ptr<BlockBuffer>& buffer, std::uint64_t first)
{
    for (std::uint64_t i = 0; i < extent.length; ++i) {
        Entry entry{buffer, buffer->block(first + i).data(), generation, ++last_, false};
        const std::uint64_t block = extent.block.value + i;
        CHECK(entries_.emplace(block, std::move(entry)).second);
        waiting_.push_back({last_, block});
    }
}

const std::byte* LateWrites::find(BlockNo block) const
{
    if (entries_.empty()) {
        return nullptr;
    }
    const auto found = entries_.find(block.value);
    return found == entries_.end() ? nullptr : found->second.data;
}

void LateWrites::forget(Generation generation, BlockNo block)
{
    const auto found = entries_.find(block.value);
    if (found != entries_.end() && !found->second.on_its_way &&
        found->second.generation == generation) {
        entries_.erase(found);
        changed_.wake_all();
    }
}

// The next batch in the order in which they came.
LateWrites::Batch LateWrites::take(std::uint64_t up_to)
{
    Batch batch;
    while (!waiting_.empty() && waiting_.front().number <= up_to && batch.size() < kBatchBlocks) {
        const Waiting next = waiting_.front();
        waiting_.pop_front();
        const auto found = entries_.find(next.block);
        // Forgotten; or forgotten and held anew, then it stands further behind; or gone ahead.
        if (found == entries_.end() || found->second.number != next.number ||
            found->second.on_its_way) {
            continue;
        }
        found.value().on_its_way = true;
        batch.push_back(next.block);
    }
    std::sort(batch.begin(), batch.end());
    return batch;
}

// Neighbours go in one host write. (task)
Status LateWrites::write(const Batch& batch)
{
    std::vector<iovec> buffers(batch.size());
    std::vector<IoRequest> requests;
    requests.reserve(batch.size());
    for (std::size_t i = 0; i < batch.size(); ++i) {
        buffers[i] = {entries_.at(batch[i]).data, kBlockBytes};
        const bool continues =
            i > 0 && batch[i] == batch[i - 1] + 1 && requests.back().buffers.size() < kWriteBlocks;
        if (!continues) {
            requests.push_back({.kind = IoRequest::Kind::write,
                                .offset_bytes = byte_offset(BlockNo(batch[i])),
                                .buffers = {&buffers[i], 0}});
        }
        IoRequest& request = requests.back();
        request.buffers = {request.buffers.data(), request.buffers.size() + 1};
        request.length_bytes += kBlockBytes;
    }
    return disk_.run(requests);
}

// Brings a batch to its places; a failure is kept for all who ask. (task)
void LateWrites::send(const Batch& batch)
{
    if (batch.empty()) {
        return;
    }
    std::uint64_t lowest = last_;
    for (const std::uint64_t block : batch) {
        lowest = std::min(lowest, entries_.at(block).number);
    }
    flying_.insert(lowest);
    Status done = write(batch);
    flying_.erase(lowest);
    if (done) {
        for (const std::uint64_t block : batch) {
            entries_.erase(block);
        }
        written_ += batch.size();
    } else if (outcome_) {
        outcome_ = std::move(done);
    }
    changed_.wake_all();
}

Status LateWrites::write_out()
{
    const std::uint64_t up_to = last_;
    while (outcome_ && !waiting_.empty() && waiting_.front().number <= up_to) {
        send(take(up_to));
        disk_.tasks().yield();  // a host that answers at once would let nobody else run
    }
    while (outcome_ && !flying_.empty() && *flying_.begin() <= up_to) {
        changed_.wait();
    }
    return outcome_;
}

Status LateWrites::write_out(const std::vector<BlockNo>& blocks)
{
    for (std::size_t begin = 0; outcome_ && begin < blocks.size();) {
        Batch batch;
        for (; begin < blocks.size() && batch.size() < kBatchBlocks; ++begin) {
            const auto found = entries_.find(blocks[begin].value);
            if (found != entries_.end() && !found->second.on_its_way) {
                found.value().on_its_way = true;
                batch.push_back(blocks[begin].value);
            }
        }
        std::sort(batch.begin(), batch.end());
        send(batch);
        if (begin < blocks.size()) {
            disk_.tasks().yield();
        }
    }
    const auto held = [&](BlockNo block) { return entries_.contains(block.value); };
    while (outcome_ && std::any_of(blocks.begin(), blocks.end(), held)) {
        changed_.wait();  // the rest was on its way already
    }
    return outcome_;
}

Status LateWrites::make_room(std::uint64_t most)
{
    constexpr std::size_t kBatchesAtOnce = 2;
    while (outcome_ && entries_.size() >= most) {
        if (!waiting_.empty() && flying_.size() < kBatchesAtOnce) {
            send(take(last_));
        } else {
            changed_.wait();
        }
    }
    return outcome_;
}

}  // namespace coppice
