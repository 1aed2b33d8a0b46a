#include "format/volume/effects.h"

#include <algorithm>
#include <fmt/format.h>
#include <set>

#include "format/base/check.h"

namespace coppice {

namespace {

using layout::OperationType;

tl::unexpected<Error> impossible(const layout::OperationRecord& record, std::string_view what)
{
    return fail(ErrorCode::bad_record,
                fmt::format("journal operation {} (type {}, volume {}): {}", record.sequence.get(),
                            record.type, record.volume.get(), what));
}

bool changes_map(OperationType type)
{
    switch (type) {
    case OperationType::write:
    case OperationType::deallocate:
    case OperationType::write_zeroes:
    case OperationType::clone:
    case OperationType::clone_reference:
    case OperationType::change_volume: return true;
    case OperationType::write_unwritable:
    case OperationType::snapshot:
    case OperationType::create_volume:
    case OperationType::remove_volume:
    case OperationType::rollback: return false;
    }
    return false;
}

}  // namespace

// Operations of a command that follow each other in one volume, as a write to scattered blocks has
// them: they touch the same nodes.
std::vector<Effects::Touched> Effects::touched_by(std::span<const JournalOperation> command)
{
    std::vector<Touched> all;
    for (const JournalOperation& operation : command) {
        const auto& record = operation.record;
        if (!changes_map(operation.type()) || record.length == 0) {
            continue;
        }
        if (!all.empty() && all.back().volume == operation.volume() &&
            all.back().lba + all.back().length == Lba(record.lba)) {
            all.back().length += record.length;
            ++all.back().operations;
        } else {
            all.push_back({operation.volume(), Lba(record.lba), record.length, 1});
        }
    }
    return all;
}

Result<const Version*> Effects::version_of(VolumeId volume) const
{
    const Volume* found = state_.catalog.volume(volume);
    if (found == nullptr) {
        return fail(ErrorCode::not_found, fmt::format("there is no volume {}", volume.value));
    }
    return &state_.catalog.versions.at(found->version);
}

// Loads what is missing for a range of a volume's map, from left to right, so that the next look at
// all of it finds it: looking again from the start after each node would be quadratic. (task)
Status Effects::load_range(VolumeId volume, Lba lba, std::uint64_t length, const Missing& first)
{
    COPPICE_TRY(state_.map.load(first));
    Lba reached = lba;
    for (;;) {
        COPPICE_ASSIGN(version, version_of(volume));
        auto missing = state_.map.advance(version->map, reached, lba + length);
        if (!missing) {
            return {};
        }
        COPPICE_TRY(state_.map.load(*missing));
    }
}

// What a clone is about to refer to as well.
Status Effects::check_references(const std::vector<MapRun>& runs) const
{
    for (const MapRun& run : runs) {
        if (run.kind == layout::MapKind::range_reference &&
            state_.catalog.version(VersionId(run.detail)) == nullptr) {
            return fail(
                ErrorCode::bad_record,
                fmt::format("a range reference names version {}, which is not there", run.detail));
        }
    }
    return {};
}

Result<bool> Effects::prepare(std::span<const JournalOperation> command, std::uint64_t reserve)
{
    std::uint64_t nodes = 0;
    for (const JournalOperation& operation : command) {
        const auto& record = operation.record;
        if (operation.type() == OperationType::clone) {
            const VolumeId source(record.source_volume);
            COPPICE_ASSIGN(version, version_of(source));
            std::vector<MapRun> runs;
            auto missing = state_.map.collect(version->map, Lba(record.source_lba), record.length,
                                              runs, nullptr);
            if (missing) {
                COPPICE_TRY(load_range(source, Lba(record.source_lba), record.length, *missing));
                return false;
            }
            COPPICE_TRY(check_references(runs));
            nodes += runs.size() / Map::kItemsPerNewLeaf + 1;
        }
    }
    bool loaded = false;
    std::uint64_t apart = 0;  // nodes if each range has paths of its own
    std::uint64_t leaves_between = 0;
    std::set<BlockNo> on_paths;
    const std::vector<Touched> all = touched_by(command);
    for (const Touched& touched : all) {
        COPPICE_ASSIGN(version, version_of(touched.volume));
        std::uint64_t leaves = 0;
        auto missing = state_.map.prepare(version->map, touched.lba, touched.length, leaves);
        if (missing) {
            // The others too before all is looked at again: there may be thousands.
            COPPICE_TRY(load_range(touched.volume, touched.lba, touched.length, *missing));
            loaded = true;
        }
        if (loaded) {
            continue;
        }
        apart += Map::nodes_for(leaves, touched.operations);
        leaves_between += leaves > 2 ? leaves - 2 : 0;
        if (all.size() > 1) {
            state_.map.note_paths(version->map, touched.lba, touched.length, on_paths);
        }
    }
    if (loaded) {
        return false;
    }
    const std::uint64_t shared =
        Map::shared_nodes_for(on_paths.size(), leaves_between, command.size());
    nodes += all.size() > 1 ? std::min(apart, shared) : apart;
    if (state_.space.nodes_at_hand() < nodes + reserve) {
        COPPICE_TRY(state_.space.ensure_nodes(nodes, reserve));
        return false;
    }
    return true;
}

Result<const Version*> Effects::source_version(const layout::OperationRecord& record) const
{
    const Volume* volume = state_.catalog.volume(VolumeId(record.source_volume));
    if (volume == nullptr) {
        return impossible(record, "there is no such source");
    }
    return &state_.catalog.versions.at(volume->version);
}

Result<Volume*> Effects::target(const layout::OperationRecord& record)
{
    Volume* volume = state_.catalog.volume(VolumeId(record.volume));
    if (volume == nullptr || volume->snapshot()) {
        return impossible(record, "there is no such volume");
    }
    return volume;
}

Status Effects::apply(std::span<JournalOperation> command)
{
    CacheUse use(state_.cache);
    std::vector<std::vector<MapRun>> sources;  // of clones, which most commands have none of
    for (std::size_t i = 0; i < command.size(); ++i) {
        const auto& record = command[i].record;
        if (command[i].type() == OperationType::clone) {
            sources.resize(command.size());
            COPPICE_ASSIGN(source, source_version(record));
            CHECK(!state_.map.collect(source->map, Lba(record.source_lba), record.length,
                                      sources[i], nullptr));
        }
    }
    COPPICE_TRY(hold_sources(command));
    static const std::vector<MapRun> none;
    for (std::size_t i = 0; i < command.size(); ++i) {
        state_.sequence = std::max(state_.sequence, command[i].sequence());
        COPPICE_TRY(apply_one(command[i], sources.empty() ? none : sources[i]));
    }
    return {};
}

// References of one command to one source name the same version: the source as of the start.
Status Effects::hold_sources(std::span<JournalOperation> command)
{
    const Sequence before(command.front().sequence().value - 1);
    for (JournalOperation& operation : command) {
        auto& record = operation.record;
        if (operation.type() != OperationType::clone_reference) {
            continue;
        }
        Volume* source = state_.catalog.volume(VolumeId(record.source_volume));
        if (source == nullptr) {
            return impossible(record, "there is no such source");
        }
        if (record.block == 0) {
            record.block = version_to_hold(*source, before).id.value;
            continue;
        }
        // In replay the record says what was done. What it is now cannot: operations that came to
        // nothing are not in the journal, so a head can look unchanged that was not.
        if (record.block == state_.catalog.next_version && state_.catalog.head_of(*source).head) {
            freeze_head(*source, before);
        } else if (state_.catalog.removals.contains(VersionId(record.block))) {
            return impossible(record, "it refers to a version that is being removed");
        }
        const Version* held = state_.catalog.version(VersionId(record.block));
        if (held == nullptr || held->head || held->reference_depth >= kMaxReferenceDepth) {
            return impossible(record, "it refers to a version that cannot be");
        }
    }
    return {};
}

Status Effects::apply_one(JournalOperation& operation, const std::vector<MapRun>& source_runs)
{
    switch (operation.type()) {
    case OperationType::write: return apply_write(operation);
    case OperationType::deallocate:
    case OperationType::write_zeroes: return apply_cut(operation.record);
    case OperationType::clone: return apply_clone(operation.record, source_runs);
    case OperationType::clone_reference: return apply_clone_reference(operation.record);
    case OperationType::snapshot: return apply_snapshot(operation);
    case OperationType::create_volume: return apply_create(operation);
    case OperationType::remove_volume: return apply_remove(operation.record);
    case OperationType::rollback: return apply_rollback(operation.record);
    case OperationType::change_volume: return apply_change(operation);
    case OperationType::write_unwritable: break;
    }
    return impossible(operation.record, "unknown type");
}

void Effects::drop(Version& head, const MapRun& part)
{
    Drop drop{head.first_list, part.birth, layout::DeadKind::data, part.block, part.length};
    if (part.kind == layout::MapKind::data) {
        head.mapped_blocks -= part.length;
        state_.space.drop(state_.generation, drop);
    } else if (part.kind == layout::MapKind::range_reference) {
        drop.kind = layout::DeadKind::range_reference;
        drop.block = part.detail;
        state_.space.drop(state_.generation, drop);
    }
}

// Takes a range out of the head's map.
void Effects::cut(Version& head, Lba lba, std::uint64_t length)
{
    state_.map.cut(head.map, lba, length, state_.change_for(head),
                   [&](const MapRun& part) { drop(head, part); });
}

Status Effects::apply_write(const JournalOperation& operation)
{
    const auto& record = operation.record;
    COPPICE_ASSIGN(volume, target(record));
    if (record.lba + record.length > volume->size_blocks()) {
        return impossible(record, "it ends beyond the volume");
    }
    Version& head = state_.catalog.head_of(*volume);
    cut(head, Lba(record.lba), record.length);
    state_.map.put(head.map,
                   {Lba(record.lba), record.length, layout::MapKind::data, record.block,
                    record.placement, operation.sequence()},
                   state_.change_for(head));
    head.mapped_blocks += record.length;
    state_.space.use_data(state_.generation, {BlockNo(record.block), record.length});
    for (std::uint64_t i = 0; i < record.length; ++i) {
        state_.checksums.put(state_.generation, BlockNo(record.block + i), operation.checksum(i));
    }
    return {};
}

Status Effects::apply_cut(const layout::OperationRecord& record)
{
    COPPICE_ASSIGN(volume, target(record));
    cut(state_.catalog.head_of(*volume), Lba(record.lba), record.length);
    return {};
}

Status Effects::apply_clone(const layout::OperationRecord& record, const std::vector<MapRun>& runs)
{
    COPPICE_ASSIGN(volume, target(record));
    COPPICE_ASSIGN(source, source_version(record));
    if (record.lba + record.length > volume->size_blocks()) {
        return impossible(record, "it ends beyond the volume");
    }
    const unsigned source_depth = source->reference_depth;
    Version& head = state_.catalog.head_of(*volume);
    cut(head, Lba(record.lba), record.length);
    for (MapRun run : runs) {
        run.lba = Lba(record.lba + (run.lba.value - record.source_lba));
        run.birth = Sequence(record.sequence);
        if (run.kind == layout::MapKind::data) {
            state_.references.add(state_.generation, {BlockNo(run.block), run.length});
            head.mapped_blocks += run.length;
        } else if (run.kind == layout::MapKind::range_reference) {
            Version* held = state_.catalog.version(VersionId(run.detail));
            if (held == nullptr) {
                return impossible(record, "it refers to a version that is gone");
            }
            held->held_blocks += run.length;
            head.reference_depth = std::max(head.reference_depth, source_depth);
        }
        state_.map.put(head.map, run, state_.change_for(head));
    }
    return {};
}

Version& Effects::freeze_head(Volume& volume, Sequence sequence)
{
    Version& head = state_.catalog.head_of(volume);
    Version& frozen = state_.catalog.add_version(head.parent, VolumeId(), head.map);
    frozen.sequence = sequence;
    frozen.reference_depth = head.reference_depth;
    frozen.mapped_blocks = head.mapped_blocks;
    // The frozen version takes the head's lists, the head starts with the new one.
    std::swap(frozen.first_list, head.first_list);
    for (ListId id = frozen.first_list; id != ListId(); id = state_.catalog.lists.at(id).next) {
        state_.catalog.lists.at(id).version = frozen.id;
    }
    state_.catalog.lists.at(head.first_list).version = head.id;
    head.parent = frozen.id;
    return frozen;
}

// A frozen version that has what the source has at `sequence`: the one before this operation, so
// that what the operation itself puts into the head is younger.
Version& Effects::version_to_hold(Volume& source, Sequence sequence)
{
    Version& now = state_.catalog.head_of(source);
    Version* parent = state_.catalog.version(now.parent);
    if (!now.head) {
        return now;
    }
    if (parent != nullptr && parent->map.block == now.map.block &&
        !state_.catalog.removals.contains(parent->id)) {
        return *parent;  // nothing changed since that was frozen
    }
    return freeze_head(source, sequence);
}

Status Effects::apply_clone_reference(const layout::OperationRecord& record)
{
    COPPICE_ASSIGN(volume, target(record));
    if (record.lba + record.length > volume->size_blocks()) {
        return impossible(record, "it ends beyond the volume");
    }
    Version& held = state_.catalog.versions.at(VersionId(record.block));
    held.held_blocks += record.length;
    held.held = true;
    Version& head = state_.catalog.head_of(*volume);
    cut(head, Lba(record.lba), record.length);
    head.reference_depth = std::max(head.reference_depth, held.reference_depth + 1);
    state_.map.put(head.map,
                   {Lba(record.lba), record.length, layout::MapKind::range_reference,
                    record.source_lba, static_cast<std::uint32_t>(held.id.value),
                    Sequence(record.sequence)},
                   state_.change_for(head));
    return {};
}

Status Effects::check_number(const layout::OperationRecord& record, VolumeId id) const
{
    constexpr std::uint64_t kLargest = 0xFFFFFFFF;
    if (id.value == 0 || id.value > kLargest || state_.catalog.volume(id) != nullptr) {
        return impossible(record, "its number is taken");
    }
    return {};
}

Result<layout::VolumeRecord> Effects::volume_record(const JournalOperation& operation,
                                                    bool snapshot) const
{
    layout::VolumeRecord record;
    if (operation.payload.size() != sizeof(record)) {
        return impossible(operation.record, "it has no volume record");
    }
    std::memcpy(static_cast<void*>(&record), operation.payload.data(), sizeof(record));
    if (!Catalog::possible({{}, {}, record}) ||
        ((record.flags & layout::kVolumeSnapshot) != 0) != snapshot) {
        return impossible(operation.record, "its volume cannot be");
    }
    return record;
}

Status Effects::apply_snapshot(const JournalOperation& operation)
{
    COPPICE_ASSIGN(volume, target(operation.record));
    COPPICE_ASSIGN(record, volume_record(operation, true));
    const VolumeId id(operation.record.block);
    COPPICE_TRY(check_number(operation.record, id));
    Version& frozen = freeze_head(*volume, operation.sequence());
    frozen.volume = id;
    record.created_sequence = operation.sequence().value;
    state_.catalog.volumes[id] = {id, frozen.id, record};
    state_.catalog.next_volume = std::max(state_.catalog.next_volume, id.value + 1);
    return {};
}

Status Effects::apply_create(const JournalOperation& operation)
{
    COPPICE_ASSIGN(record, volume_record(operation, false));
    const VolumeId id = operation.volume();
    COPPICE_TRY(check_number(operation.record, id));
    const Version* origin = nullptr;
    if (operation.record.source_volume != 0) {
        COPPICE_ASSIGN(found, source_version(operation.record));
        if (found->head) {
            return impossible(operation.record, "its origin is not a snapshot");
        }
        origin = found;
    }
    const VersionId parent = origin == nullptr ? VersionId() : origin->id;
    Version& head = state_.catalog.add_version(parent, id, NodeRef());
    head.head = true;
    if (parent != VersionId()) {
        origin = state_.catalog.version(parent);
        head.map = origin->map;
        head.reference_depth = origin->reference_depth;
        head.mapped_blocks = origin->mapped_blocks;
    }
    state_.catalog.volumes[id] = {id, head.id, record};
    state_.catalog.next_volume = std::max(state_.catalog.next_volume, id.value + 1);
    return {};
}

// Nothing shows the version any more; a later checkpoint removes it when nothing needs it.
void Effects::abandon_version(Version& version)
{
    version.volume = VolumeId();
    version.removed = true;
    if (version.head) {
        version.head = false;
        version.sequence = state_.sequence;
    }
}

Status Effects::apply_remove(const layout::OperationRecord& record)
{
    Volume* volume = state_.catalog.volume(VolumeId(record.volume));
    if (volume == nullptr) {
        return impossible(record, "there is no such volume");
    }
    abandon_version(state_.catalog.head_of(*volume));
    state_.catalog.volumes.erase(volume->id);
    return {};
}

Status Effects::apply_rollback(const layout::OperationRecord& record)
{
    COPPICE_ASSIGN(volume, target(record));
    COPPICE_ASSIGN(source, source_version(record));
    if (source->head) {
        return impossible(record, "its source is not a snapshot");
    }
    const VersionId parent = source->id;
    const Volume* snapshot = state_.catalog.volume(VolumeId(record.source_volume));
    volume->record.size_bytes = snapshot->record.size_bytes;
    abandon_version(state_.catalog.head_of(*volume));
    Version& head =
        state_.catalog.add_version(parent, volume->id, state_.catalog.versions.at(parent).map);
    source = state_.catalog.version(parent);
    head.head = true;
    head.reference_depth = source->reference_depth;
    head.mapped_blocks = source->mapped_blocks;
    volume->version = head.id;
    return {};
}

Status Effects::apply_change(const JournalOperation& operation)
{
    Volume* volume = state_.catalog.volume(operation.volume());
    if (volume == nullptr) {
        return impossible(operation.record, "there is no such volume");
    }
    COPPICE_ASSIGN(record, volume_record(operation, volume->snapshot()));
    if (operation.record.length > 0 && !volume->snapshot()) {
        cut(state_.catalog.head_of(*volume), Lba(operation.record.lba), operation.record.length);
    }
    volume->record = record;
    return {};
}

}  // namespace coppice
