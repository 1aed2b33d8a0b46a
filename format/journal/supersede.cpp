#include "format/journal/supersede.h"

#include <algorithm>
#include <map>

#include "format/base/rules.h"

namespace coppice {

namespace {

// Ranges that later operations of a volume overwrite: begin -> end, neither touching nor
// overlapping.
class Covered {
public:
    bool contains(std::uint64_t begin, std::uint64_t end) const
    {
        auto next = ranges_.upper_bound(begin);
        return next != ranges_.begin() && std::prev(next)->second >= end;
    }

    void add(std::uint64_t begin, std::uint64_t end)
    {
        auto next = ranges_.upper_bound(begin);
        if (next != ranges_.begin() && std::prev(next)->second >= begin) {
            --next;
            begin = next->first;
        }
        while (next != ranges_.end() && next->first <= end) {
            end = std::max(end, next->second);
            next = ranges_.erase(next);
        }
        ranges_.emplace(begin, end);
    }

private:
    std::map<std::uint64_t, std::uint64_t> ranges_;
};

bool replaces(layout::OperationType type)
{
    return type == layout::OperationType::write || type == layout::OperationType::deallocate ||
           type == layout::OperationType::write_zeroes;
}

}  // namespace

std::vector<JournalOperation> supersede(std::vector<JournalOperation>& operations)
{
    std::map<VolumeId, Covered> covered;
    std::vector<bool> taken(operations.size());
    bool any = false;
    for (std::size_t i = operations.size(); i-- > 0;) {
        const auto& record = operations[i].record;
        if (!replaces(operations[i].type())) {
            if (obeys(Rule::supersede_up_to_barrier)) {
                covered.clear();
            }
            continue;
        }
        Covered& later = covered[operations[i].volume()];
        const std::uint64_t end = record.lba + record.length;
        taken[i] = later.contains(record.lba, end);
        any = any || taken[i];
        later.add(record.lba, end);
    }
    std::vector<JournalOperation> result;
    if (!any) {
        return result;
    }
    std::vector<JournalOperation> kept;
    bool kept_of_command = false;
    for (std::size_t i = 0; i < operations.size(); ++i) {
        const bool ends = !operations[i].continues();
        if (taken[i]) {
            // The part before it ends the command if this one did.
            if (ends && kept_of_command) {
                kept.back().record.flags = static_cast<std::uint8_t>(
                    kept.back().record.flags & ~unsigned{layout::kOperationContinues});
            }
            result.push_back(std::move(operations[i]));
        } else {
            kept.push_back(std::move(operations[i]));
            kept_of_command = true;
        }
        kept_of_command = kept_of_command && !ends;
    }
    operations = std::move(kept);
    return result;
}

}  // namespace coppice
