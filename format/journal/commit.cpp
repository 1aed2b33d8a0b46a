#include "format/journal/commit.h"

#include <cstring>
#include <fmt/format.h>

#include "format/base/check.h"
#include "format/base/checksum.h"

namespace coppice {

namespace {

using layout::kJournalBodyBytes;

void append(std::vector<std::byte>& stream, const void* from, std::size_t bytes)
{
    const auto* begin = static_cast<const std::byte*>(from);
    stream.insert(stream.end(), begin, begin + bytes);
}

// Can an operation be what it says, whatever the trees hold? Empty: it can.
std::string_view impossible(const layout::OperationRecord& record, std::uint64_t fixed_blocks)
{
    using layout::OperationType;
    constexpr unsigned kKnownFlags =
        layout::kOperationContinues | layout::kOperationIntent | layout::kOperationHasData;
    if ((record.flags & ~kKnownFlags) != 0) {
        return "has unknown flags";
    }
    if (record.volume == 0 || record.lba > layout::kMapEnd || record.source_lba > layout::kMapEnd) {
        return "names a place outside any volume";
    }
    const bool intent = (record.flags & layout::kOperationIntent) != 0;
    if (intent != is_intent(static_cast<OperationType>(record.type))) {
        return intent ? "is an intent, which its type has none of" : "should be an intent";
    }
    const bool has_data = (record.flags & layout::kOperationHasData) != 0;
    if (has_data && static_cast<OperationType>(record.type) != OperationType::write) {
        return "has data, but writes none";
    }
    switch (static_cast<OperationType>(record.type)) {
    case OperationType::write:
        if (record.length == 0 || record.block < fixed_blocks || record.block > layout::kMaxBlock ||
            record.length > layout::kMaxBlock + 1 - record.block) {
            return "names blocks that cannot hold data";
        }
        return record.payload_bytes == (std::uint64_t{record.length} - 1) * 4 +
                                           (has_data ? record.length * kBlockBytes : 0)
                   ? ""
                   : "does not have a checksum, or its data, for each block";
    case OperationType::deallocate:
    case OperationType::write_zeroes: return record.length != 0 ? "" : "has no length";
    case OperationType::clone:
    case OperationType::clone_reference:
        return record.length != 0 && record.source_volume != 0 ? "" : "has no length or no source";
    case OperationType::rollback: return record.source_volume != 0 ? "" : "has no snapshot";
    case OperationType::remove_volume: return "";
    case OperationType::snapshot:
    case OperationType::create_volume:
    case OperationType::change_volume:
        return record.payload_bytes == sizeof(layout::VolumeRecord) ? "" : "has no volume record";
    case OperationType::write_unwritable: break;
    }
    return "is of no known type";
}

bool changes_a_range(const layout::OperationRecord& record)
{
    using layout::OperationType;
    switch (static_cast<OperationType>(record.type)) {
    case OperationType::write:
    case OperationType::deallocate:
    case OperationType::write_zeroes:
    case OperationType::clone:
    case OperationType::clone_reference: return true;
    case OperationType::write_unwritable:
    case OperationType::snapshot:
    case OperationType::create_volume:
    case OperationType::remove_volume:
    case OperationType::rollback:
    case OperationType::change_volume: return false;
    }
    return false;
}

// May two operations that follow each other be of one command? Before a command takes effect all
// that it needs is found, by the state that is there then: nothing in it gives a volume another
// map.
bool one_command(const layout::OperationRecord& first, const layout::OperationRecord& second)
{
    constexpr auto kSnapshot = static_cast<std::uint8_t>(layout::OperationType::snapshot);
    if (first.type == kSnapshot) {
        return second.type == kSnapshot && first.volume != second.volume;
    }
    return changes_a_range(first) && changes_a_range(second) && first.volume == second.volume &&
           first.stream == second.stream;
}

}  // namespace

std::uint32_t JournalOperation::checksum(std::uint64_t index) const
{
    if (index == 0) {
        return record.checksum;
    }
    Le32 value;
    std::memcpy(static_cast<void*>(&value), payload.data() + (index - 1) * 4, 4);
    return value;
}

std::span<const std::byte> JournalOperation::data() const
{
    return std::span(payload).subspan((record.length - 1) * sizeof(Le32));
}

std::uint64_t commit_blocks(std::uint64_t operations, std::uint64_t payload_bytes)
{
    const std::uint64_t bytes =
        sizeof(layout::CommitHeader) + operations * sizeof(layout::OperationRecord) + payload_bytes;
    return divide_up(bytes, kJournalBodyBytes);
}

BlockBytes encode_commit(std::span<const JournalOperation> operations, const CommitPlace& place,
                         std::uint64_t& last_checksum)
{
    std::uint64_t payload_bytes = 0;
    for (const JournalOperation& operation : operations) {
        payload_bytes += operation.payload.size();
    }
    layout::CommitHeader commit{};
    commit.operations = static_cast<std::uint32_t>(operations.size());
    commit.payload_bytes = static_cast<std::uint32_t>(payload_bytes);
    commit.flags = place.flags;
    if (!operations.empty()) {
        commit.first_sequence = operations.front().record.sequence;
        commit.last_sequence = operations.back().record.sequence;
    }
    std::vector<std::byte> stream;
    stream.reserve(sizeof(commit) + operations.size() * sizeof(layout::OperationRecord) +
                   payload_bytes);
    append(stream, &commit, sizeof(commit));
    std::uint64_t offset = 0;
    for (const JournalOperation& operation : operations) {
        layout::OperationRecord record = operation.record;
        record.payload_offset = static_cast<std::uint32_t>(offset);
        record.payload_bytes = static_cast<std::uint32_t>(operation.payload.size());
        offset += operation.payload.size();
        append(stream, &record, sizeof(record));
    }
    for (const JournalOperation& operation : operations) {
        append(stream, operation.payload.data(), operation.payload.size());
    }

    const std::uint64_t count = divide_up(stream.size(), kJournalBodyBytes);
    BlockBytes blocks(count * kBlockBytes);
    std::uint64_t previous = place.previous;
    for (std::uint64_t index = 0; index < count; ++index) {
        std::byte* block = blocks.data() + index * kBlockBytes;
        layout::JournalBlockHeader header{};
        header.magic = layout::kJournalMagic;
        header.index = static_cast<std::uint32_t>(index);
        header.count = static_cast<std::uint32_t>(count);
        header.commit = place.commit.value;
        header.generation = place.generation.value;
        header.previous = previous;
        header.synced = place.synced.value;
        const std::size_t begin = index * kJournalBodyBytes;
        const std::size_t bytes = std::min(kJournalBodyBytes, stream.size() - begin);
        std::memcpy(block, static_cast<const void*>(&header), sizeof(header));
        std::memcpy(block + sizeof(header), stream.data() + begin, bytes);
        header.checksum = metadata_checksum({block, kBlockBytes}, place.image_seed);
        std::memcpy(block, static_cast<const void*>(&header), sizeof(header));
        previous = header.checksum;
    }
    last_checksum = previous;
    return blocks;
}

Result<DecodedCommit> decode_commit(CommitNo commit, std::span<const std::byte> stream,
                                    std::uint64_t fixed_blocks)
{
    auto wrong = [&](std::string what) {
        return fail(ErrorCode::bad_record, fmt::format("journal commit {} {}", commit.value, what));
    };
    layout::CommitHeader header;
    if (stream.size() < sizeof(header)) {
        return wrong("is too short");
    }
    std::memcpy(static_cast<void*>(&header), stream.data(), sizeof(header));
    const std::uint64_t records_end =
        sizeof(header) + std::uint64_t{header.operations} * sizeof(layout::OperationRecord);
    if (records_end + header.payload_bytes > stream.size()) {
        return wrong("says that it is longer than it is");
    }
    DecodedCommit result{commit, header.flags, {}};
    result.operations.resize(header.operations);
    const auto payload = stream.subspan(records_end, header.payload_bytes);
    Sequence last;
    std::uint64_t payload_used = 0;
    for (std::uint64_t i = 0; i < header.operations; ++i) {
        JournalOperation& operation = result.operations[i];
        auto& record = operation.record;
        std::memcpy(static_cast<void*>(&record),
                    stream.data() + sizeof(header) + i * sizeof(record), sizeof(record));
        const std::uint64_t begin = record.payload_offset;
        if (const auto what = impossible(record, fixed_blocks); !what.empty()) {
            return wrong(fmt::format("is damaged: operation {} {}", i, what));
        }
        if (operation.sequence() <= last || operation.sequence().value < header.first_sequence ||
            operation.sequence().value > header.last_sequence) {
            return wrong(fmt::format("is damaged: operation {} is out of order", i));
        }
        // Payloads follow each other: each byte belongs to one operation.
        if (begin < payload_used || begin + record.payload_bytes > payload.size()) {
            return wrong(fmt::format("is damaged: operation {} has its payload elsewhere", i));
        }
        payload_used = begin + record.payload_bytes;
        if (operation.continues() && i + 1 == header.operations) {
            return wrong("is damaged: the rest of its last command is missing");
        }
        if (i > 0 && result.operations[i - 1].continues() &&
            !one_command(result.operations[i - 1].record, record)) {
            return wrong(
                fmt::format("is damaged: operation {} cannot be of the command before", i));
        }
        last = operation.sequence();
        const auto bytes = payload.subspan(begin, record.payload_bytes);
        operation.payload.assign(bytes.begin(), bytes.end());
    }
    return result;
}

}  // namespace coppice
