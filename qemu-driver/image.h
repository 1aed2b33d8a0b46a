/* What the files of the block module share, and what the device module may ask it.
 *
 *   block.c            the driver: options, open, reopen, close, permissions
 *   block-io.c         reads, writes, status, resizing, check
 *   block-create.c     create, measure
 *   block-snapshots.c  snapshots
 *   image.c            one store for one file node: its life, drained sections, its timer
 *   ports.c            the store's ports: coroutines and bs->file
 *
 *   BlockDriverState (a volume) ──▶ CoppiceImage ──▶ coppice_store
 *   BlockDriverState (another)  ──▶      │
 *                                        └──▶ CoppicePorts ──▶ bs->file of the owning node
 */
#pragma once

#include "compat.h"

#include "coppice.h"

/* ---- ports.c ---- */

typedef struct CoppicePorts {
    struct coppice_ports ports; /* what the store is given */
    BlockDriverState* bs;       /* all goes to its `file`; or */
    BlockBackend* blk;          /* while an image is made, to this */
} CoppicePorts;

void coppice_bdrv_ports_init(CoppicePorts* ports, BlockDriverState* bs, BlockBackend* blk,
                             bool read_only);
AioContext* coppice_bdrv_ports_context(CoppicePorts* ports);

/* ---- image.c ---- */

typedef struct CoppiceImage CoppiceImage;
struct CoppiceImage {
    CoppicePorts ports;
    struct coppice_store* store; /* NULL: closed while inactive, or lost by a failed reopen */
    BlockDriverState* owner;     /* whose file child has the permissions; the others' have none */
    GSList* users;               /* all nodes that are open on it */
    bool read_only;              /* how the store was opened */
    unsigned drained;            /* drained sections that some node is in */
    QEMUTimer* tick;
    GHashTable* reported; /* names of errors that the log has seen since the store was opened */
};

enum { COPPICE_FLUSHES_TOGETHER = 64 };

/* bs->opaque */
typedef struct CoppiceVolume {
    CoppiceImage* image; /* NULL: opened for `check` only */
    uint32_t id;
    unsigned lba_bytes;
    bool joined; /* not the owner: its file child needs no permissions */
    /* Flushes that waited in QEMU while the last one was done, and that it covers. */
    Coroutine* covered[COPPICE_FLUSHES_TOGETHER];
    unsigned covered_count;
} CoppiceVolume;

/* Whether a node of ours already has an image open on this file node. */
bool coppice_bdrv_image_is_open(BlockDriverState* file);
/* Joins the image behind bs->file or makes it; fails with a message. */
CoppiceImage* coppice_bdrv_image_join(BlockDriverState* bs, bool read_only, Error** errp);
/* The last node to leave closes the store, so that all is durable. */
void coppice_bdrv_image_leave(CoppiceImage* image, BlockDriverState* bs);
int coppice_bdrv_image_open_store(CoppiceImage* image, bool read_only, Error** errp);
/* Everything durable, a checkpoint; the store is gone then, also after an error. */
int coppice_bdrv_image_close_store(CoppiceImage* image, Error** errp);
/* As it is; nothing is written. */
void coppice_bdrv_image_drop_store(CoppiceImage* image);
void coppice_bdrv_image_pause(CoppiceImage* image); /* coroutine */
void coppice_bdrv_image_resume(CoppiceImage* image);
void coppice_bdrv_image_start_tick(CoppiceImage* image);
void coppice_bdrv_image_stop_tick(CoppiceImage* image);

/* Runs body(argument) as a coroutine of the node and waits for it, also when called in one. */
int coppice_bdrv_run(BlockDriverState* bs, int (*body)(void* argument), void* argument);
/* Hands on `result`; failures that are not the guest's affair reach the log, each kind once. */
int coppice_bdrv_result(BlockDriverState* bs, int result, const struct coppice_error* error);

static inline CoppiceVolume* coppice_bdrv_volume(BlockDriverState* bs) { return bs->opaque; }
/* NULL: there is none, requests fail. */
static inline struct coppice_store* coppice_bdrv_store(BlockDriverState* bs)
{
    CoppiceVolume* volume = coppice_bdrv_volume(bs);
    return volume->image ? volume->image->store : NULL;
}

/* Since 9.0 a node's requests may come from several threads. The store has one: a request goes
 * over to the node's context, and back when it is done. Before, it always is there. */
static inline AioContext* coroutine_fn coppice_bdrv_go_home(BlockDriverState* bs)
{
    AioContext* here = qemu_get_current_aio_context();
    if (COPPICE_QEMU_AT_LEAST(9, 0) && here != bdrv_get_aio_context(bs)) {
        aio_co_reschedule_self(bdrv_get_aio_context(bs));
    }
    return here;
}
static inline int coroutine_fn coppice_bdrv_go_back(AioContext* context, int result)
{
    if (COPPICE_QEMU_AT_LEAST(9, 0) && context != qemu_get_current_aio_context()) {
        aio_co_reschedule_self(context);
    }
    return result;
}

/* ---- the members of the driver ---- */

extern QemuOptsList coppice_bdrv_create_options;
int coroutine_fn coppice_bdrv_co_create_opts(BlockDriver* driver, const char* filename,
                                             QemuOpts* options, Error** errp);
BlockMeasureInfo* coppice_bdrv_measure(QemuOpts* options, BlockDriverState* source, Error** errp);

int coroutine_fn coppice_bdrv_co_preadv(BlockDriverState* bs, int64_t offset, int64_t bytes,
                                        QEMUIOVector* qiov, BdrvRequestFlags flags);
int coroutine_fn coppice_bdrv_co_pwritev(BlockDriverState* bs, int64_t offset, int64_t bytes,
                                         QEMUIOVector* qiov, BdrvRequestFlags flags);
int coroutine_fn coppice_bdrv_co_pwrite_zeroes(BlockDriverState* bs, int64_t offset, int64_t bytes,
                                               BdrvRequestFlags flags);
int coroutine_fn coppice_bdrv_co_pdiscard(BlockDriverState* bs, int64_t offset, int64_t bytes);
int coroutine_fn coppice_bdrv_co_flush(BlockDriverState* bs);
int coroutine_fn coppice_bdrv_co_block_status(BlockDriverState* bs, bool want_zero, int64_t offset,
                                              int64_t bytes, int64_t* length, int64_t* map,
                                              BlockDriverState** file);
int coroutine_fn coppice_bdrv_co_copy_range_from(BlockDriverState* bs, BdrvChild* source,
                                                 int64_t source_offset, BdrvChild* target,
                                                 int64_t target_offset, int64_t bytes,
                                                 BdrvRequestFlags read_flags,
                                                 BdrvRequestFlags write_flags);
int coroutine_fn coppice_bdrv_co_copy_range_to(BlockDriverState* bs, BdrvChild* source,
                                               int64_t source_offset, BdrvChild* target,
                                               int64_t target_offset, int64_t bytes,
                                               BdrvRequestFlags read_flags,
                                               BdrvRequestFlags write_flags);
int64_t coppice_bdrv_getlength(BlockDriverState* bs);
int coroutine_fn coppice_bdrv_co_truncate(BlockDriverState* bs, int64_t bytes, bool exact,
                                          PreallocMode preallocation, BdrvRequestFlags flags,
                                          Error** errp);
int coppice_bdrv_get_info(BlockDriverState* bs, BlockDriverInfo* info);
int coroutine_fn coppice_bdrv_co_check(BlockDriverState* bs, BdrvCheckResult* result,
                                       BdrvCheckMode fix);
void coppice_bdrv_refresh_limits(BlockDriverState* bs, Error** errp);
int coppice_bdrv_probe_blocksizes(BlockDriverState* bs, BlockSizes* sizes);

/* Number of the snapshot of the volume by name or, if no name fits, by number; or -ENOENT. */
int64_t coppice_bdrv_find_snapshot(struct coppice_store* store, uint32_t volume, const char* id,
                                   const char* name);
int coppice_bdrv_snapshot_create(BlockDriverState* bs, QEMUSnapshotInfo* info);
int coppice_bdrv_snapshot_goto(BlockDriverState* bs, const char* id);
int coppice_bdrv_snapshot_delete(BlockDriverState* bs, const char* id, const char* name,
                                 Error** errp);
int coppice_bdrv_snapshot_list(BlockDriverState* bs, QEMUSnapshotInfo** entries);
int coppice_bdrv_snapshot_load_tmp(BlockDriverState* bs, const char* id, const char* name,
                                   Error** errp);
int coroutine_fn coppice_bdrv_save_vmstate(BlockDriverState* bs, QEMUIOVector* qiov,
                                           int64_t position);
int coroutine_fn coppice_bdrv_load_vmstate(BlockDriverState* bs, QEMUIOVector* qiov,
                                           int64_t position);

/* ---- for the device module ---- */

#define COPPICE_BLOCK_EXPORT __attribute__((visibility("default")))

/* The node's store, while the node is of this format and open; else NULL. It may be another one
 * after each drained section. */
COPPICE_BLOCK_EXPORT struct coppice_store* coppice_block_store(BlockDriverState* bs);
COPPICE_BLOCK_EXPORT uint32_t coppice_block_volume(BlockDriverState* bs);
/* Writes went past the node into its store: without this QEMU would think its next flush idle. */
COPPICE_BLOCK_EXPORT void coppice_block_wrote(BlockDriverState* bs);
