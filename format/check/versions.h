// All versions, parents first: each map against its parent's, and with that who owns what.
//
// By the birth rule (FORMAT.md section 3) an item or node belongs to exactly one version: the one
// in whose map it is reached and whose parent has it not. So each is counted once, shared subtrees
// are never walked twice, and a wrong birth shows itself as a contradiction between the rule and
// what the two maps have.
#pragma once

#include <cstdint>
#include <functional>
#include <unordered_map>

#include "format/check/dead_lists.h"

namespace coppice::checker {

class Versions {
public:
    Versions(Image& image, NodeReader& reader, NodeRegistry& registry, SpaceCount& space,
             const Catalog& catalog, const DeadLists& dead, Findings& findings)
        : image_(image),
          reader_(reader),
          registry_(registry),
          space_(space),
          catalog_(catalog),
          dead_(dead),
          findings_(findings)
    {
    }

    // Walks all maps, counts their space and checks them. `lists_complete`: the dead tree was read
    // as a whole. False: part of a map could not be read.
    bool run(bool lists_complete);

    // Walks all maps once more, silently: who owns which blocks.
    using OnOwned = std::function<void(const VersionState& version, const MapPiece& piece)>;
    void visit_owned_data(const OnOwned& on_owned);

private:
    struct Walked {
        bool complete = true;  // map and dead lists can be compared with those of children
        std::uint64_t mapped_blocks = 0;
    };
    struct Account {  // of the version that is walked
        std::vector<DeadRecord> died;
        std::uint64_t data_new = 0;
        std::uint64_t data_died = 0;
    };

    TreeName tree_name(const VersionState& version) const;
    void walk_version(std::uint32_t id, const VersionState& version, bool lists_complete);
    MapDiffNodes compare_with_parent(const VersionState& version, const TreeName& name,
                                     const MapDiffEvents& events, Findings* findings,
                                     bool& complete);
    void take_new(const VersionState& version, const TreeName& name, const MapPiece& piece,
                  Account& account);
    void take_reference(const VersionState& version, const TreeName& name, const MapPiece& piece);
    static void take_dead(const MapPiece& piece, Account& account);
    void check_shared(const VersionState& version, const TreeName& name, const MapPiece& piece);
    void take_nodes(const VersionState& version, const TreeName& name, const MapDiffNodes& nodes,
                    Account& account);
    void check_dead(const VersionState& version, const Account& account);
    void take_pending_drops(const VersionState& version);
    void check_held();

    Image& image_;
    NodeReader& reader_;
    NodeRegistry& registry_;
    SpaceCount& space_;
    const Catalog& catalog_;
    const DeadLists& dead_;
    Findings& findings_;
    SubtreeRanges ranges_;
    std::unordered_map<std::uint32_t, Walked> walked_;
    std::unordered_map<std::uint32_t, std::uint64_t> held_;
    bool complete_ = true;
};

}  // namespace coppice::checker
