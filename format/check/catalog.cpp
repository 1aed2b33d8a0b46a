#include "format/check/catalog.h"

#include <algorithm>
#include <fmt/format.h>
#include <set>

namespace coppice::checker {

namespace {

constexpr std::uint64_t kMaxId = UINT32_MAX;

bool is_utf8(std::string_view text)
{
    std::size_t i = 0;
    while (i < text.size()) {
        const auto lead = static_cast<unsigned char>(text[i]);
        std::size_t more = 0;
        if (lead >= 0xF0 && lead < 0xF5) {
            more = 3;
        } else if (lead >= 0xE0 && lead < 0xF0) {
            more = 2;
        } else if (lead >= 0xC2 && lead < 0xE0) {
            more = 1;
        } else if (lead >= 0x80) {
            return false;
        }
        if (i + more >= text.size()) {
            return false;
        }
        for (std::size_t k = 1; k <= more; ++k) {
            if ((static_cast<unsigned char>(text[i + k]) & 0xC0U) != 0x80U) {
                return false;
            }
        }
        i += more + 1;
    }
    return true;
}

}  // namespace

std::string name_text(const std::array<char, layout::kNameBytes>& name)
{
    std::string text(name.data(), strnlen(name.data(), name.size()));
    if (!is_utf8(text)) {
        for (char& c : text) {
            c = static_cast<unsigned char>(c) >= 0x80 ? '?' : c;
        }
    }
    std::replace_if(
        text.begin(), text.end(), [](char c) { return (c >= 0 && c < ' ') || c == 0x7F; }, '?');
    return text;
}

const VersionState* Catalog::version(std::uint32_t id) const
{
    const auto found = versions_.find(id);
    return found == versions_.end() ? nullptr : &found->second;
}

std::uint64_t Catalog::parent_sequence(const VersionState& version) const
{
    const VersionState* parent = this->version(version.effective_parent);
    return parent == nullptr ? 0 : parent->record.sequence.get();
}

std::uint64_t Catalog::birth_limit(const VersionState& version) const
{
    return version.head() ? image_->sequence() : version.record.sequence.get();
}

void Catalog::bad(std::string text)
{
    findings_->add({.severity = Severity::corruption,
                    .kind = FindingKind::catalog,
                    .text = std::move(text),
                    .tree = "catalog"});
}

bool Catalog::load(Image& image, TreeWalk& walk, Findings& findings)
{
    image_ = &image;
    findings_ = &findings;
    const layout::Superblock& superblock = image.superblock();
    complete_ = walk.walk({.shape = &shape_of(layout::TreeKind::catalog), .tree = "catalog"},
                          decode(superblock.catalog), [this](const NodeView& leaf, unsigned i) {
                              add_item(leaf.item<layout::CatalogItem>(i));
                          });
    complete_ = walk.walk({.shape = &shape_of(layout::TreeKind::range_operations),
                           .tree = "range operations"},
                          decode(superblock.range_operations),
                          [this](const NodeView& leaf, unsigned i) {
                              add_range_operation(leaf.item<layout::RangeOperationItem>(i));
                          }) &&
                complete_;
    check_volumes();
    name_versions();
    check_versions();
    check_lists();
    link_children();
    settle_removals();
    find_order();
    return complete_;
}

void Catalog::add_item(const layout::CatalogItem& item)
{
    const layout::Superblock& superblock = image_->superblock();
    const auto* value = reinterpret_cast<const std::byte*>(item.value.data());
    const auto limit = [&](std::uint64_t next, std::string_view what) {
        const bool fits = item.id != 0 && item.id < next && (what == "list" || item.id <= kMaxId);
        if (!fits) {
            bad(fmt::format("{} {} is not below the next number {}", what, item.id.get(), next));
        }
        return item.id != 0 && (what == "list" || item.id <= kMaxId);
    };
    switch (item.kind.get()) {
    case static_cast<std::uint64_t>(layout::CatalogKind::volume):
        if (limit(superblock.next_volume, "volume")) {
            auto& volume = volumes_[static_cast<std::uint32_t>(item.id.get())];
            volume.record = copy_out<layout::VolumeRecord>(value);
            volume.name = name_text(volume.record.name);
        }
        return;
    case static_cast<std::uint64_t>(layout::CatalogKind::version):
        if (limit(superblock.next_version, "version")) {
            versions_[static_cast<std::uint32_t>(item.id.get())].record =
                copy_out<layout::VersionRecord>(value);
        }
        return;
    case static_cast<std::uint64_t>(layout::CatalogKind::list):
        if (limit(superblock.next_list, "list")) {
            lists_[item.id].record = copy_out<layout::ListRecord>(value);
        }
        return;
    default: bad(fmt::format("an item has the unknown kind {}", item.kind.get()));
    }
}

void Catalog::bad_operation(std::uint64_t id, const std::string& text)
{
    findings_->add({.severity = Severity::corruption,
                    .kind = FindingKind::range_operation,
                    .text = fmt::format("unfinished operation {}: {}", id, text),
                    .tree = "range operations"});
}

void Catalog::add_range_operation(const layout::RangeOperationItem& item)
{
    const auto report = [&](const std::string& text) { bad_operation(item.id, text); };
    if (item.id == 0 || item.id >= image_->superblock().next_operation) {
        report(fmt::format("its number is not below the next one, {}",
                           image_->superblock().next_operation.get()));
    }
    if (item.kind != static_cast<std::uint8_t>(layout::RangeOperationKind::remove_version)) {
        report(fmt::format("its kind {} is unknown, or reserved", item.kind));
        return;
    }
    const VersionState* version = this->version(item.version);
    if (version == nullptr && complete_) {
        report(fmt::format("version {} does not exist", item.version.get()));
        return;
    }
    if (version != nullptr && !version->removed()) {
        report(fmt::format("it removes version {}, which is not marked as removed",
                           item.version.get()));
        return;
    }
    if (!removals_.emplace(item.version, item).second) {
        report(fmt::format("version {} is being removed twice", item.version.get()));
    }
}

std::string judge_group(const layout::VolumeRecord& record)
{
    const bool snapshot = (record.flags & layout::kVolumeSnapshot) != 0;
    if (record.consistency_group <= (snapshot ? 0 : layout::kMaxConsistencyGroup)) {
        return {};
    }
    return fmt::format("its consistency group {} is impossible", record.consistency_group.get());
}

void Catalog::check_volume(std::uint32_t id, const VolumeState& volume)
{
    const layout::VolumeRecord& record = volume.record;
    const auto report = [&](std::string text) {
        bad(fmt::format("{} {} ('{}'): {}", volume.snapshot() ? "snapshot" : "volume", id,
                        volume.name, text));
    };
    if (record.lba_shift != 9 && record.lba_shift != 12) {
        report(fmt::format("its LBA size is 2^{}", record.lba_shift));
    }
    if (record.flush_mode > 1) {
        report(fmt::format("its flush mode {} is unknown", record.flush_mode));
    }
    if (const std::string wrong = judge_group(record); !wrong.empty()) {
        report(wrong);
    }
    if (record.size_bytes % 512 != 0 || record.size_bytes > layout::kMaxVolumeBytes) {
        report(fmt::format("its size of {} bytes is impossible", record.size_bytes.get()));
    }
    const std::size_t length = strnlen(record.name.data(), record.name.size());
    if (length == 0 || length == record.name.size() ||
        !is_utf8(std::string_view(record.name.data(), length))) {
        report("its name is not 1 to 127 bytes of UTF-8");
    }
    if (record.parent_volume >= image_->superblock().next_volume || record.parent_volume == id ||
        (volume.snapshot() && record.parent_volume == 0)) {
        report(fmt::format("its parent is volume {}", record.parent_volume.get()));
    }
    if (record.created_sequence > image_->sequence()) {
        report(fmt::format("it was made at sequence {}, after the superblock's {}",
                           record.created_sequence.get(), image_->sequence()));
    }
    const VersionState* version = this->version(record.version);
    if (version == nullptr) {
        if (complete_) {
            report(fmt::format("its version {} does not exist; all of it is lost",
                               record.version.get()));
        }
        return;
    }
    if (version->record.volume != id) {
        report(fmt::format("its version {} says that it belongs to volume {}", record.version.get(),
                           version->record.volume.get()));
    }
    if (version->head() == volume.snapshot()) {
        report(volume.snapshot() ? "it is a snapshot of a version that is still written"
                                 : "it is a volume, but its version is not a head");
    }
}

void Catalog::check_volumes()
{
    std::set<std::pair<std::uint32_t, std::string>> names;  // snapshots: within their volume
    CheckReport& report = findings_->report();
    for (const auto& [id, volume] : volumes_) {
        ++(volume.snapshot() ? report.snapshots : report.volumes);
        check_volume(id, volume);
        const std::uint32_t scope = volume.snapshot() ? volume.record.parent_volume.get() : 0;
        if (!names.emplace(scope, volume.name).second) {
            bad(fmt::format("two {} have the name '{}'",
                            volume.snapshot() ? "snapshots of one volume" : "volumes",
                            volume.name));
        }
    }
    report.versions = versions_.size();
}

void Catalog::name_versions()
{
    for (auto& [id, version] : versions_) {
        const auto found = volumes_.find(version.record.volume);
        if (found == volumes_.end()) {
            version.name = fmt::format("version {} ({})", id,
                                       version.removed() ? "removed" : "held by clones");
            version.lba_end = layout::kMaxVolumeBytes >> kBlockShift;
            continue;
        }
        const VolumeState& volume = found->second;
        version.lba_end = divide_up(volume.record.size_bytes, kBlockBytes);
        version.name =
            fmt::format("{} '{}'", volume.snapshot() ? "snapshot" : "volume", volume.name);
        const auto parent = volumes_.find(volume.record.parent_volume);
        if (volume.snapshot() && parent != volumes_.end()) {
            version.name += fmt::format(" of volume '{}'", parent->second.name);
        }
    }
}

void Catalog::check_version(std::uint32_t id, VersionState& version)
{
    const layout::VersionRecord& record = version.record;
    const auto report = [&](std::string text) {
        bad(fmt::format("version {} ({}): {}", id, version.name, text));
    };
    if (record.sequence > image_->sequence()) {
        report(fmt::format("it was taken at {}, after the superblock's sequence {}",
                           record.sequence.get(), image_->sequence()));
    }
    const bool head_flag = (record.flags & layout::kVersionHead) != 0;
    // The head of a deleted volume gets its place in the order with the deletion.
    if (head_flag != version.head()) {
        report("it is marked as a head and has a place in the order, or neither");
    }
    if (record.reference_depth > 2) {
        report(fmt::format("its chains of range references are {} deep", record.reference_depth));
    }
    if (record.volume != 0) {
        const auto volume = volumes_.find(record.volume);
        if (complete_ && (volume == volumes_.end() || volume->second.record.version != id)) {
            report(fmt::format("volume {} does not know it", record.volume.get()));
        }
    } else if ((record.flags & (layout::kVersionRemoved | layout::kVersionHeld)) == 0) {
        findings_->add(
            {.severity = Severity::leak,
             .kind = FindingKind::catalog,
             .text = fmt::format("version {}: nothing shows it, and it is neither marked as "
                                 "held nor as removed: its space is never given back",
                                 id),
             .tree = "catalog"});
    }
    if (record.parent == 0) {
        return;
    }
    const VersionState* parent = this->version(record.parent);
    if (parent == nullptr || record.parent == id) {
        if (complete_) {
            report(fmt::format("its parent {} does not exist", record.parent.get()));
        }
        version.record.parent = 0;
        complete_ = false;
        return;
    }
    // A parent is older than its children; with that the parents cannot form a circle.
    if (parent->head() || (!version.head() && parent->record.sequence >= record.sequence)) {
        report(fmt::format("its parent {} ({}) was not taken before it", record.parent.get(),
                           parent->name));
        version.record.parent = 0;
        complete_ = false;
    }
}

void Catalog::check_versions()
{
    for (auto& [id, version] : versions_) {
        check_version(id, version);
        follow_lists(id, version);
    }
}

void Catalog::follow_lists(std::uint32_t id, VersionState& version)
{
    for (std::uint64_t list = version.record.first_list; list != 0;) {
        const auto found = lists_.find(list);
        if (found == lists_.end()) {
            if (complete_) {
                bad(fmt::format("version {} ({}): its dead list {} does not exist", id,
                                version.name, list));
            }
            complete_ = false;
            return;
        }
        ListState& state = found->second;
        if (state.version != 0) {  // also what ends a circle
            bad(fmt::format("dead list {} belongs to versions {} and {}", list, state.version, id));
            complete_ = false;
            return;
        }
        state.version = id;
        if (state.record.version != id) {
            bad(fmt::format("dead list {} says that it belongs to version {}, not {}", list,
                            state.record.version.get(), id));
        }
        version.lists.push_back(list);
        list = state.record.next;
    }
}

void Catalog::check_lists()
{
    for (const auto& [id, list] : lists_) {
        if (list.version == 0 && complete_) {
            findings_->add({.severity = Severity::leak,
                            .kind = FindingKind::catalog,
                            .text = fmt::format("dead list {} belongs to no version", id),
                            .tree = "catalog"});
        }
    }
}

void Catalog::link_children()
{
    for (auto& [id, version] : versions_) {
        if (version.record.parent != 0) {
            versions_[version.record.parent].children.push_back(id);
        }
    }
}

// Can what an unfinished removal says be, beside the versions around it?
void Catalog::check_removal(const layout::RangeOperationItem& item, const VersionState& version)
{
    const layout::VersionRecord& record = version.record;
    const auto report = [&](const std::string& text) { bad_operation(item.id, text); };
    if (record.volume != 0 || record.held_blocks != 0 || version.children.size() > 1) {
        report(fmt::format("it removes version {}, which is still needed", item.version.get()));
    }
    const VersionState* parent = this->version(record.parent);
    if (item.birth != (parent == nullptr ? 0 : parent->record.sequence.get())) {
        report(fmt::format("it gives back what was born after {}, which is not where the parent "
                           "of version {} was taken",
                           item.birth.get(), item.version.get()));
    }
    if (record.parent != 0 && removals_.contains(record.parent)) {
        report(fmt::format("the parent of version {} is being removed too", item.version.get()));
    }
    if (item.lba != 0 || item.length != 0 || item.cursor > layout::kMapEnd ||
        (item.cursor != 0 && !version.children.empty())) {
        report("its place cannot be");
    }
}

void Catalog::settle_removals()
{
    for (const auto& [id, item] : removals_) {
        if (const VersionState* version = this->version(id); version != nullptr && complete_) {
            check_removal(item, *version);
        }
    }
    // Only where a range operation says that removal has begun can part of it be done already.
    const auto going = [this](std::uint32_t id, const VersionState& version) {
        return removals_.contains(id) && version.record.volume == 0 &&
               version.record.held_blocks == 0;
    };
    for (auto& [id, version] : versions_) {
        version.leaving = going(id, version) && version.children.empty();
        version.cursor = version.leaving ? removals_.at(id).cursor.get() : 0;
    }
    for (auto& [id, version] : versions_) {
        // A child that itself is being dismantled still needs its parent's map to tell what is
        // whose; the parent's turn comes when the child is gone.
        version.merging = going(id, version) && version.children.size() == 1 &&
                          !versions_[version.children.front()].leaving;
    }
    for (auto& [id, version] : versions_) {
        version.effective_lists = version.lists;
        std::uint32_t parent = version.record.parent;
        while (parent != 0 && versions_[parent].merging) {
            const VersionState& above = versions_[parent];
            version.effective_lists.insert(version.effective_lists.end(), above.lists.begin(),
                                           above.lists.end());
            parent = above.record.parent;
        }
        version.effective_parent = parent;
    }
}

void Catalog::find_order()
{
    for (const auto& [id, version] : versions_) {
        if (!version.merging) {
            order_.push_back(id);
        }
    }
    // By age: parents were taken before their children, heads come last.
    const auto age = [this](std::uint32_t id) {
        const std::uint64_t sequence = versions_[id].record.sequence;
        return sequence == 0 ? UINT64_MAX : sequence;
    };
    std::stable_sort(order_.begin(), order_.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return age(a) < age(b); });
}

}  // namespace coppice::checker
