// Replay of runs against replay of one operation after the other: the same journal, made by random
// commands with a printed seed, must leave the same state whichever way; and what can be seen of a
// state later (who owns what, what is free) is judged by the checker and by going on with both.
#include "coppice-catch.h"

#include <map>
#include <random>

#include "format/check/checker.h"
#include "format/check/tests/image_builder.h"
#include "format/disk/fiber_tasks.h"
#include "format/disk/memory_disk.h"
#include "format/tests/slow_disk_store.h"
#include "format/volume/last_word.h"
#include "format/volume/store.h"

using namespace coppice;

namespace {

void check(const Status& status)
{
    INFO((status ? "" : status.error().text));
    REQUIRE(status.has_value());
}

template <typename T>
T value(Result<T> result)
{
    INFO((result ? "" : result.error().text));
    REQUIRE(result.has_value());
    return std::move(*result);
}

// What a run is like: each weight is that of one kind of command.
struct Mix {
    const char* name;
    unsigned write, sequential, deallocate, clone, manage, flush;
    std::uint64_t volume_blocks;
    std::uint64_t longest;  // blocks of a write
    std::size_t inline_clone_items;
};

class Source {
public:
    Source(const Mix& mix, unsigned seed) : mix_(mix), random_(seed), disk_(tasks_) {}

    // The image as a crash leaves it.
    SparseBytes crash(int before, int after)
    {
        tasks_.run([&] {
            CreateOptions create;
            create.uuid = random_uuid();
            create.volume_bytes = mix_.volume_blocks * kBlockBytes;
            create.journal_bytes = 16 << 20;
            check(Store::create(disk_, create));
            auto store = value(Store::open(disk_, {.inline_clone_items = mix_.inline_clone_items}));
            steps(*store, before);
            check(store->settle());
            store->pause();
            steps(*store, after);
            for (const VolumeInfo& volume : store->volumes()) {
                check(store->flush(volume.id));
            }
            store->abandon();
        });
        return disk_.bytes();
    }

    // Goes on with a store: the same for two stores with the same seed.
    static void go_on(Store& store, const Mix& mix, unsigned seed)
    {
        Source source(mix, seed);
        source.steps(store, 40);
        // What only a snapshot still had becomes free, by births and dead lists.
        for (const VolumeInfo& volume : store.volumes()) {
            if (volume.snapshot && volume.id.value % 2 == 0) {
                (void)store.remove(volume.id);  // a clone may stand on it
            }
        }
        check(store.settle());
    }

    void steps(Store& store, int count)
    {
        for (int i = 0; i < count; ++i) {
            step(store);
        }
    }

private:
    std::uint64_t pick(std::uint64_t below) { return random_() % below; }

    VolumeId pick_volume(Store& store, bool writable)
    {
        std::vector<VolumeId> ids;
        for (const VolumeInfo& volume : store.volumes()) {
            if (!writable || !volume.read_only) {
                ids.push_back(volume.id);
            }
        }
        return ids[pick(ids.size())];
    }

    void write(Store& store, VolumeId volume, std::uint64_t block, std::uint64_t blocks)
    {
        std::vector<std::uint8_t> bytes(blocks * kBlockBytes);
        for (std::size_t i = 0; i < bytes.size(); i += 512) {
            bytes[i] = static_cast<std::uint8_t>(random_());
        }
        const iovec buffer{bytes.data(), bytes.size()};
        check(store.write(volume, block * kBlockBytes, {&buffer, 1}, false));
    }

    Range range(Store& store, VolumeId volume, std::uint64_t longest)
    {
        const std::uint64_t size = value(store.volume(volume)).size_bytes / kBlockBytes;
        const std::uint64_t blocks = 1 + pick(std::min(longest, size));
        return {pick(size - blocks + 1) * kBlockBytes, blocks * kBlockBytes};
    }

    void step(Store& store)
    {
        const VolumeId volume = pick_volume(store, true);
        std::uint64_t turn = pick(mix_.write + mix_.sequential + mix_.deallocate + mix_.clone +
                                  mix_.manage + mix_.flush);
        const auto comes = [&](unsigned weight) {
            const bool now = turn < weight;
            turn -= weight;
            return now;
        };
        if (comes(mix_.write)) {
            const Range to = range(store, volume, mix_.longest);
            write(store, volume, to.offset_bytes / kBlockBytes, to.length_bytes / kBlockBytes);
        } else if (comes(mix_.sequential)) {
            Range to = range(store, volume, 30);
            for (; to.length_bytes > 0; to.length_bytes -= kBlockBytes) {
                write(store, volume, to.offset_bytes / kBlockBytes, 1);
                to.offset_bytes += kBlockBytes;
            }
        } else if (comes(mix_.deallocate)) {
            std::vector<Range> ranges(1 + pick(3));
            for (Range& some : ranges) {
                some = range(store, volume, pick(400) == 0 ? mix_.volume_blocks : mix_.longest * 2);
            }
            if (pick(2) == 0) {
                check(store.deallocate(volume, ranges));
            } else {
                check(store.write_zeroes(volume, ranges.front()));
            }
        } else if (comes(mix_.clone)) {
            const CloneSource from{pick_volume(store, false), {}};
            const Range to = range(store, volume, 200);
            const std::uint64_t size = value(store.volume(from.volume)).size_bytes;
            if (to.length_bytes <= size) {
                const std::uint64_t places = (size - to.length_bytes) / kBlockBytes + 1;
                const CloneSource source{from.volume,
                                         {pick(places) * kBlockBytes, to.length_bytes}};
                check(store.clone(volume, to.offset_bytes, {&source, 1}));
            }
        } else if (comes(mix_.manage)) {
            manage(store, volume);
        } else {
            check(store.flush(volume));
        }
    }

    void manage(Store& store, VolumeId volume)
    {
        const std::string name = "n" + std::to_string(++names_);
        std::vector<VolumeInfo> snapshots;
        for (const VolumeInfo& info : store.volumes()) {
            if (info.snapshot) {
                snapshots.push_back(info);
            }
        }
        const std::uint64_t turn = pick(8);
        if (turn < 3 || snapshots.empty()) {
            (void)value(store.snapshot(volume, {.name = name}));
            return;
        }
        const VolumeInfo& snapshot = snapshots[pick(snapshots.size())];
        if (turn < 5) {
            (void)value(store.clone_volume(snapshot.id, name, false));
        } else if (turn == 5) {
            (void)store.remove(snapshot.id);  // refused where a clone stands on it
        } else if (turn == 6) {
            (void)store.rollback(snapshot.parent, snapshot.id);  // its volume may be gone
        } else {
            check(store.resize(volume, (mix_.volume_blocks / 2 + pick(mix_.volume_blocks / 2)) *
                                           kBlockBytes));
        }
    }

    Mix mix_;
    std::mt19937 random_;
    FiberTasks tasks_;
    MemoryDisk disk_;
    unsigned names_ = static_cast<unsigned>(random_() % 1000000);
};

// Everything of a store that shows: which block each lba has, and what it says of itself.
struct Shown {
    std::vector<std::array<std::uint64_t, 3>> blocks;  // volume, lba, offset in the host file
    std::vector<std::array<std::uint64_t, 4>> volumes;
    std::uint64_t sequence = 0, operations = 0, commits = 0;
    bool operator==(const Shown&) const = default;
};

Shown shown_by(Store& store)
{
    Shown shown;
    const ImageInfo info = store.info();
    shown.sequence = info.sequence.value;
    shown.operations = info.replayed_operations;
    shown.commits = info.replayed_commits;
    std::vector<std::uint8_t> bytes;
    for (const VolumeInfo& volume : store.volumes()) {
        shown.volumes.push_back(
            {volume.id.value, volume.size_bytes, volume.mapped_bytes, volume.parent.value});
        for (std::uint64_t at = 0; at < volume.size_bytes;) {
            const BlockStatus status =
                value(store.block_status(volume.id, {at, volume.size_bytes - at}));
            for (std::uint64_t done = 0; done < status.length_bytes; done += kBlockBytes) {
                const std::uint64_t offset = status.host_offset ? *status.host_offset + done : 0;
                shown.blocks.push_back({volume.id.value, at + done, offset});
            }
            at += status.length_bytes;
        }
        bytes.resize(volume.size_bytes);  // and the data have their checksums
        const iovec buffer{bytes.data(), bytes.size()};
        check(store.read(volume.id, 0, {&buffer, 1}));
    }
    return shown;
}

void expect_clean(Disk& disk)
{
    const CheckReport report = value(coppice::check(disk, {.verify_data = true}));
    for (const Finding& finding : report.findings) {
        INFO(finding.text);
        CHECK(false);
    }
    REQUIRE(report.clean());
    REQUIRE(report.space_complete);
}

struct Outcome {
    Shown replayed, later;
    std::uint64_t data_bytes = 0, later_data_bytes = 0;
};

// Opens the image in one of the two ways, looks, and goes on with it.
Outcome outcome(const SparseBytes& image, const Mix& mix, unsigned seed, bool runs)
{
    INFO((runs ? "in runs" : "one by one"));
    Outcome result;
    FiberTasks tasks;
    MemoryDisk disk(tasks, image);
    tasks.run([&] {
        // The cache is small, so that nodes must be read again, also while they are in use.
        OpenOptions options{.cache_bytes = 64 * kBlockBytes,
                            .inline_clone_items = mix.inline_clone_items,
                            .replay_runs = runs};
        auto store = value(Store::open(disk, options));
        result.replayed = shown_by(*store);
        check(store->checkpoint());
        result.data_bytes = store->info().space.data_bytes;
        store->abandon();
        store.reset();
        expect_clean(disk);
        store = value(Store::open(disk, options));
        Source::go_on(*store, mix, seed);
        result.later = shown_by(*store);
        result.later.commits = 0;
        result.later_data_bytes = store->info().space.data_bytes;
        store->abandon();
        store.reset();
        expect_clean(disk);
    });
    return result;
}

}  // namespace

TEST_CASE("a journal replayed in runs leaves what it leaves operation by operation")
{
    const Mix mix = GENERATE(Mix{"scattered", 80, 0, 5, 0, 0, 1, 6000, 1, 64},
                             Mix{"scattered and freed", 50, 0, 50, 0, 0, 1, 4000, 2, 64},
                             Mix{"over the edges of leaves", 60, 0, 30, 0, 0, 1, 8000, 6, 64},
                             Mix{"overlapping", 60, 5, 20, 0, 0, 1, 300, 40, 64},
                             Mix{"in order", 10, 20, 5, 0, 1, 1, 3000, 8, 64},
                             Mix{"snapshots", 60, 5, 15, 0, 4, 1, 1000, 8, 64},
                             Mix{"clones by items", 50, 5, 15, 15, 1, 1, 800, 8, 64},
                             Mix{"clones by reference", 50, 5, 15, 10, 2, 1, 800, 8, 2});
    const unsigned seed = GENERATE(range(1U, 9U));
    INFO(mix.name << ", seed " << seed);
    const bool many = mix.volume_blocks > 2000;
    const SparseBytes image = Source(mix, seed).crash(many ? 3000 : 300, many ? 4000 : 600);
    const Outcome one_by_one = outcome(image, mix, seed + 100, false);
    const Outcome in_runs = outcome(image, mix, seed + 100, true);
    REQUIRE(one_by_one.replayed.operations > 100);
    REQUIRE(in_runs.replayed == one_by_one.replayed);
    REQUIRE(in_runs.data_bytes == one_by_one.data_bytes);
    REQUIRE(in_runs.later.volumes == one_by_one.later.volumes);
    REQUIRE(in_runs.later_data_bytes == one_by_one.later_data_bytes);
}

TEST_CASE("what a snapshot has is not joined with what replay finds behind it")
{
    const bool runs = GENERATE(false, true);
    FiberTasks tasks;
    MemoryDisk disk(tasks);
    tasks.run([&] {
        CreateOptions create;
        create.uuid = random_uuid();
        create.volume_bytes = 4 << 20;
        check(Store::create(disk, create));
        auto store = value(Store::open(disk, {}));
        std::vector<std::uint8_t> bytes(kBlockBytes, 7);
        const iovec buffer{bytes.data(), bytes.size()};
        const auto write = [&](std::uint64_t lba) {
            check(store->write(VolumeId(1), lba * kBlockBytes, {&buffer, 1}, false));
        };
        // Neighbours in the volume and in the image, on both sides of a snapshot: one that the
        // superblock has, and one in the journal.
        write(10);
        const VolumeId first = value(store->snapshot(VolumeId(1), {.name = "first"}));
        check(store->checkpoint());
        write(11);
        const VolumeId second = value(store->snapshot(VolumeId(1), {.name = "second"}));
        write(12);
        check(store->flush(VolumeId(1)));
        store->abandon();
        store = value(Store::open(disk, {.replay_runs = runs}));
        const BlockStatus status =
            value(store->block_status(VolumeId(1), {10 * kBlockBytes, 3 * kBlockBytes}));
        REQUIRE(status.length_bytes == kBlockBytes);
        check(store->checkpoint());
        store->abandon();
        store.reset();
        expect_clean(disk);
        store = value(Store::open(disk, {}));
        check(store->remove(first));
        check(store->remove(second));
        check(store->settle());
        REQUIRE(store->info().space.data_bytes == 3 * kBlockBytes);
        check(store->close());
        store.reset();
        expect_clean(disk);
    });
}

TEST_CASE("which change has the last word, block by block")
{
    const unsigned seed = GENERATE(range(1U, 60U));
    INFO("seed " << seed);
    std::mt19937 random(seed);
    const std::uint64_t blocks = 1 + random() % 200;
    std::vector<RangeChange> changes(random() % 60);
    for (std::size_t i = 0; i < changes.size(); ++i) {
        const std::uint64_t begin = random() % blocks;
        changes[i] = {Lba(begin), 1 + random() % (random() % 4 == 0 ? blocks : 5), i};
    }
    std::sort(changes.begin(), changes.end(),
              [](const RangeChange& a, const RangeChange& b) { return a.lba < b.lba; });
    const LastWord word = last_word(changes);

    std::map<std::uint64_t, std::size_t> newest;  // of each block
    std::map<std::pair<std::size_t, std::uint64_t>, unsigned> left;
    for (const RangeChange& change : changes) {
        for (std::uint64_t lba = change.lba.value; lba < change.end().value; ++lba) {
            newest[lba] = std::max(newest[lba], change.order);
            left[{change.order, lba}] = 1;
        }
    }
    Lba end;
    for (const ChangePart& part : word.counts) {
        REQUIRE(part.lba >= end);
        end = part.lba + part.length;
        for (std::uint64_t lba = part.lba.value; lba < end.value; ++lba) {
            REQUIRE(newest.at(lba) == changes[part.change].order);
            REQUIRE(left.erase({changes[part.change].order, lba}) == 1);
            newest.erase(lba);
        }
    }
    REQUIRE(newest.empty());
    for (const ChangePart& part : word.superseded) {
        for (std::uint64_t i = 0; i < part.length; ++i) {
            REQUIRE(left.erase({changes[part.change].order, part.lba.value + i}) == 1);
        }
    }
    REQUIRE(left.empty());
}

TEST_CASE("what a crash leaves to verify is bounded although nobody flushes")
{
    FiberTasks tasks;
    MemoryDisk disk(tasks);
    tasks.run([&] {
        CreateOptions create;
        create.uuid = random_uuid();
        create.volume_bytes = 4 << 20;
        check(Store::create(disk, create));
        auto store = value(Store::open(disk, {.commit_interval_ns = 0, .tail_blocks = 16}));
        std::vector<std::uint8_t> bytes(3 * kBlockBytes, 7);
        const iovec buffer{bytes.data(), bytes.size()};
        for (std::uint64_t i = 0; i < 100; ++i) {
            check(store->write(VolumeId(1), i * 3 * kBlockBytes, {&buffer, 1}, false));
            if (i % 40 == 39) {
                store->tick();
                tasks.yield();
            }
        }
        store->tick();
        store->pause();  // waits for the commits
        REQUIRE(store->statistics().syncs >= 300 / 16);
        store->abandon();
        store = value(Store::open(disk, {}));
        REQUIRE(store->info().replayed_operations == 100);
        REQUIRE(store->info().recovery.verified_blocks > 0);
        REQUIRE(store->info().recovery.verified_blocks <= 16);
        store->abandon();
    });
}

TEST_CASE("a clone by reference is replayed with the versions that it was made with")
{
    SlowDiskStore bench;
    constexpr VolumeId kSource(1);
    constexpr std::uint64_t kPart = 64 * kBlockBytes;
    OpenOptions options;
    options.inline_clone_items = 4;
    VolumeId target;
    const auto copy = [&](std::uint64_t to) {
        const CloneSource source{kSource, {0, kPart}};
        check(bench.store->clone(target, to, {&source, 1}));
    };
    bench.run([&] {
        bench.create(4 * kMiB, options);
        for (std::uint64_t block = 0; block < 64; block += 2) {
            bench.write(kSource, block * kBlockBytes, kBlockBytes, 1);
        }
        NewVolume volume;
        volume.name = "target";
        volume.size_bytes = 4 * kMiB;
        target = value(bench.store->create_volume(volume));
        NewSnapshot snapshot;
        snapshot.name = "parent";
        value(bench.store->snapshot(kSource, snapshot));
        check(bench.store->settle());
        bench.store->pause();
        // Comes to nothing, so it is not in the journal; but the head is another one than its
        // snapshot, and is frozen by the clone.
        bench.write(kSource, 2 * kMiB, kBlockBytes, 2);
        bench.deallocate(kSource, 2 * kMiB, kBlockBytes);
        copy(0);
        REQUIRE(bench.store->statistics().range_references == 1);
        SECTION("frozen again")
        {
            bench.write(kSource, 0, kBlockBytes, 3);
            copy(kMiB);
        }
        SECTION("still as it was frozen, with another version behind it")
        {
            snapshot.name = "of the target";
            value(bench.store->snapshot(target, snapshot));
            copy(kMiB);
        }
        check(bench.store->flush(target));
        const Bytes before = bench.read(target, 0, 4 * kMiB);
        bench.store->abandon();
        bench.open(options);
        CHECK(bench.store->info().replayed_operations > 0);
        CHECK(bench.read(target, 0, 4 * kMiB) == before);
        check(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("a command that cannot be is an error")
{
    using layout::OperationType;
    using Record = layout::OperationRecord;
    const auto of = [](OperationType type, std::uint32_t volume = 1) {
        Record record{};
        record.type = static_cast<std::uint8_t>(type);
        record.volume = volume;
        record.length = type == OperationType::deallocate ? 1 : 0;
        record.lba = type == OperationType::deallocate ? 200 : 0;
        record.source_volume = type == OperationType::rollback ? 2 : 0;
        record.block = type == OperationType::snapshot ? 10 : 0;
        return record;
    };
    const auto clone = [&](std::uint32_t source) {
        Record record = of(OperationType::clone);
        record.length = 1;
        record.source_volume = source;
        return record;
    };
    const auto write = [](std::uint32_t volume, std::uint16_t stream = 0) {
        Record record = coppice::test::write_operation(volume, 0, 200, 9000);
        record.stream = stream;
        return record;
    };
    struct Case {
        std::string what;
        std::vector<Record> command;
        bool possible = false;
        bool other_kind = false;  // a volume's record for a snapshot, or the other way round
    };
    const std::vector<Case> all = {
        {"a rollback and a write", {of(OperationType::rollback), write(1)}},
        {"a write and a rollback", {write(1), of(OperationType::rollback)}},
        {"a rollback and a deallocation",
         {of(OperationType::rollback), of(OperationType::deallocate)}},
        {"a snapshot and a write", {of(OperationType::snapshot), write(1)}},
        {"a write, a snapshot and a deallocation",
         {write(1), of(OperationType::snapshot), of(OperationType::deallocate)}},
        {"two snapshots of a volume", {of(OperationType::snapshot), of(OperationType::snapshot)}},
        {"a new volume and a write to it", {of(OperationType::create_volume, 10), write(10)}},
        {"a removal and a write elsewhere", {of(OperationType::remove_volume, 3), write(1)}},
        {"two removals",
         {of(OperationType::remove_volume, 3), of(OperationType::remove_volume, 1)}},
        {"writes to two volumes", {of(OperationType::deallocate, 3), write(1)}},
        {"writes to two streams", {of(OperationType::deallocate), write(1, 1)}},
        {"writes to one volume", {of(OperationType::deallocate), write(1)}, true},
        {"snapshots of two volumes",
         {of(OperationType::snapshot, 1), of(OperationType::snapshot, 3)},
         true},
        {"a write to a volume that is not there", {write(9)}},
        {"a clone of a volume that is not there", {clone(9)}},
        {"a clone", {clone(3)}, true},
        {"a snapshot with the record of a volume", {of(OperationType::snapshot)}, false, true},
        {"a new volume", {of(OperationType::create_volume, 10)}, true},
        {"a new volume with the record of a snapshot",
         {of(OperationType::create_volume, 10)},
         false,
         true},
    };
    const std::size_t chosen = GENERATE(range(std::size_t{0}, std::size_t{19}));
    REQUIRE(all.size() == 19);
    const Case& wanted = all[chosen];
    const bool read_only = GENERATE(false, true);
    INFO(wanted.what << (read_only ? ", read-only" : ""));
    coppice::test::ExampleImage image;
    image.finish();
    std::vector<Record> command = wanted.command;
    coppice::test::Bytes payload;
    for (std::size_t i = 0; i < command.size(); ++i) {
        Record& record = command[i];
        const auto type = static_cast<OperationType>(record.type);
        record.sequence = 21 + i;
        record.flags = i + 1 < command.size() ? layout::kOperationContinues : 0;
        if (type == OperationType::write) {
            record.checksum = image.journal_data(9000);
        }
        if (type == OperationType::snapshot || type == OperationType::create_volume) {
            const bool snapshot = type == OperationType::snapshot;
            layout::VolumeRecord made = snapshot ? image.snapshot_record : image.main_record;
            made.version = 0;
            if (wanted.other_kind) {
                made.flags = snapshot ? 0 : layout::kVolumeSnapshot;
            }
            made.parent_volume = snapshot ? record.volume.get() : 0;
            made.name = {'n', static_cast<char>('0' + i)};
            record.block = snapshot ? 10 + i : 0;
            record.payload_offset = static_cast<std::uint32_t>(payload.size());
            record.payload_bytes = sizeof(made);
            const auto bytes = coppice::test::bytes_of(made);
            payload.insert(payload.end(), bytes.begin(), bytes.end());
        }
    }
    image.commit(command, payload, 1);
    const CheckReport report = image.check();
    CHECK(report.clean() == wanted.possible);
    image.tasks.run([&] {
        const auto store = Store::open(image.disk, {.read_only = read_only});
        if (wanted.possible) {
            INFO((store ? "" : store.error().text));
            REQUIRE(store.has_value());
            (*store)->abandon();
        } else {
            REQUIRE_FALSE(store.has_value());
            CHECK(error_name(store.error().code) == "bad_record");
        }
    });
}
