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
#define COPPICE_SIM_CASES(X)            \
    X(cuts)                             \
    X(cuts_in_recovery)                 \
    X(cuts_after_close)                 \
    X(cuts_that_kept_nothing)           \
    X(cuts_that_kept_all)               \
    X(cuts_that_kept_some)              \
    X(cuts_with_a_torn_write)           \
    X(cuts_with_requests_under_way)     \
    X(cuts_in_removals)                 \
    X(cuts_that_lost_a_superblock)      \
    X(cuts_that_lost_operations)        \
    X(cuts_that_kept_unflushed)         \
    X(cuts_that_kept_unacknowledged)    \
    X(cuts_with_transaction_and_stream) \
    X(cuts_that_kept_the_transaction)   \
    X(cuts_that_kept_the_stream)        \
    X(cuts_with_overwrites_by_others)   \
    X(cuts_that_kept_the_overwritten)   \
    X(cuts_with_partial_over_pending)   \
    X(cuts_with_clones_of_pending)      \
    X(cuts_with_snapshots_between)      \
    X(cuts_in_commits_around_the_end)   \
    X(cuts_with_reuse)                  \
    X(kills)                            \
    X(cuts_behind_a_kill)               \
    X(cuts_that_fell_behind_a_kill)     \
    X(cuts_behind_a_kill_and_flush)     \
    X(runs_with_no_flush)               \
    X(runs_with_a_full_host)            \
    X(runs_with_a_wrapped_ring)         \
    X(runs_with_stopped_writing)        \
    X(runs_with_range_references)       \
    X(runs_with_holes)                  \
    X(runs_with_removal_steps)          \
    X(runs_that_go_on_removing)         \
    X(cuts_that_reversed_streams)       \
    X(cuts_with_an_ordered_cut)         \
    X(stream_flushes)                   \
    X(streams_opened)                   \
    X(streams_closed)                   \
    X(writes_in_streams)                \
    X(conflicts_with_streams)           \
    X(runs_with_late_data)              \
    X(runs_with_journaled_data)         \
    X(runs_with_superseded)             \
    X(opens_with_replay)                \
    X(opens_without_replay)             \
    X(checkpoints)                      \
    X(images_checked)                   \
    X(writes)                           \
    X(partial_block_writes)             \
    X(forced_writes)                    \
    X(reads)                            \
    X(reads_beside_writes)              \
    X(flushes)                          \
    X(deallocations)                    \
    X(zero_writes)                      \
    X(clones)                           \
    X(clones_between_volumes)           \
    X(clones_onto_their_source)         \
    X(clones_not_aligned)               \
    X(contests)                         \
    X(transactions_committed)           \
    X(transactions_aborted)             \
    X(transactions_left_open)           \
    X(transactions_timed_out)           \
    X(transaction_conflicts)            \
    X(multi_range_writes)               \
    X(cuts_in_transactions)             \
    X(snapshots)                        \
    X(snapshots_beside_writes)          \
    X(rollbacks)                        \
    X(volume_clones)                    \
    X(volumes_created)                  \
    X(snapshots_removed)                \
    X(volumes_removed)                  \
    X(resizes)                          \
    X(renames)                          \
    X(flush_mode_changes)               \
    X(ordered_flushes)                  \
    X(groups_joined)                    \
    X(groups_left)                      \
    X(group_flushes)                    \
    X(group_snapshots)                  \
    X(cuts_of_groups)                   \
    X(no_space_errors)                  \
    X(host_errors)                      \
    X(row_newest)                       \
    X(row_copy_damaged)                 \
    X(row_slot_damaged)                 \
    X(row_slot_damaged_and_named)       \
    X(row_old_slot_damaged)             \
    X(row_all_damaged)                  \
    X(row_foreign_copy)                 \
    X(row_wrong_slot)                   \
    X(row_header_damaged)               \
    X(row_header_and_near_damaged)      \
    X(row_cut_off)                      \
    X(row_other_major)                  \
    X(row_incompatible)                 \
    X(row_read_only_compatible)         \
    X(row_newer_writer)                 \
    X(row_bad_record)                   \
    X(row_superblock_lost)              \
    X(row_synced_and_not_read)          \
    X(row_verified)                     \
    X(row_not_verified)                 \
    X(row_first_block_damaged)          \
    X(row_later_block_damaged)          \
    X(row_synced_by_superblock)         \
    X(row_nothing_written)              \
    X(row_torn_first_block)             \
    X(row_torn_later_block)             \
    X(row_other_incarnation)

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
