// A log of what reached a host file, as QEMU's driver blklogwrites records it (the format is that
// of Linux's dm-log-writes). An entry is logged when its request has completed and before whoever
// asked for it hears of that. So what follows a flush that somebody waited for stands behind it,
// and what a flush covers stands before it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "format/base/result.h"
#include "format/disk/memory_disk.h"

namespace coppice::cuts {

struct LogEntry {
    enum class Kind : std::uint8_t { write, discard, flush };
    Kind kind = Kind::write;
    std::uint64_t offset_bytes = 0;
    std::uint64_t length_bytes = 0;
    std::span<const std::byte> data{};  // of a write; part of the mapped log
};

class WriteLog {
public:
    static Result<std::unique_ptr<WriteLog>> open(const std::string& path);
    ~WriteLog();
    WriteLog(const WriteLog&) = delete;
    WriteLog& operator=(const WriteLog&) = delete;

    const std::vector<LogEntry>& entries() const { return entries_; }

private:
    WriteLog() = default;
    Status parse(const std::string& path);

    std::span<const std::byte> bytes_{};
    std::vector<LogEntry> entries_;
};

// The content of a host file, without its holes.
Result<SparseBytes> load_image(const std::string& path);

}  // namespace coppice::cuts
