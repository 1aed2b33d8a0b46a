#include "format/sim/model.h"

#include <algorithm>
#include <fmt/format.h>

#include "format/base/check.h"

namespace coppice::sim {

Event Volume::flushed_at(Event event, StreamId stream) const
{
    Event flushed = 0;
    for (const Flush& flush : flushes) {
        const bool covers = flush.stream == StreamId() || flush.stream == stream;
        if (covers && flush.answered <= event) {
            flushed = std::max(flushed, flush.asked);
        }
    }
    return flushed;
}

std::optional<ConsistencyGroup> Volume::settled_group(Event from, Event until) const
{
    ConsistencyGroup settled = group;
    for (const GroupChange& change : groups) {
        if (change.answered <= from) {
            settled = change.group;
        } else if (change.asked <= until) {
            return std::nullopt;
        }
    }
    return settled;
}

std::vector<VolumeId> Model::members(ConsistencyGroup group, Event now) const
{
    std::vector<VolumeId> found = present();
    std::erase_if(found, [&](VolumeId id) {
        const Volume& volume = volumes.at(id.value);
        return volume.snapshot || volume.settled_group(now, now) != group;
    });
    return found;
}

std::vector<VolumeId> Model::with_group(VolumeId id, Event from, Event until) const
{
    const auto group = volumes.at(id.value).settled_group(from, until);
    const bool grouped = group && *group != ConsistencyGroup();
    std::vector<VolumeId> found;
    for (const auto& [number, volume] : volumes) {
        if (volume.id == id || (grouped && volume.settled_group(from, until) == group)) {
            found.push_back(volume.id);
        }
    }
    return found;
}

void Model::note_flush(VolumeId id, const Flush& flush)
{
    if (flush.stream != StreamId()) {
        volumes.at(id.value).flushes.push_back(flush);
        return;
    }
    for (const VolumeId covered : with_group(id, flush.asked, flush.answered)) {
        volumes.at(covered.value).flushes.push_back(flush);
    }
}

void Model::note_all_durable(Event asked, Event answered)
{
    for (auto& [id, volume] : volumes) {
        volume.flushes.push_back({asked, answered});
    }
}

Volume* Model::find(VolumeId id)
{
    const auto found = volumes.find(id.value);
    return found == volumes.end() ? nullptr : &found->second;
}

std::vector<VolumeId> Model::present() const
{
    std::vector<VolumeId> ids;
    for (const auto& [id, volume] : volumes) {
        if (volume.created_answered != kNever && volume.removed_asked == kNever) {
            ids.emplace_back(id);
        }
    }
    return ids;
}

std::string differences(const Stamps& expected, const Stamps& found, std::uint64_t first)
{
    if (expected.size() != found.size()) {
        return fmt::format("{} sectors instead of {}", found.size(), expected.size());
    }
    std::string text;
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        if (expected[i] == found[i]) {
            continue;
        }
        if (++count <= 4) {
            text += fmt::format("{}sector {}: {:#x} instead of {:#x}", count == 1 ? "" : ", ",
                                first + i, found[i], expected[i]);
        }
    }
    return count > 4 ? fmt::format("{} and {} more", text, count - 4) : text;
}

namespace {

// Walks through the moments of a volume with the state at each and how far it is from the contents
// that were found.
class Matcher {
public:
    Matcher(const Volume& volume, const Stamps& found, const MatchQuestion& question)
        : volume_(volume), found_(found), question_(question), state_(volume.start)
    {
        for (const Change& change : volume.changes) {
            if (!change.failed && change.answered != kNever) {
                by_answer_.push_back(&change);
            }
        }
        std::sort(by_answer_.begin(), by_answer_.end(),
                  [](const Change* a, const Change* b) { return a->answered < b->answered; });
        recount();
    }

    // Does the volume's state of this moment agree? Moments are tried in ascending order.
    bool agrees_at(Event moment) { return try_moment(moment); }
    // What differs from the nearest of the moments, which have all been tried.
    std::string explain(const std::vector<Event>& moments);

private:
    // The part of the state that is compared.
    SectorRange window() const
    {
        return question_.whole_volume ? SectorRange{0, state_.size()}
                                      : SectorRange{question_.first, found_.size()};
    }

    bool same_size() const
    {
        return question_.whole_volume ? state_.size() == found_.size()
                                      : question_.first + found_.size() <= state_.size();
    }

    bool differs(std::uint64_t sector, Stamp stamp) const
    {
        return found_[sector - window().first] != stamp;
    }

    void rewind();
    void recount();
    void set(std::uint64_t sector, Stamp stamp);
    void answer_until(Event moment);
    bool try_moment(Event moment);
    // In how many sectors of the window a patch differs from what was found.
    std::uint64_t distance(std::uint64_t first, const Stamps& stamps) const;
    bool settle_open(const Change& change, std::uint64_t& explained) const;

    const Volume& volume_;
    const Stamps& found_;
    const MatchQuestion& question_;
    Stamps state_;
    std::uint64_t difference_ = 0;
    std::vector<const Change*> by_answer_;
    std::size_t answered_ = 0;
    // The nearest miss; its text is made by a second walk.
    std::uint64_t nearest_ = UINT64_MAX;
    Event nearest_moment_ = 0;
    bool explains_ = false;
    std::string text_;
};

void Matcher::rewind()
{
    state_ = volume_.start;
    answered_ = 0;
    recount();
}

void Matcher::recount()
{
    difference_ = 0;
    if (!same_size()) {
        return;
    }
    const SectorRange range = window();
    for (std::uint64_t sector = range.first; sector < range.end(); ++sector) {
        difference_ += differs(sector, state_[sector]) ? 1U : 0U;
    }
}

void Matcher::set(std::uint64_t sector, Stamp stamp)
{
    const SectorRange range = window();
    if (same_size() && sector >= range.first && sector < range.end()) {
        difference_ -= differs(sector, state_[sector]) ? 1U : 0U;
        difference_ += differs(sector, stamp) ? 1U : 0U;
    }
    state_[sector] = stamp;
}

void Matcher::answer_until(Event moment)
{
    for (; answered_ < by_answer_.size(); ++answered_) {
        const Change& change = *by_answer_[answered_];
        if (change.answered > moment) {
            break;
        }
        if (change.whole) {
            state_ = *change.whole;
            recount();
        }
        for (const Patch& patch : change.patches) {
            for (std::size_t i = 0; i < patch.stamps.size(); ++i) {
                if (patch.stamps[i] != kUntouched) {
                    set(patch.first + i, patch.stamps[i]);
                }
            }
        }
    }
}

std::uint64_t Matcher::distance(std::uint64_t first, const Stamps& stamps) const
{
    if (!same_size()) {
        return 1;
    }
    const SectorRange range = window();
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < stamps.size(); ++i) {
        const std::uint64_t sector = first + i;
        if (sector >= range.first && sector < range.end()) {
            const Stamp stamp = stamps[i] == kUntouched ? state_[sector] : stamps[i];
            count += differs(sector, stamp) ? 1U : 0U;
        }
    }
    return count;
}

// Decides whether an open change is in. `explained` grows by the differences that are its own.
bool Matcher::settle_open(const Change& change, std::uint64_t& explained) const
{
    std::uint64_t old_distance = 0;
    std::uint64_t new_distance = 0;
    for (const Patch& patch : change.patches) {
        const Stamps before(state_.begin() + static_cast<std::ptrdiff_t>(patch.first),
                            state_.begin() + static_cast<std::ptrdiff_t>(patch.range().end()));
        old_distance += distance(patch.first, before);
        new_distance += distance(patch.first, patch.stamps);
    }
    for (const Stamps& outcome : change.outcomes) {
        new_distance = std::min(new_distance, distance(change.patches[0].first, outcome));
    }
    explained += old_distance;
    return old_distance == 0 || new_distance == 0;
}

bool Matcher::try_moment(Event moment)
{
    answer_until(moment);
    std::uint64_t explained = 0;
    std::string unsettled;
    bool whole_in = false;
    for (const Change& change : volume_.changes) {
        if (change.failed || change.asked > moment || change.answered <= moment) {
            continue;
        }
        if (change.whole) {
            whole_in = whole_in || (*change.whole == found_ && question_.whole_volume);
        } else if (!settle_open(change, explained)) {
            unsettled = fmt::format("open {} is neither in nor out", change.what);
        }
    }
    if (whole_in && unsettled.empty()) {
        return true;
    }
    const std::uint64_t left = same_size() ? difference_ - explained : UINT64_MAX - 1;
    if (same_size() && unsettled.empty() && difference_ == explained) {
        return true;
    }
    const std::uint64_t miss = left + (unsettled.empty() ? 0 : 1);
    if (miss < nearest_) {
        nearest_ = miss;
        nearest_moment_ = moment;
    }
    if (explains_ && moment == nearest_moment_) {
        const SectorRange range = window();
        Stamps expected = state_;
        if (same_size()) {
            expected.assign(state_.begin() + static_cast<std::ptrdiff_t>(range.first),
                            state_.begin() + static_cast<std::ptrdiff_t>(range.end()));
        }
        text_ =
            fmt::format("nearest is the state at event {}: {}{}{}", moment, unsettled,
                        unsettled.empty() ? "" : "; ", differences(expected, found_, range.first));
    }
    return false;
}

std::string Matcher::explain(const std::vector<Event>& moments)
{
    rewind();
    explains_ = true;
    for (const Event moment : moments) {
        try_moment(moment);
    }
    return text_;
}

// The moments at which the state of a member changes.
std::vector<Event> moments_of(const std::vector<Member>& members)
{
    const MatchQuestion& question = members.front().question;
    std::vector<Event> moments = {question.from};
    for (const Member& member : members) {
        for (const Change& change : member.volume->changes) {
            if (change.asked > question.from && change.asked <= question.until) {
                moments.push_back(change.asked);
            }
        }
    }
    std::sort(moments.begin(), moments.end());
    return moments;
}

}  // namespace

bool match_together(const std::vector<Member>& members, std::string& why_not)
{
    const std::vector<Event> moments = moments_of(members);
    std::vector<Matcher> matchers;
    for (const Member& member : members) {
        matchers.emplace_back(*member.volume, *member.found, member.question);
    }
    std::vector<std::vector<Event>> agreed(members.size());
    why_not.clear();
    for (const Event moment : moments) {
        std::size_t agree = 0;
        for (std::size_t i = 0; i < matchers.size(); ++i) {
            if (matchers[i].agrees_at(moment)) {
                agreed[i].push_back(moment);
                ++agree;
            }
        }
        if (agree == members.size()) {
            return true;
        }
    }
    for (std::size_t i = 0; i < matchers.size(); ++i) {
        why_not += fmt::format("{}volume {}: ", i == 0 ? "" : "; ", members[i].volume->id.value);
        why_not += agreed[i].empty() ? matchers[i].explain(moments)
                                     : fmt::format("agrees between events {} and {}",
                                                   agreed[i].front(), agreed[i].back());
    }
    return false;
}

bool match(const Volume& volume, const Stamps& found, const MatchQuestion& question,
           std::string& why_not)
{
    return match_together({{&volume, &found, question}}, why_not);
}

}  // namespace coppice::sim
