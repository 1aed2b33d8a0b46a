// A database on the disk itself: a VFS of SQLite whose files are volumes of a store, and whose
// database transactions are transactions of the disk (as in X-FTL, SIGMOD 2013). SQLite runs with
// its journal off; what a power cut leaves is the database after some transaction, never between.
//
//   BEGIN, changes       pages in SQLite's cache
//   COMMIT  xWrite ...   staged in a transaction of the store, begun by the first of them
//           FCNTL_SYNC   that transaction is committed: all pages take effect as one
//           xSync        and are durable, with one host write and one sync if they are few
//   ROLLBACK xUnlock     whatever is still staged is dropped
//
// FCNTL_SYNC comes once for each commit, in the first of SQLite's two phases, where every error
// still makes SQLite roll back; with synchronous=OFF it comes alone: the database is then whole
// after a cut, and perhaps a few commits old.
//
// Pages that a large transaction writes early (its cache is full) are staged like any, and readers
// of other connections do not see them, as SQLite has the file locked by then.
//
// Which journal_mode (the VFS refuses those that need files beside the database):
//   MEMORY  SQLite keeps the old pages in memory and can take back all that SQL can take back.
//   OFF     no copy of anything. ROLLBACK is right all the same: SQLite throws its cache away when
//           it has no journal (pager.c, sqlite3PagerRollback), and the VFS what was staged. But
//           neither can undo a part of a transaction: after a statement that failed half-way in a
//           BEGIN, say ROLLBACK; ROLLBACK TO does nothing. (SQLite's documentation warns of the
//           same; that ROLLBACK itself is undefined there is what the disk mends.)
//
// Errors, beside SQLite's own:
//   SQLITE_BUSY_SNAPSHOT  somebody changed the same blocks of the volume past SQLite (conflict);
//   all
//                         is rolled back, begin anew
//   SQLITE_FULL           more than 32 MiB in one transaction, the volume's end, or a full host
//   SQLITE_IOERR_DATA     a block does not have its checksum
// In words: `last_error`, and SQLite's log (SQLITE_CONFIG_LOG).
//
// Limits: locking_mode=EXCLUSIVE is refused (a rollback would then not show: no unlock). Databases
// that are ATTACHed commit each for itself. Locks are those of one Vfs: one process has the image.
//
// All calls of SQLite come from tasks of the store's thread, one connection from one task at a
// time; 256 KiB of stack will do. Temporary files are the host's (temp_store=MEMORY avoids them).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "format/volume/store.h"

namespace coppice::sqlite {

struct VfsOptions {
    std::string name = "coppice";  // for sqlite3_open_v2
    // False: the journals of SQLite do the work, in volumes of their own, on files that behave like
    // those of a file system. For comparison.
    bool transactions = true;
    std::uint64_t volume_bytes = 1ULL << 30;  // of a file that SQLite makes; takes no space
    // Without transactions: blocks that a file keeps in memory until they are synced, as a file
    // system's cache does; 0: each write goes to the store by itself.
    std::size_t cached_blocks = 1024;
    // How a task waits for another's lock; none: it gives way until the time has come.
    std::function<void(std::uint64_t duration_ns)> sleep_ns = {};
};

class Files;

// Registered with SQLite for as long as it lives. Connections are closed before it goes, and the
// store outlives it.
class Vfs {
public:
    Vfs(Store& store, Tasks& tasks, const VfsOptions& options);
    ~Vfs();
    Vfs(const Vfs&) = delete;
    Vfs& operator=(const Vfs&) = delete;

    const char* name() const;
    // What the store said when SQLite last got an error from it.
    const std::string& last_error() const;
    // Opened by connections at this time.
    std::size_t open_files() const;

private:
    std::unique_ptr<Files> files_;
};

}  // namespace coppice::sqlite
