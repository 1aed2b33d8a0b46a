// What a guest's job wrote and what was acknowledged to it, as far as the host writes show.
//
// A job writes one after the other, and a write begins only when what came before it was
// acknowledged. So when the host has seen a block of write n, everything that the job waited for
// before n was acknowledged by then: this is how the log says what a cut must not lose.
//
//   raw      guest-blocks sync-write on a part of the disk: each batch but the last one under way
//            is acknowledged, and all of it is a prefix of the writes, also in a batch
//   file     the same in a file: the file system may reorder within a batch
//   atomic   guest-blocks atomic-write: a sync after each 16 units; each unit is of one write, and
//            all of it is a prefix of the writes
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "write_log.h"

namespace coppice::cuts {

// Reads the volume as a cut left it: false when it cannot be read.
using Reader = std::function<bool(std::uint64_t offset_bytes, std::span<std::byte> into)>;

struct StreamOptions {
    enum class Kind : std::uint8_t { raw, file, atomic };
    Kind kind = Kind::raw;
    std::uint64_t offset_bytes = 0;  // in the volume; of a file: of its partition
    std::uint64_t length_bytes = 0;  // of the part; of a file: of its partition
    std::uint64_t file_bytes = 0;    // of a file
    std::uint64_t first = 1;         // number of the first batch; streams differ in the millions
    std::uint64_t seed = 1;
    std::uint64_t block_bytes = 4096;  // of what the job wrote as one pattern
};

class Stream {
public:
    static constexpr std::uint64_t kNumbersOfAStream = 1'000'000;
    static constexpr std::uint64_t kAtomicUnitBytes = 65536;
    static constexpr std::uint64_t kAtomicSyncEvery = 16;

    explicit Stream(const StreamOptions& options) : options_(options) {}

    // KIND:OFFSET:LENGTH:FIRST:SEED[:FILE_OR_BLOCK_BYTES], numbers in bytes.
    static Result<Stream> parse(const std::string& words);

    // Looks for the stream's blocks in what entry `index` of the log wrote.
    void watch(std::size_t index, const LogEntry& entry);
    // Of a file: finds where its blocks lie, from the state at the end of the run.
    void locate(const Reader& read);

    // The newest number that the host had seen, and the newest that was acknowledged, when the
    // first `entries` of the log were done. 0: none.
    std::uint64_t seen(std::size_t entries) const;
    std::uint64_t acknowledged(std::size_t entries) const;
    std::uint64_t found_blocks() const { return places_.size(); }

    // What is wrong with the state after a cut; empty: nothing.
    std::string judge(const Reader& read, std::size_t entries) const;

private:
    std::string judge_batches(const Reader& read, std::size_t entries) const;
    std::string judge_units(const Reader& read, std::size_t entries) const;
    std::string judge_order(const std::map<std::uint64_t, std::uint64_t>& found,
                            std::uint64_t newest) const;
    std::uint64_t blocks() const;

    StreamOptions options_;
    std::map<std::size_t, std::uint64_t> seen_;      // entry → newest number from there on
    std::vector<std::byte> journal_end_;             // last bytes of the journal write before
    std::map<std::uint64_t, std::uint64_t> places_;  // block of the file → byte of the volume
};

}  // namespace coppice::cuts
