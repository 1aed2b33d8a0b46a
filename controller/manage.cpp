// Namespace Management and Attachment (Base Specification 2.0, sections 5.22, 5.23) and the vendor
// commands for snapshots (NVME.md). What blocks in the store runs in a task.
//
// With guest-manage=own a guest changes and removes what a guest made. It may make snapshots of,
// and roll back, what it can write anyway, and clone from and look at any snapshot.
#include "controller/controller.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "format/base/check.h"

namespace coppice::nvme {

namespace {

// Each namespace costs the host some memory, so a guest cannot make any number of them.
constexpr std::size_t kMaxNamespaces = 16384;

StatusCode managed_status(const Error& error) { return status_of(error.code, Purpose::manage); }

// UTF-8 without control characters (RFC 3629: shortest form, no surrogates, up to U+10FFFF).
bool is_text(std::string_view text)
{
    for (std::size_t i = 0; i < text.size();) {
        const auto lead = static_cast<unsigned char>(text[i]);
        if (lead < 0x20 || lead == 0x7f) {
            return false;
        }
        std::size_t length = 1;
        std::uint32_t code = lead;
        std::uint32_t least = 0;
        if (lead >= 0xf0 && lead < 0xf8) {
            length = 4;
            code = bits<2, 0>(std::uint32_t{lead});
            least = 0x10000;
        } else if (lead >= 0xe0 && lead < 0xf0) {
            length = 3;
            code = bits<3, 0>(std::uint32_t{lead});
            least = 0x800;
        } else if (lead >= 0xc0 && lead < 0xe0) {
            length = 2;
            code = bits<4, 0>(std::uint32_t{lead});
            least = 0x80;
        } else if (lead >= 0x80) {
            return false;
        }
        if (length > text.size() - i) {
            return false;
        }
        for (std::size_t k = 1; k < length; ++k) {
            const auto next = static_cast<unsigned char>(text[i + k]);
            if (bits<7, 6>(std::uint32_t{next}) != 2) {
                return false;
            }
            code = code * 64 + bits<5, 0>(std::uint32_t{next});
        }
        if (code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
            return false;
        }
        i += length;
    }
    return true;
}

}  // namespace

// ---- What a guest may do ------------------------------------------------------------------

bool Controller::may_change(const Namespace& entry) const
{
    switch (config_.manage) {
    case GuestManage::off: return false;
    case GuestManage::own: return entry.info.guest_made;
    case GuestManage::all: return true;
    }
    return false;
}

// Snapshots are of what the guest can write anyway, or a guest made; of a group, all of it.
bool Controller::may_snapshot(const Namespace& entry, bool group)
{
    if (!group) {
        return entry.attached || may_change(entry);
    }
    const auto& all = namespaces_.all();
    return std::all_of(all.begin(), all.end(), [&](const auto& other) {
        const Namespace& member = other.second;
        return member.removed || member.info.snapshot || member.info.group != entry.info.group ||
               member.attached || may_change(member);
    });
}

Checked<Namespace*> Controller::allocated_namespace(std::uint32_t nsid)
{
    rescan();
    Namespace* entry = namespaces_.find(nsid);
    if (entry == nullptr) {
        return refuse(StatusCode::invalid_namespace_or_format);
    }
    return entry;
}

bool Controller::too_many_namespaces() { return namespaces_.all().size() >= kMaxNamespaces; }

Checked<std::string> Controller::read_name(Request& request)
{
    NameData data;
    if (auto read = copy_from_guest(host_, data_pointer(request.entry),
                                    std::as_writable_bytes(std::span(&data, 1)));
        !read) {
        return refuse(read.error());
    }
    const auto end = std::find(data.name.begin(), data.name.end(), '\0');
    const std::string name(data.name.begin(), end);
    const auto zero = [](auto byte) { return byte == 0; };
    // One NUL at least, zeroes behind it: another meaning may come to stand there.
    if (name.empty() || end == data.name.end() || !std::all_of(end, data.name.end(), zero) ||
        !std::all_of(data.reserved.begin(), data.reserved.end(), zero) || !is_text(name)) {
        return refuse(StatusCode::invalid_field);
    }
    return name;
}

void Controller::tell_namespaces_changed()
{
    if (features_.namespace_events()) {
        raise_event({EventType::notice, kEventNamespaceAttribute,
                     static_cast<std::uint8_t>(LogPage::changed_namespaces)});
    }
}

// Runs blocking work in a task; the command completes with what comes of it.
void Controller::manage(Request& request, std::function<Managed()> work)
{
    admin_busy_ = true;
    backend_->spawn([this, at = &request, work = std::move(work)] {
        const Managed managed = work();
        rescan();
        admin_busy_ = false;
        complete(*at, managed.status, managed.dw0);
    });
}

// ---- Namespace Management -----------------------------------------------------------------

void Controller::run(Request& request, const NamespaceCreateCommand&)
{
    IdentifyNamespace wanted;
    if (auto read = copy_from_guest(host_, data_pointer(request.entry),
                                    std::as_writable_bytes(std::span(&wanted, 1)));
        !read) {
        complete(request, read.error());
        return;
    }
    const std::uint8_t format = flbas_format(wanted.flbas);
    if (format >= kFormats || flbas_extended(wanted.flbas)) {
        complete(request, StatusCode::invalid_format);
        return;
    }
    const unsigned shift = format == kFormat4096 ? 12 : 9;
    // Thin: the capacity may be smaller, but what is promised is the size (5.23).
    const std::uint64_t most = power_of_two(63 - shift) - 1;
    if (wanted.nsze == 0 || wanted.nsze > most || wanted.ncap > wanted.nsze || wanted.dps != 0 ||
        wanted.nmic != 0) {
        complete(request, StatusCode::invalid_field);
        return;
    }
    if (too_many_namespaces()) {
        complete(request, StatusCode::namespace_identifier_unavailable);
        return;
    }
    NewVolume volume;
    volume.name = "guest-" + std::to_string(host_.unix_ns());
    volume.size_bytes = wanted.nsze.get() * power_of_two(shift);
    volume.lba_shift = shift;
    volume.guest_made = true;
    manage(request, [this, volume]() -> Managed {
        const auto id = backend_->create(volume);
        if (!id) {
            return {managed_status(id.error()), 0};
        }
        return {StatusCode::success, low_half(id->value)};
    });
}

void Controller::run(Request& request, const NamespaceDeleteCommand&)
{
    // All at once (FFFFFFFFh) is not offered: that is not how anyone should lose a disk.
    const auto entry = allocated_namespace(request.entry.nsid);
    if (!entry) {
        complete(request, entry.error());
        return;
    }
    remove_namespace(request, **entry);
}

void Controller::remove_namespace(Request& request, Namespace& entry)
{
    if (!may_change(entry)) {
        complete(request, StatusCode::operation_denied);
        return;
    }
    // New commands do not find it any more; those under way end first.
    const bool was_attached = entry.attached;
    const std::uint32_t nsid = entry.info.nsid;
    entry.attached = false;
    when(
        request,
        [this, nsid] {
            const auto at = namespaces_.all().find(nsid);  // the host may have removed it, too
            return at == namespaces_.all().end() || at->second.in_flight == 0;
        },
        [this, was_attached, nsid, at = &request] {
            admin_busy_ = false;
            manage(*at, [this, was_attached, nsid]() -> Managed {
                if (auto removed = backend_->remove(VolumeId(nsid)); !removed) {
                    if (Namespace* still = namespaces_.find(nsid)) {
                        still->attached = was_attached;
                    }
                    return {managed_status(removed.error()), 0};
                }
                if (was_attached) {
                    namespaces_.note_changed(nsid);
                    tell_namespaces_changed();
                }
                return {};
            });
        },
        [this, was_attached, nsid] {
            if (Namespace* still = namespaces_.find(nsid)) {
                still->attached = was_attached;
            }
        });
}

void Controller::run(Request& request, const NamespaceAttachCommand& command)
{
    ControllerList list;
    if (auto read = copy_from_guest(host_, data_pointer(request.entry),
                                    std::as_writable_bytes(std::span(&list, 1)));
        !read) {
        complete(request, read.error());
        return;
    }
    // Ours is the only controller there is.
    if (list.count != 1 || list.ids[0] != config_.identity.controller_id) {
        complete(request, StatusCode::controller_list_invalid);
        return;
    }
    const auto entry = allocated_namespace(request.entry.nsid);
    if (!entry) {
        complete(request, entry.error());
        return;
    }
    if ((*entry)->attached == command.attach) {
        complete(request, command.attach ? StatusCode::namespace_already_attached
                                         : StatusCode::namespace_not_attached);
        return;
    }
    namespaces_.attach(**entry, command.attach);
    tell_namespaces_changed();
    complete(request, StatusCode::success);
}

// ---- Snapshots ----------------------------------------------------------------------------

void Controller::run(Request& request, const SnapshotCreateCommand& command)
{
    const auto entry = allocated_namespace(request.entry.nsid);
    if (!entry) {
        complete(request, entry.error());
        return;
    }
    if ((*entry)->info.snapshot) {
        complete(request, StatusCode::invalid_field);
        return;
    }
    const bool group = command.group && (*entry)->info.group != 0;
    if (!may_snapshot(**entry, group)) {
        complete(request, StatusCode::operation_denied);
        return;
    }
    const auto name = read_name(request);
    if (!name || too_many_namespaces()) {
        complete(request, name ? StatusCode::namespace_identifier_unavailable : name.error());
        return;
    }
    manage(request, [this, name = *name, nsid = request.entry.nsid.get(), group]() -> Managed {
        const auto id = group ? backend_->snapshot_group(VolumeId(nsid), name)
                              : backend_->snapshot(VolumeId(nsid), name);
        if (!id) {
            return {managed_status(id.error()), 0};
        }
        return {StatusCode::success, low_half(id->value)};
    });
}

void Controller::run(Request& request, const SnapshotListCommand& command)
{
    const std::uint32_t nsid = request.entry.nsid;
    if (nsid != kNsidAll) {
        const auto entry = allocated_namespace(nsid);
        if (!entry) {
            complete(request, entry.error());
            return;
        }
    } else {
        rescan();
    }
    std::vector<std::byte> data(static_cast<std::size_t>(command.length_bytes));
    const std::size_t room = (data.size() - sizeof(SnapshotListHeader)) / sizeof(SnapshotListEntry);
    SnapshotListHeader header;
    std::uint32_t count = 0;
    std::uint32_t total = 0;
    for (const auto& [id, entry] : namespaces_.all()) {
        const NamespaceInfo& info = entry.info;
        if (!info.snapshot || entry.removed || (nsid != kNsidAll && info.parent != nsid)) {
            continue;
        }
        ++total;
        if (count >= room) {
            continue;
        }
        SnapshotListEntry item;
        item.id = id;
        item.volume = info.parent;
        item.size_lbas = entry.blocks();
        item.created_unix_ns = info.created_unix_ns;
        item.sequence = info.created_sequence;
        item.flags =
            (entry.attached ? kSnapshotAttached : 0) | (info.guest_made ? kSnapshotGuestMade : 0);
        std::memcpy(item.name.data(), info.name.data(),
                    std::min(item.name.size() - 1, info.name.size()));
        std::memcpy(data.data() + sizeof(header) + count * sizeof(item), &item, sizeof(item));
        ++count;
    }
    header.count = count;
    header.total = total;
    header.generation = backend_->capacity().generation;
    std::memcpy(data.data(), &header, sizeof(header));
    const auto copied = copy_to_guest(host_, data_pointer(request.entry), data);
    complete(request, copied ? StatusCode::success : copied.error());
}

void Controller::run(Request& request, const SnapshotDeleteCommand&)
{
    const auto entry = allocated_namespace(request.entry.nsid);
    if (!entry) {
        complete(request, entry.error());
        return;
    }
    if (!(*entry)->info.snapshot) {
        complete(request, StatusCode::invalid_field);
        return;
    }
    remove_namespace(request, **entry);
}

void Controller::run(Request& request, const CloneCommand&)
{
    const auto entry = allocated_namespace(request.entry.nsid);
    if (!entry) {
        complete(request, entry.error());
        return;
    }
    if (!(*entry)->info.snapshot) {
        complete(request, StatusCode::invalid_field);
        return;
    }
    const auto name = read_name(request);
    if (!name || too_many_namespaces()) {
        complete(request, name ? StatusCode::namespace_identifier_unavailable : name.error());
        return;
    }
    manage(request, [this, name = *name, nsid = request.entry.nsid.get()]() -> Managed {
        const auto id = backend_->clone(VolumeId(nsid), name);
        if (!id) {
            return {managed_status(id.error()), 0};
        }
        return {StatusCode::success, low_half(id->value)};
    });
}

void Controller::run(Request& request, const RollbackCommand& command)
{
    const auto entry = allocated_namespace(request.entry.nsid);
    if (!entry) {
        complete(request, entry.error());
        return;
    }
    const Namespace* snapshot = namespaces_.find(command.snapshot);
    StatusCode status = StatusCode::success;
    if ((*entry)->info.snapshot || snapshot == nullptr || !snapshot->info.snapshot ||
        snapshot->info.parent != request.entry.nsid) {
        status = StatusCode::invalid_field;
    } else if ((*entry)->info.write_protected) {
        status = StatusCode::namespace_write_protected;
    } else if (!(*entry)->attached && !may_change(**entry)) {
        status = StatusCode::operation_denied;
    } else if ((*entry)->attached && !command.force) {
        status = StatusCode::object_busy;
    }
    if (status != StatusCode::success) {
        complete(request, status);
        return;
    }
    manage(request, [this, nsid = request.entry.nsid.get(), from = command.snapshot]() -> Managed {
        if (auto done = backend_->rollback(VolumeId(nsid), VolumeId(from)); !done) {
            return {managed_status(done.error()), 0};
        }
        const Namespace* changed = namespaces_.find(nsid);
        if (changed != nullptr && changed->attached) {
            namespaces_.note_changed(nsid);
            tell_namespaces_changed();
        }
        return {};
    });
}

void Controller::run(Request& request, const CheckpointCommand&)
{
    manage(request, [this]() -> Managed {
        if (auto done = backend_->checkpoint(); !done) {
            return {managed_status(done.error()), 0};
        }
        return {};
    });
}

// A volume whose properties the guest may change: one that it can write, or a guest's.
Checked<void> Controller::changeable_volume(std::uint32_t nsid)
{
    const auto entry = allocated_namespace(nsid);
    if (!entry) {
        return refuse(entry.error());
    }
    if ((*entry)->info.write_protected) {
        return refuse(StatusCode::namespace_write_protected);
    }
    if (!(*entry)->attached && !may_change(**entry)) {
        return refuse(StatusCode::operation_denied);
    }
    return {};
}

void Controller::run(Request& request, const SetFlushModeCommand& command)
{
    if (const auto may = changeable_volume(request.entry.nsid); !may) {
        complete(request, may.error());
        return;
    }
    const FlushMode mode = command.ordered ? FlushMode::ordered : FlushMode::durable;
    manage(request, [this, nsid = request.entry.nsid.get(), mode]() -> Managed {
        if (auto done = backend_->set_flush_mode(VolumeId(nsid), mode); !done) {
            return {managed_status(done.error()), 0};
        }
        return {};
    });
}

void Controller::run(Request& request, const SetGroupCommand& command)
{
    if (const auto may = changeable_volume(request.entry.nsid); !may) {
        complete(request, may.error());
        return;
    }
    const ConsistencyGroup group(command.group);
    manage(request, [this, nsid = request.entry.nsid.get(), group]() -> Managed {
        if (auto done = backend_->set_group(VolumeId(nsid), group); !done) {
            return {managed_status(done.error()), 0};
        }
        return {};
    });
}

}  // namespace coppice::nvme
