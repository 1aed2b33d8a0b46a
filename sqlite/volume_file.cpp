#include "sqlite/volume_file.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

#include "format/base/bytes.h"
#include "format/base/check.h"

namespace coppice::sqlite {

namespace {

constexpr std::uint64_t kSectorBytes = 512;
constexpr std::array<std::uint8_t, 8> kMagic = {'C', 'o', 'p', 'S', 'Q', 'L', 'f', '1'};

struct Header {
    std::array<std::uint8_t, 8> magic{};
    Le64 size_bytes;
    Le32 exists;
    std::array<std::uint8_t, 492> reserved{};
};
static_assert(sizeof(Header) == kSectorBytes);
static_assert(offsetof(Header, size_bytes) == 8);
static_assert(offsetof(Header, exists) == 16);

std::uint64_t round_down(std::uint64_t value, std::uint64_t to) { return value / to * to; }
std::uint64_t round_up(std::uint64_t value, std::uint64_t to) { return divide_up(value, to) * to; }

iovec buffer_of(std::span<const std::byte> bytes)
{
    // iovec has no const; the store only reads from the buffers of a write.
    return {const_cast<std::byte*>(bytes.data()), bytes.size()};  // NOLINT
}

}  // namespace

// ---- Locks --------------------------------------------------------------------------------

bool FileLocks::raise(LockLevel& held, LockLevel wanted)
{
    if (held >= wanted) {
        return true;
    }
    const bool others_write = writer_ != nullptr && writer_ != &held;
    if (held == LockLevel::none) {
        if (pending_) {
            return false;
        }
        ++readers_;
        held = LockLevel::shared;
    }
    if (wanted == LockLevel::shared) {
        return true;
    }
    if (others_write) {
        return false;
    }
    writer_ = &held;
    if (wanted == LockLevel::reserved) {
        held = LockLevel::reserved;
        return true;
    }
    // No new reader from here on, so that those there are come to an end.
    pending_ = true;
    held = readers_ > 1 ? LockLevel::pending : LockLevel::exclusive;
    return held >= wanted;
}

void FileLocks::lower(LockLevel& held, LockLevel wanted)
{
    if (held <= wanted) {
        return;
    }
    if (writer_ == &held) {
        writer_ = nullptr;
        pending_ = false;
    }
    if (wanted == LockLevel::none) {
        CHECK(readers_ != 0);
        --readers_;
    }
    held = wanted;
}

// ---- What both kinds share ----------------------------------------------------------------

Status VolumeFile::refresh()
{
    Header header;
    COPPICE_TRY(read_volume(0, std::as_writable_bytes(std::span(&header, 1)), {}));
    if (header.magic == decltype(header.magic){}) {
        size_bytes_ = recorded_bytes_ = 0;
        exists_ = true;
        return {};
    }
    if (header.magic != kMagic) {
        return fail(ErrorCode::not_an_image,
                    fmt::format("volume {} does not begin as one that holds a file of SQLite's; "
                                "take an empty one",
                                name_));
    }
    size_bytes_ = recorded_bytes_ = header.size_bytes;
    exists_ = header.exists != 0;
    return {};
}

Status VolumeFile::read_volume(std::uint64_t offset_bytes, std::span<std::byte> into,
                               TransactionId transaction)
{
    const std::uint64_t begin = round_down(offset_bytes, kSectorBytes);
    const std::uint64_t end = round_up(offset_bytes + into.size(), kSectorBytes);
    std::vector<std::byte> around;
    iovec buffer{into.data(), into.size()};
    if (end - begin != into.size()) {
        around.resize(end - begin);
        buffer = {around.data(), around.size()};
    }
    COPPICE_TRY(store_.perform({.kind = Operation::Kind::read,
                                .volume = volume_,
                                .offset_bytes = begin,
                                .length_bytes = end - begin,
                                .buffers = {&buffer, 1},
                                .transaction = transaction}));
    if (!around.empty()) {
        std::memcpy(into.data(), around.data() + (offset_bytes - begin), into.size());
    }
    return {};
}

Status VolumeFile::write_header(TransactionId transaction)
{
    Header header;
    header.magic = kMagic;
    header.size_bytes = size_bytes_;
    header.exists = exists_ ? 1 : 0;
    std::vector<std::byte> block(kHeaderBytes);
    std::memcpy(block.data(), static_cast<const void*>(&header), sizeof(header));
    const iovec buffer = buffer_of(block);
    return store_.perform({.kind = Operation::Kind::write,
                           .volume = volume_,
                           .length_bytes = block.size(),
                           .buffers = {&buffer, 1},
                           .transaction = transaction});
}

Status VolumeFile::drop_end(std::uint64_t new_size, std::uint64_t old_size,
                            TransactionId transaction)
{
    const std::uint64_t begin = round_up(new_size, kSectorBytes);
    const std::uint64_t end = round_up(old_size, kSectorBytes);
    if (begin >= end) {
        return {};
    }
    const Range range{place_of(begin), end - begin};
    return store_.perform({.kind = Operation::Kind::deallocate,
                           .volume = volume_,
                           .ranges = {&range, 1},
                           .transaction = transaction});
}

Status VolumeFile::set_existence(bool exists)
{
    const std::uint64_t old_size = recorded_bytes_;
    exists_ = exists;
    size_bytes_ = recorded_bytes_ = 0;
    COPPICE_TRY(write_header({}));
    return drop_end(0, old_size, {});
}

// ---- By transactions of the store ---------------------------------------------------------

Status TransactionFile::begin()
{
    if (!lost_.empty()) {
        return fail(ErrorCode::io, "the transaction of the disk is lost: " + lost_);
    }
    if (transaction_ == TransactionId()) {
        COPPICE_ASSIGN(id, store_.begin(volume_));
        transaction_ = id;
    }
    return {};
}

Status TransactionFile::note(Status status)
{
    if (!status && (status.error().code == ErrorCode::conflict ||
                    status.error().code == ErrorCode::not_found)) {
        lost_ = status.error().text;
        transaction_ = {};
        size_bytes_ = recorded_bytes_;
    }
    return status;
}

Status TransactionFile::read(std::uint64_t offset_bytes, std::span<std::byte> into, bool writer)
{
    if (!writer) {
        return read_volume(place_of(offset_bytes), into, {});
    }
    if (!lost_.empty()) {
        return begin();
    }
    return note(read_volume(place_of(offset_bytes), into, transaction_));
}

Status TransactionFile::write(std::uint64_t offset_bytes, std::span<const std::byte> from)
{
    COPPICE_TRY(begin());
    const iovec buffer = buffer_of(from);
    COPPICE_TRY(note(store_.perform({.kind = Operation::Kind::write,
                                     .volume = volume_,
                                     .offset_bytes = place_of(offset_bytes),
                                     .length_bytes = from.size(),
                                     .buffers = {&buffer, 1},
                                     .transaction = transaction_})));
    size_bytes_ = std::max(size_bytes_, offset_bytes + from.size());
    return {};
}

Status TransactionFile::truncate(std::uint64_t size_bytes)
{
    COPPICE_TRY(begin());
    COPPICE_TRY(note(drop_end(size_bytes, size_bytes_, transaction_)));
    size_bytes_ = size_bytes;
    return {};
}

Status TransactionFile::commit()
{
    if (transaction_ == TransactionId()) {
        return lost_.empty() ? Status() : begin();
    }
    if (size_bytes_ != recorded_bytes_) {
        COPPICE_TRY(note(write_header(transaction_)));
    }
    COPPICE_TRY(note(store_.commit(transaction_, false)));
    transaction_ = {};
    recorded_bytes_ = size_bytes_;
    return {};
}

Status TransactionFile::sync()
{
    COPPICE_TRY(commit());
    return store_.flush(volume_);
}

void TransactionFile::end_write()
{
    if (transaction_ != TransactionId()) {
        // It fails where the store has ended the transaction already.
        (void)store_.abort(transaction_);
    }
    transaction_ = {};
    lost_.clear();
    size_bytes_ = recorded_bytes_;
}

// ---- As a file system has it --------------------------------------------------------------

Result<CachedFile::Block*> CachedFile::block_at(std::uint64_t number, bool whole)
{
    const auto found = dirty_.find(number);
    if (found != dirty_.end()) {
        return &found->second;
    }
    Block block(kBlockBytes);
    if (!whole) {
        COPPICE_TRY(read_volume(place_of(number * kBlockBytes), block, {}));
    }
    return &(dirty_[number] = std::move(block));
}

Status CachedFile::read(std::uint64_t offset_bytes, std::span<std::byte> into, bool)
{
    for (std::uint64_t done = 0; done < into.size();) {
        const std::uint64_t at = offset_bytes + done;
        const std::uint64_t inside = at % kBlockBytes;
        const auto next = dirty_.lower_bound(at / kBlockBytes);
        const bool cached = next != dirty_.end() && next->first == at / kBlockBytes;
        std::uint64_t length = into.size() - done;
        if (cached) {
            length = std::min(length, kBlockBytes - inside);
            std::memcpy(into.data() + done, next->second.data() + inside, length);
        } else {
            if (next != dirty_.end()) {
                length = std::min(length, next->first * kBlockBytes - at);
            }
            COPPICE_TRY(read_volume(place_of(at), into.subspan(done, length), {}));
        }
        done += length;
    }
    return {};
}

Status CachedFile::write(std::uint64_t offset_bytes, std::span<const std::byte> from)
{
    for (std::uint64_t done = 0; done < from.size();) {
        const std::uint64_t at = offset_bytes + done;
        const std::uint64_t inside = at % kBlockBytes;
        const std::uint64_t length = std::min(from.size() - done, kBlockBytes - inside);
        COPPICE_ASSIGN(block, block_at(at / kBlockBytes, length == kBlockBytes));
        std::memcpy(block->data() + inside, from.data() + done, length);
        done += length;
    }
    size_bytes_ = std::max(size_bytes_, offset_bytes + from.size());
    return dirty_.size() > most_blocks_ ? commit() : Status();
}

Status CachedFile::truncate(std::uint64_t size_bytes)
{
    const std::uint64_t old_size = std::max(size_bytes_, recorded_bytes_);
    if (size_bytes % kBlockBytes != 0 && size_bytes < old_size) {
        const std::uint64_t inside = size_bytes % kBlockBytes;
        COPPICE_ASSIGN(block, block_at(size_bytes / kBlockBytes, false));
        std::fill(block->begin() + static_cast<std::ptrdiff_t>(inside), block->end(), std::byte{});
    }
    dirty_.erase(dirty_.lower_bound(divide_up(size_bytes, kBlockBytes)), dirty_.end());
    size_bytes_ = size_bytes;
    COPPICE_TRY(write_header({}));
    recorded_bytes_ = size_bytes;
    return drop_end(round_up(size_bytes, kBlockBytes), old_size, {});
}

Status CachedFile::commit()
{
    for (auto first = dirty_.begin(); first != dirty_.end();) {
        std::vector<iovec> run;
        auto last = first;
        for (std::uint64_t number = first->first; last != dirty_.end() && last->first == number;
             ++last, ++number) {
            run.push_back(buffer_of(last->second));
        }
        COPPICE_TRY(store_.write(volume_, place_of(first->first * kBlockBytes), run, false));
        first = last;
    }
    dirty_.clear();
    if (size_bytes_ != recorded_bytes_) {
        COPPICE_TRY(write_header({}));
        recorded_bytes_ = size_bytes_;
    }
    return {};
}

Status CachedFile::sync()
{
    COPPICE_TRY(commit());
    return store_.flush(volume_);
}

}  // namespace coppice::sqlite
