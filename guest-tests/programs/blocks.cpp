// guest-blocks: writes blocks that say what they are (pattern.h), and checks them.
//
// One program for everything that needs such blocks, in the guest and on the host (a host reads the
// same bytes from a raw file): filling and comparing, a random mix against a model in memory,
// acknowledged syncs before a kill, atomic units. Run it without words for the list.
#include "blocks.h"

#include <cstdio>

namespace guest {
namespace {

struct Command {
    const char* name;
    int (*run)(const Words&);
    std::size_t least_words;
    const char* usage;
};

constexpr Command commands[] = {
    {"fill", fill, 3, "TARGET OFFSET LENGTH [--generation G] [--unit BYTES] [--place P]"},
    {"check", check, 3,
     "TARGET OFFSET LENGTH [--generation G | --zero] [--unit BYTES] [--place P]"},
    {"model", model, 1,
     "TARGET [--operations N] [--seed S] [--length BYTES] [--offset BYTES] [--no-trim]"},
    {"sync-write", sync_write, 2,
     "TARGET START_BATCH [--seed S] [--unit BYTES] [--batches N] [--label TEXT] [--times] "
     "[--offset BYTES] [--length BYTES]"},
    {"sync-check", sync_check, 2, "TARGET HISTORY [--seed S] [--unit BYTES] [--prefix]"},
    {"moment-check", moment_check, 4,
     "TARGET TIMES SENT ANSWERED [--seed S] [--unit BYTES] [--offset BYTES] [--length BYTES]"},
    {"atomic-limits", atomic_limits, 1, "DEVICE [--at-least BYTES]"},
    {"atomic-write", atomic_write, 1,
     "TARGET [--writes N] [--seed S] [--unit BYTES] [--length BYTES] [--sync-every N] [--plain]"},
    {"atomic-verify", atomic_verify, 1,
     "TARGET [--seed S] [--unit BYTES] [--length BYTES] [--block BYTES] [--synced N] [--prefix]"},
};

int usage()
{
    std::fprintf(stderr, "usage: guest-blocks COMMAND …\n");
    for (const Command& command : commands)
        std::fprintf(stderr, "  %s %s\n", command.name, command.usage);
    return static_cast<int>(Exit::Usage);
}

}  // namespace

std::string option(const Words& words, const std::string& name, const std::string& otherwise)
{
    for (std::size_t at = 0; at + 1 < words.size(); ++at)
        if (words[at] == name) return words[at + 1];
    return otherwise;
}

bool flag(const Words& words, const std::string& name)
{
    for (const std::string& word : words)
        if (word == name) return true;
    return false;
}

}  // namespace guest

int main(int count, char** words)
{
    if (count < 2) return guest::usage();
    const guest::Words rest(words + 2, words + count);
    for (const guest::Command& command : guest::commands) {
        if (std::string(words[1]) != command.name) continue;
        if (rest.size() < command.least_words) return guest::usage();
        return command.run(rest);
    }
    return guest::usage();
}
