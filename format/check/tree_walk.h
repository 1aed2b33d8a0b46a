// The nodes of all trees, and a walk of one tree of the image item by item.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>

#include "format/check/node_reader.h"
#include "format/check/report.h"
#include "format/check/space_count.h"

namespace coppice::checker {

// Which tree a message is about.
struct TreeName {
    const TreeShape* shape = nullptr;
    std::string tree;           // "map of volume 'main'", "checksums"
    std::string volume = {};    // of a map: the volume or snapshot
    std::uint64_t lba_end = 0;  // of a map: end of the volume, so that a lost range has an end
};

// "lba 10 to 99 of volume 'main'" or "keys (1, 2) to (3, 4)", for a message.
std::string range_text(const TreeName& name, const NodePlace& place);

// A finding about a node, with place and lost range filled in.
Finding node_finding(Severity severity, FindingKind kind, const TreeName& name,
                     const Pointer& pointer, const NodePlace& place, std::string_view what,
                     std::string_view consequence);

// Every node of the image once: who has it. The second owner of a node is a finding; so walks of
// broken trees end, and no subtree is counted twice.
class NodeRegistry {
public:
    NodeRegistry(SpaceCount& space, Findings& findings) : space_(space), findings_(findings) {}

    // False: the node already belongs to a tree.
    bool claim(const Pointer& pointer, const TreeName& name, const NodePlace& place);
    bool known(std::uint64_t block) const { return owners_.contains(block); }

    // Names are kept once for each tree.
    std::uint32_t name_index(const std::string& tree);

private:
    bool claim_block(std::uint64_t block, std::uint32_t owner, const Pointer& pointer,
                     const TreeName& name, const NodePlace& place);

    SpaceCount& space_;
    Findings& findings_;
    std::unordered_map<std::uint64_t, std::uint32_t> owners_;
    std::unordered_map<std::string, std::uint32_t> name_indices_;
    std::vector<std::string> names_;
};

// Reports what a read of a node brought to light; true if there is a node to go on with.
bool report_read(const NodeRead& read, const TreeName& name, const Pointer& pointer,
                 const NodePlace& place, Findings& findings);

class TreeWalk {
public:
    TreeWalk(Image& image, NodeReader& reader, NodeRegistry& registry, Findings& findings)
        : image_(image), reader_(reader), registry_(registry), findings_(findings)
    {
    }

    using OnItem = std::function<void(const NodeView& leaf, unsigned index)>;

    // Visits all items in ascending order of keys. False: something below could not be read.
    bool walk(const TreeName& name, const Pointer& root, const OnItem& on_item);

private:
    struct Frame {
        NodeView node;
        NodePlace place;
        unsigned next = 0;
    };

    bool enter(const TreeName& name, const Pointer& pointer, const NodePlace& place);

    Image& image_;
    NodeReader& reader_;
    NodeRegistry& registry_;
    Findings& findings_;
    std::vector<Frame> stack_;
};

}  // namespace coppice::checker
