// Makes one state of all trees durable (FORMAT.md, "Order of a checkpoint") and decides what is
// free. Operations go on meanwhile in copies of the nodes.
#pragma once

#include <functional>

#include "format/volume/frozen.h"
#include "format/volume/removal.h"
#include "format/volume/superblock.h"

namespace coppice {

class Checkpoint {
public:
    // `begin_writing`: makes void what a replay did not take, if that is still to be done.
    Checkpoint(State& state, std::function<Status()> begin_writing)
        : state_(state),
          begin_writing_(std::move(begin_writing)),
          turn_(state.tasks),
          removals_(state)
    {
    }

    // Writes a checkpoint if there is anything to write. (task)
    Status run();
    // Lets a checkpoint that is under way go on, the longer the nearer the next one is: a writer
    // that comes here before each change is slowed down, and need not be stopped. (task)
    void make_way();
    bool needed() const;  // something changed since the last one
    bool due() const;     // much did
    // Versions wait to be removed, or for what is left of them to be given back: each checkpoint
    // does a part of that.
    bool removable() const { return removals_.waiting(); }
    // Could the last one do nothing of it before what it freed is released?
    bool removal_stuck() const { return removals_.waiting() && removals_.stuck(); }

private:
    Frozen freeze();
    Status write(Frozen& frozen);
    Status count_space(Frozen& frozen);
    Status settle_drops(Frozen& frozen);
    Status write_catalog(Frozen& frozen);
    Status publish(Frozen& frozen);
    void fill_checksum(NodeRef& reference) const;
    void fill_map_checksums(Catalog& catalog) const;
    double changed_part() const;

    State& state_;
    std::function<Status()> begin_writing_;
    TaskMutex turn_;
    Removals removals_;
    bool under_way_ = false;
    bool removing_ = false;    // it is at a removal, which nobody waits for
    std::uint64_t begun_ = 0;  // checkpoints
    std::map<Key, layout::CatalogItem> written_catalog_;  // what the catalog tree holds
    bool catalog_known_ = false;
};

}  // namespace coppice
