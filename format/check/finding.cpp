#include "format/check/finding.h"

namespace coppice {

std::string_view severity_name(Severity severity)
{
    switch (severity) {
    case Severity::leak: return "leak";
    case Severity::repairable: return "repairable";
    case Severity::corruption: return "corruption";
    }
    return "unknown";
}

std::string_view finding_name(FindingKind kind)
{
    switch (kind) {
    case FindingKind::header: return "header";
    case FindingKind::superblock: return "superblock";
    case FindingKind::geometry: return "geometry";
    case FindingKind::file_length: return "file_length";
    case FindingKind::node: return "node";
    case FindingKind::mirror: return "mirror";
    case FindingKind::map_item: return "map_item";
    case FindingKind::birth: return "birth";
    case FindingKind::catalog: return "catalog";
    case FindingKind::range_operation: return "range_operation";
    case FindingKind::dead_record: return "dead_record";
    case FindingKind::held_blocks: return "held_blocks";
    case FindingKind::mapped_blocks: return "mapped_blocks";
    case FindingKind::reference_count: return "reference_count";
    case FindingKind::double_use: return "double_use";
    case FindingKind::used_but_free: return "used_but_free";
    case FindingKind::leaked: return "leaked";
    case FindingKind::free_space: return "free_space";
    case FindingKind::space_counts: return "space_counts";
    case FindingKind::checksum_missing: return "checksum_missing";
    case FindingKind::data: return "data";
    case FindingKind::journal: return "journal";
    case FindingKind::journal_record: return "journal_record";
    case FindingKind::replay: return "replay";
    }
    return "unknown";
}

}  // namespace coppice
