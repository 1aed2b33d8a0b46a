// Asynchronous events: NVM Express Base Specification 2.0, section 5.2.
//
// Requests from the guest are parked here without a completion slot; an event and a parked request
// meet when the type is not masked and the admin completion queue has room. Reporting an event
// masks its log page until the guest reads that page without Retain Asynchronous Event.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "controller/limits.h"
#include "controller/spec/admin.h"

namespace coppice::nvme {

struct Event {
    EventType type = EventType::error;
    std::uint8_t info = 0;
    std::uint8_t log_page = 0;
    bool operator==(const Event&) const = default;
};

class Events {
public:
    // Parks a request; false when the limit (AERL) is reached.
    bool park(std::uint16_t command_id)
    {
        if (parked_.size() >= kAsyncEvents) {
            return false;
        }
        parked_.push_back(command_id);
        return true;
    }

    // Takes a parked request away (Abort).
    bool unpark(std::uint16_t command_id) { return std::erase(parked_, command_id) != 0; }

    // An event that is already waiting is not repeated, so at most every kind waits once.
    void raise(const Event& event)
    {
        for (const Event& waiting : waiting_) {
            if (waiting == event) {
                return;
            }
        }
        waiting_.push_back(event);
    }

    // The guest has read a log page: its events may come again.
    void read(std::uint8_t log_page) { std::erase(masked_, log_page); }

    bool deliverable() const { return !parked_.empty() && next() < waiting_.size(); }

    struct Delivery {
        std::uint16_t command_id = 0;
        Event event;
    };
    // Only when deliverable.
    Delivery deliver()
    {
        const std::size_t at = next();
        const Delivery delivery{parked_.front(), waiting_[at]};
        parked_.erase(parked_.begin());
        waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(at));
        masked_.push_back(delivery.event.log_page);
        return delivery;
    }

    // Controller reset: requests and events are gone.
    void clear()
    {
        parked_.clear();
        waiting_.clear();
        masked_.clear();
    }

private:
    std::size_t next() const
    {
        for (std::size_t i = 0; i < waiting_.size(); ++i) {
            bool masked = false;
            for (const std::uint8_t page : masked_) {
                masked = masked || page == waiting_[i].log_page;
            }
            if (!masked) {
                return i;
            }
        }
        return waiting_.size();
    }

    std::vector<std::uint16_t> parked_;
    std::vector<Event> waiting_;
    std::vector<std::uint8_t> masked_;
};

}  // namespace coppice::nvme
