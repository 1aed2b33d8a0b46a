/* Makes a QEMU's host syncs slow and counted: fdatasync adds a byte to the file $SLOW_SYNC_LOG,
 * then takes 0.3 s. For flush-test, by LD_PRELOAD. */
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int fdatasync(int descriptor)
{
    const char* path = getenv("SLOW_SYNC_LOG");
    int log = path ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    if (log >= 0) {
        ssize_t written = write(log, "s", 1);
        (void)written;
        close(log);
        struct timespec time = {.tv_nsec = 300 * 1000 * 1000};
        nanosleep(&time, NULL);
    }
    return fsync(descriptor);
}
