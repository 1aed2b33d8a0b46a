// sync-write, and what can be demanded of what it wrote. sync-check: every acknowledged sync is
// there after a kill. moment-check: a snapshot taken meanwhile is one moment between two of its
// writes.
//
// sync-write runs batches without end; each odd batch is one FUA write, each even one a few writes
// and an fsync. After each it prints `ACK n` (with the --label before it). Which blocks a batch
// writes follows from seed and number alone, so the checker needs only a history file: for each
// round (a guest that was killed) one line `START LAST_ACKNOWLEDGED`. A block must hold its newest
// acknowledged write, or one of a later batch that was under way at a kill. With --prefix (a
// device, nothing in between that may reorder) what was under way must also be there as a prefix:
// nothing of a later write without all of the earlier ones.
//
// With --times, sync-write begins at batch 1 and prints `TIME n BEGUN ACKNOWLEDGED` instead, in
// nanoseconds. moment-check takes these lines and the two times of a command that froze the target:
// every batch that was acknowledged before the command was sent must be there, none that was begun
// after its answer, and what is there must be exactly a prefix of the writes, to the single block.
#include "blocks.h"
#include "pattern.h"
#include "plans.h"
#include "target.h"

#include <fstream>
#include <map>
#include <set>

namespace guest {
namespace {

// After the last `ACK` that reached the host, one more batch may have been acknowledged unseen, and
// one more begun.
constexpr std::uint64_t under_way_at_most = 2;

struct Round {
    std::uint64_t start, acknowledged;  // acknowledged == start - 1: nothing was
};

std::vector<Round> read_history(const std::string& path)
{
    std::ifstream file(path);
    if (!file) refused(path);
    std::vector<Round> rounds;
    Round round{};
    while (file >> round.start >> round.acknowledged)
        rounds.push_back(round);
    if (rounds.empty()) end(Exit::Usage, path + " holds no round");
    return rounds;
}

// The part of a target that a job has: --offset and --length, else all of it.
struct Part {
    std::uint64_t offset, bytes;
};

Part part_of(const Target& target, const Words& words)
{
    Part part{number(option(words, "--offset", "0")), 0};
    if (part.offset > target.size_bytes()) end(Exit::Usage, "--offset is behind the target");
    const std::uint64_t rest = target.size_bytes() - part.offset;
    part.bytes = number(option(words, "--length", std::to_string(rest)));
    if (part.bytes > rest) end(Exit::Usage, "--length goes beyond the target");
    return part;
}

struct Time {
    std::uint64_t begun, acknowledged;
};

// Of batch 1, 2, … A killed writer may have left its last line half written.
std::vector<Time> read_times(const std::string& path)
{
    std::ifstream file(path);
    if (!file) refused(path);
    const std::string refusal = path + " holds no times: ";
    std::vector<Time> times;
    std::string line;
    while (std::getline(file, line) && !file.eof()) {
        unsigned long long n = 0, begun = 0, acknowledged = 0;
        if (std::sscanf(line.c_str(), "TIME %llu %llu %llu", &n, &begun, &acknowledged) != 3 ||
            n != times.size() + 1 || acknowledged < begun)
            end(Exit::Usage, refusal + line);
        times.push_back({begun, acknowledged});
    }
    return times;
}

}  // namespace

int sync_write(const Words& words)
{
    const Target target(words[0], Target::Access::ReadWrite);
    const std::uint64_t start = number(words[1]);
    const std::uint64_t seed = number(option(words, "--seed", "1"));
    const std::uint64_t most = number(option(words, "--batches", "1000000"));
    const std::size_t unit = static_cast<std::size_t>(number(option(words, "--unit", "4096")));
    const std::string label = option(words, "--label", "");
    const bool times = flag(words, "--times");
    if (times && start != 1) end(Exit::Usage, "--times begins with batch 1");
    const Part part = part_of(target, words);
    const std::uint64_t blocks = part.bytes / unit;
    if (blocks < 64) end(Exit::Usage, "the target is smaller than 64 units");
    Buffer buffer(unit);
    for (std::uint64_t n = start; n < start + most; ++n) {
        const Batch now = batch(seed, n, blocks);
        const std::uint64_t begun = nanoseconds_now();
        for (const std::uint64_t block : now.blocks) {
            make_block(buffer.data(), unit, block * unit, n);
            target.write(buffer.data(), unit, part.offset + block * unit, now.fua ? RWF_DSYNC : 0);
        }
        if (!now.fua) target.sync();
        if (times)
            std::printf("TIME %llu %llu %llu\n", static_cast<unsigned long long>(n),
                        static_cast<unsigned long long>(begun),
                        static_cast<unsigned long long>(nanoseconds_now()));
        else
            std::printf("%sACK %llu\n", label.c_str(), static_cast<unsigned long long>(n));
        std::fflush(stdout);
    }
    return 0;
}

int sync_check(const Words& words)
{
    const Target target(words[0], Target::Access::Read);
    const std::vector<Round> rounds = read_history(words[1]);
    const std::uint64_t seed = number(option(words, "--seed", "1"));
    const std::size_t unit = static_cast<std::size_t>(number(option(words, "--unit", "4096")));
    const std::uint64_t blocks = target.size_bytes() / unit;
    if (blocks < 64) end(Exit::Usage, "the target is smaller than 64 units");

    std::map<std::uint64_t, std::uint64_t> must;           // block → newest acknowledged batch
    std::map<std::uint64_t, std::set<std::uint64_t>> may;  // block → batches under way at a kill
    std::uint64_t acknowledged = 0;
    for (const Round& round : rounds) {
        for (std::uint64_t n = round.start; n <= round.acknowledged; ++n, ++acknowledged)
            for (const std::uint64_t block : batch(seed, n, blocks).blocks)
                must[block] = n;
        for (std::uint64_t n = round.acknowledged + 1; n <= round.acknowledged + under_way_at_most;
             ++n)
            for (const std::uint64_t block : batch(seed, n, blocks).blocks)
                may[block].insert(n);
    }

    Buffer buffer(unit);
    std::map<std::uint64_t, std::uint64_t> seen;  // block → generation found
    std::uint64_t wrong = 0;
    for (std::uint64_t block = 0; block < blocks; ++block) {
        if (!must.contains(block) && !may.contains(block)) continue;
        target.read(buffer.data(), unit, block * unit);
        const Found found = read_block(buffer.data(), unit);
        seen[block] = found.generation;
        const std::uint64_t least = must.contains(block) ? must[block] : never_written;
        const bool legal =
            found.whole && (found.generation == never_written || found.place == block * unit) &&
            (found.generation == least || (found.generation > least && may.contains(block) &&
                                           may[block].contains(found.generation)));
        if (legal) continue;
        if (++wrong <= 5)
            std::fprintf(stderr, "block %llu: found batch %llu%s, acknowledged was %llu\n",
                         static_cast<unsigned long long>(block),
                         static_cast<unsigned long long>(found.generation),
                         found.whole ? "" : " (damaged)", static_cast<unsigned long long>(least));
    }

    if (flag(words, "--prefix") && wrong == 0) {
        // The last round's unacknowledged writes in order: once one is missing, all later ones are.
        // A block that a later write of the list covers shows only that one, so ask "at least n".
        const Round& last = rounds.back();
        bool missing = false;
        std::uint64_t missing_batch = 0;
        for (std::uint64_t n = last.acknowledged + 1; n <= last.acknowledged + under_way_at_most;
             ++n) {
            for (const std::uint64_t block : batch(seed, n, blocks).blocks) {
                const bool there = seen[block] >= n;
                if (!there && !missing) missing_batch = n;
                missing = missing || !there;
                if (!there || !missing || seen[block] != n) continue;
                std::fprintf(
                    stderr,
                    "block %llu holds batch %llu, but an earlier write of batch %llu is missing\n",
                    static_cast<unsigned long long>(block), static_cast<unsigned long long>(n),
                    static_cast<unsigned long long>(missing_batch));
                ++wrong;
            }
        }
    }
    figure("acknowledged_syncs_checked", static_cast<double>(acknowledged), "batches");
    return static_cast<int>(wrong == 0 ? Exit::Good : Exit::Wrong);
}

int moment_check(const Words& words)
{
    const Target target(words[0], Target::Access::Read);
    const std::vector<Time> times = read_times(words[1]);
    const std::uint64_t sent = number(words[2]);
    const std::uint64_t answered = number(words[3]);
    const std::uint64_t seed = number(option(words, "--seed", "1"));
    const std::size_t unit = static_cast<std::size_t>(number(option(words, "--unit", "4096")));
    const Part part = part_of(target, words);
    const std::uint64_t blocks = part.bytes / unit;
    if (blocks < 64) end(Exit::Usage, "the target is smaller than 64 units");

    std::uint64_t must = 0;  // newest batch acknowledged before the command
    std::uint64_t may = 0;   // newest batch begun before its answer
    for (std::uint64_t n = 1; n <= times.size(); ++n) {
        if (times[n - 1].acknowledged < sent) must = n;
        if (times[n - 1].begun < answered) may = n;
    }
    // Without writes on both sides of the command this would prove nothing.
    if (must < 4 || may + 4 > times.size())
        end(Exit::Usage, std::to_string(must) + " batches before and " +
                             std::to_string(times.size() - may) + " behind are too few");

    std::vector<std::uint64_t> found(blocks);
    std::uint64_t newest = 0;
    Buffer buffer(unit);
    for (std::uint64_t block = 0; block < blocks; ++block) {
        target.read(buffer.data(), unit, part.offset + block * unit);
        const Found here = read_block(buffer.data(), unit);
        if (!here.whole || (here.generation != never_written && here.place != block * unit))
            end(Exit::Wrong, "block " + std::to_string(block) + " is damaged");
        found[block] = here.generation;
        newest = std::max(newest, here.generation);
    }
    if (newest < must)
        end(Exit::Wrong, "batch " + std::to_string(newest) + " is the newest, but " +
                             std::to_string(must) + " was acknowledged before the command");
    if (newest > may)
        end(Exit::Wrong, "batch " + std::to_string(newest) + " is there, but only " +
                             std::to_string(may) + " was begun before the answer");

    // What the batches before the newest left, and of the newest its first blocks; all of them if
    // it was acknowledged.
    std::vector<std::uint64_t> expected(blocks, never_written);
    for (std::uint64_t n = 1; n < newest; ++n)
        for (const std::uint64_t block : batch(seed, n, blocks).blocks)
            expected[block] = n;
    for (const std::uint64_t block : batch(seed, newest, blocks).blocks) {
        if (found[block] != newest && newest > must) break;
        expected[block] = newest;
    }
    for (std::uint64_t block = 0; block < blocks; ++block)
        if (found[block] != expected[block])
            end(Exit::Wrong, "block " + std::to_string(block) + " holds batch " +
                                 std::to_string(found[block]) + ", the prefix up to batch " +
                                 std::to_string(newest) + " has " +
                                 std::to_string(expected[block]));
    figure("batches_acknowledged_before", static_cast<double>(must), "batches");
    figure("batches_in_the_snapshot", static_cast<double>(newest), "batches");
    figure("batches_begun_before_the_answer", static_cast<double>(may), "batches");
    return static_cast<int>(Exit::Good);
}

}  // namespace guest
