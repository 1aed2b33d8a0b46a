// The ordering rules that keep an image whole, as switches. The product has them all, always: there
// `obeys` is the constant true. The library that the simulator links is built with
// COPPICE_BREAKABLE_RULES and can turn one off, to show that the simulator then finds a failing
// seed.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace coppice {

enum class Rule : std::uint8_t {
    data_before_effect,         // an operation takes effect when its host write has returned
    sync_before_acknowledge,    // a flush is acknowledged after the sync behind its commit
    commit_before_acknowledge,  // ... and after its commit was written at all
    commit_before_sync,         // ... and had returned when that sync began
    failed_sync_stops,          // a sync that failed is not tried again
    sync_before_superblock,     // nodes and data are durable before a superblock reaches them
    sync_before_release,        // a superblock is durable before what it dropped is re-used
    alternate_slots,            // a superblock never overwrites the one before it
    ring_tail_kept,             // the ring is not overwritten before a superblock replaces it
    verify_tail,                // replay verifies data that no sync is known to cover
    whole_commits,              // replay applies a commit whole or not at all
    chained_blocks,             // replay takes only journal blocks that continue the chain
    close_recovery,             // what recovery dropped is made void before anything new
    found_is_synced,            // what an open found is durable before anything says that it is
    skip_contained,             // replay skips what the superblock already contains
    replay_in_order,            // replay applies operations in the order in which they took effect
    order_in_domain,            // operations of a domain are committed in their order
    joined_domains,             // domains that build on each other are committed together
    partial_blocks_take_along,  // ... also where one writes a part of another's block
    ordered_flush_cuts_all,     // an ordered flush holds for all domains of the volume
    group_is_one_order,         // the volumes of a consistency group are committed together
    atomic_commands,            // the parts of one command are in one commit
    pinned_readers,             // blocks are not re-used under a reader
    partial_block_lock,         // a read-modify-write excludes other writes to its blocks
    late_data_before_commit,    // late data are at their place before a commit without them
    late_data_before_superblock,  // ... and before a superblock reaches them
    late_data_read,               // readers see late data
    supersede_up_to_barrier,      // what somebody else may have seen is not left out of a commit
    journaled_data_replayed,      // replay takes the data that a commit carries
    first_committer_wins,         // a transaction does not commit over what others changed
    transaction_is_one_command,   // all that a transaction staged takes effect together
};

struct RuleName {
    Rule rule;
    std::string_view name;
};

inline constexpr std::array<RuleName, 31> kRuleNames = {{
    {Rule::data_before_effect, "data_before_effect"},
    {Rule::sync_before_acknowledge, "sync_before_acknowledge"},
    {Rule::commit_before_acknowledge, "commit_before_acknowledge"},
    {Rule::commit_before_sync, "commit_before_sync"},
    {Rule::failed_sync_stops, "failed_sync_stops"},
    {Rule::sync_before_superblock, "sync_before_superblock"},
    {Rule::sync_before_release, "sync_before_release"},
    {Rule::alternate_slots, "alternate_slots"},
    {Rule::ring_tail_kept, "ring_tail_kept"},
    {Rule::verify_tail, "verify_tail"},
    {Rule::whole_commits, "whole_commits"},
    {Rule::chained_blocks, "chained_blocks"},
    {Rule::close_recovery, "close_recovery"},
    {Rule::found_is_synced, "found_is_synced"},
    {Rule::skip_contained, "skip_contained"},
    {Rule::replay_in_order, "replay_in_order"},
    {Rule::order_in_domain, "order_in_domain"},
    {Rule::joined_domains, "joined_domains"},
    {Rule::partial_blocks_take_along, "partial_blocks_take_along"},
    {Rule::ordered_flush_cuts_all, "ordered_flush_cuts_all"},
    {Rule::group_is_one_order, "group_is_one_order"},
    {Rule::atomic_commands, "atomic_commands"},
    {Rule::pinned_readers, "pinned_readers"},
    {Rule::partial_block_lock, "partial_block_lock"},
    {Rule::late_data_before_commit, "late_data_before_commit"},
    {Rule::late_data_before_superblock, "late_data_before_superblock"},
    {Rule::late_data_read, "late_data_read"},
    {Rule::supersede_up_to_barrier, "supersede_up_to_barrier"},
    {Rule::journaled_data_replayed, "journaled_data_replayed"},
    {Rule::first_committer_wins, "first_committer_wins"},
    {Rule::transaction_is_one_command, "transaction_is_one_command"},
}};

#if defined(COPPICE_BREAKABLE_RULES)
// One bit for each rule that is turned off; set by the simulator before a run.
extern std::uint32_t broken_rules;
inline bool obeys(Rule rule) { return (broken_rules >> static_cast<unsigned>(rule) & 1U) == 0; }
#else
constexpr bool obeys(Rule) { return true; }
#endif

}  // namespace coppice
