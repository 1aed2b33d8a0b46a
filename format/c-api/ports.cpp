#include "format/c-api/ports.h"

#include <cstring>
#include <fmt/format.h>

#include "format/base/check.h"

namespace coppice {

namespace {

// Task is what the store holds; behind it is always the scope on the task's own stack.
TaskScope* scope_of(Task* task) { return reinterpret_cast<TaskScope*>(task); }

Task* task_of(TaskScope* scope) { return reinterpret_cast<Task*>(scope); }

coppice_io_kind kind_of(IoRequest::Kind kind)
{
    switch (kind) {
    case IoRequest::Kind::read: return COPPICE_IO_READ;
    case IoRequest::Kind::write: return COPPICE_IO_WRITE;
    case IoRequest::Kind::allocate: return COPPICE_IO_ALLOCATE;
    case IoRequest::Kind::discard: return COPPICE_IO_DISCARD;
    case IoRequest::Kind::sync: return COPPICE_IO_SYNC;
    case IoRequest::Kind::truncate: return COPPICE_IO_TRUNCATE;
    }
    CHECK(false);
}

}  // namespace

// ---- Tasks --------------------------------------------------------------------------------

TaskScope::TaskScope(PortTasks& tasks)
    : tasks_(tasks), outer_(tasks.running_), handle_(tasks.ports_.current(tasks.ports_.opaque))
{
    tasks_.running_ = task_of(this);
}

TaskScope::~TaskScope() { tasks_.running_ = outer_; }

struct PortTasks::Spawned {
    PortTasks* tasks;
    std::function<void()> body;
};

void PortTasks::run_spawned(void* argument)
{
    std::unique_ptr<Spawned> spawned(static_cast<Spawned*>(argument));
    PortTasks& tasks = *spawned->tasks;
    {
        const TaskScope scope(tasks);
        spawned->body();
        // What the body holds (often the store's own objects) goes before the task does.
        spawned->body = nullptr;
    }
    --tasks.spawned_;
}

void PortTasks::spawn(std::function<void()> body)
{
    ++spawned_;
    ports_.spawn(ports_.opaque, &run_spawned, new Spawned{this, std::move(body)});
}

Task* PortTasks::current()
{
    CHECK(running_ != nullptr);
    return running_;
}

void PortTasks::suspend()
{
    Task* const self = current();
    TaskScope* const scope = scope_of(self);
    if (scope->woken_) {
        scope->woken_ = false;
        return;
    }
    scope->asleep_ = true;
    running_ = nullptr;
    while (scope->asleep_) {
        ports_.suspend(ports_.opaque);
    }
    running_ = self;
}

void PortTasks::wake(Task* task)
{
    TaskScope* const scope = scope_of(task);
    if (!scope->asleep_) {
        scope->woken_ = true;
        return;
    }
    scope->asleep_ = false;
    ports_.wake(ports_.opaque, scope->handle_);
}

void PortTasks::yield()
{
    Task* const self = current();
    running_ = nullptr;
    ports_.yield(ports_.opaque);
    running_ = self;
}

// ---- Disk ---------------------------------------------------------------------------------

Result<std::uint64_t> PortDisk::size_bytes()
{
    const std::int64_t size = ports_.size(ports_.opaque);
    if (size < 0) {
        return fail(ErrorCode::io, fmt::format("the length of the host file cannot be read: {}",
                                               std::strerror(static_cast<int>(-size))));
    }
    return static_cast<std::uint64_t>(size);
}

void PortDisk::start(std::span<IoRequest> requests)
{
    for (IoRequest& request : requests) {
        if (idle_.empty()) {
            flights_.push_back(std::make_unique<Flight>());
            flights_.back()->disk = this;
            idle_.push_back(flights_.back().get());
        }
        Flight* const flight = idle_.back();
        idle_.pop_back();
        flight->request = &request;
        flight->io = coppice_io{.kind = kind_of(request.kind),
                                .offset = request.offset_bytes,
                                .length = request.length_bytes,
                                .iov = request.buffers.data(),
                                .iov_count = request.buffers.size(),
                                .cookie = flight,
                                .port = nullptr};
        ports_.io(ports_.opaque, &flight->io);
    }
}

void PortDisk::completed(const coppice_io* io, int result)
{
    auto* const flight = static_cast<Flight*>(io->cookie);
    IoRequest& request = *flight->request;
    PortDisk& disk = *flight->disk;
    disk.idle_.push_back(flight);
    disk.complete(request, result);
}

}  // namespace coppice
