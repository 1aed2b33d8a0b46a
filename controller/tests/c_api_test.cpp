// The C boundary over a block device: callbacks in, the same controller behind.
#include <cerrno>

#include "controller/c-api/coppice-nvme.h"
#include "controller/tests/fakes.h"
#include "coppice-catch.h"

using namespace coppice;
using namespace coppice::nvme;
using namespace coppice::nvme::test;

namespace {

struct Outside {
    FakeHost host;
    std::vector<std::byte> disk = std::vector<std::byte>(1U << 20);
    std::vector<void*> waiting;
    unsigned idles = 0;
    int result = 0;
};

FakeHost& host_of(void* opaque) { return static_cast<Outside*>(opaque)->host; }

coppice_nvme_ports ports_for(Outside& outside)
{
    coppice_nvme_ports ports{};
    ports.size = sizeof(ports);
    ports.opaque = &outside;
    ports.read_memory = [](void* o, std::uint64_t address, void* into, std::size_t length) {
        return host_of(o).read_memory(address, {static_cast<std::byte*>(into), length}) ? 0
                                                                                        : -EFAULT;
    };
    ports.write_memory = [](void* o, std::uint64_t address, const void* from, std::size_t length) {
        return host_of(o).write_memory(address, {static_cast<const std::byte*>(from), length})
                   ? 0
                   : -EFAULT;
    };
    ports.map = [](void* o, std::uint64_t address, std::size_t* length, bool to_guest) {
        return host_of(o).map(address, *length,
                              to_guest ? Direction::to_guest : Direction::from_guest);
    };
    ports.unmap = [](void* o, void* pointer, std::size_t length, bool, std::size_t used) {
        host_of(o).unmap(pointer, length, Direction::to_guest, used);
    };
    ports.msix_enabled = [](void*) { return true; };
    ports.send_msix = [](void* o, unsigned vector) {
        host_of(o).send_message(static_cast<std::uint16_t>(vector));
    };
    ports.set_pin = [](void* o, bool asserted) { host_of(o).set_pin(asserted); };
    ports.now_ns = [](void* o) { return host_of(o).now_ns(); };
    ports.unix_ns = [](void* o) { return host_of(o).unix_ns(); };
    ports.schedule_poll = [](void* o) { host_of(o).schedule_poll(); };
    ports.idle = [](void* o) { ++static_cast<Outside*>(o)->idles; };
    return ports;
}

coppice_nvme_block block_for(Outside& outside)
{
    coppice_nvme_block block{};
    block.size = sizeof(block);
    block.opaque = &outside;
    block.size_bytes = [](void* o) { return std::uint64_t{static_cast<Outside*>(o)->disk.size()}; };
    block.read_only = [](void*) { return false; };
    block.submit = [](void* o, const coppice_nvme_block_io* io) {
        auto& out = *static_cast<Outside*>(o);
        std::byte* at = out.disk.data() + io->offset;
        for (std::size_t i = 0; i < io->iov_count; ++i) {
            if (io->kind == COPPICE_NVME_BLOCK_READ) {
                std::memcpy(io->iov[i].iov_base, at, io->iov[i].iov_len);
            } else {
                std::memcpy(at, io->iov[i].iov_base, io->iov[i].iov_len);
            }
            at += io->iov[i].iov_len;
        }
        out.waiting.push_back(io->cookie);
    };
    block.lba_bytes = 4096;
    return block;
}

}  // namespace

TEST_CASE("the C boundary carries a guest through")
{
    Outside outside;
    const coppice_nvme_ports ports = ports_for(outside);
    const coppice_nvme_block block = block_for(outside);
    coppice_nvme_config config{};
    config.size = sizeof(config);
    config.uuid[0] = 0xab;
    CHECK(coppice_nvme_create(&config, &ports, nullptr, nullptr) == nullptr);
    coppice_nvme* nvme = coppice_nvme_create(&config, &ports, nullptr, &block);
    REQUIRE(nvme != nullptr);
    CHECK(coppice_nvme_vectors(nvme) == 65);
    CHECK(coppice_nvme_read(nvme, kRegisterVs, 4) == 0x20000);
    CHECK(coppice_nvme_is_doorbell(0x1000));
    CHECK_FALSE(coppice_nvme_is_doorbell(0xffc));

    coppice_nvme_write(nvme, kRegisterAqa, 0x000f000f, 4);
    coppice_nvme_write(nvme, kRegisterAsq, 0x1000, 8);
    coppice_nvme_write(nvme, kRegisterAcq, 0x2000, 8);
    coppice_nvme_write(nvme, kRegisterCc, 0x00460001, 4);
    REQUIRE(coppice_nvme_read(nvme, kRegisterCsts, 4) == 1);
    unsigned tail = 0;
    const auto admin = [&](const SubmissionEntry& entry) {
        std::memcpy(outside.host.memory.data() + 0x1000 + 64 * tail, &entry, sizeof(entry));
        CHECK(coppice_nvme_doorbell(nvme, 0x1000, ++tail));
        coppice_nvme_poll(nvme);
        CompletionEntry done;
        std::memcpy(&done, outside.host.memory.data() + 0x2000 + 16 * (tail - 1), sizeof(done));
        REQUIRE(status_field_code(done.status) == StatusCode::success);
        REQUIRE(status_field_phase(done.status));
    };
    SubmissionEntry entry = admin_entry(AdminOpcode::identify, 0, 0x3000);
    entry.cdw10 = 1;
    admin(entry);
    IdentifyController id;
    std::memcpy(&id, outside.host.memory.data() + 0x3000, sizeof(id));
    CHECK(std::string(id.serial.data(), 20) == "ab000000000000000000");
    CHECK(id.oacs == 0);
    CHECK(id.awupf_z == 0);
    entry = admin_entry(AdminOpcode::create_cq, 0, 0x4000);
    entry.cdw10 = 0x000f0001;
    entry.cdw11 = 0x00010003;
    admin(entry);
    entry = admin_entry(AdminOpcode::create_sq, 0, 0x5000);
    entry.cdw10 = 0x000f0001;
    entry.cdw11 = 0x00010001;
    admin(entry);

    outside.host.memory[0x6000] = std::byte{0x5a};
    entry = io_entry(IoOpcode::write, 1, 3, 1, {0x6000, 0});
    std::memcpy(outside.host.memory.data() + 0x5000, &entry, sizeof(entry));
    coppice_nvme_write(nvme, 0x1008, 1, 4);
    REQUIRE(outside.waiting.size() == 1);
    CHECK(coppice_nvme_busy(nvme));
    coppice_nvme_stop(nvme);
    coppice_nvme_block_complete(outside.waiting[0], 0);
    CHECK(outside.host.scheduled);
    coppice_nvme_poll(nvme);
    CHECK_FALSE(coppice_nvme_busy(nvme));
    CHECK(outside.idles > 0);
    CHECK(outside.disk[3 * 4096] == std::byte{0x5a});
    CHECK(outside.host.messages[1] == 1);
    coppice_nvme_use_block(nvme, &block);
    coppice_nvme_start(nvme);
    coppice_nvme_reset(nvme);
    CHECK(coppice_nvme_read(nvme, kRegisterCsts, 4) == 0);
    coppice_nvme_destroy(nvme);
}
