#include "streams.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <sstream>

#include "format/layout/layout.h"
#include "guest-tests/programs/pattern.h"
#include "guest-tests/programs/plans.h"

namespace coppice::cuts {

namespace {

constexpr std::size_t kReadBytes = 1 << 20;
constexpr std::size_t kSectorBytes = 512;
constexpr std::size_t kNumberBytes = 24;  // where the number of a block's batch ends in it

// True if the memory is what the job wrote for that place and number; as guest::make_block, without
// a second buffer.
bool is_block(const std::byte* memory, std::size_t bytes, std::uint64_t place, std::uint64_t number)
{
    using guest::get_u64;
    if (get_u64(memory) != guest::pattern_magic || get_u64(memory + 8) != place ||
        get_u64(memory + 16) != number) {
        return false;
    }
    std::uint64_t word = guest::mix(place ^ guest::mix(number ^ guest::mix(bytes)));
    for (std::size_t at = 24; at < bytes; at += 8) {
        word = word * 6364136223846793005U + 1442695040888963407U;
        if (get_u64(memory + at) != word) {
            return false;
        }
    }
    return true;
}

bool is_zero(const std::byte* memory, std::size_t bytes)
{
    return memory[0] == std::byte{0} && std::memcmp(memory, memory + 1, bytes - 1) == 0;
}

// The stream of a commit's blocks, if the bytes are such blocks; else nothing.
std::vector<std::byte> journal_bodies(std::span<const std::byte> bytes)
{
    std::vector<std::byte> result;
    for (std::size_t at = 0; at + kBlockBytes <= bytes.size(); at += kBlockBytes) {
        layout::JournalBlockHeader header;
        std::memcpy(static_cast<void*>(&header), bytes.data() + at, sizeof(header));
        if (header.magic != layout::kJournalMagic) {
            return {};
        }
        const auto body = bytes.subspan(at + sizeof(header), kBlockBytes - sizeof(header));
        result.insert(result.end(), body.begin(), body.end());
    }
    return result;
}

}  // namespace

Result<Stream> Stream::parse(const std::string& words)
{
    std::istringstream in(words);
    std::string word;
    std::getline(in, word, ':');
    StreamOptions options;
    if (word == "file") {
        options.kind = StreamOptions::Kind::file;
    } else if (word == "atomic") {
        options.kind = StreamOptions::Kind::atomic;
    } else if (word != "raw") {
        return fail(ErrorCode::invalid_argument, "no kind of stream: " + word);
    }
    std::vector<std::uint64_t> numbers;
    while (std::getline(in, word, ':')) {
        numbers.push_back(guest::number(word));
    }
    const bool last = options.kind != StreamOptions::Kind::raw;
    if (numbers.size() != (last ? 5U : 4U)) {
        return fail(ErrorCode::invalid_argument, "a stream has other numbers than " + words);
    }
    options.offset_bytes = numbers[0];
    options.length_bytes = numbers[1];
    options.first = numbers[2];
    options.seed = numbers[3];
    if (options.kind == StreamOptions::Kind::file) {
        options.file_bytes = numbers[4];
    } else if (last) {
        options.block_bytes = numbers[4];
    }
    return Stream(options);
}

std::uint64_t Stream::blocks() const
{
    const bool file = options_.kind == StreamOptions::Kind::file;
    return (file ? options_.file_bytes : options_.length_bytes) / options_.block_bytes;
}

void Stream::watch(std::size_t index, const LogEntry& entry)
{
    // Data that the journal carries stand in its blocks behind headers and records.
    std::vector<std::byte> carried = journal_bodies(entry.data);
    if (!carried.empty()) {
        // A commit goes on in another write where the ring ends.
        carried.insert(carried.begin(), journal_end_.begin(), journal_end_.end());
        journal_end_.assign(carried.end() - static_cast<std::ptrdiff_t>(kNumberBytes),
                            carried.end());
    }
    const std::span<const std::byte> bytes = carried.empty() ? entry.data : carried;
    const std::size_t step = carried.empty() ? kSectorBytes : sizeof(std::uint32_t);
    std::uint64_t newest = seen(index);
    for (std::size_t at = 0; at + kNumberBytes <= bytes.size(); at += step) {
        const std::byte* memory = bytes.data() + at;
        if (guest::get_u64(memory) != guest::pattern_magic) {
            continue;
        }
        const std::uint64_t number = guest::get_u64(memory + 16);
        if (number >= options_.first && number < options_.first + kNumbersOfAStream) {
            newest = std::max(newest, number);
        }
    }
    if (newest > seen(index)) {
        seen_[index + 1] = newest;
    }
}

void Stream::locate(const Reader& read)
{
    if (options_.kind != StreamOptions::Kind::file) {
        return;
    }
    std::vector<std::byte> buffer(kReadBytes);
    const std::uint64_t end = options_.offset_bytes + options_.length_bytes;
    for (std::uint64_t at = options_.offset_bytes; at < end; at += buffer.size()) {
        const std::size_t part = std::min<std::uint64_t>(buffer.size(), end - at);
        if (!read(at, {buffer.data(), part})) {
            return;
        }
        for (std::size_t in = 0; in + options_.block_bytes <= part; in += options_.block_bytes) {
            const std::byte* memory = buffer.data() + in;
            const std::uint64_t place = guest::get_u64(memory + 8);
            const std::uint64_t number = guest::get_u64(memory + 16);
            if (number >= options_.first && number < options_.first + kNumbersOfAStream &&
                is_block(memory, options_.block_bytes, place, number)) {
                places_[place / options_.block_bytes] = at + in;
            }
        }
    }
}

std::uint64_t Stream::seen(std::size_t entries) const
{
    const auto behind = seen_.upper_bound(entries);
    return behind == seen_.begin() ? 0 : std::prev(behind)->second;
}

std::uint64_t Stream::acknowledged(std::size_t entries) const
{
    const std::uint64_t newest = seen(entries);
    if (newest == 0) {
        return 0;
    }
    if (options_.kind == StreamOptions::Kind::atomic) {
        return (newest - 1) / kAtomicSyncEvery * kAtomicSyncEvery;
    }
    return newest == options_.first ? 0 : newest - 1;
}

std::string Stream::judge(const Reader& read, std::size_t entries) const
{
    // Before its first write the place of a stream may hold anything.
    if (seen(entries) == 0) {
        return {};
    }
    return options_.kind == StreamOptions::Kind::atomic ? judge_units(read, entries)
                                                        : judge_batches(read, entries);
}

std::string Stream::judge_batches(const Reader& read, std::size_t entries) const
{
    const std::size_t unit = options_.block_bytes;
    const std::uint64_t newest_written = seen(entries);
    std::map<std::uint64_t, std::uint64_t> must;  // block → newest acknowledged batch
    for (std::uint64_t n = options_.first; n <= acknowledged(entries); ++n) {
        for (const std::uint64_t block : guest::batch(options_.seed, n, blocks()).blocks) {
            must[block] = n;
        }
    }
    std::map<std::uint64_t, std::uint64_t> found;
    std::uint64_t newest = 0;
    std::vector<std::byte> buffer(unit);
    const bool file = options_.kind == StreamOptions::Kind::file;
    for (std::uint64_t block = 0; block < blocks(); ++block) {
        const auto place = places_.find(block);
        if (file && place == places_.end()) {
            continue;
        }
        const std::uint64_t at = file ? place->second : options_.offset_bytes + block * unit;
        if (!read(at, buffer)) {
            return fmt::format("block {} cannot be read", block);
        }
        const auto wanted = must.find(block);
        const std::uint64_t least = wanted == must.end() ? 0 : wanted->second;
        const std::uint64_t number = guest::get_u64(buffer.data()) == guest::pattern_magic
                                         ? guest::get_u64(buffer.data() + 16)
                                         : 0;
        if (number == 0 && least == 0 && (file || is_zero(buffer.data(), unit))) {
            continue;  // a file's block may have been somebody else's
        }
        if (number < least) {
            return fmt::format("block {} holds batch {}, and batch {} was acknowledged", block,
                               number, least);
        }
        if (number > newest_written || !is_block(buffer.data(), unit, block * unit, number)) {
            return fmt::format("block {} is damaged (it says batch {})", block, number);
        }
        found[block] = number;
        newest = std::max(newest, number);
    }
    return file ? std::string() : judge_order(found, newest);
}

// Nothing of a later write without all of the earlier ones. What is older than the batch of
// `newest` must be there whole; of that batch itself the first blocks.
std::string Stream::judge_order(const std::map<std::uint64_t, std::uint64_t>& found,
                                std::uint64_t newest) const
{
    const auto holds = [&found](std::uint64_t block, std::uint64_t number) {
        const auto at = found.find(block);
        return at != found.end() && at->second >= number;
    };
    if (newest == 0) {
        return {};
    }
    for (std::uint64_t n = options_.first; n < newest; ++n) {
        for (const std::uint64_t block : guest::batch(options_.seed, n, blocks()).blocks) {
            if (!holds(block, n)) {
                return fmt::format("batch {} is there, but block {} of batch {} is missing", newest,
                                   block, n);
            }
        }
    }
    bool missing = false;
    for (const std::uint64_t block : guest::batch(options_.seed, newest, blocks()).blocks) {
        const bool there = holds(block, newest);
        if (there && missing) {
            return fmt::format("block {} of batch {} is there, but an earlier one is missing",
                               block, newest);
        }
        missing = missing || !there;
    }
    return {};
}

std::string Stream::judge_units(const Reader& read, std::size_t entries) const
{
    const std::uint64_t units = options_.length_bytes / kAtomicUnitBytes;
    std::vector<std::uint64_t> found(units);
    std::uint64_t newest = 0;
    std::vector<std::byte> buffer(kAtomicUnitBytes);
    for (std::uint64_t unit = 0; unit < units; ++unit) {
        const std::uint64_t place = unit * kAtomicUnitBytes;
        if (!read(options_.offset_bytes + place, buffer)) {
            return fmt::format("unit {} cannot be read", unit);
        }
        if (is_zero(buffer.data(), buffer.size())) {
            continue;
        }
        const std::uint64_t number = guest::get_u64(buffer.data() + 16);
        for (std::size_t at = 0; at < buffer.size(); at += options_.block_bytes) {
            if (!is_block(buffer.data() + at, options_.block_bytes, place + at, number)) {
                return fmt::format("unit {} is torn: its byte {} is not of write {}", unit, at,
                                   number);
            }
        }
        if (number > seen(entries) || guest::unit_of(options_.seed, number, units) != unit) {
            return fmt::format("unit {} holds write {}, which is not its own", unit, number);
        }
        found[unit] = number;
        newest = std::max(newest, number);
    }
    const std::uint64_t complete = std::max(newest, acknowledged(entries));
    for (std::uint64_t n = 1; n <= complete; ++n) {
        const std::uint64_t unit = guest::unit_of(options_.seed, n, units);
        if (found[unit] < n) {
            return fmt::format("write {} is missing in unit {}, which holds {}; {} were "
                               "acknowledged, {} is there",
                               n, unit, found[unit], acknowledged(entries), newest);
        }
    }
    return {};
}

}  // namespace coppice::cuts
