#include "format/sim/report.h"

#include <cstdio>
#include <cstdlib>
#include <unistd.h>
#include <vector>

namespace coppice::sim {

std::array<std::uint64_t, kCases> case_counts{};

namespace {

std::vector<std::string>& contexts()
{
    static std::vector<std::string> words;
    return words;
}

}  // namespace

std::string_view case_name(Case which)
{
    switch (which) {
#define COPPICE_SIM_CASE(name) \
    case Case::name: return #name;
        COPPICE_SIM_CASES(COPPICE_SIM_CASE)
#undef COPPICE_SIM_CASE
    case Case::count_: break;
    }
    return "?";
}

void violation(const std::string& what)
{
    std::string where;
    for (const std::string& words : contexts()) {
        where += words + ": ";
    }
    std::fprintf(stderr, "%s%s\n", where.c_str(), what.c_str());
    std::fflush(nullptr);
    // Not exit: destructors of a run that went wrong could hide what was wrong.
    ::_exit(kViolationStatus);
}

Context::Context(std::string words) { contexts().push_back(std::move(words)); }

Context::~Context() { contexts().pop_back(); }

bool tracing()
{
    static const bool on = std::getenv("COPPICE_SIM_TRACE") != nullptr;
    return on;
}

void trace(const std::string& line) { std::fprintf(stderr, "  %s\n", line.c_str()); }

}  // namespace coppice::sim
