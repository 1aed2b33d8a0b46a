#include "format/volume/replay.h"

#include <algorithm>
#include <fmt/format.h>

#include "format/base/check.h"
#include "format/base/rules.h"
#include "format/tree/read_ahead.h"
#include "format/volume/buffer.h"
#include "format/volume/effects.h"
#include "format/volume/last_word.h"
#include "format/volume/map_sweep.h"

namespace coppice {

namespace {

using Command = std::span<JournalOperation>;

// Runs of fewer commands do not read far enough ahead by themselves: then so many commands are
// looked at together, whatever they are.
constexpr std::size_t kShortRun = 1024;
constexpr std::size_t kLookAhead = 4096;

bool to_be_applied(const State& state, const JournalOperation& operation)
{
    return operation.sequence() > state.durable_sequence || !obeys(Rule::skip_contained);
}

bool is_write(const JournalOperation& operation)
{
    return operation.type() == layout::OperationType::write;
}

class Replay {
public:
    explicit Replay(State& state) : state_(state), effects_(state) {}

    Status run(Scan& scan)
    {
        COPPICE_TRY(note_data(scan));
        COPPICE_TRY(state_.space.read_noted_groups());
        take_commands(scan);
        for (std::size_t begin = 0; begin < commands_.size();) {
            const std::size_t end = state_.options.replay_runs ? run_end(begin) : begin;
            if (end - begin < kShortRun) {
                COPPICE_TRY(look_ahead(begin));
            }
            if (end > begin && state_.options.replay_runs) {
                COPPICE_TRY(apply_run(std::span(commands_).subspan(begin, end - begin)));
                begin = end;
            } else {
                COPPICE_TRY(apply_command(commands_[begin++]));
            }
        }
        return {};
    }

private:
    Status note_data(const Scan& scan);
    void take_commands(Scan& scan);
    bool simple(Command command);
    std::size_t run_end(std::size_t begin);
    Status look_ahead(std::size_t begin);
    Status apply_command(Command command);
    void hold_data(Command command);
    Status apply_run(std::span<const Command> run);
    Status take_blocks(std::span<const Command> run);
    Status change_maps(std::span<const Command> run);
    // What the operations of a run make of one volume; `made` by their order.
    struct Changed {
        std::vector<RangeChange> changes;
        std::vector<NewRun> made;
    };
    Status change_map(VolumeId volume, Changed& changed);

    State& state_;
    Effects effects_;
    std::vector<Command> commands_;
    std::size_t looked_at_ = 0;  // commands before this one were looked ahead for
};

// First what is data, so that no node is put there on the way.
Status Replay::note_data(const Scan& scan)
{
    COPPICE_ASSIGN(file_blocks, state_.file_blocks());
    for (const ScannedCommit& scanned : scan.commits) {
        for (const JournalOperation& operation : scanned.commit.operations) {
            const auto& record = operation.record;
            if (is_write(operation) && to_be_applied(state_, operation)) {
                if (scanned.commit.commit <= scan.synced &&
                    record.block + record.length > file_blocks) {
                    return fail(ErrorCode::bad_record,
                                fmt::format("journal operation {}: its data end at block {}, "
                                            "behind the end of the file",
                                            operation.sequence().value,
                                            record.block + record.length));
                }
                for (std::uint64_t at = 0; at < record.length; at += layout::kGroupBlocks) {
                    state_.space.note_data_block(BlockNo(record.block + at));
                }
                state_.space.note_data_block(BlockNo(record.block + record.length - 1));
            }
        }
    }
    return {};
}

// The commands in the order in which they took effect. Domains may have been committed in another;
// but births follow the sequence, and a node that seemed younger than the version that shares it
// would be changed under that.
void Replay::take_commands(Scan& scan)
{
    for (ScannedCommit& scanned : scan.commits) {
        auto& operations = scanned.commit.operations;
        for (std::size_t begin = 0; begin < operations.size();) {
            std::size_t end = begin + 1;
            while (operations[end - 1].continues() && end < operations.size()) {
                ++end;
            }
            if (to_be_applied(state_, operations[begin])) {
                commands_.emplace_back(operations.data() + begin, end - begin);
                state_.replayed_operations += end - begin;
            }
            begin = end;
        }
        ++state_.replayed_commits;
    }
    const auto earlier = [](const Command& a, const Command& b) {
        return a.front().sequence() < b.front().sequence();
    };
    // Mostly they are in order: few images have several volumes that are written to.
    if (obeys(Rule::replay_in_order) &&
        !std::is_sorted(commands_.begin(), commands_.end(), earlier)) {
        std::stable_sort(commands_.begin(), commands_.end(), earlier);
    }
}

// Does the command only write and deallocate, and is it sure to be possible?
bool Replay::simple(Command command)
{
    return std::all_of(command.begin(), command.end(), [&](const JournalOperation& operation) {
        const auto& record = operation.record;
        const bool range = is_write(operation) ||
                           operation.type() == layout::OperationType::deallocate ||
                           operation.type() == layout::OperationType::write_zeroes;
        const Volume* volume = range ? state_.catalog.volume(operation.volume()) : nullptr;
        return volume != nullptr && !volume->snapshot() &&
               (!is_write(operation) || record.lba + record.length <= volume->size_blocks());
    });
}

std::size_t Replay::run_end(std::size_t begin)
{
    std::size_t end = begin;
    while (end < commands_.size() && simple(commands_[end])) {
        ++end;
    }
    return end;
}

// Brings leaves into memory that the next commands need, as far as the volumes are there already.
Status Replay::look_ahead(std::size_t begin)
{
    if (begin < looked_at_) {
        return {};
    }
    looked_at_ = std::min(begin + kLookAhead, commands_.size());
    std::map<VolumeId, std::vector<Key>> keys;
    for (std::size_t i = begin; i < looked_at_; ++i) {
        for (const JournalOperation& operation : commands_[i]) {
            const auto& record = operation.record;
            keys[operation.volume()].emplace_back(record.lba);
            if (operation.type() == layout::OperationType::clone) {
                keys[VolumeId(record.source_volume)].emplace_back(record.source_lba);
            }
        }
    }
    CacheUse use(state_.cache);
    Tree tree(state_.cache, kMapShape);
    for (auto& [id, wanted] : keys) {
        const Volume* volume = state_.catalog.volume(id);
        if (volume != nullptr) {
            std::sort(wanted.begin(), wanted.end());
            COPPICE_TRY(read_ahead(tree, state_.catalog.head_of(*volume).map, wanted));
        }
    }
    return {};
}

Status Replay::apply_command(Command command)
{
    for (const JournalOperation& operation : command) {
        if (is_write(operation)) {
            COPPICE_TRY(state_.space.take_named(
                {BlockNo(operation.record.block), operation.record.length}));
        }
    }
    CacheUse use(state_.cache);
    for (;;) {
        auto ready = effects_.prepare(command, 0);
        if (!ready && ready.error().code == ErrorCode::not_found) {
            return fail(ErrorCode::bad_record,
                        fmt::format("journal operation {}: {}", command.front().sequence().value,
                                    ready.error().text));
        }
        if (!ready) {
            return pass_on(ready);
        }
        if (*ready) {
            break;
        }
    }
    COPPICE_TRY(effects_.apply(command));
    hold_data(command);
    return {};
}

// Data that a commit carries may not be at their places.
void Replay::hold_data(Command command)
{
    for (const JournalOperation& operation : command) {
        if (!operation.has_data() || !obeys(Rule::journaled_data_replayed)) {
            continue;
        }
        const std::uint64_t length = operation.record.length;
        auto buffer = std::make_shared<BlockBuffer>(length);
        std::memcpy(buffer->span().data(), operation.data().data(), length * kBlockBytes);
        state_.late.hold(state_.generation, {BlockNo(operation.record.block), length}, buffer, 0);
    }
}

Status Replay::apply_run(std::span<const Command> run)
{
    for (const Command& command : run) {
        state_.sequence = std::max(state_.sequence, command.back().sequence());
    }
    COPPICE_TRY(take_blocks(run));
    return change_maps(run);
}

// The blocks that the run's writes name are in use and have their checksums. Writes that follow
// each other mostly have neighbouring blocks.
Status Replay::take_blocks(std::span<const Command> run)
{
    std::vector<Extent> extents;
    for (const Command& command : run) {
        for (const JournalOperation& operation : command) {
            const auto& record = operation.record;
            if (!is_write(operation)) {
                continue;
            }
            const BlockNo block(record.block);
            if (!extents.empty() && extents.back().block + extents.back().length == block) {
                extents.back().length += record.length;
            } else {
                extents.push_back({block, record.length});
            }
            for (std::uint64_t i = 0; i < record.length; ++i) {
                state_.checksums.put(state_.generation, block + i, operation.checksum(i));
            }
        }
    }
    for (const Extent& extent : extents) {
        COPPICE_TRY(state_.space.take_named(extent));
        state_.space.use_data(state_.generation, extent);
    }
    for (const Command& command : run) {
        hold_data(command);
    }
    return {};
}

Status Replay::change_maps(std::span<const Command> run)
{
    std::map<VolumeId, Changed> volumes;
    for (const Command& command : run) {
        for (const JournalOperation& operation : command) {
            const auto& record = operation.record;
            Changed& changed = volumes[operation.volume()];
            changed.changes.push_back({Lba(record.lba), record.length, changed.made.size()});
            NewRun made;
            made.run.lba = Lba(record.lba);
            made.run.length = record.length;
            made.run.block = record.block;
            made.run.detail = record.placement;
            made.run.birth = operation.sequence();
            made.mapped = is_write(operation);
            changed.made.push_back(made);
        }
    }
    for (auto& [volume, changed] : volumes) {
        COPPICE_TRY(change_map(volume, changed));
    }
    return {};
}

Status Replay::change_map(VolumeId volume, Changed& changed)
{
    auto& changes = changed.changes;
    std::sort(changes.begin(), changes.end(), [](const RangeChange& a, const RangeChange& b) {
        return a.lba != b.lba ? a.lba < b.lba : a.order < b.order;
    });
    // What was made lies in the order of the journal, and is looked at in that of the map.
    constexpr std::size_t kAhead = 16;
    const auto part_at = [&](const std::vector<ChangePart>& parts, std::size_t i) {
        if (i + kAhead < parts.size()) {
            __builtin_prefetch(&changed.made[changes[parts[i + kAhead].change].order]);
        }
        const NewRun& made = changed.made[changes[parts[i].change].order];
        return NewRun{made.run.part(parts[i].lba, parts[i].lba + parts[i].length), made.mapped};
    };
    const LastWord word = last_word(changes);
    const Version& head = state_.catalog.head_of(*state_.catalog.volume(volume));
    for (std::size_t i = 0; i < word.superseded.size(); ++i) {
        const NewRun lost = part_at(word.superseded, i);
        if (lost.mapped) {
            state_.space.drop(state_.generation,
                              {head.first_list, lost.run.birth, layout::DeadKind::data,
                               lost.run.block, lost.run.length});
        }
    }
    std::vector<NewRun> runs;
    runs.reserve(word.counts.size());
    for (std::size_t i = 0; i < word.counts.size(); ++i) {
        runs.push_back(part_at(word.counts, i));
    }
    return MapSweep(state_, effects_, volume).apply(runs);
}

}  // namespace

Status replay(State& state, Scan& scan) { return Replay(state).run(scan); }

}  // namespace coppice
