// coppice snapshot create|list|delete|rollback, clone, delete
#include <fmt/format.h>

#include "images/text.h"
#include "images/tool.h"

namespace coppice::images {

namespace {

// Prints one line, or the same as JSON.
void done(const NameCommand& command, std::string_view what, const Json& json)
{
    if (command.json) {
        print_json(json);
    } else {
        fmt::print("{}\n", what);
    }
}

}  // namespace

namespace {

Result<int> snapshot_group(Store& store, const NameCommand& command)
{
    const ConsistencyGroup group(command.group);
    std::vector<VolumeInfo> volumes = store.volumes();
    std::erase_if(volumes, [&](const VolumeInfo& volume) { return volume.group != group; });
    COPPICE_ASSIGN(made, store.snapshot_group(group, command.name, false));
    std::string text;
    Json list = Json::array();
    for (std::size_t i = 0; i < made.size(); ++i) {
        text += fmt::format("{}snapshot '{}' of volume '{}' (id {})", i == 0 ? "" : "\n",
                            command.name, volumes[i].name, made[i].value);
        list.push_back({{"id", made[i].value}, {"volume", volumes[i].name}});
    }
    done(command, text, {{"name", command.name}, {"group", command.group}, {"snapshots", list}});
    return kExitOk;
}

}  // namespace

int run_snapshot_create(const NameCommand& command)
{
    return with_store(command, false, [&](Store& store) -> Result<int> {
        if (command.group != 0) {
            return snapshot_group(store, command);
        }
        COPPICE_ASSIGN(volume, choose_volume(store, command.volume));
        COPPICE_ASSIGN(id, store.snapshot(volume.id, {.name = command.name}));
        done(command,
             fmt::format("snapshot '{}' of volume '{}' (id {})", command.name, volume.name,
                         id.value),
             {{"id", id.value}, {"name", command.name}, {"volume", volume.name}});
        return kExitOk;
    });
}

int run_snapshot_list(const NameCommand& command)
{
    return with_store(command, true, [&](Store& store) -> Result<int> {
        std::optional<VolumeId> only;
        if (!command.volume.empty()) {
            COPPICE_ASSIGN(volume, choose_volume(store, command.volume));
            only = volume.id;
        }
        using Align = Table::Align;
        Table table({{"ID", Align::right},
                     {"NAME"},
                     {"VOLUME"},
                     {"SIZE", Align::right},
                     {"MAPPED", Align::right},
                     {"CREATED"}});
        Json list = Json::array();
        const std::vector<VolumeInfo> volumes = store.volumes();
        for (const VolumeInfo& snapshot : volumes) {
            if (!snapshot.snapshot || (only && snapshot.parent != *only)) {
                continue;
            }
            std::string of = "-";
            for (const VolumeInfo& volume : volumes) {
                of = volume.id == snapshot.parent ? volume.name : of;
            }
            table.add({std::to_string(snapshot.id.value), printable(snapshot.name), printable(of),
                       size_text(snapshot.size_bytes), size_text(snapshot.mapped_bytes),
                       time_text(snapshot.created_unix_ns)});
            list.push_back({{"id", snapshot.id.value},
                            {"name", snapshot.name},
                            {"volume", of},
                            {"size_bytes", snapshot.size_bytes},
                            {"mapped_bytes", snapshot.mapped_bytes},
                            {"created_unix_ns", snapshot.created_unix_ns}});
        }
        if (command.json) {
            print_json(list);
        } else {
            fmt::print("{}", table.empty() ? "no snapshots\n" : table.text());
        }
        return kExitOk;
    });
}

int run_snapshot_delete(const NameCommand& command)
{
    return with_store(command, false, [&](Store& store) -> Result<int> {
        COPPICE_ASSIGN(volume, choose_volume(store, command.volume));
        COPPICE_ASSIGN(snapshot, store.find(command.name, volume.id));
        COPPICE_TRY(store.remove(snapshot.id));
        COPPICE_TRY(store.settle());
        done(command,
             fmt::format("deleted snapshot '{}' of volume '{}'", command.name, volume.name),
             {{"deleted", snapshot.id.value}, {"name", command.name}, {"volume", volume.name}});
        return kExitOk;
    });
}

int run_snapshot_rollback(const NameCommand& command)
{
    return with_store(command, false, [&](Store& store) -> Result<int> {
        COPPICE_ASSIGN(volume, choose_volume(store, command.volume));
        COPPICE_ASSIGN(snapshot, store.find(command.name, volume.id));
        COPPICE_TRY(store.rollback(volume.id, snapshot.id));
        COPPICE_TRY(store.settle());
        done(command,
             fmt::format("volume '{}' is as it was in snapshot '{}'", volume.name, command.name),
             {{"volume", volume.name}, {"snapshot", command.name}});
        return kExitOk;
    });
}

int run_clone(const NameCommand& command)
{
    return with_store(command, false, [&](Store& store) -> Result<int> {
        COPPICE_ASSIGN(volume, choose_volume(store, command.volume));
        COPPICE_ASSIGN(snapshot, store.find(command.name, volume.id));
        COPPICE_ASSIGN(id, store.clone_volume(snapshot.id, command.target, false));
        done(command,
             fmt::format("volume '{}' (id {}), a clone of snapshot '{}' of volume '{}'",
                         command.target, id.value, command.name, volume.name),
             {{"id", id.value},
              {"name", command.target},
              {"snapshot", command.name},
              {"volume", volume.name}});
        return kExitOk;
    });
}

int run_delete(const NameCommand& command)
{
    return with_store(command, false, [&](Store& store) -> Result<int> {
        COPPICE_ASSIGN(volume, store.find(command.name, std::nullopt));
        for (const VolumeInfo& other : store.volumes()) {
            if (other.snapshot && other.parent == volume.id) {
                return fail(ErrorCode::busy, fmt::format("volume '{}' has snapshots ('{}'); delete "
                                                         "them first",
                                                         volume.name, other.name));
            }
        }
        COPPICE_TRY(store.remove(volume.id));
        COPPICE_TRY(store.settle());
        done(command, fmt::format("deleted volume '{}'", volume.name),
             {{"deleted", volume.id.value}, {"name", volume.name}});
        return kExitOk;
    });
}

}  // namespace coppice::images
