// The disk port: where the image's bytes lie. Batched and asynchronous at the bottom
// (submit many, wait for the group), blocking in look on top (run).
//
// Ordering: requests of different submits may reach the medium in any order, also torn at 512
// bytes, until a later sync has completed; a completed sync makes durable every request that had
// completed before the sync was submitted, and promises nothing of others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <sys/uio.h>

#include "format/base/result.h"
#include "format/disk/tasks.h"

namespace coppice {

// Counts the requests of a batch that are still under way, and who waits for them.
struct IoGroup {
    std::uint32_t outstanding = 0;
    Task* waiter = nullptr;
};

struct IoRequest {
    enum class Kind : std::uint8_t {
        read,      // what lies beyond the end of the file reads as zeroes
        write,     // beyond the end: the file grows
        allocate,  // make the range physically present; what it holds stays. -EOPNOTSUPP: this host
                   // does not say that a later write will find room
        discard,   // give the range back to the host; it reads as zeroes afterwards, or as before
        sync,      // see above
        truncate,  // set the length of the file to offset_bytes
    };

    Kind kind = Kind::read;
    std::uint64_t offset_bytes = 0;
    std::uint64_t length_bytes = 0;  // sum of the buffers for reads and writes
    std::span<const iovec> buffers{};

    // Filled in when it has completed: 0, or a negative errno.
    int result = 0;
    IoGroup* group = nullptr;  // set by Disk
    void* port = nullptr;      // for the port's own use
};

class Disk {
public:
    explicit Disk(Tasks& tasks) : tasks_(tasks) {}
    Disk(const Disk&) = delete;
    Disk& operator=(const Disk&) = delete;
    virtual ~Disk() = default;

    // Starts all requests. They and their buffers stay in place until `wait` has returned.
    void submit(std::span<IoRequest> requests, IoGroup& group)
    {
        for (IoRequest& request : requests) {
            request.group = &group;
            request.result = 0;
        }
        group.outstanding += static_cast<std::uint32_t>(requests.size());
        start(requests);
    }

    // Gives way until every request of the group has completed. One task waits for a group.
    void wait(IoGroup& group)
    {
        while (group.outstanding != 0) {
            group.waiter = tasks_.current();
            tasks_.suspend();
        }
        group.waiter = nullptr;
    }

    // Submits and waits; the first failure becomes an Error that names request and place.
    Status run(std::span<IoRequest> requests);
    Status read(std::uint64_t offset_bytes, std::span<std::byte> into);
    Status write(std::uint64_t offset_bytes, std::span<const std::byte> from);
    // Really written, so that the range is physically present afterwards.
    Status write_zeroes(std::uint64_t offset_bytes, std::uint64_t length_bytes);
    Status sync();

    // Length of the host file now.
    virtual Result<std::uint64_t> size_bytes() = 0;
    virtual bool read_only() const = 0;

    Tasks& tasks() { return tasks_; }

protected:
    // The port begins these; for each it calls `complete` once, at once or later, on the store's
    // thread. Requests are aligned to 4096 bytes in offset and
    // length, to 512 in memory.
    virtual void start(std::span<IoRequest> requests) = 0;

    void complete(IoRequest& request, int result)
    {
        request.result = result;
        IoGroup& group = *request.group;
        if (--group.outstanding == 0 && group.waiter != nullptr) {
            Task* waiter = group.waiter;
            group.waiter = nullptr;
            tasks_.wake(waiter);
        }
    }

private:
    Tasks& tasks_;
};

}  // namespace coppice
