// coppice dump journal
#include <fmt/format.h>

#include "format/base/checksum.h"
#include "format/check/journal_data.h"
#include "images/dump.h"
#include "images/journal_facts.h"
#include "images/text.h"

namespace coppice::images {

namespace {

using checker::copy_out;

// The commits that recovery would look at, and where they end.
struct Replayed {
    Json commits = Json::array();
    checker::JournalEnd end;
};

void show(const Json& commit, const std::string& text)
{
    fmt::print("{}\n", text);
    for (const Json& operation : commit["operations"]) {
        fmt::print("  - {}\n", operation_text(operation));
    }
}

Replayed read_commits(checker::Image& image, checker::JournalScan& scan, const DumpCommand& command)
{
    const std::uint64_t start = image.superblock().journal_start;
    Replayed result;
    result.end = scan.end();
    bool ended = false;
    checker::Commit commit;
    for (const checker::CommitPlace& place : scan.commits()) {
        CommitFacts more;
        more.problem = scan.decode(place, commit);
        more.synced = place.commit <= scan.newest_synced();
        more.verified = more.problem.empty() && !more.synced && data_verify(image, commit);
        more.void_before = ended;
        Json facts = commit_facts(place, commit, start, more);
        if (!ended && facts["replayed"] == false) {
            ended = true;
            const bool bad = !more.problem.empty();
            result.end = {place.commit, start + place.position, bad ? "bad-record" : "not-verified",
                          bad ? "it has impossible fields"
                              : "no sync is known to cover it, and its data do not have their "
                                "checksums"};
        }
        facts["operations"] = Json::array();
        const std::vector<CommandPart> parts = command_parts(commit);
        for (std::size_t i = 0; i < commit.operations.size(); ++i) {
            const checker::JournalOperation& operation = commit.operations[i];
            facts["operations"].push_back(
                operation_facts(operation, {parts[i], operation.record.sequence <= image.sequence(),
                                            command.checksums}));
        }
        if (!command.json) {
            show(facts, commit_text(facts));
        }
        result.commits.push_back(std::move(facts));
    }
    return result;
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

Json journal_json(const layout::Superblock& superblock, const checker::JournalScan& scan,
                  const Replayed& replayed, bool damaged)
{
    const checker::JournalEnd& end = replayed.end;
    return {{"start_block", superblock.journal_start.get()},
            {"blocks", superblock.journal_blocks.get()},
            {"first_commit", superblock.journal_commit.get()},
            {"position", superblock.journal_position.get()},
            {"synced", scan.newest_synced()},
            {"lba_bytes", kBlockBytes},
            {"damaged", damaged},
            {"commits", replayed.commits},
            {"end",
             {{"commit", end.commit}, {"block", end.block}, {"row", end.row}, {"why", end.why}}}};
}

void print_head(const layout::Superblock& superblock, const checker::JournalScan& scan)
{
    const std::uint64_t start = superblock.journal_start;
    fmt::print("ring of {} from block {}; replay starts at block {} with commit {}; synced up to "
               "commit {}; an lba is one of {} bytes\n",
               plural(superblock.journal_blocks, "block"), start,
               start + superblock.journal_position, superblock.journal_commit.get(),
               scan.newest_synced(), kBlockBytes);
}

}  // namespace

int run_dump_journal(const DumpCommand& command)
{
    return with_disk(command, true, [&](FileDisk& disk) -> Result<int> {
        DumpedImage dumped(disk);
        COPPICE_TRY(dumped.load());
        checker::Image& image = dumped.image();
        checker::JournalScan scan(image, dumped.findings());
        scan.run();
        const bool lost = dumped.findings().report().corruptions != 0;
        if (!command.json) {
            print_head(image.superblock(), scan);
        }
        const Replayed replayed = read_commits(image, scan, command);
        const checker::JournalEnd& end = replayed.end;
        const bool damaged = lost || end.row == "bad-record";
        if (!command.json) {
            fmt::print("{}replay ends before commit {}, at block {}: {} ({})\n",
                       replayed.commits.empty() ? "nothing to replay; " : "", end.commit, end.block,
                       end.why, end.row);
            fmt::print("{}", lost ? "the ring proves that something durable is missing; `coppice "
                                    "check` says what\n"
                                  : "");
        }
        Json ring = Json::array();
        if (command.all) {
            COPPICE_TRY(print_ring(image, command.json, ring));
        }
        if (command.json) {
            Json json = journal_json(image.superblock(), scan, replayed, damaged);
            if (command.all) {
                json["ring"] = std::move(ring);
            }
            print_json(json);
        }
        return damaged ? kExitCorrupt : kExitOk;
    });
}

}  // namespace coppice::images
