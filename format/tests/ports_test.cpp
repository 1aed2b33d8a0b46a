// The host's ports: fibers, the disk in memory, the disk in a file and its locks.
#include "coppice-catch.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "format/disk/fiber_tasks.h"
#include "format/disk/file_disk.h"
#include "format/disk/memory_disk.h"

using namespace coppice;

namespace {

std::vector<std::byte> filled(std::size_t length, int value)
{
    return std::vector<std::byte>(length, static_cast<std::byte>(value));
}

struct Folder {
    std::filesystem::path path;
    Folder()
    {
        std::string name = std::filesystem::temp_directory_path() / "coppice-ports-XXXXXX";
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        path = name;
    }
    ~Folder() { std::filesystem::remove_all(path); }
    std::string file(const char* name) const { return path / name; }
};

// Runs `body` in a child process; true when it ends with abort.
template <typename Body>
bool aborts(Body body)
{
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        std::freopen("/dev/null", "w", stderr);
        // Catch's handler of SIGABRT would report the child's end as a failed test.
        std::signal(SIGABRT, SIG_DFL);
        body();
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

std::vector<int> order_of_turns(std::optional<std::uint64_t> seed)
{
    FiberTasks tasks({.seed = seed, .virtual_time = true});
    std::vector<int> order;
    tasks.run([&] {
        for (int i = 0; i < 5; ++i) {
            tasks.spawn([&, i] {
                for (int turn = 0; turn < 3; ++turn) {
                    order.push_back(i);
                    tasks.yield();
                }
            });
        }
    });
    tasks.run_until_idle();
    return order;
}

}  // namespace

TEST_CASE("fibers take turns in order, or as the seed says")
{
    CHECK(order_of_turns(std::nullopt) ==
          std::vector<int>{0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4});
    CHECK(order_of_turns(7) == order_of_turns(7));
    CHECK(order_of_turns(7) != order_of_turns(8));
}

TEST_CASE("a wake that comes first is not lost")
{
    FiberTasks tasks;
    bool ended = false;
    tasks.run([&] {
        Task* self = tasks.current();
        tasks.wake(self);
        tasks.suspend();
        tasks.spawn([&] { tasks.wake(self); });
        tasks.suspend();
        ended = true;
    });
    CHECK(ended);
    CHECK(tasks.unfinished() == 0);
}

TEST_CASE("stacks are used again, and their ends are kept apart")
{
    FiberTasks tasks({.stack_bytes = 64 * 1024});
    int sum = 0;
    tasks.run([&] {
        for (int i = 0; i < 1000; ++i) {
            tasks.spawn([&tasks, &sum] {
                std::array<volatile char, 40 * 1024> large;
                large.front() = 1;
                large.back() = 1;
                tasks.yield();
                sum += large.front() + large.back();
            });
            if (i % 10 == 0) {
                tasks.yield();
            }
        }
    });
    tasks.run_until_idle();
    CHECK(sum == 2000);
}

TEST_CASE("virtual time stands still but for timers")
{
    FiberTasks tasks({.virtual_time = true});
    std::vector<int> order;
    constexpr std::uint64_t kSecond = 1'000'000'000;
    tasks.run([&] {
        const std::uint64_t start = tasks.now_ns();
        Task* self = tasks.current();
        tasks.call_at(start + 2 * kSecond, [&] { order.push_back(2); });
        tasks.call_at(start + kSecond, [&] { order.push_back(1); });
        tasks.sleep_until(start + 3 * kSecond);
        order.push_back(3);
        CHECK(tasks.now_ns() >= start + 3 * kSecond);
        CHECK(tasks.now_ns() < start + 4 * kSecond);
        tasks.call_at(start + 4 * kSecond, [&] { tasks.wake(self); });
        CHECK(tasks.suspend_until(start + 5 * kSecond));
        CHECK_FALSE(tasks.suspend_until(start + 5 * kSecond));
        CHECK(tasks.now_ns() >= start + 5 * kSecond);
    });
    CHECK(order == std::vector<int>{1, 2, 3});
}

TEST_CASE("real time waits for a timer")
{
    FiberTasks tasks;
    tasks.run([&] {
        const std::uint64_t start = tasks.now_ns();
        tasks.sleep_until(start + 5'000'000);
        CHECK(tasks.now_ns() >= start + 5'000'000);
    });
}

TEST_CASE("a deadlock ends the process")
{
    CHECK(aborts([] {
        FiberTasks tasks;
        tasks.run([&] { tasks.suspend(); });
    }));
}

TEST_CASE("mutex and queue work between fibers")
{
    FiberTasks tasks({.seed = 3, .virtual_time = true});
    TaskMutex mutex(tasks);
    int inside = 0;
    int done = 0;
    tasks.run([&] {
        for (int i = 0; i < 20; ++i) {
            tasks.spawn([&] {
                mutex.lock();
                CHECK(++inside == 1);
                tasks.yield();
                tasks.yield();
                --inside;
                mutex.unlock();
                ++done;
            });
        }
    });
    tasks.run_until_idle();
    CHECK(done == 20);
}

TEST_CASE("the memory disk is sparse, limited and can fail")
{
    FiberTasks tasks;
    MemoryDisk disk(tasks);
    tasks.run([&] {
        std::vector<std::byte> back(8192);
        REQUIRE(disk.write(1 << 20, filled(4096, 1)));
        CHECK(*disk.size_bytes() == (1 << 20) + 4096);
        CHECK(disk.bytes().allocated_bytes() == 4096);
        REQUIRE(disk.read((1 << 20) - 4096, back));
        CHECK(back[4095] == std::byte{0});
        CHECK(back[4096] == std::byte{1});
        REQUIRE(disk.read(1 << 20, back));  // half of it beyond the end
        CHECK(back[4096] == std::byte{0});

        const SparseBytes copy = disk.bytes();
        IoRequest discard{
            .kind = IoRequest::Kind::discard, .offset_bytes = 1 << 20, .length_bytes = 4096};
        REQUIRE(disk.run({&discard, 1}));
        CHECK(disk.bytes().allocated_bytes() == 0);
        copy.read(1 << 20, back);
        CHECK(back[0] == std::byte{1});

        disk.set_limit_bytes(8192);
        REQUIRE(disk.write(0, filled(8192, 2)));
        REQUIRE(disk.write(0, filled(8192, 3)));  // what is there needs no room
        CHECK(disk.write(8192, filled(4096, 2)).error().code == ErrorCode::no_space);
        IoRequest allocate{
            .kind = IoRequest::Kind::allocate, .offset_bytes = 8192, .length_bytes = 4096};
        CHECK(disk.run({&allocate, 1}).error().code == ErrorCode::no_space);
        disk.set_limit_bytes(8192 + 4096);
        REQUIRE(disk.run({&allocate, 1}));
        CHECK(disk.write(16384, filled(4096, 2)).error().code == ErrorCode::no_space);
        REQUIRE(disk.write(8192, filled(4096, 2)));

        disk.set_fault_hook([](const IoRequest& request) {
            return request.kind == IoRequest::Kind::sync ? EIO : 0;
        });
        CHECK(disk.sync().error().code == ErrorCode::sync_failed);
        disk.set_read_only(true);
        CHECK(disk.write(0, filled(4096, 2)).error().code == ErrorCode::read_only);

        IoRequest cut{.kind = IoRequest::Kind::truncate, .offset_bytes = 4096};
        disk.set_read_only(false);
        REQUIRE(disk.run({&cut, 1}));
        REQUIRE(disk.read(4096, back));
        CHECK(back[0] == std::byte{0});
    });
}

TEST_CASE("the file disk reads, writes, allocates and gives back")
{
    const Folder folder;
    FiberTasks tasks;
    tasks.run([&] {
        auto made = FileDisk::open(tasks, folder.file("a"),
                                   {.mode = FileDiskOptions::Mode::create_exclusive});
        REQUIRE(made);
        FileDisk& disk = **made;
        std::vector<std::byte> back(8192);
        REQUIRE(disk.write(65536, filled(1 << 20, 7)));
        REQUIRE(disk.sync());
        REQUIRE(disk.read(65536 + (1 << 20) - 4096, back));
        CHECK(back[4095] == std::byte{7});
        CHECK(back[4096] == std::byte{0});
        std::vector<IoRequest> requests = {
            {.kind = IoRequest::Kind::discard, .offset_bytes = 65536, .length_bytes = 1 << 20},
            {.kind = IoRequest::Kind::allocate, .offset_bytes = 2 << 20, .length_bytes = 4096},
        };
        REQUIRE(disk.run(requests));
        CHECK(*disk.size_bytes() == (2 << 20) + 4096);
        REQUIRE(disk.read(65536, back));
        CHECK(back[0] == std::byte{0});
        IoRequest cut{.kind = IoRequest::Kind::truncate, .offset_bytes = 4096};
        REQUIRE(disk.run({&cut, 1}));
        CHECK(*disk.size_bytes() == 4096);
    });
}

TEST_CASE("many buffers go in one request")
{
    const Folder folder;
    FiberTasks tasks;
    tasks.run([&] {
        auto disk =
            FileDisk::open(tasks, folder.file("a"), {.mode = FileDiskOptions::Mode::create});
        REQUIRE(disk);
        constexpr std::size_t kBuffers = 3000;  // more than IOV_MAX
        auto bytes = filled(kBuffers * 4096, 5);
        std::vector<iovec> buffers;
        for (std::size_t i = 0; i < kBuffers; ++i) {
            buffers.push_back({bytes.data() + i * 4096, 4096});
        }
        IoRequest request{
            .kind = IoRequest::Kind::write, .length_bytes = bytes.size(), .buffers = buffers};
        REQUIRE((*disk)->run({&request, 1}));
        CHECK(*(*disk)->size_bytes() == bytes.size());
    });
}

TEST_CASE("a file cannot be opened: one error that names it")
{
    const Folder folder;
    FiberTasks tasks;
    const auto code = [&](const std::string& path, const FileDiskOptions& options) {
        auto disk = FileDisk::open(tasks, path, options);
        REQUIRE_FALSE(disk);
        CHECK(disk.error().text.find(path) != std::string::npos);
        return disk.error().code;
    };
    CHECK(code(folder.file("missing"), {}) == ErrorCode::not_found);
    CHECK(code(folder.path, {.read_only = true}) == ErrorCode::io);
    std::ofstream(folder.file("there")) << "x";
    CHECK(code(folder.file("there"), {.mode = FileDiskOptions::Mode::create_exclusive}) ==
          ErrorCode::exists);
}

TEST_CASE("one writer, or many readers")
{
    const Folder folder;
    FiberTasks tasks;
    const std::string path = folder.file("a");
    const FileDiskOptions reading{.read_only = true};
    {
        auto writer = FileDisk::open(tasks, path, {.mode = FileDiskOptions::Mode::create});
        REQUIRE(writer);
        // Open-file-description locks hold against the same process too.
        CHECK(FileDisk::open(tasks, path, {}).error().code == ErrorCode::in_use);
        CHECK(FileDisk::open(tasks, path, reading).error().code == ErrorCode::in_use);
        CHECK(FileDisk::open(tasks, path, {.mode = FileDiskOptions::Mode::create}).error().code ==
              ErrorCode::in_use);
        CHECK(FileDisk::open(tasks, path, {.read_only = true, .force_share = true}));
    }
    auto first = FileDisk::open(tasks, path, reading);
    auto second = FileDisk::open(tasks, path, reading);
    REQUIRE(first);
    REQUIRE(second);
    CHECK(FileDisk::open(tasks, path, {}).error().code == ErrorCode::in_use);
}

TEST_CASE("QEMU and we keep each other out")
{
    INFO("it takes qemu-io and qemu-img; ./setup installs them");
    REQUIRE(std::system("command -v qemu-io qemu-img >/dev/null 2>&1") == 0);
    const Folder folder;
    FiberTasks tasks;
    const std::string path = folder.file("q.qcow2");
    const std::string quiet = " >/dev/null 2>&1";
    const std::string look = "qemu-img info " + path + quiet;
    const std::string write = "qemu-io -c 'write 0 4k' " + path + quiet;
    REQUIRE(std::system(("qemu-img create -f qcow2 " + path + " 1M" + quiet).c_str()) == 0);
    {
        auto writer = FileDisk::open(tasks, path, {});
        REQUIRE(writer);
        CHECK(std::system(look.c_str()) != 0);
        CHECK(std::system(write.c_str()) != 0);
    }
    {
        auto reader = FileDisk::open(tasks, path, {.read_only = true});
        REQUIRE(reader);
        CHECK(std::system(look.c_str()) == 0);
        CHECK(std::system(write.c_str()) != 0);
    }
    // Someone who holds the image open in QEMU, for writing and for reading.
    for (const bool writes : {true, false}) {
        FILE* holder = ::popen(
            ("qemu-io " + std::string(writes ? "" : "-r ") + path + " >/dev/null 2>&1").c_str(),
            "w");
        REQUIRE(holder != nullptr);
        Result<std::unique_ptr<FileDisk>> tried = fail(ErrorCode::io, "");
        for (int i = 0; i < 100; ++i) {  // until it has the lock
            tried = FileDisk::open(tasks, path, {});
            if (!tried) {
                break;
            }
            tried = fail(ErrorCode::io, "");
            ::usleep(50'000);
        }
        CHECK(tried.error().code == ErrorCode::in_use);
        CHECK(FileDisk::open(tasks, path, {.read_only = true}).has_value() == !writes);
        std::fputs("quit\n", holder);
        ::pclose(holder);
    }
}
