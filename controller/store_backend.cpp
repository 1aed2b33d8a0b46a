#include "controller/store_backend.h"

#include <utility>

namespace coppice::nvme {

std::vector<NamespaceInfo> StoreBackend::namespaces()
{
    const bool image_read_only = store_.read_only();
    std::vector<NamespaceInfo> all;
    for (VolumeInfo& volume : store_.volumes()) {
        if (volume.id.value > ~std::uint32_t{0}) {
            continue;  // no NSID can name it
        }
        NamespaceInfo info;
        info.nsid = static_cast<std::uint32_t>(volume.id.value);
        info.name = std::move(volume.name);
        info.size_bytes = volume.size_bytes;
        info.mapped_bytes = volume.mapped_bytes;
        info.lba_shift = volume.lba_shift;
        info.write_protected = volume.snapshot || volume.read_only || image_read_only;
        info.snapshot = volume.snapshot;
        info.guest_made = volume.guest_made;
        info.ordered_flush = volume.flush == FlushMode::ordered;
        info.group = static_cast<std::uint8_t>(volume.group.value);
        info.parent = static_cast<std::uint32_t>(volume.parent.value);
        info.created_unix_ns = volume.created_unix_ns;
        info.created_sequence = volume.created.value;
        info.nguid = volume.nguid;
        info.eui64 = volume.eui64;
        all.push_back(std::move(info));
    }
    return all;
}

Capacity StoreBackend::capacity()
{
    const ImageInfo info = store_.info();
    return {info.space.image_bytes, info.space.free_bytes, info.generation.value,
            store_.read_only()};
}

void StoreBackend::submit(const Operation& operation, Completion completion)
{
    store_.submit(operation, std::move(completion));
}

void StoreBackend::spawn(std::function<void()> body) { tasks_.spawn(std::move(body)); }

Result<VolumeId> StoreBackend::create(const NewVolume& volume)
{
    return store_.create_volume(volume);
}

Status StoreBackend::remove(VolumeId id) { return store_.remove(id); }

Result<VolumeId> StoreBackend::snapshot(VolumeId volume, const std::string& name)
{
    NewSnapshot snapshot;
    snapshot.name = name;
    snapshot.guest_made = true;
    return store_.snapshot(volume, snapshot);
}

Result<VolumeId> StoreBackend::snapshot_group(VolumeId volume, const std::string& name)
{
    COPPICE_ASSIGN(own, store_.volume(volume));
    COPPICE_ASSIGN(made, store_.snapshot_group(own.group, name, true));
    for (const VolumeId id : made) {
        COPPICE_ASSIGN(info, store_.volume(id));
        if (info.parent == volume) {
            return id;
        }
    }
    return fail(ErrorCode::not_found, "the volume has left its group");
}

Result<VolumeId> StoreBackend::clone(VolumeId snapshot, const std::string& name)
{
    return store_.clone_volume(snapshot, name, true);
}

Status StoreBackend::rollback(VolumeId volume, VolumeId snapshot)
{
    return store_.rollback(volume, snapshot);
}

Status StoreBackend::checkpoint()
{
    COPPICE_TRY(store_.checkpoint());
    return store_.settle();
}

Status StoreBackend::set_flush_mode(VolumeId volume, FlushMode mode)
{
    return store_.set_flush_mode(volume, mode);
}

Status StoreBackend::set_group(VolumeId volume, ConsistencyGroup group)
{
    return store_.set_group(volume, group);
}

Result<StreamId> StoreBackend::open_stream(VolumeId volume) { return store_.open_stream(volume); }

Status StoreBackend::close_stream(VolumeId volume, StreamId stream)
{
    return store_.close_stream(volume, stream);
}

Result<TransactionId> StoreBackend::begin(VolumeId volume) { return store_.begin(volume); }

bool StoreBackend::is_open(VolumeId volume, TransactionId transaction)
{
    const auto own = store_.volume_of(transaction);
    return own && *own == volume;
}

Status StoreBackend::abort(VolumeId volume, TransactionId transaction)
{
    COPPICE_ASSIGN(own, store_.volume_of(transaction));
    if (own != volume) {
        return fail(ErrorCode::not_found, "the transaction is another namespace's");
    }
    return store_.abort(transaction);
}

}  // namespace coppice::nvme
