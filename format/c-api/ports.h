// The ports of struct coppice_ports as the Tasks and the Disk of the store.
//
//   Tasks::suspend/wake    keep the promise that an early wake is not lost; the C port need not
//   Disk::start            one struct coppice_io for each request, taken from a pool
//
// The task that runs is known here, so the C port is asked once per task. A task is either spawned
// by the store, or somebody else's (a guest request in QEMU) for as long as a TaskScope lives.
#pragma once

#include <memory>
#include <vector>

#include "format/c-api/coppice.h"
#include "format/disk/disk.h"
#include "format/disk/tasks.h"

namespace coppice {

class PortTasks final : public Tasks {
public:
    explicit PortTasks(const coppice_ports& ports) : ports_(ports) {}

    void spawn(std::function<void()> body) override;
    Task* current() override;
    void suspend() override;
    void wake(Task* task) override;
    void yield() override;
    std::uint64_t now_ns() override { return ports_.now_ns(ports_.opaque); }
    std::uint64_t unix_ns() override { return ports_.unix_ns(ports_.opaque); }

    // The tasks that `spawn` started and that have not ended.
    std::size_t spawned() const { return spawned_; }

private:
    friend class TaskScope;
    struct Spawned;
    static void run_spawned(void* argument);

    const coppice_ports& ports_;
    Task* running_ = nullptr;
    std::size_t spawned_ = 0;
};

// Makes the caller's task known while it is in the store.
class TaskScope {
public:
    explicit TaskScope(PortTasks& tasks);
    ~TaskScope();
    TaskScope(const TaskScope&) = delete;
    TaskScope& operator=(const TaskScope&) = delete;

private:
    PortTasks& tasks_;
    Task* outer_;
    void* handle_;
    bool asleep_ = false;
    bool woken_ = false;  // before it suspended
    friend class PortTasks;
};

class PortDisk final : public Disk {
public:
    PortDisk(Tasks& tasks, const coppice_ports& ports) : Disk(tasks), ports_(ports) {}

    Result<std::uint64_t> size_bytes() override;
    bool read_only() const override { return ports_.read_only; }

    static void completed(const coppice_io* io, int result);

protected:
    void start(std::span<IoRequest> requests) override;

private:
    struct Flight {
        coppice_io io{};
        PortDisk* disk = nullptr;
        IoRequest* request = nullptr;
    };

    const coppice_ports& ports_;
    std::vector<std::unique_ptr<Flight>> flights_;  // all there are; as many as were ever under way
    std::vector<Flight*> idle_;
};

}  // namespace coppice
