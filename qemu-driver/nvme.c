/* The device `coppice-nvme`: an NVMe controller on QEMU's PCI bus. This file is its life and its
 * place among QEMU's threads and nodes; what a register or command means is controller/'s. */
#include "nvme.h"

#include COPPICE_RUNSTATE_H
#include COPPICE_SYSTEM_H
#include "migration/vmstate.h"

/* Of the range that QEMU leaves for experiments (docs/specs/pci-ids). Not the 1b36:0010 of QEMU's
 * own NVMe device: Linux has quirks for that one, ignores its NGUIDs and never zeroes by command.
 */
enum { COPPICE_PCI_DEVICE_ID = 0x10f5 };

enum { REGISTER_BAR = 0, MSIX_BAR = 4, PCIE_CAP_OFFSET = 0x80, NVM_EXPRESS_INTERFACE = 0x02 };

/* ---- The way of the data ----
 *
 * Straight to the store only while QEMU would add nothing in between: the drive's root node is the
 * image, without throttle or dirty bitmap. Looked at before commands are taken, changed when none
 * is under way. Filters and jobs come and go in drained sections; a bitmap may come at any time. */

static struct coppice_store* wanted_store(CoppiceNvme* nvme)
{
    BlockDriverState* root = blk_bs(nvme->conf.blk);
    if (root != nvme->image || !QLIST_EMPTY(&root->dirty_bitmaps) ||
        root->detect_zeroes != BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF ||
        qatomic_read(&root->copy_on_read) || qatomic_read(&nvme->throttle->throttle_state)) {
        return NULL;
    }
    return coppice_block_store(root);
}

/* Brings the controller to what other threads ask for. In the context; called again by the port
 * `idle` as long as something is under way. */
static void settle_now(CoppiceNvme* nvme)
{
    bool stay_stopped = qatomic_read(&nvme->want_stop);
    if (stay_stopped || nvme->store != wanted_store(nvme)) {
        if (!nvme->stopped) {
            coppice_nvme_stop(nvme->controller);
            nvme->stopped = true;
        }
        if (coppice_nvme_busy(nvme->controller)) return;
        if (nvme->wrote) coppice_block_wrote(nvme->image);
        nvme->wrote = false;
        qatomic_set(&nvme->quiet, true);
        aio_wait_kick();
        if (stay_stopped) return;
        nvme->store = wanted_store(nvme);
        if (nvme->store) {
            coppice_nvme_use_store(nvme->controller, nvme->store);
        } else {
            coppice_nvme_use_block(nvme->controller, &nvme->block);
        }
    }
    if (qatomic_xchg(&nvme->want_interrupt_mode, false)) {
        coppice_nvme_interrupt_mode_changed(nvme->controller);
    }
    if (nvme->stopped) {
        nvme->stopped = false;
        qatomic_set(&nvme->quiet, false);
        coppice_nvme_start(nvme->controller);
    }
    if (qatomic_xchg(&nvme->want_rescan, false)) coppice_nvme_rescan(nvme->controller);
    if (qatomic_xchg(&nvme->want_retry, false)) coppice_nvme_retry(nvme->controller);
}

static void settle(void* opaque)
{
    CoppiceNvme* nvme = opaque;
    COPPICE_CONTEXT_ACQUIRE(nvme->context);
    settle_now(nvme);
    COPPICE_CONTEXT_RELEASE(nvme->context);
}

static void poll_queues(void* opaque)
{
    CoppiceNvme* nvme = opaque;
    COPPICE_CONTEXT_ACQUIRE(nvme->context);
    if (!nvme->stopped && nvme->store != wanted_store(nvme)) settle_now(nvme);
    coppice_nvme_poll(nvme->controller);
    COPPICE_CONTEXT_RELEASE(nvme->context);
}

/* ---- What QEMU tells us about the drive (main thread) ---- */

static void drained_begin(void* opaque)
{
    CoppiceNvme* nvme = opaque;
    qatomic_set(&nvme->want_stop, true);
    qemu_bh_schedule(nvme->settle);
}

static bool drained_poll(void* opaque)
{
    CoppiceNvme* nvme = opaque;
    return !qatomic_read(&nvme->quiet);
}

/* Management of the image (snapshots, resizing) is done in drained sections, so what there is may
 * be different now. */
static void drained_end(void* opaque)
{
    CoppiceNvme* nvme = opaque;
    qatomic_set(&nvme->want_rescan, true);
    qatomic_set(&nvme->want_stop, false);
    qemu_bh_schedule(nvme->settle);
}

static void resized(void* opaque)
{
    CoppiceNvme* nvme = opaque;
    qatomic_set(&nvme->want_rescan, true);
    qemu_bh_schedule(nvme->settle);
}

static const BlockDevOps drive_events = {
    .resize_cb = resized,
    .drained_begin = drained_begin,
    .drained_end = drained_end,
    .drained_poll = drained_poll,
};

/* werror=stop has held commands back; the user has made room and goes on. */
static void run_state_changed(void* opaque, bool running, RunState state)
{
    CoppiceNvme* nvme = opaque;
    if (!running) return;
    qatomic_set(&nvme->want_retry, true);
    qemu_bh_schedule(nvme->settle);
}

/* ---- Registers (a virtual CPU's thread, with the big lock) ---- */

typedef struct RegisterWrite {
    CoppiceNvme* nvme;
    hwaddr offset;
    uint64_t value;
    unsigned size;
} RegisterWrite;

static void write_in_context(void* opaque)
{
    RegisterWrite* write = opaque;
    COPPICE_CONTEXT_ACQUIRE(write->nvme->context);
    coppice_nvme_write(write->nvme->controller, write->offset, write->value, write->size);
    COPPICE_CONTEXT_RELEASE(write->nvme->context);
}

/* Runs it in the context and waits for it. From the main loop's thread or a virtual CPU's. */
static void in_context(CoppiceNvme* nvme, QEMUBHFunc* body, void* argument)
{
    if (nvme->context == qemu_get_aio_context()) {
        body(argument);
        return;
    }
    COPPICE_CONTEXT_ACQUIRE(nvme->context);
    aio_wait_bh_oneshot(nvme->context, body, argument);
    COPPICE_CONTEXT_RELEASE(nvme->context);
}

static uint64_t on_register_read(void* opaque, hwaddr offset, unsigned size)
{
    CoppiceNvme* nvme = opaque;
    return coppice_nvme_read(nvme->controller, offset, size);
}

static void on_register_write(void* opaque, hwaddr offset, uint64_t value, unsigned size)
{
    CoppiceNvme* nvme = opaque;
    if (coppice_nvme_is_doorbell(offset)) {
        if (size >= 4 && coppice_nvme_doorbell(nvme->controller, offset, value)) {
            qemu_bh_schedule(nvme->poll);
        }
        return;
    }
    RegisterWrite write = {.nvme = nvme, .offset = offset, .value = value, .size = size};
    in_context(nvme, write_in_context, &write);
}

static const MemoryRegionOps register_ops = {
    .read = on_register_read,
    .write = on_register_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = {.min_access_size = 1, .max_access_size = 8},
    .impl = {.min_access_size = 1, .max_access_size = 8},
};

static void coppice_nvme_config_write(PCIDevice* pci, uint32_t address, uint32_t value, int length)
{
    CoppiceNvme* nvme = COPPICE_NVME(pci);
    bool had_messages = msix_enabled(pci);
    pci_default_write_config(pci, address, value, length);
    pcie_cap_flr_write_config(pci, address, value, length);
    if (msix_enabled(pci) != had_messages) {
        qatomic_set(&nvme->want_interrupt_mode, true);
        qemu_bh_schedule(nvme->settle);
    }
}

/* ---- Reset ---- */

static void reset_in_context(void* opaque)
{
    CoppiceNvme* nvme = opaque;
    COPPICE_CONTEXT_ACQUIRE(nvme->context);
    coppice_nvme_reset(nvme->controller);
    COPPICE_CONTEXT_RELEASE(nvme->context);
}

static void wait_until_not_busy(CoppiceNvme* nvme)
{
    COPPICE_CONTEXT_ACQUIRE(nvme->context);
    AIO_WAIT_WHILE(nvme->context, coppice_nvme_busy(nvme->controller));
    COPPICE_CONTEXT_RELEASE(nvme->context);
}

static void coppice_nvme_device_reset(DeviceState* device)
{
    CoppiceNvme* nvme = COPPICE_NVME(device);
    in_context(nvme, reset_in_context, nvme);
    wait_until_not_busy(nvme);
}

/* ---- Realize ---- */

static bool find_image(CoppiceNvme* nvme, struct coppice_volume_info* volume, Error** errp)
{
    BlockDriverState* root = blk_bs(nvme->conf.blk);
    nvme->image = root ? bdrv_skip_filters(root) : NULL;
    struct coppice_store* store = coppice_block_store(nvme->image);
    if (store) {
        return coppice_get_volume(store, coppice_block_volume(nvme->image), volume) == 0;
    }
    error_setg(
        errp,
        "drive= names a node of format '%s', and coppice-nvme shows Coppice images; open the "
        "file as one: -drive if=none,id=disk,format=coppice,file=... (make one with "
        "coppice-qemu qemu-img create -f coppice)",
        nvme->image && nvme->image->drv ? nvme->image->drv->format_name : "none");
    return false;
}

static bool apply_properties(CoppiceNvme* nvme, struct coppice_nvme_config* config,
                             const struct coppice_volume_info* volume, Error** errp)
{
    BlockConf* conf = &nvme->conf;
    if (conf->logical_block_size && conf->logical_block_size != volume->lba_bytes) {
        error_setg(errp,
                   "logical_block_size=%u differs from the volume's %u; it belongs to the "
                   "volume (qemu-img create -o lba_size=...)",
                   conf->logical_block_size, volume->lba_bytes);
        return false;
    }
    conf->logical_block_size = volume->lba_bytes;
    if (!blkconf_blocksizes(conf, errp) ||
        !blkconf_apply_backend_options(conf, !blk_supports_write_perm(conf->blk), true, errp)) {
        return false;
    }
    if (nvme->max_ioqpairs < 1 || nvme->max_ioqpairs > COPPICE_NVME_MAX_VECTORS - 1) {
        error_setg(errp, "max-ioqpairs is 1 to %d", COPPICE_NVME_MAX_VECTORS - 1);
        return false;
    }
    if (nvme->serial && strlen(nvme->serial) > 20) {
        error_setg(errp, "serial= has at most 20 characters");
        return false;
    }
    const char* manage = nvme->guest_manage ? nvme->guest_manage : "own";
    if (!strcmp(manage, "own")) {
        config->manage = COPPICE_NVME_MANAGE_OWN;
    } else if (!strcmp(manage, "off")) {
        config->manage = COPPICE_NVME_MANAGE_OFF;
    } else if (!strcmp(manage, "all")) {
        config->manage = COPPICE_NVME_MANAGE_ALL;
    } else {
        error_setg(errp, "guest-manage is off, own or all, not '%s'", manage);
        return false;
    }
    config->pci_vendor = PCI_VENDOR_ID_REDHAT_QUMRANET;
    config->pci_subsystem_vendor = PCI_SUBVENDOR_ID_REDHAT_QUMRANET;
    config->serial = nvme->serial;
    config->vectors = nvme->max_ioqpairs + 1;
    return true;
}

static bool place_in_context(CoppiceNvme* nvme, Error** errp)
{
    if (nvme->iothread) {
        AioContext* context = iothread_get_aio_context(nvme->iothread);
        if (blk_set_aio_context(nvme->conf.blk, context, errp) < 0) return false;
        object_ref(OBJECT(nvme->iothread));
    }
    nvme->context = blk_get_aio_context(nvme->conf.blk);
    nvme->poll = COPPICE_BH_NEW(nvme->context, poll_queues, nvme);
    nvme->settle = COPPICE_BH_NEW(nvme->context, settle, nvme);
    nvme->interrupt = COPPICE_BH_NEW(qemu_get_aio_context(), coppice_nvme_send_interrupts, nvme);
    return true;
}

static void leave_context(CoppiceNvme* nvme)
{
    qemu_bh_delete(nvme->poll);
    qemu_bh_delete(nvme->settle);
    qemu_bh_delete(nvme->interrupt);
    if (nvme->iothread) {
        AioContext* context = nvme->context;
        COPPICE_CONTEXT_ACQUIRE(context);
        blk_set_aio_context(nvme->conf.blk, qemu_get_aio_context(), NULL);
        COPPICE_CONTEXT_RELEASE(context);
        object_unref(OBJECT(nvme->iothread));
    }
}

static bool init_pci(CoppiceNvme* nvme, unsigned vectors, Error** errp)
{
    PCIDevice* pci = &nvme->pci;
    pci->config[PCI_INTERRUPT_PIN] = 1;
    pci_config_set_prog_interface(pci->config, NVM_EXPRESS_INTERFACE);
    if (pci_bus_is_express(pci_get_bus(pci))) {
        pcie_endpoint_cap_init(pci, PCIE_CAP_OFFSET);
        pcie_cap_flr_init(pci);
    }
    memory_region_init_io(&nvme->registers, OBJECT(nvme), &register_ops, nvme,
                          "coppice-nvme-registers", COPPICE_NVME_BAR_BYTES);
    pci_register_bar(pci, REGISTER_BAR,
                     PCI_BASE_ADDRESS_SPACE_MEMORY | PCI_BASE_ADDRESS_MEM_TYPE_64,
                     &nvme->registers);
    if (msix_init_exclusive_bar(pci, vectors, MSIX_BAR, errp) < 0) return false;
    for (unsigned vector = 0; vector < vectors; vector++)
        msix_vector_use(pci, vector);
    return true;
}

/* Firmware finds the boot namespace by number and EUI-64, which come from the image. */
static void name_boot_device(CoppiceNvme* nvme, const struct coppice_volume_info* volume)
{
    DeviceState* device = DEVICE(nvme);
    snprintf(nvme->boot_suffix, sizeof nvme->boot_suffix, "/namespace@%" PRIx32 ",%" PRIx64,
             volume->id, (uint64_t)ldq_be_p(volume->eui64));
    if (nvme->conf.bootindex < 0) return;
    del_boot_device_path(device, NULL);
    add_boot_device_path(nvme->conf.bootindex, device, nvme->boot_suffix);
}

static void coppice_nvme_realize(PCIDevice* pci, Error** errp)
{
    CoppiceNvme* nvme = COPPICE_NVME(pci);
    struct coppice_nvme_config config = {.size = sizeof config};
    struct coppice_nvme_ports ports;
    struct coppice_volume_info volume;
    if (!nvme->conf.blk) {
        error_setg(errp, "drive= is missing: name the image that this disk shows");
        return;
    }
    if (!find_image(nvme, &volume, errp) || !apply_properties(nvme, &config, &volume, errp) ||
        !place_in_context(nvme, errp)) {
        return;
    }
    if (!init_pci(nvme, config.vectors, errp)) {
        leave_context(nvme);
        return;
    }
    nvme->throttle = &blk_get_public(nvme->conf.blk)->throttle_group_member;
    /* The node's volume, if it is a snapshot, is shown too. */
    config.attach = &volume.id;
    config.attach_count = 1;
    coppice_nvme_fill_ports(nvme, &ports);
    coppice_nvme_fill_block(nvme, &volume);
    COPPICE_CONTEXT_ACQUIRE(nvme->context);
    nvme->store = wanted_store(nvme);
    nvme->controller =
        coppice_nvme_create(&config, &ports, nvme->store, nvme->store ? NULL : &nvme->block);
    COPPICE_CONTEXT_RELEASE(nvme->context);
    assert(nvme->controller); /* the properties were checked */
    name_boot_device(nvme, &volume);
    blk_set_dev_ops(nvme->conf.blk, &drive_events, nvme);
    nvme->state_changes = qemu_add_vm_change_state_handler(run_state_changed, nvme);
}

/* Unplugged. The drive stays with its owner; what the guest was promised is made durable here. */
static void coppice_nvme_exit(PCIDevice* pci)
{
    CoppiceNvme* nvme = COPPICE_NVME(pci);
    qemu_del_vm_change_state_handler(nvme->state_changes);
    COPPICE_CONTEXT_ACQUIRE(nvme->context);
    blk_drain(nvme->conf.blk);
    COPPICE_CONTEXT_RELEASE(nvme->context);
    drained_begin(nvme);
    COPPICE_CONTEXT_ACQUIRE(nvme->context);
    AIO_WAIT_WHILE(nvme->context, drained_poll(nvme));
    blk_set_dev_ops(nvme->conf.blk, NULL, NULL);
    if (blk_bs(nvme->conf.blk)) blk_flush(nvme->conf.blk);
    coppice_nvme_destroy(nvme->controller);
    COPPICE_CONTEXT_RELEASE(nvme->context);
    leave_context(nvme);
    msix_uninit_exclusive_bar(pci);
    if (pci_bus_is_express(pci_get_bus(pci))) pcie_cap_exit(pci);
    if (nvme->conf.bootindex >= 0) del_boot_device_path(DEVICE(nvme), nvme->boot_suffix);
}

/* ---- The type ---- */

static void coppice_nvme_instance_init(Object* object)
{
    CoppiceNvme* nvme = COPPICE_NVME(object);
    /* The suffix is the image's and replaces this one when the device is realized. */
    device_add_bootindex_property(object, &nvme->conf.bootindex, "bootindex", "/namespace@1,0",
                                  DEVICE(object));
}

static CoppiceProperty coppice_nvme_properties[] = {
    DEFINE_BLOCK_PROPERTIES(CoppiceNvme, conf),
    DEFINE_BLOCK_ERROR_PROPERTIES(CoppiceNvme, conf),
    DEFINE_PROP_STRING("serial", CoppiceNvme, serial),
    DEFINE_PROP_STRING("guest-manage", CoppiceNvme, guest_manage),
    DEFINE_PROP_UINT32("max-ioqpairs", CoppiceNvme, max_ioqpairs, COPPICE_NVME_MAX_VECTORS - 1),
    DEFINE_PROP_LINK("iothread", CoppiceNvme, iothread, TYPE_IOTHREAD, IOThread*),
    COPPICE_PROPERTIES_END};

static const VMStateDescription coppice_nvme_vmstate = {
    .name = "coppice-nvme",
    .unmigratable = 1,
};

static void coppice_nvme_class_init(ObjectClass* class, COPPICE_CLASS_DATA data)
{
    DeviceClass* device = DEVICE_CLASS(class);
    PCIDeviceClass* pci = PCI_DEVICE_CLASS(class);
    pci->realize = coppice_nvme_realize;
    pci->exit = coppice_nvme_exit;
    pci->config_write = coppice_nvme_config_write;
    pci->class_id = PCI_CLASS_STORAGE_EXPRESS;
    pci->vendor_id = PCI_VENDOR_ID_REDHAT_QUMRANET;
    pci->device_id = COPPICE_PCI_DEVICE_ID;
    pci->revision = 1;
    device->desc = "Coppice, a smart NVMe disk";
    device->vmsd = &coppice_nvme_vmstate;
    COPPICE_SET_RESET(device, coppice_nvme_device_reset);
    device_class_set_props(device, coppice_nvme_properties);
    set_bit(DEVICE_CATEGORY_STORAGE, device->categories);
}

static const TypeInfo coppice_nvme_type = {
    .name = TYPE_COPPICE_NVME,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(CoppiceNvme),
    .instance_init = coppice_nvme_instance_init,
    .class_init = coppice_nvme_class_init,
    .interfaces = (InterfaceInfo[]){{INTERFACE_PCIE_DEVICE}, {}},
};

static void coppice_nvme_register(void) { type_register_static(&coppice_nvme_type); }
type_init(coppice_nvme_register);
