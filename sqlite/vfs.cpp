#include "sqlite/vfs.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <map>
#include <sqlite3.h>
#include <strings.h>

#include "format/base/check.h"
#include "sqlite/volume_file.h"

namespace coppice::sqlite {

namespace {

constexpr int kLongestName = 512;
constexpr int kTemporary = SQLITE_OPEN_TEMP_DB | SQLITE_OPEN_TEMP_JOURNAL |
                           SQLITE_OPEN_TRANSIENT_DB | SQLITE_OPEN_SUBJOURNAL;
constexpr int kJournals = SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_WAL;

// The one table from the store's errors to SQLite's; `otherwise` is the failed call's own.
int code_of(const Error& error, int otherwise)
{
    switch (error.code) {
    case ErrorCode::conflict: return SQLITE_BUSY_SNAPSHOT;
    case ErrorCode::busy: return SQLITE_BUSY;
    case ErrorCode::too_large:
    case ErrorCode::no_space:
    case ErrorCode::out_of_range: return SQLITE_FULL;
    case ErrorCode::read_only: return SQLITE_READONLY;
    case ErrorCode::bad_data: return SQLITE_IOERR_DATA;
    case ErrorCode::not_an_image: return SQLITE_NOTADB;
    default: return otherwise;
    }
}

bool same_word(const char* one, const char* other) { return ::strcasecmp(one, other) == 0; }

// Why a pragma cannot be, or "".
std::string refusal(const char* pragma, const char* value)
{
    if (value == nullptr) {
        return {};
    }
    if (same_word(pragma, "journal_mode") && !same_word(value, "off") &&
        !same_word(value, "memory")) {
        return "this VFS has transactions instead of a journal: journal_mode is OFF or MEMORY";
    }
    if (same_word(pragma, "locking_mode") && same_word(value, "exclusive")) {
        return "this VFS sees a rollback by the lock that is given up: locking_mode is NORMAL";
    }
    return {};
}

struct Connection;

// What SQLite keeps for an open file; it gives the memory.
struct Handle {
    sqlite3_file file;
    Connection* connection;
};

}  // namespace

// The files that connections have open, by name, and what SQLite knows of the VFS.
class Files {
public:
    Files(Store& store, Tasks& tasks, const VfsOptions& options);
    ~Files() { sqlite3_vfs_unregister(&vfs_); }
    Files(const Files&) = delete;
    Files& operator=(const Files&) = delete;

    static Files& of(sqlite3_vfs* vfs) { return *static_cast<Files*>(vfs->pAppData); }

    int open_file(const char* name, Handle& handle, int flags, int* out_flags);
    int remove_file(const char* name, bool durable);
    int look_for(const char* name, int* found);
    void sleep(std::uint64_t duration_ns);
    // SQLite's code for an error, which is remembered in words.
    int report(const Error& error, int otherwise);
    int report(const Status& status, int otherwise)
    {
        return status ? SQLITE_OK : report(status.error(), otherwise);
    }

    const VfsOptions& options() const { return options_; }
    const std::string& last_error() const { return last_error_; }
    std::size_t open_files() const;
    Tasks& tasks() { return tasks_; }
    sqlite3_vfs* host() { return host_; }

private:
    // The file of that name, also one that has been removed; null: there has never been one.
    Result<std::shared_ptr<VolumeFile>> find(const std::string& name, bool database);
    Result<std::shared_ptr<VolumeFile>> find_or_make(const std::string& name, int flags);

    Store& store_;
    Tasks& tasks_;
    VfsOptions options_;
    std::map<std::string, std::weak_ptr<VolumeFile>> files_;
    std::string last_error_;
    sqlite3_vfs vfs_{};
    sqlite3_vfs* host_;
};

namespace {

// One opening of a file.
struct Connection {
    Files& files;
    std::shared_ptr<VolumeFile> file;
    LockLevel held = LockLevel::none;

    bool writes() const { return held > LockLevel::shared; }
};

Connection& connection_of(sqlite3_file* file)
{
    return *reinterpret_cast<Handle*>(file)->connection;
}

int read_file(sqlite3_file* handle, void* into, int amount, sqlite3_int64 offset) noexcept
{
    Connection& connection = connection_of(handle);
    auto* bytes = static_cast<std::byte*>(into);
    const auto wanted = static_cast<std::uint64_t>(amount);
    const auto begin = static_cast<std::uint64_t>(offset);
    const std::uint64_t size = connection.file->size_bytes(connection.writes());
    const std::uint64_t there = begin < size ? std::min(wanted, size - begin) : 0;
    std::memset(bytes + there, 0, wanted - there);
    if (there != 0) {
        const Status status = connection.file->read(begin, {bytes, there}, connection.writes());
        if (!status) {
            return connection.files.report(status, SQLITE_IOERR_READ);
        }
    }
    return there == wanted ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

int write_file(sqlite3_file* handle, const void* from, int amount, sqlite3_int64 offset) noexcept
{
    Connection& connection = connection_of(handle);
    const std::span<const std::byte> bytes(static_cast<const std::byte*>(from),
                                           static_cast<std::size_t>(amount));
    return connection.files.report(
        connection.file->write(static_cast<std::uint64_t>(offset), bytes), SQLITE_IOERR_WRITE);
}

int truncate_file(sqlite3_file* handle, sqlite3_int64 size) noexcept
{
    Connection& connection = connection_of(handle);
    return connection.files.report(connection.file->truncate(static_cast<std::uint64_t>(size)),
                                   SQLITE_IOERR_TRUNCATE);
}

int sync_file(sqlite3_file* handle, int) noexcept
{
    Connection& connection = connection_of(handle);
    return connection.files.report(connection.file->sync(), SQLITE_IOERR_FSYNC);
}

int size_of_file(sqlite3_file* handle, sqlite3_int64* size) noexcept
{
    const Connection& connection = connection_of(handle);
    *size = static_cast<sqlite3_int64>(connection.file->size_bytes(connection.writes()));
    return SQLITE_OK;
}

int lock_file(sqlite3_file* handle, int level) noexcept
{
    Connection& connection = connection_of(handle);
    const auto wanted = static_cast<LockLevel>(level);
    return connection.file->locks().raise(connection.held, wanted) ? SQLITE_OK : SQLITE_BUSY;
}

int unlock_file(sqlite3_file* handle, int level) noexcept
{
    Connection& connection = connection_of(handle);
    if (connection.writes() && level <= SQLITE_LOCK_SHARED) {
        connection.file->end_write();
    }
    connection.file->locks().lower(connection.held, static_cast<LockLevel>(level));
    return SQLITE_OK;
}

int close_file(sqlite3_file* handle) noexcept
{
    unlock_file(handle, SQLITE_LOCK_NONE);
    Connection& connection = connection_of(handle);
    // The last one leaves nothing in memory that only this object knows.
    const int code = connection.file.use_count() == 1
                         ? connection.files.report(connection.file->commit(), SQLITE_IOERR_CLOSE)
                         : SQLITE_OK;
    delete &connection;
    return code;
}

int check_reserved(sqlite3_file* handle, int* reserved) noexcept
{
    *reserved = connection_of(handle).file->locks().reserved() ? 1 : 0;
    return SQLITE_OK;
}

int pragma(const Files& files, char** words)
{
    if (files.options().transactions) {
        if (const std::string why = refusal(words[1], words[2]); !why.empty()) {
            words[0] = sqlite3_mprintf("%s", why.c_str());
            return SQLITE_ERROR;
        }
    }
    return SQLITE_NOTFOUND;
}

int control_file(sqlite3_file* handle, int operation, void* argument) noexcept
{
    Connection& connection = connection_of(handle);
    switch (operation) {
    case SQLITE_FCNTL_SYNC:
        return connection.files.report(connection.file->commit(), SQLITE_IOERR_FSYNC);
    case SQLITE_FCNTL_COMMIT_PHASETWO:
        // All is committed; SQLite has perhaps cut the file behind it, which is of no matter: how
        // long the database is stands in itself.
        if (const Status status = connection.file->commit(); !status) {
            connection.files.report(status, SQLITE_IOERR_TRUNCATE);
        }
        return SQLITE_OK;
    case SQLITE_FCNTL_PRAGMA: return pragma(connection.files, static_cast<char**>(argument));
    case SQLITE_FCNTL_VFSNAME:
        *static_cast<char**>(argument) =
            sqlite3_mprintf("%s", connection.files.options().name.c_str());
        return SQLITE_OK;
    default: return SQLITE_NOTFOUND;
    }
}

int sector_size(sqlite3_file*) noexcept { return static_cast<int>(kBlockBytes); }

// A write changes nothing beside it, and a file's new length never shows before its bytes.
int characteristics(sqlite3_file*) noexcept
{
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE | SQLITE_IOCAP_SAFE_APPEND;
}

// Version 1: no shared memory (WAL wants locking_mode=EXCLUSIVE), no memory map.
const sqlite3_io_methods kMethods = {
    .iVersion = 1,
    .xClose = close_file,
    .xRead = read_file,
    .xWrite = write_file,
    .xTruncate = truncate_file,
    .xSync = sync_file,
    .xFileSize = size_of_file,
    .xLock = lock_file,
    .xUnlock = unlock_file,
    .xCheckReservedLock = check_reserved,
    .xFileControl = control_file,
    .xSectorSize = sector_size,
    .xDeviceCharacteristics = characteristics,
    .xShmMap = nullptr,
    .xShmLock = nullptr,
    .xShmBarrier = nullptr,
    .xShmUnmap = nullptr,
    .xFetch = nullptr,
    .xUnfetch = nullptr,
};

int open_any(sqlite3_vfs* vfs, const char* name, sqlite3_file* handle, int flags,
             int* out_flags) noexcept
{
    Files& files = Files::of(vfs);
    handle->pMethods = nullptr;
    if (name == nullptr || (flags & kTemporary) != 0) {
        return files.host()->xOpen(files.host(), name, handle, flags, out_flags);
    }
    return files.open_file(name, *reinterpret_cast<Handle*>(handle), flags, out_flags);
}

int full_name(sqlite3_vfs*, const char* name, int size, char* full) noexcept
{
    const std::size_t length = std::strlen(name);
    if (length >= static_cast<std::size_t>(size)) {
        return SQLITE_CANTOPEN;
    }
    std::memcpy(full, name, length + 1);
    return SQLITE_OK;
}

int last_error_of(sqlite3_vfs* vfs, int size, char* text) noexcept
{
    if (size > 0) {
        sqlite3_snprintf(size, text, "%s", Files::of(vfs).last_error().c_str());
    }
    return 0;
}

int time_now(sqlite3_vfs* vfs, sqlite3_int64* milliseconds) noexcept
{
    constexpr sqlite3_int64 kUnixEpoch = 210'866'760'000'000;  // in Julian days, as milliseconds
    *milliseconds =
        kUnixEpoch + static_cast<sqlite3_int64>(Files::of(vfs).tasks().unix_ns() / 1'000'000);
    return SQLITE_OK;
}

int sleep_for(sqlite3_vfs* vfs, int microseconds) noexcept
{
    Files::of(vfs).sleep(static_cast<std::uint64_t>(microseconds) * 1000);
    return microseconds;
}

// What has nothing to do with files is the host's.
void take_from_host(sqlite3_vfs& vfs)
{
    vfs.xDlOpen = [](sqlite3_vfs* own, const char* name) {
        sqlite3_vfs* host = Files::of(own).host();
        return host->xDlOpen(host, name);
    };
    vfs.xDlError = [](sqlite3_vfs* own, int size, char* text) {
        sqlite3_vfs* host = Files::of(own).host();
        host->xDlError(host, size, text);
    };
    vfs.xDlSym = [](sqlite3_vfs* own, void* library, const char* symbol) {
        sqlite3_vfs* host = Files::of(own).host();
        return host->xDlSym(host, library, symbol);
    };
    vfs.xDlClose = [](sqlite3_vfs* own, void* library) {
        sqlite3_vfs* host = Files::of(own).host();
        host->xDlClose(host, library);
    };
    vfs.xRandomness = [](sqlite3_vfs* own, int size, char* bytes) {
        sqlite3_vfs* host = Files::of(own).host();
        return host->xRandomness(host, size, bytes);
    };
}

}  // namespace

Files::Files(Store& store, Tasks& tasks, const VfsOptions& options)
    : store_(store), tasks_(tasks), options_(options), host_(sqlite3_vfs_find(nullptr))
{
    CHECK(host_ != nullptr);
    vfs_.iVersion = 2;
    vfs_.szOsFile = std::max(static_cast<int>(sizeof(Handle)), host_->szOsFile);
    vfs_.mxPathname = kLongestName;
    vfs_.zName = options_.name.c_str();
    vfs_.pAppData = this;
    vfs_.xOpen = open_any;
    vfs_.xDelete = [](sqlite3_vfs* vfs, const char* name, int durable) {
        return Files::of(vfs).remove_file(name, durable != 0);
    };
    vfs_.xAccess = [](sqlite3_vfs* vfs, const char* name, int, int* found) {
        return Files::of(vfs).look_for(name, found);
    };
    vfs_.xFullPathname = full_name;
    vfs_.xSleep = sleep_for;
    vfs_.xGetLastError = last_error_of;
    vfs_.xCurrentTimeInt64 = time_now;
    take_from_host(vfs_);
    CHECK(sqlite3_vfs_register(&vfs_, 0) == SQLITE_OK);
}

int Files::report(const Error& error, int otherwise)
{
    last_error_ = error.text;
    const int code = code_of(error, otherwise);
    sqlite3_log(code, "coppice: %s", error.text.c_str());
    return code;
}

void Files::sleep(std::uint64_t duration_ns)
{
    if (options_.sleep_ns) {
        options_.sleep_ns(duration_ns);
        return;
    }
    const std::uint64_t until = tasks_.now_ns() + duration_ns;
    while (tasks_.now_ns() < until) {
        tasks_.yield();
    }
}

std::size_t Files::open_files() const
{
    return static_cast<std::size_t>(std::count_if(
        files_.begin(), files_.end(), [](const auto& entry) { return !entry.second.expired(); }));
}

Result<std::shared_ptr<VolumeFile>> Files::find(const std::string& name, bool database)
{
    if (const auto found = files_.find(name); found != files_.end()) {
        if (auto file = found->second.lock()) {
            return file;
        }
        files_.erase(found);
    }
    const Result<VolumeInfo> info = store_.find(name, std::nullopt);
    if (!info) {
        return info.error().code == ErrorCode::not_found
                   ? Result<std::shared_ptr<VolumeFile>>(nullptr)
                   : tl::unexpected<Error>(info.error());
    }
    std::shared_ptr<VolumeFile> file;
    if (database && options_.transactions) {
        file = std::make_shared<TransactionFile>(store_, info->id, name);
    } else {
        file = std::make_shared<CachedFile>(store_, info->id, name, options_.cached_blocks);
    }
    COPPICE_TRY(file->refresh());
    return file;
}

Result<std::shared_ptr<VolumeFile>> Files::find_or_make(const std::string& name, int flags)
{
    const bool database = (flags & kJournals) == 0;
    const bool creates = (flags & SQLITE_OPEN_CREATE) != 0;
    COPPICE_ASSIGN(file, find(name, database));
    if (file == nullptr && creates) {
        NewVolume volume;
        volume.name = name;
        volume.size_bytes = options_.volume_bytes;
        volume.lba_shift = 9;
        COPPICE_ASSIGN(made, store_.create_volume(volume));
        (void)made;
        COPPICE_ASSIGN(found, find(name, database));
        file = std::move(found);
    }
    if (file == nullptr || (!file->exists() && !creates)) {
        return fail(ErrorCode::not_found, fmt::format("the image has no volume {}", name));
    }
    if (!file->exists()) {
        COPPICE_TRY(file->set_existence(true));
    }
    return file;
}

int Files::open_file(const char* name, Handle& handle, int flags, int* out_flags)
{
    if (options_.transactions && (flags & kJournals) != 0) {
        return report({ErrorCode::not_supported,
                       "this VFS has transactions instead of a journal: say PRAGMA "
                       "journal_mode=MEMORY (or OFF) first"},
                      SQLITE_CANTOPEN);
    }
    Result<std::shared_ptr<VolumeFile>> file = find_or_make(name, flags);
    if (!file) {
        return report(file.error(), SQLITE_CANTOPEN);
    }
    files_[name] = *file;
    handle.connection = new Connection{*this, std::move(*file)};
    handle.file.pMethods = &kMethods;
    if (out_flags != nullptr) {
        *out_flags = flags;
        if (store_.read_only()) {
            *out_flags = (flags & ~SQLITE_OPEN_READWRITE) | SQLITE_OPEN_READONLY;
        }
    }
    return SQLITE_OK;
}

int Files::remove_file(const char* name, bool durable)
{
    Result<std::shared_ptr<VolumeFile>> file = find(name, false);
    if (!file) {
        return report(file.error(), SQLITE_IOERR_DELETE);
    }
    if (*file == nullptr || !(*file)->exists()) {
        return SQLITE_IOERR_DELETE_NOENT;
    }
    Status status = (*file)->set_existence(false);
    if (status && durable) {
        status = (*file)->sync();
    }
    return report(status, SQLITE_IOERR_DELETE);
}

int Files::look_for(const char* name, int* found)
{
    const Result<std::shared_ptr<VolumeFile>> file = find(name, false);
    if (!file) {
        return report(file.error(), SQLITE_IOERR_ACCESS);
    }
    // An empty journal has nothing to say, as on any file system.
    *found = *file != nullptr && (*file)->exists() && (*file)->size_bytes(false) != 0 ? 1 : 0;
    return SQLITE_OK;
}

Vfs::Vfs(Store& store, Tasks& tasks, const VfsOptions& options)
    : files_(std::make_unique<Files>(store, tasks, options))
{
}

Vfs::~Vfs() = default;

const char* Vfs::name() const { return files_->options().name.c_str(); }

const std::string& Vfs::last_error() const { return files_->last_error(); }

std::size_t Vfs::open_files() const { return files_->open_files(); }

}  // namespace coppice::sqlite
