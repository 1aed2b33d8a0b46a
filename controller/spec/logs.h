// Log pages: NVM Express Base Specification 2.0, section 5.16.1.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "controller/spec/bits.h"
#include "controller/spec/identify.h"
#include "format/base/bytes.h"

namespace coppice::nvme {

enum class LogPage : std::uint8_t {
    supported_pages = 0x00,
    errors = 0x01,
    health = 0x02,
    firmware_slots = 0x03,
    changed_namespaces = 0x04,
    command_effects = 0x05,
    feature_effects = 0x12,
    management_effects = 0x13,
};

// Supported Log Pages (5.16.1.1): for each page bit 0 says that it is there.
struct SupportedLogPages {
    std::array<Le32, 256> pages{};
};
static_assert(sizeof(SupportedLogPages) == 1024);
inline constexpr std::uint32_t kLogSupported = place<0>(true);

// Error Information (5.16.1.2, figure 206), newest first.
struct ErrorLogEntry {
    Le64 error_count;
    Le16 sq_id;
    Le16 command_id;
    Le16 status;  // as in the completion, phase included
    Le16 parameter_location;
    Le64 lba;
    Le32 nsid;
    std::uint8_t vendor_page = 0;
    std::uint8_t transport = 0;
    std::array<std::uint8_t, 2> reserved30{};
    Le64 command_specific;
    Le16 transport_specific;
    std::array<std::uint8_t, 22> reserved42{};
};
static_assert(sizeof(ErrorLogEntry) == 64);
static_assert(offsetof(ErrorLogEntry, lba) == 16);
static_assert(offsetof(ErrorLogEntry, nsid) == 24);
static_assert(offsetof(ErrorLogEntry, command_specific) == 32);
inline constexpr std::uint16_t kErrorLocationUnknown = 0xffff;

// SMART / Health Information (5.16.1.3, figure 207).
struct HealthLog {
    std::uint8_t critical_warning = 0;
    Le16 temperature_kelvin;
    std::uint8_t spare_percent = 0;
    std::uint8_t spare_threshold_percent = 0;
    std::uint8_t used_percent = 0;
    std::uint8_t endurance_group_warning = 0;
    std::array<std::uint8_t, 25> reserved7{};
    Le128 data_units_read{};  // in 1,000 units of 512 bytes, rounded up
    Le128 data_units_written{};
    Le128 host_reads{};
    Le128 host_writes{};
    Le128 busy_minutes{};
    Le128 power_cycles{};
    Le128 power_on_hours{};
    Le128 unsafe_shutdowns{};
    Le128 media_errors{};
    Le128 error_log_entries{};
    Le32 warning_temperature_minutes;
    Le32 critical_temperature_minutes;
    std::array<Le16, 8> sensors{};
    std::array<std::uint8_t, 296> reserved216{};
};
static_assert(sizeof(HealthLog) == 512);
static_assert(offsetof(HealthLog, temperature_kelvin) == 1);
static_assert(offsetof(HealthLog, data_units_read) == 32);
static_assert(offsetof(HealthLog, host_reads) == 64);
static_assert(offsetof(HealthLog, power_cycles) == 112);
static_assert(offsetof(HealthLog, media_errors) == 160);
static_assert(offsetof(HealthLog, sensors) == 200);
inline constexpr std::uint8_t kWarningSpare = place<0>(true);
inline constexpr std::uint8_t kWarningReadOnly = place<3>(true);

// Firmware Slot Information (5.16.1.4, figure 208).
struct FirmwareLog {
    std::uint8_t active_slot = 0;  // AFI 2:0
    std::array<std::uint8_t, 7> reserved1{};
    std::array<std::array<char, 8>, 7> revisions{};
    std::array<std::uint8_t, 448> reserved64{};
};
static_assert(sizeof(FirmwareLog) == 512);
static_assert(offsetof(FirmwareLog, revisions) == 8);

// Commands Supported and Effects (5.16.1.6, figure 210).
struct EffectsLog {
    std::array<Le32, 256> admin{};
    std::array<Le32, 256> io{};
    std::array<std::uint8_t, 2048> reserved2048{};
};
static_assert(sizeof(EffectsLog) == 4096);
static_assert(offsetof(EffectsLog, io) == 1024);
inline constexpr std::uint32_t kEffectSupported = place<0>(true);            // CSUPP
inline constexpr std::uint32_t kEffectContent = place<1>(true);              // LBCC
inline constexpr std::uint32_t kEffectNamespaceChange = place<2>(true);      // NCC
inline constexpr std::uint32_t kEffectInventoryChange = place<3>(true);      // NIC
inline constexpr std::uint32_t kEffectSameNamespaceIdle = place<18, 16>(1);  // CSE

// Feature Identifiers Supported and Effects (5.16.1.19), and the same for NVMe-MI (5.16.1.20).
struct FeatureEffectsLog {
    std::array<Le32, 256> features{};
};
static_assert(sizeof(FeatureEffectsLog) == 1024);
inline constexpr std::uint32_t kFeatureSupported = place<0>(true);  // FSUPP
struct ManagementEffectsLog {
    std::array<Le32, 256> commands{};
    std::array<std::uint8_t, 3072> reserved1024{};
};
static_assert(sizeof(ManagementEffectsLog) == 4096);

}  // namespace coppice::nvme
