// The two checksums of the format, computed and verified here and nowhere else.
//
// Data blocks have a CRC32C (Castagnoli, as in iSCSI, RFC 3720 B.4) of their 4096 bytes: 4 bytes
// kept elsewhere (journal record, checksum tree). It covers the contents alone, so that a block
// may be shared by many places; a stale or misplaced block has other contents and fails.
//
// Metadata blocks (header, superblock, node, journal block) have an XXH3 64-bit hash, seeded with
// the image's identity, of all bytes behind the checksum field; type, own place, owner and
// generation stand in those bytes and are compared by the reader.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace coppice {

// CRC32C of one data block (any length is accepted; the format uses 4096 bytes).
std::uint32_t data_checksum(std::span<const std::byte> block);

// The hash that belongs in the first 8 bytes of a metadata block of this image. Never 0: in a
// pointer 0 means "not yet known".
std::uint64_t metadata_checksum(std::span<const std::byte> block, std::uint64_t image_seed);

}  // namespace coppice
