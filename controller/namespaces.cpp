#include "controller/namespaces.h"

#include <algorithm>
#include <utility>

#include "controller/limits.h"
#include "controller/spec/command.h"

namespace coppice::nvme {

Checked<Range> Namespace::bytes_of(const BlockRange& range) const
{
    const std::uint64_t end = blocks();
    // In this order nothing can wrap: both are at most `end`, which is the size in bytes or less.
    if (range.start > end || range.blocks > end - range.start) {
        return refuse(StatusCode::lba_out_of_range);
    }
    const std::uint64_t block_bytes = power_of_two(info.lba_shift);
    return Range{range.start * block_bytes, range.blocks * block_bytes};
}

NamespaceTable::NamespaceTable(Backend& backend, PowerOn power_on)
    : backend_(&backend), power_on_(std::move(power_on))
{
    this->power_on();
}

void NamespaceTable::use(Backend& backend) { backend_ = &backend; }

void NamespaceTable::power_on()
{
    highest_ = 0;
    refresh();
    for (auto& [nsid, entry] : entries_) {
        const bool named = std::find(power_on_.attach.begin(), power_on_.attach.end(), nsid) !=
                           power_on_.attach.end();
        entry.attached =
            !entry.removed && (named || (power_on_.attach_volumes && !entry.info.snapshot));
    }
    clear_changed();
}

bool NamespaceTable::refresh()
{
    bool notify = false;
    last_found_ = nullptr;
    std::set<std::uint32_t> present;
    for (NamespaceInfo& info : backend_->namespaces()) {
        const std::uint32_t nsid = info.nsid;
        if (nsid == 0 || nsid >= kNsidAll - 1) {
            continue;  // cannot be named by a guest (3.2.1.1)
        }
        present.insert(nsid);
        auto [at, inserted] = entries_.try_emplace(nsid);
        Namespace& entry = at->second;
        if (!inserted && entry.attached &&
            (entry.info.size_bytes != info.size_bytes ||
             entry.info.write_protected != info.write_protected)) {
            note_changed(nsid);
            notify = true;
        }
        entry.info = std::move(info);
        highest_ = std::max(highest_, nsid);
    }
    for (auto at = entries_.begin(); at != entries_.end();) {
        Namespace& entry = at->second;
        if (present.contains(at->first)) {
            entry.removed = false;
            ++at;
            continue;
        }
        if (entry.attached) {
            entry.attached = false;
            note_changed(at->first);
            notify = true;
        }
        entry.removed = true;
        at = entry.in_flight == 0 ? entries_.erase(at) : std::next(at);
    }
    const std::uint64_t steps = std::uint64_t{highest_} / kNamespaceStep + 1;
    highest_ = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(steps * kNamespaceStep - 1, kNsidAll - 2));
    return notify;
}

Namespace* NamespaceTable::find(std::uint32_t nsid)
{
    if (last_found_ != nullptr && last_found_->info.nsid == nsid) {
        return last_found_;
    }
    const auto at = entries_.find(nsid);
    if (at == entries_.end() || at->second.removed) {
        return nullptr;
    }
    last_found_ = &at->second;
    return last_found_;
}

Namespace* NamespaceTable::find_attached(std::uint32_t nsid)
{
    Namespace* entry = find(nsid);
    return entry != nullptr && entry->attached ? entry : nullptr;
}

void NamespaceTable::attach(Namespace& entry, bool attached)
{
    entry.attached = attached;
    note_changed(entry.info.nsid);
}

void NamespaceTable::note_changed(std::uint32_t nsid)
{
    if (changed_.size() >= kChangedNamespaces && !changed_.contains(nsid)) {
        too_many_changed_ = true;
        return;
    }
    changed_.insert(nsid);
}

std::optional<std::vector<std::uint32_t>> NamespaceTable::changed() const
{
    if (too_many_changed_) {
        return std::nullopt;
    }
    return std::vector<std::uint32_t>(changed_.begin(), changed_.end());
}

void NamespaceTable::clear_changed()
{
    changed_.clear();
    too_many_changed_ = false;
}

}  // namespace coppice::nvme
