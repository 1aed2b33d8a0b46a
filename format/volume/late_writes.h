// Data that took effect and are not yet at their place in the image: small writes are answered from
// here, so that neighbours go to the host together, and a small flush carries its data in the
// journal and needs no other write. Every block here is new and physically there
// (Space::take_backed), so that no host write of it fails for want of space, and none can hurt what
// was durable.
//
// The order that others keep: a commit without the data, and a superblock, are written after
// `write_out` has returned.
#pragma once

#include <deque>
#include <memory>
#include <set>
#include <tsl/robin_map.h>
#include <vector>

#include "format/disk/disk.h"
#include "format/space/extent.h"
#include "format/volume/buffer.h"

namespace coppice {

class LateWrites {
public:
    explicit LateWrites(Disk& disk) : disk_(disk), changed_(disk.tasks()) {}

    // Takes over the data of an extent, from block `first` of the buffer on.
    void hold(Generation generation, const Extent& extent,
              const std::shared_ptr<BlockBuffer>& buffer, std::uint64_t first);
    // The data of a block that is not at its place, else null. Valid until the next suspension.
    const std::byte* find(BlockNo block) const;
    // Nobody needs the data any more: no state that is or will be written down has the block.
    // Has no effect when they are on their way already, or belong to an older generation.
    void forget(Generation generation, BlockNo block);

    std::uint64_t blocks() const { return entries_.size(); }
    std::uint64_t written_blocks() const { return written_; }  // since the open

    // What is held at the call is at its place when this returns. (task)
    Status write_out();
    // The same of these blocks only. (task)
    Status write_out(const std::vector<BlockNo>& blocks);
    // Returns when fewer blocks than `most` are held. (task)
    Status make_room(std::uint64_t most);

private:
    struct Entry {
        std::shared_ptr<BlockBuffer> buffer;
        std::byte* data = nullptr;
        Generation generation;
        std::uint64_t number = 0;  // in the order in which they came
        bool on_its_way = false;
    };
    struct Waiting {
        std::uint64_t number;
        std::uint64_t block;
    };

    using Batch = std::vector<std::uint64_t>;  // blocks, ascending

    Batch take(std::uint64_t up_to);
    void send(const Batch& batch);
    Status write(const Batch& batch);

    Disk& disk_;
    WaitQueue changed_;
    tsl::robin_map<std::uint64_t, Entry> entries_;  // by block
    std::deque<Waiting> waiting_;     // in their order; some are forgotten, or on their way
    std::set<std::uint64_t> flying_;  // lowest number of each batch on its way
    std::uint64_t last_ = 0;
    std::uint64_t written_ = 0;
    Status outcome_;  // once a write has failed nothing more is written
};

}  // namespace coppice
