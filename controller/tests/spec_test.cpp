#include "coppice-catch.h"
TEST_CASE("x") {}
