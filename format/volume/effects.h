// How operations change the state in memory: the same code when they happen and when the journal is
// replayed, so that replay can only repeat what was.
//
//   prepare (may suspend: loads nodes, finds space for nodes) -> apply (does not suspend)
//
// A *command* is one or more operations that take effect together; the parts of it are marked with
// kOperationContinues, and the sources of its clones are read before anything is changed.
#pragma once

#include <span>

#include "format/volume/state.h"

namespace coppice {

// Longest chain of range references.
inline constexpr unsigned kMaxReferenceDepth = 2;

class Effects {
public:
    explicit Effects(State& state) : state_(state) {}

    // Is everything at hand that the command needs? Loads one node if not, and the caller asks
    // again: returns true when `apply` may follow without suspending. (task)
    Result<bool> prepare(std::span<const JournalOperation> command, std::uint64_t reserve);

    // Carries out the command. Sequences are those in the records. An Error means that a replayed
    // record cannot be (nothing changed by that operation); a live command never gets one.
    Status apply(std::span<JournalOperation> command);

    // A part of an item leaves a head; what it holds is dropped in the checkpoint.
    void drop(Version& head, const MapRun& part);

private:
    struct Touched {
        VolumeId volume;
        Lba lba;
        std::uint64_t length;
        std::uint64_t operations;
    };
    static std::vector<Touched> touched_by(std::span<const JournalOperation> command);
    Result<const Version*> version_of(VolumeId volume) const;
    Status load_range(VolumeId volume, Lba lba, std::uint64_t length, const Missing& first);
    Result<const Version*> source_version(const layout::OperationRecord& record) const;
    Status hold_sources(std::span<JournalOperation> command);
    Status apply_one(JournalOperation& operation, const std::vector<MapRun>& source_runs);
    Status apply_write(const JournalOperation& operation);
    Status apply_cut(const layout::OperationRecord& record);
    Status apply_clone(const layout::OperationRecord& record, const std::vector<MapRun>& runs);
    Status apply_clone_reference(const layout::OperationRecord& record);
    Status apply_snapshot(const JournalOperation& operation);
    Status apply_create(const JournalOperation& operation);
    Status apply_remove(const layout::OperationRecord& record);
    Status apply_rollback(const layout::OperationRecord& record);
    Status apply_change(const JournalOperation& operation);

    // Freezes what the head of the volume has now as a version of its own, between the head and its
    // parent.
    Version& freeze_head(Volume& volume, Sequence sequence);
    Version& version_to_hold(Volume& source, Sequence sequence);
    void abandon_version(Version& version);
    void cut(Version& head, Lba lba, std::uint64_t length);
    Result<Volume*> target(const layout::OperationRecord& record);
    // The operation's, for a snapshot or for a volume that is none.
    Result<layout::VolumeRecord> volume_record(const JournalOperation& operation,
                                               bool snapshot) const;
    Status check_number(const layout::OperationRecord& record, VolumeId id) const;
    Status check_references(const std::vector<MapRun>& runs) const;

    State& state_;
};

}  // namespace coppice
