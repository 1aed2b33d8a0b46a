// A raw submission entry becomes a typed command once, here. What a command means regardless of any
// namespace is checked in the parser (reserved values, directions, fields that are zero-based);
// what depends on a namespace is checked where the command is executed.
//
// NVM Express Base Specification 2.0, section 5; NVM Command Set Specification 1.0, section 3.2.
#pragma once

#include <cstdint>
#include <variant>

#include "controller/spec/admin.h"
#include "controller/spec/command.h"
#include "controller/spec/status.h"
#include "controller/transfer.h"

namespace coppice::nvme {

// ---- I/O commands -------------------------------------------------------------------------

struct BlockRange {
    std::uint64_t start = 0;  // in the namespace's LBAs
    std::uint64_t blocks = 0;
};

struct FlushCommand {};
struct ReadCommand {
    BlockRange range;
};
struct WriteCommand {
    BlockRange range;
    bool fua = false;
};
struct CompareCommand {
    BlockRange range;
};
struct VerifyCommand {
    BlockRange range;
};
struct WriteZeroesCommand {
    BlockRange range;
    bool deallocate = false;
    bool fua = false;
};
struct DatasetCommand {
    std::uint32_t ranges = 0;
    bool deallocate = false;
};
struct CopyCommand {
    std::uint64_t destination = 0;
    std::uint32_t ranges = 0;
    unsigned format = 0;
    bool fua = false;
};
struct StreamOpenCommand {};
struct StreamCloseCommand {};  // the stream is in the tag, as the transaction of those below
struct TransactionBeginCommand {};
struct TransactionCommitCommand {
    bool fua = false;
};
struct TransactionAbortCommand {};
struct WriteRangesCommand {
    std::uint32_t ranges = 0;
    bool fua = false;
};
using IoCommand =
    std::variant<FlushCommand, ReadCommand, WriteCommand, CompareCommand, VerifyCommand,
                 WriteZeroesCommand, DatasetCommand, CopyCommand, StreamOpenCommand,
                 StreamCloseCommand, TransactionBeginCommand, TransactionCommitCommand,
                 TransactionAbortCommand, WriteRangesCommand>;

// What a command is a part of: a stream or a transaction of its namespace, never both. 0: neither.
struct Tag {
    std::uint16_t stream = 0;
    std::uint32_t transaction = 0;
};

struct TaggedIo {
    IoCommand command;
    Tag tag;
};

// `vendor`: there are streams and transactions; else those opcodes do not exist.
Checked<TaggedIo> parse_io(const SubmissionEntry& entry, bool vendor);

// ---- Admin commands -----------------------------------------------------------------------

struct DeleteSqCommand {
    std::uint16_t id = 0;
};
struct DeleteCqCommand {
    std::uint16_t id = 0;
};
struct CreateCqCommand {
    std::uint16_t id = 0;
    std::uint32_t entries = 0;
    std::uint64_t base = 0;
    std::uint16_t vector = 0;
    bool interrupts = false;
    bool contiguous = false;
};
struct CreateSqCommand {
    std::uint16_t id = 0;
    std::uint32_t entries = 0;
    std::uint64_t base = 0;
    std::uint16_t completion_queue = 0;
    bool contiguous = false;
};
struct LogCommand {
    std::uint8_t page = 0;
    std::uint64_t length_bytes = 0;
    std::uint64_t offset_bytes = 0;
    bool retain_event = false;
};
struct IdentifyCommand {
    std::uint8_t cns = 0;
    std::uint16_t controller = 0;
    std::uint8_t command_set = 0;
};
struct AbortCommand {
    std::uint16_t queue = 0;
    std::uint16_t command = 0;
};
struct SetFeatureCommand {
    std::uint8_t id = 0;
    bool save = false;
    std::uint32_t value = 0;  // CDW11
};
struct GetFeatureCommand {
    std::uint8_t id = 0;
    FeatureSelect select = FeatureSelect::current;
    std::uint32_t value = 0;  // CDW11
};
struct AsyncEventCommand {};
struct NamespaceCreateCommand {};
struct NamespaceDeleteCommand {};
struct NamespaceAttachCommand {
    bool attach = false;
};
struct SnapshotCreateCommand {
    bool group = false;  // of all volumes of the namespace's group
};
struct SnapshotListCommand {
    std::uint64_t length_bytes = 0;
};
struct SnapshotDeleteCommand {};
struct CloneCommand {};
struct RollbackCommand {
    std::uint32_t snapshot = 0;
    bool force = false;
};
struct CheckpointCommand {};
struct SetFlushModeCommand {
    bool ordered = false;
};
struct SetGroupCommand {
    std::uint8_t group = 0;
};
using AdminCommand =
    std::variant<DeleteSqCommand, DeleteCqCommand, CreateCqCommand, CreateSqCommand, LogCommand,
                 IdentifyCommand, AbortCommand, SetFeatureCommand, GetFeatureCommand,
                 AsyncEventCommand, NamespaceCreateCommand, NamespaceDeleteCommand,
                 NamespaceAttachCommand, SnapshotCreateCommand, SnapshotListCommand,
                 SnapshotDeleteCommand, CloneCommand, RollbackCommand, CheckpointCommand,
                 SetFlushModeCommand, SetGroupCommand>;

// `management`: the guest may manage namespaces at all; else those opcodes do not exist.
Checked<AdminCommand> parse_admin(const SubmissionEntry& entry, bool management);

inline DataPointer data_pointer(const SubmissionEntry& entry) { return {entry.prp1, entry.prp2}; }

}  // namespace coppice::nvme
