// The host tool as its users meet it: the program is run, its output and exit codes are compared.
#include "images/tests/folder.h"

#include <set>

#include "format/layout/layout.h"

using namespace coppice;
using namespace coppice::images;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

void flip(const std::string& path, std::uint64_t offset)
{
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    const int byte = file.get();
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(static_cast<char>(byte ^ 0x10));
    REQUIRE(file.good());
}

// All words "--like-this" of a text. (std::regex draws false warnings from g++ 12 with sanitizers.)
std::set<std::string> options_in(const std::string& text)
{
    std::set<std::string> options;
    for (std::size_t at = text.find("--"); at != std::string::npos; at = text.find("--", at)) {
        std::size_t end = at + 2;
        while (end < text.size() && (text[end] == '-' || (text[end] >= 'a' && text[end] <= 'z'))) {
            ++end;
        }
        if (end > at + 2) {
            options.insert(text.substr(at, end - at));
        }
        at = end;
    }
    return options;
}

std::vector<std::string> all_commands()
{
    return {"create",
            "info",
            "snapshot create",
            "snapshot list",
            "snapshot delete",
            "snapshot rollback",
            "clone",
            "delete",
            "set",
            "check",
            "map",
            "read",
            "write",
            "trim",
            "dump header",
            "dump superblock",
            "dump journal",
            "dump trees",
            "dump tree",
            "dump block"};
}

}  // namespace

TEST_CASE("an image is made, shown and checked")
{
    const Folder folder;
    REQUIRE(folder.ok("create --lba 512 --name system --journal 8M d.coppice 10G") ==
            "d.coppice: volume 'system' of 10 GiB, 512-byte LBAs\n");
    const json info = folder.ok_json("info --json d.coppice");
    REQUIRE(info["format"] == "coppice");
    REQUIRE(info["journal_bytes"] == 8 << 20);
    REQUIRE(info["volumes"].size() == 1);
    REQUIRE(info["volumes"][0]["name"] == "system");
    REQUIRE(info["volumes"][0]["size_bytes"] == 10ULL << 30);
    REQUIRE(info["volumes"][0]["lba_bytes"] == 512);
    REQUIRE(folder.ok("info d.coppice").find("system  10 GiB") != std::string::npos);
    REQUIRE(folder.ok("check d.coppice").find("no problems found") != std::string::npos);
    REQUIRE(folder.ok_json("check --json d.coppice")["clean"] == true);
    // Sparse: it takes what its journal and first trees take.
    REQUIRE(info["host_bytes"] < 32 << 20);
}

TEST_CASE("what a flush does is set")
{
    const Folder folder;
    const auto mode = [&] {
        return folder.ok_json("info --json d.coppice")["volumes"][0]["flush"].get<std::string>();
    };
    folder.ok("create --flush ordered d.coppice 1G");
    REQUIRE(mode() == "ordered");
    REQUIRE(folder.ok("info d.coppice").find("flush ordered") != std::string::npos);
    REQUIRE(folder.ok("set --flush durable d.coppice") == "volume 'main': flush durable\n");
    REQUIRE(mode() == "durable");
    REQUIRE(folder.ok_json("set --json --flush ordered --volume main d.coppice")["flush"] ==
            "ordered");
    REQUIRE(mode() == "ordered");
    folder.fails("set --flush never d.coppice", 2, "a flush is durable or ordered");
    folder.fails("set d.coppice", 2, "--flush");
    folder.fails("set --flush durable --volume other d.coppice", 1, "other");
    REQUIRE(mode() == "ordered");
    REQUIRE(folder.ok("check d.coppice").find("no problems found") != std::string::npos);
}

TEST_CASE("volumes join a group, and its snapshots are made together")
{
    const Folder folder;
    folder.ok("create d 64M");
    folder.ok("snapshot create d s");
    folder.ok("clone d s log");
    const auto groups = [&] {
        std::vector<std::uint64_t> result;
        const json info = folder.ok_json("info --json d");
        for (const json& volume : info["volumes"]) {
            result.push_back(volume["group"]);
        }
        return result;
    };
    REQUIRE(groups() == std::vector<std::uint64_t>{0, 0, 0});
    REQUIRE(folder.ok("set --group 3 d") == "volume 'main': group 3\n");
    REQUIRE(folder.ok("set --group 3 --flush ordered --volume log d") ==
            "volume 'log': flush ordered, group 3\n");
    REQUIRE(groups() == std::vector<std::uint64_t>{3, 0, 3});
    REQUIRE(folder.ok("info d").find("flush ordered, group 3") != std::string::npos);
    REQUIRE(folder.ok("snapshot create --group 3 d both") ==
            "snapshot 'both' of volume 'main' (id 4)\nsnapshot 'both' of volume 'log' (id 5)\n");
    const json made = folder.ok_json("snapshot create --json --group 3 d again");
    REQUIRE(made["snapshots"].size() == 2);
    REQUIRE(made["snapshots"][1]["volume"] == "log");
    REQUIRE(folder.ok_json("snapshot list --json d").size() == 5);
    folder.fails("snapshot create --group 3 d both", 1, "'both' is taken");
    folder.fails("snapshot create --group 4 d x", 1, "no volume is in consistency group 4");
    folder.fails("snapshot create --group 0 d x", 2, "from 1 to 255");
    folder.fails("snapshot create --group 3 --volume log d x", 2, "excludes");
    folder.fails("set --group 256 d", 2, "from 0 to 255");
    folder.fails("set --group some d", 2, "from 0 to 255");
    REQUIRE(folder.ok("set --group 0 d") == "volume 'main': no group\n");
    REQUIRE(folder.ok_json("set --json --group 0 --volume log d")["group"] == 0);
    REQUIRE(groups() == std::vector<std::uint64_t>(7, 0));
    REQUIRE(folder.ok("check d").find("no problems found") != std::string::npos);
}

TEST_CASE("sizes that cannot be are refused, and nothing is written")
{
    const Folder folder;
    const auto refused = [&](const std::string& arguments, const std::string& part) {
        folder.fails(arguments, 2, part);
        REQUIRE(!fs::exists(folder.path / "d"));
    };
    refused("create d 0", "must not be 0");
    refused("create d 9223372036854775808", "at most 64 PiB");
    refused("create d 18446744073709551616", "is not a size");
    refused("create d 65P", "at most 64 PiB");
    refused("create d big", "is not a size");
    refused("create d 1000", "not a multiple of the LBA size");
    refused("create --lba 512 d 1000", "not a multiple");
    refused("create --lba 1024 d 1G", "512 or 4096");
    refused("create --journal 1K d 1G", "the journal has");
    refused("create --journal 1G d 1G", "the journal has");
    refused("create --name '' d 1G", "1 to 127 bytes");
    refused("create d", "SIZE is required");
    refused("creat d 1G", "creat");
    refused("create d 1G --wrong", "--wrong");
    refused("", "--help");
    refused("snapshot", "--help");
    // The largest there is.
    folder.ok("create d 64P");
    folder.ok("check d");
}

TEST_CASE("a file that exists is kept unless it must go")
{
    const Folder folder;
    std::ofstream(folder.file("d")) << "precious";
    folder.fails("create d 1G", 1, "exists; --force");
    REQUIRE(contents(folder.path / "d") == "precious");
    folder.ok("create --force d 1G");
    folder.ok("check d");
    folder.fails("create no-such-folder/d 1G", 1, "No such file");
}

TEST_CASE("snapshots are made, listed, cloned, gone back to and deleted")
{
    const Folder folder;
    folder.ok("create d 64M");
    write_data(folder.file("d"), 0, 100);
    REQUIRE(folder.ok("snapshot list d") == "no snapshots\n");
    REQUIRE(folder.ok("snapshot create d monday") == "snapshot 'monday' of volume 'main' (id 2)\n");
    write_data(folder.file("d"), 50, 100);
    folder.ok("snapshot create d tuesday");
    const json list = folder.ok_json("snapshot list --json d");
    REQUIRE(list.size() == 2);
    REQUIRE(list[0]["name"] == "monday");
    REQUIRE(list[0]["mapped_bytes"] == 100 * kBlockBytes);
    REQUIRE(list[1]["mapped_bytes"] == 150 * kBlockBytes);
    folder.fails("snapshot create d monday", 1, "'monday' is taken");
    folder.fails("snapshot delete d sunday", 1, "no snapshot named 'sunday'");

    folder.ok("clone d monday experiment");
    folder.fails("clone d monday main", 1, "'main' is taken");
    json info = folder.ok_json("info --json d");
    REQUIRE(info["volumes"].size() == 4);
    REQUIRE(info["volumes"][3]["name"] == "experiment");
    REQUIRE(info["volumes"][3]["mapped_bytes"] == 100 * kBlockBytes);
    folder.fails("snapshot list --volume no-such d", 1, "no volume named 'no-such'");
    REQUIRE(folder.ok("snapshot list --volume experiment d") == "no snapshots\n");

    folder.ok("snapshot rollback d monday");
    info = folder.ok_json("info --json d");
    REQUIRE(info["volumes"][0]["mapped_bytes"] == 100 * kBlockBytes);
    folder.fails("delete d main", 1, "has snapshots");
    folder.ok("snapshot delete d tuesday");
    folder.ok("delete d experiment");
    folder.ok("snapshot delete d monday");
    info = folder.ok_json("info --json d");
    REQUIRE(info["volumes"].size() == 1);
    REQUIRE(info["data_bytes"] == 100 * kBlockBytes);
    REQUIRE(folder.ok_json("check --data --json d")["verified_blocks"] == 100);
}

TEST_CASE("the map shows data where they lie")
{
    const Folder folder;
    folder.ok("create d 64M");
    write_data(folder.file("d"), 10, 5);
    const json map = folder.ok_json("map --json d");
    REQUIRE(map.size() == 3);
    REQUIRE(map[0]["state"] == "hole");
    REQUIRE(map[0]["length"] == 10 * kBlockBytes);
    REQUIRE(map[1]["state"] == "data");
    REQUIRE(map[1]["offset"] == 10 * kBlockBytes);
    REQUIRE(map[1]["host_offset"].get<std::uint64_t>() % kBlockBytes == 0);
    REQUIRE(map[2]["length"].get<std::uint64_t>() == (64U << 20) - 15 * kBlockBytes);
    folder.ok("snapshot create d s");
    REQUIRE(folder.ok_json("map --json --snapshot s d").size() == 3);
    folder.fails("map --snapshot t d", 1, "no snapshot named 't'");
}

TEST_CASE("files that are no images get one clear sentence and stay as they are")
{
    const Folder folder;
    std::ofstream(folder.file("empty")) << "";
    std::ofstream(folder.file("text")) << "hello";
    std::mt19937 random(3);
    std::string noise(1 << 20, '\0');
    std::generate(noise.begin(), noise.end(), [&] { return static_cast<char>(random()); });
    std::ofstream(folder.file("noise"), std::ios::binary) << noise;
    std::ofstream(folder.file("zeroes"), std::ios::binary) << std::string(1 << 20, '\0');
    fs::create_directory(folder.path / "directory");
    for (const char* name : {"empty", "text", "noise", "zeroes"}) {
        const std::string before = contents(folder.path / name);
        for (const std::string command :
             {"info {}", "check {}", "snapshot create {} x", "snapshot list {}", "map {}",
              "dump trees {}", "dump journal {}"}) {
            folder.fails(fmt::format(fmt::runtime(command), name), 1, name);
        }
        REQUIRE(contents(folder.path / name) == before);
    }
    folder.fails("info missing", 1, "No such file");
    folder.fails("info directory", 1, "directory");
    REQUIRE(!fs::exists(folder.path / "missing"));
}

TEST_CASE("truncated and damaged images are told apart from others")
{
    const Folder folder;
    folder.ok("create d 64M");
    write_data(folder.file("d"), 0, 200);
    const std::string whole = contents(folder.path / "d");
    const auto restore = [&] { std::ofstream(folder.file("d"), std::ios::binary) << whole; };

    SECTION("cut off at many places")
    {
        for (const std::size_t length :
             {1UL, 100UL, 4096UL, 5000UL, 8192UL, 70000UL, 4300000UL, whole.size() - 1}) {
            restore();
            fs::resize_file(folder.path / "d", length);
            INFO(length);
            const Run result = folder.run("check d");
            REQUIRE((result.code == 3 || result.code == 1));
            REQUIRE(folder.run("info d").code != 0);
            REQUIRE(folder.run("snapshot create d x").code != 0);
            REQUIRE(fs::file_size(folder.path / "d") == length);
        }
    }
    SECTION("a flipped bit of data")
    {
        const json map = folder.ok_json("map --json d");
        flip(folder.file("d"), map[0]["host_offset"].get<std::uint64_t>() + 3 * kBlockBytes + 77);
        REQUIRE(folder.run("check d").code == 0);
        const Run result = folder.run("check --data --json d");
        REQUIRE(result.code == 3);
        const json report = json::parse(result.out);
        REQUIRE(report["corruptions"] == 1);
        REQUIRE(report["findings"][0]["kind"] == "data");
        REQUIRE(report["findings"][0]["lba"] == 3);
        REQUIRE(report["findings"][0]["volume"] == "volume 'main'");
    }
    SECTION("a flipped bit of the catalog")
    {
        const json trees = folder.ok_json("dump trees --json d");
        REQUIRE(trees[0]["tree"] == "catalog");
        flip(folder.file("d"), trees[0]["root"].get<std::uint64_t>() * kBlockBytes + 100);
        folder.fails("info d", 3, "`coppice check`");
        folder.fails("snapshot create d x", 3, "`coppice check`");
        REQUIRE(folder.run("check d").code == 3);
        REQUIRE(folder.run("dump trees d").code == 3);
        REQUIRE(folder.run("dump tree d catalog").code == 3);
    }
    SECTION("one copy of a superblock")
    {
        const json copies = folder.ok_json("dump superblock --json d");
        for (const json& copy : copies) {
            if (copy["newest"] == true) {
                flip(folder.file("d"), copy["block"].get<std::uint64_t>() * kBlockBytes + 50);
                break;
            }
        }
        const Run result = folder.run("check d");
        REQUIRE(result.code == 4);
        REQUIRE(result.out.find("repairable: ") != std::string::npos);
        folder.ok("info d");
    }
    SECTION("random bytes anywhere in the metadata never crash a command")
    {
        std::mt19937_64 random(11);
        for (unsigned round = 0; round < 8; ++round) {
            restore();
            for (unsigned i = 0; i < 4; ++i) {
                const std::uint64_t block = i == 0 ? random() % 3 : 1040 + random() % 60;
                flip(folder.file("d"), block * kBlockBytes + random() % 600);
            }
            const std::string before = contents(folder.path / "d");
            for (const char* command :
                 {"check d", "info d", "map d", "dump header d", "dump superblock d",
                  "dump journal d", "dump trees d", "dump tree d map:1", "dump block d 1"}) {
                folder.run(command);
            }
            REQUIRE(contents(folder.path / "d") == before);
        }
    }
}

TEST_CASE("what a later build wrote is refused by name, and dump still works")
{
    struct Case {
        const char* change;
        const char* named;    // in the one line
        bool can_read;        // by the store: info and the like
        const char* checker;  // what the checker says, if it refuses
    };
    const std::vector<Case> cases = {
        {"header incompatible 0x10000", "incompatible features 0x10000 that", false,
         "features 0x10000 that"},
        {"superblock incompatible 0x10000", "incompatible features 0x10000 that", false,
         "features 0x10000 that"},
        {"header major_version 7", "format version 7.1, and this build knows 0.1", false,
         "format version 7.1, and this build knows 0.1"},
        {"superblock major_version 7", "format version 7.1, and this build knows 0.1", false,
         "format version 7.1, and this build knows 0.1"},
        {"header read_only_compatible 0x20",
         "features 0x20 that this build can only read; open it read-only", true,
         "features 0x20 that"},
        {"superblock read_only_compatible 0x20",
         "features 0x20 that this build can only read; open it read-only", true,
         "features 0x20 that"},
        {"header oldest_minor_writer 9",
         "only format version 0.9 and later may write the image, and this build writes 0.1; open "
         "it read-only",
         true, nullptr},
    };
    const Folder folder;
    folder.ok("create made 64M");
    write_data(folder.file("made"), 0, 20);
    for (const Case& one : cases) {
        INFO(one.change);
        fs::copy_file(folder.file("made"), folder.file("d"), fs::copy_options::overwrite_existing);
        REQUIRE(
            std::system(fmt::format("'{}' '{}' {}", COPPICE_RESEAL, folder.file("d"), one.change)
                            .c_str()) == 0);
        const std::string before = contents(folder.path / "d");
        const std::string line = folder.fails("snapshot create d x", 1, one.named);
        REQUIRE(line.find("the build that wrote it") != std::string::npos);
        if (one.can_read) {
            REQUIRE(folder.ok("info d").find("main") != std::string::npos);
            REQUIRE(folder.ok_json("map --json d").size() == 2);
        } else {
            folder.fails("info d", 1, one.named);
            folder.fails("map d", 1, one.named);
        }
        if (one.checker != nullptr) {
            REQUIRE(folder.fails("check d", 1, one.checker).find("use the build that wrote it") !=
                    std::string::npos);
        } else {
            folder.ok("check --data d");
        }
        REQUIRE(folder.ok_json("dump header --json d")["valid"] == true);
        folder.ok("dump superblock d");
        REQUIRE(contents(folder.path / "d") == before);
    }
    // What a later build may add without asking.
    fs::copy_file(folder.file("made"), folder.file("d"), fs::copy_options::overwrite_existing);
    for (const char* change : {"header compatible 0x4", "superblock compatible 0x4",
                               "header minor_version 5", "superblock minor_version 5"}) {
        REQUIRE(std::system(fmt::format("'{}' '{}' {}", COPPICE_RESEAL, folder.file("d"), change)
                                .c_str()) == 0);
    }
    folder.ok("check --data d");
    folder.ok("snapshot create d x");
    folder.ok("check --data d");
    REQUIRE(folder.ok_json("dump header --json d")["header"]["compatible"] == "0x4");
}

TEST_CASE("a header with a flipped bit is known as damaged, and the superblocks are believed")
{
    const Folder folder;
    folder.ok("create d 64M");
    flip(folder.file("d"), offsetof(layout::ImageHeader, incompatible));
    REQUIRE(folder.run("dump header d").code == 3);
    REQUIRE(folder.run("check d").code == 4);
    folder.ok("info d");
}

TEST_CASE("a read-only file can be looked at and not changed")
{
    Folder folder;
    folder.ok("create d 64M");
    fs::permissions(folder.path / "d", fs::perms::owner_read);
    const std::string before = contents(folder.path / "d");
    if (geteuid() == 0) {
        // Root without capabilities is held back by permissions as anybody is.
        folder.prefix = "setpriv --bounding-set=-all --inh-caps=-all";
    }
    folder.ok("info d");
    folder.ok("check --data d");
    folder.fails("snapshot create d x", 1, "Permission denied");
    folder.fails("snapshot rollback d x", 1, "Permission denied");
    REQUIRE(contents(folder.path / "d") == before);
}

TEST_CASE("an image in use is locked")
{
    const Folder folder;
    folder.ok("create d 64M");
    FiberTasks tasks;
    auto disk = FileDisk::open(tasks, folder.file("d"), {});
    REQUIRE(disk);
    for (const char* command : {"info d", "check d", "snapshot create d x", "map d",
                                "dump header d", "create --force d 1G"}) {
        folder.fails(command, 1, "");
    }
    folder.ok("info -U d");
    folder.ok("check --force-share d");
    folder.ok("dump header -U d");
    disk->reset();
    folder.ok("info d");
}

TEST_CASE("dump shows header, superblocks, journal, trees and blocks")
{
    const Folder folder;
    folder.ok("create d 64M");
    write_data(folder.file("d"), 0, 20);
    folder.ok("snapshot create d s");
    write_data(folder.file("d"), 5, 3);
    REQUIRE(folder.ok("dump header d").find("journal_blocks") != std::string::npos);
    REQUIRE(folder.ok_json("dump superblock --json d").size() == 4);
    REQUIRE(folder.ok("dump superblock d").find(", newest") != std::string::npos);
    const json trees = folder.ok_json("dump trees --json d");
    for (const json& tree : trees) {
        const auto name = tree["tree"].get<std::string>();
        const json nodes = folder.ok_json("dump tree --json d " + name);
        REQUIRE(nodes.size() == tree["nodes"]);
        folder.ok("dump tree d " + name);
        if (tree["root"] != 0) {
            const auto block = tree["root"].get<std::uint64_t>();
            const json node = folder.ok_json(fmt::format("dump block --json d {}", block));
            REQUIRE(node["type"] == "tree node");
            REQUIRE(node["problem"].get<std::string>().empty());
            REQUIRE(!node["items"].empty());
        }
    }
    REQUIRE(folder.ok("dump tree d dead").find("kind data") != std::string::npos);
    REQUIRE(folder.ok("dump tree d map:1").find("kind data") != std::string::npos);
    folder.fails("dump tree d map:9", 1, "there are catalog, checksums");
    folder.ok("dump journal d");
    REQUIRE(folder.ok("dump journal --all d").find("block 16:") != std::string::npos);
    folder.ok_json("dump journal --all --json d");
    const json map = folder.ok_json("map --json d");
    const auto data = map[0]["host_offset"].get<std::uint64_t>() / kBlockBytes;
    const std::string text = folder.ok(fmt::format("dump block d {}", data));
    REQUIRE(text.find("0ff0  ") != std::string::npos);
    folder.fails("dump block d 99999999", 1, "behind the end");
    folder.fails("dump block d x", 2, "N");
}

TEST_CASE("a journal that was not checkpointed is shown and replayed")
{
    const Folder folder;
    folder.ok("create d 64M");
    FiberTasks tasks;
    tasks.run([&] {
        auto disk = FileDisk::open(tasks, folder.file("d"), {});
        REQUIRE(disk);
        auto store = Store::open(**disk, {});
        REQUIRE(store);
        std::vector<std::byte> bytes(3 * kBlockBytes, std::byte{7});
        iovec buffer{bytes.data(), bytes.size()};
        REQUIRE((*store)->write(VolumeId(1), 0, {&buffer, 1}, true));
        (*store)->abandon();
    });
    const json journal = folder.ok_json("dump journal --json d");
    REQUIRE(!journal["commits"].empty());
    REQUIRE(folder.ok("dump journal d").find("volume 1: write lba 0 to 2") != std::string::npos);
    const json info = folder.ok_json("info --json d");
    REQUIRE(info["replayed_operations"] == 1);
    REQUIRE(info["volumes"][0]["mapped_bytes"] == 3 * kBlockBytes);
    REQUIRE(folder.ok_json("check --json d")["journal_operations"] == 1);
}

TEST_CASE("a removal under way is shown, and goes on")
{
    const Folder folder;
    folder.ok("create d 64M");
    REQUIRE(folder.ok("info d").find("removals") == std::string::npos);
    FiberTasks tasks;
    tasks.run([&] {
        auto disk = FileDisk::open(tasks, folder.file("d"), {});
        REQUIRE(disk);
        OpenOptions options;
        options.removal_step = 2;
        auto store = Store::open(**disk, options);
        REQUIRE(store);
        (*store)->pause();
        const auto other = (*store)->create_volume({.name = "other", .size_bytes = 1 << 20});
        REQUIRE(other);
        std::vector<std::byte> bytes(kBlockBytes, std::byte{7});
        iovec buffer{bytes.data(), bytes.size()};
        for (std::uint64_t i = 20; i-- > 0;) {
            REQUIRE((*store)->write(*other, i * kBlockBytes, {&buffer, 1}, false));
        }
        REQUIRE((*store)->remove(*other));
        REQUIRE((*store)->close());
    });
    REQUIRE(folder.ok_json("info --json d")["removals"] == 1);
    REQUIRE(folder.ok("info d").find("1 under way; its space is given back") != std::string::npos);
    REQUIRE(folder.ok("dump tree d range-operations").find("remove_version") != std::string::npos);
    REQUIRE(folder.ok_json("check --json d")["corruptions"] == 0);
    folder.ok("snapshot create d s");
    folder.ok("snapshot delete d s");  // waits for all removals
    REQUIRE(folder.ok_json("info --json d")["removals"] == 0);
    REQUIRE(folder.ok_json("info --json d")["data_bytes"] == 0);
}

// ---- Documents ----------------------------------------------------------------------------

TEST_CASE("every option stands in help, manual page and completion")
{
    const Folder folder;
    const std::string source = COPPICE_IMAGES_SOURCE;
    std::string manual = contents(source + "/coppice.1");
    // Without troff's escapes: three bytes for a font, one before a hyphen.
    for (std::size_t at = 0; (at = manual.find('\\', at)) != std::string::npos;) {
        manual.erase(at, manual[at + 1] == 'f' ? 3 : 1);
    }
    const std::string completion = contents(source + "/coppice.bash");
    std::set<std::string> options;
    std::vector<std::string> commands = all_commands();
    commands.emplace_back("");
    for (const std::string& command : commands) {
        const std::string help = folder.ok(command + " --help");
        INFO(command);
        REQUIRE(help.find("Example") != std::string::npos);
        // What stands in examples is an option too.
        options.merge(options_in(help));
        std::istringstream words(command);
        for (std::string word; words >> word;) {
            REQUIRE(manual.find(word) != std::string::npos);
            REQUIRE(completion.find(word) != std::string::npos);
        }
    }
    REQUIRE(options.size() > 12);
    for (const std::string& name : options) {
        INFO(name);
        REQUIRE(manual.find(name) != std::string::npos);
        REQUIRE(completion.find(name) != std::string::npos);
    }
    // ... and nothing stands in the manual page that is no option.
    for (const std::string& name : options_in(manual)) {
        INFO(name);
        REQUIRE(options.count(name) == 1);
    }
    for (int code = 0; code <= 4; ++code) {
        REQUIRE(manual.find(fmt::format(".B {}\n", code)) != std::string::npos);
        REQUIRE(folder.ok("--help").find(fmt::format("  {}  ", code)) != std::string::npos);
    }
}

TEST_CASE("dump has every struct of the layout")
{
    const std::string source = COPPICE_IMAGES_SOURCE;
    const std::string layout = contents(source + "/../format/layout/layout.h");
    const std::string fields = contents(source + "/struct_fields.cpp");
    const std::string word = "\nstruct ";
    unsigned found = 0;
    for (std::size_t at = layout.find(word); at != std::string::npos; at = layout.find(word, at)) {
        at += word.size();
        const std::string name = layout.substr(at, layout.find(' ', at) - at);
        INFO(name);
        REQUIRE(fields.find("COPPICE_STRUCT(" + name + ",") != std::string::npos);
        ++found;
    }
    REQUIRE(found >= 20);
}
