// Registers and life of the controller: Base Specification 2.0, sections 3.1.3, 3.5
// (initialisation), 3.6 (shutdown), 3.7 (resets).
//
//   state      event                 next       what happens
//   disabled   EN 0 -> 1, valid      enabled    admin queues made, CSTS.RDY = 1
//   disabled   EN 0 -> 1, invalid    failed     CSTS.CFS = 1
//   enabled    EN 1 -> 0, reset      disabling  nothing is fetched, waiting commands are dropped
//   enabled    memory refuses queue  failed     CSTS.CFS = 1, nothing is fetched
//   failed     EN 1 -> 0, reset      disabling
//   disabling  nothing under way     disabled   queues gone, CSTS = 0 (and EN 1 meanwhile: enable)
#include "controller/controller.h"

#include <utility>

#include "format/base/check.h"

namespace coppice::nvme {

namespace {

constexpr std::uint32_t kAqaWritable = 0x0fff0fff;

std::uint64_t capabilities()
{
    CapFields cap;
    cap.max_queue_entries_z = kMaxQueueEntries - 1;
    cap.timeout_500ms = kReadyTimeout500ms;
    return make_cap(cap);
}

constexpr std::uint64_t with_low(std::uint64_t value, std::uint32_t low)
{
    return join(low, high_half(value));
}
constexpr std::uint64_t with_high(std::uint64_t value, std::uint32_t high)
{
    return join(low_half(value), high);
}
// Queue base addresses: bits 11:0 are reserved (3.1.3.9).
constexpr std::uint64_t page_of(std::uint64_t address) { return address - address % kPageBytes; }

}  // namespace

Controller::Controller(Host& host, Backend& backend, Config config)
    : host_(host),
      backend_(&backend),
      config_(std::move(config)),
      namespaces_(backend, config_.power_on),
      features_(config_.vectors),
      cap_(capabilities()),
      started_ns_(host.now_ns())
{
    CHECK(config_.vectors >= 1);
}

Controller::~Controller()
{
    CHECK(in_flight_ == 0);
    in_poll_ = true;            // nobody is to call a controller that is going
    state_ = State::disabling;  // what still waits is dropped, not posted
    drop_waiting();
}

// ---- Registers ----------------------------------------------------------------------------

std::uint32_t Controller::read_dword(std::uint64_t offset) const
{
    switch (offset) {
    case kRegisterCap: return low_half(cap_);
    case kRegisterCap + 4: return high_half(cap_);
    case kRegisterVs: return kVersion;
    case kRegisterIntms:
    case kRegisterIntmc: return masked_vectors_.load();
    case kRegisterCc: return cc_.load();
    case kRegisterCsts: return csts_.load();
    case kRegisterAqa: return aqa_.load();
    case kRegisterAsq: return low_half(asq_.load());
    case kRegisterAsq + 4: return high_half(asq_.load());
    case kRegisterAcq: return low_half(acq_.load());
    case kRegisterAcq + 4: return high_half(acq_.load());
    case kRegisterCrto: return make_crto(kReadyTimeout500ms);
    default: return 0;  // reserved, optional and not there, or doorbells (write only)
    }
}

std::uint64_t Controller::read_register(std::uint64_t offset, unsigned bytes) const
{
    const std::uint64_t aligned = offset - offset % 4;
    if (bytes == 8 && aligned == offset) {
        return join(read_dword(offset), read_dword(offset + 4));
    }
    // Smaller reads inside a dword; across two of them the spec defines nothing.
    const auto skip_bits = static_cast<unsigned>(offset % 4 * 8);
    const std::uint64_t value = std::uint64_t{read_dword(aligned)} / power_of_two(skip_bits);
    return bytes >= 4 ? value : value % power_of_two(bytes * 8);
}

void Controller::write_register(std::uint64_t offset, std::uint64_t value, unsigned bytes)
{
    if (offset % 4 != 0 || (bytes != 4 && bytes != 8)) {
        return;  // undefined by 3.1.3; dropped
    }
    if (in_poll_) {
        // A guest aimed one of our own transfers at these registers, so this is a call from inside
        // our own work. A doorbell is only noted; nothing else is done, least of all a reset.
        if (is_doorbell(offset) && doorbell(offset, low_half(value))) {
            host_.schedule_poll();
        }
        return;
    }
    if (is_doorbell(offset)) {
        (void)doorbell(offset, low_half(value));
        poll();
        return;
    }
    write_dword(offset, low_half(value));
    if (bytes == 8) {
        write_dword(offset + 4, high_half(value));
    }
    poll();
}

void Controller::write_dword(std::uint64_t offset, std::uint32_t value)
{
    // Queue attributes count when the controller is enabled; changing them later is harmless.
    switch (offset) {
    case kRegisterIntms:
        masked_vectors_.fetch_or(value);
        update_pin();
        break;
    case kRegisterIntmc:
        masked_vectors_.fetch_and(~value);
        update_pin();
        break;
    case kRegisterCc: write_cc(value & kCcWritable); break;
    case kRegisterAqa: aqa_ = value & kAqaWritable; break;
    case kRegisterAsq: asq_ = page_of(with_low(asq_, value)); break;
    case kRegisterAsq + 4: asq_ = with_high(asq_, value); break;
    case kRegisterAcq: acq_ = page_of(with_low(acq_, value)); break;
    case kRegisterAcq + 4: acq_ = with_high(acq_, value); break;
    default: break;  // read-only or reserved
    }
}

void Controller::write_cc(std::uint32_t value)
{
    const Cc before{cc_.load()};
    const Cc now{value};
    cc_ = value;
    if (now.enable() && !before.enable()) {
        if (state_ == State::disabled) {
            enable();
        }
        // disabling: enabled as soon as that is done
    } else if (!now.enable() && before.enable()) {
        disable();
    }
    if (now.shutdown() != 0 && before.shutdown() == 0) {
        begin_shutdown();
    } else if (now.shutdown() == 0 && before.shutdown() != 0 &&
               shutdown_ == ShutdownStatus::complete) {
        shutdown_ = ShutdownStatus::none;
        publish_status();
    }
}

void Controller::publish_status()
{
    const bool ready = state_ == State::enabled || state_ == State::disabling ||
                       (state_ == State::failed && csts_ready(csts_));
    csts_ = make_csts({ready, state_ == State::failed, shutdown_});
}

// ---- Enabling and disabling ---------------------------------------------------------------

bool Controller::valid_configuration() const
{
    const Cc cc{cc_.load()};
    // Entry sizes may still be 0: they must be set before the first I/O queue (3.1.3.5).
    return cc.command_set() == 0 && cc.page_exponent() == 0 && cc.arbitration() == 0 &&
           (cc.sq_entry_exponent() == 0 || cc.sq_entry_exponent() == kSqEntryExponent) &&
           (cc.cq_entry_exponent() == 0 || cc.cq_entry_exponent() == kCqEntryExponent) &&
           aqa_sq_entries_z(aqa_) != 0 && aqa_cq_entries_z(aqa_) != 0;
}

void Controller::enable()
{
    if (!valid_configuration()) {
        fail_fatally("the guest enabled it with an invalid configuration");
        return;
    }
    CompletionQueue::Layout layout;
    layout.base = acq_;
    layout.entries = aqa_cq_entries_z(aqa_) + 1;
    layout.interrupts = true;  // the admin queue always uses vector 0 (3.1.3.10)
    completion_queues_[0] = std::make_unique<CompletionQueue>(layout);
    submission_queues_[0] = std::make_unique<SubmissionQueue>(
        std::uint16_t{0}, asq_, aqa_sq_entries_z(aqa_) + 1, *completion_queues_[0]);
    for (auto& word : doorbell_bits_) {
        word = 0;  // rung before there were queues
    }
    unknown_doorbell_ = false;
    state_ = State::enabled;
    publish_status();
}

void Controller::disable()
{
    if (state_ == State::disabled || state_ == State::disabling) {
        return;
    }
    state_ = State::disabling;
    idle_told_ = false;
    drop_waiting();
    advance();
    want_poll();
}

// Commands that have not reached the backend, or that the host holds back, end without a
// completion.
void Controller::drop_waiting()
{
    CHECK(state_ == State::disabling);
    while (!waiting_for_memory_.empty()) {
        Request* request = waiting_for_memory_.front();
        waiting_for_memory_.pop_front();
        complete(*request, StatusCode::abort_requested);
    }
    for (Request* request : std::exchange(held_back_, {})) {
        ++in_flight_;
        complete(*request, StatusCode::abort_requested);
    }
    if (gate_) {
        Request* request = gate_->request;
        gate_->cancelled();
        gate_.reset();
        admin_busy_ = false;
        complete(*request, StatusCode::abort_requested);
    }
    events_.clear();
}

void Controller::finish_disable()
{
    for (auto& queue : submission_queues_) {
        queue.reset();
    }
    for (auto& queue : completion_queues_) {
        queue.reset();
    }
    release_order();
    features_.reset();
    events_.clear();
    namespaces_.clear_changed();
    host_behavior_ = {};
    shutdown_ = ShutdownStatus::none;
    masked_vectors_ = 0;
    state_ = State::disabled;
    if (std::exchange(power_on_pending_, false)) {
        cc_ = 0;
        aqa_ = 0;
        asq_ = 0;
        acq_ = 0;
        clock_offset_ms_ = 0;
        clock_set_ = false;
        namespaces_.power_on();
    }
    publish_status();
    update_pin();
    if (Cc{cc_.load()}.enable()) {
        enable();
    }
}

void Controller::reset()
{
    power_on_pending_ = true;
    cc_ = 0;
    if (state_ != State::disabling) {
        state_ = State::disabling;
        idle_told_ = false;
        drop_waiting();
    }
    advance();
    want_poll();
}

void Controller::fail_fatally(const char* why)
{
    if (state_ != State::failed) {
        host_.report(std::string("the controller has failed: ") + why);
    }
    state_ = state_ == State::disabling ? State::disabling : State::failed;
    publish_status();
}

// ---- Shutdown (3.6) -----------------------------------------------------------------------

void Controller::begin_shutdown()
{
    shutdown_ = ShutdownStatus::occurring;
    publish_status();
    advance();
}

void Controller::flush_for_shutdown()
{
    // Every command that completed before is behind this flush, every command after it is not
    // accepted: what the guest knows to be written is durable when SHST says complete.
    shutdown_flushing_ = true;
    idle_told_ = false;
    struct Progress {
        std::size_t left = 1;  // one for the loop below
        bool failed = false;
    };
    auto progress = std::make_shared<Progress>();
    ++in_flight_;
    const auto done = [this, progress](bool good) {
        progress->failed = progress->failed || !good;
        if (--progress->left != 0) {
            return;
        }
        shutdown_flushing_ = false;
        --in_flight_;
        if (progress->failed) {
            // Never acknowledged: SHST stays "occurring" and the controller says it is broken.
            fail_fatally("a flush failed during shutdown");
        } else if (shutdown_ == ShutdownStatus::occurring && state_ != State::disabling) {
            shutdown_ = ShutdownStatus::complete;
            publish_status();
        }
        want_poll();
    };
    for (auto& [nsid, entry] : namespaces_.all()) {
        if (entry.info.write_protected || entry.removed) {
            continue;
        }
        ++progress->left;
        Operation flush;
        flush.kind = Operation::Kind::flush;
        flush.volume = VolumeId(nsid);
        backend_->submit(flush, [done](const Status& status) { done(status.has_value()); });
    }
    done(true);
}

// ---- What waits for other things to end ---------------------------------------------------

void Controller::advance()
{
    if (gate_ && gate_->ready()) {
        auto then = std::move(gate_->then);
        gate_.reset();
        then();
    }
    if (state_ == State::disabling) {
        if (in_flight_ == 0) {
            finish_disable();
        }
        return;
    }
    // A failed flush leaves the shutdown where it is (state failed).
    if (shutdown_ == ShutdownStatus::occurring && in_flight_ == 0 && !shutdown_flushing_ &&
        !stopped_ && state_ != State::failed) {
        flush_for_shutdown();
    }
}

void Controller::stop() { stopped_ = true; }

void Controller::start()
{
    stopped_ = false;
    want_poll();
}

void Controller::retry_failed()
{
    for (Request* request : std::exchange(held_back_, {})) {
        ++in_flight_;
        idle_told_ = false;
        if (request->operation.kind == Operation::Kind::flush && request->entry.nsid == kNsidAll) {
            submit_flushes(*request);
        } else {
            submit(*request, request->io_class);
        }
    }
}

void Controller::rescan()
{
    if (namespaces_.refresh()) {
        tell_namespaces_changed();
    }
}

void Controller::use(Backend& backend)
{
    CHECK(stopped_ && in_flight_ == 0);
    backend_ = &backend;  // the old one's store may be gone
    namespaces_.use(backend);
    if (order_stale_) {
        release_order();
    }
    rescan();
}

}  // namespace coppice::nvme
