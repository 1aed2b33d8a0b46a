// The host tool run as its users run it, each test in a folder of its own.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

#include "coppice-catch.h"
#include "format/disk/fiber_tasks.h"
#include "format/disk/file_disk.h"
#include "format/volume/store.h"

namespace coppice::images {

struct Run {
    int code = -1;
    std::string out;
    std::string err;
};

inline std::string contents(const std::filesystem::path& path)
{
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

// A folder of its own for each test, where the tool is run.
class Folder {
public:
    Folder()
    {
        std::string pattern =
            (std::filesystem::temp_directory_path() / "coppice-tool-XXXXXX").string();
        REQUIRE(mkdtemp(pattern.data()) != nullptr);
        path = pattern;
    }
    ~Folder() { std::filesystem::remove_all(path); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;

    Run run(const std::string& arguments) const
    {
        const std::string command =
            fmt::format("cd '{}' && {} '{}' {} >'{}/.out' 2>'{}/.err' </dev/null", path.string(),
                        prefix, COPPICE_TOOL, arguments, path.string(), path.string());
        const int status = std::system(command.c_str());
        INFO(arguments);
        REQUIRE(WIFEXITED(status));  // no signal, no abort
        Run result{WEXITSTATUS(status), contents(path / ".out"), contents(path / ".err")};
        REQUIRE(result.code <= 4);
        return result;
    }
    // Must succeed; what it printed.
    std::string ok(const std::string& arguments) const
    {
        const Run result = run(arguments);
        INFO(arguments << "\n" << result.out << result.err);
        REQUIRE(result.code == 0);
        REQUIRE(result.err.empty());
        return result.out;
    }
    nlohmann::json ok_json(const std::string& arguments) const
    {
        return nlohmann::json::parse(ok(arguments));
    }
    // Must fail with this code and exactly one line, which begins and reads as it should.
    std::string fails(const std::string& arguments, int code, const std::string& part) const
    {
        const Run result = run(arguments);
        INFO(arguments << "\n" << result.out << result.err);
        REQUIRE(result.code == code);
        REQUIRE(std::count(result.err.begin(), result.err.end(), '\n') == 1);
        REQUIRE(result.err.rfind("coppice: ", 0) == 0);
        REQUIRE(result.err.find(part) != std::string::npos);
        return result.err;
    }
    std::string file(const std::string& name) const { return (path / name).string(); }

    std::filesystem::path path;
    std::string prefix;  // of the command line
};

// Writes `blocks` random blocks at `block` of the volume "main".
inline void write_data(const std::string& path, std::uint64_t block, std::uint64_t blocks)
{
    FiberTasks tasks;
    tasks.run([&] {
        auto disk = FileDisk::open(tasks, path, {});
        REQUIRE(disk);
        auto store = Store::open(**disk, {});
        REQUIRE(store);
        std::mt19937_64 random(block);
        std::vector<std::uint64_t> words(blocks * kBlockBytes / 8);
        std::generate(words.begin(), words.end(), random);
        iovec buffer{words.data(), blocks * kBlockBytes};
        REQUIRE((*store)->write(VolumeId(1), block * kBlockBytes, {&buffer, 1}, true));
        REQUIRE((*store)->close());
    });
}

}  // namespace coppice::images
