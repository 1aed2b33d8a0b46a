// Everything that changes what a volume reads: writes, deallocations, clones. Each call is one
// command: its data go to new blocks first, then all of its operations take effect together.
#pragma once

#include "format/volume/buffer.h"
#include "format/volume/checkpoint.h"
#include "format/volume/committer.h"
#include "format/volume/effects.h"
#include "format/volume/reader.h"

namespace coppice {

// Longest write, and longest clone between places that do not agree modulo 4 KiB.
inline constexpr std::uint64_t kMaxWriteBytes = 32ULL << 20;

class Writer {
public:
    Writer(State& state, Reader& reader, Effects& effects, Committer& committer,
           Checkpoint& checkpoint)
        : state_(state),
          reader_(reader),
          effects_(effects),
          committer_(committer),
          checkpoint_(checkpoint)
    {
    }

    Status write(DomainId domain, std::uint64_t offset_bytes, std::span<const iovec> from);
    // Deallocates or zeroes all of the ranges.
    Status clear(DomainId domain, std::span<const Range> ranges, layout::OperationType type);
    Status clone(DomainId destination, std::uint64_t offset_bytes,
                 std::span<const CloneSource> sources);
    // Zeroes what the last block of a volume holds behind the end of the volume.
    Status clear_behind_end(VolumeId volume);

    // A management operation: takes effect and is durable with everything before it.
    Status manage(const JournalOperation& operation, const std::vector<VolumeId>& involved);

private:
    using Command = std::vector<JournalOperation>;

    // New blocks for data, given back unless they take effect.
    class Staged {
    public:
        explicit Staged(State& state) : state_(state) {}
        Staged(const Staged&) = delete;
        Staged& operator=(const Staged&) = delete;
        ~Staged();
        Result<std::vector<Extent>> take(std::uint64_t blocks);
        // Blocks for data that are written later; the buffer holds one block for each.
        Result<std::vector<Extent>> take_late(const std::shared_ptr<BlockBuffer>& buffer);
        // The operations took effect: nothing has suspended since.
        void keep();

    private:
        struct Late {
            Extent extent;
            std::shared_ptr<BlockBuffer> buffer;
            std::uint64_t first;  // block of the buffer
        };
        State& state_;
        std::vector<Extent> extents_;  // written already
        std::vector<Late> late_;
    };

    template <typename Body>
    Status with_space(Body body);
    Status check_range(VolumeId volume, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                       bool for_writing) const;
    // Finds new places for whole blocks, writes them there or leaves that for later, and appends
    // the operations that map them.
    Status stage(DomainId domain, Lba lba, const std::shared_ptr<BlockBuffer>& buffer,
                 Staged& staged, Command& command);
    Status write_now(std::span<const Extent> extents, BlockBuffer& buffer, std::uint64_t most);
    // `end_bytes`: the volume must still be that long.
    Status take_effect(DomainId domain, Command& command, std::uint64_t end_bytes);
    Status check_sources(const Command& command) const;
    void take_along(DomainId domain, const Command& command);
    void take_along_partial(DomainId domain, Lba block);

    Status write_once(DomainId domain, std::uint64_t offset_bytes, std::span<const iovec> from);
    Status clear_once(DomainId domain, std::span<const Range> ranges, layout::OperationType type);
    static std::vector<Range> disjoint(std::span<const Range> ranges);
    Status clear_tail_once(VolumeId volume);
    Status manage_once(const JournalOperation& operation, const std::vector<VolumeId>& involved);
    Status clear_parts(DomainId domain, Lba lba, unsigned parts, Staged& staged, Command& command);
    Status share_once(DomainId destination, std::uint64_t offset_bytes,
                      std::span<const CloneSource> sources);
    Status copy_bytes(DomainId destination, std::uint64_t offset_bytes,
                      std::span<const CloneSource> sources);
    Result<bool> worth_a_reference(std::span<const CloneSource> sources);
    bool may_be_referred_to(VolumeId source) const;

    State& state_;
    Reader& reader_;
    Effects& effects_;
    Committer& committer_;
    Checkpoint& checkpoint_;
};

}  // namespace coppice
