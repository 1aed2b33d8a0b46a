// Reading blocks of a volume: the map, the checksums, the host's data, verified.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "format/volume/state.h"
#include "format/volume/store.h"

namespace coppice {

class Reader {
public:
    explicit Reader(State& state) : state_(state) {}

    // Whole blocks [lba, lba + count) of the volume into `into` (count * 4096 bytes). What is not
    // mapped reads as zeroes. The caller holds a Pin. (task)
    Status read_blocks(VolumeId volume, Lba lba, std::uint64_t count, std::span<std::byte> into);
    // The same of several, all of them as of one moment.
    struct Wanted {
        VolumeId volume;
        Lba lba;
        std::uint64_t count = 0;
        std::span<std::byte> into;
    };
    Status read_blocks(std::span<const Wanted> wanted);
    // The bytes of all sources, one behind the other, as of one moment. `change`, if there is one,
    // gets the blocks of each as they were read, before anything is taken from them.
    using Change = std::function<Status(const Wanted& read)>;
    Status read_sources(std::span<const CloneSource> sources, std::span<std::byte> into,
                        const Change& change = nullptr);

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

    // A node that is not at hand.
    struct Gap {
        Missing missing;
        bool of_checksums = false;
    };
    Status resolve(std::span<const Wanted> wanted, std::vector<Plan>& plans);
    Status look_up(const Wanted& wanted, Plan& plan, std::optional<Gap>& gap);
    std::optional<Missing> resolve_version(VersionId version, Lba lba, std::uint64_t count,
                                           std::uint64_t offset, unsigned depth, Plan& plan,
                                           Status& failed) const;
    Run data_run(const Piece& piece) const;
    Status fetch(std::span<const Wanted> wanted, std::span<const Plan> plans);
    static Status verify(const Wanted& wanted, const Plan& plan);

    State& state_;
};

}  // namespace coppice
