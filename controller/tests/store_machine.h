// The controller over the real store, on a disk in memory, with a model of what each namespace
// holds.
#pragma once

#include <map>

#include "controller/tests/fakes.h"
#include "coppice-catch.h"
#include "format/disk/fiber_tasks.h"
#include "format/disk/memory_disk.h"

namespace coppice::nvme::test {

inline constexpr std::uint64_t kVolumeBytes = 8U << 20;

class StoreMachine {
public:
    StoreMachine(unsigned seed, unsigned shift)
        : random(seed), fibers({.seed = seed, .virtual_time = true}), disk(fibers), shift_(shift)
    {
        fibers.run([&] {
            CreateOptions options;
            options.volume_bytes = kVolumeBytes;
            options.lba_shift = shift;
            REQUIRE(Store::create(disk, options));
        });
        open();
        backend = std::make_unique<StoreBackend>(*store, fibers);
        machine.elsewhere = [this] {
            fibers.run_until_idle();
            return machine.host.scheduled;
        };
        machine.controller->stop();
        machine.controller->use(*backend);
        machine.controller->start();
        machine.controller->reset();
        machine.run();
        machine.enable();
        queue = machine.create_queue(1, 64, 1);
        buffer = machine.pages.take(260);
        models[1] = std::vector<std::byte>(kVolumeBytes);
    }
    ~StoreMachine()
    {
        machine.run();
        machine.controller->stop();
        machine.controller->use(*machine.backend);
        if (store != nullptr) {
            fibers.run([&] { store->abandon(); });
        }
    }

    void open()
    {
        fibers.run([&] {
            auto opened = Store::open(disk, {});
            REQUIRE(opened);
            store = std::move(*opened);
        });
    }

    // What a killed process leaves, under a controller that starts again.
    void crash_and_open()
    {
        machine.controller->stop();
        machine.run();
        machine.controller->use(*machine.backend);
        fibers.run([&] { store->abandon(); });
        store.reset();
        open();
        backend = std::make_unique<StoreBackend>(*store, fibers);
        machine.controller->use(*backend);
        machine.controller->start();
        machine.controller->reset();
        machine.run();
        machine.enable();
        queue = machine.create_queue(1, 64, 1);
    }

    StatusCode io(IoOpcode opcode, std::uint32_t nsid, std::uint64_t lba, std::uint32_t blocks,
                  std::uint32_t flags = 0)
    {
        const std::uint64_t keep = machine.pages.next();
        SubmissionEntry entry = io_entry(opcode, nsid, lba, blocks,
                                         machine.data(buffer, std::uint64_t{blocks} << shift_));
        entry.cdw12 = entry.cdw12 | flags;
        const StatusCode status = machine.status(queue, entry);
        machine.pages.reset(keep);
        return status;
    }

    std::uint32_t named(AdminOpcode opcode, std::uint32_t nsid, const std::string& name)
    {
        NameData data;
        std::copy(name.begin(), name.end(), data.name.begin());
        machine.put(buffer, data);
        const CompletionEntry done = machine.admin_call(admin_entry(opcode, nsid, buffer));
        REQUIRE(status_field_code(done.status) == StatusCode::success);
        return done.dw0;
    }

    void attach(std::uint32_t nsid)
    {
        ControllerList list;
        list.count = 1;
        machine.put(buffer, list);
        REQUIRE(machine.status(machine.admin, admin_entry(AdminOpcode::namespace_attachment, nsid,
                                                          buffer)) == StatusCode::success);
    }

    void check(std::uint32_t nsid, std::uint64_t lba, std::uint32_t blocks)
    {
        REQUIRE(io(IoOpcode::read, nsid, lba, blocks) == StatusCode::success);
        const auto got = machine.guest(buffer, std::size_t{blocks} << shift_);
        INFO("nsid " << nsid << " lba " << lba << " blocks " << blocks);
        REQUIRE(std::equal(got.begin(), got.end(),
                           models[nsid].begin() + static_cast<std::ptrdiff_t>(lba << shift_)));
    }

    void check_all(std::uint32_t nsid)
    {
        const auto step = static_cast<std::uint32_t>((1U << 20) >> shift_);
        for (std::uint64_t lba = 0; lba < kVolumeBytes >> shift_; lba += step) {
            check(nsid, lba, step);
        }
    }

    void step(std::uint32_t nsid)
    {
        auto& model = models[nsid];
        const std::uint64_t end = kVolumeBytes >> shift_;
        const auto blocks =
            static_cast<std::uint32_t>(1 + random() % (random() % 4 == 0 ? 256 : 20));
        const std::uint64_t lba = random() % (end - blocks);
        const auto at = model.begin() + static_cast<std::ptrdiff_t>(lba << shift_);
        const std::size_t bytes = std::size_t{blocks} << shift_;
        switch (random() % 8) {
        case 0:
        case 1:
        case 2: {
            machine.fill(buffer, bytes, static_cast<unsigned>(random()));
            std::copy_n(machine.guest(buffer, bytes).begin(), bytes, at);
            const std::uint32_t fua = random() % 8 == 0 ? 1U << 30 : 0;
            REQUIRE(io(IoOpcode::write, nsid, lba, blocks, fua) == StatusCode::success);
            break;
        }
        case 3:
            std::fill_n(at, bytes, std::byte{0});
            REQUIRE(io(IoOpcode::write_zeroes, nsid, lba, blocks,
                       random() % 2 == 0 ? 1U << 25 : 0) == StatusCode::success);
            break;
        case 4: copy(nsid, lba, blocks); break;
        case 5: REQUIRE(io(IoOpcode::flush, nsid, 0, 1) == StatusCode::success); break;
        default: check(nsid, lba, blocks);
        }
    }

    void copy(std::uint32_t nsid, std::uint64_t lba, std::uint32_t blocks)
    {
        const std::uint64_t end = kVolumeBytes >> shift_;
        const std::uint64_t from = random() % (end - blocks);
        CopyRange range;
        range.start_lba = from;
        range.blocks_z = static_cast<std::uint16_t>(blocks - 1);
        machine.put(buffer, range);
        SubmissionEntry entry = io_entry(IoOpcode::copy, nsid, lba, 1, {buffer, 0});
        entry.cdw12 = 0;
        const bool overlaps = from < lba + blocks && lba < from + blocks;
        REQUIRE(machine.status(queue, entry) ==
                (overlaps ? StatusCode::overlapping_io_range : StatusCode::success));
        if (!overlaps) {
            auto& model = models[nsid];
            std::copy_n(model.begin() + static_cast<std::ptrdiff_t>(from << shift_),
                        std::size_t{blocks} << shift_,
                        model.begin() + static_cast<std::ptrdiff_t>(lba << shift_));
        }
    }

    std::mt19937 random;
    FiberTasks fibers;
    MemoryDisk disk;
    std::unique_ptr<Store> store;
    std::unique_ptr<StoreBackend> backend;
    Machine machine;
    DriverQueue queue;
    std::uint64_t buffer = 0;
    std::map<std::uint32_t, std::vector<std::byte>> models;

private:
    unsigned shift_;
};

}  // namespace coppice::nvme::test
