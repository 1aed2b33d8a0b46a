// The NVM commands through the queues.
#include "controller/tests/fakes.h"
#include "coppice-catch.h"

using namespace coppice;
using namespace coppice::nvme;
using namespace coppice::nvme::test;

namespace {

struct IoMachine : Machine {
    explicit IoMachine(GuestManage manage = GuestManage::own) : Machine(manage)
    {
        enable();
        queue = create_queue(1, 32, 1);
    }
    StatusCode io(const SubmissionEntry& entry) { return status(queue, entry); }
    StatusCode io(IoOpcode opcode, std::uint32_t nsid, std::uint64_t lba, std::uint32_t blocks,
                  DataPointer pointer = {})
    {
        return io(io_entry(opcode, nsid, lba, blocks, pointer));
    }
    StatusCode copy(std::uint32_t nsid, std::uint64_t to, const std::vector<CopyRange>& ranges,
                    unsigned format = 0)
    {
        const std::uint64_t list = pages.take(2);
        for (std::size_t i = 0; i < ranges.size(); ++i) {
            put(list + i * sizeof(CopyRange), ranges[i]);
        }
        SubmissionEntry entry =
            io_entry(IoOpcode::copy, nsid, to, 1, data(list, ranges.size() * sizeof(CopyRange)));
        entry.cdw12 = static_cast<std::uint32_t>(ranges.size() - 1) | format << 8;
        return io(entry);
    }
    DriverQueue queue;
};

CopyRange range(std::uint64_t lba, std::uint32_t blocks, std::uint32_t nsid = 0)
{
    CopyRange result;
    result.source_nsid = nsid;
    result.start_lba = lba;
    result.blocks_z = static_cast<std::uint16_t>(blocks - 1);
    return result;
}

}  // namespace

TEST_CASE("read and write, any size, any PRP shape, mapped or copied")
{
    IoMachine machine;
    machine.host.refuse_maps = GENERATE(false, true);
    machine.host.most_mapped_at_once = GENERATE(~std::size_t{0}, std::size_t{1000});
    for (const std::uint64_t bytes : {4096U, 8192U, 12288U, 65536U, 1048576U}) {
        for (const std::uint64_t skip : {0U, 4U, 512U, 4092U}) {
            const std::uint64_t keep = machine.pages.next();
            const std::uint64_t buffer = machine.pages.take(258) + skip;
            machine.fill(buffer, bytes, static_cast<unsigned>(bytes + skip));
            const DataPointer pointer = machine.data(buffer, bytes);
            const auto blocks = static_cast<std::uint32_t>(bytes / 4096);
            REQUIRE(machine.io(IoOpcode::write, 1, 3, blocks, pointer) == StatusCode::success);
            const auto stored = machine.disk_bytes(machine.disk, 3 * 4096, bytes);
            const auto sent = machine.guest(buffer, bytes);
            REQUIRE(std::equal(stored.begin(), stored.end(), sent.begin()));
            const std::uint64_t target = machine.pages.take(258) + skip;
            REQUIRE(machine.io(IoOpcode::read, 1, 3, blocks, machine.data(target, bytes)) ==
                    StatusCode::success);
            const auto received = machine.guest(target, bytes);
            REQUIRE(std::equal(stored.begin(), stored.end(), received.begin()));
            machine.pages.reset(keep);
        }
    }
}

TEST_CASE("PRP entries that are wrong are refused")
{
    IoMachine machine;
    const std::uint64_t page = machine.pages.take(1);
    const auto read = [&](std::uint64_t prp1, std::uint64_t prp2, std::uint32_t blocks) {
        return machine.io(IoOpcode::read, 1, 0, blocks, {prp1, prp2});
    };
    CHECK(read(page + 1, 0, 1) == StatusCode::prp_offset_invalid);
    CHECK(read(page, page + 8, 2) == StatusCode::prp_offset_invalid);
    CHECK(read(page, page + 4, 3) == StatusCode::prp_offset_invalid);
    CHECK(read(page, ~std::uint64_t{7}, 3) == StatusCode::data_transfer_error);
    CHECK(read(std::uint64_t{1} << 60, 0, 1) == StatusCode::data_transfer_error);
    CHECK(read(~std::uint64_t{4095}, 0, 1) == StatusCode::data_transfer_error);
    // A list that begins at the end of its page and goes on elsewhere.
    const std::uint64_t lists = machine.pages.take(2);
    machine.put(lists + 4088, Le64(lists + 4096));
    machine.put(lists + 4096, Le64(page));
    machine.put(lists + 4104, Le64(page));
    CHECK(read(page, lists + 4088, 3) == StatusCode::success);
    machine.put(lists + 4088, Le64(lists + 4096 + 8));
    CHECK(read(page, lists + 4088, 3) == StatusCode::prp_offset_invalid);
    machine.put(lists + 4088, Le64(lists + 4096));
    machine.put(lists + 4104, Le64(page + 512));
    CHECK(read(page, lists + 4088, 3) == StatusCode::prp_offset_invalid);
    CHECK(machine.host.mapped == 0);
}

TEST_CASE("what every I/O command is checked for")
{
    IoMachine machine;
    const DataPointer pointer{machine.pages.take(1), 0};
    for (const IoOpcode opcode :
         {IoOpcode::read, IoOpcode::write, IoOpcode::compare, IoOpcode::verify,
          IoOpcode::write_zeroes, IoOpcode::dataset_management, IoOpcode::copy}) {
        CHECK(machine.io(opcode, 0, 0, 1, pointer) == StatusCode::invalid_namespace_or_format);
        CHECK(machine.io(opcode, 100'000, 0, 1, pointer) ==
              StatusCode::invalid_namespace_or_format);
        CHECK(machine.io(opcode, 9, 0, 1, pointer) == StatusCode::invalid_field);
        SubmissionEntry entry = io_entry(opcode, 1, 0, 1, pointer);
        entry.flags = 0x40;  // SGL
        CHECK(machine.io(entry) == StatusCode::invalid_field);
        entry.flags = 1;  // fused
        CHECK(machine.io(entry) == StatusCode::invalid_field);
    }
    for (const IoOpcode opcode : {IoOpcode::read, IoOpcode::write, IoOpcode::compare,
                                  IoOpcode::verify, IoOpcode::write_zeroes}) {
        CHECK(machine.io(opcode, 1, 1024, 1, pointer) == StatusCode::lba_out_of_range);
        CHECK(machine.io(opcode, 1, 1023, 2, pointer) == StatusCode::lba_out_of_range);
        CHECK(machine.io(opcode, 1, ~std::uint64_t{0}, 2, pointer) == StatusCode::lba_out_of_range);
        CHECK(machine.io(opcode, 2, std::uint64_t{1} << 55, 1, pointer) ==
              StatusCode::lba_out_of_range);
    }
    CHECK(machine.io(IoOpcode::read, 1, 0, 257, pointer) == StatusCode::invalid_field);  // MDTS
    CHECK(machine.io(static_cast<IoOpcode>(0x7f), 1, 0, 1) == StatusCode::invalid_opcode);
    CHECK(machine.io(IoOpcode::flush, 0, 0, 1) == StatusCode::invalid_namespace_or_format);
    SubmissionEntry entry = io_entry(IoOpcode::write, 1, 0, 1, pointer);
    entry.cdw12 = 1U << 20;  // a directive
    CHECK(machine.io(entry) == StatusCode::invalid_field);
}

TEST_CASE("the store's errors become status codes, and the error log keeps them")
{
    const auto [code, read, write] = GENERATE(table<ErrorCode, StatusCode, StatusCode>({
        {ErrorCode::io, StatusCode::unrecovered_read_error, StatusCode::write_fault},
        {ErrorCode::sync_failed, StatusCode::unrecovered_read_error, StatusCode::write_fault},
        {ErrorCode::bad_data, StatusCode::unrecovered_read_error,
         StatusCode::unrecovered_read_error},
        {ErrorCode::no_space, StatusCode::capacity_exceeded, StatusCode::capacity_exceeded},
        {ErrorCode::read_only, StatusCode::namespace_write_protected,
         StatusCode::namespace_write_protected},
        {ErrorCode::busy, StatusCode::command_interrupted, StatusCode::command_interrupted},
        {ErrorCode::conflict, StatusCode::transaction_conflict, StatusCode::transaction_conflict},
    }));
    IoMachine machine;
    const DataPointer pointer{machine.pages.take(1), 0};
    machine.store.fail_io = code;
    CHECK(machine.io(IoOpcode::read, 1, 0, 1, pointer) == read);
    const CompletionEntry done =
        machine.call(machine.queue, io_entry(IoOpcode::write, 1, 5, 1, pointer));
    CHECK(status_field_code(done.status) == write);
    CHECK(status_field_do_not_retry(done.status) != (code == ErrorCode::busy));
    CHECK(status_field_more(done.status));
    CHECK(machine.host.reports.size() == (is_corruption(code) ? 2U : 0U));
    machine.store.fail_io.reset();
    SubmissionEntry entry = admin_entry(AdminOpcode::get_log_page, 0, pointer.prp1);
    entry.cdw10 = 0x001f0001;
    REQUIRE(machine.status(machine.admin, entry) == StatusCode::success);
    const auto log = machine.get<ErrorLogEntry>(pointer.prp1);
    CHECK(log.error_count == 2);
    CHECK(log.sq_id == 1);
    CHECK(log.command_id == done.command_id);
    CHECK(log.lba == 5);
    CHECK(status_field_code(log.status) == write);
    CHECK(machine.get<ErrorLogEntry>(pointer.prp1 + 64).error_count == 1);
}

TEST_CASE("the host's error policy: ignore, or hold back and begin again")
{
    IoMachine machine;
    const std::uint64_t page = machine.pages.take(1);
    machine.fill(page, 4096, 7);
    machine.store.fail_io = ErrorCode::no_space;
    machine.host.action = ErrorAction::ignore;
    CHECK(machine.io(IoOpcode::write, 1, 0, 1, {page, 0}) == StatusCode::success);
    machine.host.action = ErrorAction::retry;
    machine.submit(machine.queue, io_entry(IoOpcode::write, 1, 0, 1, {page, 0}));
    machine.submit(machine.queue, io_entry(IoOpcode::flush, kNsidAll, 0, 1));
    machine.run();
    CHECK_FALSE(machine.reap(machine.queue));
    CHECK_FALSE(machine.controller->busy());  // a stopped machine is quiet
    SECTION("begun again")
    {
        machine.store.fail_io.reset();
        machine.controller->retry_failed();
        machine.run();
        CHECK(machine.reap(machine.queue));
        CHECK(machine.reap(machine.queue));
        const auto stored = machine.disk_bytes(machine.disk, 0, 4096);
        CHECK(std::equal(stored.begin(), stored.end(), machine.guest(page, 4096).begin()));
    }
    SECTION("reset instead") { machine.disable(); }
    CHECK(machine.host.mapped == 0);
}

TEST_CASE("a failed read that the host has ignored shows nothing of the host's memory")
{
    IoMachine machine;
    const std::uint64_t page = machine.pages.take(1);
    machine.host.refuse_maps = true;
    machine.fill(page, 4096, 7);
    // Memory that was used before.
    CHECK(machine.io(IoOpcode::write, 1, 0, 1, {page, 0}) == StatusCode::success);
    machine.store.fail_io = ErrorCode::io;
    machine.host.action = ErrorAction::ignore;
    CHECK(machine.io(IoOpcode::read, 1, 1, 1, {page, 0}) == StatusCode::success);
    const auto got = machine.guest(page, 4096);
    CHECK(std::count(got.begin(), got.end(), std::byte{0}) == 4096);
    machine.fill(page, 4096, 7);
    CHECK(machine.io(IoOpcode::compare, 1, 0, 1, {page, 0}) == StatusCode::success);
}

TEST_CASE("FUA, write cache off, and flush")
{
    IoMachine machine;
    const DataPointer pointer{machine.pages.take(1), 0};
    FakeStore::Volume& disk = machine.store.at(machine.disk);
    SubmissionEntry entry = io_entry(IoOpcode::write, 1, 0, 1, pointer);
    CHECK(machine.io(entry) == StatusCode::success);
    CHECK(disk.dirty);
    CHECK(machine.io(IoOpcode::flush, 1, 0, 1) == StatusCode::success);
    CHECK_FALSE(disk.dirty);
    entry.cdw12 = 1U << 30;
    CHECK(machine.io(entry) == StatusCode::success);
    CHECK_FALSE(disk.dirty);
    entry.cdw12 = 0;
    SubmissionEntry off = admin_entry(AdminOpcode::set_features);
    off.cdw10 = 6;
    CHECK(machine.status(machine.admin, off) == StatusCode::success);
    CHECK(machine.io(entry) == StatusCode::success);
    CHECK_FALSE(disk.dirty);
    CHECK(machine.io(IoOpcode::write_zeroes, 1, 0, 1) == StatusCode::success);
    CHECK_FALSE(disk.dirty);
    machine.store.flushes = 0;
    CHECK(machine.io(IoOpcode::flush, kNsidAll, 0, 1) == StatusCode::success);
    CHECK(machine.store.flushes == 2);
    machine.store.fail_io = ErrorCode::sync_failed;
    CHECK(machine.io(IoOpcode::flush, kNsidAll, 0, 1) == StatusCode::write_fault);
    machine.store.fail_io.reset();
}

TEST_CASE("Compare and Verify")
{
    IoMachine machine;
    const std::uint64_t buffer = machine.pages.take(4);
    machine.fill(buffer, 3 * 4096, 5);
    const DataPointer pointer = machine.data(buffer, 3 * 4096);
    REQUIRE(machine.io(IoOpcode::write, 1, 7, 3, pointer) == StatusCode::success);
    CHECK(machine.io(IoOpcode::compare, 1, 7, 3, pointer) == StatusCode::success);
    machine.guest(buffer + 2 * 4096 + 4095, 1)[0] ^= std::byte{1};
    CHECK(machine.io(IoOpcode::compare, 1, 7, 3, pointer) == StatusCode::compare_failure);
    CHECK(machine.io(IoOpcode::compare, 1, 7, 1, {std::uint64_t{1} << 60, 0}) ==
          StatusCode::data_transfer_error);
    CHECK(machine.io(IoOpcode::verify, 1, 7, 3) == StatusCode::success);
    machine.store.fail_io = ErrorCode::bad_data;
    CHECK(machine.io(IoOpcode::verify, 1, 7, 3) == StatusCode::unrecovered_read_error);
    CHECK(machine.io(IoOpcode::verify, 1, 0, 257) == StatusCode::invalid_field);
}

TEST_CASE("commands wait for buffers and are not forgotten")
{
    IoMachine machine;
    for (unsigned i = 0; i < 31; ++i) {
        machine.submit(machine.queue, io_entry(IoOpcode::verify, 1, 0, i % 5 == 4 ? 1 : 256),
                       false);
    }
    machine.ring(machine.queue);
    CHECK(machine.store.pending.size() < 31);
    SECTION("all end")
    {
        machine.run();
        unsigned reaped = 0;
        while (machine.reap(machine.queue)) {
            ++reaped;
        }
        CHECK(reaped == 31);
    }
    SECTION("a reset drops those that wait") { machine.disable(); }
    SECTION("a stop lets them end")
    {
        machine.controller->stop();
        machine.run();
        CHECK_FALSE(machine.controller->busy());
    }
}

TEST_CASE("Write Zeroes and Dataset Management")
{
    IoMachine machine;
    const auto bytes = machine.disk_bytes(machine.disk, 0, 64 * 4096);
    const auto zero = [&](std::size_t block) {
        return std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(block * 4096),
                           bytes.begin() + static_cast<std::ptrdiff_t>((block + 1) * 4096),
                           [](std::byte b) { return b == std::byte{0}; });
    };
    std::fill(bytes.begin(), bytes.end(), std::byte{1});
    CHECK(machine.io(IoOpcode::write_zeroes, 1, 2, 3) == StatusCode::success);
    CHECK((!zero(1) && zero(2) && zero(4) && !zero(5)));
    SubmissionEntry deallocating = io_entry(IoOpcode::write_zeroes, 1, 6, 1);
    deallocating.cdw12 = 1U << 25;
    CHECK(machine.io(deallocating) == StatusCode::success);
    CHECK((zero(6) && !zero(7)));

    const std::uint64_t list = machine.pages.take(1);
    for (unsigned i = 0; i < 256; ++i) {
        DsmRange range;
        range.blocks = i < 8 ? 1 : 0;
        range.start_lba = 10 + 2 * i;
        machine.put(list + i * sizeof(DsmRange), range);
    }
    SubmissionEntry dsm = io_entry(IoOpcode::dataset_management, 1, 0, 1, {list, 0});
    dsm.cdw10 = 255;
    dsm.cdw11 = 0;  // hints
    dsm.cdw12 = 0;
    CHECK(machine.io(dsm) == StatusCode::success);
    CHECK_FALSE(zero(10));
    dsm.cdw11 = 4;
    CHECK(machine.io(dsm) == StatusCode::success);
    CHECK((zero(10) && !zero(11) && zero(24) && !zero(26)));
    // One range outside: none is done.
    std::fill(bytes.begin(), bytes.end(), std::byte{1});
    DsmRange bad;
    bad.start_lba = 1024;
    bad.blocks = 1;
    machine.put(list + 255 * sizeof(DsmRange), bad);
    CHECK(machine.io(dsm) == StatusCode::lba_out_of_range);
    CHECK_FALSE(zero(10));
    dsm.prp1 = std::uint64_t{1} << 50;
    CHECK(machine.io(dsm) == StatusCode::data_transfer_error);
}

TEST_CASE("Copy")
{
    IoMachine machine;
    std::mt19937 generator(3);
    const auto bytes = machine.disk_bytes(machine.disk, 0, 1024 * 4096);
    for (std::byte& byte : bytes) {
        byte = static_cast<std::byte>(generator());
    }
    const std::vector<std::byte> before(bytes.begin(), bytes.end());
    const auto same = [&](std::size_t to, std::size_t from, std::size_t count) {
        return std::equal(bytes.begin() + static_cast<std::ptrdiff_t>(to * 4096),
                          bytes.begin() + static_cast<std::ptrdiff_t>((to + count) * 4096),
                          before.begin() + static_cast<std::ptrdiff_t>(from * 4096));
    };
    CHECK(machine.copy(1, 500, {range(0, 4), range(4, 4), range(100, 1)}) == StatusCode::success);
    CHECK((same(500, 0, 8) && same(508, 100, 1) && same(509, 509, 1)));

    // Overlap is refused wherever it is, and nothing is written.
    CHECK(machine.copy(1, 200, {range(10, 2), range(204, 2)}) == StatusCode::success);
    CHECK(machine.copy(1, 300, {range(10, 2), range(303, 2)}) == StatusCode::overlapping_io_range);
    CHECK(machine.copy(1, 300, {range(298, 3)}) == StatusCode::overlapping_io_range);
    CHECK(machine.copy(1, 300, {range(297, 3)}) == StatusCode::success);
    CHECK(machine.copy(1, 1023, {range(0, 2)}) == StatusCode::lba_out_of_range);
    CHECK(machine.copy(1, 0, {range(1023, 2)}) == StatusCode::lba_out_of_range);
    CHECK(machine.copy(1, 0, {range(100, 65529)}) == StatusCode::command_size_limit_exceeded);
    CHECK(machine.copy(1, 0, {range(100, 1)}, 1) == StatusCode::invalid_field);

    // Format 2 only once the host has said that it knows it.
    CHECK(machine.copy(2, 0, {range(8, 8, 2)}, 2) == StatusCode::invalid_field);
    const std::uint64_t page = machine.pages.take(1);
    HostBehavior behavior;
    behavior.copy_formats = 4;
    machine.put(page, behavior);
    SubmissionEntry entry = admin_entry(AdminOpcode::set_features, 0, page);
    entry.cdw10 = 0x16;
    REQUIRE(machine.status(machine.admin, entry) == StatusCode::success);
    CHECK(machine.copy(2, 0, {range(8, 8, 2)}, 2) == StatusCode::success);
    CHECK(machine.copy(2, 0, {range(8, 8, 1)}, 2) == StatusCode::incompatible_namespace_or_format);
    CHECK(machine.copy(2, 0, {range(8, 8, 77)}, 2) == StatusCode::invalid_field);
    CopyRange fast = range(9, 8, 2);
    fast.options = 0x8000;
    CHECK(machine.copy(2, 0, {fast}, 2) == StatusCode::fast_copy_not_possible);
    fast.start_lba = 16;
    CHECK(machine.copy(2, 0, {fast}, 2) == StatusCode::success);
}

TEST_CASE("one Copy command can move 1 GiB with both block sizes")
{
    Namespace entry;
    const unsigned shift = GENERATE(9U, 12U);
    entry.info.lba_shift = shift;
    entry.info.size_bytes = std::uint64_t{1} << 40;
    const IdentifyNamespace data = identify_namespace(entry, {true, true, true});
    const std::uint64_t blocks = (std::uint64_t{1} << 30) / power_of_two(shift);
    CHECK(data.mcl >= blocks);
    CHECK(divide_up(blocks, data.mssrl) <= data.msrc_z + 1U);
    CHECK(data.mssrl % 8 == 0);
}

TEST_CASE("a read-only namespace refuses every change and still reads")
{
    IoMachine machine;
    SubmissionEntry make = admin_entry(AdminOpcode::snapshot_create, 1, machine.pages.take(1));
    NameData name;
    name.name[0] = 's';
    machine.put(make.prp1, name);
    const std::uint32_t nsid = machine.admin_call(make).dw0;
    REQUIRE(nsid == 3);
    const std::uint64_t list = machine.pages.take(1);
    ControllerList controllers;
    controllers.count = 1;
    machine.put(list, controllers);
    REQUIRE(machine.status(machine.admin, admin_entry(AdminOpcode::namespace_attachment, nsid,
                                                      list)) == StatusCode::success);
    const DataPointer pointer{machine.pages.take(1), 0};
    CHECK(machine.io(IoOpcode::read, nsid, 0, 1, pointer) == StatusCode::success);
    CHECK(machine.io(IoOpcode::flush, nsid, 0, 1) == StatusCode::success);
    CHECK(machine.io(IoOpcode::write, nsid, 0, 1, pointer) ==
          StatusCode::namespace_write_protected);
    CHECK(machine.io(IoOpcode::write_zeroes, nsid, 0, 1) == StatusCode::namespace_write_protected);
    CHECK(machine.copy(nsid, 0, {range(5, 1)}) == StatusCode::namespace_write_protected);
    SubmissionEntry dsm = io_entry(IoOpcode::dataset_management, nsid, 0, 1, pointer);
    dsm.cdw11 = 4;
    CHECK(machine.io(dsm) == StatusCode::namespace_write_protected);
}
