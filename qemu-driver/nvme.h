/* What the files of the device module share.
 *
 *   nvme.c        the device: properties, realize, registers, drained sections, way of the data
 *   nvme-host.c   the controller's ports: guest memory, interrupts, accounting, the block layer
 *
 *   virtual CPU ──registers──▶ CoppiceNvme ──▶ coppice_nvme (controller/, C++)
 *                                                  │ directly, while the drive's root node is the
 *                                                  ├────────▶ store           image itself, or
 *                                                  └────────▶ blk_aio_* ──▶ filters, jobs ──▶ image
 *
 * Everything of the controller happens in `context`, that of the drive: the main loop's, or an
 * iothread's. Virtual CPUs hand doorbells over by a bottom half and wait for other registers. */
#pragma once

#include "image.h"

#include "block/aio-wait.h"
#include "hw/block/block.h"
#include "hw/pci/msix.h"
#include COPPICE_PCI_DEVICE_H
#include "hw/qdev-properties-system.h"
#include "hw/qdev-properties.h"
#include COPPICE_IOTHREAD_H

#include "coppice-nvme.h"

enum { COPPICE_NVME_MAX_VECTORS = COPPICE_NVME_DEFAULT_VECTORS };

typedef struct CoppiceNvme {
    PCIDevice pci;
    /* properties */
    BlockConf conf;
    char* serial;
    char* guest_manage;
    uint32_t max_ioqpairs;
    IOThread* iothread;

    MemoryRegion registers;
    char boot_suffix[64]; /* firmware's name of the namespace */
    AioContext* context;
    struct coppice_nvme* controller;
    BlockDriverState* image;     /* the node of the image, below filters */
    struct coppice_store* store; /* the controller goes to it; NULL: to the block layer */
    struct coppice_nvme_block block;
    ThrottleGroupMember* throttle; /* the drive's; QEMU hands it out to the main thread only */
    QEMUBH* poll;
    QEMUBH* settle;
    VMChangeStateEntry* state_changes;

    /* Asked for by other threads (atomic), done by `settle` in the context. */
    bool want_stop; /* in a drained section, or going away */
    bool want_rescan, want_retry, want_interrupt_mode;
    bool quiet; /* stopped, and nothing is under way */
    /* In the context only. */
    bool stopped;
    bool wrote; /* to the store, past the node */

    /* Interrupts on their way to the main loop. */
    QEMUBH* interrupt;
    DECLARE_BITMAP(messages, COPPICE_NVME_MAX_VECTORS);
    bool pin;
} CoppiceNvme;

#define TYPE_COPPICE_NVME "coppice-nvme"
OBJECT_DECLARE_SIMPLE_TYPE(CoppiceNvme, COPPICE_NVME)

void coppice_nvme_fill_ports(CoppiceNvme* nvme, struct coppice_nvme_ports* ports);
void coppice_nvme_fill_block(CoppiceNvme* nvme, const struct coppice_volume_info* volume);
/* In the main loop: sends what other threads have put aside. */
void coppice_nvme_send_interrupts(void* opaque);
