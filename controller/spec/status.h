// Status codes: NVM Express Base Specification 2.0, section 3.3.3.2.1 (status field), and
// NVM Command Set Specification 1.0, section 3.1.2.
#pragma once

#include <cstdint>
#include <tl/expected.hpp>

#include "controller/spec/bits.h"

namespace coppice::nvme {

// Status Code Type in the high byte, Status Code in the low one.
enum class StatusCode : std::uint16_t {
    // Generic (type 0)
    success = 0x000,
    invalid_opcode = 0x001,
    invalid_field = 0x002,
    command_id_conflict = 0x003,
    data_transfer_error = 0x004,
    internal_error = 0x006,
    abort_requested = 0x007,
    invalid_namespace_or_format = 0x00b,
    command_sequence_error = 0x00c,
    prp_offset_invalid = 0x013,
    operation_denied = 0x015,
    namespace_write_protected = 0x020,
    command_interrupted = 0x021,
    lba_out_of_range = 0x080,
    capacity_exceeded = 0x081,
    namespace_not_ready = 0x082,
    // Command specific (type 1)
    completion_queue_invalid = 0x100,
    invalid_queue_identifier = 0x101,
    invalid_queue_size = 0x102,
    abort_limit_exceeded = 0x103,
    async_event_limit_exceeded = 0x105,
    invalid_interrupt_vector = 0x108,
    invalid_log_page = 0x109,
    invalid_format = 0x10a,
    invalid_queue_deletion = 0x10c,
    feature_not_saveable = 0x10d,
    feature_not_changeable = 0x10e,
    feature_not_per_namespace = 0x10f,
    namespace_insufficient_capacity = 0x115,
    namespace_identifier_unavailable = 0x116,
    namespace_already_attached = 0x118,
    namespace_not_attached = 0x11a,
    controller_list_invalid = 0x11c,
    command_set_not_supported = 0x129,
    command_size_limit_exceeded = 0x183,
    incompatible_namespace_or_format = 0x185,
    fast_copy_not_possible = 0x186,
    overlapping_io_range = 0x187,
    // Command specific, vendor's own range (C0h to FFh): NVME.md
    name_exists = 0x1c0,
    object_busy = 0x1c1,
    transaction_conflict = 0x1c2,
    order_unknown = 0x1c3,  // no such stream or transaction
    // Media and data integrity (type 2)
    write_fault = 0x280,
    unrecovered_read_error = 0x281,
    compare_failure = 0x285,
};

constexpr unsigned status_code_type(StatusCode code)
{
    return bits<10, 8>(static_cast<std::uint16_t>(code));
}
constexpr unsigned status_code(StatusCode code)
{
    return bits<7, 0>(static_cast<std::uint16_t>(code));
}

// True where the same command can succeed later without the host changing it; else Do Not Retry.
constexpr bool retry_is_useful(StatusCode code)
{
    switch (code) {
    case StatusCode::internal_error:
    case StatusCode::data_transfer_error:
    case StatusCode::abort_requested:
    case StatusCode::command_interrupted:
    case StatusCode::namespace_not_ready: return true;
    default:  // a list of codes, not of states: all others are the host's or the medium's fault
        return false;
    }
}

// Bits 15:0 of completion dword 3 (the high half): P 0, SC 8:1, SCT 11:9, CRD 13:12, M 14, DNR 15.
constexpr std::uint16_t make_status_field(StatusCode code, bool phase, bool more)
{
    const bool failed = code != StatusCode::success;
    return static_cast<std::uint16_t>(place<0>(phase) | place<8, 1>(status_code(code)) |
                                      place<11, 9>(status_code_type(code)) | place<14>(more) |
                                      place<15>(failed && !retry_is_useful(code)));
}
constexpr bool status_field_phase(std::uint16_t field) { return bit<0>(field); }
constexpr StatusCode status_field_code(std::uint16_t field)
{
    return static_cast<StatusCode>(bits<11, 1>(field));
}
constexpr bool status_field_more(std::uint16_t field) { return bit<14>(field); }
constexpr bool status_field_do_not_retry(std::uint16_t field) { return bit<15>(field); }

// A value, or the status that the guest gets.
template <typename T>
using Checked = tl::expected<T, StatusCode>;
constexpr tl::unexpected<StatusCode> refuse(StatusCode code) { return tl::unexpected(code); }

}  // namespace coppice::nvme
