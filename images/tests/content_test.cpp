// coppice read, write and trim.
#include "images/tests/folder.h"

#include <sys/stat.h>

using namespace coppice;
using namespace coppice::images;
using nlohmann::json;

namespace {

void make_file(const Folder& folder, const std::string& name, std::size_t bytes, char fill)
{
    std::ofstream(folder.file(name), std::ios::binary) << std::string(bytes, fill);
}

std::uint64_t host_bytes(const Folder& folder, const std::string& name)
{
    struct stat facts {};
    REQUIRE(stat(folder.file(name).c_str(), &facts) == 0);
    return static_cast<std::uint64_t>(facts.st_blocks) * 512;
}

}  // namespace

TEST_CASE("files are written into a volume and read back")
{
    const Folder folder;
    folder.ok("create disk 64M");
    make_file(folder, "one", 512, 'a');
    make_file(folder, "two", 10240, 'b');
    CHECK(folder.ok("write disk 512=one 1M=two") ==
          "volume 'main': 10.5 KiB written in 2 ranges\n");
    CHECK(folder.ok("read disk 0 1536") ==
          std::string(512, '\0') + std::string(512, 'a') + std::string(512, '\0'));
    CHECK(folder.ok("read disk 1M 10240") == std::string(10240, 'b'));
    folder.ok("snapshot create disk s");
    const json written = folder.ok_json("write --json --volume main disk 1M=one");
    CHECK(written == json{{"volume", "main"}, {"ranges", 1}, {"bytes", 512}});
    CHECK(folder.ok("read disk 1M 1024") == std::string(512, 'a') + std::string(512, 'b'));
    CHECK(folder.ok("read --snapshot s disk 1M 1024") == std::string(1024, 'b'));
    CHECK(folder.ok("read disk 63M") == std::string(1U << 20, '\0'));
    CHECK(folder.ok("read disk").size() == 64U << 20);
    folder.ok("check --data disk");
}

TEST_CASE("a write that cannot be changes nothing")
{
    const Folder folder;
    folder.ok("create disk 64M");
    make_file(folder, "one", 512, 'a');
    make_file(folder, "odd", 500, 'b');
    make_file(folder, "none", 0, 'b');
    make_file(folder, "large", (32U << 20) + 512, 'c');
    folder.fails("write disk 0=one 1M=odd", 1, "odd has 500 bytes");
    folder.fails("write disk 0=one 1M=none", 1, "none has 0 bytes");
    folder.fails("write disk 0=one 100=one", 1, "multiples of 512");
    folder.fails("write disk 0=one 64M=one", 1, "beyond the end");
    folder.fails("write disk 0=one x=one", 1, "'x=one' is not OFFSET=FILE");
    folder.fails("write disk 0=one one", 1, "'one' is not OFFSET=FILE");
    folder.fails("write disk 0=one 1M=missing", 1, "missing: No such file or directory");
    folder.fails("write disk 0=one 1M=large", 1, "larger than 32 MiB");
    folder.fails("write disk", 2, "OFFSET=FILE");
    folder.fails("read disk 65M", 1, "has 67108864 bytes");
    folder.fails("read disk 63M 2M", 1, "has 1048576 bytes");
    folder.fails("read disk 100", 1, "'100' is not a multiple of 512");
    folder.fails("read --snapshot s disk", 1, "s");
    CHECK(folder.ok("read disk 0 512") == std::string(512, '\0'));
}

TEST_CASE("trim gives back what a crash left in the file")
{
    const Folder folder;
    folder.ok("create disk 256M");
    write_data(folder.file("disk"), 0, 8192);
    // The blocks are free after the next checkpoint; a process that is killed then punches nothing.
    FiberTasks tasks;
    tasks.run([&] {
        auto disk = FileDisk::open(tasks, folder.file("disk"), {});
        REQUIRE(disk);
        OpenOptions options;
        options.punch = false;
        auto store = Store::open(**disk, options);
        REQUIRE(store);
        const Range range{0, 8192 * kBlockBytes};
        REQUIRE((*store)->deallocate(VolumeId(1), {&range, 1}));
        REQUIRE((*store)->close());
    });
    const std::uint64_t before = host_bytes(folder, "disk");
    CHECK(before > 8192 * kBlockBytes);
    folder.ok("check disk");
    const json trimmed = folder.ok_json("trim --json disk");
    const std::uint64_t after = host_bytes(folder, "disk");
    CHECK(trimmed["host_bytes_before"] == before);
    CHECK(trimmed["host_bytes_after"] == after);
    CHECK(after < before - 8000 * kBlockBytes);
    folder.ok("check --data disk");
    write_data(folder.file("disk"), 5, 100);
    folder.ok("check --data disk");
}
