#include "format/disk/file_disk.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <vector>

#include "format/base/check.h"

namespace coppice {

namespace {

// QEMU's permissions, by bit number, that a format driver asks for on its file.
constexpr int kConsistentRead = 0;
constexpr int kWrite = 1;
constexpr int kResize = 3;
constexpr off_t kUsedBase = 100;
constexpr off_t kUnsharedBase = 200;

// A format driver reads, and neither writer nor reader lets others write or resize.
constexpr std::array<int, 1> kReaderUses = {kConsistentRead};
constexpr std::array<int, 3> kWriterUses = {kConsistentRead, kWrite, kResize};
constexpr std::array<int, 2> kUnshared = {kWrite, kResize};

struct flock lock_of(short type, off_t byte)
{
    struct flock lock {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = 1;
    return lock;
}

// 0, or the errno: EAGAIN when someone else is there.
int take_byte(int descriptor, off_t byte)
{
    // All locks are shared ones: what excludes is that the other row is tested for emptiness.
    struct flock lock = lock_of(F_RDLCK, byte);
    return ::fcntl(descriptor, F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

int test_byte(int descriptor, off_t byte)
{
    struct flock lock = lock_of(F_WRLCK, byte);
    if (::fcntl(descriptor, F_OFD_GETLK, &lock) != 0) {
        return errno;
    }
    return lock.l_type == F_UNLCK ? 0 : EAGAIN;
}

// All locks go when the descriptor is closed.
int lock_like_qemu(int descriptor, bool read_only)
{
    const std::span<const int> uses =
        read_only ? std::span<const int>(kReaderUses) : std::span<const int>(kWriterUses);
    for (const int permission : uses) {
        if (const int error = take_byte(descriptor, kUsedBase + permission); error != 0) {
            return error;
        }
    }
    for (const int permission : kUnshared) {
        if (const int error = take_byte(descriptor, kUnsharedBase + permission); error != 0) {
            return error;
        }
    }
    // Taking before testing: of two who come at once at least one sees the other.
    for (const int permission : uses) {
        if (const int error = test_byte(descriptor, kUnsharedBase + permission); error != 0) {
            return error;
        }
    }
    for (const int permission : kUnshared) {
        if (const int error = test_byte(descriptor, kUsedBase + permission); error != 0) {
            return error;
        }
    }
    return 0;
}

ErrorCode open_error_code(int error)
{
    switch (error) {
    case ENOENT: return ErrorCode::not_found;
    case EEXIST: return ErrorCode::exists;
    case EROFS: return ErrorCode::read_only;
    case ENOSPC: return ErrorCode::no_space;
    default: return ErrorCode::io;
    }
}

}  // namespace

FileDisk::FileDisk(Tasks& tasks, std::string path, int descriptor, bool read_only)
    : Disk(tasks), path_(std::move(path)), descriptor_(descriptor), read_only_(read_only)
{
}

FileDisk::~FileDisk() { ::close(descriptor_); }

Result<std::unique_ptr<FileDisk>> FileDisk::open(Tasks& tasks, const std::string& path,
                                                 const FileDiskOptions& options)
{
    const bool creates = options.mode != FileDiskOptions::Mode::open;
    if (options.read_only && creates) {
        return fail(ErrorCode::invalid_argument,
                    fmt::format("{}: a new file cannot be read-only", path));
    }
    int flags = O_CLOEXEC | (options.read_only ? O_RDONLY : O_RDWR);
    flags |= options.direct ? O_DIRECT : 0;
    flags |= creates ? O_CREAT : 0;
    flags |= options.mode == FileDiskOptions::Mode::create_exclusive ? O_EXCL : 0;
    const int descriptor = ::open(path.c_str(), flags, 0644);
    if (descriptor < 0) {
        const int error = errno;
        const char* hint = error == EINVAL && options.direct
                               ? " (its file system may not support direct access)"
                               : "";
        return fail(open_error_code(error),
                    fmt::format("cannot {} {}: {}{}", creates ? "create" : "open", path,
                                std::strerror(error), hint));
    }
    std::unique_ptr<FileDisk> disk(new FileDisk(tasks, path, descriptor, options.read_only));

    struct stat status {};
    if (::fstat(descriptor, &status) != 0) {
        return fail(ErrorCode::io,
                    fmt::format("cannot look at {}: {}", path, std::strerror(errno)));
    }
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
        return fail(ErrorCode::io,
                    fmt::format("{} is neither a regular file nor a block device", path));
    }
    disk->fixed_length_ = S_ISBLK(status.st_mode);
    if (!(options.read_only && options.force_share)) {
        const int error = lock_like_qemu(descriptor, options.read_only);
        if (error == EAGAIN || error == EACCES) {
            return fail(
                ErrorCode::in_use,
                fmt::format("{} is in use by another process (QEMU or a Coppice tool)", path));
        }
        // Some network file systems have no such locks; there nobody can lock, QEMU included.
        if (error != 0 && error != EINVAL && error != ENOLCK && error != EOPNOTSUPP) {
            return fail(ErrorCode::io,
                        fmt::format("cannot lock {}: {}", path, std::strerror(error)));
        }
    }
    // Only now that nobody else has it: what a user overwrites must not be pulled from under QEMU.
    if (options.mode == FileDiskOptions::Mode::create && !disk->fixed_length_ &&
        ::ftruncate(descriptor, 0) != 0) {
        return fail(ErrorCode::io, fmt::format("cannot empty {}: {}", path, std::strerror(errno)));
    }
    return disk;
}

Result<std::uint64_t> FileDisk::size_bytes()
{
    const off_t end = ::lseek(descriptor_, 0, SEEK_END);
    if (end < 0) {
        return fail(ErrorCode::io,
                    fmt::format("cannot find the length of {}: {}", path_, std::strerror(errno)));
    }
    return static_cast<std::uint64_t>(end);
}

int FileDisk::transfer(const IoRequest& request)
{
    const bool reads = request.kind == IoRequest::Kind::read;
    std::vector<iovec> left(request.buffers.begin(), request.buffers.end());
    std::size_t first = 0;
    auto offset = static_cast<off_t>(request.offset_bytes);
    while (first < left.size()) {
        if (left[first].iov_len == 0) {
            ++first;
            continue;
        }
        const int count = static_cast<int>(std::min<std::size_t>(left.size() - first, IOV_MAX));
        const ssize_t done = reads ? ::preadv(descriptor_, &left[first], count, offset)
                                   : ::pwritev(descriptor_, &left[first], count, offset);
        if (done < 0) {
            if (errno == EINTR) {
                continue;
            }
            return -errno;
        }
        if (done == 0) {
            if (!reads) {
                return -EIO;
            }
            for (; first < left.size(); ++first) {  // beyond the end of the file
                std::memset(left[first].iov_base, 0, left[first].iov_len);
            }
            return 0;
        }
        offset += done;
        auto moved = static_cast<std::size_t>(done);
        while (moved > 0) {
            iovec& buffer = left[first];
            const std::size_t step = std::min(moved, buffer.iov_len);
            buffer.iov_base = static_cast<std::byte*>(buffer.iov_base) + step;
            buffer.iov_len -= step;
            moved -= step;
            first += buffer.iov_len == 0 ? 1 : 0;
        }
    }
    return 0;
}

int FileDisk::perform(const IoRequest& request)
{
    using Kind = IoRequest::Kind;
    const bool changes = request.kind != Kind::read && request.kind != Kind::sync;
    if (read_only_ && changes) {
        return -EROFS;
    }
    const auto offset = static_cast<off_t>(request.offset_bytes);
    const auto length = static_cast<off_t>(request.length_bytes);
    int result = 0;
    switch (request.kind) {
    case Kind::read:
    case Kind::write: return transfer(request);
    case Kind::allocate:
        // A device has its blocks, and a zeroing fallocate on it would destroy what they hold.
        if (fixed_length_) {
            return 0;
        }
        result = ::fallocate(descriptor_, 0, offset, length);
        break;
    case Kind::discard:
        result =
            ::fallocate(descriptor_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
        break;
    case Kind::sync: result = read_only_ ? 0 : ::fdatasync(descriptor_); break;
    case Kind::truncate:
        if (fixed_length_) {
            const Result<std::uint64_t> size = size_bytes();
            return size && request.offset_bytes <= *size ? 0 : -ENOSPC;
        }
        result = ::ftruncate(descriptor_, offset);
        break;
    }
    if (result == 0) {
        return 0;
    }
    // A service that a file system may not have; the image is right without it.
    const bool optional = request.kind == Kind::discard;
    return optional && (errno == EOPNOTSUPP || errno == ENOSYS) ? 0 : -errno;
}

void FileDisk::start(std::span<IoRequest> requests)
{
    for (IoRequest& request : requests) {
        int result = 0;
        do {
            result = perform(request);
        } while (result == -EINTR);
        complete(request, result);
    }
}

}  // namespace coppice
