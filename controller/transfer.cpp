#include "controller/transfer.h"

#include <algorithm>
#include <array>
#include <new>

#include "format/base/bytes.h"
#include "format/base/check.h"

namespace coppice::nvme {

namespace {

constexpr std::uint64_t page_offset(std::uint64_t address) { return address % kPageBytes; }

// True if [address, address + length) is a range of numbers at all.
constexpr bool is_range(std::uint64_t address, std::uint64_t length_bytes)
{
    return length_bytes == 0 || address <= ~std::uint64_t{0} - (length_bytes - 1);
}

Checked<void> append(std::vector<GuestPiece>& pieces, std::uint64_t address,
                     std::uint64_t length_bytes)
{
    if (!is_range(address, length_bytes)) {
        return refuse(StatusCode::data_transfer_error);
    }
    if (!pieces.empty() && is_range(pieces.back().address, pieces.back().length_bytes + 1) &&
        pieces.back().address + pieces.back().length_bytes == address) {
        pieces.back().length_bytes += length_bytes;
    } else {
        pieces.push_back({address, length_bytes});
    }
    return {};
}

// The entries behind the first when they do not fit the command: lists of PRP entries, each in one
// page, its last entry naming the next list if more are needed.
Checked<void> walk_lists(Host& host, std::uint64_t list, std::uint64_t left_bytes,
                         std::vector<GuestPiece>& pieces)
{
    std::array<Le64, kPageBytes / sizeof(Le64)> entries;
    // Every round takes a page at least, and there are at most kMaxTransferBytes.
    while (left_bytes > 0) {
        // The first list may begin anywhere in its page on a quadword; the spec forbids the rest.
        if (list % sizeof(Le64) != 0) {
            return refuse(StatusCode::prp_offset_invalid);
        }
        const std::uint64_t room = (kPageBytes - page_offset(list)) / sizeof(Le64);
        const std::uint64_t pages = (left_bytes + kPageBytes - 1) / kPageBytes;
        const bool chained = pages > room;
        const auto count = static_cast<std::size_t>(std::min(pages, room));
        const auto bytes = std::as_writable_bytes(std::span(entries).first(count));
        if (!is_range(list, bytes.size()) || !host.read_memory(list, bytes)) {
            return refuse(StatusCode::data_transfer_error);
        }
        const std::size_t data_entries = chained ? count - 1 : count;
        for (std::size_t i = 0; i < data_entries; ++i) {
            const std::uint64_t address = entries[i];
            if (page_offset(address) != 0) {
                return refuse(StatusCode::prp_offset_invalid);
            }
            const std::uint64_t length = std::min(left_bytes, kPageBytes);
            if (auto status = append(pieces, address, length); !status) {
                return status;
            }
            left_bytes -= length;
        }
        if (chained) {
            list = entries[count - 1];
            // A chained list begins on a page, so that each round but the first moves on.
            if (page_offset(list) != 0) {
                return refuse(StatusCode::prp_offset_invalid);
            }
        }
    }
    return {};
}

}  // namespace

Checked<void> walk_prps(Host& host, const DataPointer& data, std::uint64_t length_bytes,
                        std::vector<GuestPiece>& pieces)
{
    CHECK(length_bytes <= kMaxTransferBytes);
    if (length_bytes == 0) {
        return {};
    }
    // PRP1 may have an offset into its page; its low two bits are reserved (4.1.1).
    if (data.prp1 % 4 != 0) {
        return refuse(StatusCode::prp_offset_invalid);
    }
    const std::uint64_t first = std::min(length_bytes, kPageBytes - page_offset(data.prp1));
    if (auto status = append(pieces, data.prp1, first); !status) {
        return status;
    }
    const std::uint64_t left = length_bytes - first;
    if (left == 0) {
        return {};
    }
    if (left <= kPageBytes) {
        if (page_offset(data.prp2) != 0) {
            return refuse(StatusCode::prp_offset_invalid);
        }
        return append(pieces, data.prp2, left);
    }
    return walk_lists(host, data.prp2, left, pieces);
}

Checked<void> copy_from_guest(Host& host, const DataPointer& data, std::span<std::byte> into)
{
    std::vector<GuestPiece> pieces;
    if (auto status = walk_prps(host, data, into.size(), pieces); !status) {
        return status;
    }
    for (const GuestPiece& piece : pieces) {
        if (!host.read_memory(piece.address, into.first(piece.length_bytes))) {
            return refuse(StatusCode::data_transfer_error);
        }
        into = into.subspan(piece.length_bytes);
    }
    return {};
}

Checked<void> copy_to_guest(Host& host, const DataPointer& data, std::span<const std::byte> from)
{
    std::vector<GuestPiece> pieces;
    if (auto status = walk_prps(host, data, from.size(), pieces); !status) {
        return status;
    }
    for (const GuestPiece& piece : pieces) {
        if (!host.write_memory(piece.address, from.first(piece.length_bytes))) {
            return refuse(StatusCode::data_transfer_error);
        }
        from = from.subspan(piece.length_bytes);
    }
    return {};
}

// ---- Transfer -----------------------------------------------------------------------------

Checked<Transfer::Outcome> Transfer::prepare(Host& host, BounceBudget& budget,
                                             const DataPointer& data, std::uint64_t length_bytes,
                                             Direction direction)
{
    CHECK(length_bytes_ == 0 && vectors_.empty());
    pieces_.clear();
    if (auto status = walk_prps(host, data, length_bytes, pieces_); !status) {
        return refuse(status.error());
    }
    direction_ = direction;
    if (map_all(host)) {
        length_bytes_ = length_bytes;
        return Outcome::ready;
    }
    // Not memory, or the host has no way to map it now: through a buffer.
    const Checked<Outcome> outcome = take_buffer(budget, length_bytes);
    if (!outcome || *outcome == Outcome::no_memory) {
        return outcome;
    }
    if (direction == Direction::from_guest) {
        std::span<std::byte> into(bounce_.get(), bounce_bytes_);
        for (const GuestPiece& piece : pieces_) {
            if (!host.read_memory(piece.address, into.first(piece.length_bytes))) {
                (void)finish(host, budget, false);
                return refuse(StatusCode::data_transfer_error);
            }
            into = into.subspan(piece.length_bytes);
        }
    }
    return Outcome::ready;
}

Checked<Transfer::Outcome> Transfer::prepare_buffer(BounceBudget& budget,
                                                    std::uint64_t length_bytes)
{
    CHECK(length_bytes_ == 0 && vectors_.empty());
    pieces_.clear();
    direction_ = Direction::from_guest;  // nothing to copy back
    return take_buffer(budget, length_bytes);
}

Checked<Transfer::Outcome> Transfer::take_buffer(BounceBudget& budget, std::uint64_t length_bytes)
{
    const auto bytes = static_cast<std::size_t>(length_bytes);
    if (!budget.take(bytes)) {
        return Outcome::no_memory;
    }
    // Zeroes: a host may have failed reads ignored, and then this goes to the guest as it is.
    bounce_.reset(new (std::nothrow) std::byte[bytes]());
    if (bounce_ == nullptr) {
        budget.give_back(bytes);
        return refuse(StatusCode::internal_error);
    }
    bounce_bytes_ = bytes;
    length_bytes_ = length_bytes;
    vectors_.push_back({bounce_.get(), bytes});
    return Outcome::ready;
}

bool Transfer::map_all(Host& host)
{
    mapped_ = true;
    for (const GuestPiece& piece : pieces_) {
        std::uint64_t done = 0;
        while (done < piece.length_bytes) {
            auto length = static_cast<std::size_t>(piece.length_bytes - done);
            const std::size_t wanted = length;
            void* pointer = vectors_.size() < kMaxPieces
                                ? host.map(piece.address + done, length, direction_)
                                : nullptr;
            if (pointer == nullptr) {
                unmap_all(host, false);
                return false;
            }
            CHECK(length > 0 && length <= wanted);
            vectors_.push_back({pointer, length});
            done += length;
        }
    }
    return true;
}

void Transfer::unmap_all(Host& host, bool used)
{
    for (const iovec& vector : vectors_) {
        host.unmap(vector.iov_base, vector.iov_len, direction_, used ? vector.iov_len : 0);
    }
    vectors_.clear();
    mapped_ = false;
}

Checked<void> Transfer::finish(Host& host, BounceBudget& budget, bool good)
{
    Checked<void> outcome;
    if (bounce_ != nullptr) {
        if (good && direction_ == Direction::to_guest) {
            std::span<const std::byte> from(bounce_.get(), bounce_bytes_);
            for (const GuestPiece& piece : pieces_) {
                if (!host.write_memory(piece.address, from.first(piece.length_bytes))) {
                    outcome = refuse(StatusCode::data_transfer_error);
                    break;
                }
                from = from.subspan(piece.length_bytes);
            }
        }
        budget.give_back(bounce_bytes_);
        bounce_.reset();
        bounce_bytes_ = 0;
        vectors_.clear();
    } else if (mapped_) {
        // A failed read may have written some of it; the host must know that the pages changed.
        unmap_all(host, true);
    }
    length_bytes_ = 0;
    return outcome;
}

}  // namespace coppice::nvme
