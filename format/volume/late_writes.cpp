#include "format/volume/late_writes.h"

#include <algorithm>

#include "format/base/check.h"

namespace coppice {

namespace {

// One batch, and one host write of it at most, in blocks: 4 MiB and 1 MiB.
constexpr std::size_t kBatchBlocks = 1024;
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

// The next batch in the order in which they came, sorted by place.
std::vector<std::uint64_t> LateWrites::take(std::uint64_t up_to)
{
    std::vector<std::uint64_t> blocks;
    while (!waiting_.empty() && waiting_.front().number <= up_to && blocks.size() < kBatchBlocks) {
        const Waiting next = waiting_.front();
        waiting_.pop_front();
        const auto found = entries_.find(next.block);
        // Forgotten; or forgotten and held anew, then it stands further behind.
        if (found == entries_.end() || found->second.number != next.number) {
            continue;
        }
        found.value().on_its_way = true;
        blocks.push_back(next.block);
    }
    std::sort(blocks.begin(), blocks.end());
    return blocks;
}

// Neighbours go in one host write. (task)
Status LateWrites::write(const std::vector<std::uint64_t>& blocks)
{
    std::vector<iovec> buffers(blocks.size());
    std::vector<IoRequest> requests;
    requests.reserve(blocks.size());
    for (std::size_t i = 0; i < blocks.size(); ++i) {
        buffers[i] = {entries_.at(blocks[i]).data, kBlockBytes};
        const bool continues = i > 0 && blocks[i] == blocks[i - 1] + 1 &&
                               requests.back().buffers.size() < kWriteBlocks;
        if (!continues) {
            requests.push_back({.kind = IoRequest::Kind::write,
                                .offset_bytes = byte_offset(BlockNo(blocks[i])),
                                .buffers = {&buffers[i], 0}});
        }
        IoRequest& request = requests.back();
        request.buffers = {request.buffers.data(), request.buffers.size() + 1};
        request.length_bytes += kBlockBytes;
    }
    return disk_.run(requests);
}

// One batch of those up to a number, the oldest first. (task)
void LateWrites::write_batch(std::uint64_t up_to)
{
    const std::uint64_t first = waiting_.front().number;
    const std::vector<std::uint64_t> blocks = take(up_to);
    flying_.insert(first);
    Status done = blocks.empty() ? Status() : write(blocks);
    flying_.erase(first);
    if (done) {
        for (const std::uint64_t block : blocks) {
            entries_.erase(block);
        }
        written_ += blocks.size();
    } else if (outcome_) {
        outcome_ = std::move(done);
    }
    changed_.wake_all();
}

Status LateWrites::write_out()
{
    const std::uint64_t up_to = last_;
    while (outcome_ && !waiting_.empty() && waiting_.front().number <= up_to) {
        write_batch(up_to);
    }
    while (outcome_ && !flying_.empty() && *flying_.begin() <= up_to) {
        changed_.wait();
    }
    return outcome_;
}

Status LateWrites::make_room(std::uint64_t most)
{
    constexpr std::size_t kBatchesAtOnce = 2;
    while (outcome_ && entries_.size() >= most) {
        if (!waiting_.empty() && flying_.size() < kBatchesAtOnce) {
            write_batch(last_);
        } else {
            changed_.wait();
        }
    }
    return outcome_;
}

}  // namespace coppice
