#include "format/volume/checkpoint.h"

#include <algorithm>

#include "format/base/check.h"
#include "format/base/rules.h"

namespace coppice {

namespace {

// What these take of a processor, about: a drop that frees, one that is recorded as dead, a look at
// something in memory.
constexpr std::uint64_t kDropNs = 150;
constexpr std::uint64_t kDeadNs = 2'500;
constexpr std::uint64_t kLookNs = 50;
// Dirty nodes, and what was dropped, at which a checkpoint begins by itself: 64 MiB of nodes, so
// many drops to be settled, 256 MiB of data that only a checkpoint lets be used again: by so much,
// about, an image is larger than what is in it, while it is written over.
constexpr std::uint64_t kDirtyNodes = 16384;
constexpr std::uint64_t kPendingDrops = 65536;
constexpr std::uint64_t kPendingBlocks = 65536;
// Operations forgotten between two chances for others to run.
constexpr std::size_t kContainedAtOnce = before_others(1024, 3);

}  // namespace

// What changed since the last freeze, as a part of what begins a checkpoint.
double Checkpoint::changed_part() const
{
    const auto part = [](std::uint64_t of, std::uint64_t all) {
        return static_cast<double>(of) / static_cast<double>(all);
    };
    return std::max({part(state_.cache.dirty_count(state_.generation), kDirtyNodes),
                     part(state_.space.pending_drops(), kPendingDrops),
                     part(state_.space.pending_drop_blocks(), kPendingBlocks)});
}

bool Checkpoint::due() const
{
    return changed_part() > 1 || state_.ring.used_blocks() * 2 > state_.ring.blocks();
}

void Checkpoint::make_way()
{
    constexpr double kMostTurns = 12;
    const double least = removing_ ? 0 : 1;
    for (double turns = std::min(least + 8 * changed_part(), kMostTurns); turns >= 1 && under_way_;
         --turns) {
        state_.tasks.yield();
    }
}

bool Checkpoint::needed() const { return state_.sequence > state_.durable_sequence || removable(); }

// Everything up to here belongs to the checkpoint; nothing in here suspends.
Frozen Checkpoint::freeze()
{
    Frozen frozen;
    removals_.begin();
    frozen.generation = state_.generation;
    frozen.sequence = state_.sequence;
    frozen.catalog = state_.catalog;
    frozen.journal = state_.ring.head();
    frozen.drops = state_.space.take_drops(frozen.generation);
    state_.settling_drops = frozen.drops.size();
    state_.generation = state_.generation + 1;
    ++begun_;
    return frozen;
}

// One that began after the call will do: of many who wait for their turn the first serves all.
Status Checkpoint::run()
{
    if (!needed()) {
        return {};  // an image that nothing changed is not written
    }
    const Sequence wanted = state_.sequence;
    const std::uint64_t begun = begun_;
    COPPICE_TRY(begin_writing_());  // waits for the committer, who may wait for our turn
    LockGuard turn(turn_);
    COPPICE_TRY(state_.check_writable());
    if (begun_ != begun || (state_.durable_sequence >= wanted && !removable())) {
        return {};
    }
    under_way_ = true;
    Frozen frozen = freeze();
    Status written = write(frozen);
    under_way_ = false;
    removing_ = false;
    if (!written) {
        return state_.stop_writing(std::move(written.error()));
    }
    return {};
}

Status Checkpoint::write(Frozen& frozen)
{
    COPPICE_TRY(state_.cache.write_dirty(frozen.generation, true));
    fill_map_checksums(frozen.catalog);
    fill_map_checksums(state_.catalog);
    COPPICE_TRY(count_space(frozen));
    COPPICE_TRY(write_catalog(frozen));
    COPPICE_TRY(removals_.write_operations(frozen));
    COPPICE_TRY(state_.space.write_tree(frozen.generation, frozen.sequence));
    return publish(frozen);
}

void Checkpoint::fill_checksum(NodeRef& reference) const
{
    if (reference && reference.checksum == 0) {
        const Node* node = state_.cache.find(reference.block);
        CHECK(node != nullptr);
        if (!node->dirty) {
            reference.checksum = node->checksum();
        }
    }
}

void Checkpoint::fill_map_checksums(Catalog& catalog) const
{
    for (auto& [id, version] : catalog.versions) {
        fill_checksum(version.map);
    }
}

// Settles references, deaths and removals, and what is free after them.
Status Checkpoint::count_space(Frozen& frozen)
{
    COPPICE_TRY(state_.references.write(frozen.generation, frozen.sequence));
    COPPICE_TRY(settle_drops(frozen));
    removing_ = true;
    COPPICE_TRY(removals_.step(frozen));
    removing_ = false;
    COPPICE_TRY(state_.checksums.write(frozen.generation, frozen.sequence));
    Pace pace(state_.tasks);
    while (!frozen.freed.empty()) {
        for (const Extent& extent : frozen.freed.take()) {
            state_.space.free_data(frozen.generation, extent);
            pace.step(kLookNs);
        }
    }
    return {};
}

// What left a version: free if the version alone had it, else dead (FORMAT.md, "Who owns a block").
// Of a version that has no child any more, and is being removed, nothing is recorded.
Status Checkpoint::settle_drops(Frozen& frozen)
{
    const Catalog& catalog = frozen.catalog;
    std::set<VersionId> leaving;
    for (const auto& [id, removal] : catalog.removals) {
        if (catalog.children(id).empty()) {
            leaving.insert(id);
        }
    }
    Pace pace(state_.tasks);
    std::vector<Drop> drops;
    drops.reserve(frozen.drops.size());
    while (!frozen.drops.empty()) {
        for (const Drop& drop : frozen.drops.take()) {
            drops.push_back(drop);
            pace.step(kLookNs);
        }
    }
    sort_in_steps(pace, drops, [](const Drop& a, const Drop& b) {
        return std::tie(a.list, a.birth, a.block) < std::tie(b.list, b.birth, b.block);
    });
    const std::uint64_t reference_ns = state_.references.root() ? kDeadNs : kDropNs;
    for (const Drop& drop : drops) {
        const Version& owner = catalog.versions.at(catalog.lists.at(drop.list).version);
        if (drop.birth > catalog.parent_sequence(owner)) {
            COPPICE_TRY(drop_reference(state_, frozen, drop));
            pace.step(reference_ns);
        } else if (!leaving.contains(owner.id)) {
            COPPICE_TRY(state_.dead.insert(frozen.generation, frozen.sequence, drop));
            pace.step(kDeadNs);
        }
    }
    state_.settling_drops = 0;
    return {};
}

Status Checkpoint::write_catalog(Frozen& frozen)
{
    Tree tree(state_.cache, kCatalogShape);
    if (!catalog_known_) {
        for (;;) {
            CacheUse use(state_.cache);
            written_catalog_.clear();
            Cursor cursor(state_.cache, kCatalogShape, state_.catalog_root);
            auto missing = cursor.seek(Key());
            while (!missing && cursor.valid()) {
                written_catalog_[cursor.key()] = cursor.get<layout::CatalogItem>();
                missing = cursor.next();
            }
            if (!missing) {
                break;
            }
            COPPICE_TRY(tree.load(*missing));
        }
        catalog_known_ = true;
    }
    std::map<Key, layout::CatalogItem> wanted;
    for (const Catalog::Item& item : frozen.catalog.items()) {
        wanted[item.key] = item.bytes;
    }
    const auto edit = [&](const Key& key, const layout::CatalogItem* item) {
        return edit_item(state_, frozen, tree, state_.catalog_root, key,
                         reinterpret_cast<const std::byte*>(item));
    };
    for (const auto& [key, item] : wanted) {
        auto found = written_catalog_.find(key);
        if (found == written_catalog_.end() ||
            std::memcmp(&found->second, &item, sizeof(item)) != 0) {
            COPPICE_TRY(edit(key, &item));
        }
    }
    for (const auto& [key, item] : written_catalog_) {
        if (wanted.count(key) == 0) {
            COPPICE_TRY(edit(key, nullptr));
        }
    }
    written_catalog_ = std::move(wanted);
    return {};
}

// Writes the nodes that are left and the superblock, and lets go what it replaces.
Status Checkpoint::publish(Frozen& frozen)
{
    // Nothing suspends between the end of write_tree and here: the totals are those of the tree.
    const Space::Totals totals = state_.space.tree_totals();
    ExtentList freed = state_.space.take_freed(frozen.generation);
    COPPICE_TRY(state_.cache.write_dirty(frozen.generation, false));

    auto memory = std::make_unique<layout::Superblock>();  // not on the task's stack
    layout::Superblock& superblock = *memory;
    superblock.magic = layout::kSuperblockMagic;
    superblock.major_version = layout::kMajorVersion;
    superblock.minor_version = layout::kMinorVersion;
    superblock.generation = frozen.generation.value;
    superblock.sequence = frozen.sequence.value;
    superblock.uuid = state_.header.uuid;
    superblock.incompatible = state_.header.incompatible;
    superblock.read_only_compatible = state_.header.read_only_compatible;
    superblock.compatible = state_.header.compatible;
    superblock.journal_start = state_.header.journal_start;
    superblock.journal_blocks = state_.header.journal_blocks;
    superblock.superblock_near = state_.header.superblock_near;
    superblock.superblock_far = state_.header.superblock_far;
    superblock.fixed_blocks = state_.header.fixed_blocks;
    superblock.image_blocks = totals.image_blocks;
    superblock.free_blocks = totals.free_blocks;
    superblock.data_blocks = totals.data_blocks;
    superblock.node_blocks = totals.node_blocks;
    superblock.journal_commit = frozen.journal.commit.value;
    superblock.journal_position = frozen.journal.block;
    superblock.journal_chain = frozen.journal.chain;
    superblock.journal_synced = state_.ring.synced().value;
    superblock.next_version = frozen.catalog.next_version;
    superblock.next_volume = frozen.catalog.next_volume;
    superblock.next_list = frozen.catalog.next_list;
    superblock.next_operation = frozen.catalog.next_operation;
    superblock.written_unix_ns = state_.tasks.unix_ns();
    auto root = [&](NodeRef& reference) {
        fill_checksum(reference);
        return encode(reference);
    };
    superblock.catalog = root(state_.catalog_root);
    superblock.checksums = root(state_.checksums.mutable_root());
    superblock.references = root(state_.references.mutable_root());
    superblock.dead = root(state_.dead.mutable_root());
    superblock.free_space = root(state_.space.mutable_root());
    superblock.range_operations = root(state_.range_root);

    if (obeys(Rule::late_data_before_superblock)) {
        COPPICE_TRY(state_.write_late());
    }
    // Before: nodes, and the data of everything that took effect. After: what reaches them.
    if (obeys(Rule::sync_before_superblock)) {
        COPPICE_TRY(state_.sync());
    }
    COPPICE_TRY(state_.check_writable());
    COPPICE_TRY(write_superblock(state_.disk, superblock));
    // Before: the superblock. After: re-use of what only the one before it reached.
    if (obeys(Rule::sync_before_release)) {
        COPPICE_TRY(state_.sync());
    }
    ++state_.statistics.checkpoints;
    state_.durable = frozen.generation;
    state_.durable_sequence = frozen.sequence;
    state_.ring.move_tail(frozen.journal);
    state_.cache.release_kept(frozen.generation);
    // None of these is written into the journal any more when its blocks may be used again.
    while (state_.domains.contained(frozen.sequence, kContainedAtOnce)) {
        state_.tasks.yield();
    }
    state_.released.push_back({state_.pins.newest(), std::move(freed)});
    state_.release_all_passed();
    return {};
}

}  // namespace coppice
