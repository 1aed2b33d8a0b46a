// Queue entries and opcodes: NVM Express Base Specification 2.0, section 3.3.3, and the data
// structures that NVM commands read from the guest (NVM Command Set Specification 1.0,
// section 3.2).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "controller/spec/bits.h"
#include "format/base/bytes.h"

namespace coppice::nvme {

inline constexpr std::uint32_t kNsidAll = 0xffffffff;

// Submission queue entry (3.3.3.1, figure 87).
struct SubmissionEntry {
    std::uint8_t opcode = 0;  // CDW0 7:0
    std::uint8_t flags = 0;   // CDW0 15:8
    Le16 command_id;          // CDW0 31:16
    Le32 nsid;
    Le32 cdw2;
    Le32 cdw3;
    Le64 metadata;
    Le64 prp1;
    Le64 prp2;
    Le32 cdw10;
    Le32 cdw11;
    Le32 cdw12;
    Le32 cdw13;
    Le32 cdw14;
    Le32 cdw15;

    std::uint32_t fuse() const { return bits<1, 0>(flags); }  // CDW0 9:8
    std::uint32_t psdt() const { return bits<7, 6>(flags); }  // CDW0 15:14; 0: PRPs
};
static_assert(sizeof(SubmissionEntry) == 64);
static_assert(offsetof(SubmissionEntry, nsid) == 4);
static_assert(offsetof(SubmissionEntry, metadata) == 16);
static_assert(offsetof(SubmissionEntry, prp1) == 24);
static_assert(offsetof(SubmissionEntry, prp2) == 32);
static_assert(offsetof(SubmissionEntry, cdw10) == 40);
static_assert(offsetof(SubmissionEntry, cdw15) == 60);

// Completion queue entry (3.3.3.2, figure 89).
struct CompletionEntry {
    Le32 dw0;  // command specific
    Le32 dw1;
    Le16 sq_head;
    Le16 sq_id;
    Le16 command_id;
    Le16 status;  // with the phase tag in bit 0
};
static_assert(sizeof(CompletionEntry) == 16);
static_assert(offsetof(CompletionEntry, sq_head) == 8);
static_assert(offsetof(CompletionEntry, command_id) == 12);
static_assert(offsetof(CompletionEntry, status) == 14);
// The dword that holds command id, status and phase; it must reach the guest last.
inline constexpr std::size_t kCompletionLastDword = 12;

// Admin opcodes (5, figure 138). Bits 1:0 are the direction of data: 1 from the host, 2 to it.
enum class AdminOpcode : std::uint8_t {
    delete_sq = 0x00,
    create_sq = 0x01,
    get_log_page = 0x02,
    delete_cq = 0x04,
    create_cq = 0x05,
    identify = 0x06,
    abort = 0x08,
    set_features = 0x09,
    get_features = 0x0a,
    async_event = 0x0c,
    namespace_management = 0x0d,
    namespace_attachment = 0x15,
    // Vendor commands (NVME.md)
    snapshot_create = 0xc1,
    snapshot_list = 0xc2,
    snapshot_delete = 0xc4,
    clone = 0xc5,
    rollback = 0xc8,
    checkpoint = 0xcc,
    set_flush_mode = 0xd0,
    set_group = 0xd4,
};

// I/O opcodes (7, and NVM Command Set 3.2).
enum class IoOpcode : std::uint8_t {
    flush = 0x00,
    write = 0x01,
    read = 0x02,
    compare = 0x05,
    write_zeroes = 0x08,
    dataset_management = 0x09,
    verify = 0x0c,
    copy = 0x19,
    // Vendor commands (NVME.md). Those with kTaggedOpcode are the standard ones, with a tag.
    stream_open = 0x90,
    write_ranges = 0x91,
    stream_close = 0x94,
    transaction_begin = 0xa0,
    transaction_commit = 0xa4,
    transaction_abort = 0xa8,
};

// Flush, Write, Read, Write Zeroes, Dataset Management and Copy plus this: the same command, as a
// part of the transaction that CDW14 names or of the stream in CDW15 15:0 (NVME.md). Bits 1:0, the
// direction of data, stay as they are.
inline constexpr std::uint8_t kTaggedOpcode = 0x80;
constexpr IoOpcode tagged(IoOpcode opcode)
{
    return static_cast<IoOpcode>(static_cast<std::uint8_t>(opcode) | kTaggedOpcode);
}
constexpr std::uint32_t tag_stream(std::uint32_t cdw15) { return bits<15, 0>(cdw15); }
constexpr std::uint32_t tag_reserved(std::uint32_t cdw15) { return bits<31, 16>(cdw15); }

// CDW12 of Read, Write, Compare, Verify, Write Zeroes (NVM 3.2.1, 3.2.4 to 3.2.8).
struct IoDword12 {
    std::uint32_t value = 0;
    constexpr std::uint32_t blocks_z() const { return bits<15, 0>(value); }    // NLB
    constexpr std::uint32_t directive() const { return bits<23, 20>(value); }  // DTYPE
    constexpr bool deallocate() const { return bit<25>(value); }  // DEAC (Write Zeroes)
    constexpr std::uint32_t protection() const { return bits<29, 26>(value); }  // PRINFO
    constexpr bool force_unit_access() const { return bit<30>(value); }         // FUA
};

// CDW12 of Copy (NVM 3.2.2).
struct CopyDword12 {
    std::uint32_t value = 0;
    constexpr std::uint32_t ranges_z() const { return bits<7, 0>(value); }            // NR
    constexpr std::uint32_t descriptor_format() const { return bits<11, 8>(value); }  // DESFMT
    constexpr std::uint32_t protection_read() const { return bits<15, 12>(value); }   // PRINFOR
    constexpr std::uint32_t directive() const { return bits<23, 20>(value); }         // DTYPE
    constexpr std::uint32_t protection_write() const { return bits<29, 26>(value); }  // PRINFOW
    constexpr bool force_unit_access() const { return bit<30>(value); }               // FUA
};

// Source range of Copy, descriptor formats 0 and 2 (NVM 3.2.2; format 2 names the namespace).
struct CopyRange {
    Le32 source_nsid;  // format 2; reserved in format 0
    Le32 reserved4;
    Le64 start_lba;
    Le16 blocks_z;
    std::array<std::uint8_t, 4> reserved18{};
    Le16 options;  // format 2: SOPT
    Le32 reference_tag;
    Le16 application_tag_mask;
    Le16 application_tag;
};
static_assert(sizeof(CopyRange) == 32);
static_assert(offsetof(CopyRange, start_lba) == 8);
static_assert(offsetof(CopyRange, blocks_z) == 16);
static_assert(offsetof(CopyRange, options) == 22);
// SOPT: Fast Copy Only; the command fails rather than copy bytes.
constexpr bool copy_option_fast_only(std::uint16_t options) { return bit<15>(options); }

// Dataset Management (NVM 3.2.3).
constexpr std::uint32_t dsm_ranges_z(std::uint32_t cdw10) { return bits<7, 0>(cdw10); }  // NR
constexpr bool dsm_deallocate(std::uint32_t cdw11) { return bit<2>(cdw11); }             // AD
struct DsmRange {
    Le32 attributes;
    Le32 blocks;  // not zero-based
    Le64 start_lba;
};
static_assert(sizeof(DsmRange) == 16);
static_assert(offsetof(DsmRange, start_lba) == 8);

// Write Ranges (NVME.md): the list's entries, at the beginning of the command's data. CDW10 and
// CDW12 as in Dataset Management and Write.
constexpr std::uint32_t write_ranges_z(std::uint32_t cdw10) { return bits<7, 0>(cdw10); }
struct WriteRange {
    Le64 start_lba;
    Le32 blocks;  // not zero-based
    Le32 reserved12;
};
static_assert(sizeof(WriteRange) == 16);
static_assert(offsetof(WriteRange, blocks) == 8);

}  // namespace coppice::nvme
