// passthrough.h: what the programs that speak NVMe by libnvme share.
#pragma once

#include "common.h"

#include <libnvme.h>

#include <array>

namespace guest {

// Longest that a command may take.
constexpr std::uint32_t timeout_ms = 60000;

// libnvme returns 0, a positive NVMe status, or -1 with errno.
inline void expect_success(int status, const std::string& what)
{
    if (status == 0) return;
    if (status < 0) refused(what);
    std::array<char, 32> number_text{};
    std::snprintf(number_text.data(), number_text.size(), "%#x", static_cast<unsigned>(status));
    end(Exit::Refused, what + ": NVMe status " + number_text.data() + " (" +
                           nvme_status_to_string(status, false) + ")");
}

inline std::uint32_t nsid_of_device(int descriptor, const std::string& path)
{
    std::uint32_t nsid = 0;
    if (nvme_get_nsid(descriptor, &nsid) != 0) refused("namespace id of " + path);
    return nsid;
}

}  // namespace guest
