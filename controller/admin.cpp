// Admin commands for queues, features and events: Base Specification 2.0, sections 5.1, 5.2, 5.4 to
// 5.7, 5.15 and 5.27. Identify and logs are in inform.cpp, namespaces in manage.cpp.
#include "controller/controller.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

#include "format/base/check.h"

namespace coppice::nvme {

namespace {

constexpr std::uint64_t kNsPerMs = 1'000'000;

}  // namespace

void Controller::execute_admin(Request& request)
{
    const Checked<AdminCommand> command = parse_admin(
        request.entry, config_.manage != GuestManage::off && backend_->abilities().snapshots);
    if (!command) {
        complete(request, command.error());
        return;
    }
    std::visit([&](const auto& typed) { run(request, typed); }, *command);
}

// Goes on with `then` when `ready`; no other admin command is taken meanwhile.
void Controller::when(Request& request, std::function<bool()> ready, std::function<void()> then,
                      std::function<void()> cancelled)
{
    CHECK(!gate_ && !admin_busy_);
    admin_busy_ = true;
    gate_ = Gate{&request, std::move(ready), std::move(then), std::move(cancelled)};
    want_poll();  // inside poll this is looked at before it ends
}

// ---- Queues -------------------------------------------------------------------------------

void Controller::run(Request& request, const CreateCqCommand& command)
{
    StatusCode status = StatusCode::success;
    const bool vector_known = command.vector < (host_.message_interrupts() ? config_.vectors : 1U);
    if (command.id == 0 || command.id > kMaxIoQueues || completion_queues_[command.id] != nullptr) {
        status = StatusCode::invalid_queue_identifier;
    } else if (command.entries < 2 || command.entries > kMaxQueueEntries) {
        status = StatusCode::invalid_queue_size;
    } else if (!command.contiguous || Cc{cc_.load()}.cq_entry_exponent() != kCqEntryExponent) {
        status = StatusCode::invalid_field;  // CAP.CQR
    } else if (command.base % kPageBytes != 0) {
        status = StatusCode::prp_offset_invalid;
    } else if (!vector_known) {
        status = StatusCode::invalid_interrupt_vector;
    } else {
        completion_queues_[command.id] = std::make_unique<CompletionQueue>(CompletionQueue::Layout{
            command.id, command.base, command.entries, command.vector, command.interrupts});
    }
    complete(request, status);
}

void Controller::run(Request& request, const CreateSqCommand& command)
{
    StatusCode status = StatusCode::success;
    if (command.id == 0 || command.id > kMaxIoQueues || command.completion_queue == 0 ||
        command.completion_queue > kMaxIoQueues || submission_queues_[command.id] != nullptr) {
        status = StatusCode::invalid_queue_identifier;
    } else if (completion_queues_[command.completion_queue] == nullptr) {
        status = StatusCode::completion_queue_invalid;
    } else if (command.entries < 2 || command.entries > kMaxQueueEntries) {
        status = StatusCode::invalid_queue_size;
    } else if (!command.contiguous || Cc{cc_.load()}.sq_entry_exponent() != kSqEntryExponent) {
        status = StatusCode::invalid_field;
    } else if (command.base % kPageBytes != 0) {
        status = StatusCode::prp_offset_invalid;
    } else {
        submission_queues_[command.id] =
            std::make_unique<SubmissionQueue>(command.id, command.base, command.entries,
                                              *completion_queues_[command.completion_queue]);
    }
    complete(request, status);
}

void Controller::run(Request& request, const DeleteSqCommand& command)
{
    if (command.id == 0 || command.id > kMaxIoQueues || submission_queues_[command.id] == nullptr) {
        complete(request, StatusCode::invalid_queue_identifier);
        return;
    }
    // Its commands end by themselves and are completed before the deletion is (5.7).
    SubmissionQueue* queue = submission_queues_[command.id].get();
    queue->deleting = true;
    const std::uint16_t id = command.id;
    when(
        request, [queue] { return queue->in_flight == 0; },
        [this, id, at = &request] {
            submission_queues_[id].reset();
            admin_busy_ = false;
            complete(*at, StatusCode::success);
        },
        [] {});
}

void Controller::run(Request& request, const DeleteCqCommand& command)
{
    StatusCode status = StatusCode::success;
    if (command.id == 0 || command.id > kMaxIoQueues || completion_queues_[command.id] == nullptr) {
        status = StatusCode::invalid_queue_identifier;
    } else if (completion_queues_[command.id]->users != 0) {
        status = StatusCode::invalid_queue_deletion;  // its submission queues go first (5.6)
    } else {
        if (completion_queues_[command.id]->has_pending()) {
            (void)completion_queues_[command.id]->post(host_);
        }
        completion_queues_[command.id].reset();
    }
    complete(request, status);
}

bool Controller::queues_exist() const
{
    return std::any_of(completion_queues_.begin() + 1, completion_queues_.end(),
                       [](const auto& queue) { return queue != nullptr; });
}

// ---- Abort, Asynchronous Event Request ----------------------------------------------------

// Abort is best effort (5.1): what the store works on is not called back. Only waiting event
// requests are taken away.
void Controller::run(Request& request, const AbortCommand& command)
{
    if (command.queue == 0) {
        Permit permit = request.queue->completions().reserve();
        if (permit.held() && events_.unpark(command.command)) {
            CompletionEntry entry;
            entry.sq_head = static_cast<std::uint16_t>(request.queue->head());
            entry.command_id = command.command;
            entry.status = make_status_field(StatusCode::abort_requested, false, false);
            request.queue->completions().add(std::move(permit), entry);
            complete(request, StatusCode::success);
            return;
        }
        if (permit.held()) {
            permit.give_back();
        }
    }
    complete(request, StatusCode::success, kAbortNotDone);
}

void Controller::run(Request& request, const AsyncEventCommand&)
{
    if (!events_.park(request.entry.command_id)) {
        complete(request, StatusCode::async_event_limit_exceeded);
        return;
    }
    // It may wait forever, so it keeps no slot and no request.
    request.permit.give_back();
    retire(request);
}

// ---- Features -----------------------------------------------------------------------------

void Controller::run(Request& request, const SetFeatureCommand& command)
{
    Checked<std::uint32_t> result = 0;
    const std::uint32_t nsid = request.entry.nsid;
    if (!Features::known(command.id)) {
        result = refuse(StatusCode::invalid_field);
    } else if (command.save) {
        result = refuse(StatusCode::feature_not_saveable);
    } else if (nsid != 0 && nsid != kNsidAll) {
        result = refuse(StatusCode::feature_not_per_namespace);
    } else {
        const auto id = static_cast<Feature>(command.id);
        if (id == Feature::timestamp) {
            result = set_timestamp(request);
        } else if (id == Feature::host_behavior) {
            result = set_host_behavior(request);
        } else if (id == Feature::number_of_queues && queues_exist()) {
            result = refuse(StatusCode::command_sequence_error);  // 5.27.1.5
        } else {
            result = features_.set(id, command.value);
        }
    }
    complete(request, result ? StatusCode::success : result.error(), result.value_or(0));
}

void Controller::run(Request& request, const GetFeatureCommand& command)
{
    if (!Features::known(command.id)) {
        complete(request, StatusCode::invalid_field);
        return;
    }
    const auto id = static_cast<Feature>(command.id);
    if (command.select == FeatureSelect::supported) {
        complete(request, StatusCode::success, make_feature_support(false, true));
        return;
    }
    // Nothing is saved, so the saved value is the default one (5.15).
    const bool standard = command.select != FeatureSelect::current;
    if (id == Feature::timestamp || id == Feature::host_behavior) {
        const auto status = get_data_feature(request, id, standard);
        complete(request, status ? StatusCode::success : status.error());
        return;
    }
    const auto result = features_.get(id, command.value, standard);
    complete(request, result ? StatusCode::success : result.error(), result.value_or(0));
}

Checked<std::uint32_t> Controller::set_timestamp(Request& request)
{
    TimestampData data;
    if (auto read = copy_from_guest(host_, data_pointer(request.entry),
                                    std::as_writable_bytes(std::span(&data, 1)));
        !read) {
        return refuse(read.error());
    }
    const auto now_ms = static_cast<std::int64_t>(host_.unix_ns() / kNsPerMs);
    clock_offset_ms_ = static_cast<std::int64_t>(data.milliseconds.get()) - now_ms;
    clock_set_ = true;
    return 0;
}

Checked<std::uint32_t> Controller::set_host_behavior(Request& request)
{
    HostBehavior data;
    if (auto read = copy_from_guest(host_, data_pointer(request.entry),
                                    std::as_writable_bytes(std::span(&data, 1)));
        !read) {
        return refuse(read.error());
    }
    // Retry delays, telemetry and extended LBA formats are not offered; only the copy formats are.
    if (data.advanced_retry > 1 || data.extended_telemetry > 1 || data.lba_format_extension > 1) {
        return refuse(StatusCode::invalid_field);
    }
    host_behavior_ = data;
    return 0;
}

Checked<void> Controller::get_data_feature(Request& request, Feature id, bool standard)
{
    if (id == Feature::host_behavior) {
        const HostBehavior data = standard ? HostBehavior{} : host_behavior_;
        return copy_to_guest(host_, data_pointer(request.entry),
                             std::as_bytes(std::span(&data, 1)));
    }
    TimestampData data;
    if (!standard) {
        const auto now_ms = static_cast<std::int64_t>(host_.unix_ns() / kNsPerMs);
        data.milliseconds = static_cast<std::uint64_t>(now_ms + clock_offset_ms_);
        data.attributes = make_timestamp_attributes(clock_set_);
    }
    return copy_to_guest(host_, data_pointer(request.entry), std::as_bytes(std::span(&data, 1)));
}

}  // namespace coppice::nvme
