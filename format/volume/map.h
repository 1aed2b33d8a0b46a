// The map of one version: where the blocks of a volume are. Items never overlap.
#pragma once

#include <functional>
#include <set>
#include <vector>

#include "format/tree/tree.h"

namespace coppice {

// A run of blocks of a volume that one item maps, or a part of it.
struct MapRun {
    Lba lba;
    std::uint64_t length = 0;
    layout::MapKind kind = layout::MapKind::data;
    std::uint64_t block = 0;  // data: block of the image; range reference: lba in the version
    std::uint32_t detail = 0;
    Sequence birth;

    // The part of the run in [begin, end), which overlaps it.
    MapRun part(Lba begin, Lba end) const;
};

class Map {
public:
    explicit Map(NodeCache& cache) : tree_(cache, kMapShape) {}

    // Appends the runs of [lba, lba + length) in order, cut to that range.
    // `seen`, if given, says what was looked at. Ends early when `runs` holds `most`.
    struct Seen {
        std::uint64_t leaves = 0;
        Key first{~std::uint64_t{0}};  // of the first item
    };
    std::optional<Missing> collect(const NodeRef& root, Lba lba, std::uint64_t length,
                                   std::vector<MapRun>& runs, Seen* seen,
                                   std::size_t most = SIZE_MAX) const;
    // Is everything in memory to change [lba, lba + length)? Then `leaves` says how many are
    // touched.
    std::optional<Missing> prepare(const NodeRef& root, Lba lba, std::uint64_t length,
                                   std::uint64_t& leaves) const;
    // Goes over the items from `reached` to `end` as far as they are in memory; says what is
    // missing there.
    std::optional<Missing> advance(const NodeRef& root, Lba& reached, Lba end) const;
    Status load(const Missing& missing) { return tree_.load(missing); }

    // A leaf has room for at least so many further items before it is split again.
    static constexpr std::uint64_t kItemsPerNewLeaf = 12;
    // Nodes that `operations` that follow each other, each a `cut` and a `put`, may take after
    // `prepare` has counted the leaves of all of them: each leaf copied, and split where an item is
    // cut in two; paths to both ends. An operation inserts three items at most: its own, and what
    // is left on both sides of it.
    static std::uint64_t nodes_for(std::uint64_t leaves, std::uint64_t operations)
    {
        return 2 * leaves + 4 * kMaxNodesPerChange + operations * 3 / kItemsPerNewLeaf;
    }

    // The same bound for many ranges of one command, which share most of their paths. Of so many
    // nodes on all the paths each is copied and split, and a neighbour copied that it is joined
    // with; so are leaves between the two ends of a range. Further splits by what is inserted, in
    // leaves and above, and a new root.
    static std::uint64_t shared_nodes_for(std::uint64_t on_paths, std::uint64_t leaves_between,
                                          std::uint64_t operations)
    {
        return 3 * on_paths + 2 * leaves_between + 2 * divide_up(operations * 3, kItemsPerNewLeaf) +
               4 * kMaxNodesPerChange;
    }
    // Adds the nodes on the paths to both ends of a range; all of it is in memory.
    void note_paths(const NodeRef& root, Lba lba, std::uint64_t length,
                    std::set<BlockNo>& nodes) const;

    // Takes everything out of [lba, lba + length); `removed` sees each part that goes.
    void cut(NodeRef& root, Lba lba, std::uint64_t length, const Change& change,
             const std::function<void(const MapRun&)>& removed);
    // Maps a run where nothing is mapped; it is joined to the run before it where both continue
    // each other and neither is shared with the parent version.
    void put(NodeRef& root, const MapRun& run, const Change& change);
    // The two as one, if they are of a kind and the second continues the first, and neither is
    // shared with the parent version.
    static std::optional<MapRun> joined(const MapRun& first, const MapRun& second, Sequence parent);

    const TreeShape& shape() const { return tree_.shape(); }

private:
    void insert(NodeRef& root, const MapRun& run, const Change& change);
    std::vector<MapRun> overlapping(const NodeRef& root, Lba lba, std::uint64_t length) const;

    Tree tree_;
};

MapRun run_of(const layout::MapItem& item);

}  // namespace coppice
