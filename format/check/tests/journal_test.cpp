// The checker's own reading of the journal: a test for each row of FORMAT.md's table, and replayed
// operations that collide with what is there.
#include "coppice-catch.h"
#include "format/check/journal_scan.h"
#include "format/check/tests/image_builder.h"

using namespace coppice;
using namespace coppice::layout;
using coppice::test::ExampleImage;

namespace {

// The example with a journal. Operations write to lba 500 and up, blocks 9000 and up.
struct JournalImage : ExampleImage {
    // Volumes "main" (1) and "copy" (3) in this consistency group.
    explicit JournalImage(std::uint32_t group = 0)
    {
        main_record.consistency_group = group;
        copy_record.consistency_group = group;
        finish();
    }

    OperationRecord write_one(std::uint64_t sequence, std::uint64_t lba, std::uint64_t block)
    {
        OperationRecord record = test::write_operation(1, sequence, lba, block);
        record.checksum = journal_data(block);
        return record;
    }
};

std::string texts(const CheckReport& report)
{
    std::string text;
    for (const Finding& finding : report.findings) {
        text += std::string(finding_name(finding.kind)) + ": " + finding.text + "\n";
    }
    return text;
}

void expect(const CheckReport& report, FindingKind kind, std::string_view part)
{
    INFO(texts(report));
    REQUIRE(report.findings.size() == 1);
    REQUIRE(finding_name(report.findings[0].kind) == finding_name(kind));
    REQUIRE(report.findings[0].text.find(part) != std::string::npos);
}

// The row of the table by which the chain of commits ends.
std::string end_row(test::ImageBuilder& image)
{
    std::string row;
    image.tasks.run([&] {
        const CheckOptions options;
        CheckReport report;
        checker::Findings findings(options, report);
        checker::Image opened(image.disk);
        REQUIRE(opened.load(findings));
        checker::JournalScan scan(opened, findings);
        scan.run();
        row = scan.end().row;
    });
    return row;
}

constexpr std::uint64_t kRing = kJournalStart;

}  // namespace

TEST_CASE("whole commits that verify are applied")
{
    JournalImage image;
    image.commit({image.write_one(21, 500, 9000)}, {}, 0);
    image.commit({image.write_one(22, 500, 9001), image.write_one(23, 501, 9002)}, {}, 1);
    const CheckReport report = image.check();
    INFO(texts(report));
    REQUIRE(report.clean());
    REQUIRE(report.journal_commits == 2);
    REQUIRE(report.journal_operations == 3);
}

TEST_CASE("synced commits are applied without a look at their data")
{
    JournalImage image;
    image.commit({image.write_one(21, 500, 9000)}, {}, 0);
    image.commit({image.write_one(22, 501, 9001)}, {}, 1);
    image.flip(9000, 5);
    const CheckReport report = image.check(false);
    REQUIRE(report.clean());
    REQUIRE(report.journal_commits == 2);
    // ... but whoever asks for a look at all data gets one.
    const CheckReport looked = image.check(true);
    REQUIRE(looked.journal_commits == 2);
    REQUIRE(looked.verified_blocks == 17);  // the other one, and 16 of the trees
    expect(looked, FindingKind::data, "block 9000, written by journal operation 21 to lba 500");
}

TEST_CASE("data that a later operation replaced need not verify")
{
    JournalImage image;
    image.commit({image.write_one(21, 500, 9000), image.write_one(22, 500, 9001),
                  image.write_one(23, 501, 9000)},
                 {}, 0);
    image.commit({image.write_one(24, 501, 9002)}, {}, 1);
    image.flip(9000, 5);  // once replaced, once overwritten
    const CheckReport report = image.check(true);
    INFO(texts(report));
    REQUIRE(report.clean());
}

TEST_CASE("a commit whose data do not verify ends the journal")
{
    JournalImage image;
    image.commit({image.write_one(21, 500, 9000)}, {}, 0);
    image.commit({image.write_one(22, 501, 9001)}, {}, 0);
    image.commit({image.write_one(23, 502, 9002)}, {}, 1);
    image.flip(9001, 5);
    const CheckReport report = image.check();
    INFO(texts(report));
    REQUIRE(report.clean());
    REQUIRE(report.journal_commits == 1);
}

TEST_CASE("a torn tail is no damage")
{
    JournalImage image;
    image.commit({image.write_one(21, 500, 9000)}, {}, 0);
    std::vector<OperationRecord> many;
    for (std::uint64_t i = 0; i < 100; ++i) {
        many.push_back(image.write_one(22 + i, 501 + i, 9001 + i));
    }
    image.commit(many, {}, 1);
    REQUIRE(end_row(image) == "nothing-written");
    const std::uint64_t torn = GENERATE(std::uint64_t{1}, std::uint64_t{2});
    image.flip(kRing + torn, 700);
    REQUIRE(end_row(image) == (torn == 1 ? "torn-first-block" : "torn-later-block"));
    const CheckReport report = image.check();
    INFO(texts(report));
    REQUIRE(report.clean());
    REQUIRE(report.journal_commits == 1);
}

TEST_CASE("a damaged commit that was synced is corruption")
{
    JournalImage image;
    image.commit({image.write_one(21, 500, 9000)}, {}, 0);
    image.commit({image.write_one(22, 501, 9001)}, {}, 1);
    image.commit({image.write_one(23, 502, 9002)}, {}, 2);
    image.flip(kRing + GENERATE(std::uint64_t{0}, std::uint64_t{1}), 700);
    REQUIRE(end_row(image) == "first-block-damaged");
    expect(image.check(), FindingKind::journal, "journal_damaged");
}

TEST_CASE("the superblock knows too what was synced")
{
    ExampleImage image;
    image.superblock.journal_synced = 1;
    image.finish();
    REQUIRE(end_row(image) == "synced-by-superblock");
    expect(image.check(), FindingKind::journal, "journal_damaged");
}

TEST_CASE("a newer generation in the ring means a lost superblock")
{
    JournalImage image;
    image.commit({image.write_one(21, 500, 9000)}, {}, 0, 3);
    REQUIRE(end_row(image) == "superblock-lost");
    expect(image.check(), FindingKind::journal, "superblock_lost");
}

TEST_CASE("blocks of another incarnation do not fit the chain")
{
    JournalImage image;
    ExampleImage other;
    other.superblock.journal_chain = 99;
    image.commit({image.write_one(21, 500, 9000)}, {}, 0);
    const test::Bytes first = image.read(kRing);
    image.commit({image.write_one(22, 501, 9001)}, {}, 0);
    // The first commit written anew, with another operation: the second continues the old one.
    JournalImage again;
    again.commit({again.write_one(21, 700, 9005)}, {}, 0);
    again.write(kRing + 1, image.read(kRing + 1));
    again.journal_data(9001);
    REQUIRE(end_row(again) == "other-incarnation");
    const CheckReport report = again.check();
    INFO(texts(report));
    REQUIRE(report.clean());
    REQUIRE(report.journal_commits == 1);
}

TEST_CASE("operations with impossible fields are bad records")
{
    JournalImage image;
    OperationRecord record = image.write_one(21, 500, 9000);
    switch (GENERATE(range(0, 11))) {
    case 0: record.type = 0; break;
    case 1: record.type = 12; break;
    case 2: record.length = 0; break;
    case 3: record.length = 2; break;  // without its second checksum
    case 4: record.block = 5; break;
    case 5: record.block = ~std::uint64_t{0}; break;
    case 6: record.flags = kOperationContinues; break;
    case 7: record.payload_bytes = 4, record.payload_offset = 8000; break;
    case 8: record.flags = kOperationIntent; break;
    case 9:  // without being an intent
        record = {};
        record.type = static_cast<std::uint8_t>(OperationType::remove_volume);
        record.volume = 3;
        record.sequence = 21;
        break;
    default: record.lba = ~std::uint64_t{0}; break;
    }
    image.commit({record}, {}, 1);
    expect(image.check(), FindingKind::journal_record, "bad_record");
}

TEST_CASE("operations that the superblock contains are not applied again")
{
    JournalImage image;
    // Block 8192 is in use: applied, it would collide.
    OperationRecord record = test::write_operation(1, 20, 500, test::kFirstData);
    image.commit({record, image.write_one(21, 500, 9000)}, {}, 1);
    const CheckReport report = image.check();
    INFO(texts(report));
    REQUIRE(report.clean());
    REQUIRE(report.journal_operations == 1);
}

TEST_CASE("the volumes of a group stand in the journal in one order")
{
    const std::uint32_t group = GENERATE(0U, 5U);
    JournalImage image(group);
    const auto of_copy = [&](std::uint64_t sequence, std::uint64_t lba, std::uint64_t block) {
        OperationRecord record = image.write_one(sequence, lba, block);
        record.volume = 3;
        return record;
    };
    const auto to_group = [&](VolumeRecord record, std::uint32_t volume, std::uint64_t sequence,
                              std::uint32_t number) {
        OperationRecord change{};
        change.type = static_cast<std::uint8_t>(OperationType::change_volume);
        change.volume = volume;
        change.sequence = sequence;
        change.payload_bytes = sizeof(VolumeRecord);
        record.consistency_group = number;
        image.commit({change}, test::bytes_of(record), 1);
    };
    image.commit({image.write_one(22, 500, 9000)}, {}, 0);
    SECTION("in reverse")
    {
        image.commit({of_copy(21, 500, 9001)}, {}, 1);
        const CheckReport report = image.check();
        INFO(texts(report));
        REQUIRE(report.clean() == (group == 0));
        REQUIRE((group == 0 || report.findings[0].text.find("group (22)") != std::string::npos));
    }
    SECTION("a stream has its own order")
    {
        OperationRecord record = of_copy(21, 500, 9001);
        record.stream = 1;
        image.commit({record}, {}, 1);
        REQUIRE(image.check().clean());
    }
    SECTION("when it has left")
    {
        to_group(image.copy_record, 3, 23, 0);
        image.commit({image.write_one(25, 501, 9001)}, {}, 2);
        image.commit({of_copy(24, 500, 9002)}, {}, 3);
        REQUIRE(image.check().clean());
    }
    SECTION("when both have joined")
    {
        to_group(image.copy_record, 3, 23, 9);
        to_group(image.main_record, 1, 24, 9);
        image.commit({of_copy(26, 500, 9002)}, {}, 3);
        image.commit({image.write_one(25, 501, 9001)}, {}, 4);
        expect(image.check(), FindingKind::replay, "group (26)");
    }
    SECTION("in a group that cannot be")
    {
        to_group(image.copy_record, 3, 23, 256);
        expect(image.check(), FindingKind::replay, "consistency group 256");
    }
}

TEST_CASE("replayed data in blocks that something else uses are corruption")
{
    JournalImage image;
    SECTION("of the trees")
    {
        OperationRecord record = test::write_operation(1, 21, 500, image.old_data);
        image.commit({record}, {}, 1);
        expect(image.check(), FindingKind::replay, "the trees use some");
    }
    SECTION("of another operation")
    {
        image.commit({image.write_one(21, 500, 9000), image.write_one(22, 501, 9000)}, {}, 1);
        expect(image.check(), FindingKind::replay, "another operation's data");
    }
    SECTION("behind the file")
    {
        image.commit({test::write_operation(1, 21, 500, test::kImageBlocks + 5)}, {}, 1);
        expect(image.check(), FindingKind::replay, "behind the end of the file");
    }
    SECTION("of an operation that was overwritten since: allowed")
    {
        image.commit({image.write_one(21, 500, 9000), image.write_one(22, 500, 9001),
                      image.write_one(23, 501, 9000)},
                     {}, 1);
        const CheckReport report = image.check();
        INFO(texts(report));
        REQUIRE(report.clean());
    }
    SECTION("of a snapshot of what was overwritten since: not allowed")
    {
        OperationRecord snapshot{};
        snapshot.type = static_cast<std::uint8_t>(OperationType::snapshot);
        snapshot.volume = 1;
        snapshot.sequence = 22;
        snapshot.block = 11;
        snapshot.payload_bytes = sizeof(VolumeRecord);
        VolumeRecord payload = image.snapshot_record;
        image.commit({image.write_one(21, 500, 9000), snapshot, image.write_one(23, 500, 9001),
                      image.write_one(24, 501, 9000)},
                     test::bytes_of(payload), 1);
        expect(image.check(), FindingKind::replay, "another operation's data");
    }
    SECTION("of a range clone of what was overwritten since: not allowed")
    {
        OperationRecord clone{};
        clone.type = static_cast<std::uint8_t>(OperationType::clone);
        clone.volume = 1;
        clone.sequence = 22;
        clone.lba = 600;
        clone.length = 10;
        clone.source_volume = 1;
        clone.source_lba = 495;
        image.commit({image.write_one(21, 500, 9000), clone, image.write_one(23, 500, 9001),
                      image.write_one(24, 501, 9000)},
                     {}, 1);
        expect(image.check(), FindingKind::replay, "another operation's data");
    }
}

TEST_CASE("operations on volumes that do not exist, or on snapshots, are corruption")
{
    JournalImage image;
    OperationRecord record = image.write_one(21, 500, 9000);
    record.volume = GENERATE(2U, 8U);
    image.commit({record}, {}, 1);
    const CheckReport report = image.check();
    REQUIRE(report.corruptions == 1);
    REQUIRE(report.findings[0].kind == FindingKind::replay);
}

TEST_CASE("writes behind the end of their volume are corruption")
{
    JournalImage image;
    image.commit({image.write_one(21, 1000, 9000)}, {}, 1);
    expect(image.check(), FindingKind::replay, "behind the volume");
}
