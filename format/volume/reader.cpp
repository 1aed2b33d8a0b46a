#include "format/volume/reader.h"

#include <algorithm>
#include <fmt/format.h>

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

Result<Reader::Plan> Reader::resolve(VolumeId volume, Lba lba, std::uint64_t count)
{
    for (;;) {
        // Nothing suspends in a round, so that it sees one state.
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
        for (const Piece& piece : plan.pieces) {
            for (std::uint64_t i = 0; i < piece.length && !missing; ++i) {
                auto checksum = state_.checksums.get(state_.generation, piece.block + i);
                missing = checksum.missing;
                if (!missing && !checksum.present) {
                    return fail(ErrorCode::bad_data,
                                fmt::format("volume {}, block {}: there is no checksum for block "
                                            "{} of the image",
                                            volume.value, lba.value + piece.offset + i,
                                            piece.block.value + i));
                }
                plan.checksums.push_back(checksum.checksum);
            }
        }
        if (!missing) {
            return plan;
        }
        COPPICE_TRY(state_.checksums.load(*missing));
    }
}

Status Reader::verify(VolumeId volume, Lba lba, const Plan& plan, std::span<std::byte> bytes)
{
    std::size_t index = 0;
    for (const Piece& piece : plan.pieces) {
        for (std::uint64_t i = 0; i < piece.length; ++i, ++index) {
            const auto block = bytes.subspan((piece.offset + i) * kBlockBytes, kBlockBytes);
            if (data_checksum(block) != plan.checksums[index]) {
                return fail(ErrorCode::bad_data,
                            fmt::format("volume {}, block {}: the data at block {} of the image do "
                                        "not have their checksum",
                                        volume.value, lba.value + piece.offset + i,
                                        piece.block.value + i));
            }
        }
    }
    return {};
}

// Reads what lies at its place and copies what is still in memory. (task)
Status Reader::fetch(const Plan& plan, std::span<std::byte> into)
{
    std::vector<iovec> buffers;
    std::vector<IoRequest> requests;
    for (const Piece& piece : plan.pieces) {
        bool continues = false;
        for (std::uint64_t i = 0; i < piece.length; ++i) {
            std::byte* to = into.data() + (piece.offset + i) * kBlockBytes;
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
    for (std::size_t i = 0; i < requests.size(); ++i) {
        requests[i].buffers = {&buffers[i], 1};
    }
    return requests.empty() ? Status() : state_.disk.run(requests);
}

Status Reader::read_blocks(VolumeId volume, Lba lba, std::uint64_t count, std::span<std::byte> into)
{
    COPPICE_ASSIGN(plan, resolve(volume, lba, count));
    // Nothing has suspended since: what is not in memory is at its place.
    std::uint64_t end = 0;
    for (const Piece& piece : plan.pieces) {
        auto gap = into.subspan(end * kBlockBytes, (piece.offset - end) * kBlockBytes);
        std::fill(gap.begin(), gap.end(), std::byte{0});
        end = piece.offset + piece.length;
    }
    auto rest = into.subspan(end * kBlockBytes);
    std::fill(rest.begin(), rest.end(), std::byte{0});
    COPPICE_TRY(fetch(plan, into));
    return verify(volume, lba, plan, into);
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
