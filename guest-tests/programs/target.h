// target.h: the file or block device that a guest program works on.
#pragma once

#include "common.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <string>

namespace guest {

// Open for as long as it lives. Devices are opened with O_DIRECT, so that each write is a command
// and each read comes from the device; files are not (their file system's cache is part of the
// test).
class Target {
public:
    enum class Access { Read, ReadWrite };

    Target(const std::string& path, Access access) : path_(path)
    {
        struct stat facts {};
        if (::stat(path.c_str(), &facts) != 0) refused(path);
        is_device_ = S_ISBLK(facts.st_mode);
        const int flags = (access == Access::Read ? O_RDONLY : O_RDWR) | O_CLOEXEC;
        descriptor_ = ::open(path.c_str(), is_device_ ? flags | O_DIRECT : flags);
        if (descriptor_ < 0) refused("opening " + path);
        if (is_device_) {
            int block = 0;
            if (::ioctl(descriptor_, BLKSSZGET, &block) != 0) refused(path);
            if (::ioctl(descriptor_, BLKGETSIZE64, &size_bytes_) != 0) refused(path);
            block_bytes_ = static_cast<std::uint32_t>(block);
        } else {
            size_bytes_ = static_cast<std::uint64_t>(facts.st_size);
        }
    }
    ~Target() { ::close(descriptor_); }
    Target(const Target&) = delete;
    Target& operator=(const Target&) = delete;

    int descriptor() const { return descriptor_; }
    bool is_device() const { return is_device_; }
    std::uint64_t size_bytes() const { return size_bytes_; }
    std::uint32_t block_bytes() const { return block_bytes_; }

    void write(const std::byte* data, std::size_t bytes, std::uint64_t offset, int flags = 0) const
    {
        // A partial write would make two commands of one, which the tests count on not happening.
        const iovec part{const_cast<std::byte*>(data), bytes};
        const ssize_t done = ::pwritev2(descriptor_, &part, 1, static_cast<off_t>(offset), flags);
        if (done < 0) refused("writing at " + std::to_string(offset) + " of " + path_);
        if (static_cast<std::size_t>(done) != bytes)
            end(Exit::Refused,
                "a write at " + std::to_string(offset) + " of " + path_ + " was done in part only");
    }
    void read(std::byte* data, std::size_t bytes, std::uint64_t offset) const
    {
        std::size_t done = 0;
        while (done < bytes) {
            const ssize_t part =
                ::pread(descriptor_, data + done, bytes - done, static_cast<off_t>(offset + done));
            if (part < 0) refused("reading at " + std::to_string(offset) + " of " + path_);
            if (part == 0)
                end(Exit::Wrong, path_ + " ends before " + std::to_string(offset + bytes));
            done += static_cast<std::size_t>(part);
        }
    }
    void sync() const
    {
        if (::fsync(descriptor_) != 0) refused("fsync of " + path_);
    }
    void discard(std::uint64_t offset, std::uint64_t bytes) const
    {
        std::uint64_t range[2] = {offset, bytes};
        if (::ioctl(descriptor_, BLKDISCARD, range) != 0) refused("BLKDISCARD on " + path_);
    }
    void zero_out(std::uint64_t offset, std::uint64_t bytes) const
    {
        std::uint64_t range[2] = {offset, bytes};
        if (::ioctl(descriptor_, BLKZEROOUT, range) != 0) refused("BLKZEROOUT on " + path_);
    }

private:
    std::string path_;
    int descriptor_ = -1;
    bool is_device_ = false;
    std::uint64_t size_bytes_ = 0;
    std::uint32_t block_bytes_ = 512;
};

}  // namespace guest
