// What the parts of `dump` share. They read raw through the disk port and go on where the checker
// would stop: on a damaged image one wants to see what is there.
#pragma once

#include "format/check/image.h"
#include "format/check/node_reader.h"
#include "images/struct_fields.h"
#include "images/tool.h"

namespace coppice::images {

// An image whose header and superblocks were read as far as they can be.
class DumpedImage {
public:
    explicit DumpedImage(Disk& disk)
        : findings_(options_, report_), image_(disk, checker::Image::Demand::none)
    {
    }

    // Success: there is a superblock to go by. Otherwise copies() still has what was found.
    Status load() { return image_.load(findings_); }
    checker::Image& image() { return image_; }
    checker::Findings& findings() { return findings_; }

private:
    CheckOptions options_{.max_findings = 0};
    CheckReport report_;
    checker::Findings findings_;
    checker::Image image_;
};

// Nested objects as lines "name  value", nested ones further in; _bytes and _ns also for people.
std::string fields_text(const Json& json, std::string_view indent = "");
// One item on one line: "lba 0, block 8192, kind data, ...".
std::string line_text(const Json& json);

// Places where trees begin: ("catalog", pointer), ..., ("map:1 (volume 'main')", pointer).
struct TreeRoot {
    std::string name;  // as `dump tree` takes it
    std::string note;  // for people
    layout::TreeKind kind;
    checker::Pointer pointer;
};
std::vector<TreeRoot> tree_roots(checker::Image& image);

// Walks a tree as far as it can be read, each node once. `on_node` gets what is wrong with it, and
// the block even so when there is one.
struct DumpedNode {
    checker::Pointer pointer;
    std::uint64_t level = 0;
    unsigned count = 0;
    std::string problem = {};
    const checker::Block* block = nullptr;  // null: could not be read at all
};
void walk_raw(checker::Image& image, const TreeRoot& root,
              const std::function<void(const DumpedNode&)>& on_node);

}  // namespace coppice::images
