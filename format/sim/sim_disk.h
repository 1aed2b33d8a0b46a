// The simulated disk. The fault model:
//
//   * Requests complete in any order, each after a random virtual time. Reads see what had
//     completed; a write that is under way is not seen yet.
//   * What was completed or is under way, and no sync covers, is *volatile*. A sync makes durable
//     what had completed before it was *submitted*; nothing else ever becomes durable.
//   * The power may go at any moment: between any two submissions and completions, of the disk or
//     of the store's callers (one clock of events counts all of them).
//   * A cut keeps any subset of the volatile requests. Those that had completed are kept in the
//     order of their completion where they overlap; those under way land last, or not at all.
//   * Kept writes may be torn at 512 bytes: of one of them (at times: of each) only a part of the
//     sectors is kept: a beginning, an end, or any.
//   * A lost write beyond the end may still have made the file longer. A discard leaves zeroes, or
//     all as it was. A lost truncate leaves the old length.
//   * Reads, writes and syncs of a failing host fail; a failed write may have changed any sectors
//     up to one.
//   * What a cut left is durable: the next run begins on it.
//   * A process may be killed and the host live on: then all that was completed is still to be
//   read,
//     and as volatile as it was.
//
// A run is recorded once, to its end; any number of images are then made from the log, for cuts at
// any events. Real time is never used. What changes the same bytes at the same time, and a buffer
// that changes under a write, are violations: no host says what comes of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "format/disk/fiber_tasks.h"
#include "format/disk/memory_disk.h"
#include "format/sim/random.h"

namespace coppice::sim {

// A moment of a run: the number of events before it.
using Event = std::uint64_t;
inline constexpr Event kNever = std::numeric_limits<Event>::max();

struct EventClock {
    Event now = 0;
    Event tick() { return ++now; }
};

inline constexpr std::size_t kSectorBytes = 512;

// A request that changes something, or a sync.
struct LoggedRequest {
    IoRequest::Kind kind = IoRequest::Kind::write;
    std::uint64_t offset_bytes = 0;
    std::uint64_t length_bytes = 0;
    std::vector<std::byte> data;  // of a write
    Event submitted = 0;
    Event completed = kNever;
    bool failed = false;
    bool discards = true;  // a discard that this host performs
};

struct DiskLog {
    SparseBytes start;                     // what was durable before the first request
    std::vector<LoggedRequest> requests;   // in the order of submission
    std::vector<std::size_t> completions;  // indices, in the order of completion
};

// A file as its host has it: what is durable, and in the host's cache what was completed and no
// sync covers, in the order of completion. A process that is killed leaves both.
struct HostFile {
    SparseBytes durable;
    std::vector<LoggedRequest> cached;

    SparseBytes seen() const;  // who reads it sees both
};

struct SimDiskOptions {
    std::uint64_t seed = 0;
    std::uint64_t shortest_ns = 1'000;
    std::uint64_t longest_ns = 100'000;
    unsigned slow_percent = 5;  // requests that take up to a hundred times as long
    std::uint64_t limit_bytes = UINT64_MAX;
    // For directed scenarios: how long a request takes, instead of a random time.
    std::function<std::uint64_t(const IoRequest&)> duration_ns = {};
    // This many syncs fail, from the one with this number on. A host that failed once says nothing
    // the next time, but has dropped what it could not write: no later sync makes anything durable.
    std::uint64_t failing_syncs_from = UINT64_MAX;
    std::uint64_t failing_syncs = UINT64_MAX;
    // Reads and writes that fail, of each thousand; a failed write may have changed a part.
    unsigned failing_permille = 0;

    bool fails() const { return failing_permille != 0 || failing_syncs_from != UINT64_MAX; }
};

class SimDisk final : public Disk {
public:
    SimDisk(FiberTasks& tasks, EventClock& clock, SparseBytes image, const SimDiskOptions& options)
        : SimDisk(tasks, clock, HostFile{std::move(image), {}}, options)
    {
    }
    SimDisk(FiberTasks& tasks, EventClock& clock, const HostFile& host,
            const SimDiskOptions& options);

    Result<std::uint64_t> size_bytes() override { return file_.bytes().size_bytes(); }
    bool read_only() const override { return false; }

    const DiskLog& log() const { return log_; }
    const SparseBytes& bytes() const { return file_.bytes(); }
    std::uint64_t under_way() const { return under_way_.size(); }

protected:
    void start(std::span<IoRequest> requests) override;

private:
    struct UnderWay {
        IoRequest* request;
        std::size_t logged;  // index in the log; for reads, none
    };

    void start_one(IoRequest& request);
    void finish(IoRequest& request, std::size_t logged);
    int perform(IoRequest& request, LoggedRequest& logged);
    int fail_write(const IoRequest& request, LoggedRequest& logged);
    void forbid_overlap(const IoRequest& request) const;

    FiberTasks& fibers_;
    EventClock& clock_;
    SimDiskOptions options_;
    Random random_;
    MemoryFile file_;
    DiskLog log_;
    std::vector<UnderWay> under_way_;
    std::uint64_t syncs_ = 0;
};

// What one cut did, for the counters and for the text of a violation.
struct CutSummary {
    Event event = 0;
    std::uint64_t volatile_requests = 0;
    std::uint64_t kept = 0;
    std::uint64_t torn = 0;
    std::uint64_t under_way = 0;
    bool lost_superblock = false;
    std::string text() const;
};

// Makes the images that cuts of one recorded run leave. Events are asked for in ascending order.
class CutMaker {
public:
    explicit CutMaker(const DiskLog& log) : log_(log), durable_(log.start) {}

    SparseBytes cut(Event event, Random& random, CutSummary& summary);

    // What is left when not the power fails, but the process is killed: what had completed is
    // there, what is under way has got done, or not, or its first sectors have.
    HostFile kill(Event event, Random& random);

    // For directed scenarios: `keep` decides for each volatile request; it may change the data of a
    // write to tear it.
    SparseBytes cut(Event event, const std::function<bool(LoggedRequest&)>& keep);

private:
    // Brings `durable_` up to the event and lists what is volatile there, in the order in which it
    // is applied.
    std::vector<std::size_t> volatile_at(Event event);

    const DiskLog& log_;
    SparseBytes durable_;
    std::size_t next_durable_ = 0;  // index in completions
    Event last_event_ = 0;
};

}  // namespace coppice::sim
