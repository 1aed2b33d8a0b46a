// Byte ranges of a volume as blocks, operations on them, and who holds them.
#pragma once

#include "format/volume/state.h"

namespace coppice {

inline constexpr std::uint64_t kLongestRecord = 0xFFFFFFFFULL;  // blocks

inline std::uint64_t round_down(std::uint64_t bytes) { return bytes & ~(kBlockBytes - 1); }
inline std::uint64_t round_up(std::uint64_t bytes) { return round_down(bytes + kBlockBytes - 1); }
inline Lba lba_of(std::uint64_t bytes) { return Lba(bytes >> kBlockShift); }

inline JournalOperation make_operation(layout::OperationType type, DomainId domain, Lba lba,
                                       std::uint64_t length)
{
    JournalOperation operation;
    operation.record.type = static_cast<std::uint8_t>(type);
    operation.record.volume = static_cast<std::uint32_t>(domain.volume.value);
    operation.record.stream = static_cast<std::uint16_t>(domain.stream.value);
    operation.record.lba = lba.value;
    operation.record.length = static_cast<std::uint32_t>(length);
    return operation;
}

// Holds the blocks of a volume while they are changed.
class RangeLock {
public:
    RangeLock(State& state, VolumeId volume, std::uint64_t begin, std::uint64_t end, bool exclusive)
        : state_(state),
          handle_(state.locks.lock({volume, lba_of(begin), lba_of(round_up(end)), exclusive}))
    {
    }
    RangeLock(const RangeLock&) = delete;
    RangeLock& operator=(const RangeLock&) = delete;
    ~RangeLock() { state_.locks.unlock(handle_); }

private:
    State& state_;
    BlockLocks::Handle handle_;
};

}  // namespace coppice
