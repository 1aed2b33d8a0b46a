// A fake machine around the controller: guest memory as a vector, a store as byte arrays whose
// operations complete when the test says so, and a driver that builds queues as Linux does.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "controller/controller.h"
#include "controller/store_backend.h"

namespace coppice::nvme::test {

class FakeHost final : public Host {
public:
    static constexpr std::size_t kMemoryBytes = 24U << 20;
    std::vector<std::byte> memory = std::vector<std::byte>(kMemoryBytes);
    bool msix = true;
    bool refuse_maps = false;
    std::size_t most_mapped_at_once = ~std::size_t{0};
    std::vector<unsigned> messages = std::vector<unsigned>(kMaxIoQueues + 1);
    bool pin = false;
    bool scheduled = false;
    unsigned idles = 0;
    int mapped = 0;
    int begun = 0;
    std::uint64_t clock_ns = 1;
    ErrorAction action = ErrorAction::report;
    std::vector<std::string> reports;

    bool inside(std::uint64_t address, std::size_t length) const
    {
        return address <= memory.size() && length <= memory.size() - address;
    }
    bool read_memory(std::uint64_t address, std::span<std::byte> into) override
    {
        if (!inside(address, into.size())) {
            return false;
        }
        std::memcpy(into.data(), memory.data() + address, into.size());
        return true;
    }
    bool write_memory(std::uint64_t address, std::span<const std::byte> from) override
    {
        if (!inside(address, from.size())) {
            return false;
        }
        std::memcpy(memory.data() + address, from.data(), from.size());
        return true;
    }
    std::function<void()> on_map;  // what a transfer aimed at the device itself would cause
    void* map(std::uint64_t address, std::size_t& length, Direction) override
    {
        if (on_map) {
            on_map();
        }
        if (refuse_maps || !inside(address, 1)) {
            return nullptr;
        }
        length = std::min(
            {length, memory.size() - static_cast<std::size_t>(address), most_mapped_at_once});
        ++mapped;
        return memory.data() + address;
    }
    void unmap(void*, std::size_t, Direction, std::size_t) override { --mapped; }
    bool message_interrupts() override { return msix; }
    void send_message(std::uint16_t vector) override { ++messages[vector]; }
    void set_pin(bool asserted) override { pin = asserted; }
    std::uint64_t now_ns() override { return clock_ns; }
    std::uint64_t unix_ns() override { return 1'700'000'000'000'000'000 + clock_ns++; }
    void schedule_poll() override { scheduled = true; }
    void idle() override { ++idles; }
    void report(const std::string& text) override { reports.push_back(text); }
    void io_begins(IoClass, std::uint64_t, Cookie&) override { ++begun; }
    void io_ends(IoClass, Cookie&, bool) override { --begun; }
    ErrorAction on_error(IoClass, int) override { return action; }
};

class FakeTasks final : public Tasks {
public:
    std::deque<std::function<void()>> waiting;
    void spawn(std::function<void()> body) override { waiting.push_back(std::move(body)); }
    Task* current() override { return nullptr; }
    void suspend() override {}
    void wake(Task*) override {}
    void yield() override {}
    std::uint64_t now_ns() override { return 0; }
    std::uint64_t unix_ns() override { return 0; }
    bool run_one()
    {
        if (waiting.empty()) {
            return false;
        }
        auto body = std::move(waiting.front());
        waiting.pop_front();
        body();
        return true;
    }
};

class FakeStore final : public Store {
public:
    struct Volume {
        VolumeInfo info;
        std::vector<std::byte> data;
        bool dirty = false;  // something acknowledged that no flush or FUA has made durable
    };
    std::map<std::uint64_t, Volume> all;
    std::uint64_t next_id = 1;
    struct Pending {
        Operation operation;
        Completion completion;
    };
    std::deque<Pending> pending;
    std::optional<ErrorCode> fail_io;      // for the next operations
    std::optional<ErrorCode> fail_manage;  // for the next management call
    bool image_read_only = false;
    std::set<std::pair<std::uint64_t, std::uint64_t>> streams;  // volume, number
    std::uint64_t last_stream = 0;
    std::map<std::uint64_t, VolumeId> transactions;
    std::uint64_t last_transaction = 0;
    unsigned flushes = 0;
    unsigned checkpoints = 0;
    unsigned settles = 0;

    VolumeId add(std::uint64_t bytes, unsigned shift, const std::string& name)
    {
        Volume volume;
        volume.info.id = VolumeId(next_id);
        volume.info.name = name;
        volume.info.size_bytes = bytes;
        volume.info.lba_shift = shift;
        volume.info.nguid.fill(static_cast<std::uint8_t>(next_id));
        volume.info.eui64.fill(static_cast<std::uint8_t>(next_id));
        volume.data.resize(bytes);
        all.emplace(next_id, std::move(volume));
        return VolumeId(next_id++);
    }
    Volume& at(VolumeId id) { return all.at(id.value); }

    // Executes one waiting operation, any of them.
    template <typename Random>
    bool complete_one(Random& random)
    {
        if (pending.empty()) {
            return false;
        }
        const auto index = static_cast<std::ptrdiff_t>(random() % pending.size());
        Pending one = std::move(pending[static_cast<std::size_t>(index)]);
        pending.erase(pending.begin() + index);
        one.completion(execute(one.operation));
        return true;
    }

    Status close() override { return {}; }
    void abandon() override {}
    void tick() override {}
    void pause() override {}
    void resume() override {}
    bool read_only() const override { return image_read_only; }
    ImageInfo info() override
    {
        ImageInfo info;
        info.space.image_bytes = 1U << 30;
        info.space.free_bytes = 1U << 29;
        info.generation = Generation(7);
        return info;
    }
    Statistics statistics() const override { return {}; }
    std::vector<VolumeInfo> volumes() override
    {
        std::vector<VolumeInfo> result;
        for (const auto& [id, volume] : all) {
            result.push_back(volume.info);
        }
        return result;
    }
    Result<VolumeInfo> volume(VolumeId id) override
    {
        if (!all.contains(id.value)) {
            return fail(ErrorCode::not_found, "no such volume");
        }
        return all.at(id.value).info;
    }
    Result<VolumeInfo> find(const std::string&, std::optional<VolumeId>) override
    {
        return fail(ErrorCode::not_found, "");
    }
    Result<VolumeId> create_volume(const NewVolume& wanted) override
    {
        COPPICE_TRY(injected());
        if (wanted.size_bytes > (64U << 20)) {
            return fail(ErrorCode::no_space, "too large for a test");
        }
        const VolumeId id = add(wanted.size_bytes, wanted.lba_shift, wanted.name);
        at(id).info.guest_made = wanted.guest_made;
        return id;
    }
    Result<VolumeId> snapshot(VolumeId volume, const NewSnapshot& wanted) override
    {
        COPPICE_TRY(injected());
        for (const auto& [other, v] : all) {
            if (v.info.snapshot && v.info.parent == volume && v.info.name == wanted.name) {
                return fail(ErrorCode::exists, "the name is taken");
            }
        }
        Volume copy = at(volume);
        return add_copy(std::move(copy), volume, true, wanted.name, wanted.guest_made);
    }
    Result<VolumeId> clone_volume(VolumeId snapshot, const std::string& name,
                                  bool guest_made) override
    {
        COPPICE_TRY(injected());
        Volume copy = at(snapshot);
        return add_copy(std::move(copy), snapshot, false, name, guest_made);
    }
    Status remove(VolumeId id) override
    {
        COPPICE_TRY(injected());
        all.erase(id.value);
        return {};
    }
    Status rollback(VolumeId volume, VolumeId snapshot) override
    {
        COPPICE_TRY(injected());
        at(volume).data = at(snapshot).data;
        return {};
    }
    Status resize(VolumeId volume, std::uint64_t bytes) override
    {
        at(volume).info.size_bytes = bytes;
        at(volume).data.resize(bytes);
        return {};
    }
    Status rename(VolumeId, const std::string&) override { return {}; }
    Status set_flush_mode(VolumeId volume, FlushMode mode) override
    {
        COPPICE_TRY(injected());
        at(volume).info.flush = mode;
        return {};
    }
    Status set_group(VolumeId volume, ConsistencyGroup group) override
    {
        COPPICE_TRY(injected());
        at(volume).info.group = group;
        return {};
    }
    Result<std::vector<VolumeId>> snapshot_group(ConsistencyGroup group, const std::string& name,
                                                 bool guest_made) override
    {
        std::vector<VolumeId> made;
        const std::map<std::uint64_t, Volume> before = all;
        for (const auto& [id, volume] : before) {
            if (volume.info.group == group && !volume.info.snapshot) {
                COPPICE_ASSIGN(one,
                               snapshot(VolumeId(id), {.name = name, .guest_made = guest_made}));
                made.push_back(one);
            }
        }
        return made;
    }
    Status read(VolumeId, std::uint64_t, std::span<const iovec>) override { return {}; }
    Status write(VolumeId, std::uint64_t, std::span<const iovec>, bool) override { return {}; }
    Status deallocate(VolumeId, std::span<const Range>) override { return {}; }
    Status write_zeroes(VolumeId, Range) override { return {}; }
    Status clone(VolumeId, std::uint64_t, std::span<const CloneSource>) override { return {}; }
    Status flush(VolumeId) override { return {}; }
    Result<StreamId> open_stream(VolumeId volume) override
    {
        COPPICE_TRY(injected());
        const StreamId id(++last_stream);
        streams.insert({volume.value, id.value});
        return id;
    }
    Status close_stream(VolumeId volume, StreamId stream) override
    {
        COPPICE_TRY(injected());
        if (streams.erase({volume.value, stream.value}) == 0) {
            return fail(ErrorCode::not_found, "no such stream");
        }
        return {};
    }
    Status perform(const Operation& operation) override { return execute(operation); }
    Result<BlockStatus> block_status(VolumeId, Range) override { return BlockStatus{}; }
    Status checkpoint() override
    {
        COPPICE_TRY(injected());
        ++checkpoints;
        return {};
    }
    Status settle() override
    {
        COPPICE_TRY(injected());
        ++settles;
        return {};
    }
    Status trim() override { return {}; }
    // A transaction's operations take effect at once: the fake knows who is in one, not what for.
    Result<TransactionId> begin(VolumeId volume) override
    {
        COPPICE_TRY(injected());
        transactions[++last_transaction] = volume;
        return TransactionId(last_transaction);
    }
    Status commit(TransactionId id, bool) override { return abort(id); }
    Status abort(TransactionId id) override
    {
        COPPICE_TRY(volume_of(id));
        transactions.erase(id.value);
        return {};
    }
    Result<VolumeId> volume_of(TransactionId id) override
    {
        if (!transactions.contains(id.value)) {
            return fail(ErrorCode::not_found, "no such transaction");
        }
        return transactions.at(id.value);
    }
    void submit(const Operation& operation, Completion completion) override
    {
        pending.push_back({operation, std::move(completion)});
    }

private:
    Status injected()
    {
        if (fail_manage) {
            return fail(*std::exchange(fail_manage, std::nullopt), "injected");
        }
        return {};
    }
    Result<VolumeId> add_copy(Volume copy, VolumeId parent, bool is_snapshot,
                              const std::string& name, bool guest_made)
    {
        copy.info.id = VolumeId(next_id);
        copy.info.name = name;
        copy.info.snapshot = is_snapshot;
        copy.info.guest_made = guest_made;
        copy.info.parent = parent;
        copy.info.created_unix_ns = 42;
        copy.info.created = Sequence(next_id);
        copy.info.nguid.fill(static_cast<std::uint8_t>(next_id));
        all.emplace(next_id, std::move(copy));
        return VolumeId(next_id++);
    }
    static bool inside(const Volume& volume, std::uint64_t offset, std::uint64_t length)
    {
        return offset % 512 == 0 && length % 512 == 0 && offset <= volume.data.size() &&
               length <= volume.data.size() - offset;
    }
    Status execute(const Operation& operation);
    Status execute_clone(Volume& volume, const Operation& operation);
    static void write_pieces(Volume& volume, const Operation& operation);
};

// Guest memory handed out page by page.
class Pages {
public:
    std::uint64_t take(std::size_t pages)
    {
        const std::uint64_t at = next_;
        next_ += pages * kPageBytes;
        if (next_ > FakeHost::kMemoryBytes) {
            std::abort();
        }
        return at;
    }
    void reset(std::uint64_t to) { next_ = to; }
    std::uint64_t next() const { return next_; }

private:
    std::uint64_t next_ = kPageBytes;  // address 0 is nobody's
};

// A driver's view of a queue pair.
struct DriverQueue {
    std::uint16_t id = 0;
    std::uint64_t sq = 0;
    std::uint64_t cq = 0;
    std::uint32_t entries = 0;
    std::uint32_t sq_tail = 0;
    std::uint32_t cq_head = 0;
    bool phase = true;
};

class Machine {
public:
    explicit Machine(GuestManage manage = GuestManage::own, unsigned seed = 1);
    ~Machine();

    FakeHost host;
    FakeTasks tasks;
    FakeStore store;
    VolumeId disk;   // 4 KiB blocks, nsid 1
    VolumeId small;  // 512-byte blocks, nsid 2
    std::mt19937 random;
    Config config;
    std::unique_ptr<StoreBackend> backend;
    std::unique_ptr<Controller> controller;
    Pages pages;
    DriverQueue admin;
    std::uint16_t next_id = 100;

    std::uint32_t read32(std::uint64_t offset)
    {
        return static_cast<std::uint32_t>(controller->read_register(offset, 4));
    }
    void write32(std::uint64_t offset, std::uint32_t value)
    {
        controller->write_register(offset, value, 4);
    }

    std::function<bool()> elsewhere;  // a further source of work: true if it did something
    // Lets everything happen that can.
    void run();
    bool step();

    void enable(std::uint32_t admin_entries = 32);
    void disable();

    // Puts the entry into the queue; returns its command id. Rings if told to.
    std::uint16_t submit(DriverQueue& queue, SubmissionEntry entry, bool ring = true);
    void ring(const DriverQueue& queue);
    std::optional<CompletionEntry> reap(DriverQueue& queue, bool ring_head = true);
    // Submits, runs, and takes the completion; it must be the only one.
    CompletionEntry call(DriverQueue& queue, const SubmissionEntry& entry);
    CompletionEntry admin_call(const SubmissionEntry& entry) { return call(admin, entry); }
    StatusCode status(DriverQueue& queue, const SubmissionEntry& entry)
    {
        return status_field_code(call(queue, entry).status);
    }

    DriverQueue create_queue(std::uint16_t id, std::uint32_t entries, std::uint16_t vector);
    DataPointer data(std::uint64_t address, std::uint64_t bytes);

    template <typename Structure>
    Structure get(std::uint64_t address)
    {
        Structure value;
        host.read_memory(address, std::as_writable_bytes(std::span(&value, 1)));
        return value;
    }
    template <typename Structure>
    void put(std::uint64_t address, const Structure& value)
    {
        host.write_memory(address, std::as_bytes(std::span(&value, 1)));
    }
    void fill(std::uint64_t address, std::size_t bytes, unsigned seed);
    std::span<std::byte> guest(std::uint64_t address, std::size_t bytes)
    {
        return std::span(host.memory).subspan(static_cast<std::size_t>(address), bytes);
    }
    std::span<std::byte> disk_bytes(VolumeId id, std::size_t offset, std::size_t bytes)
    {
        return std::span(store.at(id).data).subspan(offset, bytes);
    }
};

SubmissionEntry admin_entry(AdminOpcode opcode, std::uint32_t nsid = 0, std::uint64_t prp1 = 0);
SubmissionEntry io_entry(IoOpcode opcode, std::uint32_t nsid, std::uint64_t lba,
                         std::uint32_t blocks, DataPointer data = {});

}  // namespace coppice::nvme::test
