#include "controller/features.h"

#include "controller/limits.h"

namespace coppice::nvme {

bool Features::known(std::uint8_t id)
{
    switch (static_cast<Feature>(id)) {
    case Feature::arbitration:
    case Feature::power_management:
    case Feature::temperature_threshold:
    case Feature::error_recovery:
    case Feature::volatile_write_cache:
    case Feature::number_of_queues:
    case Feature::interrupt_coalescing:
    case Feature::interrupt_vector:
    case Feature::write_atomicity:
    case Feature::async_events:
    case Feature::timestamp:
    case Feature::host_behavior: return true;
    }
    return false;
}

Checked<std::uint32_t> Features::get(Feature id, std::uint32_t value, bool standard) const
{
    const Features defaults(standard ? vectors_ : 0);
    const Features& from = standard ? defaults : *this;
    switch (id) {
    case Feature::arbitration: return from.arbitration_;
    case Feature::power_management: return 0;
    case Feature::temperature_threshold:
        if (threshold_sensor(value) != 0 || threshold_type(value) > 1) {
            return refuse(StatusCode::invalid_field);
        }
        return threshold_type(value) == 0 ? from.threshold_over_ : from.threshold_under_;
    case Feature::error_recovery: return from.error_recovery_;
    case Feature::volatile_write_cache: return from.write_cache_ ? 1U : 0U;
    case Feature::number_of_queues: return make_queue_counts(kMaxIoQueues - 1, kMaxIoQueues - 1);
    case Feature::interrupt_coalescing: return from.coalescing_;
    case Feature::interrupt_vector:
        if (vector_number(value) >= vectors_) {
            return refuse(StatusCode::invalid_field);
        }
        return make_vector_config(vector_number(value), from.no_coalescing_[vector_number(value)]);
    case Feature::write_atomicity: return from.atomicity_;
    case Feature::async_events: return from.event_config_;
    case Feature::timestamp:
    case Feature::host_behavior: break;  // carry data: the controller's
    }
    return refuse(StatusCode::invalid_field);
}

Checked<std::uint32_t> Features::set_threshold(std::uint32_t value)
{
    // Sensor 0 is the composite temperature, Fh all that there are (5.27.1.4).
    const std::uint32_t sensor = threshold_sensor(value);
    if ((sensor != 0 && sensor != 0xf) || threshold_type(value) > 1) {
        return refuse(StatusCode::invalid_field);
    }
    (threshold_type(value) == 0 ? threshold_over_ : threshold_under_) = threshold_kelvin(value);
    return 0;
}

Checked<std::uint32_t> Features::set(Feature id, std::uint32_t value)
{
    switch (id) {
    case Feature::arbitration: arbitration_ = value; return 0;
    case Feature::power_management:
        if (power_state(value) != 0) {  // there is one
            return refuse(StatusCode::invalid_field);
        }
        return 0;
    case Feature::temperature_threshold: return set_threshold(value);
    case Feature::error_recovery:
        if (recovery_dulbe(value)) {  // NSFEAT says that deallocated blocks are read as zeroes
            return refuse(StatusCode::invalid_field);
        }
        error_recovery_ = value;
        return 0;
    case Feature::volatile_write_cache: write_cache_ = cache_enable(value); return 0;
    case Feature::number_of_queues:
        if (wanted_sqs_z(value) == 0xffff || wanted_cqs_z(value) == 0xffff) {
            return refuse(StatusCode::invalid_field);  // 5.27.1.5
        }
        return make_queue_counts(kMaxIoQueues - 1, kMaxIoQueues - 1);
    case Feature::interrupt_coalescing: coalescing_ = bits<15, 0>(value); return 0;
    case Feature::interrupt_vector:
        if (vector_number(value) >= vectors_) {
            return refuse(StatusCode::invalid_field);
        }
        no_coalescing_[vector_number(value)] = vector_no_coalescing(value);
        return 0;
    case Feature::write_atomicity: atomicity_ = bits<0, 0>(value); return 0;
    case Feature::async_events: event_config_ = bits<8, 0>(value); return 0;
    case Feature::timestamp:
    case Feature::host_behavior: break;
    }
    return refuse(StatusCode::invalid_field);
}

}  // namespace coppice::nvme
