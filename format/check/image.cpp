#include "format/check/image.h"

#include <algorithm>
#include <fmt/format.h>

#include "format/base/checksum.h"

namespace coppice::checker {

namespace {

// Reads of a large range are cut into pieces of this size.
constexpr std::size_t kReadBytes = std::size_t{1} << 20;

std::string places_text(const layout::Superblock& superblock)
{
    const std::uint64_t journal = superblock.journal_blocks;
    const std::uint64_t start = superblock.journal_start;
    if (journal < layout::kMinJournalBlocks || journal > layout::kMaxJournalBlocks) {
        return fmt::format("a journal of {} blocks", journal);
    }
    if (start != layout::kJournalStart || superblock.superblock_near != layout::kSuperblockNear ||
        superblock.superblock_far != start + journal) {
        return "the journal or the superblocks are not where they belong";
    }
    if (superblock.fixed_blocks < start + journal + layout::kSuperblockSlots) {
        return "the fixed region ends inside the far superblocks";
    }
    if (superblock.image_blocks < superblock.fixed_blocks ||
        superblock.image_blocks > layout::kMaxBlock) {
        return fmt::format("{} blocks in the image", superblock.image_blocks.get());
    }
    if (superblock.journal_position >= journal) {
        return "replay starts outside the journal";
    }
    return {};
}

}  // namespace

bool Block::is_zero() const
{
    return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

std::uint64_t seed_of(const std::array<std::uint8_t, 16>& uuid)
{
    Le64 seed;
    std::memcpy(static_cast<void*>(&seed), uuid.data(), sizeof(seed));
    return seed;
}

Status Image::read_blocks(std::uint64_t block, std::span<std::byte> into)
{
    if (block > layout::kMaxBlock) {
        return fail(ErrorCode::out_of_range, fmt::format("block {} is beyond any image", block));
    }
    std::uint64_t offset = block << kBlockShift;
    while (!into.empty()) {
        const std::size_t piece = std::min(into.size(), kReadBytes);
        COPPICE_TRY(disk_.read(offset, into.first(piece)));
        into = into.subspan(piece);
        offset += piece;
    }
    return {};
}

Status Image::read_block(std::uint64_t block, Block& into)
{
    return read_blocks(block, into.bytes);
}

std::string Image::judge_header(const Block& block)
{
    const auto header = copy_out<layout::ImageHeader>(block.bytes.data());
    if (header.magic != layout::kMagic) {
        return "its first bytes are not those of a Coppice image";
    }
    // The header is covered from byte 16 on, with seed 0: it holds the uuid that seeds the others.
    const auto covered = std::span<const std::byte>(block.bytes).subspan(sizeof(header.magic));
    if (header.checksum != metadata_checksum(covered, 0)) {
        return "its checksum is wrong";
    }
    if (header.block_shift != kBlockShift || header.group_blocks != layout::kGroupBlocks) {
        return "its block or group size is not one that this version knows";
    }
    return {};
}

std::string Image::judge_superblock(const Block& block, unsigned slot,
                                    std::optional<std::uint64_t> seed)
{
    const auto superblock = copy_out<layout::Superblock>(block.bytes.data());
    if (superblock.magic != layout::kSuperblockMagic) {
        return "it has no superblock's magic";
    }
    const std::uint64_t own_seed = seed_of(superblock.uuid);
    if (seed && *seed != own_seed) {
        return "it belongs to another image";
    }
    if (superblock.checksum != metadata_checksum(block.bytes, own_seed)) {
        return "its checksum is wrong";
    }
    if (superblock.generation % layout::kSuperblockSlots != slot) {
        return fmt::format("generation {} stands in the wrong slot", superblock.generation.get());
    }
    return {};
}

Status Image::load(Findings& findings)
{
    COPPICE_ASSIGN(file_bytes, disk_.size_bytes());
    file_bytes_ = file_bytes;
    file_blocks_ = file_bytes >> kBlockShift;
    if (file_bytes == 0) {
        return fail(ErrorCode::not_an_image, "the file is empty");
    }
    bool header_good = false;
    COPPICE_TRY(load_header(findings, header_good));
    COPPICE_TRY(load_superblocks(findings, header_good));
    return check_geometry(findings, header_good);
}

Status Image::judge_format(std::uint64_t major, std::uint64_t minor, std::uint64_t incompatible,
                           std::uint64_t read_only_compatible) const
{
    if (demand_ == Demand::none) {
        return {};
    }
    if (major != layout::kMajorVersion) {
        return fail(ErrorCode::unsupported_version,
                    fmt::format("the image has format version {}.{}, and this build knows {}.{}; "
                                "use the build that wrote it",
                                major, minor, layout::kMajorVersion, layout::kMinorVersion));
    }
    const std::uint64_t unknown = (incompatible & ~layout::kKnownIncompatible) |
                                  (read_only_compatible & ~layout::kKnownReadOnlyCompatible);
    if (unknown != 0) {
        // What a feature of a later version does to the space cannot be judged here.
        return fail(ErrorCode::unknown_feature,
                    fmt::format("the image uses features {:#x} that this build does not know; use "
                                "the build that wrote it",
                                unknown));
    }
    return {};
}

Status Image::load_header(Findings& findings, bool& header_good)
{
    auto block = std::make_unique<Block>();
    COPPICE_TRY(read_block(0, *block));
    const std::string problem = judge_header(*block);
    header_ = copy_out<layout::ImageHeader>(block->bytes.data());
    header_good = problem.empty();
    if (!header_good) {
        // Before the superblocks have spoken this may be any file at all.
        if (header_.magic == layout::kMagic) {
            findings.add({.severity = Severity::repairable,
                          .kind = FindingKind::header,
                          .text = fmt::format("the image header is damaged: {}", problem),
                          .block = 0,
                          .blocks = 1});
        }
        return {};
    }
    seed_ = seed_of(header_.uuid);
    return judge_format(header_.major_version, header_.minor_version, header_.incompatible,
                        header_.read_only_compatible);
}

Status Image::load_superblocks(Findings& findings, bool header_good)
{
    // Without a header the near copies are where they always are, and one of them says where the
    // far ones stand.
    std::uint64_t far_start = header_good ? header_.superblock_far.get() : 0;
    const std::optional<std::uint64_t> seed =
        header_good ? std::optional<std::uint64_t>(seed_) : std::nullopt;
    const SuperblockCopy* newest = nullptr;
    auto block = std::make_unique<Block>();
    for (unsigned i = 0; i < copies_.size(); ++i) {
        SuperblockCopy& copy = copies_[i];
        copy.slot = i % layout::kSuperblockSlots;
        copy.far_copy = i >= layout::kSuperblockSlots;
        if (copy.far_copy && far_start == 0 && newest != nullptr) {
            far_start = newest->superblock.superblock_far;
        }
        if (copy.far_copy && (far_start == 0 || far_start > layout::kMaxBlock - 1)) {
            copy.problem = "its place is not known";
            continue;
        }
        copy.block = (copy.far_copy ? far_start : layout::kSuperblockNear) + copy.slot;
        if (auto status = read_block(copy.block, *block); !status) {
            copy.problem = status.error().text;
            continue;
        }
        copy.superblock = copy_out<layout::Superblock>(block->bytes.data());
        copy.blank = block->is_zero();
        copy.problem = judge_superblock(*block, copy.slot, seed);
        if (copy.problem.empty() &&
            (newest == nullptr || copy.superblock.generation > newest->superblock.generation)) {
            newest = &copy;
        }
    }
    if (newest == nullptr) {
        if (!header_good && header_.magic != layout::kMagic) {
            return fail(ErrorCode::not_an_image, "this is not a Coppice image");
        }
        if (file_bytes_ < (layout::kSuperblockNear + layout::kSuperblockSlots) * kBlockBytes) {
            return fail(
                ErrorCode::truncated,
                fmt::format("the file is cut off after {} bytes, inside the header", file_bytes_));
        }
        return fail(ErrorCode::bad_superblock, "none of the four superblock copies is valid");
    }
    superblock_ = newest->superblock;
    for (const SuperblockCopy& copy : copies_) {
        // A slot that was never written is blank while the image is young.
        if (copy.problem.empty() ||
            (copy.blank && superblock_.generation < layout::kSuperblockSlots)) {
            continue;
        }
        findings.add({.severity = Severity::repairable,
                      .kind = FindingKind::superblock,
                      .text = fmt::format("the {} copy of superblock slot {} (block {}) is not "
                                          "valid: {}; generation {} is read from another copy",
                                          copy.far_copy ? "far" : "near", copy.slot, copy.block,
                                          copy.problem, superblock_.generation.get()),
                      .block = copy.block,
                      .blocks = 1});
    }
    if (!header_good) {
        seed_ = seed_of(superblock_.uuid);
        if (header_.magic != layout::kMagic) {
            findings.add({.severity = Severity::repairable,
                          .kind = FindingKind::header,
                          .text = "the image header is damaged: its first bytes are not those of a "
                                  "Coppice image; the superblocks are",
                          .block = 0,
                          .blocks = 1});
        }
    }
    return {};
}

Status Image::check_geometry(Findings& findings, bool header_good)
{
    COPPICE_TRY(judge_format(superblock_.major_version, superblock_.minor_version,
                             superblock_.incompatible, superblock_.read_only_compatible));
    if (const std::string text = places_text(superblock_); !text.empty()) {
        return fail(ErrorCode::bad_superblock,
                    fmt::format("the superblock of generation {} describes an impossible image: {}",
                                superblock_.generation.get(), text));
    }
    const bool same = header_.uuid == superblock_.uuid &&
                      header_.journal_start == superblock_.journal_start &&
                      header_.journal_blocks == superblock_.journal_blocks &&
                      header_.superblock_near == superblock_.superblock_near &&
                      header_.superblock_far == superblock_.superblock_far &&
                      header_.fixed_blocks == superblock_.fixed_blocks &&
                      header_.incompatible == superblock_.incompatible &&
                      header_.read_only_compatible == superblock_.read_only_compatible &&
                      header_.compatible == superblock_.compatible;
    if (header_good && !same) {
        findings.add({.severity = Severity::corruption,
                      .kind = FindingKind::geometry,
                      .text = "header and superblock describe different images: identity, features "
                              "or geometry differ"});
    }
    if (file_blocks_ < image_blocks()) {
        findings.add(
            {.severity = Severity::corruption,
             .kind = FindingKind::file_length,
             .text = fmt::format("the file ends after {} bytes, but the image has {} "
                                 "blocks ({} bytes): it was truncated",
                                 file_bytes_, image_blocks(), image_blocks() << kBlockShift),
             .block = file_blocks_,
             .blocks = image_blocks() - file_blocks_});
    }
    return {};
}

}  // namespace coppice::checker
