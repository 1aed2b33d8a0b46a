// A store on a slow disk, and what tests of transactions ask of it in one line each.
#pragma once

#include <functional>

#include "format/tests/slow_disk_store.h"

namespace coppice {

inline constexpr VolumeId kVolume(1);
inline constexpr std::uint64_t kSector = 512;
inline constexpr std::uint64_t kMillisecond = 1'000'000;
inline constexpr std::uint64_t kLarge = 64 * kBlockBytes;  // is written when it is staged

using Kind = Operation::Kind;

struct Bench : SlowDiskStore {
    TransactionId begin(VolumeId volume = kVolume)
    {
        const auto id = store->begin(volume);
        INFO((id ? "" : id.error().text));
        REQUIRE(id.has_value());
        return *id;
    }

    Status try_stage(TransactionId id, std::uint64_t offset, std::uint64_t length,
                     std::uint8_t fill, VolumeId volume = kVolume)
    {
        Bytes bytes(length, fill);
        const iovec buffer{bytes.data(), bytes.size()};
        return store->perform({.kind = Kind::write,
                               .volume = volume,
                               .offset_bytes = offset,
                               .length_bytes = length,
                               .buffers = {&buffer, 1},
                               .transaction = id});
    }

    void stage(TransactionId id, std::uint64_t offset, std::uint64_t length, std::uint8_t fill,
               VolumeId volume = kVolume)
    {
        expect(try_stage(id, offset, length, fill, volume));
    }

    Status try_clear(TransactionId id, Kind kind, const Range& range)
    {
        return store->perform({.kind = kind,
                               .volume = kVolume,
                               .offset_bytes = range.offset_bytes,
                               .length_bytes = range.length_bytes,
                               .ranges = {&range, 1},
                               .transaction = id});
    }

    Status try_clone(TransactionId id, std::uint64_t offset, const CloneSource& source)
    {
        return store->perform({.kind = Kind::clone,
                               .volume = kVolume,
                               .offset_bytes = offset,
                               .sources = {&source, 1},
                               .transaction = id});
    }

    Status try_write_ranges(const std::vector<Range>& ranges, Bytes bytes, TransactionId id = {})
    {
        const iovec buffer{bytes.data(), bytes.size()};
        return store->perform({.kind = Kind::write_ranges,
                               .volume = kVolume,
                               .buffers = {&buffer, 1},
                               .ranges = ranges,
                               .transaction = id});
    }

    Result<Bytes> try_see(TransactionId id, std::uint64_t offset, std::uint64_t length)
    {
        Bytes bytes(length, 0xEE);
        const iovec buffer{bytes.data(), bytes.size()};
        COPPICE_TRY(store->perform({.kind = Kind::read,
                                    .volume = kVolume,
                                    .offset_bytes = offset,
                                    .length_bytes = length,
                                    .buffers = {&buffer, 1},
                                    .transaction = id}));
        return bytes;
    }

    // Does the transaction see that?
    bool sees(TransactionId id, std::uint64_t offset, std::uint64_t length, std::uint8_t fill)
    {
        const auto bytes = try_see(id, offset, length);
        INFO((bytes ? "" : bytes.error().text));
        REQUIRE(bytes.has_value());
        return *bytes == Bytes(length, fill);
    }

    static void expect(const Status& status)
    {
        INFO(text_of(status));
        REQUIRE(status.has_value());
    }

    static void expect_error(const Status& status, ErrorCode code, const std::string& text = "")
    {
        REQUIRE_FALSE(status.has_value());
        INFO(status.error().text);
        CHECK(error_name(status.error().code) == error_name(code));
        CHECK(status.error().text.find(text) != std::string::npos);
    }

    // What was acknowledged before and not flushed may be there or not.
    void crash()
    {
        store->abandon();
        open();
    }

    void snapshot(const std::string& name, VolumeId* made = nullptr)
    {
        NewSnapshot wanted;
        wanted.name = name;
        const auto id = store->snapshot(kVolume, wanted);
        REQUIRE(id.has_value());
        if (made != nullptr) {
            *made = *id;
        }
    }

    void run_and_close(const std::function<void()>& body, std::uint64_t volume_bytes = kMiB)
    {
        run([&] {
            create(volume_bytes);
            body();
            expect(store->close());
        });
        expect_clean();
    }
};

}  // namespace coppice
