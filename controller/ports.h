// The ports of the controller: what the machine around it provides. In QEMU the device module is
// behind them, in the tests a fake host; a vfio-user server could be.
//
// Everything is called on the store's thread. The controller in turn is called on that thread, but
// for the two functions that say otherwise (Controller::read_register, ::doorbell).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace coppice::nvme {

enum class Direction : std::uint8_t {
    from_guest,  // the device reads guest memory
    to_guest,    // the device writes it
};

// What a command was, for the host's accounting and error policy.
enum class IoClass : std::uint8_t { read, write, flush, deallocate };

// What the host wants done about a failed command (QEMU: rerror, werror).
enum class ErrorAction : std::uint8_t {
    report,  // tell the guest
    ignore,  // tell the guest that all is well
    retry,   // hold the command until Controller::retry_failed
};

class Host {
public:
    Host() = default;
    Host(const Host&) = delete;
    Host& operator=(const Host&) = delete;
    virtual ~Host() = default;

    // -- guest memory; false where an address is not memory
    virtual bool read_memory(std::uint64_t address, std::span<std::byte> into) = 0;
    virtual bool write_memory(std::uint64_t address, std::span<const std::byte> from) = 0;
    // The beginning of [address, address + length) as host memory. `length_bytes` comes back as
    // what is contiguous, at least 1. nullptr: cannot be mapped (now); read or write it instead.
    virtual void* map(std::uint64_t address, std::size_t& length_bytes, Direction direction) = 0;
    // `used_bytes` were read or written of it.
    virtual void unmap(void* pointer, std::size_t length_bytes, Direction direction,
                       std::size_t used_bytes) = 0;

    // -- interrupts
    virtual bool message_interrupts() = 0;  // MSI-X is on; else the pin
    virtual void send_message(std::uint16_t vector) = 0;
    virtual void set_pin(bool asserted) = 0;

    // -- time
    virtual std::uint64_t now_ns() = 0;   // a clock that never goes back
    virtual std::uint64_t unix_ns() = 0;  // wall clock

    // Controller::poll is to be called soon, on the store's thread, not from inside this call.
    virtual void schedule_poll() = 0;
    // Nothing is under way any more; called whenever that becomes so.
    virtual void idle() {}

    // Something that the person who runs the host should know: one sentence.
    virtual void report(const std::string& /*text*/) {}

    // -- policies; the cookie is the host's, kept with the command
    using Cookie = std::array<std::uint64_t, 4>;
    virtual void io_begins(IoClass, std::uint64_t /*bytes*/, Cookie&) {}
    virtual void io_ends(IoClass, Cookie&, bool /*failed*/) {}
    virtual ErrorAction on_error(IoClass, int /*errno_value*/) { return ErrorAction::report; }
};

}  // namespace coppice::nvme
