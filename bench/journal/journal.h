// What the sections of the journal's bench share: how they say what they saw, a store for a while,
// and small words for what they do with it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "format/disk/fiber_tasks.h"
#include "format/volume/store.h"

namespace coppice::bench {

inline constexpr VolumeId kVolume{1};
inline constexpr std::uint64_t kMiB = 1ULL << 20;
inline constexpr std::uint64_t kGiB = 1ULL << 30;
inline constexpr std::uint64_t kMillisecond = 1'000'000;
inline constexpr std::uint64_t kSecond = 1'000'000'000;

struct Settings {
    std::string dir;                      // of real files; none: memory, where that is possible
    std::uint64_t gibibytes = 8;          // checkpoints
    unsigned checkpoints = 10;            // checkpoints
    unsigned seconds = 60;                // churn
    bool real = false;                    // churn
    std::uint64_t commits = 20'000;       // group: operations
    std::uint64_t extents = 100'000'000;  // sizes
    bool json = false;
};

// Prints what was seen, a row at a time: a table, or a line of JSON for each row.
class Report {
public:
    explicit Report(bool json) : json_(json) {}

    void section(std::string_view name, std::string_view about);
    void text(std::string_view line);  // for people only
    void row(std::string_view what, double value, std::string_view unit,
             std::string_view goal = "");

private:
    bool json_;
    std::string section_;
};

// Each returns false if something is not as it must be; a goal missed is only printed.
bool run_checkpoints(const Settings& settings, Report& report);
bool run_churn(const Settings& settings, Report& report);
bool run_group(const Settings& settings, Report& report);
bool run_sizes(const Settings& settings, Report& report);
bool run_order(const Settings& settings, Report& report);

void require(const Status& status);
std::uint64_t cpu_ns();  // of this thread
std::uint64_t wall_ns();
double median_of(std::vector<double> values);

// A new image with one volume (kVolume), open.
struct NewImage {
    std::uint64_t volume_bytes = 0;
    std::uint64_t journal_bytes = 0;  // 0: as the volume's size has it
    OpenOptions open;
};
std::unique_ptr<Store> make_store(Disk& disk, const NewImage& image);

// A block (or some) that repeats one word, which StampDisk keeps as that.
class Stamped {
public:
    explicit Stamped(std::uint64_t bytes = kBlockBytes) : words_(bytes / 8) {}
    iovec with(std::uint64_t stamp)
    {
        std::fill(words_.begin(), words_.end(), stamp);
        return {words_.data(), words_.size() * 8};
    }

private:
    std::vector<std::uint64_t> words_;
};

Operation write_of(std::uint64_t offset_bytes, const iovec& buffer, StreamId stream = {});
void write_at(Store& store, std::uint64_t offset_bytes, const iovec& buffer);

}  // namespace coppice::bench
