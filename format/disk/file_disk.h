// A file of the host as a disk. Requests block and complete at once: right for the host tool and
// for tests.
//
// The file is locked as QEMU's file-posix driver locks a node whose format driver has it open, so
// that QEMU and our tools keep each other out: open-file-description locks of single bytes, at
// 100 + n for a permission that is used and at 200 + n for one that is not shared with others
// (n: 0 consistent read, 1 write, 3 resize). Who opens tests the other row first.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "format/disk/disk.h"

namespace coppice {

struct FileDiskOptions {
    enum class Mode : std::uint8_t {
        open,              // it must exist
        create,            // made, or cut to nothing if it exists
        create_exclusive,  // it must not exist
    };
    Mode mode = Mode::open;
    bool read_only = false;
    bool direct = false;  // O_DIRECT, past the host's page cache
    // Read-only only: look at the file although someone writes to it, and take no lock.
    bool force_share = false;
};

class FileDisk final : public Disk {
public:
    // Errors: in_use (locked by another process), not_found, exists, read_only, io.
    static Result<std::unique_ptr<FileDisk>> open(Tasks& tasks, const std::string& path,
                                                  const FileDiskOptions& options);
    ~FileDisk() override;

    Result<std::uint64_t> size_bytes() override;
    bool read_only() const override { return read_only_; }
    const std::string& path() const { return path_; }

protected:
    void start(std::span<IoRequest> requests) override;

private:
    FileDisk(Tasks& tasks, std::string path, int descriptor, bool read_only);

    int perform(const IoRequest& request);
    int transfer(const IoRequest& request);

    std::string path_;
    int descriptor_;
    bool read_only_;
    bool fixed_length_ = false;  // a block device
};

}  // namespace coppice
