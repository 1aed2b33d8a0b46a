// Dwords of the admin commands: NVM Express Base Specification 2.0, section 5.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "controller/spec/bits.h"
#include "format/base/bytes.h"

namespace coppice::nvme {

// ---- Queues (PCIe transport: 5.4, 5.5, 5.6, 5.7) ----

constexpr std::uint16_t queue_id(std::uint32_t cdw10)  // QID
{
    return static_cast<std::uint16_t>(bits<15, 0>(cdw10));
}
constexpr std::uint32_t queue_entries_z(std::uint32_t cdw10)
{
    return bits<31, 16>(cdw10);
}  // QSIZE
constexpr bool queue_contiguous(std::uint32_t cdw11) { return bit<0>(cdw11); }  // PC
constexpr bool cq_interrupts(std::uint32_t cdw11) { return bit<1>(cdw11); }     // IEN
constexpr std::uint16_t cq_vector(std::uint32_t cdw11)                          // IV
{
    return static_cast<std::uint16_t>(bits<31, 16>(cdw11));
}
constexpr std::uint16_t sq_completion_queue(std::uint32_t cdw11)  // CQID
{
    return static_cast<std::uint16_t>(bits<31, 16>(cdw11));
}

// ---- Abort (5.1) ----

constexpr std::uint16_t abort_queue_id(std::uint32_t cdw10)  // SQID
{
    return static_cast<std::uint16_t>(bits<15, 0>(cdw10));
}
constexpr std::uint16_t abort_command_id(std::uint32_t cdw10)  // CID
{
    return static_cast<std::uint16_t>(bits<31, 16>(cdw10));
}
inline constexpr std::uint32_t kAbortNotDone = 1;  // completion dword 0, bit 0

// ---- Asynchronous Event Request (5.2) ----

enum class EventType : std::uint8_t { error = 0, health = 1, notice = 2 };
inline constexpr std::uint8_t kEventInvalidDoorbellRegister = 0x00;  // error (figure 147)
inline constexpr std::uint8_t kEventInvalidDoorbellValue = 0x01;
inline constexpr std::uint8_t kEventReliability = 0x00;  // health (figure 148)
inline constexpr std::uint8_t kEventSpare = 0x02;
inline constexpr std::uint8_t kEventNamespaceAttribute = 0x00;  // notice (figure 149)

constexpr std::uint32_t make_event(EventType type, std::uint8_t info, std::uint8_t log_page)
{
    return static_cast<std::uint32_t>(place<2, 0>(static_cast<std::uint64_t>(type)) |
                                      place<15, 8>(info) | place<23, 16>(log_page));
}

// ---- Identify (5.17) ----

constexpr std::uint8_t identify_cns(std::uint32_t cdw10)  // CNS
{
    return static_cast<std::uint8_t>(bits<7, 0>(cdw10));
}
constexpr std::uint16_t identify_controller(std::uint32_t cdw10)  // CNTID
{
    return static_cast<std::uint16_t>(bits<31, 16>(cdw10));
}
constexpr std::uint8_t identify_command_set(std::uint32_t cdw11)  // CSI
{
    return static_cast<std::uint8_t>(bits<31, 24>(cdw11));
}
enum class Cns : std::uint8_t {
    active_namespace = 0x00,
    controller = 0x01,
    active_list = 0x02,
    namespace_descriptors = 0x03,
    command_set_namespace = 0x05,
    command_set_controller = 0x06,
    command_set_active_list = 0x07,
    independent_namespace = 0x08,
    allocated_list = 0x10,
    allocated_namespace = 0x11,
    attached_controllers = 0x12,
    controllers = 0x13,
    command_set_allocated_list = 0x1a,
    command_set_allocated_namespace = 0x1b,
    command_sets = 0x1c,
};

// ---- Get Log Page (5.16) ----

struct LogDwords {
    std::uint32_t cdw10 = 0;
    std::uint32_t cdw11 = 0;
    std::uint32_t cdw12 = 0;
    std::uint32_t cdw13 = 0;
    std::uint32_t cdw14 = 0;
    constexpr std::uint8_t page() const { return static_cast<std::uint8_t>(bits<7, 0>(cdw10)); }
    constexpr bool retain_event() const { return bit<15>(cdw10); }  // RAE
    // NUMDL is CDW10 31:16, NUMDU is CDW11 15:0; together a zero-based count of dwords.
    constexpr std::uint64_t dwords_z() const
    {
        return place<15, 0>(bits<31, 16>(cdw10)) | place<31, 16>(bits<15, 0>(cdw11));
    }
    constexpr std::uint64_t offset() const { return join(cdw12, cdw13); }  // LPOL, LPOU: bytes
    constexpr bool offset_is_index() const { return bit<23>(cdw14); }      // OT
};

// ---- Get and Set Features (5.15, 5.27) ----

constexpr std::uint8_t feature_id(std::uint32_t cdw10)  // FID
{
    return static_cast<std::uint8_t>(bits<7, 0>(cdw10));
}
constexpr std::uint32_t feature_select(std::uint32_t cdw10) { return bits<10, 8>(cdw10); }  // SEL
constexpr bool feature_save(std::uint32_t cdw10) { return bit<31>(cdw10); }                 // SV
enum class FeatureSelect : std::uint8_t { current = 0, standard = 1, saved = 2, supported = 3 };
enum class Feature : std::uint8_t {
    arbitration = 0x01,
    power_management = 0x02,
    temperature_threshold = 0x04,
    error_recovery = 0x05,
    volatile_write_cache = 0x06,
    number_of_queues = 0x07,
    interrupt_coalescing = 0x08,
    interrupt_vector = 0x09,
    write_atomicity = 0x0a,
    async_events = 0x0b,
    timestamp = 0x0e,
    host_behavior = 0x16,
};
// Completion dword 0 of SEL = 3: saveable 0, per namespace 1, changeable 2.
constexpr std::uint32_t make_feature_support(bool per_namespace, bool changeable)
{
    return static_cast<std::uint32_t>(place<1>(per_namespace) | place<2>(changeable));
}
constexpr std::uint32_t power_state(std::uint32_t cdw11) { return bits<4, 0>(cdw11); }  // 02h PS
constexpr std::uint32_t threshold_kelvin(std::uint32_t cdw11) { return bits<15, 0>(cdw11); }  // 04h
constexpr std::uint32_t threshold_sensor(std::uint32_t cdw11) { return bits<19, 16>(cdw11); }
constexpr std::uint32_t threshold_type(std::uint32_t cdw11) { return bits<21, 20>(cdw11); }
constexpr bool recovery_dulbe(std::uint32_t cdw11) { return bit<16>(cdw11); }             // 05h
constexpr bool cache_enable(std::uint32_t cdw11) { return bit<0>(cdw11); }                // 06h WCE
constexpr std::uint32_t wanted_sqs_z(std::uint32_t cdw11) { return bits<15, 0>(cdw11); }  // 07h
constexpr std::uint32_t wanted_cqs_z(std::uint32_t cdw11) { return bits<31, 16>(cdw11); }
constexpr std::uint32_t make_queue_counts(std::uint32_t sqs_z, std::uint32_t cqs_z)
{
    return static_cast<std::uint32_t>(place<15, 0>(sqs_z) | place<31, 16>(cqs_z));
}
constexpr std::uint32_t vector_number(std::uint32_t cdw11) { return bits<15, 0>(cdw11); }  // 09h IV
constexpr bool vector_no_coalescing(std::uint32_t cdw11) { return bit<16>(cdw11); }        // 09h CD
constexpr std::uint32_t make_vector_config(std::uint32_t vector, bool no_coalescing)
{
    return static_cast<std::uint32_t>(place<15, 0>(vector) | place<16>(no_coalescing));
}
constexpr bool events_health(std::uint32_t cdw11) { return bits<7, 0>(cdw11) != 0; }  // 0Bh
constexpr bool events_namespace(std::uint32_t cdw11) { return bit<8>(cdw11); }

// Timestamp (5.27.1.13): milliseconds since 1970 in 48 bits, then how it came about.
struct TimestampData {
    Le48 milliseconds;
    std::uint8_t attributes = 0;
    std::uint8_t reserved = 0;
};
static_assert(sizeof(TimestampData) == 8);
constexpr std::uint8_t make_timestamp_attributes(bool set_by_host)
{
    return static_cast<std::uint8_t>(place<3, 1>(set_by_host ? 1U : 0U));
}

// Host Behavior Support (5.27.1.18).
struct HostBehavior {
    std::uint8_t advanced_retry = 0;      // ACRE
    std::uint8_t extended_telemetry = 0;  // ETDAS
    std::uint8_t lba_format_extension = 0;
    std::uint8_t reserved3 = 0;
    Le16 copy_formats;  // CDFE: bit n allows Copy descriptor format n, for the formats from 2 on
    std::array<std::uint8_t, 506> reserved6{};
};
static_assert(sizeof(HostBehavior) == 512);
static_assert(offsetof(HostBehavior, copy_formats) == 4);
constexpr bool copy_format_enabled(std::uint16_t formats, unsigned format)
{
    return (formats & power_of_two(format)) != 0;
}

// ---- Namespace Management and Attachment (5.22, 5.23) ----

constexpr std::uint32_t namespace_select(std::uint32_t cdw10) { return bits<3, 0>(cdw10); }  // SEL
inline constexpr std::uint32_t kNamespaceCreate = 0;
inline constexpr std::uint32_t kNamespaceDelete = 1;
inline constexpr std::uint32_t kNamespaceAttach = 0;
inline constexpr std::uint32_t kNamespaceDetach = 1;

// Controller list (5.17.2.11): ascending identifiers.
struct ControllerList {
    Le16 count;
    std::array<Le16, 2047> ids{};
};
static_assert(sizeof(ControllerList) == 4096);

// ---- Vendor commands (NVME.md) ----

// Snapshot Create and Clone read this.
struct NameData {
    std::array<char, 128> name{};  // UTF-8, NUL-padded
    std::array<std::uint8_t, 128> reserved{};
};
static_assert(sizeof(NameData) == 256);

// Snapshot List writes a header and entries.
struct SnapshotListHeader {
    Le32 count;  // entries that follow
    Le32 total;  // snapshots that there are
    Le64 generation;
    std::array<std::uint8_t, 48> reserved{};
};
static_assert(sizeof(SnapshotListHeader) == 64);
static_assert(offsetof(SnapshotListHeader, generation) == 8);

struct SnapshotListEntry {
    Le32 id;
    Le32 volume;
    Le64 size_lbas;
    Le64 created_unix_ns;
    Le64 sequence;
    Le64 flags;
    std::array<std::uint8_t, 88> reserved{};
    std::array<char, 128> name{};
};
static_assert(sizeof(SnapshotListEntry) == 256);
static_assert(offsetof(SnapshotListEntry, size_lbas) == 8);
static_assert(offsetof(SnapshotListEntry, sequence) == 24);
static_assert(offsetof(SnapshotListEntry, flags) == 32);
static_assert(offsetof(SnapshotListEntry, name) == 128);
inline constexpr std::uint64_t kSnapshotAttached = 1;   // flags bit 0
inline constexpr std::uint64_t kSnapshotGuestMade = 2;  // flags bit 1

constexpr bool rollback_force(std::uint32_t cdw11) { return bit<0>(cdw11); }
constexpr bool snapshot_group(std::uint32_t cdw10) { return bit<0>(cdw10); }

}  // namespace coppice::nvme
