// Keeps the operations of a workload from meeting where the model could not tell their order: a
// change has its sectors alone, a read or the source of a clone shares them, and what replaces or
// removes a whole volume has the volume alone.
#pragma once

#include <cstdint>
#include <list>
#include <vector>

#include "format/disk/tasks.h"
#include "format/sim/model.h"

namespace coppice::sim {

struct Hold {
    enum class Kind : std::uint8_t {
        volume_shared,  // it stays as it is, its sectors may change
        volume_alone,
        sectors_shared,
        sectors_alone,
    };
    Kind kind = Kind::volume_shared;
    VolumeId volume;
    SectorRange sectors{};
};

class LockTable {
public:
    explicit LockTable(Tasks& tasks) : changed_(tasks) {}

    class Held;
    // Waits until all of them can be had together (so that nobody waits holding something).
    Held take(std::vector<Hold> holds);

private:
    using Entry = std::list<std::vector<Hold>>::iterator;

    static bool conflict(const Hold& a, const Hold& b);
    bool is_free(const std::vector<Hold>& holds) const;

    std::list<std::vector<Hold>> held_;
    WaitQueue changed_;

public:
    class Held {
    public:
        Held(LockTable& table, Entry entry) : table_(&table), entry_(entry) {}
        Held(const Held&) = delete;
        Held& operator=(const Held&) = delete;
        ~Held()
        {
            table_->held_.erase(entry_);
            table_->changed_.wake_all();
        }

    private:
        LockTable* table_;
        Entry entry_;
    };
};

inline bool LockTable::conflict(const Hold& a, const Hold& b)
{
    if (a.volume != b.volume) {
        return false;
    }
    using Kind = Hold::Kind;
    if (a.kind == Kind::volume_alone || b.kind == Kind::volume_alone) {
        return true;
    }
    if (a.kind == Kind::volume_shared || b.kind == Kind::volume_shared) {
        return false;
    }
    return (a.kind == Kind::sectors_alone || b.kind == Kind::sectors_alone) &&
           overlap(a.sectors, b.sectors);
}

inline bool LockTable::is_free(const std::vector<Hold>& holds) const
{
    for (const std::vector<Hold>& others : held_) {
        for (const Hold& other : others) {
            for (const Hold& wanted : holds) {
                if (conflict(wanted, other)) {
                    return false;
                }
            }
        }
    }
    return true;
}

inline LockTable::Held LockTable::take(std::vector<Hold> holds)
{
    while (!is_free(holds)) {
        changed_.wait();
    }
    held_.push_back(std::move(holds));
    return Held(*this, std::prev(held_.end()));
}

}  // namespace coppice::sim
