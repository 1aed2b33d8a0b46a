// Catch2 version 2 is a header that wants its main compiled once; version 3 brings a library.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
