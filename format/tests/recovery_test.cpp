// How an image is opened after a crash: each row of the two tables in FORMAT.md, section 5, with an
// input made for it, byte for byte and without code of the store. The store and the checker, which
// share no code for this, must both come to the verdict of the row.
#include <algorithm>
#include <cerrno>

#include <fstream>
#include <functional>
#include <optional>
#include <set>
#include <sstream>
#include <string>

#include "coppice-catch.h"
#include "format/base/checksum.h"
#include "format/check/tests/image_builder.h"
#include "format/volume/store.h"

using namespace coppice;
using namespace coppice::layout;
using coppice::test::ExampleImage;

namespace {

constexpr std::uint64_t kRing = kJournalStart;
constexpr std::uint64_t kFar = kJournalStart + test::kJournalBlocks;
constexpr std::uint64_t kUnknownBit = 1ULL << 40;

// The example, of generation 2 and sequence 20, before its last words: a row changes what it is
// made of, calls finish(), and then damages it. Operations write to lba 500 and up.
struct Input : ExampleImage {
    OperationRecord write_one(std::uint64_t sequence, std::uint64_t lba, std::uint64_t block)
    {
        OperationRecord record = test::write_operation(1, sequence, lba, block);
        record.checksum = journal_data(block);
        return record;
    }
    // A commit of three blocks: 150 writes to lba 600 and up.
    void large_commit(std::uint64_t sequence, std::uint64_t synced)
    {
        std::vector<OperationRecord> many;
        for (std::uint64_t i = 0; i < 150; ++i) {
            many.push_back(write_one(sequence + i, 600 + i, 9100 + i));
        }
        commit(many, {}, synced);
    }
    // Puts a superblock with a right checksum somewhere.
    void put_superblock(Superblock value, std::uint64_t block)
    {
        Le64 seed;
        std::memcpy(static_cast<void*>(&seed), value.uuid.data(), sizeof(seed));
        value.checksum = metadata_checksum(test::bytes_of(value), seed);
        write(block, test::bytes_of(value));
    }
};

// Of the example's clone, or to its snapshot.
OperationRecord management(OperationType type, std::uint8_t flags)
{
    OperationRecord record{};
    record.type = static_cast<std::uint8_t>(type);
    record.flags = flags;
    record.volume = type == OperationType::rollback ? 1 : 3;
    record.source_volume = type == OperationType::rollback ? 2 : 0;
    record.sequence = 21;
    return record;
}

struct Verdict {
    std::optional<ErrorCode> error = {};          // of the store
    std::optional<ErrorCode> checker_error = {};  // when the checker has another word for it
    bool checker_refuses = true;                  // else it has no error, although the store has
    bool read_only = false;                       // `error` for writing only
    std::uint64_t generation = 2;
    std::uint64_t commits = 0;  // applied
    std::uint64_t operations = 0;
    bool clean = true;  // for the checker; else it has a repairable finding
};

struct Row {
    std::string name;
    std::function<void(Input&)> build;
    Verdict verdict;
};

// A row of which one input is not enough has several, with one name.
std::vector<Row> superblock_rows()
{
    const Verdict repairable{.clean = false};
    const auto damaged = [](std::vector<std::uint64_t> blocks) {
        return [blocks = std::move(blocks)](Input& image) {
            image.finish();
            for (const std::uint64_t block : blocks) {
                image.flip(block, 500);
            }
        };
    };
    // Generation 3 in vain, and a commit that names one.
    const auto third = [](Input& image, std::uint64_t named) {
        image.change_superblock = [](Superblock& superblock) { superblock.generation = 3; };
        image.finish();
        image.commit({image.write_one(21, 500, 9000)}, {}, 0, named);
        image.flip(kSuperblockNear + 1, 500);
        image.flip(kFar + 1, 500);
    };
    const auto in_header = [](auto change) {
        return [change](Input& image) {
            change(image.header);
            image.finish();
        };
    };
    const auto in_superblock = [](auto change) {
        return [change](Input& image) {
            image.change_superblock = change;
            image.finish();
        };
    };
    const auto major = [](auto& record) { record.major_version = kMajorVersion + 1; };
    const auto incompatible = [](auto& record) { record.incompatible = kUnknownBit; };
    const auto only_read = [](auto& record) { record.read_only_compatible = kUnknownBit; };
    const Verdict version{.error = ErrorCode::unsupported_version};
    const Verdict feature{.error = ErrorCode::unknown_feature};
    const Verdict feature_to_write{.error = ErrorCode::unknown_feature, .read_only = true};
    return {
        {"newest", damaged({}), {}},
        // Generation 2 is in slot 0, the first block of each pair. When it shall be the one to fall
        // back to, there is a generation 3 with the same trees.
        {"copy-damaged", damaged({kSuperblockNear}), repairable},
        {"copy-damaged", damaged({kFar}), repairable},
        {"slot-damaged",
         [third](Input& image) { third(image, 2); },
         {.commits = 1, .operations = 1, .clean = false}},
        {"slot-damaged-and-named",
         [third](Input& image) { third(image, 3); },
         {.error = ErrorCode::superblock_lost}},
        {"old-slot-damaged", damaged({kSuperblockNear + 1, kFar + 1}), repairable},
        {"all-damaged",
         damaged({kSuperblockNear, kSuperblockNear + 1, kFar, kFar + 1}),
         {.error = ErrorCode::bad_superblock}},
        {"foreign-copy",
         [](Input& image) {
             image.finish();
             Superblock foreign = image.superblock;
             foreign.uuid[2] ^= 1;
             foreign.generation = 8;
             image.put_superblock(foreign, kFar);
             foreign.generation = 9;
             image.put_superblock(foreign, kFar + 1);
         },
         repairable},
        {"wrong-slot",
         [](Input& image) {
             image.finish();
             Superblock strayed = image.superblock;
             strayed.generation = 9;
             image.put_superblock(strayed, kSuperblockNear);
         },
         repairable},
        {"header-damaged", damaged({0}), repairable},
        {"header-damaged",
         [](Input& image) {
             image.finish();
             image.write(0, test::Bytes(kBlockBytes));
         },
         repairable},
        // The near copy of the newest is damaged too: the geometry comes from the older one, and
        // the far copy of the newest counts all the same.
        {"header-damaged", damaged({0, kSuperblockNear}), repairable},
        {"header-and-near-damaged",
         damaged({0, kSuperblockNear, kSuperblockNear + 1}),
         {.error = ErrorCode::bad_header, .checker_error = ErrorCode::bad_superblock}},
        {"header-and-near-damaged",
         [](Input& image) {
             image.finish();
             image.write(0, test::Bytes(kBlockBytes));
             image.flip(kSuperblockNear, 500);
             image.flip(kSuperblockNear + 1, 500);
         },
         {.error = ErrorCode::not_an_image}},
        {"cut-off",
         [](Input& image) {
             image.finish();
             image.disk.bytes().truncate(test::kImageBlocks * kBlockBytes - 1);
         },
         {.error = ErrorCode::truncated}},
        {"other-major", in_header(major), version},
        {"other-major", in_superblock(major), version},
        {"incompatible", in_header(incompatible), feature},
        {"incompatible", in_superblock(incompatible), feature},
        {"read-only-compatible", in_header(only_read), feature_to_write},
        {"read-only-compatible", in_superblock(only_read), feature_to_write},
        {"newer-writer",
         in_header([](ImageHeader& header) { header.oldest_minor_writer = kMinorVersion + 1; }),
         {.error = ErrorCode::unsupported_version, .checker_refuses = false, .read_only = true}},
    };
}

std::vector<Row> commit_rows()
{
    const Verdict lost{.error = ErrorCode::superblock_lost};
    const Verdict journal_damaged{.error = ErrorCode::journal_damaged};
    const Verdict one{.commits = 1, .operations = 1};
    std::vector<Row> rows = {
        {"superblock-lost",
         [](Input& image) {
             image.finish();
             image.commit({image.write_one(21, 500, 9000)}, {}, 0, 3);
         },
         lost},
        // A block of a newer generation far from where replay looks.
        {"superblock-lost",
         [](Input& image) {
             image.finish();
             image.commit({image.write_one(21, 500, 9000)}, {}, 0, 3);
             image.copy_block(kRing, kRing + 700);
             image.write(kRing, test::Bytes(kBlockBytes));
         },
         lost},
        {"synced-and-not-read",
         [](Input& image) {
             image.finish();
             image.commit({image.write_one(21, 500, 9000)}, {}, 0);
             image.commit({image.write_one(22, 501, 9001)}, {}, 1);
             image.flip(9000, 5);
         },
         {.commits = 2, .operations = 2}},
        // The commit that says so is torn itself.
        {"synced-and-not-read",
         [](Input& image) {
             image.finish();
             image.commit({image.write_one(21, 500, 9000)}, {}, 0);
             image.large_commit(22, 1);
             image.flip(9000, 5);
             image.flip(kRing + 3, 700);
         },
         one},
        {"verified",
         [](Input& image) {
             image.finish();
             image.commit({image.write_one(21, 500, 9000)}, {}, 0);
             image.commit({image.write_one(22, 500, 9001), image.write_one(23, 501, 9002)}, {}, 0);
         },
         {.commits = 2, .operations = 3}},
        {"not-verified",
         [](Input& image) {
             image.finish();
             image.commit({image.write_one(21, 500, 9000)}, {}, 0);
             image.commit({image.write_one(22, 501, 9001)}, {}, 0);
             image.commit({image.write_one(23, 502, 9002)}, {}, 1);
             image.flip(9001, 5);
         },
         one},
        {"first-block-damaged",
         [](Input& image) {
             image.finish();
             image.commit({image.write_one(21, 500, 9000)}, {}, 0);
             image.commit({image.write_one(22, 501, 9001)}, {}, 1);
             image.commit({image.write_one(23, 502, 9002)}, {}, 2);
             image.flip(kRing + 1, 700);
         },
         journal_damaged},
        {"later-block-damaged",
         [](Input& image) {
             image.finish();
             image.commit({image.write_one(21, 500, 9000)}, {}, 0);
             image.large_commit(22, 1);
             image.commit({image.write_one(172, 502, 9002)}, {}, 2);
             image.flip(kRing + 3, 700);
         },
         journal_damaged},
        {"synced-by-superblock",
         [](Input& image) {
             image.superblock.journal_synced = 1;
             image.finish();
         },
         journal_damaged},
        {"nothing-written", [](Input& image) { image.finish(); }, {}},
        {"torn-first-block",
         [](Input& image) {
             image.finish();
             image.commit({image.write_one(21, 500, 9000)}, {}, 0);
             image.large_commit(22, 1);
             image.flip(kRing + 1, 700);
         },
         one},
        {"other-incarnation",
         [](Input& image) {
             image.finish();
             image.commit({image.write_one(21, 500, 9000)}, {}, 0);
             image.commit({image.write_one(22, 501, 9001)}, {}, 0);
             // The first one anew, with another operation: the second continues the old one.
             Input again;
             again.finish();
             again.commit({again.write_one(21, 700, 9005)}, {}, 0);
             image.write(kRing, again.read(kRing));
             image.journal_data(9005);
         },
         one},
    };
    // Which of the later blocks is torn must not matter.
    for (const std::uint64_t block : {std::uint64_t{2}, std::uint64_t{3}}) {
        rows.push_back({"torn-later-block",
                        [block](Input& image) {
                            image.finish();
                            image.commit({image.write_one(21, 500, 9000)}, {}, 0);
                            image.large_commit(22, 1);
                            image.flip(kRing + block, 700);
                        },
                        one});
    }
    // What decides is that the operations cannot be, synced or not.
    const std::vector<std::function<void(OperationRecord&)>> impossible = {
        [](OperationRecord& record) { record.type = 0; },
        [](OperationRecord& record) { record.type = 12; },
        [](OperationRecord& record) { record.length = 0; },
        [](OperationRecord& record) { record.length = 2; },  // without its second checksum
        [](OperationRecord& record) { record.block = 5; },
        [](OperationRecord& record) { record.block = ~std::uint64_t{0}; },
        [](OperationRecord& record) { record.flags = kOperationContinues; },
        [](OperationRecord& record) { record.flags = 0x80; },
        [](OperationRecord& record) { record.payload_bytes = 4, record.payload_offset = 8000; },
        [](OperationRecord& record) { record.lba = ~std::uint64_t{0}; },
        [](OperationRecord& record) { record.volume = 0; },
        // Of the two kinds of records each has to be what its type is.
        [](OperationRecord& record) { record.flags = kOperationIntent; },
        [](OperationRecord& record) { record = management(OperationType::remove_volume, 0); },
        [](OperationRecord& record) { record = management(OperationType::rollback, 0); },
    };
    rows.push_back({"synced-and-not-read",
                    [](Input& image) {
                        image.finish();
                        image.commit({management(OperationType::remove_volume, kOperationIntent)},
                                     {}, 1);
                    },
                    {.commits = 1, .operations = 1}});
    for (const auto& change : impossible) {
        rows.push_back({"bad-record",
                        [change](Input& image) {
                            image.finish();
                            OperationRecord record = image.write_one(21, 500, 9000);
                            change(record);
                            image.commit({record}, {}, 1);
                        },
                        {.error = ErrorCode::bad_record}});
    }
    return rows;
}

std::vector<Row> all_rows()
{
    std::vector<Row> rows = superblock_rows();
    for (Row& row : commit_rows()) {
        rows.push_back(std::move(row));
    }
    return rows;
}

struct Opened {
    std::optional<Error> error;
    ImageInfo info;
};

Opened open(Input& image, bool read_only)
{
    Opened result;
    image.tasks.run([&] {
        auto store = Store::open(image.disk, {.read_only = read_only});
        if (!store) {
            result.error = store.error();
            return;
        }
        result.info = (*store)->info();
        (*store)->abandon();
    });
    return result;
}

bool same(const SparseBytes& a, const SparseBytes& b)
{
    std::vector<std::byte> left(1 << 20);
    std::vector<std::byte> right(1 << 20);
    for (std::uint64_t at = 0; at < a.size_bytes(); at += left.size()) {
        a.read(at, left);
        b.read(at, right);
        if (left != right) {
            return false;
        }
    }
    return a.size_bytes() == b.size_bytes();
}

void expect_opened(const Opened& opened, const Verdict& verdict)
{
    INFO((opened.error ? opened.error->text : ""));
    REQUIRE(!opened.error);
    REQUIRE(opened.info.generation.value == verdict.generation);
    REQUIRE(opened.info.replayed_commits == verdict.commits);
    REQUIRE(opened.info.replayed_operations == verdict.operations);
}

void expect_refused(const Opened& opened, ErrorCode code)
{
    REQUIRE(opened.error);
    INFO(opened.error->text);
    REQUIRE(error_name(opened.error->code) == error_name(code));
    REQUIRE(opened.error->text.find('\n') == std::string::npos);
}

void judge_by_store(const Row& row)
{
    Input image;
    row.build(image);
    const SparseBytes before = image.disk.bytes();
    for (const bool read_only : {true, false}) {
        INFO((read_only ? "read-only" : "for writing"));
        const Opened opened = open(image, read_only);
        if (row.verdict.error && !(read_only && row.verdict.read_only)) {
            expect_refused(opened, *row.verdict.error);
        } else {
            expect_opened(opened, row.verdict);
        }
        // Neither a look nor a refusal changes a byte.
        REQUIRE(same(image.disk.bytes(), before));
    }
}

void judge_by_checker(const Row& row)
{
    Input image;
    row.build(image);
    // The verdicts are recovery's; with all data read, the checker knows more than that.
    Result<CheckReport> result = CheckReport{};
    image.tasks.run([&] { result = check(image.disk, {}); });
    const Verdict& verdict = row.verdict;
    if (verdict.error && verdict.checker_refuses) {
        const ErrorCode code = verdict.checker_error.value_or(*verdict.error);
        // What it can go on with is a finding that names the code, all else is an error.
        std::string names = result ? "" : std::string(error_name(result.error().code));
        for (const Finding& finding : result ? result->findings : std::vector<Finding>{}) {
            INFO(finding.text);
            REQUIRE((finding.severity == Severity::corruption ||
                     finding.kind == FindingKind::superblock));
            names += " " + finding.text;
        }
        INFO(names);
        const bool cut_off = code == ErrorCode::truncated;
        REQUIRE(names.find(cut_off ? "truncated" : error_name(code)) != std::string::npos);
        return;
    }
    INFO((result ? "" : result.error().text));
    REQUIRE(result);
    for (const Finding& finding : result->findings) {
        INFO(finding.text);
        REQUIRE(finding.severity == Severity::repairable);
    }
    REQUIRE(result->clean() == verdict.clean);
    REQUIRE(result->generation == verdict.generation);
    REQUIRE(result->journal_commits == verdict.commits);
    REQUIRE(result->journal_operations == verdict.operations);
}

// The names in the first column of the tables of FORMAT.md's section on recovery.
std::set<std::string> rows_of_the_document()
{
    std::ifstream file(std::string(COPPICE_FORMAT_SOURCE) + "/FORMAT.md");
    std::set<std::string> names;
    bool inside = false;
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with('#')) {
            inside = line == "### Recovery";
        }
        const std::size_t end = line.find(" |", 2);
        if (inside && line.starts_with("| ") && end != std::string::npos) {
            names.insert(line.substr(2, end - 2));
        }
    }
    names.erase("row");  // the heading
    return names;
}

}  // namespace

TEST_CASE("every row of the tables on recovery has an input, and every input a row")
{
    std::set<std::string> built;
    for (const Row& row : all_rows()) {
        built.insert(row.name);
    }
    const std::set<std::string> documented = rows_of_the_document();
    REQUIRE(documented.size() > 20);
    REQUIRE(built == documented);
}

TEST_CASE("the store comes to the verdict of each row")
{
    const std::vector<Row> rows = all_rows();
    for (std::size_t i = 0; i < rows.size(); ++i) {
        DYNAMIC_SECTION(i << " " << rows[i].name) { judge_by_store(rows[i]); }
    }
}

TEST_CASE("the checker comes to the verdict of each row")
{
    const std::vector<Row> rows = all_rows();
    for (std::size_t i = 0; i < rows.size(); ++i) {
        DYNAMIC_SECTION(i << " " << rows[i].name) { judge_by_checker(rows[i]); }
    }
}

TEST_CASE("a copy that the host cannot read is as good as a damaged one")
{
    for (const std::uint64_t block :
         {std::uint64_t{0}, kSuperblockNear, kSuperblockNear + 1, kFar}) {
        Input image;
        image.finish();
        image.disk.set_fault_hook([block](const IoRequest& request) {
            const bool hit = request.kind == IoRequest::Kind::read &&
                             request.offset_bytes == block * kBlockBytes;
            return hit ? EIO : 0;
        });
        INFO("block " << block);
        expect_opened(open(image, true), Verdict{});
    }
    // Both copies of the newest: an older one must not pass for it.
    Input image;
    image.finish();
    image.disk.set_fault_hook([](const IoRequest& request) {
        const std::uint64_t block = request.offset_bytes / kBlockBytes;
        return request.kind == IoRequest::Kind::read && (block == kSuperblockNear || block == kFar)
                   ? EIO
                   : 0;
    });
    expect_refused(open(image, true), ErrorCode::io);
}

TEST_CASE("what is applied can be read, what is void cannot")
{
    Input image;
    image.finish();
    image.commit({image.write_one(21, 500, 9000)}, {}, 0);
    image.commit({image.write_one(22, 501, 9001)}, {}, 0);
    image.commit({image.write_one(23, 502, 9002)}, {}, 0);
    image.flip(9001, 5);
    image.tasks.run([&] {
        auto store = Store::open(image.disk, {.read_only = true});
        REQUIRE(store);
        for (const std::uint64_t lba : {500U, 501U, 502U}) {
            test::Bytes bytes(kBlockBytes);
            iovec buffer{bytes.data(), bytes.size()};
            REQUIRE((*store)->read(VolumeId(1), lba * kBlockBytes, {&buffer, 1}));
            REQUIRE(bytes == (lba == 500 ? image.read(9000) : test::Bytes(kBlockBytes)));
        }
        (*store)->abandon();
    });
}

TEST_CASE("what is void never comes back, not even when its data do")
{
    Input image;
    image.finish();
    image.commit({image.write_one(21, 500, 9000)}, {}, 0);
    image.commit({image.write_one(22, 501, 9001)}, {}, 0);
    image.flip(9001, 5);
    // An operation that is lost with the crash after it: but before it, recovery was closed.
    image.tasks.run([&] {
        auto store = Store::open(image.disk, {});
        REQUIRE(store);
        test::Bytes bytes(kBlockBytes, std::byte{7});
        iovec buffer{bytes.data(), bytes.size()};
        REQUIRE((*store)->write(VolumeId(1), 510 * kBlockBytes, {&buffer, 1}, false));
        (*store)->abandon();
    });
    image.flip(9001, 5);  // whole again
    image.tasks.run([&] {
        auto store = Store::open(image.disk, {.read_only = true});
        REQUIRE(store);
        test::Bytes bytes(kBlockBytes);
        iovec buffer{bytes.data(), bytes.size()};
        REQUIRE((*store)->read(VolumeId(1), 501 * kBlockBytes, {&buffer, 1}));
        REQUIRE(bytes == test::Bytes(kBlockBytes));
        (*store)->abandon();
    });
}

TEST_CASE("what refuses an image names what it does not know, and the way out")
{
    Input image;
    std::string named;
    bool can_read = false;
    SECTION("an incompatible feature")
    {
        image.header.incompatible = kUnknownBit;
        named = "incompatible features 0x10000000000";
    }
    SECTION("a feature that can only be read")
    {
        image.header.read_only_compatible = 0x20;
        named = "features 0x20 that this build can only read; open it read-only";
        can_read = true;
    }
    SECTION("a major version")
    {
        image.header.major_version = 7;
        image.header.minor_version = 3;
        named = "format version 7.3";
    }
    SECTION("an oldest writer")
    {
        image.header.oldest_minor_writer = 9;
        named = "only format version 0.9 and later may write the image";
        can_read = true;
    }
    image.finish();
    const Opened writing = open(image, false);
    REQUIRE(writing.error);
    INFO(writing.error->text);
    REQUIRE(writing.error->text.find(named) != std::string::npos);
    REQUIRE(writing.error->text.find("the build that wrote it") != std::string::npos);
    REQUIRE(open(image, true).error.has_value() == !can_read);
}

TEST_CASE("data of the tail that cannot be read count only before the first that do not verify")
{
    Input image;
    image.finish();
    image.commit({image.write_one(21, 500, 9000)}, {}, 0);
    image.commit({image.write_one(22, 501, 9001)}, {}, 0);
    image.commit({image.write_one(23, 502, 9002)}, {}, 0);
    std::uint64_t unreadable = 0;
    std::uint64_t expected = 0;
    std::optional<ErrorCode> error;
    SECTION("behind it")
    {
        image.flip(9001, 5);
        unreadable = 9002;
        expected = 1;
    }
    SECTION("before it")
    {
        image.flip(9001, 5);
        unreadable = 9000;
        error = ErrorCode::io;
    }
    SECTION("and all others verify")
    {
        unreadable = 9002;
        error = ErrorCode::io;
    }
    image.disk.set_fault_hook([&](const IoRequest& request) {
        const bool hit = request.kind == IoRequest::Kind::read &&
                         request.offset_bytes <= unreadable * kBlockBytes &&
                         unreadable * kBlockBytes < request.offset_bytes + request.length_bytes;
        return hit ? EIO : 0;
    });
    const Opened opened = open(image, true);
    if (error) {
        expect_refused(opened, *error);
    } else {
        INFO((opened.error ? opened.error->text : ""));
        REQUIRE(!opened.error);
        REQUIRE(opened.info.replayed_commits == expected);
    }
}

TEST_CASE("blocks far behind the end of the file are nobody's")
{
    // As large as an image can be: an open that believed it would make room for all before it.
    const std::uint64_t far = kMaxBlock - 1;
    const bool synced = GENERATE(false, true);
    Input image;
    image.finish();
    image.commit({image.write_one(21, 500, 9000)}, {}, 0);
    OperationRecord record = test::write_operation(1, 22, 501, far);
    record.checksum = data_checksum(test::Bytes(kBlockBytes));  // what is read there
    image.commit({record}, {}, 0);
    if (synced) {
        image.commit({image.write_one(23, 502, 9002)}, {}, 2);
    }
    for (const bool read_only : {true, false}) {
        const Opened opened = open(image, read_only);
        if (synced) {
            expect_refused(opened, ErrorCode::bad_record);
        } else {
            expect_opened(opened, {.commits = 1, .operations = 1});
        }
    }
    image.tasks.run([&] {
        const auto report = check(image.disk, {});
        REQUIRE(report);
        REQUIRE(report->clean() == !synced);
        REQUIRE((synced || report->journal_commits == 1));
    });
}

TEST_CASE("no image is made without a volume")
{
    FiberTasks tasks;
    MemoryDisk disk(tasks);
    tasks.run([&] {
        const Status made = Store::create(disk, {});
        REQUIRE_FALSE(made);
        REQUIRE(made.error().code == ErrorCode::invalid_argument);
        REQUIRE(disk.bytes().size_bytes() == 0);
    });
}
