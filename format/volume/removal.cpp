#include "format/volume/removal.h"

#include <algorithm>
#include <fmt/format.h>
#include <optional>

#include "format/base/check.h"
#include "format/disk/pace.h"

namespace coppice {

namespace {

// Versions under way at a time.
constexpr std::size_t kRemovalsAtOnce = 16;
// Longest piece of data that is dropped at once, in blocks. Each block may have an item of its own
// among the references; those of a piece lie in some 20 leaves.
constexpr std::uint64_t kPieceBlocks = 2048;
// Of the nodes that are always kept a step may use so many. With the last piece, and what follows
// it in the checkpoint, it does not come to the end of them.
constexpr std::uint64_t kNodesOfReserve = 64;
// What these take of a processor, about: a record that is taken out, a drop, a node looked at.
constexpr std::uint64_t kRecordNs = 8'000;
constexpr std::uint64_t kDropNs = 1'000;
constexpr std::uint64_t kNodeNs = 10'000;

constexpr Sequence kNewest(~std::uint64_t{0});

bool unneeded(const Version& version)
{
    return version.volume == VolumeId() && version.held_blocks == 0 && !version.head;
}

// How many children each version has.
std::map<VersionId, std::size_t> count_children(const Catalog& catalog)
{
    std::map<VersionId, std::size_t> children;
    for (const auto& [id, version] : catalog.versions) {
        ++children[version.parent];
    }
    return children;
}

std::map<std::uint64_t, layout::RangeOperationItem> operations_of(const Catalog& catalog)
{
    std::map<std::uint64_t, layout::RangeOperationItem> items;
    for (const auto& [id, removal] : catalog.removals) {
        layout::RangeOperationItem item{};
        item.id = removal.operation;
        item.kind = static_cast<std::uint8_t>(layout::RangeOperationKind::remove_version);
        item.version = static_cast<std::uint32_t>(id.value);
        item.birth = catalog.parent_sequence(catalog.versions.at(id)).value;
        item.cursor = removal.cursor.value;
        items[removal.operation] = item;
    }
    return items;
}

}  // namespace

// ---- What a step may cost -------------------------------------------------------------------

// Pieces of work and, on a host that is full, nodes: a drop may copy a leaf of the references that
// no other one of the step touches. What is copied is free again behind the checkpoint.
class Removals::Allowance {
public:
    Allowance(State& state, const Frozen& frozen)
        : state_(state), pieces_(state.options.removal_step), before_(frozen.freed.size())
    {
    }

    // May one more piece be done? One always may, so that a removal comes to its end; but not while
    // nodes that earlier steps freed wait for somebody who may still be at them. (task)
    Result<bool> more()
    {
        if (spent_ >= pieces_) {
            return false;
        }
        const std::uint64_t groups = state_.space.tree_totals().image_blocks / layout::kGroupBlocks;
        const std::uint64_t kept =
            state_.node_reserve(true) - kNodesOfReserve + std::min(before_ + spent_, groups);
        if (state_.space.nodes_at_hand() >= kept + kMaxNodesPerChange) {
            return true;
        }
        Status found = state_.space.ensure_nodes(kMaxNodesPerChange, kept);
        if (!found && found.error().code != ErrorCode::no_space) {
            return pass_on(found);
        }
        return found.has_value() || (spent_ == 0 && state_.released.empty());
    }
    void spend(std::uint64_t pieces) { spent_ += pieces; }
    std::uint64_t spent() const { return spent_; }

private:
    State& state_;
    std::uint64_t pieces_;
    std::uint64_t before_;  // extents that were freed before the step
    std::uint64_t spent_ = 0;
};

// ---- The map of a version without a child ---------------------------------------------------

// Drops what the version alone has, from the cursor on.
class Removals::Walk {
public:
    Walk(State& state, Frozen& frozen, const Version& version, Lba cursor, Allowance& allowance)
        : state_(state),
          frozen_(frozen),
          parent_(frozen.catalog.parent_sequence(version)),
          root_(version.map),
          cursor_(cursor),
          allowance_(allowance),
          pace_(state.tasks)
    {
    }

    // True: there is nothing left. (task)
    Result<bool> run();
    Lba cursor() const { return cursor_; }

private:
    struct Child {
        NodeRef node;
        Lba low;
    };
    struct Frame {
        NodeRef node;
        unsigned level = 0;
        std::optional<Lba> high;  // all keys below it are lower; none: at the end of the map
        std::vector<Child> children;
        std::vector<MapRun> items;  // of a leaf
        std::size_t next = 0;
    };

    bool own(Sequence birth) const { return birth > parent_; }
    Status open(const NodeRef& reference, int level, std::optional<Lba> high);
    Status close();
    Result<bool> enter_child(Frame& frame);
    Result<bool> drop_items(Frame& leaf);
    Result<bool> drop_item(const MapRun& run, std::optional<Lba> leaf_end);

    State& state_;
    Frozen& frozen_;
    Sequence parent_;
    NodeRef root_;
    Lba cursor_;
    Allowance& allowance_;
    Pace pace_;
    std::vector<Frame> stack_;  // the way to the cursor
};

Result<bool> Removals::Walk::run()
{
    if (!root_ || !own(root_.birth)) {
        return true;
    }
    COPPICE_TRY(open(root_, -1, std::nullopt));
    while (!stack_.empty()) {
        Frame& frame = stack_.back();
        const bool leaf = frame.level == 0;
        if (frame.next == (leaf ? frame.items.size() : frame.children.size())) {
            COPPICE_TRY(close());
            continue;
        }
        COPPICE_ASSIGN(goes_on, leaf ? drop_items(frame) : enter_child(frame));
        if (!goes_on) {
            return false;
        }
    }
    return true;
}

Status Removals::Walk::open(const NodeRef& reference, int level, std::optional<Lba> high)
{
    CacheUse use(state_.cache);
    const Node* node = state_.cache.find(kMapShape, reference, level);
    while (node == nullptr) {
        COPPICE_TRY(state_.cache.load(kMapShape, reference, level));
        node = state_.cache.find(kMapShape, reference, level);
    }
    Frame frame;
    frame.node = reference;
    frame.level = node->level();
    frame.high = high;
    for (unsigned i = 0; i < node->count(); ++i) {
        if (frame.level > 0) {
            frame.children.push_back({node->child(i), Lba(node->key(i).words[0])});
        } else {
            layout::MapItem item;
            std::memcpy(static_cast<void*>(&item), node->item(i), sizeof(item));
            frame.items.push_back(run_of(item));
        }
    }
    stack_.push_back(std::move(frame));
    pace_.step(kNodeNs);
    return {};
}

// All below the node is dropped, and so is the node. No step ends between the two: what lies below
// the cursor is gone as a whole. What a step looks at on the way to the cursor costs it nothing, or
// a small one would never get there.
Status Removals::Walk::close()
{
    const Frame& frame = stack_.back();
    COPPICE_TRY(drop_reference(
        state_, frozen_,
        {ListId(), frame.node.birth, layout::DeadKind::node, frame.node.block.value, 1}));
    cursor_ = std::max(cursor_, frame.high.value_or(Lba()));
    stack_.pop_back();
    allowance_.spend(1);
    return {};
}

Result<bool> Removals::Walk::enter_child(Frame& frame)
{
    const Child child = frame.children[frame.next];
    const bool last = frame.next + 1 == frame.children.size();
    const auto high = last ? frame.high : std::optional(frame.children[frame.next + 1].low);
    const bool done = high && *high <= cursor_;  // by an earlier step
    if (done || !own(child.node.birth)) {
        cursor_ = std::max(cursor_, high.value_or(Lba()));
        ++frame.next;
        return true;
    }
    COPPICE_ASSIGN(more, allowance_.more());
    if (more) {
        ++frame.next;
        COPPICE_TRY(open(child.node, static_cast<int>(frame.level) - 1, high));
    }
    return more;
}

Result<bool> Removals::Walk::drop_items(Frame& leaf)
{
    for (; leaf.next < leaf.items.size(); ++leaf.next) {
        const MapRun& run = leaf.items[leaf.next];
        const bool holds =
            run.kind == layout::MapKind::data || run.kind == layout::MapKind::range_reference;
        if (!holds || !own(run.birth)) {
            continue;
        }
        COPPICE_ASSIGN(dropped, drop_item(run, leaf.high));
        if (!dropped) {
            return false;
        }
    }
    return true;
}

// An item may reach over the end of its leaf's keys. That part goes with the leaf, for a cursor
// behind the end says that the leaf is gone.
Result<bool> Removals::Walk::drop_item(const MapRun& run, std::optional<Lba> leaf_end)
{
    const Lba end = run.lba + run.length;
    for (Lba from = std::max(run.lba, cursor_); from < end;) {
        COPPICE_ASSIGN(more, allowance_.more());
        if (!more) {
            return false;
        }
        Lba to = std::min(end, from + kPieceBlocks);
        if (leaf_end && to >= *leaf_end) {
            to = end;
        }
        const MapRun part = run.part(from, to);
        const bool data = run.kind == layout::MapKind::data;
        COPPICE_TRY(
            drop_reference(state_, frozen_,
                           {ListId(), part.birth,
                            data ? layout::DeadKind::data : layout::DeadKind::range_reference,
                            data ? part.block : part.detail, part.length}));
        cursor_ = to;
        from = to;
        allowance_.spend(1);
        pace_.step(state_.references.root() ? kRecordNs : kDropNs);
    }
    return true;
}

// ---- Removals -------------------------------------------------------------------------------

Removals::Removals(State& state) : state_(state), written_(operations_of(state.catalog)) {}

bool Removals::waiting() const
{
    const Catalog& catalog = state_.catalog;
    if (!catalog.removals.empty()) {
        return true;
    }
    if (std::none_of(catalog.versions.begin(), catalog.versions.end(),
                     [](const auto& entry) { return unneeded(entry.second); })) {
        return false;
    }
    auto children = count_children(catalog);
    return std::any_of(catalog.versions.begin(), catalog.versions.end(), [&](const auto& entry) {
        return unneeded(entry.second) && children[entry.first] <= 1;
    });
}

void Removals::begin()
{
    Catalog& catalog = state_.catalog;
    auto children = count_children(catalog);
    std::map<VersionId, std::size_t> under_way;  // children of each version that are
    for (const auto& [id, removal] : catalog.removals) {
        ++under_way[catalog.versions.at(id).parent];
    }
    for (auto& [id, version] : catalog.versions) {
        if (catalog.removals.size() >= kRemovalsAtOnce) {
            return;
        }
        const bool beside = catalog.removals.contains(id) || under_way.contains(id) ||
                            catalog.removals.contains(version.parent);
        if (!unneeded(version) || children[id] > 1 || beside) {
            continue;
        }
        version.removed = true;
        catalog.removals[id] = {catalog.next_operation++, Lba()};
        ++under_way[version.parent];
    }
}

Status Removals::step(Frozen& frozen)
{
    Allowance allowance(state_, frozen);
    std::vector<VersionId> ids;
    for (const auto& [id, removal] : frozen.catalog.removals) {
        ids.push_back(id);
    }
    stuck_ = !ids.empty();
    for (const VersionId id : ids) {
        const bool childless = frozen.catalog.children(id).empty();
        COPPICE_ASSIGN(done,
                       childless ? leave(frozen, id, allowance) : merge(frozen, id, allowance));
        if (done) {
            finish(frozen.catalog, id);
            finish(state_.catalog, id);
            stuck_ = false;
        }
        if (allowance.spent() >= state_.options.removal_step) {
            break;
        }
    }
    stuck_ = stuck_ && allowance.spent() == 0;
    state_.statistics.removal_steps += ids.empty() ? 0U : 1U;
    return {};
}

// What the version alone had and its child has no more. True: all of it is dropped.
Result<bool> Removals::merge(Frozen& frozen, VersionId id, Allowance& allowance)
{
    const Catalog& catalog = frozen.catalog;
    const Version& version = catalog.versions.at(id);
    const Version& child = catalog.versions.at(catalog.children(id).front());
    const Sequence after = catalog.parent_sequence(version);
    Pace pace(state_.tasks);
    for (ListId list = child.first_list; list != ListId(); list = catalog.lists.at(list).next) {
        for (;;) {
            COPPICE_ASSIGN(more, allowance.more());
            if (!more) {
                return false;
            }
            COPPICE_ASSIGN(record, state_.dead.take(frozen.generation, frozen.sequence, list, after,
                                                    version.sequence, kPieceBlocks));
            if (!record) {
                break;
            }
            for (unsigned i = 0; i < record->count; ++i) {
                COPPICE_TRY(drop_reference(state_, frozen, record->drop));
                allowance.spend(1);
                pace.step(kRecordNs);
            }
        }
    }
    return true;
}

// True: nothing of the version is left.
Result<bool> Removals::leave(Frozen& frozen, VersionId id, Allowance& allowance)
{
    const Version version = frozen.catalog.versions.at(id);
    COPPICE_ASSIGN(discarded, discard_lists(frozen, version, allowance));
    if (!discarded) {
        return false;
    }
    Walk walk(state_, frozen, version, frozen.catalog.removals.at(id).cursor, allowance);
    COPPICE_ASSIGN(more, allowance.more());
    if (!more) {
        return false;
    }
    COPPICE_ASSIGN(done, walk.run());
    frozen.catalog.removals.at(id).cursor = walk.cursor();
    state_.catalog.removals.at(id).cursor = walk.cursor();
    return done;
}

// Where there is no child, what the parent has and the version has not means nothing to anybody.
Result<bool> Removals::discard_lists(Frozen& frozen, const Version& version, Allowance& allowance)
{
    constexpr std::uint64_t kAll = ~std::uint64_t{0};
    Pace pace(state_.tasks);
    for (ListId list = version.first_list; list != ListId();
         list = frozen.catalog.lists.at(list).next) {
        for (;;) {
            COPPICE_ASSIGN(more, allowance.more());
            if (!more) {
                return false;
            }
            COPPICE_ASSIGN(record, state_.dead.take(frozen.generation, frozen.sequence, list,
                                                    Sequence(), kNewest, kAll));
            if (!record) {
                break;
            }
            allowance.spend(1);
            pace.step(kRecordNs);
        }
    }
    return true;
}

// The version leaves the catalog. A child gets its parent, and its lists behind its own.
void Removals::finish(Catalog& catalog, VersionId id)
{
    const Version version = catalog.versions.at(id);
    const std::vector<VersionId> children = catalog.children(id);
    CHECK(children.size() <= 1);
    if (children.empty()) {
        for (ListId list = version.first_list; list != ListId();) {
            const ListId next = catalog.lists.at(list).next;
            catalog.lists.erase(list);
            list = next;
        }
    } else {
        Version& child = catalog.versions.at(children.front());
        ListId last = child.first_list;
        while (catalog.lists.at(last).next != ListId()) {
            last = catalog.lists.at(last).next;
        }
        catalog.lists.at(last).next = version.first_list;
        for (ListId list = version.first_list; list != ListId();
             list = catalog.lists.at(list).next) {
            catalog.lists.at(list).version = child.id;
        }
        child.parent = version.parent;
    }
    catalog.removals.erase(id);
    catalog.versions.erase(id);
}

Status Removals::write_operations(Frozen& frozen)
{
    Tree tree(state_.cache, kRangeShape);
    const auto wanted = operations_of(frozen.catalog);
    for (const auto& [id, item] : wanted) {
        const auto found = written_.find(id);
        if (found == written_.end() || std::memcmp(&found->second, &item, sizeof(item)) != 0) {
            COPPICE_TRY(edit_item(state_, frozen, tree, state_.range_root, Key(id),
                                  reinterpret_cast<const std::byte*>(&item)));
        }
    }
    for (const auto& [id, item] : written_) {
        if (!wanted.contains(id)) {
            COPPICE_TRY(edit_item(state_, frozen, tree, state_.range_root, Key(id), nullptr));
        }
    }
    written_ = wanted;
    return {};
}

// ---- Opening --------------------------------------------------------------------------------

namespace {

// Why an item of the range operations cannot be; empty: it can.
std::string impossible(const layout::RangeOperationItem& item, const Catalog& catalog,
                       std::map<VersionId, std::size_t>& children)
{
    if (item.id == 0 || item.id >= catalog.next_operation) {
        return fmt::format("its number is not below the next one, {}", catalog.next_operation);
    }
    if (item.kind != static_cast<std::uint8_t>(layout::RangeOperationKind::remove_version)) {
        return fmt::format("its kind is {}", item.kind);
    }
    const Version* version = catalog.version(VersionId(item.version));
    if (version == nullptr) {
        return fmt::format("there is no version {}", item.version.get());
    }
    if (!unneeded(*version) || !version->removed) {
        return fmt::format("version {} is still needed", item.version.get());
    }
    if (catalog.removals.contains(version->id)) {
        return fmt::format("version {} is being removed by another one", item.version.get());
    }
    if (children[version->id] > 1) {
        return fmt::format("version {} has {} children", item.version.get(), children[version->id]);
    }
    if (item.cursor > layout::kMapEnd || (children[version->id] == 1 && item.cursor != 0) ||
        item.lba != 0 || item.length != 0) {
        return "its place cannot be";
    }
    const Version* parent = catalog.version(version->parent);
    if (item.birth != (parent == nullptr ? 0 : parent->sequence.value)) {
        return fmt::format("{} is not where the parent of version {} was taken", item.birth.get(),
                           item.version.get());
    }
    return {};
}

}  // namespace

Status load_removals(State& state)
{
    Catalog& catalog = state.catalog;
    const auto bad = [](std::uint64_t operation, const std::string& why) {
        return fail(ErrorCode::bad_record, fmt::format("range operation {}: {}", operation, why));
    };
    auto children = count_children(catalog);
    Key next;  // all before it are taken
    for (;;) {
        CacheUse use(state.cache);
        Cursor cursor(state.cache, kRangeShape, state.range_root);
        auto missing = cursor.seek(next);
        while (!missing && cursor.valid()) {
            const auto item = cursor.get<layout::RangeOperationItem>();
            if (cursor.key() >= next) {
                if (const std::string why = impossible(item, catalog, children); !why.empty()) {
                    return bad(item.id, why);
                }
                catalog.removals[VersionId(item.version)] = {item.id, Lba(item.cursor)};
                next = Key(item.id + 1);
            }
            missing = cursor.next();
        }
        if (!missing) {
            break;
        }
        COPPICE_TRY(state.cache.load(kRangeShape, missing->node, missing->level));
    }
    for (const auto& [id, removal] : catalog.removals) {
        if (catalog.removals.contains(catalog.versions.at(id).parent)) {
            return bad(removal.operation,
                       fmt::format("the parent of version {} is being removed too", id.value));
        }
    }
    return {};
}

}  // namespace coppice
