// One seed of the simulator: an image is made, a workload runs on it, the power is cut at many
// moments of the recorded run; each image that a cut leaves is opened, checked and compared with
// the model, and on some of them the next run begins, whose recovery is cut as well.
//
//   run --log--> cut, cut, cut ... --examine--> run --log--> cut ... (up to kDeepest)
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "format/disk/fiber_tasks.h"
#include "format/sim/judge.h"
#include "format/sim/plan.h"
#include "format/volume/store.h"

namespace coppice::sim {

// How images are made and opened: the store, or another one to try the simulator on.
struct StoreKind {
    std::function<Status(Disk&, const CreateOptions&)> create;
    std::function<Result<std::unique_ptr<Store>>(Disk&, const OpenOptions&)> open;
    // Complaints of the checker about an image, one in a line; "" when it is well.
    std::function<std::string(const SparseBytes&)> check;
};
StoreKind real_store();

struct ScenarioOptions {
    std::uint64_t seed = 1;
    std::uint64_t cuts = 20;
    bool quick = true;
    bool full_hosts = true;  // the toy has no answer to them
    bool streams = true;     // the toy has none
    bool transactions = true;
    bool rings = true;  // runs that go round the ring; the toy has none, and takes long
};

// Ends the process at the first violation.
void run_scenario(const StoreKind& kind, const ScenarioOptions& options);

// ---- Parts, for the directed scenarios ------------------------------------------------------

// The recorded life of one store on one simulated disk.
struct Recording {
    Model model;
    DiskLog log;
    EventClock clock;
    Event opened = 0;      // when open returned
    Event ended = kNever;  // when close or abandon returned
    bool closed = false;   // by close
    Stamp next_stamp = 1;
};

using Body = std::function<void(FiberTasks&, Store&, Model&, EventClock&)>;

SparseBytes fresh_image(const StoreKind& kind, std::uint64_t seed, std::uint64_t volume_bytes);
// Opens `image` on a simulated disk, runs `body` in a task, closes or abandons.
Recording record(const StoreKind& kind, const SparseBytes& image, Model model, const Plan& plan,
                 std::uint64_t scheduler_seed, const Body& body);
// The same on what a process that was killed left on its host.
Recording record(const StoreKind& kind, const HostFile& host, Model model, const Plan& plan,
                 std::uint64_t scheduler_seed, const Body& body);
// The moments at which a recorded run is cut, in ascending order: some anywhere, some around syncs
// and answers, where promises begin, some in the recovery at the start.
std::vector<Event> draw_events(const Recording& recording, Random& random, std::uint64_t count);
// Opens the image read-only and checks and compares it; then opens it for writing, which must show
// the same. `event`: the moment of the cut.
Contents examine(const StoreKind& kind, const SparseBytes& image, const Recording& recording,
                 Event event);
// The same with another judge of what was read.
Contents examine(const StoreKind& kind, const SparseBytes& image, Event event,
                 const std::function<void(const Contents&)>& judge);
Contents read_contents(Store& store);
// A violation unless both are the same.
void compare(const Contents& expected, const Contents& found, const std::string& what);
// The model of a run that begins on an image with these contents.
Model model_of(const Contents& contents);

}  // namespace coppice::sim
