// Where the checker's parts hand in what they find.
#pragma once

#include <cstdint>
#include <utility>

#include "format/check/checker.h"

namespace coppice::checker {

class Findings {
public:
    Findings(const CheckOptions& options, CheckReport& report) : options_(options), report_(report)
    {
    }

    void add(Finding finding)
    {
        std::uint64_t& count = counter(finding.severity);
        ++count;
        // A broken image may have millions; the first ones tell the story, all are counted.
        if (report_.findings.size() >= options_.max_findings) {
            return;
        }
        if (options_.on_finding) {
            options_.on_finding(finding);
        }
        report_.findings.push_back(std::move(finding));
    }

    void progress(std::string_view phase, std::uint64_t done, std::uint64_t total)
    {
        if (options_.on_progress) {
            options_.on_progress({phase, done, total});
        }
    }

    bool full() const { return report_.findings.size() >= options_.max_findings; }
    std::uint64_t limit() const { return options_.max_findings; }
    CheckReport& report() { return report_; }
    const CheckOptions& options() const { return options_; }

private:
    std::uint64_t& counter(Severity severity)
    {
        switch (severity) {
        case Severity::leak: return report_.leaks;
        case Severity::repairable: return report_.repairables;
        case Severity::corruption: break;
        }
        return report_.corruptions;
    }

    const CheckOptions& options_;
    CheckReport& report_;
};

}  // namespace coppice::checker
