#include "format/base/result.h"

#include <cerrno>

namespace coppice {

namespace {

// Whose doing it is: the caller asked for what cannot be, the host failed or has what cannot be
// used, or the image is damaged.
enum class Whose { caller, host, image };

struct CodeFacts {
    std::string_view name;
    int error_number;
    Whose whose;
};

CodeFacts facts(ErrorCode code)
{
    switch (code) {
    case ErrorCode::invalid_argument: return {"invalid_argument", EINVAL, Whose::caller};
    case ErrorCode::out_of_range: return {"out_of_range", EINVAL, Whose::caller};
    case ErrorCode::not_found: return {"not_found", ENOENT, Whose::caller};
    case ErrorCode::exists: return {"exists", EEXIST, Whose::caller};
    case ErrorCode::read_only: return {"read_only", EROFS, Whose::host};
    case ErrorCode::busy: return {"busy", EBUSY, Whose::caller};
    case ErrorCode::conflict: return {"conflict", ESTALE, Whose::caller};
    case ErrorCode::not_supported: return {"not_supported", ENOTSUP, Whose::caller};
    case ErrorCode::no_space: return {"no_space", ENOSPC, Whose::host};
    case ErrorCode::too_large: return {"too_large", EFBIG, Whose::caller};
    case ErrorCode::io: return {"io", EIO, Whose::host};
    case ErrorCode::sync_failed: return {"sync_failed", EIO, Whose::host};
    case ErrorCode::poisoned: return {"poisoned", EIO, Whose::host};
    case ErrorCode::in_use: return {"in_use", EBUSY, Whose::caller};
    case ErrorCode::not_an_image: return {"not_an_image", EINVAL, Whose::host};
    case ErrorCode::unknown_feature: return {"unknown_feature", ENOTSUP, Whose::host};
    case ErrorCode::unsupported_version: return {"unsupported_version", ENOTSUP, Whose::host};
    case ErrorCode::truncated: return {"truncated", EINVAL, Whose::image};
    case ErrorCode::bad_header: return {"bad_header", EINVAL, Whose::image};
    case ErrorCode::bad_superblock: return {"bad_superblock", EINVAL, Whose::image};
    case ErrorCode::bad_node: return {"bad_node", EIO, Whose::image};
    case ErrorCode::bad_record: return {"bad_record", EIO, Whose::image};
    case ErrorCode::bad_data: return {"bad_data", EIO, Whose::image};
    case ErrorCode::journal_damaged: return {"journal_damaged", EIO, Whose::image};
    case ErrorCode::superblock_lost: return {"superblock_lost", EIO, Whose::image};
    }
    return {"unknown", EIO, Whose::host};
}

}  // namespace

std::string_view error_name(ErrorCode code) { return facts(code).name; }
int error_errno(ErrorCode code) { return facts(code).error_number; }
bool is_corruption(ErrorCode code) { return facts(code).whose == Whose::image; }
bool is_hosts(ErrorCode code) { return facts(code).whose != Whose::caller; }

}  // namespace coppice
