#include "sqlite/cuts/trial.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <vector>

#include "format/sim/report.h"
#include "format/sim/scenario.h"
#include "sqlite/cuts/bank.h"
#include "sqlite/vfs.h"

namespace coppice::sqlite {

namespace {

using sim::Event;
using sim::kNever;
using sim::violation;

constexpr const char* kFile = "main";
constexpr std::uint64_t kVolumeBytes = 16 << 20;
constexpr std::size_t kStackBytes = 256 << 10;  // SQLite's, beside the store's
constexpr int kCachePages = 12;

// The database after a transaction, and when its COMMIT was called and had returned as durable.
struct State {
    std::string contents;
    Event asked = 0;
    Event durable = kNever;
};

struct History {
    std::uint64_t first = 0;    // transactions in before the first state
    std::vector<State> states;  // the first is what the run began on
};

void require(Database& database, const std::string& sql)
{
    if (database.run(sql) != SQLITE_OK) {
        violation(fmt::format("{}: {} ({})", sql, database.message(), database.code()));
    }
}

VfsOptions vfs_options(const TrialOptions& options, FiberTasks& tasks)
{
    VfsOptions wanted;
    wanted.name = "coppice-cuts";
    wanted.transactions = options.way == Way::disk_transactions;
    wanted.volume_bytes = kVolumeBytes;
    wanted.cached_blocks = options.way == Way::pages ? 0 : VfsOptions().cached_blocks;
    wanted.sleep_ns = [&tasks](std::uint64_t duration_ns) {
        tasks.sleep_until(tasks.now_ns() + duration_ns);
    };
    return wanted;
}

void prepare(Database& database, const TrialOptions& options)
{
    if (database.code() != SQLITE_OK) {
        violation(fmt::format("the database cannot be opened: {} ({})", database.message(),
                              database.code()));
    }
    require(database, fmt::format("PRAGMA busy_timeout=60000; PRAGMA temp_store=MEMORY; "
                                  "PRAGMA cache_size={}; PRAGMA journal_mode={}",
                                  kCachePages, options.journal_mode));
}

// ---- The run ------------------------------------------------------------------------------

// Works on the bank in one task; others read it, and flush the volume.
class Branch {
public:
    Branch(const TrialOptions& options, FiberTasks& tasks, Store& store, sim::EventClock& clock,
           History& history, Verdict& verdict)
        : options_(options),
          tasks_(tasks),
          store_(store),
          clock_(clock),
          history_(history),
          verdict_(verdict),
          vfs_(store, tasks, vfs_options(options, tasks)),
          bank_(kFile, vfs_.name()),
          model_(":memory:", nullptr)
    {
        prepare(bank_, options);
        if (history.first == 0) {
            // Pages smaller than a block, as large, and larger.
            constexpr std::array<unsigned, 3> kPageBytes = {4096, 1024, 8192};
            require(bank_, fmt::format("PRAGMA page_size={}; PRAGMA auto_vacuum={}",
                                       kPageBytes[options.seed % 3],
                                       options.seed % 2 == 0 ? "FULL" : "NONE"));
        }
        copy_to_model();
        history.states.push_back({contents_of(model_), 0, 0});
    }

    void work(sim::Random& random)
    {
        bool done = false;
        unsigned running = 2;
        Task* waiter = tasks_.current();
        const auto end_of = [&] {
            --running;
            tasks_.wake(waiter);
        };
        tasks_.spawn([&, own = sim::Random(random.next())]() mutable {
            read_beside(own, done);
            end_of();
        });
        tasks_.spawn([&, own = sim::Random(random.next())]() mutable {
            flush_beside(own, done);
            end_of();
        });
        for (std::uint64_t i = 0; i < options_.steps; ++i) {
            const std::uint64_t number = history_.first + history_.states.size() - 1;
            perform(number == 0 ? found_bank() : draw_step(random, number, may_fail()));
            if (random.chance(20)) {
                tasks_.sleep_until(tasks_.now_ns() + random.between(1'000, 3'000'000));
            }
            if (random.chance(5)) {
                if (const Status status = store_.checkpoint(); !status) {
                    violation("checkpoint: " + status.error().text);
                }
            }
        }
        expect_contents("at the end");
        int highest = 0;
        int spilled = 0;
        sqlite3_db_status(bank_.handle(), SQLITE_DBSTATUS_CACHE_SPILL, &spilled, &highest, 0);
        verdict_.written_early += static_cast<std::uint64_t>(spilled);
        done = true;
        while (running != 0) {
            tasks_.suspend();
        }
    }

private:
    // What failed half-way is taken back by SQLite's own copy of the pages.
    bool may_fail() const { return options_.journal_mode != "OFF"; }

    void copy_to_model()
    {
        require(model_, "PRAGMA page_size=" + bank_.ask("PRAGMA page_size"));
        sqlite3_backup* backup =
            sqlite3_backup_init(model_.handle(), "main", bank_.handle(), "main");
        if (backup == nullptr || sqlite3_backup_step(backup, -1) != SQLITE_DONE ||
            sqlite3_backup_finish(backup) != SQLITE_OK) {
            violation("the database cannot be copied: " + model_.message());
        }
    }

    void perform(const Step& step)
    {
        if (step.kind == Step::Kind::rolled_back && options_.way == Way::pages) {
            return;
        }
        // SQLite's journal protects nothing with synchronous=OFF.
        const bool own_journal = options_.way == Way::own_journal;
        const bool durable = step.durable || own_journal;
        // EXTRA: with FULL a journal that was deleted may be back after a cut, and a COMMIT gone.
        require(bank_, own_journal ? "PRAGMA synchronous=EXTRA"
                       : durable   ? "PRAGMA synchronous=FULL"
                                   : "PRAGMA synchronous=OFF");
        if (step.kind == Step::Kind::vacuum) {
            require(bank_, "VACUUM");
            return;
        }
        require(bank_, "BEGIN");
        for (const std::string& statement : step.statements) {
            execute(bank_, statement, step.fails);
        }
        if (step.kind == Step::Kind::rolled_back) {
            require(bank_, "ROLLBACK");
            ++verdict_.rolled_back;
            expect_contents("after a rollback");
            return;
        }
        require(model_, "BEGIN");
        for (const std::string& statement : step.statements) {
            execute(model_, statement, step.fails);
        }
        require(model_, "COMMIT");
        history_.states.push_back({contents_of(model_), clock_.tick(), kNever});
        require(bank_, "COMMIT");
        if (durable) {
            history_.states.back().durable = clock_.tick();
        }
        ++verdict_.transactions;
    }

    static void execute(Database& database, const std::string& statement, bool may_fail)
    {
        const int code = database.run(statement) & 0xff;
        if (code != SQLITE_OK && !(may_fail && code == SQLITE_CONSTRAINT)) {
            violation(fmt::format("{}: {} ({})", statement, database.message(), database.code()));
        }
    }

    void expect_contents(const char* when)
    {
        if (contents_of(bank_) != history_.states.back().contents) {
            violation(fmt::format("{} the database is not what it should be", when));
        }
    }

    // No reader sees half a transaction, or goes back.
    void read_beside(sim::Random& random, const bool& done)
    {
        Database reader(kFile, vfs_.name());
        prepare(reader, options_);
        std::uint64_t newest = 0;
        while (!done) {
            require(reader, "BEGIN");
            const std::uint64_t number = transactions_in(reader);
            const std::string sum =
                number == 0 ? "" : reader.ask("SELECT sum(balance) FROM accounts");
            require(reader, "COMMIT");
            const std::uint64_t most = history_.first + history_.states.size() - 1;
            if (number < newest || number > most || (number != 0 && sum != "160000")) {
                violation(fmt::format("a reader sees transaction {} behind {}, and the sum {}",
                                      number, newest, sum));
            }
            newest = number;
            tasks_.sleep_until(tasks_.now_ns() + random.between(100'000, 20'000'000));
        }
    }

    // Somebody wants the volume durable at any time, also between two pages of a transaction.
    void flush_beside(sim::Random& random, const bool& done)
    {
        while (!done) {
            if (const Status status = store_.flush(VolumeId(1)); !status) {
                violation("flush: " + status.error().text);
            }
            tasks_.sleep_until(tasks_.now_ns() + random.between(500, 30'000));
        }
    }

    const TrialOptions& options_;
    FiberTasks& tasks_;
    Store& store_;
    sim::EventClock& clock_;
    History& history_;
    Verdict& verdict_;
    Vfs vfs_;
    Database bank_;
    Database model_;
};

// The same hosts and moments with and without transactions.
sim::Plan draw_trial_plan(sim::Random& random)
{
    sim::Plan plan;
    plan.stack_bytes = kStackBytes;
    plan.disk.seed = random.next();
    plan.disk.longest_ns = plan.disk.shortest_ns + random.between(1'000, 300'000);
    plan.commit_interval_ns = random.between(50'000, 5'000'000);
    plan.tick_ns = random.between(50'000, 1'000'000);
    plan.late_write_blocks = random.below(3) * 8;
    plan.journaled_blocks = random.below(3) * 8;
    plan.punch_delay_ns = random.between(1'000, 20'000'000);
    plan.cache_bytes = random.chance(50) ? 64 << 10 : 4 << 20;
    plan.closes = random.chance(50);
    return plan;
}

// ---- The judge ----------------------------------------------------------------------------

// What a cut left is opened, read, and written to.
class Judge {
public:
    Judge(const TrialOptions& options, const History& history, Event event, bool opened)
        : options_(options), history_(history), event_(event), opened_(opened)
    {
    }

    // "" if it is as it should be.
    std::string look_at(const SparseBytes& image)
    {
        FiberTasks tasks({.stack_bytes = kStackBytes, .virtual_time = true});
        MemoryDisk disk(tasks, image);
        std::string complaint;
        tasks.run([&] {
            auto store = Store::open(disk, {});
            if (!store) {
                complaint = "the image cannot be opened: " + store.error().text;
                return;
            }
            complaint = look_at_store(**store, tasks);
            (*store)->abandon();
            store->reset();
        });
        return complaint;
    }

    std::uint64_t found() const { return found_; }
    bool open_commit() const { return open_commit_; }
    bool kept() const { return kept_; }

private:
    std::string look_at_store(Store& store, FiberTasks& tasks)
    {
        const Vfs vfs(store, tasks, vfs_options(options_, tasks));
        Database database(kFile, vfs.name());
        if (database.code() != SQLITE_OK) {
            return "the database cannot be opened: " + database.message();
        }
        (void)database.run(
            fmt::format("PRAGMA temp_store=MEMORY; PRAGMA journal_mode={}", options_.journal_mode));
        if (std::string complaint = complaint_about(database); !complaint.empty()) {
            return complaint;
        }
        if (std::string complaint = compare(database); !complaint.empty()) {
            return complaint;
        }
        return event_ % 4 == 0 ? go_on(database) : "";
    }

    std::string compare(Database& database)
    {
        std::uint64_t required = 0;
        std::uint64_t allowed = 0;
        for (std::size_t i = 0; i < history_.states.size(); ++i) {
            required = history_.states[i].durable <= event_ ? i : required;
            allowed = history_.states[i].asked <= event_ ? i : allowed;
        }
        found_ = transactions_in(database);
        open_commit_ = opened_ && allowed > required;
        kept_ = found_ == history_.first + allowed;
        if (found_ < history_.first + required || found_ > history_.first + allowed) {
            return fmt::format("{} transactions are in, but {} were durable and {} begun", found_,
                               history_.first + required, history_.first + allowed);
        }
        if (contents_of(database) != history_.states[found_ - history_.first].contents) {
            return fmt::format("the contents are not those after transaction {}", found_);
        }
        return {};
    }

    static std::string go_on(Database& database)
    {
        const std::uint64_t number = transactions_in(database);
        sim::Random random(number);
        Step step = number == 0 ? found_bank() : draw_step(random, number, false);
        std::string sql = "BEGIN;";
        for (const std::string& statement : step.statements) {
            sql += statement + ";";
        }
        sql += step.kind == Step::Kind::rolled_back ? "ROLLBACK" : "COMMIT";
        if (database.run(sql) != SQLITE_OK) {
            return "it cannot be written to: " + database.message();
        }
        return complaint_about(database);
    }

    const TrialOptions& options_;
    const History& history_;
    Event event_;
    bool opened_;
    std::uint64_t found_ = 0;
    bool open_commit_ = false;
    bool kept_ = false;
};

struct Run {
    sim::Recording recording;
    History history;
};

Run run_bank(const TrialOptions& options, const SparseBytes& image, std::uint64_t first,
             sim::Random& random, Verdict& verdict)
{
    Run run;
    run.history.first = first;
    const sim::Plan plan = draw_trial_plan(random);
    const std::uint64_t scheduler_seed = random.next();
    run.recording =
        sim::record(sim::real_store(), image, sim::Model(), plan, scheduler_seed,
                    [&](FiberTasks& tasks, Store& store, sim::Model&, sim::EventClock& clock) {
                        Branch(options, tasks, store, clock, run.history, verdict).work(random);
                    });
    return run;
}

// The moments at which something changes: on the disk, or in what must be there. Between two of
// them (the disk reads) a cut leaves the same.
std::vector<Event> moments_of(const Run& run)
{
    std::vector<Event> moments = {0, run.recording.opened, run.recording.ended};
    for (const sim::LoggedRequest& request : run.recording.log.requests) {
        moments.push_back(request.submitted);
        moments.push_back(std::min(request.completed, run.recording.ended));
    }
    for (const State& state : run.history.states) {
        moments.push_back(state.asked);
        moments.push_back(std::min(state.durable, run.recording.ended));
    }
    std::sort(moments.begin(), moments.end());
    moments.erase(std::unique(moments.begin(), moments.end()), moments.end());
    return moments;
}

// Cuts at each moment. What the last of them with a whole database left, and its transactions.
struct Left {
    SparseBytes image;
    std::uint64_t transactions = 0;
};

Left cut_everywhere(const TrialOptions& options, const Run& run, sim::Random& random,
                    Verdict& verdict)
{
    Left left;
    sim::CutMaker maker(run.recording.log);
    const Event goes_on = random.between(run.recording.opened, run.recording.ended);
    for (const Event event : moments_of(run)) {
        for (std::uint64_t i = 0; i < options.subsets; ++i) {
            sim::CutSummary summary;
            const SparseBytes image = maker.cut(event, random, summary);
            const sim::Context where(summary.text());
            Judge judge(options, run.history, event, event >= run.recording.opened);
            const std::string complaint = judge.look_at(image);
            ++verdict.cuts;
            verdict.torn += summary.torn != 0 ? 1 : 0;
            verdict.in_recovery += event < run.recording.opened ? 1 : 0;
            if (!complaint.empty()) {
                ++verdict.broken;
                if (verdict.first_complaint.empty()) {
                    verdict.first_complaint =
                        fmt::format("seed {}, {}: {}", options.seed, summary.text(), complaint);
                }
                continue;
            }
            if (judge.open_commit()) {
                ++(judge.kept() ? verdict.open_kept : verdict.open_dropped);
            }
            if (event <= goes_on) {
                left = {image, judge.found()};
            }
        }
    }
    return left;
}

}  // namespace

void Verdict::add(const Verdict& other)
{
    transactions += other.transactions;
    rolled_back += other.rolled_back;
    written_early += other.written_early;
    cuts += other.cuts;
    torn += other.torn;
    open_kept += other.open_kept;
    open_dropped += other.open_dropped;
    in_recovery += other.in_recovery;
    broken += other.broken;
    if (first_complaint.empty()) {
        first_complaint = other.first_complaint;
    }
}

Verdict run_trial(const TrialOptions& options)
{
    const sim::Context context(fmt::format("seed {}, journal_mode={}, {}", options.seed,
                                           options.journal_mode,
                                           kWayNames[static_cast<std::size_t>(options.way)]));
    sim::Random random(options.seed);
    Verdict verdict;
    const SparseBytes fresh = sim::fresh_image(sim::real_store(), options.seed, kVolumeBytes);
    const Run first = run_bank(options, fresh, 0, random, verdict);
    const Left left = cut_everywhere(options, first, random, verdict);
    TrialOptions rest = options;
    rest.steps = std::max<std::uint64_t>(options.steps / 4, 1);
    const Run second = run_bank(rest, left.image, left.transactions, random, verdict);
    cut_everywhere(rest, second, random, verdict);
    return verdict;
}

}  // namespace coppice::sqlite
