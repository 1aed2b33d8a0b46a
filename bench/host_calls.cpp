#include "bench/host_calls.h"

#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

namespace coppice::bench {

HostCalls host_calls;

namespace {

ssize_t count_write(long result)
{
    ++host_calls.writes;
    host_calls.written_bytes += result > 0 ? static_cast<std::uint64_t>(result) : 0;
    return result;
}

}  // namespace
}  // namespace coppice::bench

// The names of the C library, which the linker takes from here first. They are given as labels, as
// the headers declare the same functions with attributes of their own.
#define COPPICE_HOST_CALL(label) __asm__(label) __attribute__((visibility("default")))

extern "C" {

ssize_t coppice_pwrite(int file, const void* from, size_t bytes, off_t offset)
    COPPICE_HOST_CALL("pwrite64");
ssize_t coppice_pwritev(int file, const iovec* from, int count, off_t offset)
    COPPICE_HOST_CALL("pwritev64");
int coppice_fdatasync(int file) COPPICE_HOST_CALL("fdatasync");
int coppice_fsync(int file) COPPICE_HOST_CALL("fsync");

ssize_t coppice_pwrite(int file, const void* from, size_t bytes, off_t offset)
{
    return coppice::bench::count_write(::syscall(SYS_pwrite64, file, from, bytes, offset));
}

ssize_t coppice_pwritev(int file, const iovec* from, int count, off_t offset)
{
    // The offset goes in two halves; the upper one means nothing where a register holds it whole.
    return coppice::bench::count_write(::syscall(SYS_pwritev, file, from, count, offset, 0L));
}

int coppice_fdatasync(int file)
{
    ++coppice::bench::host_calls.syncs;
    return static_cast<int>(::syscall(SYS_fdatasync, file));
}

int coppice_fsync(int file)
{
    ++coppice::bench::host_calls.syncs;
    return static_cast<int>(::syscall(SYS_fsync, file));
}
}
