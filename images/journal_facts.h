// What the records of the journal say, in words. The facts are JSON, and the sentences are made of
// the facts, so that both say the same.
#pragma once

#include "format/check/journal_scan.h"
#include "images/struct_fields.h"

namespace coppice::images {

// Operations that continue each other are one command (several ranges, a transaction).
struct CommandPart {
    std::size_t number = 1;  // of the operation in its command, from 1
    std::size_t of = 1;
};
std::vector<CommandPart> command_parts(const checker::Commit& commit);

struct OperationFacts {
    CommandPart part;
    bool in_trees = false;   // a superblock has it: recovery does not apply it
    bool checksums = false;  // wanted
};
Json operation_facts(const checker::JournalOperation& operation, const OperationFacts& more);
// One line, without its end.
std::string operation_text(const Json& facts);

// What recovery makes of a commit.
struct CommitFacts {
    std::string problem;       // a field that cannot be
    bool synced = false;       // a completed sync is known to cover it: its data are not read
    bool verified = false;     // otherwise: its data have their checksums
    bool void_before = false;  // replay ended at an earlier one
};
Json commit_facts(const checker::CommitPlace& place, const checker::Commit& commit,
                  std::uint64_t journal_start, const CommitFacts& more);
std::string commit_text(const Json& facts);

}  // namespace coppice::images
