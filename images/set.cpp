// coppice set: properties of a volume that can change.
#include <fmt/format.h>

#include "images/tool.h"

namespace coppice::images {

int run_set(const SetCommand& command)
{
    return with_store(command, false, [&](Store& store) -> Result<int> {
        COPPICE_ASSIGN(volume, choose_volume(store, command.volume));
        Json json = {{"volume", volume.name}};
        std::string text;
        if (!command.flush.empty()) {
            const auto mode = flush_mode_of(command.flush);
            if (!mode) {
                return fail(ErrorCode::invalid_argument, "a flush is durable or ordered");
            }
            COPPICE_TRY(store.set_flush_mode(volume.id, *mode));
            json["flush"] = command.flush;
            text = " flush " + command.flush;
        }
        if (command.group) {
            COPPICE_TRY(store.set_group(volume.id, ConsistencyGroup(*command.group)));
            json["group"] = *command.group;
            text += *command.group == 0
                        ? fmt::format("{} no group", text.empty() ? "" : ",")
                        : fmt::format("{} group {}", text.empty() ? "" : ",", *command.group);
        }
        if (command.json) {
            print_json(json);
        } else {
            fmt::print("volume '{}':{}\n", volume.name, text);
        }
        return kExitOk;
    });
}

}  // namespace coppice::images
