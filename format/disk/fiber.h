// A stackful fiber: a second stack on the same thread, switched to and from by one function. Only
// fiber.cpp knows how (Boost.Context, with the annotations of the address sanitizer around it).
//
//   scheduler --resume--> fiber --leave--> scheduler --resume--> ...
//
// A fiber that is destroyed while its body has not ended is dropped as it is: its stack goes, no
// destructor on it runs.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace coppice {

// The address sanitizer spreads locals out, so stacks are larger under it.
#if defined(COPPICE_SANITIZE)
inline constexpr std::size_t kFiberStackFactor = 8;
#else
inline constexpr std::size_t kFiberStackFactor = 1;
#endif

class Fiber {
public:
    // `entry` runs on the fiber at the first resume; it leaves by `leave` and never returns. Below
    // the stack lies a guard page, so that an overflow is a fault and no silent corruption.
    Fiber(std::size_t stack_bytes, std::function<void()> entry);
    ~Fiber();
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    // Called outside of fibers: goes to this one until it leaves.
    void resume();
    // Called on this fiber: goes back to where it was resumed.
    void leave();

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace coppice
