// Which changes survived a cut, found out from the contents that it left.
//
// Each change is there as a whole or not at all, and what is there shows on top of what was done to
// the same sectors before. So what was found says of some changes that they are not there:
//   * the last one there that changed a sector has left what was found in it;
//   * in one order (a volume's own or, in a consistency group, that of all of them; a stream's)
//     nothing is there without what was answered before it was asked for;
//   * what changed a part of a block is there only with what other orders had done to the block,
//   and
//     a clone, also one into a transaction, with what they had done to what it copied;
//   * what lies behind an ordered flush is there only with all that lies before it;
//   * management only with everything that was answered before it.
// All of these have the form "this is there only with those", or "... with one of those". Of all
// sets of changes that fulfil such rules one contains all the others: it is what is left when
// everything is struck out that cannot be there, until nothing more can be struck out. Whether
// that explains the contents, and has all that is durable, decides exactly.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "format/sim/model.h"
#include "format/volume/store.h"

namespace coppice::sim {

// Volumes as a freshly opened image shows them.
struct Contents {
    struct Entry {
        VolumeInfo info;
        Stamps stamps;
    };
    std::map<std::uint64_t, Entry> volumes;
};

// A change that may be there, or one outcome of a contest.
struct Survivor {
    const Change* change = nullptr;
    VolumeId volume;
    std::size_t order = 0;
    Event asked = 0;
    Event answered = kNever;
    bool required = false;             // it is durable
    bool takes_all = false;            // management
    bool out = false;                  // it is not there
    bool shown = false;                // a sector shows what only it wrote
    std::vector<std::size_t> part_of;  // others' changes of blocks that it changed in part
    std::vector<std::size_t> copied;   // ... and of what it copied

    struct Reason {
        enum class Kind : std::uint8_t { none, sector, order, built_on, ordered_flush, management };
        Kind kind = Kind::none;
        std::size_t other = 0;     // which is not there either
        std::uint64_t sector = 0;  // which holds something else
    };
    Reason reason;  // why it is not there
};

class Survivors {
public:
    // `all_before`: what was answered before this is durable.
    Survivors(const Model& model, const Contents& contents, Event event, Event all_before);

    // Why no set of changes explains the contents; "" if one does.
    std::string settle();

    const std::vector<Survivor>& changes() const { return survivors_; }
    // Answered, and may be lost: nothing made it durable.
    bool pending(const Survivor& survivor) const
    {
        return survivor.answered <= event_ && !survivor.required;
    }

    // What was done to one sector, the oldest first.
    struct Item {
        std::size_t survivor = 0;
        Stamp stamp = kZeroes;
        bool changes = false;  // it is not what was there before
    };
    struct Column {
        std::vector<Item> items;
        std::size_t top = 0;  // all from here on are out
    };
    // By sector; none of a volume that is not there.
    const std::vector<Column>* columns(VolumeId volume) const;

private:
    struct Sheet {
        const Volume* volume = nullptr;
        const Stamps* found = nullptr;
        const Stamps* base = nullptr;  // what is there surely
        std::vector<Column> columns;
        std::string trouble;
    };
    struct OrderKey {
        std::uint64_t group = 0;  // or
        std::uint64_t volume = 0;
        std::uint64_t stream = 0;
        auto operator<=>(const OrderKey&) const = default;
    };

    void lay_out(const Volume& volume, const Contents::Entry& found);
    void add_change(Sheet& sheet, const Change& change, ConsistencyGroup group, Event base_event);
    Survivor& add_survivor(const Volume& volume, const Change& change, ConsistencyGroup group);
    void put(Sheet& sheet, std::uint64_t first, const Stamps& stamps);
    void find_parts(std::size_t index);
    void find_sources(std::size_t index);
    void add_builders(std::size_t index, VolumeId volume, const SectorRange& range, Event before,
                      std::vector<std::size_t>& builders) const;

    bool strike(std::size_t index, Survivor::Reason reason);
    bool strike_by_sectors();
    bool strike_by_order();
    bool strike_by_what_they_are_built_on();
    bool strike_by_ordered_flushes();
    void mark_shown();
    std::string why_out(std::size_t index) const;
    std::string unexplained(const Sheet& sheet, std::uint64_t sector) const;

    const Model& model_;
    Event event_;
    Event all_before_;
    std::map<VolumeId, Sheet> sheets_;
    std::map<OrderKey, std::size_t> orders_;
    std::vector<Survivor> survivors_;
};

}  // namespace coppice::sim
