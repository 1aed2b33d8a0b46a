#include "cut_maker.h"

#include <fmt/format.h>

namespace coppice::cuts {

namespace {

constexpr std::size_t kSectorBytes = 512;
constexpr unsigned kFirstRandomSubset = 2;

}  // namespace

std::string CutSummary::text() const
{
    return fmt::format("{} of {} unsynced writes kept, {} torn", kept, volatile_writes, torn);
}

void CutMaker::apply(SparseBytes& image, const LogEntry& entry)
{
    if (entry.kind == LogEntry::Kind::discard) {
        image.zero(entry.offset_bytes, entry.length_bytes);
    } else {
        image.write(entry.offset_bytes, entry.data);
    }
}

void CutMaker::go_to(std::size_t entries)
{
    for (; position_ < entries; ++position_) {
        if (log_.entries()[position_].kind != LogEntry::Kind::flush) {
            volatile_.push_back(position_);
        } else if (!ignore_flushes_) {
            for (const std::size_t index : volatile_) {
                apply(durable_, log_.entries()[index]);
            }
            volatile_.clear();
        }
    }
}

SparseBytes CutMaker::whole() const
{
    SparseBytes image = durable_;
    for (const std::size_t index : volatile_) {
        apply(image, log_.entries()[index]);
    }
    return image;
}

// A beginning, an end, or any of the sectors.
void CutMaker::apply_torn(SparseBytes& image, const LogEntry& entry, guest::Random& random)
{
    const std::size_t sectors = entry.data.size() / kSectorBytes;
    const std::uint64_t way = random.below(3);
    const std::size_t limit = random.below(sectors + 1);
    for (std::size_t i = 0; i < sectors; ++i) {
        const bool kept = way == 0 ? i < limit : way == 1 ? i >= limit : random.below(2) == 0;
        if (kept) {
            image.write(entry.offset_bytes + i * kSectorBytes,
                        entry.data.subspan(i * kSectorBytes, kSectorBytes));
        }
    }
}

SparseBytes CutMaker::cut(guest::Random& random, unsigned subset, CutSummary& summary) const
{
    constexpr std::uint64_t percents[] = {50, 90, 10, 75, 25};
    SparseBytes image = durable_;
    summary = {.volatile_writes = volatile_.size(), .kept = 0, .torn = 0};
    const std::uint64_t percent = subset == 0   ? 100
                                  : subset == 1 ? 0
                                                : percents[random.below(std::size(percents))];
    const bool tears = subset >= kFirstRandomSubset && subset % 3 == 2;
    const std::size_t torn =
        tears && !volatile_.empty() ? random.below(volatile_.size()) : volatile_.size();
    for (std::size_t i = 0; i < volatile_.size(); ++i) {
        const LogEntry& entry = log_.entries()[volatile_[i]];
        const bool kept = random.below(100) < percent;
        if (i == torn && !entry.data.empty()) {
            apply_torn(image, entry, random);
            ++summary.torn;
        } else if (kept) {
            apply(image, entry);
            ++summary.kept;
        }
    }
    return image;
}

}  // namespace coppice::cuts
