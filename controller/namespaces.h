// The namespaces that one controller knows: what the backend has, which of it is attached, and what
// changed since the guest last looked (log page 04h).
//
//   allocated  every volume and snapshot of the backend
//   attached   those the guest can use: at power-on every volume that is no snapshot, and what the
//              device was told to attach; then as Namespace Attachment says, until the next
//              power-on
//
// NVM Express Base Specification 2.0, section 3.2.1.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "controller/backend.h"
#include "controller/parse.h"
#include "controller/spec/status.h"

namespace coppice::nvme {

struct Namespace {
    NamespaceInfo info;
    bool attached = false;
    bool removed = false;         // gone from the backend; the entry goes when it is idle
    std::uint32_t in_flight = 0;  // commands that use it

    std::uint64_t blocks() const { return info.size_bytes / power_of_two(info.lba_shift); }
    // A range in LBAs as bytes, if it lies inside (NVM 3.1.2: LBA Out of Range).
    Checked<Range> bytes_of(const BlockRange& range) const;
};

class NamespaceTable {
public:
    struct PowerOn {
        bool attach_volumes = true;         // every volume that is no snapshot
        std::vector<std::uint32_t> attach;  // and these
    };
    NamespaceTable(Backend& backend, PowerOn power_on);

    // As at power-on: the backend's present state, the configured ones attached.
    void power_on();
    // Looks at the backend again. True if something that the guest knows of has changed.
    bool refresh();
    void use(Backend& backend);

    Namespace* find(std::uint32_t nsid);           // allocated
    Namespace* find_attached(std::uint32_t nsid);  // active
    std::map<std::uint32_t, Namespace>& all() { return entries_; }
    // Identify NN: beyond every nsid, in steps, never smaller again in this power cycle.
    std::uint32_t highest_nsid() const { return highest_; }

    void attach(Namespace& entry, bool attached);
    void note_changed(std::uint32_t nsid);
    // Log page 04h; nullopt: more than fit (5.16.1.5).
    std::optional<std::vector<std::uint32_t>> changed() const;
    void clear_changed();

private:
    Backend* backend_;
    PowerOn power_on_;
    std::map<std::uint32_t, Namespace> entries_;
    Namespace* last_found_ = nullptr;
    std::uint32_t highest_ = 0;
    std::set<std::uint32_t> changed_;
    bool too_many_changed_ = false;
};

}  // namespace coppice::nvme
