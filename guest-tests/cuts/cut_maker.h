// Makes the images that a power cut may leave behind a recorded run.
//
// Everything since the last flush is volatile: of it a cut keeps any subset, applied in the order
// of the log, and tears some writes at 512 bytes. Everything before is durable.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "guest-tests/programs/common.h"
#include "write_log.h"

namespace coppice::cuts {

struct CutSummary {
    std::size_t volatile_writes = 0;
    std::size_t kept = 0;
    std::size_t torn = 0;
    std::string text() const;
};

class CutMaker {
public:
    // With `ignore_flushes` nothing is ever durable: what a store without syncs would be left with.
    CutMaker(const WriteLog& log, SparseBytes before, bool ignore_flushes)
        : log_(log), durable_(std::move(before)), ignore_flushes_(ignore_flushes)
    {
    }

    // Goes to the moment when the first `entries` of the log are done; only forward.
    void go_to(std::size_t entries);
    // One image. Subset 0 keeps everything, 1 nothing, further ones are random; each third tears.
    SparseBytes cut(guest::Random& random, unsigned subset, CutSummary& summary) const;
    // The state with nothing lost.
    SparseBytes whole() const;

private:
    static void apply(SparseBytes& image, const LogEntry& entry);
    static void apply_torn(SparseBytes& image, const LogEntry& entry, guest::Random& random);

    const WriteLog& log_;
    SparseBytes durable_;
    bool ignore_flushes_;
    std::size_t position_ = 0;
    std::vector<std::size_t> volatile_;
};

}  // namespace coppice::cuts
