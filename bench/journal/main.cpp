// What the journal promises, measured: how long anybody stands still for a checkpoint, what churn
// leaves behind, what a flush shared by many costs, how much goes into the journal, and who waits
// for whom. Figures, not tests; only churn fails when something grows that must not.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <ctime>
#include <fmt/format.h>
#include <map>
#include <nlohmann/json.hpp>

#include "bench/journal/journal.h"

namespace coppice::bench {

void Report::section(std::string_view name, std::string_view about)
{
    section_ = name;
    if (!json_) {
        fmt::print("\n{}: {}\n", name, about);
    }
}

void Report::text(std::string_view line)
{
    if (!json_) {
        fmt::print("  {}\n", line);
    }
}

void Report::row(std::string_view what, double value, std::string_view unit, std::string_view goal)
{
    if (json_) {
        const nlohmann::json line{
            {"section", section_}, {"row", what}, {"value", value}, {"unit", unit}, {"goal", goal}};
        fmt::print("{}\n", line.dump());
        return;
    }
    const bool whole = value == static_cast<double>(static_cast<std::int64_t>(value));
    fmt::print("  {:<62} {:>12} {:<12} {}\n", what,
               whole ? fmt::format("{:.0f}", value) : fmt::format("{:.3f}", value), unit,
               goal.empty() ? "" : fmt::format("goal: {}", goal));
}

void require(const Status& status)
{
    if (!status) {
        fmt::print(stderr, "coppice-bench-journal: {}\n", status.error().text);
        std::exit(1);
    }
}

namespace {

std::uint64_t clock_ns(clockid_t clock)
{
    timespec time{};
    ::clock_gettime(clock, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * kSecond +
           static_cast<std::uint64_t>(time.tv_nsec);
}

}  // namespace

std::uint64_t cpu_ns() { return clock_ns(CLOCK_THREAD_CPUTIME_ID); }
std::uint64_t wall_ns() { return clock_ns(CLOCK_MONOTONIC); }

double median_of(std::vector<double> values)
{
    std::sort(values.begin(), values.end());
    return values.empty() ? 0 : values[values.size() / 2];
}

std::unique_ptr<Store> make_store(Disk& disk, const NewImage& image)
{
    CreateOptions create;
    create.uuid = random_uuid();
    create.volume_bytes = image.volume_bytes;
    create.journal_bytes = image.journal_bytes;
    require(Store::create(disk, create));
    auto opened = Store::open(disk, image.open);
    if (!opened) {
        require(pass_on(opened));
    }
    return std::move(*opened);
}

Operation write_of(std::uint64_t offset_bytes, const iovec& buffer, StreamId stream)
{
    return {.kind = Operation::Kind::write,
            .volume = kVolume,
            .stream = stream,
            .offset_bytes = offset_bytes,
            .buffers = {&buffer, 1}};
}

void write_at(Store& store, std::uint64_t offset_bytes, const iovec& buffer)
{
    require(store.perform(write_of(offset_bytes, buffer)));
}

}  // namespace coppice::bench

int main(int argc, char** argv)
{
    using namespace coppice::bench;
    using Section = bool (*)(const Settings&, Report&);
    const std::vector<std::pair<std::string, Section>> sections{{"checkpoints", run_checkpoints},
                                                                {"churn", run_churn},
                                                                {"group", run_group},
                                                                {"sizes", run_sizes},
                                                                {"order", run_order}};

    CLI::App app{"What the journal promises, measured"};
    Settings settings;
    std::vector<std::string> only;
    std::vector<std::string> names;
    for (const auto& [name, run] : sections) {
        names.push_back(name);
    }
    app.add_option("--only", only, "these sections: checkpoints, churn, group, sizes, order")
        ->check(CLI::IsMember(names));
    app.add_option("--dir", settings.dir,
                   "where files lie for what is measured in real time (group and order need it; "
                   "checkpoints and churn --real run in memory without it)")
        ->check(CLI::ExistingDirectory);
    app.add_option("--size", settings.gibibytes, "checkpoints: the volume, in GiB")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--checkpoints", settings.checkpoints, "checkpoints: how many")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--seconds", settings.seconds, "churn: how long, by its clock")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_flag("--real", settings.real, "churn: in real time, not on a simulated disk");
    app.add_option("--commits", settings.commits, "group: writes with a flush each, in all")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--extents", settings.extents, "sizes: extents that the large volume maps")
        ->check(CLI::Range(std::uint64_t{1'000'000}, std::uint64_t{1'000'000'000}))
        ->capture_default_str();
    app.add_flag("--json", settings.json, "a line of JSON for each row, and no table");
    CLI11_PARSE(app, argc, argv);
    std::setvbuf(stdout, nullptr, _IOLBF, 0);

    Report report(settings.json);
    bool well = true;
    for (const auto& [name, run] : sections) {
        if (only.empty() || std::find(only.begin(), only.end(), name) != only.end()) {
            well = run(settings, report) && well;
        }
    }
    return well ? 0 : 1;
}
