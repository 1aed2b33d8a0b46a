// Many changes of one head's map in ascending order, as replay has them: neighbours fall into the
// same leaf, which is found once and changed in place. What is not that simple (an item over the
// edge of a leaf, a leaf that becomes full or small) goes the usual way, one change at a time.
#pragma once

#include <array>
#include <optional>

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

    // In the leaf at hand: the items [from, last) give way to others.
    struct Edit {
        unsigned from = 0;
        unsigned last = 0;
        unsigned added = 0;
        std::array<layout::MapItem, 3> items{};
    };
    std::optional<Edit> plan(const NewRun& next);
    void plan_left(const NewRun& next, Edit& edit);
    bool plan_right(const NewRun& next, Edit& edit) const;
    void carry_out(const NewRun& next, const Edit& edit);

    State& state_;
    Effects& effects_;
    VolumeId volume_;
    Tree tree_;
    Tree::Leaf leaf_;        // where the last change was; no node: to be looked for
    unsigned position_ = 0;  // its first item behind the last change
};

}  // namespace coppice
