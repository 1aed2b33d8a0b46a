// The state that a checkpoint writes down, and what the parts of the checkpoint do to it: what goes
// loses its references, items go into the trees of the image.
#pragma once

#include "format/volume/state.h"

namespace coppice {

struct Frozen {
    Generation generation;
    Sequence sequence;
    Catalog catalog;
    JournalPosition journal;
    DropList drops;
    ExtentList freed;  // data that nothing has any more

    // Of a tree of the image.
    Change change(State& state) const
    {
        return {state.space, generation, sequence, Sequence(), ListId()};
    }
};

// What a version alone had is gone: a reference of data blocks, a node, or blocks of what a range
// reference held. (task)
Status drop_reference(State& state, Frozen& frozen, const Drop& drop);

// Puts an item into a tree of the image, or takes the one of that key out (null), with space for
// the nodes. (task)
Status edit_item(State& state, const Frozen& frozen, Tree& tree, NodeRef& root, const Key& key,
                 const std::byte* item);

}  // namespace coppice
