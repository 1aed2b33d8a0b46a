// What recovery would make of the journal, in a model of its own.
//
// The model keeps, for each volume, only what operations behind the superblock have put there: runs
// of lba on blocks that the trees do not know. That is enough to judge them: what a superblock
// reaches is not re-used before the next one, so a block that a replayed write names must be in use
// neither in the trees nor by what the replay has put somewhere and not taken away again.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "format/check/catalog.h"
#include "format/check/journal_scan.h"

namespace coppice::checker {

// Counted users of blocks, as runs.
class BlockUsers {
public:
    void add(std::uint64_t start, std::uint64_t end) { change(start, end, 1); }
    void remove(std::uint64_t start, std::uint64_t end) { change(start, end, -1); }
    // Is any block of the run in use?
    bool any(std::uint64_t start, std::uint64_t end) const;

private:
    void split(std::uint64_t at);
    void change(std::uint64_t start, std::uint64_t end, std::int64_t by);

    struct Run {
        std::uint64_t end;
        std::int64_t users;
    };
    std::map<std::uint64_t, Run> runs_;
};

class JournalReplay {
public:
    JournalReplay(Image& image, JournalScan& scan, const Catalog& catalog, SpaceCount& space,
                  Findings& findings)
        : image_(image), scan_(scan), catalog_(catalog), space_(space), findings_(findings)
    {
    }

    // Verifies and applies the commits that the scan found; stops where recovery would.
    void run(bool apply);

private:
    struct Placed {
        std::uint64_t length;
        std::uint64_t block;
    };
    using Overlay = std::map<std::uint64_t, Placed>;  // by lba; runs do not overlap
    struct VolumeModel {
        bool snapshot = false;
        std::uint64_t size_blocks = 0;
        Overlay placed;
    };

    // The operations of a domain, and the own ones of the volumes of a group, stand in the journal
    // in ascending sequence.
    class Orders {
    public:
        void load(const Catalog& catalog);
        // Takes the next operation; the sequence that should not have come before it, or 0.
        std::uint64_t take(const JournalOperation& operation);

    private:
        std::map<std::pair<std::uint32_t, std::uint16_t>, std::uint64_t> last_;  // of each domain
        std::map<std::uint32_t, std::uint64_t> last_of_group_;
        std::map<std::uint32_t, std::uint32_t> groups_;  // of volumes
    };

    // An operation that counts; its payload if it is not of a write.
    struct Gathered {
        std::uint64_t commit;
        bool synced;
        JournalOperation operation;
        std::vector<std::byte> payload;
    };

    void load_volumes();
    void verify_placed();
    void verify_block(const JournalOperation& operation, std::uint64_t index, Block& buffer);
    void gather();
    void apply(std::uint64_t commit, const JournalOperation& operation);
    void report_operation(std::uint64_t commit, const JournalOperation& operation,
                          const std::string& wrong);
    std::string apply_to_model(const JournalOperation& operation);
    std::string apply_write(const layout::OperationRecord& record, VolumeModel& volume);
    std::string apply_clone(const layout::OperationRecord& record, VolumeModel& target);
    std::string apply_clone_reference(const layout::OperationRecord& record, VolumeModel& target);
    std::string apply_snapshot(const JournalOperation& operation, VolumeModel& volume);
    std::string apply_create(const JournalOperation& operation);
    std::string apply_rollback(const layout::OperationRecord& record, VolumeModel& target);
    std::string apply_change(const JournalOperation& operation, VolumeModel& volume);
    VolumeModel* volume(std::uint32_t id);
    void cut(VolumeModel& volume, std::uint64_t lba, std::uint64_t length);
    void place(VolumeModel& volume, std::uint64_t lba, std::uint64_t block, std::uint64_t length);
    bool copy_all(const VolumeModel& from, VolumeModel& to);
    std::string new_volume(std::uint64_t id, const layout::VolumeRecord& record);

    Image& image_;
    JournalScan& scan_;
    const Catalog& catalog_;
    SpaceCount& space_;
    Findings& findings_;
    std::map<std::uint32_t, VolumeModel> volumes_;
    std::vector<Gathered> gathered_;
    BlockUsers users_;
    std::uint64_t copied_ = 0;  // runs copied for snapshots and clones: bounds the memory
    bool stopped_ = false;
    bool synced_ = false;  // a completed sync covers the commit at hand
};

}  // namespace coppice::checker
