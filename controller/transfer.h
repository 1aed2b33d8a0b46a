// The data of one command in guest memory, described by PRP entries: NVM Express Base Specification
// 2.0, section 4.1.1. Where the host can map it, the store reads and writes guest memory directly;
// where not, a buffer of the controller's stands in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <sys/uio.h>
#include <vector>

#include "controller/limits.h"
#include "controller/ports.h"
#include "controller/spec/status.h"

namespace coppice::nvme {

// Where a command's data lies (command dwords 6 to 9).
struct DataPointer {
    std::uint64_t prp1 = 0;
    std::uint64_t prp2 = 0;
};

// A run of guest memory.
struct GuestPiece {
    std::uint64_t address = 0;
    std::uint64_t length_bytes = 0;
};

// Walks the PRP entries for `length_bytes` (at most kMaxTransferBytes) and appends the runs, pages
// that follow each other joined. Reads at most one list entry for each page.
Checked<void> walk_prps(Host& host, const DataPointer& data, std::uint64_t length_bytes,
                        std::vector<GuestPiece>& pieces);

// Small data (Identify, logs, range lists) by copying.
Checked<void> copy_from_guest(Host& host, const DataPointer& data, std::span<std::byte> into);
Checked<void> copy_to_guest(Host& host, const DataPointer& data, std::span<const std::byte> from);

// Memory that all commands share for buffers; bounded. While somebody waits for some it is closed
// to newcomers, so that small commands cannot starve a large one.
class BounceBudget {
public:
    bool fits(std::uint64_t bytes) const { return bytes <= kBounceBytes - used_; }
    bool take(std::size_t bytes)
    {
        if (closed_ || !fits(bytes)) {
            return false;
        }
        used_ += bytes;
        return true;
    }
    void give_back(std::size_t bytes) { used_ -= bytes; }
    void close() { closed_ = true; }
    void open() { closed_ = false; }

private:
    std::size_t used_ = 0;
    bool closed_ = false;
};

// The mapping of one command. Lifecycle: empty -> prepared -> finished (empty again).
class Transfer {
public:
    enum class Outcome : std::uint8_t {
        ready,
        no_memory,  // the budget is used up: nothing has changed, try again later
    };

    // Maps the guest's memory, or takes a buffer for it (filled, for Direction::from_guest).
    Checked<Outcome> prepare(Host& host, BounceBudget& budget, const DataPointer& data,
                             std::uint64_t length_bytes, Direction direction);
    // A buffer of the controller's that the guest does not see (Compare, Verify).
    Checked<Outcome> prepare_buffer(BounceBudget& budget, std::uint64_t length_bytes);

    std::span<const iovec> buffers() const { return vectors_; }
    std::span<const std::byte> buffer() const { return {bounce_.get(), bounce_bytes_}; }
    std::uint64_t length_bytes() const { return length_bytes_; }

    // Ends the mapping; with `good` a buffer for the guest is copied to it first.
    Checked<void> finish(Host& host, BounceBudget& budget, bool good);

private:
    bool map_all(Host& host);
    void unmap_all(Host& host, bool used);
    Checked<Outcome> take_buffer(BounceBudget& budget, std::uint64_t length_bytes);

    Direction direction_ = Direction::from_guest;
    std::uint64_t length_bytes_ = 0;
    bool mapped_ = false;
    std::vector<GuestPiece> pieces_;
    std::vector<iovec> vectors_;
    std::unique_ptr<std::byte[]> bounce_;
    std::size_t bounce_bytes_ = 0;
};

}  // namespace coppice::nvme
