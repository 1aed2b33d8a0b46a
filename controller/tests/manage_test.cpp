// Namespace management and the vendor commands for snapshots.
#include "controller/block_backend.h"
#include "controller/tests/fakes.h"
#include "coppice-catch.h"

using namespace coppice;
using namespace coppice::nvme;
using namespace coppice::nvme::test;

namespace {

struct ManageMachine : Machine {
    explicit ManageMachine(GuestManage manage = GuestManage::own) : Machine(manage)
    {
        enable();
        queue = create_queue(1, 16, 1);
        page = pages.take(2);
    }
    CompletionEntry named(AdminOpcode opcode, std::uint32_t nsid, const std::string& name)
    {
        NameData data;
        std::copy(name.begin(), name.end(), data.name.begin());
        put(page, data);
        return admin_call(admin_entry(opcode, nsid, page));
    }
    StatusCode attach(std::uint32_t nsid, bool attach)
    {
        ControllerList list;
        list.count = 1;
        put(page, list);
        SubmissionEntry entry = admin_entry(AdminOpcode::namespace_attachment, nsid, page);
        entry.cdw10 = attach ? 0 : 1;
        return status(admin, entry);
    }
    StatusCode remove(std::uint32_t nsid)
    {
        SubmissionEntry entry = admin_entry(AdminOpcode::namespace_management, nsid);
        entry.cdw10 = 1;
        return status(admin, entry);
    }
    CompletionEntry create(std::uint64_t blocks, std::uint8_t format)
    {
        IdentifyNamespace wanted;
        wanted.nsze = blocks;
        wanted.ncap = blocks;
        wanted.flbas = format;
        put(page, wanted);
        return admin_call(admin_entry(AdminOpcode::namespace_management, 0, page));
    }
    StatusCode rollback(std::uint32_t nsid, std::uint32_t snapshot, bool force)
    {
        SubmissionEntry entry = admin_entry(AdminOpcode::rollback, nsid);
        entry.cdw10 = snapshot;
        entry.cdw11 = force ? 1 : 0;
        return status(admin, entry);
    }
    StatusCode io(IoOpcode opcode, std::uint32_t nsid)
    {
        return status(queue, io_entry(opcode, nsid, 0, 1, {page, 0}));
    }
    DriverQueue queue;
    std::uint64_t page = 0;
};

StatusCode code(const CompletionEntry& entry) { return status_field_code(entry.status); }

}  // namespace

TEST_CASE("snapshot, attach, clone, diverge, delete")
{
    ManageMachine machine;
    machine.fill(machine.page, 4096, 1);
    const std::vector<std::byte> old(machine.guest(machine.page, 4096).begin(),
                                     machine.guest(machine.page, 4096).end());
    REQUIRE(machine.io(IoOpcode::write, 1) == StatusCode::success);
    CompletionEntry done = machine.named(AdminOpcode::snapshot_create, 1, "vor dem Umbau ü");
    REQUIRE(code(done) == StatusCode::success);
    const std::uint32_t snapshot = done.dw0;
    CHECK(snapshot == 3);
    CHECK(machine.io(IoOpcode::read, snapshot) == StatusCode::invalid_field);  // not attached
    machine.fill(machine.page, 4096, 2);
    REQUIRE(machine.io(IoOpcode::write, 1) == StatusCode::success);
    REQUIRE(machine.attach(snapshot, true) == StatusCode::success);
    CHECK(machine.attach(snapshot, true) == StatusCode::namespace_already_attached);
    REQUIRE(machine.io(IoOpcode::read, snapshot) == StatusCode::success);
    CHECK(std::equal(old.begin(), old.end(), machine.guest(machine.page, 4096).begin()));

    SubmissionEntry identify = admin_entry(AdminOpcode::identify, snapshot, machine.page);
    REQUIRE(machine.status(machine.admin, identify) == StatusCode::success);
    CHECK(machine.get<IdentifyNamespace>(machine.page).nsattr == 1);

    done = machine.named(AdminOpcode::clone, snapshot, "clone");
    REQUIRE(code(done) == StatusCode::success);
    const std::uint32_t clone = done.dw0;
    REQUIRE(machine.attach(clone, true) == StatusCode::success);
    REQUIRE(machine.io(IoOpcode::write, clone) == StatusCode::success);
    CHECK(machine.store.all.at(clone).data != machine.store.all.at(snapshot).data);

    CHECK(machine.attach(clone, false) == StatusCode::success);
    CHECK(machine.attach(clone, false) == StatusCode::namespace_not_attached);
    CHECK(machine.io(IoOpcode::read, clone) == StatusCode::invalid_field);
    CHECK(machine.remove(clone) == StatusCode::success);
    CHECK(machine.remove(clone) == StatusCode::invalid_namespace_or_format);
    CHECK(machine.status(machine.admin, admin_entry(AdminOpcode::snapshot_delete, 1)) ==
          StatusCode::invalid_field);
    CHECK(machine.status(machine.admin, admin_entry(AdminOpcode::snapshot_delete, snapshot)) ==
          StatusCode::success);
    CHECK(machine.store.all.size() == 2);
}

TEST_CASE("the list of snapshots, whole and cut short")
{
    ManageMachine machine;
    for (const char* name : {"a", "b", "c"}) {
        REQUIRE(code(machine.named(AdminOpcode::snapshot_create, 1, name)) == StatusCode::success);
    }
    REQUIRE(code(machine.named(AdminOpcode::snapshot_create, 2, "a")) == StatusCode::success);
    REQUIRE(machine.attach(4, true) == StatusCode::success);
    const auto list = [&](std::uint32_t nsid, std::uint32_t bytes) {
        SubmissionEntry entry = admin_entry(AdminOpcode::snapshot_list, nsid, machine.page);
        entry.cdw10 = bytes / 4 - 1;
        entry.prp2 = machine.page + 4096;
        REQUIRE(machine.status(machine.admin, entry) == StatusCode::success);
        return machine.get<SnapshotListHeader>(machine.page);
    };
    auto header = list(1, 64 + 8 * 256);
    CHECK((header.count == 3 && header.total == 3 && header.generation == 7));
    const auto entry = machine.get<SnapshotListEntry>(machine.page + 64 + 256);
    CHECK(entry.id == 4);
    CHECK(entry.volume == 1);
    CHECK(entry.size_lbas == 1024);
    CHECK(entry.flags == 3);
    CHECK(std::string(entry.name.data()) == "b");
    header = list(kNsidAll, 64 + 2 * 256 + 100);
    CHECK((header.count == 2 && header.total == 4));
    header = list(kNsidAll, 64);
    CHECK((header.count == 0 && header.total == 4));
    SubmissionEntry bad = admin_entry(AdminOpcode::snapshot_list, kNsidAll, machine.page);
    CHECK(machine.status(machine.admin, bad) == StatusCode::invalid_field);
    bad.cdw10 = 0xffffffff;
    CHECK(machine.status(machine.admin, bad) == StatusCode::invalid_field);
    bad.cdw10 = 15;
    bad.nsid = 77;
    CHECK(machine.status(machine.admin, bad) == StatusCode::invalid_namespace_or_format);
}

TEST_CASE("names must be text")
{
    ManageMachine machine;
    const auto make = [&](const std::string& name) {
        return code(machine.named(AdminOpcode::snapshot_create, 1, name));
    };
    CHECK(make("") == StatusCode::invalid_field);
    CHECK(make("a\nb") == StatusCode::invalid_field);
    CHECK(make("\xff") == StatusCode::invalid_field);
    CHECK(make("\xc0\x80") == StatusCode::invalid_field);      // too long a form
    CHECK(make("\xed\xa0\x80") == StatusCode::invalid_field);  // a surrogate
    CHECK(make("\xe2\x82") == StatusCode::invalid_field);      // cut off
    CHECK(make(std::string("a\0b", 3)) == StatusCode::invalid_field);
    CHECK(make(std::string(128, 'x')) == StatusCode::invalid_field);
    CHECK(make(std::string(127, 'x')) == StatusCode::success);
    CHECK(make("\xf0\x9f\x8c\xb3") == StatusCode::success);
    CHECK(make("\xf0\x9f\x8c\xb3") == StatusCode::name_exists);
    NameData data;
    data.name[0] = 'a';
    data.reserved[5] = 1;
    machine.put(machine.page, data);
    CHECK(code(machine.admin_call(admin_entry(AdminOpcode::snapshot_create, 1, machine.page))) ==
          StatusCode::invalid_field);
}

TEST_CASE("guest-manage=own: what the host made stays, it may be looked at")
{
    ManageMachine machine;
    NewSnapshot wanted;
    wanted.name = "host";
    const auto made = machine.store.snapshot(machine.disk, wanted);
    REQUIRE(made);
    const auto snapshot = static_cast<std::uint32_t>(made->value);
    machine.controller->rescan();
    CHECK(machine.status(machine.admin, admin_entry(AdminOpcode::snapshot_delete, snapshot)) ==
          StatusCode::operation_denied);
    CHECK(machine.remove(snapshot) == StatusCode::operation_denied);
    CHECK(machine.remove(1) == StatusCode::operation_denied);
    CHECK(machine.attach(snapshot, true) == StatusCode::success);
    CHECK(code(machine.named(AdminOpcode::clone, snapshot, "mine")) == StatusCode::success);
    CHECK(machine.attach(2, false) == StatusCode::success);
    CHECK(code(machine.named(AdminOpcode::snapshot_create, 2, "no")) ==
          StatusCode::operation_denied);
    // After power-on all volumes are there again, snapshots are not.
    machine.controller->reset();
    machine.run();
    machine.enable();
    machine.queue = machine.create_queue(1, 16, 1);
    CHECK(machine.io(IoOpcode::read, 2) == StatusCode::success);
    CHECK(machine.io(IoOpcode::read, snapshot + 1) == StatusCode::success);
    CHECK(machine.io(IoOpcode::read, snapshot) == StatusCode::invalid_field);
}

TEST_CASE("guest-manage=all: the guest may remove anything")
{
    ManageMachine machine(GuestManage::all);
    CHECK(machine.remove(2) == StatusCode::success);
    CHECK(machine.remove(kNsidAll) == StatusCode::invalid_namespace_or_format);
    CHECK(machine.store.all.size() == 1);
}

TEST_CASE("rollback")
{
    ManageMachine machine;
    REQUIRE(machine.named(AdminOpcode::snapshot_create, 1, "s").dw0 == 3);
    REQUIRE(machine.named(AdminOpcode::snapshot_create, 2, "t").dw0 == 4);
    machine.fill(machine.page, 4096, 1);
    REQUIRE(machine.io(IoOpcode::write, 1) == StatusCode::success);
    CHECK(machine.rollback(1, 3, false) == StatusCode::object_busy);
    CHECK(machine.rollback(1, 4, true) == StatusCode::invalid_field);
    CHECK(machine.rollback(1, 2, true) == StatusCode::invalid_field);
    CHECK(machine.rollback(3, 3, true) == StatusCode::invalid_field);
    CHECK(machine.rollback(1, 3, true) == StatusCode::success);
    CHECK(machine.store.at(machine.disk).data == machine.store.all.at(3).data);
    // Detached, the host's own volume is not the guest's to change.
    REQUIRE(machine.attach(1, false) == StatusCode::success);
    CHECK(machine.rollback(1, 3, true) == StatusCode::operation_denied);
}

TEST_CASE("checkpoint")
{
    ManageMachine machine;
    const auto checkpoint = [&](std::uint32_t nsid) {
        return machine.status(machine.admin, admin_entry(AdminOpcode::checkpoint, nsid));
    };
    CHECK(checkpoint(0) == StatusCode::success);
    CHECK((machine.store.checkpoints == 1 && machine.store.settles == 1));
    // It is of the image: a namespace is not its business.
    CHECK(checkpoint(1) == StatusCode::invalid_field);
    CHECK(checkpoint(kNsidAll) == StatusCode::invalid_field);
    machine.store.fail_manage = ErrorCode::io;
    CHECK(checkpoint(0) == StatusCode::internal_error);
    machine.store.fail_manage = ErrorCode::read_only;
    CHECK(checkpoint(0) == StatusCode::namespace_write_protected);
    CHECK((machine.store.checkpoints == 1 && machine.store.settles == 1));
}

TEST_CASE("set flush mode")
{
    ManageMachine machine;
    const auto set = [&](std::uint32_t nsid, std::uint32_t mode) {
        auto entry = admin_entry(AdminOpcode::set_flush_mode, nsid);
        entry.cdw10 = mode;
        return machine.status(machine.admin, entry);
    };
    CHECK(set(1, 1) == StatusCode::success);
    CHECK(machine.store.at(VolumeId(1)).info.flush == FlushMode::ordered);
    CHECK(set(1, 2) == StatusCode::invalid_field);
    CHECK(set(1, 0) == StatusCode::success);
    CHECK(machine.store.at(VolumeId(1)).info.flush == FlushMode::durable);
    CHECK(set(0, 1) == StatusCode::invalid_namespace_or_format);
    CHECK(set(99, 1) == StatusCode::invalid_namespace_or_format);
    machine.store.fail_manage = ErrorCode::io;
    CHECK(set(1, 1) == StatusCode::internal_error);
}

TEST_CASE("set consistency group, and snapshots of all of one at one moment")
{
    ManageMachine machine;
    const auto set = [&](std::uint32_t nsid, std::uint32_t group) {
        auto entry = admin_entry(AdminOpcode::set_group, nsid);
        entry.cdw10 = group;
        return machine.status(machine.admin, entry);
    };
    CHECK(set(1, 256) == StatusCode::invalid_field);
    CHECK(set(0, 1) == StatusCode::invalid_namespace_or_format);
    CHECK(set(1, 255) == StatusCode::success);
    CHECK(set(2, 255) == StatusCode::success);
    SubmissionEntry identify = admin_entry(AdminOpcode::identify, 2, machine.page);
    REQUIRE(machine.status(machine.admin, identify) == StatusCode::success);
    CHECK(machine.get<IdentifyNamespace>(machine.page).group == 255);

    NameData name;
    name.name[0] = 'g';
    machine.put(machine.page, name);
    SubmissionEntry create = admin_entry(AdminOpcode::snapshot_create, 2, machine.page);
    create.cdw10 = 1;
    const CompletionEntry done = machine.admin_call(create);
    REQUIRE(code(done) == StatusCode::success);
    CHECK(machine.store.all.at(done.dw0).info.parent == VolumeId(2));
    std::size_t snapshots = 0;
    for (const auto& [id, volume] : machine.store.all) {
        snapshots += volume.info.snapshot ? 1 : 0;
    }
    CHECK(snapshots == 2);
    // One that the guest may not touch is no reason to make a part of them.
    const VolumeId foreign = machine.store.add(1 << 20, 12, "foreign");
    machine.store.at(foreign).info.group = ConsistencyGroup(255);
    name.name[0] = 'h';
    machine.put(machine.page, name);
    CHECK(machine.status(machine.admin, create) == StatusCode::operation_denied);
    CHECK(set(2, 0) == StatusCode::success);
    CHECK(machine.status(machine.admin, create) == StatusCode::success);  // of itself alone
    CHECK(machine.store.all.size() == 3 + 2 + 1);
    machine.store.fail_manage = ErrorCode::io;
    CHECK(set(1, 0) == StatusCode::internal_error);
}

TEST_CASE("guest-manage=off: no checkpoint either")
{
    ManageMachine machine(GuestManage::off);
    CHECK(machine.status(machine.admin, admin_entry(AdminOpcode::checkpoint)) ==
          StatusCode::invalid_opcode);
    CHECK(machine.store.checkpoints == 0);
}

TEST_CASE("creating namespaces")
{
    ManageMachine machine;
    CompletionEntry done = machine.create(256, 1);
    REQUIRE(code(done) == StatusCode::success);
    CHECK(machine.store.all.at(done.dw0).info.size_bytes == 256 * 4096);
    CHECK(machine.store.all.at(done.dw0).info.guest_made);
    CHECK(code(machine.create(0, 1)) == StatusCode::invalid_field);
    CHECK(code(machine.create(std::uint64_t{1} << 52, 1)) == StatusCode::invalid_field);
    CHECK(code(machine.create(1, 2)) == StatusCode::invalid_format);
    CHECK(code(machine.create(1, 0x11)) == StatusCode::invalid_format);
    CHECK(code(machine.create(1U << 20, 1)) == StatusCode::namespace_insufficient_capacity);
    SubmissionEntry entry = admin_entry(AdminOpcode::namespace_management, 1, machine.page);
    entry.cdw10 = 2;
    CHECK(machine.status(machine.admin, entry) == StatusCode::invalid_field);
    ControllerList list;
    list.count = 1;
    list.ids[0] = 9;
    machine.put(machine.page, list);
    CHECK(machine.status(machine.admin,
                         admin_entry(AdminOpcode::namespace_attachment, 1, machine.page)) ==
          StatusCode::controller_list_invalid);
}

TEST_CASE("deleting a namespace in use waits for its commands; a failure brings it back")
{
    ManageMachine machine;
    const std::uint32_t nsid = machine.create(256, 1).dw0;
    REQUIRE(machine.attach(nsid, true) == StatusCode::success);
    machine.submit(machine.queue, io_entry(IoOpcode::read, nsid, 0, 1, {machine.page, 0}));
    SubmissionEntry entry = admin_entry(AdminOpcode::namespace_management, nsid);
    entry.cdw10 = 1;
    SECTION("waits")
    {
        machine.submit(machine.admin, entry);
        machine.controller->poll();
        CHECK(machine.tasks.waiting.empty());
        machine.run();
        CHECK(code(*machine.reap(machine.queue)) == StatusCode::success);
        CHECK(code(*machine.reap(machine.admin)) == StatusCode::success);
        CHECK(machine.store.all.size() == 2);
    }
    SECTION("a reset comes first")
    {
        machine.submit(machine.admin, entry);
        machine.controller->poll();
        machine.disable();
        machine.enable();
        machine.queue = machine.create_queue(1, 16, 1);
        CHECK(machine.io(IoOpcode::read, nsid) == StatusCode::success);
    }
    SECTION("fails")
    {
        machine.store.fail_manage = ErrorCode::busy;
        machine.submit(machine.admin, entry);
        machine.run();
        CHECK(code(*machine.reap(machine.admin)) == StatusCode::object_busy);
        CHECK(machine.reap(machine.queue));
        CHECK(machine.io(IoOpcode::read, nsid) == StatusCode::success);
    }
}

TEST_CASE("a reset while a snapshot is being made")
{
    ManageMachine machine;
    NameData data;
    data.name[0] = 'x';
    machine.put(machine.page, data);
    machine.submit(machine.admin, admin_entry(AdminOpcode::snapshot_create, 1, machine.page));
    CHECK(machine.tasks.waiting.size() == 1);
    machine.write32(kRegisterCc, 0);
    CHECK(machine.read32(kRegisterCsts) == 1);
    machine.run();
    CHECK(machine.read32(kRegisterCsts) == 0);
    machine.enable();
    machine.queue = machine.create_queue(1, 16, 1);
    CHECK(code(machine.named(AdminOpcode::snapshot_create, 1, "x")) == StatusCode::name_exists);
}

// ---- Over a plain block device ------------------------------------------------------------

namespace {

class FakeDevice final : public BlockDevice {
public:
    std::vector<std::byte> bytes = std::vector<std::byte>(8U << 20);
    bool at_once = false;
    int result = 0;
    std::deque<BlockIo> waiting;
    unsigned flushes = 0;

    std::uint64_t size_bytes() override { return bytes.size() + 100; }
    bool read_only() override { return false; }
    void start(BlockIo io) override
    {
        if (at_once) {
            end(io);
        } else {
            waiting.push_back(std::move(io));
        }
    }
    bool end_one()
    {
        if (waiting.empty()) {
            return false;
        }
        BlockIo io = std::move(waiting.front());
        waiting.pop_front();
        end(io);
        return true;
    }

private:
    void end(BlockIo& io)
    {
        auto at = bytes.begin() + static_cast<std::ptrdiff_t>(io.offset_bytes);
        switch (io.kind) {
        case BlockIo::Kind::read:
        case BlockIo::Kind::write:
            for (const iovec& piece : io.buffers) {
                auto* memory = static_cast<std::byte*>(piece.iov_base);
                if (io.kind == BlockIo::Kind::read) {
                    std::copy_n(at, piece.iov_len, memory);
                } else {
                    std::copy_n(memory, piece.iov_len, at);
                }
                at += static_cast<std::ptrdiff_t>(piece.iov_len);
            }
            break;
        case BlockIo::Kind::flush: ++flushes; break;
        case BlockIo::Kind::discard:
        case BlockIo::Kind::write_zeroes: std::fill_n(at, io.length_bytes, std::byte{0}); break;
        }
        io.completion(result);
    }
};

}  // namespace

TEST_CASE("over a plain block device: one namespace, no snapshots, Copy moves bytes")
{
    ManageMachine machine;
    FakeDevice device;
    device.at_once = GENERATE(false, true);
    for (std::size_t i = 0; i < device.bytes.size(); ++i) {
        device.bytes[i] = static_cast<std::byte>(i / 512 * 7 + i);
    }
    BlockBackend backend(device, {1, 12, {}, {}});
    machine.controller->stop();
    machine.controller->use(backend);
    machine.controller->start();
    const auto run = [&](DriverQueue& queue, const SubmissionEntry& entry) {
        machine.submit(queue, entry);
        do {
            machine.run();
        } while (device.end_one());
        machine.run();
        const auto done = machine.reap(queue);
        REQUIRE(done);
        return code(*done);
    };
    CHECK(run(machine.queue, io_entry(IoOpcode::read, 1, 5, 1, {machine.page, 0})) ==
          StatusCode::success);
    CHECK(machine.guest(machine.page, 1)[0] == device.bytes[5 * 4096]);
    CHECK(run(machine.queue, io_entry(IoOpcode::read, 2, 5, 1, {machine.page, 0})) ==
          StatusCode::invalid_field);
    CHECK(run(machine.admin, admin_entry(AdminOpcode::snapshot_create, 1, machine.page)) ==
          StatusCode::invalid_opcode);
    CHECK(run(machine.admin, admin_entry(AdminOpcode::checkpoint)) == StatusCode::invalid_opcode);
    CHECK(run(machine.queue, io_entry(IoOpcode::flush, 1, 0, 1)) == StatusCode::success);
    CHECK(device.flushes == 1);

    // 2.5 MiB from two ranges, so several chunks.
    for (unsigned i = 0; i < 2; ++i) {
        CopyRange range;
        range.start_lba = 100 + i * 640;
        range.blocks_z = 319;
        machine.put(machine.page + i * sizeof(range), range);
    }
    const std::vector<std::byte> before = device.bytes;
    SubmissionEntry copy = io_entry(IoOpcode::copy, 1, 1200, 1, {machine.page, 0});
    copy.cdw12 = 1U << 30 | 1;
    CHECK(run(machine.queue, copy) == StatusCode::success);
    CHECK(device.flushes == 2);
    CHECK(std::equal(before.begin() + 100 * 4096, before.begin() + 420 * 4096,
                     device.bytes.begin() + 1200 * 4096));
    CHECK(std::equal(before.begin() + 740 * 4096, before.begin() + 1060 * 4096,
                     device.bytes.begin() + 1520 * 4096));

    DsmRange dsm;
    dsm.start_lba = 3;
    dsm.blocks = 2;
    machine.put(machine.page, dsm);
    SubmissionEntry deallocate = io_entry(IoOpcode::dataset_management, 1, 0, 1, {machine.page, 0});
    deallocate.cdw11 = 4;
    CHECK(run(machine.queue, deallocate) == StatusCode::success);
    CHECK(device.bytes[4 * 4096 + 1] == std::byte{0});
    device.result = -ENOSPC;
    CHECK(run(machine.queue, io_entry(IoOpcode::write, 1, 5, 1, {machine.page, 0})) ==
          StatusCode::capacity_exceeded);
    CHECK(run(machine.queue, deallocate) == StatusCode::capacity_exceeded);
    machine.controller->stop();
    machine.controller->use(*machine.backend);
}
