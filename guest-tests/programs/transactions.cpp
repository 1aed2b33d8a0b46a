// guest-transactions: streams, transactions and Write Ranges of the disk (controller/NVME.md), by
// libnvme, over a namespace's block device. It writes over what the namespace holds.
//
//   show NAMESPACE-DEVICE            goes through what each of them promises
//   write NAMESPACE-DEVICE FROM      without end: generation FROM, FROM + 1, …, each to all places
//                                    at once, by a transaction or Write Ranges; `ACK n` when
//                                    durable
//   check NAMESPACE-DEVICE LAST      all places hold one generation, LAST or a later one
#include "passthrough.h"
#include "pattern.h"
#include "target.h"

#include <libnvme.h>

#include <array>

namespace guest {
namespace {

constexpr std::uint8_t opcode_flush = 0x80;
constexpr std::uint8_t opcode_write = 0x81;
constexpr std::uint8_t opcode_read = 0x82;
constexpr std::uint8_t opcode_write_zeroes = 0x88;
constexpr std::uint8_t opcode_stream_open = 0x90;
constexpr std::uint8_t opcode_write_ranges = 0x91;
constexpr std::uint8_t opcode_stream_close = 0x94;
constexpr std::uint8_t opcode_begin = 0xa0;
constexpr std::uint8_t opcode_commit = 0xa4;
constexpr std::uint8_t opcode_abort = 0xa8;
constexpr std::uint32_t force_unit_access = 1U << 30;
constexpr int status_conflict = 0x1c2;
constexpr int status_order_unknown = 0x1c3;

constexpr std::size_t block_bytes = 4096;
constexpr std::size_t places = 16;
constexpr std::size_t list_entry_bytes = 16;
constexpr std::uint64_t aborted_generation = 1ULL << 40;  // of transactions that must never be seen

struct Tag {
    std::uint32_t stream = 0;
    std::uint32_t transaction = 0;
};

// The status as in the completion, without Do Not Retry and More.
int status_code_of(int status) { return status & 0x7ff; }

class Disk {
public:
    explicit Disk(const std::string& path)
        : target(path, Target::Access::ReadWrite), nsid_(nsid_of_device(target.descriptor(), path))
    {
        if (target.size_bytes() < places * 2 * block_bytes)
            end(Exit::Usage, path + " is too small");
    }

    // Places spread over the device; neighbours are never both used.
    std::uint64_t place(std::size_t index) const
    {
        const std::uint64_t step = target.size_bytes() / places / block_bytes * block_bytes;
        return index * step;
    }

    // 0, or the NVMe status.
    int call(std::uint8_t opcode, Tag tag, std::uint64_t lba, std::uint32_t cdw12, std::byte* data,
             std::size_t bytes, std::uint32_t* result = nullptr) const
    {
        std::uint32_t ignored = 0;
        const int status = nvme_io_passthru(
            target.descriptor(), opcode, 0, 0, nsid_, 0, 0, static_cast<std::uint32_t>(lba),
            static_cast<std::uint32_t>(lba >> 32), cdw12, 0, tag.transaction, tag.stream,
            static_cast<std::uint32_t>(bytes), data, 0, nullptr, timeout_ms,
            result == nullptr ? &ignored : result);
        if (status < 0) refused("a command with opcode " + std::to_string(opcode));
        return status_code_of(status);
    }

    std::uint32_t opened(std::uint8_t opcode) const
    {
        std::uint32_t result = 0;
        expect_success(call(opcode, {}, 0, 0, nullptr, 0, &result), "opening");
        return result;
    }
    Tag begin() const { return {0, opened(opcode_begin)}; }
    Tag open_stream() const { return {opened(opcode_stream_open), 0}; }
    int commit(Tag tag, bool durable) const
    {
        return call(opcode_commit, tag, 0, durable ? force_unit_access : 0, nullptr, 0);
    }

    void write(Tag tag, std::uint64_t offset, std::uint64_t generation) const
    {
        Buffer block(block_bytes);
        make_block(block.data(), block_bytes, offset, generation);
        expect_success(transfer(opcode_write, tag, offset, block), "a write");
    }
    // The generation that is there; anything but a whole block ends the program.
    std::uint64_t read(Tag tag, std::uint64_t offset) const
    {
        Buffer block(block_bytes);
        if (tag.stream == 0 && tag.transaction == 0)
            target.read(block.data(), block_bytes, offset);
        else
            expect_success(transfer(opcode_read, tag, offset, block), "a read");
        const Found found = read_block(block.data(), block_bytes);
        if (!found.whole || (found.generation != never_written && found.place != offset))
            end(Exit::Wrong, "the block at " + std::to_string(offset) + " is no block of ours");
        return found.generation;
    }
    int transfer(std::uint8_t opcode, Tag tag, std::uint64_t offset, Buffer& block) const
    {
        const std::uint32_t blocks = block_bytes / target.block_bytes();
        return call(opcode, tag, offset / target.block_bytes(), blocks - 1, block.data(),
                    block.size());
    }

    // The generation to all places by one command. The list comes first, filled up to whole logical
    // blocks.
    void write_ranges(std::uint64_t generation) const
    {
        const std::uint32_t lba_bytes = target.block_bytes();
        const std::size_t list =
            (places * list_entry_bytes + lba_bytes - 1) / lba_bytes * lba_bytes;
        Buffer data(list + places * block_bytes);
        for (std::size_t i = 0; i < places; ++i) {
            put_u64(data.data() + i * list_entry_bytes, place(i) / lba_bytes);
            put_u64(data.data() + i * list_entry_bytes + 8, block_bytes / lba_bytes);
            make_block(data.data() + list + i * block_bytes, block_bytes, place(i), generation);
        }
        expect_success(
            call(opcode_write_ranges, {}, places - 1, force_unit_access, data.data(), data.size()),
            "write ranges");
    }

    Target target;

private:
    std::uint32_t nsid_;
};

void demand(bool condition, const std::string& what)
{
    if (!condition) end(Exit::Wrong, what);
    std::printf("as it should be: %s\n", what.c_str());
}

int show(const Disk& disk)
{
    const std::uint64_t a = disk.place(1);
    const std::uint64_t b = disk.place(2);
    disk.write_ranges(1);
    demand(disk.read({}, a) == 1 && disk.read({}, b) == 1, "Write Ranges wrote its ranges");

    const Tag one = disk.begin();
    disk.write(one, a, 2);
    disk.write(one, b, 2);
    demand(disk.read(one, a) == 2, "a transaction reads what it wrote");
    demand(disk.read({}, a) == 1 && disk.read({}, b) == 1, "nobody else does before the commit");
    expect_success(disk.commit(one, true), "commit");
    demand(disk.read({}, a) == 2 && disk.read({}, b) == 2, "everybody does behind it");
    demand(disk.commit(one, true) == status_order_unknown, "it has ended then");

    const Tag two = disk.begin();
    disk.write(two, a, 3);
    Buffer none(block_bytes);
    const std::uint32_t blocks = block_bytes / disk.target.block_bytes();
    expect_success(
        disk.call(opcode_write_zeroes, two, b / disk.target.block_bytes(), blocks - 1, nullptr, 0),
        "write zeroes");
    demand(disk.read(two, b) == never_written, "zeroes can be part of it");
    expect_success(disk.call(opcode_abort, two, 0, 0, nullptr, 0), "abort");
    demand(disk.read({}, a) == 2 && disk.read({}, b) == 2, "an aborted one leaves nothing");

    const Tag first = disk.begin();
    const Tag second = disk.begin();
    disk.write(first, a, 4);
    disk.write(second, a, 5);
    expect_success(disk.commit(first, false), "commit");
    demand(disk.commit(second, false) == status_conflict, "the first committer wins");
    demand(disk.read({}, a) == 4, "what the second wrote is not there");

    const Tag stream = disk.open_stream();
    disk.write(stream, b, 6);
    demand(disk.read({}, b) == 6, "a stream's writes are seen at once");
    expect_success(disk.call(opcode_flush, stream, 0, 0, nullptr, 0), "flush of the stream");
    expect_success(disk.call(opcode_stream_close, stream, 0, 0, nullptr, 0), "stream close");
    demand(disk.transfer(opcode_write, stream, b, none) == status_order_unknown,
           "a closed stream is gone");
    disk.write_ranges(1);  // one generation everywhere, as `check` and `write` want it
    return 0;
}

int write(const Disk& disk, std::uint64_t generation)
{
    for (;; ++generation) {
        if (generation % 3 == 0) {
            disk.write_ranges(generation);
        } else {
            const Tag tag = disk.begin();
            for (std::size_t i = 0; i < places; ++i)
                disk.write(tag, disk.place(i), generation);
            // One that comes to nothing lies beside it.
            const Tag other = disk.begin();
            disk.write(other, disk.place(generation % places), aborted_generation);
            expect_success(disk.commit(tag, true), "commit");
            if (disk.commit(other, true) != status_conflict)
                end(Exit::Wrong, "a transaction was committed over what another had changed");
        }
        std::printf("ACK %llu\n", static_cast<unsigned long long>(generation));
        std::fflush(stdout);
    }
}

int check(const Disk& disk, std::uint64_t last)
{
    const std::uint64_t generation = disk.read({}, disk.place(0));
    for (std::size_t i = 1; i < places; ++i) {
        const std::uint64_t other = disk.read({}, disk.place(i));
        if (other != generation)
            end(Exit::Wrong, "place 0 holds generation " + std::to_string(generation) + ", place " +
                                 std::to_string(i) + " generation " + std::to_string(other));
    }
    if (generation < last)
        end(Exit::Wrong, "generation " + std::to_string(last) + " was acknowledged, " +
                             std::to_string(generation) + " is there");
    if (generation >= aborted_generation) end(Exit::Wrong, "what never was committed is there");
    std::printf("generation %llu in all places\n", static_cast<unsigned long long>(generation));
    return 0;
}

int usage()
{
    std::fprintf(stderr, "usage: guest-transactions show NAMESPACE-DEVICE\n"
                         "       guest-transactions write NAMESPACE-DEVICE FROM\n"
                         "       guest-transactions check NAMESPACE-DEVICE LAST\n");
    return static_cast<int>(Exit::Usage);
}

}  // namespace
}  // namespace guest

int main(int count, char** words)
{
    using namespace guest;
    const std::string what = count > 2 ? words[1] : "";
    if (what == "show" && count == 3) return show(Disk(words[2]));
    if (what == "write" && count == 4) return guest::write(Disk(words[2]), number(words[3]));
    if (what == "check" && count == 4) return check(Disk(words[2]), number(words[3]));
    return usage();
}
