// A file of the host with many requests under way: threads carry them out, and the store's thread
// goes on meanwhile, as it does in QEMU. For benches in real time, where a file whose requests
// block (FileDisk) would let nobody else run.
#pragma once

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <memory>
#include <mutex>
#include <string>
#include <sys/stat.h>
#include <sys/uio.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "format/disk/disk.h"
#include "format/disk/fiber_tasks.h"

namespace coppice::bench {

// A new file that goes with this; `direct`: past the page cache, where the file system has that.
class ScratchFile {
public:
    ScratchFile(std::string path, bool direct) : path_(std::move(path))
    {
        constexpr int kFlags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC;
        descriptor_ = ::open(path_.c_str(), kFlags | (direct ? O_DIRECT : 0), 0644);
        if (descriptor_ < 0 && direct && errno == EINVAL) {  // as on tmpfs
            descriptor_ = ::open(path_.c_str(), kFlags, 0644);
            direct = false;
        }
        if (descriptor_ < 0) {
            std::perror(path_.c_str());
            std::exit(1);
        }
        direct_ = direct;
    }
    ~ScratchFile()
    {
        ::close(descriptor_);
        ::unlink(path_.c_str());
    }
    ScratchFile(const ScratchFile&) = delete;
    ScratchFile& operator=(const ScratchFile&) = delete;

    int descriptor() const { return descriptor_; }
    bool direct() const { return direct_; }

private:
    std::string path_;
    int descriptor_ = -1;
    bool direct_ = false;
};

class ThreadDisk final : public Disk, private Poller {
public:
    ThreadDisk(FiberTasks& tasks, const std::string& path, bool direct, unsigned threads = 16)
        : Disk(tasks), fibers_(tasks), file_(path, direct)
    {
        for (unsigned i = 0; i < threads; ++i) {
            threads_.emplace_back([this] { work(); });
        }
        fibers_.set_poller(this);
    }
    ~ThreadDisk() override
    {
        fibers_.set_poller(nullptr);
        {
            const std::lock_guard lock(mutex_);
            ending_ = true;
        }
        asked_.notify_all();
        for (std::thread& thread : threads_) {
            thread.join();
        }
    }

    Result<std::uint64_t> size_bytes() override
    {
        return static_cast<std::uint64_t>(::lseek(file_.descriptor(), 0, SEEK_END));
    }
    bool read_only() const override { return false; }
    bool direct() const { return file_.direct(); }

    std::uint64_t writes = 0;
    std::uint64_t syncs = 0;

protected:
    void start(std::span<IoRequest> requests) override
    {
        {
            const std::lock_guard lock(mutex_);
            for (IoRequest& request : requests) {
                writes += request.kind == IoRequest::Kind::write ? 1 : 0;
                syncs += request.kind == IoRequest::Kind::sync ? 1 : 0;
                queue_.push_back(&request);
            }
        }
        under_way_ += requests.size();
        for (std::size_t i = 0; i < requests.size(); ++i) {
            asked_.notify_one();
        }
    }

private:
    struct Done {
        IoRequest* request;
        int result;
    };

    bool busy() override { return under_way_ != 0; }

    void poll(std::uint64_t wait_ns) override
    {
        std::vector<Done> ready;
        {
            std::unique_lock lock(mutex_);
            if (done_.empty() && wait_ns != 0) {
                constexpr std::uint64_t kMostNs = 1'000'000'000;
                done_some_.wait_for(lock, std::chrono::nanoseconds(std::min(wait_ns, kMostNs)),
                                    [this] { return !done_.empty(); });
            }
            ready.swap(done_);
        }
        under_way_ -= ready.size();
        for (const Done& done : ready) {
            complete(*done.request, done.result);
        }
    }

    void work()
    {
        std::unique_lock lock(mutex_);
        for (;;) {
            asked_.wait(lock, [this] { return ending_ || !queue_.empty(); });
            if (queue_.empty()) {
                return;
            }
            IoRequest* request = queue_.front();
            queue_.pop_front();
            lock.unlock();
            const int result = perform(*request);
            lock.lock();
            done_.push_back({request, result});
            done_some_.notify_one();
        }
    }

    int perform(const IoRequest& request) const
    {
        const int file = file_.descriptor();
        const auto offset = static_cast<off_t>(request.offset_bytes);
        const auto length = static_cast<off_t>(request.length_bytes);
        int failed = 0;
        switch (request.kind) {
        case IoRequest::Kind::read:
        case IoRequest::Kind::write: return transfer(request);
        case IoRequest::Kind::allocate: failed = ::fallocate(file, 0, offset, length); break;
        case IoRequest::Kind::discard:
            failed = ::fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
            break;
        case IoRequest::Kind::sync: failed = ::fdatasync(file); break;
        case IoRequest::Kind::truncate: failed = ::ftruncate(file, offset); break;
        }
        return failed == 0 ? 0 : -errno;
    }

    // Through one aligned piece of memory, as direct access asks for it.
    int transfer(const IoRequest& request) const
    {
        const std::unique_ptr<std::byte, decltype(&std::free)> memory(
            static_cast<std::byte*>(std::aligned_alloc(kBlockBytes, request.length_bytes)),
            &std::free);
        const auto offset = static_cast<off_t>(request.offset_bytes);
        if (request.kind == IoRequest::Kind::write) {
            std::size_t at = 0;
            for (const iovec& buffer : request.buffers) {
                std::memcpy(memory.get() + at, buffer.iov_base, buffer.iov_len);
                at += buffer.iov_len;
            }
            const ssize_t put = ::pwrite(file_.descriptor(), memory.get(), at, offset);
            // A short write does not happen to a file but on a full disk.
            return put == static_cast<ssize_t>(at) ? 0 : put < 0 ? -errno : -ENOSPC;
        }
        const ssize_t got = ::pread(file_.descriptor(), memory.get(), request.length_bytes, offset);
        if (got < 0) {
            return -errno;
        }
        const auto there = static_cast<std::size_t>(got);
        std::memset(memory.get() + there, 0, request.length_bytes - there);  // behind the end
        std::size_t at = 0;
        for (const iovec& buffer : request.buffers) {
            std::memcpy(buffer.iov_base, memory.get() + at, buffer.iov_len);
            at += buffer.iov_len;
        }
        return 0;
    }

    FiberTasks& fibers_;
    ScratchFile file_;
    std::mutex mutex_;
    std::condition_variable asked_;
    std::condition_variable done_some_;
    std::deque<IoRequest*> queue_;
    std::vector<Done> done_;
    std::vector<std::thread> threads_;
    std::size_t under_way_ = 0;
    bool ending_ = false;
};

}  // namespace coppice::bench
