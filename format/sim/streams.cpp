#include "format/sim/streams.h"

#include <algorithm>
#include <fmt/format.h>

#include "format/sim/report.h"

namespace coppice::sim {

namespace {

constexpr VolumeId kVolume{1};
constexpr std::uint64_t kBlockSectors = kBlockBytes / kSectorBytes;
constexpr std::uint64_t kRegionSectors = 6 * kBlockSectors;

// One operation of a stream, and what its region holds when it is the last that is there.
struct Step {
    Event asked = 0;
    Event answered = kNever;
    Stamps after;
};

struct Line {
    StreamId id;
    std::uint64_t first = 0;     // sector where its region begins
    std::vector<Step> steps;     // in the order in which they were asked for and took effect
    std::vector<Flush> flushes;  // answered; those of the volume stand in each line
};

struct Story {
    std::vector<Line> lines;
    std::vector<Flush> ordered;  // ordered flushes of the volume
    bool ordered_mode = false;
};

class Teller {
public:
    Teller(FiberTasks& tasks, Store& store, EventClock& clock, Story& story)
        : tasks_(tasks), store_(store), clock_(clock), story_(story)
    {
    }

    // One fiber for each line.
    void tell(Random& random, std::uint64_t steps)
    {
        std::size_t running = story_.lines.size();
        Task* waiter = tasks_.current();
        for (Line& line : story_.lines) {
            tasks_.spawn([&, own = Random(random.next())]() mutable {
                for (std::uint64_t i = 0; i < steps; ++i) {
                    act(line, own);
                    if (own.chance(30)) {
                        tasks_.sleep_until(tasks_.now_ns() + own.between(1'000, 2'000'000));
                    }
                }
                if (--running == 0) {
                    tasks_.wake(waiter);
                }
            });
        }
        while (running != 0) {
            tasks_.suspend();
        }
    }

private:
    void act(Line& line, Random& random)
    {
        const std::uint64_t dice = random.below(100);
        if (dice < 10) {
            flush(line, random.chance(30));
        } else if (dice < 22) {
            deallocate(line, random);
        } else {
            write(line, random, dice >= 95);
        }
    }

    Step& begin(Line& line)
    {
        Step step;
        step.asked = clock_.tick();
        step.after = line.steps.empty() ? Stamps(kRegionSectors, kZeroes) : line.steps.back().after;
        line.steps.push_back(std::move(step));
        return line.steps.back();
    }

    void perform(Line& line, const Operation& operation, const char* what)
    {
        const Status done = store_.perform(operation);
        if (!done) {
            violation(fmt::format("{} of stream {} failed with {}: {}", what, line.id.value,
                                  error_name(done.error().code), done.error().text));
        }
        line.steps.back().answered = clock_.tick();
    }

    void write(Line& line, Random& random, bool fua)
    {
        const bool aligned = random.chance(60);
        const std::uint64_t unit = aligned ? kBlockSectors : 1;
        const std::uint64_t count = random.between(1, aligned ? 3 : 12) * unit;
        const std::uint64_t first = random.below((kRegionSectors - count) / unit + 1) * unit;
        Step& step = begin(line);
        Stamps stamps(count);
        for (Stamp& stamp : stamps) {
            stamp = ++last_stamp_;
        }
        std::copy(stamps.begin(), stamps.end(),
                  step.after.begin() + static_cast<std::ptrdiff_t>(first));
        std::vector<std::byte> bytes(count * kSectorBytes);
        write_stamps(stamps, bytes);
        const iovec buffer{bytes.data(), bytes.size()};
        Operation operation;
        operation.kind = Operation::Kind::write;
        operation.volume = kVolume;
        operation.stream = line.id;
        operation.offset_bytes = (line.first + first) * kSectorBytes;
        operation.buffers = {&buffer, 1};
        operation.fua = fua;
        perform(line, operation, "write");
        if (fua && !story_.ordered_mode) {
            note_flush(line, {step_asked_after(line), line.steps.back().answered});
        }
    }

    // A forced write covers itself.
    static Event step_asked_after(const Line& line) { return line.steps.back().answered + 1; }

    void deallocate(Line& line, Random& random)
    {
        const std::uint64_t count = random.between(1, 20);
        const std::uint64_t first = random.below(kRegionSectors - count + 1);
        Step& step = begin(line);
        std::fill_n(step.after.begin() + static_cast<std::ptrdiff_t>(first), count, kZeroes);
        const Range range{(line.first + first) * kSectorBytes, count * kSectorBytes};
        Operation operation;
        operation.kind = Operation::Kind::deallocate;
        operation.volume = kVolume;
        operation.stream = line.id;
        operation.ranges = {&range, 1};
        perform(line, operation, "deallocation");
    }

    static void note_flush(Line& line, const Flush& flush) { line.flushes.push_back(flush); }

    void flush(Line& line, bool whole)
    {
        Flush flush;
        flush.asked = clock_.tick();
        Operation operation;
        operation.kind = Operation::Kind::flush;
        operation.volume = kVolume;
        operation.stream = whole ? StreamId() : line.id;
        if (const Status done = store_.perform(operation); !done) {
            violation("a flush failed: " + done.error().text);
        }
        flush.answered = clock_.tick();
        if (story_.ordered_mode) {
            if (operation.stream == StreamId()) {
                story_.ordered.push_back(flush);
            }
            return;
        }
        reached(Case::stream_flushes);
        for (Line& other : story_.lines) {
            if (operation.stream == StreamId() || &other == &line) {
                note_flush(other, flush);
            }
        }
    }

    FiberTasks& tasks_;
    Store& store_;
    EventClock& clock_;
    Story& story_;
    Stamp last_stamp_ = 0;
};

bool all_zeroes(const Stamps& stamps)
{
    return std::all_of(stamps.begin(), stamps.end(), [](Stamp stamp) { return stamp == kZeroes; });
}

// How many steps of a line are there after a cut at `event`; a violation if it is no beginning.
std::uint64_t steps_there(const Line& line, const Stamps& found, Event event)
{
    Event flushed = 0;
    for (const Flush& flush : line.flushes) {
        flushed = flush.answered <= event ? std::max(flushed, flush.asked) : flushed;
    }
    std::uint64_t least = 0;
    std::uint64_t most = 0;
    for (const Step& step : line.steps) {
        least += step.answered < flushed ? 1U : 0U;
        most += step.asked <= event ? 1U : 0U;
    }
    // The latest that fits: two neighbours can leave the same contents.
    for (std::uint64_t count = most + 1; count-- > least;) {
        const bool same = count == 0 ? all_zeroes(found) : line.steps[count - 1].after == found;
        if (same) {
            return count;
        }
    }
    violation(fmt::format("stream {} holds no beginning of its {} operations that has the {} "
                          "flushed ones",
                          line.id.value, most, least));
}

// The earliest count that leaves the same contents.
std::uint64_t earliest(const Line& line, std::uint64_t count)
{
    while (count > 1 && line.steps[count - 2].after == line.steps[count - 1].after) {
        --count;
    }
    return count == 1 && all_zeroes(line.steps[0].after) ? 0 : count;
}

void judge(const Story& story, const Contents& contents, Event event)
{
    const Stamps& all = contents.volumes.at(kVolume.value).stamps;
    std::vector<std::uint64_t> there;
    for (const Line& line : story.lines) {
        const auto begin = all.begin() + static_cast<std::ptrdiff_t>(line.first);
        there.push_back(steps_there(line, Stamps(begin, begin + kRegionSectors), event));
    }
    bool reversed = false;
    Event newest_kept = 0;  // when the newest operation that is surely there was asked for
    for (std::size_t i = 0; i < there.size(); ++i) {
        const std::uint64_t kept = earliest(story.lines[i], there[i]);
        newest_kept =
            kept == 0 ? newest_kept : std::max(newest_kept, story.lines[i].steps[kept - 1].asked);
    }
    for (std::size_t i = 0; i < there.size(); ++i) {
        const Line& line = story.lines[i];
        if (there[i] == line.steps.size()) {
            continue;
        }
        const Step& lost = line.steps[there[i]];
        reversed = reversed || lost.answered < newest_kept;
        for (const Flush& cut : story.ordered) {
            if (lost.answered < cut.asked && cut.answered < newest_kept) {
                violation(fmt::format("an operation of stream {} answered at event {} is gone, and "
                                      "one asked for at {} is there, behind an ordered flush",
                                      line.id.value, lost.answered, newest_kept));
            }
        }
    }
    if (reversed) {
        reached(Case::cuts_that_reversed_streams);
    }
    if (!story.ordered.empty()) {
        reached(Case::cuts_with_an_ordered_cut);
    }
}

}  // namespace

void run_streams(const StoreKind& kind, std::uint64_t seed, std::uint64_t cuts)
{
    const Context context("streams");
    Random random(seed ^ 0x73747265616D73ULL);
    Story story;
    story.ordered_mode = random.chance(40);
    const std::size_t lines = random.between(2, 4);
    const std::uint64_t volume_bytes = lines * kRegionSectors * kSectorBytes;
    const SparseBytes image = fresh_image(kind, seed, volume_bytes);

    Plan plan;
    plan.closes = false;
    plan.disk.seed = random.next();
    plan.commit_interval_ns = random.between(100'000, 50'000'000);
    plan.tick_ns = random.between(100'000, 20'000'000);
    plan.late_write_blocks = random.below(5);
    plan.journaled_blocks = random.below(5);
    Model unused;
    const Recording recording =
        record(kind, image, std::move(unused), plan, random.next(),
               [&](FiberTasks& tasks, Store& store, Model&, EventClock& clock) {
                   if (story.ordered_mode && !store.set_flush_mode(kVolume, FlushMode::ordered)) {
                       violation("the flush mode cannot be set");
                   }
                   for (std::size_t i = 0; i < lines; ++i) {
                       Line line;
                       line.first = i * kRegionSectors;
                       if (i > 0) {
                           const Result<StreamId> id = store.open_stream(kVolume);
                           if (!id) {
                               violation("a stream cannot be opened: " + id.error().text);
                           }
                           line.id = *id;
                       }
                       story.lines.push_back(std::move(line));
                   }
                   Teller teller(tasks, store, clock, story);
                   teller.tell(random, 12);
                   for (const Line& line : story.lines) {
                       if (line.id != StreamId() && random.chance(50)) {
                           reached(Case::streams_closed);
                           if (const Status done = store.close_stream(kVolume, line.id); !done) {
                               violation("a stream cannot be closed: " + done.error().text);
                           }
                       }
                   }
               });
    std::vector<Event> events;
    for (std::uint64_t i = 0; i < cuts; ++i) {
        events.push_back(random.between(recording.opened, recording.ended));
    }
    std::sort(events.begin(), events.end());
    CutMaker maker(recording.log);
    for (const Event event : events) {
        CutSummary summary;
        const SparseBytes left = maker.cut(event, random, summary);
        const Context where(summary.text());
        reached(Case::cuts);
        examine(kind, left, event,
                [&](const Contents& contents) { judge(story, contents, event); });
    }
}

}  // namespace coppice::sim
