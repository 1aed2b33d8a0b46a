// Identify and Get Log Page: Base Specification 2.0, sections 5.17 and 5.16.
#include "controller/controller.h"

#include <algorithm>
#include <cstring>
#include <span>

namespace coppice::nvme {

namespace {

template <typename Structure>
std::vector<std::byte> bytes_of(const Structure& structure)
{
    const auto bytes = std::as_bytes(std::span(&structure, 1));
    return {bytes.begin(), bytes.end()};
}

SupportedLogPages supported_log_pages()
{
    SupportedLogPages data;
    for (const LogPage page :
         {LogPage::supported_pages, LogPage::errors, LogPage::health, LogPage::firmware_slots,
          LogPage::changed_namespaces, LogPage::command_effects, LogPage::feature_effects,
          LogPage::management_effects}) {
        data.pages[static_cast<std::size_t>(page)] = kLogSupported;
    }
    return data;
}

FirmwareLog firmware_log()
{
    FirmwareLog log;
    log.active_slot = 1;
    static constexpr char kRevision[] = "0.1.0   ";
    std::memcpy(log.revisions[0].data(), kRevision, log.revisions[0].size());
    return log;
}

EffectsLog effects_log(bool management, bool order)
{
    EffectsLog log;
    const auto admin = [&](AdminOpcode opcode, std::uint32_t effects) {
        log.admin[static_cast<std::size_t>(opcode)] = kEffectSupported | effects;
    };
    for (const AdminOpcode opcode :
         {AdminOpcode::delete_sq, AdminOpcode::create_sq, AdminOpcode::get_log_page,
          AdminOpcode::delete_cq, AdminOpcode::create_cq, AdminOpcode::identify, AdminOpcode::abort,
          AdminOpcode::set_features, AdminOpcode::get_features, AdminOpcode::async_event}) {
        admin(opcode, 0);
    }
    if (management) {
        admin(AdminOpcode::namespace_management, kEffectInventoryChange);
        admin(AdminOpcode::namespace_attachment, kEffectInventoryChange);
        admin(AdminOpcode::snapshot_create, kEffectInventoryChange);
        admin(AdminOpcode::snapshot_list, 0);
        admin(AdminOpcode::snapshot_delete, kEffectInventoryChange);
        admin(AdminOpcode::clone, kEffectInventoryChange);
        // Rollback changes what is below a mounted file system: nothing else runs beside it.
        admin(AdminOpcode::rollback,
              kEffectContent | kEffectNamespaceChange | kEffectSameNamespaceIdle);
        admin(AdminOpcode::checkpoint, 0);
        admin(AdminOpcode::set_flush_mode, 0);
        admin(AdminOpcode::set_group, 0);
    }
    const auto io = [&](IoOpcode opcode, std::uint32_t effects) {
        log.io[static_cast<std::size_t>(opcode)] = kEffectSupported | effects;
    };
    for (const IoOpcode opcode :
         {IoOpcode::write, IoOpcode::write_zeroes, IoOpcode::dataset_management, IoOpcode::copy}) {
        io(opcode, kEffectContent);
    }
    for (const IoOpcode opcode :
         {IoOpcode::flush, IoOpcode::read, IoOpcode::compare, IoOpcode::verify}) {
        io(opcode, 0);
    }
    if (order) {
        for (const IoOpcode opcode : {IoOpcode::write, IoOpcode::write_zeroes,
                                      IoOpcode::dataset_management, IoOpcode::copy}) {
            io(tagged(opcode), kEffectContent);
        }
        for (const IoOpcode opcode : {IoOpcode::write_ranges, IoOpcode::transaction_commit}) {
            io(opcode, kEffectContent);
        }
        for (const IoOpcode opcode :
             {tagged(IoOpcode::flush), tagged(IoOpcode::read), IoOpcode::stream_open,
              IoOpcode::stream_close, IoOpcode::transaction_begin, IoOpcode::transaction_abort}) {
            io(opcode, 0);
        }
    }
    return log;
}

FeatureEffectsLog feature_effects_log()
{
    FeatureEffectsLog log;
    for (std::size_t id = 0; id < log.features.size(); ++id) {
        if (Features::known(static_cast<std::uint8_t>(id))) {
            log.features[id] = kFeatureSupported;
        }
    }
    return log;
}

}  // namespace

// ---- Identify -----------------------------------------------------------------------------

void Controller::run(Request& request, const IdentifyCommand& command)
{
    const auto page = identify_page(request, command);
    if (!page) {
        complete(request, page.error());
        return;
    }
    const auto copied = copy_to_guest(host_, data_pointer(request.entry), *page);
    complete(request, copied ? StatusCode::success : copied.error());
}

Checked<std::vector<std::byte>> Controller::identify_page(const Request& request,
                                                          const IdentifyCommand& command)
{
    const auto cns = static_cast<Cns>(command.cns);
    const std::uint32_t nsid = request.entry.nsid;
    const bool management = config_.manage != GuestManage::off && backend_->abilities().snapshots;
    const bool wants_set =
        cns == Cns::command_set_namespace || cns == Cns::command_set_controller ||
        cns == Cns::command_set_active_list || cns == Cns::command_set_allocated_list ||
        cns == Cns::command_set_allocated_namespace;
    if (wants_set && command.command_set != kCommandSetNvm) {
        return refuse(StatusCode::invalid_field);
    }
    switch (cns) {
    case Cns::controller:
        return bytes_of(identify_controller(config_.identity, backend_->abilities(),
                                            backend_->capacity(), namespaces_.highest_nsid(),
                                            management));
    case Cns::command_set_controller: return bytes_of(identify_controller_nvm());
    case Cns::active_list:
    case Cns::command_set_active_list: return identify_list(nsid, false);
    case Cns::allocated_list:
    case Cns::command_set_allocated_list: return identify_list(nsid, true);
    case Cns::active_namespace:
    case Cns::namespace_descriptors:
    case Cns::command_set_namespace:
    case Cns::independent_namespace:
    case Cns::allocated_namespace:
    case Cns::command_set_allocated_namespace: return identify_one(nsid, cns);
    case Cns::attached_controllers:
    case Cns::controllers: return identify_controllers(request, command);
    case Cns::command_sets: {
        CommandSetCombinations data;
        data.vectors[0] = place<0>(true);
        return bytes_of(data);
    }
    }
    return refuse(StatusCode::invalid_field);
}

Checked<std::vector<std::byte>> Controller::identify_one(std::uint32_t nsid, Cns cns)
{
    if (nsid == kNsidAll && cns == Cns::active_namespace) {
        return bytes_of(identify_common_namespace());  // Base 5.17.2.1, with namespace management
    }
    if (nsid == 0 || nsid > namespaces_.highest_nsid()) {
        return refuse(StatusCode::invalid_namespace_or_format);
    }
    const bool allocated =
        cns == Cns::allocated_namespace || cns == Cns::command_set_allocated_namespace;
    // Sizes and use change with every write: look at the backend, not at what was.
    rescan();
    const Namespace* entry = allocated ? namespaces_.find(nsid) : namespaces_.find_attached(nsid);
    if (entry == nullptr) {
        if (cns == Cns::namespace_descriptors) {
            return refuse(StatusCode::invalid_field);
        }
        return std::vector<std::byte>(kIdentifyBytes);  // inactive: zeroes (5.17.2)
    }
    switch (cns) {
    case Cns::namespace_descriptors: return namespace_descriptors(*entry);
    case Cns::independent_namespace: return bytes_of(identify_independent(*entry));
    case Cns::command_set_namespace:
    case Cns::command_set_allocated_namespace:
        return std::vector<std::byte>(kIdentifyBytes);  // all about metadata, of which is none
    default:                                            // the two that remain
        return bytes_of(identify_namespace(*entry, backend_->abilities()));
    }
}

Checked<std::vector<std::byte>> Controller::identify_list(std::uint32_t nsid, bool allocated)
{
    if (nsid >= kNsidAll - 1) {
        return refuse(StatusCode::invalid_namespace_or_format);  // 5.17.2.2
    }
    NamespaceList list;
    std::size_t count = 0;
    const auto& all = namespaces_.all();
    for (auto at = all.upper_bound(nsid); at != all.end() && count < list.ids.size(); ++at) {
        if (!at->second.removed && (allocated || at->second.attached)) {
            list.ids[count++] = at->first;
        }
    }
    return bytes_of(list);
}

Checked<std::vector<std::byte>> Controller::identify_controllers(const Request& request,
                                                                 const IdentifyCommand& command)
{
    ControllerList list;
    bool ours = true;
    if (static_cast<Cns>(command.cns) == Cns::attached_controllers) {
        if (request.entry.nsid == 0 || request.entry.nsid > namespaces_.highest_nsid()) {
            return refuse(StatusCode::invalid_namespace_or_format);
        }
        ours = namespaces_.find_attached(request.entry.nsid) != nullptr;
    }
    if (ours && config_.identity.controller_id >= command.controller) {
        list.count = 1;
        list.ids[0] = config_.identity.controller_id;
    }
    return bytes_of(list);
}

// ---- Get Log Page -------------------------------------------------------------------------

void Controller::run(Request& request, const LogCommand& command)
{
    const auto page = log_page(command.page, request.entry.nsid);
    if (!page) {
        complete(request, page.error());
        return;
    }
    if (command.offset_bytes > page->size()) {
        complete(request, StatusCode::invalid_field);  // 5.16, LPOL
        return;
    }
    // The guest asks for any length; what lies behind the page is not written.
    const auto offset = static_cast<std::size_t>(command.offset_bytes);
    const auto length = static_cast<std::size_t>(
        std::min<std::uint64_t>(command.length_bytes, page->size() - offset));
    const auto copied =
        copy_to_guest(host_, data_pointer(request.entry), std::span(*page).subspan(offset, length));
    if (!copied) {
        complete(request, copied.error());
        return;
    }
    if (!command.retain_event) {
        events_.read(command.page);
        if (static_cast<LogPage>(command.page) == LogPage::changed_namespaces) {
            namespaces_.clear_changed();
        }
    }
    complete(request, StatusCode::success);
}

Checked<std::vector<std::byte>> Controller::log_page(std::uint8_t page, std::uint32_t nsid)
{
    switch (static_cast<LogPage>(page)) {
    case LogPage::supported_pages: return bytes_of(supported_log_pages());
    case LogPage::errors: {
        const std::vector<ErrorLogEntry> log = health_.error_log();
        const auto bytes = std::as_bytes(std::span(log));
        return std::vector<std::byte>(bytes.begin(), bytes.end());
    }
    case LogPage::health:
        if (nsid != 0 && nsid != kNsidAll) {
            return refuse(StatusCode::invalid_field);  // LPA bit 0: not per namespace
        }
        return bytes_of(health_.log(backend_->capacity(), host_.now_ns() - started_ns_));
    case LogPage::firmware_slots: return bytes_of(firmware_log());
    case LogPage::changed_namespaces: {
        NamespaceList list;
        if (const auto changed = namespaces_.changed()) {
            std::copy(changed->begin(), changed->end(), list.ids.begin());
        } else {
            list.ids[0] = kNsidAll;  // more than fit
        }
        return bytes_of(list);
    }
    case LogPage::command_effects:
        return bytes_of(
            effects_log(config_.manage != GuestManage::off && backend_->abilities().snapshots,
                        backend_->abilities().order));
    case LogPage::feature_effects: return bytes_of(feature_effects_log());
    case LogPage::management_effects: return bytes_of(ManagementEffectsLog{});
    }
    return refuse(StatusCode::invalid_log_page);
}

}  // namespace coppice::nvme
