// Streams, transactions and Write Ranges as a guest has them, over the real store.
#include "controller/tests/store_machine.h"

using namespace coppice;
using namespace coppice::nvme;
using namespace coppice::nvme::test;

namespace {

constexpr std::uint32_t kFua = 1U << 30;

struct OrderMachine : StoreMachine {
    explicit OrderMachine(unsigned shift = 12) : StoreMachine(1, shift), block_bytes(1U << shift) {}

    CompletionEntry call(IoOpcode opcode, Tag tag = {}, std::uint32_t cdw12 = 0,
                         std::uint32_t nsid = 1)
    {
        SubmissionEntry entry = io_entry(opcode, nsid, 0, 1, {});
        entry.cdw12 = cdw12;
        entry.cdw14 = tag.transaction;
        entry.cdw15 = tag.stream;
        return machine.call(queue, entry);
    }
    StatusCode status(IoOpcode opcode, Tag tag = {}, std::uint32_t cdw12 = 0,
                      std::uint32_t nsid = 1)
    {
        return status_field_code(call(opcode, tag, cdw12, nsid).status);
    }
    std::uint32_t opened(IoOpcode opcode)
    {
        const CompletionEntry done = call(opcode);
        REQUIRE(status_field_code(done.status) == StatusCode::success);
        REQUIRE(done.dw0 != 0);
        return done.dw0;
    }
    Tag begin() { return {0, opened(IoOpcode::transaction_begin)}; }
    Tag open_stream() { return {static_cast<std::uint16_t>(opened(IoOpcode::stream_open)), 0}; }

    StatusCode transfer(IoOpcode opcode, Tag tag, std::uint64_t lba, std::uint32_t blocks)
    {
        SubmissionEntry entry =
            io_entry(opcode, 1, lba, blocks, machine.data(buffer, blocks * block_bytes));
        entry.cdw14 = tag.transaction;
        entry.cdw15 = tag.stream;
        return machine.status(queue, entry);
    }
    // One byte value over whole blocks.
    StatusCode write(Tag tag, std::uint64_t lba, std::uint8_t value, std::uint32_t blocks = 1)
    {
        const auto memory = machine.guest(buffer, blocks * block_bytes);
        std::fill(memory.begin(), memory.end(), std::byte{value});
        return transfer(tag_of(IoOpcode::write, tag), tag, lba, blocks);
    }
    unsigned read(Tag tag, std::uint64_t lba)
    {
        REQUIRE(transfer(tag_of(IoOpcode::read, tag), tag, lba, 1) == StatusCode::success);
        const auto memory = machine.guest(buffer, block_bytes);
        REQUIRE(std::count(memory.begin(), memory.end(), memory[0]) ==
                static_cast<std::ptrdiff_t>(block_bytes));
        return std::to_integer<unsigned>(memory[0]);
    }
    static IoOpcode tag_of(IoOpcode opcode, Tag tag)
    {
        return tag.stream == 0 && tag.transaction == 0 ? opcode : tagged(opcode);
    }

    struct Piece {
        std::uint64_t lba = 0;
        std::uint32_t blocks = 0;
        std::uint8_t value = 0;
    };
    StatusCode write_ranges(const std::vector<Piece>& pieces, std::uint32_t flags = 0)
    {
        const std::uint64_t list =
            divide_up(pieces.size() * sizeof(WriteRange), block_bytes) * block_bytes;
        std::uint64_t at = buffer + list;
        for (std::size_t i = 0; i < pieces.size(); ++i) {
            WriteRange range;
            range.start_lba = pieces[i].lba;
            range.blocks = pieces[i].blocks;
            machine.put(buffer + i * sizeof(WriteRange), range);
            if (pieces[i].blocks <= 16) {
                const auto memory = machine.guest(at, pieces[i].blocks * block_bytes);
                std::fill(memory.begin(), memory.end(), std::byte{pieces[i].value});
                at += pieces[i].blocks * block_bytes;
            }
        }
        const std::uint64_t keep = machine.pages.next();
        const DataPointer data = machine.data(buffer, at - buffer);
        SubmissionEntry entry = io_entry(IoOpcode::write_ranges, 1, 0, 1, data);
        entry.cdw10 = static_cast<std::uint32_t>(pieces.size() - 1);
        entry.cdw12 = flags;
        const StatusCode done = machine.status(queue, entry);
        machine.pages.reset(keep);
        return done;
    }

    std::uint64_t block_bytes;
};

}  // namespace

TEST_CASE("a transaction is seen by itself alone until it is committed")
{
    OrderMachine m(GENERATE(9U, 12U));
    REQUIRE(m.write({}, 3, 1) == StatusCode::success);
    const Tag tag = m.begin();
    REQUIRE(m.write(tag, 3, 2) == StatusCode::success);
    REQUIRE(m.write(tag, 100, 3) == StatusCode::success);
    CHECK(m.read(tag, 3) == 2);
    CHECK(m.read({}, 3) == 1);
    CHECK(m.read({}, 100) == 0);
    SECTION("committed, durable")
    {
        REQUIRE(m.status(IoOpcode::transaction_commit, tag, kFua) == StatusCode::success);
        CHECK(m.read({}, 3) == 2);
        CHECK(m.read({}, 100) == 3);
        m.crash_and_open();
        CHECK(m.read({}, 3) == 2);
        CHECK(m.read({}, 100) == 3);
    }
    SECTION("aborted")
    {
        REQUIRE(m.status(IoOpcode::transaction_abort, tag) == StatusCode::success);
        CHECK(m.read({}, 3) == 1);
        CHECK(m.read({}, 100) == 0);
        CHECK(m.write(tag, 3, 4) == StatusCode::order_unknown);
    }
    SECTION("deallocations and copies belong to it, too")
    {
        SubmissionEntry zeroes = io_entry(tagged(IoOpcode::write_zeroes), 1, 3, 1, {});
        zeroes.cdw14 = tag.transaction;
        REQUIRE(m.machine.status(m.queue, zeroes) == StatusCode::success);
        CopyRange range;
        range.start_lba = 100;
        m.machine.put(m.buffer, range);
        SubmissionEntry copy = io_entry(tagged(IoOpcode::copy), 1, 200, 1, {m.buffer, 0});
        copy.cdw12 = 0;
        copy.cdw14 = tag.transaction;
        // Sources are as they are to everybody, except the transaction's own volume.
        REQUIRE(m.machine.status(m.queue, copy) == StatusCode::success);
        CHECK(m.read(tag, 3) == 0);
        CHECK(m.read(tag, 200) == 3);
        CHECK(m.read({}, 3) == 1);
        CHECK(m.read({}, 200) == 0);
        REQUIRE(m.status(IoOpcode::transaction_commit, tag) == StatusCode::success);
        CHECK(m.read({}, 3) == 0);
        CHECK(m.read({}, 200) == 3);
    }
}

TEST_CASE("the first committer wins; who comes second is told")
{
    OrderMachine m;
    const Tag first = m.begin();
    const Tag second = m.begin();
    REQUIRE(m.write(first, 7, 1) == StatusCode::success);
    REQUIRE(m.write(second, 7, 2) == StatusCode::success);
    REQUIRE(m.status(IoOpcode::transaction_commit, first) == StatusCode::success);
    CHECK(m.status(IoOpcode::transaction_commit, second) == StatusCode::transaction_conflict);
    CHECK(m.read({}, 7) == 1);
    CHECK(m.status(IoOpcode::transaction_commit, first) == StatusCode::order_unknown);
    CHECK(m.status(IoOpcode::transaction_commit, second) == StatusCode::order_unknown);
}

TEST_CASE("a conflict is the guest's to mend, so the host's error policy is not asked")
{
    OrderMachine m;
    m.machine.host.action = ErrorAction::retry;
    const Tag tag = m.begin();
    REQUIRE(m.write(tag, 7, 1) == StatusCode::success);
    REQUIRE(m.write({}, 7, 2) == StatusCode::success);
    CHECK(m.status(IoOpcode::transaction_commit, tag) == StatusCode::transaction_conflict);
}

TEST_CASE("a reset ends what the guest had open")
{
    OrderMachine m;
    const bool whole = GENERATE(false, true);
    const Tag tag = m.begin();
    REQUIRE(m.write(tag, 7, 1) == StatusCode::success);
    Tag stream;
    for (std::size_t i = 0; i < kMaxStreams; ++i) {
        stream = m.open_stream();
    }
    CHECK(m.status(IoOpcode::stream_open) == StatusCode::command_interrupted);
    REQUIRE(m.write(stream, 8, 2) == StatusCode::success);
    if (whole) {
        m.machine.controller->reset();
        m.machine.run();
    } else {
        m.machine.disable();
    }
    m.machine.enable();
    m.queue = m.machine.create_queue(1, 64, 1);
    CHECK(m.status(IoOpcode::transaction_commit, tag) == StatusCode::order_unknown);
    CHECK(m.write(stream, 8, 3) == StatusCode::order_unknown);
    CHECK(m.status(IoOpcode::stream_close, stream) == StatusCode::order_unknown);
    CHECK(m.read({}, 7) == 0);
    CHECK(m.read({}, 8) == 2);
    for (std::size_t i = 0; i < kMaxStreams; ++i) {
        m.open_stream();
    }
}

TEST_CASE("a reset ends nothing that another controller of the image has open")
{
    OrderMachine m;
    const TransactionId other = *m.store->begin(VolumeId(1));
    const StreamId stream = *m.store->open_stream(VolumeId(1));
    for (unsigned i = 0; i < 200; ++i) {  // more than it remembers
        const Tag tag = m.begin();
        REQUIRE(m.status(IoOpcode::transaction_commit, tag) == StatusCode::success);
    }
    const Tag own = m.begin();
    m.machine.disable();
    m.machine.enable();
    m.queue = m.machine.create_queue(1, 64, 1);
    CHECK(m.store->volume_of(other).has_value());
    CHECK_FALSE(m.store->volume_of(TransactionId(own.transaction)).has_value());
    CHECK(m.store->close_stream(VolumeId(1), stream).has_value());
}

TEST_CASE("a reset while something stands between device and store counts when the store is back")
{
    OrderMachine m;
    const Tag tag = m.begin();
    const auto swap = [&](Backend& backend) {
        m.machine.controller->stop();
        m.machine.run();
        m.machine.controller->use(backend);
        m.machine.controller->start();
    };
    const bool reset = GENERATE(false, true);
    // The fake machine's own backend has streams; a plain block device has not.
    struct Plain final : StoreBackend {
        using StoreBackend::StoreBackend;
        Abilities abilities() const override { return {}; }
    } plain(*m.store, m.fibers);
    swap(plain);
    CHECK(m.status(IoOpcode::transaction_commit, tag) == StatusCode::invalid_opcode);
    if (reset) {
        m.machine.disable();
        m.machine.enable();
        m.queue = m.machine.create_queue(1, 64, 1);
    }
    swap(*m.backend);
    CHECK(m.status(IoOpcode::transaction_commit, tag) ==
          (reset ? StatusCode::order_unknown : StatusCode::success));
}

TEST_CASE("a stream has its own flush")
{
    OrderMachine m;
    const Tag stream = m.open_stream();
    REQUIRE(m.write(stream, 8, 5) == StatusCode::success);
    CHECK(m.read({}, 8) == 5);
    CHECK(m.read(stream, 8) == 5);
    REQUIRE(m.status(tagged(IoOpcode::flush), stream) == StatusCode::success);
    m.crash_and_open();
    CHECK(m.read({}, 8) == 5);
    CHECK(m.status(tagged(IoOpcode::flush), stream) == StatusCode::order_unknown);
}

TEST_CASE("Write Ranges writes all of its ranges")
{
    OrderMachine m(GENERATE(9U, 12U));
    m.machine.host.refuse_maps = GENERATE(false, true);
    REQUIRE(m.write_ranges({{5, 2, 1}, {1000, 1, 2}, {6, 3, 3}, {0, 16, 4}}, kFua) ==
            StatusCode::success);
    const auto check = [&] {
        CHECK(m.read({}, 5) == 4);
        CHECK(m.read({}, 8) == 4);
        CHECK(m.read({}, 15) == 4);
        CHECK(m.read({}, 16) == 0);
        CHECK(m.read({}, 1000) == 2);
    };
    check();
    m.crash_and_open();
    check();

    std::vector<OrderMachine::Piece> many;
    for (unsigned i = 0; i < kWriteRanges; ++i) {
        many.push_back({2U * i, 1, static_cast<std::uint8_t>(i)});
    }
    const bool fits = kWriteRanges * (m.block_bytes + sizeof(WriteRange)) <= kMaxTransferBytes;
    CHECK(m.write_ranges(many) == (fits ? StatusCode::success : StatusCode::invalid_field));
    if (fits) {
        CHECK(m.read({}, 2 * 77) == 77);
        CHECK(m.read({}, 2 * 255) == 255);
    }
}

TEST_CASE("Write Ranges that are wrong change nothing")
{
    OrderMachine m;
    const std::uint64_t end = kVolumeBytes / m.block_bytes;
    CHECK(m.write_ranges({{1, 1, 9}, {end, 1, 9}}) == StatusCode::lba_out_of_range);
    CHECK(m.write_ranges({{1, 1, 9}, {end - 1, 2, 9}}) == StatusCode::lba_out_of_range);
    CHECK(m.write_ranges({{1, 1, 9}, {2, 0, 9}}) == StatusCode::invalid_field);
    CHECK(m.write_ranges({{1, 1, 9}, {2, 300, 9}}) == StatusCode::command_size_limit_exceeded);
    WriteRange range;
    range.start_lba = 1;
    range.blocks = 1;
    range.reserved12 = 1;
    m.machine.put(m.buffer, range);
    SubmissionEntry entry = io_entry(IoOpcode::write_ranges, 1, 0, 1, {m.buffer, m.buffer + 4096});
    entry.cdw10 = 0;
    entry.cdw12 = 0;
    CHECK(m.machine.status(m.queue, entry) == StatusCode::invalid_field);
    CHECK(m.read({}, 1) == 0);
}

TEST_CASE("tags that a command cannot have are refused")
{
    OrderMachine m;
    const Tag transaction = m.begin();
    const Tag stream = m.open_stream();
    const Tag both{stream.stream, transaction.transaction};
    const auto invalid = StatusCode::invalid_field;
    CHECK(m.write(both, 1, 9) == invalid);
    CHECK(m.status(tagged(IoOpcode::flush), transaction) == invalid);
    CHECK(m.status(tagged(IoOpcode::flush), stream, 0, kNsidAll) ==
          StatusCode::invalid_namespace_or_format);
    CHECK(m.status(IoOpcode::stream_open, stream) == invalid);
    CHECK(m.status(IoOpcode::stream_close) == invalid);
    CHECK(m.status(IoOpcode::stream_close, transaction) == invalid);
    CHECK(m.status(IoOpcode::transaction_begin, transaction) == invalid);
    CHECK(m.status(IoOpcode::transaction_commit) == invalid);
    CHECK(m.status(IoOpcode::transaction_commit, both) == invalid);
    CHECK(m.status(IoOpcode::transaction_abort, stream) == invalid);
    CHECK(m.status(IoOpcode::write_ranges, transaction) == invalid);
    CHECK(m.status(tagged(IoOpcode::compare), stream) == StatusCode::invalid_opcode);
    CHECK(m.status(tagged(IoOpcode::verify), stream) == StatusCode::invalid_opcode);
    SubmissionEntry entry = io_entry(tagged(IoOpcode::flush), 1, 0, 1, {});
    entry.cdw15 = 0x10000U | stream.stream;
    CHECK(m.machine.status(m.queue, entry) == invalid);
    CHECK(m.write({99, 0}, 1, 9) == StatusCode::order_unknown);
    CHECK(m.write({0, 99}, 1, 9) == StatusCode::order_unknown);
    CHECK(m.status(IoOpcode::transaction_begin, {}, 0, 99) == invalid);  // an inactive NSID
    CHECK(m.read({}, 1) == 0);
    // What is not refused goes on.
    CHECK(m.status(IoOpcode::transaction_commit, transaction) == StatusCode::success);
    CHECK(m.status(IoOpcode::stream_close, stream) == StatusCode::success);
}

TEST_CASE("a transaction belongs to its namespace")
{
    OrderMachine m;
    const std::uint32_t snapshot = m.named(AdminOpcode::snapshot_create, 1, "s");
    const std::uint32_t clone = m.named(AdminOpcode::clone, snapshot, "c");
    m.attach(snapshot);
    m.attach(clone);
    const Tag tag = m.begin();
    CHECK(m.status(IoOpcode::transaction_begin, {}, 0, snapshot) ==
          StatusCode::namespace_write_protected);
    CHECK(m.status(IoOpcode::stream_open, {}, 0, snapshot) ==
          StatusCode::namespace_write_protected);
    CHECK(m.status(IoOpcode::transaction_commit, tag, 0, clone) == StatusCode::order_unknown);
    CHECK(m.status(IoOpcode::transaction_abort, tag, 0, clone) == StatusCode::order_unknown);
    CHECK(m.status(IoOpcode::transaction_commit, tag) == StatusCode::success);
}

TEST_CASE("Identify and the effects log say what there is")
{
    OrderMachine m;
    SubmissionEntry identify = admin_entry(AdminOpcode::identify, 0, m.buffer);
    identify.cdw10 = 1;
    REQUIRE(m.machine.status(m.machine.admin, identify) == StatusCode::success);
    const auto limits = m.machine.get<IdentifyController>(m.buffer).vendor;
    CHECK(std::string(limits.signature.data()) == "COPPICE");
    CHECK(limits.streams == kMaxStreams);
    CHECK(limits.transactions == kMaxTransactions);
    CHECK(limits.write_ranges == kWriteRanges);
    CHECK(limits.transaction_bytes == kMaxTransactionBytes);
    CHECK(limits.staged_bytes == kMaxStagedBytes);
    CHECK(limits.transaction_timeout_ms == 60000);

    SubmissionEntry effects = admin_entry(AdminOpcode::get_log_page, 0, m.buffer);
    effects.cdw10 = 0x03ff0005;
    REQUIRE(m.machine.status(m.machine.admin, effects) == StatusCode::success);
    const auto log = m.machine.get<EffectsLog>(m.buffer);
    for (const unsigned opcode :
         {0x80U, 0x81U, 0x82U, 0x88U, 0x89U, 0x99U, 0x90U, 0x91U, 0x94U, 0xa0U, 0xa4U, 0xa8U}) {
        INFO(opcode);
        CHECK((log.io[opcode] & 1U) == 1);
    }
    CHECK(log.io[0x85] == 0);
}
