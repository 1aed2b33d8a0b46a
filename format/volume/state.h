// Everything that an open image is in memory, in one place: the parts below, and what the pieces of
// the store (reader, writer, effects, committer, checkpoint, recovery) share. One thread owns it;
// the pieces hold references to it and to nothing of each other but what they are given.
#pragma once

#include <deque>
#include <list>
#include <map>
#include <optional>
#include <set>

#include "format/base/rules.h"
#include "format/disk/disk.h"
#include "format/journal/ring.h"
#include "format/space/checksum_table.h"
#include "format/space/dead_table.h"
#include "format/space/reference_table.h"
#include "format/space/space.h"
#include "format/volume/bulk_gate.h"
#include "format/volume/catalog.h"
#include "format/volume/domains.h"
#include "format/volume/late_writes.h"
#include "format/volume/map.h"
#include "format/volume/store.h"

namespace coppice {

// Operations under way, in the order in which they began. What a checkpoint freed may be re-used
// when every operation that began before its superblock was durable has ended: such an operation
// may still be at the blocks.
class Pins {
public:
    std::uint64_t begin()
    {
        active_.insert(++last_);
        return last_;
    }
    void end(std::uint64_t pin) { active_.erase(pin); }
    std::uint64_t newest() const { return last_; }
    // Has every operation up to this one ended?
    bool passed(std::uint64_t pin) const { return active_.empty() || *active_.begin() > pin; }
    bool idle() const { return active_.empty(); }

private:
    std::set<std::uint64_t> active_;
    std::uint64_t last_ = 0;
};

// A read-modify-write of part of a block excludes other changes of its blocks, a rollback those of
// the whole volume; changes of whole blocks do not exclude each other. First come, first served.
class BlockLocks {
public:
    explicit BlockLocks(Tasks& tasks) : waiting_(tasks) {}

    struct Held {
        VolumeId volume;
        Lba begin;
        Lba end;
        bool exclusive = false;
    };
    using Handle = std::list<Held>::iterator;

    Handle lock(const Held& wanted);  // (task)
    void unlock(Handle handle);

private:
    std::list<Held> held_;  // and those that wait, in the order in which they came
    WaitQueue waiting_;
};

struct Released {
    std::uint64_t pin;   // when all operations up to this one have ended
    ExtentList extents;  // taken from its end
};

struct State {
    State(Disk& disk_port, const OpenOptions& open_options, const layout::ImageHeader& image_header,
          const layout::Superblock& superblock);

    Disk& disk;
    Tasks& tasks;
    OpenOptions options;
    layout::ImageHeader header;

    NodeCache cache;
    Space space;
    ChecksumTable checksums;
    ReferenceTable references;
    DeadTable dead;
    Map map;
    Ring ring;
    LateWrites late;
    Catalog catalog;
    NodeRef catalog_root;
    NodeRef range_root;

    Sequence sequence;          // of the newest operation
    Generation generation;      // under construction
    Generation durable;         // of the newest durable superblock
    Sequence durable_sequence;  // what that contains
    Domains domains;
    BulkGate bulk;
    Pins pins;
    BlockLocks locks;
    std::deque<Released> released;  // freed by durable superblocks, waiting for pins
    WaitQueue released_waiters;     // those who wait for `released` to become empty
    std::uint64_t released_ns = 0;  // when space was last freed
    bool punching = false;          // free blocks are being given back to the host
    WaitQueue punch_waiters;
    bool recovery_open = false;    // replay ended here; the closing commit is not yet written
    std::optional<Error> failure;  // why nothing is written any more
    Statistics statistics;
    std::uint64_t replayed_operations = 0;
    std::uint64_t replayed_commits = 0;
    RecoveryWork recovery;
    std::uint64_t settling_drops = 0;  // drops that a checkpoint took and has not dealt with

    // Error if the image is opened read-only or an earlier failure stopped writing.
    Status check_writable() const;
    // Stops all writing; the first reason counts. Returns it as an error.
    tl::unexpected<Error> stop_writing(Error reason);

    // What the host was given before the call is durable afterwards. Who comes while a sync is
    // under way shares the next one; there is never more than one, because a host tells a failure
    // once and a second sync beside it would succeed. A failure stops all writing: the host may
    // have dropped what it could not write. (task)
    Status sync();
    // Whole blocks of the host file, or of the image as its superblock has it, whichever is more.
    Result<std::uint64_t> file_blocks() const;
    // What the open showed may lie in the host's cache only, where a process that was killed left
    // it. The first flush covers it as well.
    Status sync_what_was_found()
    {
        const bool nothing_to_do =
            sync_covered_ != 0 || options.read_only || !obeys(Rule::found_is_synced);
        return nothing_to_do ? Status() : sync();
    }

    // Late data that are held at the call are at their place afterwards; or at least so many that
    // there is room for more. A failure stops all writing. (task)
    Status write_late();
    Status write_late(const std::vector<BlockNo>& blocks);
    Status make_room_for_late();

    // Nodes that a checkpoint may need for what is pending: operations leave that many. Those that
    // free space may go further into what is always kept.
    std::uint64_t node_reserve(bool frees_space) const;

    Change change_for(const Version& version) const
    {
        return {const_cast<Space&>(space),        generation,         sequence,
                catalog.parent_sequence(version), version.first_list, version.volume.value};
    }

    // Freed blocks that no operation is at any more may be used again: a few of them, as whoever
    // ends an operation does it beside. False: there are none now.
    bool release_passed();
    // All that there are now. (task)
    void release_all_passed();
    // ... and those that are still pinned, when they are not any more. (task)
    void wait_for_released();
    // Gives free blocks back to the host, at most some MiB. False: there are no more. (task)
    Result<bool> punch_some();

private:
    Status stopping(Status done);  // a failure stops all writing

    std::uint64_t sync_asked_ = 0;    // calls of sync
    std::uint64_t sync_covered_ = 0;  // those that a completed one covers
    bool syncing_ = false;
    WaitQueue sync_waiters_;
};

// One operation under way.
class Pin {
public:
    explicit Pin(State& state) : state_(state), pin_(state.pins.begin()) {}
    Pin(const Pin&) = delete;
    Pin& operator=(const Pin&) = delete;
    ~Pin()
    {
        state_.pins.end(pin_);
        state_.release_passed();
    }

private:
    State& state_;
    std::uint64_t pin_;
};

}  // namespace coppice
