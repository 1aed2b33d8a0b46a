#include "format/volume/checkpoint.h"

#include <algorithm>

#include "format/base/check.h"
#include "format/base/rules.h"

namespace coppice {

namespace {

// Versions removed with one checkpoint at most; the rest follows with the next.
constexpr std::size_t kRemovalsAtOnce = 16;
// Dead records taken out between two chances for others to run.
constexpr std::size_t kDeadBatch = before_others(64, 2);
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

bool unneeded(const Version& version)
{
    return version.volume == VolumeId() && version.held_blocks == 0 && !version.head;
}

}  // namespace

bool Checkpoint::removable() const
{
    return std::any_of(
        state_.catalog.versions.begin(), state_.catalog.versions.end(), [&](const auto& entry) {
            return unneeded(entry.second) && state_.catalog.children(entry.first).size() <= 1;
        });
}

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
    for (double turns = std::min(1 + 8 * changed_part(), kMostTurns); turns >= 1 && under_way_;
         --turns) {
        state_.tasks.yield();
    }
}

bool Checkpoint::needed() const { return state_.sequence > state_.durable_sequence || removable(); }

// Takes versions that nothing needs out of the catalog. What they leave behind is settled by the
// checkpoint that begins now, and what is dropped from now on already sees the new parents.
std::vector<Checkpoint::Removal> Checkpoint::take_removals()
{
    Catalog& catalog = state_.catalog;
    std::vector<Removal> removals;
    bool found = true;
    while (found && removals.size() < kRemovalsAtOnce) {
        found = false;
        for (const auto& [id, version] : catalog.versions) {
            const auto children =
                unneeded(version) ? catalog.children(id) : std::vector<VersionId>();
            if (!unneeded(version) || children.size() > 1) {
                continue;
            }
            Removal removal;
            removal.parent = catalog.parent_sequence(version);
            removal.sequence = version.sequence;
            removal.map = version.map;
            removal.version = id.value;
            removal.has_child = !children.empty();
            Version* child = removal.has_child ? catalog.version(children.front()) : nullptr;
            const ListId source = child != nullptr ? child->first_list : version.first_list;
            ListId last;
            for (ListId list = source; list != ListId(); list = catalog.lists.at(list).next) {
                removal.lists.push_back(list);
                last = list;
            }
            if (child != nullptr) {
                catalog.lists.at(last).next = version.first_list;
                for (ListId list = version.first_list; list != ListId();
                     list = catalog.lists.at(list).next) {
                    catalog.lists.at(list).version = child->id;
                }
                child->parent = version.parent;
            } else {
                for (ListId list : removal.lists) {
                    catalog.lists.erase(list);
                }
            }
            removals.push_back(std::move(removal));
            catalog.versions.erase(id);
            found = true;
            break;
        }
    }
    return removals;
}

// Everything up to here belongs to the checkpoint; nothing in here suspends.
Checkpoint::Frozen Checkpoint::freeze()
{
    Frozen frozen;
    frozen.removals = take_removals();
    frozen.generation = state_.generation;
    frozen.sequence = state_.sequence;
    frozen.catalog = state_.catalog;
    frozen.journal = state_.ring.head();
    frozen.drops = state_.space.take_drops(frozen.generation);
    state_.generation = state_.generation + 1;
    return frozen;
}

// One that began after the call will do: of many who wait for their turn the first serves all.
Status Checkpoint::run()
{
    if (!needed()) {
        return {};  // an image that nothing changed is not written
    }
    const Sequence wanted = state_.sequence;
    COPPICE_TRY(begin_writing_());  // waits for the committer, who may wait for our turn
    LockGuard turn(turn_);
    if (state_.durable_sequence >= wanted && !removable()) {
        return {};
    }
    COPPICE_TRY(state_.check_writable());
    under_way_ = true;
    Frozen frozen = freeze();
    Status written = write(frozen);
    under_way_ = false;
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
    ExtentList freed;
    COPPICE_TRY(state_.references.write(frozen.generation, frozen.sequence));
    COPPICE_TRY(settle_drops(frozen, freed));
    for (const Removal& removal : frozen.removals) {
        COPPICE_TRY(settle_removal(frozen, removal, freed));
    }
    COPPICE_TRY(state_.checksums.write(frozen.generation, frozen.sequence));
    Pace pace(state_.tasks);
    while (!freed.empty()) {
        for (const Extent& extent : freed.take()) {
            state_.space.free_data(frozen.generation, extent);
            pace.step(kLookNs);
        }
    }
    return {};
}

Status Checkpoint::drop_reference(Frozen& frozen, const Drop& drop, ExtentList& freed)
{
    switch (drop.kind) {
    case layout::DeadKind::data:
        return state_.references.drop(frozen.generation, frozen.sequence,
                                      {BlockNo(drop.block), drop.length}, freed);
    case layout::DeadKind::node:
        state_.space.free_node(frozen.generation, BlockNo(drop.block));
        return {};
    case layout::DeadKind::range_reference:
        for (Catalog* catalog : {&frozen.catalog, &state_.catalog}) {
            Version* held = catalog->version(VersionId(drop.block));
            if (held == nullptr || held->held_blocks < drop.length) {
                return fail(ErrorCode::bad_record,
                            "a range reference holds a version that is gone");
            }
            held->held_blocks -= drop.length;
        }
        return {};
    }
    return fail(ErrorCode::bad_record, "a dead record of unknown kind");
}

// What left a version: free if the version alone had it, else dead (FORMAT.md, "Who owns a block").
Status Checkpoint::settle_drops(Frozen& frozen, ExtentList& freed)
{
    std::map<ListId, Sequence> gone;  // lists of versions that left: sequence of their parents
    for (const Removal& removal : frozen.removals) {
        if (!removal.has_child) {
            for (ListId list : removal.lists) {
                gone[list] = removal.parent;
            }
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
        auto list = frozen.catalog.lists.find(drop.list);
        if (list == frozen.catalog.lists.end()) {
            auto found = gone.find(drop.list);
            CHECK(found != gone.end());
            if (drop.birth > found->second) {
                COPPICE_TRY(drop_reference(frozen, drop, freed));
            }
            pace.step(reference_ns);
            continue;
        }
        const Version& owner = frozen.catalog.versions.at(list->second.version);
        if (drop.birth > frozen.catalog.parent_sequence(owner)) {
            COPPICE_TRY(drop_reference(frozen, drop, freed));
            pace.step(reference_ns);
        } else {
            COPPICE_TRY(state_.dead.insert(frozen.generation, frozen.sequence, drop));
            pace.step(kDeadNs);
        }
    }
    return {};
}

Status Checkpoint::settle_removal(Frozen& frozen, const Removal& removal, ExtentList& freed)
{
    if (!removal.has_child) {
        COPPICE_TRY(walk_removed(frozen, removal, freed));
    }
    for (ListId list : removal.lists) {
        // With a child: what only the removed version had. Without: its records mean nothing now.
        const Sequence after = removal.has_child ? removal.parent : Sequence();
        const Sequence up_to = removal.has_child ? removal.sequence : Sequence(~std::uint64_t{0});
        bool more = true;
        while (more) {
            std::vector<Drop> taken;
            auto result = state_.dead.take(frozen.generation, frozen.sequence, list, after, up_to,
                                           kDeadBatch, taken);
            if (!result) {
                return pass_on(result);
            }
            more = *result;
            for (const Drop& drop : taken) {
                if (removal.has_child) {
                    COPPICE_TRY(drop_reference(frozen, drop, freed));
                }
            }
            state_.tasks.yield();
        }
    }
    return {};
}

// Drops everything below a map root that was born after the removed version's parent. Depth first
// with an explicit stack; a node without younger parts is not even read.
Status Checkpoint::walk_removed(Frozen& frozen, const Removal& removal, ExtentList& freed)
{
    struct Entry {
        NodeRef node;
        int level;
    };
    std::vector<Entry> stack;
    if (removal.map && removal.map.birth > removal.parent) {
        stack.push_back({removal.map, -1});
    }
    while (!stack.empty()) {
        const Entry entry = stack.back();
        stack.pop_back();
        CacheUse use(state_.cache);
        Node* node = state_.cache.find(entry.node.block);
        while (node == nullptr) {
            COPPICE_TRY(state_.cache.load(kMapShape, entry.node, entry.level));
            node = state_.cache.find(entry.node.block);
        }
        std::vector<Drop> drops;
        for (unsigned i = 0; i < node->count(); ++i) {
            if (node->level() > 0) {
                const NodeRef child = node->child(i);
                if (child.birth > removal.parent) {
                    stack.push_back({child, static_cast<int>(node->level()) - 1});
                }
                continue;
            }
            layout::MapItem item;
            std::memcpy(static_cast<void*>(&item), node->item(i), sizeof(item));
            const MapRun run = run_of(item);
            if (run.birth > removal.parent && run.kind == layout::MapKind::data) {
                drops.push_back(
                    {ListId(), run.birth, layout::DeadKind::data, run.block, run.length});
            } else if (run.birth > removal.parent && run.kind == layout::MapKind::range_reference) {
                drops.push_back({ListId(), run.birth, layout::DeadKind::range_reference, run.detail,
                                 run.length});
            }
        }
        drops.push_back(
            {ListId(), entry.node.birth, layout::DeadKind::node, entry.node.block.value, 1});
        for (const Drop& drop : drops) {
            COPPICE_TRY(drop_reference(frozen, drop, freed));
        }
        state_.tasks.yield();
    }
    return {};
}

Status Checkpoint::write_catalog(Frozen& frozen)
{
    Tree tree(state_.cache, kCatalogShape);
    const Change change{state_.space, frozen.generation, frozen.sequence, Sequence(), ListId()};
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
    auto edit = [&](const Key& key, const layout::CatalogItem* item) -> Status {
        for (;;) {
            COPPICE_TRY(state_.space.ensure_nodes(kMaxNodesPerChange, 0));
            CacheUse use(state_.cache);
            auto missing = tree.prepare(state_.catalog_root, key, key);
            if (missing) {
                COPPICE_TRY(tree.load(*missing));
                continue;
            }
            if (item == nullptr) {
                tree.erase(state_.catalog_root, key, change);
            } else {
                tree.insert(state_.catalog_root, reinterpret_cast<const std::byte*>(item), change);
            }
            return {};
        }
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
    superblock.next_operation = 1;
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
    superblock.range_operations = encode(state_.range_root);

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
