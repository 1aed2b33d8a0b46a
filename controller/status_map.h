// The one table from the store's errors to NVMe status.
#pragma once

#include "controller/spec/status.h"
#include "format/base/result.h"

namespace coppice::nvme {

enum class Purpose : std::uint8_t { read, write, manage };

// What the guest is told when an operation of that purpose fails with `code`.
StatusCode status_of(ErrorCode code, Purpose purpose);
// The same of a command that names a stream or transaction: its namespace was found already, so
// what is missing is what the command names.
StatusCode order_status_of(ErrorCode code, Purpose purpose);

}  // namespace coppice::nvme
