// Many changes of one head's map in ascending order, as replay has them: neighbours fall into the
// same leaf, which is found once and changed in place. What is not that simple (an item over the
// edge of a leaf, a leaf that becomes full or small) goes the usual way, one change at a time.
#pragma once

#include "format/volume/effects.h"

namespace coppice {

// What a range of the map is from now on: data, or nothing.
struct NewRun {
    MapRun run;
    bool mapped = false;  // else `run` only says the range
};

class MapSweep {
public:
    MapSweep(State& state, Effects& effects, VolumeId volume);

    // The runs do not overlap. What they replace is dropped. (task)
    Status apply(std::span<const NewRun> runs);

private:
    Version& head() { return state_.catalog.head_of(*state_.catalog.volume(volume_)); }
    Status read_paths(std::span<const NewRun> runs);
    Status apply_one(const NewRun& next);
    Status change_usual_way(const NewRun& next);
    Status own_leaf(Lba lba);
    bool change_leaf(const NewRun& next, bool& own);

    State& state_;
    Effects& effects_;
    VolumeId volume_;
    Tree tree_;
    Tree::Leaf leaf_;        // where the last change was; no node: to be looked for
    unsigned position_ = 0;  // its first item behind the last change
};

}  // namespace coppice
