// What the checker says: findings with a severity, a kind that tests and tools can compare, the
// place, and one sentence for people.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace coppice {

enum class Severity : std::uint8_t {
    leak,        // space that nothing uses and nothing gives out; no data is at risk
    repairable,  // one copy of two is damaged, as after a crash or a bad sector; nothing is lost
    corruption,  // something is lost, or will be when writing goes on
};

enum class FindingKind : std::uint8_t {
    header,            // the image header is not what it should be
    superblock,        // a copy of a superblock is damaged
    geometry,          // header and superblock disagree, or numbers are impossible
    file_length,       // the host file ends too early
    node,              // a tree node is damaged; what is below it is lost
    mirror,            // one of two copies of a node is damaged
    map_item,          // an item of a map has impossible fields, or overlaps another
    birth,             // an item or node breaks the birth rule between a version and its parent
    catalog,           // volumes, versions and lists do not fit together
    range_operation,   // an unfinished operation names what does not exist
    dead_record,       // dead lists are not "what the parent has and the version has no more"
    held_blocks,       // a version's count of range references is wrong
    mapped_blocks,     // a version's count of mapped blocks is wrong
    reference_count,   // the references tree is not what the maps add up to
    double_use,        // one block has two users that do not know of each other
    used_but_free,     // the free-space tree gives out a block that is in use
    leaked,            // neither used nor free
    free_space,        // the free-space tree contradicts itself
    space_counts,      // the superblock's counts are not what is there
    checksum_missing,  // a mapped block has no checksum
    data,              // a data block does not have its checksum
    journal,           // a journal block that was synced is gone, or names a lost superblock
    journal_record,    // an operation of the journal has impossible fields
    replay,            // an operation uses space that something else uses
};

std::string_view severity_name(Severity severity);
std::string_view finding_name(FindingKind kind);

struct Finding {
    Severity severity = Severity::corruption;
    FindingKind kind = FindingKind::header;
    std::string text;         // one sentence that names the place and what is lost
    std::string tree = {};    // "" when it is about no tree
    std::uint64_t block = 0;  // of the image; `blocks` from here; 0 blocks: no place
    std::uint64_t blocks = 0;
    std::string volume = {};  // "" when no volume is touched
    std::uint64_t lba = 0;    // `lba_blocks` blocks of 4 KiB of the volume from here
    std::uint64_t lba_blocks = 0;
};

}  // namespace coppice
