#include "images/text.h"

#include "coppice-catch.h"

using namespace coppice::images;

TEST_CASE("sizes are read with their suffixes")
{
    REQUIRE(parse_size("0") == 0);
    REQUIRE(parse_size("4096") == 4096);
    REQUIRE(parse_size("512B") == 512);
    REQUIRE(parse_size("1k") == 1024);
    REQUIRE(parse_size("10G") == 10ULL << 30);
    REQUIRE(parse_size("10GiB") == 10ULL << 30);
    REQUIRE(parse_size("10GB") == 10ULL << 30);
    REQUIRE(parse_size("1.5T") == 3ULL << 39);
    REQUIRE(parse_size("0.25K") == 256);
    REQUIRE(parse_size("2.5P") == 5ULL << 49);
    REQUIRE(parse_size("9223372036854775808") == 1ULL << 63);
    REQUIRE(parse_size("8E") == 1ULL << 63);
    REQUIRE(parse_size("18446744073709551615") == UINT64_MAX);
}

TEST_CASE("what is no size is refused")
{
    for (const char* text : {"",           "G",
                             "-1",         "+1",
                             " 1",         "1 ",
                             "1X",         "1.5",
                             "1.",         ".5G",
                             "1.2.3G",     "18446744073709551616",
                             "16E",        "17179869184G",
                             "0x10",       "1Gi",
                             "1Gib2",      "1e3",
                             "1.1234567G", "15.9999999E"}) {
        INFO(text);
        REQUIRE(!parse_size(text));
    }
    REQUIRE(parse_size("15.999E"));
}

TEST_CASE("sizes and counts are written for people")
{
    REQUIRE(size_text(0) == "0 B");
    REQUIRE(size_text(1023) == "1023 B");
    REQUIRE(size_text(1024) == "1 KiB");
    REQUIRE(size_text(1536) == "1.50 KiB");
    REQUIRE(size_text(10ULL << 30) == "10 GiB");
    REQUIRE(size_text((10ULL << 30) + (300ULL << 20)) == "10.3 GiB");
    REQUIRE(size_text(123ULL << 20 | 1 << 19) == "124 MiB");
    REQUIRE(size_text(1ULL << 56) == "64 PiB");
    REQUIRE(count_text(0) == "0");
    REQUIRE(count_text(999) == "999");
    REQUIRE(count_text(1000) == "1,000");
    REQUIRE(count_text(1234567) == "1,234,567");
    REQUIRE(plural(1, "block") == "1 block");
    REQUIRE(plural(2, "block") == "2 blocks");
    REQUIRE(time_text(0) == "-");
    REQUIRE(!time_text(UINT64_MAX).empty());
}

TEST_CASE("tables align their columns, also with names that are not ASCII")
{
    Table table({{"ID", Table::Align::right}, {"NAME"}, {"SIZE", Table::Align::right}});
    table.add({"1", "größe", "10 GiB"});
    table.add({"10", "b", "1 B"});
    REQUIRE(table.text() == "ID  NAME     SIZE\n"
                            " 1  größe  10 GiB\n"
                            "10  b         1 B\n");
    REQUIRE(printable("a\033[2Jb") == "a?[2Jb");
}
