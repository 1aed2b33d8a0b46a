// The translation layer alone: a store over a disk that costs nothing. Blocks of zeroes are not
// kept, so that data (all zeroes here) take no memory while nodes and journal are real; every
// write is mapped, checksummed and journaled, every read looked up and verified.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstring>
#include <fmt/format.h>
#include <random>
#include <tsl/robin_map.h>

#include "format/disk/fiber_tasks.h"
#include "format/volume/store.h"

using namespace coppice;

namespace {

class NullDisk final : public Disk {
public:
    using Disk::Disk;
    Result<std::uint64_t> size_bytes() override { return size_; }
    bool read_only() const override { return false; }

    std::uint64_t written_bytes = 0;

protected:
    void start(std::span<IoRequest> requests) override
    {
        for (IoRequest& request : requests) {
            switch (request.kind) {
            case IoRequest::Kind::read: read_blocks(request); break;
            case IoRequest::Kind::write: write_blocks(request); break;
            case IoRequest::Kind::truncate: size_ = request.offset_bytes; break;
            case IoRequest::Kind::allocate:
            case IoRequest::Kind::discard:
            case IoRequest::Kind::sync: break;
            }
            complete(request, 0);
        }
    }

private:
    using Block = std::array<std::byte, kBlockBytes>;

    void read_blocks(const IoRequest& request)
    {
        std::uint64_t block = request.offset_bytes / kBlockBytes;
        for (const iovec& buffer : request.buffers) {
            auto* to = static_cast<std::byte*>(buffer.iov_base);
            for (std::size_t i = 0; i < buffer.iov_len; i += kBlockBytes, ++block) {
                auto found = blocks_.find(block);
                if (found == blocks_.end()) {
                    std::memset(to + i, 0, kBlockBytes);
                } else {
                    std::memcpy(to + i, found->second->data(), kBlockBytes);
                }
            }
        }
    }

    void write_blocks(const IoRequest& request)
    {
        written_bytes += request.length_bytes;
        size_ = std::max(size_, request.offset_bytes + request.length_bytes);
        std::uint64_t block = request.offset_bytes / kBlockBytes;
        for (const iovec& buffer : request.buffers) {
            const auto* from = static_cast<const std::byte*>(buffer.iov_base);
            for (std::size_t i = 0; i < buffer.iov_len; i += kBlockBytes, ++block) {
                static constexpr Block kZeroes{};
                if (std::memcmp(from + i, kZeroes.data(), kBlockBytes) == 0) {
                    blocks_.erase(block);
                } else {
                    auto& kept = blocks_[block];
                    if (!kept) {
                        kept = std::make_unique<Block>();
                    }
                    std::memcpy(kept->data(), from + i, kBlockBytes);
                }
            }
        }
    }

    tsl::robin_map<std::uint64_t, std::unique_ptr<Block>> blocks_;
    std::uint64_t size_ = 0;
};

struct Measure {
    const char* name;
    bool write;
    bool sequential;
    std::uint64_t bytes;
    unsigned flush_every;  // 0: never
};

void require(const Status& status)
{
    if (!status) {
        fmt::print(stderr, "coppice-bench-engine: {}\n", status.error().text);
        std::exit(1);
    }
}

double run(FiberTasks& tasks, Store& store, const Measure& measure, std::uint64_t volume_bytes,
           std::uint64_t operations, unsigned depth)
{
    std::vector<std::byte> data(measure.bytes);
    const auto begin = std::chrono::steady_clock::now();
    std::uint64_t started = 0;
    unsigned running = depth;
    WaitQueue done(tasks);
    for (unsigned i = 0; i < depth; ++i) {
        tasks.spawn([&, i] {
            std::mt19937_64 random(i);
            const iovec buffer{data.data(), data.size()};
            const std::uint64_t places = volume_bytes / measure.bytes;
            while (started < operations) {
                const std::uint64_t number = started++;
                const std::uint64_t place =
                    measure.sequential ? number % places : random() % places;
                const std::uint64_t offset = place * measure.bytes;
                require(measure.write ? store.write(VolumeId(1), offset, {&buffer, 1}, false)
                                      : store.read(VolumeId(1), offset, {&buffer, 1}));
                if (measure.flush_every != 0 && number % measure.flush_every == 0) {
                    require(store.flush(VolumeId(1)));
                }
                if (depth > 1 && number % 64 == 0) {
                    tasks.yield();
                }
            }
            if (--running == 0) {
                done.wake_all();
            }
        });
    }
    while (running != 0) {
        done.wait();
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    return static_cast<double>(operations) / seconds.count();
}

}  // namespace

int main(int argc, char** argv)
{
    CLI::App app{"Speed of the translation layer over a disk that costs nothing"};
    std::uint64_t gibibytes = 4;
    std::uint64_t operations = 100000;
    app.add_option("--size", gibibytes, "size of the volume in GiB")->capture_default_str();
    app.add_option("--operations", operations, "4 KiB operations for each row")
        ->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    const std::uint64_t volume_bytes = gibibytes << 30;

    FiberTasks tasks;
    NullDisk disk(tasks);
    tasks.run([&] {
        CreateOptions create;
        create.uuid = random_uuid();
        create.volume_bytes = volume_bytes;
        require(Store::create(disk, create));
        OpenOptions open;
        open.cache_bytes = 512ULL << 20;
        auto opened = Store::open(disk, open);
        if (!opened) {
            require(pass_on(opened));
        }
        Store& store = **opened;
        fmt::print("engine over a null disk, {} GiB volume, one thread\n\n", gibibytes);
        fmt::print("{:<34} {:>6} {:>12} {:>10} {:>14}\n", "", "depth", "operations/s", "MB/s",
                   "host bytes/byte");
        const std::array<Measure, 6> measures{{
            {"sequential write 128 KiB", true, true, 131072, 0},
            {"random write 4 KiB", true, false, 4096, 0},
            {"random write 4 KiB, flush every 32", true, false, 4096, 32},
            {"random read 4 KiB", false, false, 4096, 0},
            {"sequential read 128 KiB", false, true, 131072, 0},
            {"random write 4 KiB, again", true, false, 4096, 0},
        }};
        for (const Measure& measure : measures) {
            for (unsigned depth : {1U, 32U}) {
                const std::uint64_t count =
                    std::max<std::uint64_t>(operations * 4096 / measure.bytes, 1000);
                disk.written_bytes = 0;
                const double rate = run(tasks, store, measure, volume_bytes, count, depth);
                require(store.flush(VolumeId(1)));
                const double user = static_cast<double>(count * measure.bytes);
                fmt::print(
                    "{:<34} {:>6} {:>12.0f} {:>10.0f} {:>14}\n", measure.name, depth, rate,
                    rate * static_cast<double>(measure.bytes) / 1e6,
                    measure.write
                        ? fmt::format("{:.3f}", static_cast<double>(disk.written_bytes) / user)
                        : "");
            }
        }
        const Statistics statistics = store.statistics();
        fmt::print("\n{} checkpoints, {} commits, {} nodes written\n", statistics.checkpoints,
                   statistics.commits, statistics.nodes_written);
        require(store.close());
    });
    return 0;
}
