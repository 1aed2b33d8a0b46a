// The fixed places of an image: header, superblocks, and reads of whole blocks.
//
//   read header -> read the four superblock copies -> the newest valid one -> compare with header
//
// A damaged header is replaced by what the superblocks repeat of it, and the other way round.
// `dump` uses this too; it then goes on with an image that `check` would refuse.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "format/base/result.h"
#include "format/base/units.h"
#include "format/check/report.h"
#include "format/disk/disk.h"
#include "format/layout/layout.h"

namespace coppice::checker {

// 4 KiB of the image, aligned as the disk port wants it.
struct alignas(kBlockBytes) Block {
    std::array<std::byte, kBlockBytes> bytes{};

    bool is_zero() const;
};

// Copies a struct of layout.h out of raw bytes.
template <typename Struct>
Struct copy_out(const std::byte* from)
{
    Struct result;
    std::memcpy(static_cast<void*>(&result), from, sizeof(result));
    return result;
}

std::uint64_t seed_of(const std::array<std::uint8_t, 16>& uuid);

// One of the four places where a superblock can stand.
struct SuperblockCopy {
    std::uint64_t block = 0;
    unsigned slot = 0;
    bool far_copy = false;
    bool blank = false;        // all zeroes: never written
    std::string problem = {};  // empty: valid
    layout::Superblock superblock{};
};

class Image {
public:
    // Whoever only shows what is there demands nothing of versions and features.
    enum class Demand : std::uint8_t { known_format, none };

    explicit Image(Disk& disk, Demand demand = Demand::known_format) : disk_(disk), demand_(demand)
    {
    }

    // Reads and judges header and superblocks. Findings are what is wrong although it can go on.
    Status load(Findings& findings);

    Status read_block(std::uint64_t block, Block& into);
    // `into` holds whole blocks and is aligned.
    Status read_blocks(std::uint64_t block, std::span<std::byte> into);

    Disk& disk() { return disk_; }
    const layout::ImageHeader& header() const { return header_; }
    const layout::Superblock& superblock() const { return superblock_; }
    std::uint64_t seed() const { return seed_; }
    std::uint64_t file_blocks() const { return file_blocks_; }  // whole blocks of the host file
    std::uint64_t image_blocks() const { return superblock_.image_blocks; }
    std::uint64_t fixed_blocks() const { return superblock_.fixed_blocks; }
    std::uint64_t sequence() const { return superblock_.sequence; }
    std::uint64_t generation() const { return superblock_.generation; }
    const std::array<SuperblockCopy, 4>& copies() const { return copies_; }

    // What is wrong with a block as the image's header; empty: nothing.
    static std::string judge_header(const Block& block);
    // The same for a superblock in one of its places; `seed` of the header, if that is known.
    static std::string judge_superblock(const Block& block, unsigned slot,
                                        std::optional<std::uint64_t> seed);

private:
    Status load_header(Findings& findings, bool& header_good);
    Status load_superblocks(Findings& findings, bool header_good);
    Status check_geometry(Findings& findings, bool header_good);

    // Does this program know what the image is made of?
    Status judge_format(std::uint64_t major, std::uint64_t minor, std::uint64_t incompatible,
                        std::uint64_t read_only_compatible) const;

    Disk& disk_;
    Demand demand_;
    layout::ImageHeader header_{};
    layout::Superblock superblock_{};
    std::array<SuperblockCopy, 4> copies_{};
    std::uint64_t seed_ = 0;
    std::uint64_t file_blocks_ = 0;
    std::uint64_t file_bytes_ = 0;
};

}  // namespace coppice::checker
