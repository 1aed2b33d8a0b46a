#include "format/volume/staging.h"

#include <algorithm>
#include <fmt/format.h>

#include "format/base/checksum.h"
#include "format/base/rules.h"
#include "format/volume/ranges.h"

namespace coppice {

namespace {

// Part of a caller's buffers.
std::vector<iovec> slice(std::span<const iovec> buffers, std::uint64_t offset, std::uint64_t length)
{
    std::vector<iovec> result;
    for (const iovec& buffer : buffers) {
        if (offset >= buffer.iov_len) {
            offset -= buffer.iov_len;
            continue;
        }
        const std::uint64_t count = std::min(buffer.iov_len - offset, length);
        if (count != 0) {
            result.push_back({static_cast<std::byte*>(buffer.iov_base) + offset, count});
        }
        offset = 0;
        length -= count;
    }
    return result;
}

// An item that is not in memory, as operations.
void append_operations(DomainId domain, Lba lba, const Overlay::Item& item,
                       Writer::Command& command)
{
    using layout::OperationType;
    if (item.kind == Overlay::Kind::placed) {
        JournalOperation operation = make_operation(OperationType::write, domain, lba, item.length);
        operation.record.block = item.block.value;
        operation.record.checksum = item.checksums.front();
        operation.payload.resize((item.length - 1) * 4);
        for (std::uint64_t i = 1; i < item.length; ++i) {
            const Le32 checksum = item.checksums[i];
            std::memcpy(operation.payload.data() + (i - 1) * 4, static_cast<const void*>(&checksum),
                        4);
        }
        command.push_back(std::move(operation));
    } else if (item.kind != Overlay::Kind::unchanged) {
        const auto type = item.kind == Overlay::Kind::deallocate ? OperationType::deallocate
                                                                 : OperationType::write_zeroes;
        for (std::uint64_t done = 0; done < item.length;) {
            const std::uint64_t length = std::min(item.length - done, kLongestRecord);
            command.push_back(make_operation(type, domain, lba + done, length));
            done += length;
        }
    }
}

tl::unexpected<Error> too_many_bytes()
{
    return fail(ErrorCode::too_large,
                fmt::format("what takes effect together has at most {} bytes of data",
                            kMaxTransactionBytes));
}

}  // namespace

class Staging::Step {
public:
    explicit Step(Staging& staging) : staging_(staging) {}
    Step(const Step&) = delete;
    Step& operator=(const Step&) = delete;
    ~Step() { staging_.give_back(overlay.clear()); }

    void put(Lba lba, Overlay::Item item)
    {
        std::vector<Extent> gone;
        overlay.put(lba, std::move(item), gone);
        staging_.give_back(gone);
    }

    Overlay overlay;

private:
    Staging& staging_;
};

Staging::~Staging() { give_back(overlay_.clear()); }

void Staging::give_back(const std::vector<Extent>& extents)
{
    for (const Extent& extent : extents) {
        state_.space.return_data(extent, true);
    }
}

// ---- Gathering ----------------------------------------------------------------------------

Status Staging::write(std::span<const Range> ranges, std::span<const iovec> from)
{
    std::uint64_t total = 0;
    for (const Range& range : ranges) {
        COPPICE_TRY(
            writer_.check_range(domain_.volume, range.offset_bytes, range.length_bytes, true));
        total += range.length_bytes;
    }
    if (total != total_bytes(from)) {
        return fail(ErrorCode::invalid_argument,
                    fmt::format("{} bytes for ranges of {}", total_bytes(from), total));
    }
    if (total > kMaxTransactionBytes) {
        return too_many_bytes();
    }
    Pin pin(state_);
    Step step(*this);
    std::uint64_t done = 0;
    for (const Range& range : ranges) {
        const std::vector<iovec> buffers = slice(from, done, range.length_bytes);
        if (!buffers.empty()) {
            COPPICE_TRY(write_piece(step, range.offset_bytes, buffers));
        }
        done += range.length_bytes;
    }
    return finish(step);
}

Status Staging::write_piece(Step& step, std::uint64_t offset_bytes, std::span<const iovec> from)
{
    const std::uint64_t length = total_bytes(from);
    const std::uint64_t end = offset_bytes + length;
    const std::uint64_t begin_block = round_down(offset_bytes);
    const std::uint64_t end_block = round_up(end);
    const std::uint64_t count = (end_block - begin_block) / kBlockBytes;
    const bool head = offset_bytes != begin_block;
    const bool tail = end != end_block;
    auto buffer = std::make_shared<BlockBuffer>(count);
    if (head || (tail && count == 1)) {
        COPPICE_TRY(read_part(step, lba_of(begin_block), buffer->block(0)));
    }
    if (tail && count > 1) {
        COPPICE_TRY(read_part(step, lba_of(end_block - 1), buffer->block(count - 1)));
    }
    gather(from, buffer->span().subspan(offset_bytes - begin_block, length));
    return put_data(step, lba_of(begin_block), buffer);
}

// Few blocks stay in memory, each in a buffer of its own, so that one that is written over later
// keeps no others.
Status Staging::put_data(Step& step, Lba lba, const std::shared_ptr<BlockBuffer>& buffer)
{
    const std::uint64_t count = buffer->blocks();
    if (!writer_.may_be_late(count)) {
        Writer::Staged staged(state_);
        Writer::Command command;
        COPPICE_TRY(writer_.stage(domain_, lba, buffer, false, staged, command));
        for (const JournalOperation& operation : command) {
            Overlay::Item item;
            item.kind = Overlay::Kind::placed;
            item.length = operation.record.length;
            item.block = BlockNo(operation.record.block);
            for (std::uint64_t i = 0; i < item.length; ++i) {
                item.checksums.push_back(operation.checksum(i));
            }
            step.put(Lba(operation.record.lba), std::move(item));
        }
        staged.keep();
        return {};
    }
    for (std::uint64_t i = 0; i < count; ++i) {
        Overlay::Item item;
        item.kind = Overlay::Kind::memory;
        item.buffer = buffer;
        if (count > 1) {
            item.buffer = std::make_shared<BlockBuffer>(1);
            std::memcpy(item.buffer->span().data(), buffer->block(i).data(), kBlockBytes);
        }
        step.put(lba + i, std::move(item));
    }
    return {};
}

Status Staging::clear(std::span<const Range> ranges, layout::OperationType type)
{
    for (const Range& range : ranges) {
        COPPICE_TRY(
            writer_.check_range(domain_.volume, range.offset_bytes, range.length_bytes, true));
    }
    Pin pin(state_);
    Step step(*this);
    for (const Range& range : ranges) {
        if (range.length_bytes != 0) {
            COPPICE_TRY(clear_piece(step, range, type));
        }
    }
    return finish(step);
}

Status Staging::clear_piece(Step& step, const Range& range, layout::OperationType type)
{
    const std::uint64_t begin = range.offset_bytes;
    const std::uint64_t end = begin + range.length_bytes;
    const Volume* volume = state_.catalog.volume(domain_.volume);
    // What lies behind the end of the volume in its last block is zero anyway.
    const bool to_the_end = volume != nullptr && end == volume->size_bytes();
    const std::uint64_t first = round_up(begin);
    const std::uint64_t last = to_the_end ? round_up(end) : round_down(end);
    if (first < last) {
        Overlay::Item item;
        item.kind = type == layout::OperationType::deallocate ? Overlay::Kind::deallocate
                                                              : Overlay::Kind::write_zeroes;
        item.length = (last - first) / kBlockBytes;
        step.put(lba_of(first), std::move(item));
    }
    if (begin < std::min(first, end)) {
        COPPICE_TRY(clear_part(step, begin, std::min(first, end)));
    }
    if (std::max(first, last) < end) {
        COPPICE_TRY(clear_part(step, std::max(first, last), end));
    }
    return {};
}

// Zeroes a part of one block. One that has no data stays as it is: but if somebody else puts some
// there first, this comes too late.
Status Staging::clear_part(Step& step, std::uint64_t begin, std::uint64_t end)
{
    const Lba lba = lba_of(begin);
    Lba item_begin;
    const Overlay::Item* own = step.overlay.at(lba, item_begin);
    own = own != nullptr ? own : overlay_.at(lba, item_begin);
    const bool known = own != nullptr && own->kind != Overlay::Kind::unchanged;
    if (known && own->kind != Overlay::Kind::memory && own->kind != Overlay::Kind::placed) {
        return {};
    }
    if (!known) {
        COPPICE_ASSIGN(run, reader_.run_at(domain_.volume, lba, 1));
        if (run.state != BlockState::data) {
            note_part(lba);
            step.put(lba, Overlay::Item());
            return {};
        }
    }
    auto buffer = std::make_shared<BlockBuffer>(1);
    COPPICE_TRY(read_part(step, lba, buffer->span()));
    const auto part = buffer->span().subspan(begin % kBlockBytes, end - begin);
    std::fill(part.begin(), part.end(), std::byte{0});
    return put_data(step, lba, buffer);
}

Status Staging::clone(std::uint64_t offset_bytes, std::span<const CloneSource> sources)
{
    std::uint64_t total = 0;
    for (const CloneSource& source : sources) {
        COPPICE_TRY(writer_.check_range(source.volume, source.range.offset_bytes,
                                        source.range.length_bytes, false));
        if (source.range.length_bytes > kMaxTransactionBytes - total) {
            return too_many_bytes();
        }
        total += source.range.length_bytes;
    }
    COPPICE_TRY(writer_.check_range(domain_.volume, offset_bytes, total, true));
    BlockBuffer bytes(divide_up(total, kBlockBytes));
    {
        Pin pin(state_);
        COPPICE_TRY(reader_.read_sources(
            sources, bytes.span().first(total), [&](const Reader::Wanted& read) -> Status {
                note_read(read.volume, read.lba, read.count);
                return read.volume == domain_.volume
                           ? read_overlay(overlay_, read.lba, read.count, read.into)
                           : Status();
            }));
    }
    const iovec buffer{bytes.span().data(), total};
    const Range range{offset_bytes, total};
    return write({&range, 1}, {&buffer, 1});
}

// Would it be within the limits with these added? Some room is left in the journal, as neighbours
// in memory need not get neighbouring places.
bool Staging::fits(const Overlay& added) const
{
    const std::uint64_t limit = state_.ring.commit_limit();
    // An item that is put can cut one in two.
    const std::uint64_t operations =
        overlay_.operations() + added.operations() + added.items().size();
    return commit_blocks(operations, overlay_.payload_bytes() + added.payload_bytes()) <=
           limit - limit / 8;
}

Status Staging::finish(Step& step)
{
    std::uint64_t blocks = overlay_.data_blocks() + step.overlay.data_blocks();
    for (const auto& [lba, item] : step.overlay.items()) {
        blocks -= overlay_.data_blocks(lba, item.length);
    }
    if (blocks * kBlockBytes > kMaxTransactionBytes) {
        return too_many_bytes();
    }
    if (!fits(step.overlay)) {
        return fail(ErrorCode::too_large,
                    "what is to take effect together falls into more pieces than the image's "
                    "journal takes as one");
    }
    std::vector<Extent> gone;
    overlay_.take_over(step.overlay, gone);
    give_back(gone);
    return {};
}

// ---- Reading ------------------------------------------------------------------------------

Status Staging::read(std::uint64_t offset_bytes, std::span<const iovec> into)
{
    const std::uint64_t length = total_bytes(into);
    COPPICE_TRY(writer_.check_range(domain_.volume, offset_bytes, length, false));
    if (length == 0) {
        return {};
    }
    const std::uint64_t begin = round_down(offset_bytes);
    const std::uint64_t count = (round_up(offset_bytes + length) - begin) / kBlockBytes;
    Pin pin(state_);
    BlockBuffer buffer(count);
    COPPICE_TRY(read_blocks(nullptr, lba_of(begin), count, buffer.span()));
    scatter(buffer.span().subspan(offset_bytes - begin, length), into);
    return {};
}

Status Staging::read_part(Step& step, Lba lba, std::span<std::byte> into)
{
    COPPICE_TRY(read_blocks(&step.overlay, lba, 1, into));
    note_part(lba);
    return {};
}

// The volume is read as a whole, so that what others change is seen as of one moment.
Status Staging::read_blocks(const Overlay* newer, Lba lba, std::uint64_t count,
                            std::span<std::byte> into)
{
    const auto covers = [&](const Overlay& overlay) {
        std::uint64_t covered = 0;
        overlay.visit(lba, count,
                      [&](Lba, std::uint64_t length, const Overlay::Item& item, std::uint64_t) {
                          covered += item.kind != Overlay::Kind::unchanged ? length : 0;
                      });
        return covered == count;
    };
    if (!covers(overlay_) && (newer == nullptr || !covers(*newer))) {
        COPPICE_TRY(reader_.read_blocks(domain_.volume, lba, count, into));
    }
    COPPICE_TRY(read_overlay(overlay_, lba, count, into));
    return newer == nullptr ? Status() : read_overlay(*newer, lba, count, into);
}

Status Staging::read_overlay(const Overlay& overlay, Lba lba, std::uint64_t count,
                             std::span<std::byte> into)
{
    Status done;
    overlay.visit(
        lba, count,
        [&](Lba from, std::uint64_t length, const Overlay::Item& item, std::uint64_t offset) {
            const auto bytes = into.subspan((from - lba) * kBlockBytes, length * kBlockBytes);
            switch (item.kind) {
            case Overlay::Kind::memory:
                std::memcpy(bytes.data(), item.buffer->span().data(), kBlockBytes);
                break;
            case Overlay::Kind::placed:
                done = done ? read_placed(from, item, offset, bytes) : done;
                break;
            case Overlay::Kind::deallocate:
            case Overlay::Kind::write_zeroes:
                std::fill(bytes.begin(), bytes.end(), std::byte{0});
                break;
            case Overlay::Kind::unchanged: break;
            }
        });
    return done;
}

Status Staging::read_placed(Lba lba, const Overlay::Item& item, std::uint64_t offset,
                            std::span<std::byte> into)
{
    COPPICE_TRY(state_.disk.read(byte_offset(item.block + offset), into));
    for (std::uint64_t i = 0; i < into.size() / kBlockBytes; ++i) {
        if (data_checksum(into.subspan(i * kBlockBytes, kBlockBytes)) !=
            item.checksums[offset + i]) {
            return fail(ErrorCode::bad_data,
                        fmt::format("volume {}, block {}: data that were staged at block {} of the "
                                    "image do not have their checksum",
                                    domain_.volume.value, lba.value + i,
                                    item.block.value + offset + i));
        }
    }
    return {};
}

// ---- What others have pending -------------------------------------------------------------
//
// What was read may be other domains' doing that is not in the journal yet; it then goes there
// together with what is made of it. Who changes these blocks later does not count: a change of
// staged blocks is a conflict, and a copy is one of what was there.

void Staging::note_part(Lba lba)
{
    if (obeys(Rule::partial_blocks_take_along)) {
        note_read(domain_.volume, lba, 1);
    }
}

// Called behind the read: what came meanwhile is counted too.
void Staging::note_read(VolumeId volume, Lba lba, std::uint64_t count)
{
    for (const DomainId id :
         state_.domains.others_pending_over(domain_, volume, lba, lba + count)) {
        read_from_[id] = state_.sequence;
    }
}

void Staging::take_along()
{
    for (const auto& [id, up_to] : read_from_) {
        state_.domains.join_pending(domain_, id, up_to);
    }
    read_from_.clear();
}

// ---- Taking effect ------------------------------------------------------------------------

// Neighbours in memory get places together.
Status Staging::gather_memory(Lba lba, std::uint64_t count, Writer::Staged& staged,
                              Writer::Command& command)
{
    auto buffer = std::make_shared<BlockBuffer>(count);
    for (std::uint64_t i = 0; i < count; ++i) {
        std::memcpy(buffer->block(i).data(), overlay_.items().at(lba + i).buffer->span().data(),
                    kBlockBytes);
    }
    return writer_.stage(domain_, lba, buffer, true, staged, command);
}

Status Staging::gather_command(Writer::Staged& staged, Writer::Command& command)
{
    const auto& items = overlay_.items();
    for (auto next = items.begin(); next != items.end();) {
        const auto& [lba, item] = *next;
        if (item.kind != Overlay::Kind::memory) {
            append_operations(domain_, lba, item, command);
            ++next;
            continue;
        }
        std::uint64_t count = 0;
        while (next != items.end() && next->second.kind == Overlay::Kind::memory &&
               next->first == lba + count) {
            ++count;
            ++next;
        }
        COPPICE_TRY(gather_memory(lba, count, staged, command));
    }
    return {};
}

Status Staging::take_effect(std::uint64_t end_bytes, const Writer::Condition& condition)
{
    COPPICE_TRY(condition ? condition() : Status());
    Pin pin(state_);
    Writer::Staged staged(state_);
    Writer::Command command;
    COPPICE_TRY(gather_command(staged, command));
    if (obeys(Rule::transaction_is_one_command)) {
        COPPICE_TRY(writer_.take_effect(domain_, command, end_bytes, condition));
        staged.keep();
    } else {
        staged.keep();
        COPPICE_TRY(take_effect_in_parts(command, condition));
    }
    take_along();
    (void)overlay_.clear();  // the blocks are the volume's now
    return {};
}

// What the rule forbids: others see the operations come one after the other.
Status Staging::take_effect_in_parts(Writer::Command& command, const Writer::Condition& condition)
{
    bool first = true;
    for (JournalOperation& operation : command) {
        Writer::Command part;
        part.push_back(std::move(operation));
        COPPICE_TRY(writer_.take_effect(domain_, part, 0, first ? condition : nullptr));
        first = false;
        state_.tasks.yield();
    }
    return {};
}

}  // namespace coppice
