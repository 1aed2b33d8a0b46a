#include "format/journal/scan.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <optional>

#include "format/base/checksum.h"
#include "format/base/rules.h"

namespace coppice {

namespace {

constexpr std::size_t kReadBytes = 4 << 20;

class Scanner {
public:
    Scanner(const ScanStart& start, BlockBytes ring)
        : start_(start), ring_(std::move(ring)), position_(start.position)
    {
        result_.synced = start.synced;
    }

    Result<Scan> run()
    {
        for (;;) {
            COPPICE_ASSIGN(more, take_commit());
            if (!more) {
                break;
            }
        }
        COPPICE_TRY(look_for_loss());
        return std::move(result_);
    }

private:
    std::span<const std::byte> block(std::uint64_t position) const
    {
        return {ring_.data() + position % start_.blocks * kBlockBytes, kBlockBytes};
    }

    std::optional<layout::JournalBlockHeader> header(std::uint64_t position) const
    {
        layout::JournalBlockHeader header;
        std::memcpy(static_cast<void*>(&header), block(position).data(), sizeof(header));
        if (header.magic != layout::kJournalMagic ||
            header.checksum != metadata_checksum(block(position), start_.image_seed)) {
            return std::nullopt;
        }
        return header;
    }

    // Takes the commit at the current position if it is whole and continues the chain.
    Result<bool> take_commit()
    {
        const auto first = header(position_.block);
        if (!first || first->commit != position_.commit.value || first->index != 0 ||
            first->count == 0 || first->count > start_.blocks / layout::kCommitRingFraction) {
            return false;
        }
        std::vector<std::byte> stream;
        std::uint64_t chain = position_.chain;
        for (std::uint64_t index = 0; index < first->count; ++index) {
            const auto found = header(position_.block + index);
            const bool fits = found && found->commit == position_.commit.value &&
                              found->index == index && found->count == first->count;
            if (!fits && obeys(Rule::whole_commits)) {
                return false;
            }
            if (fits && found->previous != chain && obeys(Rule::chained_blocks)) {
                return false;
            }
            const auto body = block(position_.block + index).subspan(sizeof(*first));
            stream.insert(stream.end(), body.begin(), body.end());
            chain = fits ? found->checksum.get() : chain;
        }
        auto decoded = decode_commit(position_.commit, stream, start_.fixed_blocks);
        if (!decoded) {
            return pass_on(decoded);
        }
        result_.synced = std::max(result_.synced, CommitNo(first->synced));
        position_ = {position_.commit + 1, (position_.block + first->count) % start_.blocks, chain};
        result_.commits.push_back({std::move(*decoded), position_});
        return true;
    }

    // Nothing valid in the ring may show that more was durable than what was found.
    Status look_for_loss()
    {
        for (std::uint64_t i = 0; i < start_.blocks; ++i) {
            const auto found = header(i);
            if (!found) {
                continue;
            }
            if (found->generation > start_.generation.value) {
                return fail(ErrorCode::superblock_lost,
                            fmt::format("journal block {} was written after superblock {}, but "
                                        "the newest one found is {}",
                                        start_.start_block + i, found->generation.get(),
                                        start_.generation.value));
            }
            if (found->commit < position_.commit.value) {
                continue;  // it has gone round
            }
            // True of every commit that is valid up to there, though its own may be torn.
            result_.synced = std::max(result_.synced, CommitNo(found->synced));
            if (found->synced >= position_.commit.value) {
                return fail(ErrorCode::journal_damaged,
                            fmt::format("commit {} was durable and is damaged at journal block {}",
                                        position_.commit.value,
                                        start_.start_block + position_.block));
            }
        }
        if (result_.synced >= position_.commit) {
            return fail(ErrorCode::journal_damaged,
                        fmt::format("commit {} was durable and is damaged at journal block {}",
                                    position_.commit.value, start_.start_block + position_.block));
        }
        return {};
    }

    const ScanStart& start_;
    BlockBytes ring_;
    JournalPosition position_;
    Scan result_;
};

}  // namespace

Result<Scan> scan_journal(Disk& disk, const ScanStart& start)
{
    BlockBytes ring(start.blocks * kBlockBytes);
    for (std::size_t done = 0; done < ring.size();) {
        const std::size_t bytes = std::min(kReadBytes, ring.size() - done);
        COPPICE_TRY(disk.read(start.start_block * kBlockBytes + done, {ring.data() + done, bytes}));
        done += bytes;
    }
    return Scanner(start, std::move(ring)).run();
}

}  // namespace coppice
