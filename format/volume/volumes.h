// Volumes and snapshots: what there is, and what changes it. One management call at a time; each is
// durable when it returns.
#pragma once

#include "format/volume/background.h"
#include "format/volume/state.h"
#include "format/volume/store.h"
#include "format/volume/writer.h"

namespace coppice {

// Can a volume be so long, and have such blocks?
Status check_size(std::uint64_t size_bytes);
Status check_lba(unsigned lba_shift, std::uint64_t size_bytes);

// The calls of the same names in Store.
class Volumes {
public:
    Volumes(State& state, Writer& writer, Background& background)
        : state_(state), writer_(writer), background_(background), managing_(state.tasks)
    {
    }

    Result<Volume*> known(VolumeId id);
    Result<Volume*> known_writable(VolumeId id);
    std::vector<VolumeInfo> volumes();
    Result<VolumeInfo> volume(VolumeId id);
    Result<VolumeInfo> find(const std::string& name, std::optional<VolumeId> of);

    Result<VolumeId> create_volume(const NewVolume& volume);
    Result<VolumeId> snapshot(VolumeId volume, const NewSnapshot& snapshot);
    Result<VolumeId> clone_volume(VolumeId snapshot, const std::string& name, bool guest_made);
    Status remove(VolumeId id);
    Status rollback(VolumeId volume, VolumeId snapshot);
    Status resize(VolumeId volume, std::uint64_t size_bytes);
    Status rename(VolumeId id, const std::string& name);
    Status set_flush_mode(VolumeId volume, FlushMode mode);
    Status set_group(VolumeId volume, ConsistencyGroup group);
    Result<std::vector<VolumeId>> snapshot_group(ConsistencyGroup group, const std::string& name,
                                                 bool guest_made);

private:
    VolumeInfo describe(const Volume& volume) const;
    // The operation that makes a snapshot with this number.
    Result<JournalOperation> snapshot_operation(const Volume& source, VolumeId id,
                                                const NewSnapshot& snapshot);
    Status check_free_name(const std::string& name, std::optional<VolumeId> of, VolumeId except);

    State& state_;
    Writer& writer_;
    Background& background_;
    TaskMutex managing_;
};

}  // namespace coppice
