// One trial: a bank works on a simulated disk, the power is cut at every recorded event that
// changes anything, and each image that a cut leaves is opened and judged. On one of them the next
// run begins, so that recovery is cut as well.
//
//   run --log--> a cut at each event --judge--> run on what one of them left --log--> cuts
//
// A cut's database must be whole (integrity_check, the bank's invariants), and exactly what it was
// after some transaction: not before the last whose COMMIT had returned as durable, not behind the
// last whose COMMIT had been called.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace coppice::sqlite {

// How the pages of a database transaction reach the disk.
enum class Way : std::uint8_t {
    disk_transactions,  // in one transaction of the disk
    // Each by itself, with no journal, and nothing is rolled back (which nobody could then do). All
    // else is as before: the trial must find what a cut then leaves.
    pages,
    // By SQLite's journal, on files as a file system has them, each commit durable: shows that what
    // breaks the one before is not the trial.
    own_journal,
};
inline constexpr std::array<std::string_view, 3> kWayNames = {
    "a transaction of the disk", "each page for itself", "SQLite's own journal"};

struct TrialOptions {
    std::uint64_t seed = 1;
    std::uint64_t steps = 16;
    std::uint64_t subsets = 1;  // images of each moment
    std::string journal_mode = "OFF";
    Way way = Way::disk_transactions;
};

struct Verdict {
    std::uint64_t transactions = 0;
    std::uint64_t rolled_back = 0;
    std::uint64_t written_early = 0;  // pages, before the COMMIT, because SQLite's cache was full
    std::uint64_t cuts = 0;
    std::uint64_t torn = 0;
    std::uint64_t open_kept = 0;     // cuts with a COMMIT called that was not durable: it was there
    std::uint64_t open_dropped = 0;  // ... or it was not
    std::uint64_t in_recovery = 0;
    std::uint64_t broken = 0;
    std::string first_complaint;

    void add(const Verdict& other);
};

// What no cut can excuse ends the process: a failed statement, a reader that saw half a
// transaction.
Verdict run_trial(const TrialOptions& options);

}  // namespace coppice::sqlite
