// Brings pending operations into the journal and makes them durable. One commit is written at a
// time; whoever needs one while it is under way waits and is served, with all others who came
// meanwhile, by the next: one sync for everybody.
#pragma once

#include <functional>
#include <vector>

#include "format/volume/state.h"

namespace coppice {

class Committer {
public:
    // `make_room` writes a checkpoint; called when the ring is too full for a commit.
    Committer(State& state, std::function<Status()> make_room)
        : state_(state), make_room_(std::move(make_room)), turn_(state.tasks)
    {
    }

    // Everything that took effect in the domain before the call is durable afterwards, with what it
    // builds on. (task)
    Status make_durable(DomainId domain);
    // Same for all that a flush of the volume covers, and for all volumes. (task)
    Status make_durable(VolumeId volume);
    Status make_all_durable();
    // Pending operations of all volumes reach the journal; nothing is synced. (task)
    Status write_pending();

    // Before the first write after a replay: what the replay did not take is made void. (task)
    Status open_for_writing();

private:
    Status close_recovery();
    Status make_durable(const std::vector<DomainId>& domains);
    Status round();
    Status write_domains(bool wanted_only);
    // Operations up to `end` make a commit of so many blocks.
    struct Cut {
        std::size_t end;
        std::uint64_t blocks;
    };
    Cut next_commit(std::span<const JournalOperation> operations, std::size_t begin) const;
    Status bound_tail(std::span<const JournalOperation> commit);
    Status write_operations(std::vector<JournalOperation> operations, bool wanted);
    Status write_commit(std::vector<JournalOperation> operations);
    void leave_out_superseded(std::vector<JournalOperation>& operations);
    Status prepare_data(std::vector<JournalOperation>& operations, bool wanted);
    void carry_data(JournalOperation& operation);
    Status sync();

    State& state_;
    std::function<Status()> make_room_;
    TaskMutex turn_;
    std::uint64_t unsynced_blocks_ = 0;  // of data, in commits that no sync covers
};

}  // namespace coppice
