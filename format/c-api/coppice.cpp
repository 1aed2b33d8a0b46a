// The C boundary over the store. Each function turns its arguments into the store's types, makes
// the caller's task known, calls, and turns the error into errno and text. Nothing else is here. An
// exception finds no handler in the C code above and so ends the process: in effect noexcept.
#include "format/c-api/coppice.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fmt/format.h>
#include <memory>

#include "format/c-api/handle.h"
#include "format/c-api/ports.h"
#include "format/layout/layout.h"
#if defined(COPPICE_HAS_CHECKER)
#include "format/check/checker.h"
#endif

struct coppice_store {
    explicit coppice_store(const coppice_ports& given)
        : ports(given), tasks(ports), disk(tasks, ports)
    {
    }

    coppice_ports ports;
    coppice::PortTasks tasks;
    coppice::PortDisk disk;
    std::unique_ptr<coppice::Store> store;
};

namespace coppice {

Store& store_of(coppice_store* handle) { return *handle->store; }

Tasks& tasks_of(coppice_store* handle) { return handle->tasks; }

namespace {

void copy_text(std::span<char> to, std::string_view text)
{
    std::size_t length = std::min(text.size(), to.size() - 1);
    // A name that does not fit ends before a character of UTF-8, not inside it.
    while (length < text.size() && length > 0 &&
           (static_cast<unsigned char>(text[length]) & 0xC0U) == 0x80U) {
        --length;
    }
    std::copy_n(text.data(), length, to.data());
    to[length] = '\0';
}

int report(const Error& error, coppice_error* to)
{
    if (to != nullptr) {
        copy_text(to->name, error_name(error.code));
        copy_text(to->text, error.text);
    }
    return -error_errno(error.code);
}

int end(const Status& status, coppice_error* error)
{
    return status ? 0 : report(status.error(), error);
}

std::int64_t end(const Result<VolumeId>& made, coppice_error* error)
{
    return made ? static_cast<std::int64_t>(made->value) : report(made.error(), error);
}

// 9 or 12, or 0 for what no volume can have.
unsigned shift_of(unsigned lba_bytes) { return lba_bytes == 512 ? 9 : lba_bytes == 4096 ? 12 : 0; }

// 0: by the size of the volume.
Status check_journal_bytes(std::uint64_t bytes)
{
    const std::uint64_t least = layout::kMinJournalBlocks * kBlockBytes;
    const std::uint64_t most = layout::kMaxJournalBlocks * kBlockBytes;
    if (bytes == 0 || (bytes >= least && bytes <= most && bytes % kBlockBytes == 0)) {
        return {};
    }
    return fail(ErrorCode::invalid_argument,
                fmt::format("the journal has {} to {} MiB, in whole blocks of 4 KiB", least >> 20,
                            most >> 20));
}

Status bad_lba_bytes(unsigned lba_bytes)
{
    return fail(ErrorCode::invalid_argument,
                "the LBA size is 512 or 4096 bytes, not " + std::to_string(lba_bytes));
}

void fill(coppice_volume_info& to, const VolumeInfo& from)
{
    to = coppice_volume_info{.id = static_cast<std::uint32_t>(from.id.value),
                             .parent = static_cast<std::uint32_t>(from.parent.value),
                             .snapshot = from.snapshot,
                             .read_only = from.read_only,
                             .guest_made = from.guest_made,
                             .lba_bytes = 1U << from.lba_shift,
                             .flush_ordered = from.flush == FlushMode::ordered,
                             .size_bytes = from.size_bytes,
                             .mapped_bytes = from.mapped_bytes,
                             .created_unix_ns = from.created_unix_ns,
                             .created_sequence = from.created.value,
                             .vm_state_bytes = from.vm_state_bytes,
                             .vm_clock_ns = from.vm_clock_ns,
                             .icount = from.icount,
                             .nguid = {},
                             .eui64 = {},
                             .name = {}};
    std::ranges::copy(from.nguid, to.nguid);
    std::ranges::copy(from.eui64, to.eui64);
    copy_text(to.name, from.name);
}

std::string text_of(const char* name) { return name != nullptr ? name : ""; }

}  // namespace
}  // namespace coppice

using namespace coppice;

// ---- Ports --------------------------------------------------------------------------------

void coppice_io_complete(const coppice_io* request, int result)
{
    PortDisk::completed(request, result);
}

// ---- Store --------------------------------------------------------------------------------

int coppice_probe(const uint8_t* bytes, size_t length)
{
    constexpr auto magic = layout::kMagic;
    return length >= magic.size() && std::memcmp(bytes, magic.data(), magic.size()) == 0 ? 100 : 0;
}

int coppice_create(const coppice_ports* ports, const coppice_create_options* options,
                   coppice_error* error)
{
    const unsigned lba_bytes = options->lba_bytes != 0 ? options->lba_bytes : 4096;
    if (shift_of(lba_bytes) == 0) {
        return end(bad_lba_bytes(lba_bytes), error);
    }
    if (const Status fits = check_journal_bytes(options->journal_bytes); !fits) {
        return end(fits, error);
    }
    CreateOptions wanted{.uuid = random_uuid(),
                         .volume_bytes = options->volume_bytes,
                         .lba_shift = shift_of(lba_bytes),
                         .flush = options->flush_ordered ? FlushMode::ordered : FlushMode::durable,
                         .journal_bytes = options->journal_bytes};
    if (options->volume_name != nullptr) {
        wanted.volume_name = options->volume_name;
    }
    PortTasks tasks(*ports);
    PortDisk disk(tasks, *ports);
    const TaskScope scope(tasks);
    return end(Store::create(disk, wanted), error);
}

coppice_store* coppice_open(const coppice_ports* ports, const coppice_open_options* options,
                            coppice_error* error)
{
    auto handle = std::make_unique<coppice_store>(*ports);
    OpenOptions wanted{.read_only = options->read_only, .punch = options->punch};
    if (options->cache_bytes != 0) {
        wanted.cache_bytes = options->cache_bytes;
    }
    {
        const TaskScope scope(handle->tasks);
        auto opened = Store::open(handle->disk, wanted);
        if (!opened) {
            report(opened.error(), error);
            return nullptr;
        }
        handle->store = std::move(*opened);
    }
    return handle.release();
}

int coppice_close(coppice_store* handle, coppice_error* error)
{
    const std::unique_ptr<coppice_store> owned(handle);
    const TaskScope scope(owned->tasks);
    const int result = end(owned->store->close(), error);
    owned->store.reset();
    return result;
}

void coppice_abandon(coppice_store* handle)
{
    const std::unique_ptr<coppice_store> owned(handle);
    owned->store->abandon();
    owned->store.reset();
}

void coppice_pause(coppice_store* handle)
{
    const TaskScope scope(handle->tasks);
    handle->store->pause();
}

void coppice_resume(coppice_store* handle) { handle->store->resume(); }

bool coppice_is_read_only(coppice_store* handle) { return handle->store->read_only(); }

void coppice_tick(coppice_store* handle) { handle->store->tick(); }

// ---- What there is ------------------------------------------------------------------------

void coppice_get_info(coppice_store* handle, coppice_image_info* to)
{
    const ImageInfo from = handle->store->info();
    *to = coppice_image_info{.uuid = {},
                             .major_version = from.major_version,
                             .minor_version = from.minor_version,
                             .generation = from.generation.value,
                             .sequence = from.sequence.value,
                             .journal_bytes = from.journal_bytes,
                             .journal_used_bytes = from.journal_used_bytes,
                             .replayed_operations = from.replayed_operations,
                             .image_bytes = from.space.image_bytes,
                             .free_bytes = from.space.free_bytes,
                             .fixed_bytes = from.space.fixed_bytes,
                             .data_bytes = from.space.data_bytes,
                             .node_bytes = from.space.node_bytes,
                             .pending_free_bytes = from.space.pending_free_bytes};
    std::ranges::copy(from.uuid.bytes, to->uuid);
}

size_t coppice_list_volumes(coppice_store* handle, coppice_volume_info* entries, size_t capacity)
{
    const std::vector<VolumeInfo> volumes = handle->store->volumes();
    for (std::size_t i = 0; i < std::min(capacity, volumes.size()); ++i) {
        fill(entries[i], volumes[i]);
    }
    return volumes.size();
}

int coppice_get_volume(coppice_store* handle, uint32_t id, coppice_volume_info* info)
{
    const auto found = handle->store->volume(VolumeId(id));
    if (!found) {
        return report(found.error(), nullptr);
    }
    fill(*info, *found);
    return 0;
}

int64_t coppice_find(coppice_store* handle, const char* name, uint32_t of)
{
    const auto found =
        handle->store->find(text_of(name), of != 0 ? std::optional<VolumeId>(of) : std::nullopt);
    return found ? static_cast<int64_t>(found->id.value) : report(found.error(), nullptr);
}

// ---- Management ---------------------------------------------------------------------------

int64_t coppice_create_volume(coppice_store* handle, const char* name, uint64_t size_bytes,
                              unsigned lba_bytes, bool guest_made, coppice_error* error)
{
    if (shift_of(lba_bytes) == 0) {
        return end(bad_lba_bytes(lba_bytes), error);
    }
    const TaskScope scope(handle->tasks);
    return end(handle->store->create_volume(NewVolume{.name = text_of(name),
                                                      .size_bytes = size_bytes,
                                                      .lba_shift = shift_of(lba_bytes),
                                                      .guest_made = guest_made}),
               error);
}

int64_t coppice_snapshot(coppice_store* handle, uint32_t volume, const char* name, bool guest_made,
                         uint64_t vm_state_bytes, uint64_t vm_clock_ns, uint64_t icount,
                         coppice_error* error)
{
    const TaskScope scope(handle->tasks);
    return end(
        handle->store->snapshot(VolumeId(volume), NewSnapshot{.name = text_of(name),
                                                              .guest_made = guest_made,
                                                              .vm_state_bytes = vm_state_bytes,
                                                              .vm_clock_ns = vm_clock_ns,
                                                              .icount = icount}),
        error);
}

int64_t coppice_clone_volume(coppice_store* handle, uint32_t snapshot, const char* name,
                             bool guest_made, coppice_error* error)
{
    const TaskScope scope(handle->tasks);
    return end(handle->store->clone_volume(VolumeId(snapshot), text_of(name), guest_made), error);
}

int coppice_remove(coppice_store* handle, uint32_t id, coppice_error* error)
{
    const TaskScope scope(handle->tasks);
    return end(handle->store->remove(VolumeId(id)), error);
}

int coppice_rollback(coppice_store* handle, uint32_t volume, uint32_t snapshot,
                     coppice_error* error)
{
    const TaskScope scope(handle->tasks);
    return end(handle->store->rollback(VolumeId(volume), VolumeId(snapshot)), error);
}

int coppice_resize(coppice_store* handle, uint32_t volume, uint64_t size_bytes,
                   coppice_error* error)
{
    const TaskScope scope(handle->tasks);
    return end(handle->store->resize(VolumeId(volume), size_bytes), error);
}

// ---- Input and output ---------------------------------------------------------------------

int coppice_read(coppice_store* handle, uint32_t volume, uint64_t offset, const iovec* iov,
                 size_t iov_count, coppice_error* error)
{
    const TaskScope scope(handle->tasks);
    return end(handle->store->read(VolumeId(volume), offset, {iov, iov_count}), error);
}

int coppice_write(coppice_store* handle, uint32_t volume, uint64_t offset, const iovec* iov,
                  size_t iov_count, bool fua, coppice_error* error)
{
    const TaskScope scope(handle->tasks);
    return end(handle->store->write(VolumeId(volume), offset, {iov, iov_count}, fua), error);
}

int coppice_deallocate(coppice_store* handle, uint32_t volume, const coppice_range* ranges,
                       size_t count, coppice_error* error)
{
    std::vector<Range> wanted;
    wanted.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
        wanted.push_back({ranges[i].offset, ranges[i].length});
    }
    const TaskScope scope(handle->tasks);
    return end(handle->store->deallocate(VolumeId(volume), wanted), error);
}

int coppice_write_zeroes(coppice_store* handle, uint32_t volume, uint64_t offset, uint64_t length,
                         coppice_error* error)
{
    const TaskScope scope(handle->tasks);
    return end(handle->store->write_zeroes(VolumeId(volume), Range{offset, length}), error);
}

int coppice_clone(coppice_store* handle, uint32_t volume, uint64_t offset,
                  const coppice_clone_source* sources, size_t count, coppice_error* error)
{
    std::vector<CloneSource> wanted;
    wanted.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
        wanted.push_back(
            {VolumeId(sources[i].volume), Range{sources[i].range.offset, sources[i].range.length}});
    }
    const TaskScope scope(handle->tasks);
    return end(handle->store->clone(VolumeId(volume), offset, wanted), error);
}

int coppice_flush(coppice_store* handle, uint32_t volume, coppice_error* error)
{
    const TaskScope scope(handle->tasks);
    return end(handle->store->flush(VolumeId(volume)), error);
}

int coppice_checkpoint(coppice_store* handle, coppice_error* error)
{
    const TaskScope scope(handle->tasks);
    return end(handle->store->checkpoint(), error);
}

int coppice_get_block_status(coppice_store* handle, uint32_t volume, uint64_t offset,
                             uint64_t length, coppice_block_status* to)
{
    const TaskScope scope(handle->tasks);
    const auto found = handle->store->block_status(VolumeId(volume), Range{offset, length});
    if (!found) {
        return report(found.error(), nullptr);
    }
    to->state = found->state == BlockState::data   ? COPPICE_BLOCK_DATA
                : found->state == BlockState::zero ? COPPICE_BLOCK_ZERO
                                                   : COPPICE_BLOCK_HOLE;
    to->length = found->length_bytes;
    to->host_offset = found->host_offset ? static_cast<int64_t>(*found->host_offset) : -1;
    return 0;
}

// ---- Checker ------------------------------------------------------------------------------

int coppice_check(const coppice_ports* ports, bool verify_data,
                  void (*line)(void* opaque, const char* text), void* opaque,
                  coppice_check_result* to, coppice_error* error)
{
#if defined(COPPICE_HAS_CHECKER)
    PortTasks tasks(*ports);
    PortDisk disk(tasks, *ports);
    const TaskScope scope(tasks);
    CheckOptions options{.verify_data = verify_data};
    if (line != nullptr) {
        options.on_finding = [&](const Finding& finding) { line(opaque, finding.text.c_str()); };
    }
    const auto report_of = check(disk, options);
    if (!report_of) {
        return report(report_of.error(), error);
    }
    *to = coppice_check_result{
        // A damaged copy of two is not lost, but QEMU has no word for it that is not a corruption.
        .corruptions = report_of->corruptions + report_of->repairables,
        .leaks = report_of->leaks,
        .total_blocks = report_of->image_blocks,
        .used_blocks = report_of->fixed_blocks + report_of->data_blocks + report_of->node_blocks,
        .data_blocks = report_of->data_blocks,
        .node_blocks = report_of->node_blocks,
        .fragmented_extents = 0,
        .extents = 0,
        .image_end_offset = report_of->image_blocks * kBlockBytes};
    return 0;
#else
    static_cast<void>(ports), static_cast<void>(verify_data), static_cast<void>(line);
    static_cast<void>(opaque), static_cast<void>(to);
    return end(fail(ErrorCode::not_supported, "this build has no checker"), error);
#endif
}
