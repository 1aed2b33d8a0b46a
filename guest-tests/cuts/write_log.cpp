#include "write_log.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace coppice::cuts {

namespace {

// Linux, drivers/md/dm-log-writes.c: a super sector, then for each entry a sector with its header
// and, unless it is a discard, its data.
constexpr std::uint64_t kMagic = 0x6a736677736872;
constexpr std::uint64_t kVersion = 1;
constexpr std::uint64_t kFlushFlag = 1;
constexpr std::uint64_t kDiscardFlag = 4;

tl::unexpected<Error> host_error(const std::string& path)
{
    return fail(ErrorCode::io, fmt::format("{}: {}", path, std::strerror(errno)));
}

std::uint64_t u64_at(std::span<const std::byte> bytes, std::uint64_t offset)
{
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

class Descriptor {
public:
    explicit Descriptor(const std::string& path) : value(::open(path.c_str(), O_RDONLY | O_CLOEXEC))
    {
    }
    ~Descriptor()
    {
        if (value >= 0) {
            ::close(value);
        }
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;

    const int value;
};

}  // namespace

Result<std::unique_ptr<WriteLog>> WriteLog::open(const std::string& path)
{
    const Descriptor file(path);
    struct stat facts {};
    if (file.value < 0 || ::fstat(file.value, &facts) != 0) {
        return host_error(path);
    }
    const auto size = static_cast<std::size_t>(facts.st_size);
    if (size < 512) {
        return fail(ErrorCode::truncated, path + " is too short for a log of writes");
    }
    void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.value, 0);
    if (memory == MAP_FAILED) {
        return host_error(path);
    }
    std::unique_ptr<WriteLog> log(new WriteLog);
    log->bytes_ = {static_cast<const std::byte*>(memory), size};
    COPPICE_TRY(log->parse(path));
    return log;
}

WriteLog::~WriteLog()
{
    // munmap takes what mmap gave, which was not const.
    ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());  // NOLINT
}

Status WriteLog::parse(const std::string& path)
{
    if (u64_at(bytes_, 0) != kMagic || u64_at(bytes_, 8) != kVersion) {
        return fail(ErrorCode::not_an_image, path + " is no log of writes");
    }
    const std::uint64_t count = u64_at(bytes_, 16);
    std::uint32_t sector_bytes = 0;
    std::memcpy(&sector_bytes, bytes_.data() + 24, sizeof sector_bytes);
    if (sector_bytes < 512 || sector_bytes > 65536) {
        return fail(ErrorCode::bad_record, path + ": impossible sector size");
    }
    std::uint64_t at = sector_bytes;
    for (std::uint64_t number = 0; number < count; ++number) {
        if (bytes_.size() < 32 || at > bytes_.size() - 32) {
            return fail(ErrorCode::truncated, fmt::format("{} ends in entry {}", path, number));
        }
        LogEntry entry;
        entry.offset_bytes = u64_at(bytes_, at) * sector_bytes;
        entry.length_bytes = u64_at(bytes_, at + 8) * sector_bytes;
        const std::uint64_t flags = u64_at(bytes_, at + 16);
        at += sector_bytes;
        if ((flags & kDiscardFlag) != 0) {
            entry.kind = LogEntry::Kind::discard;
        } else if ((flags & kFlushFlag) != 0) {
            entry.kind = LogEntry::Kind::flush;
        } else {
            if (entry.length_bytes > bytes_.size() - at) {
                return fail(ErrorCode::truncated, fmt::format("{} ends in entry {}", path, number));
            }
            entry.data = bytes_.subspan(at, entry.length_bytes);
            at += entry.length_bytes;
        }
        entries_.push_back(entry);
    }
    return {};
}

Result<SparseBytes> load_image(const std::string& path)
{
    const Descriptor file(path);
    struct stat facts {};
    if (file.value < 0 || ::fstat(file.value, &facts) != 0) {
        return host_error(path);
    }
    SparseBytes image;
    std::vector<std::byte> buffer(1 << 20);
    off_t at = 0;
    while ((at = ::lseek(file.value, at, SEEK_DATA)) >= 0) {
        const off_t end = ::lseek(file.value, at, SEEK_HOLE);
        while (at < end) {
            const std::size_t wanted = std::min(buffer.size(), static_cast<std::size_t>(end - at));
            const ssize_t got = ::pread(file.value, buffer.data(), wanted, at);
            if (got <= 0) {
                return host_error(path);
            }
            image.write(static_cast<std::uint64_t>(at),
                        {buffer.data(), static_cast<std::size_t>(got)});
            at += got;
        }
    }
    image.truncate(static_cast<std::uint64_t>(facts.st_size));
    return image;
}

}  // namespace coppice::cuts
