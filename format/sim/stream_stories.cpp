#include "format/sim/stream_stories.h"

#include <fmt/format.h>

#include "format/sim/report.h"
#include "format/sim/story.h"

namespace coppice::sim {

namespace {

constexpr VolumeId kVolume{1};
constexpr std::uint64_t kBlockSectors = kBlockBytes / kSectorBytes;
constexpr std::uint64_t kVolumeBytes = 16 * kBlockBytes;

// Two streams of the volume, and what can be done in them, in sectors.
struct Pair {
    Store& store;
    StreamId one;
    StreamId two;

    explicit Pair(Store& opened) : store(opened), one(open()), two(open()) {}

    StreamId open() const { return require(store.open_stream(kVolume), "open of a stream"); }

    void write(StreamId stream, std::uint64_t first, const Stamps& stamps) const
    {
        std::vector<std::byte> bytes(stamps.size() * kSectorBytes);
        write_stamps(stamps, bytes);
        const iovec buffer{bytes.data(), bytes.size()};
        Operation operation;
        operation.kind = Operation::Kind::write;
        operation.volume = kVolume;
        operation.stream = stream;
        operation.offset_bytes = first * kSectorBytes;
        operation.buffers = {&buffer, 1};
        require(store.perform(operation), "write");
    }

    void deallocate(StreamId stream, std::uint64_t first, std::uint64_t count) const
    {
        const Range range{first * kSectorBytes, count * kSectorBytes};
        Operation operation;
        operation.kind = Operation::Kind::deallocate;
        operation.volume = kVolume;
        operation.stream = stream;
        operation.ranges = {&range, 1};
        require(store.perform(operation), "deallocation");
    }

    void clone(StreamId stream, std::uint64_t to, std::uint64_t from, std::uint64_t count) const
    {
        const CloneSource source{kVolume, {from * kSectorBytes, count * kSectorBytes}};
        Operation operation;
        operation.kind = Operation::Kind::clone;
        operation.volume = kVolume;
        operation.stream = stream;
        operation.offset_bytes = to * kSectorBytes;
        operation.sources = {&source, 1};
        require(store.perform(operation), "clone");
    }

    // Commits a transaction of this change and a write of the first sector of block 8. Another
    // stream then brings the volume's own order into the journal, and nothing more.
    void transact(Operation change) const
    {
        const TransactionId id = require(store.begin(kVolume), "begin of a transaction");
        std::vector<std::byte> bytes(kSectorBytes);
        write_stamps(Stamps{800}, bytes);
        const iovec buffer{bytes.data(), bytes.size()};
        Operation second;
        second.kind = Operation::Kind::write;
        second.offset_bytes = 8 * kBlockBytes;
        second.buffers = {&buffer, 1};
        for (Operation* staged : {&change, &second}) {
            staged->volume = kVolume;
            staged->transaction = id;
            require(store.perform(*staged), "staged change");
        }
        require(store.commit(id, false), "commit of a transaction");
        write(two, 8 * kBlockSectors + 5, {700});
        flush(two);
    }

    void flush(StreamId stream) const
    {
        Operation operation;
        operation.kind = Operation::Kind::flush;
        operation.volume = kVolume;
        operation.stream = stream;
        require(store.perform(operation), "flush");
    }
};

// What the stories write into block 0, and before that into block 1: whoever shows the first must
// have the second.
const Stamps kBlock = stamps_from(100, kBlockSectors);
const Stamps kEarlier = stamps_from(50, kBlockSectors);
const Stamps kCleared(kBlockSectors, kZeroes);

Stamps with(Stamps stamps, std::size_t sector, Stamp stamp)
{
    stamps[sector] = stamp;
    return stamps;
}

// Runs the story, cuts the power behind it in every way that keeps what was synced, and compares
// the first blocks of the volume.
void tell(const StoreKind& kind, const std::vector<Stamps>& blocks,
          const std::function<void(const Pair&)>& story)
{
    Stamps expected;
    for (const Stamps& block : blocks) {
        expected.insert(expected.end(), block.begin(), block.end());
    }
    const SparseBytes image = fresh_image(kind, 11, kVolumeBytes);
    const Recording recording =
        record(kind, image, Model(), story_plan(), 1,
               [&](FiberTasks&, Store& store, Model&, EventClock&) { story(Pair(store)); });
    for (const bool keeps : {true, false}) {
        const Context context(keeps ? "all is kept" : "only what was synced is kept");
        CutMaker maker(recording.log);
        const SparseBytes left =
            maker.cut(recording.ended, [keeps](LoggedRequest&) { return keeps; });
        examine(kind, left, recording.ended, [&](const Contents& contents) {
            const Stamps& all = contents.volumes.at(kVolume.value).stamps;
            const Stamps found(all.begin(),
                               all.begin() + static_cast<std::ptrdiff_t>(expected.size()));
            if (found != expected) {
                violation(differences(expected, found, 0));
            }
        });
    }
}

// A stream that writes a part of a block shows what another wrote to the rest of it; so that other
// one's earlier operations must be there too.
void partial_block_over_another_stream(const StoreKind& kind)
{
    tell(kind, {with(kBlock, 3, 900), kEarlier}, [&](const Pair& pair) {
        pair.write(pair.one, kBlockSectors, kEarlier);
        pair.write(pair.one, 0, kBlock);
        pair.write(pair.two, 3, {900});
        pair.flush(pair.two);
    });
}

// Zeroing a part of a block that another stream has just deallocated.
void partial_clear_over_another_stream(const StoreKind& kind)
{
    tell(kind, {kCleared, kEarlier}, [&](const Pair& pair) {
        pair.write(pair.one, 0, kBlock);
        pair.flush(pair.one);
        pair.write(pair.one, kBlockSectors, kEarlier);
        pair.deallocate(pair.one, 0, kBlockSectors);
        pair.deallocate(pair.two, 3, 1);
        pair.flush(pair.two);
    });
}

// The same when the deallocation is in the journal already, with no sync behind it.
void partial_clear_over_an_unsynced_commit(const StoreKind& kind)
{
    tell(kind, {kCleared}, [](const Pair& pair) {
        pair.write(pair.one, 0, kBlock);
        pair.flush(pair.one);
        pair.deallocate(pair.one, 0, kBlockSectors);
        pair.store.tick();
        pair.store.pause();  // returns when the commit is written
        pair.store.resume();
        pair.deallocate(pair.two, 3, 1);
        pair.flush(pair.two);
    });
}

// One stream overwrites what another has pending: a sync of the first alone keeps what it wrote.
void overwritten_by_another_stream(const StoreKind& kind)
{
    tell(kind, {kBlock}, [](const Pair& pair) {
        pair.write(pair.one, 0, kBlock);
        pair.write(pair.two, 0, stamps_from(200, kBlockSectors));
        pair.write(pair.one, kBlockSectors, stamps_from(300, kBlockSectors));
        pair.flush(pair.one);
    });
}

// The later of two streams stays the later when the earlier is committed behind it.
void committed_in_reverse(const StoreKind& kind)
{
    tell(kind, {stamps_from(200, kBlockSectors)}, [](const Pair& pair) {
        pair.write(pair.one, 0, kBlock);
        pair.write(pair.two, 0, stamps_from(200, kBlockSectors));
        pair.flush(pair.two);
        pair.flush(pair.one);
    });
}

// A clone of what another stream has pending.
void clone_of_another_streams_data(const StoreKind& kind)
{
    tell(kind, {kBlock, kBlock}, [](const Pair& pair) {
        pair.write(pair.one, 0, kBlock);
        pair.clone(pair.two, kBlockSectors, 0, kBlockSectors);
        pair.flush(pair.two);
    });
}

// A transaction that writes a part of a block that a stream wrote before.
void transaction_over_another_stream(const StoreKind& kind)
{
    tell(kind, {with(kBlock, 3, 900), kEarlier}, [&](const Pair& pair) {
        pair.write(pair.one, kBlockSectors, kEarlier);
        pair.write(pair.one, 0, kBlock);
        std::vector<std::byte> bytes(kSectorBytes);
        write_stamps(Stamps{900}, bytes);
        const iovec buffer{bytes.data(), bytes.size()};
        Operation change;
        change.kind = Operation::Kind::write;
        change.offset_bytes = 3 * kSectorBytes;
        change.buffers = {&buffer, 1};
        pair.transact(change);
    });
}

// A transaction into which is copied what a stream has pending.
void transaction_with_another_streams_data(const StoreKind& kind)
{
    tell(kind, {kBlock, kBlock}, [](const Pair& pair) {
        pair.write(pair.one, 0, kBlock);
        const CloneSource source{kVolume, {0, kBlockBytes}};
        Operation change;
        change.kind = Operation::Kind::clone;
        change.offset_bytes = kBlockBytes;
        change.sources = {&source, 1};
        pair.transact(change);
    });
}

// What another volume takes along from behind an ordered flush brings what lies before the flush,
// of all streams. `before` writes block 0 and flushes; the stream that it returns goes on.
void taken_along(const StoreKind& kind, const std::function<StreamId(const Pair&)>& before)
{
    tell(kind, {kBlock}, [&](const Pair& pair) {
        Store& store = pair.store;
        NewVolume wanted;
        wanted.name = "other";
        wanted.size_bytes = kVolumeBytes;
        const VolumeId other = require(store.create_volume(wanted), "create of a volume");
        require(store.set_flush_mode(kVolume, FlushMode::ordered), "set flush mode");
        pair.write(before(pair), kBlockSectors, stamps_from(200, kBlockSectors));
        const CloneSource source{kVolume, {kBlockBytes, kBlockBytes}};
        require(store.clone(other, 0, {&source, 1}), "clone");
        require(store.flush(other), "flush");
    });
}

void taken_along_from_behind_an_ordered_flush(const StoreKind& kind)
{
    taken_along(kind, [](const Pair& pair) {
        pair.write(pair.two, 0, kBlock);
        pair.flush(StreamId());
        return pair.one;
    });
}

// The same by a stream that was not open yet at the flush, when no other was.
void taken_along_from_a_stream_opened_behind_an_ordered_flush(const StoreKind& kind)
{
    taken_along(kind, [](const Pair& pair) {
        for (const StreamId stream : {pair.one, pair.two}) {
            require(pair.store.close_stream(kVolume, stream), "close of a stream");
        }
        pair.write(StreamId(), 0, kBlock);
        pair.flush(StreamId());
        return pair.open();
    });
}

// A snapshot between two overwrites in one commit has the first.
void snapshot_between_overwrites(const StoreKind& kind)
{
    const SparseBytes image = fresh_image(kind, 12, kVolumeBytes);
    const Recording recording =
        record(kind, image, Model(), story_plan(), 1,
               [&](FiberTasks& tasks, Store& store, Model&, EventClock&) {
                   const Pair pair(store);
                   pair.write(pair.one, 0, kBlock);
                   bool done = false;
                   Task* waiter = tasks.current();
                   tasks.spawn([&] {
                       // Takes effect while the snapshot still waits for its commit.
                       pair.write(pair.one, 0, stamps_from(200, kBlockSectors));
                       done = true;
                       tasks.wake(waiter);
                   });
                   NewSnapshot snapshot;
                   snapshot.name = "between";
                   require(store.snapshot(kVolume, snapshot), "snapshot");
                   while (!done) {
                       tasks.suspend();
                   }
                   pair.flush(pair.one);
               });
    CutMaker maker(recording.log);
    const SparseBytes left = maker.cut(recording.ended, [](LoggedRequest&) { return false; });
    examine(kind, left, recording.ended, [&](const Contents& contents) {
        for (const auto& [id, entry] : contents.volumes) {
            const Stamp first = entry.info.snapshot ? 100 : 200;
            const Stamps found(entry.stamps.begin(), entry.stamps.begin() + kBlockSectors);
            const Stamps other = stamps_from(300 - first, kBlockSectors);
            // The second write may have come before the snapshot or behind it.
            if (found != stamps_from(first, kBlockSectors) &&
                !(entry.info.snapshot && found == other)) {
                violation(fmt::format("volume {}: {}", id,
                                      differences(stamps_from(first, kBlockSectors), found, 0)));
            }
        }
    });
}

}  // namespace

std::vector<Directed> stream_stories()
{
    return {
        {"partial-block-over-another-stream",
         {Rule::partial_blocks_take_along},
         partial_block_over_another_stream},
        {"partial-clear-over-another-stream",
         {Rule::partial_blocks_take_along},
         partial_clear_over_another_stream},
        {"partial-clear-over-an-unsynced-commit", {}, partial_clear_over_an_unsynced_commit},
        {"overwritten-by-another-stream", {}, overwritten_by_another_stream},
        {"committed-in-reverse", {Rule::replay_in_order}, committed_in_reverse},
        {"clone-of-another-streams-data", {Rule::joined_domains}, clone_of_another_streams_data},
        {"transaction-over-another-stream",
         {Rule::partial_blocks_take_along},
         transaction_over_another_stream},
        {"transaction-with-another-streams-data",
         {Rule::joined_domains},
         transaction_with_another_streams_data},
        {"taken-along-from-behind-an-ordered-flush",
         {Rule::ordered_flush_cuts_all},
         taken_along_from_behind_an_ordered_flush},
        {"taken-along-from-a-stream-opened-behind-an-ordered-flush",
         {Rule::ordered_flush_cuts_all},
         taken_along_from_a_stream_opened_behind_an_ordered_flush},
        {"snapshot-between-overwrites", {}, snapshot_between_overwrites},
    };
}

}  // namespace coppice::sim
