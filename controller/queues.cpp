#include "controller/queues.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <utility>

#include "format/base/check.h"

namespace coppice::nvme {

// ---- Permit -------------------------------------------------------------------------------

Permit::Permit(Permit&& other) noexcept : queue_(std::exchange(other.queue_, nullptr)) {}

Permit& Permit::operator=(Permit&& other) noexcept
{
    CHECK(queue_ == nullptr || &other == this);
    queue_ = std::exchange(other.queue_, nullptr);
    return *this;
}

Permit::~Permit() { CHECK(queue_ == nullptr); }

void Permit::give_back()
{
    CHECK(queue_ != nullptr && queue_->reserved_ > 0);
    --queue_->reserved_;
    queue_ = nullptr;
}

// ---- CompletionQueue ----------------------------------------------------------------------

CompletionQueue::CompletionQueue(const Layout& layout) : layout_(layout)
{
    CHECK(layout.entries >= 2 && layout.entries <= 2 * kMaxQueueEntries);
}

Permit CompletionQueue::reserve()
{
    // One slot always stays empty, so that full and empty differ (3.3.1.5).
    if (used() + reserved_ >= layout_.entries - 1) {
        return {};
    }
    ++reserved_;
    return Permit(*this);
}

void CompletionQueue::add(Permit permit, const CompletionEntry& entry)
{
    CHECK(permit.queue_ == this);
    permit.queue_ = nullptr;  // the slot stays reserved until it is posted
    pending_.push_back(entry);
}

bool CompletionQueue::post(Host& host)
{
    bool good = true;
    std::span<CompletionEntry> rest(pending_);
    while (!rest.empty()) {
        const std::size_t run = std::min<std::size_t>(rest.size(), layout_.entries - tail_);
        for (CompletionEntry& entry : rest.first(run)) {
            // The phase tag says which round of the ring wrote the entry (3.3.3.2.2).
            entry.status = static_cast<std::uint16_t>(entry.status.get() | (phase_ ? 1U : 0U));
        }
        good = write(host, tail_, rest.first(run)) && good;
        tail_ = static_cast<std::uint32_t>(tail_ + run);
        if (tail_ == layout_.entries) {
            tail_ = 0;
            phase_ = !phase_;
        }
        reserved_ -= static_cast<std::uint32_t>(run);
        rest = rest.subspan(run);
    }
    pending_.clear();
    return good;
}

bool CompletionQueue::write(Host& host, std::uint32_t slot,
                            std::span<CompletionEntry> entries) const
{
    const std::uint64_t address = layout_.base + std::uint64_t{slot} * sizeof(CompletionEntry);
    // Another virtual CPU may be polling the phase tag: the dword that holds it is stored last,
    // and stored whole.
    std::size_t length = entries.size_bytes();
    void* mapped = host.map(address, length, Direction::to_guest);
    if (mapped != nullptr && length == entries.size_bytes()) {
        auto* at = static_cast<std::byte*>(mapped);
        for (const CompletionEntry& entry : entries) {
            std::memcpy(at, &entry, kCompletionLastDword);
            std::atomic_thread_fence(std::memory_order_release);
            std::memcpy(at + kCompletionLastDword, &entry.command_id, sizeof(std::uint32_t));
            at += sizeof(CompletionEntry);
        }
        host.unmap(mapped, length, Direction::to_guest, length);
        return true;
    }
    if (mapped != nullptr) {
        host.unmap(mapped, length, Direction::to_guest, 0);
    }
    bool good = true;
    std::uint64_t at = address;
    for (const CompletionEntry& entry : entries) {
        const auto bytes = std::as_bytes(std::span(&entry, 1));
        good = host.write_memory(at, bytes.first(kCompletionLastDword)) && good;
        std::atomic_thread_fence(std::memory_order_release);
        good = host.write_memory(at + kCompletionLastDword, bytes.subspan(kCompletionLastDword)) &&
               good;
        at += sizeof(CompletionEntry);
    }
    return good;
}

bool CompletionQueue::set_head(std::uint32_t head)
{
    if (head >= layout_.entries) {
        return false;
    }
    const std::uint32_t consumed = (head + layout_.entries - head_) % layout_.entries;
    if (consumed > used()) {
        return false;  // beyond what was posted
    }
    head_ = head;
    return true;
}

// ---- SubmissionQueue ----------------------------------------------------------------------

SubmissionQueue::SubmissionQueue(std::uint16_t id, std::uint64_t base, std::uint32_t entries,
                                 CompletionQueue& completions)
    : id_(id), base_(base), entries_(entries), completions_(completions)
{
    CHECK(entries >= 2 && entries <= 2 * kMaxQueueEntries);
    ++completions_.users;
}

SubmissionQueue::~SubmissionQueue()
{
    CHECK(in_flight == 0 && completions_.users > 0);
    --completions_.users;
}

bool SubmissionQueue::set_tail(std::uint32_t tail)
{
    if (tail >= entries_) {
        return false;
    }
    tail_ = tail;
    return true;
}

int SubmissionQueue::take(Host& host, std::span<SubmissionEntry> into)
{
    const std::uint32_t end = tail_ >= head_ ? tail_ : entries_;
    const auto count = std::min<std::size_t>(into.size(), end - head_);
    if (count == 0) {
        return 0;
    }
    const std::uint64_t address = base_ + std::uint64_t{head_} * sizeof(SubmissionEntry);
    if (!host.read_memory(address, std::as_writable_bytes(into.first(count)))) {
        return -1;
    }
    head_ = static_cast<std::uint32_t>((head_ + count) % entries_);
    return static_cast<int>(count);
}

}  // namespace coppice::nvme
