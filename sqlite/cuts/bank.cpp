#include "sqlite/cuts/bank.h"

#include <cstdlib>
#include <fmt/format.h>

namespace coppice::sqlite {

namespace {

constexpr std::uint64_t kAccounts = 160;  // an even number: half gives, half takes
constexpr std::uint64_t kBalance = 1000;

std::string count_up() { return "UPDATE meta SET value = value + 1 WHERE name = 'transactions'"; }

std::string log_line(std::uint64_t number, const std::string& note)
{
    return fmt::format("INSERT INTO history(number, amount, note) VALUES({}, {}, {})", number + 1,
                       number % 17, note);
}

std::string transfer(sim::Random& random)
{
    const std::uint64_t from = random.between(1, kAccounts);
    const std::uint64_t to = from % kAccounts + 1;
    const std::uint64_t amount = random.between(1, 50);
    return fmt::format(
        "UPDATE accounts SET balance = balance + CASE id WHEN {0} THEN -{2} ELSE {2} END "
        "WHERE id IN ({0}, {1})",
        from, to, amount);
}

// All of accounts and its indices.
std::string change_all(sim::Random& random)
{
    return fmt::format("UPDATE accounts SET balance = balance + CASE id % 2 WHEN 0 THEN {0} ELSE "
                       "-{0} END, note = note || '{1}'",
                       random.between(1, 9), static_cast<char>('a' + random.below(26)));
}

std::string write_much(sim::Random& random, std::uint64_t number)
{
    return fmt::format("INSERT INTO history(number, amount, note) "
                       "SELECT {}, id % 13, printf('%0{}d', id) FROM accounts WHERE id <= {}",
                       number + 1, random.between(20, 300), random.between(20, kAccounts));
}

std::string forget(sim::Random& random)
{
    const std::uint64_t parts = random.between(2, 4);
    return fmt::format("DELETE FROM history WHERE number % {} <> {} AND number < (SELECT value "
                       "FROM meta WHERE name = 'transactions')",
                       parts, random.below(parts));
}

std::string change_schema(sim::Random& random)
{
    return random.chance(50) ? "CREATE INDEX IF NOT EXISTS by_amount ON history(amount, note)"
                             : "DROP INDEX IF EXISTS by_amount";
}

void add_changes(Step& step, sim::Random& random, std::uint64_t number)
{
    const std::uint64_t kind = random.below(10);
    step.statements.push_back(transfer(random));
    if (kind >= 5) {
        step.statements.push_back(transfer(random));
    }
    switch (kind) {
    case 5: step.statements.push_back(change_all(random)); break;
    case 6: step.statements.push_back(write_much(random, number)); break;
    case 7: step.statements.push_back(forget(random)); break;
    case 8: step.statements.push_back(change_schema(random)); break;
    case 9:
        step.statements.push_back(change_all(random));
        step.statements.push_back(forget(random));
        step.statements.push_back(write_much(random, number));
        break;
    default: break;
    }
}

}  // namespace

Step found_bank()
{
    Step step;
    step.statements = {
        "CREATE TABLE meta(name TEXT PRIMARY KEY, value INT)",
        "CREATE TABLE accounts(id INTEGER PRIMARY KEY, owner TEXT, balance INT, note TEXT)",
        "CREATE INDEX by_owner ON accounts(owner)",
        "CREATE INDEX by_balance ON accounts(balance)",
        "CREATE TABLE history(number INT, amount INT, note TEXT)",
        "CREATE INDEX by_number ON history(number)",
        fmt::format("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) "
                    "INSERT INTO accounts SELECT i, printf('owner %05d', i * 7919 % 10007), {}, "
                    "hex(zeroblob(30)) FROM n",
                    kAccounts, kBalance),
        "INSERT INTO meta VALUES('transactions', 1)",
        log_line(0, "'founded'"),
    };
    return step;
}

Step draw_step(sim::Random& random, std::uint64_t number, bool may_fail)
{
    Step step;
    const std::uint64_t kind = random.below(20);
    step.durable = random.chance(75);
    if (kind == 0) {
        step.kind = Step::Kind::vacuum;
        return step;
    }
    step.kind = kind <= 3 ? Step::Kind::rolled_back : Step::Kind::change;
    add_changes(step, random, number);
    if (random.chance(20) && may_fail) {
        // Half of the rows are in when it meets an id that is taken.
        step.fails = true;
        step.statements.push_back(
            fmt::format("INSERT INTO accounts SELECT id + {}, owner, 1, note FROM accounts "
                        "ORDER BY id DESC",
                        kAccounts / 2));
        step.statements.push_back(transfer(random));
    }
    step.statements.push_back(count_up());
    step.statements.push_back(log_line(number, "hex(zeroblob(40))"));
    return step;
}

std::uint64_t transactions_in(Database& database)
{
    const std::string value = database.ask("SELECT value FROM meta WHERE name = 'transactions'");
    return database.code() == SQLITE_OK ? std::strtoull(value.c_str(), nullptr, 10) : 0;
}

std::string contents_of(Database& database)
{
    std::string all = database.ask("SELECT type, name, sql FROM sqlite_master ORDER BY name");
    if (transactions_in(database) != 0) {
        all += "\n" + database.ask("SELECT * FROM meta ORDER BY name");
        all += "\n" + database.ask("SELECT * FROM accounts ORDER BY id");
        all += "\n" + database.ask("SELECT number, amount, note FROM history "
                                   "ORDER BY number, amount, note");
    }
    return all;
}

std::string complaint_about(Database& database)
{
    if (const std::string found = database.ask("PRAGMA integrity_check"); found != "ok") {
        return "integrity_check: " + found.substr(0, 200);
    }
    const std::string tables = database.ask("SELECT count(*) FROM sqlite_master");
    if (tables == "0") {
        return {};
    }
    const std::string sum = database.ask("SELECT sum(balance), count(*) FROM accounts");
    if (sum != fmt::format("{}|{}", kAccounts * kBalance, kAccounts)) {
        return "the sum of all balances and the number of accounts are " + sum;
    }
    const std::string last = database.ask("SELECT max(number) = (SELECT value FROM meta WHERE "
                                          "name = 'transactions') FROM history");
    return last == "1" ? "" : "the last transaction is not in the history";
}

}  // namespace coppice::sqlite
