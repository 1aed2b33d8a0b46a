#include "controller/status_map.h"

#include "format/base/check.h"

namespace coppice::nvme {

namespace {

// A failure of the medium: which half of the command failed decides (Base 3.3.3.2.1, figure 95).
StatusCode medium(Purpose purpose)
{
    switch (purpose) {
    case Purpose::read: return StatusCode::unrecovered_read_error;
    case Purpose::write: return StatusCode::write_fault;
    case Purpose::manage: return StatusCode::internal_error;
    }
    return StatusCode::internal_error;
}

}  // namespace

StatusCode status_of(ErrorCode code, Purpose purpose)
{
    const bool manage = purpose == Purpose::manage;
    switch (code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::not_supported: return StatusCode::invalid_field;
    case ErrorCode::out_of_range: return StatusCode::lba_out_of_range;
    case ErrorCode::not_found: return StatusCode::invalid_namespace_or_format;
    case ErrorCode::exists: return StatusCode::name_exists;
    case ErrorCode::read_only: return StatusCode::namespace_write_protected;
    case ErrorCode::busy:
    case ErrorCode::in_use:
        return manage ? StatusCode::object_busy : StatusCode::command_interrupted;
    case ErrorCode::conflict: return StatusCode::transaction_conflict;
    case ErrorCode::no_space:
        return manage ? StatusCode::namespace_insufficient_capacity : StatusCode::capacity_exceeded;
    case ErrorCode::too_large:
        return manage ? StatusCode::invalid_field : StatusCode::command_size_limit_exceeded;
    case ErrorCode::io:
    case ErrorCode::sync_failed:
    case ErrorCode::poisoned:
    case ErrorCode::not_an_image:
    case ErrorCode::unknown_feature:
    case ErrorCode::unsupported_version:
    case ErrorCode::truncated:
    case ErrorCode::bad_header:
    case ErrorCode::bad_superblock:
    case ErrorCode::bad_node:
    case ErrorCode::bad_record:
    case ErrorCode::journal_damaged:
    case ErrorCode::superblock_lost: return medium(purpose);
    // A write may need to read (parts of blocks, Copy): then what failed is still the reading.
    case ErrorCode::bad_data:
        return manage ? StatusCode::internal_error : StatusCode::unrecovered_read_error;
    }
    return StatusCode::internal_error;
}

StatusCode order_status_of(ErrorCode code, Purpose purpose)
{
    return code == ErrorCode::not_found ? StatusCode::order_unknown : status_of(code, purpose);
}

}  // namespace coppice::nvme
