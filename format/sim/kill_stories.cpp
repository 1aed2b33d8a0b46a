#include "format/sim/kill_stories.h"

#include "format/sim/story.h"

namespace coppice::sim {

namespace {

constexpr VolumeId kVolume{1};
constexpr std::uint64_t kVolumeBytes = 64 * kBlockBytes;
constexpr std::uint64_t kMillisecond = 1'000'000;

using Part = std::function<void(FiberTasks&, Store&)>;

void write_block(Store& store, std::uint64_t block, Stamp first)
{
    std::vector<std::byte> bytes(kBlockBytes);
    write_stamps(stamps_from(first, kBlockBytes / kSectorBytes), bytes);
    const iovec buffer{bytes.data(), bytes.size()};
    require(store.write(kVolume, block * kBlockBytes, {&buffer, 1}, false), "write");
}

// The process is killed when the last sync of `before` has been sent and has not returned, or
// behind its end. The next one opens the image, is promised by `after` that what it sees is
// durable, and the power fails: only what was synced is kept.
void kill_between(const StoreKind& kind, const Part& before, bool in_last_sync, bool replays,
                  const Part& after)
{
    const SparseBytes image = fresh_image(kind, 7, kVolumeBytes);
    const Recording first =
        record(kind, image, Model(), story_plan(), 1,
               [&](FiberTasks& tasks, Store& store, Model&, EventClock&) { before(tasks, store); });
    Event killed = first.ended;
    for (const LoggedRequest& request : first.log.requests) {
        if (in_last_sync && request.kind == IoRequest::Kind::sync) {
            killed = request.submitted;
        }
    }
    Random random(1);
    CutMaker killer(first.log);
    const HostFile host = killer.kill(killed, random);
    Contents seen;
    examine(kind, host.seen(), killed, [&](const Contents& contents) { seen = contents; });

    const Recording second = record(kind, host, Model(), story_plan(), 1,
                                    [&](FiberTasks& tasks, Store& store, Model&, EventClock&) {
                                        if ((store.info().replayed_operations != 0) != replays) {
                                            violation("the scenario shows nothing");
                                        }
                                        after(tasks, store);
                                    });
    CutMaker maker(second.log);
    examine(kind, maker.cut(second.ended, keep_none), second.ended, [&](const Contents& contents) {
        const Stamps& stamps = contents.volumes.at(kVolume.value).stamps;
        if (const Stamps& shown = seen.volumes.at(kVolume.value).stamps; stamps != shown) {
            violation("what an open showed and a flush covered is lost: " +
                      differences(shown, stamps, 0));
        }
    });
}

void flush_volume(FiberTasks&, Store& store) { require(store.flush(kVolume), "flush"); }

// A commit that no sync covered.
void flush_covers_what_recovery_showed(const StoreKind& kind)
{
    const Part before = [](FiberTasks& tasks, Store& store) {
        write_block(store, 0, 1);
        tasks.sleep_until(tasks.now_ns() + 10 * kMillisecond);
        store.tick();
        tasks.sleep_until(tasks.now_ns() + 100 * kMillisecond);
    };
    kill_between(kind, before, false, true, flush_volume);
}

// A superblock that no sync covered: nothing is replayed, and yet nothing is durable.
void what_was_found_is_synced(const StoreKind& kind)
{
    const Part before = [](FiberTasks&, Store& store) {
        write_block(store, 0, 1);
        require(store.checkpoint(), "checkpoint");
    };
    kill_between(kind, before, true, false, flush_volume);
    kill_between(kind, before, true, false,
                 [](FiberTasks&, Store& store) { require(store.checkpoint(), "checkpoint"); });
    kill_between(kind, before, true, false, [](FiberTasks& tasks, Store& store) {
        write_block(store, 1, 100);
        flush_volume(tasks, store);
        require(store.deallocate(kVolume, std::vector<Range>{{kBlockBytes, kBlockBytes}}),
                "deallocation");
        flush_volume(tasks, store);
    });
}

}  // namespace

std::vector<Directed> kill_stories()
{
    return {
        {"flush-covers-what-recovery-showed", {}, flush_covers_what_recovery_showed},
        {"what-was-found-is-synced", {Rule::found_is_synced}, what_was_found_is_synced},
    };
}

}  // namespace coppice::sim
