// Which blocks of the image are free, in memory and in the free-space tree.
//
//   take (memory) -> use (belongs to a generation) -> drop -> freed (tree) -> released (memory)
//
// Data is taken before its host write and *used* when its operation takes effect; then the
// checkpoint of that generation writes it down. What a checkpoint frees becomes free in the tree of
// that checkpoint, and may be taken again only when its superblock is durable and no reader is at
// it: the store calls `release` then.
//
// Groups are read from the tree when they are first needed. Group g covers blocks
// [g * 8192, (g + 1) * 8192).
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "format/disk/disk.h"
#include "format/disk/pace.h"
#include "format/space/extent.h"
#include "format/space/group.h"
#include "format/tree/tree.h"

namespace coppice {

class Space : public NodeSpace {
public:
    struct Totals {
        std::uint64_t image_blocks = 0;
        std::uint64_t free_blocks = 0;
        std::uint64_t data_blocks = 0;
        std::uint64_t node_blocks = 0;
    };

    // `tree_totals`: what the superblock says.
    // `read_only`: everything stays in memory, the host file is not touched.
    Space(Disk& disk, NodeCache& cache, std::uint64_t fixed_blocks, const NodeRef& root,
          const Totals& tree_totals, bool read_only);

    std::uint64_t data_at_hand() const { return data_free_; }
    // ---- Data (task: may read groups or grow the file)
    Result<std::vector<Extent>> take_data(std::uint64_t blocks);
    // The same of blocks that are physically there: a later write of them finds room. Meant for few
    // at a time; they are made present in larger steps. Error not_supported: the host cannot say
    // so.
    Result<std::vector<Extent>> take_backed(std::uint64_t blocks);
    // What was taken and is not needed. `present`: the host surely has the blocks.
    void return_data(const Extent& extent, bool present);
    void return_backed();  // those that were made present and not taken
    void use_data(Generation generation, const Extent& extent);
    // Replay: takes the blocks that a write of the journal names. (task)
    Status take_named(const Extent& extent);

    std::uint64_t nodes_at_hand() const { return nodes_free_; }
    // ---- Nodes. After ensure_nodes(n) has returned without error, n nodes can be taken before
    //      anybody else suspends. Work that frees space may go into the reserve. (task)
    Status ensure_nodes(std::uint64_t count, std::uint64_t reserve);
    BlockNo take_node(Generation generation) override;
    void return_node(BlockNo block, Generation generation) override;
    void drop_node(ListId list, BlockNo block, Sequence birth, Generation generation) override;

    // ---- Drops of a generation, gathered until its checkpoint.
    void drop(Generation generation, const Drop& drop);
    DropList take_drops(Generation generation);
    std::uint64_t pending_drops() const { return drops_[0].size() + drops_[1].size(); }
    std::uint64_t pending_drop_blocks() const  // of data
    {
        return drop_blocks_[0] + drop_blocks_[1];
    }

    // ---- Checkpoint
    // These blocks are free in the tree of this generation.
    void free_data(Generation generation, const Extent& extent);
    void free_node(Generation generation, BlockNo block);
    // Brings the tree up to the state of the generation, itself included. (task)
    Status write_tree(Generation generation, Sequence sequence);
    // What the generation freed; to be given to `release` later.
    ExtentList take_freed(Generation generation);
    // This may be taken again.
    void release(const Extent& extent);

    // ---- Space for the host: free blocks that it keeps although nothing needs them.
    std::uint64_t stale_blocks() const { return stale_; }
    // Takes all free data blocks for stale, also those of which nothing is known. (task)
    Status mark_stale();
    // Are there any in groups not looked through since something was freed there?
    bool punchable() const { return punch_cursor_ < groups_.size(); }
    // Looks through some groups and takes runs of at least `shortest` of them, `most` blocks in all
    // or a little more; perhaps none. Nobody gets these blocks before they are given to `punched`.
    std::vector<Extent> take_stale(std::uint64_t shortest, std::uint64_t most);
    void punched(const std::vector<Extent>& extents);

    const NodeRef& root() const { return root_; }
    NodeRef& mutable_root() { return root_; }
    const Totals& tree_totals() const { return totals_; }
    std::uint64_t pending_free_blocks() const { return unreleased_; }

    // In replay, before anything is taken: this block holds data, so its group is no place for
    // nodes.
    void note_data_block(BlockNo block);
    // Reads what the tree says of all groups noted so, together. (task)
    Status read_noted_groups();

private:
    struct Delta {
        Extent extent;
        bool used;
        bool node;
    };

    // Two generations are under way at most; what belongs to one is found by its parity.
    static std::size_t parity(Generation generation) { return generation.value % 2; }

    Group& group_of(BlockNo block);
    Status load_group(std::uint64_t index);
    Status load_extent(const Extent& extent);
    Status grow(bool metadata);
    bool take_from(std::uint64_t index, std::uint64_t& wanted, std::vector<Extent>& taken,
                   std::vector<Extent>& absent);
    Result<std::vector<Extent>> take_data(std::uint64_t blocks, std::vector<Extent>& absent);
    Status back_more(std::uint64_t blocks);
    Status ensure_backed(std::uint64_t blocks);
    void make_free(const Extent& extent, bool stale);
    bool undone(Generation generation, const Delta& delta);
    Status apply_delta(const Delta& delta, std::vector<bool>& touched);
    Status apply_deltas(Generation generation, std::vector<bool>& touched, Pace& pace);
    Status write_group(std::uint64_t index, Generation generation, Sequence sequence);
    std::vector<layout::FreeItem> items_of(std::uint64_t index);
    void forget_stale(Group& group, std::uint64_t bit, std::uint64_t count);
    void count_node_space(const Group& group, bool add);
    Status make_present(std::uint64_t offset_bytes, std::uint64_t length_bytes);
    Status extend_allocation(std::uint64_t index);

    Disk& disk_;
    NodeCache& cache_;
    Tree tree_;
    NodeRef root_;
    Totals totals_;
    std::uint64_t fixed_blocks_;
    bool read_only_;
    std::vector<std::unique_ptr<Group>> groups_;  // null: not read yet
    std::vector<bool> noted_data_;
    TaskMutex loading_;
    TaskMutex backing_;
    std::uint64_t next_unread_ = 0;
    std::uint64_t data_free_ = 0;    // in groups that were read
    std::uint64_t nodes_free_ = 0;   // physically there, in groups that were read
    std::uint64_t data_cursor_ = 0;  // block behind the last one taken
    std::uint64_t node_cursor_ = 0;
    std::deque<Extent> backed_;  // taken and physically there, for those who come next
    std::uint64_t backed_blocks_ = 0;
    bool backable_ = true;  // until the host said that it cannot
    std::uint64_t unreleased_ = 0;
    std::uint64_t stale_ = 0;
    std::uint64_t punch_cursor_ = ~std::uint64_t{0};  // group
    LongList<Delta> deltas_[2];
    ExtentList freed_[2];
    DropList drops_[2];
    std::uint64_t drop_blocks_[2] = {0, 0};
    // How often the use of a node that stands in deltas_ was taken back.
    std::map<BlockNo, std::uint64_t> undone_nodes_[2];
};

}  // namespace coppice
