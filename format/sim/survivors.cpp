#include "format/sim/survivors.h"

#include <algorithm>
#include <fmt/format.h>

#include "format/base/check.h"

namespace coppice::sim {

namespace {

using Kind = Survivor::Reason::Kind;

constexpr std::uint64_t kSectorsPerBlock = kBlockBytes / kSectorBytes;
constexpr unsigned kLongestChain = 6;  // of reasons in a text

}  // namespace

// ---- What may be there ----------------------------------------------------------------------

Survivors::Survivors(const Model& model, const Contents& contents, Event event, Event all_before)
    : model_(model), event_(event), all_before_(all_before)
{
    for (const auto& [id, volume] : model.volumes) {
        const auto found = contents.volumes.find(id);
        if (found != contents.volumes.end()) {
            lay_out(volume, found->second);
        }
    }
    for (Survivor& survivor : survivors_) {
        const Event flushed = std::max(
            all_before_,
            model.volumes.at(survivor.volume.value).flushed_at(event, survivor.change->stream));
        survivor.required =
            survivor.answered <= event && (survivor.answered < flushed || survivor.change->durable);
    }
    for (std::size_t i = 0; i < survivors_.size() && orders_.size() > 1; ++i) {
        find_parts(i);
        find_sources(i);
    }
}

const std::vector<Survivors::Column>* Survivors::columns(VolumeId volume) const
{
    const auto sheet = sheets_.find(volume);
    return sheet == sheets_.end() ? nullptr : &sheet->second.columns;
}

void Survivors::lay_out(const Volume& volume, const Contents::Entry& found)
{
    Sheet& sheet = sheets_[volume.id];
    sheet.volume = &volume;
    sheet.found = &found.stamps;
    sheet.base = &volume.start;
    Event base_event = 0;
    const Change* open_whole = nullptr;
    for (const Change& change : volume.changes) {
        if (change.whole && !change.failed && change.asked <= event_) {
            // A rollback or a resize is durable when it is answered.
            const bool done = change.answered <= event_;
            sheet.base = done ? &*change.whole : sheet.base;
            base_event = done ? change.asked : base_event;
            open_whole = done ? open_whole : &change;
        }
    }
    const bool new_size = open_whole != nullptr && found.stamps == *open_whole->whole &&
                          found.stamps.size() != sheet.base->size();
    if (found.stamps.size() != sheet.base->size() && !new_size) {
        sheet.trouble = fmt::format("volume {} has {} sectors instead of {}", volume.id.value,
                                    found.stamps.size(), sheet.base->size());
        return;
    }
    if (new_size) {
        sheet.base = &*open_whole->whole;
        all_before_ = std::max(all_before_, open_whole->asked);
        sheet.columns.resize(sheet.base->size());
        return;
    }
    sheet.columns.resize(sheet.base->size());
    for (const Change& change : volume.changes) {
        if (!change.failed && !change.whole && change.asked <= event_) {
            add_change(sheet, change, found.info.group, base_event);
        }
    }
    if (open_whole != nullptr && open_whole->whole->size() == sheet.base->size()) {
        add_survivor(volume, *open_whole, found.info.group).takes_all = true;
        put(sheet, 0, *open_whole->whole);
    }
}

void Survivors::add_change(Sheet& sheet, const Change& change, ConsistencyGroup group,
                           Event base_event)
{
    if (change.asked < base_event) {
        return;
    }
    for (const Stamps& outcome : change.outcomes) {
        Survivor& survivor = add_survivor(*sheet.volume, change, group);
        survivor.answered = kNever;
        put(sheet, change.patches[0].first, outcome);
    }
    if (!change.outcomes.empty() && change.answered == kNever) {
        return;  // nobody knows how it ended
    }
    add_survivor(*sheet.volume, change, group);
    for (const Patch& patch : change.patches) {
        put(sheet, patch.first, patch.stamps);
    }
}

Survivor& Survivors::add_survivor(const Volume& volume, const Change& change,
                                  ConsistencyGroup group)
{
    OrderKey key{0, volume.id.value, change.stream.value};
    if (change.stream == StreamId() && group != ConsistencyGroup()) {
        key = {group.value, 0, 0};
    }
    Survivor survivor;
    survivor.change = &change;
    survivor.volume = volume.id;
    survivor.order = orders_.emplace(key, orders_.size()).first->second;
    survivor.asked = change.asked;
    survivor.answered = change.answered;
    survivors_.push_back(std::move(survivor));
    return survivors_.back();
}

// Of the newest survivor.
void Survivors::put(Sheet& sheet, std::uint64_t first, const Stamps& stamps)
{
    CHECK(first + stamps.size() <= sheet.columns.size());
    for (std::size_t i = 0; i < stamps.size(); ++i) {
        if (stamps[i] == kUntouched) {
            continue;
        }
        Column& column = sheet.columns[first + i];
        const Stamp before =
            column.items.empty() ? (*sheet.base)[first + i] : column.items.back().stamp;
        column.items.push_back({survivors_.size() - 1, stamps[i], stamps[i] != before});
        column.top = column.items.size();
    }
}

// ---- What it is built on --------------------------------------------------------------------

// Others' changes of these sectors that were answered before.
void Survivors::add_builders(std::size_t index, VolumeId volume, const SectorRange& range,
                             Event before, std::vector<std::size_t>& builders) const
{
    const std::vector<Column>* all = columns(volume);
    if (all == nullptr) {
        return;
    }
    for (std::uint64_t sector = range.first; sector < std::min(range.end(), all->size());
         ++sector) {
        for (const Item& item : (*all)[sector].items) {
            const Survivor& other = survivors_[item.survivor];
            // What a contest did to a block in part only it knows.
            const bool known = other.change->outcomes.empty();
            if (item.changes && known && other.answered < before &&
                other.order != survivors_[index].order) {
                builders.push_back(item.survivor);
            }
        }
    }
    std::sort(builders.begin(), builders.end());
    builders.erase(std::unique(builders.begin(), builders.end()), builders.end());
}

void Survivors::find_parts(std::size_t index)
{
    const Survivor& survivor = survivors_[index];
    if (!survivor.change->outcomes.empty() || survivor.change->whole) {
        return;
    }
    const std::uint64_t end = sheets_.at(survivor.volume).columns.size();
    std::map<std::uint64_t, std::uint64_t> changed;  // sectors of each block
    for (const Patch& patch : survivor.change->patches) {
        for (std::uint64_t sector = patch.first; sector < patch.range().end(); ++sector) {
            ++changed[sector / kSectorsPerBlock];
        }
    }
    std::vector<std::size_t> builders;
    for (const auto& [block, sectors] : changed) {
        const std::uint64_t first = block * kSectorsPerBlock;
        const SectorRange whole{first, std::min(kSectorsPerBlock, end - first)};
        if (sectors < whole.count) {
            add_builders(index, survivor.volume, whole, survivor.asked, builders);
        }
    }
    survivors_[index].part_of = std::move(builders);
}

void Survivors::find_sources(std::size_t index)
{
    std::vector<std::size_t> builders;
    for (const BuiltOn& source : survivors_[index].change->sources) {
        add_builders(index, source.volume, source.range, source.asked, builders);
    }
    survivors_[index].copied = std::move(builders);
}

// ---- Striking out ---------------------------------------------------------------------------

bool Survivors::strike(std::size_t index, Survivor::Reason reason)
{
    Survivor& survivor = survivors_[index];
    if (survivor.out) {
        return false;
    }
    survivor.out = true;
    survivor.reason = reason;
    return true;
}

bool Survivors::strike_by_sectors()
{
    bool any = false;
    for (auto& [id, sheet] : sheets_) {
        for (std::uint64_t sector = 0; sector < sheet.columns.size(); ++sector) {
            Column& column = sheet.columns[sector];
            while (column.top != 0) {
                const Item& item = column.items[column.top - 1];
                const bool fits = item.stamp == (*sheet.found)[sector];
                if (fits && !survivors_[item.survivor].out) {
                    break;
                }
                if (!fits) {
                    any = strike(item.survivor, {Kind::sector, 0, sector}) || any;
                }
                --column.top;
            }
        }
    }
    return any;
}

bool Survivors::strike_by_order()
{
    // Of each order, and of all, the one that is not there and was answered first.
    constexpr std::size_t kNobody = SIZE_MAX;
    std::vector<std::size_t> first(orders_.size(), kNobody);
    std::size_t first_of_all = kNobody;
    const auto earlier = [&](std::size_t& known, std::size_t index) {
        if (known == kNobody || survivors_[index].answered < survivors_[known].answered) {
            known = index;
        }
    };
    for (std::size_t i = 0; i < survivors_.size(); ++i) {
        if (survivors_[i].out) {
            earlier(first[survivors_[i].order], i);
            earlier(first_of_all, i);
        }
    }
    bool any = false;
    const auto behind = [&](const Survivor& survivor, std::size_t other) {
        return other != kNobody && survivors_[other].answered < survivor.asked;
    };
    for (std::size_t i = 0; i < survivors_.size(); ++i) {
        const Survivor& survivor = survivors_[i];
        if (behind(survivor, first[survivor.order])) {
            any = strike(i, {Kind::order, first[survivor.order]}) || any;
        } else if (survivor.takes_all && behind(survivor, first_of_all)) {
            any = strike(i, {Kind::management, first_of_all}) || any;
        }
    }
    return any;
}

bool Survivors::strike_by_what_they_are_built_on()
{
    bool any = false;
    for (std::size_t i = 0; i < survivors_.size(); ++i) {
        for (const auto* builders : {&survivors_[i].part_of, &survivors_[i].copied}) {
            for (const std::size_t other : *builders) {
                if (survivors_[other].out) {
                    any = strike(i, {Kind::built_on, other}) || any;
                }
            }
        }
    }
    return any;
}

bool Survivors::strike_by_ordered_flushes()
{
    bool any = false;
    for (const OrderedFlush& flush : model_.ordered_flushes) {
        const auto covers = [&](const Survivor& survivor) {
            return std::find(flush.volumes.begin(), flush.volumes.end(), survivor.volume) !=
                   flush.volumes.end();
        };
        const auto lost =
            std::find_if(survivors_.begin(), survivors_.end(), [&](const Survivor& survivor) {
                return survivor.out && survivor.answered < flush.asked && covers(survivor);
            });
        if (flush.answered > event_ || lost == survivors_.end()) {
            continue;
        }
        const std::size_t index = static_cast<std::size_t>(lost - survivors_.begin());
        for (std::size_t i = 0; i < survivors_.size(); ++i) {
            if (survivors_[i].asked > flush.answered && covers(survivors_[i])) {
                any = strike(i, {Kind::ordered_flush, index}) || any;
            }
        }
    }
    return any;
}

std::string Survivors::settle()
{
    for (const auto& [id, sheet] : sheets_) {
        if (!sheet.trouble.empty()) {
            return sheet.trouble;
        }
    }
    for (bool more = true; more;) {
        more = strike_by_sectors();
        more = strike_by_order() || more;
        more = strike_by_what_they_are_built_on() || more;
        more = strike_by_ordered_flushes() || more;
    }
    for (std::size_t i = 0; i < survivors_.size(); ++i) {
        if (survivors_[i].required && survivors_[i].out) {
            return "something durable is missing: " + why_out(i);
        }
    }
    for (const auto& [id, sheet] : sheets_) {
        for (std::uint64_t sector = 0; sector < sheet.columns.size(); ++sector) {
            if (sheet.columns[sector].top == 0 && (*sheet.base)[sector] != (*sheet.found)[sector]) {
                return unexplained(sheet, sector);
            }
        }
    }
    mark_shown();
    return "";
}

void Survivors::mark_shown()
{
    for (auto& [id, sheet] : sheets_) {
        for (std::uint64_t sector = 0; sector < sheet.columns.size(); ++sector) {
            const Column& column = sheet.columns[sector];
            const Stamp found = (*sheet.found)[sector];
            const auto writers =
                std::count_if(column.items.begin(), column.items.end(),
                              [&](const Item& item) { return item.stamp == found; });
            if (column.top != 0 && writers == 1 && (*sheet.base)[sector] != found) {
                survivors_[column.items[column.top - 1].survivor].shown = true;
            }
        }
    }
}

// ---- In words -------------------------------------------------------------------------------

std::string Survivors::why_out(std::size_t index) const
{
    std::string text;
    for (unsigned i = 0; i < kLongestChain; ++i) {
        const Survivor& survivor = survivors_[index];
        text += fmt::format("{} (events {} to {}) is not there", survivor.change->what,
                            survivor.asked, survivor.answered);
        switch (survivor.reason.kind) {
        case Kind::none: return text;
        case Kind::sector: {
            const std::uint64_t sector = survivor.reason.sector;
            const Sheet& sheet = sheets_.at(survivor.volume);
            return fmt::format("{}, as sector {} of volume {} holds {:#x}", text, sector,
                               survivor.volume.value, (*sheet.found)[sector]);
        }
        case Kind::order: text += ", as what came before it in its order: "; break;
        case Kind::built_on: text += ", as what it was built on: "; break;
        case Kind::ordered_flush: text += ", as what lies before an ordered flush: "; break;
        case Kind::management: text += ", as what it takes along: "; break;
        }
        index = survivor.reason.other;
    }
    return text + "...";
}

std::string Survivors::unexplained(const Sheet& sheet, std::uint64_t sector) const
{
    const Stamp found = (*sheet.found)[sector];
    std::string text =
        fmt::format("sector {} of volume {} holds {:#x}; without any change it would be {:#x}",
                    sector, sheet.volume->id.value, found, (*sheet.base)[sector]);
    for (const Item& item : sheet.columns[sector].items) {
        if (item.stamp == found) {
            text += "; " + why_out(item.survivor);
        }
    }
    return text;
}

}  // namespace coppice::sim
