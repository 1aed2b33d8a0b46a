#include "format/sim/reuse.h"

#include <map>

#include "format/layout/layout.h"

namespace coppice::sim {

std::vector<std::pair<Event, Event>> reuse_before_checkpoints(const DiskLog& log)
{
    std::vector<std::pair<Event, Event>> spans;
    std::map<std::uint64_t, std::uint64_t> written;  // by block, with the superblocks before
    std::uint64_t superblocks = 0;
    std::size_t first_open = 0;  // of the spans
    for (const LoggedRequest& request : log.requests) {
        const std::uint64_t first = request.offset_bytes / kBlockBytes;
        if (request.kind != IoRequest::Kind::write) {
            continue;
        }
        if (first == layout::kSuperblockNear || first == layout::kSuperblockNear + 1) {
            ++superblocks;
            for (; first_open < spans.size(); ++first_open) {
                spans[first_open].second = request.submitted;
            }
        }
        constexpr std::uint64_t kFixed = layout::kJournalStart + layout::kMinJournalBlocks + 2;
        for (std::uint64_t i = 0; first >= kFixed && i < request.length_bytes / kBlockBytes; ++i) {
            const auto [known, fresh] = written.emplace(first + i, superblocks);
            if (!fresh && known->second < superblocks) {
                spans.emplace_back(request.submitted, kNever);
                break;
            }
            known->second = superblocks;
        }
    }
    return spans;
}

}  // namespace coppice::sim
