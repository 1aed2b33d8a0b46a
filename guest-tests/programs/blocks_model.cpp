// model: a random mix of writes, reads, TRIMs, write-zeroes and flushes on a device, one at a time,
// each read compared with a model in memory; at the end everything is read. Sizes run from one
// logical block to 128 KiB and need not be aligned to 4 KiB, which is what fio's verify leaves out.
// With --no-trim the TRIMs are write-zeroes too, for devices that promise nothing about TRIM.
#include "blocks.h"
#include "pattern.h"
#include "target.h"

#include <algorithm>

namespace guest {
namespace {

class Mix {
public:
    Mix(const Target& target, std::uint64_t offset, std::uint64_t length, std::uint64_t seed,
        bool trims)
        : target_(target),
          trims_(trims),
          offset_(offset),
          unit_(target.block_bytes()),
          generations_(static_cast<std::size_t>(length / unit_), never_written),
          random_(seed),
          buffer_(max_bytes)
    {
    }

    void step()
    {
        const std::uint64_t kind = random_.below(100);
        // Short operations are the common ones; all lengths up to the bound occur.
        const std::uint64_t bound = (max_bytes / unit_) >> random_.below(6);
        const std::uint64_t count = 1 + random_.below(std::max<std::uint64_t>(bound, 1));
        const std::uint64_t first = random_.below(generations_.size() - count);
        if (kind < 45)
            write(first, count);
        else if (kind < 70)
            compare(first, count);
        else if (kind < 82)
            forget(first, count, true);
        else if (kind < 94)
            forget(first, count, false);
        else
            target_.sync();
    }
    void compare_all()
    {
        const std::uint64_t step = max_bytes / unit_;
        for (std::uint64_t first = 0; first < generations_.size(); first += step)
            compare(first, std::min<std::uint64_t>(step, generations_.size() - first));
    }

private:
    static constexpr std::size_t max_bytes = 128 * 1024;

    std::uint64_t place(std::uint64_t block) const { return offset_ + block * unit_; }

    void write(std::uint64_t first, std::uint64_t count)
    {
        ++generation_;
        for (std::uint64_t i = 0; i < count; ++i) {
            make_block(buffer_.data() + i * unit_, unit_, place(first + i), generation_);
            generations_[first + i] = generation_;
        }
        // One in eight by FUA, as a database writes its log.
        target_.write(buffer_.data(), count * unit_, place(first),
                      random_.below(8) == 0 ? RWF_DSYNC : 0);
    }
    void forget(std::uint64_t first, std::uint64_t count, bool discard)
    {
        if (discard && trims_)
            target_.discard(place(first), count * unit_);
        else
            target_.zero_out(place(first), count * unit_);
        std::fill_n(generations_.begin() + static_cast<std::ptrdiff_t>(first), count,
                    never_written);
    }
    void compare(std::uint64_t first, std::uint64_t count)
    {
        target_.read(buffer_.data(), count * unit_, place(first));
        for (std::uint64_t i = 0; i < count; ++i) {
            const Found found = read_block(buffer_.data() + i * unit_, unit_);
            const std::uint64_t expected = generations_[first + i];
            if (found.whole && found.generation == expected &&
                (expected == never_written || found.place == place(first + i)))
                continue;
            end(Exit::Wrong, "block at " + std::to_string(place(first + i)) + ": generation " +
                                 std::to_string(found.generation) +
                                 (found.whole ? "" : " (damaged)") + ", expected " +
                                 std::to_string(expected) + ", newest is " +
                                 std::to_string(generation_));
        }
    }

    const Target& target_;
    bool trims_;
    std::uint64_t offset_;
    std::uint64_t unit_;
    std::vector<std::uint64_t> generations_;
    Random random_;
    Buffer buffer_;
    std::uint64_t generation_ = 0;
};

}  // namespace

int model(const Words& words)
{
    const Target target(words[0], Target::Access::ReadWrite);
    if (!target.is_device()) end(Exit::Usage, "model works on a device");
    const std::uint64_t operations = number(option(words, "--operations", "2000"));
    const std::uint64_t seed = number(option(words, "--seed", "1"));
    const std::uint64_t offset = number(option(words, "--offset", "0"));
    std::uint64_t length = number(option(words, "--length", "64m"));
    length = std::min(length, target.size_bytes() - offset);
    // The model starts from zeroes.
    const bool trims = !flag(words, "--no-trim");
    if (trims) target.discard(offset, length);
    target.zero_out(offset, length);
    Mix mix(target, offset, length, seed, trims);
    const double start = seconds_now();
    for (std::uint64_t i = 0; i < operations; ++i)
        mix.step();
    mix.compare_all();
    figure("model_operations", static_cast<double>(operations) / (seconds_now() - start), "1/s");
    return 0;
}

}  // namespace guest
