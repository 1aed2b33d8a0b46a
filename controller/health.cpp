#include "controller/health.h"

#include "controller/features.h"

namespace coppice::nvme {

namespace {

constexpr std::uint64_t kDataUnitBytes = 512'000;  // 1,000 units of 512 bytes
constexpr std::uint64_t kNsPerHour = 3'600'000'000'000;
constexpr std::uint64_t kSpareThresholdPercent = 1;

Le128 wide(std::uint64_t value)
{
    Le128 result;
    result[0] = value;
    return result;
}

}  // namespace

HealthLog Health::log(const Capacity& capacity, std::uint64_t uptime_ns) const
{
    HealthLog log;
    // Spare is what the image can still take: a full image cannot write elsewhere any more.
    const std::uint64_t spare =
        capacity.total_bytes == 0 ? 100 : capacity.free_bytes / (capacity.total_bytes / 100 + 1);
    log.spare_percent = static_cast<std::uint8_t>(spare > 100 ? 100 : spare);
    log.spare_threshold_percent = kSpareThresholdPercent;
    std::uint8_t warning = 0;
    if (capacity.total_bytes != 0 && spare < kSpareThresholdPercent) {
        warning = static_cast<std::uint8_t>(warning | kWarningSpare);
    }
    if (capacity.read_only) {
        warning = static_cast<std::uint8_t>(warning | kWarningReadOnly);
    }
    log.critical_warning = warning;
    log.temperature_kelvin = static_cast<std::uint16_t>(Features::kTemperatureKelvin);
    log.sensors[0] = static_cast<std::uint16_t>(Features::kTemperatureKelvin);
    log.data_units_read = wide(divide_up(read_bytes_, kDataUnitBytes));
    log.data_units_written = wide(divide_up(written_bytes_, kDataUnitBytes));
    log.host_reads = wide(reads_);
    log.host_writes = wide(writes_);
    log.power_cycles = wide(1);
    log.power_on_hours = wide(uptime_ns / kNsPerHour);
    log.media_errors = wide(media_errors_);
    log.error_log_entries = wide(errors_);
    return log;
}

}  // namespace coppice::nvme
