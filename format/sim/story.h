// What the directed scenarios share.
#pragma once

#include <fmt/format.h>
#include <string>

#include "format/layout/layout.h"
#include "format/sim/report.h"
#include "format/sim/scenario.h"

namespace coppice::sim {

inline constexpr std::uint64_t kLongTimeNs = 3'600'000'000'000;

// Nothing happens by itself, and data of writes stay in memory until something needs them.
inline Plan story_plan()
{
    Plan plan;
    plan.closes = false;
    plan.tick_ns = kLongTimeNs;
    plan.commit_interval_ns = 1;  // of those that a story asks for
    plan.punch_delay_ns = kLongTimeNs;
    plan.disk.slow_percent = 0;
    return plan;
}

inline void require(const Status& status, const std::string& what)
{
    if (!status) {
        violation(fmt::format("{} failed with {}: {}", what, error_name(status.error().code),
                              status.error().text));
    }
}

template <typename Value>
Value require(Result<Value> result, const std::string& what)
{
    if (!result) {
        violation(fmt::format("{} failed with {}: {}", what, error_name(result.error().code),
                              result.error().text));
    }
    return std::move(*result);
}

inline Stamps stamps_from(Stamp first, std::uint64_t count)
{
    Stamps stamps(count);
    for (Stamp& stamp : stamps) {
        stamp = first++;
    }
    return stamps;
}

// Journal blocks of an image with the smallest ring.
inline bool is_ring_write(const LoggedRequest& request)
{
    const std::uint64_t block = request.offset_bytes / kBlockBytes;
    return request.kind == IoRequest::Kind::write && block >= layout::kJournalStart &&
           block < layout::kJournalStart + layout::kMinJournalBlocks;
}

inline bool keep_all(LoggedRequest&) { return true; }
inline bool keep_none(LoggedRequest&) { return false; }

}  // namespace coppice::sim
