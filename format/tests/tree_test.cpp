// The tree against std::map: random changes with a printed seed, old roots that must not change,
// everything written and read back.
#include "coppice-catch.h"

#include <map>
#include <random>

#include "format/disk/fiber_tasks.h"
#include "format/disk/memory_disk.h"
#include "format/tree/tree.h"

using namespace coppice;

namespace {

// Hands out blocks one after the other and counts what is given up.
class PlainSpace : public NodeSpace {
public:
    BlockNo take_node(Generation) override { return BlockNo(next++); }
    void return_node(BlockNo, Generation) override { ++returned; }
    void drop_node(ListId, BlockNo, Sequence, Generation) override { ++dropped; }

    std::uint64_t next = 1;
    std::uint64_t returned = 0;
    std::uint64_t dropped = 0;
};

using Contents = std::map<std::uint64_t, std::uint64_t>;

Contents contents_of(NodeCache& cache, const TreeShape& shape, const NodeRef& root)
{
    for (;;) {
        CacheUse use(cache);
        Contents result;
        Cursor cursor(cache, shape, root);
        auto missing = cursor.seek(Key(0));
        while (!missing && cursor.valid()) {
            const auto item = cursor.get<layout::ReferenceItem>();
            result[item.block] = item.length;
            missing = cursor.next();
        }
        if (!missing) {
            return result;
        }
        REQUIRE(cache.load(shape, missing->node, missing->level));
    }
}

void run(unsigned seed, std::uint64_t keys, int steps)
{
    INFO("seed " << seed);
    std::mt19937 random(seed);
    FiberTasks tasks;
    MemoryDisk disk(tasks);
    tasks.run([&] {
        NodeCache cache(disk, 7, 64 * kBlockBytes);
        const TreeShape& shape = kReferenceShape;
        Tree tree(cache, shape);
        PlainSpace space;
        NodeRef root;
        Contents model;
        Generation generation(1);
        std::uint64_t sequence = 0;
        NodeRef held;
        Contents held_model;
        for (int step = 0; step < steps; ++step) {
            const std::uint64_t key = random() % keys;
            const Change change{space, generation, Sequence(++sequence), Sequence(), ListId()};
            CacheUse use(cache);
            while (auto missing = tree.prepare(root, Key(key), Key(key))) {
                REQUIRE(tree.load(*missing));
            }
            // Long stretches in which the tree grows, and long ones in which it shrinks.
            if ((step / 3000) % 2 == 0 ? random() % 4 != 0 : random() % 4 == 0) {
                layout::ReferenceItem item{};
                item.block = key;
                item.length = static_cast<std::uint32_t>(step);
                tree.insert(root, reinterpret_cast<const std::byte*>(&item), change);
                model[key] = static_cast<std::uint64_t>(step);
            } else {
                tree.erase(root, Key(key), change);
                model.erase(key);
            }
            if (random() % 500 == 0) {
                REQUIRE(cache.write_dirty(generation, false));
                cache.release_kept(generation);
                if (root && root.checksum == 0) {
                    root.checksum = cache.find(root.block)->checksum();
                }
                generation = generation + 1;
                if (random() % 4 == 0) {
                    held = root;
                    held_model = model;
                }
                REQUIRE(contents_of(cache, shape, held) == held_model);
            }
        }
        REQUIRE(contents_of(cache, shape, root) == model);
    });
}

}  // namespace

TEST_CASE("a tree holds what std::map holds")
{
    for (unsigned seed = 1; seed <= 6; ++seed) {
        run(seed, 200000, 20000);
        run(seed, 300, 12000);
    }
}

TEST_CASE("items in ascending order fill the leaves")
{
    FiberTasks tasks;
    MemoryDisk disk(tasks);
    tasks.run([&] {
        NodeCache cache(disk, 7, 1 << 24);
        Tree tree(cache, kReferenceShape);
        PlainSpace space;
        NodeRef root;
        CacheUse use(cache);
        for (std::uint64_t key = 0; key < 20000; ++key) {
            layout::ReferenceItem item{};
            item.block = key;
            item.length = 1;
            tree.insert(root, reinterpret_cast<const std::byte*>(&item),
                        {space, Generation(1), Sequence(key + 1), Sequence(), ListId()});
        }
        const std::uint64_t least = divide_up(20000, kReferenceShape.capacity(0));
        REQUIRE(space.next < least * 13 / 10);
    });
}
