// Identify data structures: NVM Express Base Specification 2.0, section 5.17.2, and NVM Command Set
// Specification 1.0, section 4.1.5. All are 4096 bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "controller/spec/bits.h"
#include "format/base/bytes.h"

namespace coppice::nvme {

inline constexpr std::size_t kIdentifyBytes = 4096;
using Le128 = std::array<Le64, 2>;

// Power state descriptor (5.17.2.1, figure 276).
struct PowerState {
    Le16 max_power_centiwatt;
    std::uint8_t reserved2 = 0;
    std::uint8_t flags = 0;
    Le32 entry_latency_us;
    Le32 exit_latency_us;
    std::array<std::uint8_t, 20> reserved12{};
};
static_assert(sizeof(PowerState) == 32);

// The vendor's part of Identify Controller (NVME.md): what streams and transactions may take. All
// zero where there are none.
struct VendorLimits {
    std::array<char, 8> signature{};  // "COPPICE" and NUL
    Le16 version;                     // of the vendor I/O commands: 1
    Le16 streams;                     // open at a time, of all namespaces
    Le16 transactions;                // the same
    Le16 write_ranges;                // ranges in one Write Ranges
    Le64 transaction_bytes;           // that one may stage, in whole blocks of 4 KiB
    Le64 staged_bytes;                // of all open ones together
    Le32 transaction_timeout_ms;      // unused for so long, it is aborted
    std::array<std::uint8_t, 12> reserved{};
};
static_assert(sizeof(VendorLimits) == 48);
static_assert(offsetof(VendorLimits, transaction_bytes) == 16);
static_assert(offsetof(VendorLimits, transaction_timeout_ms) == 32);

// Identify Controller, CNS 01h (5.17.2.1, figure 275). Field names are the spec's where they are
// words, else its abbreviations.
struct IdentifyController {
    Le16 vid;
    Le16 ssvid;
    std::array<char, 20> serial{};
    std::array<char, 40> model{};
    std::array<char, 8> firmware{};
    std::uint8_t rab = 0;
    std::array<std::uint8_t, 3> ieee{};
    std::uint8_t cmic = 0;
    std::uint8_t mdts = 0;
    Le16 cntlid;
    Le32 ver;
    Le32 rtd3r;
    Le32 rtd3e;
    Le32 oaes;
    Le32 ctratt;
    Le16 rrls;
    std::array<std::uint8_t, 9> reserved102{};
    std::uint8_t cntrltype = 0;
    std::array<std::uint8_t, 16> fguid{};
    std::array<Le16, 3> crdt{};
    std::array<std::uint8_t, 119> reserved134{};
    std::uint8_t nvmsr = 0;
    std::uint8_t vwci = 0;
    std::uint8_t mec = 0;
    Le16 oacs;
    std::uint8_t acl_z = 0;
    std::uint8_t aerl_z = 0;
    std::uint8_t frmw = 0;
    std::uint8_t lpa = 0;
    std::uint8_t elpe_z = 0;
    std::uint8_t npss_z = 0;
    std::uint8_t avscc = 0;
    std::uint8_t apsta = 0;
    Le16 wctemp;
    Le16 cctemp;
    Le16 mtfa;
    Le32 hmpre;
    Le32 hmmin;
    Le128 tnvmcap{};
    Le128 unvmcap{};
    Le32 rpmbs;
    Le16 edstt;
    std::uint8_t dsto = 0;
    std::uint8_t fwug = 0;
    Le16 kas;
    Le16 hctma;
    Le16 mntmt;
    Le16 mxtmt;
    Le32 sanicap;
    std::array<std::uint8_t, 180> reserved332{};
    std::uint8_t sqes = 0;
    std::uint8_t cqes = 0;
    Le16 maxcmd;
    Le32 nn;
    Le16 oncs;
    Le16 fuses;
    std::uint8_t fna = 0;
    std::uint8_t vwc = 0;
    Le16 awun_z;
    Le16 awupf_z;
    std::uint8_t icsvscc = 0;
    std::uint8_t nwpc = 0;
    Le16 acwu_z;
    Le16 ocfs;
    Le32 sgls;
    Le32 mnan;
    std::array<std::uint8_t, 224> reserved544{};
    std::array<char, 256> subnqn{};
    std::array<std::uint8_t, 1024> reserved1024{};
    std::array<PowerState, 32> power_states{};
    VendorLimits vendor;
    std::array<std::uint8_t, 976> vendor3120{};
};
static_assert(sizeof(IdentifyController) == kIdentifyBytes);
static_assert(offsetof(IdentifyController, vendor) == 3072);
static_assert(offsetof(IdentifyController, model) == 24);
static_assert(offsetof(IdentifyController, mdts) == 77);
static_assert(offsetof(IdentifyController, ver) == 80);
static_assert(offsetof(IdentifyController, cntrltype) == 111);
static_assert(offsetof(IdentifyController, oacs) == 256);
static_assert(offsetof(IdentifyController, lpa) == 261);
static_assert(offsetof(IdentifyController, tnvmcap) == 280);
static_assert(offsetof(IdentifyController, sanicap) == 328);
static_assert(offsetof(IdentifyController, sqes) == 512);
static_assert(offsetof(IdentifyController, nn) == 516);
static_assert(offsetof(IdentifyController, vwc) == 525);
static_assert(offsetof(IdentifyController, awun_z) == 526);
static_assert(offsetof(IdentifyController, ocfs) == 534);
static_assert(offsetof(IdentifyController, subnqn) == 768);
static_assert(offsetof(IdentifyController, power_states) == 2048);

// Bits of IdentifyController (figure 275).
inline constexpr std::uint32_t kOaesNamespaceAttribute = place<8>(true);
inline constexpr std::uint16_t kOacsNamespaceManagement = place<3>(true);
inline constexpr std::uint8_t kFrmwOneReadOnlySlot = place<0>(true) | place<3, 1>(1);
inline constexpr std::uint8_t kLpaEffectsLog = place<1>(true);
inline constexpr std::uint8_t kLpaExtendedData = place<2>(true);
inline constexpr std::uint8_t kLpaSupportedPages = place<5>(true);
inline constexpr std::uint8_t kQueueEntrySizesSq = place<3, 0>(6) | place<7, 4>(6);  // 64 bytes
inline constexpr std::uint8_t kQueueEntrySizesCq = place<3, 0>(4) | place<7, 4>(4);  // 16 bytes
inline constexpr unsigned kSqEntryExponent = 6;
inline constexpr unsigned kCqEntryExponent = 4;
inline constexpr std::uint16_t kOncsCompare = place<0>(true);
inline constexpr std::uint16_t kOncsDatasetManagement = place<2>(true);
inline constexpr std::uint16_t kOncsWriteZeroes = place<3>(true);
inline constexpr std::uint16_t kOncsSelect = place<4>(true);
inline constexpr std::uint16_t kOncsTimestamp = place<6>(true);
inline constexpr std::uint16_t kOncsVerify = place<7>(true);
inline constexpr std::uint16_t kOncsCopy = place<8>(true);
inline constexpr std::uint8_t kVwcPresent = place<0>(true);
inline constexpr std::uint8_t kVwcFlushAll = place<2, 1>(3);  // Flush takes NSID FFFFFFFFh
inline constexpr std::uint16_t kOcfsFormat0 = place<0>(true);
inline constexpr std::uint16_t kOcfsFormat2 = place<2>(true);

// LBA format (NVM 4.1.5.1, figure 98).
struct LbaFormat {
    Le16 metadata_bytes;
    std::uint8_t data_exponent = 0;  // LBADS
    std::uint8_t performance = 0;    // RP 1:0, 0 is best
};
static_assert(sizeof(LbaFormat) == 4);

// Identify Namespace, CNS 00h and 11h (NVM 4.1.5.1, figure 97).
struct IdentifyNamespace {
    Le64 nsze;
    Le64 ncap;
    Le64 nuse;
    std::uint8_t nsfeat = 0;
    std::uint8_t nlbaf_z = 0;
    std::uint8_t flbas = 0;
    std::uint8_t mc = 0;
    std::uint8_t dpc = 0;
    std::uint8_t dps = 0;
    std::uint8_t nmic = 0;
    std::uint8_t rescap = 0;
    std::uint8_t fpi = 0;
    std::uint8_t dlfeat = 0;
    Le16 nawun_z;
    Le16 nawupf_z;
    Le16 nacwu_z;
    Le16 nabsn_z;
    Le16 nabo;
    Le16 nabspf_z;
    Le16 noiob;
    Le128 nvmcap{};
    Le16 npwg_z;
    Le16 npwa_z;
    Le16 npdg_z;
    Le16 npda_z;
    Le16 nows_z;
    Le16 mssrl;
    Le32 mcl;
    std::uint8_t msrc_z = 0;
    std::array<std::uint8_t, 11> reserved81{};
    Le32 anagrpid;
    std::array<std::uint8_t, 3> reserved96{};
    std::uint8_t nsattr = 0;
    Le16 nvmsetid;
    Le16 endgid;
    std::array<std::uint8_t, 16> nguid{};
    std::array<std::uint8_t, 8> eui64{};
    std::array<LbaFormat, 64> formats{};
    std::uint8_t group = 0;       // vendor: consistency group, 0: none
    std::uint8_t flush_mode = 0;  // vendor: 0 durable, 1 ordered
    std::array<std::uint8_t, 3710> vendor386{};
};
static_assert(sizeof(IdentifyNamespace) == kIdentifyBytes);
static_assert(offsetof(IdentifyNamespace, nsfeat) == 24);
static_assert(offsetof(IdentifyNamespace, dlfeat) == 33);
static_assert(offsetof(IdentifyNamespace, nawun_z) == 34);
static_assert(offsetof(IdentifyNamespace, nvmcap) == 48);
static_assert(offsetof(IdentifyNamespace, npwg_z) == 64);
static_assert(offsetof(IdentifyNamespace, mssrl) == 74);
static_assert(offsetof(IdentifyNamespace, mcl) == 76);
static_assert(offsetof(IdentifyNamespace, msrc_z) == 80);
static_assert(offsetof(IdentifyNamespace, nsattr) == 99);
static_assert(offsetof(IdentifyNamespace, nguid) == 104);
static_assert(offsetof(IdentifyNamespace, eui64) == 120);
static_assert(offsetof(IdentifyNamespace, formats) == 128);

inline constexpr std::uint8_t kNsfeatThin = place<0>(true);
inline constexpr std::uint8_t kNsfeatAtomics = place<1>(true);  // NSABP
inline constexpr std::uint8_t kNsfeatIdsNotReused = place<3>(true);
inline constexpr std::uint8_t kNsfeatPreferred = place<4>(true);  // OPTPERF
inline constexpr std::uint8_t kDlfeatReadsZero = place<2, 0>(1);
inline constexpr std::uint8_t kDlfeatWriteZeroes = place<3>(true);
inline constexpr std::uint8_t kNsattrWriteProtected = place<0>(true);
constexpr std::uint8_t flbas_format(std::uint8_t flbas) { return bits<3, 0>(flbas); }
constexpr bool flbas_extended(std::uint8_t flbas)  // metadata at the end, or format index above 15
{
    return bits<7, 4>(flbas) != 0;
}

// I/O command set independent Identify Namespace, CNS 08h (5.17.2.8, figure 280).
struct IdentifyIndependent {
    std::uint8_t nsfeat = 0;
    std::uint8_t nmic = 0;
    std::uint8_t rescap = 0;
    std::uint8_t fpi = 0;
    Le32 anagrpid;
    std::uint8_t nsattr = 0;
    std::uint8_t reserved9 = 0;
    Le16 nvmsetid;
    Le16 endgid;
    std::uint8_t nstat = 0;
    std::array<std::uint8_t, 4081> reserved15{};
};
static_assert(sizeof(IdentifyIndependent) == kIdentifyBytes);
static_assert(offsetof(IdentifyIndependent, nsattr) == 8);
static_assert(offsetof(IdentifyIndependent, nstat) == 14);
inline constexpr std::uint8_t kNstatReady = place<0>(true);

// Identify Controller of the NVM command set, CNS 06h (NVM 4.1.5.4, figure 102). Sizes are
// exponents of the minimum page; 0 means no limit beyond the fields of the command.
struct IdentifyControllerNvm {
    std::uint8_t verify_limit = 0;        // VSL
    std::uint8_t write_zeroes_limit = 0;  // WZSL
    std::uint8_t write_uncorrectable_limit = 0;
    std::uint8_t dsm_ranges = 0;  // DMRL
    Le32 dsm_range_blocks;        // DMRSL
    Le64 dsm_blocks;              // DMSL
    std::array<std::uint8_t, 4080> reserved16{};
};
static_assert(sizeof(IdentifyControllerNvm) == kIdentifyBytes);
static_assert(offsetof(IdentifyControllerNvm, dsm_blocks) == 8);

// Namespace identification descriptor, CNS 03h (5.17.2.3, figure 277): type, length, then bytes.
struct NamespaceDescriptor {
    std::uint8_t type = 0;
    std::uint8_t length_bytes = 0;
    Le16 reserved;
};
static_assert(sizeof(NamespaceDescriptor) == 4);
inline constexpr std::uint8_t kDescriptorEui64 = 1;
inline constexpr std::uint8_t kDescriptorNguid = 2;
inline constexpr std::uint8_t kDescriptorCommandSet = 4;

// Lists of namespaces: ascending identifiers, zero-terminated when not full (5.17.2.2).
struct NamespaceList {
    std::array<Le32, 1024> ids{};
};
static_assert(sizeof(NamespaceList) == kIdentifyBytes);

inline constexpr std::uint8_t kCommandSetNvm = 0;  // CSI
// CNS 1Ch: 512 combinations of command sets; bit 0 of a combination is NVM (5.17.2.18).
struct CommandSetCombinations {
    std::array<Le64, 512> vectors{};
};
static_assert(sizeof(CommandSetCombinations) == kIdentifyBytes);

}  // namespace coppice::nvme
