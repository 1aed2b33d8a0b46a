/* Snapshots of a node's volume as QEMU's internal snapshots: qemu-img snapshot, QMP
 * blockdev-snapshot-internal-sync, convert -l. QEMU's id of one is its number in the image. */
#include "image.h"

enum { NS_PER_S = 1000 * 1000 * 1000 };

int64_t coppice_bdrv_find_snapshot(struct coppice_store* store, uint32_t volume, const char* id,
                                   const char* name)
{
    struct coppice_volume_info info;
    unsigned number;
    int64_t found = name ? coppice_find(store, name, volume) : -ENOENT;
    if (found < 0 && id && qemu_strtoui(id, NULL, 10, &number) == 0 &&
        coppice_get_volume(store, number, &info) == 0 && info.snapshot && info.parent == volume) {
        found = number;
    }
    return found;
}

/* As QEMU asks for one: by both, where both are given they must belong together. */
static int64_t find_exactly(BlockDriverState* bs, const char* id, const char* name)
{
    struct coppice_store* store = coppice_bdrv_store(bs);
    uint32_t volume = coppice_bdrv_volume(bs)->id;
    int64_t by_name = name ? coppice_bdrv_find_snapshot(store, volume, NULL, name) : -ENOENT;
    int64_t by_id = id ? coppice_bdrv_find_snapshot(store, volume, id, NULL) : -ENOENT;
    if (id && name) return by_name == by_id ? by_id : -ENOENT;
    return id ? by_id : by_name;
}

/* ---- Calls that wait ---- */

typedef struct SnapshotCall {
    BlockDriverState* bs;
    QEMUSnapshotInfo* info;
    uint32_t snapshot;
    int64_t made;
    struct coppice_error error;
} SnapshotCall;

static int create(void* opaque)
{
    SnapshotCall* call = opaque;
    call->made = coppice_snapshot(coppice_bdrv_store(call->bs), coppice_bdrv_volume(call->bs)->id,
                                  call->info->name, false, call->info->vm_state_size,
                                  call->info->vm_clock_nsec, call->info->icount, &call->error);
    return call->made < 0 ? call->made : 0;
}

static int rollback(void* opaque)
{
    SnapshotCall* call = opaque;
    return coppice_rollback(coppice_bdrv_store(call->bs), coppice_bdrv_volume(call->bs)->id,
                            call->snapshot, &call->error);
}

static int remove_snapshot(void* opaque)
{
    SnapshotCall* call = opaque;
    return coppice_remove(coppice_bdrv_store(call->bs), call->snapshot, &call->error);
}

/* QEMU shows the errno only, so the sentence goes to the log. */
static int run(SnapshotCall* call, int (*body)(void* opaque))
{
    int result = coppice_bdrv_run(call->bs, body, call);
    if (result < 0) {
        error_report("coppice: %s: %s", bdrv_get_device_or_node_name(call->bs), call->error.text);
    }
    return result;
}

/* ---- The driver's members ---- */

int coppice_bdrv_snapshot_create(BlockDriverState* bs, QEMUSnapshotInfo* info)
{
    SnapshotCall call = {.bs = bs, .info = info};
    if (!coppice_bdrv_store(bs)) return -EIO;
    int result = run(&call, create);
    if (result >= 0) snprintf(info->id_str, sizeof info->id_str, "%" PRId64, call.made);
    return result;
}

int coppice_bdrv_snapshot_goto(BlockDriverState* bs, const char* id)
{
    SnapshotCall call = {.bs = bs};
    struct coppice_store* store = coppice_bdrv_store(bs);
    if (!store) return -EIO;
    int64_t found = coppice_bdrv_find_snapshot(store, coppice_bdrv_volume(bs)->id, id, id);
    if (found < 0) return found;
    call.snapshot = found;
    int result = run(&call, rollback);
    /* The volume has the size that it had then. */
    if (result >= 0) bs->total_sectors = coppice_bdrv_getlength(bs) / BDRV_SECTOR_SIZE;
    return result;
}

int coppice_bdrv_snapshot_delete(BlockDriverState* bs, const char* id, const char* name,
                                 Error** errp)
{
    SnapshotCall call = {.bs = bs};
    if (!coppice_bdrv_store(bs)) {
        error_setg(errp, "the image is not open");
        return -EIO;
    }
    int64_t found = find_exactly(bs, id, name);
    if (found < 0) {
        error_setg(errp, "Can't find the snapshot");
        return found;
    }
    call.snapshot = found;
    int result = coppice_bdrv_run(bs, remove_snapshot, &call);
    if (result < 0) error_setg(errp, "%s", call.error.text);
    return result;
}

int coppice_bdrv_snapshot_list(BlockDriverState* bs, QEMUSnapshotInfo** entries)
{
    struct coppice_store* store = coppice_bdrv_store(bs);
    uint32_t volume = coppice_bdrv_volume(bs)->id;
    int found = 0;
    if (!store) return -EIO;
    size_t count = coppice_list_volumes(store, NULL, 0);
    g_autofree struct coppice_volume_info* all = g_new(struct coppice_volume_info, count);
    count = MIN(count, coppice_list_volumes(store, all, count));
    *entries = g_new0(QEMUSnapshotInfo, count);
    for (size_t i = 0; i < count; i++) {
        if (!all[i].snapshot || all[i].parent != volume) continue;
        QEMUSnapshotInfo* entry = &(*entries)[found++];
        snprintf(entry->id_str, sizeof entry->id_str, "%" PRIu32, all[i].id);
        pstrcpy(entry->name, sizeof entry->name, all[i].name);
        entry->vm_state_size = all[i].vm_state_bytes;
        entry->date_sec = all[i].created_unix_ns / NS_PER_S;
        entry->date_nsec = all[i].created_unix_ns % NS_PER_S;
        entry->vm_clock_nsec = all[i].vm_clock_ns;
        entry->icount = all[i].icount;
    }
    return found;
}

/* The read-only node shows the snapshot from now on. */
int coppice_bdrv_snapshot_load_tmp(BlockDriverState* bs, const char* id, const char* name,
                                   Error** errp)
{
    struct coppice_volume_info info;
    int64_t found = coppice_bdrv_store(bs) ? find_exactly(bs, id, name) : -EIO;
    if (found < 0 || coppice_get_volume(coppice_bdrv_store(bs), found, &info) < 0) {
        error_setg(errp, "Can't find the snapshot");
        return -ENOENT;
    }
    coppice_bdrv_volume(bs)->id = found;
    bs->total_sectors = info.size_bytes / BDRV_SECTOR_SIZE;
    return 0;
}

/* ---- VM state ----
 *
 * The format has room for it (VolumeRecord), the store does not keep it yet. Without these two QEMU
 * would ask the file below. */

int coroutine_fn coppice_bdrv_save_vmstate(BlockDriverState* bs, QEMUIOVector* qiov,
                                           int64_t position)
{
    return -ENOTSUP;
}

int coroutine_fn coppice_bdrv_load_vmstate(BlockDriverState* bs, QEMUIOVector* qiov,
                                           int64_t position)
{
    return -ENOTSUP;
}
