#include "images/struct_fields.h"

#include <array>
#include <cstddef>
#include <cstring>
#include <fmt/format.h>
#include <span>

#include "format/check/journal_scan.h"

namespace coppice::images {

namespace {

// How the bytes of a field are shown.
enum class Style {
    number,
    hex,
    hex_bytes,
    text,
    uuid,
    reserved,
    pointer,
    hex_list,
    node_kind,
    map_kind,
    dead_kind,
    catalog_kind,
    free_key,
    range_kind,
    operation_type,
    operation_flags,
    commit_flags,
    volume_flags,
    version_flags,
    group_flags,
    flush_mode,
    value,  // shown by whoever knows which struct it is
};

struct Field {
    std::string_view name;
    std::size_t offset;
    std::size_t size;
    Style style;
};

std::uint64_t number_at(const std::byte* from, std::size_t size)
{
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size && i < 8; ++i) {
        value |= std::to_integer<std::uint64_t>(from[i]) << (8 * i);
    }
    return value;
}

std::string hex_text(std::span<const std::byte> bytes)
{
    std::string text;
    for (const std::byte byte : bytes) {
        text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
    }
    return text;
}

std::string uuid_text(std::span<const std::byte> bytes)
{
    std::string text = hex_text(bytes);
    for (const std::size_t at : {20U, 16U, 12U, 8U}) {
        text.insert(at, "-");
    }
    return text;
}

// The name of value `number`, counted from 1.
template <std::size_t kCount>
std::string name_of(std::uint64_t number, const std::array<std::string_view, kCount>& names)
{
    return number >= 1 && number <= kCount ? std::string(names[number - 1])
                                           : fmt::format("unknown ({})", number);
}

constexpr std::array<std::string_view, 7> kTreeKinds = {
    "map", "catalog", "checksums", "references", "dead", "free_space", "range_operations"};
constexpr std::array<std::string_view, 4> kMapKinds = {"data", "zero", "unwritable",
                                                       "range_reference"};
constexpr std::array<std::string_view, 3> kDeadKinds = {"data", "node", "range_reference"};
constexpr std::array<std::string_view, 3> kCatalogKinds = {"volume", "version", "list"};
constexpr std::array<std::string_view, 3> kRangeKinds = {"remove_version", "deallocate",
                                                         "resolve_clone"};
constexpr std::array<std::string_view, 3> kOperationFlags = {"continues", "intent", "has_data"};
constexpr std::array<std::string_view, 1> kCommitFlags = {"closes_recovery"};
constexpr std::array<std::string_view, 4> kVolumeFlags = {"snapshot", "read_only", "guest_made",
                                                          "has_vm_state"};
constexpr std::array<std::string_view, 3> kVersionFlags = {"head", "held", "removed"};
constexpr std::array<std::string_view, 2> kGroupFlags = {"metadata", "bitmaps"};

static_assert(layout::kOperationContinues == 1 && layout::kOperationIntent == 2 &&
              layout::kOperationHasData == 4);
static_assert(layout::kVolumeSnapshot == 1 && layout::kVolumeHasVmState == 8);
static_assert(layout::kVersionHead == 1 && layout::kVersionRemoved == 4);
static_assert(layout::kGroupHoldsMetadata == 1 && layout::kGroupUsesBitmaps == 2);

// Bit i has name i; bits without a name are shown as a number.
template <std::size_t kCount>
std::string flags_of(std::uint64_t bits, const std::array<std::string_view, kCount>& names)
{
    std::string text;
    for (std::size_t i = 0; i < kCount; ++i) {
        if ((bits >> i & 1U) != 0) {
            text += (text.empty() ? "" : ", ") + std::string(names[i]);
        }
    }
    if (const std::uint64_t rest = bits >> kCount << kCount; rest != 0) {
        text += fmt::format("{}unknown {:#x}", text.empty() ? "" : ", ", rest);
    }
    return text;
}

Json hex_list(const std::byte* from, std::size_t size)
{
    Json list = Json::array();
    const std::size_t element = size % 16 == 0 && size <= 16 ? 8 : 4;
    for (std::size_t at = 0; at < size; at += element) {
        list.push_back(fmt::format("{:0{}x}", number_at(from + at, element), 2 * element));
    }
    return list;
}

Json show(const Field& field, const std::byte* from)
{
    const std::uint64_t number = number_at(from, field.size);
    switch (field.style) {
    case Style::number: return number;
    case Style::hex: return fmt::format("{:#x}", number);
    case Style::reserved:
    case Style::value:
    case Style::hex_bytes: return hex_text({from, field.size});
    case Style::text: {
        const auto* text = reinterpret_cast<const char*>(from);
        return std::string(text, strnlen(text, field.size));
    }
    case Style::uuid: return uuid_text({from, field.size});
    case Style::pointer: return fields_of<layout::NodePointer>(from);
    case Style::hex_list: return hex_list(from, field.size);
    case Style::node_kind: return name_of(number, kTreeKinds);
    case Style::map_kind: return name_of(number, kMapKinds);
    case Style::dead_kind: return name_of(number, kDeadKinds);
    case Style::catalog_kind: return name_of(number, kCatalogKinds);
    case Style::free_key: return number;
    case Style::range_kind: return name_of(number, kRangeKinds);
    case Style::operation_type:
        return checker::operation_type_name(static_cast<std::uint8_t>(number));
    case Style::operation_flags: return flags_of(number, kOperationFlags);
    case Style::commit_flags: return flags_of(number, kCommitFlags);
    case Style::volume_flags: return flags_of(number, kVolumeFlags);
    case Style::version_flags: return flags_of(number, kVersionFlags);
    case Style::group_flags: return flags_of(number, kGroupFlags);
    case Style::flush_mode: return number == 0 ? "durable" : number == 1 ? "ordered" : "unknown";
    }
    return nullptr;
}

bool all_zero(const Field& field, const std::byte* from)
{
    for (std::size_t i = 0; i < field.size; ++i) {
        if (from[i] != std::byte{0}) {
            return false;
        }
    }
    return true;
}

Json show_all(std::span<const Field> fields, const std::byte* from)
{
    Json json = Json::object();
    for (const Field& field : fields) {
        const std::byte* bytes = from + field.offset;
        if (field.style == Style::value ||
            (field.style == Style::reserved && all_zero(field, bytes))) {
            continue;
        }
        json[std::string(field.name)] = show(field, bytes);
    }
    return json;
}

// Does each field begin where the one before it ends, and the last end with the struct?
template <std::size_t kCount>
constexpr bool tile(const std::array<Field, kCount>& fields, std::size_t struct_bytes)
{
    std::size_t at = 0;
    for (const Field& field : fields) {
        if (field.offset != at) {
            return false;
        }
        at += field.size;
    }
    return at == struct_bytes;
}

}  // namespace

#define COPPICE_FIELD(Struct, member, style)                                                    \
    Field                                                                                       \
    {                                                                                           \
#member, offsetof(layout::Struct, member), sizeof(layout::Struct::member), Style::style \
    }

// The table of a struct, and its function. The arguments are fields in their order.
#define COPPICE_STRUCT(Struct, ...)                                \
    namespace {                                                    \
    constexpr std::array k##Struct##Fields = {__VA_ARGS__};        \
    static_assert(tile(k##Struct##Fields, sizeof(layout::Struct)), \
                  #Struct " has a field that dump does not show"); \
    }                                                              \
    template <>                                                    \
    Json fields_of<layout::Struct>(const std::byte* from)          \
    {                                                              \
        return show_all(k##Struct##Fields, from);                  \
    }

// clang-format off
#define F(member, style) COPPICE_FIELD(ImageHeader, member, style)
COPPICE_STRUCT(ImageHeader,
    F(magic, text), F(checksum, hex), F(uuid, uuid), F(major_version, number),
    F(minor_version, number), F(oldest_minor_writer, number), F(block_shift, number),
    F(incompatible, hex), F(read_only_compatible, hex), F(compatible, hex),
    F(journal_start, number), F(journal_blocks, number), F(superblock_near, number),
    F(superblock_far, number), F(fixed_blocks, number), F(group_blocks, number),
    F(reserved0, reserved), F(created_unix_ns, number), F(reserved, reserved))
#undef F
#define F(member, style) COPPICE_FIELD(NodePointer, member, style)
COPPICE_STRUCT(NodePointer,
    F(block, number), F(mirror, number), F(birth, number), F(checksum, hex))
#undef F
#define F(member, style) COPPICE_FIELD(Superblock, member, style)
COPPICE_STRUCT(Superblock,
    F(checksum, hex), F(magic, hex), F(major_version, number), F(minor_version, number),
    F(generation, number), F(sequence, number), F(uuid, uuid), F(incompatible, hex),
    F(read_only_compatible, hex), F(compatible, hex), F(journal_start, number),
    F(journal_blocks, number), F(superblock_near, number), F(superblock_far, number),
    F(fixed_blocks, number), F(image_blocks, number), F(free_blocks, number),
    F(data_blocks, number), F(node_blocks, number), F(journal_commit, number),
    F(journal_position, number), F(journal_chain, hex), F(journal_synced, number),
    F(next_version, number), F(next_volume, number), F(next_list, number),
    F(next_operation, number), F(catalog, pointer), F(checksums, pointer),
    F(references, pointer), F(dead, pointer), F(free_space, pointer),
    F(range_operations, pointer), F(written_unix_ns, number), F(base_uuid, uuid),
    F(base_snapshot, number), F(reserved, reserved))
#undef F
#define F(member, style) COPPICE_FIELD(NodeHeader, member, style)
COPPICE_STRUCT(NodeHeader,
    F(checksum, hex), F(magic, hex), F(kind, node_kind), F(level, number), F(count, number),
    F(block, number), F(birth, number), F(generation, number), F(owner, number),
    F(reserved, reserved))
#undef F
#define F(member, style) COPPICE_FIELD(MapItem, member, style)
COPPICE_STRUCT(MapItem,
    F(lba, number), F(block, number), F(kind, map_kind), F(flags, number), F(birth, number),
    F(length, number), F(detail, number))
#undef F
#define F(member, style) COPPICE_FIELD(ChecksumItem, member, style)
COPPICE_STRUCT(ChecksumItem,
    F(chunk, number), F(present, hex), F(values, hex_list))
#undef F
#define F(member, style) COPPICE_FIELD(ReferenceItem, member, style)
COPPICE_STRUCT(ReferenceItem,
    F(block, number), F(length, number), F(extra, number))
#undef F
#define F(member, style) COPPICE_FIELD(DeadItem, member, style)
COPPICE_STRUCT(DeadItem,
    F(list, number), F(birth, number), F(block, number), F(copy, number), F(length, number),
    F(count, number), F(kind, dead_kind), F(flags, number))
#undef F
#define F(member, style) COPPICE_FIELD(FreeItem, member, style)
COPPICE_STRUCT(FreeItem,
    F(key, free_key), F(value, value))
#undef F
#define F(member, style) COPPICE_FIELD(GroupInfo, member, style)
COPPICE_STRUCT(GroupInfo,
    F(free_blocks, number), F(items, number), F(flags, group_flags), F(reserved, reserved),
    F(allocated_blocks, number))
#undef F
#define F(member, style) COPPICE_FIELD(FreeExtent, member, style)
COPPICE_STRUCT(FreeExtent,
    F(length, number), F(reserved, reserved))
#undef F
#define F(member, style) COPPICE_FIELD(FreeBitmap, member, style)
COPPICE_STRUCT(FreeBitmap,
    F(bits, hex_list))
#undef F
#define F(member, style) COPPICE_FIELD(CatalogItem, member, style)
COPPICE_STRUCT(CatalogItem,
    F(kind, catalog_kind), F(id, number), F(value, value))
#undef F
#define F(member, style) COPPICE_FIELD(VolumeRecord, member, style)
COPPICE_STRUCT(VolumeRecord,
    F(version, number), F(parent_volume, number), F(flags, volume_flags), F(lba_shift, number),
    F(flush_mode, flush_mode), F(reserved0, reserved), F(consistency_group, number),
    F(size_bytes, number), F(created_unix_ns, number), F(created_sequence, number),
    F(nguid, hex_bytes), F(eui64, hex_bytes), F(vm_state_bytes, number), F(vm_clock_ns, number),
    F(icount, number), F(name, text), F(reserved, reserved))
#undef F
#define F(member, style) COPPICE_FIELD(VersionRecord, member, style)
COPPICE_STRUCT(VersionRecord,
    F(parent, number), F(volume, number), F(sequence, number), F(first_list, number),
    F(held_blocks, number), F(flags, version_flags), F(reference_depth, number),
    F(reserved0, reserved), F(map, pointer), F(mapped_blocks, number), F(reserved, reserved))
#undef F
#define F(member, style) COPPICE_FIELD(ListRecord, member, style)
COPPICE_STRUCT(ListRecord,
    F(next, number), F(version, number), F(reserved, reserved))
#undef F
#define F(member, style) COPPICE_FIELD(RangeOperationItem, member, style)
COPPICE_STRUCT(RangeOperationItem,
    F(id, number), F(kind, range_kind), F(reserved0, reserved), F(version, number),
    F(lba, number), F(length, number), F(birth, number), F(cursor, number),
    F(reserved, reserved))
#undef F
#define F(member, style) COPPICE_FIELD(JournalBlockHeader, member, style)
COPPICE_STRUCT(JournalBlockHeader,
    F(checksum, hex), F(magic, hex), F(index, number), F(count, number), F(reserved, reserved),
    F(commit, number), F(generation, number), F(previous, hex), F(synced, number),
    F(reserved1, reserved))
#undef F
#define F(member, style) COPPICE_FIELD(CommitHeader, member, style)
COPPICE_STRUCT(CommitHeader,
    F(operations, number), F(payload_bytes, number), F(first_sequence, number),
    F(last_sequence, number), F(flags, commit_flags), F(reserved0, reserved), F(domains, hex),
    F(reserved, reserved))
#undef F
#define F(member, style) COPPICE_FIELD(OperationRecord, member, style)
COPPICE_STRUCT(OperationRecord,
    F(type, operation_type), F(flags, operation_flags), F(placement, number), F(volume, number),
    F(sequence, number), F(lba, number), F(length, number), F(checksum, hex), F(block, number),
    F(source_lba, number), F(source_volume, number), F(payload_offset, number),
    F(payload_bytes, number), F(stream, number), F(reserved, reserved))
#undef F
// clang-format on

std::string tree_kind_name(std::uint8_t kind) { return name_of(kind, kTreeKinds); }

Json catalog_item_fields(const layout::CatalogItem& item)
{
    Json json = fields_of(item);
    const auto* value = reinterpret_cast<const std::byte*>(item.value.data());
    Json record;
    switch (item.kind.get()) {
    case static_cast<std::uint64_t>(layout::CatalogKind::volume):
        record = fields_of<layout::VolumeRecord>(value);
        break;
    case static_cast<std::uint64_t>(layout::CatalogKind::version):
        record = fields_of<layout::VersionRecord>(value);
        break;
    case static_cast<std::uint64_t>(layout::CatalogKind::list):
        record = fields_of<layout::ListRecord>(value);
        break;
    default: record["value"] = hex_text({value, item.value.size()});
    }
    json.update(record);
    return json;
}

Json free_item_fields(const layout::FreeItem& item)
{
    constexpr std::array<std::string_view, 4> kKinds = {"group", "extent", "bitmap", "unknown"};
    const auto* value = reinterpret_cast<const std::byte*>(item.value.data());
    const std::uint64_t kind = item.key % 4;
    Json json = fields_of(item);
    json["block"] = item.key / 4;
    json["kind"] = kKinds[kind];
    switch (kind) {
    case static_cast<std::uint64_t>(layout::FreeKind::group):
        json.update(fields_of<layout::GroupInfo>(value));
        break;
    case static_cast<std::uint64_t>(layout::FreeKind::extent):
        json.update(fields_of<layout::FreeExtent>(value));
        break;
    case static_cast<std::uint64_t>(layout::FreeKind::bitmap):
        json.update(fields_of<layout::FreeBitmap>(value));
        break;
    default: json["value"] = hex_text({value, item.value.size()});
    }
    return json;
}

namespace {

template <typename Struct>
Struct copied(const std::byte* from)
{
    Struct value;
    std::memcpy(static_cast<void*>(&value), from, sizeof(value));
    return value;
}

}  // namespace

Json item_fields(layout::TreeKind kind, const std::byte* item)
{
    switch (kind) {
    case layout::TreeKind::map: return fields_of<layout::MapItem>(item);
    case layout::TreeKind::catalog: return catalog_item_fields(copied<layout::CatalogItem>(item));
    case layout::TreeKind::checksums: return fields_of<layout::ChecksumItem>(item);
    case layout::TreeKind::references: return fields_of<layout::ReferenceItem>(item);
    case layout::TreeKind::dead: return fields_of<layout::DeadItem>(item);
    case layout::TreeKind::free_space: return free_item_fields(copied<layout::FreeItem>(item));
    case layout::TreeKind::range_operations: return fields_of<layout::RangeOperationItem>(item);
    }
    return nullptr;
}

}  // namespace coppice::images
