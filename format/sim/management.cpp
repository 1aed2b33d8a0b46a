// The management operations of the workload: snapshots, volumes, sizes and names. Each is durable
// when it returns, with everything that was answered before it.
#include <algorithm>
#include <fmt/format.h>

#include "format/sim/report.h"
#include "format/sim/workload.h"

namespace coppice::sim {

void Workload::do_snapshot()
{
    const VolumeId id = choose(true, false);
    if (id == VolumeId(0) || model_.present().size() >= plan_.most_volumes) {
        return;
    }
    const auto held = locks_.take({{Hold::Kind::volume_shared, id}});
    if (!still_there(id)) {
        return;
    }
    NewSnapshot wanted;
    wanted.name = fresh_name();
    Volume made;
    made.snapshot = true;
    made.parent = id;
    made.name = wanted.name;
    const std::string what = fmt::format("snapshot {} of volume {}", wanted.name, id.value);
    made.created_asked = clock_.tick();
    const Result<VolumeId> result = store_.snapshot(id, wanted);
    made.created_answered = clock_.tick();
    if (!result) {
        excuse(result.error(), what);
        if (stopped_) {
            model_.perhaps.push_back(std::move(made));
        }
        return;
    }
    made.id = *result;
    if (tracing()) {
        trace(fmt::format("{:6} {} has id {}, asked for at {}", made.created_answered, what,
                          made.id.value, made.created_asked));
    }
    if (model_.find(made.id) != nullptr) {
        violation(fmt::format("{} got the number {}, which was used before", what, made.id.value));
    }
    // Which moment it holds is seen by reading it; any between question and answer will do.
    Volume& parent = *model_.find(id);
    const Result<Stamps> found = read(made.id, {0, parent.now.size()});
    if (!found) {
        excuse(found.error(), "read of a new " + what);
        if (stopped_) {
            model_.perhaps.push_back(std::move(made));
        }
        return;
    }
    MatchQuestion question;
    question.from = made.created_asked;
    question.until = made.created_answered;
    std::string why_not;
    if (!match(parent, *found, question, why_not)) {
        violation(fmt::format("{}, made between events {} and {}, agrees with no moment; {}", what,
                              question.from, question.until, why_not));
    }
    const bool beside_writes =
        std::any_of(parent.changes.begin(), parent.changes.end(), [&](const Change& change) {
            return change.asked < question.until && change.answered > question.from;
        });
    if (beside_writes) {
        reached(Case::snapshots_beside_writes);
    }
    made.start = *found;
    made.now = *found;
    model_.note_all_durable(made.created_asked, made.created_answered);
    model_.volumes[made.id.value] = std::move(made);
    reached(Case::snapshots);
}

void Workload::do_rollback()
{
    const VolumeId snapshot = choose(false, true);
    if (snapshot == VolumeId(0)) {
        return;
    }
    const VolumeId id = model_.find(snapshot)->parent;
    if (model_.find(id) == nullptr) {
        return;
    }
    const auto held =
        locks_.take({{Hold::Kind::volume_alone, id}, {Hold::Kind::volume_shared, snapshot}});
    if (!still_there(id) || !still_there(snapshot)) {
        return;
    }
    Volume& volume = *model_.find(id);
    Change change;
    change.what = fmt::format("rollback of volume {} to {}", id.value, snapshot.value);
    change.durable = true;
    change.whole = model_.find(snapshot)->now;
    const std::size_t index = ask(volume, std::move(change));
    if (answer(volume, index, store_.rollback(id, snapshot))) {
        reached(Case::rollbacks);
    }
}

void Workload::do_clone_volume()
{
    const VolumeId snapshot = choose(false, true);
    if (snapshot == VolumeId(0) || model_.present().size() >= plan_.most_volumes) {
        return;
    }
    const auto held = locks_.take({{Hold::Kind::volume_shared, snapshot}});
    if (!still_there(snapshot)) {
        return;
    }
    Volume made;
    made.name = fresh_name();
    made.parent = snapshot;
    made.start = model_.find(snapshot)->now;
    made.now = made.start;
    made.created_asked = clock_.tick();
    const Result<VolumeId> result = store_.clone_volume(snapshot, made.name, false);
    made.created_answered = clock_.tick();
    if (!result) {
        excuse(result.error(), fmt::format("clone of snapshot {}", snapshot.value));
        if (stopped_) {
            model_.perhaps.push_back(std::move(made));
        }
        return;
    }
    made.id = *result;
    if (model_.find(made.id) != nullptr) {
        violation(fmt::format("a clone got the number {}, which was used before", made.id.value));
    }
    model_.note_all_durable(made.created_asked, made.created_answered);
    model_.volumes[made.id.value] = std::move(made);
    reached(Case::volume_clones);
}

void Workload::do_create_volume()
{
    if (model_.present().size() >= plan_.most_volumes) {
        return;
    }
    NewVolume wanted;
    wanted.name = fresh_name();
    wanted.size_bytes = random_.between(1, plan_.volume_bytes / kSectorBytes) * kSectorBytes;
    wanted.lba_shift = 9;
    Volume made;
    made.name = wanted.name;
    made.start.assign(wanted.size_bytes / kSectorBytes, kZeroes);
    made.now = made.start;
    made.created_asked = clock_.tick();
    const Result<VolumeId> result = store_.create_volume(wanted);
    made.created_answered = clock_.tick();
    if (!result) {
        excuse(result.error(), "create of a volume");
        if (stopped_) {
            model_.perhaps.push_back(std::move(made));
        }
        return;
    }
    made.id = *result;
    if (model_.find(made.id) != nullptr) {
        violation(fmt::format("a volume got the number {}, which was used before", made.id.value));
    }
    model_.note_all_durable(made.created_asked, made.created_answered);
    model_.volumes[made.id.value] = std::move(made);
    reached(Case::volumes_created);
}

void Workload::do_remove()
{
    // The first volume stays, so that there is always one; snapshots go more often than volumes.
    const bool volumes = random_.chance(25);
    const VolumeId id = choose(volumes, true);
    if (id == VolumeId(0) || id == VolumeId(1)) {
        return;
    }
    const auto held = locks_.take({{Hold::Kind::volume_alone, id}});
    if (!still_there(id)) {
        return;
    }
    Volume& volume = *model_.find(id);
    volume.removed_asked = clock_.tick();
    const Status status = store_.remove(id);
    const Event answered = clock_.tick();
    if (tracing()) {
        trace(fmt::format("{:6} removal of {} asked for at {}: {}", answered, id.value,
                          volume.removed_asked, status ? "done" : status.error().text));
    }
    if (status) {
        volume.removed_answered = answered;
        model_.note_all_durable(volume.removed_asked, answered);
        reached(volume.snapshot ? Case::snapshots_removed : Case::volumes_removed);
        return;
    }
    const auto& all = model_.volumes;
    const bool has_snapshots = std::any_of(all.begin(), all.end(), [&](const auto& entry) {
        return entry.second.parent == id && entry.second.removed_answered == kNever;
    });
    if (status.error().code == ErrorCode::busy && has_snapshots) {
        volume.removed_asked = kNever;
        return;
    }
    excuse(status.error(), fmt::format("removal of {}", id.value));
    if (!stopped_) {
        volume.removed_asked = kNever;
    }
}

void Workload::do_resize()
{
    const VolumeId id = choose(true, false);
    if (id == VolumeId(0)) {
        return;
    }
    const auto held = locks_.take({{Hold::Kind::volume_alone, id}});
    if (!still_there(id)) {
        return;
    }
    Volume& volume = *model_.find(id);
    std::uint64_t sectors = random_.between(1, plan_.volume_bytes / kSectorBytes);
    if (random_.chance(50)) {
        sectors = divide_up(sectors, 8) * 8;
    }
    Change change;
    change.what = fmt::format("resize of volume {} from {} to {} sectors", id.value,
                              volume.now.size(), sectors);
    change.durable = true;
    Stamps resized = volume.now;
    resized.resize(sectors, kZeroes);
    change.whole = std::move(resized);
    const std::size_t index = ask(volume, std::move(change));
    if (answer(volume, index, store_.resize(id, sectors * kSectorBytes))) {
        reached(Case::resizes);
    }
}

void Workload::do_rename()
{
    const VolumeId id = choose(true, true);
    if (id == VolumeId(0)) {
        return;
    }
    const auto held = locks_.take({{Hold::Kind::volume_alone, id}});
    if (!still_there(id)) {
        return;
    }
    NameChange change;
    change.name = fresh_name();
    change.asked = clock_.tick();
    const Status status = store_.rename(id, change.name);
    change.answered = clock_.tick();
    if (!status) {
        excuse(status.error(), fmt::format("rename of {}", id.value));
        if (!stopped_) {
            return;
        }
        change.answered = kNever;
    } else {
        model_.note_all_durable(change.asked, change.answered);
        reached(Case::renames);
    }
    model_.find(id)->names.push_back(change);
}

void Workload::do_set_flush_mode()
{
    const VolumeId id = choose(true, false);
    if (id != VolumeId(0)) {
        set_flush_mode(id, random_.chance(50) ? FlushMode::ordered : FlushMode::durable);
    }
}

void Workload::set_flush_mode(VolumeId id, FlushMode mode)
{
    const auto held = locks_.take({{Hold::Kind::volume_alone, id}});
    if (!still_there(id)) {
        return;
    }
    Volume& volume = *model_.find(id);
    Flush flush;
    flush.asked = clock_.tick();
    const Status status = store_.set_flush_mode(id, mode);
    flush.answered = clock_.tick();
    if (!status) {
        excuse(status.error(), fmt::format("change of the flush mode of volume {}", id.value));
        return;
    }
    volume.ordered = mode == FlushMode::ordered;
    model_.note_all_durable(flush.asked, flush.answered);  // in either mode
    reached(Case::flush_mode_changes);
}

}  // namespace coppice::sim
