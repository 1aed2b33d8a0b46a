// The header of whichever Catch2 the distribution has: version 2 in Debian 12, version 3 in 13.
#pragma once
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>  // IWYU pragma: export
using Catch::Approx;
#else
#include <catch2/catch.hpp>  // IWYU pragma: export
#endif
