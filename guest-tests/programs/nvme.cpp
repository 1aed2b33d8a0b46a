// guest-nvme: the disk's own commands, by libnvme: what nvme-cli has no words for.
//
// Snapshot, clone and rollback are Coppice's vendor commands (controller/NVME.md); attaching,
// copying and listing are standard ones. Each prints its result in one line; a refused command ends
// with exit code 3 and the NVMe status on stderr, so that a test can demand a refusal.
#include "passthrough.h"

#include <libnvme.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace guest {
namespace {

using Words = std::vector<std::string>;

constexpr std::uint8_t opcode_snapshot_create = 0xc1;
constexpr std::uint8_t opcode_snapshot_list = 0xc2;
constexpr std::uint8_t opcode_snapshot_delete = 0xc4;
constexpr std::uint8_t opcode_clone = 0xc5;
constexpr std::uint8_t opcode_rollback = 0xc8;
constexpr std::uint8_t opcode_checkpoint = 0xcc;
constexpr std::uint8_t opcode_set_flush_mode = 0xd0;
constexpr std::uint32_t all_namespaces = 0xffffffff;
constexpr std::uint32_t rollback_force = 1;

constexpr std::size_t name_bytes = 128;
constexpr std::size_t name_request_bytes = 256;
constexpr std::size_t list_header_bytes = 64;
constexpr std::size_t list_entry_bytes = 256;
constexpr std::size_t list_buffer_bytes = 64 * 1024;  // 255 entries

std::uint64_t little_endian(const std::byte* at, std::size_t bytes)
{
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i)
        value |= std::to_integer<std::uint64_t>(at[i]) << (8 * i);
    return value;
}

class Device {
public:
    explicit Device(const std::string& path)
        : descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC))
    {
        if (descriptor < 0) refused(path);
    }
    ~Device() { ::close(descriptor); }
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    const int descriptor;
};

std::uint32_t admin(const Device& device, std::uint8_t opcode, std::uint32_t nsid,
                    std::uint32_t cdw10, std::uint32_t cdw11, std::byte* data, std::size_t bytes,
                    const std::string& what)
{
    std::uint32_t result = 0;
    const std::uint64_t sent = nanoseconds_now();
    const int status = nvme_admin_passthru(device.descriptor, opcode, 0, 0, nsid, 0, 0, cdw10,
                                           cdw11, 0, 0, 0, 0, static_cast<std::uint32_t>(bytes),
                                           data, 0, nullptr, timeout_ms, &result);
    const std::uint64_t answered = nanoseconds_now();
    expect_success(status, what);
    figure((what + "_time").c_str(), static_cast<double>(answered - sent) / 1e6, "ms");
    // On the clock of guest-blocks sync-write --times, so that writes can be put before or behind.
    std::printf("sent %llu answered %llu\n", static_cast<unsigned long long>(sent),
                static_cast<unsigned long long>(answered));
    return result;
}

std::uint32_t nsid_of(const std::string& word)
{
    if (word == "all") return all_namespaces;
    return static_cast<std::uint32_t>(number(word));
}

Buffer name_request(const std::string& name)
{
    if (name.size() > name_bytes) end(Exit::Usage, "a name has at most 128 bytes");
    Buffer request(name_request_bytes);
    std::memcpy(request.data(), name.data(), name.size());
    return request;
}

int snapshot_create(const Words& words)
{
    const Device device(words[0]);
    Buffer request = name_request(words[2]);
    std::printf("id %u\n", admin(device, opcode_snapshot_create, nsid_of(words[1]), 0, 0,
                                 request.data(), request.size(), "snapshot_create"));
    return 0;
}

int snapshot_list(const Words& words)
{
    const Device device(words[0]);
    Buffer list(list_buffer_bytes);
    admin(device, opcode_snapshot_list, nsid_of(words[1]), list_buffer_bytes / 4 - 1, 0,
          list.data(), list.size(), "snapshot_list");
    const std::uint64_t count = little_endian(list.data(), 4);
    std::printf("count %llu total %llu generation %llu\n", static_cast<unsigned long long>(count),
                static_cast<unsigned long long>(little_endian(list.data() + 4, 4)),
                static_cast<unsigned long long>(little_endian(list.data() + 8, 8)));
    if (count > (list_buffer_bytes - list_header_bytes) / list_entry_bytes)
        end(Exit::Wrong, "the list says more entries than fit its buffer");
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::byte* entry = list.data() + list_header_bytes + i * list_entry_bytes;
        std::array<char, name_bytes + 1> name{};
        std::memcpy(name.data(), entry + 128, name_bytes);
        std::printf("snapshot %llu volume %llu size_lbas %llu created_unix_ns %llu sequence %llu "
                    "flags %#llx name %s\n",
                    static_cast<unsigned long long>(little_endian(entry, 4)),
                    static_cast<unsigned long long>(little_endian(entry + 4, 4)),
                    static_cast<unsigned long long>(little_endian(entry + 8, 8)),
                    static_cast<unsigned long long>(little_endian(entry + 16, 8)),
                    static_cast<unsigned long long>(little_endian(entry + 24, 8)),
                    static_cast<unsigned long long>(little_endian(entry + 32, 8)), name.data());
    }
    return 0;
}

int snapshot_delete(const Words& words)
{
    const Device device(words[0]);
    admin(device, opcode_snapshot_delete, nsid_of(words[1]), 0, 0, nullptr, 0, "snapshot_delete");
    return 0;
}

int clone_snapshot(const Words& words)
{
    const Device device(words[0]);
    Buffer request = name_request(words[2]);
    std::printf("id %u\n", admin(device, opcode_clone, nsid_of(words[1]), 0, 0, request.data(),
                                 request.size(), "clone"));
    return 0;
}

int rollback(const Words& words)
{
    const Device device(words[0]);
    const bool force = words.size() > 3 && words[3] == "force";
    admin(device, opcode_rollback, nsid_of(words[1]), nsid_of(words[2]), force ? rollback_force : 0,
          nullptr, 0, "rollback");
    return 0;
}

int flush_mode(const Words& words)
{
    const Device device(words[0]);
    if (words[2] != "durable" && words[2] != "ordered") {
        std::fprintf(stderr, "guest-nvme: a flush is durable or ordered, not %s\n",
                     words[2].c_str());
        return 2;
    }
    admin(device, opcode_set_flush_mode, nsid_of(words[1]), words[2] == "ordered" ? 1 : 0, 0,
          nullptr, 0, "set flush mode");
    return 0;
}

int checkpoint(const Words& words)
{
    const Device device(words[0]);
    admin(device, opcode_checkpoint, 0, 0, 0, nullptr, 0, "checkpoint");
    return 0;
}

int attach_or_detach(const Words& words, bool attach)
{
    const Device device(words[0]);
    nvme_id_ctrl controller{};
    expect_success(nvme_identify_ctrl(device.descriptor, &controller), "identify controller");
    nvme_ctrl_list list{};
    list.num = 1;
    list.identifier[0] = controller.cntlid;
    nvme_ns_attach_args arguments{};
    arguments.args_size = sizeof arguments;
    arguments.fd = device.descriptor;
    arguments.nsid = nsid_of(words[1]);
    arguments.ctrlist = &list;
    arguments.sel = attach ? NVME_NS_ATTACH_SEL_CTRL_ATTACH : NVME_NS_ATTACH_SEL_CTRL_DEATTACH;
    expect_success(nvme_ns_attach(&arguments), attach ? "attach" : "detach");
    return 0;
}

int attach(const Words& words) { return attach_or_detach(words, true); }
int detach(const Words& words) { return attach_or_detach(words, false); }

int namespaces(const Words& words)
{
    const Device device(words[0]);
    nvme_ns_list list{};
    if (words[1] == "allocated")
        expect_success(nvme_identify_allocated_ns_list(device.descriptor, 0, &list), "identify");
    else
        expect_success(nvme_identify_active_ns_list(device.descriptor, 0, &list), "identify");
    for (const std::uint32_t nsid : list.ns)
        if (nsid != 0) std::printf("%u\n", nsid);
    return 0;
}

std::uint32_t lba_bytes(const nvme_id_ns& facts) { return 1U << facts.lbaf[facts.flbas & 0xf].ds; }

// Bytes, of a 16-byte field whose upper half no disk of ours fills.
std::uint64_t capacity(const unsigned char (&field)[16])
{
    return little_endian(reinterpret_cast<const std::byte*>(field), 8);
}

int info(const Words& words)
{
    const Device device(words[0]);
    nvme_id_ctrl controller{};
    nvme_id_ns facts{};
    const std::uint32_t nsid = nsid_of_device(device.descriptor, words[0]);
    expect_success(nvme_identify_ctrl(device.descriptor, &controller), "identify controller");
    expect_success(nvme_identify_ns(device.descriptor, nsid, &facts), "identify namespace");
    std::printf(
        "nsid=%u lba_bytes=%u size_bytes=%llu read_only=%d dlfeat=%u oncs=%#x oacs=%#x ocfs=%#x "
        "mssrl=%u mcl=%u msrc=%u nsfeat=%#x awun=%u awupf=%u nawun=%u nawupf=%u nabo=%u "
        "nabspf=%u used_bytes=%llu\n",
        nsid, lba_bytes(facts), static_cast<unsigned long long>(facts.nsze) * lba_bytes(facts),
        facts.nsattr & 1, facts.dlfeat, controller.oncs, controller.oacs, controller.ocfs,
        facts.mssrl, facts.mcl, facts.msrc, facts.nsfeat, controller.awun, controller.awupf,
        facts.nawun, facts.nawupf, facts.nabo, facts.nabspf,
        static_cast<unsigned long long>(capacity(controller.tnvmcap) -
                                        capacity(controller.unvmcap)));
    return 0;
}

// enable-copy-formats CONTROLLER: says that this host knows Copy descriptor format 2, without which
// a controller refuses it (Base 5.27.1.18, Host Behavior Support, CDFE at byte 4).
int enable_copy_formats(const Words& words)
{
    const Device device(words[0]);
    constexpr std::uint32_t host_behavior = 0x16;
    constexpr std::size_t bytes = 512;
    constexpr std::size_t formats_offset = 4;
    Buffer data(bytes);
    const auto feature = [&](std::uint8_t opcode, const char* what) {
        std::uint32_t result = 0;
        expect_success(nvme_admin_passthru(device.descriptor, opcode, 0, 0, 0, 0, 0, host_behavior,
                                           0, 0, 0, 0, 0, bytes, data.data(), 0, nullptr,
                                           timeout_ms, &result),
                       what);
    };
    feature(nvme_admin_get_features, "get host behavior");
    data.data()[formats_offset] |= std::byte{1 << 2};
    feature(nvme_admin_set_features, "set host behavior");
    return 0;
}

// copy NAMESPACE-DEVICE SOURCE DESTINATION LENGTH [SOURCE_NSID]: as few commands as the limits
// allow. With a source namespace the descriptors are of format 2 (NVM command set 1.1, Copy, figure
// of "Source Range Entries Descriptor Format 2h": SNSID at byte 0, SLBA at 8, NLB at 16).
int copy(const Words& words)
{
    const Device device(words[0]);
    const std::uint32_t nsid = nsid_of_device(device.descriptor, words[0]);
    nvme_id_ns facts{};
    expect_success(nvme_identify_ns(device.descriptor, nsid, &facts), "identify namespace");
    const std::uint64_t block = lba_bytes(facts);
    const std::uint64_t source = number(words[1]) / block;
    const std::uint64_t destination = number(words[2]) / block;
    const std::uint64_t length = number(words[3]) / block;
    const std::uint32_t source_nsid = words.size() > 4 ? nsid_of(words[4]) : 0;
    const std::uint64_t range_blocks = std::min<std::uint64_t>(facts.mssrl, 65536);
    const std::uint64_t ranges = std::uint64_t{facts.msrc} + 1;
    const std::uint64_t command_blocks = std::min<std::uint64_t>(facts.mcl, range_blocks * ranges);
    if (command_blocks == 0) end(Exit::Refused, "the namespace reports no copy limits");

    std::vector<nvme_copy_range> descriptors(ranges);
    std::uint64_t commands = 0;
    double slowest = 0;
    const double start = seconds_now();
    for (std::uint64_t done = 0; done < length; ++commands) {
        const std::uint64_t now = std::min(command_blocks, length - done);
        std::uint16_t used = 0;
        for (std::uint64_t at = 0; at < now; ++used) {
            const std::uint64_t part = std::min(range_blocks, now - at);
            nvme_copy_range& range = descriptors[used];
            range = {};
            std::memcpy(range.rsvd0, &source_nsid, sizeof source_nsid);
            range.slba = source + done + at;
            range.nlb = static_cast<std::uint16_t>(part - 1);
            at += part;
        }
        nvme_copy_args arguments{};
        std::uint32_t result = 0;
        arguments.args_size = sizeof arguments;
        arguments.fd = device.descriptor;
        arguments.timeout = timeout_ms;
        arguments.nsid = nsid;
        arguments.sdlba = destination + done;
        arguments.copy = descriptors.data();
        arguments.nr = used;
        arguments.format = source_nsid == 0 ? 0 : 2;
        arguments.result = &result;
        const double command_start = seconds_now();
        expect_success(nvme_copy(&arguments), "copy");
        slowest = std::max(slowest, seconds_now() - command_start);
        done += now;
    }
    figure("copy_time", (seconds_now() - start) * 1e3, "ms");
    figure("copy_commands", static_cast<double>(commands), "commands");
    figure("copy_slowest_command", slowest * 1e3, "ms");
    return 0;
}

struct Command {
    const char* name;
    int (*run)(const Words&);
    std::size_t least_words;
    const char* usage;
};

constexpr Command commands[] = {
    {"info", info, 1, "NAMESPACE-DEVICE"},
    {"namespaces", namespaces, 2, "CONTROLLER active|allocated"},
    {"attach", attach, 2, "CONTROLLER NSID"},
    {"detach", detach, 2, "CONTROLLER NSID"},
    {"copy", copy, 4, "NAMESPACE-DEVICE SOURCE DESTINATION LENGTH [SOURCE-NSID]   (bytes)"},
    {"enable-copy-formats", enable_copy_formats, 1, "CONTROLLER"},
    {"snapshot-create", snapshot_create, 3, "CONTROLLER NSID NAME"},
    {"snapshot-list", snapshot_list, 2, "CONTROLLER NSID|all"},
    {"snapshot-delete", snapshot_delete, 2, "CONTROLLER SNAPSHOT"},
    {"clone", clone_snapshot, 3, "CONTROLLER SNAPSHOT NAME"},
    {"rollback", rollback, 3, "CONTROLLER NSID SNAPSHOT [force]"},
    {"checkpoint", checkpoint, 1, "CONTROLLER"},
    {"flush-mode", flush_mode, 3, "CONTROLLER NSID durable|ordered"},
};

int usage()
{
    std::fprintf(stderr, "usage: guest-nvme COMMAND …\n");
    for (const Command& command : commands)
        std::fprintf(stderr, "  %s %s\n", command.name, command.usage);
    return static_cast<int>(Exit::Usage);
}

}  // namespace
}  // namespace guest

int main(int count, char** words)
{
    if (count < 2) return guest::usage();
    const guest::Words rest(words + 2, words + count);
    for (const guest::Command& command : guest::commands) {
        if (std::string(words[1]) != command.name) continue;
        if (rest.size() < command.least_words) return guest::usage();
        return command.run(rest);
    }
    return guest::usage();
}
