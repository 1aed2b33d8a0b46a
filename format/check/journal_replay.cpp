#include "format/check/journal_replay.h"

#include <algorithm>
#include <fmt/format.h>

#include "format/base/checksum.h"
#include "format/check/journal_data.h"

namespace coppice::checker {

namespace {

// Snapshots copy what their volume holds in the model. A journal of a million writes under
// thousands of snapshots would fill any memory; the model gives up before (some 500 MB).
constexpr std::uint64_t kMaxCopied = 8'000'000;

using layout::OperationType;

}  // namespace

// ---- Users of blocks ----------------------------------------------------------------------

void BlockUsers::split(std::uint64_t at)
{
    auto run = runs_.upper_bound(at);
    if (run == runs_.begin()) {
        return;
    }
    --run;
    if (run->first < at && at < run->second.end) {
        const Run rest = run->second;
        run->second.end = at;
        runs_.emplace(at, rest);
    }
}

void BlockUsers::change(std::uint64_t start, std::uint64_t end, std::int64_t by)
{
    split(start);
    split(end);
    auto run = runs_.lower_bound(start);
    std::uint64_t place = start;
    while (place < end) {
        if (run == runs_.end() || run->first > place) {
            const std::uint64_t stop = run == runs_.end() ? end : std::min(end, run->first);
            run = std::next(runs_.emplace_hint(run, place, Run{stop, by}));
            place = stop;
            continue;
        }
        run->second.users += by;
        place = run->second.end;
        run = run->second.users == 0 ? runs_.erase(run) : std::next(run);
    }
}

bool BlockUsers::any(std::uint64_t start, std::uint64_t end) const
{
    auto run = runs_.upper_bound(start);
    if (run != runs_.begin() && std::prev(run)->second.end > start) {
        return true;
    }
    return run != runs_.end() && run->first < end;
}

// ---- Commits ------------------------------------------------------------------------------

void JournalReplay::load_volumes()
{
    for (const auto& [id, volume] : catalog_.volumes()) {
        VolumeModel& model = volumes_[id];
        model.snapshot = volume.snapshot();
        model.size_blocks = divide_up(volume.record.size_bytes, kBlockBytes);
    }
}

void JournalReplay::run(bool apply_operations)
{
    load_volumes();
    CheckReport& report = findings_.report();
    gather();
    // Domains stand in the journal each in its order, and together in any; what takes effect
    // follows the sequence.
    std::stable_sort(gathered_.begin(), gathered_.end(), [](const auto& a, const auto& b) {
        return a.operation.record.sequence < b.operation.record.sequence;
    });
    for (const Gathered& gathered : gathered_) {
        if (apply_operations && !stopped_) {
            JournalOperation operation = gathered.operation;
            operation.payload = gathered.payload;
            synced_ = gathered.synced;
            apply(gathered.commit, operation);
        }
    }
    report.replay_complete = apply_operations && !stopped_;
    if (report.replay_complete && findings_.options().verify_data) {
        verify_placed();
    }
}

void JournalReplay::Orders::load(const Catalog& catalog)
{
    for (const auto& [id, volume] : catalog.volumes()) {
        groups_[id] = volume.record.consistency_group;
    }
}

// A volume joins and leaves a group in its own order, with everything before it, so that what
// stands in the ring before that is of the old group, and what stands behind it of the new one.
std::uint64_t JournalReplay::Orders::take(const JournalOperation& operation)
{
    const layout::OperationRecord& record = operation.record;
    const std::uint32_t group = record.stream == 0 ? groups_[record.volume] : 0;
    std::uint64_t& in_domain = last_[{record.volume.get(), record.stream.get()}];
    std::uint64_t& in_group = last_of_group_[group];
    const std::uint64_t before = std::max(in_domain, group == 0 ? 0 : in_group);
    if (record.sequence <= before) {
        return before;
    }
    in_domain = record.sequence;
    in_group = record.sequence;
    if (record.type == static_cast<std::uint8_t>(OperationType::change_volume)) {
        groups_[record.volume] =
            copy_out<layout::VolumeRecord>(operation.payload.data()).consistency_group;
    }
    return 0;
}

// The operations that recovery applies, up to the first commit that does not count.
void JournalReplay::gather()
{
    CheckReport& report = findings_.report();
    Orders orders;
    orders.load(catalog_);
    Commit commit;
    std::uint64_t done = 0;
    for (const CommitPlace& place : scan_.commits()) {
        findings_.progress("replay", done++, scan_.commits().size());
        const std::string wrong = scan_.decode(place, commit);
        if (!wrong.empty()) {
            const std::uint64_t block = image_.superblock().journal_start + place.position;
            findings_.add({.severity = Severity::corruption,
                           .kind = FindingKind::journal_record,
                           .text = fmt::format("bad_record: journal commit {} at block {}: {}",
                                               place.commit, block, wrong),
                           .tree = "journal",
                           .block = block,
                           .blocks = place.blocks});
            return;
        }
        // Data that no sync is known to cover decide whether the commit counts at all.
        const bool synced = place.commit <= scan_.newest_synced();
        if (!synced && !data_verify(image_, commit)) {
            return;
        }
        ++report.journal_commits;
        for (const JournalOperation& operation : commit.operations) {
            const layout::OperationRecord& record = operation.record;
            if (record.sequence <= image_.sequence()) {
                continue;  // the trees have it
            }
            ++report.journal_operations;
            if (const std::uint64_t before = orders.take(operation); before != 0) {
                report_operation(
                    place.commit, operation,
                    fmt::format("a later operation of its domain or group ({}) came before it",
                                before));
                continue;
            }
            // Data and checksums are looked at commit by commit; what is kept is for management.
            const bool data = record.type == static_cast<std::uint8_t>(OperationType::write);
            gathered_.push_back({place.commit, synced, operation, {}});
            if (!data) {
                gathered_.back().payload.assign(operation.payload.begin(), operation.payload.end());
            }
        }
    }
}

// Recovery does not read the data of synced commits: the host said that they are there. Backwards,
// so that of a block that two operations wrote the younger one counts.
void JournalReplay::verify_placed()
{
    BlockUsers seen;
    Commit commit;
    const auto block_of_data = std::make_unique<Block>();
    for (std::uint64_t i = findings_.report().journal_commits; i-- > 0;) {
        scan_.decode(scan_.commits()[i], commit);  // it was decoded before
        for (std::size_t j = commit.operations.size(); j-- > 0;) {
            const JournalOperation& operation = commit.operations[j];
            const layout::OperationRecord& record = operation.record;
            if (record.type != static_cast<std::uint8_t>(OperationType::write) ||
                record.sequence <= image_.sequence()) {
                continue;
            }
            for (std::uint64_t at = 0; at < record.length; ++at) {
                const std::uint64_t block = record.block + at;
                if (users_.any(block, block + 1) && !seen.any(block, block + 1)) {
                    verify_block(operation, at, *block_of_data);
                }
            }
            seen.add(record.block, record.block + record.length);
        }
    }
}

void JournalReplay::verify_block(const JournalOperation& operation, std::uint64_t index,
                                 Block& buffer)
{
    const layout::OperationRecord& record = operation.record;
    const std::uint64_t block = record.block + index;
    bool read = true;
    if (const auto carried = carried_data(operation, index); !carried.empty()) {
        std::copy(carried.begin(), carried.end(), buffer.bytes.begin());
    } else {
        read = image_.read_block(block, buffer).has_value();
    }
    if (read && data_checksum(buffer.bytes) == expected_checksum(operation, index)) {
        ++findings_.report().verified_blocks;
        return;
    }
    findings_.add(
        {.severity = Severity::corruption,
         .kind = FindingKind::data,
         .text = fmt::format("block {}, written by journal operation {} to lba {} of "
                             "volume {}, {}: lost",
                             block, record.sequence.get(), record.lba + index, record.volume.get(),
                             read ? "does not have its checksum" : "cannot be read"),
         .block = block,
         .blocks = 1});
}

void JournalReplay::apply(std::uint64_t commit, const JournalOperation& operation)
{
    const std::string wrong = apply_to_model(operation);
    if (!wrong.empty()) {
        report_operation(commit, operation, wrong);
    }
}

void JournalReplay::report_operation(std::uint64_t commit, const JournalOperation& operation,
                                     const std::string& wrong)
{
    const layout::OperationRecord& record = operation.record;
    const auto found = catalog_.volumes().find(record.volume);
    const bool data = record.type == static_cast<std::uint8_t>(OperationType::write);
    findings_.add(
        {.severity = Severity::corruption,
         .kind = FindingKind::replay,
         .text = fmt::format("journal commit {}, operation of sequence {} ({}, "
                             "volume {}, lba {}, {} blocks): {}",
                             commit, record.sequence.get(), operation_type_name(record.type),
                             record.volume.get(), record.lba.get(), record.length.get(), wrong),
         .tree = "journal",
         .block = data ? record.block.get() : 0,
         .blocks = data ? record.length.get() : 0,
         .volume = found == catalog_.volumes().end() ? "" : found->second.name,
         .lba = record.lba,
         .lba_blocks = record.length});
}

// ---- The model ----------------------------------------------------------------------------

JournalReplay::VolumeModel* JournalReplay::volume(std::uint32_t id)
{
    const auto found = volumes_.find(id);
    return found == volumes_.end() ? nullptr : &found->second;
}

void JournalReplay::cut(VolumeModel& volume, std::uint64_t lba, std::uint64_t length)
{
    Overlay& placed = volume.placed;
    const std::uint64_t end = lba + length;
    auto run = placed.lower_bound(lba);
    if (run != placed.begin() && std::prev(run)->first + std::prev(run)->second.length > lba) {
        --run;
    }
    while (run != placed.end() && run->first < end) {
        const std::uint64_t start = run->first;
        const Placed old = run->second;
        const std::uint64_t old_end = start + old.length;
        const std::uint64_t from = std::max(start, lba);
        const std::uint64_t to = std::min(old_end, end);
        run = placed.erase(run);
        users_.remove(old.block + (from - start), old.block + (to - start));
        if (start < lba) {
            placed.emplace(start, Placed{lba - start, old.block});
        }
        if (old_end > end) {
            placed.emplace(end, Placed{old_end - end, old.block + (end - start)});
        }
    }
}

void JournalReplay::place(VolumeModel& volume, std::uint64_t lba, std::uint64_t block,
                          std::uint64_t length)
{
    volume.placed[lba] = {length, block};
    users_.add(block, block + length);
}

bool JournalReplay::copy_all(const VolumeModel& from, VolumeModel& to)
{
    copied_ += from.placed.size();
    if (copied_ > kMaxCopied) {
        stopped_ = true;
        return false;
    }
    // What `to` had stays in use: a version that is removed frees nothing before a checkpoint.
    to.placed = from.placed;
    for (const auto& [lba, run] : to.placed) {
        users_.add(run.block, run.block + run.length);
    }
    return true;
}

std::string JournalReplay::apply_to_model(const JournalOperation& operation)
{
    const layout::OperationRecord& record = operation.record;
    const auto type = static_cast<OperationType>(record.type);
    if (type == OperationType::create_volume) {
        return apply_create(operation);
    }
    VolumeModel* target = volume(record.volume);
    if (target == nullptr) {
        return "the volume does not exist";
    }
    const bool manages =
        type == OperationType::remove_volume || type == OperationType::change_volume;
    if (target->snapshot && !manages) {
        return "it changes a snapshot";
    }
    switch (type) {
    case OperationType::write: return apply_write(record, *target);
    case OperationType::deallocate:
    case OperationType::write_zeroes: cut(*target, record.lba, record.length); return {};
    case OperationType::clone: return apply_clone(record, *target);
    case OperationType::clone_reference: return apply_clone_reference(record, *target);
    case OperationType::snapshot: return apply_snapshot(operation, *target);
    case OperationType::remove_volume: volumes_.erase(record.volume); return {};
    case OperationType::rollback: return apply_rollback(record, *target);
    case OperationType::change_volume: return apply_change(operation, *target);
    case OperationType::create_volume:
    case OperationType::write_unwritable: break;
    }
    return "its type is unknown";
}

std::string JournalReplay::apply_write(const layout::OperationRecord& record, VolumeModel& volume)
{
    const std::uint64_t start = record.block;
    const std::uint64_t end = start + record.length;
    if (record.lba + record.length > volume.size_blocks) {
        return fmt::format("it ends behind the volume's {} blocks", volume.size_blocks);
    }
    // The file may have grown since the superblock. A crash may have undone that, unless a sync
    // followed: what lies behind its end reads as zeroes, and the data may have been that.
    if (synced_ && end > std::max(image_.image_blocks(), image_.file_blocks())) {
        return fmt::format("its data end at block {}, behind the end of the file", end);
    }
    const auto used = space_.find(start);
    if (used != space_.segments().end() && used->start < end) {
        return fmt::format("its data lie in blocks {} to {}, of which the trees use some "
                           "(from {})",
                           start, end - 1, std::max(used->start, start));
    }
    // What the operation itself replaces is in use until it has taken effect.
    if (users_.any(start, end)) {
        return fmt::format("its data lie in blocks {} to {}, of which another operation's data "
                           "are some",
                           start, end - 1);
    }
    cut(volume, record.lba, record.length);
    place(volume, record.lba, start, record.length);
    return {};
}

std::string JournalReplay::apply_clone(const layout::OperationRecord& record, VolumeModel& target)
{
    const VolumeModel* source = volume(record.source_volume);
    if (source == nullptr) {
        return fmt::format("its source, volume {}, does not exist", record.source_volume.get());
    }
    if (record.lba + record.length > target.size_blocks) {
        return fmt::format("it ends behind the volume's {} blocks", target.size_blocks);
    }
    // Copied first: source and destination may be one volume.
    std::vector<std::pair<std::uint64_t, Placed>> runs;
    const std::uint64_t begin = record.source_lba;
    const std::uint64_t end = begin + record.length;
    auto run = source->placed.lower_bound(begin);
    if (run != source->placed.begin() &&
        std::prev(run)->first + std::prev(run)->second.length > begin) {
        --run;
    }
    for (; run != source->placed.end() && run->first < end; ++run) {
        const std::uint64_t from = std::max(run->first, begin);
        const std::uint64_t to = std::min(run->first + run->second.length, end);
        runs.emplace_back(record.lba + (from - begin),
                          Placed{to - from, run->second.block + (from - run->first)});
    }
    copied_ += runs.size();
    if (copied_ > kMaxCopied) {
        stopped_ = true;
        return {};
    }
    // The blocks stay in use while the old contents of the destination go.
    for (const auto& [lba, placed] : runs) {
        users_.add(placed.block, placed.block + placed.length);
    }
    cut(target, record.lba, record.length);
    for (const auto& [lba, placed] : runs) {
        target.placed[lba] = placed;
    }
    return {};
}

std::string JournalReplay::apply_clone_reference(const layout::OperationRecord& record,
                                                 VolumeModel& target)
{
    VolumeModel* source = volume(record.source_volume);
    if (source == nullptr) {
        return fmt::format("its source, volume {}, does not exist", record.source_volume.get());
    }
    // The held version keeps all that the source has now until a checkpoint removes it.
    VolumeModel held;
    if (copy_all(*source, held)) {
        cut(target, record.lba, record.length);
    }
    return {};
}

std::string JournalReplay::new_volume(std::uint64_t id, const layout::VolumeRecord& record)
{
    if (id < image_.superblock().next_volume || id > UINT32_MAX ||
        volumes_.contains(static_cast<std::uint32_t>(id))) {
        return fmt::format("the number {} of the new volume was given out before", id);
    }
    if (std::string wrong = judge_group(record); !wrong.empty()) {
        return wrong;
    }
    VolumeModel& model = volumes_[static_cast<std::uint32_t>(id)];
    model.snapshot = (record.flags & layout::kVolumeSnapshot) != 0;
    model.size_blocks = divide_up(record.size_bytes, kBlockBytes);
    return {};
}

std::string JournalReplay::apply_snapshot(const JournalOperation& operation, VolumeModel& volume)
{
    const std::uint64_t id = operation.record.block;
    const auto record = copy_out<layout::VolumeRecord>(operation.payload.data());
    if ((record.flags & layout::kVolumeSnapshot) == 0) {
        return "its record is not a snapshot's";
    }
    if (std::string wrong = new_volume(id, record); !wrong.empty()) {
        return wrong;
    }
    copy_all(volume, volumes_[static_cast<std::uint32_t>(id)]);
    return {};
}

std::string JournalReplay::apply_create(const JournalOperation& operation)
{
    const layout::OperationRecord& record = operation.record;
    const auto volume_record = copy_out<layout::VolumeRecord>(operation.payload.data());
    if ((volume_record.flags & layout::kVolumeSnapshot) != 0) {
        return "its record is a snapshot's";
    }
    if (std::string wrong = new_volume(record.volume, volume_record); !wrong.empty()) {
        return wrong;
    }
    if (record.source_volume == 0) {
        return {};
    }
    const VolumeModel* origin = volume(record.source_volume);
    if (origin == nullptr || !origin->snapshot) {
        return fmt::format("its origin {} is no snapshot", record.source_volume.get());
    }
    copy_all(*origin, volumes_[record.volume]);
    return {};
}

std::string JournalReplay::apply_rollback(const layout::OperationRecord& record,
                                          VolumeModel& target)
{
    const VolumeModel* snapshot = volume(record.source_volume);
    if (snapshot == nullptr || !snapshot->snapshot) {
        return fmt::format("{} is no snapshot", record.source_volume.get());
    }
    target.size_blocks = snapshot->size_blocks;
    copy_all(*snapshot, target);
    return {};
}

std::string JournalReplay::apply_change(const JournalOperation& operation, VolumeModel& volume)
{
    const auto record = copy_out<layout::VolumeRecord>(operation.payload.data());
    if (std::string wrong = judge_group(record); !wrong.empty()) {
        return wrong;
    }
    if (((record.flags & layout::kVolumeSnapshot) != 0) != volume.snapshot) {
        return "it makes a snapshot of a volume, or a volume of a snapshot";
    }
    volume.size_blocks = divide_up(record.size_bytes, kBlockBytes);
    if (operation.record.length > 0) {
        cut(volume, operation.record.lba, operation.record.length);
    }
    return {};
}

}  // namespace coppice::checker
