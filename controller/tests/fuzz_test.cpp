// Random commands, well-formed and not, with resets and failures in between. Nothing may crash, and
// every command that was submitted completes exactly once, unless a reset came first. A failing
// seed is printed; COPPICE_SEED=n runs that one alone, COPPICE_SEEDS=n runs that many.
#include <cstdlib>
#include <set>

#include "controller/tests/fakes.h"
#include "coppice-catch.h"

using namespace coppice;
using namespace coppice::nvme;
using namespace coppice::nvme::test;

namespace {

constexpr unsigned kQueues = 3;

class Fuzzer {
public:
    explicit Fuzzer(unsigned seed)
        : random_(seed),
          machine_(std::array{GuestManage::off, GuestManage::own, GuestManage::all}[seed % 3], seed)
    {
        scratch_ = machine_.pages.take(300);
        kept_ = machine_.pages.take(4);
        keep_structures();
        low_ = machine_.pages.next();
        bring_up();
    }

    void run(unsigned steps)
    {
        for (unsigned i = 0; i < steps; ++i) {
            one();
        }
        machine_.store.fail_io.reset();
        machine_.host.action = ErrorAction::report;
        machine_.controller->start();
        machine_.controller->retry_failed();
        settle();
        // Everything but the parked event requests has completed.
        for (unsigned q = 0; q < outstanding_.size(); ++q) {
            INFO("queue " << q);
            REQUIRE(outstanding_[q].empty());
        }
        REQUIRE(machine_.host.mapped == 0);
        REQUIRE(machine_.host.begun == 0);
        REQUIRE_FALSE(machine_.controller->busy());
        REQUIRE((machine_.read32(kRegisterCsts) & 3) == 1);
    }

private:
    unsigned below(unsigned limit) { return static_cast<unsigned>(random_() % limit); }
    bool chance(unsigned percent) { return below(100) < percent; }

    void bring_up()
    {
        machine_.pages.reset(low_);
        machine_.next_id = 0;
        machine_.enable(2 + below(60));
        for (auto& set : outstanding_) {
            set.clear();
        }
        events_.clear();
        queues_.clear();
        for (unsigned q = 1; q <= kQueues; ++q) {
            queues_.push_back(machine_.create_queue(static_cast<std::uint16_t>(q), 2 + below(40),
                                                    static_cast<std::uint16_t>(q)));
        }
    }

    DriverQueue& queue(unsigned index) { return index == 0 ? machine_.admin : queues_[index - 1]; }

    void settle()
    {
        for (bool any = true; any;) {
            machine_.run();
            any = false;
            for (unsigned q = 0; q <= kQueues; ++q) {
                any = reap(q) || any;
            }
        }
    }

    bool reap(unsigned index)
    {
        bool any = false;
        while (const auto done = machine_.reap(queue(index))) {
            any = true;
            INFO("queue " << index << " command " << done->command_id.get());
            const bool known = outstanding_[index].erase(done->command_id) == 1 ||
                               (index == 0 && events_.erase(done->command_id) == 1);
            REQUIRE(known);
        }
        return any;
    }

    std::uint64_t address()
    {
        switch (below(12)) {
        case 0: return random_() * std::uint64_t{0x100000001};
        case 1: return scratch_ + below(4096);
        case 2: return FakeHost::kMemoryBytes - 4096 * below(3);
        default: return scratch_ + 4096 * below(290);
        }
    }

    void scribble()
    {
        // Lists of addresses, ranges, names and numbers, so that data structures make some sense.
        const std::uint64_t at = scratch_ + 4096 * below(290);
        for (unsigned i = 0; i < 512; ++i) {
            std::uint64_t value = below(4) == 0 ? address() : below(2000);
            if (chance(10)) {
                value = random_() * std::uint64_t{0x100000001};
            }
            machine_.put(at + 8 * i, Le64(value));
        }
    }

    // Arguments that a sane host would give, most of the time.
    void shape_admin(SubmissionEntry& entry)
    {
        static constexpr std::uint32_t kCns[] = {0, 1, 2, 3, 6, 8, 0x10, 0x11, 0x12, 0x13, 0x1c};
        static constexpr std::uint32_t kPages[] = {0, 1, 2, 3, 4, 5, 0x12, 0x13};
        static constexpr std::uint32_t kFeatures[] = {1, 2, 4, 5, 6, 7, 8, 9, 0xa, 0xb, 0xe, 0x16};
        entry.cdw10 = static_cast<std::uint32_t>(random_());
        entry.cdw11 = chance(50) ? below(5) : static_cast<std::uint32_t>(random_());
        if (chance(10)) {
            return;
        }
        entry.cdw11 = 0;
        switch (static_cast<AdminOpcode>(entry.opcode)) {
        case AdminOpcode::identify: entry.cdw10 = kCns[below(std::size(kCns))]; break;
        case AdminOpcode::get_log_page:
            entry.cdw10 = kPages[below(std::size(kPages))] | below(2) << 15 | below(300) << 16;
            entry.cdw12 = 4 * below(40);
            entry.nsid = kNsidAll;
            break;
        case AdminOpcode::set_features:
        case AdminOpcode::get_features:
            entry.cdw10 = kFeatures[below(std::size(kFeatures))] | below(4) << 8;
            entry.cdw11 = below(0x200);
            entry.nsid = chance(80) ? 0 : entry.nsid.get();
            break;
        case AdminOpcode::abort: entry.cdw10 = below(200) << 16; break;
        case AdminOpcode::namespace_management:
            entry.cdw10 = below(2);
            entry.prp1 = kept_ + 2 * kPageBytes;
            break;
        case AdminOpcode::namespace_attachment:
            entry.cdw10 = below(2);
            entry.prp1 = kept_ + kPageBytes;
            break;
        case AdminOpcode::snapshot_create:
        case AdminOpcode::clone: {
            NameData name;
            name.name[0] = static_cast<char>('a' + below(26));
            name.name[1] = static_cast<char>('a' + below(26));
            machine_.put(kept_, name);
            entry.prp1 = kept_;
            break;
        }
        case AdminOpcode::snapshot_list: entry.cdw10 = 15 + below(1000); break;
        case AdminOpcode::rollback:
            entry.cdw10 = below(12);
            entry.cdw11 = below(2);
            break;
        case AdminOpcode::set_flush_mode:
        case AdminOpcode::set_group: entry.cdw10 = below(3); break;
        case AdminOpcode::checkpoint: entry.nsid = chance(80) ? 0 : entry.nsid.get(); break;
        default: break;  // no arguments
        }
    }

    // Data structures that stay as they are: a name, a controller list, a namespace to make, and
    // ranges to copy.
    void keep_structures()
    {
        ControllerList list;
        list.count = 1;
        machine_.put(kept_ + kPageBytes, list);
        IdentifyNamespace wanted;
        wanted.nsze = 64;
        wanted.ncap = 64;
        wanted.flbas = 1;
        machine_.put(kept_ + 2 * kPageBytes, wanted);
        for (unsigned i = 0; i < kPageBytes / sizeof(CopyRange); ++i) {
            CopyRange range;
            range.source_nsid = 1 + below(2);
            range.start_lba = below(1000);
            range.blocks_z = static_cast<std::uint16_t>(below(4));
            machine_.put(kept_ + 3 * kPageBytes + i * sizeof(CopyRange), range);
        }
    }

    SubmissionEntry entry(bool admin)
    {
        static constexpr std::uint8_t kAdmin[] = {0x02, 0x06, 0x06, 0x08, 0x09, 0x0a,
                                                  0x0c, 0x0d, 0x15, 0xc1, 0xc2, 0xc4,
                                                  0xc5, 0xc8, 0xcc, 0xd0, 0xd4};
        static constexpr std::uint8_t kIo[] = {0x00, 0x01, 0x01, 0x02, 0x02, 0x05, 0x08, 0x09,
                                               0x0c, 0x19, 0x80, 0x81, 0x82, 0x88, 0x89, 0x90,
                                               0x91, 0x94, 0x99, 0xa0, 0xa4, 0xa8};
        SubmissionEntry entry;
        entry.opcode = admin ? kAdmin[below(sizeof(kAdmin))] : kIo[below(sizeof(kIo))];
        if (chance(3)) {
            entry.opcode = static_cast<std::uint8_t>(random_());
        }
        // Queues are the test's own: it could not follow what happens to them.
        if (admin && (entry.opcode == 0x00 || entry.opcode == 0x01 || entry.opcode == 0x04 ||
                      entry.opcode == 0x05)) {
            entry.opcode = 0x06;
        }
        entry.flags = chance(2) ? static_cast<std::uint8_t>(random_()) : std::uint8_t{0};
        entry.nsid = chance(80)   ? 1 + below(2)
                     : chance(60) ? below(12)
                                  : (chance(50) ? kNsidAll : static_cast<std::uint32_t>(random_()));
        if (admin) {
            entry.nsid = chance(60) ? 1 + below(12) : entry.nsid.get();
        }
        entry.prp1 = address();
        entry.prp2 = address();
        const auto number = [&](unsigned usual) {
            return chance(85) ? below(usual) : static_cast<std::uint32_t>(random_());
        };
        entry.cdw13 = number(2);
        entry.cdw14 = number(2);
        if (admin) {
            shape_admin(entry);
        } else {
            const auto opcode = static_cast<IoOpcode>(entry.opcode);
            entry.cdw10 = number(opcode == IoOpcode::dataset_management ? 8 : 1100);
            entry.cdw11 = opcode == IoOpcode::dataset_management ? 4 : (chance(97) ? 0 : number(9));
            entry.cdw12 = chance(80) ? below(3) : number(300);
            if (opcode == IoOpcode::copy && chance(70)) {
                entry.prp1 = kept_ + 3 * kPageBytes;
            }
            if (entry.opcode >= kTaggedOpcode) {
                shape_tag(entry);
            }
        }
        return entry;
    }

    // Mostly a stream or a transaction that is or was open; sometimes both, or anything.
    void shape_tag(SubmissionEntry& entry)
    {
        entry.cdw14 = chance(50) ? 0 : below(20);
        entry.cdw15 = chance(60) ? 0 : below(20);
        if (chance(2)) {
            entry.cdw15 = static_cast<std::uint32_t>(random_());
        }
        if (static_cast<IoOpcode>(entry.opcode) == IoOpcode::write_ranges && chance(70)) {
            entry.cdw10 = below(4);
            WriteRange range;
            range.blocks = 1 + below(3);
            for (std::size_t i = 0; i < 4; ++i) {
                range.start_lba = below(1000);
                machine_.put(kept_ + 3 * kPageBytes + i * sizeof(WriteRange), range);
            }
            entry.prp1 = kept_ + 3 * kPageBytes;
        }
    }

    void submit()
    {
        const unsigned index = below(kQueues + 1);
        DriverQueue& to = queue(index);
        // A driver does not use a command id twice, nor fill the queue beyond what is free.
        const unsigned count = below(8);
        for (unsigned i = 0; i < count; ++i) {
            const std::size_t used = outstanding_[index].size() + (index == 0 ? events_.size() : 0);
            if (used + 1 >= to.entries) {
                break;
            }
            const SubmissionEntry one_entry = entry(index == 0);
            const std::uint16_t id = machine_.submit(to, one_entry, false);
            if (index == 0 && one_entry.opcode == 0x0c) {
                events_.insert(id);
            } else {
                outstanding_[index].insert(id);
            }
        }
        machine_.ring(to);
    }

    void one()
    {
        switch (below(20)) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4: submit(); break;
        case 5: scribble(); break;
        case 6: settle(); break;
        case 7: rarely(); break;
        case 8: reap(below(kQueues + 1)); break;
        default:
            for (unsigned i = below(6); i > 0; --i) {
                machine_.step();
            }
        }
    }

    void rarely()
    {
        switch (below(16)) {
        case 0: machine_.controller->stop(); break;
        case 1:
        case 2: machine_.controller->start(); break;
        case 3: machine_.store.fail_io = static_cast<ErrorCode>(below(15)); break;
        case 4:
        case 5: machine_.store.fail_io.reset(); break;
        case 6: machine_.host.action = static_cast<ErrorAction>(below(3)); break;
        case 7: machine_.controller->retry_failed(); break;
        case 8: machine_.store.fail_manage = static_cast<ErrorCode>(below(12)); break;
        case 9: machine_.host.refuse_maps = chance(50); break;
        case 10:
            machine_.host.most_mapped_at_once = chance(50) ? 1 + below(9000) : ~std::size_t{0};
            break;
        case 11: machine_.controller->rescan(); break;
        case 12: restart(); break;
        case 13: shut_down(); break;
        case 14: bad_doorbells(); break;
        default: break;
        }
    }

    void restart()
    {
        machine_.controller->start();
        if (chance(50)) {
            machine_.write32(kRegisterCc, 0);
        } else {
            machine_.controller->reset();
        }
        machine_.run();
        REQUIRE(machine_.read32(kRegisterCsts) == 0);
        bring_up();
    }

    void shut_down()
    {
        machine_.controller->start();
        machine_.store.fail_io.reset();
        machine_.write32(kRegisterCc, 0x00464001);
        machine_.run();
        machine_.controller->retry_failed();
        machine_.run();
        REQUIRE(csts_shutdown(machine_.read32(kRegisterCsts)) == 2);
        restart();
    }

    // What a broken driver writes: no crash, and a reset puts all right.
    void bad_doorbells()
    {
        for (unsigned i = below(20); i > 0; --i) {
            machine_.write32(kDoorbells + 4 * below(140), below(chance(80) ? 70 : 100'000));
            machine_.step();
        }
        restart();
    }

    std::mt19937 random_;
    Machine machine_;
    std::uint64_t scratch_ = 0;
    std::uint64_t kept_ = 0;
    std::uint64_t low_ = 0;
    std::vector<DriverQueue> queues_;
    std::array<std::set<std::uint16_t>, kQueues + 1> outstanding_;
    std::set<std::uint16_t> events_;
};

unsigned from_environment(const char* name, unsigned otherwise)
{
    const char* text = std::getenv(name);
    return text == nullptr ? otherwise : static_cast<unsigned>(std::strtoul(text, nullptr, 10));
}

}  // namespace

TEST_CASE("random commands complete exactly once")
{
    const unsigned only = from_environment("COPPICE_SEED", 0);
    const unsigned seeds = from_environment("COPPICE_SEEDS", 60);
    for (unsigned seed = only != 0 ? only : 1; seed <= (only != 0 ? only : seeds); ++seed) {
        INFO("COPPICE_SEED=" << seed);
        Fuzzer fuzzer(seed);
        fuzzer.run(600);
    }
}
