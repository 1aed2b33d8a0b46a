// Transactions: what is staged under one number takes effect as one command, or not at all, and not
// at all if anybody else changed the same blocks first.
//
//   begin -> staged changes (Staging) -> commit: one command (Writer::take_effect)
//                                     -> abort, timeout, conflict: nothing, all blocks free again
//
// An open transaction holds no pin and no lock between calls: nobody waits for it.
#pragma once

#include <deque>
#include <map>
#include <string>

#include "format/volume/staging.h"

namespace coppice {

class Transactions {
public:
    Transactions(State& state, Reader& reader, Writer& writer)
        : state_(state), reader_(reader), writer_(writer)
    {
    }

    Result<TransactionId> begin(VolumeId volume);
    // A read, or a change that is staged, of the operation's transaction. (task)
    Status perform(const Operation& operation);
    // Returns the volume that changed. (task)
    Result<VolumeId> commit(TransactionId id);
    Status abort(TransactionId id);
    // Also while it is being committed.
    Result<VolumeId> volume_of(TransactionId id);
    // Error unless it is one of this volume.
    Status check_volume(TransactionId id, VolumeId volume);
    // Ends all but those that are being committed, which come to their end.
    void abort_all(const std::string& why);
    // Ends those whose volume is gone.
    void end_removed();
    // Ends those that nobody used for too long.
    void tick();

    // The one-command case: nothing is ever staged that anybody could come before. (task)
    Status write_ranges(VolumeId volume, std::span<const Range> ranges,
                        std::span<const iovec> from);

private:
    struct Open {
        Open(State& state, Reader& reader, Writer& writer, TransactionId number, VolumeId volume);
        ~Open();
        Open(const Open&) = delete;
        Open& operator=(const Open&) = delete;

        TransactionId id;
        Staging staging;
        Marks& marks;
        Marks::Handle watch;
        TaskMutex turn;  // one call at a time
        unsigned users = 0;
        std::uint64_t last_use_ns = 0;
        std::uint64_t claimed_bytes = 0;  // of the call under way
        bool committing = false;
        bool ended = false;
    };
    class Use;

    Result<std::shared_ptr<Open>> find(TransactionId id);
    tl::unexpected<Error> gone(TransactionId id) const;
    void end(Open& open, const std::string& why);
    void end_if_removed(Open& open);
    Status stage(Open& open, const Operation& operation);
    Status claim(VolumeId volume, const Operation& operation, Overlay& claimed,
                 std::uint64_t& bytes) const;
    static Status apply(Staging& staging, const Operation& operation);
    Status check_room(std::uint64_t more) const;
    static Status check_conflict(const Open& open);

    State& state_;
    Reader& reader_;
    Writer& writer_;
    std::map<TransactionId, std::shared_ptr<Open>> open_;
    TransactionId last_;
    std::deque<std::pair<TransactionId, std::string>> ended_;  // the newest ones, and why
};

}  // namespace coppice
