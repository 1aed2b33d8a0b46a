// Little-endian integers as they lie on disk: byte arrays of alignment 1, read and written by
// value. A struct of them has no padding, so its size and offsets can be asserted; it may be
// copied to and from any address with memcpy. Nothing else describes bytes that leave the process.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace coppice {

template <typename Value, std::size_t kBytes>
class LittleEndian {
public:
    constexpr LittleEndian() = default;
    constexpr LittleEndian(Value value) { *this = value; }  // NOLINT(google-explicit-constructor)

    constexpr LittleEndian& operator=(Value value)
    {
        if (kNative && !std::is_constant_evaluated()) {
            const std::uint64_t wide = value;
            std::memcpy(bytes_.data(), &wide, kBytes);
            return *this;
        }
        for (std::size_t i = 0; i < kBytes; ++i) {
            bytes_[i] = static_cast<std::uint8_t>(static_cast<std::uint64_t>(value) >> (8 * i));
        }
        return *this;
    }

    constexpr operator Value() const  // NOLINT(google-explicit-constructor)
    {
        std::uint64_t value = 0;
        if (kNative && !std::is_constant_evaluated()) {
            std::memcpy(&value, bytes_.data(), kBytes);
            return static_cast<Value>(value);
        }
        for (std::size_t i = 0; i < kBytes; ++i) {
            value |= static_cast<std::uint64_t>(bytes_[i]) << (8 * i);
        }
        return static_cast<Value>(value);
    }

    constexpr Value get() const { return *this; }

private:
    // Then one instruction does it; the compiler does not see that in the loops.
    static constexpr bool kNative = std::endian::native == std::endian::little;

    std::array<std::uint8_t, kBytes> bytes_{};
};

using Le16 = LittleEndian<std::uint16_t, 2>;
using Le32 = LittleEndian<std::uint32_t, 4>;
using Le48 = LittleEndian<std::uint64_t, 6>;  // holds 0 .. 2^48 - 1
using Le64 = LittleEndian<std::uint64_t, 8>;

static_assert(sizeof(Le16) == 2 && alignof(Le16) == 1);
static_assert(sizeof(Le48) == 6 && alignof(Le48) == 1);
static_assert(sizeof(Le64) == 8 && alignof(Le64) == 1);

}  // namespace coppice
