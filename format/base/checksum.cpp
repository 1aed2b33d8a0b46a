#include "format/base/checksum.h"

#include <isa-l/crc.h>
#include <xxhash.h>

#include "format/base/check.h"

namespace coppice {

std::uint32_t data_checksum(std::span<const std::byte> block)
{
    // ISA-L takes a pointer to non-const bytes but does not write; it leaves the final
    // complement to the caller.
    auto* bytes = const_cast<unsigned char*>(  // NOLINT(cppcoreguidelines-pro-type-const-cast)
        reinterpret_cast<const unsigned char*>(block.data()));
    return ~crc32_iscsi(bytes, static_cast<int>(block.size()), 0xFFFFFFFFU);
}

std::uint64_t metadata_checksum(std::span<const std::byte> block, std::uint64_t image_seed)
{
    CHECK(block.size() > sizeof(std::uint64_t));
    auto covered = block.subspan(sizeof(std::uint64_t));
    auto hash = XXH3_64bits_withSeed(covered.data(), covered.size(), image_seed);
    return hash == 0 ? 1 : hash;
}

}  // namespace coppice
