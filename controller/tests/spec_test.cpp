// The numbers of spec/ against an independent statement of the same standard: libnvme's types.h.
#include <cstddef>
#include <libnvme.h>

#include "controller/spec/admin.h"
#include "controller/spec/command.h"
#include "controller/spec/identify.h"
#include "controller/spec/logs.h"
#include "controller/spec/registers.h"
#include "controller/spec/status.h"
#include "coppice-catch.h"

using namespace coppice;
using namespace coppice::nvme;

// Two enumerations, or a number and one, by value.
#define SAME(ours, theirs) \
    CHECK(static_cast<std::uint64_t>(ours) == static_cast<std::uint64_t>(theirs))
#define SAME_PLACE(ours, our_field, theirs, their_field) \
    CHECK(offsetof(ours, our_field) == offsetof(theirs, their_field))

TEST_CASE("registers lie where the specification says")
{
    SAME(kRegisterCap, NVME_REG_CAP);
    SAME(kRegisterVs, NVME_REG_VS);
    SAME(kRegisterIntms, NVME_REG_INTMS);
    SAME(kRegisterIntmc, NVME_REG_INTMC);
    SAME(kRegisterCc, NVME_REG_CC);
    SAME(kRegisterCsts, NVME_REG_CSTS);
    SAME(kRegisterNssr, NVME_REG_NSSR);
    SAME(kRegisterAqa, NVME_REG_AQA);
    SAME(kRegisterAsq, NVME_REG_ASQ);
    SAME(kRegisterAcq, NVME_REG_ACQ);
    SAME(kRegisterCrto, NVME_REG_CRTO);
}

TEST_CASE("register fields lie where the specification says")
{
    CapFields cap;
    cap.max_queue_entries_z = 0xabcd;
    cap.timeout_500ms = 0x3c;
    cap.doorbell_stride = 5;
    cap.min_page_exponent = 3;
    cap.max_page_exponent = 4;
    const std::uint64_t value = make_cap(cap);
    SAME(NVME_CAP_MQES(value), 0xabcd);
    SAME(NVME_CAP_CQR(value), 1);
    SAME(NVME_CAP_TO(value), 0x3c);
    SAME(NVME_CAP_DSTRD(value), 5);
    SAME(NVME_CAP_CSS(value), NVME_CAP_CSS_NVM);
    SAME(NVME_CAP_MPSMIN(value), 3);
    SAME(NVME_CAP_MPSMAX(value), 4);
    SAME(NVME_CAP_CRMS(value), 1);
    for (unsigned shift = 0; shift < 32; ++shift) {
        const std::uint32_t cc = 1U << shift;
        CHECK(Cc{cc}.enable() == (NVME_CC_EN(cc) != 0));
        CHECK(Cc{cc}.command_set() == NVME_CC_CSS(cc));
        CHECK(Cc{cc}.page_exponent() == NVME_CC_MPS(cc));
        CHECK(Cc{cc}.arbitration() == NVME_CC_AMS(cc));
        CHECK(Cc{cc}.shutdown() == NVME_CC_SHN(cc));
        CHECK(Cc{cc}.sq_entry_exponent() == NVME_CC_IOSQES(cc));
        CHECK(Cc{cc}.cq_entry_exponent() == NVME_CC_IOCQES(cc));
        CHECK(csts_ready(cc) == (NVME_CSTS_RDY(cc) != 0));
        CHECK(csts_fatal(cc) == (NVME_CSTS_CFS(cc) != 0));
        CHECK(csts_shutdown(cc) == NVME_CSTS_SHST(cc));
        CHECK(aqa_sq_entries_z(cc) == NVME_AQA_ASQS(cc));
        CHECK(aqa_cq_entries_z(cc) == NVME_AQA_ACQS(cc));
    }
    CHECK(make_csts({true, true, ShutdownStatus::complete}) == 0xb);
}

TEST_CASE("Identify structures agree with libnvme")
{
    SAME_PLACE(IdentifyController, serial, nvme_id_ctrl, sn);
    SAME_PLACE(IdentifyController, firmware, nvme_id_ctrl, fr);
    SAME_PLACE(IdentifyController, cmic, nvme_id_ctrl, cmic);
    SAME_PLACE(IdentifyController, cntlid, nvme_id_ctrl, cntlid);
    SAME_PLACE(IdentifyController, rtd3r, nvme_id_ctrl, rtd3r);
    SAME_PLACE(IdentifyController, oaes, nvme_id_ctrl, oaes);
    SAME_PLACE(IdentifyController, ctratt, nvme_id_ctrl, ctratt);
    SAME_PLACE(IdentifyController, fguid, nvme_id_ctrl, fguid);
    SAME_PLACE(IdentifyController, crdt, nvme_id_ctrl, crdt1);
    SAME_PLACE(IdentifyController, nvmsr, nvme_id_ctrl, nvmsr);
    SAME_PLACE(IdentifyController, acl_z, nvme_id_ctrl, acl);
    SAME_PLACE(IdentifyController, aerl_z, nvme_id_ctrl, aerl);
    SAME_PLACE(IdentifyController, frmw, nvme_id_ctrl, frmw);
    SAME_PLACE(IdentifyController, elpe_z, nvme_id_ctrl, elpe);
    SAME_PLACE(IdentifyController, avscc, nvme_id_ctrl, avscc);
    SAME_PLACE(IdentifyController, wctemp, nvme_id_ctrl, wctemp);
    SAME_PLACE(IdentifyController, hmpre, nvme_id_ctrl, hmpre);
    SAME_PLACE(IdentifyController, unvmcap, nvme_id_ctrl, unvmcap);
    SAME_PLACE(IdentifyController, kas, nvme_id_ctrl, kas);
    SAME_PLACE(IdentifyController, cqes, nvme_id_ctrl, cqes);
    SAME_PLACE(IdentifyController, maxcmd, nvme_id_ctrl, maxcmd);
    SAME_PLACE(IdentifyController, oncs, nvme_id_ctrl, oncs);
    SAME_PLACE(IdentifyController, fuses, nvme_id_ctrl, fuses);
    SAME_PLACE(IdentifyController, fna, nvme_id_ctrl, fna);
    SAME_PLACE(IdentifyController, awupf_z, nvme_id_ctrl, awupf);
    SAME_PLACE(IdentifyController, icsvscc, nvme_id_ctrl, icsvscc);
    SAME_PLACE(IdentifyController, acwu_z, nvme_id_ctrl, acwu);
    SAME_PLACE(IdentifyController, sgls, nvme_id_ctrl, sgls);
    SAME_PLACE(IdentifyController, mnan, nvme_id_ctrl, mnan);
    SAME_PLACE(IdentifyController, subnqn, nvme_id_ctrl, subnqn);
    SAME_PLACE(IdentifyController, power_states, nvme_id_ctrl, psd);
    CHECK(sizeof(PowerState) == sizeof(nvme_id_psd));
    SAME_PLACE(IdentifyNamespace, nuse, nvme_id_ns, nuse);
    SAME_PLACE(IdentifyNamespace, nlbaf_z, nvme_id_ns, nlbaf);
    SAME_PLACE(IdentifyNamespace, flbas, nvme_id_ns, flbas);
    SAME_PLACE(IdentifyNamespace, nmic, nvme_id_ns, nmic);
    SAME_PLACE(IdentifyNamespace, nawupf_z, nvme_id_ns, nawupf);
    SAME_PLACE(IdentifyNamespace, nacwu_z, nvme_id_ns, nacwu);
    SAME_PLACE(IdentifyNamespace, nabsn_z, nvme_id_ns, nabsn);
    SAME_PLACE(IdentifyNamespace, nabo, nvme_id_ns, nabo);
    SAME_PLACE(IdentifyNamespace, nabspf_z, nvme_id_ns, nabspf);
    SAME_PLACE(IdentifyNamespace, noiob, nvme_id_ns, noiob);
    SAME_PLACE(IdentifyNamespace, npda_z, nvme_id_ns, npda);
    SAME_PLACE(IdentifyNamespace, nows_z, nvme_id_ns, nows);
    SAME_PLACE(IdentifyNamespace, anagrpid, nvme_id_ns, anagrpid);
    SAME_PLACE(IdentifyNamespace, endgid, nvme_id_ns, endgid);
    SAME_PLACE(IdentifyNamespace, formats, nvme_id_ns, lbaf);
    CHECK(sizeof(IdentifyNamespace::formats) == sizeof(nvme_id_ns::lbaf));
    SAME_PLACE(IdentifyIndependent, nvmsetid, nvme_id_independent_id_ns, nvmsetid);
    SAME_PLACE(IdentifyIndependent, nstat, nvme_id_independent_id_ns, nstat);
    SAME_PLACE(IdentifyControllerNvm, dsm_ranges, nvme_id_ctrl_nvm, dmrl);
    SAME_PLACE(IdentifyControllerNvm, dsm_range_blocks, nvme_id_ctrl_nvm, dmrsl);
}

TEST_CASE("Identify bits agree with libnvme")
{
    SAME(kOaesNamespaceAttribute, NVME_CTRL_OAES_NA);
    SAME(kOacsNamespaceManagement, NVME_CTRL_OACS_NS_MGMT);
    SAME(kOncsCompare, NVME_CTRL_ONCS_COMPARE);
    SAME(kOncsDatasetManagement, NVME_CTRL_ONCS_DSM);
    SAME(kOncsWriteZeroes, NVME_CTRL_ONCS_WRITE_ZEROES);
    SAME(kOncsSelect, NVME_CTRL_ONCS_SAVE_FEATURES);
    SAME(kOncsTimestamp, NVME_CTRL_ONCS_TIMESTAMP);
    SAME(kOncsVerify, NVME_CTRL_ONCS_VERIFY);
    SAME(kOncsCopy, NVME_CTRL_ONCS_COPY);
    SAME(kLpaEffectsLog, NVME_CTRL_LPA_CMD_EFFECTS);
    SAME(kLpaExtendedData, NVME_CTRL_LPA_EXTENDED);
    SAME(kLpaSupportedPages, NVME_CTRL_LPA_LI0_LI5_LI12_LI13);
    SAME(kVwcPresent, NVME_CTRL_VWC_PRESENT);
    SAME(kVwcFlushAll, NVME_CTRL_VWC_FLUSH);
    SAME(kNsfeatThin, NVME_NS_FEAT_THIN);
    SAME(kNsfeatAtomics, NVME_NS_FEAT_NATOMIC);
    SAME(kNsfeatIdsNotReused, NVME_NS_FEAT_ID_REUSE);
    SAME(kNsfeatPreferred, NVME_NS_FEAT_IO_OPT);
    SAME(kDlfeatReadsZero, NVME_NS_DLFEAT_RB_ALL_0S);
    SAME(kDlfeatWriteZeroes, NVME_NS_DLFEAT_WRITE_ZEROES);
    SAME(kEffectContent, NVME_CMD_EFFECTS_LBCC);
    SAME(kEffectNamespaceChange, NVME_CMD_EFFECTS_NCC);
    SAME(kEffectInventoryChange, NVME_CMD_EFFECTS_NIC);
    SAME(kEffectSameNamespaceIdle, 0x10000);
}

TEST_CASE("logs and data structures agree with libnvme")
{
    CHECK(sizeof(SupportedLogPages) == sizeof(nvme_supported_log_pages));
    CHECK(sizeof(ErrorLogEntry) == sizeof(nvme_error_log_page));
    SAME_PLACE(ErrorLogEntry, status, nvme_error_log_page, status_field);
    SAME_PLACE(ErrorLogEntry, parameter_location, nvme_error_log_page, parm_error_location);
    SAME_PLACE(ErrorLogEntry, transport, nvme_error_log_page, trtype);
    CHECK(sizeof(HealthLog) == sizeof(nvme_smart_log));
    SAME_PLACE(HealthLog, spare_percent, nvme_smart_log, avail_spare);
    SAME_PLACE(HealthLog, data_units_written, nvme_smart_log, data_units_written);
    SAME_PLACE(HealthLog, power_on_hours, nvme_smart_log, power_on_hours);
    SAME_PLACE(HealthLog, error_log_entries, nvme_smart_log, num_err_log_entries);
    SAME_PLACE(HealthLog, sensors, nvme_smart_log, temp_sensor);
    CHECK(sizeof(FirmwareLog) == sizeof(nvme_firmware_slot));
    CHECK(sizeof(EffectsLog) == sizeof(nvme_cmd_effects_log));
    SAME_PLACE(EffectsLog, io, nvme_cmd_effects_log, iocs);
    CHECK(sizeof(HostBehavior) == sizeof(nvme_feat_host_behavior));
    CHECK(sizeof(TimestampData) == sizeof(nvme_timestamp));
    CHECK(sizeof(DsmRange) == sizeof(nvme_dsm_range));
    SAME_PLACE(DsmRange, blocks, nvme_dsm_range, nlb);
    CHECK(sizeof(CopyRange) == sizeof(nvme_copy_range));
    SAME_PLACE(CopyRange, start_lba, nvme_copy_range, slba);
    SAME_PLACE(CopyRange, reference_tag, nvme_copy_range, eilbrt);
    CHECK(sizeof(ControllerList) == sizeof(nvme_ctrl_list));
}

TEST_CASE("opcodes, features, pages and status codes have the specification's numbers")
{
    const auto number = [](auto value) { return static_cast<unsigned>(value); };
    SAME(number(AdminOpcode::create_cq), nvme_admin_create_cq);
    SAME(number(AdminOpcode::async_event), nvme_admin_async_event);
    SAME(number(AdminOpcode::namespace_management), nvme_admin_ns_mgmt);
    SAME(number(AdminOpcode::namespace_attachment), nvme_admin_ns_attach);
    SAME(number(IoOpcode::compare), nvme_cmd_compare);
    SAME(number(IoOpcode::write_zeroes), nvme_cmd_write_zeroes);
    SAME(number(IoOpcode::dataset_management), nvme_cmd_dsm);
    SAME(number(IoOpcode::verify), nvme_cmd_verify);
    SAME(number(IoOpcode::copy), nvme_cmd_copy);
    SAME(number(Feature::host_behavior), NVME_FEAT_FID_HOST_BEHAVIOR);
    SAME(number(Feature::timestamp), NVME_FEAT_FID_TIMESTAMP);
    SAME(number(Feature::async_events), NVME_FEAT_FID_ASYNC_EVENT);
    SAME(number(Feature::error_recovery), NVME_FEAT_FID_ERR_RECOVERY);
    SAME(number(LogPage::feature_effects), NVME_LOG_LID_FID_SUPPORTED_EFFECTS);
    SAME(number(LogPage::changed_namespaces), NVME_LOG_LID_CHANGED_NS);
    SAME(number(Cns::independent_namespace), NVME_IDENTIFY_CNS_CSI_INDEPENDENT_ID_NS);
    SAME(number(Cns::attached_controllers), NVME_IDENTIFY_CNS_NS_CTRL_LIST);
    CHECK(number(Cns::command_set_allocated_namespace) ==
          NVME_IDENTIFY_CNS_CSI_ID_NS_DATA_STRUCTURE);

    const auto of = [](unsigned type, unsigned code) { return type << 8 | code; };
    SAME(number(StatusCode::namespace_write_protected), NVME_SC_NS_WRITE_PROTECTED);
    SAME(number(StatusCode::operation_denied), NVME_SC_OP_DENIED);
    SAME(number(StatusCode::lba_out_of_range), NVME_SC_LBA_RANGE);
    SAME(number(StatusCode::capacity_exceeded), NVME_SC_CAP_EXCEEDED);
    SAME(number(StatusCode::prp_offset_invalid), NVME_SC_PRP_INVALID_OFFSET);
    SAME(number(StatusCode::async_event_limit_exceeded), of(1, NVME_SC_ASYNC_LIMIT));
    SAME(number(StatusCode::invalid_queue_deletion), of(1, NVME_SC_INVALID_QUEUE));
    SAME(number(StatusCode::feature_not_per_namespace), of(1, NVME_SC_FEATURE_NOT_PER_NS));
    SAME(number(StatusCode::namespace_already_attached), of(1, NVME_SC_NS_ALREADY_ATTACHED));
    SAME(number(StatusCode::controller_list_invalid), of(1, NVME_SC_CTRL_LIST_INVALID));
    CHECK(number(StatusCode::command_size_limit_exceeded) ==
          of(1, NVME_SC_CMD_SIZE_LIMIT_EXCEEDED));
    SAME(number(StatusCode::write_fault), of(2, NVME_SC_WRITE_FAULT));
    SAME(number(StatusCode::unrecovered_read_error), of(2, NVME_SC_READ_ERROR));
    SAME(number(StatusCode::compare_failure), of(2, NVME_SC_COMPARE_FAILED));

    // The status field: bit 0 is the phase, and libnvme's flags count from bit 1.
    const std::uint16_t field = make_status_field(StatusCode::compare_failure, true, true);
    CHECK((field & 1) == 1);
    CHECK((field >> 1) == (of(2, NVME_SC_COMPARE_FAILED) | NVME_SC_MORE | NVME_SC_DNR));
    CHECK(status_field_code(field) == StatusCode::compare_failure);
    CHECK_FALSE(
        status_field_do_not_retry(make_status_field(StatusCode::command_interrupted, true, false)));
}

TEST_CASE("command dwords: each field alone")
{
    for (unsigned shift = 0; shift < 32; ++shift) {
        const std::uint32_t dword = 1U << shift;
        CHECK(IoDword12{dword}.blocks_z() == (dword & 0xffff));
        CHECK(IoDword12{dword}.deallocate() == (shift == 25));
        CHECK(IoDword12{dword}.force_unit_access() == (shift == 30));
        CHECK(IoDword12{dword}.directive() == ((dword >> 20) & 0xf));
        CHECK(CopyDword12{dword}.ranges_z() == (dword & 0xff));
        CHECK(CopyDword12{dword}.descriptor_format() == ((dword >> 8) & 0xf));
        CHECK(queue_id(dword) == (dword & 0xffff));
        CHECK(queue_entries_z(dword) == dword >> 16);
        CHECK(feature_select(dword) == ((dword >> 8) & 7));
        CHECK(feature_save(dword) == (shift == 31));
        CHECK(LogDwords{dword}.retain_event() == (shift == 15));
        CHECK(LogDwords{dword}.page() == (dword & 0xff));
        // The length of Get Log Page is in two dwords: NUMDL above, NUMDU below.
        CHECK(LogDwords{dword}.dwords_z() == (dword >> 16));
        CHECK(LogDwords{0, dword}.dwords_z() == (std::uint64_t{dword & 0xffff} << 16));
        CHECK(threshold_type(dword) == ((dword >> 20) & 3));
    }
    CHECK(LogDwords{0, 0, 0x89abcdec, 0x01234567}.offset() == 0x0123456789abcdec);
    CHECK(make_event(EventType::notice, 0, 4) == 0x00040002);
}
