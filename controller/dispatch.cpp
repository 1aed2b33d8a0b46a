// Doorbells, fetching, completing, interrupts: Base Specification 2.0, section 3.3; PCIe Transport
// 1.0, section 3.1.2 (doorbells) and 3.5 (interrupts).
#include "controller/controller.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "format/base/check.h"

namespace coppice::nvme {

// ---- Doorbells ----------------------------------------------------------------------------

bool Controller::doorbell(std::uint64_t offset, std::uint32_t value)
{
    const std::uint64_t index = (offset - kDoorbells) / kDoorbellBytes;
    if (offset % kDoorbellBytes != 0 || index >= kDoorbellCount) {
        unknown_doorbell_ = true;
    } else {
        // The value first, then the bit that says so; `take_doorbells` reads in the other order.
        doorbell_values_[index].store(value, std::memory_order_release);
        doorbell_bits_[index / 64].fetch_or(power_of_two(static_cast<unsigned>(index % 64)),
                                            std::memory_order_acq_rel);
    }
    return !poll_requested_.exchange(true, std::memory_order_acq_rel);
}

void Controller::take_doorbells()
{
    if (unknown_doorbell_.exchange(false) && state_ == State::enabled) {
        raise_event({EventType::error, kEventInvalidDoorbellRegister,
                     static_cast<std::uint8_t>(LogPage::errors)});
    }
    for (std::size_t word = 0; word < kDoorbellWords; ++word) {
        std::uint64_t set = doorbell_bits_[word].exchange(0, std::memory_order_acq_rel);
        while (set != 0) {
            const auto low = static_cast<unsigned>(std::countr_zero(set));
            set &= set - 1;
            const std::size_t index = word * 64 + low;
            ring(static_cast<std::uint32_t>(index),
                 doorbell_values_[index].load(std::memory_order_acquire));
        }
    }
}

void Controller::ring(std::uint32_t index, std::uint32_t value)
{
    if (state_ != State::enabled) {
        return;
    }
    const std::size_t queue = index / 2;
    const bool is_tail = index % 2 == 0;
    const bool exists =
        is_tail ? submission_queues_[queue] != nullptr : completion_queues_[queue] != nullptr;
    const auto page = static_cast<std::uint8_t>(LogPage::errors);
    if (!exists) {
        raise_event({EventType::error, kEventInvalidDoorbellRegister, page});
        return;
    }
    // The values are 16 bits wide, the rest is reserved (PCIe 3.1.2.1).
    const std::uint32_t position = bits<15, 0>(value);
    const bool valid = is_tail ? submission_queues_[queue]->set_tail(position)
                               : completion_queues_[queue]->set_head(position);
    if (!valid) {
        raise_event({EventType::error, kEventInvalidDoorbellValue, page});
    }
}

// ---- The loop -----------------------------------------------------------------------------

void Controller::want_poll()
{
    if (!in_poll_ && !poll_requested_.exchange(true, std::memory_order_acq_rel)) {
        host_.schedule_poll();
    }
}

void Controller::poll()
{
    if (in_poll_) {
        return;  // the host called from inside one of our calls; the outer poll sees it all
    }
    in_poll_ = true;
    poll_requested_.store(false, std::memory_order_release);
    take_doorbells();
    retry_memory();
    advance();
    const bool more = fetch();
    advance();
    deliver_events();
    post_completions();
    in_poll_ = false;
    if (more) {
        want_poll();
    }
    if (busy()) {
        idle_told_ = false;
    } else if (!std::exchange(idle_told_, true)) {
        host_.idle();
    }
}

bool Controller::fetch()
{
    if (state_ != State::enabled || stopped_ || shutdown_ != ShutdownStatus::none) {
        return false;
    }
    unsigned budget = kMaxFetchesPerPoll;
    bool more = false;
    if (!admin_busy_) {
        more = fetch_from(*submission_queues_[0], budget);
    }
    // Round robin: each call begins with the queue behind the one that it began with last time.
    for (std::uint32_t i = 0; i < kMaxIoQueues && state_ == State::enabled; ++i) {
        const std::uint32_t id = 1 + (next_queue_ + i) % kMaxIoQueues;
        if (submission_queues_[id] != nullptr) {
            more = fetch_from(*submission_queues_[id], budget) || more;
        }
    }
    next_queue_ = (next_queue_ + 1) % kMaxIoQueues;
    return more;
}

// True if it stopped only because of the budget. When it stops for want of a completion slot, the
// guest's next head doorbell goes on; for want of a request, the next completion does.
bool Controller::fetch_from(SubmissionQueue& queue, unsigned& budget)
{
    std::array<SubmissionEntry, kFetchBatch> entries;
    const bool admin = queue.id() == 0;
    while (!queue.empty() && !queue.deleting && state_ == State::enabled) {
        if (budget == 0) {
            return true;
        }
        if (admin && admin_busy_) {
            return false;
        }
        // One at a time from the admin queue: it may have to stop behind any of them.
        const std::size_t wanted =
            admin ? 1 : std::min<std::size_t>({kFetchBatch, budget, requests_.available()});
        std::array<Permit, kFetchBatch> permits;
        std::size_t got = 0;
        while (got < wanted && requests_.available() > 0) {
            permits[got] = queue.completions().reserve();
            if (!permits[got].held()) {
                break;
            }
            ++got;
        }
        const int taken = got == 0 ? 0 : queue.take(host_, std::span(entries).first(got));
        for (std::size_t i = static_cast<std::size_t>(std::max(taken, 0)); i < got; ++i) {
            permits[i].give_back();
        }
        if (taken < 0) {
            fail_fatally("a submission queue does not lie in memory");
            return false;
        }
        if (taken == 0) {
            return false;
        }
        budget -= static_cast<unsigned>(taken);
        for (std::size_t i = 0; i < static_cast<std::size_t>(taken); ++i) {
            Request* request = requests_.take();
            CHECK(request != nullptr);
            request->controller = this;
            request->queue = &queue;
            request->permit = std::move(permits[i]);
            request->entry = entries[i];
            start_request(*request);
        }
    }
    return false;
}

void Controller::start_request(Request& request)
{
    ++request.queue->in_flight;
    ++in_flight_;
    idle_told_ = false;
    execute(request);
}

void Controller::execute(Request& request)
{
    if (request.queue->id() == 0) {
        execute_admin(request);
    } else {
        execute_io(request);
    }
}

void Controller::retry_memory()
{
    // In order of arrival. A command waits only while others hold memory, and their completions
    // lead here, so nobody is forgotten.
    while (!waiting_for_memory_.empty() &&
           bounce_.fits(waiting_for_memory_.front()->wanted_bytes)) {
        Request* request = waiting_for_memory_.front();
        waiting_for_memory_.pop_front();
        bounce_.open();
        execute(*request);
    }
    if (!waiting_for_memory_.empty()) {
        bounce_.close();
    }
}

// ---- Ends of commands ---------------------------------------------------------------------

void Controller::complete(Request& request, StatusCode status, std::uint32_t dw0)
{
    const auto finished = request.transfer.finish(host_, bounce_, status == StatusCode::success);
    if (!finished) {
        status = finished.error();
    }
    if (state_ == State::disabling) {
        // The queues are about to go: the command ends unseen (3.7.2).
        request.permit.give_back();
    } else {
        if (status != StatusCode::success) {
            log_error(request, status);
        }
        CompletionEntry entry;
        entry.dw0 = dw0;
        entry.sq_head = static_cast<std::uint16_t>(request.queue->head());
        entry.sq_id = request.queue->id();
        entry.command_id = request.entry.command_id;
        entry.status = make_status_field(status, false, status != StatusCode::success);
        request.queue->completions().add(std::move(request.permit), entry);
        unposted_ = true;
    }
    retire(request);
}

void Controller::retire(Request& request)
{
    CHECK(!request.permit.held());
    for (Namespace* entry : request.held) {
        CHECK(entry->in_flight > 0);
        --entry->in_flight;
    }
    request.held.clear();
    request.ranges.clear();
    request.sources.clear();
    request.buffers.clear();
    request.operation = {};
    request.parts = 0;
    request.part_status = StatusCode::success;
    CHECK(request.queue->in_flight > 0 && in_flight_ > 0);
    --request.queue->in_flight;
    request.queue = nullptr;
    --in_flight_;
    requests_.give_back(request);
    want_poll();
}

void Controller::log_error(const Request& request, StatusCode status)
{
    ErrorLogEntry entry;
    entry.sq_id = request.queue->id();
    entry.command_id = request.entry.command_id;
    entry.status = make_status_field(status, false, true);
    entry.parameter_location = kErrorLocationUnknown;
    entry.nsid = request.entry.nsid;
    if (request.queue->id() != 0) {
        entry.lba = join(request.entry.cdw10, request.entry.cdw11);
    }
    if (status_code_type(status) == 2 && status != StatusCode::compare_failure) {
        health_.count_media_error();
    }
    health_.add_error(entry);
}

void Controller::raise_event(const Event& event)
{
    if (state_ == State::enabled) {
        events_.raise(event);
        want_poll();
    }
}

void Controller::deliver_events()
{
    if (state_ != State::enabled) {
        return;
    }
    while (events_.deliverable()) {
        SubmissionQueue& admin = *submission_queues_[0];
        Permit permit = admin.completions().reserve();
        if (!permit.held()) {
            return;  // the guest's next head doorbell goes on
        }
        const Events::Delivery delivery = events_.deliver();
        CompletionEntry entry;
        entry.dw0 = make_event(delivery.event.type, delivery.event.info, delivery.event.log_page);
        entry.sq_head = static_cast<std::uint16_t>(admin.head());
        entry.command_id = delivery.command_id;
        admin.completions().add(std::move(permit), entry);
    }
}

void Controller::post_completions()
{
    unposted_ = false;
    for (auto& queue : completion_queues_) {
        if (queue == nullptr || !queue->has_pending()) {
            continue;
        }
        if (!queue->post(host_)) {
            fail_fatally("a completion queue does not lie in memory");
        }
        // One interrupt for the whole batch.
        if (queue->layout().interrupts && host_.message_interrupts()) {
            host_.send_message(queue->layout().vector);
        }
    }
    update_pin();
}

// The pin is asserted while a queue with interrupts holds entries that the guest has not consumed,
// and its vector is not masked (PCIe 3.5.1.1).
void Controller::update_pin()
{
    bool asserted = false;
    if (!host_.message_interrupts()) {
        for (const auto& queue : completion_queues_) {
            if (queue != nullptr && queue->layout().interrupts && queue->unconsumed()) {
                const auto mask = power_of_two(queue->layout().vector % 32U);
                asserted = asserted || (masked_vectors_ & mask) == 0;
            }
        }
    }
    if (asserted != pin_) {
        pin_ = asserted;
        host_.set_pin(asserted);
    }
}

}  // namespace coppice::nvme
