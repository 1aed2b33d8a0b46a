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

bool known(std::uint8_t type)
{
    switch (static_cast<layout::OperationType>(type)) {
    case layout::OperationType::write:
    case layout::OperationType::deallocate:
    case layout::OperationType::write_zeroes:
    case layout::OperationType::clone:
    case layout::OperationType::clone_reference:
    case layout::OperationType::snapshot:
    case layout::OperationType::create_volume:
    case layout::OperationType::remove_volume:
    case layout::OperationType::rollback:
    case layout::OperationType::change_volume: return true;
    case layout::OperationType::write_unwritable: break;
    }
    return false;
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

std::uint64_t commit_blocks(std::uint64_t operations, std::uint64_t payload_bytes)
{
    const std::uint64_t bytes =
        sizeof(layout::CommitHeader) + operations * sizeof(layout::OperationRecord) + payload_bytes;
    return divide_up(bytes, kJournalBodyBytes);
}

std::vector<std::byte> encode_commit(std::span<const JournalOperation> operations,
                                     const CommitPlace& place, std::uint64_t& last_checksum)
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
    std::vector<std::byte> blocks(count * kBlockBytes);
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

Result<DecodedCommit> decode_commit(CommitNo commit, std::span<const std::byte> stream)
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
        // Payloads follow each other: each byte belongs to one operation. No range wraps around.
        if (!known(record.type) || operation.sequence() <= last || begin < payload_used ||
            begin + record.payload_bytes > payload.size() ||
            record.lba > layout::kMaxVolumeBlocks || record.source_lba > layout::kMaxVolumeBlocks) {
            return wrong(fmt::format("has an impossible operation {}", i));
        }
        payload_used = begin + record.payload_bytes;
        if (operation.type() == layout::OperationType::write &&
            (record.length == 0 || record.block == 0 ||
             record.block + record.length > layout::kMaxBlock ||
             record.payload_bytes != (std::uint64_t{record.length} - 1) * 4)) {
            return wrong(fmt::format("has an impossible write as operation {}", i));
        }
        last = operation.sequence();
        const auto bytes = payload.subspan(begin, record.payload_bytes);
        operation.payload.assign(bytes.begin(), bytes.end());
    }
    return result;
}

}  // namespace coppice
