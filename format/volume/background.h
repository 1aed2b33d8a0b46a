// What the store does by itself, without anybody waiting: pending operations reach the journal,
// late data their places, checkpoints are written, free space goes back to the host. One task for
// each kind of work at most; `tick` and those who make work start them, `pause` waits for them.
#pragma once

#include <set>

#include "format/volume/checkpoint.h"
#include "format/volume/committer.h"
#include "format/volume/state.h"

namespace coppice {

class Background {
public:
    Background(State& state, Committer& committer, Checkpoint& checkpoint)
        : state_(state), committer_(committer), checkpoint_(checkpoint), idle_(state.tasks)
    {
    }

    // About once a second: starts what is due by time. Never waits.
    void tick();
    // After a change: starts what is due by amount. Never waits.
    void after_change();
    // After a volume went, or was rolled back. Never waits.
    void after_removal();

    // Nothing is started any more; returns when all is still. (task)
    void pause();
    void resume() { paused_ = false; }

    // A flush of this volume is to reach the medium with the next periodic commit.
    void flush_later(VolumeId volume) { ordered_flushes_.insert(volume); }

    // Gives free space back for as long as a short time allows. (task)
    Status punch_all();

private:
    using Work = Status (Background::*)();
    struct Job {
        Work work;
        bool running = false;
    };

    bool drops_at_rest(std::uint64_t now) const;
    bool punch_due(std::uint64_t now) const;
    bool start(Job& job);
    Status commit();
    Status checkpoint();
    Status punch();
    Status release();
    Status write_late() { return state_.write_late(); }

    State& state_;
    Committer& committer_;
    Checkpoint& checkpoint_;
    WaitQueue idle_;
    Job committing_{&Background::commit};
    Job checkpointing_{&Background::checkpoint};
    Job punching_{&Background::punch};
    Job writing_late_{&Background::write_late};
    Job releasing_{&Background::release};
    bool paused_ = false;
    std::uint64_t last_commit_ns_ = 0;
    std::uint64_t dropped_blocks_ = 0;  // as the last tick saw them, and when they changed
    std::uint64_t dropped_ns_ = 0;
    std::set<VolumeId> ordered_flushes_;  // asked for since the last periodic commit
};

}  // namespace coppice
