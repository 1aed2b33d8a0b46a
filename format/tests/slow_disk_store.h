// A store on a disk in memory whose requests can be made slow (in virtual time) or made to fail,
// and what tests of its behaviour under pressure ask of it in one line each.
#pragma once

#include "coppice-catch.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "format/check/checker.h"
#include "format/disk/fiber_tasks.h"
#include "format/disk/memory_disk.h"
#include "format/volume/store.h"

namespace coppice {

inline constexpr std::uint64_t kMiB = 1 << 20;
inline constexpr std::uint64_t kSecond = 1'000'000'000;

using Bytes = std::vector<std::uint8_t>;

inline std::string text_of(const Status& status) { return status ? "" : status.error().text; }

// All functions but `run`, `run_for` and `expect_clean` are called in a task, within `run`.
class SlowDiskStore {
public:
    SlowDiskStore() : tasks({.virtual_time = true}), disk(tasks)
    {
        disk.set_fault_hook([this](const IoRequest& request) {
            const std::uint64_t pause = delay ? delay(request) : 0;
            if (pause != 0) {
                tasks.sleep_until(tasks.now_ns() + pause);
            }
            return fault ? fault(request) : 0;
        });
    }

    void run(const std::function<void()>& body) { tasks.run(body); }

    // With logical blocks of 512 bytes.
    void create(std::uint64_t volume_bytes, const OpenOptions& open_options = {},
                std::uint64_t journal_bytes = 0)
    {
        CreateOptions options;
        options.uuid.bytes.fill(7);
        options.volume_bytes = volume_bytes;
        options.lba_shift = 9;
        options.journal_bytes = journal_bytes;
        REQUIRE(Store::create(disk, options));
        open(open_options);
    }

    void open(const OpenOptions& options = {})
    {
        store.reset();
        auto opened = Store::open(disk, options);
        INFO((opened ? "" : opened.error().text));
        REQUIRE(opened.has_value());
        store = std::move(*opened);
    }

    // Ticks as the host of a store does, for so many seconds.
    void tick_for(unsigned seconds)
    {
        for (unsigned i = 0; i < seconds; ++i) {
            store->tick();
            tasks.sleep_until(tasks.now_ns() + kSecond);
        }
    }

    Status try_write(VolumeId volume, std::uint64_t offset, std::uint64_t length, std::uint8_t fill)
    {
        Bytes bytes(length, fill);
        const iovec buffer{bytes.data(), bytes.size()};
        return store->write(volume, offset, {&buffer, 1}, false);
    }

    void write(VolumeId volume, std::uint64_t offset, std::uint64_t length, std::uint8_t fill)
    {
        const Status done = try_write(volume, offset, length, fill);
        INFO(text_of(done));
        REQUIRE(done.has_value());
    }

    Bytes read(VolumeId volume, std::uint64_t offset, std::uint64_t length)
    {
        Bytes bytes(length, 0xEE);
        const iovec buffer{bytes.data(), bytes.size()};
        const Status done = store->read(volume, offset, {&buffer, 1});
        INFO(text_of(done));
        REQUIRE(done.has_value());
        return bytes;
    }

    bool holds(VolumeId volume, std::uint64_t offset, std::uint64_t length, std::uint8_t fill)
    {
        return read(volume, offset, length) == Bytes(length, fill);
    }

    void deallocate(VolumeId volume, std::uint64_t offset, std::uint64_t length)
    {
        const Range range{offset, length};
        const Status done = store->deallocate(volume, {&range, 1});
        INFO(text_of(done));
        REQUIRE(done.has_value());
    }

    // The image as it lies there has nothing wrong; every data block is read.
    void expect_clean()
    {
        delay = nullptr;
        fault = nullptr;
        std::string text;
        bool clean = false;
        tasks.run([&] {
            CheckOptions options;
            options.verify_data = true;
            auto report = coppice::check(disk, options);
            INFO((report ? "" : report.error().text));
            REQUIRE(report.has_value());
            for (const Finding& finding : report->findings) {
                text += std::string(finding_name(finding.kind)) + ": " + finding.text + "\n";
            }
            clean = report->clean();
        });
        INFO(text);
        REQUIRE(clean);
    }

    FiberTasks tasks;
    MemoryDisk disk;
    std::unique_ptr<Store> store;
    std::function<std::uint64_t(const IoRequest&)> delay;  // nanoseconds
    std::function<int(const IoRequest&)> fault;            // a positive errno, or 0
};

}  // namespace coppice
