#include "format/check/journal_data.h"

#include <algorithm>

#include "format/base/checksum.h"

namespace coppice::checker {

namespace {

constexpr std::uint64_t kVerifyBlocks = 256;

bool has_data(const layout::OperationRecord& record)
{
    return (record.flags & layout::kOperationHasData) != 0;
}

bool operation_data_verify(Image& image, const JournalOperation& operation)
{
    const layout::OperationRecord& record = operation.record;
    if (record.type != static_cast<std::uint8_t>(layout::OperationType::write) ||
        record.sequence <= image.sequence()) {
        return true;
    }
    if (record.block + record.length >
        std::max(image.image_blocks(), image.file_blocks()) + layout::kMaxLostGrowth) {
        return false;
    }
    if (has_data(record)) {
        return true;
    }
    const auto buffer =
        std::make_unique<Block[]>(std::min<std::uint64_t>(record.length, kVerifyBlocks));
    for (std::uint64_t at = 0; at < record.length; at += kVerifyBlocks) {
        const std::uint64_t count = std::min<std::uint64_t>(kVerifyBlocks, record.length - at);
        const std::span<std::byte> bytes(buffer[0].bytes.data(), count * kBlockBytes);
        if (!image.read_blocks(record.block + at, bytes)) {
            return false;
        }
        for (std::uint64_t i = 0; i < count; ++i) {
            if (data_checksum(buffer[i].bytes) != expected_checksum(operation, at + i)) {
                return false;
            }
        }
    }
    return true;
}

}  // namespace

std::uint32_t expected_checksum(const JournalOperation& operation, std::uint64_t index)
{
    return index == 0 ? operation.record.checksum.get()
                      : copy_out<Le32>(operation.payload.data() + (index - 1) * sizeof(Le32)).get();
}

std::span<const std::byte> carried_data(const JournalOperation& operation, std::uint64_t index)
{
    if (!has_data(operation.record)) {
        return {};
    }
    const std::size_t checksums = (operation.record.length - 1) * sizeof(Le32);
    return operation.payload.subspan(checksums + index * kBlockBytes, kBlockBytes);
}

bool data_verify(Image& image, const Commit& commit)
{
    return std::all_of(
        commit.operations.begin(), commit.operations.end(),
        [&](const JournalOperation& operation) { return operation_data_verify(image, operation); });
}

}  // namespace coppice::checker
