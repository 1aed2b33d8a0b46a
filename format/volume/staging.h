// A command that is gathered piece by piece: several writes, deallocations and clones of one volume
// that take effect together, or are forgotten. Large pieces are at their new places in the image
// already, small ones in memory; nothing refers to either, so that a crash leaves nothing of them.
#pragma once

#include "format/volume/overlay.h"
#include "format/volume/writer.h"

namespace coppice {

class Staging {
public:
    Staging(State& state, Reader& reader, Writer& writer, VolumeId volume)
        : state_(state), reader_(reader), writer_(writer), domain_{volume, StreamId()}
    {
    }
    Staging(const Staging&) = delete;
    Staging& operator=(const Staging&) = delete;
    ~Staging();

    // Each adds to what is gathered, later ones over earlier ones, or fails and adds nothing;
    // too_large beyond kMaxTransactionBytes or what the journal takes as one. One at a time, each
    // within Writer::attempt. (task)
    Status write(std::span<const Range> ranges, std::span<const iovec> from);
    Status clear(std::span<const Range> ranges, layout::OperationType type);
    // Copies bytes, those of this volume as `read` shows them.
    Status clone(std::uint64_t offset_bytes, std::span<const CloneSource> sources);

    // The volume as it is now, with what is gathered over it. (task)
    Status read(std::uint64_t offset_bytes, std::span<const iovec> into);

    // All of it takes effect as one command, and nothing is gathered any more; or it fails, and all
    // stays. The caller holds the blocks and is within Writer::attempt. (task)
    Status take_effect(std::uint64_t end_bytes, const Writer::Condition& condition);

    VolumeId volume() const { return domain_.volume; }
    const Overlay& overlay() const { return overlay_; }
    std::uint64_t bytes() const { return overlay_.data_blocks() * kBlockBytes; }

private:
    // What one call adds; given back if it fails.
    class Step;

    Status write_piece(Step& step, std::uint64_t offset_bytes, std::span<const iovec> from);
    Status clear_piece(Step& step, const Range& range, layout::OperationType type);
    Status clear_part(Step& step, std::uint64_t begin, std::uint64_t end);
    Status put_data(Step& step, Lba lba, const std::shared_ptr<BlockBuffer>& buffer);
    Status read_blocks(const Overlay* newer, Lba lba, std::uint64_t count,
                       std::span<std::byte> into);
    Status read_overlay(const Overlay& overlay, Lba lba, std::uint64_t count,
                        std::span<std::byte> into);
    Status read_placed(Lba lba, const Overlay::Item& item, std::uint64_t offset,
                       std::span<std::byte> into);
    // A block of which only a part changes, as it is now.
    Status read_part(Step& step, Lba lba, std::span<std::byte> into);
    void note_part(Lba lba);
    void note_read(VolumeId volume, Lba lba, std::uint64_t count);
    void take_along();
    Status finish(Step& step);
    bool fits(const Overlay& added) const;
    Status gather_command(Writer::Staged& staged, Writer::Command& command);
    Status gather_memory(Lba lba, std::uint64_t count, Writer::Staged& staged,
                         Writer::Command& command);
    Status take_effect_in_parts(Writer::Command& command, const Writer::Condition& condition);
    void give_back(const std::vector<Extent>& extents);

    State& state_;
    Reader& reader_;
    Writer& writer_;
    DomainId domain_;  // the volume's own
    Overlay overlay_;
    // Whose pending changes were read, as parts of blocks or to be copied, and up to where.
    std::map<DomainId, Sequence> read_from_;
};

}  // namespace coppice
