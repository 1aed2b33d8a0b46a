#include "controller/identify.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "controller/features.h"
#include "controller/limits.h"
#include "controller/spec/registers.h"

namespace coppice::nvme {

namespace {

constexpr char kModel[] = "Coppice NVMe disk";
constexpr char kFirmware[] = "0.1.0";
// The locally administered prefix that virtual machines use (QEMU's, as in its MAC addresses).
constexpr std::array<std::uint8_t, 3> kIeee = {0x00, 0x54, 0x52};
constexpr std::size_t kMaxNqnBytes = 223;

// Identify strings are ASCII, left-justified, filled with spaces (1.4.2).
template <std::size_t kBytes>
void put_ascii(std::array<char, kBytes>& field, const std::string& text)
{
    field.fill(' ');
    for (std::size_t i = 0; i < std::min(kBytes, text.size()); ++i) {
        field[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    }
}

Le128 wide(std::uint64_t value)
{
    Le128 result;
    result[0] = value;
    return result;
}

// 64-bit FNV-1a: enough to tell two devices apart, not meant to resist anyone.
std::uint64_t mix(std::uint64_t hash, std::span<const std::uint8_t> bytes)
{
    for (const std::uint8_t byte : bytes) {
        hash = (hash ^ byte) * 0x100000001b3;
    }
    return hash;
}

void put_formats(IdentifyNamespace& data)
{
    data.nlbaf_z = kFormats - 1;
    data.formats[kFormat512].data_exponent = 9;
    data.formats[kFormat512].performance = 1;
    data.formats[kFormat4096].data_exponent = 12;
}

void put_limits(IdentifyNamespace& data, std::uint64_t block_bytes, const Abilities& abilities)
{
    // The store's unit is 4 KiB: smaller or unaligned writes and deallocations cost a read.
    const auto per_unit = static_cast<std::uint16_t>(kBlockBytes / block_bytes - 1);
    data.nsfeat = static_cast<std::uint8_t>(data.nsfeat | kNsfeatPreferred);
    data.npwg_z = per_unit;
    data.npwa_z = per_unit;
    data.npdg_z = per_unit;
    data.npda_z = per_unit;
    data.nows_z = per_unit;
    if (abilities.atomic_writes) {
        // Every size that MDTS lets in is atomic, without boundaries (NABSN = NABSPF = NABO = 0).
        const auto atomic = static_cast<std::uint16_t>(kMaxTransferBytes / block_bytes - 1);
        data.nsfeat = static_cast<std::uint8_t>(data.nsfeat | kNsfeatAtomics);
        data.nawun_z = atomic;
        data.nawupf_z = atomic;
        data.nacwu_z = atomic;
    }
    data.mssrl = static_cast<std::uint16_t>(kCopyRangeBlocks);
    data.mcl = abilities.shares_copies ? kCopyBlocks
                                       : static_cast<std::uint32_t>(kBounceCopyBytes / block_bytes);
    data.msrc_z = static_cast<std::uint8_t>(kCopyRanges - 1);
}

}  // namespace

std::string default_subnqn(const Uuid& image, const std::string& serial)
{
    Uuid uuid;
    std::uint64_t hash = 0xcbf29ce484222325;
    for (std::size_t half = 0; half < 2; ++half) {
        hash = mix(hash, image.bytes);
        hash = mix(hash, {reinterpret_cast<const std::uint8_t*>(serial.data()), serial.size()});
        const Le64 value = hash;
        std::memcpy(uuid.bytes.data() + 8 * half, &value, sizeof(value));
    }
    // Version 8, "custom", in the variant of RFC 9562.
    uuid.bytes[6] = static_cast<std::uint8_t>((uuid.bytes[6] & 0x0f) | 0x80);
    uuid.bytes[8] = static_cast<std::uint8_t>((uuid.bytes[8] & 0x3f) | 0x80);
    static constexpr char kHex[] = "0123456789abcdef";
    std::string text = "nqn.2014-08.org.nvmexpress:uuid:";
    for (std::size_t i = 0; i < uuid.bytes.size(); ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            text += '-';
        }
        text += kHex[uuid.bytes[i] / 16];
        text += kHex[uuid.bytes[i] % 16];
    }
    return text;
}

VendorLimits vendor_limits()
{
    VendorLimits limits;
    static constexpr char kSignature[] = "COPPICE";
    std::copy(std::begin(kSignature), std::end(kSignature), limits.signature.begin());
    limits.version = 1;
    limits.streams = static_cast<std::uint16_t>(kMaxStreams);
    limits.transactions = static_cast<std::uint16_t>(kMaxTransactions);
    limits.write_ranges = static_cast<std::uint16_t>(kWriteRanges);
    limits.transaction_bytes = kMaxTransactionBytes;
    limits.staged_bytes = kMaxStagedBytes;
    limits.transaction_timeout_ms = static_cast<std::uint32_t>(kTransactionTimeoutNs / 1'000'000);
    return limits;
}

IdentifyController identify_controller(const Identity& identity, const Abilities& abilities,
                                       const Capacity& capacity, std::uint32_t highest_nsid,
                                       bool management)
{
    IdentifyController data;
    data.vid = identity.pci_vendor;
    data.ssvid = identity.pci_subsystem_vendor;
    put_ascii(data.serial, identity.serial);
    put_ascii(data.model, kModel);
    put_ascii(data.firmware, kFirmware);
    data.rab = 6;
    data.ieee = kIeee;
    data.mdts = kMaxTransferExponent;
    data.cntlid = identity.controller_id;
    data.ver = kVersion;
    data.oaes = kOaesNamespaceAttribute;
    data.cntrltype = 1;  // I/O controller
    data.oacs = management ? kOacsNamespaceManagement : std::uint16_t{0};
    data.acl_z = kAborts - 1;
    data.aerl_z = kAsyncEvents - 1;
    data.frmw = kFrmwOneReadOnlySlot;
    data.lpa = kLpaEffectsLog | kLpaExtendedData | kLpaSupportedPages;
    data.elpe_z = kErrorEntries - 1;
    // Vendor commands have formats of their own, not the one of figure 88 (NDT in CDW10).
    data.avscc = 0;
    data.icsvscc = 0;
    data.wctemp = static_cast<std::uint16_t>(Features::kWarningKelvin);
    data.cctemp = static_cast<std::uint16_t>(Features::kCriticalKelvin);
    data.tnvmcap = wide(capacity.total_bytes);
    data.unvmcap = wide(capacity.free_bytes);
    data.sqes = kQueueEntrySizesSq;
    data.cqes = kQueueEntrySizesCq;
    data.nn = highest_nsid;
    data.oncs = kOncsCompare | kOncsDatasetManagement | kOncsWriteZeroes | kOncsSelect |
                kOncsTimestamp | kOncsVerify | kOncsCopy;
    data.vwc = kVwcPresent | kVwcFlushAll;
    if (abilities.atomic_writes) {
        // In blocks of the largest format, as it holds for every namespace.
        data.awun_z = static_cast<std::uint16_t>(kMaxTransferBytes / kBlockBytes - 1);
        data.awupf_z = data.awun_z.get();
    }
    data.ocfs = kOcfsFormat0 | kOcfsFormat2;
    std::memcpy(data.subnqn.data(), identity.subnqn.data(),
                std::min(kMaxNqnBytes, identity.subnqn.size()));
    if (abilities.order) {
        data.vendor = vendor_limits();
    }
    data.power_states[0].max_power_centiwatt = 2500;
    data.power_states[0].entry_latency_us = 16;
    data.power_states[0].exit_latency_us = 4;
    return data;
}

IdentifyNamespace identify_namespace(const Namespace& entry, const Abilities& abilities)
{
    const NamespaceInfo& info = entry.info;
    const std::uint64_t block_bytes = power_of_two(info.lba_shift);
    IdentifyNamespace data;
    data.nsze = entry.blocks();
    data.ncap = entry.blocks();
    data.nuse = std::min(entry.blocks(), divide_up(info.mapped_bytes, block_bytes));
    data.nsfeat = kNsfeatThin | kNsfeatIdsNotReused;
    put_formats(data);
    data.flbas = block_bytes == kBlockBytes ? kFormat4096 : kFormat512;
    data.dlfeat = kDlfeatReadsZero | kDlfeatWriteZeroes;
    data.nvmcap = wide(info.size_bytes);
    put_limits(data, block_bytes, abilities);
    data.nsattr = info.write_protected ? kNsattrWriteProtected : std::uint8_t{0};
    data.nguid = info.nguid;
    data.eui64 = info.eui64;
    data.group = info.group;
    data.flush_mode = info.ordered_flush ? 1 : 0;
    return data;
}

IdentifyNamespace identify_common_namespace()
{
    IdentifyNamespace data;
    data.nsfeat = kNsfeatThin | kNsfeatIdsNotReused;
    put_formats(data);
    data.dlfeat = kDlfeatReadsZero | kDlfeatWriteZeroes;
    return data;
}

IdentifyIndependent identify_independent(const Namespace& entry)
{
    IdentifyIndependent data;
    data.nsfeat = kNsfeatIdsNotReused;
    data.nsattr = entry.info.write_protected ? kNsattrWriteProtected : std::uint8_t{0};
    data.nstat = kNstatReady;
    return data;
}

IdentifyControllerNvm identify_controller_nvm()
{
    IdentifyControllerNvm data;
    data.verify_limit = kMaxTransferExponent;
    data.write_zeroes_limit = kWriteZeroesExponent;
    return data;
}

std::vector<std::byte> namespace_descriptors(const Namespace& entry)
{
    std::vector<std::byte> page(kIdentifyBytes);
    std::size_t at = 0;
    const auto add = [&](std::uint8_t type, std::span<const std::uint8_t> value) {
        const bool any = std::any_of(value.begin(), value.end(), [](auto b) { return b != 0; });
        if (!any && type != kDescriptorCommandSet) {
            return;  // an all-zero identifier is no identifier
        }
        NamespaceDescriptor head;
        head.type = type;
        head.length_bytes = static_cast<std::uint8_t>(value.size());
        std::memcpy(page.data() + at, &head, sizeof(head));
        std::memcpy(page.data() + at + sizeof(head), value.data(), value.size());
        at += sizeof(head) + value.size();
    };
    add(kDescriptorEui64, entry.info.eui64);
    add(kDescriptorNguid, entry.info.nguid);
    const std::array<std::uint8_t, 1> command_set = {kCommandSetNvm};
    add(kDescriptorCommandSet, command_set);
    return page;
}

}  // namespace coppice::nvme
