// One command between its submission entry and its completion.
//
//   free -> taken (permit, entry) -> [waiting: memory, an idle namespace or queue, a task]
//        -> submitted to the backend [<-> held back by the host's error policy]
//        -> completed or discarded -> free
//
// Requests are pooled, their vectors keep what they have grown to, so the usual read or write
// allocates nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "controller/limits.h"
#include "controller/namespaces.h"
#include "controller/queues.h"
#include "controller/transfer.h"
#include "format/volume/store.h"

namespace coppice::nvme {

class Controller;

struct Request {
    Controller* controller = nullptr;
    SubmissionQueue* queue = nullptr;
    Permit permit;
    SubmissionEntry entry;

    Transfer transfer;
    Operation operation;
    std::vector<Range> ranges;
    std::vector<CloneSource> sources;
    std::vector<iovec> buffers;      // of Write Ranges: the data behind the list
    std::vector<Namespace*> held;    // namespaces that must stay while it runs
    std::uint64_t wanted_bytes = 0;  // of a buffer, while it waits for memory
    IoClass io_class = IoClass::read;
    Host::Cookie cookie{};
    std::uint32_t parts = 0;  // operations under way (Flush of all namespaces has several)
    StatusCode part_status = StatusCode::success;
    int part_errno = 0;
};

class RequestPool {
public:
    // nullptr when kMaxInFlight are out.
    Request* take()
    {
        if (free_.empty()) {
            if (all_.size() >= kMaxInFlight) {
                return nullptr;
            }
            all_.push_back(std::make_unique<Request>());
            return all_.back().get();
        }
        Request* request = free_.back();
        free_.pop_back();
        return request;
    }
    void give_back(Request& request) { free_.push_back(&request); }
    std::size_t available() const { return free_.size() + (kMaxInFlight - all_.size()); }

private:
    std::vector<std::unique_ptr<Request>> all_;
    std::vector<Request*> free_;
};

}  // namespace coppice::nvme
