// The oracle: what the volumes of an image may hold, at any moment of a run and after a cut.
//
// For each volume it keeps what it held at the start of the run and every change, with the moments
// at which it was asked for and answered. Between the two it takes effect, nobody outside knows
// when. So at a moment t
//     what was answered before t is in,   what was asked for after t is not,
//     what is open at t is in or not, each as a whole.
// The workload keeps open changes from touching the same sectors; then the contents tell which of
// them are in, and the check is exact. Where it lets several race for the same sectors (a contest)
// the change lists every outcome.
//
// This is how a run is compared while it goes on. What may be there after a cut says judge.h.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "format/base/units.h"
#include "format/sim/sim_disk.h"
#include "format/sim/stamps.h"

namespace coppice::sim {

struct SectorRange {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    std::uint64_t end() const { return first + count; }
};

inline bool overlap(const SectorRange& a, const SectorRange& b)
{
    return a.first < b.end() && b.first < a.end();
}

// New contents of a run of sectors.
struct Patch {
    std::uint64_t first = 0;
    Stamps stamps;
    SectorRange range() const { return {first, stamps.size()}; }
};

// What a change read of a volume, as it was when that was asked for: it is there only with what
// others had done to that before.
struct BuiltOn {
    VolumeId volume;
    SectorRange range;
    Event asked = 0;
};

// A sector that this outcome of a contest leaves as it was.
inline constexpr Stamp kUntouched = ~Stamp{1};

// One change of one volume, open from `asked` to `answered`.
struct Change {
    std::string what;   // for the text of a violation
    StreamId stream{};  // of its volume; a transaction has the volume's own order
    bool transaction = false;
    Event asked = 0;
    Event answered = kNever;
    bool failed = false;   // it has no effect, at no time; where that is not known (a failed sync)
                           // it is never answered and so stays open
    bool durable = false;  // answered means durable
    std::vector<Patch> patches;
    // Resize and rollback replace all; nothing else is open meanwhile.
    std::optional<Stamps> whole;
    std::vector<BuiltOn> sources;  // of a clone
    // A contest: the outcomes that are possible while it is open, beside what was there before.
    // Each covers the range of the only patch, which holds the outcome once that is known.
    std::vector<Stamps> outcomes;
};

// A flush covers what was answered before it was asked for, once it is answered: of one stream, or
// of the whole volume.
struct Flush {
    Event asked = 0;
    Event answered = kNever;
    StreamId stream{};
};

// An ordered flush makes nothing durable, but what is behind it, in any stream of these volumes, is
// not there without what is before it.
struct OrderedFlush {
    Event asked = 0;
    Event answered = kNever;
    std::vector<VolumeId> volumes;
};

struct NameChange {
    std::string name;
    Event asked = 0;
    Event answered = kNever;
};

struct GroupChange {
    ConsistencyGroup group;
    Event asked = 0;
    Event answered = kNever;
};

struct Volume {
    VolumeId id;
    bool snapshot = false;
    VolumeId parent;
    std::string name;      // at the start
    bool ordered = false;  // flush=ordered: neither flush nor FUA makes anything durable
    Event created_asked = 0;
    Event created_answered = 0;
    Event removed_asked = kNever;
    Event removed_answered = kNever;
    Stamps start;                 // contents at the start or at creation
    Stamps now;                   // with every answered change
    std::vector<Change> changes;  // in the order in which they were asked for
    std::vector<Flush> flushes;
    std::vector<NameChange> names;
    ConsistencyGroup group;  // at the start
    std::vector<GroupChange> groups;

    // The group that it was surely in all the time between the two; nothing if it changed.
    std::optional<ConsistencyGroup> settled_group(Event from, Event until) const;
    // What the stream had answered before this is durable at a cut at `event`.
    Event flushed_at(Event event, StreamId stream) const;
    bool must_exist(Event event) const
    {
        return created_answered <= event && removed_asked > event;
    }
    bool may_exist(Event event) const { return created_asked <= event && removed_answered > event; }
};

struct Model {
    std::map<std::uint64_t, Volume> volumes;  // by id, the removed ones too
    // Creations that failed in a way that leaves open whether they happened (a failed sync).
    std::vector<Volume> perhaps;
    // Snapshots that were made as one, of the volumes of a group.
    std::vector<std::vector<VolumeId>> together;
    // From when to when transactions were open.
    std::vector<std::pair<Event, Event>> transactions;
    std::vector<OrderedFlush> ordered_flushes;

    Volume* find(VolumeId id);
    // The volumes that are there now (created, not being removed).
    std::vector<VolumeId> present() const;
    // Those of them that are in this group, and no change of that is under way.
    std::vector<VolumeId> members(ConsistencyGroup group, Event now) const;
    // The volume, and those that were in its group all the time between the two.
    std::vector<VolumeId> with_group(VolumeId id, Event from, Event until) const;
    // A flush of the volume, or of one of its streams, that makes durable was answered. The first
    // covers the volume's group.
    void note_flush(VolumeId id, const Flush& flush);
    // So was something that takes everything along that was answered before it was asked for: a
    // checkpoint, or management.
    void note_all_durable(Event asked, Event answered);
};

// Looks for a moment in [from, until] whose state agrees with `found`, which are the sectors from
// `first` on (all of the volume if `whole_volume`). On failure the text says what differs from the
// nearest state.
struct MatchQuestion {
    Event from = 0;
    Event until = 0;
    std::uint64_t first = 0;
    bool whole_volume = true;
};
bool match(const Volume& volume, const Stamps& found, const MatchQuestion& question,
           std::string& why_not);

// The same for several volumes that have one order: one moment must do for all of them. `from` and
// `until` are those of the first.
struct Member {
    const Volume* volume = nullptr;
    const Stamps* found = nullptr;
    MatchQuestion question;
};
bool match_together(const std::vector<Member>& members, std::string& why_not);

// The first differences of two runs of sectors, in words.
std::string differences(const Stamps& expected, const Stamps& found, std::uint64_t first);

}  // namespace coppice::sim
