// Bit fields of registers and command dwords. The spec writes "bits high:low"; so do these. This is
// the only place in the controller where values are shifted.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>

namespace coppice::nvme {

// The field at bits kHigh:kLow of a register or dword.
template <unsigned kHigh, unsigned kLow, std::unsigned_integral Value>
constexpr Value bits(Value value)
{
    constexpr unsigned kDigits = std::numeric_limits<Value>::digits;
    static_assert(kLow <= kHigh && kHigh < kDigits);
    constexpr auto kMask =
        static_cast<Value>(std::numeric_limits<Value>::max() >> (kDigits - 1 - (kHigh - kLow)));
    return static_cast<Value>(static_cast<Value>(value >> kLow) & kMask);
}

template <unsigned kBit, std::unsigned_integral Value>
constexpr bool bit(Value value)
{
    return bits<kBit, kBit>(value) != 0;
}

// A field's value moved to its place, for building registers; what does not fit is cut off.
template <unsigned kHigh, unsigned kLow>
constexpr std::uint64_t place(std::uint64_t field)
{
    static_assert(kLow <= kHigh && kHigh < 64);
    return bits<kHigh - kLow, 0>(field) << kLow;
}

template <unsigned kBit>
constexpr std::uint64_t place(bool set)
{
    return place<kBit, kBit>(set ? 1U : 0U);
}

// Two dwords of a command as one number.
constexpr std::uint64_t join(std::uint32_t low, std::uint32_t high)
{
    return (static_cast<std::uint64_t>(high) << 32) | low;
}

constexpr std::uint32_t low_half(std::uint64_t value) { return static_cast<std::uint32_t>(value); }
constexpr std::uint32_t high_half(std::uint64_t value)
{
    return static_cast<std::uint32_t>(value >> 32);
}

// 2^exponent; exponents come from checked fields, so an impossible one is our own mistake.
constexpr std::uint64_t power_of_two(unsigned exponent)
{
    return std::uint64_t{1} << (exponent & 63U);
}

}  // namespace coppice::nvme
