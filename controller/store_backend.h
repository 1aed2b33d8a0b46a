// Namespaces over a store: every volume and snapshot is one, its id the NSID.
#pragma once

#include "controller/backend.h"
#include "format/disk/tasks.h"
#include "format/volume/store.h"

namespace coppice::nvme {

class StoreBackend : public Backend {
public:
    // Both outlive the backend.
    StoreBackend(Store& store, Tasks& tasks) : store_(store), tasks_(tasks) {}

    Abilities abilities() const override { return {true, true, true, true}; }
    std::vector<NamespaceInfo> namespaces() override;
    Capacity capacity() override;
    void submit(const Operation& operation, Completion completion) override;
    void spawn(std::function<void()> body) override;
    Result<VolumeId> create(const NewVolume& volume) override;
    Status remove(VolumeId id) override;
    Result<VolumeId> snapshot(VolumeId volume, const std::string& name) override;
    Result<VolumeId> snapshot_group(VolumeId volume, const std::string& name) override;
    Result<VolumeId> clone(VolumeId snapshot, const std::string& name) override;
    Status rollback(VolumeId volume, VolumeId snapshot) override;
    Status checkpoint() override;
    Status set_flush_mode(VolumeId volume, FlushMode mode) override;
    Status set_group(VolumeId volume, ConsistencyGroup group) override;
    Result<StreamId> open_stream(VolumeId volume) override;
    Status close_stream(VolumeId volume, StreamId stream) override;
    Result<TransactionId> begin(VolumeId volume) override;
    bool is_open(VolumeId volume, TransactionId transaction) override;
    Status abort(VolumeId volume, TransactionId transaction) override;

private:
    Store& store_;
    Tasks& tasks_;
};

}  // namespace coppice::nvme
