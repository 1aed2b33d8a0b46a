#include "images/journal_facts.h"

#include <algorithm>
#include <fmt/format.h>
#include <set>

#include "format/check/journal_data.h"
#include "images/text.h"

namespace coppice::images {

namespace {

using layout::OperationType;

std::uint64_t number(const Json& facts, const char* name)
{
    return facts.at(name).get<std::uint64_t>();
}

std::string words(const Json& facts, const char* name)
{
    std::string text = facts.at(name).get<std::string>();
    std::replace(text.begin(), text.end(), '_', ' ');
    return text;
}

// "5", or "5 to 7".
std::string span_text(std::uint64_t first, std::uint64_t length)
{
    return length == 1 ? std::to_string(first) : fmt::format("{} to {}", first, first + length - 1);
}

std::string domain_text(const Json& domain)
{
    return number(domain, "stream") == 0
               ? fmt::format("volume {}", number(domain, "volume"))
               : fmt::format("volume {} stream {}", number(domain, "volume"),
                             number(domain, "stream"));
}

// ---- Facts of one operation ---------------------------------------------------------------

void add_range(const layout::OperationRecord& record, Json& facts)
{
    facts["lba"] = record.lba.get();
    facts["length"] = record.length.get();
    facts["lba_bytes"] = kBlockBytes;  // whatever LBA size guests see
}

void add_source_range(const layout::OperationRecord& record, Json& facts)
{
    facts["source"] = {{"volume", record.source_volume.get()}, {"lba", record.source_lba.get()}};
}

void add_data(const checker::JournalOperation& operation, bool checksums, Json& facts)
{
    const layout::OperationRecord& record = operation.record;
    facts["data"] = {{"block", record.block.get()},
                     {"in_commit", (record.flags & layout::kOperationHasData) != 0}};
    for (std::uint64_t i = 0; checksums && i < record.length; ++i) {
        facts["checksums"].push_back(fmt::format("{:08x}", expected_checksum(operation, i)));
    }
}

// The fields that mean something for the type (FORMAT.md, section 5).
void add_by_type(const checker::JournalOperation& operation, bool checksums, Json& facts)
{
    const layout::OperationRecord& record = operation.record;
    switch (static_cast<OperationType>(record.type)) {
    case OperationType::write:
        add_range(record, facts);
        add_data(operation, checksums, facts);
        break;
    case OperationType::deallocate:
    case OperationType::write_zeroes:
    case OperationType::write_unwritable: add_range(record, facts); break;
    case OperationType::clone:
        add_range(record, facts);
        add_source_range(record, facts);
        break;
    case OperationType::clone_reference:
        add_range(record, facts);
        add_source_range(record, facts);
        facts["held_version"] = record.block.get();
        break;
    case OperationType::snapshot: facts["snapshot"] = record.block.get(); break;
    case OperationType::create_volume:
        if (record.source_volume != 0) {
            facts["snapshot"] = record.source_volume.get();
        }
        break;
    case OperationType::remove_volume: break;
    case OperationType::rollback: facts["snapshot"] = record.source_volume.get(); break;
    case OperationType::change_volume:
        if (record.length != 0) {
            add_range(record, facts);  // what is cut off
        }
        break;
    }
}

// ---- Sentences ----------------------------------------------------------------------------

std::string range_text(const Json& facts)
{
    return fmt::format(" lba {} ({} x {} bytes)",
                       span_text(number(facts, "lba"), number(facts, "length")),
                       number(facts, "length"), number(facts, "lba_bytes"));
}

std::string record_text(const Json& record)
{
    std::string text = fmt::format(
        ": '{}', {}, LBA {} bytes, flush {}", printable(record.at("name").get<std::string>()),
        size_text(number(record, "size_bytes")), std::uint64_t{1} << number(record, "lba_shift"),
        record.at("flush_mode").get<std::string>());
    if (const std::string flags = words(record, "flags"); !flags.empty()) {
        text += ", " + flags;
    }
    if (number(record, "consistency_group") != 0) {
        text += fmt::format(", consistency group {}", number(record, "consistency_group"));
    }
    return text;
}

// To, of or at which snapshot.
std::string snapshot_text(const Json& facts)
{
    const std::string type = facts.at("type");
    const char* what = type == "rollback"   ? "to snapshot"
                       : type == "snapshot" ? "with the number"
                                            : "from snapshot";
    return fmt::format(" {} {}", what, number(facts, "snapshot"));
}

}  // namespace

std::vector<CommandPart> command_parts(const checker::Commit& commit)
{
    const auto& operations = commit.operations;
    std::vector<CommandPart> parts(operations.size());
    for (std::size_t begin = 0; begin < operations.size();) {
        std::size_t end = begin + 1;
        while (end < operations.size() &&
               (operations[end - 1].record.flags & layout::kOperationContinues) != 0) {
            ++end;
        }
        for (std::size_t i = begin; i < end; ++i) {
            parts[i] = {i - begin + 1, end - begin};
        }
        begin = end;
    }
    return parts;
}

Json operation_facts(const checker::JournalOperation& operation, const OperationFacts& more)
{
    const layout::OperationRecord& record = operation.record;
    Json facts = {{"sequence", record.sequence.get()},
                  {"type", checker::operation_type_name(record.type)},
                  {"volume", record.volume.get()},
                  {"stream", record.stream.get()}};
    add_by_type(operation, more.checksums, facts);
    facts["placement"] = record.placement.get();
    facts["intent"] = (record.flags & layout::kOperationIntent) != 0;
    facts["command"] = {{"part", more.part.number}, {"of", more.part.of}};
    facts["in_trees"] = more.in_trees;
    if (operation.payload.size() == sizeof(layout::VolumeRecord) &&
        record.type != static_cast<std::uint8_t>(OperationType::write)) {
        facts["record"] = fields_of<layout::VolumeRecord>(operation.payload.data());
    }
    facts["fields"] = fields_of(record);  // as they are, whatever the type
    return facts;
}

std::string operation_text(const Json& facts)
{
    std::string text = fmt::format("{}  {}: {}", number(facts, "sequence"), domain_text(facts),
                                   words(facts, "type"));
    if (facts.contains("snapshot")) {
        text += snapshot_text(facts);
    }
    if (facts.contains("record")) {
        text += record_text(facts["record"]);
    }
    const bool cuts = facts["type"] == "change_volume" && facts.contains("lba");
    if (facts.contains("lba")) {
        text += (cuts ? ", cuts off" : "") + range_text(facts);
    }
    if (facts.contains("data")) {
        const Json& data = facts["data"];
        text += fmt::format(", data {} block {}",
                            data["in_commit"] == true ? "journaled in this commit, for" : "at",
                            span_text(number(data, "block"), number(facts, "length")));
    }
    if (facts.contains("source")) {
        const Json& source = facts["source"];
        text += fmt::format(", from volume {} lba {}, which goes along", number(source, "volume"),
                            span_text(number(source, "lba"), number(facts, "length")));
    }
    if (facts.contains("held_version")) {
        text += fmt::format(", held as version {}", number(facts, "held_version"));
    }
    if (number(facts, "placement") != 0) {
        text += fmt::format(", placement handle {}", number(facts, "placement"));
    }
    if (facts["intent"] == true) {
        text += ", an intent";
    }
    if (number(facts["command"], "of") > 1) {
        text += fmt::format(", part {} of {} of one command", number(facts["command"], "part"),
                            number(facts["command"], "of"));
    }
    if (facts["in_trees"] == true) {
        text += ", in the trees already";
    }
    if (facts.contains("checksums")) {
        text += ", checksums";
        for (const Json& checksum : facts["checksums"]) {
            text += " " + checksum.get<std::string>();
        }
    }
    return text;
}

// ---- Commits ------------------------------------------------------------------------------

Json commit_facts(const checker::CommitPlace& place, const checker::Commit& commit,
                  std::uint64_t journal_start, const CommitFacts& more)
{
    std::set<std::pair<std::uint32_t, std::uint16_t>> ids;
    for (const checker::JournalOperation& operation : commit.operations) {
        ids.emplace(operation.record.volume, operation.record.stream);
    }
    Json domains = Json::array();
    for (const auto& [volume, stream] : ids) {
        domains.push_back({{"volume", volume}, {"stream", stream}});
    }
    Json facts = {{"commit", place.commit},        {"block", journal_start + place.position},
                  {"blocks", place.blocks},        {"generation", place.generation},
                  {"synced", place.synced},        {"problem", more.problem},
                  {"covered_by_sync", more.synced}};
    facts["data_verify"] = more.synced || !more.problem.empty() ? Json() : Json(more.verified);
    facts["replayed"] = !more.void_before && more.problem.empty() && (more.synced || more.verified);
    facts["domains"] = std::move(domains);
    facts["header"] = fields_of(commit.header);
    return facts;
}

std::string commit_text(const Json& facts)
{
    std::string text =
        fmt::format("commit {}: {} at block {} of the image, written behind generation {}; ",
                    number(facts, "commit"), plural(number(facts, "blocks"), "journal block"),
                    number(facts, "block"), number(facts, "generation"));
    const std::string problem = facts["problem"];
    if (!problem.empty()) {
        return text + "NOT VALID: " + problem;
    }
    const Json& header = facts["header"];
    const std::uint64_t operations = number(header, "operations");
    text += plural(operations, "operation");
    if (operations != 0) {
        text += fmt::format(" of sequence {} to {}", number(header, "first_sequence"),
                            number(header, "last_sequence"));
    }
    const char* separator = " in ";
    for (const Json& domain : facts["domains"]) {
        text += separator + domain_text(domain);
        separator = " and ";
    }
    if (const std::string flags = words(header, "flags"); !flags.empty()) {
        text += "; " + flags;
    }
    text += facts["covered_by_sync"] == true ? "; durable: a sync covers it"
            : facts["data_verify"] == true
                ? "; no sync is known to cover it, and its data verify"
                : "; no sync is known to cover it, and its data do not verify";
    if (facts["replayed"] == false) {
        text += "; VOID, recovery does not take it";
    }
    return text;
}

}  // namespace coppice::images
