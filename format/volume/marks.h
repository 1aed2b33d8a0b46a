// Who has a change of blocks prepared, and whether somebody else's change of these blocks took
// effect meanwhile.
#pragma once

#include <list>

#include "format/volume/overlay.h"

namespace coppice {

class Marks {
public:
    struct Watch {
        VolumeId volume;
        const Overlay* staged = nullptr;
        const Overlay* claimed = nullptr;  // by a change that is being prepared; null: none
        // Something took effect on blocks of `staged`, of `claimed`; the first of them.
        bool hit = false;
        bool claim_hit = false;
        Lba where{};
    };
    using Handle = std::list<Watch>::iterator;

    Handle add(const Watch& watch) { return watches_.insert(watches_.end(), watch); }
    void remove(Handle handle) { watches_.erase(handle); }

    // Blocks [begin, end) of a volume are no longer what they were.
    void note(VolumeId volume, Lba begin, Lba end)
    {
        for (Watch& watch : watches_) {
            if (watch.volume != volume) {
                continue;
            }
            const bool staged = watch.staged->touches(begin, end);
            const bool claimed = watch.claimed != nullptr && watch.claimed->touches(begin, end);
            if ((staged || claimed) && !watch.hit && !watch.claim_hit) {
                watch.where = begin;
            }
            watch.hit = watch.hit || staged;
            watch.claim_hit = watch.claim_hit || claimed;
        }
    }

private:
    std::list<Watch> watches_;
};

}  // namespace coppice
