// The store against byte arrays: random commands with a printed seed, snapshots, clones, rollback,
// reopening with and without a clean close.
#include "coppice-catch.h"

#include <map>
#include <random>

#include "bench/stamp_disk.h"
#include "format/disk/fiber_tasks.h"
#include "format/disk/memory_disk.h"
#include "format/volume/store.h"

using namespace coppice;

namespace {

constexpr std::uint64_t kVolumeBytes = 2 << 20;
using Bytes = std::vector<std::uint8_t>;

iovec vector_of(Bytes& bytes) { return {bytes.data(), bytes.size()}; }

class Runner {
public:
    explicit Runner(unsigned seed) : random_(seed), disk_(tasks_) {}

    void run(int steps)
    {
        tasks_.run([&] {
            CreateOptions create;
            create.uuid = random_uuid();
            create.volume_bytes = kVolumeBytes;
            create.lba_shift = 9;
            check(Store::create(disk_, create));
            open();
            model_[1] = Bytes(kVolumeBytes);
            for (int i = 0; i < steps; ++i) {
                step();
            }
            verify_all();
            check(store_->settle());
            check(store_->close());
        });
    }

private:
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
        return *result;
    }

    void open()
    {
        store_.reset();
        auto opened = Store::open(disk_, {});
        INFO((opened ? "" : opened.error().text));
        REQUIRE(opened.has_value());
        store_ = std::move(*opened);
    }

    std::uint64_t pick(std::uint64_t below) { return random_() % below; }

    std::pair<std::uint64_t, std::uint64_t> range(bool whole_blocks)
    {
        const std::uint64_t unit = whole_blocks ? 4096 : 512;
        const std::uint64_t length = (1 + pick(pick(8) == 0 ? 128 : 8)) * unit;
        const std::uint64_t offset = pick((kVolumeBytes - length) / unit + 1) * unit;
        return {offset, length};
    }

    VolumeId any_volume(bool writable)
    {
        std::vector<std::uint64_t> ids;
        for (const auto& [id, bytes] : model_) {
            if (!writable || snapshots_.count(id) == 0) {
                ids.push_back(id);
            }
        }
        return VolumeId(ids[pick(ids.size())]);
    }

    void step()
    {
        const std::uint64_t what = pick(100);
        if (what < 40) {
            write();
        } else if (what < 55) {
            verify_part();
        } else if (what < 65) {
            deallocate();
        } else if (what < 80) {
            clone();
        } else if (what < 84) {
            check(store_->flush(any_volume(true)));
        } else if (what < 87) {
            check(store_->checkpoint());
        } else if (what < 90 && model_.size() < 9) {
            snapshot();
        } else if (what < 92 && !snapshots_.empty()) {
            remove_snapshot();
        } else if (what < 94 && !snapshots_.empty() && model_.size() < 9) {
            clone_volume();
        } else if (what < 95 && !snapshots_.empty()) {
            rollback();
        } else if (what < 97) {
            check(store_->close());
            open();
        } else if (what == 97) {
            // As a crash that loses nothing of what was written: flushed data come back by replay.
            for (const auto& [id, bytes] : model_) {
                if (snapshots_.count(id) == 0) {
                    check(store_->flush(VolumeId(id)));
                }
            }
            store_->abandon();
            open();
            verify_all();
        }
    }

    void write()
    {
        const VolumeId volume = any_volume(true);
        const auto [offset, length] = range(pick(2) == 0);
        Bytes bytes(length);
        for (auto& byte : bytes) {
            byte = static_cast<std::uint8_t>(random_());
        }
        const iovec buffer = vector_of(bytes);
        check(store_->write(volume, offset, {&buffer, 1}, pick(10) == 0));
        std::copy(bytes.begin(), bytes.end(), model_[volume.value].begin() + long(offset));
    }

    void deallocate()
    {
        const VolumeId volume = any_volume(true);
        std::vector<Range> ranges(1 + pick(3));
        for (Range& r : ranges) {
            std::tie(r.offset_bytes, r.length_bytes) = range(pick(2) == 0);
        }
        if (ranges.size() == 1 && pick(2) == 0) {
            check(store_->write_zeroes(volume, ranges[0]));
        } else {
            check(store_->deallocate(volume, ranges));
        }
        for (const Range& r : ranges) {
            auto begin = model_[volume.value].begin() + long(r.offset_bytes);
            std::fill(begin, begin + long(r.length_bytes), 0);
        }
    }

    void clone()
    {
        const VolumeId to = any_volume(true);
        const VolumeId from = any_volume(false);
        auto [source, length] = range(pick(3) != 0);
        if (pick(5) == 0) {
            length = kVolumeBytes / 2;
            source = pick(kVolumeBytes / 2 / 4096) * 4096;
        }
        const std::uint64_t unit = length % 4096 == 0 && source % 4096 == 0 ? 4096 : 512;
        const std::uint64_t destination = pick((kVolumeBytes - length) / unit + 1) * unit;
        const CloneSource clone{from, {source, length}};
        check(store_->clone(to, destination, {&clone, 1}));
        const Bytes& old = model_[from.value];
        const Bytes copy(old.begin() + long(source), old.begin() + long(source + length));
        std::copy(copy.begin(), copy.end(), model_[to.value].begin() + long(destination));
    }

    void snapshot()
    {
        const VolumeId volume = any_volume(true);
        NewSnapshot snapshot;
        snapshot.name = "s" + std::to_string(++names_);
        const auto id = value(store_->snapshot(volume, snapshot));
        model_[id.value] = model_[volume.value];
        snapshots_[id.value] = volume.value;
    }

    void remove_snapshot()
    {
        auto found = snapshots_.begin();
        std::advance(found, long(pick(snapshots_.size())));
        check(store_->remove(VolumeId(found->first)));
        model_.erase(found->first);
        snapshots_.erase(found);
    }

    void clone_volume()
    {
        auto found = snapshots_.begin();
        std::advance(found, long(pick(snapshots_.size())));
        const auto id = value(
            store_->clone_volume(VolumeId(found->first), "c" + std::to_string(++names_), false));
        model_[id.value] = model_[found->first];
    }

    void rollback()
    {
        auto found = snapshots_.begin();
        std::advance(found, long(pick(snapshots_.size())));
        check(store_->rollback(VolumeId(found->second), VolumeId(found->first)));
        model_[found->second] = model_[found->first];
    }

    void verify(VolumeId volume, std::uint64_t offset, std::uint64_t length)
    {
        Bytes bytes(length, 0xEE);
        const iovec buffer = vector_of(bytes);
        check(store_->read(volume, offset, {&buffer, 1}));
        const Bytes& expected = model_[volume.value];
        INFO("volume " << volume.value << " offset " << offset << " length " << length);
        REQUIRE(std::equal(bytes.begin(), bytes.end(), expected.begin() + long(offset)));
    }

    void verify_part()
    {
        const auto [offset, length] = range(pick(2) == 0);
        verify(any_volume(false), offset, length);
    }

    void verify_all()
    {
        for (const auto& [id, bytes] : model_) {
            verify(VolumeId(id), 0, kVolumeBytes);
        }
    }

    std::mt19937_64 random_;
    FiberTasks tasks_;
    MemoryDisk disk_;
    std::unique_ptr<Store> store_;
    std::map<std::uint64_t, Bytes> model_;
    std::map<std::uint64_t, std::uint64_t> snapshots_;
    int names_ = 0;
};

}  // namespace

TEST_CASE("settle ends while somebody goes on writing")
{
    FiberTasks tasks;
    MemoryDisk disk(tasks);
    // A sync takes long enough for others to write meanwhile.
    disk.set_fault_hook([&tasks](const IoRequest& request) {
        if (request.kind == IoRequest::Kind::sync) {
            tasks.yield();
            tasks.yield();
        }
        return 0;
    });
    constexpr int kMostWrites = 20000;
    int written = 0;
    int written_at_settle = 0;
    tasks.run([&] {
        CreateOptions create;
        create.volume_bytes = kVolumeBytes;
        REQUIRE(Store::create(disk, create));
        auto store = Store::open(disk, {});
        REQUIRE(store);
        bool stop = false;
        bool stopped = false;
        tasks.spawn([&] {
            Bytes block(4096, 1);
            const iovec buffer = vector_of(block);
            while (!stop && written < kMostWrites) {
                const auto at = static_cast<std::uint64_t>(written++ % 512) * 4096;
                REQUIRE((*store)->write(VolumeId(1), at, {&buffer, 1}, false));
                tasks.yield();
            }
            stopped = true;
        });
        while (written < 100) {
            tasks.yield();
        }
        REQUIRE((*store)->settle());
        written_at_settle = written;
        stop = true;
        while (!stopped) {
            tasks.yield();
        }
        REQUIRE((*store)->close());
    });
    // The writer was at work all the while, and had not come to its end.
    CHECK(written_at_settle > 100);
    CHECK(written_at_settle < kMostWrites);
}

TEST_CASE("an ordered flush syncs nothing, the next periodic commit does")
{
    FiberTasks tasks;
    MemoryDisk disk(tasks);
    unsigned syncs = 0;
    disk.set_fault_hook([&](const IoRequest& request) {
        syncs += request.kind == IoRequest::Kind::sync ? 1U : 0U;
        return 0;
    });
    tasks.run([&] {
        CreateOptions create;
        create.uuid = random_uuid();
        create.volume_bytes = kVolumeBytes;
        create.flush = FlushMode::ordered;
        REQUIRE(Store::create(disk, create));
        OpenOptions options;
        options.commit_interval_ns = 0;
        auto store = std::move(*Store::open(disk, options));
        const VolumeId volume(1);
        Bytes bytes(4096, 7);
        const iovec buffer = vector_of(bytes);
        const auto write = [&](bool fua) { REQUIRE(store->write(volume, 0, {&buffer, 1}, fua)); };
        const auto background = [&] {
            store->tick();
            for (int i = 0; i < 100; ++i) {
                tasks.yield();
            }
        };
        REQUIRE(store->volume(volume)->flush == FlushMode::ordered);
        write(false);  // the first one closes recovery
        syncs = 0;
        write(true);
        REQUIRE(store->flush(volume));
        CHECK(syncs == 0);
        background();
        CHECK(syncs == 1);
        // Nobody flushed: what is pending reaches the journal, no more.
        write(false);
        background();
        CHECK(syncs == 1);

        write(true);
        REQUIRE(store->set_flush_mode(volume, FlushMode::durable));
        CHECK(syncs == 2);  // what came before is durable
        write(true);
        CHECK(syncs == 3);
        REQUIRE(store->close());
    });
}

TEST_CASE("an image does not grow as its volume is written over in large pieces")
{
    constexpr std::uint64_t kMiB = 1 << 20;
    constexpr std::uint64_t kLargeVolume = 64 * kMiB;
    constexpr std::uint64_t kPasses = 24;
    FiberTasks tasks;
    bench::StampDisk disk(tasks);  // keeps a block of one repeated word as that word
    tasks.run([&] {
        CreateOptions create;
        create.uuid = random_uuid();
        create.volume_bytes = kLargeVolume;
        REQUIRE(Store::create(disk, create));
        auto store = std::move(*Store::open(disk, OpenOptions()));
        Bytes bytes(kMiB, 7);
        const iovec buffer = vector_of(bytes);
        for (std::uint64_t i = 0; i < kPasses * kLargeVolume / kMiB; ++i) {
            REQUIRE(store->write(VolumeId(1), i * kMiB % kLargeVolume, {&buffer, 1}, false));
            tasks.yield();  // checkpoints go on beside the writes
        }
        // What waits for a checkpoint is 256 MiB, and what comes while it is made.
        CHECK(store->info().space.image_bytes < kLargeVolume + 768 * kMiB);
        REQUIRE(store->close());
    });
}

TEST_CASE("a volume holds what a byte array holds")
{
    for (unsigned seed = 1; seed <= 12; ++seed) {
        INFO("seed " << seed);
        Runner(seed).run(600);
    }
}
