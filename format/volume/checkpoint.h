// Makes one state of all trees durable (FORMAT.md, "Order of a checkpoint") and decides what is
// free. Operations go on meanwhile in copies of the nodes.
#pragma once

#include <functional>

#include "format/volume/state.h"
#include "format/volume/superblock.h"

namespace coppice {

class Checkpoint {
public:
    // `begin_writing`: makes void what a replay did not take, if that is still to be done.
    Checkpoint(State& state, std::function<Status()> begin_writing)
        : state_(state), begin_writing_(std::move(begin_writing)), turn_(state.tasks)
    {
    }

    // Writes a checkpoint if there is anything to write. (task)
    Status run();
    // Lets a checkpoint that is under way go on, the longer the nearer the next one is: a writer
    // that comes here before each change is slowed down, and need not be stopped. (task)
    void make_way();
    bool needed() const;     // something changed since the last one
    bool due() const;        // much did
    bool removable() const;  // a version waits to be removed

private:
    // A version that left the catalog at the freeze, and what is still to be done for it.
    struct Removal {
        Sequence parent;            // of the removed version
        Sequence sequence;          // of the removed version
        std::vector<ListId> lists;  // child's lists to look through; without a child: its own
        bool has_child = false;
        NodeRef map;  // without a child: to be walked
        std::uint64_t version = 0;
    };
    // The state that the checkpoint writes down.
    struct Frozen {
        Generation generation;
        Sequence sequence;
        Catalog catalog;
        JournalPosition journal;
        std::vector<Removal> removals;
        DropList drops;
    };

    Frozen freeze();
    std::vector<Removal> take_removals();
    Status write(Frozen& frozen);
    Status count_space(Frozen& frozen);
    Status settle_drops(Frozen& frozen, ExtentList& freed);
    Status settle_removal(Frozen& frozen, const Removal& removal, ExtentList& freed);
    Status walk_removed(Frozen& frozen, const Removal& removal, ExtentList& freed);
    Status drop_reference(Frozen& frozen, const Drop& drop, ExtentList& freed);
    Status write_catalog(Frozen& frozen);
    Status publish(Frozen& frozen);
    void fill_checksum(NodeRef& reference) const;
    void fill_map_checksums(Catalog& catalog) const;
    double changed_part() const;

    State& state_;
    std::function<Status()> begin_writing_;
    TaskMutex turn_;
    bool under_way_ = false;
    std::map<Key, layout::CatalogItem> written_catalog_;  // what the catalog tree holds
    bool catalog_known_ = false;
};

}  // namespace coppice
