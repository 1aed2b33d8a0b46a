#include "controller/tests/fakes.h"

#include "coppice-catch.h"

namespace coppice::nvme::test {

namespace {

constexpr std::uint64_t kDiskBytes = 4U << 20;

}  // namespace

// ---- FakeStore ----------------------------------------------------------------------------

Status FakeStore::execute(const Operation& operation)
{
    if (fail_io) {
        return fail(*fail_io, "injected");
    }
    const auto found = all.find(operation.volume.value);
    if (found == all.end()) {
        return fail(ErrorCode::not_found, "no such volume");
    }
    if (operation.transaction != TransactionId()) {
        COPPICE_ASSIGN(own, volume_of(operation.transaction));
        if (own != operation.volume) {
            return fail(ErrorCode::invalid_argument, "another volume's transaction");
        }
    }
    if (operation.stream != StreamId() &&
        !streams.contains({operation.volume.value, operation.stream.value})) {
        return fail(ErrorCode::not_found, "no such stream");
    }
    Volume& volume = found->second;
    const std::uint64_t offset = operation.offset_bytes;
    const std::uint64_t length = operation.length_bytes;
    if (operation.kind != Operation::Kind::read && operation.kind != Operation::Kind::flush) {
        REQUIRE_FALSE(volume.info.snapshot);  // the controller must not let it through
    }
    std::byte* bytes = volume.data.data() + offset;
    switch (operation.kind) {
    case Operation::Kind::read:
    case Operation::Kind::write: {
        REQUIRE(inside(volume, offset, length));
        std::uint64_t total = 0;
        for (const iovec& piece : operation.buffers) {
            REQUIRE(piece.iov_len <= length - total);
            if (operation.kind == Operation::Kind::read) {
                std::memcpy(piece.iov_base, bytes + total, piece.iov_len);
            } else {
                std::memcpy(bytes + total, piece.iov_base, piece.iov_len);
            }
            total += piece.iov_len;
        }
        REQUIRE(total == length);
        break;
    }
    case Operation::Kind::flush:
        ++flushes;
        volume.dirty = false;
        return {};
    case Operation::Kind::deallocate:
        for (const Range& range : operation.ranges) {
            REQUIRE(inside(volume, range.offset_bytes, range.length_bytes));
            std::memset(volume.data.data() + range.offset_bytes, 0, range.length_bytes);
        }
        break;
    case Operation::Kind::write_zeroes:
        REQUIRE(inside(volume, offset, length));
        std::memset(bytes, 0, length);
        break;
    case Operation::Kind::clone: return execute_clone(volume, operation);
    case Operation::Kind::write_ranges: write_pieces(volume, operation); break;
    case Operation::Kind::commit: return commit(operation.transaction, operation.fua);
    }
    if (operation.kind != Operation::Kind::read) {
        volume.dirty = !operation.fua;
    }
    return {};
}

void FakeStore::write_pieces(Volume& volume, const Operation& operation)
{
    std::vector<std::byte> data;
    for (const iovec& piece : operation.buffers) {
        const auto* bytes = static_cast<const std::byte*>(piece.iov_base);
        data.insert(data.end(), bytes, bytes + piece.iov_len);
    }
    std::size_t done = 0;
    for (const Range& range : operation.ranges) {
        REQUIRE(inside(volume, range.offset_bytes, range.length_bytes));
        REQUIRE(range.length_bytes <= data.size() - done);
        std::memcpy(volume.data.data() + range.offset_bytes, data.data() + done,
                    range.length_bytes);
        done += range.length_bytes;
    }
    REQUIRE(done == data.size());
}

Status FakeStore::execute_clone(Volume& volume, const Operation& operation)
{
    std::vector<std::byte> bytes;  // sources as of the start
    for (const CloneSource& source : operation.sources) {
        const Volume& from = at(source.volume);
        REQUIRE(inside(from, source.range.offset_bytes, source.range.length_bytes));
        const auto begin =
            from.data.begin() + static_cast<std::ptrdiff_t>(source.range.offset_bytes);
        bytes.insert(bytes.end(), begin,
                     begin + static_cast<std::ptrdiff_t>(source.range.length_bytes));
    }
    REQUIRE(inside(volume, operation.offset_bytes, bytes.size()));
    std::copy(bytes.begin(), bytes.end(),
              volume.data.begin() + static_cast<std::ptrdiff_t>(operation.offset_bytes));
    volume.dirty = !operation.fua;
    return {};
}

// ---- Machine ------------------------------------------------------------------------------

Machine::Machine(GuestManage manage, unsigned seed) : random(seed)
{
    disk = store.add(kDiskBytes, 12, "disk");
    small = store.add(kDiskBytes, 9, "small");
    config.identity.serial = "test-1";
    config.identity.pci_vendor = 0x1b36;
    config.identity.subnqn = default_subnqn({}, config.identity.serial);
    config.manage = manage;
    backend = std::make_unique<StoreBackend>(store, tasks);
    controller = std::make_unique<Controller>(host, *backend, config);
}

Machine::~Machine()
{
    controller->stop();
    run();
    controller.reset();
}

bool Machine::step()
{
    if (host.scheduled) {
        host.scheduled = false;
        controller->poll();
        return true;
    }
    return store.complete_one(random) || tasks.run_one() || (elsewhere && elsewhere());
}

void Machine::run()
{
    unsigned steps = 0;
    while (step()) {
        REQUIRE(++steps < 1'000'000);
    }
}

void Machine::enable(std::uint32_t admin_entries)
{
    admin = {};
    admin.entries = admin_entries;
    const std::size_t sq_pages = divide_up(admin_entries * 64, kPageBytes);
    const std::size_t cq_pages = divide_up(admin_entries * 16, kPageBytes);
    admin.sq = pages.take(sq_pages);
    admin.cq = pages.take(cq_pages);
    std::fill_n(host.memory.begin() + static_cast<std::ptrdiff_t>(admin.cq), cq_pages * kPageBytes,
                std::byte{0});
    write32(kRegisterAqa, (admin_entries - 1) << 16 | (admin_entries - 1));
    controller->write_register(kRegisterAsq, admin.sq, 8);
    write32(kRegisterAcq, static_cast<std::uint32_t>(admin.cq));
    write32(kRegisterAcq + 4, 0);
    write32(kRegisterCc, 0x00460001);
    run();
    REQUIRE(read32(kRegisterCsts) == 1);
}

void Machine::disable()
{
    write32(kRegisterCc, 0x00460000);
    run();
    REQUIRE(read32(kRegisterCsts) == 0);
}

std::uint16_t Machine::submit(DriverQueue& queue, SubmissionEntry entry, bool ring_it)
{
    const std::uint16_t id = next_id++;
    entry.command_id = id;
    put(queue.sq + queue.sq_tail * sizeof(entry), entry);
    queue.sq_tail = (queue.sq_tail + 1) % queue.entries;
    if (ring_it) {
        ring(queue);
    }
    return id;
}

void Machine::ring(const DriverQueue& queue) { write32(kDoorbells + 8U * queue.id, queue.sq_tail); }

std::optional<CompletionEntry> Machine::reap(DriverQueue& queue, bool ring_head)
{
    const auto entry = get<CompletionEntry>(queue.cq + queue.cq_head * sizeof(CompletionEntry));
    if (status_field_phase(entry.status) != queue.phase) {
        return std::nullopt;
    }
    queue.cq_head = queue.cq_head + 1;
    if (queue.cq_head == queue.entries) {
        queue.cq_head = 0;
        queue.phase = !queue.phase;
    }
    if (ring_head) {
        write32(kDoorbells + 8U * queue.id + 4, queue.cq_head);
    }
    return entry;
}

CompletionEntry Machine::call(DriverQueue& queue, const SubmissionEntry& entry)
{
    const std::uint16_t id = submit(queue, entry);
    run();
    const auto done = reap(queue);
    REQUIRE(done.has_value());
    REQUIRE(done->command_id == id);
    REQUIRE(done->sq_id == queue.id);
    REQUIRE_FALSE(reap(queue).has_value());
    REQUIRE(host.mapped == 0);
    REQUIRE(host.begun == 0);
    return *done;
}

DriverQueue Machine::create_queue(std::uint16_t id, std::uint32_t entries, std::uint16_t vector)
{
    DriverQueue queue;
    queue.id = id;
    queue.entries = entries;
    queue.sq = pages.take(divide_up(entries * 64, kPageBytes));
    queue.cq = pages.take(divide_up(entries * 16, kPageBytes));
    std::fill_n(host.memory.begin() + static_cast<std::ptrdiff_t>(queue.cq),
                divide_up(entries * 16, kPageBytes) * kPageBytes, std::byte{0});
    SubmissionEntry entry = admin_entry(AdminOpcode::create_cq, 0, queue.cq);
    entry.cdw10 = (entries - 1) << 16 | id;
    entry.cdw11 = static_cast<std::uint32_t>(vector) << 16 | 3U;
    REQUIRE(status(admin, entry) == StatusCode::success);
    entry = admin_entry(AdminOpcode::create_sq, 0, queue.sq);
    entry.cdw10 = (entries - 1) << 16 | id;
    entry.cdw11 = static_cast<std::uint32_t>(id) << 16 | 1U;
    REQUIRE(status(admin, entry) == StatusCode::success);
    return queue;
}

// PRP entries for a buffer that is contiguous; a list where there are more than two pages.
DataPointer Machine::data(std::uint64_t address, std::uint64_t bytes)
{
    DataPointer pointer{address, 0};
    const std::uint64_t first = kPageBytes - address % kPageBytes;
    if (bytes <= first) {
        return pointer;
    }
    std::uint64_t next = address + first;
    std::uint64_t left = bytes - first;
    if (left <= kPageBytes) {
        pointer.prp2 = next;
        return pointer;
    }
    std::uint64_t list = pages.take(1);
    pointer.prp2 = list;
    while (left > 0) {
        put(list, Le64(next));
        list += 8;
        next += kPageBytes;
        left -= std::min(left, kPageBytes);
    }
    return pointer;
}

void Machine::fill(std::uint64_t address, std::size_t bytes, unsigned seed)
{
    std::mt19937 generator(seed);
    for (std::byte& byte : guest(address, bytes)) {
        byte = static_cast<std::byte>(generator());
    }
}

SubmissionEntry admin_entry(AdminOpcode opcode, std::uint32_t nsid, std::uint64_t prp1)
{
    SubmissionEntry entry;
    entry.opcode = static_cast<std::uint8_t>(opcode);
    entry.nsid = nsid;
    entry.prp1 = prp1;
    return entry;
}

SubmissionEntry io_entry(IoOpcode opcode, std::uint32_t nsid, std::uint64_t lba,
                         std::uint32_t blocks, DataPointer data)
{
    SubmissionEntry entry;
    entry.opcode = static_cast<std::uint8_t>(opcode);
    entry.nsid = nsid;
    entry.prp1 = data.prp1;
    entry.prp2 = data.prp2;
    entry.cdw10 = low_half(lba);
    entry.cdw11 = high_half(lba);
    entry.cdw12 = blocks - 1;
    return entry;
}

}  // namespace coppice::nvme::test
