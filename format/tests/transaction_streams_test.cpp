// Transactions and streams of one volume: a commit belongs to the volume's own order, and takes
// along what streams did before to what it builds on.
#include <functional>

#include "format/tests/transaction_bench.h"

using namespace coppice;

namespace {

constexpr std::uint64_t kMeeting = 8 * kBlockBytes;  // where a stream meets the volume's own order

void write_in(Bench& bench, StreamId stream, std::uint64_t offset, std::uint64_t length,
              std::uint8_t fill)
{
    Bytes bytes(length, fill);
    const iovec buffer{bytes.data(), bytes.size()};
    bench.expect(bench.store->perform({.kind = Kind::write,
                                       .volume = kVolume,
                                       .stream = stream,
                                       .offset_bytes = offset,
                                       .buffers = {&buffer, 1}}));
}

void deallocate_in(Bench& bench, StreamId stream, const Range& range)
{
    bench.expect(bench.store->perform(
        {.kind = Kind::deallocate, .volume = kVolume, .stream = stream, .ranges = {&range, 1}}));
}

// One stream writes block 1 and then changes block 0; what `change` makes of block 0 takes effect
// with a write of part of `kMeeting`. Only that reaches the journal, because another stream needs
// it, and the power fails. The first stream's write of block 1 must be there.
void expect_taken_along(const std::function<void(Bench&, StreamId)>& first,
                        const std::function<void(Bench&)>& change,
                        const std::function<void(Bench&)>& look)
{
    Bench bench;
    bench.run_and_close([&] {
        const StreamId one = *bench.store->open_stream(kVolume);
        const StreamId two = *bench.store->open_stream(kVolume);
        bench.write(kVolume, 0, kBlockBytes, 1);
        bench.expect(bench.store->flush(kVolume));
        write_in(bench, one, kBlockBytes, kBlockBytes, 2);
        first(bench, one);
        change(bench);
        write_in(bench, two, kMeeting + kSector, kSector, 9);
        bench.expect(bench.store->perform({.kind = Kind::flush, .volume = kVolume, .stream = two}));
        bench.crash();
        CHECK(bench.holds(kVolume, kMeeting, kSector, 8));
        CHECK(bench.holds(kVolume, kMeeting + kSector, kSector, 9));
        CHECK(bench.holds(kVolume, kBlockBytes, kBlockBytes, 2));
        look(bench);
    });
}

void write_block(Bench& bench, StreamId stream) { write_in(bench, stream, 0, kBlockBytes, 3); }
void clear_block(Bench& bench, StreamId stream) { deallocate_in(bench, stream, {0, kBlockBytes}); }

void commit_with_meeting(Bench& bench, TransactionId id)
{
    bench.stage(id, kMeeting, kSector, 8);
    bench.expect(bench.store->commit(id, false));
}

}  // namespace

TEST_CASE("a commit takes along what a stream did to the rest of a block")
{
    expect_taken_along(
        write_block,
        [](Bench& bench) {
            const TransactionId id = bench.begin();
            bench.stage(id, kSector, kSector, 4);
            commit_with_meeting(bench, id);
        },
        [](Bench& bench) {
            CHECK(bench.holds(kVolume, 0, kSector, 3));
            CHECK(bench.holds(kVolume, kSector, kSector, 4));
        });
}

TEST_CASE("a commit that zeroes a part of a block takes along a stream that deallocated it")
{
    expect_taken_along(
        clear_block,
        [](Bench& bench) {
            const TransactionId id = bench.begin();
            bench.expect(bench.try_clear(id, Kind::deallocate, {kSector, kSector}));
            commit_with_meeting(bench, id);
        },
        [](Bench& bench) { CHECK(bench.holds(kVolume, 0, kBlockBytes, 0)); });
}

TEST_CASE("a commit takes along the source of what was copied into the transaction")
{
    expect_taken_along(
        write_block,
        [](Bench& bench) {
            const TransactionId id = bench.begin();
            bench.expect(bench.try_clone(id, 4 * kBlockBytes, {kVolume, {0, kBlockBytes}}));
            commit_with_meeting(bench, id);
        },
        [](Bench& bench) {
            CHECK(bench.holds(kVolume, 0, kBlockBytes, 3));
            CHECK(bench.holds(kVolume, 4 * kBlockBytes, kBlockBytes, 3));
        });
}

TEST_CASE("a commit takes along another volume that was copied into the transaction")
{
    Bench bench;
    bench.run_and_close([&] {
        NewVolume wanted;
        wanted.name = "other";
        wanted.size_bytes = kMiB;
        const VolumeId other = *bench.store->create_volume(wanted);
        bench.write(other, kBlockBytes, kBlockBytes, 2);
        bench.write(other, 0, kBlockBytes, 3);
        const TransactionId id = bench.begin();
        bench.expect(bench.try_clone(id, 0, {other, {0, kBlockBytes}}));
        bench.expect(bench.store->commit(id, true));
        bench.crash();
        CHECK(bench.holds(kVolume, 0, kBlockBytes, 3));
        CHECK(bench.holds(other, 0, kBlockBytes, 3));
        CHECK(bench.holds(other, kBlockBytes, kBlockBytes, 2));
    });
}

TEST_CASE("a write of several ranges takes along what a stream did to the rest of a block")
{
    expect_taken_along(
        write_block,
        [](Bench& bench) {
            bench.expect(bench.try_write_ranges({{kSector, kSector}, {kMeeting, kSector}},
                                                Bytes(2 * kSector, 8)));
        },
        [](Bench& bench) {
            CHECK(bench.holds(kVolume, 0, kSector, 3));
            CHECK(bench.holds(kVolume, kSector, kSector, 8));
        });
}

TEST_CASE("a commit leaves a stream behind that did nothing to its blocks")
{
    Bench bench;
    bench.run_and_close([&] {
        const StreamId one = *bench.store->open_stream(kVolume);
        const StreamId two = *bench.store->open_stream(kVolume);
        write_in(bench, one, kBlockBytes, kBlockBytes, 2);
        const TransactionId id = bench.begin();
        bench.stage(id, kSector, kSector, 4);
        write_in(bench, one, 2 * kBlockBytes, kBlockBytes, 3);
        commit_with_meeting(bench, id);
        write_in(bench, two, kMeeting + kSector, kSector, 9);
        bench.expect(bench.store->perform({.kind = Kind::flush, .volume = kVolume, .stream = two}));
        bench.crash();
        CHECK(bench.holds(kVolume, kSector, kSector, 4));
        CHECK(bench.holds(kVolume, kBlockBytes, 2 * kBlockBytes, 0));
    });
}

TEST_CASE("a durable commit covers what the volume's streams did before")
{
    Bench bench;
    bench.run_and_close([&] {
        const StreamId one = *bench.store->open_stream(kVolume);
        write_in(bench, one, kBlockBytes, kBlockBytes, 2);
        const TransactionId id = bench.begin();
        bench.stage(id, 0, kBlockBytes, 4);
        bench.expect(bench.store->commit(id, true));
        bench.crash();
        CHECK(bench.holds(kVolume, 0, kBlockBytes, 4));
        CHECK(bench.holds(kVolume, kBlockBytes, kBlockBytes, 2));
    });
}

TEST_CASE("a transaction comes too late when a stream changed its blocks first")
{
    Bench bench;
    bench.run_and_close([&] {
        const StreamId one = *bench.store->open_stream(kVolume);
        const TransactionId id = bench.begin();
        bench.stage(id, 0, kSector, 4);
        write_in(bench, one, kSector, kSector, 2);
        bench.expect_error(bench.store->commit(id, false), ErrorCode::conflict);
        CHECK(bench.holds(kVolume, 0, kSector, 0));
        CHECK(bench.holds(kVolume, kSector, kSector, 2));
    });
}

TEST_CASE("a transaction and a write of several ranges have no stream")
{
    Bench bench;
    bench.run_and_close([&] {
        const StreamId one = *bench.store->open_stream(kVolume);
        const TransactionId id = bench.begin();
        Bytes bytes(kBlockBytes, 1);
        const iovec buffer{bytes.data(), bytes.size()};
        const Range range{0, kBlockBytes};
        for (const Kind kind : {Kind::read, Kind::write, Kind::write_ranges, Kind::commit}) {
            const Operation operation{.kind = kind,
                                      .volume = kVolume,
                                      .stream = one,
                                      .length_bytes = kBlockBytes,
                                      .buffers = {&buffer, 1},
                                      .ranges = {&range, 1},
                                      .transaction = id};
            bench.expect_error(bench.store->perform(operation), ErrorCode::invalid_argument,
                               "not to stream 1");
        }
        bench.expect_error(bench.store->perform({.kind = Kind::write_ranges,
                                                 .volume = kVolume,
                                                 .stream = one,
                                                 .buffers = {&buffer, 1},
                                                 .ranges = {&range, 1}}),
                           ErrorCode::invalid_argument, "not to stream 1");
        bench.stage(id, 0, kBlockBytes, 7);
        bench.expect(bench.store->commit(id, false));
        CHECK(bench.holds(kVolume, 0, kBlockBytes, 7));
    });
}
