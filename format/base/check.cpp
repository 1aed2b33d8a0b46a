#include "format/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace coppice {

void check_failed(const char* expression, const char* file, int line)
{
    std::fprintf(stderr, "coppice: internal error at %s:%d: %s does not hold\n", file, line,
                 expression);
    std::abort();
}

}  // namespace coppice
