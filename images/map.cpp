// coppice map: which parts of a volume are data, zeroes or holes, and where they lie in the file.
#include <fmt/format.h>

#include "images/text.h"
#include "images/tool.h"

namespace coppice::images {

namespace {

std::string_view state_name(BlockState state)
{
    switch (state) {
    case BlockState::data: return "data";
    case BlockState::zero: return "zero";
    case BlockState::hole: return "hole";
    }
    return "?";
}

struct Extent {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    BlockState state = BlockState::hole;
    std::optional<std::uint64_t> host_offset = std::nullopt;

    // The store may answer in pieces; what continues this extent becomes part of it.
    bool append(const BlockStatus& next)
    {
        const bool continues = next.state == state &&
                               next.host_offset.has_value() == host_offset.has_value() &&
                               (!host_offset || *host_offset + length == *next.host_offset);
        length += continues ? next.length_bytes : 0;
        return continues;
    }
};

// Prints extents as they come: a volume may have millions.
class Printer {
public:
    explicit Printer(bool json) : json_(json)
    {
        if (!json_) {
            fmt::print("{:>16} {:>16}  {:5} {:>16}\n", "OFFSET", "LENGTH", "STATE", "HOST OFFSET");
        }
    }

    void print(const Extent& extent)
    {
        if (extent.length == 0) {
            return;
        }
        if (!json_) {
            fmt::print("{:>16} {:>16}  {:5} {:>16}\n", extent.offset, extent.length,
                       state_name(extent.state),
                       extent.host_offset ? std::to_string(*extent.host_offset) : "-");
            return;
        }
        Json entry = {{"offset", extent.offset},
                      {"length", extent.length},
                      {"state", state_name(extent.state)}};
        if (extent.host_offset) {
            entry["host_offset"] = *extent.host_offset;
        }
        fmt::print("{}  {}", any_ ? ",\n" : "[\n", entry.dump());
        any_ = true;
    }

    void finish() const
    {
        if (json_) {
            fmt::print("{}\n", any_ ? "\n]" : "[]");
        }
    }

private:
    bool json_;
    bool any_ = false;
};

}  // namespace

int run_map(const MapCommand& command)
{
    return with_store(command, true, [&](Store& store) -> Result<int> {
        COPPICE_ASSIGN(volume, choose_volume(store, command.volume));
        if (!command.snapshot.empty()) {
            COPPICE_ASSIGN(snapshot, store.find(command.snapshot, volume.id));
            volume = snapshot;
        }
        Printer printer(command.json);
        Extent extent;
        for (std::uint64_t at = 0; at < volume.size_bytes;) {
            COPPICE_ASSIGN(status, store.block_status(volume.id, {at, volume.size_bytes - at}));
            if (status.length_bytes == 0) {
                return fail(ErrorCode::bad_record,
                            fmt::format("the map ends at byte {} of the volume", at));
            }
            if (!extent.append(status)) {
                printer.print(extent);
                extent = {at, status.length_bytes, status.state, status.host_offset};
            }
            at += status.length_bytes;
        }
        printer.print(extent);
        printer.finish();
        return kExitOk;
    });
}

}  // namespace coppice::images
