// atomic-limits, atomic-write, atomic-verify: writes of one unit (64 KiB) that are all there or
// not.
//
// atomic-write writes random units with RWF_ATOMIC; write n fills its unit with blocks of
// generation n. After each --sync-every writes it flushes and prints `SYNC n`. atomic-verify reads
// the units back, in the guest or on the host from a raw file as a cut left it: the blocks of a
// unit must all be of one generation (or all never written), a generation that was really written
// there, not older than what `--synced N` (the last `SYNC` that was printed before the cut) covers;
// with --prefix also: no write is missing that came before one that is there.
#include "blocks.h"
#include "pattern.h"
#include "plans.h"
#include "target.h"

#include <sys/syscall.h>

#include <algorithm>

#ifndef RWF_ATOMIC  // Linux 6.11; the headers of Debian 12 are older
#define RWF_ATOMIC 0x00000040
#endif

namespace guest {
namespace {

// The part of struct statx (include/uapi/linux/stat.h of Linux 6.11) that is asked for here.
constexpr unsigned statx_write_atomic = 0x00010000;
constexpr std::size_t statx_bytes = 256;
constexpr std::size_t statx_mask_offset = 0x00;
constexpr std::size_t statx_unit_min_offset = 0xa8;
constexpr std::size_t statx_unit_max_offset = 0xac;

std::uint32_t u32_at(const std::byte* memory, std::size_t offset)
{
    std::uint32_t value;
    std::memcpy(&value, memory + offset, sizeof value);
    return value;
}

struct Plan {
    std::uint64_t seed, unit, length, units;
    std::uint64_t unit_of(std::uint64_t write) const { return guest::unit_of(seed, write, units); }
};

Plan plan(const Words& words, const Target& target)
{
    Plan made{number(option(words, "--seed", "1")), number(option(words, "--unit", "64k")),
              std::min(number(option(words, "--length", "32m")), target.size_bytes()), 0};
    made.units = made.length / made.unit;
    if (made.units == 0) end(Exit::Usage, "the target is smaller than one unit");
    return made;
}

}  // namespace

int atomic_limits(const Words& words)
{
    std::byte facts[statx_bytes] = {};
    if (::syscall(SYS_statx, AT_FDCWD, words[0].c_str(), 0, statx_write_atomic, facts) != 0)
        refused("statx of " + words[0]);
    if ((u32_at(facts, statx_mask_offset) & statx_write_atomic) == 0)
        end(Exit::Refused,
            words[0] + ": the kernel reports no atomic writes (STATX_WRITE_ATOMIC is not set)");
    const std::uint32_t most = u32_at(facts, statx_unit_max_offset);
    figure("statx_atomic_write_unit_min", u32_at(facts, statx_unit_min_offset), "bytes");
    figure("statx_atomic_write_unit_max", most, "bytes");
    if (most >= number(option(words, "--at-least", "0"))) return 0;
    end(Exit::Wrong, "the largest atomic write is " + std::to_string(most) + " bytes");
}

int atomic_write(const Words& words)
{
    const Target target(words[0], Target::Access::ReadWrite);
    const Plan work = plan(words, target);
    const std::uint64_t writes = number(option(words, "--writes", "500"));
    const std::uint64_t sync_every = number(option(words, "--sync-every", "16"));
    const int flags = flag(words, "--plain") ? 0 : RWF_ATOMIC;
    const std::size_t block = target.block_bytes();
    Buffer buffer(work.unit);
    const double start = seconds_now();
    for (std::uint64_t n = 1; n <= writes; ++n) {
        const std::uint64_t place = work.unit_of(n) * work.unit;
        for (std::size_t at = 0; at < work.unit; at += block)
            make_block(buffer.data() + at, block, place + at, n);
        target.write(buffer.data(), work.unit, place, flags);
        if (n % sync_every != 0) continue;
        target.sync();
        std::printf("SYNC %llu\n", static_cast<unsigned long long>(n));
        std::fflush(stdout);
    }
    figure("atomic_writes", static_cast<double>(writes) / (seconds_now() - start), "1/s");
    return 0;
}

int atomic_verify(const Words& words)
{
    const Target target(words[0], Target::Access::Read);
    const Plan work = plan(words, target);
    const std::uint64_t synced = number(option(words, "--synced", "0"));
    const std::size_t block =
        number(option(words, "--block", std::to_string(target.block_bytes())));
    std::vector<std::uint64_t> found_generation(work.units, never_written);
    Buffer buffer(work.unit);
    std::uint64_t wrong = 0;
    std::uint64_t newest = 0;
    const auto complain = [&wrong](std::uint64_t unit, const std::string& what) {
        if (++wrong <= 5)
            std::fprintf(stderr, "unit %llu: %s\n", static_cast<unsigned long long>(unit),
                         what.c_str());
    };
    for (std::uint64_t unit = 0; unit < work.units; ++unit) {
        const std::uint64_t place = unit * work.unit;
        target.read(buffer.data(), work.unit, place);
        const Found first = read_block(buffer.data(), block);
        for (std::size_t at = 0; at < work.unit; at += block) {
            const Found found = read_block(buffer.data() + at, block);
            if (!found.whole || found.generation != first.generation ||
                (found.generation != never_written && found.place != place + at)) {
                complain(unit, "torn: block " + std::to_string(at / block) + " is of write " +
                                   std::to_string(found.generation) +
                                   (found.whole ? "" : " (damaged)") + ", the first of write " +
                                   std::to_string(first.generation));
                break;
            }
        }
        if (first.generation != never_written && work.unit_of(first.generation) != unit)
            complain(unit, "holds write " + std::to_string(first.generation) + " of another unit");
        found_generation[unit] = first.generation;
        newest = std::max(newest, first.generation);
    }
    // Every write up to `complete` must be there, or a later one of the same unit.
    const std::uint64_t complete = flag(words, "--prefix") ? std::max(synced, newest) : synced;
    for (std::uint64_t n = 1; n <= complete; ++n) {
        const std::uint64_t unit = work.unit_of(n);
        if (found_generation[unit] < n)
            complain(unit, "write " + std::to_string(n) + " is missing, write " +
                               std::to_string(found_generation[unit]) + " is there; synced " +
                               std::to_string(synced) + ", newest anywhere " +
                               std::to_string(newest));
    }
    figure("newest_write_found", static_cast<double>(newest), "number");
    return static_cast<int>(wrong == 0 ? Exit::Good : Exit::Wrong);
}

}  // namespace guest
