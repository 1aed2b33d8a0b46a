/* The device `coppice-nvme`: an NVMe controller on QEMU's PCI bus. */
#include "compat.h"

#include "hw/block/block.h"
#include "hw/pci/msix.h"
#include COPPICE_PCI_DEVICE_H
#include "hw/qdev-properties-system.h"
#include "hw/qdev-properties.h"

/* Registers, then a doorbell pair for each of the queues; a power of two. */
enum { REGISTER_BAR = 0, REGISTER_BAR_BYTES = 16 * 1024, MSIX_BAR = 4, VECTORS = 65 };

struct CoppiceNvme {
    PCIDevice pci;
    BlockConf conf;
    char* serial;
    MemoryRegion registers;
};

#define TYPE_COPPICE_NVME "coppice-nvme"
OBJECT_DECLARE_SIMPLE_TYPE(CoppiceNvme, COPPICE_NVME)

static uint64_t coppice_nvme_read(void* opaque, hwaddr address, unsigned size) {
    return 0;
}

static void coppice_nvme_write(void* opaque, hwaddr address, uint64_t value, unsigned size) {}

static const MemoryRegionOps coppice_nvme_ops = {
    .read = coppice_nvme_read,
    .write = coppice_nvme_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .impl = {.min_access_size = 2, .max_access_size = 8},
};

static void coppice_nvme_realize(PCIDevice* pci, Error** errp) {
    CoppiceNvme* nvme = COPPICE_NVME(pci);
    if (!nvme->conf.blk) {
        error_setg(errp, "drive= is missing: name the image that this disk shows");
        return;
    }
    memory_region_init_io(&nvme->registers, OBJECT(nvme), &coppice_nvme_ops, nvme,
                          "coppice-nvme-registers", REGISTER_BAR_BYTES);
    pci_register_bar(pci, REGISTER_BAR,
                     PCI_BASE_ADDRESS_SPACE_MEMORY | PCI_BASE_ADDRESS_MEM_TYPE_64,
                     &nvme->registers);
    msix_init_exclusive_bar(pci, VECTORS, MSIX_BAR, errp);
}

static void coppice_nvme_exit(PCIDevice* pci) {
    msix_uninit_exclusive_bar(pci);
}

static CoppiceProperty coppice_nvme_properties[] = {
    DEFINE_BLOCK_PROPERTIES(CoppiceNvme, conf), DEFINE_PROP_STRING("serial", CoppiceNvme, serial),
    COPPICE_PROPERTIES_END};

static void coppice_nvme_class_init(ObjectClass* class, void* data) {
    DeviceClass* device = DEVICE_CLASS(class);
    PCIDeviceClass* pci = PCI_DEVICE_CLASS(class);
    pci->realize = coppice_nvme_realize;
    pci->exit = coppice_nvme_exit;
    pci->class_id = PCI_CLASS_STORAGE_EXPRESS;
    pci->vendor_id = PCI_VENDOR_ID_REDHAT;
    pci->device_id = PCI_DEVICE_ID_REDHAT_NVME;
    device->desc = "Coppice, a smart NVMe disk";
    device_class_set_props(device, coppice_nvme_properties);
    set_bit(DEVICE_CATEGORY_STORAGE, device->categories);
}

static const TypeInfo coppice_nvme_type = {
    .name = TYPE_COPPICE_NVME,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(CoppiceNvme),
    .class_init = coppice_nvme_class_init,
    .interfaces = (InterfaceInfo[]){{INTERFACE_PCIE_DEVICE}, {}},
};

static void coppice_nvme_register(void) {
    type_register_static(&coppice_nvme_type);
}
type_init(coppice_nvme_register);
