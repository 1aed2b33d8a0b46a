// What all commands of the host tool share: how they are called, how they fail, and how they open
// an image.
//
//   main.cpp           options and help
//   create.cpp info.cpp snapshot.cpp set.cpp check.cpp map.cpp dump*.cpp   one command each
//   content.cpp        read, write, trim
//   struct_fields.*    every struct of layout.h, field by field
//   text.*             sizes, times, tables
//
// A command is a function from its options to an exit code. Results go to standard output; the one
// line that says what went wrong, and progress on a terminal, to standard error.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "format/base/result.h"
#include "format/disk/fiber_tasks.h"
#include "format/disk/file_disk.h"
#include "format/volume/store.h"

namespace coppice::images {

using Json = nlohmann::ordered_json;

enum ExitCode : int {
    kExitOk = 0,
    kExitFailed = 1,   // the operation failed; nothing was changed
    kExitUsage = 2,    // the command line cannot be
    kExitCorrupt = 3,  // the image is damaged
    kExitLeaks = 4,    // check: only leaks, or damage that a second copy makes good
};

struct ImageOptions {
    std::string path;
    bool json = false;
    bool force_share = false;
};

struct CreateCommand : ImageOptions {
    std::string size;
    unsigned lba_bytes = 4096;
    std::string name = "main";
    std::string flush = "durable";
    std::string journal;  // empty: scaled to the size
    bool force = false;
};

struct NameCommand : ImageOptions {
    std::string name;         // of a snapshot, or of the volume to delete
    std::string volume;       // empty: the only one, or "main"
    std::string target;       // clone: name of the new volume
    std::uint64_t group = 0;  // snapshot create: of all volumes of this one
};

struct SetCommand : ImageOptions {
    std::string volume;
    std::string flush;                   // empty: stays
    std::optional<std::uint64_t> group;  // 0: out of the one it is in
};

struct CheckCommand : ImageOptions {
    bool data = false;
    bool quiet = false;
    unsigned max_findings = 1000;
};

struct MapCommand : ImageOptions {
    std::string volume;
    std::string snapshot;
};

struct ContentCommand : ImageOptions {
    std::string volume;
    std::string snapshot;
    std::string offset;  // empty: the beginning
    std::string length;  // empty: to the end
};

struct WriteCommand : ImageOptions {
    std::string volume;
    std::vector<std::string> pieces;  // "OFFSET=FILE"
};

struct DumpCommand : ImageOptions {
    std::string tree;  // "catalog", "map:3", ...
    std::uint64_t block = 0;
    bool all = false;        // journal: also blocks that recovery does not look at
    bool checksums = false;  // journal: those of the data too
};

int run_create(const CreateCommand& command);
int run_info(const ImageOptions& command);
int run_snapshot_create(const NameCommand& command);
int run_snapshot_list(const NameCommand& command);
int run_snapshot_delete(const NameCommand& command);
int run_snapshot_rollback(const NameCommand& command);
int run_clone(const NameCommand& command);
int run_delete(const NameCommand& command);
int run_set(const SetCommand& command);
int run_check(const CheckCommand& command);
int run_map(const MapCommand& command);
int run_read(const ContentCommand& command);
int run_write(const WriteCommand& command);
int run_trim(const ImageOptions& command);
int run_dump_header(const DumpCommand& command);
int run_dump_superblock(const DumpCommand& command);
int run_dump_journal(const DumpCommand& command);
int run_dump_trees(const DumpCommand& command);
int run_dump_tree(const DumpCommand& command);
int run_dump_block(const DumpCommand& command);

// Prints "coppice: IMAGE: text" and gives the exit code that fits the error.
int report_error(const std::string& path, const Error& error);
void print_json(const Json& json);

// Opens the file and runs `body` in a task; a failure is reported. `body` returns an exit code.
using DiskBody = std::function<Result<int>(FileDisk& disk)>;
int with_disk(const ImageOptions& options, bool read_only, const DiskBody& body);

// The same with a store, which is closed afterwards (a read-only one abandoned).
using StoreBody = std::function<Result<int>(Store& store)>;
int with_store(const ImageOptions& options, bool read_only, const StoreBody& body);

// The volume that a command means: the named one, else the only one, else "main".
Result<VolumeInfo> choose_volume(Store& store, const std::string& name);

// Shows how far a long work is, when somebody looks.
class Progress {
public:
    Progress();
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;
    void show(std::string_view phase, std::uint64_t done, std::uint64_t total);
    void clear();

private:
    bool terminal_;
    bool shown_ = false;
    std::int64_t last_ms_ = 0;
    std::string phase_;
};

}  // namespace coppice::images
