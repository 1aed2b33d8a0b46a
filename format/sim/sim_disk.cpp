#include "format/sim/sim_disk.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fmt/format.h>

#include "format/base/check.h"
#include "format/layout/layout.h"
#include "format/sim/report.h"

namespace coppice::sim {

namespace {

using Kind = IoRequest::Kind;

bool changes_bytes(Kind kind)
{
    return kind == Kind::write || kind == Kind::discard || kind == Kind::truncate;
}

const char* kind_name(Kind kind)
{
    switch (kind) {
    case Kind::read: return "read";
    case Kind::write: return "write";
    case Kind::allocate: return "allocate";
    case Kind::discard: return "discard";
    case Kind::sync: return "sync";
    case Kind::truncate: return "truncate";
    }
    return "?";
}

// The bytes [first, end) that a request may change.
std::pair<std::uint64_t, std::uint64_t> extent_of(const IoRequest& request)
{
    if (request.kind == Kind::truncate) {
        return {request.offset_bytes, UINT64_MAX};
    }
    return {request.offset_bytes, request.offset_bytes + request.length_bytes};
}

std::vector<std::byte> gather(const IoRequest& request)
{
    std::vector<std::byte> data;
    data.reserve(request.length_bytes);
    for (const iovec& buffer : request.buffers) {
        const auto* bytes = static_cast<const std::byte*>(buffer.iov_base);
        data.insert(data.end(), bytes, bytes + buffer.iov_len);
    }
    return data;
}

// Applies what a request did (or, for a dropped one, nothing) to an image that a cut leaves.
void apply(SparseBytes& image, const LoggedRequest& request)
{
    switch (request.kind) {
    case Kind::write: image.write(request.offset_bytes, request.data); break;
    case Kind::allocate: image.allocate(request.offset_bytes, request.length_bytes); break;
    case Kind::discard:
        if (request.discards) {
            image.zero(request.offset_bytes, request.length_bytes);
        }
        break;
    case Kind::truncate: image.truncate(request.offset_bytes); break;
    case Kind::read:
    case Kind::sync: break;
    }
}

void apply_torn(SparseBytes& image, const LoggedRequest& request, Random& random)
{
    const std::size_t sectors = request.data.size() / kSectorBytes;
    const std::uint64_t shape = random.below(5);
    const std::uint64_t at = random.between(1, std::max<std::size_t>(sectors, 2) - 1);
    const std::uint64_t pages = random.next();
    for (std::size_t i = 0; i < sectors; ++i) {
        bool keep = false;
        switch (shape) {
        case 0: keep = i < at; break;
        case 1: keep = i >= at; break;
        case 2: keep = random.chance(50); break;
        case 3: keep = i != at; break;
        default: keep = (pages >> (i / 8 % 64) & 1) != 0; break;  // by pages of the host's cache
        }
        if (keep) {
            image.write(request.offset_bytes + i * kSectorBytes,
                        std::span(request.data).subspan(i * kSectorBytes, kSectorBytes));
        }
    }
}

}  // namespace

SparseBytes HostFile::seen() const
{
    SparseBytes bytes = durable;
    for (const LoggedRequest& request : cached) {
        apply(bytes, request);
    }
    return bytes;
}

SimDisk::SimDisk(FiberTasks& tasks, EventClock& clock, const HostFile& host,
                 const SimDiskOptions& options)
    : Disk(tasks),
      fibers_(tasks),
      clock_(clock),
      options_(options),
      random_(options.seed),
      file_(host.seen())
{
    file_.set_limit_bytes(options.limit_bytes);
    log_.start = host.durable;
    for (const LoggedRequest& request : host.cached) {
        log_.completions.push_back(log_.requests.size());
        log_.requests.push_back(request);
        log_.requests.back().submitted = 0;
        log_.requests.back().completed = 0;
    }
}

void SimDisk::start(std::span<IoRequest> requests)
{
    for (IoRequest& request : requests) {
        start_one(request);
    }
}

void SimDisk::forbid_overlap(const IoRequest& request) const
{
    if (!changes_bytes(request.kind)) {
        return;
    }
    const auto [first, end] = extent_of(request);
    for (const UnderWay& other : under_way_) {
        if (!changes_bytes(other.request->kind)) {
            continue;
        }
        const auto [other_first, other_end] = extent_of(*other.request);
        if (first < other_end && other_first < end) {
            violation(fmt::format("a {} of bytes {} to {} was sent while a {} of {} to {} is "
                                  "under way",
                                  kind_name(request.kind), first, end,
                                  kind_name(other.request->kind), other_first, other_end));
        }
    }
}

void SimDisk::start_one(IoRequest& request)
{
    if (request.kind == Kind::read || request.kind == Kind::write) {
        std::uint64_t length = 0;
        for (const iovec& buffer : request.buffers) {
            length += buffer.iov_len;
        }
        if (length != request.length_bytes) {
            violation(fmt::format("a {} of {} bytes at {} has buffers of {} bytes",
                                  kind_name(request.kind), request.length_bytes,
                                  request.offset_bytes, length));
        }
    }
    if (request.offset_bytes % kBlockBytes != 0 || request.length_bytes % kBlockBytes != 0) {
        violation(fmt::format("a {} at {} of {} bytes is not aligned", kind_name(request.kind),
                              request.offset_bytes, request.length_bytes));
    }
    forbid_overlap(request);

    std::size_t logged = SIZE_MAX;
    const Event event = clock_.tick();
    if (request.kind != Kind::read) {
        logged = log_.requests.size();
        LoggedRequest entry;
        entry.kind = request.kind;
        entry.offset_bytes = request.offset_bytes;
        entry.length_bytes = request.length_bytes;
        entry.submitted = event;
        if (request.kind == Kind::write) {
            entry.data = gather(request);
        }
        entry.discards = random_.chance(70);
        syncs_ += request.kind == Kind::sync ? 1 : 0;
        entry.failed =
            (request.kind == Kind::sync && syncs_ >= options_.failing_syncs_from &&
             syncs_ - options_.failing_syncs_from < options_.failing_syncs) ||
            (request.kind == Kind::write && random_.below(1000) < options_.failing_permille);
        log_.requests.push_back(std::move(entry));
    }
    if (tracing()) {
        trace(fmt::format("{:6} disk {} block {} + {}", event, kind_name(request.kind),
                          request.offset_bytes / 4096, request.length_bytes / 4096));
    }

    std::uint64_t delay = random_.between(options_.shortest_ns, options_.longest_ns);
    if (random_.chance(options_.slow_percent)) {
        delay *= random_.between(1, 100);
    }
    if (options_.duration_ns) {
        delay = options_.duration_ns(request);
    }
    under_way_.push_back({&request, logged});
    fibers_.call_at(fibers_.now_ns() + delay,
                    [this, &request, logged] { finish(request, logged); });
}

int SimDisk::perform(IoRequest& request, LoggedRequest& logged)
{
    if (logged.failed) {
        return request.kind == Kind::write ? fail_write(request, logged) : -EIO;
    }
    if (request.kind == Kind::write && gather(request) != logged.data) {
        violation(fmt::format("the buffer of a write at byte {} changed while it was under way",
                              request.offset_bytes));
    }
    if (request.kind == Kind::discard && !logged.discards) {
        return 0;
    }
    const int result = file_.perform(request);
    logged.failed = result != 0;
    return result;
}

// From the log's point of view a write of what is then there.
int SimDisk::fail_write(const IoRequest& request, LoggedRequest& logged)
{
    const std::uint64_t kept = random_.below(request.length_bytes / kSectorBytes) * kSectorBytes;
    std::vector<std::byte> rest(request.length_bytes - kept);
    file_.bytes().read(request.offset_bytes + kept, rest);
    std::copy(rest.begin(), rest.end(), logged.data.begin() + static_cast<std::ptrdiff_t>(kept));
    iovec buffer{logged.data.data(), logged.data.size()};
    IoRequest partial = request;
    partial.buffers = {&buffer, 1};
    logged.failed = file_.perform(partial) != 0;
    return -EIO;
}

void SimDisk::finish(IoRequest& request, std::size_t logged)
{
    std::erase_if(under_way_,
                  [&request](const UnderWay& entry) { return entry.request == &request; });
    const Event event = clock_.tick();
    int result = 0;
    if (request.kind == Kind::read) {
        result = random_.below(1000) < options_.failing_permille ? -EIO : file_.perform(request);
    } else {
        LoggedRequest& entry = log_.requests[logged];
        result = perform(request, entry);
        entry.completed = event;
        log_.completions.push_back(logged);
    }
    if (tracing()) {
        trace(fmt::format("{:6} disk {} block {} done: {}", event, kind_name(request.kind),
                          request.offset_bytes / 4096, result));
    }
    complete(request, result);
}

std::string CutSummary::text() const
{
    return fmt::format("cut at event {} ({} of {} volatile requests kept, {} torn, {} under way)",
                       event, kept, volatile_requests, torn, under_way);
}

std::vector<std::size_t> CutMaker::volatile_at(Event event)
{
    CHECK(event >= last_event_);
    last_event_ = event;

    Event synced = 0;  // what completed before this is durable
    for (const std::size_t index : log_.completions) {
        const LoggedRequest& request = log_.requests[index];
        if (request.completed > event) {
            break;
        }
        if (request.kind == Kind::sync && request.failed) {
            break;
        }
        if (request.kind == Kind::sync) {
            synced = std::max(synced, request.submitted);
        }
    }
    while (next_durable_ < log_.completions.size()) {
        const LoggedRequest& request = log_.requests[log_.completions[next_durable_]];
        if (request.completed >= synced) {
            break;
        }
        if (!request.failed) {
            apply(durable_, request);
        }
        ++next_durable_;
    }

    std::vector<std::size_t> found;
    for (std::size_t i = next_durable_; i < log_.completions.size(); ++i) {
        const LoggedRequest& request = log_.requests[log_.completions[i]];
        if (request.completed > event) {
            break;
        }
        if (request.kind != Kind::sync && !request.failed) {
            found.push_back(log_.completions[i]);
        }
    }
    for (std::size_t i = 0; i < log_.requests.size(); ++i) {
        const LoggedRequest& request = log_.requests[i];
        if (request.submitted > event) {
            break;
        }
        if (request.completed > event && request.kind != Kind::sync && !request.failed) {
            found.push_back(i);
        }
    }
    return found;
}

SparseBytes CutMaker::cut(Event event, Random& random, CutSummary& summary)
{
    const std::vector<std::size_t> candidates = volatile_at(event);
    const std::size_t count = candidates.size();
    std::vector<bool> keep(count, false);
    const auto some = [&](unsigned percent) {
        for (std::size_t i = 0; i < count; ++i) {
            keep[i] = random.chance(percent);
        }
    };
    // Bugs hide in special subsets as much as in even ones: all but one, one alone, a beginning.
    if (count != 0) {
        const std::size_t special = static_cast<std::size_t>(random.below(count));
        switch (random.below(9)) {
        case 0: break;
        case 1: keep.assign(count, true); break;
        case 2: some(10); break;
        case 3: some(90); break;
        case 4:
            keep.assign(count, true);
            keep[special] = false;
            break;
        case 5: keep[special] = true; break;
        case 6: std::fill_n(keep.begin(), special, true); break;
        case 7:
            std::fill(keep.begin() + static_cast<std::ptrdiff_t>(special), keep.end(), true);
            break;
        default: some(50); break;
        }
    }

    // How many writes are torn: none, one, or each of them perhaps.
    const std::uint64_t tears = random.below(3);
    std::size_t torn_one = SIZE_MAX;
    if (tears == 1) {
        std::vector<std::size_t> kept;
        for (std::size_t i = 0; i < count; ++i) {
            if (keep[i] && log_.requests[candidates[i]].kind == Kind::write) {
                kept.push_back(i);
            }
        }
        if (!kept.empty()) {
            torn_one = kept[random.below(kept.size())];
        }
    }

    summary = {};
    summary.event = event;
    summary.volatile_requests = count;
    SparseBytes image = durable_;
    for (std::size_t i = 0; i < count; ++i) {
        const LoggedRequest& request = log_.requests[candidates[i]];
        const bool superblock = request.kind == Kind::write &&
                                request.offset_bytes / kBlockBytes < 16 &&
                                request.offset_bytes / kBlockBytes >= layout::kSuperblockNear;
        summary.under_way += request.completed > event ? 1 : 0;
        if (!keep[i]) {
            summary.lost_superblock = summary.lost_superblock || superblock;
            const std::uint64_t end = request.offset_bytes + request.length_bytes;
            if (request.kind == Kind::write && random.chance(50)) {
                image.truncate(std::max(image.size_bytes(), end));
            }
            continue;
        }
        ++summary.kept;
        const bool torn = request.kind == Kind::write && request.data.size() > kSectorBytes &&
                          (i == torn_one || (tears == 2 && random.chance(30)));
        if (torn) {
            ++summary.torn;
            apply_torn(image, request, random);
        } else {
            apply(image, request);
        }
    }
    return image;
}

HostFile CutMaker::kill(Event event, Random& random)
{
    HostFile host;
    for (const std::size_t index : volatile_at(event)) {
        LoggedRequest request = log_.requests[index];
        if (request.completed > event) {
            const std::uint64_t done = random.below(3);
            if (done == 0) {
                continue;
            }
            if (done == 1 && request.kind == Kind::write) {
                const std::size_t sectors = request.data.size() / kSectorBytes;
                request.data.resize(random.below(sectors + 1) * kSectorBytes);
                request.length_bytes = request.data.size();
            }
        }
        host.cached.push_back(std::move(request));
    }
    host.durable = durable_;
    return host;
}

SparseBytes CutMaker::cut(Event event, const std::function<bool(LoggedRequest&)>& keep)
{
    const std::vector<std::size_t> candidates = volatile_at(event);
    SparseBytes image = durable_;
    for (const std::size_t index : candidates) {
        LoggedRequest request = log_.requests[index];
        if (keep(request)) {
            apply(image, request);
        }
    }
    return image;
}

}  // namespace coppice::sim
