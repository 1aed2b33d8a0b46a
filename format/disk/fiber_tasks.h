// Tasks as fibers on one thread: the task port of the host tool, the tests and the simulator.
//
//   run(body) --> [ runnable tasks ] --pick--> resume a fiber --> it suspends, yields or ends
//                       ^  ^  ^
//                 wake -+  |  +- timers that are due
//                          +---- the poller (completions of an asynchronous disk)
//
// Runnable tasks take turns in the order in which they became runnable or, with a seed, in a
// random order that the seed fixes. The clock is the host's or virtual. A virtual clock moves by
// `kVirtualStepNs` at each turn (so that who waits by yielding gets somewhere) and jumps to the
// next timer when nothing is runnable; a run then depends on nothing but its seed.
//
// If all tasks are suspended, no timer is set and the poller has nothing under way, nothing can
// ever happen again: that is a broken promise of ours and ends the process with a clear line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "format/disk/tasks.h"

namespace coppice {

struct FiberTaskOptions {
    // The store must do with 64 KiB; the simulator gives it no more. Bodies of tests and tools need
    // more now and then, and untouched stack costs nothing.
    std::size_t stack_bytes = 256 * 1024;
    // The order of turns is random; none: first come, first served.
    std::optional<std::uint64_t> seed = std::nullopt;
    bool virtual_time = false;
};

// What an asynchronous disk (io_uring) gives to be waited for.
class Poller {
public:
    Poller() = default;
    Poller(const Poller&) = delete;
    Poller& operator=(const Poller&) = delete;
    virtual ~Poller() = default;

    // True while something is under way that will complete by itself.
    virtual bool busy() = 0;
    // Completes what is ready. If nothing is, waits for it up to `wait_ns` (0: not at all).
    virtual void poll(std::uint64_t wait_ns) = 0;
};

class FiberTasks final : public Tasks {
public:
    static constexpr std::uint64_t kVirtualStepNs = 100;
    // Virtual clocks start at this wall-clock time (2026-01-01), so that runs repeat exactly.
    static constexpr std::uint64_t kVirtualEpochNs = 1'767'225'600'000'000'000;

    explicit FiberTasks(const FiberTaskOptions& options = {});
    // Tasks that have not ended are dropped as they are: no destructor on their stacks runs.
    ~FiberTasks() override;

    // Runs `body` as a task, and all other tasks beside it, until `body` has ended. What it spawned
    // may then still be suspended and goes on in the next run. Not from inside a task.
    void run(std::function<void()> body);
    // Runs what is runnable until nothing is and the poller is idle. Timers that are not due stay.
    void run_until_idle();
    // As run_until_idle, over timers too, for so long of the (virtual) clock.
    void run_for(std::uint64_t duration_ns);

    void spawn(std::function<void()> body) override;
    Task* current() override;
    void suspend() override;
    void wake(Task* task) override;
    void yield() override;
    std::uint64_t now_ns() override;
    std::uint64_t unix_ns() override;

    // Gives way until someone wakes the running task (true) or the clock has come to `deadline_ns`
    // (false).
    bool suspend_until(std::uint64_t deadline_ns);
    void sleep_until(std::uint64_t deadline_ns);
    // Calls `action` between turns when the clock has come to `deadline_ns`; it may wake and spawn,
    // not suspend. Actions of one moment run in the order in which they were set.
    void call_at(std::uint64_t deadline_ns, std::function<void()> action);

    // The poller outlives all runs, or is taken away with nullptr.
    void set_poller(Poller* poller) { poller_ = poller; }

    bool in_task() const { return running_ != nullptr; }
    // Tasks that have not ended.
    std::size_t unfinished() const { return unfinished_; }

private:
    struct FiberTask;

    FiberTask* take_idle_task();
    void make_runnable(FiberTask* task);
    FiberTask* pick();
    void take_turn();
    void run_due_timers();
    // Lets time pass until something is runnable; at most to `limit_ns`. False: not possible.
    bool wait_for_work(std::uint64_t limit_ns);
    void give_way();

    FiberTaskOptions options_;
    std::mt19937_64 random_;
    std::vector<std::unique_ptr<FiberTask>> tasks_;
    std::vector<FiberTask*> idle_;  // their stacks are used again
    std::deque<FiberTask*> runnable_;
    std::multimap<std::uint64_t, std::function<void()>> timers_;
    FiberTask* running_ = nullptr;
    Poller* poller_ = nullptr;
    std::size_t unfinished_ = 0;
    std::uint64_t virtual_now_ns_ = 1;
    std::uint64_t turns_ = 0;
};

}  // namespace coppice
