#include "format/disk/fiber.h"

#include <boost/context/detail/fcontext.hpp>
#include <sys/mman.h>
#include <unistd.h>

#include "format/base/check.h"

#if defined(COPPICE_SANITIZE)
#include <sanitizer/common_interface_defs.h>
#endif

namespace coppice {

namespace context = boost::context::detail;

struct Fiber::State {
    std::function<void()> entry;
    std::byte* mapping = nullptr;  // guard page, then the stack
    std::size_t mapping_bytes = 0;
    std::size_t guard_bytes = 0;
    context::fcontext_t self = nullptr;    // where the fiber goes on
    context::fcontext_t caller = nullptr;  // where the one who resumed it goes on
#if defined(COPPICE_SANITIZE)
    void* own_fake_stack = nullptr;
    void* caller_fake_stack = nullptr;
    const void* caller_bottom = nullptr;
    std::size_t caller_bytes = 0;
#endif

    static void enter(context::transfer_t from);
};

// The first frame of every fiber.
void Fiber::State::enter(context::transfer_t from)
{
    auto* state = static_cast<State*>(from.data);
    state->caller = from.fctx;
#if defined(COPPICE_SANITIZE)
    __sanitizer_finish_switch_fiber(nullptr, &state->caller_bottom, &state->caller_bytes);
#endif
    state->entry();
    CHECK(false && "the entry of a fiber never returns");
}

Fiber::Fiber(std::size_t stack_bytes, std::function<void()> entry)
    : state_(std::make_unique<State>())
{
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t wanted = stack_bytes * kFiberStackFactor;
    state_->entry = std::move(entry);
    state_->guard_bytes = page;
    state_->mapping_bytes = (wanted + page - 1) / page * page + page;
    void* mapping = ::mmap(nullptr, state_->mapping_bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    CHECK(mapping != MAP_FAILED);
    CHECK(::mprotect(mapping, page, PROT_NONE) == 0);
    state_->mapping = static_cast<std::byte*>(mapping);
    state_->self = context::make_fcontext(state_->mapping + state_->mapping_bytes,
                                          state_->mapping_bytes - page, &State::enter);
}

Fiber::~Fiber() { ::munmap(state_->mapping, state_->mapping_bytes); }

void Fiber::resume()
{
    State& state = *state_;
#if defined(COPPICE_SANITIZE)
    __sanitizer_start_switch_fiber(&state.caller_fake_stack, state.mapping + state.guard_bytes,
                                   state.mapping_bytes - state.guard_bytes);
#endif
    const context::transfer_t back = context::jump_fcontext(state.self, &state);
    state.self = back.fctx;
#if defined(COPPICE_SANITIZE)
    __sanitizer_finish_switch_fiber(state.caller_fake_stack, nullptr, nullptr);
#endif
}

void Fiber::leave()
{
    State& state = *state_;
#if defined(COPPICE_SANITIZE)
    __sanitizer_start_switch_fiber(&state.own_fake_stack, state.caller_bottom, state.caller_bytes);
#endif
    const context::transfer_t back = context::jump_fcontext(state.caller, &state);
    state.caller = back.fctx;
#if defined(COPPICE_SANITIZE)
    __sanitizer_finish_switch_fiber(state.own_fake_stack, &state.caller_bottom,
                                    &state.caller_bytes);
#endif
}

}  // namespace coppice
