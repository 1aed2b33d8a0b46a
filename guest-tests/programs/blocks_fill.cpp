// fill and check: a range holds one generation of blocks, and later still (or no more) does.
//
// `--place P` says that the range's first block was written for byte P: so a clone is checked
// against the place that it was cloned from.
#include "blocks.h"
#include "pattern.h"
#include "target.h"

#include <algorithm>

namespace guest {
namespace {

struct Range {
    std::uint64_t offset, length, place, generation;
    std::size_t unit;
};

Range parse(const Words& words)
{
    Range range{number(words[1]), number(words[2]), number(option(words, "--place", words[1])),
                number(option(words, "--generation", "1")),
                static_cast<std::size_t>(number(option(words, "--unit", "4096")))};
    if (range.unit < 512 || range.unit % 8 != 0 || range.offset % range.unit != 0 ||
        range.length % range.unit != 0 || range.generation == never_written)
        end(Exit::Usage,
            "offset and length must be whole units of 512 bytes or more, generation 1 or more");
    return range;
}

constexpr std::size_t piece_bytes = std::size_t{1} << 20;  // one system call's worth

}  // namespace

int fill(const Words& words)
{
    const Range range = parse(words);
    const Target target(words[0], Target::Access::ReadWrite);
    Buffer buffer(piece_bytes);
    for (std::uint64_t done = 0; done < range.length;) {
        const auto bytes =
            static_cast<std::size_t>(std::min<std::uint64_t>(piece_bytes, range.length - done));
        for (std::size_t at = 0; at < bytes; at += range.unit)
            make_block(buffer.data() + at, range.unit, range.place + done + at, range.generation);
        target.write(buffer.data(), bytes, range.offset + done);
        done += bytes;
    }
    target.sync();
    return 0;
}

int check(const Words& words)
{
    const Range range = parse(words);
    const bool zero = flag(words, "--zero");
    const Target target(words[0], Target::Access::Read);
    Buffer buffer(piece_bytes);
    std::uint64_t wrong = 0;
    for (std::uint64_t done = 0; done < range.length;) {
        const auto bytes =
            static_cast<std::size_t>(std::min<std::uint64_t>(piece_bytes, range.length - done));
        target.read(buffer.data(), bytes, range.offset + done);
        for (std::size_t at = 0; at < bytes; at += range.unit) {
            const Found found = read_block(buffer.data() + at, range.unit);
            const std::uint64_t place = range.place + done + at;
            const bool good = found.whole &&
                              (zero ? found.generation == never_written
                                    : found.generation == range.generation && found.place == place);
            if (good) continue;
            const unsigned long long where = range.offset + done + at;
            if (++wrong <= 5)
                std::fprintf(stderr, "block at %llu: %s, written for %llu as generation %llu\n",
                             where, found.whole ? "whole" : "damaged",
                             static_cast<unsigned long long>(found.place),
                             static_cast<unsigned long long>(found.generation));
        }
        done += bytes;
    }
    if (wrong == 0) return 0;
    const unsigned long long blocks = range.length / range.unit;
    std::fprintf(stderr, "%llu of %llu blocks are not as they should be\n",
                 static_cast<unsigned long long>(wrong), blocks);
    return static_cast<int>(Exit::Wrong);
}

}  // namespace guest
