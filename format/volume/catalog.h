// Volumes, versions and dead lists in memory (FORMAT.md, "Who owns a block"). Small: all of it is
// held, and what changed is written into the catalog tree by each checkpoint.
#pragma once

#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "format/base/result.h"
#include "format/base/units.h"
#include "format/layout/layout.h"
#include "format/tree/node.h"

namespace coppice {

// One state of a volume. A head is written to; all others are frozen.
struct Version {
    VersionId id;
    VersionId parent;   // 0: none
    VolumeId volume;    // shown by this volume or snapshot; 0: by none
    Sequence sequence;  // when it was frozen; head: 0
    ListId first_list;
    std::uint64_t held_blocks = 0;
    bool head = false;
    bool held = false;  // kept by range references
    bool removed = false;
    unsigned reference_depth = 0;
    NodeRef map;
    std::uint64_t mapped_blocks = 0;
};

struct DeadList {
    ListId next;
    VersionId version;
};

// A version that is being removed in steps: part of it is given back already.
struct Removal {
    std::uint64_t operation = 0;  // number of its range operation
    Lba cursor;                   // of a version without a child: all below is dropped
};

struct Volume {
    VolumeId id;
    VersionId version;
    layout::VolumeRecord record{};

    std::string name() const;
    bool snapshot() const { return (record.flags & layout::kVolumeSnapshot) != 0; }
    bool read_only() const
    {
        return (record.flags & (layout::kVolumeSnapshot | layout::kVolumeReadOnly)) != 0;
    }
    ConsistencyGroup group() const { return ConsistencyGroup(record.consistency_group); }
    std::uint64_t size_bytes() const { return record.size_bytes; }
    std::uint64_t size_blocks() const { return divide_up(record.size_bytes, kBlockBytes); }
};

// An empty result says why the name cannot be: too long, empty, not printable.
std::string check_name(const std::string& name);
void set_name(layout::VolumeRecord& record, const std::string& name);

class Catalog {
public:
    std::map<VolumeId, Volume> volumes;
    std::map<VersionId, Version> versions;
    std::map<ListId, DeadList> lists;
    std::map<VersionId, Removal> removals;  // under way
    std::uint64_t next_volume = 1;
    std::uint64_t next_version = 1;
    std::uint64_t next_list = 1;
    std::uint64_t next_operation = 1;

    Volume* volume(VolumeId id);
    Version* version(VersionId id);
    const Version* version(VersionId id) const;
    Version& head_of(const Volume& volume) { return versions.at(volume.version); }

    // Sequence of the next version above that stands; 0 if there is none. One that is being removed
    // stands no more: what was born behind the one above that belongs to the version alone.
    Sequence parent_sequence(const Version& version) const;
    std::vector<VersionId> children(VersionId id) const;

    Version& add_version(VersionId parent, VolumeId volume, const NodeRef& map);

    // What belongs into the catalog tree, in order of keys.
    struct Item {
        Key key;
        layout::CatalogItem bytes;
    };
    std::vector<Item> items() const;
    std::size_t item_count() const { return volumes.size() + versions.size() + lists.size(); }
    // Takes one item of the catalog tree in; an Error names what cannot be.
    // Can there be such a volume: its size, name, LBA size, flush mode and group?
    static bool possible(const Volume& volume);
    Status add_item(const layout::CatalogItem& item);
    // After all items: do they fit together?
    Status verify() const;
};

}  // namespace coppice
