#include "format/base/result.h"

#include <cerrno>

namespace coppice {

namespace {

struct CodeFacts {
    std::string_view name;
    int error_number;
    bool corruption;
};

CodeFacts facts(ErrorCode code)
{
    switch (code) {
    case ErrorCode::invalid_argument: return {"invalid_argument", EINVAL, false};
    case ErrorCode::out_of_range: return {"out_of_range", EINVAL, false};
    case ErrorCode::not_found: return {"not_found", ENOENT, false};
    case ErrorCode::exists: return {"exists", EEXIST, false};
    case ErrorCode::read_only: return {"read_only", EROFS, false};
    case ErrorCode::busy: return {"busy", EBUSY, false};
    case ErrorCode::conflict: return {"conflict", ESTALE, false};
    case ErrorCode::not_supported: return {"not_supported", ENOTSUP, false};
    case ErrorCode::no_space: return {"no_space", ENOSPC, false};
    case ErrorCode::too_large: return {"too_large", EFBIG, false};
    case ErrorCode::io: return {"io", EIO, false};
    case ErrorCode::sync_failed: return {"sync_failed", EIO, false};
    case ErrorCode::poisoned: return {"poisoned", EIO, false};
    case ErrorCode::in_use: return {"in_use", EBUSY, false};
    case ErrorCode::not_an_image: return {"not_an_image", EINVAL, false};
    case ErrorCode::unknown_feature: return {"unknown_feature", ENOTSUP, false};
    case ErrorCode::unsupported_version: return {"unsupported_version", ENOTSUP, false};
    case ErrorCode::truncated: return {"truncated", EINVAL, true};
    case ErrorCode::bad_header: return {"bad_header", EINVAL, true};
    case ErrorCode::bad_superblock: return {"bad_superblock", EINVAL, true};
    case ErrorCode::bad_node: return {"bad_node", EIO, true};
    case ErrorCode::bad_record: return {"bad_record", EIO, true};
    case ErrorCode::bad_data: return {"bad_data", EIO, true};
    case ErrorCode::journal_damaged: return {"journal_damaged", EIO, true};
    case ErrorCode::superblock_lost: return {"superblock_lost", EIO, true};
    }
    return {"unknown", EIO, false};
}

}  // namespace

std::string_view error_name(ErrorCode code) { return facts(code).name; }
int error_errno(ErrorCode code) { return facts(code).error_number; }
bool is_corruption(ErrorCode code) { return facts(code).corruption; }

}  // namespace coppice
