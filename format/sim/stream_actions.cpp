// Streams of the workload: further orders inside the volumes, to which a part of what is done
// belongs.
#include <algorithm>
#include <fmt/format.h>

#include "format/sim/report.h"
#include "format/sim/workload.h"

namespace coppice::sim {

namespace {

constexpr std::size_t kMostStreams = 4;  // in one volume; the image takes 64

}  // namespace

StreamId Workload::choose_stream(VolumeId volume)
{
    const auto open = streams_.find(volume);
    if (open == streams_.end() || open->second.empty() || !random_.chance(plan_.stream_percent)) {
        return {};
    }
    return open->second[random_.below(open->second.size())];
}

void Workload::do_open_stream()
{
    const VolumeId id = choose(true, false);
    if (id == VolumeId(0) || plan_.stream_percent == 0 || streams_[id].size() >= kMostStreams) {
        return;
    }
    const Result<StreamId> opened = store_.open_stream(id);
    if (opened) {
        streams_[id].push_back(*opened);
        reached(Case::streams_opened);
    } else if (still_there(id)) {
        excuse(opened.error(), fmt::format("open of a stream of volume {}", id.value));
    }
}

// Nothing of it is under way; what it has pending stays so.
void Workload::do_close_stream()
{
    const VolumeId id = choose(true, false);
    if (id == VolumeId(0)) {
        return;
    }
    const auto held = locks_.take({{Hold::Kind::volume_alone, id}});
    std::vector<StreamId>& open = streams_[id];
    if (!still_there(id) || open.empty()) {
        return;
    }
    const std::size_t index = random_.below(open.size());
    if (const Status closed = store_.close_stream(id, open[index]); !closed) {
        excuse(closed.error(), fmt::format("close of a stream of volume {}", id.value));
        return;
    }
    open.erase(open.begin() + static_cast<std::ptrdiff_t>(index));
    reached(Case::streams_closed);
}

// A stream changes a sector of what a transaction has just committed, and flushes that: the
// transaction goes along, what other streams have pending does not.
void Workload::build_on(const Staged& staged)
{
    const StreamId stream = choose_stream(staged.volume);
    if (stream == StreamId() || stopped_ || staged.sectors.empty() || !random_.chance(40)) {
        return;
    }
    const std::uint64_t first = staged.sectors.begin()->first;
    Volume& volume = *model_.find(staged.volume);
    Change change;
    change.what = fmt::format("write of sector {} of volume {}, stream {}, behind a transaction",
                              first, volume.id.value, stream.value);
    change.stream = stream;
    const Stamps stamps = fresh_stamps(1);
    change.patches = {{first, stamps}};
    const std::size_t index = ask(volume, std::move(change));
    if (answer(volume, index, write(volume.id, first, stamps, false, stream)) && !stopped_) {
        flush(volume.id, stream);
    }
}

}  // namespace coppice::sim
