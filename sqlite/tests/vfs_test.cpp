// SQLite on transactions of the store: what commits, what is rolled back, what is refused.
#include "coppice-catch.h"

#include <optional>

#include "format/tests/slow_disk_store.h"
#include "sqlite/database.h"
#include "sqlite/vfs.h"

using namespace coppice;
using coppice::sqlite::Database;
using coppice::sqlite::Vfs;
using coppice::sqlite::VfsOptions;

namespace {

constexpr const char* kFile = "main";  // the image's first volume
constexpr std::uint64_t kVolumeBytes = 64 * kMiB;

struct Bench : SlowDiskStore {
    // Runs with a store that is there at the beginning; closes and checks it at the end.
    void with_store(const std::function<void()>& body, std::uint64_t volume_bytes = kVolumeBytes,
                    const OpenOptions& options = {})
    {
        run([&] {
            create(volume_bytes, options);
            vfs.emplace(*store, tasks, VfsOptions{});
            body();
            CHECK(vfs->open_files() == 0);
            vfs.reset();
            REQUIRE(store->close());
        });
        expect_clean();
    }

    // As a crash leaves it, and open again.
    void crash(const VfsOptions& options = {})
    {
        vfs.reset();
        store->abandon();
        open();
        vfs.emplace(*store, tasks, options);
    }

    void use_plain_files(std::size_t cached_blocks = 1024)
    {
        vfs.reset();
        vfs.emplace(*store, tasks, plain(cached_blocks));
    }

    static VfsOptions plain(std::size_t cached_blocks = 1024)
    {
        VfsOptions options;
        options.transactions = false;
        options.cached_blocks = cached_blocks;
        return options;
    }

    std::optional<Vfs> vfs;
};

struct Bank : Database {
    // With a cache so small that a change of many rows is written in part before it commits.
    // `alone`: it keeps its locks, and so has WAL without shared memory.
    explicit Bank(const std::string& journal_mode = "OFF", bool alone = false)
        : Database(kFile, "coppice")
    {
        REQUIRE(code() == SQLITE_OK);
        expect(alone ? "PRAGMA locking_mode=EXCLUSIVE" : "");
        expect("PRAGMA temp_store=MEMORY; PRAGMA cache_size=10");
        expect("PRAGMA journal_mode=" + journal_mode);
    }

    void expect(const std::string& sql)
    {
        const int code = run(sql);
        INFO(sql << ": " << message());
        REQUIRE(code == SQLITE_OK);
    }

    // 500 rows on some 60 pages.
    void fill()
    {
        expect("CREATE TABLE account(id INTEGER PRIMARY KEY, balance INT, note TEXT);"
               "CREATE INDEX by_balance ON account(balance);"
               "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) "
               "INSERT INTO account SELECT i, 100, hex(zeroblob(200)) FROM n");
    }

    void expect_whole(const std::string& sum)
    {
        CHECK(ask("PRAGMA integrity_check") == "ok");
        CHECK(ask("SELECT sum(balance) FROM account") == sum);
    }
};

constexpr const char* kChangeAll = "UPDATE account SET balance = balance + 1, note = lower(note)";

}  // namespace

TEST_CASE("what a database commits is there after a crash, and nothing else")
{
    const std::string mode = GENERATE(as<std::string>{}, "OFF", "MEMORY");
    Bench bench;
    bench.with_store([&] {
        {
            Bank bank(mode);
            bank.fill();
            bank.expect(kChangeAll);
            bank.expect("BEGIN");
            bank.expect(kChangeAll);  // most of its pages are staged by now
        }
        bench.crash();
        Bank bank(mode);
        bank.expect_whole("50500");
    });
}

TEST_CASE("a rollback takes back what was staged, and the connection goes on")
{
    const std::string mode = GENERATE(as<std::string>{}, "OFF", "MEMORY");
    Bench bench;
    bench.with_store([&] {
        Bank bank(mode);
        bank.fill();
        bank.expect("BEGIN");
        bank.expect(kChangeAll);
        CHECK(bank.ask("SELECT sum(balance) FROM account") == "50500");
        bank.expect("ROLLBACK");
        bank.expect_whole("50000");
        bank.expect("UPDATE account SET balance = 0 WHERE id = 7");
        bank.expect_whole("49900");
        Bank other(mode);
        other.expect_whole("49900");
    });
}

TEST_CASE("a statement that fails outside of a transaction leaves nothing")
{
    const std::string mode = GENERATE(as<std::string>{}, "OFF", "MEMORY");
    Bench bench;
    bench.with_store([&] {
        Bank bank(mode);
        bank.fill();
        bank.expect("CREATE UNIQUE INDEX by_id ON account(id, note)");
        CHECK((bank.run("UPDATE account SET id = 500 WHERE id > 10") & 0xff) == SQLITE_CONSTRAINT);
        CHECK((bank.run("INSERT INTO account SELECT id + 490, 1, note FROM account") & 0xff) ==
              SQLITE_CONSTRAINT);
        bank.expect_whole("50000");
    });
}

TEST_CASE("with journal_mode=MEMORY a part of a transaction can be taken back")
{
    Bench bench;
    bench.with_store([&] {
        Bank bank("MEMORY");
        bank.fill();
        bank.expect("BEGIN; UPDATE account SET balance = 0 WHERE id = 1");
        CHECK((bank.run("INSERT INTO account SELECT id + 490, 1, note FROM account") & 0xff) ==
              SQLITE_CONSTRAINT);
        bank.expect("SAVEPOINT before");
        bank.expect(kChangeAll);
        bank.expect("ROLLBACK TO before; COMMIT");
        bank.expect_whole("49900");
    });
}

TEST_CASE("readers see a database as it was committed")
{
    Bench bench;
    bench.with_store([&] {
        Bank bank;
        bank.fill();
        Bank reader;
        bank.expect("BEGIN; UPDATE account SET balance = 0 WHERE id = 1");
        CHECK(reader.ask("SELECT sum(balance) FROM account") == "50000");
        reader.expect("BEGIN; SELECT * FROM account");
        CHECK(bank.run("COMMIT") == SQLITE_BUSY);  // until the reader has ended
        reader.expect("COMMIT");
        bank.expect("COMMIT");
        reader.expect_whole("49900");

        Bank writer;
        bank.expect("BEGIN IMMEDIATE");
        CHECK(writer.run("BEGIN IMMEDIATE") == SQLITE_BUSY);
        bank.expect("ROLLBACK");
        writer.expect("BEGIN IMMEDIATE; UPDATE account SET balance = 100; COMMIT");
        bank.expect_whole("50000");
    });
}

TEST_CASE("who only looks, without a lock, sees nothing that is staged")
{
    Bench bench;
    bench.with_store([&] {
        Bank bank;
        bank.expect("BEGIN");
        bank.fill();
        Database other(kFile, "coppice");
        REQUIRE(other.code() == SQLITE_OK);
        const auto look = [](Database& database) {
            sqlite3_file* file = nullptr;
            sqlite3_file_control(database.handle(), "main", SQLITE_FCNTL_FILE_POINTER,
                                 static_cast<void*>(&file));
            sqlite3_int64 bytes = -1;
            std::array<char, 100> header{};
            CHECK(file->pMethods->xFileSize(file, &bytes) == SQLITE_OK);
            CHECK(file->pMethods->xRead(file, header.data(), 100, 0) ==
                  (bytes == 0 ? SQLITE_IOERR_SHORT_READ : SQLITE_OK));
            return bytes;
        };
        CHECK(look(bank) > 100'000);
        CHECK(look(other) == 0);
        bank.expect("COMMIT");
        CHECK(look(other) > 100'000);
    });
}

TEST_CASE("a small commit is one host write and one sync; without synchronous, none")
{
    Bench bench;
    unsigned writes = 0;
    unsigned syncs = 0;
    bench.fault = [&](const IoRequest& request) {
        writes += request.kind == IoRequest::Kind::write ? 1 : 0;
        syncs += request.kind == IoRequest::Kind::sync ? 1 : 0;
        return 0;
    };
    bench.with_store([&] {
        {
            Bank bank;
            bank.fill();
            writes = syncs = 0;
            bank.expect("UPDATE account SET balance = balance + 1 WHERE id IN (1, 200, 400)");
            CHECK(writes == 1);
            CHECK(syncs == 1);
            bank.expect("PRAGMA synchronous=OFF");
            bank.expect("UPDATE account SET balance = balance + 1 WHERE id IN (1, 200, 400)");
            CHECK(writes == 1);
            CHECK(syncs == 1);
            CHECK(bench.store->statistics().transaction_conflicts == 0);
        }
        bench.crash();
        Bank bank;
        bank.expect_whole("50003");  // the last one was not durable
    });
}

TEST_CASE("whoever changes the same blocks past SQLite wins; SQLite rolls back and goes on")
{
    const std::string mode = GENERATE(as<std::string>{}, "OFF", "MEMORY");
    const std::string synchronous = GENERATE(as<std::string>{}, "OFF", "FULL");
    Bench bench;
    bench.with_store([&] {
        Bank bank(mode);
        bank.expect("PRAGMA synchronous=" + synchronous);
        bank.fill();
        Bytes earlier = bench.read(VolumeId(1), 0, kMiB);
        bank.expect(kChangeAll);
        bank.expect("BEGIN");
        bank.expect(kChangeAll);
        // Another one puts the database back to what it was.
        const iovec buffer{earlier.data(), earlier.size()};
        REQUIRE(bench.store->write(VolumeId(1), 0, {&buffer, 1}, false));
        CHECK(bank.run("COMMIT") == SQLITE_BUSY_SNAPSHOT);
        CHECK(bench.vfs->last_error().find("others changed volume 1") != std::string::npos);
        CHECK(sqlite3_get_autocommit(bank.handle()) == 1);
        CHECK(bench.store->statistics().transaction_conflicts == 1);
        const bool as_before = bench.read(VolumeId(1), 0, kMiB) == earlier;
        CHECK(as_before);
        bank.expect_whole("50000");
        bank.expect(kChangeAll);
        bank.expect_whole("50500");
    });
}

TEST_CASE("a transaction that the store has ended for its age is rolled back")
{
    const std::string mode = GENERATE(as<std::string>{}, "OFF", "MEMORY");
    Bench bench;
    bench.with_store([&] {
        Bank bank(mode);
        bank.fill();
        bank.expect("BEGIN");
        bank.expect(kChangeAll);
        bench.tick_for(120);
        CHECK((bank.run("COMMIT") & 0xff) == SQLITE_IOERR);
        CHECK(bench.vfs->last_error().find("not used for") != std::string::npos);
        if (sqlite3_get_autocommit(bank.handle()) == 0) {
            bank.expect("ROLLBACK");
        }
        bank.expect_whole("50000");
        bank.expect(kChangeAll);
        bank.expect_whole("50500");
    });
}

TEST_CASE("more than a transaction of the disk holds is SQLITE_FULL, and nothing is changed")
{
    const std::string mode = GENERATE(as<std::string>{}, "OFF", "MEMORY");
    Bench bench;
    bench.with_store([&] {
        Bank bank(mode);
        bank.fill();
        bank.expect("BEGIN; UPDATE account SET balance = 0");
        CHECK(bank.run("INSERT INTO account VALUES(1000, 1, zeroblob(40000000))") == SQLITE_FULL);
        CHECK(bench.vfs->last_error().find("at most 33554432 bytes") != std::string::npos);
        if (sqlite3_get_autocommit(bank.handle()) == 0) {
            bank.expect("ROLLBACK");
        }
        bank.expect_whole("50000");
        bank.expect(kChangeAll);
        bank.expect_whole("50500");
    });
}

TEST_CASE("the end of the volume is SQLITE_FULL")
{
    Bench bench;
    bench.with_store(
        [&] {
            Bank bank;
            bank.fill();
            CHECK(bank.run("INSERT INTO account SELECT id + 1000, 1, note || note || note || note "
                           "FROM account") == SQLITE_FULL);
            bank.expect_whole("50000");
        },
        kMiB / 2);
}

TEST_CASE("a database that becomes smaller gives its space back")
{
    Bench bench;
    bench.with_store([&] {
        const auto mapped = [&] { return bench.store->volume(VolumeId(1))->mapped_bytes; };
        Bank bank;
        bank.expect("PRAGMA auto_vacuum=FULL");
        bank.fill();
        const std::uint64_t before = mapped();
        CHECK(before > kMiB / 5);
        bank.expect("DELETE FROM account WHERE id > 5");
        CHECK(mapped() < before / 4);
        bank.expect_whole("500");
        bank.expect("VACUUM");
        bank.expect_whole("500");
        Bank other;
        other.expect_whole("500");
    });
}

TEST_CASE("what needs a journal or a lock for ever is refused in words")
{
    Bench bench;
    bench.with_store([&] {
        Bank bank;
        bank.fill();
        CHECK(bank.run("PRAGMA journal_mode=WAL") == SQLITE_ERROR);
        CHECK(bank.message().find("journal_mode is OFF or MEMORY") != std::string::npos);
        CHECK(bank.run("PRAGMA locking_mode=EXCLUSIVE") == SQLITE_ERROR);
        CHECK(bank.message().find("locking_mode is NORMAL") != std::string::npos);

        Database other(kFile, "coppice");  // journal_mode=DELETE by default
        CHECK((other.run(kChangeAll) & 0xff) == SQLITE_CANTOPEN);
        CHECK(bench.vfs->last_error().find("PRAGMA journal_mode=MEMORY") != std::string::npos);
        bank.expect_whole("50000");
    });
}

TEST_CASE("a volume that holds something else is not taken for a database")
{
    Bench bench;
    bench.with_store([&] {
        bench.write(VolumeId(1), 0, kBlockBytes, 7);
        Database database(kFile, "coppice");
        CHECK(database.code() == SQLITE_NOTADB);
        CHECK(bench.vfs->last_error().find("volume main") != std::string::npos);
    });
}

// ---- Without transactions: journals of SQLite's on files as a file system has them -----------

TEST_CASE("SQLite's own journals work on files of the VFS")
{
    const std::string mode = GENERATE(as<std::string>{}, "delete", "truncate", "wal");
    const std::size_t cached_blocks = GENERATE(as<std::size_t>{}, 0, 3, 1024);
    Bench bench;
    bench.with_store([&] {
        bench.use_plain_files(cached_blocks);
        {
            Bank bank(mode, true);
            CHECK(bank.ask("PRAGMA journal_mode") == mode);
            bank.fill();
            bank.expect(kChangeAll);
            bank.expect("BEGIN");
            bank.expect(kChangeAll);
            bank.expect("ROLLBACK");
            bank.expect_whole("50500");
            bank.expect("BEGIN");
            bank.expect(kChangeAll);
            bank.expect("COMMIT");
        }
        bench.crash(Bench::plain());
        Bank bank(mode, true);
        bank.expect_whole("51000");
    });
}

TEST_CASE("a journal that a crash has left is rolled back")
{
    SparseBytes left;
    {
        Bench bench;
        bench.with_store([&] {
            bench.use_plain_files(0);
            Bank bank("TRUNCATE");
            bank.fill();
            bank.expect("BEGIN");
            bank.expect(kChangeAll);  // pages of it are in the file
            REQUIRE(bench.store->flush(VolumeId(1)));
            left = bench.disk.bytes();
            bank.expect("ROLLBACK");
        });
    }
    Bench bench;
    bench.disk.bytes() = left;
    bench.run([&] {
        bench.open();
        bench.use_plain_files();
        {
            Bank bank("TRUNCATE");
            bank.expect_whole("50000");
        }
        bench.vfs.reset();
        REQUIRE(bench.store->close());
    });
    bench.expect_clean();
}
