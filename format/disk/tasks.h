// The task port: how straight-line code waits. A task is whatever the host of the store gives it:
// a QEMU coroutine, a fiber on the host, a fiber under the simulator's seeded scheduler. All tasks
// of a store run on one thread, one at a time, and change only in suspend().
//
// Rules for code that may suspend: no std::mutex, thread_local or errno across it; none in
// destructors; whoever suspends looks again at what it knew of the trees.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>

namespace coppice {

// A handle to one task; what is behind it is the port's affair.
struct Task;

class Tasks {
public:
    Tasks() = default;
    Tasks(const Tasks&) = delete;
    Tasks& operator=(const Tasks&) = delete;
    virtual ~Tasks() = default;

    // Runs `body` as a new task, at the latest when the caller next suspends.
    virtual void spawn(std::function<void()> body) = 0;

    // The running task. Valid until it ends.
    virtual Task* current() = 0;

    // Gives way until someone wakes the running task. A wake that comes first is not lost.
    virtual void suspend() = 0;

    // Makes a suspended task run again, soon, not at once.
    virtual void wake(Task* task) = 0;

    // Gives way once, so that others may run.
    virtual void yield() = 0;

    // Nanoseconds of a clock that never goes back; virtual in the simulator.
    virtual std::uint64_t now_ns() = 0;

    // Wall clock, nanoseconds since 1970.
    virtual std::uint64_t unix_ns() = 0;
};

// A queue of tasks that wait for something. Wake-ups come in the order of arrival.
class WaitQueue {
public:
    explicit WaitQueue(Tasks& tasks) : tasks_(tasks) {}
    WaitQueue(const WaitQueue&) = delete;
    WaitQueue& operator=(const WaitQueue&) = delete;

    // The caller checks its condition in a loop around this.
    void wait()
    {
        Task* self = tasks_.current();
        waiting_.push_back(self);
        tasks_.suspend();
        // A wake that was meant for an earlier suspend leaves the task in the queue; a later
        // wake_one must not be spent on it.
        std::erase(waiting_, self);
    }

    void wake_all()
    {
        if (waiting_.empty()) {
            return;  // most often; a deque that is made takes memory
        }
        std::deque<Task*> woken;
        woken.swap(waiting_);
        for (Task* task : woken) {
            tasks_.wake(task);
        }
    }

    void wake_one()
    {
        if (!waiting_.empty()) {
            Task* task = waiting_.front();
            waiting_.pop_front();
            tasks_.wake(task);
        }
    }

    bool empty() const { return waiting_.empty(); }

private:
    Tasks& tasks_;
    std::deque<Task*> waiting_;
};

// Mutual exclusion between tasks of one thread; first come, first served. Who unlocks hands it to
// the one that waits longest: left open, it would be taken again by whoever comes at once, before
// the one that was woken has its turn, and that over and over.
class TaskMutex {
public:
    explicit TaskMutex(Tasks& tasks) : tasks_(tasks) {}
    TaskMutex(const TaskMutex&) = delete;
    TaskMutex& operator=(const TaskMutex&) = delete;

    void lock()
    {
        if (!locked_) {
            locked_ = true;
            return;
        }
        Waiting self{tasks_.current()};
        waiting_.push_back(&self);
        while (!self.has_it) {
            tasks_.suspend();
        }
    }

    void unlock()
    {
        if (waiting_.empty()) {
            locked_ = false;
            return;
        }
        Waiting* next = waiting_.front();
        waiting_.pop_front();
        next->has_it = true;
        tasks_.wake(next->task);
    }

private:
    struct Waiting {
        Task* task;
        bool has_it = false;
    };

    Tasks& tasks_;
    std::deque<Waiting*> waiting_;
    bool locked_ = false;
};

// Holds a mutex for as long as it lives. (task)
class LockGuard {
public:
    explicit LockGuard(TaskMutex& mutex) : mutex_(mutex) { mutex_.lock(); }
    LockGuard(const LockGuard&) = delete;
    LockGuard& operator=(const LockGuard&) = delete;
    ~LockGuard() { mutex_.unlock(); }

private:
    TaskMutex& mutex_;
};

}  // namespace coppice
