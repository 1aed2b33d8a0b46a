// Writes that fall into many pieces because free space is scattered: the nodes set aside for them
// suffice, and what they wrote is there.
#include "format/layout/layout.h"
#include "format/tests/slow_disk_store.h"

#include <cstring>
#include <map>
#include <random>

#include "format/volume/map.h"

using namespace coppice;

namespace {

class CountingSpace : public NodeSpace {
public:
    BlockNo take_node(Generation) override
    {
        ++taken;
        return BlockNo(next++);
    }
    void return_node(BlockNo, Generation) override {}
    void drop_node(ListId, BlockNo, Sequence, Generation) override {}

    std::uint64_t next = 1;
    std::uint64_t taken = 0;
};

// One map under commands of many pieces. Each command may find all nodes shared with a snapshot or
// written by a checkpoint, so that it has to copy them.
class FragmentedMap {
public:
    explicit FragmentedMap(unsigned seed) : random_(seed), disk_(tasks_) {}

    void run(int commands)
    {
        tasks_.run([&] {
            for (int i = 0; i < commands; ++i) {
                command();
                if (random_() % 2 == 0) {
                    REQUIRE(cache_.write_dirty(generation_, true));
                    cache_.release_kept(generation_);
                    generation_ = generation_ + 1;
                }
                parent_ = random_() % 3 == 0 ? Sequence(sequence_) : parent_;
            }
        });
    }

private:
    static constexpr std::uint64_t kBlocks = 60000;

    void command()
    {
        const std::uint64_t longest = random_() % 4 == 0 ? 20000 : 300;
        const std::uint64_t length = 1 + random_() % longest;
        const std::uint64_t lba = random_() % (kBlocks - length);
        // Pieces of one length, or of lengths up to it; as writes, or with gaps as deallocations.
        const std::uint64_t piece = 1 + random_() % (random_() % 3 == 0 ? 64 : 2);
        const bool even = random_() % 2 == 0;
        const std::uint64_t erased = random_() % 4 == 0 ? 50 : 0;  // of a hundred
        std::vector<std::uint64_t> pieces;
        for (std::uint64_t at = 0; at < length; at += pieces.back()) {
            const std::uint64_t wanted = even ? piece : 1 + random_() % piece;
            pieces.push_back(std::min(wanted, length - at));
        }
        CacheUse use(cache_);
        std::uint64_t leaves = 0;
        while (auto missing = map_.prepare(root_, Lba(lba), length, leaves)) {
            REQUIRE(map_.load(*missing));
        }
        const std::uint64_t reserved = Map::nodes_for(leaves, pieces.size());
        space_.taken = 0;
        std::uint64_t at = lba;
        for (const std::uint64_t count : pieces) {
            const Change change{space_, generation_, Sequence(++sequence_), parent_, ListId(1), 1};
            map_.cut(root_, Lba(at), count, change, [](const MapRun&) {});
            if (random_() % 100 >= erased) {
                block_ += count + 1;  // never behind the one before: nothing is joined
                map_.put(root_,
                         {Lba(at), count, layout::MapKind::data, block_, 0, Sequence(sequence_)},
                         change);
            }
            at += count;
        }
        INFO("lba " << lba << " length " << length << " pieces " << pieces.size() << " leaves "
                    << leaves);
        REQUIRE(space_.taken <= reserved);
    }

    std::mt19937 random_;
    FiberTasks tasks_;
    MemoryDisk disk_;
    NodeCache cache_{disk_, 7, 1 << 26};
    Map map_{cache_};
    CountingSpace space_;
    NodeRef root_;
    Generation generation_{1};
    Sequence parent_;
    std::uint64_t sequence_ = 0;
    std::uint64_t block_ = 1;
};

// A store whose free space is kept scattered, against a stamp for each block.
class FragmentedStore {
public:
    explicit FragmentedStore(unsigned seed) : random_(seed) {}

    void run(int steps)
    {
        bench_.run([&] {
            OpenOptions options;
            options.punch = false;
            options.inline_clone_items = random_() % 2 == 0 ? 64 : 100000;
            bench_.create(kBlocks * kBlockBytes, options, 32 * kMiB);
            model_[1] = Stamps(kBlocks);
            for (std::uint64_t lba = 0; lba < kBlocks; lba += kBlocks / 4) {
                write(lba, kBlocks / 4);
            }
            for (int i = 0; i < steps; ++i) {
                step();
            }
            for (const auto& [volume, stamps] : model_) {
                verify(VolumeId(volume), stamps);
            }
            require(bench_.store->settle());
            require(bench_.store->close());
        });
        bench_.expect_clean();
    }

private:
    using Stamps = std::vector<std::uint32_t>;
    static constexpr std::uint64_t kBlocks = 10000;

    static void require(const Status& status)
    {
        INFO(text_of(status));
        REQUIRE(status.has_value());
    }

    void step()
    {
        const std::uint64_t what = random_() % 100;
        const std::uint64_t length = 1 + random_() % (random_() % 2 == 0 ? 4000 : 40);
        const std::uint64_t lba = random_() % (kBlocks - length);
        if (what < 35) {
            write(lba, length);
        } else if (what < 65) {
            scatter(lba, length);
            require(bench_.store->checkpoint());
        } else if (what < 75) {
            clone(lba, random_() % (kBlocks - length), length);
        } else if (what < 85 && model_.size() < 5) {
            NewSnapshot snapshot;
            snapshot.name = std::to_string(++names_);
            const auto made = bench_.store->snapshot(kVolume, snapshot);
            REQUIRE(made);
            model_[made->value] = model_[1];
        } else if (what < 95 && model_.size() > 1) {
            auto found = std::next(model_.begin(), 1 + long(random_() % (model_.size() - 1)));
            require(bench_.store->remove(VolumeId(found->first)));
            model_.erase(found);
        } else if (what < 98) {
            require(bench_.store->flush(kVolume));
            bench_.store->abandon();
            bench_.open();
        }
    }

    void write(std::uint64_t lba, std::uint64_t length)
    {
        std::vector<std::uint32_t> words(length * kBlockBytes / 4);
        for (std::uint64_t i = 0; i < length; ++i) {
            model_[1][lba + i] = ++stamp_;
            std::fill_n(words.begin() + long(i * kBlockBytes / 4), kBlockBytes / 4, stamp_);
        }
        const iovec buffer{words.data(), length * kBlockBytes};
        require(bench_.store->write(kVolume, lba * kBlockBytes, {&buffer, 1}, false));
    }

    // Frees every second or third block.
    void scatter(std::uint64_t lba, std::uint64_t length)
    {
        std::vector<Range> ranges;
        const std::uint64_t stride = 2 + random_() % 2;
        for (std::uint64_t i = 0; i < length; i += stride) {
            ranges.push_back({(lba + i) * kBlockBytes, kBlockBytes});
            model_[1][lba + i] = 0;
        }
        require(bench_.store->deallocate(kVolume, ranges));
    }

    void clone(std::uint64_t from, std::uint64_t to, std::uint64_t length)
    {
        const CloneSource source{kVolume, {from * kBlockBytes, length * kBlockBytes}};
        require(bench_.store->clone(kVolume, to * kBlockBytes, {&source, 1}));
        const Stamps old(model_[1].begin() + long(from), model_[1].begin() + long(from + length));
        std::copy(old.begin(), old.end(), model_[1].begin() + long(to));
    }

    void verify(VolumeId volume, const Stamps& stamps)
    {
        INFO("volume " << volume.value);
        const Bytes bytes = bench_.read(volume, 0, kBlocks * kBlockBytes);
        for (std::uint64_t i = 0; i < kBlocks; ++i) {
            std::uint32_t found = 0;
            std::memcpy(&found, bytes.data() + i * kBlockBytes, sizeof(found));
            if (found != stamps[i]) {
                FAIL("block " << i << " has " << found << ", not " << stamps[i]);
            }
        }
    }

    static constexpr VolumeId kVolume{1};
    std::mt19937_64 random_;
    SlowDiskStore bench_;
    std::map<std::uint64_t, Stamps> model_;
    std::uint32_t stamp_ = 0;
    int names_ = 0;
};

}  // namespace

TEST_CASE("a command of many pieces takes no more nodes than were set aside")
{
    for (unsigned seed = 1; seed <= 40; ++seed) {
        INFO("seed " << seed);
        FragmentedMap(seed).run(60);
    }
}

TEST_CASE("large writes into every second block are whole")
{
    SlowDiskStore bench;
    bench.run([&] {
        constexpr VolumeId volume(1);
        constexpr std::uint64_t kGroup = layout::kGroupBlocks;
        OpenOptions options;
        options.punch = false;
        bench.create(2 * kGroup * kBlockBytes, options, 32 * kMiB);
        bench.write(volume, 0, kGroup * kBlockBytes, 1);
        bench.write(volume, kGroup * kBlockBytes, kGroup * kBlockBytes, 2);
        std::vector<Range> ranges;
        for (std::uint64_t block = 0; block < 2 * kGroup; block += 2) {
            ranges.push_back({block * kBlockBytes, kBlockBytes});
        }
        REQUIRE(bench.store->deallocate(volume, ranges));
        REQUIRE(bench.store->checkpoint());
        const std::uint64_t image = bench.store->info().space.image_bytes;
        REQUIRE(bench.store->info().space.free_bytes >= kGroup * kBlockBytes);
        // 8,192 pieces; all of them lie where something was freed.
        bench.write(volume, 0, kGroup * kBlockBytes, 3);
        CHECK(bench.store->info().space.image_bytes == image);
        REQUIRE(bench.store->flush(volume));
        bench.store->abandon();
        bench.open(options);
        CHECK(bench.holds(volume, 0, kGroup * kBlockBytes, 3));
        CHECK(bench.holds(volume, (kGroup + 1) * kBlockBytes, kBlockBytes, 2));
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}

TEST_CASE("scattered space under writes, clones and snapshots of many pieces")
{
    for (unsigned seed = 1; seed <= 4; ++seed) {
        INFO("seed " << seed);
        FragmentedStore(seed).run(80);
    }
}
