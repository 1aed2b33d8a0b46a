// Life of the controller and its queues, through the registers.
#include "controller/tests/fakes.h"
#include "coppice-catch.h"

using namespace coppice;
using namespace coppice::nvme;
using namespace coppice::nvme::test;

TEST_CASE("registers at power-on")
{
    Machine machine;
    const std::uint64_t cap = machine.controller->read_register(kRegisterCap, 8);
    CHECK(bits<15, 0>(cap) == 2047);
    CHECK(machine.read32(kRegisterCap) == low_half(cap));
    CHECK(machine.read32(kRegisterCap + 4) == high_half(cap));
    CHECK(machine.controller->read_register(kRegisterCap + 2, 2) == bits<31, 16>(cap));
    CHECK(machine.controller->read_register(kRegisterVs + 2, 1) == 2);
    CHECK(machine.read32(kRegisterVs) == 0x20000);
    CHECK(machine.read32(kRegisterCsts) == 0);
    CHECK(machine.read32(0xe00) == 0);
    CHECK(machine.read32(kDoorbells) == 0);
    machine.write32(kRegisterAsq, 0x1fff);
    machine.write32(kRegisterAsq + 4, 0x7);
    CHECK(machine.controller->read_register(kRegisterAsq, 8) == 0x700001000);
    machine.write32(kRegisterCap, 0);  // read-only
    CHECK(machine.controller->read_register(kRegisterCap, 8) == cap);
}

TEST_CASE("an invalid configuration is fatal until it is disabled")
{
    const auto cc = GENERATE(0x00460011U, 0x00460081U, 0x00460801U, 0x00450001U, 0x00360001U);
    Machine machine;
    machine.write32(kRegisterAqa, 0x001f001f);
    machine.write32(kRegisterCc, cc);
    CHECK(machine.read32(kRegisterCsts) == 2);
    machine.write32(kRegisterCc, 0);
    CHECK(machine.read32(kRegisterCsts) == 0);
    machine.enable();
}

TEST_CASE("an admin queue of one entry is fatal")
{
    Machine machine;
    machine.write32(kRegisterAqa, 0x001f0000);
    machine.write32(kRegisterCc, 0x00460001);
    CHECK(machine.read32(kRegisterCsts) == 2);
}

TEST_CASE("queues that do not lie in memory are fatal")
{
    Machine machine;
    machine.write32(kRegisterAqa, 0x001f001f);
    machine.controller->write_register(kRegisterAsq, std::uint64_t{1} << 40, 8);
    machine.controller->write_register(kRegisterAcq, ~std::uint64_t{0}, 8);
    machine.write32(kRegisterCc, 0x00460001);
    CHECK(machine.read32(kRegisterCsts) == 1);
    machine.write32(kDoorbells, 1);
    CHECK(machine.read32(kRegisterCsts) == 3);
    machine.write32(kRegisterCc, 0);
    CHECK(machine.read32(kRegisterCsts) == 0);
    machine.enable();
    CHECK(machine.host.reports.size() == 1);
}

TEST_CASE("queues wrap, phases turn, interrupts come")
{
    Machine machine;
    machine.enable(2);  // the smallest: one command at a time
    for (unsigned i = 0; i < 9; ++i) {
        SubmissionEntry entry = admin_entry(AdminOpcode::identify, 0, machine.pages.take(1));
        entry.cdw10 = 1;
        CHECK(machine.status(machine.admin, entry) == StatusCode::success);
    }
    CHECK(machine.host.messages[0] == 9);
    DriverQueue queue = machine.create_queue(1, 3, 5);
    const DataPointer data{machine.pages.take(1), 0};
    for (unsigned i = 0; i < 10; ++i) {
        CHECK(machine.status(queue, io_entry(IoOpcode::read, 1, i, 1, data)) ==
              StatusCode::success);
    }
    CHECK(machine.host.messages[5] == 10);
}

TEST_CASE("a batch is completed with one interrupt, and a full completion queue stops fetching")
{
    Machine machine;
    machine.enable();
    DriverQueue queue = machine.create_queue(1, 8, 1);
    const DataPointer data{machine.pages.take(1), 0};
    const unsigned before = machine.host.messages[1];
    for (unsigned i = 0; i < 7; ++i) {
        machine.submit(queue, io_entry(IoOpcode::write, 1, i, 1, data), false);
    }
    machine.ring(queue);
    while (machine.store.complete_one(machine.random)) {}
    CHECK(machine.host.scheduled);
    machine.run();
    CHECK(machine.host.messages[1] == before + 1);

    // Nothing consumed: seven more are submitted, none can be taken.
    for (unsigned i = 0; i < 7; ++i) {
        machine.submit(queue, io_entry(IoOpcode::write, 1, i, 1, data), false);
    }
    machine.ring(queue);
    machine.run();
    CHECK(machine.store.pending.empty());
    unsigned reaped = 0;
    while (machine.reap(queue, false)) {
        ++reaped;
    }
    CHECK(reaped == 7);
    // Consuming two lets two more in.
    machine.write32(kDoorbells + 8 + 4, 2);
    CHECK(machine.store.pending.size() == 2);
    machine.write32(kDoorbells + 8 + 4, 7);
    machine.run();
    while (machine.reap(queue)) {
        ++reaped;
        machine.run();
    }
    CHECK(reaped == 14);
}

TEST_CASE("without MSI-X the pin stays asserted until everything is consumed")
{
    Machine machine;
    machine.host.msix = false;
    machine.enable();
    SubmissionEntry entry = admin_entry(AdminOpcode::identify, 0, machine.pages.take(1));
    entry.cdw10 = 1;
    machine.submit(machine.admin, entry);
    CHECK(machine.host.pin);
    machine.write32(kRegisterIntms, 1);
    CHECK_FALSE(machine.host.pin);
    CHECK(machine.read32(kRegisterIntmc) == 1);
    machine.write32(kRegisterIntmc, 1);
    CHECK(machine.host.pin);
    REQUIRE(machine.reap(machine.admin));
    CHECK_FALSE(machine.host.pin);
    SubmissionEntry create = admin_entry(AdminOpcode::create_cq, 0, machine.pages.take(1));
    create.cdw10 = 0x000f0001;
    create.cdw11 = 0x00010003;  // vector 1 does not exist on a pin
    CHECK(machine.status(machine.admin, create) == StatusCode::invalid_interrupt_vector);
}

TEST_CASE("creating and deleting queues: each refusal")
{
    Machine machine;
    machine.enable();
    const std::uint64_t base = machine.pages.take(1);
    const auto create_cq = [&](std::uint32_t cdw10, std::uint32_t cdw11, std::uint64_t at) {
        SubmissionEntry entry = admin_entry(AdminOpcode::create_cq, 0, at);
        entry.cdw10 = cdw10;
        entry.cdw11 = cdw11;
        return machine.status(machine.admin, entry);
    };
    const auto create_sq = [&](std::uint32_t cdw10, std::uint32_t cdw11, std::uint64_t at) {
        SubmissionEntry entry = admin_entry(AdminOpcode::create_sq, 0, at);
        entry.cdw10 = cdw10;
        entry.cdw11 = cdw11;
        return machine.status(machine.admin, entry);
    };
    const auto remove = [&](AdminOpcode opcode, std::uint32_t id) {
        SubmissionEntry entry = admin_entry(opcode);
        entry.cdw10 = id;
        return machine.status(machine.admin, entry);
    };
    CHECK(create_cq(0x000f0000, 3, base) == StatusCode::invalid_queue_identifier);
    CHECK(create_cq(0x000f0041, 3, base) == StatusCode::invalid_queue_identifier);
    CHECK(create_cq(0x00000001, 3, base) == StatusCode::invalid_queue_size);
    CHECK(create_cq(0x08000001, 3, base) == StatusCode::invalid_queue_size);
    CHECK(create_cq(0x000f0001, 2, base) == StatusCode::invalid_field);
    CHECK(create_cq(0x000f0001, 3, base + 8) == StatusCode::prp_offset_invalid);
    CHECK(create_cq(0x000f0001, 0x00410003, base) == StatusCode::invalid_interrupt_vector);
    CHECK(create_cq(0x000f0001, 3, base) == StatusCode::success);
    CHECK(create_cq(0x000f0001, 3, base) == StatusCode::invalid_queue_identifier);

    CHECK(create_sq(0x000f0001, 0x00000001, base) == StatusCode::invalid_queue_identifier);
    CHECK(create_sq(0x000f0001, 0x00020001, base) == StatusCode::completion_queue_invalid);
    CHECK(create_sq(0x000f0000, 0x00010001, base) == StatusCode::invalid_queue_identifier);
    CHECK(create_sq(0x00000001, 0x00010001, base) == StatusCode::invalid_queue_size);
    CHECK(create_sq(0x000f0001, 0x00010000, base) == StatusCode::invalid_field);
    CHECK(create_sq(0x000f0001, 0x00010001, base + 4) == StatusCode::prp_offset_invalid);
    CHECK(create_sq(0x000f0001, 0x00010001, base) == StatusCode::success);

    CHECK(remove(AdminOpcode::delete_cq, 1) == StatusCode::invalid_queue_deletion);
    CHECK(remove(AdminOpcode::delete_cq, 0) == StatusCode::invalid_queue_identifier);
    CHECK(remove(AdminOpcode::delete_sq, 2) == StatusCode::invalid_queue_identifier);
    CHECK(remove(AdminOpcode::delete_sq, 1) == StatusCode::success);
    CHECK(remove(AdminOpcode::delete_cq, 1) == StatusCode::success);
    CHECK(remove(AdminOpcode::delete_cq, 1) == StatusCode::invalid_queue_identifier);
}

TEST_CASE("deleting a submission queue waits for its commands")
{
    Machine machine;
    machine.enable();
    DriverQueue queue = machine.create_queue(1, 8, 1);
    machine.submit(queue, io_entry(IoOpcode::flush, 1, 0, 1));
    SubmissionEntry entry = admin_entry(AdminOpcode::delete_sq);
    entry.cdw10 = 1;
    machine.submit(machine.admin, entry);
    machine.controller->poll();
    CHECK_FALSE(machine.reap(machine.admin));
    machine.run();
    CHECK(machine.reap(queue));
    CHECK(machine.reap(machine.admin));
}

TEST_CASE("invalid doorbells raise error events, not failures")
{
    Machine machine;
    machine.enable();
    DriverQueue queue = machine.create_queue(1, 8, 1);
    const auto expect = [&](std::uint64_t offset, std::uint32_t value, std::uint32_t event) {
        const std::uint16_t id =
            machine.submit(machine.admin, admin_entry(AdminOpcode::async_event));
        machine.run();
        REQUIRE_FALSE(machine.reap(machine.admin));
        machine.write32(offset, value);
        machine.run();
        const auto done = machine.reap(machine.admin);
        REQUIRE(done);
        CHECK(done->command_id == id);
        CHECK(done->dw0 == event);
        // Reading the error log lets further events of it come.
        SubmissionEntry entry = admin_entry(AdminOpcode::get_log_page, 0, machine.pages.take(1));
        entry.cdw10 = 0x000f0001;
        CHECK(machine.status(machine.admin, entry) == StatusCode::success);
    };
    expect(kDoorbells + 8, 8, 0x00010100);       // beyond the submission queue
    expect(kDoorbells + 12, 8, 0x00010100);      // beyond the completion queue
    expect(kDoorbells + 12, 3, 0x00010100);      // consumed what was not posted
    expect(kDoorbells + 16, 0, 0x00010000);      // no such queue
    expect(kDoorbells + 8 * 65, 0, 0x00010000);  // no such doorbell
    CHECK(machine.status(queue, io_entry(IoOpcode::flush, 1, 0, 1)) == StatusCode::success);
}

TEST_CASE("doorbells from another thread are taken by poll")
{
    Machine machine;
    machine.enable();
    SubmissionEntry entry = admin_entry(AdminOpcode::identify, 0, machine.pages.take(1));
    entry.cdw10 = 1;
    machine.submit(machine.admin, entry, false);
    CHECK(machine.controller->doorbell(kDoorbells, machine.admin.sq_tail));
    CHECK_FALSE(machine.controller->doorbell(kDoorbells, machine.admin.sq_tail));
    CHECK_FALSE(machine.reap(machine.admin));
    machine.controller->poll();
    CHECK(machine.reap(machine.admin, false));
    CHECK(machine.controller->doorbell(kDoorbells + 4, 1));
    machine.controller->poll();
}

TEST_CASE("reset under load drops what is under way and waits for it")
{
    Machine machine;
    machine.enable();
    DriverQueue queue = machine.create_queue(1, 64, 1);
    const std::uint64_t buffer = machine.pages.take(16);
    for (unsigned i = 0; i < 40; ++i) {
        machine.submit(
            queue, io_entry(i % 3 == 0 ? IoOpcode::write : IoOpcode::read, 1, i, 1, {buffer, 0}));
    }
    machine.submit(machine.admin, admin_entry(AdminOpcode::async_event));
    SubmissionEntry entry = admin_entry(AdminOpcode::delete_sq);
    entry.cdw10 = 1;
    machine.submit(machine.admin, entry);
    CHECK(machine.controller->busy());
    const unsigned interrupts = machine.host.messages[1];
    SECTION("by CC.EN")
    {
        machine.write32(kRegisterCc, 0x00460000);
        CHECK(machine.read32(kRegisterCsts) == 1);  // ready until the last has ended
        machine.run();
        CHECK(machine.read32(kRegisterCsts) == 0);
    }
    SECTION("by CC.EN, and enabled again at once")
    {
        machine.write32(kRegisterCc, 0x00460000);
        machine.write32(kRegisterCc, 0x00460001);
        machine.run();
        CHECK(machine.read32(kRegisterCsts) == 1);
        machine.disable();
    }
    SECTION("by the function")
    {
        machine.controller->reset();
        machine.run();
        CHECK(machine.read32(kRegisterCsts) == 0);
        CHECK(machine.read32(kRegisterCc) == 0);
        CHECK(machine.read32(kRegisterAqa) == 0);
    }
    CHECK(machine.host.messages[1] == interrupts);
    CHECK(machine.host.mapped == 0);
    CHECK(machine.host.idles > 0);
    CHECK_FALSE(machine.controller->busy());
    machine.enable();
    queue = machine.create_queue(1, 16, 1);
    CHECK(machine.status(queue, io_entry(IoOpcode::flush, 1, 0, 1)) == StatusCode::success);
}

TEST_CASE("shutdown is acknowledged after everything is flushed")
{
    Machine machine;
    machine.enable();
    DriverQueue queue = machine.create_queue(1, 16, 1);
    const DataPointer data{machine.pages.take(1), 0};
    REQUIRE(machine.status(queue, io_entry(IoOpcode::write, 1, 0, 1, data)) == StatusCode::success);
    machine.submit(queue, io_entry(IoOpcode::write, 2, 0, 8, data));
    machine.write32(kRegisterCc, 0x00464001);
    CHECK(machine.read32(kRegisterCsts) == 0x5);
    machine.submit(queue, io_entry(IoOpcode::write, 1, 1, 1, data));  // no longer taken
    SECTION("all is well")
    {
        machine.run();
        CHECK(machine.read32(kRegisterCsts) == 0x9);
        CHECK_FALSE(machine.store.at(machine.disk).dirty);
        CHECK_FALSE(machine.store.at(machine.small).dirty);
        CHECK(machine.reap(queue));
        CHECK_FALSE(machine.reap(queue));
        machine.disable();
        machine.enable();
    }
    SECTION("a flush fails: never acknowledged")
    {
        machine.store.fail_io = ErrorCode::sync_failed;
        machine.run();
        CHECK(machine.read32(kRegisterCsts) == 0x7);
        machine.store.fail_io.reset();
        machine.disable();
    }
}

TEST_CASE("shutdown without a reset in between, and of a disabled controller")
{
    Machine machine;
    machine.write32(kRegisterCc, 0x00464000);
    machine.run();
    CHECK(machine.read32(kRegisterCsts) == 0x8);
    CHECK(machine.store.flushes == 2);
    machine.write32(kRegisterCc, 0x00460000);
    CHECK(machine.read32(kRegisterCsts) == 0);
    machine.enable();
}

TEST_CASE("stop begins nothing new, start goes on")
{
    Machine machine;
    machine.enable();
    DriverQueue queue = machine.create_queue(1, 16, 1);
    machine.submit(queue, io_entry(IoOpcode::flush, 1, 0, 1));
    machine.controller->stop();
    CHECK(machine.controller->busy());
    machine.submit(queue, io_entry(IoOpcode::flush, 1, 0, 1));
    machine.run();
    CHECK_FALSE(machine.controller->busy());
    CHECK(machine.reap(queue));
    CHECK_FALSE(machine.reap(queue));
    machine.controller->start();
    machine.run();
    CHECK(machine.reap(queue));
}

TEST_CASE("work in one call is bounded")
{
    Machine machine;
    machine.enable();
    DriverQueue queue = machine.create_queue(1, 1024, 1);
    for (unsigned i = 0; i < 1000; ++i) {
        machine.submit(queue, io_entry(IoOpcode::flush, 1, 0, 1), false);
    }
    machine.ring(queue);
    CHECK(machine.store.pending.size() == kMaxFetchesPerPoll);
    CHECK(machine.host.scheduled);
    machine.run();
    unsigned reaped = 0;
    while (machine.reap(queue, false)) {
        ++reaped;
    }
    CHECK(reaped == 1000);
}

TEST_CASE("transfers aimed at the registers change nothing in mid-work")
{
    Machine machine;
    machine.enable();
    DriverQueue queue = machine.create_queue(1, 16, 1);
    const DataPointer data{machine.pages.take(1), 0};
    machine.host.on_map = [&] {
        machine.write32(kRegisterCc, 0);
        machine.write32(kDoorbells, 0);
        machine.controller->poll();
    };
    machine.submit(queue, io_entry(IoOpcode::read, 1, 0, 1, data));
    machine.run();
    machine.host.on_map = nullptr;
    machine.run();
    CHECK(machine.read32(kRegisterCsts) == 1);
    CHECK(machine.reap(queue));
    CHECK(machine.status(queue, io_entry(IoOpcode::read, 1, 0, 1, data)) == StatusCode::success);
}
