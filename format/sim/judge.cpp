#include "format/sim/judge.h"

#include <algorithm>
#include <fmt/format.h>

#include "format/sim/report.h"

namespace coppice::sim {

namespace {

// ---- Which volumes are there, and as what ---------------------------------------------------

std::string allowed_name(const Volume& volume, const std::string& found, Event event)
{
    std::string last = volume.name;
    bool fits = false;
    for (const NameChange& change : volume.names) {
        if (change.answered <= event) {
            last = change.name;
        } else if (change.asked <= event) {
            fits = fits || change.name == found;
        }
    }
    return fits ? found : last;
}

ConsistencyGroup allowed_group(const Volume& volume, ConsistencyGroup found, Event event)
{
    ConsistencyGroup last = volume.group;
    bool fits = false;
    for (const GroupChange& change : volume.groups) {
        if (change.answered <= event) {
            last = change.group;
        } else if (change.asked <= event) {
            fits = fits || change.group == found;
        }
    }
    return fits ? found : last;
}

// What is wrong with what a volume is; what it holds is compared elsewhere.
std::string wrong_facts(const Volume& volume, const Contents& contents, Event event)
{
    const auto found = contents.volumes.find(volume.id.value);
    if (found == contents.volumes.end()) {
        return volume.must_exist(event) ? fmt::format("volume {} is gone", volume.id.value) : "";
    }
    const VolumeInfo& info = found->second.info;
    if (!volume.may_exist(event)) {
        return fmt::format("volume {} is there, but was {}", volume.id.value,
                           volume.created_asked > event ? "not made yet" : "removed");
    }
    if (info.snapshot != volume.snapshot) {
        return fmt::format("volume {} has turned into another kind", volume.id.value);
    }
    if (const std::string name = allowed_name(volume, info.name, event); name != info.name) {
        return fmt::format("volume {} is named {} instead of {}", volume.id.value, info.name, name);
    }
    if (const auto group = allowed_group(volume, info.group, event); group != info.group) {
        return fmt::format("volume {} is in group {} instead of {}", volume.id.value,
                           info.group.value, group.value);
    }
    return "";
}

// Snapshots that were made as one are all there, or none.
std::string wrong_together(const Contents& contents, const Model& model, Event event)
{
    for (const std::vector<VolumeId>& ids : model.together) {
        std::size_t there = 0;
        std::size_t kept = 0;
        for (const VolumeId id : ids) {
            const bool stays = model.volumes.at(id.value).removed_asked > event;
            kept += stays ? 1U : 0U;
            there += stays && contents.volumes.contains(id.value) ? 1U : 0U;
        }
        if (there != 0 && there != kept) {
            return fmt::format("{} of {} snapshots that were made as one, from {} on, are there",
                               there, kept, ids.front().value);
        }
    }
    return "";
}

// A volume that the model does not know must be one whose creation failed half-way.
std::string wrong_unknown(const Model& model, const Contents::Entry& entry, Event event)
{
    for (const Volume& volume : model.perhaps) {
        if (volume.name != entry.info.name || volume.created_asked > event) {
            continue;
        }
        const bool same = volume.snapshot || volume.start == entry.stamps;
        return same ? "" : fmt::format("volume {} has wrong contents", entry.info.id.value);
    }
    return fmt::format("there is a volume {} that nobody made", entry.info.id.value);
}

// When the management that is seen to have happened was asked for: everything that was answered
// before the last of it is there too.
Event managed_before(const Contents& contents, const Model& model, Event event)
{
    Event last = 0;
    for (const auto& [id, volume] : model.volumes) {
        const auto found = contents.volumes.find(id);
        if (found == contents.volumes.end()) {
            const bool was_there = volume.created_answered <= event;
            last = was_there && volume.removed_asked <= event ? std::max(last, volume.removed_asked)
                                                              : last;
            continue;
        }
        last = std::max(last, volume.created_asked);
        for (const NameChange& change : volume.names) {
            const bool seen = change.asked <= event && change.name == found->second.info.name;
            last = seen ? std::max(last, change.asked) : last;
        }
        ConsistencyGroup group = volume.group;
        for (const GroupChange& change : volume.groups) {
            const bool seen = change.asked <= event && change.answered > event &&
                              change.group == found->second.info.group && change.group != group;
            last = seen ? std::max(last, change.asked) : last;
            group = change.group;
        }
    }
    return last;
}

// ---- What the cut showed --------------------------------------------------------------------

void count_if(bool seen, Case which)
{
    if (seen) {
        reached(which);
    }
}

void count_kept_and_lost(const Survivors& survivors, Event event)
{
    bool lost = false;
    bool kept_unflushed = false;
    bool kept_open = false;
    for (const Survivor& survivor : survivors.changes()) {
        lost = lost || (survivor.out && survivor.answered <= event);
        kept_unflushed = kept_unflushed || (survivor.shown && survivors.pending(survivor));
        kept_open = kept_open || (survivor.shown && survivor.answered > event);
    }
    count_if(lost, Case::cuts_that_lost_operations);
    count_if(kept_unflushed, Case::cuts_that_kept_unflushed);
    count_if(kept_open, Case::cuts_that_kept_unacknowledged);
}

// A transaction and a stream of the same volume, both with what may be lost.
void count_transactions_beside_streams(const Survivors& survivors)
{
    bool together = false;
    bool transaction_alone = false;  // ... and not what a stream had done before
    bool stream_alone = false;       // ... and not the transaction before it
    for (const Survivor& one : survivors.changes()) {
        if (!one.change->transaction || !survivors.pending(one)) {
            continue;
        }
        for (const Survivor& other : survivors.changes()) {
            if (other.volume != one.volume || other.order == one.order ||
                !survivors.pending(other)) {
                continue;
            }
            together = true;
            transaction_alone =
                transaction_alone || (one.shown && other.out && other.answered < one.asked);
            stream_alone = stream_alone || (other.shown && one.out && one.answered < other.asked);
        }
    }
    count_if(together, Case::cuts_with_transaction_and_stream);
    count_if(transaction_alone, Case::cuts_that_kept_the_transaction);
    count_if(stream_alone, Case::cuts_that_kept_the_stream);
}

void count_domains_that_meet(const Survivors& survivors, const Model& model)
{
    bool partial = false;
    bool copied = false;
    for (const Survivor& survivor : survivors.changes()) {
        const auto any_pending = [&](const std::vector<std::size_t>& others) {
            return survivors.pending(survivor) &&
                   std::any_of(others.begin(), others.end(), [&](std::size_t other) {
                       return survivors.pending(survivors.changes()[other]);
                   });
        };
        partial = partial || any_pending(survivor.part_of);
        copied = copied || any_pending(survivor.copied);
    }
    count_if(partial, Case::cuts_with_partial_over_pending);
    count_if(copied, Case::cuts_with_clones_of_pending);

    bool overwritten = false;
    bool older_alone = false;
    for (const auto& [id, volume] : model.volumes) {
        const auto* columns = survivors.columns(volume.id);
        for (std::size_t i = 0; columns != nullptr && i < columns->size(); ++i) {
            const auto& items = (*columns)[i].items;
            for (std::size_t k = 1; k < items.size(); ++k) {
                const Survivor& older = survivors.changes()[items[k - 1].survivor];
                const Survivor& newer = survivors.changes()[items[k].survivor];
                const bool both = older.order != newer.order && survivors.pending(older) &&
                                  survivors.pending(newer);
                overwritten = overwritten || both;
                older_alone = older_alone || (both && newer.out && older.shown);
            }
        }
    }
    count_if(overwritten, Case::cuts_with_overwrites_by_others);
    count_if(older_alone, Case::cuts_that_kept_the_overwritten);
}

// A snapshot between two changes of the same sector, none of which a flush had made durable.
void count_snapshots_between(const Survivors& survivors, const Contents& contents,
                             const Model& model)
{
    bool between = false;
    for (const auto& [id, snapshot] : model.volumes) {
        const auto parent = model.volumes.find(snapshot.parent.value);
        const auto* columns = survivors.columns(snapshot.parent);
        if (!snapshot.snapshot || snapshot.created_asked == 0 || columns == nullptr ||
            parent == model.volumes.end() || !contents.volumes.contains(id)) {
            continue;
        }
        for (const Survivors::Column& column : *columns) {
            bool before = false;
            for (const Survivors::Item& item : column.items) {
                const Survivor& survivor = survivors.changes()[item.survivor];
                const Event flushed =
                    parent->second.flushed_at(snapshot.created_asked, survivor.change->stream);
                before = before || (survivor.answered < snapshot.created_asked &&
                                    survivor.answered > flushed && !survivor.change->durable);
                between = between || (before && survivor.asked > snapshot.created_answered &&
                                      survivors.pending(survivor));
            }
        }
    }
    count_if(between, Case::cuts_with_snapshots_between);
}

void count_groups(const Contents& contents)
{
    std::map<ConsistencyGroup, std::size_t> members;
    for (const auto& [id, entry] : contents.volumes) {
        members[entry.info.group] += entry.info.group == ConsistencyGroup() ? 0U : 1U;
    }
    count_if(std::any_of(members.begin(), members.end(),
                         [](const auto& group) { return group.second > 1; }),
             Case::cuts_of_groups);
}

}  // namespace

std::string complaint(const Contents& contents, const Model& model, Event event)
{
    for (const auto& [id, volume] : model.volumes) {
        if (std::string wrong = wrong_facts(volume, contents, event); !wrong.empty()) {
            return wrong;
        }
    }
    if (std::string wrong = wrong_together(contents, model, event); !wrong.empty()) {
        return wrong;
    }
    for (const auto& [id, entry] : contents.volumes) {
        if (model.volumes.contains(id)) {
            continue;
        }
        if (std::string wrong = wrong_unknown(model, entry, event); !wrong.empty()) {
            return wrong;
        }
    }
    Survivors survivors(model, contents, event, managed_before(contents, model, event));
    if (std::string wrong = survivors.settle(); !wrong.empty()) {
        return wrong;
    }
    count_kept_and_lost(survivors, event);
    count_transactions_beside_streams(survivors);
    count_domains_that_meet(survivors, model);
    count_snapshots_between(survivors, contents, model);
    count_groups(contents);
    return "";
}

Event first_promise(const Model& model)
{
    Event first = kNever;
    const auto promised = [&](Event answered) { first = std::min(first, answered); };
    for (const auto& [id, volume] : model.volumes) {
        for (const Flush& flush : volume.flushes) {
            promised(flush.answered);
        }
        for (const Change& change : volume.changes) {
            promised(change.durable && !change.failed ? change.answered : kNever);
        }
        promised(volume.created_answered != 0 ? volume.created_answered : kNever);
        promised(volume.removed_answered);
        for (const NameChange& change : volume.names) {
            promised(change.answered);
        }
        for (const GroupChange& change : volume.groups) {
            promised(change.answered);
        }
    }
    return first;
}

}  // namespace coppice::sim
