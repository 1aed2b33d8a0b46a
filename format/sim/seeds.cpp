#include "format/sim/seeds.h"

#include <csignal>
#include <cstdio>
#include <cstring>
#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "format/base/check.h"
#include "format/sim/report.h"

namespace coppice::sim {

namespace {

struct Child {
    std::uint64_t seed = 0;
    pid_t process = 0;
    int errors = -1;    // what it prints to stderr
    int counters = -1;  // its counters, when it ends well
    std::string text;
};

Child start_child(std::uint64_t seed, const std::function<void()>& body, unsigned timeout_seconds)
{
    int errors[2];
    int counters[2];
    CHECK(::pipe(errors) == 0);
    CHECK(::pipe(counters) == 0);
    std::fflush(nullptr);
    const pid_t process = ::fork();
    CHECK(process >= 0);
    if (process == 0) {
        ::close(errors[0]);
        ::close(counters[0]);
        ::dup2(errors[1], STDERR_FILENO);
        ::close(errors[1]);
        const rlimit limit{timeout_seconds, timeout_seconds + 2};
        ::setrlimit(RLIMIT_CPU, &limit);
        const rlimit no_core{0, 0};
        ::setrlimit(RLIMIT_CORE, &no_core);
        for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
            ::signal(signal, SIG_DFL);  // a test program's handlers would speak for the child
        }
        case_counts = {};
        body();
        const ssize_t written = ::write(counters[1], case_counts.data(), sizeof(case_counts));
        std::fflush(nullptr);
        ::_exit(written == static_cast<ssize_t>(sizeof(case_counts)) ? 0 : 1);
    }
    ::close(errors[1]);
    ::close(counters[1]);
    return {seed, process, errors[0], counters[0], {}};
}

// Takes what it printed so far; false at the end.
bool drain(Child& child)
{
    char buffer[4096];
    const ssize_t got = ::read(child.errors, buffer, sizeof(buffer));
    if (got > 0) {
        child.text.append(buffer, static_cast<std::size_t>(got));
    }
    return got > 0;
}

SeedResult end_child(Child& child)
{
    int status = 0;
    CHECK(::waitpid(child.process, &status, 0) == child.process);
    SeedResult result;
    result.text = child.text;
    std::array<std::uint64_t, kCases> counts{};
    if (::read(child.counters, counts.data(), sizeof(counts)) ==
        static_cast<ssize_t>(sizeof(counts))) {
        for (std::size_t i = 0; i < kCases; ++i) {
            case_counts[i] += counts[i];
        }
    }
    ::close(child.errors);
    ::close(child.counters);
    if (WIFSIGNALED(status)) {
        result.failed = true;
        result.timed_out = WTERMSIG(status) == SIGXCPU;
        result.text += WTERMSIG(status) == SIGXCPU
                           ? "it does not come to an end\n"
                           : fmt::format("it was ended by signal {} ({})\n", WTERMSIG(status),
                                         ::strsignal(WTERMSIG(status)));
    } else {
        result.failed = WEXITSTATUS(status) != 0;
    }
    return result;
}

}  // namespace

SeedResult run_in_child(const std::function<void()>& body, unsigned timeout_seconds)
{
    Child child = start_child(0, body, timeout_seconds);
    while (drain(child)) {}
    return end_child(child);
}

std::uint64_t run_seeds(const SeedsOptions& options,
                        const std::function<void(std::uint64_t seed)>& body,
                        const std::function<void(std::uint64_t seed, const SeedResult&)>& finished)
{
    std::vector<Child> running;
    std::uint64_t next = options.first;
    const std::uint64_t end = options.first + options.count;
    std::uint64_t failures = 0;
    while (next != end || !running.empty()) {
        const bool stop = failures != 0 && options.stop_at_first_failure;
        while (!stop && next != end && running.size() < options.jobs) {
            const std::uint64_t seed = next++;
            running.push_back(start_child(
                seed, [&] { body(seed); }, options.timeout_seconds));
        }
        if (running.empty()) {
            break;
        }
        std::vector<pollfd> polled;
        polled.reserve(running.size());
        for (const Child& child : running) {
            polled.push_back({child.errors, POLLIN, 0});
        }
        ::poll(polled.data(), polled.size(), -1);
        for (std::size_t i = running.size(); i-- > 0;) {
            if (polled[i].revents == 0 || drain(running[i])) {
                continue;
            }
            const SeedResult result = end_child(running[i]);
            failures += result.failed ? 1 : 0;
            finished(running[i].seed, result);
            running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
        }
    }
    return failures;
}

}  // namespace coppice::sim
