#include "images/tool.h"

#include <chrono>
#include <fmt/format.h>
#include <unistd.h>

#include "images/text.h"

namespace coppice::images {

namespace {

// Errors of the file port begin with what failed and the path; the path stands in our line already.
std::string without_path(const std::string& text, const std::string& path)
{
    // Only as a word of its own before a colon or the end: "d" is in many words.
    const std::size_t at = path.empty() ? std::string::npos : text.find(path);
    const std::size_t end = at + path.size();
    if (at == std::string::npos || (at != 0 && text[at - 1] != ' ') ||
        (end != text.size() && text[end] != ':')) {
        return text;
    }
    std::string rest = text.substr(at + path.size());
    rest.erase(0, rest.find_first_not_of(": "));
    std::string before = text.substr(0, at);
    before.erase(before.find_last_not_of(' ') + 1);
    if (before.empty()) {
        return rest;
    }
    return rest.empty() ? before : fmt::format("{}: {}", before, rest);
}

}  // namespace

int report_error(const std::string& path, const Error& error)
{
    std::fflush(stdout);
    const std::string hint =
        is_corruption(error.code) ? "; `coppice check` says what is damaged" : "";
    fmt::print(stderr, "coppice: {}: {}{}\n", path, printable(without_path(error.text, path)),
               hint);
    return is_corruption(error.code) ? kExitCorrupt : kExitFailed;
}

void print_json(const Json& json)
{
    // Names in a damaged image may be no UTF-8.
    fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
}

int with_disk(const ImageOptions& options, bool read_only, const DiskBody& body)
{
    int code = kExitFailed;
    FiberTasks tasks;
    tasks.run([&] {
        auto disk = FileDisk::open(
            tasks, options.path,
            {.read_only = read_only, .force_share = read_only && options.force_share});
        if (!disk) {
            code = report_error(options.path, disk.error());
            return;
        }
        auto result = body(**disk);
        code = result ? *result : report_error(options.path, result.error());
    });
    return code;
}

int with_store(const ImageOptions& options, bool read_only, const StoreBody& body)
{
    return with_disk(options, read_only, [&](FileDisk& disk) -> Result<int> {
        OpenOptions open_options;
        open_options.read_only = read_only;
        COPPICE_ASSIGN(store, Store::open(disk, open_options));
        auto result = body(*store);
        if (read_only) {
            store->abandon();
            return result;
        }
        // What failed changed nothing; what came before it is kept all the same.
        auto closed = store->close();
        if (result && !closed) {
            return pass_on(closed);
        }
        return result;
    });
}

Result<VolumeInfo> choose_volume(Store& store, const std::string& name)
{
    if (!name.empty()) {
        return store.find(name, std::nullopt);
    }
    std::vector<VolumeInfo> candidates;
    for (const VolumeInfo& volume : store.volumes()) {
        if (!volume.snapshot) {
            if (volume.name == "main") {
                return volume;
            }
            candidates.push_back(volume);
        }
    }
    if (candidates.size() == 1) {
        return candidates.front();
    }
    return fail(ErrorCode::invalid_argument,
                candidates.empty() ? "the image has no volume"
                                   : "the image has several volumes; say which with --volume");
}

// ---- Progress -----------------------------------------------------------------------------

Progress::Progress() : terminal_(isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() { clear(); }

void Progress::show(std::string_view phase, std::uint64_t done, std::uint64_t total)
{
    if (!terminal_) {
        return;
    }
    using namespace std::chrono;
    const std::int64_t now_ms =
        duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count();
    if (phase == phase_ && now_ms - last_ms_ < 100) {
        return;
    }
    last_ms_ = now_ms;
    phase_ = phase;
    const double percent =
        total == 0 ? 0 : 100.0 * static_cast<double>(done) / static_cast<double>(total);
    fmt::print(stderr, "\r\033[K{}{}", phase, total == 0 ? "" : fmt::format(" {:.0f} %", percent));
    std::fflush(stderr);
    shown_ = true;
}

void Progress::clear()
{
    if (shown_) {
        fmt::print(stderr, "\r\033[K");
        std::fflush(stderr);
        shown_ = false;
    }
}

}  // namespace coppice::images
