// Any bytes in a small valid image: the checker and the store must both end, with one clear error
// or without, and agree: what the checker calls clean the store opens, reads and writes, and then
// it is clean still. The input is a list of edits at places that are in use; with the first byte
// odd, all checksums are made right again, so that the damage gets behind them.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>

#include "format/check/tests/image_builder.h"
#include "format/volume/store.h"

using namespace coppice;
using coppice::test::ExampleImage;

namespace {

[[noreturn]] void disagree(const std::string& why)
{
    std::fprintf(stderr, "%s\n", why.c_str());
    std::abort();
}

// The input as numbers; zeroes behind its end.
class Input {
public:
    explicit Input(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

    bool empty() const { return bytes_.empty(); }
    std::uint64_t number(std::size_t bytes)
    {
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < bytes && !bytes_.empty(); ++i) {
            value |= std::uint64_t{bytes_.front()} << (8 * i);
            bytes_ = bytes_.subspan(1);
        }
        return value;
    }

private:
    std::span<const std::uint8_t> bytes_;
};

// The example with a journal: a commit that was synced, one that was not, one of several blocks.
struct Base : ExampleImage {
    Base()
    {
        finish();
        commit({write_one(21, 500, 9000)}, {}, 0);
        commit({write_one(22, 501, 9001), write_one(23, 502, 9002)}, {}, 1);
        std::vector<layout::OperationRecord> many;
        for (std::uint64_t i = 0; i < 100; ++i) {
            many.push_back(write_one(24 + i, 600 + i, 9010 + i));
        }
        commit(many, {}, 1);
        places = {0, layout::kSuperblockNear, layout::kSuperblockNear + 1,
                  superblock.superblock_far, superblock.superblock_far + 1};
        for (std::uint64_t block = 0; block < 5; ++block) {
            places.push_back(layout::kJournalStart + block);
        }
        for (std::uint64_t block = test::kFixedBlocks; block < next_node; ++block) {
            places.push_back(block);
        }
        for (std::uint64_t block = test::kFirstData; block < next_data; ++block) {
            places.push_back(block);
        }
        places.push_back(9000);
        places.push_back(9002);
        whole = disk.bytes();
    }

    layout::OperationRecord write_one(std::uint64_t sequence, std::uint64_t lba,
                                      std::uint64_t block)
    {
        layout::OperationRecord record = write_operation(1, sequence, lba, block);
        record.checksum = journal_data(block);
        return record;
    }

    std::vector<std::uint64_t> places;
    SparseBytes whole;
};

void edit(Base& image, Input& input)
{
    const auto place = [&] { return image.places[input.number(1) % image.places.size()]; };
    const std::uint64_t kind = input.number(1);
    const std::uint64_t block = place();
    test::Bytes bytes = image.read(block);
    // Half of the edits in the first bytes, where the meaning is.
    const std::uint64_t offset = input.number(2) % (kind % 2 == 0 ? 512 : kBlockBytes);
    switch (kind / 2 % 8) {
    case 0:
    case 1: bytes[offset] ^= static_cast<std::byte>(input.number(1) | 1); break;
    case 2: bytes[offset] = static_cast<std::byte>(input.number(1)); break;
    case 3:
    case 4: {
        const test::Bytes value = test::bytes_of(Le64(input.number(8)));
        const std::size_t length = std::min(value.size(), kBlockBytes - offset);
        std::copy_n(value.begin(), length, bytes.begin() + static_cast<std::ptrdiff_t>(offset));
        break;
    }
    case 5: bytes = image.read(place()); break;
    case 6: bytes.assign(kBlockBytes, std::byte{0}); break;
    default:
        image.disk.bytes().truncate(input.number(4) % (test::kImageBlocks * kBlockBytes));
        return;
    }
    image.write(block, bytes);
}

// Reads what the example has, and holes.
Status read_all(Store& store)
{
    std::vector<std::byte> bytes(16 * kBlockBytes);
    for (const VolumeInfo& volume : store.volumes()) {
        for (const std::uint64_t lba : {0U, 196U, 296U, 496U, 600U, 690U}) {
            const std::uint64_t offset = lba * kBlockBytes;
            if (offset + bytes.size() <= volume.size_bytes) {
                iovec buffer{bytes.data(), bytes.size()};
                COPPICE_TRY(store.read(volume.id, offset, {&buffer, 1}));
            }
        }
    }
    return {};
}

Status look(Disk& disk)
{
    COPPICE_ASSIGN(store, Store::open(disk, {.read_only = true}));
    const Status result = read_all(*store);
    store->abandon();
    return result;
}

Status use(Disk& disk)
{
    COPPICE_ASSIGN(store, Store::open(disk, {}));
    Status result = read_all(*store);
    std::vector<std::byte> bytes(3 * kBlockBytes, std::byte{7});
    iovec buffer{bytes.data(), bytes.size()};
    const auto volume = store->find("main", std::nullopt);
    if (result && volume) {
        result = store->write(volume->id, 201 * kBlockBytes, {&buffer, 1}, true);
        if (auto snapshot = store->snapshot(volume->id, {.name = "another"}); result && !snapshot) {
            result = pass_on(snapshot);
        }
        const Range range{0, 4 * kBlockBytes};
        if (auto cut = store->deallocate(volume->id, {&range, 1}); result && !cut) {
            result = pass_on(cut);
        }
    }
    const Status closed = store->close();
    return result ? closed : result;
}

void expect_clear(const Status& status)
{
    if (!status && (status.error().text.empty() || status.error().text.size() > 500 ||
                    status.error().text.find('\n') != std::string::npos)) {
        disagree("not one clear line: " + status.error().text);
    }
}

}  // namespace

// The ring is read whole for each input: memory that is fresh each time costs more than all else.
extern "C" const char* __asan_default_options() { return "quarantine_size_mb=8"; }

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    static Base image;
    image.disk.bytes() = image.whole;
    Input input({data, size});
    const bool sealed = input.number(1) % 2 == 1;
    for (unsigned i = 0; i < 8 && !input.empty(); ++i) {
        edit(image, input);
    }
    if (sealed) {
        test::seal_again(image);
    }
    const auto report = image.try_check();
    const bool clean = report && report->clean();
    Status looked;
    Status used;
    image.tasks.run([&] {
        looked = look(image.disk);
        used = use(image.disk);
    });
    expect_clear(report ? Status() : Status(fail(report.error().code, report.error().text)));
    expect_clear(looked);
    expect_clear(used);
    if (clean && !looked) {
        disagree("clean, and cannot be read: " + looked.error().text);
    }
    // What only a later build may write is clean, and refuses to be written.
    const bool may_write = used || (used.error().code != ErrorCode::unknown_feature &&
                                    used.error().code != ErrorCode::unsupported_version);
    if (clean && may_write && !used) {
        disagree("clean, and cannot be written: " + used.error().text);
    }
    if (clean && used) {
        const auto after = image.try_check();
        if (!after || !after->clean()) {
            disagree("clean, written, and no longer clean: " +
                     (after ? after->findings.front().text : after.error().text));
        }
    }
    return 0;
}
