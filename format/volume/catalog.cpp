#include "format/volume/catalog.h"

#include <algorithm>
#include <fmt/format.h>
#include <set>

namespace coppice {

namespace {

template <typename Record>
Record record_of(const layout::CatalogItem& item)
{
    Record record;
    std::memcpy(static_cast<void*>(&record), item.value.data(), sizeof(record));
    return record;
}

template <typename Record>
Catalog::Item item_of(layout::CatalogKind kind, std::uint64_t id, const Record& record)
{
    static_assert(sizeof(Record) == layout::kCatalogValueBytes);
    Catalog::Item item{Key(static_cast<std::uint64_t>(kind), id), {}};
    item.bytes.kind = static_cast<std::uint64_t>(kind);
    item.bytes.id = id;
    std::memcpy(item.bytes.value.data(), static_cast<const void*>(&record), sizeof(record));
    return item;
}

}  // namespace

std::string Volume::name() const
{
    const auto end = std::find(record.name.begin(), record.name.end(), '\0');
    return {record.name.begin(), end};
}

std::string check_name(const std::string& name)
{
    if (name.empty()) {
        return "a name must not be empty";
    }
    if (name.size() >= layout::kNameBytes) {
        return fmt::format("the name is longer than {} bytes", layout::kNameBytes - 1);
    }
    for (char c : name) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
            return "the name has a control character in it";
        }
    }
    return {};
}

void set_name(layout::VolumeRecord& record, const std::string& name)
{
    record.name.fill('\0');
    std::copy_n(name.begin(), std::min(name.size(), layout::kNameBytes - 1), record.name.begin());
}

Volume* Catalog::volume(VolumeId id)
{
    auto found = volumes.find(id);
    return found == volumes.end() ? nullptr : &found->second;
}

Version* Catalog::version(VersionId id)
{
    auto found = versions.find(id);
    return found == versions.end() ? nullptr : &found->second;
}

const Version* Catalog::version(VersionId id) const
{
    auto found = versions.find(id);
    return found == versions.end() ? nullptr : &found->second;
}

Sequence Catalog::parent_sequence(const Version& version) const
{
    const Version* parent = this->version(version.parent);
    while (parent != nullptr && !removals.empty() && removals.contains(parent->id)) {
        parent = this->version(parent->parent);
    }
    return parent == nullptr ? Sequence() : parent->sequence;
}

std::vector<VersionId> Catalog::children(VersionId id) const
{
    std::vector<VersionId> result;
    for (const auto& [child_id, child] : versions) {
        if (child.parent == id) {
            result.push_back(child_id);
        }
    }
    return result;
}

Version& Catalog::add_version(VersionId parent, VolumeId volume, const NodeRef& map)
{
    Version version;
    version.id = VersionId(next_version++);
    version.parent = parent;
    version.volume = volume;
    version.map = map;
    version.first_list = ListId(next_list++);
    lists[version.first_list] = {ListId(), version.id};
    return versions[version.id] = version;
}

std::vector<Catalog::Item> Catalog::items() const
{
    std::vector<Item> result;
    for (const auto& [id, volume] : volumes) {
        auto record = volume.record;
        record.version = static_cast<std::uint32_t>(volume.version.value);
        result.push_back(item_of(layout::CatalogKind::volume, id.value, record));
    }
    for (const auto& [id, version] : versions) {
        layout::VersionRecord record{};
        record.parent = static_cast<std::uint32_t>(version.parent.value);
        record.volume = static_cast<std::uint32_t>(version.volume.value);
        record.sequence = version.sequence.value;
        record.first_list = version.first_list.value;
        record.held_blocks = version.held_blocks;
        record.flags = static_cast<std::uint8_t>((version.head ? layout::kVersionHead : 0) |
                                                 (version.held ? layout::kVersionHeld : 0) |
                                                 (version.removed ? layout::kVersionRemoved : 0));
        record.reference_depth = static_cast<std::uint8_t>(version.reference_depth);
        record.map = encode(version.map);
        record.mapped_blocks = version.mapped_blocks;
        result.push_back(item_of(layout::CatalogKind::version, id.value, record));
    }
    for (const auto& [id, list] : lists) {
        layout::ListRecord record{};
        record.next = list.next.value;
        record.version = static_cast<std::uint32_t>(list.version.value);
        result.push_back(item_of(layout::CatalogKind::list, id.value, record));
    }
    return result;
}

bool Catalog::possible(const Volume& volume)
{
    const layout::VolumeRecord& record = volume.record;
    return record.size_bytes <= layout::kMaxVolumeBytes && record.size_bytes % 512 == 0 &&
           (record.lba_shift == 9 || record.lba_shift == 12) &&
           record.flush_mode <= static_cast<std::uint8_t>(layout::FlushMode::ordered) &&
           record.consistency_group <= (volume.snapshot() ? 0 : layout::kMaxConsistencyGroup) &&
           check_name(volume.name()).empty();
}

Status Catalog::add_item(const layout::CatalogItem& item)
{
    const std::uint64_t id = item.id;
    if (id == 0 || id > 0xFFFFFFFFULL) {
        return fail(ErrorCode::bad_record, fmt::format("catalog: number {} cannot be", id));
    }
    switch (static_cast<layout::CatalogKind>(item.kind.get())) {
    case layout::CatalogKind::volume: {
        Volume volume{VolumeId(id), {}, record_of<layout::VolumeRecord>(item)};
        volume.version = VersionId(volume.record.version);
        if (!possible(volume)) {
            return fail(ErrorCode::bad_record,
                        fmt::format("catalog: volume {} has an impossible size, name, LBA size, "
                                    "flush mode or consistency group",
                                    id));
        }
        volumes[volume.id] = volume;
        return {};
    }
    case layout::CatalogKind::version: {
        const auto record = record_of<layout::VersionRecord>(item);
        Version version;
        version.id = VersionId(id);
        version.parent = VersionId(record.parent);
        version.volume = VolumeId(record.volume);
        version.sequence = Sequence(record.sequence);
        version.first_list = ListId(record.first_list);
        version.held_blocks = record.held_blocks;
        version.head = (record.flags & layout::kVersionHead) != 0;
        version.held = (record.flags & layout::kVersionHeld) != 0;
        version.removed = (record.flags & layout::kVersionRemoved) != 0;
        version.reference_depth = record.reference_depth;
        version.map = decode(record.map);
        version.mapped_blocks = record.mapped_blocks;
        if (!coppice::possible(version.map)) {
            return fail(ErrorCode::bad_record,
                        fmt::format("catalog: the map of version {} is in no block", id));
        }
        versions[version.id] = version;
        return {};
    }
    case layout::CatalogKind::list: {
        const auto record = record_of<layout::ListRecord>(item);
        lists[ListId(id)] = {ListId(record.next), VersionId(record.version)};
        return {};
    }
    }
    return fail(ErrorCode::bad_record,
                fmt::format("catalog: an item of unknown kind {}", item.kind.get()));
}

Status Catalog::verify() const
{
    const auto beyond = [](const auto& numbers, std::uint64_t next) {
        return !numbers.empty() && numbers.rbegin()->first.value >= next;
    };
    if (beyond(volumes, next_volume) || beyond(versions, next_version) ||
        beyond(lists, next_list)) {
        return fail(ErrorCode::bad_record, "catalog: a number is in use that is to be given out");
    }
    for (const auto& [id, volume] : volumes) {
        const Version* version = this->version(volume.version);
        if (version == nullptr || version->volume != id || version->head == volume.snapshot()) {
            return fail(ErrorCode::bad_record,
                        fmt::format("catalog: volume {} names version {}, which is not its own",
                                    id.value, volume.version.value));
        }
    }
    for (const auto& [id, version] : versions) {
        const Version* parent = this->version(version.parent);
        const bool orphan = version.parent != VersionId() && parent == nullptr;
        const bool order =
            parent != nullptr &&
            (parent->head || (!version.head && parent->sequence >= version.sequence));
        if (orphan || order || lists.count(version.first_list) == 0) {
            return fail(
                ErrorCode::bad_record,
                fmt::format("catalog: version {} has no possible parent or dead list", id.value));
        }
    }
    std::set<ListId> reached;  // each by one chain, once
    for (const auto& [id, version] : versions) {
        for (ListId list = version.first_list; list != ListId(); list = lists.at(list).next) {
            const auto found = lists.find(list);
            if (found == lists.end() || found->second.version != id ||
                !reached.insert(list).second) {
                return fail(ErrorCode::bad_record,
                            fmt::format("catalog: dead list {} of version {} is not its own",
                                        list.value, id.value));
            }
        }
    }
    if (reached.size() != lists.size()) {
        return fail(ErrorCode::bad_record, "catalog: a dead list belongs to no version");
    }
    return {};
}

}  // namespace coppice
