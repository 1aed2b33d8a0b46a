// Consistency groups of the workload: volumes join and leave them beside everything else, and
// snapshots are made of all volumes of a group at one moment.
#include <algorithm>
#include <fmt/format.h>

#include "format/sim/report.h"
#include "format/sim/workload.h"

namespace coppice::sim {

namespace {

constexpr std::uint64_t kGroups = 2;
// Who has this alone changes groups; who shares it wants them to stay as they are.
constexpr VolumeId kGroupsThemselves{0};

}  // namespace

void Workload::do_set_group()
{
    const VolumeId id = choose(true, false);
    if (id != VolumeId(0)) {
        join_group(id, ConsistencyGroup(random_.below(kGroups + 1)));
    }
}

void Workload::join_group(VolumeId id, ConsistencyGroup group)
{
    const auto held = locks_.take(
        {{Hold::Kind::volume_alone, id}, {Hold::Kind::volume_alone, kGroupsThemselves}});
    if (!still_there(id)) {
        return;
    }
    Volume& volume = *model_.find(id);
    Flush flush;
    flush.asked = clock_.tick();
    volume.groups.push_back({group, flush.asked});
    const Status status = store_.set_group(id, group);
    flush.answered = clock_.tick();
    if (tracing()) {
        trace(fmt::format("{:6} volume {} to group {}, asked for at {}: {}", flush.answered,
                          id.value, group.value, flush.asked,
                          status ? "done" : status.error().text));
    }
    if (!status) {
        excuse(status.error(), fmt::format("change of the group of volume {}", id.value));
        if (!stopped_) {
            volume.groups.pop_back();
        }
        return;
    }
    volume.groups.back().answered = flush.answered;
    model_.note_all_durable(flush.asked, flush.answered);
    reached(group == ConsistencyGroup() ? Case::groups_left : Case::groups_joined);
}

void Workload::do_snapshot_group()
{
    const ConsistencyGroup group(random_.between(1, kGroups));
    const std::vector<VolumeId> members = model_.members(group, clock_.tick());
    if (members.empty() || model_.present().size() + members.size() > plan_.most_volumes) {
        return;
    }
    std::vector<Hold> holds = {{Hold::Kind::volume_shared, kGroupsThemselves}};
    for (const VolumeId id : members) {
        holds.push_back({Hold::Kind::volume_shared, id});
    }
    const auto held = locks_.take(std::move(holds));
    if (stopped_ || model_.members(group, clock_.tick()) != members) {
        return;
    }
    const std::string name = fresh_name();
    const std::string what = fmt::format("snapshot {} of group {}", name, group.value);
    const Event asked = clock_.tick();
    const auto result = store_.snapshot_group(group, name, false);
    const Event answered = clock_.tick();
    std::vector<Volume> snapshots(members.size());
    for (std::size_t i = 0; i < members.size(); ++i) {
        snapshots[i].snapshot = true;
        snapshots[i].parent = members[i];
        snapshots[i].name = name;
        snapshots[i].created_asked = asked;
        snapshots[i].created_answered = answered;
    }
    if (!result) {
        excuse(result.error(), what);
    } else if (result->size() != members.size()) {
        violation(fmt::format("{} made {} snapshots of {} volumes", what, result->size(),
                              members.size()));
    }
    for (std::size_t i = 0; result && i < members.size(); ++i) {
        snapshots[i].id = (*result)[i];
    }
    if (!result || !compare_group_snapshots(members, snapshots)) {
        if (stopped_) {
            model_.perhaps.insert(model_.perhaps.end(), snapshots.begin(), snapshots.end());
        }
        return;
    }
    model_.note_all_durable(asked, answered);
    for (Volume& made : snapshots) {
        model_.volumes[made.id.value] = std::move(made);
    }
    model_.together.push_back(*result);
    reached(Case::group_snapshots);
}

// Reads them: one moment between question and answer must do for all. False: the host failed.
bool Workload::compare_group_snapshots(const std::vector<VolumeId>& members,
                                       std::vector<Volume>& snapshots)
{
    std::vector<Member> together;
    for (std::size_t i = 0; i < members.size(); ++i) {
        Volume& made = snapshots[i];
        if (model_.find(made.id) != nullptr) {
            violation(fmt::format("a snapshot of a group got the number {}, which was used before",
                                  made.id.value));
        }
        const Volume& parent = *model_.find(members[i]);
        Result<Stamps> found = read(made.id, {0, parent.now.size()});
        if (!found) {
            excuse(found.error(), "read of a new snapshot of a group");
            return false;
        }
        made.start = *found;
        made.now = std::move(*found);
        MatchQuestion question;
        question.from = made.created_asked;
        question.until = made.created_answered;
        together.push_back({&parent, &made.start, question});
    }
    std::string why_not;
    if (!match_together(together, why_not)) {
        violation(fmt::format("snapshots of a group, made between events {} and {}, agree with no "
                              "moment together; {}",
                              snapshots[0].created_asked, snapshots[0].created_answered, why_not));
    }
    return true;
}

}  // namespace coppice::sim
