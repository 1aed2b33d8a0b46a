// The front door of the translation layer: one Store is one open image with all its volumes. The
// NVMe controller, the QEMU block driver, the host tool and the tests come in here.
//
//   front doors -> Store -> volume/ -> { space/, journal/ } -> tree/ -> disk/ -> base/
//
// All calls come from the store's own thread. The blocking calls give way through the Tasks port
// and must run in a task; `submit` may be called from anywhere on that thread and never waits.
//
// Offsets and lengths are bytes, multiples of 512. Every write-like call is atomic: to concurrent
// readers, and after a crash. A call that returns an error has changed nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <sys/uio.h>
#include <vector>

#include "format/base/result.h"
#include "format/base/units.h"
#include "format/disk/disk.h"

namespace coppice {

struct Uuid {
    std::array<std::uint8_t, 16> bytes{};
    bool operator==(const Uuid&) const = default;
};
std::string to_string(const Uuid& uuid);
Uuid random_uuid();

// What a flush, and FUA, of a volume's means. Durable: what was acknowledged before is on the
// medium. Ordered: it returns at once, and after a crash the volume holds an earlier state: all
// operations up to some moment, none behind it. What an ordered flush covers reaches the medium
// with the periodic commits. Management (snapshots, clones, rollback, ...) is durable in both
// modes, and takes what came before it along.
enum class FlushMode : std::uint8_t { durable, ordered };
std::string_view flush_mode_name(FlushMode mode);
std::optional<FlushMode> flush_mode_of(std::string_view name);

inline constexpr std::uint64_t kTransactionTimeoutNs = 60'000'000'000;

// ---- Creating and opening -----------------------------------------------------------------

struct CreateOptions {
    Uuid uuid;                       // identity of the image
    std::uint64_t volume_bytes = 0;  // size of the first volume (id 1); every image has one
    std::string volume_name = "main";
    unsigned lba_shift = 12;  // 9 or 12
    FlushMode flush = FlushMode::durable;
    std::uint64_t journal_bytes = 0;  // 0: scaled to the volume, 4 to 64 MiB
};

struct OpenOptions {
    bool read_only = false;                            // nothing is written, replay stays in memory
    std::uint64_t cache_bytes = 64ULL << 20;           // clean tree nodes kept in memory
    std::uint64_t commit_interval_ns = 5'000'000'000;  // pending operations reach the journal
    // Blocks of data that may be in the journal without a sync behind them, so that the next open
    // after a crash has no more to read and verify: 256 MiB.
    std::uint64_t tail_blocks = 65536;
    // Freed space goes back to the host, as holes in the file, when nothing was freed for so long,
    // in runs of at least so many blocks.
    bool punch = true;
    std::uint64_t punch_delay_ns = 10'000'000'000;
    std::uint64_t punch_blocks = 256;
    // Writes of at most so many blocks are answered from memory and reach the host together; a
    // flush of at most so many blocks carries them in the journal.
    std::uint64_t late_write_blocks = 16;
    std::uint64_t journaled_blocks = 16;
    // A checkpoint gives back so many pieces (items and nodes of a map, records of what died) of
    // versions that are being removed, and leaves the rest to the next ones. It is half of what a
    // guest may drop before a checkpoint begins by itself, so that none becomes much longer: 5 to
    // 100 ms of a processor, some MiB of memory.
    std::uint64_t removal_step = 32768;
    std::size_t inline_clone_items = 64;  // a clone of more items makes one range reference
    bool replay_runs = true;  // false: replay goes one operation after the other, for tests
    // A transaction that was not used for so long is aborted by `tick`; 0: never.
    std::uint64_t transaction_timeout_ns = kTransactionTimeoutNs;
};

// ---- What there is ------------------------------------------------------------------------

struct VolumeInfo {
    VolumeId id;
    std::string name;
    bool snapshot = false;  // then read-only
    bool read_only = false;
    bool guest_made = false;
    VolumeId parent;  // snapshot: of which volume; clone: of which snapshot
    std::uint64_t size_bytes = 0;
    unsigned lba_shift = 12;
    FlushMode flush = FlushMode::durable;
    ConsistencyGroup group;          // 0: none
    std::uint64_t mapped_bytes = 0;  // with data of its own or shared
    std::uint64_t created_unix_ns = 0;
    Sequence created;
    std::array<std::uint8_t, 16> nguid{};
    std::array<std::uint8_t, 8> eui64{};
    std::uint64_t vm_state_bytes = 0;
    std::uint64_t vm_clock_ns = 0;
    std::uint64_t icount = 0;
};

struct SpaceInfo {
    std::uint64_t image_bytes = 0;  // managed; the host file is sparse
    std::uint64_t free_bytes = 0;
    std::uint64_t fixed_bytes = 0;  // header, superblocks, journal
    std::uint64_t data_bytes = 0;
    std::uint64_t node_bytes = 0;
    std::uint64_t pending_free_bytes = 0;  // free at the next checkpoint
};

// What the open had to do, and how long it took.
struct RecoveryWork {
    std::uint64_t scan_ns = 0;    // the ring was read
    std::uint64_t verify_ns = 0;  // data of operations that no sync is known to cover
    std::uint64_t replay_ns = 0;  // operations were applied
    std::uint64_t verified_blocks = 0;
};

struct ImageInfo {
    Uuid uuid;
    unsigned major_version = 0;
    unsigned minor_version = 0;
    Generation generation;
    Sequence sequence;
    Sequence durable_sequence;  // of the newest superblock: an open replays what is behind it
    std::uint64_t journal_bytes = 0;
    std::uint64_t journal_used_bytes = 0;
    std::uint64_t replayed_operations = 0;  // by this open
    std::uint64_t replayed_commits = 0;
    std::uint64_t removals = 0;  // versions of which a part is given back, and a part is not yet
    RecoveryWork recovery;
    std::uint64_t created_unix_ns = 0;
    SpaceInfo space;
};

enum class BlockState : std::uint8_t { data, zero, hole };
struct BlockStatus {
    BlockState state = BlockState::hole;
    std::uint64_t length_bytes = 0;            // from the offset asked for
    std::optional<std::uint64_t> host_offset;  // of data that lies in one piece in the host file
};

struct Statistics {
    std::uint64_t reads = 0, writes = 0, flushes = 0, deallocations = 0, clones = 0;
    std::uint64_t range_references = 0;  // clones that became one
    std::uint64_t read_bytes = 0, written_bytes = 0;
    std::uint64_t commits = 0, commit_operations = 0, journal_bytes = 0, syncs = 0;
    std::uint64_t superseded_operations = 0;  // never written
    std::uint64_t journaled_blocks = 0;       // data that a commit carried
    std::uint64_t late_blocks = 0;            // data that reached their place later
    std::uint64_t checkpoints = 0, nodes_written = 0, nodes_read = 0;
    std::uint64_t removal_steps = 0;  // checkpoints that gave back a part of removed versions
    std::uint64_t punched_bytes = 0;  // given back to the host
    std::uint64_t transactions = 0;   // committed
    std::uint64_t transaction_conflicts = 0;
};

// ---- Operations ---------------------------------------------------------------------------

struct NewVolume {
    std::string name;
    std::uint64_t size_bytes = 0;
    unsigned lba_shift = 12;
    FlushMode flush = FlushMode::durable;
    bool guest_made = false;
};

struct NewSnapshot {
    std::string name;
    bool guest_made = false;
    std::uint64_t vm_state_bytes = 0, vm_clock_ns = 0, icount = 0;
};

struct Range {
    std::uint64_t offset_bytes = 0;
    std::uint64_t length_bytes = 0;
};

struct CloneSource {
    VolumeId volume;
    Range range;
};

// ---- Consistency groups -------------------------------------------------------------------
//
// Volumes of one image may be joined in a group, as a database wants it whose data and log lie on
// two disks. They then have one order: after a crash they are together what they were at one
// moment, with everything that any of them did up to then in its own order and nothing of what came
// behind. A flush of any of them covers all of them; where it is ordered, the cut goes through all.
// Each keeps its own flush mode, which says what its own flushes are. Streams stay of their volume;
// transactions belong to the volume's own order, and so to the group's.

inline constexpr std::uint64_t kMaxGroup = 255;  // they have the numbers 1 to this

// ---- Transactions -------------------------------------------------------------------------
//
// A transaction gathers changes of one volume: writes, deallocations, zero writes and clones that
// name it are *staged*. Nothing of them takes effect, and only reads that name the transaction see
// them, over the volume as it is then. `commit` makes all of them take effect as one command: to
// readers, and after a crash, it is in as a whole or not at all.
//
// First committer wins: once something else (a write, deallocation or clone, another commit, a
// rollback, a shrink) took effect on a 4 KiB block of which the transaction has staged a change,
// its commit answers `conflict`, changes nothing, and the transaction is gone. A removal of its
// volume ends it. Where a part of a block is changed the rest of it is staged as it was then.
//
// A clone into a transaction copies bytes at once, which count as staged; its sources are read as
// they are at that time, those in the transaction's own volume with what the transaction has staged
// over them.
//
// A commit belongs to the volume's own order. It brings along what streams did before to the blocks
// of which the transaction changes a part, and to those that it cloned.
//
// A call with an error other than `conflict` and `not_found` has changed nothing, and the
// transaction can go on: `too_large` and `busy` beyond the limits below, `no_space` on a full host.
// Calls with the number of a transaction that has ended get `not_found`, and a text that says how
// it ended if that is not long ago; while it is being committed `busy`. Calls of one transaction
// that are under way together happen one after the other, in any order.

inline constexpr std::size_t kMaxTransactions = 64;  // open in an image; beyond: busy
// Data that one transaction has staged, or one write_ranges writes, in whole blocks of 4 KiB;
// beyond: too_large. As is what falls into more pieces than 7/8 of the longest commit of the
// journal holds, at 64 bytes each and 4 for each further block: some 7,100 in the smallest journal.
inline constexpr std::uint64_t kMaxTransactionBytes = 32ULL << 20;
inline constexpr std::uint64_t kMaxStagedBytes = 256ULL << 20;  // of all together; beyond: busy

// One asynchronous operation. Buffers and ranges stay in place until the completion is called.
// `stream`: the order it belongs to, 0 the volume's own. A flush of stream 0 covers the whole
// volume and its group, one of another stream only that, and FUA likewise. Transactions and
// write_ranges belong to the volume's own order: they have no stream.
struct Operation {
    enum class Kind : std::uint8_t {
        read,
        write,
        flush,
        deallocate,
        write_zeroes,
        clone,
        write_ranges,  // several writes that take effect as one command
        commit,        // of the transaction
    };
    Kind kind = Kind::read;
    VolumeId volume{};
    StreamId stream{};
    std::uint64_t offset_bytes = 0;    // read, write, write_zeroes, clone (destination)
    std::uint64_t length_bytes = 0;    // read, write, write_zeroes
    std::span<const iovec> buffers{};  // read, write, write_ranges: one range behind the other
    // deallocate: all of them, or none; write_ranges: where they overlap, the later one counts
    std::span<const Range> ranges{};
    std::span<const CloneSource> sources{};  // clone: one behind the other to offset_bytes
    bool fua = false;                        // durable before the completion; staged: no meaning
    TransactionId transaction{};             // 0: takes effect by itself; never a flush
};
// Streams that may be open at a time, of all volumes of an image together.
inline constexpr std::size_t kMaxStreams = 64;

using Completion = std::function<void(Status)>;

// ---- The store ----------------------------------------------------------------------------

class Store {
public:
    // Writes a new, empty image over whatever the disk holds.
    static Status create(Disk& disk, const CreateOptions& options);

    // Finds the newest state, replays the journal. `disk` outlives the store.
    static Result<std::unique_ptr<Store>> open(Disk& disk, const OpenOptions& options);

    virtual ~Store() = default;

    // Ends the transactions that are open, makes everything durable, writes a checkpoint so that
    // the next open has nothing to replay, stops the background work. Nothing else may be under
    // way. The store is then only destroyed.
    virtual Status close() = 0;

    // Ends without writing anything more: what a crash would leave. For tests and failed opens.
    // (task)
    virtual void abandon() = 0;

    // The host of the store calls this about once a second: starts background work that is due
    // (pending operations reach the journal, checkpoints, removals). Never waits.
    virtual void tick() = 0;
    // Background work finishes its step and none is started until `resume` (drained sections of
    // QEMU). Returns when all is still. (task)
    virtual void pause() = 0;
    virtual void resume() = 0;

    // Opened so, or a failure of the host has stopped all writing until the image is opened anew.
    virtual bool read_only() const = 0;
    virtual ImageInfo info() = 0;
    virtual Statistics statistics() const = 0;

    // -- volumes and snapshots; each change is durable when the call returns
    virtual std::vector<VolumeInfo> volumes() = 0;  // by id; snapshots too
    virtual Result<VolumeInfo> volume(VolumeId id) = 0;
    // By name; snapshots of `of` when that is given, else volumes that are no snapshots.
    virtual Result<VolumeInfo> find(const std::string& name, std::optional<VolumeId> of) = 0;
    virtual Result<VolumeId> create_volume(const NewVolume& volume) = 0;
    virtual Result<VolumeId> snapshot(VolumeId volume, const NewSnapshot& snapshot) = 0;
    virtual Result<VolumeId> clone_volume(VolumeId snapshot, const std::string& name,
                                          bool guest_made) = 0;
    virtual Status remove(VolumeId volume_or_snapshot) = 0;
    virtual Status rollback(VolumeId volume, VolumeId snapshot) = 0;
    virtual Status resize(VolumeId volume, std::uint64_t size_bytes) = 0;
    virtual Status rename(VolumeId volume_or_snapshot, const std::string& name) = 0;
    // At any time; what was acknowledged before the call is durable when it returns. A flush beside
    // it may follow either mode.
    virtual Status set_flush_mode(VolumeId volume, FlushMode mode) = 0;
    // Joins the volume to a consistency group, or takes it out of one (0). A group exists as long
    // as volumes are in it; one that is removed leaves. What was acknowledged before the call is
    // durable when it returns; what is under way meanwhile may be of either order.
    virtual Status set_group(VolumeId volume, ConsistencyGroup group) = 0;
    // Snapshots of all volumes of the group at one moment, one for each, all of this name, in
    // ascending order of the volumes. All of them are there, also after a crash, or none.
    virtual Result<std::vector<VolumeId>>
    snapshot_group(ConsistencyGroup group, const std::string& name, bool guest_made) = 0;

    // -- streams: further orders inside a volume. After a crash each holds a prefix of its
    // operations
    //    in the order in which they took effect; different streams are not ordered, except that
    //    what changes part of a block, or clones it, brings along what others did to it before.
    //    Streams are not kept over a close of the image.
    virtual Result<StreamId> open_stream(VolumeId volume) = 0;
    // What it has pending is written with the periodic commits.
    virtual Status close_stream(VolumeId volume, StreamId stream) = 0;

    // -- input and output, waiting in the caller's task, in the volume's own order
    virtual Status read(VolumeId volume, std::uint64_t offset_bytes,
                        std::span<const iovec> into) = 0;
    virtual Status write(VolumeId volume, std::uint64_t offset_bytes, std::span<const iovec> from,
                         bool fua) = 0;
    virtual Status deallocate(VolumeId volume, std::span<const Range> ranges) = 0;
    virtual Status write_zeroes(VolumeId volume, Range range) = 0;
    // Copies by sharing where source and destination agree modulo 4 KiB, else by copying bytes.
    // Sources are read as of the start.
    virtual Status clone(VolumeId destination, std::uint64_t offset_bytes,
                         std::span<const CloneSource> sources) = 0;
    // Everything that was acknowledged for the volume, or for another one of its group, before the
    // call is durable afterwards, or ordered before all that follows, as the volume's flush mode
    // says.
    virtual Status flush(VolumeId volume) = 0;
    virtual Result<BlockStatus> block_status(VolumeId volume, Range range) = 0;

    // -- transactions, see above
    // `busy`: too many are open; `read_only`: the volume cannot be written. Never waits.
    virtual Result<TransactionId> begin(VolumeId volume) = 0;
    // Returns when it took effect; with `durable` when it is durable, as FUA of its volume means
    // it. Any error but those that the durability meets: nothing took effect.
    virtual Status commit(TransactionId transaction, bool durable) = 0;
    // Discards all that is staged; `busy` while it is being committed. Never waits.
    virtual Status abort(TransactionId transaction) = 0;
    // Whose it is, also while it is being committed; not_found when it has ended.
    virtual Result<VolumeId> volume_of(TransactionId transaction) = 0;

    // Makes one state of all trees durable; recovery then has nothing to replay.
    virtual Status checkpoint() = 0;
    // Waits until the background has nothing left to do of what was there at the call (deletions
    // done, space given back).
    virtual Status settle() = 0;
    // Gives all free space back to the host, also what an earlier use of the image left behind.
    // What the host cannot do it leaves.
    virtual Status trim() = 0;

    // -- any operation, also one of a stream: waiting in the caller's task (task), or asynchronous;
    //    the completion is called on the store's thread, never from
    //    inside submit
    virtual Status perform(const Operation& operation) = 0;
    virtual void submit(const Operation& operation, Completion completion) = 0;
};

}  // namespace coppice
