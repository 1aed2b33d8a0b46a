// coppice dump trees|tree
#include <algorithm>
#include <fmt/format.h>
#include <unordered_set>

#include "format/base/checksum.h"
#include "images/dump.h"
#include "images/text.h"

namespace coppice::images {

namespace {

using checker::Block;
using checker::copy_out;
using checker::Image;
using checker::Pointer;

std::string judge(const Image& image, const Block& block, const TreeRoot& root,
                  const Pointer& pointer)
{
    const auto header = copy_out<layout::NodeHeader>(block.bytes.data());
    if (header.magic != layout::kNodeMagic) {
        return "no node's magic";
    }
    if (header.checksum != metadata_checksum(block.bytes, image.seed())) {
        return "wrong checksum";
    }
    if (header.kind != static_cast<std::uint8_t>(root.kind)) {
        return fmt::format("a node of tree {}", tree_kind_name(header.kind));
    }
    if (header.checksum != pointer.checksum || header.block != pointer.block ||
        header.birth != pointer.birth) {
        return "not the node that the pointer means";
    }
    return {};
}

}  // namespace

void walk_raw(Image& image, const TreeRoot& root,
              const std::function<void(const DumpedNode&)>& on_node)
{
    struct Entry {
        Pointer pointer;
        std::uint64_t level;
    };
    const checker::TreeShape& shape = checker::shape_of(root.kind);
    std::vector<Entry> stack;
    std::unordered_set<std::uint64_t> seen;  // a broken tree may lead back to itself
    if (root.pointer.block != 0) {
        stack.push_back({root.pointer, checker::kMaxLevel + 1});
    }
    auto block = std::make_unique<Block>();
    while (!stack.empty()) {
        const Entry entry = stack.back();
        stack.pop_back();
        DumpedNode node{.pointer = entry.pointer};
        if (!seen.insert(entry.pointer.block).second) {
            node.problem = "reached a second time";
            on_node(node);
            continue;
        }
        if (auto status = image.read_block(entry.pointer.block, *block); !status) {
            node.problem = status.error().text;
            on_node(node);
            continue;
        }
        const auto header = copy_out<layout::NodeHeader>(block->bytes.data());
        const std::size_t stride = header.level == 0 ? shape.item_bytes : shape.inner_bytes();
        node.block = block.get();
        node.level = header.level;
        node.problem = judge(image, *block, root, entry.pointer);
        if (node.problem.empty() && header.level >= entry.level) {
            node.problem = fmt::format("level {} below level {}", header.level, entry.level);
        }
        node.count = static_cast<unsigned>(
            std::min<std::size_t>(header.count, layout::kNodeBodyBytes / stride));
        on_node(node);
        if (!node.problem.empty() || header.level == 0) {
            continue;
        }
        for (unsigned i = node.count; i > 0; --i) {  // the first child comes off first
            const std::byte* item = block->bytes.data() + sizeof(header) + (i - 1) * stride;
            stack.push_back(
                {checker::decode(copy_out<layout::NodePointer>(item + shape.key_words * 8)),
                 header.level});
        }
    }
}

std::vector<TreeRoot> tree_roots(Image& image)
{
    const layout::Superblock& superblock = image.superblock();
    std::vector<TreeRoot> roots = {
        {"catalog", "", layout::TreeKind::catalog, checker::decode(superblock.catalog)},
        {"checksums", "", layout::TreeKind::checksums, checker::decode(superblock.checksums)},
        {"references", "", layout::TreeKind::references, checker::decode(superblock.references)},
        {"dead", "", layout::TreeKind::dead, checker::decode(superblock.dead)},
        {"free-space", "", layout::TreeKind::free_space, checker::decode(superblock.free_space)},
        {"range-operations", "", layout::TreeKind::range_operations,
         checker::decode(superblock.range_operations)},
    };
    std::map<std::uint64_t, std::string> names;
    std::vector<TreeRoot> maps;
    walk_raw(image, roots[0], [&](const DumpedNode& node) {
        if (!node.problem.empty() || node.level != 0) {
            return;
        }
        for (unsigned i = 0; i < node.count; ++i) {
            const auto item = copy_out<layout::CatalogItem>(node.block->bytes.data() +
                                                            sizeof(layout::NodeHeader) +
                                                            i * sizeof(layout::CatalogItem));
            const auto* value = reinterpret_cast<const std::byte*>(item.value.data());
            if (item.kind == static_cast<std::uint64_t>(layout::CatalogKind::volume)) {
                const auto record = copy_out<layout::VolumeRecord>(value);
                const bool snapshot = (record.flags & layout::kVolumeSnapshot) != 0;
                names[record.version] =
                    fmt::format("{} '{}'", snapshot ? "snapshot" : "volume",
                                std::string(record.name.data(),
                                            strnlen(record.name.data(), record.name.size())));
            } else if (item.kind == static_cast<std::uint64_t>(layout::CatalogKind::version)) {
                const auto record = copy_out<layout::VersionRecord>(value);
                const auto name = names.find(item.id);
                maps.push_back({fmt::format("map:{}", item.id.get()),
                                name == names.end() ? "no volume" : name->second,
                                layout::TreeKind::map, checker::decode(record.map)});
            }
        }
    });
    roots.insert(roots.end(), maps.begin(), maps.end());
    return roots;
}

int run_dump_trees(const DumpCommand& command)
{
    return with_disk(command, true, [&](FileDisk& disk) -> Result<int> {
        DumpedImage dumped(disk);
        COPPICE_TRY(dumped.load());
        using Align = Table::Align;
        Table table({{"TREE"},
                     {"ROOT", Align::right},
                     {"LEVELS", Align::right},
                     {"NODES", Align::right},
                     {"ITEMS", Align::right},
                     {"DAMAGED", Align::right},
                     {"OF"}});
        Json list = Json::array();
        bool damaged = false;
        for (const TreeRoot& root : tree_roots(dumped.image())) {
            std::uint64_t nodes = 0;
            std::uint64_t items = 0;
            std::uint64_t levels = 0;
            std::uint64_t problems = 0;
            walk_raw(dumped.image(), root, [&](const DumpedNode& node) {
                ++nodes;
                problems += node.problem.empty() ? 0U : 1U;
                if (node.problem.empty()) {
                    levels = std::max(levels, node.level + 1);
                    items += node.level == 0 ? node.count : 0;
                }
            });
            damaged = damaged || problems != 0;
            table.add({root.name,
                       root.pointer.block == 0 ? "-" : std::to_string(root.pointer.block),
                       std::to_string(levels), count_text(nodes), count_text(items),
                       problems == 0 ? "-" : count_text(problems), printable(root.note)});
            list.push_back({{"tree", root.name},
                            {"of", root.note},
                            {"root", root.pointer.block},
                            {"levels", levels},
                            {"nodes", nodes},
                            {"items", items},
                            {"damaged", problems}});
        }
        if (command.json) {
            print_json(list);
        } else {
            fmt::print("{}", table.text());
        }
        return damaged ? kExitCorrupt : kExitOk;
    });
}

int run_dump_tree(const DumpCommand& command)
{
    return with_disk(command, true, [&](FileDisk& disk) -> Result<int> {
        DumpedImage dumped(disk);
        COPPICE_TRY(dumped.load());
        const std::vector<TreeRoot> roots = tree_roots(dumped.image());
        const auto root = std::find_if(roots.begin(), roots.end(), [&](const TreeRoot& entry) {
            return entry.name == command.tree;
        });
        if (root == roots.end()) {
            std::string names;
            for (const TreeRoot& entry : roots) {
                names += (names.empty() ? "" : ", ") + entry.name;
            }
            return fail(ErrorCode::not_found,
                        fmt::format("there is no tree '{}'; there are {}", command.tree, names));
        }
        const checker::TreeShape& shape = checker::shape_of(root->kind);
        const char* separator = "[\n";
        bool damaged = false;
        walk_raw(dumped.image(), *root, [&](const DumpedNode& node) {
            damaged = damaged || !node.problem.empty();
            const bool leaf = node.problem.empty() && node.level == 0;
            Json items = Json::array();
            for (unsigned i = 0; leaf && i < node.count; ++i) {
                items.push_back(item_fields(root->kind, node.block->bytes.data() +
                                                            sizeof(layout::NodeHeader) +
                                                            i * shape.item_bytes));
            }
            if (command.json) {
                Json json = {{"block", node.pointer.block},
                             {"problem", node.problem},
                             {"level", node.level},
                             {"count", node.count},
                             {"birth", node.pointer.birth}};
                if (leaf) {
                    json["items"] = std::move(items);
                }
                fmt::print("{}{}", separator,
                           json.dump(-1, ' ', false, Json::error_handler_t::replace));
                separator = ",\n";
                return;
            }
            if (!node.problem.empty()) {
                fmt::print("node in block {}: NOT VALID, {}\n", node.pointer.block, node.problem);
                return;
            }
            fmt::print("{} in block {}: level {}, birth {}, {}\n", leaf ? "leaf" : "inner node",
                       node.pointer.block, node.level, node.pointer.birth,
                       plural(node.count, leaf ? "item" : "child pointer"));
            for (const Json& item : items) {
                fmt::print("  {}\n", line_text(item));
            }
        });
        if (command.json) {
            fmt::print("{}\n", root->pointer.block == 0 ? "[]" : "\n]");
        } else if (root->pointer.block == 0) {
            fmt::print("the tree is empty\n");
        }
        return damaged ? kExitCorrupt : kExitOk;
    });
}

}  // namespace coppice::images
