// coppice read, write, trim: a volume's bytes, from and to files of the host.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fmt/format.h>
#include <memory>
#include <sys/stat.h>
#include <utility>
#include <vector>

#include "images/text.h"
#include "images/tool.h"

namespace coppice::images {

namespace {

constexpr std::size_t kStepBytes = 1U << 20;

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

struct Piece {
    Range range;
    std::vector<char> bytes;
};

tl::unexpected<Error> invalid(std::string text)
{
    return fail(ErrorCode::invalid_argument, std::move(text));
}

Result<std::vector<char>> contents_of(const std::string& path)
{
    const bool standard = path == "-";
    const File file(standard ? stdin : std::fopen(path.c_str(), "rb"),
                    [](std::FILE* f) { return f == stdin ? 0 : std::fclose(f); });
    if (file == nullptr) {
        return fail(ErrorCode::io, fmt::format("{}: {}", path, std::strerror(errno)));
    }
    std::vector<char> bytes;
    std::size_t got = 0;
    do {
        // What does not fit a transaction need not be read to its end.
        if (bytes.size() > kMaxTransactionBytes) {
            return fail(ErrorCode::too_large,
                        fmt::format("{} is larger than {}, the most that one write may be", path,
                                    size_text(kMaxTransactionBytes)));
        }
        const std::size_t before = bytes.size();
        bytes.resize(before + kStepBytes);
        got = std::fread(bytes.data() + before, 1, kStepBytes, file.get());
        bytes.resize(before + got);
    } while (got != 0);
    if (std::ferror(file.get()) != 0) {
        return fail(ErrorCode::io, fmt::format("{}: {}", path, std::strerror(errno)));
    }
    return bytes;
}

// "OFFSET=FILE"
Result<Piece> piece_of(const std::string& word)
{
    const std::size_t sign = word.find('=');
    const auto offset = parse_size(word.substr(0, sign));
    if (sign == std::string::npos || sign + 1 == word.size() || !offset) {
        return invalid(fmt::format("'{}' is not OFFSET=FILE, as 1M=boot.img is", word));
    }
    const std::string path = word.substr(sign + 1);
    COPPICE_ASSIGN(bytes, contents_of(path));
    if (bytes.empty() || bytes.size() % 512 != 0 || *offset % 512 != 0) {
        return invalid(fmt::format("{} has {} bytes and goes to byte {}; both must be multiples of "
                                   "512, and there must be some",
                                   path, bytes.size(), *offset));
    }
    return Piece{{*offset, bytes.size()}, std::move(bytes)};
}

Result<VolumeInfo> choose_source(Store& store, const ContentCommand& command)
{
    COPPICE_ASSIGN(volume, choose_volume(store, command.volume));
    if (command.snapshot.empty()) {
        return volume;
    }
    return store.find(command.snapshot, volume.id);
}

Result<Range> range_to_read(const ContentCommand& command, const VolumeInfo& volume)
{
    Range range{0, volume.size_bytes};
    for (const auto& [word, value] : {std::pair{&command.offset, &range.offset_bytes},
                                      std::pair{&command.length, &range.length_bytes}}) {
        if (!word->empty()) {
            const auto bytes = parse_size(*word);
            if (!bytes || *bytes % 512 != 0) {
                return invalid(fmt::format("'{}' is not a multiple of 512 bytes", *word));
            }
            *value = *bytes;
        }
    }
    if (range.offset_bytes > volume.size_bytes) {
        return fail(ErrorCode::out_of_range,
                    fmt::format("'{}' has {} bytes", volume.name, volume.size_bytes));
    }
    const std::uint64_t rest = volume.size_bytes - range.offset_bytes;
    if (command.length.empty()) {
        range.length_bytes = rest;
    }
    if (range.length_bytes > rest) {
        return fail(ErrorCode::out_of_range, fmt::format("behind byte {} '{}' has {} bytes",
                                                         range.offset_bytes, volume.name, rest));
    }
    return range;
}

std::uint64_t bytes_on_host(const std::string& path)
{
    struct stat facts {};
    constexpr std::uint64_t kUnit = 512;  // of st_blocks
    return stat(path.c_str(), &facts) == 0 ? static_cast<std::uint64_t>(facts.st_blocks) * kUnit
                                           : 0;
}

}  // namespace

int run_read(const ContentCommand& command)
{
    return with_store(command, true, [&](Store& store) -> Result<int> {
        COPPICE_ASSIGN(volume, choose_source(store, command));
        COPPICE_ASSIGN(range, range_to_read(command, volume));
        std::vector<char> step(kStepBytes);
        for (std::uint64_t done = 0; done < range.length_bytes;) {
            const auto now = static_cast<std::size_t>(
                std::min<std::uint64_t>(step.size(), range.length_bytes - done));
            const iovec into{step.data(), now};
            COPPICE_TRY(store.read(volume.id, range.offset_bytes + done, {&into, 1}));
            if (std::fwrite(step.data(), 1, now, stdout) != now) {
                return kExitFailed;  // main says so
            }
            done += now;
        }
        return kExitOk;
    });
}

int run_write(const WriteCommand& command)
{
    return with_store(command, false, [&](Store& store) -> Result<int> {
        COPPICE_ASSIGN(volume, choose_volume(store, command.volume));
        std::vector<Piece> pieces;
        for (const std::string& word : command.pieces) {
            COPPICE_ASSIGN(piece, piece_of(word));
            pieces.push_back(std::move(piece));
        }
        std::vector<Range> ranges;
        std::vector<iovec> buffers;
        std::uint64_t bytes = 0;
        for (Piece& piece : pieces) {
            ranges.push_back(piece.range);
            buffers.push_back({piece.bytes.data(), piece.bytes.size()});
            bytes += piece.bytes.size();
        }
        COPPICE_TRY(store.perform({.kind = Operation::Kind::write_ranges,
                                   .volume = volume.id,
                                   .buffers = buffers,
                                   .ranges = ranges,
                                   .fua = true}));
        if (command.json) {
            print_json({{"volume", volume.name}, {"ranges", ranges.size()}, {"bytes", bytes}});
        } else {
            fmt::print("volume '{}': {} written in {}\n", volume.name, size_text(bytes),
                       plural(ranges.size(), "range"));
        }
        return kExitOk;
    });
}

int run_trim(const ImageOptions& command)
{
    const std::uint64_t before = bytes_on_host(command.path);
    const int code = with_store(command, false, [](Store& store) -> Result<int> {
        COPPICE_TRY(store.trim());
        return kExitOk;
    });
    if (code != kExitOk) {
        return code;
    }
    const std::uint64_t after = bytes_on_host(command.path);
    if (command.json) {
        print_json({{"host_bytes_before", before}, {"host_bytes_after", after}});
    } else {
        fmt::print("on the host {}, before {}\n", size_text(after), size_text(before));
    }
    return kExitOk;
}

}  // namespace coppice::images
