// Versions that are removed in steps: after each checkpoint, power cut and open between begin and
// end the image is whole and every volume holds what it should, whatever is done meanwhile to the
// versions around.
#include "format/check/tests/image_builder.h"
#include "format/layout/layout.h"
#include "format/tests/slow_disk_store.h"

#include <map>
#include <string>

using namespace coppice;

namespace {

constexpr VolumeId kVolume(1);
constexpr std::uint64_t kBlocks = 1024;
constexpr std::uint64_t kStep = 40;  // pieces of a step

NewSnapshot snapshot_named(const std::string& name)
{
    NewSnapshot snapshot;
    snapshot.name = name;
    return snapshot;
}

// A store whose removals take many steps, none of which begins by itself, and what each volume
// holds: a byte for each block.
class Bench : public SlowDiskStore {
public:
    using Held = std::vector<std::uint8_t>;

    OpenOptions options;
    std::map<std::uint64_t, Held> held;

    Bench()
    {
        options.punch = false;
        options.removal_step = kStep;
    }

    void make()
    {
        create(kBlocks * kBlockBytes, options, 16 * kMiB);
        store->pause();
        held[1] = Held(kBlocks, 0);
    }

    void put(VolumeId volume, std::uint64_t block, std::uint8_t fill)
    {
        write(volume, block * kBlockBytes, kBlockBytes, fill);
        held[volume.value][block] = fill;
    }
    // Every `apart`-th block of [from, to), backwards so that each is an item of its own.
    void scatter(VolumeId volume, std::uint64_t from, std::uint64_t to, std::uint64_t apart,
                 std::uint8_t fill)
    {
        for (std::uint64_t block = to; block-- > from;) {
            if (block % apart == 0) {
                put(volume, block, fill);
            }
        }
    }
    void clear(VolumeId volume, std::uint64_t from, std::uint64_t to)
    {
        deallocate(volume, from * kBlockBytes, (to - from) * kBlockBytes);
        std::fill(held[volume.value].begin() + static_cast<std::ptrdiff_t>(from),
                  held[volume.value].begin() + static_cast<std::ptrdiff_t>(to), 0);
    }
    VolumeId take_snapshot(VolumeId of, const std::string& name)
    {
        const auto made = store->snapshot(of, snapshot_named(name));
        INFO((made ? "" : made.error().text));
        REQUIRE(made.has_value());
        held[made->value] = held[of.value];
        return *made;
    }
    VolumeId clone_of(VolumeId snapshot, const std::string& name)
    {
        const auto made = store->clone_volume(snapshot, name, false);
        INFO((made ? "" : made.error().text));
        REQUIRE(made.has_value());
        held[made->value] = held[snapshot.value];
        return *made;
    }
    VolumeId new_volume(const std::string& name)
    {
        NewVolume volume;
        volume.name = name;
        volume.size_bytes = kBlocks * kBlockBytes;
        const auto made = store->create_volume(volume);
        REQUIRE(made.has_value());
        held[made->value] = Held(kBlocks, 0);
        return *made;
    }
    void remove(VolumeId volume)
    {
        const Status removed = store->remove(volume);
        INFO(text_of(removed));
        REQUIRE(removed.has_value());
        held.erase(volume.value);
    }
    void roll_back(VolumeId volume, VolumeId snapshot)
    {
        const Status done = store->rollback(volume, snapshot);
        INFO(text_of(done));
        REQUIRE(done.has_value());
        held[volume.value] = held[snapshot.value];
    }

    void step()
    {
        const Status done = store->checkpoint();
        INFO(text_of(done));
        REQUIRE(done.has_value());
    }
    std::uint64_t under_way() { return store->info().removals; }
    std::uint64_t data_blocks() { return store->info().space.data_bytes / kBlockBytes; }

    void expect_contents()
    {
        std::size_t volumes = 0;
        for (const VolumeInfo& volume : store->volumes()) {
            REQUIRE(held.contains(volume.id.value));
            const Held& wanted = held[volume.id.value];
            const Bytes bytes = read(volume.id, 0, kBlocks * kBlockBytes);
            for (std::uint64_t block = 0; block < kBlocks; ++block) {
                const bool same = bytes[block * kBlockBytes] == wanted[block] &&
                                  bytes[(block + 1) * kBlockBytes - 1] == wanted[block];
                if (!same) {
                    INFO("volume " << volume.id.value << ", block " << block);
                    REQUIRE(same);
                }
            }
            ++volumes;
        }
        CHECK(volumes == held.size());
    }
    // The image as it lies there, its journal included, is whole, and so is what it shows.
    void expect_whole()
    {
        REQUIRE(complaints(disk) == "");
        expect_contents();
    }
    static std::string complaints(MemoryDisk& of, bool verify_data = true)
    {
        CheckOptions check_options;
        check_options.verify_data = verify_data;
        const auto report = coppice::check(of, check_options);
        if (!report) {
            return report.error().text;
        }
        std::string text;
        for (const Finding& finding : report->findings) {
            // A cut between the two writes of a superblock leaves one copy behind.
            if (finding.severity != Severity::repairable) {
                text += std::string(finding_name(finding.kind)) + ": " + finding.text + "\n";
            }
        }
        return text;
    }

    // Goes on to the end; how many checkpoints had something to do. `after`: what each shows.
    unsigned finish(const std::function<void()>& after = nullptr)
    {
        for (unsigned steps = 0;; ++steps) {
            REQUIRE(steps < 10'000);
            const std::uint64_t before = store->statistics().removal_steps;
            step();
            const bool removed = store->statistics().removal_steps > before;
            expect_whole();
            if (after) {
                after();
            }
            if (!removed) {
                CHECK(under_way() == 0);
                return steps;
            }
        }
    }
    // As after a power cut behind a flush.
    void reopen()
    {
        for (const VolumeInfo& volume : store->volumes()) {
            REQUIRE((volume.read_only || store->flush(volume.id)));
        }
        store->abandon();
        open(options);
        store->pause();
    }
};

// Many pieces in a volume that shares some of them with a snapshot, and a clone of that.
VolumeId make_clone(Bench& bench)
{
    bench.scatter(kVolume, 0, kBlocks, 2, 1);
    const VolumeId snapshot = bench.take_snapshot(kVolume, "first");
    const VolumeId clone = bench.clone_of(snapshot, "clone");
    bench.scatter(clone, 100, 700, 3, 2);
    bench.clear(clone, 800, 900);
    bench.step();
    return clone;
}

// A snapshot whose volume has changed since, in many pieces; beside what it had before.
VolumeId make_snapshot(Bench& bench)
{
    bench.scatter(kVolume, 0, kBlocks, 2, 1);
    const VolumeId first = bench.take_snapshot(kVolume, "first");
    bench.scatter(kVolume, 0, kBlocks, 3, 2);
    const VolumeId second = bench.take_snapshot(kVolume, "second");
    bench.scatter(kVolume, 300, kBlocks, 2, 3);
    bench.clear(kVolume, 0, 200);
    bench.step();
    (void)first;
    return second;
}

}  // namespace

TEST_CASE("a version without a child is removed in steps")
{
    Bench bench;
    bench.run([&] {
        bench.make();
        std::uint64_t before = 0;
        unsigned least = 0;
        SECTION("with a map of its own")
        {
            bench.scatter(kVolume, 0, kBlocks, 4, 9);
            bench.step();
            before = bench.data_blocks();
            const VolumeId other = bench.new_volume("other");
            bench.scatter(other, 0, kBlocks, 2, 1);
            bench.step();
            bench.remove(other);
            least = kBlocks / 2 / kStep;
        }
        SECTION("with a map that it shares with its parent")
        {
            const VolumeId clone = make_clone(bench);
            before = kBlocks / 2;
            bench.remove(clone);
            least = 200 / kStep;
        }
        SECTION("with data that clones share")
        {
            bench.scatter(kVolume, 0, kBlocks, 2, 1);
            bench.step();
            before = bench.data_blocks();
            const VolumeId other = bench.new_volume("other");
            for (std::uint64_t block = 0; block < kBlocks; block += 2) {
                const CloneSource source{kVolume, {block * kBlockBytes, kBlockBytes}};
                const std::uint64_t to = block * 7 % kBlocks;
                REQUIRE(bench.store->clone(other, to * kBlockBytes, {&source, 1}));
                bench.held[other.value][to] = 1;
            }
            bench.step();
            bench.remove(other);
            least = kBlocks / 2 / kStep;
        }
        SECTION("with one long item")
        {
            bench.step();
            before = bench.data_blocks();
            const VolumeId other = bench.new_volume("other");
            bench.write(other, 0, kBlocks * kBlockBytes, 5);
            bench.scatter(other, 0, 40, 2, 6);
            bench.step();
            bench.remove(other);
        }
        CHECK(bench.finish() >= least);
        CHECK(bench.data_blocks() == before);
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

// The keys of a leaf end where the next one begins, and that may be lower than its first item: a
// long write took the items there, and its own item, in the leaf before, reaches over them.
TEST_CASE("a removal ends its steps anywhere in an item that reaches over its leaf's keys")
{
    Bench bench;
    bench.options.removal_step = 1;
    bench.run([&] {
        constexpr std::uint64_t kLarge = 6000;
        constexpr std::uint64_t kBegin = 299;
        constexpr std::uint64_t kLength = 2 * 2048 + 10;  // two pieces of a drop, and a short one
        bench.create(kLarge * kBlockBytes, bench.options, 16 * kMiB);
        bench.store->pause();
        for (std::uint64_t block = kLarge; block-- > 0;) {
            if (block % 2 == 0) {
                bench.write(kVolume, block * kBlockBytes, kBlockBytes, 1);
            }
        }
        bench.write(kVolume, kBegin * kBlockBytes, kLength * kBlockBytes, 2);
        VolumeId removed = kVolume;
        SECTION("of its own") {}
        SECTION("of its parent, of which it has the end")
        {
            const auto snapshot = bench.store->snapshot(kVolume, snapshot_named("snapshot"));
            REQUIRE(snapshot);
            const auto clone = bench.store->clone_volume(*snapshot, "clone", false);
            REQUIRE(clone);
            removed = *clone;
            for (const std::uint64_t before_end : {8U, 6U, 4U}) {
                const std::uint64_t at = kBegin + kLength - before_end;
                bench.write(removed, at * kBlockBytes, kBlockBytes, 3);
            }
        }
        bench.step();
        bench.remove(removed);
        do {
            bench.step();
            REQUIRE(Bench::complaints(bench.disk, false) == "");
        } while (bench.under_way() != 0);
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("a version with one child is removed in steps")
{
    Bench bench;
    bench.run([&] {
        bench.make();
        const VolumeId second = make_snapshot(bench);
        const std::uint64_t before = bench.data_blocks();
        bench.remove(second);
        CHECK(bench.finish() >= 3);
        // What the second snapshot alone had: what was written between the two, and overwritten or
        // taken away since.
        CHECK(bench.data_blocks() < before);
        REQUIRE(bench.store->close());
        bench.open(bench.options);
        bench.expect_whole();
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("a removal goes on where it was when the image is opened again")
{
    const bool childless = GENERATE(true, false);
    const bool closes = GENERATE(true, false);
    Bench bench;
    bench.options.removal_step = 10;
    bench.run([&] {
        bench.make();
        const VolumeId removed = childless ? make_clone(bench) : make_snapshot(bench);
        bench.remove(removed);
        bench.step();
        REQUIRE(bench.under_way() == 1);
        unsigned opened = 0;
        for (; bench.under_way() != 0; ++opened) {
            REQUIRE(opened < 1000);
            if (closes) {
                REQUIRE(bench.store->close());
            } else {
                bench.store->abandon();
            }
            OpenOptions only_read = bench.options;
            only_read.read_only = true;
            const std::uint64_t left = bench.under_way();
            bench.open(only_read);
            REQUIRE(bench.under_way() == left);
            bench.expect_whole();
            bench.open(bench.options);
            bench.store->pause();
            REQUIRE(bench.under_way() == left);
            bench.step();
            bench.expect_whole();
        }
        CHECK(opened >= 3);
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("a power cut at any request of a removal leaves a whole image")
{
    const bool childless = GENERATE(true, false);
    Bench bench;
    std::vector<SparseBytes> cuts;
    bench.run([&] {
        bench.make();
        const VolumeId removed = childless ? make_clone(bench) : make_snapshot(bench);
        const auto before = bench.held;
        const auto with = [&](VolumeId id) { return before.at(id.value); };
        bench.fault = [&](const IoRequest& request) {
            if (request.kind != IoRequest::Kind::read) {
                cuts.push_back(bench.disk.bytes());
            }
            return 0;
        };
        bench.remove(removed);
        bench.finish([&] { bench.put(kVolume, 5, 7); });
        bench.fault = nullptr;
        bench.store->abandon();
        REQUIRE(cuts.size() > 50);
        std::size_t in_removal = 0;
        for (const SparseBytes& cut : cuts) {
            MemoryDisk disk(bench.tasks, cut);
            REQUIRE(Bench::complaints(disk) == "");
            auto opened = Store::open(disk, bench.options);
            INFO((opened ? "" : opened.error().text));
            REQUIRE(opened.has_value());
            in_removal += (*opened)->info().removals;
            bench.store = std::move(*opened);
            const bool there = bench.store->volume(removed).has_value();
            if (there) {
                bench.held[removed.value] = with(removed);
            }
            const bool written = bench.holds(kVolume, 5 * kBlockBytes, kBlockBytes, 7);
            bench.held[1][5] = written ? 7 : with(kVolume)[5];
            bench.expect_contents();
            REQUIRE(bench.store->settle());
            CHECK(bench.under_way() == 0);
            bench.expect_contents();
            REQUIRE(bench.store->close());
            REQUIRE(Bench::complaints(disk) == "");
            bench.held.erase(removed.value);
        }
        CHECK(in_removal > 20);
    });
}

TEST_CASE("the child of a version under way can be changed as if that were gone")
{
    const bool crashes = GENERATE(false, true);
    Bench bench;
    bench.run([&] {
        bench.make();
        const VolumeId second = make_snapshot(bench);
        bench.remove(second);
        bench.step();
        REQUIRE(bench.under_way() == 1);
        std::uint64_t data = 0;
        SECTION("written") { bench.scatter(kVolume, 0, kBlocks, 5, 4); }
        SECTION("emptied")
        {
            bench.clear(kVolume, 0, kBlocks);
            data = kBlocks / 2;  // of the first snapshot
        }
        SECTION("made a snapshot of, and written")
        {
            bench.take_snapshot(kVolume, "third");
            bench.scatter(kVolume, 0, kBlocks, 5, 4);
            bench.step();
            bench.expect_whole();
            bench.take_snapshot(kVolume, "fourth");
            bench.scatter(kVolume, 0, kBlocks, 7, 5);
        }
        SECTION("cloned, and the clone written")
        {
            const VolumeId third = bench.take_snapshot(kVolume, "third");
            const VolumeId clone = bench.clone_of(third, "clone");
            bench.scatter(clone, 0, kBlocks, 5, 4);
        }
        SECTION("copied by a range reference before it was changed again")
        {
            const VolumeId other = bench.new_volume("other");
            const CloneSource source{kVolume, {0, kBlocks * kBlockBytes}};
            REQUIRE(bench.store->clone(other, 0, {&source, 1}));
            REQUIRE(bench.store->statistics().range_references == 1);
            bench.held[other.value] = bench.held[1];
            bench.scatter(kVolume, 0, kBlocks, 5, 4);
        }
        SECTION("removed")
        {
            bench.remove(kVolume);
            data = kBlocks / 2;
        }
        SECTION("removed after a snapshot that stays")
        {
            bench.take_snapshot(kVolume, "third");
            bench.scatter(kVolume, 0, kBlocks, 5, 4);
            bench.remove(kVolume);
        }
        SECTION("rolled back")
        {
            const auto snapshots = bench.store->find("first", kVolume);
            REQUIRE(snapshots);
            bench.roll_back(kVolume, snapshots->id);
            data = kBlocks / 2;
        }
        SECTION("rolled back to what is made of it now")
        {
            const VolumeId third = bench.take_snapshot(kVolume, "third");
            bench.scatter(kVolume, 0, kBlocks, 5, 4);
            bench.roll_back(kVolume, third);
            bench.scatter(kVolume, 0, kBlocks, 7, 5);
        }
        if (crashes) {
            bench.reopen();
            bench.expect_whole();
        }
        CHECK(bench.finish() >= 2);
        if (data != 0) {
            CHECK(bench.data_blocks() == data);
        }
        REQUIRE(bench.store->close());
        bench.open(bench.options);
        bench.expect_whole();
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

// The head has not changed since the snapshot: a clone as a range reference would hold that
// version, if it were not going.
TEST_CASE("a version under way is not held again")
{
    const bool crashes = GENERATE(false, true);
    Bench bench;
    bench.run([&] {
        bench.make();
        const VolumeId first = bench.new_volume("first");  // takes all steps for itself
        bench.scatter(first, 0, kBlocks, 2, 1);
        bench.scatter(kVolume, 0, kBlocks, 2, 1);
        const VolumeId snapshot = bench.take_snapshot(kVolume, "snapshot");
        const VolumeId other = bench.new_volume("other");
        bench.step();
        bench.remove(first);
        bench.remove(snapshot);
        bench.step();
        REQUIRE(bench.under_way() == 2);
        const CloneSource source{kVolume, {0, kBlocks * kBlockBytes}};
        REQUIRE(bench.store->clone(other, 0, {&source, 1}));
        REQUIRE(bench.store->statistics().range_references == 1);
        bench.held[other.value] = bench.held[1];
        if (crashes) {
            bench.reopen();
        }
        bench.expect_whole();
        bench.scatter(kVolume, 0, kBlocks, 3, 2);
        CHECK(bench.finish() > 5);
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("what the child of a version under way drops of that is free at once")
{
    Bench bench;
    bench.run([&] {
        bench.make();
        const VolumeId first = bench.new_volume("first");  // takes all steps for itself
        bench.scatter(first, 0, kBlocks, 2, 1);
        bench.scatter(kVolume, 0, kBlocks, 2, 1);
        const VolumeId snapshot = bench.take_snapshot(kVolume, "snapshot");
        bench.step();
        bench.remove(first);
        bench.remove(snapshot);
        bench.step();
        REQUIRE(bench.under_way() == 2);
        const std::uint64_t before = bench.data_blocks();
        bench.clear(kVolume, 0, kBlocks);
        bench.step();
        bench.expect_whole();
        CHECK(bench.under_way() == 2);
        CHECK(before - bench.data_blocks() >= kBlocks / 2);
        bench.finish();
        CHECK(bench.data_blocks() == 0);
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("neighbours in a chain of versions are removed one after the other")
{
    Bench bench;
    bench.run([&] {
        bench.make();
        std::vector<VolumeId> snapshots;
        for (unsigned i = 0; i < 8; ++i) {
            bench.scatter(kVolume, i * 64, kBlocks, 3 + i, static_cast<std::uint8_t>(i + 1));
            snapshots.push_back(bench.take_snapshot(kVolume, "s" + std::to_string(i)));
        }
        bench.scatter(kVolume, 0, kBlocks, 2, 20);
        const VolumeId clone = bench.clone_of(snapshots[3], "clone");
        bench.scatter(clone, 0, kBlocks, 9, 21);
        bench.step();
        SECTION("all but one")
        {
            for (unsigned i = 0; i < 8; ++i) {
                if (i != 3) {
                    bench.remove(snapshots[i]);
                }
            }
        }
        SECTION("all, one after each step")
        {
            for (const VolumeId snapshot : snapshots) {
                bench.remove(snapshot);
                bench.step();
                bench.expect_whole();
            }
        }
        SECTION("all and the volume, so that only the clone is left")
        {
            bench.remove(kVolume);
            for (unsigned i = 8; i-- > 0;) {
                bench.remove(snapshots[i]);
                bench.step();
                bench.expect_whole();
            }
        }
        SECTION("everything")
        {
            bench.remove(clone);
            bench.remove(kVolume);
            for (const VolumeId snapshot : snapshots) {
                bench.remove(snapshot);
            }
        }
        bench.finish([&] {
            if (bench.held.contains(1)) {
                bench.put(kVolume, 17, 30);
                bench.reopen();
            }
        });
        if (bench.held.empty()) {
            CHECK(bench.data_blocks() == 0);
        }
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("a removal goes on by itself, beside somebody who writes")
{
    Bench bench;
    bench.options.removal_step = 3;
    bench.run([&] {
        bench.make();
        const VolumeId second = make_snapshot(bench);
        bench.store->resume();
        unsigned written = 0;
        bench.remove(second);
        bool more = true;
        bench.tasks.spawn([&] {
            while (more) {
                bench.write(kVolume, written % kBlocks * kBlockBytes, kBlockBytes, 50);
                bench.held[1][written % kBlocks] = 50;
                ++written;
                bench.tasks.yield();
            }
        });
        const std::uint64_t before = bench.store->statistics().removal_steps;
        while (bench.store->statistics().removal_steps < before + 20) {
            bench.tasks.yield();
        }
        CHECK(written > 20);
        more = false;
        bench.store->pause();  // within the removal, whose steps end
        REQUIRE(bench.under_way() == 1);
        bench.expect_contents();
        bench.reopen();
        bench.store->resume();
        bench.tick_for(2);
        CHECK(bench.under_way() == 0);
        bench.expect_whole();
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("settle ends a removal, and a close need not")
{
    Bench bench;
    bench.run([&] {
        bench.make();
        bench.remove(make_snapshot(bench));
        REQUIRE(bench.store->close());
        bench.open(bench.options);
        CHECK(bench.under_way() == 1);
        REQUIRE(bench.store->settle());
        CHECK(bench.under_way() == 0);
        bench.expect_whole();
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

// ---- Images that say what cannot be ---------------------------------------------------------

namespace {

using test::ExampleImage;

// The example with its snapshot being removed: `main` is its only child, or it has none.
struct RemovalImage : ExampleImage {
    explicit RemovalImage(bool childless)
    {
        snapshot_version.volume = 0;
        snapshot_version.flags = layout::kVersionRemoved;
        copy_version.parent = 0;
        copy_version.map = {};
        copy_version.mapped_blocks = 0;
        if (childless) {
            main_version.parent = 0;
            main_version.map = {};
            main_version.mapped_blocks = 0;
        }
        operation.id = 1;
        operation.kind = static_cast<std::uint8_t>(layout::RangeOperationKind::remove_version);
        operation.version = 1;
    }
    void seal()
    {
        range_operations.push_back(operation);
        add_volume(1, "main", main_record);
        add_volume(3, "copy", copy_record);
        add_version(2, main_version);
        add_version(3, copy_version);
        add_version(1, snapshot_version);
        ImageBuilder::finish();
    }

    layout::RangeOperationItem operation{};
};

Status try_open(ExampleImage& image, bool read_only)
{
    Status result;
    image.tasks.run([&] {
        OpenOptions options;
        options.read_only = read_only;
        auto opened = Store::open(image.disk, options);
        if (!opened) {
            result = pass_on(opened);
            return;
        }
        (*opened)->abandon();
    });
    return result;
}

}  // namespace

TEST_CASE("unfinished operations that cannot be are refused by the store and found by the checker")
{
    struct Wrong {
        std::string name;
        bool childless;
        std::function<void(RemovalImage&)> change;
    };
    const std::vector<Wrong> all = {
        {"nothing", false, [](RemovalImage&) {}},
        {"number 0", false, [](RemovalImage& image) { image.operation.id = 0; }},
        {"number to be given out", false, [](RemovalImage& image) { image.operation.id = 10; }},
        {"reserved kind", false, [](RemovalImage& image) { image.operation.kind = 2; }},
        {"unknown kind", false, [](RemovalImage& image) { image.operation.kind = 9; }},
        {"no such version", false, [](RemovalImage& image) { image.operation.version = 7; }},
        {"a version that is shown", false,
         [](RemovalImage& image) { image.operation.version = 2; }},
        {"a version that is held", false,
         [](RemovalImage& image) { image.snapshot_version.held_blocks = 3; }},
        {"a version that is not flagged", false,
         [](RemovalImage& image) { image.snapshot_version.flags = layout::kVersionHeld; }},
        {"a version of two children", false,
         [](RemovalImage& image) { image.copy_version.parent = 1; }},
        {"the same version twice", false,
         [](RemovalImage& image) {
             image.range_operations.push_back(image.operation);
             image.operation.id = 2;
         }},
        {"a cursor beside a child", false, [](RemovalImage& image) { image.operation.cursor = 4; }},
        {"a cursor behind all volumes", true,
         [](RemovalImage& image) { image.operation.cursor = layout::kMapEnd + 1; }},
        {"a place", false, [](RemovalImage& image) { image.operation.lba = 1; }},
        {"a length", false, [](RemovalImage& image) { image.operation.length = 1; }},
        {"another birth", false, [](RemovalImage& image) { image.operation.birth = 3; }},
    };
    for (const Wrong& wrong : all) {
        INFO(wrong.name);
        RemovalImage image(wrong.childless);
        wrong.change(image);
        image.seal();
        const bool right = wrong.name == "nothing";
        bool found = false;
        for (const Finding& finding : image.check().findings) {
            found = found || finding.kind == FindingKind::range_operation;
        }
        CHECK(found != right);
        for (const bool read_only : {true, false}) {
            const Status opened = try_open(image, read_only);
            REQUIRE(opened.has_value() == right);
            if (!right) {
                CHECK(opened.error().code == ErrorCode::bad_record);
                CHECK(opened.error().text.starts_with("range operation "));
            }
        }
    }
}

TEST_CASE("a version and its parent are not removed at the same time")
{
    Bench bench;
    ExampleImage image;
    image.snapshot_version.volume = 0;
    image.snapshot_version.flags = layout::kVersionRemoved;
    image.main_version.volume = 0;
    image.main_version.flags = layout::kVersionRemoved;
    image.main_version.sequence = 15;
    image.copy_version.parent = 0;
    image.copy_version.map = {};
    image.copy_version.mapped_blocks = 0;
    image.add_volume(3, "copy", image.copy_record);
    image.add_version(1, image.snapshot_version);
    image.add_version(2, image.main_version);
    image.add_version(3, image.copy_version);
    for (const std::uint32_t version : {1U, 2U}) {
        layout::RangeOperationItem operation{};
        operation.id = version;
        operation.kind = static_cast<std::uint8_t>(layout::RangeOperationKind::remove_version);
        operation.version = version;
        operation.birth = version == 2 ? 10 : 0;
        image.range_operations.push_back(operation);
    }
    image.ImageBuilder::finish();
    const Status opened = try_open(image, true);
    REQUIRE_FALSE(opened.has_value());
    CHECK(opened.error().code == ErrorCode::bad_record);
    bool found = false;
    for (const Finding& finding : image.check().findings) {
        found = found || finding.kind == FindingKind::range_operation;
    }
    CHECK(found);
}
