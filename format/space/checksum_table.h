// Checksums of data blocks: those of operations since the last checkpoint in memory, by generation;
// the others in the checksum tree.
#pragma once

#include <array>
#include <tsl/robin_map.h>

#include "format/base/long_list.h"
#include "format/space/extent.h"
#include "format/space/space.h"
#include "format/tree/tree.h"

namespace coppice {

class ChecksumTable {
public:
    ChecksumTable(NodeCache& cache, Space& space, const NodeRef& root);

    void put(Generation generation, BlockNo block, std::uint32_t checksum);

    // The checksum of a block. `current` is the generation under construction.
    struct Found {
        std::optional<Missing> missing;  // a node to load first
        bool present = false;
        std::uint32_t checksum = 0;
    };
    Found get(Generation current, BlockNo block) const;
    Status load(const Missing& missing) { return tree_.load(missing); }

    // Moves the checksums of a generation into the tree. (task)
    Status write(Generation generation, Sequence sequence);

    std::uint64_t pending_chunks() const
    {
        return pending_[0].chunks.size() + pending_[1].chunks.size();
    }
    const NodeRef& root() const { return root_; }
    NodeRef& mutable_root() { return root_; }

private:
    struct Chunk {
        std::uint64_t number = 0;
        std::uint32_t present = 0;
        std::array<std::uint32_t, layout::kChecksumsPerItem> values{};
    };
    struct Pending {
        tsl::robin_map<std::uint64_t, Chunk*> chunks;  // by number, into `all`
        LongList<Chunk> all;
    };

    // Loads what a change of the item needs; fills in the item as it is. (task)
    Status update(std::uint64_t chunk, const Change& change,
                  const std::function<void(layout::ChecksumItem&)>& edit);

    Space& space_;
    Tree tree_;
    NodeRef root_;
    Pending pending_[2];
};

}  // namespace coppice
