#include "format/volume/reader.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <memory>

#include "format/base/checksum.h"
#include "format/base/rules.h"
#include "format/volume/effects.h"

namespace coppice {

std::optional<Missing> Reader::resolve_version(VersionId version, Lba lba, std::uint64_t count,
                                               std::uint64_t offset, unsigned depth, Plan& plan,
                                               Status& failed) const
{
    const Version* found = state_.catalog.version(version);
    if (found == nullptr || depth > kMaxReferenceDepth) {
        failed = fail(ErrorCode::bad_record,
                      fmt::format("a range reference names version {}, which is not there or "
                                  "makes too long a chain",
                                  version.value));
        return std::nullopt;
    }
    std::vector<MapRun> runs;
    auto missing = state_.map.collect(found->map, lba, count, runs, nullptr);
    Lba free_from = lba;
    for (const MapRun& run : runs) {
        if (missing || !failed) {
            return missing;
        }
        if (run.lba < free_from) {
            failed = fail(ErrorCode::bad_record,
                          fmt::format("the map of version {} has two items for block {}",
                                      version.value, run.lba.value));
            return std::nullopt;
        }
        free_from = run.lba + run.length;
        const std::uint64_t run_offset = offset + (run.lba - lba);
        switch (run.kind) {
        case layout::MapKind::data:
            plan.pieces.push_back({run_offset, BlockNo(run.block), run.length});
            break;
        case layout::MapKind::range_reference:
            missing = resolve_version(VersionId(run.detail), Lba(run.block), run.length, run_offset,
                                      depth + 1, plan, failed);
            break;
        case layout::MapKind::zero: break;
        case layout::MapKind::unwritable:
            failed = fail(ErrorCode::bad_data,
                          fmt::format("block {} of version {} was marked as unreadable",
                                      run.lba.value, version.value));
            break;
        }
    }
    return missing;
}

// Of one state, as long as nothing suspends: `gap` says what must be loaded for it first.
Status Reader::look_up(const Wanted& wanted, Plan& plan, std::optional<Gap>& gap)
{
    Volume* found = state_.catalog.volume(wanted.volume);
    if (found == nullptr) {
        return fail(ErrorCode::not_found,
                    fmt::format("there is no volume {}", wanted.volume.value));
    }
    Status failed;
    if (auto missing =
            resolve_version(found->version, wanted.lba, wanted.count, 0, 0, plan, failed)) {
        gap = Gap{*missing, false};
        return {};
    }
    COPPICE_TRY(std::move(failed));
    for (const Piece& piece : plan.pieces) {
        for (std::uint64_t i = 0; i < piece.length; ++i) {
            const auto checksum = state_.checksums.get(state_.generation, piece.block + i);
            if (checksum.missing) {
                gap = Gap{*checksum.missing, true};
                return {};
            }
            if (!checksum.present) {
                return fail(ErrorCode::bad_data,
                            fmt::format("volume {}, block {}: there is no checksum for block "
                                        "{} of the image",
                                        wanted.volume.value, wanted.lba.value + piece.offset + i,
                                        piece.block.value + i));
            }
            plan.checksums.push_back(checksum.checksum);
        }
    }
    return {};
}

Status Reader::resolve(std::span<const Wanted> wanted, std::vector<Plan>& plans)
{
    for (;;) {
        // Nothing suspends in a round, so that it sees one state.
        CacheUse use(state_.cache);
        std::optional<Gap> gap;
        plans.clear();
        for (std::size_t i = 0; i < wanted.size() && !gap; ++i) {
            COPPICE_TRY(look_up(wanted[i], plans.emplace_back(), gap));
        }
        if (!gap) {
            return {};
        }
        COPPICE_TRY(gap->of_checksums ? state_.checksums.load(gap->missing)
                                      : state_.map.load(gap->missing));
    }
}

Status Reader::verify(const Wanted& wanted, const Plan& plan)
{
    std::size_t index = 0;
    for (const Piece& piece : plan.pieces) {
        for (std::uint64_t i = 0; i < piece.length; ++i, ++index) {
            const auto block = wanted.into.subspan((piece.offset + i) * kBlockBytes, kBlockBytes);
            if (data_checksum(block) != plan.checksums[index]) {
                return fail(ErrorCode::bad_data,
                            fmt::format("volume {}, block {}: the data at block {} of the image do "
                                        "not have their checksum",
                                        wanted.volume.value, wanted.lba.value + piece.offset + i,
                                        piece.block.value + i));
            }
        }
    }
    return {};
}

// Copies what is still in memory, all of it before anything suspends, and reads what lies at its
// place. (task)
Status Reader::fetch(std::span<const Wanted> wanted, std::span<const Plan> plans)
{
    std::vector<iovec> buffers;
    std::vector<IoRequest> requests;
    for (std::size_t n = 0; n < wanted.size(); ++n) {
        for (const Piece& piece : plans[n].pieces) {
            bool continues = false;
            for (std::uint64_t i = 0; i < piece.length; ++i) {
                std::byte* to = wanted[n].into.data() + (piece.offset + i) * kBlockBytes;
                const std::byte* late =
                    obeys(Rule::late_data_read) ? state_.late.find(piece.block + i) : nullptr;
                if (late != nullptr) {
                    std::memcpy(to, late, kBlockBytes);
                } else if (continues) {
                    buffers.back().iov_len += kBlockBytes;
                    requests.back().length_bytes += kBlockBytes;
                } else {
                    buffers.push_back({to, kBlockBytes});
                    requests.push_back({.kind = IoRequest::Kind::read,
                                        .offset_bytes = byte_offset(piece.block + i),
                                        .length_bytes = kBlockBytes});
                }
                continues = late == nullptr;
            }
        }
    }
    for (std::size_t i = 0; i < requests.size(); ++i) {
        requests[i].buffers = {&buffers[i], 1};
    }
    return requests.empty() ? Status() : state_.disk.run(requests);
}

Status Reader::read_blocks(VolumeId volume, Lba lba, std::uint64_t count, std::span<std::byte> into)
{
    const Wanted wanted{volume, lba, count, into};
    return read_blocks({&wanted, 1});
}

Status Reader::read_blocks(std::span<const Wanted> wanted)
{
    std::vector<Plan> plans;
    COPPICE_TRY(resolve(wanted, plans));
    // Nothing has suspended since: what is not in memory is at its place.
    for (std::size_t n = 0; n < wanted.size(); ++n) {
        const std::span<std::byte> into = wanted[n].into;
        std::uint64_t end = 0;
        for (const Piece& piece : plans[n].pieces) {
            auto gap = into.subspan(end * kBlockBytes, (piece.offset - end) * kBlockBytes);
            std::fill(gap.begin(), gap.end(), std::byte{0});
            end = piece.offset + piece.length;
        }
        auto rest = into.subspan(end * kBlockBytes);
        std::fill(rest.begin(), rest.end(), std::byte{0});
    }
    COPPICE_TRY(fetch(wanted, plans));
    for (std::size_t n = 0; n < wanted.size(); ++n) {
        COPPICE_TRY(verify(wanted[n], plans[n]));
    }
    return {};
}

Status Reader::read_sources(std::span<const CloneSource> sources, std::span<std::byte> into,
                            const Change& change)
{
    std::vector<std::unique_ptr<BlockBuffer>> buffers;
    std::vector<Wanted> wanted;
    for (const CloneSource& source : sources) {
        const std::uint64_t begin = source.range.offset_bytes / kBlockBytes;
        const std::uint64_t end =
            divide_up(source.range.offset_bytes + source.range.length_bytes, kBlockBytes);
        buffers.push_back(std::make_unique<BlockBuffer>(end - begin));
        wanted.push_back({source.volume, Lba(begin), end - begin, buffers.back()->span()});
    }
    COPPICE_TRY(read_blocks(wanted));
    std::uint64_t done = 0;
    for (std::size_t n = 0; n < sources.size(); ++n) {
        if (change) {
            COPPICE_TRY(change(wanted[n]));
        }
        const Range& range = sources[n].range;
        std::memcpy(into.data() + done, wanted[n].into.data() + range.offset_bytes % kBlockBytes,
                    range.length_bytes);
        done += range.length_bytes;
    }
    return {};
}

// The part of a piece that is at its place, or the part that is not.
Reader::Run Reader::data_run(const Piece& piece) const
{
    constexpr std::uint64_t kLookedAt = 1024;
    Run run{BlockState::data, piece.length, piece.block.value, false};
    if (state_.late.blocks() == 0) {
        return run;
    }
    run.late = state_.late.find(piece.block) != nullptr;
    run.length = 1;
    while (run.length < std::min(piece.length, kLookedAt) &&
           (state_.late.find(piece.block + run.length) != nullptr) == run.late) {
        ++run.length;
    }
    return run;
}

Result<Reader::Run> Reader::run_at(VolumeId volume, Lba lba, std::uint64_t count)
{
    for (;;) {
        CacheUse use(state_.cache);
        Volume* found = state_.catalog.volume(volume);
        if (found == nullptr) {
            return fail(ErrorCode::not_found, fmt::format("there is no volume {}", volume.value));
        }
        Plan plan;
        Status failed;
        auto missing = resolve_version(found->version, lba, count, 0, 0, plan, failed);
        if (!missing && !failed) {
            return pass_on(failed);
        }
        if (missing) {
            COPPICE_TRY(state_.map.load(*missing));
            continue;
        }
        if (plan.pieces.empty()) {
            return Run{BlockState::hole, count, 0};
        }
        const Piece& first = plan.pieces.front();
        if (first.offset > 0) {
            return Run{BlockState::hole, first.offset, 0};
        }
        return data_run(first);
    }
}

}  // namespace coppice
