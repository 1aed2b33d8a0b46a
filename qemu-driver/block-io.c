/* Reads, writes and what else a request can be, on the volume of a node. Each is one call of the
 * store, made in the request's own coroutine, and atomic there whatever its size. */
#include "image.h"

#include "qemu/coroutine_int.h"

int coroutine_fn coppice_bdrv_co_preadv(BlockDriverState* bs, int64_t offset, int64_t bytes,
                                        QEMUIOVector* qiov, BdrvRequestFlags flags)
{
    struct coppice_store* store = coppice_bdrv_store(bs);
    struct coppice_error error;
    if (!store) return -EIO;
    AioContext* here = coppice_bdrv_go_home(bs);
    int result =
        coppice_read(store, coppice_bdrv_volume(bs)->id, offset, qiov->iov, qiov->niov, &error);
    return coppice_bdrv_go_back(here, coppice_bdrv_result(bs, result, &error));
}

int coroutine_fn coppice_bdrv_co_pwritev(BlockDriverState* bs, int64_t offset, int64_t bytes,
                                         QEMUIOVector* qiov, BdrvRequestFlags flags)
{
    struct coppice_store* store = coppice_bdrv_store(bs);
    struct coppice_error error;
    if (!store) return -EIO;
    AioContext* here = coppice_bdrv_go_home(bs);
    int result = coppice_write(store, coppice_bdrv_volume(bs)->id, offset, qiov->iov, qiov->niov,
                               flags & BDRV_REQ_FUA, &error);
    return coppice_bdrv_go_back(here, coppice_bdrv_result(bs, result, &error));
}

int coroutine_fn coppice_bdrv_co_pwrite_zeroes(BlockDriverState* bs, int64_t offset, int64_t bytes,
                                               BdrvRequestFlags flags)
{
    if (flags & BDRV_REQ_MAY_UNMAP) return coppice_bdrv_co_pdiscard(bs, offset, bytes);
    struct coppice_store* store = coppice_bdrv_store(bs);
    struct coppice_error error;
    if (!store) return -EIO;
    AioContext* here = coppice_bdrv_go_home(bs);
    int result = coppice_write_zeroes(store, coppice_bdrv_volume(bs)->id, offset, bytes, &error);
    return coppice_bdrv_go_back(here, coppice_bdrv_result(bs, result, &error));
}

int coroutine_fn coppice_bdrv_co_pdiscard(BlockDriverState* bs, int64_t offset, int64_t bytes)
{
    struct coppice_store* store = coppice_bdrv_store(bs);
    struct coppice_range range = {.offset = offset, .length = bytes};
    struct coppice_error error;
    if (!store) return -EIO;
    AioContext* here = coppice_bdrv_go_home(bs);
    int result = coppice_deallocate(store, coppice_bdrv_volume(bs)->id, &range, 1, &error);
    return coppice_bdrv_go_back(here, coppice_bdrv_result(bs, result, &error));
}

/* QEMU has one flush of a node under way at a time and lets the others wait, in a queue that is for
 * each of them. All that a flush promises is what had completed before it came; so those that wait
 * when one begins are done with it, and one sync serves many writers. They are known by their
 * coroutines, which stay in the queue until this flush has ended, and call the driver after that;
 * one that comes later is not among them. */
static unsigned coroutine_fn waiting_flushes(BlockDriverState* bs, Coroutine** waiting)
{
    unsigned count = 0;
    Coroutine* one;
    qemu_co_mutex_lock(&bs->reqs_lock);
    QSIMPLEQ_FOREACH(one, &bs->flush_queue.entries, co_queue_next)
    {
        if (count < COPPICE_FLUSHES_TOGETHER) waiting[count++] = one;
    }
    qemu_co_mutex_unlock(&bs->reqs_lock);
    return count;
}

/* Did the last flush cover the one that calls? */
static bool coroutine_fn take_covered(CoppiceVolume* volume)
{
    for (unsigned i = 0; i < volume->covered_count; ++i) {
        if (volume->covered[i] == qemu_coroutine_self()) {
            volume->covered[i] = volume->covered[--volume->covered_count];
            return true;
        }
    }
    return false;
}

/* All of a flush: the store syncs the file when the volume's flush mode says so, and QEMU must not
 * do it again. cache=unsafe says that it need not last. */
int coroutine_fn coppice_bdrv_co_flush(BlockDriverState* bs)
{
    CoppiceVolume* volume = coppice_bdrv_volume(bs);
    struct coppice_store* store = coppice_bdrv_store(bs);
    struct coppice_error error;
    /* Without a store there is nothing to flush, unless it was lost with what it had. */
    if (!store) return (bs->open_flags & (BDRV_O_INACTIVE | BDRV_O_CHECK)) ? 0 : -EIO;
    if (bs->open_flags & BDRV_O_NO_FLUSH) return 0;
    AioContext* here = coppice_bdrv_go_home(bs);
    int result = 0;
    if (!take_covered(volume)) {
        Coroutine* waiting[COPPICE_FLUSHES_TOGETHER];
        unsigned count = waiting_flushes(bs, waiting);
        volume->covered_count = 0;
        result = coppice_flush(store, volume->id, &error);
        if (result >= 0) {
            memcpy(volume->covered, waiting, count * sizeof(*waiting));
            volume->covered_count = count;
        }
    }
    return coppice_bdrv_go_back(here, coppice_bdrv_result(bs, result, &error));
}

/* Looks at little first: the store resolves all of the range that it is asked for, and callers ask
 * for the rest of the disk again and again. */
enum { STATUS_FIRST_BYTES = 256 * 1024, STATUS_GROWTH = 8 };

static int coroutine_fn block_status(BlockDriverState* bs, struct coppice_store* store,
                                     int64_t offset, int64_t bytes,
                                     struct coppice_block_status* status)
{
    for (int64_t length = STATUS_FIRST_BYTES;; length *= STATUS_GROWTH) {
        length = MIN(length, bytes);
        int result =
            coppice_get_block_status(store, coppice_bdrv_volume(bs)->id, offset, length, status);
        if (result < 0 || status->length < length || length == bytes) return result;
    }
}

int coroutine_fn coppice_bdrv_co_block_status(BlockDriverState* bs, bool want_zero, int64_t offset,
                                              int64_t bytes, int64_t* length, int64_t* map,
                                              BlockDriverState** file)
{
    struct coppice_store* store = coppice_bdrv_store(bs);
    struct coppice_block_status status;
    if (!store) return -EIO;
    if (!want_zero) {
        /* Only whether a backing file shows through is asked, and there is none. */
        *length = bytes;
        return BDRV_BLOCK_DATA;
    }
    AioContext* here = coppice_bdrv_go_home(bs);
    int result = coppice_bdrv_go_back(here, block_status(bs, store, offset, bytes, &status));
    if (result < 0) return result;
    *length = status.length;
    if (status.state != COPPICE_BLOCK_DATA) return BDRV_BLOCK_ZERO;
    if (status.host_offset < 0) return BDRV_BLOCK_DATA;
    *map = status.host_offset;
    *file = bs->file->bs;
    return BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
}

/* Copies between volumes of one image share the blocks. Others are QEMU's to make. */
int coroutine_fn coppice_bdrv_co_copy_range_from(BlockDriverState* bs, BdrvChild* source,
                                                 int64_t source_offset, BdrvChild* target,
                                                 int64_t target_offset, int64_t bytes,
                                                 BdrvRequestFlags read_flags,
                                                 BdrvRequestFlags write_flags)
{
    return bdrv_co_copy_range_to(source, source_offset, target, target_offset, bytes, read_flags,
                                 write_flags);
}

int coroutine_fn coppice_bdrv_co_copy_range_to(BlockDriverState* bs, BdrvChild* source,
                                               int64_t source_offset, BdrvChild* target,
                                               int64_t target_offset, int64_t bytes,
                                               BdrvRequestFlags read_flags,
                                               BdrvRequestFlags write_flags)
{
    struct coppice_store* store = coppice_bdrv_store(bs);
    struct coppice_error error;
    if (!store || coppice_block_store(source->bs) != store) return -ENOTSUP;
    AioContext* here = coppice_bdrv_go_home(bs);
    struct coppice_clone_source from = {
        .volume = coppice_bdrv_volume(source->bs)->id,
        .range = {.offset = source_offset, .length = bytes},
    };
    int result = coppice_clone(store, coppice_bdrv_volume(bs)->id, target_offset, &from, 1, &error);
    if (result >= 0 && (write_flags & BDRV_REQ_FUA)) {
        result = coppice_flush(store, coppice_bdrv_volume(bs)->id, &error);
    }
    return coppice_bdrv_go_back(here, coppice_bdrv_result(bs, result, &error));
}

/* ---- Size and shape ---- */

int64_t coppice_bdrv_getlength(BlockDriverState* bs)
{
    struct coppice_store* store = coppice_bdrv_store(bs);
    struct coppice_volume_info info;
    if (!store) return bs->total_sectors * BDRV_SECTOR_SIZE;
    int result = coppice_get_volume(store, coppice_bdrv_volume(bs)->id, &info);
    return result < 0 ? result : (int64_t)info.size_bytes;
}

int coroutine_fn coppice_bdrv_co_truncate(BlockDriverState* bs, int64_t bytes, bool exact,
                                          PreallocMode preallocation, BdrvRequestFlags flags,
                                          Error** errp)
{
    struct coppice_store* store = coppice_bdrv_store(bs);
    struct coppice_error error;
    if (preallocation != PREALLOC_MODE_OFF) {
        error_setg(errp,
                   "preallocation=%s is not supported; what is written goes to new places "
                   "anyway",
                   PreallocMode_str(preallocation));
        return -ENOTSUP;
    }
    if (!store) {
        error_setg(errp, "the image is not open");
        return -EIO;
    }
    int result = coppice_resize(store, coppice_bdrv_volume(bs)->id, bytes, &error);
    if (result < 0) error_setg(errp, "%s", error.text);
    return result;
}

int coppice_bdrv_get_info(BlockDriverState* bs, BlockDriverInfo* info)
{
    struct coppice_store* store = coppice_bdrv_store(bs);
    info->cluster_size = 4096;
    if (store) info->vm_state_offset = coppice_bdrv_getlength(bs);
    return 0;
}

void coppice_bdrv_refresh_limits(BlockDriverState* bs, Error** errp)
{
    bs->bl.request_alignment = BDRV_SECTOR_SIZE;
    bs->bl.pwrite_zeroes_alignment = 4096;
    bs->bl.pdiscard_alignment = 4096;
    bs->bl.max_transfer = 32 * MiB; /* FORMAT.md: one write is one unit up to here */
}

int coppice_bdrv_probe_blocksizes(BlockDriverState* bs, BlockSizes* sizes)
{
    CoppiceVolume* volume = coppice_bdrv_volume(bs);
    if (!volume->lba_bytes) return -ENOTSUP;
    *sizes = (BlockSizes){.log = volume->lba_bytes, .phys = 4096};
    return 0;
}

/* ---- Check ---- */

static void print_finding(void* opaque, const char* text) { fprintf(stderr, "%s\n", text); }

int coroutine_fn coppice_bdrv_co_check(BlockDriverState* bs, BdrvCheckResult* result,
                                       BdrvCheckMode fix)
{
    struct coppice_store* store = coppice_bdrv_store(bs);
    struct coppice_check_result found;
    struct coppice_error error = {};
    CoppicePorts ports;
    if (store && !coppice_is_read_only(store)) {
        int done = coppice_checkpoint(store, &error);
        if (done < 0) return coppice_bdrv_result(bs, done, &error);
    }
    if (fix) {
        fprintf(stderr, "Coppice needs no repair after a crash, and damage is not repaired in "
                        "place; this is a check only.\n");
    }
    coppice_bdrv_ports_init(&ports, bs, NULL, true);
    int done = coppice_check(&ports.ports, true, print_finding, NULL, &found, &error);
    if (done < 0) {
        error_report("coppice: %s", error.text);
        result->check_errors++;
        return 0;
    }
    result->corruptions = found.corruptions;
    result->leaks = found.leaks;
    result->image_end_offset = found.image_end_offset;
    result->bfi.total_clusters = found.total_blocks;
    result->bfi.allocated_clusters = found.used_blocks;
    result->bfi.fragmented_clusters = found.fragmented_extents;
    return 0;
}
