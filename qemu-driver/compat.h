/* What differs between the QEMU versions that the modules are built for: 7.2 (Debian 12) and 10.0
 * (Debian 13). The glue is written for the newer one; this file gives the older one its words.
 *
 * Include it first: it brings QEMU's osdep.h, which must precede every other header, and the
 * headers that moved between the versions. */
#pragma once

#include "qemu/osdep.h"

#include "block/block_int.h"
#include "block/snapshot.h"
#include "qapi/error.h"
#include "qemu/coroutine.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/iov.h"
#include "qemu/main-loop.h"
#include "qemu/memalign.h"
#include "qemu/module.h"
#include "qemu/option.h"
#include "qemu/units.h"

#if __has_include("qobject/qdict.h") /* since 10.0 */
#include "qobject/qdict.h"
#include "qobject/qstring.h"
#else
#include "qapi/qmp/qdict.h"
#include "qapi/qmp/qstring.h"
#endif

#if __has_include("system/block-backend.h") /* since 10.0 */
#include "system/block-backend.h"
#else
#include "sysemu/block-backend.h"
#endif

/* For the device only: struct PCIDevice has a header of its own since 8.0. */
#if __has_include("hw/pci/pci_device.h")
#define COPPICE_PCI_DEVICE_H "hw/pci/pci_device.h"
#else
#define COPPICE_PCI_DEVICE_H "hw/pci/pci.h"
#endif

#define COPPICE_QEMU_AT_LEAST(major, minor) \
    (QEMU_VERSION_MAJOR > (major) ||        \
     (QEMU_VERSION_MAJOR == (major) && QEMU_VERSION_MINOR >= (minor)))

/* 9.1 dropped the terminator of property arrays in steps, 10.0 altogether: arrays are counted. */
#if COPPICE_QEMU_AT_LEAST(10, 0)
#define COPPICE_PROPERTIES_END
typedef const Property CoppiceProperty;
#else
#define COPPICE_PROPERTIES_END DEFINE_PROP_END_OF_LIST(),
typedef Property CoppiceProperty;
#endif

/* The block graph got a lock that readers annotate; 7.2 knows neither lock nor annotation. */
#ifndef GRAPH_RDLOCK
#define GRAPH_RDLOCK
#define GRAPH_UNLOCKED
#define GRAPH_RDLOCK_GUARD_MAINLOOP() ((void)0)
#define GRAPH_RDLOCK_GUARD() ((void)0)
#endif

/* Calls into the block layer from a coroutine, by the names of the version. */
#if COPPICE_QEMU_AT_LEAST(8, 0)
#define COPPICE_GETLENGTH bdrv_co_getlength
#define COPPICE_BLOCK_STATUS bdrv_co_block_status_above
#define COPPICE_CREATE_FILE bdrv_co_create_file
#define COPPICE_OPEN_NODE bdrv_co_open
#define COPPICE_BLK_NEW_WITH_BS blk_co_new_with_bs
#define COPPICE_BLK_UNREF blk_co_unref
#define COPPICE_BDRV_UNREF bdrv_co_unref
#else
#define COPPICE_GETLENGTH bdrv_getlength
#define COPPICE_BLOCK_STATUS bdrv_block_status_above
#define COPPICE_CREATE_FILE bdrv_create_file
#define COPPICE_OPEN_NODE bdrv_open
#define COPPICE_BLK_NEW_WITH_BS blk_new_with_bs
#define COPPICE_BLK_UNREF blk_unref
#define COPPICE_BDRV_UNREF bdrv_unref
#endif

/* Block driver members that became coroutines and were renamed for it. The functions behind them
 * must therefore work in a coroutine and outside of one. */
#if COPPICE_QEMU_AT_LEAST(8, 0)
#define COPPICE_BDRV_GETLENGTH bdrv_co_getlength
#define COPPICE_BDRV_GET_INFO bdrv_co_get_info
#define COPPICE_BDRV_SAVE_VMSTATE bdrv_co_save_vmstate
#define COPPICE_BDRV_LOAD_VMSTATE bdrv_co_load_vmstate
#else
#define COPPICE_BDRV_GETLENGTH bdrv_getlength
#define COPPICE_BDRV_GET_INFO bdrv_get_info
#define COPPICE_BDRV_SAVE_VMSTATE bdrv_save_vmstate
#define COPPICE_BDRV_LOAD_VMSTATE bdrv_load_vmstate
#endif

/* For the device only: headers that moved. As strings, since a macro with the folder as a word does
 * not survive clang-format. */
#if __has_include("system/iothread.h") /* since 10.0 */
#define COPPICE_IOTHREAD_H "system/iothread.h"
#define COPPICE_RUNSTATE_H "system/runstate.h"
#define COPPICE_SYSTEM_H "system/system.h"
#else
#define COPPICE_IOTHREAD_H "sysemu/iothread.h"
#define COPPICE_RUNSTATE_H "sysemu/runstate.h"
#define COPPICE_SYSTEM_H "sysemu/sysemu.h"
#endif

/* Until 9.0 a context had a lock, held around everything that is done in it. */
#if COPPICE_QEMU_AT_LEAST(9, 0)
#define COPPICE_CONTEXT_ACQUIRE(context) ((void)(context))
#define COPPICE_CONTEXT_RELEASE(context) ((void)(context))
#else
#define COPPICE_CONTEXT_ACQUIRE(context) aio_context_acquire(context)
#define COPPICE_CONTEXT_RELEASE(context) aio_context_release(context)
#endif

/* In iothreads the length is asked for outside of coroutines. */
#define COPPICE_BLK_GETLENGTH blk_getlength

#if COPPICE_QEMU_AT_LEAST(10, 0)
#define COPPICE_MEMORY_IS_DIRECT(region, write) \
    memory_access_is_direct(region, write, MEMTXATTRS_UNSPECIFIED)
#else
#define COPPICE_MEMORY_IS_DIRECT(region, write) memory_access_is_direct(region, write)
#endif
#if COPPICE_QEMU_AT_LEAST(10, 1)
#define COPPICE_CLASS_DATA const void*
#else
#define COPPICE_CLASS_DATA void*
#endif
#if COPPICE_QEMU_AT_LEAST(9, 2)
#define COPPICE_SET_RESET(device, function) device_class_set_legacy_reset(device, function)
#else
#define COPPICE_SET_RESET(device, function) ((device)->reset = (function))
#endif
/* 8.1 guards bottom halves against re-entrance by their device's memory; ours do no such thing. */
#define COPPICE_BH_NEW(context, body, argument) aio_bh_new(context, body, argument)
