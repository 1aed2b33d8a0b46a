// coppice dump header|superblock|block
#include <algorithm>
#include <fmt/format.h>

#include "format/base/checksum.h"
#include "images/dump.h"
#include "images/text.h"

namespace coppice::images {

namespace {

using checker::Block;
using checker::copy_out;
using checker::Image;

// Sixteen bytes a line, as hexdump -C; equal lines become one "*".
void print_hex(const Block& block)
{
    bool repeated = false;
    for (std::size_t at = 0; at < block.bytes.size(); at += 16) {
        const auto* line = block.bytes.data() + at;
        if (at >= 16 && std::equal(line, line + 16, line - 16)) {
            if (!repeated) {
                fmt::print("*\n");
            }
            repeated = true;
            continue;
        }
        repeated = false;
        std::string hex;
        std::string text;
        for (std::size_t i = 0; i < 16; ++i) {
            const auto byte = std::to_integer<unsigned>(line[i]);
            hex += fmt::format("{:02x}{}", byte, i == 7 ? "  " : " ");
            text += byte >= 0x20 && byte < 0x7F ? static_cast<char>(byte) : '.';
        }
        fmt::print("{:04x}  {} |{}|\n", at, hex, text);
    }
}

struct BlockView {
    std::string type;
    Json fields;
    std::string problem;
    Json items = Json::array();
};

void take_node_items(const Block& block, const layout::NodeHeader& header, BlockView& view)
{
    if (header.kind < 1 || header.kind > 7) {
        return;
    }
    const auto kind = static_cast<layout::TreeKind>(header.kind);
    const checker::TreeShape& shape = checker::shape_of(kind);
    const std::size_t stride = header.level == 0 ? shape.item_bytes : shape.inner_bytes();
    const std::size_t count = std::min<std::size_t>(header.count, layout::kNodeBodyBytes / stride);
    for (std::size_t i = 0; i < count; ++i) {
        const std::byte* item = block.bytes.data() + sizeof(header) + i * stride;
        if (header.level == 0) {
            view.items.push_back(item_fields(kind, item));
            continue;
        }
        Json child;
        Json key = Json::array();
        for (unsigned word = 0; word < shape.key_words; ++word) {
            key.push_back(copy_out<Le64>(item + word * 8).get());
        }
        child["key"] = shape.key_words == 1 ? key[0] : key;
        child["child"] = fields_of<layout::NodePointer>(item + shape.key_words * 8);
        view.items.push_back(std::move(child));
    }
}

// What a block is by its own words.
BlockView view_of(Image& image, std::uint64_t number, const Block& block)
{
    BlockView view;
    const auto magic = copy_out<Le32>(block.bytes.data() + 8).get();
    const bool sealed =
        copy_out<Le64>(block.bytes.data()) == metadata_checksum(block.bytes, image.seed());
    const std::string wrong = sealed ? "" : "its checksum is wrong";
    if (number == 0) {
        view.type = "image header";
        view.problem = Image::judge_header(block);
        view.fields = fields_of<layout::ImageHeader>(block.bytes.data());
    } else if (magic == layout::kSuperblockMagic) {
        view.type = "superblock";
        view.problem = wrong;
        view.fields = fields_of<layout::Superblock>(block.bytes.data());
    } else if (magic == layout::kNodeMagic) {
        const auto header = copy_out<layout::NodeHeader>(block.bytes.data());
        view.type = "tree node";
        view.problem = wrong;
        view.fields = fields_of(header);
        take_node_items(block, header, view);
    } else if (magic == layout::kJournalMagic) {
        view.type = "journal block";
        view.problem = wrong;
        view.fields = fields_of<layout::JournalBlockHeader>(block.bytes.data());
        const std::byte* body = block.bytes.data() + sizeof(layout::JournalBlockHeader);
        if (view.fields["index"] == 0) {
            view.items.push_back(fields_of<layout::CommitHeader>(body));
        }
    } else {
        view.type = block.is_zero() ? "zeroes" : "data";
        view.fields["data_checksum"] = fmt::format("{:08x}", data_checksum(block.bytes));
    }
    return view;
}

}  // namespace

int run_dump_header(const DumpCommand& command)
{
    return with_disk(command, true, [&](FileDisk& disk) -> Result<int> {
        DumpedImage dumped(disk);
        auto block = std::make_unique<Block>();
        COPPICE_TRY(dumped.image().read_block(0, *block));
        Json fields = fields_of<layout::ImageHeader>(block->bytes.data());
        const std::string problem = Image::judge_header(*block);
        if (command.json) {
            print_json({{"valid", problem.empty()}, {"problem", problem}, {"header", fields}});
        } else {
            fmt::print("image header (block 0){}\n{}",
                       problem.empty() ? "" : ": NOT VALID, " + problem, fields_text(fields, "  "));
        }
        return problem.empty() ? kExitOk : kExitCorrupt;
    });
}

int run_dump_superblock(const DumpCommand& command)
{
    return with_disk(command, true, [&](FileDisk& disk) -> Result<int> {
        DumpedImage dumped(disk);
        const Status loaded = dumped.load();
        Json list = Json::array();
        for (const checker::SuperblockCopy& copy : dumped.image().copies()) {
            Json fields = fields_of(copy.superblock);
            const bool newest = loaded.has_value() && copy.problem.empty() &&
                                copy.superblock.generation == dumped.image().generation();
            if (command.json) {
                list.push_back({{"block", copy.block},
                                {"copy", copy.far_copy ? "far" : "near"},
                                {"slot", copy.slot},
                                {"valid", copy.problem.empty()},
                                {"newest", newest},
                                {"problem", copy.problem},
                                {"superblock", fields}});
                continue;
            }
            fmt::print("{} copy, slot {} (block {}){}{}\n", copy.far_copy ? "far" : "near",
                       copy.slot, copy.block, newest ? ", newest" : "",
                       copy.blank             ? ": never written"
                       : copy.problem.empty() ? ""
                                              : ": NOT VALID, " + copy.problem);
            if (!copy.blank) {
                fmt::print("{}", fields_text(fields, "  "));
            }
        }
        if (command.json) {
            print_json(list);
        }
        return loaded.has_value() ? kExitOk : kExitCorrupt;
    });
}

int run_dump_block(const DumpCommand& command)
{
    return with_disk(command, true, [&](FileDisk& disk) -> Result<int> {
        DumpedImage dumped(disk);
        const Status ignored = dumped.load();  // only the seed matters here
        COPPICE_ASSIGN(size, disk.size_bytes());
        if (command.block >= divide_up(size, kBlockBytes)) {
            return fail(ErrorCode::out_of_range,
                        fmt::format("block {} is behind the end of the file, which has {} blocks",
                                    command.block, divide_up(size, kBlockBytes)));
        }
        auto block = std::make_unique<Block>();
        COPPICE_TRY(dumped.image().read_block(command.block, *block));
        const BlockView view = view_of(dumped.image(), command.block, *block);
        if (command.json) {
            print_json({{"block", command.block},
                        {"type", view.type},
                        {"problem", view.problem},
                        {"fields", view.fields},
                        {"items", view.items}});
            return kExitOk;
        }
        fmt::print("block {}: {}{}\n{}", command.block, view.type,
                   view.problem.empty() ? "" : ", NOT VALID: " + view.problem,
                   fields_text(view.fields, "  "));
        for (const Json& item : view.items) {
            fmt::print("  - {}\n", line_text(item));
        }
        if (view.type == "data") {
            print_hex(*block);
        }
        return kExitOk;
    });
}

}  // namespace coppice::images
