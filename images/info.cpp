// coppice info
#include <fmt/format.h>
#include <sys/stat.h>

#include "images/text.h"
#include "images/tool.h"

namespace coppice::images {

namespace {

std::string parent_text(const std::vector<VolumeInfo>& volumes, const VolumeInfo& volume)
{
    for (const VolumeInfo& other : volumes) {
        if (other.id == volume.parent) {
            return fmt::format("{} '{}'", volume.snapshot ? "snapshot of" : "clone of",
                               printable(other.name));
        }
    }
    return volume.snapshot ? "snapshot" : volume.parent == VolumeId() ? "" : "clone";
}

Json volume_json(const VolumeInfo& volume)
{
    return {{"id", volume.id.value},
            {"name", volume.name},
            {"snapshot", volume.snapshot},
            {"read_only", volume.read_only},
            {"guest_made", volume.guest_made},
            {"parent", volume.parent.value},
            {"size_bytes", volume.size_bytes},
            {"lba_bytes", std::uint64_t{1} << volume.lba_shift},
            {"flush", flush_mode_name(volume.flush)},
            {"group", volume.group.value},
            {"mapped_bytes", volume.mapped_bytes},
            {"created_unix_ns", volume.created_unix_ns},
            {"created_sequence", volume.created.value},
            {"vm_state_bytes", volume.vm_state_bytes}};
}

Json info_json(const std::string& path, const ImageInfo& info, std::uint64_t host_bytes,
               const std::vector<VolumeInfo>& volumes)
{
    Json json = {{"image", path},
                 {"format", "coppice"},
                 {"version", fmt::format("{}.{}", info.major_version, info.minor_version)},
                 {"uuid", to_string(info.uuid)},
                 {"generation", info.generation.value},
                 {"sequence", info.sequence.value},
                 {"created_unix_ns", info.created_unix_ns},
                 {"host_bytes", host_bytes},
                 {"image_bytes", info.space.image_bytes},
                 {"data_bytes", info.space.data_bytes},
                 {"node_bytes", info.space.node_bytes},
                 {"free_bytes", info.space.free_bytes},
                 {"fixed_bytes", info.space.fixed_bytes},
                 {"journal_bytes", info.journal_bytes},
                 {"replayed_commits", info.replayed_commits},
                 {"replayed_operations", info.replayed_operations},
                 {"removals", info.removals}};
    Json list = Json::array();
    for (const VolumeInfo& volume : volumes) {
        list.push_back(volume_json(volume));
    }
    json["volumes"] = std::move(list);
    return json;
}

void print_info(const std::string& path, const ImageInfo& info, std::uint64_t host_bytes,
                const std::vector<VolumeInfo>& volumes)
{
    Table facts({{""}, {""}});
    facts.add({"image", path});
    facts.add({"format", fmt::format("coppice {}.{}", info.major_version, info.minor_version)});
    facts.add({"uuid", to_string(info.uuid)});
    facts.add({"created", time_text(info.created_unix_ns)});
    facts.add({"on the host", fmt::format("{} taken", size_text(host_bytes))});
    facts.add(
        {"space", fmt::format("{} data, {} trees, {} free, {} fixed (journal {})",
                              size_text(info.space.data_bytes), size_text(info.space.node_bytes),
                              size_text(info.space.free_bytes), size_text(info.space.fixed_bytes),
                              size_text(info.journal_bytes))});
    facts.add({"state", fmt::format("generation {}, sequence {}", info.generation.value,
                                    info.sequence.value)});
    if (info.replayed_operations != 0) {
        facts.add({"journal", fmt::format("{} in {} to replay when it is next opened",
                                          plural(info.replayed_operations, "operation"),
                                          plural(info.replayed_commits, "commit"))});
    }
    if (info.removals != 0) {
        facts.add(
            {"removals", fmt::format("{} under way; {} space is given back while the image is "
                                     "open for writing",
                                     info.removals, info.removals == 1 ? "its" : "their")});
    }
    fmt::print("{}\n", facts.text());

    using Align = Table::Align;
    Table table({{"ID", Align::right},
                 {"NAME"},
                 {"SIZE", Align::right},
                 {"MAPPED", Align::right},
                 {"LBA", Align::right},
                 {"CREATED"},
                 {"WHAT"}});
    for (const VolumeInfo& volume : volumes) {
        std::string what = parent_text(volumes, volume);
        if (volume.read_only && !volume.snapshot) {
            what += what.empty() ? "read-only" : ", read-only";
        }
        if (volume.flush == FlushMode::ordered) {
            what += what.empty() ? "flush ordered" : ", flush ordered";
        }
        if (volume.group != ConsistencyGroup()) {
            what += fmt::format("{}group {}", what.empty() ? "" : ", ", volume.group.value);
        }
        if (volume.guest_made) {
            what += what.empty() ? "made by a guest" : ", made by a guest";
        }
        if (volume.vm_state_bytes != 0) {
            what += fmt::format(", VM state {}", size_text(volume.vm_state_bytes));
        }
        table.add({std::to_string(volume.id.value), printable(volume.name),
                   size_text(volume.size_bytes), size_text(volume.mapped_bytes),
                   std::to_string(1U << volume.lba_shift), time_text(volume.created_unix_ns),
                   what.empty() ? "volume" : what});
    }
    fmt::print("{}", table.empty() ? "no volumes\n" : table.text());
}

}  // namespace

int run_info(const ImageOptions& command)
{
    return with_store(command, true, [&](Store& store) -> Result<int> {
        struct stat facts {};
        const bool known = stat(command.path.c_str(), &facts) == 0;
        const std::uint64_t host_bytes =
            known ? static_cast<std::uint64_t>(facts.st_blocks) * 512 : 0;
        const ImageInfo info = store.info();
        const std::vector<VolumeInfo> volumes = store.volumes();
        if (command.json) {
            print_json(info_json(command.path, info, host_bytes, volumes));
        } else {
            print_info(command.path, info, host_bytes, volumes);
        }
        return kExitOk;
    });
}

}  // namespace coppice::images
