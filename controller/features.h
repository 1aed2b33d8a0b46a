// Values of the features that are one dword: NVM Express Base Specification 2.0, section 5.27.1.
// Nothing is saved over a reset (SV is refused), so each has a current and a default value.
// Timestamp and Host Behavior Support carry data and are the controller's.
#pragma once

#include <cstdint>
#include <vector>

#include "controller/spec/admin.h"
#include "controller/spec/status.h"

namespace coppice::nvme {

class Features {
public:
    explicit Features(unsigned vectors) : vectors_(vectors), no_coalescing_(vectors, false) {}

    // True for the features of Get and Set Features; the data-carrying ones too.
    static bool known(std::uint8_t id);

    Checked<std::uint32_t> get(Feature id, std::uint32_t value, bool standard) const;
    // Returns completion dword 0.
    Checked<std::uint32_t> set(Feature id, std::uint32_t value);

    bool write_cache() const { return write_cache_; }
    bool health_events() const { return events_health(event_config_); }
    bool namespace_events() const { return events_namespace(event_config_); }
    std::uint32_t warning_kelvin() const { return threshold_over_; }
    void reset() { *this = Features(vectors_); }

private:
    Checked<std::uint32_t> set_threshold(std::uint32_t value);

    unsigned vectors_;
    std::uint32_t arbitration_ = 0;
    std::uint32_t threshold_over_ = kWarningKelvin;
    std::uint32_t threshold_under_ = 0;
    std::uint32_t error_recovery_ = 0;
    bool write_cache_ = true;
    std::uint32_t coalescing_ = 0;  // advisory: completions are batched as they come, undelayed
    std::vector<bool> no_coalescing_;
    std::uint32_t atomicity_ = 0;
    std::uint32_t event_config_ = 0;

public:
    static constexpr std::uint32_t kWarningKelvin = 343;
    static constexpr std::uint32_t kCriticalKelvin = 373;
    static constexpr std::uint32_t kTemperatureKelvin = 303;
};

}  // namespace coppice::nvme
