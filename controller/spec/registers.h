// Controller registers in BAR 0: NVM Express Base Specification 2.0, section 3.1.3 (properties) and
// NVMe over PCIe Transport Specification 1.0, section 3.1.2 (doorbells).
//
// Left out, and read as zero: controller memory buffer, boot partitions, subsystem reset,
// persistent memory region.
#pragma once

#include <cstdint>

#include "controller/spec/bits.h"

namespace coppice::nvme {

enum RegisterOffset : std::uint64_t {
    kRegisterCap = 0x00,    // Controller Capabilities, 64 bits (3.1.3.1)
    kRegisterVs = 0x08,     // Version (3.1.3.2)
    kRegisterIntms = 0x0c,  // Interrupt Mask Set (3.1.3.3)
    kRegisterIntmc = 0x10,  // Interrupt Mask Clear (3.1.3.4)
    kRegisterCc = 0x14,     // Controller Configuration (3.1.3.5)
    kRegisterCsts = 0x1c,   // Controller Status (3.1.3.6)
    kRegisterNssr = 0x20,   // NVM Subsystem Reset (3.1.3.7)
    kRegisterAqa = 0x24,    // Admin Queue Attributes (3.1.3.8)
    kRegisterAsq = 0x28,    // Admin Submission Queue Base Address, 64 bits (3.1.3.9)
    kRegisterAcq = 0x30,    // Admin Completion Queue Base Address, 64 bits (3.1.3.10)
    kRegisterCrto = 0x68,   // Controller Ready Timeouts (3.1.3.21)
    kDoorbells = 0x1000,    // PCIe 3.1.2.1: queue y: tail at 8 y, head at 8 y + 4 (stride 0)
};
inline constexpr std::uint64_t kDoorbellBytes = 4;

// NVMe 2.0.0 (3.1.3.2): major, minor, tertiary.
inline constexpr std::uint32_t kVersion = 0x00020000;

// CAP (3.1.3.1).
struct CapFields {
    std::uint32_t max_queue_entries_z = 0;  // MQES 15:0
    bool contiguous_queues = true;          // CQR 16
    std::uint32_t timeout_500ms = 0;        // TO 31:24
    std::uint32_t doorbell_stride = 0;      // DSTRD 35:32
    bool nvm_command_set = true;            // CSS 37
    std::uint32_t min_page_exponent = 0;    // MPSMIN 51:48, 2^(12 + n)
    std::uint32_t max_page_exponent = 0;    // MPSMAX 55:52
    bool ready_with_media = true;           // CRMS.CRWMS 59
};
constexpr std::uint64_t make_cap(const CapFields& f)
{
    return place<15, 0>(f.max_queue_entries_z) | place<16>(f.contiguous_queues) |
           place<31, 24>(f.timeout_500ms) | place<35, 32>(f.doorbell_stride) |
           place<37>(f.nvm_command_set) | place<51, 48>(f.min_page_exponent) |
           place<55, 52>(f.max_page_exponent) | place<59>(f.ready_with_media);
}

// CC (3.1.3.5).
struct Cc {
    std::uint32_t value = 0;
    constexpr bool enable() const { return bit<0>(value); }                            // EN
    constexpr std::uint32_t command_set() const { return bits<6, 4>(value); }          // CSS
    constexpr std::uint32_t page_exponent() const { return bits<10, 7>(value); }       // MPS
    constexpr std::uint32_t arbitration() const { return bits<13, 11>(value); }        // AMS
    constexpr std::uint32_t shutdown() const { return bits<15, 14>(value); }           // SHN
    constexpr std::uint32_t sq_entry_exponent() const { return bits<19, 16>(value); }  // IOSQES
    constexpr std::uint32_t cq_entry_exponent() const { return bits<23, 20>(value); }  // IOCQES
};
// What a host may write; the rest is reserved and reads as zero.
inline constexpr std::uint32_t kCcWritable = 0x00fffff1;

// CSTS (3.1.3.6).
enum class ShutdownStatus : std::uint8_t { none = 0, occurring = 1, complete = 2 };
struct CstsFields {
    bool ready = false;                              // RDY 0
    bool fatal = false;                              // CFS 1
    ShutdownStatus shutdown = ShutdownStatus::none;  // SHST 3:2
};
constexpr std::uint32_t make_csts(const CstsFields& f)
{
    return static_cast<std::uint32_t>(place<0>(f.ready) | place<1>(f.fatal) |
                                      place<3, 2>(static_cast<std::uint64_t>(f.shutdown)));
}
constexpr bool csts_ready(std::uint32_t csts) { return bit<0>(csts); }
constexpr bool csts_fatal(std::uint32_t csts) { return bit<1>(csts); }
constexpr std::uint32_t csts_shutdown(std::uint32_t csts) { return bits<3, 2>(csts); }

// AQA (3.1.3.8): sizes of the admin queues.
constexpr std::uint32_t aqa_sq_entries_z(std::uint32_t aqa) { return bits<11, 0>(aqa); }   // ASQS
constexpr std::uint32_t aqa_cq_entries_z(std::uint32_t aqa) { return bits<27, 16>(aqa); }  // ACQS

// CRTO (3.1.3.21): CRWMT 15:0, in 500 ms.
constexpr std::uint32_t make_crto(std::uint32_t with_media_500ms)
{
    return static_cast<std::uint32_t>(place<15, 0>(with_media_500ms));
}

}  // namespace coppice::nvme
