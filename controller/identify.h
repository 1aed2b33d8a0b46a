// Builds the Identify data structures from what the controller is and has. Pure functions.
// NVM Express Base Specification 2.0, section 5.17.2; NVM Command Set Specification 1.0, 4.1.5.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "controller/backend.h"
#include "controller/namespaces.h"
#include "controller/spec/identify.h"

namespace coppice::nvme {

struct Identity {
    std::uint16_t pci_vendor = 0;
    std::uint16_t pci_subsystem_vendor = 0;
    std::uint16_t controller_id = 0;
    std::string serial;
    std::string subnqn;  // at most 223 bytes
};

// An NQN of the uuid form that the specification defines (Base 4.5), made from the image's identity
// and the serial: two devices over one image are two subsystems, as CMIC says that each is alone.
std::string default_subnqn(const Uuid& image, const std::string& serial);

IdentifyController identify_controller(const Identity& identity, const Abilities& abilities,
                                       const Capacity& capacity, std::uint32_t highest_nsid,
                                       bool management);
IdentifyNamespace identify_namespace(const Namespace& entry, const Abilities& abilities);
// NSID FFFFFFFFh: what all namespaces have in common.
IdentifyNamespace identify_common_namespace();
IdentifyIndependent identify_independent(const Namespace& entry);
IdentifyControllerNvm identify_controller_nvm();
std::vector<std::byte> namespace_descriptors(const Namespace& entry);

// Index in the LBA format list, which is the same for every namespace: 0 is 512, 1 is 4096 bytes.
inline constexpr std::uint8_t kFormat512 = 0;
inline constexpr std::uint8_t kFormat4096 = 1;
inline constexpr std::uint8_t kFormats = 2;

}  // namespace coppice::nvme
