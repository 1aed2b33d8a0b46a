// coppice check
#include <fmt/format.h>

#include "format/check/checker.h"
#include "images/text.h"
#include "images/tool.h"

namespace coppice::images {

namespace {

Json finding_json(const Finding& finding)
{
    Json json = {{"severity", severity_name(finding.severity)},
                 {"kind", finding_name(finding.kind)},
                 {"text", finding.text}};
    if (!finding.tree.empty()) {
        json["tree"] = finding.tree;
    }
    if (finding.blocks != 0) {
        json["block"] = finding.block;
        json["blocks"] = finding.blocks;
    }
    if (!finding.volume.empty()) {
        json["volume"] = finding.volume;
    }
    if (finding.lba_blocks != 0) {
        json["lba"] = finding.lba;
        json["lba_blocks"] = finding.lba_blocks;
    }
    return json;
}

Json report_json(const std::string& path, const CheckReport& report)
{
    Json findings = Json::array();
    for (const Finding& finding : report.findings) {
        findings.push_back(finding_json(finding));
    }
    return {{"image", path},
            {"clean", report.clean()},
            {"corruptions", report.corruptions},
            {"leaks", report.leaks},
            {"repairable", report.repairables},
            {"generation", report.generation},
            {"sequence", report.sequence},
            {"volumes", report.volumes},
            {"snapshots", report.snapshots},
            {"versions", report.versions},
            {"image_blocks", report.image_blocks},
            {"fixed_blocks", report.fixed_blocks},
            {"data_blocks", report.data_blocks},
            {"node_blocks", report.node_blocks},
            {"free_blocks", report.free_blocks},
            {"leaked_blocks", report.leaked_blocks},
            {"shared_blocks", report.shared_blocks},
            {"verified_blocks", report.verified_blocks},
            {"journal_commits", report.journal_commits},
            {"journal_operations", report.journal_operations},
            {"space_complete", report.space_complete},
            {"replay_complete", report.replay_complete},
            {"findings", findings}};
}

std::string blocks_text(std::uint64_t blocks) { return size_text(blocks * kBlockBytes); }

void print_summary(const CheckCommand& command, const CheckReport& report)
{
    fmt::print("{}, {}: {} of data in use ({} shared), {} of trees, {} free\n",
               plural(report.volumes, "volume"), plural(report.snapshots, "snapshot"),
               blocks_text(report.data_blocks), blocks_text(report.shared_blocks),
               blocks_text(report.node_blocks), blocks_text(report.free_blocks));
    if (report.journal_operations != 0) {
        fmt::print("journal: {} in {} to replay\n", plural(report.journal_operations, "operation"),
                   plural(report.journal_commits, "commit"));
    }
    if (command.data) {
        fmt::print("data: {} verified\n", blocks_text(report.verified_blocks));
    }
    if (report.clean()) {
        fmt::print("no problems found{}\n",
                   command.data ? "" : " (data blocks were not read; --data does that)");
        return;
    }
    fmt::print("{} found, {}, {}\n", plural(report.corruptions, "corruption"),
               plural(report.leaks, "leak"),
               fmt::format("{} repairable", count_text(report.repairables)));
    const std::uint64_t all = report.corruptions + report.leaks + report.repairables;
    if (all > report.findings.size()) {
        fmt::print("({} not shown; --max-findings shows more)\n",
                   count_text(all - report.findings.size()));
    }
    if (!report.space_complete) {
        fmt::print("damaged trees hide what they refer to: leaks were not counted\n");
    }
}

}  // namespace

int run_check(const CheckCommand& command)
{
    return with_disk(command, true, [&](FileDisk& disk) -> Result<int> {
        Progress progress;
        CheckOptions options;
        options.verify_data = command.data;
        options.max_findings = command.max_findings;
        options.on_progress = [&](const CheckProgress& now) {
            progress.show(now.phase, now.done, now.total);
        };
        if (!command.json) {
            options.on_finding = [&](const Finding& finding) {
                progress.clear();
                fmt::print("{}: {}\n", severity_name(finding.severity), printable(finding.text));
            };
        }
        COPPICE_ASSIGN(report, check(disk, options));
        progress.clear();
        if (command.json) {
            print_json(report_json(command.path, report));
        } else if (!command.quiet) {
            print_summary(command, report);
        }
        if (report.corruptions != 0) {
            return kExitCorrupt;
        }
        return report.clean() ? kExitOk : kExitLeaks;
    });
}

}  // namespace coppice::images
