// The store under test and its checker, as the simulator wants them.
#include <fmt/format.h>

#include "format/check/checker.h"
#include "format/sim/scenario.h"

namespace coppice::sim {

namespace {

std::string check_image(const SparseBytes& image)
{
    FiberTasks tasks({.virtual_time = true});
    MemoryDisk disk(tasks, image);
    disk.set_read_only(true);
    std::string complaints;
    tasks.run([&] {
        CheckOptions options;
        options.verify_data = true;
        options.max_findings = 5;
        const Result<CheckReport> report = check(disk, options);
        if (!report) {
            complaints = report.error().text;
            return;
        }
        for (const Finding& finding : report->findings) {
            // A cut between the two writes of a superblock leaves one copy behind; the other
            // serves.
            if (finding.severity == Severity::repairable &&
                finding.kind == FindingKind::superblock) {
                continue;
            }
            complaints += fmt::format("{} {}: {}; ", severity_name(finding.severity),
                                      finding_name(finding.kind), finding.text);
        }
    });
    return complaints;
}

}  // namespace

StoreKind real_store()
{
    StoreKind kind;
    kind.create = [](Disk& disk, const CreateOptions& options) {
        return Store::create(disk, options);
    };
    kind.open = [](Disk& disk, const OpenOptions& options) { return Store::open(disk, options); };
    kind.check = check_image;
    return kind;
}

}  // namespace coppice::sim
