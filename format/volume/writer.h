// Everything that changes what a volume reads: writes, deallocations, clones. Each call is one
// command: its data go to new blocks first, then all of its operations take effect together.
#pragma once

#include <functional>

#include "format/volume/buffer.h"
#include "format/volume/checkpoint.h"
#include "format/volume/committer.h"
#include "format/volume/effects.h"
#include "format/volume/marks.h"
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

    using Command = std::vector<JournalOperation>;
    // A management operation, or several of the volumes of one group: they take effect together and
    // are durable with everything before them.
    Status manage(const Command& command, const std::vector<VolumeId>& involved);
    Status manage(const JournalOperation& operation, const std::vector<VolumeId>& involved)
    {
        return manage(Command{operation}, involved);
    }

    // ---- For who gathers a command of his own (Staging)

    // Asked when nothing suspends any more before the command takes effect.
    using Condition = std::function<Status()>;

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

    // Runs `body`, a second time behind a checkpoint when there is no space. It holds neither pins
    // nor locks before and behind it, and has changed nothing when it fails. (task)
    Status attempt(const std::function<Status()>& body);
    Status check_range(VolumeId volume, std::uint64_t offset_bytes, std::uint64_t length_bytes,
                       bool for_writing) const;
    // Are so few blocks answered from memory, and written later?
    bool may_be_late(std::uint64_t blocks) const
    {
        return blocks <= state_.options.late_write_blocks;
    }
    // Finds new places for whole blocks, writes them there or, if `late`, leaves that for later,
    // and appends the operations that map them. (task)
    Status stage(DomainId domain, Lba lba, const std::shared_ptr<BlockBuffer>& buffer, bool late,
                 Staged& staged, Command& command);
    // The operations take effect together. `end_bytes`: the volume must still be that long. (task)
    Status take_effect(DomainId domain, Command& command, std::uint64_t end_bytes,
                       const Condition& condition = nullptr);
    // What takes effect is noted here.
    Marks& marks() { return marks_; }

private:
    template <typename Body>
    Status with_space(Body body);
    Status write_now(std::span<const Extent> extents, BlockBuffer& buffer, std::uint64_t most);
    Status check_sources(const Command& command) const;
    Status check_fits(const Command& command) const;
    // Gives the operations, which take effect now, their places in the order.
    void number(Command& command) const;
    void take_along(DomainId domain, const Command& command);
    void take_along_partial(DomainId domain, Lba block);
    void mark(const Command& command);
    void mark_managed(const JournalOperation& operation, std::uint64_t old_size);

    Status write_once(DomainId domain, std::uint64_t offset_bytes, std::span<const iovec> from);
    Status clear_once(DomainId domain, std::span<const Range> ranges, layout::OperationType type);
    static std::vector<Range> disjoint(std::span<const Range> ranges);
    Status clear_tail_once(VolumeId volume);
    Status manage_once(const Command& wanted, const std::vector<VolumeId>& involved);
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
    Marks marks_;
};

}  // namespace coppice
