#include "format/sim/stream_stories.h"

#include <fmt/format.h>

#include "format/sim/report.h"

namespace coppice::sim {

namespace {

constexpr VolumeId kVolume{1};
constexpr std::uint64_t kBlockSectors = kBlockBytes / kSectorBytes;
constexpr std::uint64_t kVolumeBytes = 16 * kBlockBytes;

// Nothing happens by itself, and data of writes stay in memory until something needs them.
Plan story_plan()
{
    Plan plan;
    plan.closes = false;
    plan.tick_ns = 3'600'000'000'000;
    plan.commit_interval_ns = 1;  // of those that a story asks for
    plan.punch_delay_ns = plan.tick_ns;
    plan.disk.slow_percent = 0;
    return plan;
}

void require(const Status& status, const char* what)
{
    if (!status) {
        violation(fmt::format("{} failed with {}: {}", what, error_name(status.error().code),
                              status.error().text));
    }
}

// Two streams of the volume, and what can be done in them, in sectors.
struct Pair {
    Store& store;
    StreamId one;
    StreamId two;

    explicit Pair(Store& opened) : store(opened), one(open()), two(open()) {}

    StreamId open() const
    {
        const Result<StreamId> id = store.open_stream(kVolume);
        if (!id) {
            violation("a stream cannot be opened: " + id.error().text);
        }
        return *id;
    }

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
        const Result<TransactionId> id = store.begin(kVolume);
        if (!id) {
            violation("no transaction can be begun: " + id.error().text);
        }
        std::vector<std::byte> bytes(kSectorBytes);
        write_stamps(Stamps{800}, bytes);
        const iovec buffer{bytes.data(), bytes.size()};
        Operation second;
        second.kind = Operation::Kind::write;
        second.offset_bytes = 8 * kBlockBytes;
        second.buffers = {&buffer, 1};
        for (Operation* staged : {&change, &second}) {
            staged->volume = kVolume;
            staged->transaction = *id;
            require(store.perform(*staged), "staged change");
        }
        require(store.commit(*id, false), "commit of a transaction");
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

Stamps stamps_from(Stamp first, std::uint64_t count)
{
    Stamps stamps(count);
    for (Stamp& stamp : stamps) {
        stamp = first++;
    }
    return stamps;
}

// Runs the story, cuts the power behind it in every way that keeps what was synced, and compares a
// piece of the volume.
void tell(const StoreKind& kind, const std::function<void(const Pair&)>& story, std::uint64_t first,
          const Stamps& expected)
{
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
            const auto begin = all.begin() + static_cast<std::ptrdiff_t>(first);
            const Stamps found(begin, begin + static_cast<std::ptrdiff_t>(expected.size()));
            if (found != expected) {
                violation(differences(expected, found, first));
            }
        });
    }
}

// A stream that writes a part of a block shows what another wrote to the rest of it; so that other
// one's earlier operations must be there too.
void partial_block_over_another_stream(const StoreKind& kind)
{
    Stamps expected = stamps_from(100, kBlockSectors);
    expected[3] = 900;
    const Stamps earlier = stamps_from(50, kBlockSectors);
    expected.insert(expected.end(), earlier.begin(), earlier.end());
    tell(
        kind,
        [&](const Pair& pair) {
            pair.write(pair.one, kBlockSectors, earlier);
            pair.write(pair.one, 0, stamps_from(100, kBlockSectors));
            pair.write(pair.two, 3, {900});
            pair.flush(pair.two);
        },
        0, expected);
}

// Zeroing a part of a block that another stream has just deallocated.
void partial_clear_over_another_stream(const StoreKind& kind)
{
    Stamps expected(kBlockSectors, kZeroes);
    const Stamps earlier = stamps_from(50, kBlockSectors);
    expected.insert(expected.end(), earlier.begin(), earlier.end());
    tell(
        kind,
        [&](const Pair& pair) {
            pair.write(pair.one, 0, stamps_from(100, kBlockSectors));
            pair.flush(pair.one);
            pair.write(pair.one, kBlockSectors, earlier);
            pair.deallocate(pair.one, 0, kBlockSectors);
            pair.deallocate(pair.two, 3, 1);
            pair.flush(pair.two);
        },
        0, expected);
}

// The same when the deallocation is in the journal already, with no sync behind it.
void partial_clear_over_an_unsynced_commit(const StoreKind& kind)
{
    tell(
        kind,
        [](const Pair& pair) {
            pair.write(pair.one, 0, stamps_from(100, kBlockSectors));
            pair.flush(pair.one);
            pair.deallocate(pair.one, 0, kBlockSectors);
            pair.store.tick();
            pair.store.pause();  // returns when the commit is written
            pair.store.resume();
            pair.deallocate(pair.two, 3, 1);
            pair.flush(pair.two);
        },
        0, Stamps(kBlockSectors, kZeroes));
}

// One stream overwrites what another has pending: a sync of the first alone keeps what it wrote.
void overwritten_by_another_stream(const StoreKind& kind)
{
    tell(
        kind,
        [](const Pair& pair) {
            pair.write(pair.one, 0, stamps_from(100, kBlockSectors));
            pair.write(pair.two, 0, stamps_from(200, kBlockSectors));
            pair.write(pair.one, kBlockSectors, stamps_from(300, kBlockSectors));
            pair.flush(pair.one);
        },
        0, stamps_from(100, kBlockSectors));
}

// The later of two streams stays the later when the earlier is committed behind it.
void committed_in_reverse(const StoreKind& kind)
{
    tell(
        kind,
        [](const Pair& pair) {
            pair.write(pair.one, 0, stamps_from(100, kBlockSectors));
            pair.write(pair.two, 0, stamps_from(200, kBlockSectors));
            pair.flush(pair.two);
            pair.flush(pair.one);
        },
        0, stamps_from(200, kBlockSectors));
}

// A clone of what another stream has pending.
void clone_of_another_streams_data(const StoreKind& kind)
{
    Stamps expected = stamps_from(100, kBlockSectors);
    const Stamps copy = expected;
    expected.insert(expected.end(), copy.begin(), copy.end());
    tell(
        kind,
        [](const Pair& pair) {
            pair.write(pair.one, 0, stamps_from(100, kBlockSectors));
            pair.clone(pair.two, kBlockSectors, 0, kBlockSectors);
            pair.flush(pair.two);
        },
        0, expected);
}

// A transaction that writes a part of a block that a stream wrote before.
void transaction_over_another_stream(const StoreKind& kind)
{
    Stamps expected = stamps_from(100, kBlockSectors);
    expected[3] = 900;
    const Stamps earlier = stamps_from(50, kBlockSectors);
    expected.insert(expected.end(), earlier.begin(), earlier.end());
    tell(
        kind,
        [&](const Pair& pair) {
            pair.write(pair.one, kBlockSectors, earlier);
            pair.write(pair.one, 0, stamps_from(100, kBlockSectors));
            std::vector<std::byte> bytes(kSectorBytes);
            write_stamps(Stamps{900}, bytes);
            const iovec buffer{bytes.data(), bytes.size()};
            Operation change;
            change.kind = Operation::Kind::write;
            change.offset_bytes = 3 * kSectorBytes;
            change.buffers = {&buffer, 1};
            pair.transact(change);
        },
        0, expected);
}

// A transaction into which is copied what a stream has pending.
void transaction_with_another_streams_data(const StoreKind& kind)
{
    Stamps expected = stamps_from(100, kBlockSectors);
    const Stamps copy = expected;
    expected.insert(expected.end(), copy.begin(), copy.end());
    tell(
        kind,
        [](const Pair& pair) {
            pair.write(pair.one, 0, stamps_from(100, kBlockSectors));
            const CloneSource source{kVolume, {0, kBlockBytes}};
            Operation change;
            change.kind = Operation::Kind::clone;
            change.offset_bytes = kBlockBytes;
            change.sources = {&source, 1};
            pair.transact(change);
        },
        0, expected);
}

// What another volume takes along from behind an ordered flush brings what lies before the flush,
// of all streams. `before` writes block 0 and flushes; the stream that it returns goes on.
void taken_along(const StoreKind& kind, const std::function<StreamId(const Pair&)>& before)
{
    tell(
        kind,
        [&](const Pair& pair) {
            Store& store = pair.store;
            NewVolume wanted;
            wanted.name = "other";
            wanted.size_bytes = kVolumeBytes;
            const Result<VolumeId> other = store.create_volume(wanted);
            if (!other) {
                violation("a volume cannot be made: " + other.error().text);
            }
            require(store.set_flush_mode(kVolume, FlushMode::ordered), "set flush mode");
            pair.write(before(pair), kBlockSectors, stamps_from(200, kBlockSectors));
            const CloneSource source{kVolume, {kBlockBytes, kBlockBytes}};
            require(store.clone(*other, 0, {&source, 1}), "clone");
            require(store.flush(*other), "flush");
        },
        0, stamps_from(100, kBlockSectors));
}

void taken_along_from_behind_an_ordered_flush(const StoreKind& kind)
{
    taken_along(kind, [](const Pair& pair) {
        pair.write(pair.two, 0, stamps_from(100, kBlockSectors));
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
        pair.write(StreamId(), 0, stamps_from(100, kBlockSectors));
        pair.flush(StreamId());
        const Result<StreamId> opened = pair.store.open_stream(kVolume);
        if (!opened) {
            violation("a stream cannot be opened: " + opened.error().text);
        }
        return *opened;
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
                   pair.write(pair.one, 0, stamps_from(100, kBlockSectors));
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
                   if (const auto made = store.snapshot(kVolume, snapshot); !made) {
                       violation("snapshot failed: " + made.error().text);
                   }
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
