#include "format/base/rules.h"

namespace coppice {

#if defined(COPPICE_BREAKABLE_RULES)
std::uint32_t broken_rules = 0;
#endif

}  // namespace coppice
