#include "format/check/journal_scan.h"

#include <algorithm>
#include <fmt/format.h>

#include "format/base/checksum.h"

namespace coppice::checker {

namespace {

constexpr std::uint64_t kReadBlocks = 256;

using layout::OperationType;

}  // namespace

bool JournalScan::read_ring()
{
    const std::uint64_t start = image_.superblock().journal_start;
    const std::uint64_t count = image_.superblock().journal_blocks;
    blocks_.assign(count, {});
    const auto buffer = std::make_unique<Block[]>(kReadBlocks);
    for (std::uint64_t done = 0; done < count; done += kReadBlocks) {
        findings_.progress("journal", done, count);
        const std::uint64_t piece = std::min(kReadBlocks, count - done);
        const std::span<std::byte> bytes(buffer[0].bytes.data(), piece * kBlockBytes);
        const bool all_read = image_.read_blocks(start + done, bytes).has_value();
        for (std::uint64_t i = 0; i < piece; ++i) {
            if (!all_read && !image_.read_block(start + done + i, buffer[i])) {
                continue;  // an unreadable block is as good as a damaged one
            }
            const auto header = copy_out<layout::JournalBlockHeader>(buffer[i].bytes.data());
            blocks_[done + i].journal = header.magic == layout::kJournalMagic;
            if (!blocks_[done + i].journal ||
                header.checksum != metadata_checksum(buffer[i].bytes, image_.seed())) {
                continue;
            }
            blocks_[done + i] = {true,
                                 true,
                                 header.index,
                                 header.count,
                                 header.commit,
                                 header.generation,
                                 header.previous,
                                 header.synced,
                                 header.checksum};
        }
    }
    return true;
}

// Is the first block of the next commit there, with a count that can be?
bool JournalScan::first_fits() const
{
    const BlockFacts& first = at(position_);
    const std::uint64_t most = blocks_.size() / layout::kCommitRingFraction;
    return first.valid && first.commit == next_commit_ && first.index == 0 && first.count != 0 &&
           first.count <= most && first.previous == chain_;
}

std::uint64_t JournalScan::torn_block() const
{
    const BlockFacts& first = at(position_);
    std::uint64_t chain = chain_;
    for (std::uint64_t i = 0; i < first.count; ++i) {
        const BlockFacts& block = at(position_ + i);
        if (!block.valid || block.commit != next_commit_ || block.index != i ||
            block.count != first.count || block.previous != chain) {
            return i;
        }
        chain = block.checksum;
    }
    return first.count;
}

bool JournalScan::take_commit()
{
    const BlockFacts& first = at(position_);
    if (!first_fits() || torn_block() != first.count) {
        return false;
    }
    commits_.push_back({next_commit_, position_, first.count, first.synced, first.generation});
    newest_synced_ = std::max(newest_synced_, first.synced);
    chain_ = at(position_ + first.count - 1).checksum;
    position_ = (position_ + first.count) % blocks_.size();
    ++next_commit_;
    return true;
}

void JournalScan::look_for_loss()
{
    const std::uint64_t start = image_.superblock().journal_start;
    for (const BlockFacts& block : blocks_) {
        if (!block.valid) {
            continue;
        }
        if (block.generation > image_.generation() &&
            (lost_superblock_ == nullptr || block.generation > lost_superblock_->generation)) {
            lost_superblock_ = &block;
        }
        // True of every commit that is valid up to there, though its own may be torn.
        newest_synced_ = std::max(newest_synced_, block.synced);
        if (block.synced >= next_commit_ &&
            (lost_commit_ == nullptr || block.synced > lost_commit_->synced)) {
            lost_commit_ = &block;
        }
    }
    const auto place = [&](const BlockFacts* block) {
        return start + static_cast<std::uint64_t>(block - blocks_.data());
    };
    if (lost_superblock_ != nullptr) {
        findings_.add({.severity = Severity::corruption,
                       .kind = FindingKind::journal,
                       .text = fmt::format("superblock_lost: journal block {} was written after "
                                           "superblock generation {}, but the newest one found is "
                                           "{}: everything since is lost",
                                           place(lost_superblock_), lost_superblock_->generation,
                                           image_.generation()),
                       .tree = "journal",
                       .block = place(lost_superblock_),
                       .blocks = 1});
    }
    const std::uint64_t synced = std::max(newest_synced_, image_.superblock().journal_synced.get());
    if (lost_commit_ != nullptr || synced >= next_commit_) {
        const std::uint64_t last = lost_commit_ != nullptr ? lost_commit_->synced : synced;
        findings_.add({.severity = Severity::corruption,
                       .kind = FindingKind::journal,
                       .text = fmt::format("journal_damaged: commits {} to {} were synced, but "
                                           "commit {} is damaged at journal block {}: they are "
                                           "lost",
                                           next_commit_, last, next_commit_, start + position_),
                       .tree = "journal",
                       .block = start + position_,
                       .blocks = 1});
    }
}

JournalEnd JournalScan::end_at_a_loss(bool first_fits) const
{
    JournalEnd end;
    if (lost_superblock_ != nullptr) {
        end.row = "superblock-lost";
        end.why = fmt::format("superblock generation {} is lost, which stood behind it",
                              lost_superblock_->generation);
    } else if (first_fits) {
        end.row = "later-block-damaged";
        end.why = fmt::format("block {} of its {} is damaged, and the commit was synced",
                              torn_block() + 1, at(position_).count);
    } else if (lost_commit_ != nullptr || newest_synced_ != image_.superblock().journal_synced) {
        end.row = "first-block-damaged";
        end.why = "its first block is damaged, and the commit was synced";
    } else {
        end.row = "synced-by-superblock";
        end.why = "it is gone, and the superblock says that it was synced";
    }
    return end;
}

JournalEnd JournalScan::end() const
{
    const BlockFacts& first = at(position_);
    const bool synced = lost_commit_ != nullptr || newest_synced_ >= next_commit_;
    JournalEnd end;
    if (lost_superblock_ != nullptr || synced) {
        end = end_at_a_loss(first_fits());
    } else if (!first.journal) {
        end = {.row = "nothing-written", .why = "no journal block is there"};
    } else if (first_fits()) {
        end.row = "torn-later-block";
        end.why = fmt::format("block {} of its {} is not there: it was torn, and counts as a "
                              "whole or not at all",
                              torn_block() + 1, first.count);
    } else if (first.valid && first.commit == next_commit_ && first.previous != chain_) {
        end.row = "other-incarnation";
        end.why = "what is there continues another chain, which an earlier recovery ended";
    } else {
        end.row = "torn-first-block";
        end.why = !first.valid ? "the journal block there does not have its checksum: it was torn"
                               : fmt::format("a block of commit {} is there, from before the ring "
                                             "went round",
                                             first.commit);
    }
    end.commit = next_commit_;
    end.block = image_.superblock().journal_start + position_;
    return end;
}

void JournalScan::run()
{
    read_ring();
    const layout::Superblock& superblock = image_.superblock();
    next_commit_ = superblock.journal_commit;
    position_ = superblock.journal_position;
    chain_ = superblock.journal_chain;
    newest_synced_ = superblock.journal_synced;
    // Each commit takes a block of the ring, so this ends; a chain does not meet itself.
    std::uint64_t taken = 0;
    while (taken < blocks_.size() && take_commit()) {
        taken += commits_.back().blocks;
    }
    look_for_loss();
}

std::string JournalScan::decode(const CommitPlace& place, Commit& into)
{
    into.operations.clear();
    into.stream.clear();
    auto block = std::make_unique<Block>();
    const std::uint64_t start = image_.superblock().journal_start;
    for (std::uint64_t i = 0; i < place.blocks; ++i) {
        const std::uint64_t at_block = start + (place.position + i) % blocks_.size();
        if (auto status = image_.read_block(at_block, *block); !status) {
            return status.error().text;
        }
        into.stream.insert(into.stream.end(),
                           block->bytes.begin() + sizeof(layout::JournalBlockHeader),
                           block->bytes.end());
    }
    into.header = copy_out<layout::CommitHeader>(into.stream.data());
    const std::uint64_t count = into.header.operations;
    const std::uint64_t payload_start =
        sizeof(layout::CommitHeader) + count * sizeof(layout::OperationRecord);
    if (payload_start + into.header.payload_bytes > into.stream.size()) {
        return fmt::format("it claims {} operations and {} bytes of payload, more than its blocks "
                           "hold",
                           count, into.header.payload_bytes.get());
    }
    const std::span<const std::byte> payload =
        std::span<const std::byte>(into.stream).subspan(payload_start, into.header.payload_bytes);
    std::uint64_t before = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        JournalOperation operation;
        operation.record =
            copy_out<layout::OperationRecord>(into.stream.data() + sizeof(layout::CommitHeader) +
                                              i * sizeof(layout::OperationRecord));
        const layout::OperationRecord& record = operation.record;
        const std::uint64_t end = std::uint64_t{record.payload_offset} + record.payload_bytes;
        std::string wrong;
        if (end > payload.size()) {
            wrong = "its payload lies outside the commit's";
        } else {
            operation.payload = payload.subspan(record.payload_offset, record.payload_bytes);
            wrong = judge_operation(operation, image_.fixed_blocks());
        }
        if (wrong.empty() &&
            (record.sequence <= before || record.sequence < into.header.first_sequence ||
             record.sequence > into.header.last_sequence)) {
            wrong = fmt::format("sequence {} after {}", record.sequence.get(), before);
        }
        const bool continues = (record.flags & layout::kOperationContinues) != 0;
        if (wrong.empty() && continues && i + 1 == count) {
            wrong = "the rest of its command is missing";
        }
        if (wrong.empty() && i > 0) {
            wrong = judge_command(into.operations.back().record, record);
        }
        if (!wrong.empty()) {
            return fmt::format("operation {} ({}, volume {}, lba {}, {} blocks, sequence {}): {}",
                               i, operation_type_name(record.type), record.volume.get(),
                               record.lba.get(), record.length.get(), record.sequence.get(), wrong);
        }
        before = record.sequence;
        into.operations.push_back(operation);
    }
    return {};
}

std::string judge_command(const layout::OperationRecord& before,
                          const layout::OperationRecord& record)
{
    const auto type = static_cast<OperationType>(record.type);
    const auto type_before = static_cast<OperationType>(before.type);
    const bool same_volume = before.volume == record.volume && before.stream == record.stream;
    const auto manages = [](OperationType of) {
        return of != OperationType::write && of != OperationType::deallocate &&
               of != OperationType::write_zeroes && of != OperationType::clone &&
               of != OperationType::clone_reference;
    };
    if ((before.flags & layout::kOperationContinues) == 0) {
        return {};
    }
    if (type == OperationType::snapshot && type_before == OperationType::snapshot) {
        return before.volume != record.volume ? "" : "one command has two snapshots of a volume";
    }
    if (manages(type) || manages(type_before)) {
        return fmt::format("one command has it together with {}", operation_type_name(before.type));
    }
    return same_volume ? "" : "one command changes several volumes or streams";
}

std::string judge_operation(const JournalOperation& operation, std::uint64_t fixed_blocks)
{
    const layout::OperationRecord& record = operation.record;
    const unsigned known_flags =
        layout::kOperationContinues | layout::kOperationIntent | layout::kOperationHasData;
    if ((record.flags & ~known_flags) != 0) {
        return fmt::format("unknown flags {:#x}", record.flags);
    }
    if (record.lba > layout::kMapEnd || record.source_lba > layout::kMapEnd || record.volume == 0) {
        return "a place outside any volume";
    }
    const auto type = static_cast<OperationType>(record.type);
    const bool intent = (record.flags & layout::kOperationIntent) != 0;
    if (intent != (type == OperationType::remove_volume || type == OperationType::rollback)) {
        return intent ? "an intent, which this type is none of" : "no intent, which it has to be";
    }
    const bool has_data = (record.flags & layout::kOperationHasData) != 0;
    if (has_data && type != OperationType::write) {
        return "data that it does not write";
    }
    switch (type) {
    case OperationType::write: {
        const std::uint64_t end = record.block + record.length;
        if (record.length == 0 || record.block < fixed_blocks || record.block > layout::kMaxBlock ||
            end > layout::kMaxBlock + 1) {
            return fmt::format("{} blocks of data at block {}", record.length.get(),
                               record.block.get());
        }
        const std::uint64_t data = has_data ? record.length * kBlockBytes : 0;
        if (record.payload_bytes != (std::uint64_t{record.length} - 1) * sizeof(Le32) + data) {
            return fmt::format("{} bytes of checksums and data for {} blocks",
                               record.payload_bytes.get(), record.length.get());
        }
        return {};
    }
    case OperationType::deallocate:
    case OperationType::write_zeroes: return record.length == 0 ? "no length" : "";
    case OperationType::clone:
    case OperationType::clone_reference:
        return record.length == 0 || record.source_volume == 0 ? "no length or no source" : "";
    case OperationType::rollback:
        return record.source_volume == 0 ? "no snapshot to roll back to" : "";
    case OperationType::remove_volume: return {};
    case OperationType::snapshot:
    case OperationType::create_volume:
    case OperationType::change_volume:
        if (record.payload_bytes != sizeof(layout::VolumeRecord)) {
            return fmt::format("{} bytes in place of a volume record", record.payload_bytes.get());
        }
        return {};
    case OperationType::write_unwritable: return "its type is reserved";
    }
    return "its type is unknown";
}

std::string operation_type_name(std::uint8_t type)
{
    switch (static_cast<OperationType>(type)) {
    case OperationType::write: return "write";
    case OperationType::deallocate: return "deallocate";
    case OperationType::write_zeroes: return "write_zeroes";
    case OperationType::write_unwritable: return "write_unwritable";
    case OperationType::clone: return "clone";
    case OperationType::clone_reference: return "clone_reference";
    case OperationType::snapshot: return "snapshot";
    case OperationType::create_volume: return "create_volume";
    case OperationType::remove_volume: return "remove_volume";
    case OperationType::rollback: return "rollback";
    case OperationType::change_volume: return "change_volume";
    }
    return fmt::format("unknown ({})", type);
}

}  // namespace coppice::checker
