#include "controller/parse.h"

#include <optional>

#include "format/volume/store.h"

namespace coppice::nvme {

namespace {

// What holds for every command: no fused operations (FUSES 0), data by PRPs only (SGLS 0).
Checked<void> check_flags(const SubmissionEntry& entry)
{
    if (entry.fuse() != 0 || entry.psdt() != 0) {
        return refuse(StatusCode::invalid_field);
    }
    return {};
}

BlockRange range_of(const SubmissionEntry& entry)
{
    return {join(entry.cdw10, entry.cdw11), std::uint64_t{IoDword12{entry.cdw12}.blocks_z()} + 1};
}

Checked<IoCommand> parse_copy(const SubmissionEntry& entry)
{
    const CopyDword12 fields{entry.cdw12};
    if (fields.directive() != 0) {
        return refuse(StatusCode::invalid_field);
    }
    return CopyCommand{join(entry.cdw10, entry.cdw11), fields.ranges_z() + 1,
                       fields.descriptor_format(), fields.force_unit_access()};
}

Checked<AdminCommand> parse_get_feature(const SubmissionEntry& entry)
{
    const std::uint32_t select = feature_select(entry.cdw10);
    if (select > static_cast<std::uint32_t>(FeatureSelect::supported)) {
        return refuse(StatusCode::invalid_field);
    }
    return GetFeatureCommand{feature_id(entry.cdw10), static_cast<FeatureSelect>(select),
                             entry.cdw11};
}

Checked<AdminCommand> parse_log(const SubmissionEntry& entry)
{
    const LogDwords fields{entry.cdw10, entry.cdw11, entry.cdw12, entry.cdw13, entry.cdw14};
    const std::uint64_t length = (fields.dwords_z() + 1) * sizeof(std::uint32_t);
    // The offset counts dwords (5.16: bits 1:0 clear), and none of our pages is indexed. A length
    // beyond MDTS is refused before anything is allocated for it.
    if (fields.offset() % 4 != 0 || fields.offset_is_index() || length > kMaxTransferBytes) {
        return refuse(StatusCode::invalid_field);
    }
    return LogCommand{fields.page(), length, fields.offset(), fields.retain_event()};
}

Checked<AdminCommand> parse_create_cq(const SubmissionEntry& entry)
{
    return CreateCqCommand{
        queue_id(entry.cdw10),  queue_entries_z(entry.cdw10) + 1, entry.prp1,
        cq_vector(entry.cdw11), cq_interrupts(entry.cdw11),       queue_contiguous(entry.cdw11)};
}

Checked<AdminCommand> parse_create_sq(const SubmissionEntry& entry)
{
    return CreateSqCommand{queue_id(entry.cdw10), queue_entries_z(entry.cdw10) + 1, entry.prp1,
                           sq_completion_queue(entry.cdw11), queue_contiguous(entry.cdw11)};
}

Checked<AdminCommand> parse_namespace_management(const SubmissionEntry& entry)
{
    switch (namespace_select(entry.cdw10)) {
    case kNamespaceCreate:
        if (identify_command_set(entry.cdw11) != 0) {  // CSI, in the same bits (5.23)
            return refuse(StatusCode::command_set_not_supported);
        }
        return NamespaceCreateCommand{};
    case kNamespaceDelete: return NamespaceDeleteCommand{};
    default: return refuse(StatusCode::invalid_field);
    }
}

Checked<AdminCommand> parse_namespace_attachment(const SubmissionEntry& entry)
{
    const std::uint32_t select = namespace_select(entry.cdw10);
    if (select != kNamespaceAttach && select != kNamespaceDetach) {
        return refuse(StatusCode::invalid_field);
    }
    return NamespaceAttachCommand{select == kNamespaceAttach};
}

Checked<AdminCommand> parse_snapshot_list(const SubmissionEntry& entry)
{
    const std::uint64_t length = (std::uint64_t{entry.cdw10} + 1) * sizeof(std::uint32_t);
    if (length > kMaxTransferBytes || length < sizeof(SnapshotListHeader)) {
        return refuse(StatusCode::invalid_field);
    }
    return SnapshotListCommand{length};
}

Checked<AdminCommand> parse_checkpoint(const SubmissionEntry& entry)
{
    // It is of the image, so it names no namespace (Base 3.2.1.2: else Invalid Field).
    if (entry.nsid != 0) {
        return refuse(StatusCode::invalid_field);
    }
    return CheckpointCommand{};
}

Checked<AdminCommand> parse_set_flush_mode(const SubmissionEntry& entry)
{
    if (entry.cdw10 > 1) {
        return refuse(StatusCode::invalid_field);
    }
    return SetFlushModeCommand{entry.cdw10 == 1};
}

Checked<AdminCommand> parse_set_group(const SubmissionEntry& entry)
{
    if (entry.cdw10 > kMaxGroup) {
        return refuse(StatusCode::invalid_field);
    }
    return SetGroupCommand{static_cast<std::uint8_t>(entry.cdw10)};
}

Checked<AdminCommand> parse_management(const SubmissionEntry& entry)
{
    switch (static_cast<AdminOpcode>(entry.opcode)) {
    case AdminOpcode::namespace_management: return parse_namespace_management(entry);
    case AdminOpcode::namespace_attachment: return parse_namespace_attachment(entry);
    case AdminOpcode::snapshot_create: return SnapshotCreateCommand{snapshot_group(entry.cdw10)};
    case AdminOpcode::snapshot_list: return parse_snapshot_list(entry);
    case AdminOpcode::snapshot_delete: return SnapshotDeleteCommand{};
    case AdminOpcode::clone: return CloneCommand{};
    case AdminOpcode::rollback: return RollbackCommand{entry.cdw10, rollback_force(entry.cdw11)};
    case AdminOpcode::checkpoint: return parse_checkpoint(entry);
    case AdminOpcode::set_flush_mode: return parse_set_flush_mode(entry);
    case AdminOpcode::set_group: return parse_set_group(entry);
    default:  // the opcode is a byte of the guest's, not a state of ours
        return refuse(StatusCode::invalid_opcode);
    }
}

Checked<IoCommand> parse_standard_io(const SubmissionEntry& entry, std::uint8_t opcode)
{
    const IoDword12 fields{entry.cdw12};
    switch (static_cast<IoOpcode>(opcode)) {
    case IoOpcode::flush: return FlushCommand{};
    case IoOpcode::read: return ReadCommand{range_of(entry)};
    case IoOpcode::write:
        if (fields.directive() != 0) {  // no directive is enabled (8.7)
            return refuse(StatusCode::invalid_field);
        }
        return WriteCommand{range_of(entry), fields.force_unit_access()};
    case IoOpcode::compare: return CompareCommand{range_of(entry)};
    case IoOpcode::verify: return VerifyCommand{range_of(entry)};
    case IoOpcode::write_zeroes:
        return WriteZeroesCommand{range_of(entry), fields.deallocate(), fields.force_unit_access()};
    case IoOpcode::dataset_management:
        return DatasetCommand{dsm_ranges_z(entry.cdw10) + 1, dsm_deallocate(entry.cdw11)};
    case IoOpcode::copy: return parse_copy(entry);
    default:  // the opcode is a byte of the guest's, not a state of ours
        return refuse(StatusCode::invalid_opcode);
    }
}

// The vendor commands that are no standard ones with a tag.
std::optional<IoCommand> vendor_command(const SubmissionEntry& entry)
{
    const bool fua = IoDword12{entry.cdw12}.force_unit_access();
    switch (static_cast<IoOpcode>(entry.opcode)) {
    case IoOpcode::stream_open: return StreamOpenCommand{};
    case IoOpcode::stream_close: return StreamCloseCommand{};
    case IoOpcode::transaction_begin: return TransactionBeginCommand{};
    case IoOpcode::transaction_commit: return TransactionCommitCommand{fua};
    case IoOpcode::transaction_abort: return TransactionAbortCommand{};
    case IoOpcode::write_ranges: return WriteRangesCommand{write_ranges_z(entry.cdw10) + 1, fua};
    default: return std::nullopt;
    }
}

// Which tags a command may, or must, have.
bool fits(const IoCommand& command, const Tag& tag)
{
    if (std::holds_alternative<StreamCloseCommand>(command)) {
        return tag.stream != 0 && tag.transaction == 0;
    }
    if (std::holds_alternative<TransactionCommitCommand>(command) ||
        std::holds_alternative<TransactionAbortCommand>(command)) {
        return tag.stream == 0 && tag.transaction != 0;
    }
    if (std::holds_alternative<StreamOpenCommand>(command) ||
        std::holds_alternative<TransactionBeginCommand>(command) ||
        std::holds_alternative<WriteRangesCommand>(command)) {
        return tag.stream == 0 && tag.transaction == 0;
    }
    // A transaction becomes durable by its commit, so there is nothing in it to flush.
    return tag.transaction == 0 ||
           (tag.stream == 0 && !std::holds_alternative<FlushCommand>(command));
}

Checked<TaggedIo> parse_vendor_io(const SubmissionEntry& entry)
{
    std::optional<IoCommand> command = vendor_command(entry);
    if (!command) {
        const auto opcode = static_cast<std::uint8_t>(entry.opcode - kTaggedOpcode);
        Checked<IoCommand> standard = parse_standard_io(entry, opcode);
        if (!standard) {
            return refuse(standard.error());
        }
        // They read into the controller's memory, and change nothing: a tag would say nothing.
        if (std::holds_alternative<CompareCommand>(*standard) ||
            std::holds_alternative<VerifyCommand>(*standard)) {
            return refuse(StatusCode::invalid_opcode);
        }
        command = *standard;
    }
    const Tag tag{static_cast<std::uint16_t>(tag_stream(entry.cdw15)), entry.cdw14};
    if (tag_reserved(entry.cdw15) != 0 || !fits(*command, tag)) {
        return refuse(StatusCode::invalid_field);
    }
    return TaggedIo{*command, tag};
}

}  // namespace

Checked<TaggedIo> parse_io(const SubmissionEntry& entry, bool vendor)
{
    if (auto status = check_flags(entry); !status) {
        return refuse(status.error());
    }
    if (vendor && entry.opcode >= kTaggedOpcode) {
        return parse_vendor_io(entry);
    }
    Checked<IoCommand> command = parse_standard_io(entry, entry.opcode);
    if (!command) {
        return refuse(command.error());
    }
    return TaggedIo{*command, {}};
}

Checked<AdminCommand> parse_admin(const SubmissionEntry& entry, bool management)
{
    if (auto status = check_flags(entry); !status) {
        return refuse(status.error());
    }
    switch (static_cast<AdminOpcode>(entry.opcode)) {
    case AdminOpcode::delete_sq: return DeleteSqCommand{queue_id(entry.cdw10)};
    case AdminOpcode::create_sq: return parse_create_sq(entry);
    case AdminOpcode::get_log_page: return parse_log(entry);
    case AdminOpcode::delete_cq: return DeleteCqCommand{queue_id(entry.cdw10)};
    case AdminOpcode::create_cq: return parse_create_cq(entry);
    case AdminOpcode::identify:
        return IdentifyCommand{identify_cns(entry.cdw10), identify_controller(entry.cdw10),
                               identify_command_set(entry.cdw11)};
    case AdminOpcode::abort:
        return AbortCommand{abort_queue_id(entry.cdw10), abort_command_id(entry.cdw10)};
    case AdminOpcode::set_features:
        return SetFeatureCommand{feature_id(entry.cdw10), feature_save(entry.cdw10), entry.cdw11};
    case AdminOpcode::get_features: return parse_get_feature(entry);
    case AdminOpcode::async_event: return AsyncEventCommand{};
    default: return management ? parse_management(entry) : refuse(StatusCode::invalid_opcode);
    }
}

}  // namespace coppice::nvme
