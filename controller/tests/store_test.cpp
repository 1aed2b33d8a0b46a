// The controller over the real store, on a disk in memory: random I/O against a byte model, with
// snapshots, clones and rollbacks made by the guest; at the end the image is opened again.
#include "controller/tests/store_machine.h"

using namespace coppice;
using namespace coppice::nvme;
using namespace coppice::nvme::test;

TEST_CASE("the real store behind the controller")
{
    const unsigned shift = GENERATE(9U, 12U);
    const unsigned seed = GENERATE(range(1U, 5U));
    INFO("seed " << seed << " shift " << shift);
    StoreMachine m(seed, shift);
    for (unsigned i = 0; i < 150; ++i) {
        m.step(1);
    }
    const std::uint32_t snapshot = m.named(AdminOpcode::snapshot_create, 1, "s");
    m.models[snapshot] = m.models[1];
    m.attach(snapshot);
    for (unsigned i = 0; i < 150; ++i) {
        m.step(1);
    }
    m.check_all(snapshot);
    REQUIRE(m.io(IoOpcode::write, snapshot, 0, 1) == StatusCode::namespace_write_protected);
    const std::uint32_t clone = m.named(AdminOpcode::clone, snapshot, "c");
    m.models[clone] = m.models[snapshot];
    m.attach(clone);
    for (unsigned i = 0; i < 200; ++i) {
        m.step(i % 2 == 0 ? clone : 1);
    }
    m.check_all(1);
    m.check_all(clone);
    m.check_all(snapshot);

    SubmissionEntry entry = admin_entry(AdminOpcode::rollback, 1);
    entry.cdw10 = snapshot;
    entry.cdw11 = 1;
    REQUIRE(m.machine.status(m.machine.admin, entry) == StatusCode::success);
    m.models[1] = m.models[snapshot];
    m.check_all(1);
    for (unsigned i = 0; i < 50; ++i) {
        m.step(1);
    }

    // Shutdown as Linux does it, then a crash: nothing that it acknowledged is missing.
    m.machine.write32(kRegisterCc, 0x00464001);
    m.machine.run();
    REQUIRE(csts_shutdown(m.machine.read32(kRegisterCsts)) == 2);
    m.crash_and_open();
    m.check_all(1);
    m.check_all(clone);
    m.attach(snapshot);
    m.check_all(snapshot);
}

TEST_CASE("behind a Checkpoint there is nothing to replay")
{
    const bool checkpoint = GENERATE(false, true);
    INFO("checkpoint " << checkpoint);
    StoreMachine m(1, 12);
    for (unsigned i = 0; i < 100; ++i) {
        m.step(1);
    }
    REQUIRE(m.io(IoOpcode::flush, 1, 0, 1) == StatusCode::success);
    if (checkpoint) {
        REQUIRE(m.machine.status(m.machine.admin, admin_entry(AdminOpcode::checkpoint)) ==
                StatusCode::success);
    }
    m.crash_and_open();
    // Without the command the flush left everything to the journal.
    CHECK((m.store->info().replayed_operations == 0) == checkpoint);
    m.check_all(1);
}
