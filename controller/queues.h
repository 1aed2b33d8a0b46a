// Submission and completion queues in guest memory, and the permit that ties them.
//
//   guest tail -> SubmissionQueue -> (Permit taken) -> command ... -> Permit used ->
//   CompletionQueue
//
// A command is taken from its submission queue only with a permit for one free slot of the
// completion queue, so a completion can always be posted. The permit is used exactly once: by a
// completion, or given back (a parked Asynchronous Event Request, a command cut off by a reset).
//
// NVM Express Base Specification 2.0, sections 3.3.1, 3.3.3.2; PCIe Transport 1.0, 3.1.2.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "controller/limits.h"
#include "controller/ports.h"
#include "controller/spec/command.h"
#include "controller/spec/status.h"

namespace coppice::nvme {

class CompletionQueue;

class [[nodiscard]] Permit {
public:
    Permit() = default;
    Permit(Permit&& other) noexcept;
    Permit& operator=(Permit&& other) noexcept;
    ~Permit();  // CHECKs that it was used

    bool held() const { return queue_ != nullptr; }
    void give_back();

private:
    friend class CompletionQueue;
    explicit Permit(CompletionQueue& queue) : queue_(&queue) {}
    CompletionQueue* queue_ = nullptr;
};

class CompletionQueue {
public:
    struct Layout {
        std::uint16_t id = 0;
        std::uint64_t base = 0;  // page-aligned
        std::uint32_t entries = 2;
        std::uint16_t vector = 0;
        bool interrupts = false;
    };
    explicit CompletionQueue(const Layout& layout);

    const Layout& layout() const { return layout_; }

    // An unheld permit when the queue has no free slot.
    Permit reserve();
    // Completions wait here until `post`, in order.
    void add(Permit permit, const CompletionEntry& entry);
    bool has_pending() const { return !pending_.empty(); }
    // Writes the waiting entries to the guest; each entry's last dword after the rest of it.
    // False if guest memory refused, which is fatal to the controller.
    bool post(Host& host);

    // The guest has consumed up to `head`. False if that cannot be.
    bool set_head(std::uint32_t head);
    // Entries that the guest has not consumed: the pin stays asserted.
    bool unconsumed() const { return used() != 0; }

    unsigned users = 0;  // submission queues that complete here

private:
    friend class Permit;
    std::uint32_t used() const { return (tail_ + layout_.entries - head_) % layout_.entries; }
    bool write(Host& host, std::uint32_t slot, std::span<CompletionEntry> entries) const;

    Layout layout_;
    std::uint32_t head_ = 0;
    std::uint32_t tail_ = 0;
    bool phase_ = true;
    std::uint32_t reserved_ = 0;  // permits out, and pending entries
    std::vector<CompletionEntry> pending_;
};

class SubmissionQueue {
public:
    SubmissionQueue(std::uint16_t id, std::uint64_t base, std::uint32_t entries,
                    CompletionQueue& completions);
    ~SubmissionQueue();
    SubmissionQueue(const SubmissionQueue&) = delete;
    SubmissionQueue& operator=(const SubmissionQueue&) = delete;

    std::uint16_t id() const { return id_; }
    std::uint32_t entries() const { return entries_; }
    std::uint32_t head() const { return head_; }
    CompletionQueue& completions() { return completions_; }

    bool set_tail(std::uint32_t tail);
    bool empty() const { return head_ == tail_; }
    // Reads up to the span's size of contiguous entries and moves the head past them. 0 when
    // empty; a negative number when guest memory refused.
    int take(Host& host, std::span<SubmissionEntry> into);

    std::uint32_t in_flight = 0;  // taken and not completed
    bool deleting = false;        // nothing more is taken

private:
    std::uint16_t id_;
    std::uint64_t base_;
    std::uint32_t entries_;
    CompletionQueue& completions_;
    std::uint32_t head_ = 0;
    std::uint32_t tail_ = 0;
};

}  // namespace coppice::nvme
