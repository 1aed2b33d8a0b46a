// coppice set: properties of a volume that can change.
#include <fmt/format.h>

#include "images/tool.h"

namespace coppice::images {

int run_set(const SetCommand& command)
{
    return with_store(command, false, [&](Store& store) -> Result<int> {
        COPPICE_ASSIGN(volume, choose_volume(store, command.volume));
        const auto mode = flush_mode_of(command.flush);
        if (!mode) {
            return fail(ErrorCode::invalid_argument, "a flush is durable or ordered");
        }
        COPPICE_TRY(store.set_flush_mode(volume.id, *mode));
        if (command.json) {
            print_json({{"volume", volume.name}, {"flush", command.flush}});
        } else {
            fmt::print("volume '{}': flush {}\n", volume.name, command.flush);
        }
        return kExitOk;
    });
}

}  // namespace coppice::images
