// What SMART and the error log report: NVM Express Base Specification 2.0, sections 5.16.1.2 and
// 5.16.1.3. Counted since the device was made; in this version it does not survive a restart.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "controller/backend.h"
#include "controller/limits.h"
#include "controller/spec/logs.h"

namespace coppice::nvme {

class Health {
public:
    void count_read(std::uint64_t bytes)
    {
        ++reads_;
        read_bytes_ += bytes;
    }
    void count_write(std::uint64_t bytes)
    {
        ++writes_;
        written_bytes_ += bytes;
    }
    void count_media_error() { ++media_errors_; }

    void add_error(ErrorLogEntry entry)
    {
        entry.error_count = ++errors_;
        log_[(errors_ - 1) % kErrorEntries] = entry;
    }

    // Newest first; entries that there are not yet are zero.
    std::vector<ErrorLogEntry> error_log() const
    {
        std::vector<ErrorLogEntry> entries(kErrorEntries);
        for (std::uint64_t i = 0; i < kErrorEntries && i < errors_; ++i) {
            entries[static_cast<std::size_t>(i)] = log_[(errors_ - 1 - i) % kErrorEntries];
        }
        return entries;
    }

    HealthLog log(const Capacity& capacity, std::uint64_t uptime_ns) const;

private:
    std::uint64_t reads_ = 0, writes_ = 0, read_bytes_ = 0, written_bytes_ = 0;
    std::uint64_t media_errors_ = 0;
    std::uint64_t errors_ = 0;
    std::array<ErrorLogEntry, kErrorEntries> log_{};
};

}  // namespace coppice::nvme
