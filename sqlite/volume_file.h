// A file of SQLite's in a volume of its own:
//
//   block 0    magic, version, whether the file is there, its length in bytes
//   block 1 .. its bytes
//
// Two kinds. A TransactionFile changes by transactions of the store, and so does its length. A
// CachedFile is what a file system has: writes stay in memory until a sync, which puts no order
// between them but that of the store (bytes first, then the length).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "format/volume/store.h"

namespace coppice::sqlite {

// SQLite's five locks of a file, among the connections of one Vfs.
enum class LockLevel : std::uint8_t { none, shared, reserved, pending, exclusive };

class FileLocks {
public:
    // False: another connection is in the way. `held` is the connection's own, and known by its
    // address; a writer that must wait for readers holds `pending` afterwards.
    bool raise(LockLevel& held, LockLevel wanted);
    void lower(LockLevel& held, LockLevel wanted);
    bool reserved() const { return writer_ != nullptr; }

private:
    unsigned readers_ = 0;  // with `shared` or more
    const LockLevel* writer_ = nullptr;
    bool pending_ = false;
};

class VolumeFile {
public:
    VolumeFile(Store& store, VolumeId volume, std::string name)
        : store_(store), volume_(volume), name_(std::move(name))
    {
    }
    VolumeFile(const VolumeFile&) = delete;
    VolumeFile& operator=(const VolumeFile&) = delete;
    virtual ~VolumeFile() = default;

    const std::string& name() const { return name_; }
    bool exists() const { return exists_; }
    FileLocks& locks() { return locks_; }

    // Reads the header; nothing is staged or cached then. A volume of zeroes is an empty file.
    Status refresh();

    // `writer`: the caller has the file locked for writing, and sees what it has staged. Others
    // look at it only to see whether it is a database, which SQLite does without any lock.
    virtual std::uint64_t size_bytes(bool writer) const = 0;
    // Within the file's length. (task, like all below)
    virtual Status read(std::uint64_t offset_bytes, std::span<std::byte> into, bool writer) = 0;
    virtual Status write(std::uint64_t offset_bytes, std::span<const std::byte> from) = 0;
    virtual Status truncate(std::uint64_t size_bytes) = 0;
    // All changes since the last commit take effect.
    virtual Status commit() = 0;
    // ... and they, and those before, are durable.
    virtual Status sync() = 0;
    // The writer gives its lock up: what it did not commit has never been.
    virtual void end_write() = 0;
    // The file is there, and empty; or it is not. For files without transactions.
    Status set_existence(bool exists);

protected:
    static constexpr std::uint64_t kHeaderBytes = 4096;

    static std::uint64_t place_of(std::uint64_t offset_bytes)
    {
        return kHeaderBytes + offset_bytes;
    }
    // Of any alignment, by reading the sectors around.
    Status read_volume(std::uint64_t offset_bytes, std::span<std::byte> into,
                       TransactionId transaction);
    Status write_header(TransactionId transaction);
    // What lies beyond a new, smaller length reads as zeroes when the file grows again.
    Status drop_end(std::uint64_t new_size, std::uint64_t old_size, TransactionId transaction);

    Store& store_;
    VolumeId volume_;
    std::string name_;
    std::uint64_t size_bytes_ = 0;
    std::uint64_t recorded_bytes_ = 0;  // the length as the header in the volume has it
    bool exists_ = true;

private:
    FileLocks locks_;
};

//   idle --first change--> open --commit--> idle
//                          open --end_write--> idle: aborted
//                          open --conflict, or the store has ended it--> lost --end_write--> idle
//
// While it is lost every call fails, so that SQLite can neither commit the rest of a transaction
// nor trust its cache: it drops both.
class TransactionFile final : public VolumeFile {
public:
    using VolumeFile::VolumeFile;
    ~TransactionFile() override { end_write(); }

    std::uint64_t size_bytes(bool writer) const override
    {
        return writer ? size_bytes_ : recorded_bytes_;
    }
    Status read(std::uint64_t offset_bytes, std::span<std::byte> into, bool writer) override;
    Status write(std::uint64_t offset_bytes, std::span<const std::byte> from) override;
    Status truncate(std::uint64_t size_bytes) override;
    Status commit() override;
    Status sync() override;
    void end_write() override;

private:
    Status begin();
    // An error of a call of the transaction: it may have been its end.
    Status note(Status status);

    TransactionId transaction_;  // none: idle
    std::string lost_;           // why; "": it is not
};

class CachedFile final : public VolumeFile {
public:
    CachedFile(Store& store, VolumeId volume, std::string name, std::size_t cached_blocks)
        : VolumeFile(store, volume, std::move(name)), most_blocks_(cached_blocks)
    {
    }

    std::uint64_t size_bytes(bool) const override { return size_bytes_; }
    Status read(std::uint64_t offset_bytes, std::span<std::byte> into, bool writer) override;
    Status write(std::uint64_t offset_bytes, std::span<const std::byte> from) override;
    Status truncate(std::uint64_t size_bytes) override;
    Status commit() override;  // to the store; nothing is durable by that
    Status sync() override;
    void end_write() override {}

private:
    using Block = std::vector<std::byte>;

    // The block as it is to be changed; what `whole` says will be overwritten is not read first.
    Result<Block*> block_at(std::uint64_t number, bool whole);

    std::size_t most_blocks_;
    std::map<std::uint64_t, Block> dirty_;  // by number in the file
};

}  // namespace coppice::sqlite
