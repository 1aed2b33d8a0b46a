// Every bound of the controller in one place, with its reason.
#pragma once

#include <cstddef>
#include <cstdint>

namespace coppice::nvme {

// The only memory page size offered (CAP.MPSMIN = MPSMAX = 0).
inline constexpr std::uint64_t kPageBytes = 4096;

// CAP.MQES: Linux uses 1,024 entries unless told otherwise.
inline constexpr std::uint32_t kMaxQueueEntries = 2048;
// I/O queue pairs: one for each of 64 CPUs, as in QEMU's own device.
inline constexpr std::uint16_t kMaxIoQueues = 64;

// CAP.TO in 500 ms: disabling waits for what is under way on the host, which may be slow.
inline constexpr std::uint32_t kReadyTimeout500ms = 60;

// MDTS in powers of two of a page: 1 MiB. Writes of any accepted size are atomic, so this is the
// atomic write unit too; larger ones would make the store's commits larger for little gain.
inline constexpr unsigned kMaxTransferExponent = 8;
inline constexpr std::size_t kMaxTransferBytes = kPageBytes << kMaxTransferExponent;
// Pieces of host memory for one transfer: a page each, and one for an unaligned beginning; some
// more in case the host maps in smaller pieces. Beyond that the data goes through a buffer.
inline constexpr std::size_t kMaxPieces = 512;

// Commands taken from the queues and not yet completed. Bounds memory, not the guest: the rest
// waits in the submission queues.
inline constexpr std::size_t kMaxInFlight = 1024;
// Commands taken in one call, so that a guest that never stops submitting does not starve the
// thread that it shares with the store.
inline constexpr unsigned kMaxFetchesPerPoll = 256;
inline constexpr unsigned kFetchBatch = 32;  // entries read at once: 2 KiB
// Memory for data that cannot stay in the guest's (Compare, Verify, unmappable pages). A command
// waits its turn when it is used up. At least the largest transfer, so that each can proceed.
inline constexpr std::size_t kBounceBytes = 16U << 20;

// Copy (MSSRL, MCL, MSRC): source ranges are a multiple of 8 blocks, so that with 512-byte blocks a
// host that cuts at the limit stays on 4 KiB boundaries, where copies share and cost nothing.
inline constexpr std::uint32_t kCopyRanges = 256;
inline constexpr std::uint32_t kCopyRangeBlocks = 65528;
inline constexpr std::uint32_t kCopyBlocks = kCopyRanges * kCopyRangeBlocks;
static_assert(std::uint64_t{kCopyBlocks} * 512 >= std::uint64_t{1} << 30);
// Over a plain block device a copy moves bytes, within the guest's patience.
inline constexpr std::uint64_t kBounceCopyBytes = 64U << 20;

inline constexpr std::uint32_t kDsmRanges = 256;
inline constexpr std::uint32_t kWriteRanges = 256;
// WZSL in powers of two of a page: 256 MiB is more than NLB can say.
inline constexpr unsigned kWriteZeroesExponent = 16;

inline constexpr unsigned kAborts = 4;       // ACL: they are answered at once
inline constexpr unsigned kAsyncEvents = 4;  // AERL
inline constexpr unsigned kErrorEntries = 64;
inline constexpr unsigned kChangedNamespaces = 1024;  // the log page's size

// Identify NN is at least this, and grows in steps of it: firmware asks for every namespace below.
inline constexpr std::uint32_t kNamespaceStep = 256;

}  // namespace coppice::nvme
