#include "format/volume/state.h"

#include <algorithm>

#include "format/base/rules.h"

namespace coppice {

namespace {

std::uint64_t seed_of(const layout::ImageHeader& header)
{
    Le64 seed;
    std::memcpy(static_cast<void*>(&seed), header.uuid.data(), sizeof(seed));
    return seed;
}

Space::Totals totals_of(const layout::Superblock& superblock)
{
    return {superblock.image_blocks, superblock.free_blocks, superblock.data_blocks,
            superblock.node_blocks};
}

}  // namespace

State::State(Disk& disk_port, const OpenOptions& open_options,
             const layout::ImageHeader& image_header, const layout::Superblock& superblock)
    : disk(disk_port),
      tasks(disk_port.tasks()),
      options(open_options),
      header(image_header),
      cache(disk_port, seed_of(image_header), open_options.cache_bytes),
      space(disk_port, cache, image_header.fixed_blocks, decode(superblock.free_space),
            totals_of(superblock), open_options.read_only),
      checksums(cache, space, decode(superblock.checksums)),
      references(cache, space, decode(superblock.references)),
      dead(cache, space, decode(superblock.dead)),
      map(cache),
      ring(disk_port, image_header.journal_start, image_header.journal_blocks,
           seed_of(image_header)),
      late(disk_port),
      catalog_root(decode(superblock.catalog)),
      range_root(decode(superblock.range_operations)),
      sequence(superblock.sequence),
      generation(superblock.generation + 1),
      durable(superblock.generation),
      durable_sequence(superblock.sequence),
      bulk(tasks),
      locks(tasks),
      released_waiters(tasks),
      punch_waiters(tasks),
      sync_waiters_(tasks)
{
    catalog.next_version = superblock.next_version;
    catalog.next_volume = superblock.next_volume;
    catalog.next_list = superblock.next_list;
    catalog.next_operation = superblock.next_operation;
}

Status State::check_writable() const
{
    if (options.read_only) {
        return fail(ErrorCode::read_only, "the image is opened read-only");
    }
    if (failure) {
        return fail(ErrorCode::poisoned,
                    "writing has stopped until the image is opened anew: " + failure->text);
    }
    return {};
}

tl::unexpected<Error> State::stop_writing(Error reason)
{
    if (!failure) {
        failure = reason;
    }
    return tl::unexpected<Error>(std::move(reason));
}

Status State::sync()
{
    const std::uint64_t mine = ++sync_asked_;
    while (syncing_) {
        sync_waiters_.wait();
    }
    COPPICE_TRY(check_writable());
    if (sync_covered_ >= mine) {
        return {};
    }
    syncing_ = true;
    const std::uint64_t covers = sync_asked_;
    Status done = disk.sync();
    syncing_ = false;
    sync_waiters_.wake_all();
    if (!done && obeys(Rule::failed_sync_stops)) {
        return stop_writing(std::move(done.error()));
    }
    COPPICE_TRY(std::move(done));
    sync_covered_ = covers;
    ++statistics.syncs;
    return {};
}

Result<std::uint64_t> State::file_blocks() const
{
    COPPICE_ASSIGN(bytes, disk.size_bytes());
    return std::max(bytes / kBlockBytes, space.tree_totals().image_blocks);
}

Status State::stopping(Status done)
{
    if (!done) {
        return stop_writing(std::move(done.error()));
    }
    return {};
}

Status State::write_late() { return stopping(late.write_out()); }

Status State::write_late(const std::vector<BlockNo>& blocks)
{
    return stopping(late.write_out(blocks));
}

Status State::make_room_for_late()
{
    constexpr std::uint64_t kMostLate = 4096;  // blocks: 16 MiB
    return stopping(late.make_room(kMostLate));
}

std::uint64_t State::node_reserve(bool frees_space) const
{
    constexpr std::uint64_t kAlways = 256;
    constexpr std::uint64_t kForFreeing = 512;
    // In the trees of the image each change may copy a leaf of its own, as long as there are leaves
    // that were not copied, and adds to one that is split now and then. A drop also touches the
    // free space of its group. The catalog is small: as if all of it were written anew.
    const std::uint64_t drops = space.pending_drops() + settling_drops;
    const std::uint64_t changes = checksums.pending_chunks() + references.pending() + drops;
    const Space::Totals& totals = space.tree_totals();
    return kAlways + (frees_space ? 0 : kForFreeing) + std::min(changes, totals.node_blocks) +
           changes / 4 + std::min(drops, totals.image_blocks / layout::kGroupBlocks) +
           catalog.item_count() / 4;
}

bool State::release_passed()
{
    constexpr std::size_t kAtOnce = before_others(64, 2);
    if (released.empty() || (!pins.passed(released.front().pin) && obeys(Rule::pinned_readers))) {
        return false;
    }
    ExtentList& extents = released.front().extents;
    for (std::size_t i = 0; i < kAtOnce && !extents.empty(); ++i) {
        space.release(extents.take_last());
    }
    released_ns = tasks.now_ns();
    if (extents.empty()) {
        released.pop_front();
    }
    // Who waits for them goes on with those that are left, or finds that there are none.
    released_waiters.wake_all();
    return true;
}

void State::release_all_passed()
{
    constexpr std::uint64_t kReleaseNs = 6'000;
    Pace pace(tasks);
    while (release_passed()) {
        pace.step(kReleaseNs);
    }
}

void State::wait_for_released()
{
    release_all_passed();
    while (!released.empty()) {
        released_waiters.wait();
        release_all_passed();
    }
}

Result<bool> State::punch_some()
{
    constexpr std::uint64_t kAtOnce = 4096;  // blocks; nobody can take them meanwhile
    while (punching) {
        punch_waiters.wait();
    }
    if (!options.punch || !space.punchable()) {
        return false;
    }
    const std::vector<Extent> extents = space.take_stale(options.punch_blocks, kAtOnce);
    if (extents.empty()) {
        tasks.yield();
        return true;
    }
    punching = true;
    std::vector<IoRequest> requests(extents.size());
    for (std::size_t i = 0; i < extents.size(); ++i) {
        requests[i].kind = IoRequest::Kind::discard;
        requests[i].offset_bytes = byte_offset(extents[i].block);
        requests[i].length_bytes = extents[i].length * kBlockBytes;
    }
    Status done = disk.run(requests);
    space.punched(extents);
    punching = false;
    punch_waiters.wake_all();
    COPPICE_TRY(std::move(done));
    for (const Extent& extent : extents) {
        statistics.punched_bytes += extent.length * kBlockBytes;
    }
    tasks.yield();  // those who waited for these blocks come first
    return true;
}

BlockLocks::Handle BlockLocks::lock(const Held& wanted)
{
    auto conflicts = [&](const Held& held) {
        return held.volume == wanted.volume && held.begin < wanted.end && wanted.begin < held.end &&
               (held.exclusive || wanted.exclusive) && obeys(Rule::partial_block_lock);
    };
    const Handle self = held_.insert(held_.end(), wanted);
    while (std::any_of(held_.begin(), self, conflicts)) {
        waiting_.wait();
    }
    return self;
}

void BlockLocks::unlock(Handle handle)
{
    held_.erase(handle);
    waiting_.wake_all();
}

}  // namespace coppice
