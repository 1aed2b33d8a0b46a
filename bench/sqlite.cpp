// SQLite's small transactions: with the journal off and a transaction of the disk for each, beside
// WAL and the rollback journal on the same store, and on the host's file system.
//
// Each transaction changes some rows at random, each in a page of its own, and page 1 (SQLite's
// change counter) with them. SQLite's cache holds the whole database, so that what is measured are
// the writes. Rows take turns; each begins with a new file, and ends with a look whether the
// database holds what was written.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <random>

#include "bench/host_calls.h"
#include "format/disk/fiber_tasks.h"
#include "format/disk/file_disk.h"
#include "sqlite/database.h"
#include "sqlite/vfs.h"

using namespace coppice;
using namespace coppice::bench;
using coppice::sqlite::Database;
using coppice::sqlite::Vfs;
using coppice::sqlite::VfsOptions;

namespace {

struct Arguments {
    std::string folder = ".";
    std::uint64_t transactions = 2000;
    std::uint64_t rows = 100'000;
    unsigned changes = 5;
    unsigned rounds = 3;
    std::uint64_t journaled_blocks = OpenOptions().journaled_blocks;
    bool json = false;
};

enum class Place : std::uint8_t { disk_transactions, store_files, host_files };

struct Row {
    const char* name;
    Place place;
    const char* journal;
    const char* synchronous;
    bool durable;  // each commit, when it returns
};

constexpr std::array<Row, 9> kRows = {{
    {"Coppice, disk transaction, journal OFF", Place::disk_transactions, "OFF", "FULL", true},
    {"Coppice, disk transaction, journal MEMORY", Place::disk_transactions, "MEMORY", "FULL", true},
    {"Coppice, WAL", Place::store_files, "WAL", "FULL", true},
    {"Coppice, rollback journal", Place::store_files, "TRUNCATE", "FULL", true},
    {"host, WAL", Place::host_files, "WAL", "FULL", true},
    {"host, rollback journal", Place::host_files, "TRUNCATE", "FULL", true},
    {"Coppice, disk transaction, journal OFF", Place::disk_transactions, "OFF", "OFF", false},
    {"Coppice, WAL", Place::store_files, "WAL", "NORMAL", false},
    {"host, WAL", Place::host_files, "WAL", "NORMAL", false},
}};

struct Measured {
    double per_second = 0;
    double writes = 0;  // of each transaction, like the next two
    double written_bytes = 0;
    double syncs = 0;
};

[[noreturn]] void fail_with(const std::string& text)
{
    fmt::print(stderr, "coppice-bench-sqlite: {}\n", text);
    std::exit(1);
}

void require(const Status& status)
{
    if (!status) {
        fail_with(status.error().text);
    }
}

void require(Database& database, const std::string& sql)
{
    if (database.run(sql) != SQLITE_OK) {
        fail_with(sql + ": " + database.message());
    }
}

class Work {
public:
    Work(const Arguments& arguments, const Row& row, const char* file, const char* vfs)
        : arguments_(arguments), database_(file, vfs)
    {
        if (database_.code() != SQLITE_OK) {
            fail_with(fmt::format("{}: {}", file, database_.message()));
        }
        // Without shared memory, as the store's files have none; the same for the host's.
        const bool alone = row.place != Place::disk_transactions;
        require(database_, fmt::format("PRAGMA cache_size=-262144; PRAGMA temp_store=MEMORY; "
                                       "{}PRAGMA journal_mode={}; PRAGMA synchronous={}",
                                       alone ? "PRAGMA locking_mode=EXCLUSIVE; " : "", row.journal,
                                       row.synchronous));
        fill();
        if (sqlite3_prepare_v2(database_.handle(), "UPDATE item SET value = value + 1 WHERE id = ?",
                               -1, &update_, nullptr) != SQLITE_OK) {
            fail_with(database_.message());
        }
    }
    ~Work() { sqlite3_finalize(update_); }
    Work(const Work&) = delete;
    Work& operator=(const Work&) = delete;

    void run(std::uint64_t transactions, const std::function<void()>& between)
    {
        for (std::uint64_t i = 0; i < transactions; ++i) {
            require(database_, "BEGIN");
            for (unsigned change = 0; change < arguments_.changes; ++change) {
                const auto id = static_cast<sqlite3_int64>(random_() % arguments_.rows);
                sqlite3_bind_int64(update_, 1, id);
                if (sqlite3_step(update_) != SQLITE_DONE || sqlite3_reset(update_) != SQLITE_OK) {
                    fail_with(database_.message());
                }
            }
            require(database_, "COMMIT");
            changed_ += arguments_.changes;
            if (i % 32 == 31) {
                between();
            }
        }
    }

    void look()
    {
        const std::string sum = database_.ask("SELECT sum(value) FROM item");
        if (sum != std::to_string(changed_)) {
            fail_with(fmt::format("the database says {}, {} was written", sum, changed_));
        }
        if (const std::string found = database_.ask("PRAGMA integrity_check"); found != "ok") {
            fail_with("integrity_check: " + found);
        }
    }

private:
    void fill()
    {
        require(database_, "CREATE TABLE item(id INTEGER PRIMARY KEY, value INT, filler BLOB)");
        // In pieces that a transaction of the disk holds.
        constexpr std::uint64_t kPiece = 50'000;
        for (std::uint64_t first = 0; first < arguments_.rows; first += kPiece) {
            const std::uint64_t end = std::min(first + kPiece, arguments_.rows);
            require(database_, fmt::format("WITH RECURSIVE n(i) AS (SELECT {} UNION ALL SELECT "
                                           "i + 1 FROM n WHERE i < {}) INSERT INTO item "
                                           "SELECT i, 0, randomblob(90) FROM n",
                                           first, end - 1));
        }
    }

    const Arguments& arguments_;
    Database database_;
    sqlite3_stmt* update_ = nullptr;
    std::mt19937_64 random_{1};
    std::uint64_t changed_ = 0;
};

Measured measure(const Arguments& arguments, Work& work, const std::function<void()>& between)
{
    work.run(arguments.transactions / 4, between);  // journals have their length then
    host_calls = {};
    const auto begin = std::chrono::steady_clock::now();
    work.run(arguments.transactions, between);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    const auto count = static_cast<double>(arguments.transactions);
    const Measured measured{count / seconds.count(), static_cast<double>(host_calls.writes) / count,
                            static_cast<double>(host_calls.written_bytes) / count,
                            static_cast<double>(host_calls.syncs) / count};
    work.look();
    return measured;
}

Measured measure_on_host(const Arguments& arguments, const Row& row, const std::string& file)
{
    Work work(arguments, row, file.c_str(), nullptr);
    return measure(arguments, work, [] {});
}

Measured measure_on_store(const Arguments& arguments, const Row& row, const std::string& file)
{
    FiberTasks tasks;
    Measured measured;
    tasks.run([&] {
        FileDiskOptions options;
        options.mode = FileDiskOptions::Mode::create;
        auto disk = FileDisk::open(tasks, file, options);
        if (!disk) {
            fail_with(disk.error().text);
        }
        CreateOptions create;
        create.uuid = random_uuid();
        create.volume_bytes = 1ULL << 30;
        create.volume_name = "bench.db";
        require(Store::create(**disk, create));
        auto opened = Store::open(**disk, {.journaled_blocks = arguments.journaled_blocks});
        if (!opened) {
            fail_with(opened.error().text);
        }
        Store& store = **opened;
        {
            VfsOptions wanted;
            wanted.name = "coppice-bench";
            wanted.transactions = row.place == Place::disk_transactions;
            const Vfs vfs(store, tasks, wanted);
            Work work(arguments, row, "bench.db", vfs.name());
            std::uint64_t next_tick_ns = 0;
            measured = measure(arguments, work, [&] {
                if (tasks.now_ns() >= next_tick_ns) {
                    store.tick();
                    next_tick_ns = tasks.now_ns() + 1'000'000'000;
                }
                tasks.yield();
            });
        }
        require(store.close());
        opened->reset();
    });
    return measured;
}

Measured measure_row(const Arguments& arguments, const Row& row)
{
    const std::filesystem::path file =
        std::filesystem::path(arguments.folder) / "coppice-bench-sqlite.tmp";
    const auto remove_files = [&] {
        for (const char* end : {"", "-wal", "-journal", "-shm"}) {
            std::filesystem::remove(file.string() + end);
        }
    };
    remove_files();
    const Measured measured = row.place == Place::host_files
                                  ? measure_on_host(arguments, row, file.string())
                                  : measure_on_store(arguments, row, file.string());
    remove_files();
    return measured;
}

// By speed; the counts of a row hardly differ from round to round.
Measured median(std::vector<Measured> rounds)
{
    std::sort(rounds.begin(), rounds.end(), [](const Measured& one, const Measured& other) {
        return one.per_second < other.per_second;
    });
    return rounds[rounds.size() / 2];
}

void print_table(const Arguments& arguments, std::span<const std::vector<Measured>> measured)
{
    fmt::print("SQLite {}, {} rows changed by each transaction, {} rows in the database\n",
               sqlite3_libversion(), arguments.changes, arguments.rows);
    for (const bool durable : {true, false}) {
        fmt::print("\n{:<43} {:>14} {:>12} {:>10} {:>8}\n",
                   durable ? "durable when COMMIT returns" : "whole after a cut, durable later",
                   "transactions/s", "host writes", "KiB", "syncs");
        for (std::size_t i = 0; i < kRows.size(); ++i) {
            if (kRows[i].durable == durable) {
                const Measured row = median(measured[i]);
                fmt::print("{:<43} {:>14.0f} {:>12.2f} {:>10.1f} {:>8.3f}\n", kRows[i].name,
                           row.per_second, row.writes, row.written_bytes / 1024, row.syncs);
            }
        }
    }
}

void print_json(std::span<const std::vector<Measured>> measured)
{
    for (std::size_t i = 0; i < kRows.size(); ++i) {
        const Measured row = median(measured[i]);
        nlohmann::json all = nlohmann::json::array();
        for (const Measured& round : measured[i]) {
            all.push_back(round.per_second);
        }
        const nlohmann::json line = {{"name", kRows[i].name},
                                     {"journal_mode", kRows[i].journal},
                                     {"synchronous", kRows[i].synchronous},
                                     {"durable", kRows[i].durable},
                                     {"transactions_per_second", row.per_second},
                                     {"rounds", all},
                                     {"host_writes", row.writes},
                                     {"host_bytes", row.written_bytes},
                                     {"host_syncs", row.syncs}};
        fmt::print("{}\n", line.dump());
    }
}

}  // namespace

int main(int argc, char** argv)
{
    CLI::App app{"Small transactions of SQLite: transactions of the disk, WAL, rollback journal"};
    Arguments arguments;
    app.add_option("--dir", arguments.folder, "where the files are made; they are removed again")
        ->check(CLI::ExistingDirectory)
        ->capture_default_str();
    app.add_option("--transactions", arguments.transactions, "in each round")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--rows", arguments.rows, "of the table, some 35 in a page")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--changes", arguments.changes, "rows that each transaction changes")
        ->capture_default_str();
    app.add_option("--rounds", arguments.rounds, "of which the median counts")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--journaled-blocks", arguments.journaled_blocks,
                   "flushes of at most so many blocks carry them in the store's journal")
        ->capture_default_str();
    app.add_flag("--json", arguments.json, "one line of JSON for each row, and no table");
    CLI11_PARSE(app, argc, argv);

    std::array<std::vector<Measured>, kRows.size()> measured;
    for (unsigned round = 0; round < arguments.rounds; ++round) {
        for (std::size_t i = 0; i < kRows.size(); ++i) {
            measured[i].push_back(measure_row(arguments, kRows[i]));
        }
    }
    if (arguments.json) {
        print_json(measured);
    } else {
        print_table(arguments, measured);
    }
    return 0;
}
