// coppice create
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/layout/layout.h"
#include "images/text.h"
#include "images/tool.h"

namespace coppice::images {

namespace {

int usage(const CreateCommand& command, std::string_view text)
{
    fmt::print(stderr, "coppice: {}: {}\n", command.path, text);
    return kExitUsage;
}

// Everything that can be wrong is found before the file is touched.
std::string problem_of(const CreateCommand& command, std::uint64_t size, std::uint64_t journal)
{
    if (size == 0) {
        return "the size must not be 0";
    }
    if (size > layout::kMaxVolumeBytes) {
        return fmt::format("a volume has at most {}, not {}", size_text(layout::kMaxVolumeBytes),
                           size_text(size));
    }
    if (size % command.lba_bytes != 0) {
        return fmt::format("the size of {} bytes is not a multiple of the LBA size, {}", size,
                           command.lba_bytes);
    }
    const std::uint64_t least = layout::kMinJournalBlocks * kBlockBytes;
    const std::uint64_t most = layout::kMaxJournalBlocks * kBlockBytes;
    if (journal != 0 && (journal < least || journal > most || journal % kBlockBytes != 0)) {
        return fmt::format("the journal has {} to {}, in whole blocks of 4 KiB", size_text(least),
                           size_text(most));
    }
    if (command.name.empty() || command.name.size() >= layout::kNameBytes) {
        return "a name has 1 to 127 bytes";
    }
    return {};
}

}  // namespace

int run_create(const CreateCommand& command)
{
    const auto size = parse_size(command.size);
    if (!size) {
        return usage(command, fmt::format("'{}' is not a size (bytes, or with K, M, G, T, P)",
                                          command.size));
    }
    std::uint64_t journal = 0;
    if (!command.journal.empty()) {
        const auto parsed = parse_size(command.journal);
        if (!parsed || *parsed == 0) {
            return usage(command,
                         fmt::format("'{}' is not a size for the journal", command.journal));
        }
        journal = *parsed;
    }
    if (const std::string problem = problem_of(command, *size, journal); !problem.empty()) {
        return usage(command, problem);
    }
    // Not over something that somebody may want to keep.
    struct stat facts {};
    const bool exists = stat(command.path.c_str(), &facts) == 0;
    if (exists && !command.force && (facts.st_size != 0 || !S_ISREG(facts.st_mode))) {
        fmt::print(stderr, "coppice: {}: exists; --force writes a new image over it\n",
                   command.path);
        return kExitFailed;
    }

    int code = kExitFailed;
    FiberTasks tasks;
    tasks.run([&] {
        using Mode = FileDiskOptions::Mode;
        auto disk = FileDisk::open(tasks, command.path,
                                   {.mode = exists ? Mode::create : Mode::create_exclusive});
        if (!disk) {
            code = report_error(command.path, disk.error());
            return;
        }
        CreateOptions options;
        options.uuid = random_uuid();
        options.volume_bytes = *size;
        options.volume_name = command.name;
        options.lba_shift = command.lba_bytes == 512 ? 9 : 12;
        options.flush = flush_mode_of(command.flush).value_or(FlushMode::durable);
        options.journal_bytes = journal;
        if (auto status = Store::create(**disk, options); !status) {
            code = report_error(command.path, status.error());
            if (!exists) {
                unlink(command.path.c_str());
            }
            return;
        }
        code = kExitOk;
        if (command.json) {
            print_json({{"image", command.path},
                        {"uuid", to_string(options.uuid)},
                        {"volume", command.name},
                        {"size_bytes", *size},
                        {"lba_bytes", command.lba_bytes},
                        {"flush", command.flush}});
        } else {
            fmt::print("{}: volume '{}' of {}, {}-byte LBAs\n", command.path, command.name,
                       size_text(*size), command.lba_bytes);
        }
    });
    return code;
}

}  // namespace coppice::images
