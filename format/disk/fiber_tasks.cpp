#include "format/disk/fiber_tasks.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <utility>

#include "format/base/check.h"
#include "format/disk/fiber.h"

namespace coppice {

namespace {

constexpr std::uint64_t kForever = std::numeric_limits<std::uint64_t>::max();
// With work at hand the poller is asked only now and then: a system call for each turn would cost
// more than the turns.
constexpr std::uint64_t kTurnsBetweenPolls = 32;

std::uint64_t host_clock_ns(clockid_t clock)
{
    timespec time{};
    ::clock_gettime(clock, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000ULL +
           static_cast<std::uint64_t>(time.tv_nsec);
}

void host_sleep_ns(std::uint64_t duration_ns)
{
    timespec time{};
    time.tv_sec = static_cast<time_t>(duration_ns / 1'000'000'000ULL);
    time.tv_nsec = static_cast<long>(duration_ns % 1'000'000'000ULL);
    ::nanosleep(&time, nullptr);
}

}  // namespace

// idle -> runnable -> running -> { suspended -> runnable, runnable (yield), idle (ended) }
struct FiberTasks::FiberTask {
    enum class State : std::uint8_t { idle, runnable, running, suspended };

    State state = State::idle;
    bool woken = false;  // a wake came while it was not suspended
    std::function<void()> body;
    std::unique_ptr<Fiber> fiber;
};

FiberTasks::FiberTasks(const FiberTaskOptions& options)
    : options_(options), random_(options.seed.value_or(0))
{
}

FiberTasks::~FiberTasks() { CHECK(running_ == nullptr); }

FiberTasks::FiberTask* FiberTasks::take_idle_task()
{
    if (idle_.empty()) {
        auto made = std::make_unique<FiberTask>();
        FiberTask* task = made.get();
        tasks_.push_back(std::move(made));
        task->fiber = std::make_unique<Fiber>(options_.stack_bytes, [this, task] {
            // One body after the other, so that a stack is mapped once.
            for (;;) {
                task->body();
                task->body = nullptr;
                task->state = FiberTask::State::idle;
                task->woken = false;
                --unfinished_;
                idle_.push_back(task);
                task->fiber->leave();
            }
        });
        return task;
    }
    FiberTask* task = idle_.back();
    idle_.pop_back();
    return task;
}

void FiberTasks::spawn(std::function<void()> body)
{
    FiberTask* task = take_idle_task();
    task->body = std::move(body);
    ++unfinished_;
    make_runnable(task);
}

void FiberTasks::make_runnable(FiberTask* task)
{
    task->state = FiberTask::State::runnable;
    runnable_.push_back(task);
}

Task* FiberTasks::current()
{
    CHECK(running_ != nullptr);
    // `Task` is only a name for what each port has behind it.
    return reinterpret_cast<Task*>(running_);
}

void FiberTasks::give_way() { running_->fiber->leave(); }

void FiberTasks::suspend()
{
    CHECK(running_ != nullptr);
    if (running_->woken) {
        running_->woken = false;
        return;
    }
    running_->state = FiberTask::State::suspended;
    give_way();
}

bool FiberTasks::suspend_until(std::uint64_t deadline_ns)
{
    CHECK(running_ != nullptr);
    FiberTask* task = running_;
    if (task->woken) {
        task->woken = false;
        return true;
    }
    // The timer is gone before this frame is, so it may refer to it.
    bool fired = false;
    bool expired = false;
    const auto timer = timers_.emplace(deadline_ns, [this, task, &fired, &expired] {
        fired = true;
        if (task->state == FiberTask::State::suspended) {
            expired = true;
            make_runnable(task);
        }
    });
    task->state = FiberTask::State::suspended;
    give_way();
    if (!fired) {
        timers_.erase(timer);
    }
    return !expired;
}

void FiberTasks::sleep_until(std::uint64_t deadline_ns)
{
    bool woken_meanwhile = false;
    while (now_ns() < deadline_ns) {
        woken_meanwhile = suspend_until(deadline_ns) || woken_meanwhile;
    }
    if (woken_meanwhile) {
        running_->woken = true;  // it was meant for a later suspend
    }
}

void FiberTasks::wake(Task* task)
{
    auto* fiber = reinterpret_cast<FiberTask*>(task);
    CHECK(fiber != nullptr);
    switch (fiber->state) {
    case FiberTask::State::suspended: make_runnable(fiber); break;
    case FiberTask::State::runnable:
    case FiberTask::State::running: fiber->woken = true; break;
    case FiberTask::State::idle: CHECK(false && "woke a task that has ended"); break;
    }
}

void FiberTasks::yield()
{
    CHECK(running_ != nullptr);
    make_runnable(running_);
    give_way();
}

std::uint64_t FiberTasks::now_ns()
{
    return options_.virtual_time ? virtual_now_ns_ : host_clock_ns(CLOCK_MONOTONIC);
}

std::uint64_t FiberTasks::unix_ns()
{
    return options_.virtual_time ? kVirtualEpochNs + virtual_now_ns_
                                 : host_clock_ns(CLOCK_REALTIME);
}

void FiberTasks::call_at(std::uint64_t deadline_ns, std::function<void()> action)
{
    timers_.emplace(deadline_ns, std::move(action));
}

void FiberTasks::run_due_timers()
{
    if (timers_.empty()) {
        return;
    }
    const std::uint64_t now = now_ns();
    while (!timers_.empty() && timers_.begin()->first <= now) {
        const std::function<void()> action = std::move(timers_.begin()->second);
        timers_.erase(timers_.begin());
        action();
    }
}

FiberTasks::FiberTask* FiberTasks::pick()
{
    std::size_t index = 0;
    if (options_.seed && runnable_.size() > 1) {
        index = static_cast<std::size_t>(random_() % runnable_.size());
    }
    FiberTask* task = runnable_[index];
    runnable_.erase(runnable_.begin() + static_cast<std::ptrdiff_t>(index));
    return task;
}

void FiberTasks::take_turn()
{
    FiberTask* task = pick();
    task->state = FiberTask::State::running;
    running_ = task;
    task->fiber->resume();
    running_ = nullptr;
    virtual_now_ns_ += kVirtualStepNs;
    if (poller_ != nullptr && ++turns_ % kTurnsBetweenPolls == 0 && poller_->busy()) {
        poller_->poll(0);
    }
    run_due_timers();
}

bool FiberTasks::wait_for_work(std::uint64_t limit_ns)
{
    while (runnable_.empty()) {
        const bool polling = poller_ != nullptr && poller_->busy();
        const std::uint64_t next = timers_.empty() ? kForever : timers_.begin()->first;
        const std::uint64_t until = std::min(next, limit_ns);
        const std::uint64_t now = now_ns();
        if (polling) {
            // A virtual clock stands still while the outer world is waited for.
            const bool may_wait = options_.virtual_time || until > now;
            poller_->poll(!may_wait ? 0 : options_.virtual_time ? kForever : until - now);
        } else if (until == kForever) {
            return false;
        } else if (until > now) {
            if (options_.virtual_time) {
                virtual_now_ns_ = until;
            } else {
                host_sleep_ns(until - now);
            }
        }
        run_due_timers();
        if (runnable_.empty() && now_ns() >= limit_ns && (poller_ == nullptr || !poller_->busy())) {
            return false;
        }
    }
    return true;
}

void FiberTasks::run(std::function<void()> body)
{
    CHECK(running_ == nullptr);
    bool ended = false;
    spawn([&body, &ended] {
        body();
        ended = true;
    });
    while (!ended) {
        if (runnable_.empty() && !wait_for_work(kForever)) {
            std::fprintf(stderr,
                         "coppice: deadlock: all %zu tasks are suspended, no timer is set and no "
                         "request is under way\n",
                         unfinished_);
            CHECK(false && "some task can go on");
        }
        take_turn();
    }
}

void FiberTasks::run_until_idle()
{
    CHECK(running_ == nullptr);
    run_due_timers();
    while (!runnable_.empty() || wait_for_work(now_ns())) {
        take_turn();
    }
}

void FiberTasks::run_for(std::uint64_t duration_ns)
{
    CHECK(running_ == nullptr);
    const std::uint64_t limit = now_ns() + duration_ns;
    while (now_ns() < limit && (!runnable_.empty() || wait_for_work(limit))) {
        take_turn();
    }
}

}  // namespace coppice
