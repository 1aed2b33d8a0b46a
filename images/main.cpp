// The host tool: options and help. Each command is in a file of its own.
#include <CLI/CLI.hpp>
#include <charconv>
#include <fmt/format.h>

#include "images/tool.h"

namespace {

using namespace coppice::images;

constexpr const char* kFooter = R"(Exit codes:
  0  done; check: no problems
  1  the command failed, nothing was changed
  2  the command line is wrong
  3  the image is damaged
  4  check: only leaked space, or damage that a second copy makes good

Examples:
  coppice create disk.coppice 10G
  coppice snapshot create disk.coppice before-upgrade
  coppice clone disk.coppice before-upgrade experiment
  coppice check --data disk.coppice
)";

struct Commands {
    CreateCommand create;
    ImageOptions info;
    NameCommand name;
    SetCommand set;
    CheckCommand check;
    MapCommand map;
    ContentCommand read;
    WriteCommand write;
    ImageOptions trim;
    DumpCommand dump;
    std::function<int()> run;
};

void add_image(CLI::App* app, ImageOptions& options)
{
    app->add_option("IMAGE", options.path, "the image file")->required();
    app->add_flag("--json", options.json, "print JSON");
}

void add_share(CLI::App* app, ImageOptions& options)
{
    app->add_flag("-U,--force-share", options.force_share,
                  "look at the image although another program writes to it; what is shown may "
                  "contradict itself");
}

void add_volume(CLI::App* app, std::string& volume)
{
    app->add_option("--volume", volume, "the volume (default: the only one, or 'main')")
        ->type_name("NAME");
}

CLI::Option* add_flush(CLI::Option* option)
{
    return option
        ->check(CLI::Validator(
            [](const std::string& text) {
                return coppice::flush_mode_of(text) ? "" : "a flush is durable or ordered";
            },
            ""))
        ->type_name("durable|ordered");
}

CLI::Option* add_group(CLI::Option* option, std::uint64_t least)
{
    return option
        ->check(CLI::Validator(
            [least](const std::string& text) {
                std::uint64_t group = 0;
                const char* end = text.data() + text.size();
                const auto parsed = std::from_chars(text.data(), end, group);
                return parsed.ptr == end && !text.empty() && group >= least &&
                               group <= coppice::kMaxGroup
                           ? std::string()
                           : fmt::format("a group is a number from {} to {}", least,
                                         coppice::kMaxGroup);
            },
            ""))
        ->type_name("N");
}

void add_create(CLI::App& app, Commands& commands)
{
    CLI::App* create = app.add_subcommand("create", "make an image with one volume");
    create->footer("Example:\n  coppice create --lba 512 --journal 64M disk.coppice 100G\n");
    add_image(create, commands.create);
    create->add_option("SIZE", commands.create.size, "size of the volume: bytes, or 10G, 1.5T, ...")
        ->required();
    create->add_option("--lba", commands.create.lba_bytes, "LBA size that guests see")
        ->check(CLI::Validator(
            [](const std::string& text) {
                return text == "512" || text == "4096" ? "" : "an LBA has 512 or 4096 bytes";
            },
            ""))
        ->type_name("512|4096")
        ->capture_default_str();
    add_flush(create->add_option("--flush", commands.create.flush,
                                 "what a guest's flush does: durable, or ordered (returns at once; "
                                 "after a crash the volume holds an earlier state)"))
        ->capture_default_str();
    create->add_option("--name", commands.create.name, "name of the volume")
        ->type_name("NAME")
        ->capture_default_str();
    create
        ->add_option("--journal", commands.create.journal,
                     "size of the journal, 4M to 64M (default: by the volume's size)")
        ->type_name("SIZE");
    create->add_flag("--force", commands.create.force, "write over a file that exists");
    create->callback(
        [&commands] { commands.run = [&commands] { return run_create(commands.create); }; });
}

void add_info(CLI::App& app, Commands& commands)
{
    CLI::App* info = app.add_subcommand("info", "show an image: space, volumes, snapshots");
    info->footer("Example:\n  coppice info disk.coppice\n"
                 "  coppice info --json disk.coppice | jq '.volumes[].name'\n");
    add_image(info, commands.info);
    add_share(info, commands.info);
    info->callback([&commands] { commands.run = [&commands] { return run_info(commands.info); }; });
}

using NameRunner = int (*)(const NameCommand&);

CLI::App* add_named(CLI::App* parent, Commands& commands, const std::string& word,
                    const std::string& what, const std::string& name, NameRunner runner)
{
    CLI::App* app = parent->add_subcommand(word, what);
    add_image(app, commands.name);
    if (!name.empty()) {
        app->add_option(name, commands.name.name, "its name")->required();
    }
    app->callback([&commands, runner] {
        commands.run = [&commands, runner] { return runner(commands.name); };
    });
    return app;
}

void add_snapshot(CLI::App& app, Commands& commands)
{
    CLI::App* snapshot =
        app.add_subcommand("snapshot", "make, list, delete snapshots, or go back to one");
    snapshot->footer("Examples:\n  coppice snapshot create disk.coppice monday\n"
                     "  coppice snapshot list disk.coppice\n"
                     "  coppice snapshot rollback disk.coppice monday\n"
                     "  coppice snapshot delete disk.coppice monday\n");
    CLI::App* create = add_named(snapshot, commands, "create", "keep the volume as it is now",
                                 "NAME", run_snapshot_create);
    create->footer("Examples:\n  coppice snapshot create --volume main disk.coppice monday\n"
                   "  coppice snapshot create --group 1 disk.coppice monday\n");
    CLI::Option* group =
        add_group(create->add_option("--group", commands.name.group,
                                     "of all volumes of this consistency group, at one moment"),
                  1);
    CLI::App* list = add_named(snapshot, commands, "list", "list snapshots", "", run_snapshot_list);
    list->footer("Example:\n  coppice snapshot list disk.coppice\n");
    add_share(list, commands.name);
    CLI::App* remove = add_named(snapshot, commands, "delete", "delete a snapshot, free its space",
                                 "NAME", run_snapshot_delete);
    remove->footer("Example:\n  coppice snapshot delete disk.coppice monday\n");
    CLI::App* rollback = add_named(snapshot, commands, "rollback",
                                   "make the volume what it was; what was written since is gone",
                                   "NAME", run_snapshot_rollback);
    rollback->footer("Example:\n  coppice snapshot rollback disk.coppice monday\n");
    for (CLI::App* command : {create, list, remove, rollback}) {
        add_volume(command, commands.name.volume);
    }
    group->excludes("--volume");
}

void add_clone_and_delete(CLI::App& app, Commands& commands)
{
    CLI::App* clone = add_named(&app, commands, "clone", "make a writable volume of a snapshot",
                                "SNAPSHOT", run_clone);
    clone->footer("Example:\n  coppice clone disk.coppice monday experiment\n");
    clone->add_option("NAME", commands.name.target, "name of the new volume")->required();
    add_volume(clone, commands.name.volume);
    CLI::App* remove = add_named(&app, commands, "delete", "delete a volume that has no snapshots",
                                 "VOLUME", run_delete);
    remove->footer("Example:\n  coppice delete disk.coppice experiment\n");
}

void add_set(CLI::App& app, Commands& commands)
{
    CLI::App* set = app.add_subcommand("set", "change a property of a volume");
    set->footer("Examples:\n  coppice set --flush ordered disk.coppice\n"
                "  coppice set --group 1 --volume log disk.coppice\n");
    add_image(set, commands.set);
    add_volume(set, commands.set.volume);
    CLI::App* property = set->add_option_group("property", "What is changed");
    add_flush(property->add_option("--flush", commands.set.flush, "what a guest's flush does"));
    add_group(property->add_option("--group", commands.set.group,
                                   "join this consistency group, 1 to 255; 0: leave the one it is "
                                   "in"),
              0);
    property->require_option(1, 0);
    set->callback([&commands] { commands.run = [&commands] { return run_set(commands.set); }; });
}

void add_check(CLI::App& app, Commands& commands)
{
    CLI::App* check = app.add_subcommand("check", "look for damage and lost space");
    check->footer("Reads all trees and the journal, counts all space again; writes nothing.\n\n"
                  "Example:\n  coppice check --data disk.coppice\n");
    add_image(check, commands.check);
    add_share(check, commands.check);
    check->add_flag("--data", commands.check.data, "also read all data, compare their checksums");
    check->add_flag("-q,--quiet", commands.check.quiet, "print findings only");
    check->add_option("--max-findings", commands.check.max_findings, "show no more than this many")
        ->type_name("N")
        ->capture_default_str();
    check->callback(
        [&commands] { commands.run = [&commands] { return run_check(commands.check); }; });
}

void add_map(CLI::App& app, Commands& commands)
{
    CLI::App* map = app.add_subcommand("map", "show where the parts of a volume lie in the file");
    map->footer("Example:\n  coppice map --snapshot monday disk.coppice\n");
    add_image(map, commands.map);
    add_share(map, commands.map);
    add_volume(map, commands.map.volume);
    map->add_option("--snapshot", commands.map.snapshot, "a snapshot of the volume")
        ->type_name("NAME");
    map->callback([&commands] { commands.run = [&commands] { return run_map(commands.map); }; });
}

void add_read(CLI::App& app, Commands& commands)
{
    CLI::App* read = app.add_subcommand("read", "copy a volume's bytes to standard output");
    read->footer("Examples:\n  coppice read disk.coppice > disk.raw\n"
                 "  coppice read --snapshot monday disk.coppice 1M 4096 | hexdump -C\n");
    read->add_option("IMAGE", commands.read.path, "the image file")->required();
    read->add_option("OFFSET", commands.read.offset, "the first byte (default: 0)");
    read->add_option("LENGTH", commands.read.length, "how many (default: all that follow)");
    add_share(read, commands.read);
    add_volume(read, commands.read.volume);
    read->add_option("--snapshot", commands.read.snapshot, "a snapshot of the volume")
        ->type_name("NAME");
    read->callback([&commands] { commands.run = [&commands] { return run_read(commands.read); }; });
}

void add_write_and_trim(CLI::App& app, Commands& commands)
{
    CLI::App* write = app.add_subcommand("write", "write files to places of a volume, all or none");
    write->footer("One write, of up to 32 MiB: after a crash all of it is there, or nothing.\n\n"
                  "Example:\n  coppice write disk.coppice 0=mbr.bin 1M=core.img\n");
    add_image(write, commands.write);
    write
        ->add_option("OFFSET=FILE", commands.write.pieces,
                     "where a file's bytes go; - is standard "
                     "input")
        ->required();
    add_volume(write, commands.write.volume);
    write->callback(
        [&commands] { commands.run = [&commands] { return run_write(commands.write); }; });
    CLI::App* trim = app.add_subcommand("trim", "give all free space back to the host");
    trim->footer("Example:\n  coppice trim disk.coppice\n");
    add_image(trim, commands.trim);
    trim->callback([&commands] { commands.run = [&commands] { return run_trim(commands.trim); }; });
}

using DumpRunner = int (*)(const DumpCommand&);

CLI::App* add_dump_part(CLI::App* dump, Commands& commands, const std::string& word,
                        const std::string& what, const std::string& example, DumpRunner runner)
{
    CLI::App* app = dump->add_subcommand(word, what);
    app->footer("Example:\n  coppice dump " + example + "\n");
    add_image(app, commands.dump);
    add_share(app, commands.dump);
    app->callback([&commands, runner] {
        commands.run = [&commands, runner] { return runner(commands.dump); };
    });
    return app;
}

void add_dump(CLI::App& app, Commands& commands)
{
    CLI::App* dump = app.add_subcommand(
        "dump", "show the structures of an image as they are, also of a damaged one");
    dump->footer("Examples:\n  coppice dump superblock disk.coppice\n"
                 "  coppice dump tree disk.coppice map:1\n"
                 "  coppice dump block disk.coppice 8200\n");
    add_dump_part(dump, commands, "header", "the image header", "header disk.coppice",
                  run_dump_header);
    add_dump_part(dump, commands, "superblock", "all four copies of the superblock",
                  "superblock --json disk.coppice", run_dump_superblock);
    CLI::App* journal = add_dump_part(dump, commands, "journal", "what recovery would replay",
                                      "journal --all disk.coppice", run_dump_journal);
    journal->add_flag("--all", commands.dump.all, "also all other blocks of the ring");
    journal->add_flag("--checksums", commands.dump.checksums, "also the checksums of written data");
    add_dump_part(dump, commands, "trees", "a line for each tree", "trees disk.coppice",
                  run_dump_trees);
    CLI::App* tree = add_dump_part(dump, commands, "tree", "all items of one tree",
                                   "tree disk.coppice catalog", run_dump_tree);
    tree->add_option("TREE", commands.dump.tree,
                     "catalog, checksums, references, dead, free-space, range-operations, or "
                     "map:VERSION; `dump trees` lists them")
        ->required();
    CLI::App* block = add_dump_part(dump, commands, "block", "one block, by what it says it is",
                                    "block disk.coppice 8200", run_dump_block);
    block->add_option("N", commands.dump.block, "number of the 4 KiB block")->required();
}

}  // namespace

int main(int argc, char** argv)
{
    CLI::App app("coppice: make, inspect and check Coppice images", "coppice");
    app.set_version_flag("--version", "coppice " COPPICE_VERSION, "print the version");
    app.footer(kFooter);
    app.get_formatter()->column_width(28);
    Commands commands;
    add_create(app, commands);
    add_info(app, commands);
    add_snapshot(app, commands);
    add_clone_and_delete(app, commands);
    add_set(app, commands);
    add_check(app, commands);
    add_map(app, commands);
    add_read(app, commands);
    add_write_and_trim(app, commands);
    add_dump(app, commands);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
            return app.exit(error);  // help or version
        }
        fmt::print(stderr, "coppice: {}; `coppice --help` shows how it is used\n", error.what());
        return kExitUsage;
    }
    if (!commands.run) {
        fmt::print(stderr, "coppice: what is to be done? `coppice --help` shows the commands\n");
        return kExitUsage;
    }
    const int code = commands.run();
    // A full disk or a closed pipe behind standard output is a failure too.
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
        fmt::print(stderr, "coppice: standard output: cannot be written\n");
        return code == kExitOk ? kExitFailed : code;
    }
    return code;
}
