// coppice-cuts BEFORE LOG: cuts the power at each of many recorded host writes of a real guest's
// run and looks at what is left.
//
//   BEFORE   the image as it was when the run began
//   LOG      what QEMU's blklogwrites recorded below the format (write_log.h)
//   --stream what the guest's jobs wrote, and so what was acknowledged (streams.h)
//
// For each image that a cut leaves (cut_maker.h): the checker must be silent, the image must open
// read-only, every acknowledged sync must be there and what comes after it be a prefix. Some are
// also opened for writing, written, closed and checked again. With --format raw the log is of a raw
// disk: it has no atomic writes and so shows that the judges see.
// Exit codes: 0 all as it should be, 1 not, 2 usage.
#include <CLI/CLI.hpp>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <unistd.h>

#include "cut_maker.h"
#include "format/check/checker.h"
#include "format/disk/fiber_tasks.h"
#include "format/volume/store.h"
#include "streams.h"

namespace {

using namespace coppice;
using namespace coppice::cuts;

constexpr VolumeId kVolume(1);
constexpr unsigned kMostFailures = 5;

struct Arguments {
    std::string before, log, format = "coppice", export_folder;
    std::vector<std::string> streams;
    std::size_t cuts = 1000;
    unsigned subsets = 12;
    unsigned writable_every = 10;  // images
    unsigned exports = 20;
    std::uint64_t seed = 1;
    std::uint64_t length_bytes = 0;
    std::string part = "1/1";
    std::string only;  // CUT:SUBSET
    bool ignore_flushes = false;
    bool all_if_fewer = false;
};

struct Counts {
    std::uint64_t cuts = 0, images = 0, torn = 0, writable = 0, exported = 0, failures = 0;
    std::uint64_t replayed = 0;
};

// What a crash of this very process says last: which image it was.
std::array<char, 256> last_words{};
void on_abort(int)
{
    const auto length = static_cast<std::size_t>(
        std::find(last_words.begin(), last_words.end(), '\0') - last_words.begin());
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, last_words.data(), length);
}

std::string complaints_of_checker(MemoryDisk& disk, bool strict)
{
    CheckOptions options;
    options.verify_data = true;
    options.max_findings = 5;
    const Result<CheckReport> report = check(disk, options);
    if (!report) {
        return "the checker refuses: " + report.error().text;
    }
    std::string complaints;
    for (const Finding& finding : report->findings) {
        // A cut between the two copies of a superblock leaves one of them behind; the other serves.
        if (!strict && finding.severity == Severity::repairable &&
            finding.kind == FindingKind::superblock) {
            continue;
        }
        complaints += fmt::format("checker: {} {}: {}; ", severity_name(finding.severity),
                                  finding_name(finding.kind), finding.text);
    }
    return complaints;
}

class Judge {
public:
    Judge(const std::vector<Stream>& streams, bool raw) : streams_(streams), raw_(raw) {}

    // What is wrong with the image; empty: nothing. Read-only.
    std::string look(const SparseBytes& image, std::size_t entries, Counts& counts) const
    {
        if (raw_) {
            return ask_streams(reader_of(image), entries);
        }
        return in_task(image, true, [&](MemoryDisk& disk) {
            std::string wrong = complaints_of_checker(disk, false);
            if (!wrong.empty()) {
                return wrong;
            }
            return with_store(disk, true, [&](Store& store) {
                counts.replayed += store.info().replayed_operations;
                return ask_streams(reader_of(store), entries);
            });
        });
    }

    // The same with the image opened for writing; then it is written, closed and checked.
    std::string use(const SparseBytes& image, std::size_t entries) const
    {
        return in_task(image, false, [&](MemoryDisk& disk) {
            std::string wrong = with_store(disk, false, [&](Store& store) {
                std::string found = ask_streams(reader_of(store), entries);
                return found.empty() ? write_and_close(store) : found;
            });
            if (!wrong.empty()) {
                return "opened for writing: " + wrong;
            }
            wrong = complaints_of_checker(disk, true);
            return wrong.empty() ? wrong : "after writing and closing: " + wrong;
        });
    }

    // The volume, by whoever wants to read it.
    std::string with_reader(const SparseBytes& image,
                            const std::function<std::string(const Reader&)>& body) const
    {
        if (raw_) {
            return body(reader_of(image));
        }
        return in_task(image, true, [&](MemoryDisk& disk) {
            return with_store(disk, true, [&](Store& store) { return body(reader_of(store)); });
        });
    }

private:
    static Reader reader_of(const SparseBytes& image)
    {
        return [&image](std::uint64_t offset, std::span<std::byte> into) {
            image.read(offset, into);
            return true;
        };
    }
    static Reader reader_of(Store& store)
    {
        return [&store](std::uint64_t offset, std::span<std::byte> into) {
            const iovec buffer{into.data(), into.size()};
            return store.read(kVolume, offset, {&buffer, 1}).has_value();
        };
    }

    std::string ask_streams(const Reader& read, std::size_t entries) const
    {
        for (std::size_t i = 0; i < streams_.size(); ++i) {
            const std::string wrong = streams_[i].judge(read, entries);
            if (!wrong.empty()) {
                return fmt::format("stream {}: {}", i + 1, wrong);
            }
        }
        return {};
    }

    template <typename Body>
    static std::string in_task(const SparseBytes& image, bool read_only, const Body& body)
    {
        FiberTasks tasks({.virtual_time = true});
        MemoryDisk disk(tasks, image);
        disk.set_read_only(read_only);
        std::string wrong;
        tasks.run([&] { wrong = body(disk); });
        return wrong;
    }

    template <typename Body>
    static std::string with_store(MemoryDisk& disk, bool read_only, const Body& body)
    {
        OpenOptions options;
        options.read_only = read_only;
        Result<std::unique_ptr<Store>> store = Store::open(disk, options);
        if (!store) {
            return "does not open: " + store.error().text;
        }
        std::string wrong = body(**store);
        if (read_only || !wrong.empty()) {
            (*store)->pause();
            (*store)->abandon();
        }
        return wrong;
    }

    static std::string write_and_close(Store& store)
    {
        std::array<std::byte, kBlockBytes> block{};
        block.fill(std::byte{0x5a});
        const iovec buffer{block.data(), block.size()};
        // A cut may leave one copy of a superblock behind; two checkpoints renew both slots.
        for (const Status& status :
             {store.write(kVolume, 0, {&buffer, 1}, true), store.checkpoint(),
              store.write(kVolume, 0, {&buffer, 1}, true), store.settle(), store.close()}) {
            if (!status) {
                store.pause();
                store.abandon();
                return status.error().text;
            }
        }
        return {};
    }

    const std::vector<Stream>& streams_;
    bool raw_;
};

class Run {
public:
    Run(const Arguments& arguments, const WriteLog& log, std::vector<Stream> streams)
        : arguments_(arguments),
          log_(log),
          streams_(std::move(streams)),
          judge_(streams_, arguments.format == "raw")
    {
    }

    int run(const SparseBytes& before)
    {
        if (!prepare(before)) {
            return 1;
        }
        CutMaker maker(log_, before, arguments_.ignore_flushes);
        const std::vector<std::size_t> moments = choose_moments();
        if (moments.size() < arguments_.cuts && !arguments_.all_if_fewer) {
            fmt::print("the log has {} places to cut, and {} were asked for\n", moments.size(),
                       arguments_.cuts);
            return 1;
        }
        unsigned part = 1;
        unsigned parts = 1;
        if (std::sscanf(arguments_.part.c_str(), "%u/%u", &part, &parts) != 2 || part < 1 ||
            part > parts) {
            fmt::print(stderr, "--part is NUMBER/COUNT\n");
            return 2;
        }
        for (std::size_t i = part - 1; i < moments.size() && go_on(); i += parts) {
            maker.go_to(moments[i]);
            ++counts_.cuts;
            for (unsigned subset = 0; subset < arguments_.subsets && go_on(); ++subset) {
                one(maker, moments[i], subset);
            }
        }
        fmt::print("{} images of {} cuts in {} entries, {} with a torn write, {} opened for "
                   "writing, {} exported, {} operations replayed, {} failures\n",
                   counts_.images, counts_.cuts, log_.entries().size(), counts_.torn,
                   counts_.writable, counts_.exported, counts_.replayed, counts_.failures);
        return counts_.failures == 0 && counts_.images > 0 ? 0 : 1;
    }

private:
    bool go_on() const { return counts_.failures < kMostFailures; }

    bool prepare(const SparseBytes& before)
    {
        std::size_t writes = 0;
        for (std::size_t i = 0; i < log_.entries().size(); ++i) {
            const LogEntry& entry = log_.entries()[i];
            writes += entry.kind == LogEntry::Kind::write ? 1U : 0U;
            for (Stream& stream : streams_) {
                stream.watch(i, entry);
            }
        }
        CutMaker end(log_, before, false);
        end.go_to(log_.entries().size());
        const std::string wrong = judge_.with_reader(end.whole(), [&](const Reader& read) {
            for (Stream& stream : streams_) {
                stream.locate(read);
            }
            return std::string();
        });
        fmt::print("{} host writes in {} entries\n", writes, log_.entries().size());
        for (std::size_t i = 0; i < streams_.size(); ++i) {
            const std::uint64_t seen = streams_[i].seen(log_.entries().size());
            fmt::print("stream {}: {} is the newest write\n", i + 1, seen);
            if (seen == 0) {
                fmt::print("stream {} is not in the log\n", i + 1);
                return false;
            }
        }
        if (!wrong.empty()) {
            fmt::print("the end of the run: {}\n", wrong);
        }
        return wrong.empty();
    }

    // Right behind writes and discards, evenly over the run.
    std::vector<std::size_t> choose_moments() const
    {
        std::vector<std::size_t> all;
        for (std::size_t i = 0; i < log_.entries().size(); ++i) {
            if (log_.entries()[i].kind != LogEntry::Kind::flush) {
                all.push_back(i + 1);
            }
        }
        if (all.size() <= arguments_.cuts) {
            return all;
        }
        std::vector<std::size_t> chosen;
        for (std::size_t i = 0; i < arguments_.cuts; ++i) {
            chosen.push_back(all[i * all.size() / arguments_.cuts]);
        }
        return chosen;
    }

    void one(const CutMaker& maker, std::size_t entries, unsigned subset)
    {
        const std::string name = fmt::format("{}:{}", entries, subset);
        if (!arguments_.only.empty() && arguments_.only != name) {
            return;
        }
        guest::Random random(guest::mix(arguments_.seed) ^ guest::mix(entries * 1000 + subset));
        CutSummary summary;
        const SparseBytes image = maker.cut(random, subset, summary);
        const std::string words = fmt::format("cut {} ({}), --seed {} --only {}\n", name,
                                              summary.text(), arguments_.seed, name);
        last_words.fill('\0');
        std::copy_n(words.begin(), std::min(words.size(), last_words.size() - 1),
                    last_words.begin());
        ++counts_.images;
        counts_.torn += summary.torn != 0 ? 1 : 0;
        std::string wrong = judge_.look(image, entries, counts_);
        const bool use = arguments_.format != "raw" && arguments_.writable_every != 0 &&
                         counts_.images % arguments_.writable_every == 0;
        if (wrong.empty() && use) {
            ++counts_.writable;
            wrong = judge_.use(image, entries);
        }
        if (!wrong.empty()) {
            ++counts_.failures;
            fmt::print("FAIL {}    {}\n", words, wrong);
            if (!arguments_.export_folder.empty()) {
                save(image, arguments_.export_folder + "/failed-" + name);
            }
        } else {
            export_volume(image, entries, subset);
        }
    }

    // The volume as a raw file, for the checkers of file systems.
    void export_volume(const SparseBytes& image, std::size_t entries, unsigned subset)
    {
        const bool due = counts_.images >= next_export_ && !arguments_.export_folder.empty() &&
                         streams_.front().seen(entries) != 0;
        if (!due) {
            return;
        }
        const std::uint64_t all = arguments_.cuts * arguments_.subsets;
        next_export_ = counts_.images + all / std::max(arguments_.exports, 1U);
        ++counts_.exported;
        const std::string wrong = judge_.with_reader(image, [&](const Reader& read) {
            SparseBytes volume;
            std::vector<std::byte> buffer(1 << 20);
            for (std::uint64_t at = 0; read(at, buffer); at += buffer.size()) {
                volume.write(at, buffer);
            }
            save(volume,
                 fmt::format("{}/cut-{}-{}.raw", arguments_.export_folder, entries, subset));
            return std::string();
        });
        if (!wrong.empty()) {
            fmt::print("export: {}\n", wrong);
        }
    }

    static void save(const SparseBytes& bytes, const std::string& path)
    {
        std::ofstream file(path, std::ios::binary);
        std::array<std::byte, SparseBytes::kChunkBytes> chunk{};
        for (std::uint64_t at = 0; at < bytes.size_bytes(); at += chunk.size()) {
            if (bytes.allocated(at)) {
                bytes.read(at, chunk);
                file.seekp(static_cast<std::streamoff>(at));
                file.write(reinterpret_cast<const char*>(chunk.data()), chunk.size());
            }
        }
        file.close();
        std::filesystem::resize_file(path, bytes.size_bytes());
    }

    const Arguments& arguments_;
    const WriteLog& log_;
    std::vector<Stream> streams_;
    Judge judge_;
    Counts counts_;
    std::uint64_t next_export_ = 0;
};

int run(const Arguments& arguments)
{
    const Result<std::unique_ptr<WriteLog>> log = WriteLog::open(arguments.log);
    Result<SparseBytes> before = load_image(arguments.before);
    if (!log || !before) {
        fmt::print(stderr, "{}\n", !log ? log.error().text : before.error().text);
        return 2;
    }
    before->truncate(std::max(before->size_bytes(), arguments.length_bytes));
    std::vector<Stream> streams;
    for (const std::string& words : arguments.streams) {
        const Result<Stream> stream = Stream::parse(words);
        if (!stream) {
            fmt::print(stderr, "{}\n", stream.error().text);
            return 2;
        }
        streams.push_back(*stream);
    }
    return Run(arguments, **log, std::move(streams)).run(*before);
}

}  // namespace

int main(int argc, char** argv)
{
    Arguments arguments;
    CLI::App app("Cuts the power at recorded host writes of a guest's run; judges what is left.");
    app.add_option("before", arguments.before, "the image when the run began")->required();
    app.add_option("log", arguments.log, "the log of QEMU's blklogwrites")->required();
    app.add_option("--stream", arguments.streams,
                   "KIND:OFFSET:LENGTH:FIRST:SEED[:BYTES]; KIND raw, file or atomic")
        ->required();
    app.add_option("--format", arguments.format)->check(CLI::IsMember({"coppice", "raw"}));
    app.add_option("--cuts", arguments.cuts, "how many host writes, evenly spread");
    app.add_flag("--all-if-fewer", arguments.all_if_fewer,
                 "a shorter log is cut everywhere; without this it is a failure");
    app.add_option("--subsets", arguments.subsets,
                   "images for each: everything kept, nothing, and random ones");
    app.add_option("--seed", arguments.seed);
    app.add_option("--length", arguments.length_bytes,
                   "bytes of the host file at the end; the log does not say when it grew");
    app.add_option("--writable-every", arguments.writable_every,
                   "images opened for writing; 0: none");
    app.add_option("--part", arguments.part,
                   "NUMBER/COUNT: every COUNTth cut, for several processes");
    app.add_option("--only", arguments.only, "CUT:SUBSET, to repeat a failure");
    app.add_option("--export", arguments.export_folder, "volumes after cuts, as raw files");
    app.add_option("--exports", arguments.exports, "how many");
    app.add_flag("--ignore-flushes", arguments.ignore_flushes,
                 "as if no flush had reached the disk: must fail");
    CLI11_PARSE(app, argc, argv);
    std::signal(SIGABRT, on_abort);
    return run(arguments);
}
