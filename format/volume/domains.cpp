#include "format/volume/domains.h"

#include <algorithm>
#include <fmt/format.h>

#include "format/base/rules.h"
#include "format/volume/store.h"

namespace coppice {

DomainId domain_of(const JournalOperation& operation)
{
    return {operation.volume(), StreamId(operation.record.stream)};
}

Domain* Domains::find(DomainId id)
{
    auto found = domains_.find(id);
    return found == domains_.end() ? nullptr : &found->second;
}

bool Domains::any_pending() const
{
    return std::any_of(domains_.begin(), domains_.end(),
                       [](const auto& entry) { return !entry.second.pending.empty(); });
}

std::vector<DomainId> Domains::of_volume(VolumeId volume) const
{
    std::vector<DomainId> result;
    for (auto at = domains_.lower_bound({volume, StreamId()});
         at != domains_.end() && at->first.volume == volume; ++at) {
        result.push_back(at->first);
    }
    return result;
}

std::vector<DomainId> Domains::covered_by_flush(VolumeId volume) const
{
    std::vector<DomainId> result;
    for (const VolumeId member : with_group(volume)) {
        const std::vector<DomainId> all = of_volume(member);
        result.insert(result.end(), all.begin(), all.end());
    }
    return result;
}

// ---- Consistency groups -------------------------------------------------------------------

std::vector<VolumeId> Domains::in_group(ConsistencyGroup group) const
{
    std::vector<VolumeId> result;
    for (const auto& [volume, of] : groups_) {
        if (of == group) {
            result.push_back(volume);
        }
    }
    return result;
}

ConsistencyGroup Domains::group_of(DomainId id) const
{
    const auto found = groups_.find(id.volume);
    const bool stands =
        id.stream == StreamId() && found != groups_.end() && obeys(Rule::group_is_one_order);
    return stands ? found->second : ConsistencyGroup();
}

std::vector<VolumeId> Domains::with_group(VolumeId volume) const
{
    const ConsistencyGroup group = group_of({volume, StreamId()});
    return group == ConsistencyGroup() ? std::vector<VolumeId>{volume} : in_group(group);
}

void Domains::set_group(VolumeId volume, ConsistencyGroup group)
{
    for (const VolumeId member : with_group(volume)) {
        join({volume, StreamId()}, {member, StreamId()});
    }
    groups_.erase(volume);
    if (group != ConsistencyGroup()) {
        groups_[volume] = group;
    }
}

// ---- Streams ------------------------------------------------------------------------------

Result<StreamId> Domains::open_stream(VolumeId volume)
{
    constexpr std::uint64_t kLargestNumber = 0xFFFF;  // the journal has 16 bits for it
    if (streams_.size() >= kMaxStreams) {
        return fail(ErrorCode::busy,
                    fmt::format("{} streams are open, which is the most; close one", kMaxStreams));
    }
    std::uint64_t& last = last_stream_[volume];
    StreamId id;
    do {
        last = last % kLargestNumber + 1;
        id = StreamId(last);
    } while (streams_.contains({volume, id}));
    streams_.insert({volume, id});
    // An ordered flush has joined the volume's domains: what comes now stands behind it as well.
    const Domain* own = find({volume, StreamId()});
    if (own != nullptr && own->joined != 0) {
        join({volume, StreamId()}, {volume, id});
    }
    return id;
}

Status Domains::check_open(DomainId id) const
{
    if (id.stream != StreamId() && !streams_.contains(id)) {
        return fail(ErrorCode::not_found, fmt::format("volume {} has no open stream {}",
                                                      id.volume.value, id.stream.value));
    }
    return {};
}

Status Domains::close_stream(DomainId id)
{
    if (id.stream == StreamId()) {
        return fail(ErrorCode::invalid_argument, "stream 0 is the volume itself");
    }
    COPPICE_TRY(check_open(id));
    streams_.erase(id);
    return {};
}

void Domains::close_streams(VolumeId volume)
{
    std::erase_if(streams_, [&](const DomainId& id) { return id.volume == volume; });
}

// ---- Operations ---------------------------------------------------------------------------

void Domains::enqueue(std::span<JournalOperation> command)
{
    Domain& domain = domains_[domain_of(command.back())];
    domain.last = command.back().sequence();
    for (JournalOperation& operation : command) {
        domain.pending.push_back(std::move(operation));
    }
}

void Domains::begin_taking(std::span<const DomainId> chosen)
{
    for (const DomainId id : chosen) {
        Domain& domain = domains_[id];
        domain.joined = 0;
        domain.wanted = false;
    }
}

std::vector<JournalOperation> Domains::take_pending(std::span<const DomainId> chosen,
                                                    Sequence up_to, std::size_t most)
{
    std::vector<Domain*> domains;
    for (const DomainId id : chosen) {
        if (Domain* domain = find(id)) {
            domains.push_back(domain);
        }
    }
    std::vector<JournalOperation> operations;
    while (operations.size() < most || operations.back().continues()) {
        Domain* oldest = nullptr;
        for (Domain* domain : domains) {
            if (!domain->pending.empty() && domain->pending.front().sequence() <= up_to &&
                (oldest == nullptr ||
                 domain->pending.front().sequence() < oldest->pending.front().sequence())) {
                oldest = domain;
            }
        }
        if (oldest == nullptr) {
            break;
        }
        operations.push_back(std::move(oldest->pending.front()));
        oldest->pending.pop_front();
    }
    if (!obeys(Rule::order_in_domain)) {
        std::reverse(operations.begin(), operations.end());
    }
    return operations;
}

bool Domains::contained(Sequence sequence, std::size_t most)
{
    for (auto& [id, domain] : domains_) {
        domain.durable = std::max(domain.durable, std::min(domain.last, sequence));
        while (!domain.pending.empty() && domain.pending.front().sequence() <= sequence) {
            if (most == 0) {
                return true;
            }
            domain.pending.pop_front();
            --most;
        }
    }
    // What is at rest is made anew when something happens in it.
    std::erase_if(domains_, [](const auto& entry) {
        const Domain& domain = entry.second;
        return domain.pending.empty() && domain.durable >= domain.last && domain.joined == 0 &&
               !domain.wanted;
    });
    return false;
}

// ---- Domains that meet --------------------------------------------------------------------

void Domains::join(DomainId a, DomainId b)
{
    if (a == b || !obeys(Rule::joined_domains)) {
        return;
    }
    Domain& first = domains_[a];
    Domain& second = domains_[b];
    const std::uint64_t old_first = first.joined;
    const std::uint64_t old_second = second.joined;
    const std::uint64_t together = ++last_join_;
    first.joined = together;
    second.joined = together;
    for (auto& [id, domain] : domains_) {
        if (domain.joined != 0 && (domain.joined == old_first || domain.joined == old_second)) {
            domain.joined = together;
        }
    }
}

void Domains::join_all(DomainId with)
{
    for (auto& [id, domain] : domains_) {
        if (!domain.pending.empty()) {
            join(with, id);
        }
    }
}

void Domains::join_covered_by_flush(VolumeId volume)
{
    // What a commit has taken stands in the ring before whatever comes now.
    const std::vector<DomainId> covered = covered_by_flush(volume);
    if (std::none_of(covered.begin(), covered.end(),
                     [&](DomainId id) { return !domains_.at(id).pending.empty(); })) {
        return;
    }
    const DomainId own{volume, StreamId()};
    if (domains_[own].joined == 0 && obeys(Rule::joined_domains)) {
        domains_[own].joined = ++last_join_;  // with streams that are opened later
    }
    for (const VolumeId member : with_group(volume)) {
        join(own, {member, StreamId()});
        for (const DomainId id : of_volume(member)) {
            join(own, id);
        }
        for (const DomainId id : streams_) {
            if (id.volume == member) {
                join(own, id);
            }
        }
    }
}

bool Domains::others_pending(DomainId id) const
{
    return std::any_of(domains_.begin(), domains_.end(), [&](const auto& entry) {
        // What is in the journal and not durable may be lost all the same.
        return entry.first != id && entry.first.volume == id.volume &&
               entry.second.durable < entry.second.last;
    });
}

bool Domains::has_pending_over(const Domain& domain, Lba begin, Lba end)
{
    return std::any_of(
        domain.pending.rbegin(), domain.pending.rend(), [&](const JournalOperation& operation) {
            const auto& record = operation.record;
            return record.lba < end.value && begin.value < record.lba + record.length;
        });
}

std::vector<DomainId> Domains::others_pending_over(DomainId own, VolumeId volume, Lba begin,
                                                   Lba end) const
{
    std::vector<DomainId> result = of_volume(volume);
    std::erase_if(result, [&](DomainId id) {
        return id == own || !has_pending_over(domains_.at(id), begin, end);
    });
    return result;
}

void Domains::join_pending(DomainId with, DomainId other, Sequence up_to)
{
    const Domain* domain = find(other);
    if (domain != nullptr && !domain->pending.empty() &&
        domain->pending.front().sequence() <= up_to) {
        join(with, other);
    }
}

void Domains::join_over(DomainId with, VolumeId volume, Lba begin, Lba end)
{
    for (const DomainId id : of_volume(volume)) {
        const Domain& domain = domains_[id];
        const bool already = domain.joined != 0 && domain.joined == domains_[with].joined;
        if (id != with && !already && has_pending_over(domain, begin, end)) {
            join(with, id);
        }
    }
}

std::vector<DomainId> Domains::with_joined(std::vector<DomainId> chosen) const
{
    if (chosen.size() == domains_.size()) {
        return chosen;
    }
    std::set<DomainId> taken;
    std::set<std::uint64_t> joined;
    std::set<ConsistencyGroup> groups;
    const auto take = [&](DomainId id, const Domain& domain) {
        taken.insert(id);
        joined.insert(domain.joined);
        groups.insert(group_of(id));
    };
    for (const DomainId id : chosen) {
        take(id, domains_.at(id));
    }
    // One that is taken along may bring its group, and that what its volumes are joined with.
    for (std::size_t before = 0; before != chosen.size();) {
        before = chosen.size();
        for (const auto& [id, domain] : domains_) {
            const ConsistencyGroup group = group_of(id);
            const bool goes_along = (domain.joined != 0 && joined.contains(domain.joined)) ||
                                    (group != ConsistencyGroup() && groups.contains(group));
            if (goes_along && !taken.contains(id)) {
                take(id, domain);
                chosen.push_back(id);
            }
        }
    }
    return chosen;
}

}  // namespace coppice
