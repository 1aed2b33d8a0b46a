// The NVMe controller: registers, queues, commands. One object is one PCI function's worth.
//
//   guest -> registers, doorbells -> fetch -> parse -> executor -> Backend (the store)
//   guest <- interrupt <- completion queue <- complete <-------------- completion
//
// All is done on the store's thread and nothing ever waits: commands end in completions, slow
// changes (a reset, a shutdown, a deletion) are states that `poll` moves on. Work is pulled in
// bounded steps by `poll`; whoever makes work for it asks the host to call it soon.
//
// The parts: controller.cpp registers and life; dispatch.cpp queues and completions; io.cpp the NVM
// commands; order.cpp streams and transactions; admin.cpp queues, features, events; inform.cpp
// Identify and logs; manage.cpp namespaces and snapshots. Left out: SGLs, shadow doorbells, fused
// operations, metadata, Format, Sanitize.
//
// NVM Express Base Specification 2.0; NVM Command Set Specification 1.0; PCIe Transport 1.0.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controller/backend.h"
#include "controller/events.h"
#include "controller/features.h"
#include "controller/health.h"
#include "controller/identify.h"
#include "controller/namespaces.h"
#include "controller/parse.h"
#include "controller/ports.h"
#include "controller/queues.h"
#include "controller/request.h"
#include "controller/spec/registers.h"
#include "controller/status_map.h"

namespace coppice::nvme {

// What a guest may do to namespaces and snapshots.
enum class GuestManage : std::uint8_t {
    off,  // nothing: the commands do not exist
    own,  // make snapshots and clones; change and remove what a guest made
    all,
};

struct Config {
    Identity identity;
    unsigned vectors = kMaxIoQueues + 1;  // MSI-X table size
    GuestManage manage = GuestManage::own;
    NamespaceTable::PowerOn power_on;
};

class Controller {
public:
    // `host` and `backend` outlive the controller.
    Controller(Host& host, Backend& backend, Config config);
    ~Controller();  // only when idle
    Controller(const Controller&) = delete;
    Controller& operator=(const Controller&) = delete;

    // -- for any thread
    // Reads 1, 2, 4 or 8 bytes of BAR 0.
    std::uint64_t read_register(std::uint64_t offset, unsigned bytes) const;
    static bool is_doorbell(std::uint64_t offset) { return offset >= kDoorbells; }
    // Notes a doorbell write; the last value written counts. True: the caller has `poll` called on
    // the store's thread; false: someone else already does.
    bool doorbell(std::uint64_t offset, std::uint32_t value);

    // -- on the store's thread, as all that follows
    // Writes 4 or 8 bytes of BAR 0 and does at once what follows from it.
    void write_register(std::uint64_t offset, std::uint64_t value, unsigned bytes);
    void poll();
    // The pin or MSI-X was switched on or off: asserts the pin anew.
    void interrupt_mode_changed() { update_pin(); }

    // Function level or machine reset: as power-on, once nothing is under way (`busy` says).
    void reset();
    // Drained sections: no further commands are begun until `start`. Quiet when not `busy`.
    void stop();
    void start();
    bool busy() const { return in_flight_ != 0 || state_ == State::disabling || unposted_; }
    // Begins again what the host's error policy held back.
    void retry_failed();
    // The host changed volumes or snapshots: looks again, tells the guest.
    void rescan();
    // Puts another backend in its place. Only when stopped and not busy.
    void use(Backend& backend);

private:
    enum class State : std::uint8_t {
        disabled,   // CC.EN 0, or just made
        enabled,    // CSTS.RDY 1
        disabling,  // CC.EN went to 0: what is under way ends, its completions are dropped
        failed,     // CSTS.CFS 1: until CC.EN goes to 0
    };

    // controller.cpp
    std::uint32_t read_dword(std::uint64_t offset) const;
    void write_dword(std::uint64_t offset, std::uint32_t value);
    void write_cc(std::uint32_t value);
    void enable();
    bool valid_configuration() const;
    void disable();
    void finish_disable();
    void fail_fatally(const char* why);
    void begin_shutdown();
    void flush_for_shutdown();
    void advance();
    void publish_status();
    void drop_waiting();

    // dispatch.cpp
    void take_doorbells();
    void ring(std::uint32_t index, std::uint32_t value);
    bool fetch();
    bool fetch_from(SubmissionQueue& queue, unsigned& budget);
    void start_request(Request& request);
    void execute(Request& request);
    void complete(Request& request, StatusCode status, std::uint32_t dw0 = 0);
    void retire(Request& request);
    void log_error(const Request& request, StatusCode status);
    void deliver_events();
    void post_completions();
    void update_pin();
    void want_poll();
    void retry_memory();
    void raise_event(const Event& event);

    // io.cpp
    void execute_io(Request& request);
    void run(Request& request, const FlushCommand& command);
    void run(Request& request, const ReadCommand& command);
    void run(Request& request, const WriteCommand& command);
    void run(Request& request, const CompareCommand& command);
    void run(Request& request, const VerifyCommand& command);
    void run(Request& request, const WriteZeroesCommand& command);
    void run(Request& request, const DatasetCommand& command);
    void run(Request& request, const CopyCommand& command);
    Checked<Namespace*> namespace_of(std::uint32_t nsid);
    Checked<Namespace*> writable_namespace(std::uint32_t nsid);
    void hold(Request& request, Namespace& entry);
    bool prepare(Request& request, std::uint64_t bytes, Direction direction);
    bool prepare_buffer(Request& request, std::uint64_t bytes);
    bool settle(Request& request, const Checked<Transfer::Outcome>& outcome, std::uint64_t bytes);
    void submit(Request& request, IoClass io_class);
    void submit_flushes(Request& request);
    void run_checked_read(Request& request, const BlockRange& blocks);
    void part_done(Request& request, Status status);
    void io_done(Request& request);
    StatusCode finish_compare(Request& request);
    Checked<void> read_copy_ranges(Request& request, const CopyCommand& command,
                                   Namespace& destination);
    Checked<void> add_copy_source(Request& request, const CopyRange& range, unsigned format,
                                  const Namespace& destination);

    // order.cpp
    void run(Request& request, const StreamOpenCommand& command);
    void run(Request& request, const StreamCloseCommand& command);
    void run(Request& request, const TransactionBeginCommand& command);
    void run(Request& request, const TransactionCommitCommand& command);
    void run(Request& request, const TransactionAbortCommand& command);
    void run(Request& request, const WriteRangesCommand& command);
    Checked<std::uint64_t> read_write_ranges(Request& request, const WriteRangesCommand& command,
                                             const Namespace& entry);
    static void skip_bytes(std::vector<iovec>& buffers, std::uint64_t bytes);
    void release_order();
    void forget_ended_transactions();

    // admin.cpp
    void execute_admin(Request& request);
    void run(Request& request, const DeleteSqCommand& command);
    void run(Request& request, const DeleteCqCommand& command);
    void run(Request& request, const CreateCqCommand& command);
    void run(Request& request, const CreateSqCommand& command);
    void run(Request& request, const AbortCommand& command);
    void run(Request& request, const SetFeatureCommand& command);
    void run(Request& request, const GetFeatureCommand& command);
    void run(Request& request, const AsyncEventCommand& command);
    bool queues_exist() const;
    Checked<std::uint32_t> set_timestamp(Request& request);
    Checked<std::uint32_t> set_host_behavior(Request& request);
    Checked<void> get_data_feature(Request& request, Feature id, bool standard);
    void when(Request& request, std::function<bool()> ready, std::function<void()> then,
              std::function<void()> cancelled);

    // inform.cpp
    void run(Request& request, const IdentifyCommand& command);
    void run(Request& request, const LogCommand& command);
    Checked<std::vector<std::byte>> identify_page(const Request& request,
                                                  const IdentifyCommand& command);
    Checked<std::vector<std::byte>> identify_one(std::uint32_t nsid, Cns cns);
    Checked<std::vector<std::byte>> identify_list(std::uint32_t nsid, bool allocated);
    Checked<std::vector<std::byte>> identify_controllers(const Request& request,
                                                         const IdentifyCommand& command);
    Checked<std::vector<std::byte>> log_page(std::uint8_t page, std::uint32_t nsid);

    // manage.cpp
    struct Managed {
        StatusCode status = StatusCode::success;
        std::uint32_t dw0 = 0;
    };
    void run(Request& request, const NamespaceCreateCommand& command);
    void run(Request& request, const NamespaceDeleteCommand& command);
    void run(Request& request, const NamespaceAttachCommand& command);
    void run(Request& request, const SnapshotCreateCommand& command);
    void run(Request& request, const SnapshotListCommand& command);
    void run(Request& request, const SnapshotDeleteCommand& command);
    void run(Request& request, const CloneCommand& command);
    void run(Request& request, const RollbackCommand& command);
    void run(Request& request, const CheckpointCommand& command);
    void run(Request& request, const SetFlushModeCommand& command);
    void run(Request& request, const SetGroupCommand& command);
    Checked<void> changeable_volume(std::uint32_t nsid);
    bool may_change(const Namespace& entry) const;
    bool may_snapshot(const Namespace& entry, bool group);
    Checked<Namespace*> allocated_namespace(std::uint32_t nsid);
    Checked<std::string> read_name(Request& request);
    void remove_namespace(Request& request, Namespace& entry);
    void manage(Request& request, std::function<Managed()> work);
    void tell_namespaces_changed();
    bool too_many_namespaces();

    Host& host_;
    Backend* backend_;
    Config config_;
    NamespaceTable namespaces_;
    Features features_;
    Events events_;
    Health health_;

    // Registers; atomic because any thread may read them.
    std::uint64_t cap_;
    std::atomic<std::uint32_t> masked_vectors_{0};
    std::atomic<std::uint32_t> cc_{0};
    std::atomic<std::uint32_t> csts_{0};
    std::atomic<std::uint32_t> aqa_{0};
    std::atomic<std::uint64_t> asq_{0};
    std::atomic<std::uint64_t> acq_{0};

    // Doorbells that any thread may write: last value and a bit that says so.
    static constexpr std::uint32_t kDoorbellCount = 2 * (kMaxIoQueues + 1);
    static constexpr std::size_t kDoorbellWords = (kDoorbellCount + 63) / 64;
    std::array<std::atomic<std::uint32_t>, kDoorbellCount> doorbell_values_{};
    std::array<std::atomic<std::uint64_t>, kDoorbellWords> doorbell_bits_{};
    std::atomic<bool> unknown_doorbell_{false};
    std::atomic<bool> poll_requested_{false};

    State state_ = State::disabled;
    ShutdownStatus shutdown_ = ShutdownStatus::none;
    bool shutdown_flushing_ = false;
    bool power_on_pending_ = false;  // a reset, not just CC.EN
    bool stopped_ = false;
    bool in_poll_ = false;
    bool unposted_ = false;  // completions wait for the next poll
    bool idle_told_ = true;  // Host::idle was called since something was last under way
    bool pin_ = false;
    std::uint64_t started_ns_ = 0;
    std::int64_t clock_offset_ms_ = 0;  // Timestamp, set by the host: against the wall clock
    bool clock_set_ = false;
    HostBehavior host_behavior_;

    // Completion queues first: submission queues refer to them.
    std::array<std::unique_ptr<CompletionQueue>, kMaxIoQueues + 1> completion_queues_;
    std::array<std::unique_ptr<SubmissionQueue>, kMaxIoQueues + 1> submission_queues_;
    std::uint32_t next_queue_ = 0;  // round robin (3.4.4)

    // What this controller's guest has open, and nobody else of the image; transactions may have
    // ended meanwhile. Kept over a reset only while no backend can close them.
    std::set<std::pair<VolumeId, StreamId>> streams_;
    std::map<TransactionId, VolumeId> transactions_;
    bool order_stale_ = false;  // they are from before a reset

    RequestPool requests_;
    BounceBudget bounce_;
    std::size_t in_flight_ = 0;  // requests taken, without those held back; and shutdown flushes
    std::deque<Request*> waiting_for_memory_;
    std::vector<Request*> held_back_;

    // One admin command at a time may take long (a task, or waiting for something to be idle);
    // the admin queue is not read meanwhile, so no two of them meet.
    struct Gate {
        Request* request = nullptr;
        std::function<bool()> ready;
        std::function<void()> then;
        std::function<void()> cancelled;  // a reset came first
    };
    std::optional<Gate> gate_;
    bool admin_busy_ = false;
};

}  // namespace coppice::nvme
