#include "format/sim/plan.h"

#include <algorithm>

namespace coppice::sim {

namespace {

constexpr std::size_t at(Action action) { return static_cast<std::size_t>(action); }

// Weights around which each run draws its own: from nothing to three times as much.
constexpr std::array<unsigned, kActions> kUsualWeights = {
    /*write*/ 40,
    /*read*/ 8,
    /*read_beside_writes*/ 8,
    /*deallocate*/ 8,
    /*write_zeroes*/ 4,
    /*clone*/ 10,
    /*contest*/ 3,
    /*transaction*/ 8,
    /*write_ranges*/ 4,
    /*open_stream*/ 4,
    /*close_stream*/ 1,
    /*flush*/ 8,
    /*checkpoint*/ 2,
    /*rest*/ 3,
    /*snapshot*/ 3,
    /*read_snapshot*/ 2,
    /*rollback*/ 1,
    /*clone_volume*/ 1,
    /*create_volume*/ 1,
    /*remove*/ 3,
    /*resize*/ 1,
    /*rename*/ 1,
    /*set_flush_mode*/ 1,
    /*set_group*/ 1,
    /*snapshot_group*/ 1,
};

void draw_host(Plan& plan, Random& random)
{
    plan.disk.seed = random.next();
    plan.disk.shortest_ns = random.between(500, 5'000);
    plan.disk.longest_ns = plan.disk.shortest_ns + random.between(1'000, 500'000);
    plan.disk.slow_percent = static_cast<unsigned>(random.below(15));
}

// Several orders in few blocks, transactions among them: who flushes one leaves the others pending,
// but for what it is built on. Nothing else brings them into the journal.
void draw_streams(Plan& plan, Random& random)
{
    plan.profile = "streams";
    plan.volume_bytes = random.between(16, 128) * 4096;
    plan.fibers = static_cast<unsigned>(random.between(2, 6));
    plan.stream_percent = static_cast<unsigned>(random.between(60, 95));
    plan.aligned_percent = static_cast<unsigned>(random.between(50, 100));
    plan.hot_percent = static_cast<unsigned>(random.below(50));
    plan.largest_sectors = random.between(8, 24);
    plan.durable_percent = 5;
    plan.commit_interval_ns = random.chance(70) ? 5'000'000'000 : plan.commit_interval_ns;
    plan.weights[at(Action::transaction)] = static_cast<unsigned>(random.between(20, 60));
    plan.weights[at(Action::write_ranges)] = static_cast<unsigned>(random.between(5, 20));
    plan.weights[at(Action::clone)] = static_cast<unsigned>(random.between(2, 15));
    plan.weights[at(Action::flush)] = static_cast<unsigned>(random.between(10, 30));
    plan.weights[at(Action::open_stream)] = 15;
    plan.weights[at(Action::checkpoint)] = static_cast<unsigned>(random.below(2));
    plan.forced_percent = static_cast<unsigned>(random.below(10));
    if (random.chance(35)) {
        // What lies behind an ordered flush is taken along by another volume, and what lies before?
        plan.ordered_first = true;
        plan.first_volumes = 1;
        plan.grouped = random.chance(20);
        plan.most_volumes = std::max<std::uint64_t>(plan.most_volumes, 3);
        plan.weights[at(Action::clone)] = 40;
        plan.weights[at(Action::flush)] = 30;
    }
    const bool manages = random.chance(40);
    for (std::size_t i = at(Action::snapshot); i < kActions; ++i) {
        plan.weights[i] = manages && plan.weights[i] != 0 ? 1 : 0;
    }
}

}  // namespace

Plan draw_plan(Random& random, bool quick)
{
    Plan plan;
    draw_host(plan, random);
    for (std::size_t i = 0; i < kActions; ++i) {
        plan.weights[i] = kUsualWeights[i] * static_cast<unsigned>(random.below(4));
    }
    plan.weights[at(Action::write)] += 10;
    if (random.chance(15)) {
        plan.first_volumes = 1;
        plan.grouped = true;
    }
    plan.fibers = static_cast<unsigned>(random.between(1, 6));
    plan.actions = quick ? random.between(30, 120) : random.between(60, 300);
    plan.volume_bytes = random.between(32, 512) * 4096;
    plan.aligned_percent = static_cast<unsigned>(random.below(101));
    plan.forced_percent = random.chance(50) ? 0 : static_cast<unsigned>(random.below(40));
    plan.hot_percent = static_cast<unsigned>(random.below(90));
    plan.largest_sectors = random.chance(20) ? 512 : random.between(1, 64);
    plan.most_volumes = random.between(2, 7);
    plan.cache_bytes = random.chance(50) ? 64 << 10 : 4 << 20;
    plan.inline_clone_items = random.chance(50) ? random.below(4) : 64;
    plan.removal_step = 1 + plan.inline_clone_items % 7;
    plan.punch_delay_ns = random.chance(50) ? random.between(1'000, 20'000'000) : 10'000'000'000;
    plan.punch_blocks = random.between(1, 16);
    plan.tail_blocks = random.chance(30) ? random.between(1, 40) : 65536;
    plan.commit_interval_ns =
        random.chance(50) ? random.between(100'000, 20'000'000) : 5'000'000'000;
    plan.tick_ns = random.between(100'000, 20'000'000);
    plan.closes = random.chance(50);
    plan.stream_percent = random.chance(50) ? 0 : static_cast<unsigned>(random.between(10, 70));
    if (random.chance(20)) {
        plan.transaction_timeout_ns = random.between(1'000'000, 50'000'000);
    }
    if (random.chance(60)) {
        plan.late_write_blocks = random.below(5) * random.below(3);
        plan.journaled_blocks = random.below(4) * random.below(4);
    }

    switch (random.below(19)) {
    case 0:
    case 1:
        plan.profile = "never flushed";
        plan.weights[at(Action::flush)] = 0;
        plan.weights[at(Action::checkpoint)] = 0;
        plan.forced_percent = 0;
        for (std::size_t i = at(Action::snapshot); i < kActions; ++i) {
            plan.weights[i] = 0;
        }
        plan.closes = false;
        break;
    case 2:
        plan.profile = "ring";  // small forced writes, until the ring has gone round
        plan.forced_percent = 80;
        plan.actions = quick ? 1'600 : 3'000;
        plan.fibers = static_cast<unsigned>(random.between(1, 2));
        plan.largest_sectors = 8;
        plan.weights = {};
        plan.weights[at(Action::write)] = 90;
        plan.weights[at(Action::flush)] = 6;
        plan.weights[at(Action::read_beside_writes)] = 3;
        plan.weights[at(Action::deallocate)] = 5;
        plan.weights[at(Action::snapshot)] = random.chance(50) ? 1 : 0;
        plan.weights[at(Action::remove)] = 1;
        if (random.chance(50)) {
            plan.tick_ns = 60'000'000'000;  // the ring is full before anybody looks at it
            plan.forced_percent = 100;
            plan.fibers = 1;
        }
        break;
    case 3:
        plan.profile = "full host";
        plan.full_host = true;
        plan.room_bytes = random.between(0, 400) * 4096;
        break;
    case 4:
        plan.profile = "failing sync";
        plan.disk.failing_syncs_from = random.between(3, 40);
        plan.disk.failing_syncs = random.chance(70) ? 1 : UINT64_MAX;
        plan.closes = false;
        break;
    case 5:
        plan.profile = "re-use";  // few blocks, overwritten again and again, many checkpoints
        plan.volume_bytes = random.between(4, 32) * 4096;
        plan.weights[at(Action::checkpoint)] = 20;
        plan.weights[at(Action::write)] = 100;
        plan.weights[at(Action::read_beside_writes)] = 30;
        break;
    case 6:
        plan.profile = "clones";
        plan.weights[at(Action::clone)] = 60;
        plan.weights[at(Action::flush)] = static_cast<unsigned>(random.between(1, 10));
        plan.first_volumes = static_cast<unsigned>(random.between(1, 3));
        plan.aligned_percent = static_cast<unsigned>(random.between(60, 100));
        plan.forced_percent = static_cast<unsigned>(random.below(20));
        plan.most_volumes += plan.first_volumes;
        break;
    case 7:
        plan.profile = "management";
        for (std::size_t i = at(Action::snapshot); i < kActions; ++i) {
            plan.weights[i] = 8;
        }
        break;
    case 8:
    case 9:
        plan.profile = "batches";  // many small operations for each flush: commits of many blocks
        plan.fibers = static_cast<unsigned>(random.between(3, 8));
        plan.actions = quick ? 500 : 2'000;
        plan.largest_sectors = 8;
        plan.weights = {};
        plan.weights[at(Action::write)] = 60;
        plan.weights[at(Action::deallocate)] = 40;
        plan.weights[at(Action::clone)] = static_cast<unsigned>(random.below(30));
        plan.weights[at(Action::transaction)] = static_cast<unsigned>(random.below(30));
        plan.weights[at(Action::flush)] = static_cast<unsigned>(random.below(3));
        plan.weights[at(Action::open_stream)] = 3;
        plan.forced_percent = 0;
        plan.closes = false;
        break;
    case 10:
    case 11:
        plan.profile = "failing host";
        plan.disk.failing_permille = static_cast<unsigned>(random.between(1, 40));
        plan.closes = false;
        break;
    case 12:
        plan.profile = "transactions";  // on few blocks, so that they meet others' changes
        plan.volume_bytes = random.between(8, 64) * 4096;
        plan.weights[at(Action::transaction)] = 80;
        plan.weights[at(Action::write_ranges)] = 20;
        plan.fibers = static_cast<unsigned>(random.between(2, 6));
        break;
    case 13:
        plan.profile = "group";  // several volumes with one order
        plan.first_volumes = static_cast<unsigned>(random.between(1, 3));
        plan.grouped = true;
        plan.most_volumes += plan.first_volumes;
        plan.weights[at(Action::flush)] = static_cast<unsigned>(random.between(1, 10));
        plan.weights[at(Action::set_group)] = static_cast<unsigned>(random.below(4));
        plan.weights[at(Action::snapshot_group)] = static_cast<unsigned>(random.between(1, 4));
        plan.weights[at(Action::snapshot)] = 0;
        break;
    case 14:
    case 15:
    case 16: draw_streams(plan, random); break;
    default: plan.profile = "mixed"; break;
    }
    return plan;
}

}  // namespace coppice::sim
