// What a simulated run has to say: how often each named case was reached, and the first thing that
// was wrong. Each seed runs in a process of its own, so a violation simply ends it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace coppice::sim {

// The cases that a run of many seeds must reach: one that stays at zero is a test that no longer
// tests. The names are printed.
#define COPPICE_SIM_CASES(X)         \
    X(cuts)                          \
    X(cuts_in_recovery)              \
    X(cuts_after_close)              \
    X(cuts_that_kept_nothing)        \
    X(cuts_that_kept_all)            \
    X(cuts_that_kept_some)           \
    X(cuts_with_a_torn_write)        \
    X(cuts_with_requests_under_way)  \
    X(cuts_in_removals)              \
    X(cuts_that_lost_a_superblock)   \
    X(cuts_that_lost_operations)     \
    X(cuts_that_kept_unflushed)      \
    X(cuts_that_kept_unacknowledged) \
    X(runs_with_no_flush)            \
    X(runs_with_a_full_host)         \
    X(runs_with_a_wrapped_ring)      \
    X(runs_with_stopped_writing)     \
    X(runs_with_range_references)    \
    X(runs_with_holes)               \
    X(runs_with_removal_steps)       \
    X(runs_that_go_on_removing)      \
    X(cuts_that_reversed_streams)    \
    X(cuts_with_an_ordered_cut)      \
    X(stream_flushes)                \
    X(streams_closed)                \
    X(runs_with_late_data)           \
    X(runs_with_journaled_data)      \
    X(runs_with_superseded)          \
    X(opens_with_replay)             \
    X(opens_without_replay)          \
    X(checkpoints)                   \
    X(images_checked)                \
    X(writes)                        \
    X(partial_block_writes)          \
    X(forced_writes)                 \
    X(reads)                         \
    X(reads_beside_writes)           \
    X(flushes)                       \
    X(deallocations)                 \
    X(zero_writes)                   \
    X(clones)                        \
    X(clones_between_volumes)        \
    X(clones_onto_their_source)      \
    X(clones_not_aligned)            \
    X(contests)                      \
    X(transactions_committed)        \
    X(transactions_aborted)          \
    X(transactions_left_open)        \
    X(transactions_timed_out)        \
    X(transaction_conflicts)         \
    X(multi_range_writes)            \
    X(cuts_in_transactions)          \
    X(snapshots)                     \
    X(snapshots_beside_writes)       \
    X(rollbacks)                     \
    X(volume_clones)                 \
    X(volumes_created)               \
    X(snapshots_removed)             \
    X(volumes_removed)               \
    X(resizes)                       \
    X(renames)                       \
    X(flush_mode_changes)            \
    X(ordered_flushes)               \
    X(groups_joined)                 \
    X(groups_left)                   \
    X(group_flushes)                 \
    X(group_snapshots)               \
    X(cuts_of_groups)                \
    X(no_space_errors)               \
    X(host_errors)

enum class Case : std::uint8_t {
#define COPPICE_SIM_CASE(name) name,
    COPPICE_SIM_CASES(COPPICE_SIM_CASE)
#undef COPPICE_SIM_CASE
        count_,
};
inline constexpr std::size_t kCases = static_cast<std::size_t>(Case::count_);

std::string_view case_name(Case which);

// Counters of this process.
extern std::array<std::uint64_t, kCases> case_counts;
inline void reached(Case which) { ++case_counts[static_cast<std::size_t>(which)]; }

// Says what was wrong and ends the process.
[[noreturn]] void violation(const std::string& what);

// Where in a seed we are, for the text of a violation; a stack of words.
class Context {
public:
    explicit Context(std::string words);
    ~Context();
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;
};

// Status with which a process ends after a violation.
inline constexpr int kViolationStatus = 3;

// With COPPICE_SIM_TRACE in the environment each operation and request is printed.
bool tracing();
void trace(const std::string& line);

}  // namespace coppice::sim
