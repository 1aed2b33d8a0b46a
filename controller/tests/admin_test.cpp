// Identify, logs, features, events.
#include "controller/tests/fakes.h"
#include "coppice-catch.h"

using namespace coppice;
using namespace coppice::nvme;
using namespace coppice::nvme::test;

namespace {

struct AdminMachine : Machine {
    explicit AdminMachine(GuestManage manage = GuestManage::own) : Machine(manage)
    {
        enable();
        page = pages.take(2);
    }
    StatusCode identify(Cns cns, std::uint32_t nsid, std::uint32_t cdw11 = 0)
    {
        SubmissionEntry entry = admin_entry(AdminOpcode::identify, nsid, page);
        entry.cdw10 = static_cast<std::uint32_t>(cns);
        entry.cdw11 = cdw11;
        std::fill_n(guest(page, 4096).begin(), 4096, std::byte{0xee});
        return status(admin, entry);
    }
    StatusCode log(LogPage log_page, std::uint32_t dwords, std::uint64_t offset = 0,
                   std::uint32_t nsid = kNsidAll, bool retain = false)
    {
        SubmissionEntry entry = admin_entry(AdminOpcode::get_log_page, nsid, page);
        entry.prp2 = page + 4096;
        entry.cdw10 =
            static_cast<std::uint32_t>(log_page) | (retain ? 1U << 15 : 0) | (dwords - 1) << 16;
        entry.cdw11 = (dwords - 1) >> 16;
        entry.cdw12 = low_half(offset);
        entry.cdw13 = high_half(offset);
        return status(admin, entry);
    }
    CompletionEntry feature(AdminOpcode opcode, std::uint32_t cdw10, std::uint32_t cdw11 = 0,
                            std::uint32_t nsid = 0)
    {
        SubmissionEntry entry = admin_entry(opcode, nsid, page);
        entry.cdw10 = cdw10;
        entry.cdw11 = cdw11;
        return admin_call(entry);
    }
    std::uint64_t page = 0;
};

StatusCode code(const CompletionEntry& entry) { return status_field_code(entry.status); }

}  // namespace

TEST_CASE("Identify Controller")
{
    AdminMachine machine(GENERATE(GuestManage::own, GuestManage::off));
    REQUIRE(machine.identify(Cns::controller, 0) == StatusCode::success);
    const auto data = machine.get<IdentifyController>(machine.page);
    CHECK(std::string(data.serial.data(), 20) == "test-1              ");
    CHECK(std::string(data.model.data(), 17) == "Coppice NVMe disk");
    CHECK(std::string(data.subnqn.data()).starts_with("nqn.2014-08.org.nvmexpress:uuid:"));
    CHECK(std::string(data.subnqn.data()).size() == 32 + 36);
    CHECK(data.mdts == 8);
    CHECK(data.ver == 0x20000);
    CHECK(data.cmic == 0);
    CHECK(data.nn == 255);
    CHECK(data.vwc == 7);
    CHECK(data.awun_z == 255);
    CHECK(data.awupf_z == 255);
    CHECK(data.sqes == 0x66);
    CHECK(data.cqes == 0x44);
    CHECK(data.sgls == 0);
    CHECK(data.fuses == 0);
    CHECK((data.oacs == 8) == (machine.config.manage == GuestManage::own));
}

TEST_CASE("Identify Namespace: atomic writes, preferred sizes, formats")
{
    AdminMachine machine;
    REQUIRE(machine.identify(Cns::active_namespace, 1) == StatusCode::success);
    auto data = machine.get<IdentifyNamespace>(machine.page);
    CHECK(data.nsze == 1024);
    CHECK(data.flbas == 1);
    CHECK(data.formats[0].data_exponent == 9);
    CHECK(data.formats[1].data_exponent == 12);
    CHECK(data.nsfeat == 0x1b);
    CHECK(data.nawun_z == 255);
    CHECK(data.nawupf_z == 255);
    CHECK(data.nabo == 0);
    CHECK(data.nabspf_z == 0);
    CHECK(data.npwg_z == 0);
    CHECK(data.dlfeat == 9);
    REQUIRE(machine.identify(Cns::active_namespace, 2) == StatusCode::success);
    data = machine.get<IdentifyNamespace>(machine.page);
    CHECK(data.nsze == 8192);
    CHECK(data.flbas == 0);
    CHECK(data.nawupf_z == 2047);
    CHECK(data.npwg_z == 7);
    CHECK(data.npdg_z == 7);
    CHECK(data.eui64[0] == 2);

    CHECK(machine.identify(Cns::active_namespace, 0) == StatusCode::invalid_namespace_or_format);
    CHECK(machine.identify(Cns::active_namespace, 5000) == StatusCode::invalid_namespace_or_format);
    CHECK(machine.identify(Cns::active_namespace, 7) == StatusCode::success);  // inactive: zeroes
    CHECK(machine.get<IdentifyNamespace>(machine.page).nsze == 0);
    CHECK(machine.identify(Cns::active_namespace, kNsidAll) == StatusCode::success);
    CHECK(machine.get<IdentifyNamespace>(machine.page).nlbaf_z == 1);
    CHECK(machine.identify(Cns::independent_namespace, 1) == StatusCode::success);
    CHECK(machine.get<IdentifyIndependent>(machine.page).nstat == 1);
}

TEST_CASE("Identify: lists and descriptors")
{
    AdminMachine machine;
    REQUIRE(machine.identify(Cns::active_list, 0) == StatusCode::success);
    auto list = machine.get<NamespaceList>(machine.page);
    CHECK((list.ids[0] == 1 && list.ids[1] == 2 && list.ids[2] == 0));
    REQUIRE(machine.identify(Cns::allocated_list, 1) == StatusCode::success);
    list = machine.get<NamespaceList>(machine.page);
    CHECK((list.ids[0] == 2 && list.ids[1] == 0));
    CHECK(machine.identify(Cns::active_list, 0xfffffffe) ==
          StatusCode::invalid_namespace_or_format);
    REQUIRE(machine.identify(Cns::namespace_descriptors, 2) == StatusCode::success);
    const auto bytes = machine.guest(machine.page, 64);
    CHECK((bytes[0] == std::byte{1} && bytes[1] == std::byte{8} && bytes[4] == std::byte{2}));
    CHECK((bytes[12] == std::byte{2} && bytes[13] == std::byte{16}));
    CHECK((bytes[32] == std::byte{4} && bytes[33] == std::byte{1} && bytes[37] == std::byte{0}));
    CHECK(machine.identify(Cns::namespace_descriptors, 7) == StatusCode::invalid_field);
    CHECK(machine.identify(Cns::command_set_controller, 0) == StatusCode::success);
    CHECK(machine.get<IdentifyControllerNvm>(machine.page).verify_limit == 8);
    CHECK(machine.identify(Cns::command_set_controller, 0, 0x02000000) ==
          StatusCode::invalid_field);
    CHECK(machine.identify(Cns::controllers, 0) == StatusCode::success);
    CHECK(machine.get<ControllerList>(machine.page).count == 1);
    CHECK(machine.identify(Cns::attached_controllers, 1) == StatusCode::success);
    CHECK(machine.get<ControllerList>(machine.page).count == 1);
    CHECK(machine.identify(Cns::attached_controllers, 9) == StatusCode::success);
    CHECK(machine.get<ControllerList>(machine.page).count == 0);
    CHECK(machine.identify(Cns::command_sets, 0) == StatusCode::success);
    CHECK(machine.identify(static_cast<Cns>(0x77), 0) == StatusCode::invalid_field);
}

TEST_CASE("Get Log Page: lengths and offsets")
{
    AdminMachine machine;
    CHECK(machine.log(LogPage::health, 128) == StatusCode::success);
    auto health = machine.get<HealthLog>(machine.page);
    CHECK(health.temperature_kelvin == 303);
    CHECK(health.spare_percent == 49);
    CHECK(health.critical_warning == 0);
    CHECK(machine.log(LogPage::health, 128, 0, 1) == StatusCode::invalid_field);
    // An offset into the page, and a length beyond its end: only what there is comes.
    std::fill_n(machine.guest(machine.page, 4096).begin(), 4096, std::byte{0xee});
    CHECK(machine.log(LogPage::firmware_slots, 1024, 8) == StatusCode::success);
    CHECK(machine.guest(machine.page, 1)[0] == std::byte{'0'});
    CHECK(machine.guest(machine.page + 504, 1)[0] == std::byte{0xee});
    CHECK(machine.log(LogPage::firmware_slots, 1, 512) == StatusCode::success);
    CHECK(machine.log(LogPage::firmware_slots, 1, 516) == StatusCode::invalid_field);
    CHECK(machine.log(LogPage::firmware_slots, 1, 3) == StatusCode::invalid_field);
    CHECK(machine.log(LogPage::firmware_slots, 1, ~std::uint64_t{3}) == StatusCode::invalid_field);
    CHECK(machine.log(LogPage::firmware_slots, 0x40001) == StatusCode::invalid_field);
    CHECK(machine.log(LogPage::supported_pages, 256) == StatusCode::success);
    CHECK(machine.get<SupportedLogPages>(machine.page).pages[2] == 1);
    CHECK(machine.log(LogPage::command_effects, 1024) == StatusCode::success);
    const auto effects = machine.get<EffectsLog>(machine.page);
    CHECK(effects.admin[0xc1] == 9);
    CHECK(effects.admin[0xc2] == 1);
    CHECK(effects.admin[0xc8] == 0x10007);
    CHECK(effects.admin[0xcc] == 1);
    CHECK(effects.admin[0xd0] == 1);
    CHECK(effects.io[0x19] == 3);
    CHECK(effects.io[0x0d] == 0);
    CHECK(machine.log(LogPage::feature_effects, 256) == StatusCode::success);
    CHECK(machine.log(LogPage::management_effects, 1024) == StatusCode::success);
    CHECK(machine.log(static_cast<LogPage>(0x70), 1) == StatusCode::invalid_log_page);
}

TEST_CASE("features: values, selections, refusals")
{
    AdminMachine machine;
    const auto get = [&](std::uint32_t cdw10, std::uint32_t cdw11 = 0) {
        return machine.feature(AdminOpcode::get_features, cdw10, cdw11);
    };
    const auto set = [&](std::uint32_t cdw10, std::uint32_t cdw11 = 0, std::uint32_t nsid = 0) {
        return machine.feature(AdminOpcode::set_features, cdw10, cdw11, nsid);
    };
    CHECK(set(7, 0x00030003).dw0 == 0x003f003f);
    CHECK(code(set(7, 0xffff)) == StatusCode::invalid_field);
    CHECK(get(6).dw0 == 1);
    CHECK(code(set(6, 0)) == StatusCode::success);
    CHECK(get(6).dw0 == 0);
    CHECK(get(0x106).dw0 == 1);  // default
    CHECK(get(0x306).dw0 == 4);  // changeable, not saveable, not per namespace
    CHECK(code(get(0x406)) == StatusCode::invalid_field);
    CHECK(code(set(0x80000006, 1)) == StatusCode::feature_not_saveable);
    CHECK(code(set(6, 1, 1)) == StatusCode::feature_not_per_namespace);
    CHECK(get(4).dw0 == 343);
    CHECK(code(set(4, 0x000f0150)) == StatusCode::success);
    CHECK(get(4).dw0 == 0x150);
    CHECK(get(4, 0x00100000).dw0 == 0);
    CHECK(code(set(4, 0x00010150)) == StatusCode::invalid_field);
    CHECK(code(set(2, 1)) == StatusCode::invalid_field);
    CHECK(code(set(5, 0x00010000)) == StatusCode::invalid_field);
    CHECK(code(set(9, 0x00010041)) == StatusCode::invalid_field);
    CHECK(code(set(9, 0x00010003)) == StatusCode::success);
    CHECK(get(9, 3).dw0 == 0x00010003);
    CHECK(get(0x109, 3).dw0 == 3);
    CHECK(code(get(9, 65)) == StatusCode::invalid_field);
    CHECK(code(set(0x7f)) == StatusCode::invalid_field);
    CHECK(code(get(0x7f)) == StatusCode::invalid_field);
    machine.create_queue(1, 4, 1);
    CHECK(code(set(7, 0x00030003)) == StatusCode::command_sequence_error);

    TimestampData stamp;
    stamp.milliseconds = 123'456'789;
    machine.put(machine.page, stamp);
    CHECK(code(set(0x0e)) == StatusCode::success);
    CHECK(code(get(0x0e)) == StatusCode::success);
    stamp = machine.get<TimestampData>(machine.page);
    CHECK(stamp.milliseconds >= 123'456'789);
    CHECK(stamp.milliseconds < 123'457'789);
    CHECK(stamp.attributes == 2);
    CHECK(code(get(0x16)) == StatusCode::success);
    CHECK(machine.get<HostBehavior>(machine.page).copy_formats == 0);
}

TEST_CASE("events: limit, abort, masking until the page is read")
{
    AdminMachine machine;
    std::vector<std::uint16_t> parked;
    for (unsigned i = 0; i < 4; ++i) {
        parked.push_back(machine.submit(machine.admin, admin_entry(AdminOpcode::async_event)));
    }
    machine.run();
    CHECK_FALSE(machine.reap(machine.admin));
    CHECK_FALSE(machine.controller->busy());
    CHECK(code(machine.admin_call(admin_entry(AdminOpcode::async_event))) ==
          StatusCode::async_event_limit_exceeded);

    SubmissionEntry abort = admin_entry(AdminOpcode::abort);
    abort.cdw10 = static_cast<std::uint32_t>(parked[1]) << 16;
    machine.submit(machine.admin, abort);
    machine.run();
    auto done = machine.reap(machine.admin);
    REQUIRE(done);
    CHECK(done->command_id == parked[1]);
    CHECK(code(*done) == StatusCode::abort_requested);
    done = machine.reap(machine.admin);
    REQUIRE(done);
    CHECK(done->dw0 == 0);
    CHECK(machine.admin_call(abort).dw0 == 1);  // it is not there any more

    // A resize on the host: told only when the guest wants to know.
    REQUIRE(machine.store.resize(machine.disk, 8U << 20));
    machine.controller->rescan();
    machine.run();
    CHECK_FALSE(machine.reap(machine.admin));
    CHECK(code(machine.feature(AdminOpcode::set_features, 0x0b, 0x100)) == StatusCode::success);
    REQUIRE(machine.store.resize(machine.disk, 16U << 20));
    machine.controller->rescan();
    machine.run();
    done = machine.reap(machine.admin);
    REQUIRE(done);
    CHECK(done->command_id == parked[0]);
    CHECK(done->dw0 == 0x00040002);
    REQUIRE(machine.store.resize(machine.small, 8U << 20));
    machine.controller->rescan();
    machine.run();
    CHECK_FALSE(machine.reap(machine.admin));  // masked
    CHECK(machine.log(LogPage::changed_namespaces, 1024, 0, kNsidAll, true) == StatusCode::success);
    auto list = machine.get<NamespaceList>(machine.page);
    CHECK((list.ids[0] == 1 && list.ids[1] == 2 && list.ids[2] == 0));
    SubmissionEntry read = admin_entry(AdminOpcode::get_log_page, kNsidAll, machine.page);
    read.cdw10 = 0x00030004;
    const std::uint16_t id = machine.submit(machine.admin, read);
    machine.run();
    CHECK(machine.reap(machine.admin)->command_id == id);
    done = machine.reap(machine.admin);
    REQUIRE(done);
    CHECK(done->command_id == parked[2]);
    CHECK(machine.log(LogPage::changed_namespaces, 1024) == StatusCode::success);
    CHECK(machine.get<NamespaceList>(machine.page).ids[0] == 0);
}

TEST_CASE("an event waits for a slot of the admin completion queue")
{
    Machine machine;
    machine.enable(2);
    const std::uint16_t event =
        machine.submit(machine.admin, admin_entry(AdminOpcode::async_event));
    SubmissionEntry entry = admin_entry(AdminOpcode::identify, 0, machine.pages.take(1));
    entry.cdw10 = 1;
    machine.submit(machine.admin, entry);
    machine.write32(kDoorbells + 8 * 65, 1);  // no such doorbell
    machine.run();
    REQUIRE(machine.reap(machine.admin));
    machine.run();
    const auto done = machine.reap(machine.admin);
    REQUIRE(done);
    CHECK(done->command_id == event);
}

TEST_CASE("unknown admin commands, and those that the policy takes away")
{
    AdminMachine machine(GuestManage::off);
    for (const unsigned opcode : {0x03U, 0x0dU, 0x15U, 0x80U, 0x84U, 0xc1U, 0xc2U, 0xc8U, 0xffU}) {
        SubmissionEntry entry;
        entry.opcode = static_cast<std::uint8_t>(opcode);
        CHECK(machine.status(machine.admin, entry) == StatusCode::invalid_opcode);
    }
}
