#include "format/volume/verify.h"

#include <algorithm>

#include "format/base/checksum.h"
#include "format/base/rules.h"
#include "format/volume/buffer.h"

namespace coppice {

namespace {

// Data are read in batches of at most so many blocks and requests. One batch is checked while the
// next is read.
constexpr std::uint64_t kBatchBlocks = 1024;
constexpr std::size_t kBatchRequests = 64;
constexpr std::uint64_t kRequestBlocks = 256;
// Commits are taken together up to so many blocks: what is read behind the first bad one is in
// vain, and an image may say anything.
constexpr std::uint64_t kTogetherBlocks = 65536;

constexpr std::size_t kNone = SIZE_MAX;

// Blocks of the image that must have the checksums of an operation.
struct Piece {
    BlockNo block;
    std::uint64_t length = 0;
    const JournalOperation* operation = nullptr;
    std::uint64_t index = 0;  // of the first block in the operation
    std::size_t commit = 0;
};

class Verifier {
public:
    explicit Verifier(State& state) : state_(state) {}

    // The first commit that does not verify, or kNone.
    Result<std::size_t> first_bad(std::vector<Piece> pieces)
    {
        std::sort(pieces.begin(), pieces.end(),
                  [](const Piece& a, const Piece& b) { return a.block < b.block; });
        pieces_ = pieces;
        start(batches_[0]);
        for (std::size_t i = 0; !batches_[i % 2].pieces.empty(); ++i) {
            start(batches_[(i + 1) % 2]);
            finish(batches_[i % 2]);
        }
        // Where reading failed, nobody can say whether the commit is whole; it does not matter
        // behind one that is not.
        if (error_ && failed_ < bad_) {
            return tl::unexpected<Error>(std::move(*error_));
        }
        return bad_;
    }

private:
    struct Batch {
        BlockBuffer buffer{kBatchBlocks};
        std::vector<Piece> pieces;
        std::vector<iovec> buffers;
        std::vector<IoRequest> requests;
        IoGroup group;

        std::span<std::byte> blocks(std::uint64_t at, std::uint64_t count)
        {
            return buffer.span().subspan(at * kBlockBytes, count * kBlockBytes);
        }
    };

    // Takes the next piece, of at most `most` blocks; nothing of commits that do not count.
    std::optional<Piece> take(std::uint64_t most)
    {
        while (!pieces_.empty() && pieces_.front().commit >= std::min(bad_, failed_)) {
            pieces_ = pieces_.subspan(1);
        }
        if (pieces_.empty()) {
            return std::nullopt;
        }
        Piece& front = pieces_.front();
        Piece taken = front;
        taken.length = std::min(front.length, most);
        front.block = front.block + taken.length;
        front.index += taken.length;
        front.length -= taken.length;
        if (front.length == 0) {
            pieces_ = pieces_.subspan(1);
        }
        return taken;
    }

    void start(Batch& batch)
    {
        batch.pieces.clear();
        batch.buffers.clear();
        batch.buffers.reserve(kBatchRequests);
        batch.requests.clear();
        std::uint64_t blocks = 0;
        BlockNo end;
        while (blocks < kBatchBlocks && batch.requests.size() < kBatchRequests) {
            const auto piece = take(std::min(kRequestBlocks, kBatchBlocks - blocks));
            if (!piece) {
                break;
            }
            const std::uint64_t bytes = piece->length * kBlockBytes;
            const bool continues =
                !batch.requests.empty() && piece->block == end &&
                batch.requests.back().length_bytes + bytes <= kRequestBlocks * kBlockBytes;
            if (continues) {
                batch.buffers.back().iov_len += bytes;
                batch.requests.back().length_bytes += bytes;
            } else {
                batch.buffers.push_back({batch.buffer.block(blocks).data(), bytes});
                batch.requests.push_back({.kind = IoRequest::Kind::read,
                                          .offset_bytes = byte_offset(piece->block),
                                          .length_bytes = bytes,
                                          .buffers = {&batch.buffers.back(), 1}});
            }
            end = piece->block + piece->length;
            blocks += piece->length;
            batch.pieces.push_back(*piece);
        }
        state_.recovery.verified_blocks += blocks;
        state_.disk.submit(batch.requests, batch.group);
    }

    void finish(Batch& batch)
    {
        state_.disk.wait(batch.group);
        std::uint64_t at = 0;
        std::size_t request = 0;
        std::uint64_t request_end = 0;
        bool whole = true;
        for (const Piece& piece : batch.pieces) {
            if (at >= request_end) {
                const IoRequest& next = batch.requests[request++];
                request_end = at + next.length_bytes / kBlockBytes;
                whole = next.result >= 0;
            }
            Status read;
            if (!whole) {  // which of its pieces cannot be read?
                read = state_.disk.read(byte_offset(piece.block), batch.blocks(at, piece.length));
            }
            if (!read) {
                if (piece.commit < failed_) {
                    failed_ = piece.commit;
                    error_ = read.error();
                }
            } else if (piece.commit < bad_ && !matches(piece, batch, at)) {
                bad_ = piece.commit;
            }
            at += piece.length;
        }
    }

    static bool matches(const Piece& piece, Batch& batch, std::uint64_t at)
    {
        for (std::uint64_t i = 0; i < piece.length; ++i) {
            if (data_checksum(batch.buffer.block(at + i)) !=
                piece.operation->checksum(piece.index + i)) {
                return false;
            }
        }
        return true;
    }

    State& state_;
    std::array<Batch, 2> batches_;
    std::span<Piece> pieces_;     // not yet read
    std::size_t bad_ = kNone;     // first commit whose data are something else,
    std::size_t failed_ = kNone;  // and first whose data could not be read
    std::optional<Error> error_;
};

void append_data(const State& state, const DecodedCommit& commit, std::size_t number,
                 std::vector<Piece>& pieces)
{
    for (const JournalOperation& operation : commit.operations) {
        // What the superblock contains was synced before it.
        if (operation.type() == layout::OperationType::write && !operation.has_data() &&
            operation.sequence() > state.durable_sequence) {
            pieces.push_back(
                {BlockNo(operation.record.block), operation.record.length, &operation, 0, number});
        }
    }
}

// What no crash can have left: blocks so far behind the end of the file that they were never there.
bool out_of_reach(const State& state, const DecodedCommit& commit, std::uint64_t file_blocks)
{
    return std::any_of(commit.operations.begin(), commit.operations.end(),
                       [&](const auto& operation) {
                           return operation.type() == layout::OperationType::write &&
                                  operation.sequence() > state.durable_sequence &&
                                  operation.record.block + operation.record.length >
                                      file_blocks + layout::kMaxLostGrowth;
                       });
}

}  // namespace

Status verify_tail(State& state, Scan& scan)
{
    auto& commits = scan.commits;
    std::size_t next = 0;
    while (next < commits.size() &&
           (commits[next].commit.commit <= scan.synced || !obeys(Rule::verify_tail))) {
        ++next;
    }
    COPPICE_ASSIGN(file_blocks, state.file_blocks());
    for (std::size_t i = next; i < commits.size(); ++i) {
        if (out_of_reach(state, commits[i].commit, file_blocks)) {
            commits.resize(i);
        }
    }
    while (next < commits.size()) {
        std::vector<Piece> pieces;
        std::uint64_t blocks = 0;
        while (next < commits.size() && blocks < kTogetherBlocks) {
            const std::size_t before = pieces.size();
            append_data(state, commits[next].commit, next, pieces);
            for (std::size_t i = before; i < pieces.size(); ++i) {
                blocks += pieces[i].length;
            }
            ++next;
        }
        COPPICE_ASSIGN(bad, Verifier(state).first_bad(std::move(pieces)));
        if (bad != kNone) {
            commits.resize(bad);
            return {};
        }
    }
    return {};
}

}  // namespace coppice
