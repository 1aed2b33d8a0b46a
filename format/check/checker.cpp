#include "format/check/checker.h"

#include "format/check/accounting.h"
#include "format/check/journal_replay.h"

namespace coppice {

Result<CheckReport> check(Disk& disk, const CheckOptions& options)
{
    using namespace checker;

    CheckReport report;
    Findings findings(options, report);
    Image image(disk);
    COPPICE_TRY(image.load(findings));
    report.generation = image.generation();
    report.sequence = image.sequence();
    report.image_blocks = image.image_blocks();
    report.fixed_blocks = image.fixed_blocks();

    SpaceCount space;
    NodeReader reader(image);
    NodeRegistry registry(space, findings);
    TreeWalk walk(image, reader, registry, findings);

    Catalog catalog;
    bool complete = catalog.load(image, walk, findings);
    DeadLists dead;
    const bool lists_complete = dead.load(image, walk, catalog, findings) && complete;
    Versions versions(image, reader, registry, space, catalog, dead, findings);
    complete = versions.run(lists_complete) && complete && lists_complete;
    Accounting accounting(image, walk, space, findings);
    accounting.run(complete, versions);

    JournalScan scan(image, findings);
    scan.run();
    JournalReplay replay(image, scan, catalog, space, findings);
    // Without all maps nobody can say what a replayed write collides with.
    replay.run(options.replay && report.space_complete);
    return report;
}

}  // namespace coppice
