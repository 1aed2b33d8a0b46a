// CHECK states what we promise ourselves. It is on in release builds: a broken promise stops the
// process before it reaches the image. Bad input (guest, image, user) is never a CHECK but an
// Error.
#pragma once

namespace coppice {

[[noreturn]] void check_failed(const char* expression, const char* file, int line);

}  // namespace coppice

#define CHECK(expression)                                 \
    (static_cast<bool>(expression) ? static_cast<void>(0) \
                                   : ::coppice::check_failed(#expression, __FILE__, __LINE__))
