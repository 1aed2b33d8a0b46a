// common.h: what the guest programs share: ways to end, numbers from words, aligned memory, clocks.
//
// Exit codes of all of them: 0 as it should be, 1 wrong data or a broken promise, 2 usage,
// 3 an operation was refused (system error or NVMe status; the line on stderr says which).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

namespace guest {

enum class Exit : int { Good = 0, Wrong = 1, Usage = 2, Refused = 3 };

[[noreturn]] inline void end(Exit code, const std::string& why)
{
    std::fflush(stdout);
    std::fprintf(stderr, "%s\n", why.c_str());
    std::exit(static_cast<int>(code));
}

[[noreturn]] inline void refused(const std::string& what)
{
    end(Exit::Refused, what + ": " + std::strerror(errno));
}

// A number with an optional suffix k, m, g (powers of 1024).
inline std::uint64_t number(const std::string& word)
{
    char* rest = nullptr;
    errno = 0;
    std::uint64_t value = std::strtoull(word.c_str(), &rest, 0);
    const std::string suffix = rest;
    unsigned shift = 0;
    if (suffix == "k" || suffix == "K")
        shift = 10;
    else if (suffix == "m" || suffix == "M")
        shift = 20;
    else if (suffix == "g" || suffix == "G")
        shift = 30;
    else if (!suffix.empty())
        end(Exit::Usage, "'" + word + "' is not a number");
    if (word.empty() || errno != 0 || word[0] == '-' || value > (UINT64_MAX >> shift))
        end(Exit::Usage, "'" + word + "' is not a number that fits");
    return value << shift;
}

// Memory that O_DIRECT accepts on any device of the tests.
constexpr std::size_t direct_alignment_bytes = 4096;

class Buffer {
public:
    explicit Buffer(std::size_t bytes)
        : size_(bytes),
          data_(static_cast<std::byte*>(std::aligned_alloc(
              direct_alignment_bytes, (bytes + direct_alignment_bytes - 1) /
                                          direct_alignment_bytes * direct_alignment_bytes)))
    {
        if (!data_) throw std::bad_alloc();
        std::memset(data_.get(), 0, bytes);
    }
    std::byte* data() { return data_.get(); }
    const std::byte* data() const { return data_.get(); }
    std::size_t size() const { return size_; }

private:
    struct Free {
        void operator()(std::byte* memory) const { std::free(memory); }
    };
    std::size_t size_;
    std::unique_ptr<std::byte, Free> data_;
};

inline double seconds_now()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

inline std::uint64_t nanoseconds_now()
{
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                          std::chrono::steady_clock::now().time_since_epoch())
                                          .count());
}

// One machine-readable figure: `FIGURE name value unit`.
inline void figure(const char* name, double value, const char* unit)
{
    std::printf("FIGURE %s %.6g %s\n", name, value, unit);
}

// SplitMix64 (Steele, Lea, Flood): every number of a test follows from its seed.
inline std::uint64_t mix(std::uint64_t value)
{
    value += 0x9e3779b97f4a7c15;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
}

// A repeatable stream of numbers.
class Random {
public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    std::uint64_t next() { return mix(state_++); }
    std::uint64_t below(std::uint64_t bound) { return next() % bound; }

private:
    std::uint64_t state_;
};

}  // namespace guest
