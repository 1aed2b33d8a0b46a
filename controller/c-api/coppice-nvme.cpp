// The C boundary of the controller (coppice-nvme.h): C callbacks as ports, and plain forwarding.
// Nothing is thrown over it; running out of memory ends the process, as everywhere in QEMU.
#include "controller/c-api/coppice-nvme.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "controller/block_backend.h"
#include "controller/controller.h"
#include "controller/store_backend.h"
#include "format/base/check.h"
#include "format/c-api/handle.h"

namespace coppice::nvme {

namespace {

// A structure of the caller's, of whatever size it was compiled with.
template <typename Structure>
Structure copy_sized(const Structure* from)
{
    Structure to{};
    std::memcpy(&to, from, std::min(sizeof(to), from->size));
    return to;
}

class CHost final : public Host {
public:
    explicit CHost(const coppice_nvme_ports& ports) : ports_(ports) {}

    bool read_memory(std::uint64_t address, std::span<std::byte> into) override
    {
        return ports_.read_memory(ports_.opaque, address, into.data(), into.size()) == 0;
    }
    bool write_memory(std::uint64_t address, std::span<const std::byte> from) override
    {
        return ports_.write_memory(ports_.opaque, address, from.data(), from.size()) == 0;
    }
    void* map(std::uint64_t address, std::size_t& length_bytes, Direction direction) override
    {
        return ports_.map(ports_.opaque, address, &length_bytes, direction == Direction::to_guest);
    }
    void unmap(void* pointer, std::size_t length_bytes, Direction direction,
               std::size_t used_bytes) override
    {
        ports_.unmap(ports_.opaque, pointer, length_bytes, direction == Direction::to_guest,
                     used_bytes);
    }
    bool message_interrupts() override { return ports_.msix_enabled(ports_.opaque); }
    void send_message(std::uint16_t vector) override { ports_.send_msix(ports_.opaque, vector); }
    void set_pin(bool asserted) override { ports_.set_pin(ports_.opaque, asserted); }
    std::uint64_t now_ns() override { return ports_.now_ns(ports_.opaque); }
    std::uint64_t unix_ns() override { return ports_.unix_ns(ports_.opaque); }
    void schedule_poll() override { ports_.schedule_poll(ports_.opaque); }

    void idle() override
    {
        if (ports_.idle != nullptr) {
            ports_.idle(ports_.opaque);
        }
    }
    void report(const std::string& text) override
    {
        if (ports_.report != nullptr) {
            ports_.report(ports_.opaque, text.c_str());
        }
    }
    void io_begins(IoClass io, std::uint64_t bytes, Cookie& cookie) override
    {
        if (ports_.io_begins != nullptr) {
            ports_.io_begins(ports_.opaque, c_class(io), bytes, cookie.data());
        }
    }
    void io_ends(IoClass io, Cookie& cookie, bool failed) override
    {
        if (ports_.io_ends != nullptr) {
            ports_.io_ends(ports_.opaque, c_class(io), cookie.data(), failed);
        }
    }
    ErrorAction on_error(IoClass io, int errno_value) override
    {
        if (ports_.on_error == nullptr) {
            return ErrorAction::report;
        }
        switch (ports_.on_error(ports_.opaque, c_class(io), errno_value)) {
        case COPPICE_NVME_REPORT: return ErrorAction::report;
        case COPPICE_NVME_IGNORE: return ErrorAction::ignore;
        case COPPICE_NVME_RETRY: return ErrorAction::retry;
        }
        return ErrorAction::report;
    }

private:
    static coppice_nvme_class c_class(IoClass io)
    {
        switch (io) {
        case IoClass::read: return COPPICE_NVME_READ;
        case IoClass::write: return COPPICE_NVME_WRITE;
        case IoClass::flush: return COPPICE_NVME_FLUSH;
        case IoClass::deallocate: return COPPICE_NVME_DEALLOCATE;
        }
        return COPPICE_NVME_READ;
    }

    coppice_nvme_ports ports_;
};

// What a C block device carries through its request.
struct PendingBlockIo {
    std::function<void(int)> completion;
};

class CBlockDevice final : public BlockDevice {
public:
    explicit CBlockDevice(const coppice_nvme_block& block) : block_(block) {}

    std::uint64_t size_bytes() override { return block_.size_bytes(block_.opaque); }
    bool read_only() override { return block_.read_only(block_.opaque); }
    void start(BlockIo io) override
    {
        coppice_nvme_block_io c{};
        switch (io.kind) {
        case BlockIo::Kind::read: c.kind = COPPICE_NVME_BLOCK_READ; break;
        case BlockIo::Kind::write: c.kind = COPPICE_NVME_BLOCK_WRITE; break;
        case BlockIo::Kind::flush: c.kind = COPPICE_NVME_BLOCK_FLUSH; break;
        case BlockIo::Kind::discard: c.kind = COPPICE_NVME_BLOCK_DISCARD; break;
        case BlockIo::Kind::write_zeroes: c.kind = COPPICE_NVME_BLOCK_WRITE_ZEROES; break;
        }
        c.fua = io.fua;
        c.offset = io.offset_bytes;
        c.length = io.length_bytes;
        c.iov = io.buffers.data();
        c.iov_count = io.buffers.size();
        // Owned by the request until coppice_nvme_block_complete.
        c.cookie = new PendingBlockIo{std::move(io.completion)};
        block_.submit(block_.opaque, &c);
    }

private:
    coppice_nvme_block block_;
};

// A backend with what it stands on.
struct Ground {
    std::unique_ptr<CBlockDevice> device;
    std::unique_ptr<Backend> backend;
};

Ground ground_on(coppice_store* store)
{
    Ground ground;
    ground.backend = std::make_unique<StoreBackend>(store_of(store), tasks_of(store));
    return ground;
}

Ground ground_on(const coppice_nvme_block* block)
{
    Ground ground;
    const coppice_nvme_block c = copy_sized(block);
    BlockBackend::Namespace identity;
    identity.nsid = c.nsid == 0 ? 1 : c.nsid;
    identity.lba_shift = c.lba_bytes == 4096 ? 12 : 9;
    std::copy(std::begin(c.nguid), std::end(c.nguid), identity.nguid.begin());
    std::copy(std::begin(c.eui64), std::end(c.eui64), identity.eui64.begin());
    ground.device = std::make_unique<CBlockDevice>(c);
    ground.backend = std::make_unique<BlockBackend>(*ground.device, identity);
    return ground;
}

GuestManage manage_of(coppice_nvme_manage manage)
{
    switch (manage) {
    case COPPICE_NVME_MANAGE_OWN: return GuestManage::own;
    case COPPICE_NVME_MANAGE_OFF: return GuestManage::off;
    case COPPICE_NVME_MANAGE_ALL: return GuestManage::all;
    }
    return GuestManage::off;
}

Config config_of(const coppice_nvme_config& c, const Uuid& uuid)
{
    Config config;
    config.identity.pci_vendor = c.pci_vendor;
    config.identity.pci_subsystem_vendor = c.pci_subsystem_vendor;
    config.identity.controller_id = c.controller_id;
    if (c.serial != nullptr && *c.serial != '\0') {
        config.identity.serial = c.serial;
    } else {
        std::string digits = to_string(uuid);
        std::erase(digits, '-');
        config.identity.serial = digits.substr(0, 20);
    }
    config.identity.subnqn =
        c.subnqn != nullptr ? c.subnqn : default_subnqn(uuid, config.identity.serial);
    if (c.vectors != 0) {
        config.vectors = c.vectors;
    }
    config.manage = manage_of(c.manage);
    config.power_on.attach_volumes = !c.detach_volumes;
    if (c.attach != nullptr) {
        config.power_on.attach.assign(c.attach, c.attach + c.attach_count);
    }
    return config;
}

}  // namespace

}  // namespace coppice::nvme

using namespace coppice;        // NOLINT(google-build-using-namespace): the file is the boundary
using namespace coppice::nvme;  // NOLINT(google-build-using-namespace)

struct coppice_nvme {
    coppice_nvme(const coppice_nvme_ports& ports, Ground on, Config config)
        : host(ports), ground(std::move(on)), controller(host, *ground.backend, std::move(config))
    {
    }
    CHost host;
    Ground ground;
    unsigned vectors = 0;
    Controller controller;
};

extern "C" {

coppice_nvme* coppice_nvme_create(const coppice_nvme_config* config,
                                  const coppice_nvme_ports* ports, coppice_store* store,
                                  const coppice_nvme_block* block)
{
    const coppice_nvme_config c = copy_sized(config);
    constexpr unsigned kMaxVectors = 2048;  // MSI-X table size, PCI 3.0 section 6.8.2.3
    if ((store == nullptr) == (block == nullptr) || c.vectors > kMaxVectors) {
        return nullptr;
    }
    Uuid uuid;
    if (store != nullptr) {
        uuid = store_of(store).info().uuid;
    } else {
        std::copy(std::begin(c.uuid), std::end(c.uuid), uuid.bytes.begin());
    }
    Config made = config_of(c, uuid);
    const unsigned vectors = made.vectors;
    auto* nvme = new coppice_nvme(
        copy_sized(ports), store != nullptr ? ground_on(store) : ground_on(block), std::move(made));
    nvme->vectors = vectors;
    return nvme;
}

void coppice_nvme_destroy(coppice_nvme* nvme) { delete nvme; }

std::uint64_t coppice_nvme_read(coppice_nvme* nvme, std::uint64_t offset, unsigned size)
{
    return nvme->controller.read_register(offset, size);
}

void coppice_nvme_write(coppice_nvme* nvme, std::uint64_t offset, std::uint64_t value,
                        unsigned size)
{
    nvme->controller.write_register(offset, value, size);
}

bool coppice_nvme_is_doorbell(std::uint64_t offset) { return Controller::is_doorbell(offset); }

bool coppice_nvme_doorbell(coppice_nvme* nvme, std::uint64_t offset, std::uint32_t value)
{
    return nvme->controller.doorbell(offset, value);
}

void coppice_nvme_poll(coppice_nvme* nvme) { nvme->controller.poll(); }

void coppice_nvme_interrupt_mode_changed(coppice_nvme* nvme)
{
    nvme->controller.interrupt_mode_changed();
}

void coppice_nvme_reset(coppice_nvme* nvme) { nvme->controller.reset(); }
void coppice_nvme_stop(coppice_nvme* nvme) { nvme->controller.stop(); }
void coppice_nvme_start(coppice_nvme* nvme) { nvme->controller.start(); }
bool coppice_nvme_busy(coppice_nvme* nvme) { return nvme->controller.busy(); }
void coppice_nvme_retry(coppice_nvme* nvme) { nvme->controller.retry_failed(); }
void coppice_nvme_rescan(coppice_nvme* nvme) { nvme->controller.rescan(); }

void coppice_nvme_use_store(coppice_nvme* nvme, coppice_store* store)
{
    Ground ground = ground_on(store);
    nvme->controller.use(*ground.backend);
    nvme->ground = std::move(ground);
}

void coppice_nvme_use_block(coppice_nvme* nvme, const coppice_nvme_block* block)
{
    Ground ground = ground_on(block);
    nvme->controller.use(*ground.backend);
    nvme->ground = std::move(ground);
}

unsigned coppice_nvme_vectors(coppice_nvme* nvme) { return nvme->vectors; }

void coppice_nvme_block_complete(void* cookie, int result)
{
    const std::unique_ptr<PendingBlockIo> io(static_cast<PendingBlockIo*>(cookie));
    CHECK(io != nullptr);
    io->completion(result);
}

}  // extern "C"
