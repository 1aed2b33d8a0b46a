// Reading blocks of a volume: the map, the checksums, the host's data, verified.
#pragma once

#include "format/volume/state.h"

namespace coppice {

class Reader {
public:
    explicit Reader(State& state) : state_(state) {}

    // Whole blocks [lba, lba + count) of the volume into `into` (count * 4096 bytes). What is not
    // mapped reads as zeroes. The caller holds a Pin. (task)
    Status read_blocks(VolumeId volume, Lba lba, std::uint64_t count, std::span<std::byte> into);

    // State of the blocks from `lba` on; `length` is at most `count`. (task)
    struct Run {
        BlockState state = BlockState::hole;
        std::uint64_t length = 0;
        std::uint64_t block = 0;  // data: where in the image
        bool late = false;        // ... they will be, and are in memory now
    };
    Result<Run> run_at(VolumeId volume, Lba lba, std::uint64_t count);

private:
    // A run of data blocks that lies in one piece in the image.
    struct Piece {
        std::uint64_t offset = 0;  // blocks from the start of the request
        BlockNo block;
        std::uint64_t length = 0;
    };
    struct Plan {
        std::vector<Piece> pieces;
        std::vector<std::uint32_t> checksums;  // of the pieces' blocks, in order
    };

    Result<Plan> resolve(VolumeId volume, Lba lba, std::uint64_t count);
    std::optional<Missing> resolve_version(VersionId version, Lba lba, std::uint64_t count,
                                           std::uint64_t offset, unsigned depth, Plan& plan,
                                           Status& failed) const;
    Run data_run(const Piece& piece) const;
    Status fetch(const Plan& plan, std::span<std::byte> into);
    Status verify(VolumeId volume, Lba lba, const Plan& plan, std::span<std::byte> bytes);

    State& state_;
};

}  // namespace coppice
