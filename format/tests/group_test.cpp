// Consistency groups: volumes that have one order, and snapshots of all of them at one moment.
#include <cstring>

#include "format/tests/transaction_bench.h"

using namespace coppice;

namespace {

constexpr VolumeId kData(1);
constexpr VolumeId kLog(2);
constexpr VolumeId kOther(3);
constexpr ConsistencyGroup kGroup(7);

struct GroupBench : Bench {
    // Three volumes of 1 MiB, the first two in a group.
    void make()
    {
        for (const VolumeId id : {kLog, kOther}) {
            NewVolume wanted;
            wanted.name = id == kLog ? "log" : "other";
            wanted.size_bytes = kMiB;
            const auto made = store->create_volume(wanted);
            REQUIRE(made.has_value());
            REQUIRE(*made == id);
        }
        expect(store->set_group(kData, kGroup));
        expect(store->set_group(kLog, kGroup));
    }

    void write_block(VolumeId volume, std::uint64_t block, std::uint8_t fill, bool fua = false,
                     StreamId stream = {})
    {
        Bytes bytes(kBlockBytes, fill);
        const iovec buffer{bytes.data(), bytes.size()};
        expect(store->perform({.kind = Kind::write,
                               .volume = volume,
                               .stream = stream,
                               .offset_bytes = block * kBlockBytes,
                               .buffers = {&buffer, 1},
                               .fua = fua}));
    }

    bool has_block(VolumeId volume, std::uint64_t block, std::uint8_t fill)
    {
        return holds(volume, block * kBlockBytes, kBlockBytes, fill);
    }

    void flush(VolumeId volume, StreamId stream = {})
    {
        expect(store->perform({.kind = Kind::flush, .volume = volume, .stream = stream}));
    }

    ConsistencyGroup group_of(VolumeId volume) { return store->volume(volume)->group; }

    void run_grouped(const std::function<void()>& body)
    {
        run_and_close([&] {
            make();
            body();
        });
    }
};

}  // namespace

TEST_CASE("a volume joins a group, keeps it and leaves it")
{
    GroupBench bench;
    bench.run_grouped([&] {
        const auto& store = bench.store;
        CHECK(bench.group_of(kData) == kGroup);
        CHECK(bench.group_of(kOther) == ConsistencyGroup());
        bench.crash();  // the journal has it
        CHECK(bench.group_of(kData) == kGroup);
        bench.expect(store->checkpoint());
        bench.crash();  // the trees have it
        CHECK(bench.group_of(kLog) == kGroup);
        bench.write_block(kData, 0, 1);
        bench.flush(kLog);
        bench.crash();
        CHECK(bench.has_block(kData, 0, 1));

        VolumeId snapshot;
        bench.snapshot("one", &snapshot);
        CHECK(bench.group_of(snapshot) == ConsistencyGroup());
        const auto clone = store->clone_volume(snapshot, "copy", false);
        REQUIRE(clone.has_value());
        CHECK(bench.group_of(*clone) == ConsistencyGroup());
        bench.expect_error(store->set_group(snapshot, kGroup), ErrorCode::read_only);
        bench.expect_error(store->set_group(VolumeId(99), kGroup), ErrorCode::not_found);
        bench.expect_error(store->set_group(kOther, ConsistencyGroup(256)),
                           ErrorCode::invalid_argument, "1 to 255");
        bench.expect(store->set_group(kOther, ConsistencyGroup(255)));
        CHECK(bench.group_of(kOther) == ConsistencyGroup(255));
        bench.expect(store->set_group(kOther, ConsistencyGroup()));
        bench.crash();
        CHECK(bench.group_of(kOther) == ConsistencyGroup());
    });
}

TEST_CASE("a flush of one volume of a group covers the others, and nobody else")
{
    GroupBench bench;
    bench.run_grouped([&] {
        bench.write_block(kData, 0, 1);
        bench.write_block(kOther, 0, 2);
        bench.flush(kLog);
        bench.crash();
        CHECK(bench.has_block(kData, 0, 1));
        CHECK(bench.has_block(kOther, 0, 0));
    });
}

TEST_CASE("what a volume of a group makes durable has what the others did before")
{
    GroupBench bench;
    bench.run_grouped([&] {
        bench.write_block(kData, 0, 1);
        bench.write_block(kLog, 0, 2, true);
        bench.crash();
        CHECK(bench.has_block(kData, 0, 1));
        CHECK(bench.has_block(kLog, 0, 2));

        bench.write_block(kLog, 1, 3);
        const TransactionId id = bench.begin(kData);
        bench.stage(id, 5 * kBlockBytes, kBlockBytes, 4, kData);
        bench.expect(bench.store->commit(id, true));
        bench.crash();
        CHECK(bench.has_block(kLog, 1, 3));
        CHECK(bench.has_block(kData, 5, 4));
    });
}

TEST_CASE("who joins or leaves has everything durable, and its order with it")
{
    GroupBench bench;
    bench.run_grouped([&] {
        bench.write_block(kOther, 0, 1);
        bench.write_block(kData, 0, 2);
        bench.expect(bench.store->set_group(kOther, kGroup));
        bench.crash();
        CHECK(bench.has_block(kOther, 0, 1));
        CHECK(bench.has_block(kData, 0, 2));

        bench.write_block(kOther, 1, 3);
        bench.flush(kLog);
        bench.crash();
        CHECK(bench.has_block(kOther, 1, 3));

        bench.write_block(kOther, 2, 4);
        bench.expect(bench.store->set_group(kOther, ConsistencyGroup()));
        bench.write_block(kOther, 3, 5);
        bench.write_block(kData, 3, 6);
        bench.flush(kLog);
        bench.crash();
        CHECK(bench.has_block(kOther, 2, 4));
        CHECK(bench.has_block(kOther, 3, 0));
        CHECK(bench.has_block(kData, 3, 6));
    });
}

TEST_CASE("streams stay of their volume, and a flush of the group covers them")
{
    GroupBench bench;
    bench.run_grouped([&] {
        const StreamId stream = *bench.store->open_stream(kLog);
        bench.write_block(kData, 0, 1);
        bench.write_block(kLog, 0, 2);
        bench.write_block(kLog, 1, 3, false, stream);
        bench.flush(kLog, stream);
        bench.crash();
        CHECK(bench.has_block(kData, 0, 0));
        CHECK(bench.has_block(kLog, 0, 0));
        CHECK(bench.has_block(kLog, 1, 3));

        const StreamId again = *bench.store->open_stream(kLog);
        bench.write_block(kLog, 2, 4, false, again);
        bench.flush(kData);
        bench.crash();
        CHECK(bench.has_block(kLog, 2, 4));
    });
}

TEST_CASE("an ordered flush puts what is pending before what comes later, and else orders nothing")
{
    const bool pending = GENERATE(false, true);
    const bool opened_before = GENERATE(false, true);
    GroupBench bench;
    bench.run_grouped([&] {
        bench.expect(bench.store->set_flush_mode(kLog, FlushMode::ordered));
        const auto before = bench.store->open_stream(kData);
        REQUIRE(before.has_value());
        if (pending) {
            bench.write_block(kLog, 0, 1);
        }
        bench.flush(kLog);
        const auto stream = opened_before ? before : bench.store->open_stream(kData);
        REQUIRE(stream.has_value());
        bench.write_block(kOther, 0, 2);
        bench.write_block(kLog, 1, 2);
        bench.write_block(kData, 0, 3, false, *stream);
        bench.flush(kData, *stream);
        bench.crash();
        CHECK(bench.has_block(kData, 0, 3));
        CHECK(bench.has_block(kLog, 0, pending ? 1 : 0));
        CHECK(bench.has_block(kLog, 1, pending ? 2 : 0));
        CHECK(bench.has_block(kOther, 0, 0));
    });
}

TEST_CASE("a stream that builds on its volume's own order brings the whole group")
{
    GroupBench bench;
    bench.run_grouped([&] {
        bench.write_block(kData, 0, 1);
        bench.write_block(kLog, 0, 2);
        const StreamId stream = *bench.store->open_stream(kLog);
        Bytes bytes(kSector, 3);
        const iovec buffer{bytes.data(), bytes.size()};
        bench.expect(bench.store->perform({.kind = Kind::write,
                                           .volume = kLog,
                                           .stream = stream,
                                           .offset_bytes = kSector,
                                           .buffers = {&buffer, 1}}));
        bench.flush(kLog, stream);
        bench.crash();
        CHECK(bench.holds(kLog, kSector, kSector, 3));
        CHECK(bench.holds(kLog, 0, kSector, 2));
        CHECK(bench.has_block(kData, 0, 1));
    });
}

TEST_CASE("a volume that is removed leaves its group")
{
    GroupBench bench;
    bench.run_grouped([&] {
        bench.write_block(kData, 0, 1);
        bench.expect(bench.store->remove(kLog));
        const auto made = bench.store->snapshot_group(kGroup, "after", false);
        REQUIRE(made.has_value());
        CHECK(made->size() == 1);
        bench.write_block(kData, 1, 2, true);
        bench.crash();
        CHECK(bench.has_block(kData, 0, 1));
        CHECK(bench.has_block(kData, 1, 2));
    });
}

TEST_CASE("snapshots of a group are of one moment")
{
    GroupBench bench;
    bench.run_grouped([&] {
        // The log says first what is then done to the data.
        constexpr std::uint64_t kRounds = 200;
        std::uint64_t written = 0;
        bool stopped = false;
        bench.delay = [](const IoRequest& request) {
            return std::uint64_t{request.kind == IoRequest::Kind::sync ? 50'000U : 3'000U};
        };
        bench.tasks.spawn([&] {
            for (std::uint64_t round = 1; round <= kRounds; ++round) {
                Bytes bytes(kBlockBytes);
                std::memcpy(bytes.data(), &round, sizeof(round));
                const iovec buffer{bytes.data(), bytes.size()};
                bench.expect(bench.store->write(kLog, 0, {&buffer, 1}, round % 3 == 0));
                bench.expect(bench.store->write(kData, 0, {&buffer, 1}, round % 5 == 0));
                written = round;
            }
            stopped = true;
        });
        const auto round_in = [&](VolumeId volume) {
            Bytes bytes(kBlockBytes);
            const iovec buffer{bytes.data(), bytes.size()};
            bench.expect(bench.store->read(volume, 0, {&buffer, 1}));
            std::uint64_t round = 0;
            std::memcpy(&round, bytes.data(), sizeof(round));
            return round;
        };
        unsigned beside_writes = 0;
        for (unsigned i = 0; i < 10 && !stopped; ++i) {
            const std::uint64_t before = written;
            const auto made = bench.store->snapshot_group(kGroup, "s" + std::to_string(i), false);
            REQUIRE(made.has_value());
            REQUIRE(made->size() == 2);
            CHECK(bench.store->volume((*made)[0])->parent == kData);
            CHECK(bench.store->volume((*made)[1])->parent == kLog);
            const std::uint64_t data = round_in((*made)[0]);
            const std::uint64_t log = round_in((*made)[1]);
            INFO("data " << data << ", log " << log);
            CHECK((log == data || log == data + 1));
            CHECK(log >= before);
            beside_writes += written > before ? 1U : 0U;
        }
        CHECK(beside_writes > 0);
        while (!stopped) {
            bench.tasks.yield();
        }
    });
}

TEST_CASE("snapshots of a group are made as one, or none is")
{
    GroupBench bench;
    bench.run_grouped([&] {
        NewSnapshot taken;
        taken.name = "monday";
        REQUIRE(bench.store->snapshot(kLog, taken).has_value());
        const std::size_t before = bench.store->volumes().size();
        const auto failure = [&](ConsistencyGroup group, const std::string& name) {
            const auto made = bench.store->snapshot_group(group, name, false);
            REQUIRE_FALSE(made.has_value());
            return std::string(error_name(made.error().code));
        };
        CHECK(failure(kGroup, "monday") == error_name(ErrorCode::exists));
        CHECK(failure(kGroup, "") == error_name(ErrorCode::invalid_argument));
        CHECK(failure(ConsistencyGroup(8), "x") == error_name(ErrorCode::not_found));
        CHECK(failure(ConsistencyGroup(), "x") == error_name(ErrorCode::not_found));
        CHECK(bench.store->volumes().size() == before);

        const auto made = bench.store->snapshot_group(kGroup, "tuesday", true);
        REQUIRE(made.has_value());
        bench.crash();  // replayed as one command
        CHECK(bench.store->volumes().size() == before + 2);
        for (const VolumeId id : *made) {
            const auto snapshot = bench.store->volume(id);
            REQUIRE(snapshot.has_value());
            CHECK(snapshot->name == "tuesday");
            CHECK(snapshot->guest_made);
            CHECK(snapshot->snapshot);
        }
        bench.write_block(kData, 0, 9, true);
        CHECK(bench.has_block((*made)[0], 0, 0));
        bench.expect(bench.store->rollback(kData, (*made)[0]));
        CHECK(bench.group_of(kData) == kGroup);
        CHECK(bench.has_block(kData, 0, 0));
    });
}
