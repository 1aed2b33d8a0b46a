#include "format/sim/group_stories.h"

#include <algorithm>
#include <fmt/format.h>

#include "format/layout/layout.h"
#include "format/sim/report.h"
#include "format/sim/story.h"

namespace coppice::sim {

namespace {

constexpr VolumeId kData{1};
constexpr VolumeId kLog{2};
constexpr VolumeId kOther{3};
constexpr ConsistencyGroup kGroup{1};
constexpr std::uint64_t kBlockSectors = kBlockBytes / kSectorBytes;
constexpr std::uint64_t kVolumeSectors = 16 * kBlockSectors;

// An image with three volumes, and what is done to them, which the model hears of.
class Volumes {
public:
    Volumes(FiberTasks& image_tasks, Store& opened, Model& model, EventClock& clock)
        : tasks(image_tasks), store(opened), model_(model), clock_(clock)
    {
        store.pause();
        for (const VolumeId id : {kData, kLog, kOther}) {
            Volume volume;
            volume.id = id;
            volume.name = id == kData ? CreateOptions{}.volume_name : fmt::format("v{}", id.value);
            volume.start.assign(kVolumeSectors, kZeroes);
            volume.now = volume.start;
            volume.created_asked = id == kData ? 0 : clock.tick();
            if (id != kData) {
                NewVolume wanted;
                wanted.name = volume.name;
                wanted.size_bytes = kVolumeSectors * kSectorBytes;
                wanted.lba_shift = 9;
                const Result<VolumeId> made = store.create_volume(wanted);
                if (!made || *made != id) {
                    violation("a volume cannot be made");
                }
                volume.created_answered = clock.tick();
            }
            model.volumes[id.value] = std::move(volume);
        }
    }

    void write(VolumeId id, std::uint64_t block, bool fua = false, StreamId stream = {})
    {
        Stamps stamps(kBlockSectors);
        for (Stamp& stamp : stamps) {
            stamp = ++last_stamp_;
        }
        Change change;
        change.what = fmt::format("write of block {} of volume {}", block, id.value);
        change.stream = stream;
        change.durable = fua;
        change.patches = {{block * kBlockSectors, stamps}};
        change.asked = clock_.tick();
        Volume& volume = *model_.find(id);
        volume.changes.push_back(std::move(change));
        const std::size_t index = volume.changes.size() - 1;
        std::vector<std::byte> bytes(kBlockBytes);
        write_stamps(stamps, bytes);
        const iovec buffer{bytes.data(), bytes.size()};
        require(store.perform({.kind = Operation::Kind::write,
                               .volume = id,
                               .stream = stream,
                               .offset_bytes = block * kBlockBytes,
                               .buffers = {&buffer, 1},
                               .fua = fua}),
                "write");
        Change& done = volume.changes[index];
        done.answered = clock_.tick();
        std::copy(stamps.begin(), stamps.end(),
                  volume.now.begin() + static_cast<std::ptrdiff_t>(block * kBlockSectors));
    }

    void flush(VolumeId id)
    {
        Flush flush;
        flush.asked = clock_.tick();
        require(store.flush(id), "flush");
        flush.answered = clock_.tick();
        model_.note_flush(id, flush);
    }

    void set_group(VolumeId id, ConsistencyGroup group)
    {
        Volume& volume = *model_.find(id);
        volume.groups.push_back({group, clock_.tick()});
        require(store.set_group(id, group), "change of a group");
        volume.groups.back().answered = clock_.tick();
        volume.flushes.push_back({volume.groups.back().asked, volume.groups.back().answered});
    }

    void group_data_and_log()
    {
        set_group(kData, kGroup);
        set_group(kLog, kGroup);
    }

    void snapshot_group()
    {
        const Event asked = clock_.tick();
        const auto made = store.snapshot_group(kGroup, "all", false);
        const Event answered = clock_.tick();
        if (!made) {
            violation("snapshots of a group cannot be made: " + made.error().text);
        }
        for (const VolumeId id : *made) {
            Volume snapshot;
            snapshot.id = id;
            snapshot.snapshot = true;
            snapshot.parent = store.volume(id)->parent;
            snapshot.name = "all";
            snapshot.created_asked = asked;
            snapshot.created_answered = answered;
            snapshot.start = model_.find(snapshot.parent)->now;
            snapshot.now = snapshot.start;
            model_.volumes[id.value] = std::move(snapshot);
        }
        model_.together.push_back(*made);
    }

    void beside(const std::function<void()>& work)
    {
        ++running_;
        tasks.spawn([this, work] {
            work();
            --running_;
        });
    }
    void wait()
    {
        while (running_ != 0) {
            tasks.yield();
        }
    }

    FiberTasks& tasks;
    Store& store;

private:
    Model& model_;
    EventClock& clock_;
    Stamp last_stamp_ = 0;
    unsigned running_ = 0;
};

using Tale = std::function<void(Volumes&)>;

Recording told(const StoreKind& kind, const Tale& tale)
{
    const SparseBytes image = fresh_image(kind, 21, kVolumeSectors * kSectorBytes);
    return record(kind, image, Model(), story_plan(), 1,
                  [&](FiberTasks& tasks, Store& store, Model& model, EventClock& clock) {
                      Volumes volumes(tasks, store, model, clock);
                      tale(volumes);
                  });
}

void cut_at(const StoreKind& kind, const Recording& recording, CutMaker& maker, Event event)
{
    for (const bool keeps : {true, false}) {
        const Context context(fmt::format("cut at {}, {}", event,
                                          keeps ? "all is kept" : "only what was synced is kept"));
        examine(kind, maker.cut(event, [keeps](LoggedRequest&) { return keeps; }), recording,
                event);
    }
}

void cut_at_the_end(const StoreKind& kind, const Tale& tale)
{
    const Recording recording = told(kind, tale);
    CutMaker maker(recording.log);
    cut_at(kind, recording, maker, recording.ended);
}

// Behind each write to the journal.
void cut_everywhere(const StoreKind& kind, const Tale& tale)
{
    const Recording recording = told(kind, tale);
    for (const LoggedRequest& request : recording.log.requests) {
        if (is_ring_write(request)) {
            CutMaker maker(recording.log);
            cut_at(kind, recording, maker, request.completed);
        }
    }
}

// A log that says what the data are must not be there without them, nor the other way round.
void group_is_one_order(const StoreKind& kind)
{
    cut_at_the_end(kind, [](Volumes& volumes) {
        volumes.group_data_and_log();
        volumes.write(kData, 0);
        volumes.write(kLog, 0, true);
        volumes.write(kLog, 1);
        volumes.write(kData, 1, true);
        volumes.write(kData, 2);
        volumes.write(kLog, 2, true);
    });
}

// ... and a flush of one covers the other, although there is nothing to be flushed in the one.
void flush_of_one_covers_the_group(const StoreKind& kind)
{
    cut_at_the_end(kind, [](Volumes& volumes) {
        volumes.group_data_and_log();
        volumes.write(kData, 0);
        volumes.flush(kLog);
    });
}

// Volumes of different groups, and of none, have orders of their own.
void groups_are_apart(const StoreKind& kind)
{
    const Recording recording = told(kind, [](Volumes& volumes) {
        volumes.set_group(kData, kGroup);
        volumes.set_group(kLog, kGroup + 1);
        volumes.write(kData, 0);
        volumes.write(kOther, 0);
        volumes.write(kLog, 0, true);
    });
    CutMaker maker(recording.log);
    const SparseBytes left = maker.cut(recording.ended, [](LoggedRequest&) { return false; });
    const Contents contents = examine(kind, left, recording, recording.ended);
    for (const VolumeId id : {kData, kOther}) {
        if (contents.volumes.at(id.value).stamps[0] != kZeroes) {
            violation(fmt::format("volume {} was made durable with another", id.value));
        }
    }
}

StreamId open_stream(Store& store, VolumeId id)
{
    return require(store.open_stream(id), "open of a stream");
}

// Block 0 of `from` is cloned to the other volume, which is flushed; then the power fails. These
// volumes must have what they had in this block.
void expect_taken_along(const StoreKind& kind, const Tale& tale, VolumeId from, std::uint64_t block,
                        const std::vector<VolumeId>& expected)
{
    const Recording recording = told(kind, [&](Volumes& volumes) {
        tale(volumes);
        const CloneSource source{from, {0, kBlockBytes}};
        require(volumes.store.clone(kOther, 0, {&source, 1}), "clone");
        require(volumes.store.flush(kOther), "flush");
    });
    CutMaker maker(recording.log);
    const SparseBytes left = maker.cut(recording.ended, [](LoggedRequest&) { return false; });
    examine(kind, left, recording.ended, [&](const Contents& contents) {
        for (const VolumeId id : expected) {
            if (contents.volumes.at(id.value).stamps[block * kBlockSectors] == kZeroes) {
                violation(fmt::format("volume {} lacks what lies before an ordered flush behind "
                                      "which something was made durable",
                                      id.value));
            }
        }
    });
}

// What another volume takes along from behind an ordered flush of one of the group brings what lies
// before the flush, of all streams of the others.
void ordered_flush_cuts_the_group(const StoreKind& kind)
{
    const Tale tale = [](Volumes& volumes) {
        volumes.group_data_and_log();
        require(volumes.store.set_flush_mode(kData, FlushMode::ordered), "set flush mode");
        require(volumes.store.set_flush_mode(kLog, FlushMode::ordered), "set flush mode");
        volumes.write(kData, 0, false, open_stream(volumes.store, kData));
        require(volumes.store.flush(kLog), "ordered flush");
        volumes.write(kLog, 0);
    };
    expect_taken_along(kind, tale, kLog, 0, {kData, kLog, kOther});
}

// A volume joins and leaves while others write and flush: whatever the image says about its group
// after a cut holds for what is in it.
void volumes_come_and_go(const StoreKind& kind)
{
    cut_everywhere(kind, [](Volumes& volumes) {
        volumes.set_group(kLog, kGroup);
        for (std::uint64_t round = 0; round < 6; ++round) {
            volumes.write(kData, 0);
            volumes.write(kOther, 0);
            volumes.beside(
                [&, round] { volumes.set_group(kData, ConsistencyGroup((round + 1) % 3)); });
            if (round % 2 == 0) {
                volumes.beside([&] { volumes.set_group(kOther, kGroup); });
            }
            volumes.beside([&] {
                for (std::uint64_t i = 1; i < 4; ++i) {
                    volumes.write(kData, i);
                    volumes.tasks.yield();
                }
                volumes.flush(kData);
            });
            for (std::uint64_t i = 0; i < 4; ++i) {
                volumes.write(kLog, i, i % 2 == 1);
                volumes.tasks.yield();
            }
            volumes.wait();
        }
    });
}

// What a volume did before it left is there with what the others do afterwards, as long as the
// image says that it is in the group.
void what_left_stays_in_order(const StoreKind& kind)
{
    cut_everywhere(kind, [](Volumes& volumes) {
        volumes.group_data_and_log();
        volumes.write(kData, 0);
        volumes.beside([&] { volumes.set_group(kData, ConsistencyGroup()); });
        for (std::uint64_t i = 0; i < 8; ++i) {
            volumes.write(kLog, i, true);
        }
        volumes.wait();
    });
}

// The snapshots of a group stand in one commit, also where that is full before the last of them.
void snapshots_of_a_group_are_whole(const StoreKind& kind)
{
    constexpr std::uint64_t kCommitBytes =
        layout::kMinJournalBlocks / layout::kCommitRingFraction * layout::kJournalBodyBytes;
    constexpr std::uint64_t kRecord = sizeof(layout::OperationRecord);
    constexpr std::uint64_t kBefore =
        (kCommitBytes - sizeof(layout::CommitHeader) - kRecord - sizeof(layout::VolumeRecord)) /
        kRecord;
    cut_everywhere(kind, [](Volumes& volumes) {
        volumes.group_data_and_log();
        volumes.write(kLog, 1, true);
        const Range range{0, kBlockBytes};
        for (std::uint64_t i = 0; i < kBefore; ++i) {
            require(volumes.store.deallocate(kData, {&range, 1}), "deallocation");
        }
        volumes.snapshot_group();
        volumes.write(kData, 2, true);
    });
}

}  // namespace

std::vector<Directed> group_stories()
{
    return {
        {"group-is-one-order", {Rule::group_is_one_order}, group_is_one_order},
        {"flush-of-one-covers-the-group",
         {Rule::group_is_one_order},
         flush_of_one_covers_the_group},
        {"groups-are-apart", {}, groups_are_apart},
        {"ordered-flush-cuts-the-group",
         {Rule::ordered_flush_cuts_all},
         ordered_flush_cuts_the_group},
        {"snapshots-of-a-group-are-whole", {}, snapshots_of_a_group_are_whole},
        {"volumes-come-and-go", {}, volumes_come_and_go},
        {"what-left-stays-in-order", {}, what_left_stays_in_order},
    };
}

}  // namespace coppice::sim
