// `coppice dump journal`: every record in words, the same facts as text and as JSON, and why the
// replay ends where it does.
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <set>

#include "format/base/checksum.h"
#include "format/disk/fiber_tasks.h"
#include "format/disk/file_disk.h"
#include "format/journal/commit.h"
#include "format/layout/layout.h"
#include "format/volume/store.h"
#include "images/tests/folder.h"

using namespace coppice;
using namespace coppice::images;
using nlohmann::json;

namespace {

constexpr VolumeId kMain{1};

// Runs `body` on the image and leaves it as a crash would: no checkpoint, the journal full.
void use(const Folder& folder, const std::function<void(Store&)>& body)
{
    FiberTasks tasks;
    tasks.run([&] {
        auto disk = FileDisk::open(tasks, folder.file("d"), {});
        REQUIRE(disk);
        OpenOptions options;
        options.inline_clone_items = 2;
        auto store = Store::open(**disk, options);
        REQUIRE(store);
        (*store)->pause();  // no checkpoint by itself
        body(**store);
        (*store)->abandon();
    });
}

std::vector<std::byte> noise(std::uint64_t blocks)
{
    static std::mt19937_64 random(7);
    std::vector<std::byte> bytes(blocks * kBlockBytes);
    for (std::size_t i = 0; i < bytes.size(); i += 8) {
        const std::uint64_t word = random();
        std::memcpy(bytes.data() + i, &word, 8);
    }
    return bytes;
}

void write(Store& store, std::uint64_t lba, std::uint64_t blocks, StreamId stream = {})
{
    auto bytes = noise(blocks);
    const iovec buffer{bytes.data(), bytes.size()};
    REQUIRE(store.perform({.kind = Operation::Kind::write,
                           .volume = kMain,
                           .stream = stream,
                           .offset_bytes = lba * kBlockBytes,
                           .buffers = {&buffer, 1},
                           .fua = true}));
}

void write_ranges(Store& store)
{
    auto bytes = noise(3);
    const iovec buffer{bytes.data(), bytes.size()};
    const std::vector<Range> ranges = {{200 * kBlockBytes, kBlockBytes},
                                       {210 * kBlockBytes, 2 * kBlockBytes}};
    REQUIRE(store.perform({.kind = Operation::Kind::write_ranges,
                           .volume = kMain,
                           .buffers = {&buffer, 1},
                           .ranges = ranges,
                           .fua = true}));
}

void clone(Store& store, std::uint64_t to, std::uint64_t from, std::uint64_t blocks)
{
    const CloneSource source{kMain, {from * kBlockBytes, blocks * kBlockBytes}};
    REQUIRE(store.clone(kMain, to * kBlockBytes, {&source, 1}));
}

// Everything that a store does to its journal.
void do_everything(Store& store)
{
    write(store, 0, 3);    // journaled
    write(store, 10, 40);  // at its place
    const auto stream = store.open_stream(kMain);
    REQUIRE(stream);
    write(store, 100, 1, *stream);
    write(store, 102, 1);
    write(store, 104, 1);
    write_ranges(store);
    clone(store, 300, 0, 3);    // one item
    clone(store, 400, 100, 5);  // three: a reference
    const Range range{12 * kBlockBytes, 2 * kBlockBytes};
    REQUIRE(store.deallocate(kMain, {&range, 1}));
    REQUIRE(store.write_zeroes(kMain, {20 * kBlockBytes, kBlockBytes}));
    REQUIRE(store.flush(kMain));
    const auto snapshot = store.snapshot(kMain, {.name = "monday"});
    REQUIRE(snapshot);
    REQUIRE(store.clone_volume(*snapshot, "copy", false));
    const auto other = store.create_volume({.name = "other", .size_bytes = 1 << 20});
    REQUIRE(other);
    REQUIRE(store.resize(*other, 1 << 19));
    REQUIRE(store.remove(*other));
    REQUIRE(store.set_group(kMain, ConsistencyGroup(9)));
    REQUIRE(store.set_group(VolumeId(3), ConsistencyGroup(9)));
    REQUIRE(store.snapshot_group(ConsistencyGroup(9), "both", false));
    REQUIRE(store.rollback(kMain, *snapshot));
}

// The names of OperationType, as layout.h has them.
std::set<std::string> operation_types()
{
    const std::string layout =
        contents(std::string(COPPICE_IMAGES_SOURCE) + "/../format/layout/layout.h");
    std::size_t at = layout.find("enum class OperationType");
    REQUIRE(at != std::string::npos);
    const std::size_t end = layout.find("};", at);
    std::set<std::string> names;
    std::istringstream lines(layout.substr(at, end - at));
    for (std::string line; std::getline(lines, line);) {
        const std::size_t equals = line.find(" = ");
        const std::size_t begin = line.find_first_not_of(' ');
        if (equals != std::string::npos) {
            names.insert(line.substr(begin, equals - begin));
        }
    }
    REQUIRE(names.size() >= 11);
    return names;
}

std::string in_words(std::string name)
{
    std::replace(name.begin(), name.end(), '_', ' ');
    return name;
}

// The lines of operations, by sequence.
std::map<std::uint64_t, std::string> operation_lines(const std::string& text)
{
    std::map<std::uint64_t, std::string> result;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        if (line.rfind("  - ", 0) == 0) {
            result[std::stoull(line.substr(4))] = line;
        }
    }
    return result;
}

bool has(const std::string& text, const std::string& part)
{
    return text.find(part) != std::string::npos;
}

std::string span(std::uint64_t first, std::uint64_t length)
{
    return length == 1 ? fmt::format("{}", first)
                       : fmt::format("{} to {}", first, first + length - 1);
}

// Does the line say what the JSON says?
void compare(const json& operation, const std::string& line)
{
    INFO(operation.dump() << "\n" << line);
    const auto type = operation["type"].get<std::string>();
    const std::uint64_t volume = operation["volume"];
    const std::uint64_t stream = operation["stream"];
    REQUIRE(
        has(line, fmt::format("  - {}  volume {}{}: {}", operation["sequence"].get<std::uint64_t>(),
                              volume, stream == 0 ? "" : fmt::format(" stream {}", stream),
                              in_words(type))));
    const auto length = operation.value("length", std::uint64_t{0});
    if (operation.contains("lba")) {
        REQUIRE(operation["lba_bytes"] == kBlockBytes);
        REQUIRE(has(line, fmt::format(" lba {} ({} x 4096 bytes)", span(operation["lba"], length),
                                      length)));
    }
    REQUIRE((type == "write") == operation.contains("data"));
    if (type == "write") {
        const json& data = operation["data"];
        REQUIRE(has(line, fmt::format(" block {}", span(data["block"], length))));
        REQUIRE(has(line, "journaled in this commit") == data["in_commit"].get<bool>());
        REQUIRE(operation["checksums"].size() == length);
        for (const json& checksum : operation["checksums"]) {
            REQUIRE(has(line, " " + checksum.get<std::string>()));
        }
    }
    const bool intent = type == "remove_volume" || type == "rollback";
    REQUIRE(operation["intent"] == intent);
    REQUIRE(has(line, ", an intent") == intent);
    const bool clones = type == "clone" || type == "clone_reference";
    REQUIRE(clones == operation.contains("source"));
    if (clones) {
        REQUIRE(has(line, fmt::format("from volume 1 lba {}, which goes along",
                                      span(operation["source"]["lba"], length))));
    }
    if (operation.contains("record")) {
        REQUIRE(has(line, fmt::format("'{}'", operation["record"]["name"].get<std::string>())));
    }
    if (operation.contains("snapshot")) {
        REQUIRE(has(line, fmt::format(" {}", operation["snapshot"].get<std::uint64_t>())));
    }
    const std::uint64_t of = operation["command"]["of"];
    REQUIRE(has(line, "of one command") == (of > 1));
}

// A commit that a later build might write: with an operation of the type that is reserved.
void append_unwritable(const Folder& folder, const json& end)
{
    std::fstream file(folder.file("d"), std::ios::in | std::ios::out | std::ios::binary);
    const auto read = [&](std::uint64_t offset) {
        Le64 value;
        file.seekg(static_cast<std::streamoff>(offset));
        file.read(reinterpret_cast<char*>(&value), sizeof(value));
        return value.get();
    };
    const std::uint64_t block = end["block"];
    JournalOperation operation;
    operation.record.type = static_cast<std::uint8_t>(layout::OperationType::write_unwritable);
    operation.record.volume = 1;
    operation.record.lba = 77;
    operation.record.length = 2;
    operation.record.sequence = 1'000'000;
    CommitPlace place;
    place.commit = CommitNo(end["commit"].get<std::uint64_t>());
    place.previous = read((block - 1) * kBlockBytes);
    place.image_seed = read(offsetof(layout::ImageHeader, uuid));
    std::uint64_t last = 0;
    const BlockBytes bytes = encode_commit({&operation, 1}, place, last);
    file.seekp(static_cast<std::streamoff>(block * kBlockBytes));
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    REQUIRE(file.good());
}

void flip(const Folder& folder, std::uint64_t block)
{
    std::fstream file(folder.file("d"), std::ios::in | std::ios::out | std::ios::binary);
    const auto at = static_cast<std::streamoff>(block * kBlockBytes + 100);
    file.seekg(at);
    const int byte = file.get();
    file.seekp(at);
    file.put(static_cast<char>(byte ^ 0x10));
    REQUIRE(file.good());
}

}  // namespace

TEST_CASE("every record of the journal is shown in words")
{
    const Folder folder;
    folder.ok("create d 64M");
    use(folder, do_everything);
    const json journal = folder.ok_json("dump journal --checksums --json d");
    const std::string text = folder.ok("dump journal --checksums d");
    const auto lines = operation_lines(text);
    std::set<std::string> shown;
    std::size_t operations = 0;
    bool journaled = false;
    bool placed = false;
    bool several = false;
    bool cut_off = false;
    bool grouped = false;
    for (const json& commit : journal["commits"]) {
        const std::string head = fmt::format("commit {}: ", commit["commit"].get<std::uint64_t>());
        REQUIRE(has(text, head));
        for (const json& operation : commit["operations"]) {
            ++operations;
            const std::uint64_t sequence = operation["sequence"];
            REQUIRE(lines.count(sequence) == 1);
            compare(operation, lines.at(sequence));
            shown.insert(operation["type"].get<std::string>());
            if (operation["type"] == "write") {
                (operation["data"]["in_commit"] == true ? journaled : placed) = true;
            }
            (operation["type"] == "snapshot" ? grouped : several) |=
                operation["command"]["of"] == 2;
            cut_off = cut_off || has(lines.at(sequence), "cuts off lba 128 to 255");
        }
    }
    REQUIRE(operations == lines.size());
    REQUIRE((journaled && placed && several && grouped && cut_off));
    REQUIRE(has(text, "change volume: 'copy', 64 MiB, LBA 4096 bytes, flush durable, consistency "
                      "group 9"));
    REQUIRE(has(text, "volume 1 stream 1"));

    append_unwritable(folder, journal["end"]);
    const Run after = folder.run("dump journal d");
    REQUIRE(after.code == 3);
    REQUIRE(has(after.out, "(bad-record)"));
    const json damaged = json::parse(folder.run("dump journal --json d").out);
    REQUIRE(damaged["end"]["row"] == "bad-record");
    REQUIRE(damaged["commits"].back()["replayed"] == false);
    for (const std::string& name : operation_types()) {
        INFO(name << "\n" << after.out);
        if (name == "write_unwritable") {
            REQUIRE(has(after.out, name + ", volume 1, lba 77, 2 blocks"));
            REQUIRE(has(damaged["commits"].back()["problem"], name));
        } else {
            REQUIRE(shown.count(name) == 1);
        }
    }
    REQUIRE(!has(after.out, "unknown"));
}

TEST_CASE("dump journal says why the replay ends where it does")
{
    const Folder folder;
    folder.ok("create d 64M");
    use(folder, [](Store& store) {
        write(store, 0, 3);
        write(store, 10, 40);
        write(store, 60, 16);
    });
    const std::string whole = contents(folder.path / "d");
    const json before = folder.ok_json("dump journal --json d");
    const json& commits = before["commits"];
    REQUIRE(commits.size() >= 3);
    const json& last = commits.back();
    const json& placed = commits[commits.size() - 2];
    REQUIRE(before["end"]["row"] == "nothing-written");
    REQUIRE(before["end"]["commit"] == last["commit"].get<std::uint64_t>() + 1);
    REQUIRE(last["covered_by_sync"] == false);
    REQUIRE(last["data_verify"] == true);
    REQUIRE(placed["covered_by_sync"] == true);
    REQUIRE(last["blocks"].get<std::uint64_t>() > 1);
    REQUIRE(has(folder.ok("dump journal d"), "durable: a sync covers it"));

    const auto expect = [&](std::uint64_t block, const std::string& row, const json& commit,
                            int code) {
        std::ofstream(folder.file("d"), std::ios::binary) << whole;
        flip(folder, block);
        INFO(row);
        const Run text = folder.run("dump journal d");
        REQUIRE(text.code == code);
        REQUIRE(has(text.out,
                    fmt::format("before commit {}, ", commit["commit"].get<std::uint64_t>())));
        REQUIRE(has(text.out, "(" + row + ")"));
        const json after = json::parse(folder.run("dump journal --json d").out);
        REQUIRE(after["end"]["row"] == row);
        REQUIRE(after["end"]["commit"] == commit["commit"]);
        REQUIRE(after["end"]["block"] == commit["block"]);
        REQUIRE(after["damaged"] == (code != 0));
        // What recovery takes is what it says.
        const Run info = folder.run("info --json d");
        REQUIRE((info.code == 0) == (code == 0));
        if (code == 0) {
            std::uint64_t replayed = 0;
            for (const json& other : after["commits"]) {
                replayed += other["replayed"] == true ? 1U : 0U;
            }
            REQUIRE(json::parse(info.out)["replayed_commits"] == replayed);
        }
    };
    expect(last["block"], "torn-first-block", last, 0);
    expect(last["block"].get<std::uint64_t>() + 1, "torn-later-block", last, 0);
    expect(placed["block"], "first-block-damaged", placed, 3);

    // A commit that no sync covers, with data elsewhere.
    std::ofstream(folder.file("d"), std::ios::binary) << whole;
    use(folder, [](Store& store) { write(store, 80, 40); });
    const json behind = folder.ok_json("dump journal --json d");
    const json& unsynced = behind["commits"].back();
    REQUIRE(unsynced["data_verify"] == true);
    flip(folder, unsynced["operations"][0]["data"]["block"]);
    const json after = folder.ok_json("dump journal --json d");
    REQUIRE(after["end"]["row"] == "not-verified");
    REQUIRE(after["end"]["commit"] == unsynced["commit"]);
    REQUIRE(after["commits"].back()["data_verify"] == false);
    REQUIRE(has(folder.ok("dump journal d"), "VOID"));
}
