#include "format/sim/recovery_rows.h"

#include <algorithm>
#include <fmt/format.h>
#include <functional>

#include "format/sim/image_view.h"
#include "format/sim/report.h"

namespace coppice::sim {

namespace {

constexpr std::size_t kSomeByte = 700;
constexpr std::uint64_t kUnknownBit = 1ULL << 40;
constexpr unsigned kDamagesOfEach = 4;

// ---- What cuts leave ------------------------------------------------------------------------

// All that a superblock says stands in its first 512 bytes: a torn one is the new one or the old
// one.
void count_superblocks(const ImageView& image)
{
    for (std::size_t copy = 0; copy < ImageView::kSuperblocks.size(); ++copy) {
        // A new image has written one slot only.
        const std::vector<std::byte> bytes = image.block_bytes(ImageView::kSuperblocks[copy]);
        const bool written = std::any_of(bytes.begin(), bytes.end(),
                                         [](std::byte byte) { return byte != std::byte{0}; });
        if (written && !image.superblock(copy)) {
            violation(fmt::format("copy {} of the superblock is damaged", copy));
        }
    }
    reached(Case::row_newest);
}

void count_end(const ImageView& image, const ImageView::Commit& end)
{
    const auto raw = image.read<layout::JournalBlockHeader>(ImageView::kRing + end.position);
    const auto first = image.journal_block(end.position);
    if (end.whole) {
        reached(Case::row_not_verified);
    } else if (raw.magic != layout::kJournalMagic) {
        reached(Case::row_nothing_written);
    } else if (!first || first->commit != end.number || first->index != 0) {
        reached(Case::row_torn_first_block);
    } else {
        // The first block fits if it continues what is before it.
        const std::uint64_t before =
            (end.position + ImageView::kRingBlocks - 1) % ImageView::kRingBlocks;
        const bool at_start = end.number == image.newest().journal_commit;
        const auto previous = image.journal_block(before);
        const std::uint64_t chain = at_start   ? image.newest().journal_chain.get()
                                    : previous ? previous->checksum.get()
                                               : 0;
        reached(first->previous == chain ? Case::row_torn_later_block
                                         : Case::row_other_incarnation);
    }
}

void count_commits(const ImageView& image)
{
    const std::vector<ImageView::Commit> commits = image.commits();
    const std::uint64_t synced = image.synced();
    for (const ImageView::Commit& commit : commits) {
        if (&commit == &commits.back()) {
            count_end(image, commit);
        } else {
            reached(commit.number <= synced ? Case::row_synced_and_not_read : Case::row_verified);
        }
    }
}

// ---- What they cannot leave -----------------------------------------------------------------

enum class Then : std::uint8_t {
    same,          // opens as if nothing were wrong
    refused,       // with one of the errors
    only_to_read,  // refused for writing only
    older,         // opens with what was before, or does not find it any more
};

struct Damage {
    Case row;
    Then then = Then::same;
    std::vector<ErrorCode> errors;
    bool checker_refuses = true;  // where the store does
    // False if this image does not allow it.
    std::function<bool(ImageView&)> make;
};

std::uint64_t slot_of_newest(const ImageView& image)
{
    return image.newest().generation % layout::kSuperblockSlots;
}

void flip_slot(ImageView& image, std::uint64_t slot)
{
    image.flip(ImageView::kSuperblocks[slot], kSomeByte);
    image.flip(ImageView::kSuperblocks[slot + 2], kSomeByte);
}

template <typename Value>
void put_in_superblocks(ImageView& image, std::size_t offset, Value value)
{
    for (std::size_t copy = 0; copy < ImageView::kSuperblocks.size(); ++copy) {
        if (image.superblock(copy)) {
            image.put(ImageView::kSuperblocks[copy], offset, value);
        }
    }
}

bool ring_names(const ImageView& image, std::uint64_t generation)
{
    for (std::uint64_t i = 0; i < ImageView::kRingBlocks; ++i) {
        const auto found = image.journal_block(i);
        if (found && found->generation >= generation) {
            return true;
        }
    }
    return false;
}

// A commit that a later one says is synced; of several blocks if `large`.
std::optional<ImageView::Commit> synced_commit(const ImageView& image, bool large)
{
    const auto commits = image.commits();
    // The one before the last that is whole, so that a later one is left that says it.
    for (std::size_t i = 0; i + 2 < commits.size(); ++i) {
        const auto later = image.journal_block(commits[i + 1].position);
        if (later && later->synced >= commits[i].number && (!large || commits[i].blocks > 1)) {
            return commits[i];
        }
    }
    return std::nullopt;
}

std::vector<Damage> superblock_damages()
{
    const auto another_copy = [](std::size_t offset, auto change) {
        return [offset, change](ImageView& image) {
            // Over the older slot's far copy, or the newest one's near copy.
            const std::uint64_t slot = slot_of_newest(image);
            layout::Superblock strayed = image.newest();
            change(strayed);
            strayed.generation = strayed.generation + 6 + (offset == 0 ? 1 : 0);
            const std::uint64_t block = ImageView::kSuperblocks[slot + 2];
            const auto other = image.superblock(slot);
            if (!other || other->generation != image.newest().generation) {
                return false;  // no copy would be left
            }
            image.put(block, 0, strayed);
            return true;
        };
    };
    const auto newest_is_whole = [](const ImageView& image) {
        return image.superblock(0) && image.superblock(1) && image.superblock(2) &&
               image.superblock(3);
    };
    return {
        {Case::row_copy_damaged,
         Then::same,
         {},
         true,
         [newest_is_whole](ImageView& image) {
             const std::uint64_t slot = slot_of_newest(image);
             const auto far = image.superblock(slot + 2);
             if (!newest_is_whole(image) || far->generation != image.newest().generation) {
                 return false;
             }
             image.flip(ImageView::kSuperblocks[slot], kSomeByte);
             return true;
         }},
        {Case::row_slot_damaged,
         Then::older,
         {ErrorCode::bad_node, ErrorCode::bad_data},
         true,
         [newest_is_whole](ImageView& image) {
             if (!newest_is_whole(image) || ring_names(image, image.newest().generation)) {
                 return false;
             }
             flip_slot(image, slot_of_newest(image));
             return true;
         }},
        {Case::row_old_slot_damaged,
         Then::same,
         {},
         true,
         [newest_is_whole](ImageView& image) {
             if (!newest_is_whole(image)) {
                 return false;
             }
             flip_slot(image, 1 - slot_of_newest(image));
             return true;
         }},
        // Or its trees are not there any more, which is seen first.
        {Case::row_slot_damaged_and_named,
         Then::refused,
         {ErrorCode::superblock_lost, ErrorCode::bad_node},
         true,
         [newest_is_whole](ImageView& image) {
             if (!newest_is_whole(image) || !ring_names(image, image.newest().generation)) {
                 return false;
             }
             flip_slot(image, slot_of_newest(image));
             return true;
         }},
        {Case::row_all_damaged,
         Then::refused,
         {ErrorCode::bad_superblock},
         true,
         [](ImageView& image) {
             flip_slot(image, 0);
             flip_slot(image, 1);
             return true;
         }},
        {Case::row_foreign_copy,
         Then::same,
         {},
         true,
         another_copy(1, [](layout::Superblock& strayed) { strayed.uuid[9] ^= 1; })},
        {Case::row_wrong_slot, Then::same, {}, true, another_copy(0, [](layout::Superblock&) {})},
    };
}

std::vector<Damage> header_damages()
{
    using layout::ImageHeader;
    const auto in_header = [](std::size_t offset, auto value) {
        return [=](ImageView& image) {
            image.put(0, offset, value);
            return true;
        };
    };
    const auto no_header = [](ImageView& image) {
        image.flip(0, kSomeByte);
        return image.superblock(0) || image.superblock(1);
    };
    const Le16 major{layout::kMajorVersion + 1};
    const Le16 writer{layout::kMinorVersion + 1};
    const Le64 bit{kUnknownBit};
    return {
        {Case::row_header_damaged, Then::same, {}, true, no_header},
        {Case::row_header_and_near_damaged,
         Then::refused,
         {ErrorCode::bad_header, ErrorCode::bad_superblock},
         true,
         [](ImageView& image) {
             image.flip(0, kSomeByte);
             image.flip(ImageView::kSuperblocks[0], kSomeByte);
             image.flip(ImageView::kSuperblocks[1], kSomeByte);
             return true;
         }},
        {Case::row_cut_off,
         Then::refused,
         {ErrorCode::truncated},
         true,
         [](ImageView& image) {
             image.bytes().truncate(image.newest().image_blocks * kBlockBytes - 1);
             return true;
         }},
        {Case::row_other_major,
         Then::refused,
         {ErrorCode::unsupported_version},
         true,
         in_header(offsetof(ImageHeader, major_version), major)},
        {Case::row_incompatible,
         Then::refused,
         {ErrorCode::unknown_feature},
         true,
         in_header(offsetof(ImageHeader, incompatible), bit)},
        {Case::row_read_only_compatible,
         Then::only_to_read,
         {ErrorCode::unknown_feature},
         true,
         [bit](ImageView& image) {
             put_in_superblocks(image, offsetof(layout::Superblock, read_only_compatible), bit);
             return true;
         }},
        {Case::row_newer_writer,
         Then::only_to_read,
         {ErrorCode::unsupported_version},
         false,
         in_header(offsetof(ImageHeader, oldest_minor_writer), writer)},
    };
}

std::vector<Damage> journal_damages()
{
    const auto flip_commit = [](bool large) {
        return [large](ImageView& image) {
            const auto commit = synced_commit(image, large);
            if (commit) {
                const std::uint64_t at = commit->position + (large ? commit->blocks - 1 : 0);
                image.flip(ImageView::kRing + at % ImageView::kRingBlocks, kSomeByte);
            }
            return commit.has_value();
        };
    };
    return {
        {Case::row_bad_record,
         Then::refused,
         {ErrorCode::bad_record},
         true,
         [](ImageView& image) {
             const auto commits = image.commits();
             const auto head = image.read<layout::CommitHeader>(0);  // only for its size
             constexpr std::size_t kFirst = sizeof(layout::JournalBlockHeader) + sizeof(head);
             // Of one block, the last that is whole: nothing continues it.
             if (commits.size() < 2 || commits[commits.size() - 2].blocks != 1) {
                 return false;
             }
             const std::uint64_t block = ImageView::kRing + commits[commits.size() - 2].position;
             const auto count = image.block_bytes(block)[sizeof(layout::JournalBlockHeader)];
             if (count == std::byte{0}) {
                 return false;  // it closes a recovery
             }
             image.put(block, kFirst, std::uint8_t{0});
             return true;
         }},
        {Case::row_superblock_lost,
         Then::refused,
         {ErrorCode::superblock_lost},
         true,
         [](ImageView& image) {
             const auto commits = image.commits();
             if (commits.size() < 2) {
                 return false;
             }
             const Le64 next{image.newest().generation + 1};
             image.put(ImageView::kRing + commits[commits.size() - 2].position,
                       offsetof(layout::JournalBlockHeader, generation), next);
             return true;
         }},
        {Case::row_other_incarnation,
         Then::older,
         {},
         true,
         [](ImageView& image) {
             // The one before the last is another now, which the last does not continue.
             const auto commits = image.commits();
             const std::uint64_t synced = image.synced();
             if (commits.size() < 3) {
                 return false;
             }
             const ImageView::Commit& before = commits[commits.size() - 3];
             const std::uint64_t block = ImageView::kRing + before.position;
             const auto header = image.read<layout::JournalBlockHeader>(block);
             if (before.blocks != 1 || before.number + 1 <= synced || header.generation == 0) {
                 return false;
             }
             const Le64 older{header.generation - 1};
             image.put(block, offsetof(layout::JournalBlockHeader, generation), older);
             return true;
         }},
        {Case::row_first_block_damaged,
         Then::refused,
         {ErrorCode::journal_damaged},
         true,
         flip_commit(false)},
        {Case::row_later_block_damaged,
         Then::refused,
         {ErrorCode::journal_damaged},
         true,
         flip_commit(true)},
        {Case::row_synced_by_superblock,
         Then::refused,
         {ErrorCode::journal_damaged},
         true,
         [](ImageView& image) {
             const auto end = image.commits().back();
             if (end.whole) {
                 return false;
             }
             const Le64 number{end.number};
             put_in_superblocks(image, offsetof(layout::Superblock, journal_synced), number);
             return true;
         }},
    };
}

const std::vector<Damage>& all_damages()
{
    static const std::vector<Damage> all = [] {
        std::vector<Damage> damages = superblock_damages();
        for (const auto& more : {header_damages(), journal_damages()}) {
            damages.insert(damages.end(), more.begin(), more.end());
        }
        return damages;
    }();
    return all;
}

void judge(const StoreKind& kind, const SparseBytes& image, const Contents& contents,
           const Damage& made)
{
    const auto expected = [&](const Error& error) {
        return std::find(made.errors.begin(), made.errors.end(), error.code) != made.errors.end();
    };
    for (const bool read_only : {true, false}) {
        FiberTasks tasks({.virtual_time = true});
        MemoryDisk disk(tasks, image);
        disk.set_read_only(read_only);
        tasks.run([&] {
            OpenOptions options;
            options.read_only = read_only;
            auto store = kind.open(disk, options);
            const bool may_open =
                made.then != Then::refused && (made.then != Then::only_to_read || read_only);
            const bool may_refuse = !may_open || made.then == Then::older;
            if (store ? !may_open : !may_refuse || !expected(store.error())) {
                violation(
                    fmt::format("the store {}", store ? "opens it"
                                                      : fmt::format("refuses it with {}: {}",
                                                                    error_name(store.error().code),
                                                                    store.error().text)));
            }
            if (store) {
                if (made.then != Then::older) {
                    compare(contents, read_contents(**store), "opened");
                }
                (*store)->abandon();
                store->reset();
            }
        });
    }
    const bool refuses =
        made.then == Then::refused || (made.then == Then::only_to_read && made.checker_refuses);
    if (const std::string complaints = kind.check(image); refuses && complaints.empty()) {
        violation("the checker finds nothing wrong with it");
    }
}

}  // namespace

void count_rows(const SparseBytes& image)
{
    const ImageView view(image);
    count_superblocks(view);
    count_commits(view);
}

void damage(const StoreKind& kind, const SparseBytes& image, const Contents& contents,
            Random& random)
{
    for (unsigned i = 0; i < kDamagesOfEach; ++i) {
        const Damage& chosen = all_damages()[random.below(all_damages().size())];
        ImageView changed(image);
        if (!chosen.make(changed)) {
            continue;
        }
        const Context context(fmt::format("damaged on purpose, {}", case_name(chosen.row)));
        reached(chosen.row);
        judge(kind, changed.bytes(), contents, chosen);
    }
}

}  // namespace coppice::sim
