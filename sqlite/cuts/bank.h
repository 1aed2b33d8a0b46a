// The database of the trial, and what is done to it: SQL that does not depend on what the database
// holds, so that the same statements run on the one under trial and on a model in memory.
//
// What always holds: the balances of all accounts sum up to the same, `meta` says how many
// transactions are in, and each transaction that is in has its line in `history`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "format/sim/random.h"
#include "sqlite/database.h"

namespace coppice::sqlite {

struct Step {
    enum class Kind : std::uint8_t {
        change,       // BEGIN, statements, COMMIT
        rolled_back,  // BEGIN, statements, ROLLBACK
        vacuum,       // the whole database anew, with the same contents
    };
    Kind kind = Kind::change;
    std::vector<std::string> statements;
    // One of them fails in its middle, and the others count: for journal_mode=MEMORY only.
    bool fails = false;
    bool durable = true;  // else committed with synchronous=OFF
};

// The first transaction.
Step found_bank();
// `number`: how many transactions are in before it.
Step draw_step(sim::Random& random, std::uint64_t number, bool may_fail);

// How many transactions are in; 0: the bank has not been founded.
std::uint64_t transactions_in(Database& database);
// Every row of every table, and the schema.
std::string contents_of(Database& database);
// What is wrong with the database by itself; "": nothing.
std::string complaint_about(Database& database);

}  // namespace coppice::sqlite
