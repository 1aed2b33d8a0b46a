// What is ordered together (FORMAT.md, "Domains"): each volume, and each stream that somebody
// opened inside one. After a crash a domain holds a prefix of its operations in the order in which
// they took effect; domains are reordered freely against each other, except where one builds on
// what another has pending: these are joined, and go into the journal together. The own domains of
// the volumes of a consistency group are joined for as long as they are in it, and so one order.
#pragma once

#include <deque>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "format/base/result.h"
#include "format/journal/commit.h"

namespace coppice {

struct DomainId {
    VolumeId volume;
    StreamId stream;  // 0: the volume's own
    auto operator<=>(const DomainId&) const = default;
};

//   last     newest operation that took effect
//   written  newest that is in the journal, perhaps not durable
//   durable  newest that a completed sync or a superblock covers
struct Domain {
    std::deque<JournalOperation> pending;  // took effect, not yet in the journal
    Sequence last;
    Sequence written;
    Sequence durable;
    std::uint64_t joined = 0;  // domains with the same number are committed together; 0: alone
    bool wanted = false;       // somebody waits for it to become durable
};

DomainId domain_of(const JournalOperation& operation);

class Domains {
public:
    Domain& at(DomainId id) { return domains_[id]; }
    Domain* find(DomainId id);
    auto begin() { return domains_.begin(); }
    auto end() { return domains_.end(); }
    bool any_pending() const;
    bool several() const { return domains_.size() > 1 || !streams_.empty(); }

    // All of a volume: its own and its streams.
    std::vector<DomainId> of_volume(VolumeId volume) const;
    // What a flush of the volume covers: all of it, and of the other volumes of its group.
    std::vector<DomainId> covered_by_flush(VolumeId volume) const;

    // ---- Consistency groups
    // From now on the volume is in this group; 0: in none. What the volumes of its old group do
    // next reaches the journal no earlier than what it has pending now.
    void set_group(VolumeId volume, ConsistencyGroup group);
    std::vector<VolumeId> in_group(ConsistencyGroup group) const;

    // ---- Streams. Not kept over a close; at most kMaxStreams are open at a time.
    Result<StreamId> open_stream(VolumeId volume);
    // What it has pending reaches the journal with the periodic commits.
    Status close_stream(DomainId id);
    void close_streams(VolumeId volume);  // a volume that is removed
    // Error unless the stream is open; a volume's own domain always is.
    Status check_open(DomainId id) const;
    std::size_t open_streams() const { return streams_.size(); }

    // ---- Operations
    // These took effect, all in one domain.
    void enqueue(std::span<JournalOperation> command);
    // What these domains have pending is about to be taken, all of it: none waits for it any more.
    void begin_taking(std::span<const DomainId> chosen);
    // Takes the oldest of their pending operations, up to a sequence, in the order in which they
    // took effect: so many, and what belongs to the last command.
    std::vector<JournalOperation> take_pending(std::span<const DomainId> chosen, Sequence up_to,
                                               std::size_t most);
    // A superblock contains everything up to here. Forgets so many of the operations that were
    // pending; true: there are more, call again.
    bool contained(Sequence sequence, std::size_t most);

    // ---- Domains that meet
    void join(DomainId a, DomainId b);
    // With every domain that has something pending.
    void join_all(DomainId with);
    // What a flush of the volume covers, with each other: what one has pending now goes with what
    // another has later. Nothing if none has anything pending.
    void join_covered_by_flush(VolumeId volume);
    // Has another domain of the volume something pending?
    bool others_pending(DomainId id) const;
    // Those that have something pending for these blocks.
    std::vector<DomainId> others_pending_over(DomainId own, VolumeId volume, Lba begin,
                                              Lba end) const;
    // With another, if that has something pending from up to there.
    void join_pending(DomainId with, DomainId other, Sequence up_to);
    // With the domains that have something pending for these blocks.
    void join_over(DomainId with, VolumeId volume, Lba begin, Lba end);
    // `chosen` and those joined with any of them, also by their group.
    std::vector<DomainId> with_joined(std::vector<DomainId> chosen) const;

private:
    static bool has_pending_over(const Domain& domain, Lba begin, Lba end);
    // In whose order does the domain stand? 0: it has its own.
    ConsistencyGroup group_of(DomainId id) const;
    // The volume and the others of its group.
    std::vector<VolumeId> with_group(VolumeId volume) const;

    std::map<DomainId, Domain> domains_;
    std::set<DomainId> streams_;
    std::map<VolumeId, std::uint64_t> last_stream_;
    std::map<VolumeId, ConsistencyGroup> groups_;  // of the volumes that are in one
    std::uint64_t last_join_ = 0;
};

}  // namespace coppice
