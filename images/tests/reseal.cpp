// coppice-reseal: what a later build could have written. Changes one field of the header, or of all
// superblocks, and makes the checksums right again, so that only versions and features differ.
// usage: coppice-reseal IMAGE header|superblock FIELD VALUE
#include <cstdlib>
#include <cstring>
#include <fmt/format.h>
#include <fstream>
#include <string>
#include <vector>

#include "format/base/checksum.h"
#include "format/layout/layout.h"

using namespace coppice;

namespace {

struct Field {
    std::size_t offset;
    std::size_t bytes;
};

#define FIELD(record, name)                              \
    if (field == #name) return Field                     \
        {                                                \
            offsetof(record, name), sizeof(record::name) \
        }

Field field_of_header(const std::string& field)
{
    FIELD(layout::ImageHeader, major_version);
    FIELD(layout::ImageHeader, minor_version);
    FIELD(layout::ImageHeader, oldest_minor_writer);
    FIELD(layout::ImageHeader, incompatible);
    FIELD(layout::ImageHeader, read_only_compatible);
    FIELD(layout::ImageHeader, compatible);
    return {};
}

Field field_of_superblock(const std::string& field)
{
    FIELD(layout::Superblock, major_version);
    FIELD(layout::Superblock, minor_version);
    FIELD(layout::Superblock, incompatible);
    FIELD(layout::Superblock, read_only_compatible);
    FIELD(layout::Superblock, compatible);
    return {};
}

class File {
public:
    explicit File(const std::string& path)
        : file_(path, std::ios::in | std::ios::out | std::ios::binary)
    {
    }
    bool good() const { return file_.good(); }
    std::vector<std::byte> read(std::uint64_t block)
    {
        std::vector<std::byte> bytes(kBlockBytes);
        file_.seekg(static_cast<std::streamoff>(block * kBlockBytes));
        file_.read(reinterpret_cast<char*>(bytes.data()), kBlockBytes);
        return bytes;
    }
    void write(std::uint64_t block, const std::vector<std::byte>& bytes)
    {
        file_.seekp(static_cast<std::streamoff>(block * kBlockBytes));
        file_.write(reinterpret_cast<const char*>(bytes.data()), kBlockBytes);
    }

private:
    std::fstream file_;
};

void put(std::vector<std::byte>& bytes, std::size_t offset, std::size_t length, std::uint64_t value)
{
    const Le64 encoded(value);
    std::memcpy(bytes.data() + offset, static_cast<const void*>(&encoded), length);
}

}  // namespace

int main(int count, char** arguments)
{
    if (count != 5) {
        fmt::print(stderr, "usage: coppice-reseal IMAGE header|superblock FIELD VALUE\n");
        return 2;
    }
    const std::string record = arguments[2];
    const bool in_header = record == "header";
    const Field field =
        in_header ? field_of_header(arguments[3]) : field_of_superblock(arguments[3]);
    const std::uint64_t value = std::strtoull(arguments[4], nullptr, 0);
    if ((!in_header && record != "superblock") || field.bytes == 0) {
        fmt::print(stderr, "coppice-reseal: there is no field {} in a {}\n", arguments[3], record);
        return 2;
    }
    File file(arguments[1]);
    auto header = file.read(0);
    layout::ImageHeader image;
    std::memcpy(static_cast<void*>(&image), header.data(), sizeof(image));
    if (in_header) {
        put(header, field.offset, field.bytes, value);
        const std::uint64_t checksum = metadata_checksum(std::span(header).subspan(8), 0);
        put(header, offsetof(layout::ImageHeader, checksum), 8, checksum);
        file.write(0, header);
    } else {
        Le64 seed;
        std::memcpy(static_cast<void*>(&seed), image.uuid.data(), sizeof(seed));
        for (const std::uint64_t start :
             {image.superblock_near.get(), image.superblock_far.get()}) {
            for (std::uint64_t slot = 0; slot < layout::kSuperblockSlots; ++slot) {
                auto superblock = file.read(start + slot);
                put(superblock, field.offset, field.bytes, value);
                put(superblock, offsetof(layout::Superblock, checksum), 8,
                    metadata_checksum(superblock, seed));
                file.write(start + slot, superblock);
            }
        }
    }
    if (!file.good()) {
        fmt::print(stderr, "coppice-reseal: {} cannot be changed\n", arguments[1]);
        return 1;
    }
    return 0;
}
