// Errors are values. An Error has a code (what kind), and a text that names the place and, where
// there is one, the way out. Each way of being corrupt has its own code.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace coppice {

enum class ErrorCode {
    // The caller asked for something that cannot be.
    invalid_argument,
    out_of_range,  // beyond the end of a volume
    not_found,     // no such volume or snapshot
    exists,        // the name is taken
    read_only,     // the volume, snapshot or image cannot be written
    busy,          // in use, or held by something else
    conflict,      // a transaction came too late: others changed the same blocks before it
    not_supported,
    no_space,   // the host file system or the image's limit; free space and go on
    too_large,  // beyond a published limit
    // The host failed.
    io,           // a host read or write failed
    sync_failed,  // a host sync failed; nothing is written until the image is opened anew
    poisoned,     // an earlier failure stopped all writing
    in_use,       // another process has the image
    // The image is not what it should be.
    not_an_image,
    unknown_feature,
    unsupported_version,
    truncated,  // the host file ends before what the superblock describes
    bad_header,
    bad_superblock,
    bad_node,         // a tree node fails its checksum, place, owner or order
    bad_record,       // an item or journal operation has impossible fields
    bad_data,         // a data block does not have its checksum
    journal_damaged,  // a journal block that was synced is gone, with valid ones behind it
    superblock_lost,  // the journal names a newer superblock than can be found
};

// A short fixed word for a code, e.g. "bad_node"; used in JSON output and tests.
std::string_view error_name(ErrorCode code);

// The errno (positive) that a block layer should see for a code.
int error_errno(ErrorCode code);

// True for the codes that say that the image itself is damaged.
bool is_corruption(ErrorCode code);

// True for what is not the caller's doing: the host's error policy is asked about it.
bool is_hosts(ErrorCode code);

struct Error {
    ErrorCode code;
    std::string text;
};

template <typename T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
public:
    using tl::expected<T, Error>::expected;
    using Base = tl::expected<T, Error>;
    Result(Base base) : Base(std::move(base)) {}  // NOLINT(google-explicit-constructor)
};

using Status = Result<void>;

inline tl::unexpected<Error> fail(ErrorCode code, std::string text)
{
    return tl::unexpected<Error>(Error{code, std::move(text)});
}

template <typename T>
tl::unexpected<Error> pass_on(Result<T>& failed)
{
    return tl::unexpected<Error>(std::move(failed.error()));
}

}  // namespace coppice

// Runs a Status expression and returns its error to the caller.
#define COPPICE_TRY(expression)                        \
    do {                                               \
        auto coppice_status = (expression);            \
        if (!coppice_status) {                         \
            return ::coppice::pass_on(coppice_status); \
        }                                              \
    } while (false)

#define COPPICE_CONCAT_INNER(a, b) a##b
#define COPPICE_CONCAT(a, b) COPPICE_CONCAT_INNER(a, b)
// Declares `name` with the value of a Result expression, or returns its error to the caller.
#define COPPICE_ASSIGN(name, expression) \
    COPPICE_ASSIGN_AT(COPPICE_CONCAT(coppice_result_, __LINE__), name, expression)
#define COPPICE_ASSIGN_AT(result, name, expression) \
    auto result = (expression);                     \
    if (!result) {                                  \
        return ::coppice::pass_on(result);          \
    }                                               \
    auto name = std::move(*result)
