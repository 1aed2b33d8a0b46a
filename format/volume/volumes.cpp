#include "format/volume/volumes.h"

#include <algorithm>
#include <fmt/format.h>
#include <sys/random.h>

#include "format/base/check.h"

namespace coppice {

namespace {

std::array<std::uint8_t, 16> random_bytes()
{
    std::array<std::uint8_t, 16> bytes{};
    CHECK(getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    return bytes;
}

layout::VolumeRecord new_record(const std::string& name, std::uint64_t size_bytes,
                                unsigned lba_shift, FlushMode flush, std::uint8_t flags,
                                std::uint64_t unix_ns)
{
    layout::VolumeRecord record{};
    set_name(record, name);
    record.size_bytes = size_bytes;
    record.lba_shift = static_cast<std::uint8_t>(lba_shift);
    record.flush_mode = static_cast<std::uint8_t>(flush);
    record.flags = flags;
    record.created_unix_ns = unix_ns;
    record.nguid = random_bytes();
    std::copy_n(random_bytes().begin(), record.eui64.size(), record.eui64.begin());
    return record;
}

JournalOperation management(layout::OperationType type, VolumeId volume)
{
    JournalOperation operation;
    operation.record.type = static_cast<std::uint8_t>(type);
    operation.record.volume = static_cast<std::uint32_t>(volume.value);
    return operation;
}

void attach_record(JournalOperation& operation, const layout::VolumeRecord& record)
{
    operation.payload.resize(sizeof(record));
    std::memcpy(operation.payload.data(), static_cast<const void*>(&record), sizeof(record));
}

}  // namespace

Status check_size(std::uint64_t size_bytes)
{
    if (size_bytes == 0 || size_bytes % 512 != 0) {
        return fail(ErrorCode::invalid_argument,
                    "the size of a volume must be a multiple of 512 and not 0");
    }
    if (size_bytes > layout::kMaxVolumeBytes) {
        return fail(ErrorCode::too_large, "a volume has at most 64 PiB");
    }
    return {};
}

Status check_lba(unsigned lba_shift, std::uint64_t size_bytes)
{
    if (lba_shift != 9 && lba_shift != 12) {
        return fail(ErrorCode::invalid_argument, "the LBA size must be 512 or 4096 bytes");
    }
    if (size_bytes % (std::uint64_t{1} << lba_shift) != 0) {
        return fail(ErrorCode::invalid_argument,
                    "the size of a volume must be a multiple of its LBA size");
    }
    return {};
}

// ---- Description --------------------------------------------------------------------------

VolumeInfo Volumes::describe(const Volume& volume) const
{
    const auto& record = volume.record;
    VolumeInfo info;
    info.id = volume.id;
    info.name = volume.name();
    info.snapshot = volume.snapshot();
    info.read_only = volume.read_only();
    info.guest_made = (record.flags & layout::kVolumeGuestMade) != 0;
    info.parent = VolumeId(record.parent_volume);
    info.size_bytes = record.size_bytes;
    info.lba_shift = record.lba_shift;
    info.flush = static_cast<FlushMode>(record.flush_mode);
    info.group = volume.group();
    info.mapped_bytes = state_.catalog.versions.at(volume.version).mapped_blocks * kBlockBytes;
    info.created_unix_ns = record.created_unix_ns;
    info.created = Sequence(record.created_sequence);
    info.nguid = record.nguid;
    info.eui64 = record.eui64;
    info.vm_state_bytes = record.vm_state_bytes;
    info.vm_clock_ns = record.vm_clock_ns;
    info.icount = record.icount;
    return info;
}

std::vector<VolumeInfo> Volumes::volumes()
{
    std::vector<VolumeInfo> result;
    for (const auto& [id, volume] : state_.catalog.volumes) {
        result.push_back(describe(volume));
    }
    return result;
}

Result<Volume*> Volumes::known(VolumeId id)
{
    Volume* volume = state_.catalog.volume(id);
    if (volume == nullptr) {
        return fail(ErrorCode::not_found, fmt::format("there is no volume {}", id.value));
    }
    return volume;
}

Result<Volume*> Volumes::known_writable(VolumeId id)
{
    COPPICE_ASSIGN(volume, known(id));
    if (volume->read_only()) {
        return fail(ErrorCode::read_only, fmt::format("volume {} is read-only", id.value));
    }
    return volume;
}

Result<VolumeInfo> Volumes::volume(VolumeId id)
{
    COPPICE_ASSIGN(found, known(id));
    return describe(*found);
}

Result<VolumeInfo> Volumes::find(const std::string& name, std::optional<VolumeId> of)
{
    for (const auto& [id, volume] : state_.catalog.volumes) {
        const bool wanted = of ? volume.snapshot() && VolumeId(volume.record.parent_volume) == *of
                               : !volume.snapshot();
        if (wanted && volume.name() == name) {
            return describe(volume);
        }
    }
    return fail(ErrorCode::not_found,
                fmt::format("there is no {} named '{}'", of ? "snapshot" : "volume", name));
}

// ---- Management ---------------------------------------------------------------------------

Status Volumes::check_free_name(const std::string& name, std::optional<VolumeId> of,
                                VolumeId except)
{
    if (const std::string problem = check_name(name); !problem.empty()) {
        return fail(ErrorCode::invalid_argument, problem);
    }
    auto taken = find(name, of);
    if (taken && taken->id != except) {
        return fail(ErrorCode::exists,
                    fmt::format("the name '{}' is taken by number {}", name, taken->id.value));
    }
    return {};
}

Result<VolumeId> Volumes::create_volume(const NewVolume& volume)
{
    LockGuard managing(managing_);
    COPPICE_TRY(state_.check_writable());
    COPPICE_TRY(check_free_name(volume.name, std::nullopt, VolumeId()));
    COPPICE_TRY(check_size(volume.size_bytes));
    COPPICE_TRY(check_lba(volume.lba_shift, volume.size_bytes));
    const VolumeId id(state_.catalog.next_volume);
    auto operation = management(layout::OperationType::create_volume, id);
    attach_record(operation,
                  new_record(volume.name, volume.size_bytes, volume.lba_shift, volume.flush,
                             volume.guest_made ? layout::kVolumeGuestMade : 0,
                             state_.tasks.unix_ns()));
    COPPICE_TRY(writer_.manage(operation, {}));
    return id;
}

Result<VolumeId> Volumes::snapshot(VolumeId volume, const NewSnapshot& snapshot)
{
    LockGuard managing(managing_);
    COPPICE_TRY(state_.check_writable());
    COPPICE_ASSIGN(source, known(volume));
    const VolumeId id(state_.catalog.next_volume);
    COPPICE_ASSIGN(operation, snapshot_operation(*source, id, snapshot));
    COPPICE_TRY(writer_.manage(operation, {}));
    return id;
}

Result<std::vector<VolumeId>> Volumes::snapshot_group(ConsistencyGroup group,
                                                      const std::string& name, bool guest_made)
{
    LockGuard managing(managing_);
    COPPICE_TRY(state_.check_writable());
    NewSnapshot wanted;
    wanted.name = name;
    wanted.guest_made = guest_made;
    Writer::Command command;
    std::vector<VolumeId> made;
    for (const auto& [id, volume] : state_.catalog.volumes) {
        if (group == ConsistencyGroup() || volume.group() != group) {
            continue;
        }
        made.emplace_back(state_.catalog.next_volume + made.size());
        COPPICE_ASSIGN(operation, snapshot_operation(volume, made.back(), wanted));
        command.push_back(std::move(operation));
    }
    if (command.empty()) {
        return fail(ErrorCode::not_found,
                    fmt::format("no volume is in consistency group {}", group.value));
    }
    COPPICE_TRY(writer_.manage(command, {}));
    return made;
}

Result<JournalOperation> Volumes::snapshot_operation(const Volume& source, VolumeId id,
                                                     const NewSnapshot& snapshot)
{
    if (source.snapshot()) {
        return fail(ErrorCode::invalid_argument, "a snapshot cannot be made of a snapshot");
    }
    COPPICE_TRY(check_free_name(snapshot.name, source.id, VolumeId()));
    auto record = new_record(
        snapshot.name, source.size_bytes(), source.record.lba_shift, FlushMode::durable,
        static_cast<std::uint8_t>(layout::kVolumeSnapshot |
                                  (snapshot.guest_made ? layout::kVolumeGuestMade : 0) |
                                  (snapshot.vm_state_bytes > 0 ? layout::kVolumeHasVmState : 0)),
        state_.tasks.unix_ns());
    record.parent_volume = static_cast<std::uint32_t>(source.id.value);
    record.vm_state_bytes = snapshot.vm_state_bytes;
    record.vm_clock_ns = snapshot.vm_clock_ns;
    record.icount = snapshot.icount;
    auto operation = management(layout::OperationType::snapshot, source.id);
    operation.record.block = id.value;
    attach_record(operation, record);
    return operation;
}

Result<VolumeId> Volumes::clone_volume(VolumeId snapshot, const std::string& name, bool guest_made)
{
    LockGuard managing(managing_);
    COPPICE_TRY(state_.check_writable());
    COPPICE_ASSIGN(source, known(snapshot));
    if (!source->snapshot()) {
        return fail(
            ErrorCode::invalid_argument,
            fmt::format("{} is a volume; make a snapshot of it and clone that", snapshot.value));
    }
    COPPICE_TRY(check_free_name(name, std::nullopt, VolumeId()));
    const VolumeId id(state_.catalog.next_volume);
    auto record =
        new_record(name, source->size_bytes(), source->record.lba_shift, FlushMode::durable,
                   guest_made ? layout::kVolumeGuestMade : 0, state_.tasks.unix_ns());
    record.parent_volume = static_cast<std::uint32_t>(snapshot.value);
    auto operation = management(layout::OperationType::create_volume, id);
    operation.record.source_volume = static_cast<std::uint32_t>(snapshot.value);
    attach_record(operation, record);
    COPPICE_TRY(writer_.manage(operation, {snapshot}));
    return id;
}

Status Volumes::remove(VolumeId id)
{
    LockGuard managing(managing_);
    COPPICE_TRY(state_.check_writable());
    COPPICE_TRY(known(id));
    COPPICE_TRY(writer_.manage(management(layout::OperationType::remove_volume, id), {}));
    state_.domains.close_streams(id);
    state_.domains.set_group(id, ConsistencyGroup());
    background_.after_removal();
    return {};
}

Status Volumes::rollback(VolumeId volume, VolumeId snapshot)
{
    LockGuard managing(managing_);
    COPPICE_TRY(state_.check_writable());
    COPPICE_ASSIGN(target, known(volume));
    COPPICE_ASSIGN(source, known(snapshot));
    if (target->snapshot() || !source->snapshot() ||
        VolumeId(source->record.parent_volume) != volume) {
        return fail(ErrorCode::invalid_argument,
                    fmt::format("{} is not a snapshot of volume {}", snapshot.value, volume.value));
    }
    auto operation = management(layout::OperationType::rollback, volume);
    operation.record.source_volume = static_cast<std::uint32_t>(snapshot.value);
    COPPICE_TRY(writer_.manage(operation, {snapshot}));
    background_.after_removal();
    return {};
}

Status Volumes::resize(VolumeId volume, std::uint64_t size_bytes)
{
    LockGuard managing(managing_);
    COPPICE_TRY(state_.check_writable());
    COPPICE_TRY(check_size(size_bytes));
    COPPICE_ASSIGN(target, known_writable(volume));
    COPPICE_TRY(check_lba(target->record.lba_shift, size_bytes));
    const std::uint64_t old_size = target->size_bytes();
    const std::uint64_t kept_blocks = divide_up(size_bytes, kBlockBytes);
    if (size_bytes > old_size) {
        // A volume that shrank may have left bytes there. Nobody can see them before it grows, so a
        // resize that fails has changed nothing.
        COPPICE_TRY(writer_.clear_behind_end(volume));
    }
    COPPICE_ASSIGN(again, known(volume));
    const std::uint64_t old_blocks = divide_up(old_size, kBlockBytes);
    auto operation = management(layout::OperationType::change_volume, volume);
    if (kept_blocks < old_blocks) {
        if (old_blocks - kept_blocks > 0xFFFFFFFFULL) {
            return fail(ErrorCode::too_large, "a volume shrinks by at most 16 TiB at once");
        }
        operation.record.lba = kept_blocks;
        operation.record.length = static_cast<std::uint32_t>(old_blocks - kept_blocks);
    }
    auto record = again->record;
    record.size_bytes = size_bytes;
    attach_record(operation, record);
    return writer_.manage(operation, {});
}

Status Volumes::rename(VolumeId id, const std::string& name)
{
    LockGuard managing(managing_);
    COPPICE_TRY(state_.check_writable());
    COPPICE_ASSIGN(volume, known(id));
    const auto of = volume->snapshot()
                        ? std::optional<VolumeId>(VolumeId(volume->record.parent_volume))
                        : std::nullopt;
    COPPICE_TRY(check_free_name(name, of, id));
    auto operation = management(layout::OperationType::change_volume, id);
    auto record = volume->record;
    set_name(record, name);
    attach_record(operation, record);
    return writer_.manage(operation, {});
}

Status Volumes::set_flush_mode(VolumeId volume, FlushMode mode)
{
    LockGuard managing(managing_);
    COPPICE_TRY(state_.check_writable());
    COPPICE_ASSIGN(target, known_writable(volume));
    auto operation = management(layout::OperationType::change_volume, volume);
    auto record = target->record;
    record.flush_mode = static_cast<std::uint8_t>(mode);
    attach_record(operation, record);
    return writer_.manage(operation, {});
}

Status Volumes::set_group(VolumeId volume, ConsistencyGroup group)
{
    LockGuard managing(managing_);
    COPPICE_TRY(state_.check_writable());
    COPPICE_ASSIGN(target, known_writable(volume));
    if (group.value > kMaxGroup) {
        return fail(ErrorCode::invalid_argument,
                    fmt::format("consistency groups have the numbers 1 to {}", kMaxGroup));
    }
    auto operation = management(layout::OperationType::change_volume, volume);
    auto record = target->record;
    record.consistency_group = static_cast<std::uint32_t>(group.value);
    attach_record(operation, record);
    return writer_.manage(operation, {});
}

std::string to_string(const Uuid& uuid)
{
    std::string result;
    for (std::size_t i = 0; i < uuid.bytes.size(); ++i) {
        result += fmt::format("{:02x}", uuid.bytes[i]);
        if (i == 3 || i == 5 || i == 7 || i == 9) {
            result += '-';
        }
    }
    return result;
}

Uuid random_uuid()
{
    Uuid uuid{random_bytes()};
    uuid.bytes[6] = static_cast<std::uint8_t>((uuid.bytes[6] & 0x0F) | 0x40);  // RFC 4122, 4.4
    uuid.bytes[8] = static_cast<std::uint8_t>((uuid.bytes[8] & 0x3F) | 0x80);
    return uuid;
}

}  // namespace coppice
