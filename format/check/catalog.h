// Volumes, versions and dead lists as the catalog tells them, whether they fit together, and what
// state each removed version is in.
//
// A version whose removal has begun (a range operation says so) is not simply there: part of what
// it alone owned may be free already. FORMAT.md section 3 makes two cases of it:
//   merging   one child: nothing needs its map any more. What it owned is what its child
//             still has, and what the child's lists still name. It is passed over: the child counts
//             as a child of the next version that stands (`effective_parent`), with both lists.
//   leaving   no child: its own items and nodes below the cursor of its range operation
//             are free, and its lists may be in part.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "format/check/tree_walk.h"

namespace coppice::checker {

struct VolumeState {
    layout::VolumeRecord record{};
    std::string name;  // as it is, without quotes
    bool snapshot() const { return (record.flags & layout::kVolumeSnapshot) != 0; }
};

// What is wrong with the consistency group of a volume; empty: nothing.
std::string judge_group(const layout::VolumeRecord& record);

struct VersionState {
    layout::VersionRecord record{};
    std::string name;           // for messages: "volume 'main'", "snapshot 'a' of volume 'main'"
    std::uint64_t lba_end = 0;  // of the volume that shows it
    std::vector<std::uint64_t> lists;
    std::vector<std::uint32_t> children;

    bool merging = false;
    bool leaving = false;
    std::uint64_t cursor = 0;  // leaving: everything below is dropped
    // The next version above that stands, or 0; and the lists of all versions down to this one.
    std::uint32_t effective_parent = 0;
    std::vector<std::uint64_t> effective_lists;

    bool head() const { return record.sequence == 0; }
    bool removed() const { return (record.flags & layout::kVersionRemoved) != 0; }
};

struct ListState {
    layout::ListRecord record{};
    std::uint32_t version = 0;  // that reaches it; 0: none
};

class Catalog {
public:
    // Reads and checks catalog and range operations. False: part of them could not be read.
    bool load(Image& image, TreeWalk& walk, Findings& findings);

    const std::map<std::uint32_t, VolumeState>& volumes() const { return volumes_; }
    const std::map<std::uint32_t, VersionState>& versions() const { return versions_; }
    const std::map<std::uint64_t, ListState>& lists() const { return lists_; }
    const VersionState* version(std::uint32_t id) const;

    // Versions whose maps are to be walked, parents before children.
    const std::vector<std::uint32_t>& order() const { return order_; }

    // The sequence at which the effective parent was taken; 0: there is none.
    std::uint64_t parent_sequence(const VersionState& version) const;
    // Nothing in this version's map is younger.
    std::uint64_t birth_limit(const VersionState& version) const;

private:
    void add_item(const layout::CatalogItem& item);
    void add_range_operation(const layout::RangeOperationItem& item);
    void bad_operation(std::uint64_t id, const std::string& text);
    void check_removal(const layout::RangeOperationItem& item, const VersionState& version);
    void bad(std::string text);
    void check_volumes();
    void check_volume(std::uint32_t id, const VolumeState& volume);
    void check_versions();
    void check_version(std::uint32_t id, VersionState& version);
    void name_versions();
    void follow_lists(std::uint32_t id, VersionState& version);
    void check_lists();
    void link_children();
    void find_order();
    void settle_removals();

    std::map<std::uint32_t, VolumeState> volumes_;
    std::map<std::uint32_t, VersionState> versions_;
    std::map<std::uint64_t, ListState> lists_;
    std::map<std::uint32_t, layout::RangeOperationItem> removals_;  // by version
    std::vector<std::uint32_t> order_;
    Image* image_ = nullptr;
    Findings* findings_ = nullptr;
    bool complete_ = true;
};

// The text of a name field, with what a terminal should not see replaced.
std::string name_text(const std::array<char, layout::kNameBytes>& name);

}  // namespace coppice::checker
