// Every struct of layout.h, field by field, as JSON. A struct whose fields here do not tile it from
// the first byte to the last does not compile: a new field breaks the build until `dump` shows it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "format/layout/layout.h"

namespace coppice::images {

using Json = nlohmann::ordered_json;

// The fields by their names in layout.h, in their order. Reserved ones are left out while they are
// zero. Specialised for each struct; there is no general case.
template <typename Struct>
Json fields_of(const std::byte* from);

template <>
Json fields_of<layout::ImageHeader>(const std::byte* from);
template <>
Json fields_of<layout::NodePointer>(const std::byte* from);
template <>
Json fields_of<layout::Superblock>(const std::byte* from);
template <>
Json fields_of<layout::NodeHeader>(const std::byte* from);
template <>
Json fields_of<layout::MapItem>(const std::byte* from);
template <>
Json fields_of<layout::ChecksumItem>(const std::byte* from);
template <>
Json fields_of<layout::ReferenceItem>(const std::byte* from);
template <>
Json fields_of<layout::DeadItem>(const std::byte* from);
template <>
Json fields_of<layout::FreeItem>(const std::byte* from);
template <>
Json fields_of<layout::GroupInfo>(const std::byte* from);
template <>
Json fields_of<layout::FreeExtent>(const std::byte* from);
template <>
Json fields_of<layout::FreeBitmap>(const std::byte* from);
template <>
Json fields_of<layout::CatalogItem>(const std::byte* from);
template <>
Json fields_of<layout::VolumeRecord>(const std::byte* from);
template <>
Json fields_of<layout::VersionRecord>(const std::byte* from);
template <>
Json fields_of<layout::ListRecord>(const std::byte* from);
template <>
Json fields_of<layout::RangeOperationItem>(const std::byte* from);
template <>
Json fields_of<layout::JournalBlockHeader>(const std::byte* from);
template <>
Json fields_of<layout::CommitHeader>(const std::byte* from);
template <>
Json fields_of<layout::OperationRecord>(const std::byte* from);

template <typename Struct>
Json fields_of(const Struct& value)
{
    return fields_of<Struct>(reinterpret_cast<const std::byte*>(&value));
}

// Items whose meaning depends on another field: with the value taken apart.
Json catalog_item_fields(const layout::CatalogItem& item);
Json free_item_fields(const layout::FreeItem& item);

// One item of a leaf of this tree.
Json item_fields(layout::TreeKind kind, const std::byte* item);

std::string tree_kind_name(std::uint8_t kind);

}  // namespace coppice::images
