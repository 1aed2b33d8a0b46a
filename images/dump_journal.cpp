// coppice dump journal
#include <fmt/format.h>

#include "format/base/checksum.h"
#include "format/check/journal_scan.h"
#include "images/dump.h"
#include "images/text.h"

namespace coppice::images {

namespace {

using checker::copy_out;

Json operation_json(const checker::JournalOperation& operation, std::uint64_t contained)
{
    Json json = fields_of(operation.record);
    json["in_trees"] = operation.record.sequence <= contained;
    if (operation.payload.size() == sizeof(layout::VolumeRecord)) {
        json["record"] = fields_of<layout::VolumeRecord>(operation.payload.data());
    }
    return json;
}

void print_commit(const checker::CommitPlace& place, const checker::Commit& commit,
                  const std::string& wrong, std::uint64_t start, std::uint64_t contained)
{
    fmt::print("commit {} (block {}, {}): generation {}, synced {}{}\n", place.commit,
               start + place.position, plural(place.blocks, "block"), place.generation,
               place.synced, wrong.empty() ? "" : ", NOT VALID: " + wrong);
    if (wrong.empty()) {
        fmt::print("  {}\n", line_text(fields_of(commit.header)));
    }
    for (const checker::JournalOperation& operation : commit.operations) {
        Json json = operation_json(operation, contained);
        const bool known = json["in_trees"];
        json.erase("in_trees");
        fmt::print("  - {}{}\n", line_text(json), known ? " (already in the trees)" : "");
    }
}

// All blocks that are valid by themselves, also those that recovery does not look at.
Status print_ring(checker::Image& image, bool as_json, Json& list)
{
    const std::uint64_t start = image.superblock().journal_start;
    auto block = std::make_unique<checker::Block>();
    for (std::uint64_t i = 0; i < image.superblock().journal_blocks; ++i) {
        COPPICE_TRY(image.read_block(start + i, *block));
        const auto header = copy_out<layout::JournalBlockHeader>(block->bytes.data());
        if (header.magic != layout::kJournalMagic) {
            continue;
        }
        const bool valid = header.checksum == metadata_checksum(block->bytes, image.seed());
        Json json = fields_of(header);
        json["place"] = start + i;
        json["valid"] = valid;
        if (as_json) {
            list.push_back(std::move(json));
        } else {
            fmt::print("block {}: commit {}, {} of {}, generation {}, synced {}{}\n", start + i,
                       header.commit.get(), header.index.get(), header.count.get(),
                       header.generation.get(), header.synced.get(),
                       valid ? "" : ", NOT VALID: its checksum is wrong");
        }
    }
    return {};
}

}  // namespace

int run_dump_journal(const DumpCommand& command)
{
    return with_disk(command, true, [&](FileDisk& disk) -> Result<int> {
        DumpedImage dumped(disk);
        COPPICE_TRY(dumped.load());
        checker::Image& image = dumped.image();
        const layout::Superblock& superblock = image.superblock();
        const std::uint64_t start = superblock.journal_start;
        checker::JournalScan scan(image, dumped.findings());
        scan.run();
        const bool damaged = dumped.findings().report().corruptions != 0;

        Json commits = Json::array();
        if (!command.json) {
            fmt::print("ring of {} from block {}; replay starts at block {} with commit {}; synced "
                       "up to commit {}\n",
                       plural(superblock.journal_blocks, "block"), start,
                       start + superblock.journal_position, superblock.journal_commit.get(),
                       scan.newest_synced());
        }
        checker::Commit commit;
        for (const checker::CommitPlace& place : scan.commits()) {
            const std::string wrong = scan.decode(place, commit);
            if (!command.json) {
                print_commit(place, commit, wrong, start, image.sequence());
                continue;
            }
            Json operations = Json::array();
            for (const checker::JournalOperation& operation : commit.operations) {
                operations.push_back(operation_json(operation, image.sequence()));
            }
            commits.push_back({{"commit", place.commit},
                               {"block", start + place.position},
                               {"blocks", place.blocks},
                               {"generation", place.generation},
                               {"synced", place.synced},
                               {"problem", wrong},
                               {"header", fields_of(commit.header)},
                               {"operations", operations}});
        }
        Json ring = Json::array();
        if (command.all) {
            COPPICE_TRY(print_ring(image, command.json, ring));
        }
        if (command.json) {
            Json json = {{"start_block", start},
                         {"blocks", superblock.journal_blocks.get()},
                         {"first_commit", superblock.journal_commit.get()},
                         {"position", superblock.journal_position.get()},
                         {"synced", scan.newest_synced()},
                         {"damaged", damaged},
                         {"commits", commits}};
            if (command.all) {
                json["ring"] = std::move(ring);
            }
            print_json(json);
        } else {
            if (scan.commits().empty()) {
                fmt::print("nothing to replay\n");
            }
            if (damaged) {
                fmt::print("the ring proves that something durable is missing; `coppice check` "
                           "says what\n");
            }
        }
        return damaged ? kExitCorrupt : kExitOk;
    });
}

}  // namespace coppice::images
