// The callers of the store: several fibers that do what the plan's weights say, and tell the model
// what they asked for and what they were answered. What they read is compared at once.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "format/disk/fiber_tasks.h"
#include "format/sim/locks.h"
#include "format/sim/model.h"
#include "format/sim/plan.h"
#include "format/volume/store.h"

namespace coppice::sim {

class Workload {
public:
    Workload(FiberTasks& tasks, Store& store, Model& model, EventClock& clock, Random random,
             const Plan& plan, Stamp first_stamp);

    // In a task. Returns when all fibers have ended.
    void run();

    // True once the host failed a sync: nothing more is asked of the store.
    bool stopped() const { return stopped_; }
    Stamp next_stamp() const { return next_stamp_; }

private:
    struct Target {
        VolumeId volume;
        SectorRange range;
    };

    void fiber();
    void act(Action action);

    // -- choosing
    std::vector<VolumeId> candidates(bool writable, bool snapshots) const;
    VolumeId choose(bool writable, bool snapshots);
    SectorRange choose_range(const Volume& volume, std::uint64_t largest);
    std::optional<Target> choose_target(bool writable);
    Stamps fresh_stamps(std::uint64_t count);
    std::string fresh_name();

    // -- telling the model
    std::size_t ask(Volume& volume, Change change);
    // True if it took effect. Errors that the plan does not account for are violations.
    bool answer(Volume& volume, std::size_t index, const Status& status);
    bool excuse(const Error& error, const std::string& what);

    // -- input and output
    Status write(VolumeId volume, std::uint64_t first, const Stamps& stamps, bool fua,
                 StreamId stream);
    Result<Stamps> read(VolumeId volume, const SectorRange& range);
    Status submit(const Operation& operation);

    // One transaction of one fiber.
    struct Staged {
        TransactionId id;
        VolumeId volume;
        std::vector<SectorRange> ranges;  // which the fiber has alone
        SectorRange source;               // ... which nobody changes, in the same volume
        std::map<std::uint64_t, Stamp> sectors;
        std::vector<BuiltOn> copied;  // from what others did
        Event begun = 0;
        std::uint64_t used_ns = 0;  // when the last call ended
        bool late = false;          // somebody surely came first
    };

    // -- streams
    // One that is open, at times, else the volume's own order.
    StreamId choose_stream(VolumeId volume);
    void do_open_stream();
    void do_close_stream();
    void build_on(const Staged& staged);

    // With `flushes` the stream that it belongs to, if any, is flushed behind it.
    void do_write(bool flushes);
    void do_read(bool exact);
    void do_read_snapshot();
    void do_deallocate();
    void do_write_zeroes();
    void do_clone();
    void do_contest();
    void do_write_ranges();
    void do_flush();
    void flush(VolumeId volume, StreamId stream);
    void do_checkpoint();
    void do_rest();

    // -- transactions
    void do_transaction();
    // Begins one, writes and commits.
    Status write_in_transaction(VolumeId volume, std::uint64_t first, const Stamps& stamps);
    bool stage_all(Staged& staged);
    bool stage_one(Staged& staged, const SectorRange& range);
    Stamps seen_by(const Staged& staged, const SectorRange& range);
    bool see(Staged& staged);
    void end_transaction(Staged& staged);
    void come_first(Staged& staged);
    bool may_conflict(const Staged& staged) const;
    bool commit(Staged& staged);
    bool ended_by(const Staged& staged, const Error& error, const std::string& what);

    // -- management
    void do_snapshot();
    void do_rollback();
    void do_clone_volume();
    void do_create_volume();
    void do_remove();
    void do_resize();
    void do_rename();
    void do_set_flush_mode();
    void set_flush_mode(VolumeId id, FlushMode mode);
    void do_set_group();
    void join_group(VolumeId id, ConsistencyGroup group);
    void do_snapshot_group();
    bool compare_group_snapshots(const std::vector<VolumeId>& members,
                                 std::vector<Volume>& snapshots);
    bool still_there(VolumeId id) const;

    FiberTasks& tasks_;
    Store& store_;
    Model& model_;
    EventClock& clock_;
    Random random_;
    const Plan& plan_;
    LockTable locks_;
    std::map<VolumeId, std::vector<StreamId>> streams_;  // that are open
    Stamp next_stamp_;
    std::uint64_t left_;
    unsigned running_ = 0;
    unsigned left_open_ = 0;  // transactions that nobody ends
    Task* waiter_ = nullptr;
    bool stopped_ = false;
};

// All sectors of a volume or snapshot, read through the store.
Result<Stamps> read_all(Store& store, const VolumeInfo& volume);

}  // namespace coppice::sim
