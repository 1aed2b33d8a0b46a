#include "format/volume/background.h"

namespace coppice {

namespace {

// Late data are worth a host write from here on: 256 KiB.
constexpr std::uint64_t kLateBlocks = 64;
// Longest time that somebody who goes waits for free space to go back to the host.
constexpr std::uint64_t kLongestPunchNs = 2'000'000'000;

}  // namespace

void Background::pause()
{
    paused_ = true;
    while (committing_.running || checkpointing_.running || punching_.running ||
           writing_late_.running || releasing_.running) {
        idle_.wait();
    }
}

// False: it runs already, or nothing is started now. A failure of background work is remembered in
// the state and told to whoever writes next.
bool Background::start(Job& job)
{
    if (job.running || paused_ || state_.failure || state_.options.read_only) {
        return false;
    }
    job.running = true;
    state_.tasks.spawn([this, &job] {
        (void)(this->*job.work)();
        job.running = false;
        idle_.wake_all();
    });
    return true;
}

void Background::after_change()
{
    if (checkpoint_.due()) {
        start(checkpointing_);
    }
    if (state_.late.blocks() >= kLateBlocks) {
        start(writing_late_);
    }
}

void Background::after_removal()
{
    if (checkpoint_.removable()) {
        start(checkpointing_);
    }
}

// What was dropped becomes free by a checkpoint, also when nothing else happens any more.
bool Background::drops_at_rest(std::uint64_t now) const
{
    return now - dropped_ns_ >= state_.options.punch_delay_ns &&
           dropped_blocks_ >= state_.options.punch_blocks &&
           state_.space.pending_drop_blocks() == dropped_blocks_;
}

Status Background::checkpoint()
{
    dropped_blocks_ = 0;  // what is dropped from now on has its own time
    COPPICE_TRY(checkpoint_.run());
    // The steps of a removal follow each other; one that can do nothing now waits for the next
    // tick.
    while (!paused_ && checkpoint_.removable() && !checkpoint_.removal_stuck()) {
        COPPICE_TRY(checkpoint_.run());
    }
    return {};
}

// What nobody waits for reaches the journal; what somebody flushed in order, the medium.
Status Background::commit()
{
    COPPICE_TRY(committer_.write_pending());
    for (const VolumeId volume : std::exchange(ordered_flushes_, {})) {
        COPPICE_TRY(committer_.make_durable(volume));
    }
    return {};
}

void Background::tick()
{
    const std::uint64_t now = state_.tasks.now_ns();
    const bool pending = !ordered_flushes_.empty() || state_.domains.any_pending();
    if (!pending ||
        (now - last_commit_ns_ >= state_.options.commit_interval_ns && start(committing_))) {
        last_commit_ns_ = now;
    }
    if (state_.space.pending_drop_blocks() != dropped_blocks_) {
        dropped_blocks_ = state_.space.pending_drop_blocks();
        dropped_ns_ = now;
    }
    after_change();
    after_removal();
    if (drops_at_rest(now)) {
        start(checkpointing_);
    }
    if (!state_.released.empty()) {
        start(releasing_);
    }
    if (punch_due(now)) {
        start(punching_);
    }
}

// What was freed and is left when nobody ends an operation any more.
Status Background::release()
{
    state_.release_all_passed();
    return {};
}

// What was freed is soon used again where much is written: it goes back when things are quiet, or
// when it is a good part of the image.
bool Background::punch_due(std::uint64_t now) const
{
    const std::uint64_t stale = state_.space.stale_blocks();
    const bool quiet = now - state_.released_ns >= state_.options.punch_delay_ns;
    return state_.options.punch && state_.space.punchable() &&
           stale >= state_.options.punch_blocks &&
           (quiet || stale > state_.space.tree_totals().image_blocks / 4);
}

Status Background::punch_all()
{
    state_.release_all_passed();
    const std::uint64_t begin = state_.tasks.now_ns();
    bool more = true;
    while (more && state_.tasks.now_ns() - begin < kLongestPunchNs) {
        COPPICE_ASSIGN(punched, state_.punch_some());
        more = punched;
    }
    return {};
}

Status Background::punch()
{
    bool more = true;
    while (more && !paused_) {
        COPPICE_ASSIGN(punched, state_.punch_some());
        more = punched;
    }
    return {};
}

}  // namespace coppice
