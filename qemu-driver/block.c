/* The image format `coppice` as a block driver of QEMU: how images are opened and closed. The map
 * of the module stands in image.h.
 *
 * A node shows one volume of an image, or one of its snapshots:
 *
 *   volume=NAME|NUMBER      which volume; default: the one with the lowest number
 *   snapshot=NAME|NUMBER    which of its snapshots, read-only; default: none, the volume itself
 *
 * A name goes before a number. */
#include "image.h"

#define OPTION_VOLUME "volume"
#define OPTION_SNAPSHOT "snapshot"
#define CLOSED_LIST_NAME "cloop" /* explained where it is registered, at the end */

static QemuOptsList open_options = {
    .name = "coppice",
    .head = QTAILQ_HEAD_INITIALIZER(open_options.head),
    .desc =
        {
            {
                .name = OPTION_VOLUME,
                .type = QEMU_OPT_STRING,
                .help = "volume to open, by name or number (default: the first)",
            },
            {
                .name = OPTION_SNAPSHOT,
                .type = QEMU_OPT_STRING,
                .help = "snapshot of the volume to open, by name or number; read-only",
            },
            {},
        },
};

static const char* const strong_options[] = {OPTION_VOLUME, OPTION_SNAPSHOT, NULL};

static int coppice_bdrv_probe(const uint8_t* bytes, int length, const char* file_name)
{
    return coppice_probe(bytes, length);
}

/* ---- Which volume ---- */

static int64_t first_volume(struct coppice_store* store)
{
    size_t count = coppice_list_volumes(store, NULL, 0);
    g_autofree struct coppice_volume_info* entries = g_new(struct coppice_volume_info, count);
    count = MIN(count, coppice_list_volumes(store, entries, count));
    for (size_t i = 0; i < count; i++) {
        if (!entries[i].snapshot) return entries[i].id;
    }
    return -ENOENT;
}

static int64_t find_volume(struct coppice_store* store, const char* wanted)
{
    int64_t id = coppice_find(store, wanted, 0);
    unsigned number;
    struct coppice_volume_info info;
    if (id < 0 && qemu_strtoui(wanted, NULL, 10, &number) == 0 &&
        coppice_get_volume(store, number, &info) == 0 && !info.snapshot) {
        id = number;
    }
    return id;
}

static int choose(struct coppice_store* store, QemuOpts* options, struct coppice_volume_info* info,
                  Error** errp)
{
    const char* volume = qemu_opt_get(options, OPTION_VOLUME);
    const char* snapshot = qemu_opt_get(options, OPTION_SNAPSHOT);
    int64_t id = volume ? find_volume(store, volume) : first_volume(store);
    if (id < 0) {
        if (volume) {
            error_setg(errp, "the image has no volume '%s'", volume);
        } else {
            error_setg(errp, "the image has no volume");
        }
        return -ENOENT;
    }
    if (snapshot) {
        id = coppice_bdrv_find_snapshot(store, id, snapshot, snapshot);
        if (id < 0) {
            error_setg(errp, "the volume has no snapshot '%s'", snapshot);
            return -ENOENT;
        }
    }
    return coppice_get_volume(store, id, info);
}

/* ---- Open and close ---- */

static bool wants_to_write(int flags)
{
    return (flags & BDRV_O_RDWR) && !(flags & BDRV_O_INACTIVE);
}

static int open_volume(BlockDriverState* bs, QemuOpts* options, int flags, Error** errp)
{
    CoppiceVolume* volume = coppice_bdrv_volume(bs);
    struct coppice_volume_info info;
    bool write = wants_to_write(flags);
    volume->image = coppice_bdrv_image_join(bs, !write, errp);
    if (!volume->image) return -EINVAL;

    int result = choose(volume->image->store, options, &info, errp);
    bool fixed = result >= 0 && (info.snapshot || info.read_only || volume->image->read_only);
    if (fixed && write) {
        g_autofree char* message =
            info.snapshot || info.read_only
                ? g_strdup_printf("%s '%s' is read-only; open it with read-only=on",
                                  info.snapshot ? "snapshot" : "volume", info.name)
                : g_strdup("the image can only be opened with read-only=on by this version");
        result = bdrv_apply_auto_read_only(bs, message, errp);
        /* The node's permissions on the file follow its new flags, so the store must not write. */
        if (result >= 0 && volume->image->owner == bs) {
            coppice_bdrv_image_drop_store(volume->image);
            result = coppice_bdrv_image_open_store(volume->image, true, errp);
        }
    }
    if (result < 0) {
        coppice_bdrv_image_leave(volume->image, bs);
        volume->image = NULL;
        return result;
    }
    volume->id = info.id;
    volume->lba_bytes = info.lba_bytes;
    bs->total_sectors = info.size_bytes / BDRV_SECTOR_SIZE;
    bs->supported_write_flags = BDRV_REQ_FUA;
    bs->supported_zero_flags = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    bs->supported_truncate_flags = BDRV_REQ_ZERO_WRITE;
    return 0;
}

static int coppice_bdrv_open(BlockDriverState* bs, QDict* options, int flags, Error** errp)
{
    const char* file = qdict_get_try_str(options, "file");
    BlockDriverState* node = file ? bdrv_find_node(file) : NULL;
    /* Decided before the child is attached, since that asks for permissions. */
    coppice_bdrv_volume(bs)->joined = node && coppice_bdrv_image_is_open(node);
    int result = bdrv_open_file_child(NULL, options, "file", bs, errp);
    if (result < 0) return result;
    QemuOpts* wanted = qemu_opts_create(&open_options, NULL, 0, &error_abort);
    if (!qemu_opts_absorb_qdict(wanted, options, errp)) {
        result = -EINVAL;
    } else if (!(flags & BDRV_O_CHECK)) {
        /* The checker is there for images that cannot be opened, and works without a store. */
        result = open_volume(bs, wanted, flags, errp);
    }
    qemu_opts_del(wanted);
    if (result < 0 && strcmp(bs->drv->format_name, CLOSED_LIST_NAME) == 0) {
        error_prepend(errp, "driver=" CLOSED_LIST_NAME " means Coppice here, real " CLOSED_LIST_NAME
                            " images are for QEMU alone: ");
    }
    return result;
}

static void coppice_bdrv_close(BlockDriverState* bs)
{
    CoppiceVolume* volume = coppice_bdrv_volume(bs);
    if (!volume->image) return;
    coppice_bdrv_image_leave(volume->image, bs);
    volume->image = NULL;
}

/* ---- Read-only and back ----
 *
 * The node is drained. To read-only: all is made durable while the file can still be written. To
 * writing: the store begins anew when it can. */

typedef struct Sync {
    struct coppice_store* store;
    struct coppice_error error;
} Sync;

static int checkpoint(void* opaque)
{
    Sync* sync = opaque;
    return coppice_checkpoint(sync->store, &sync->error);
}

static int coppice_bdrv_reopen_prepare(BDRVReopenState* state, BlockReopenQueue* queue,
                                       Error** errp)
{
    BlockDriverState* bs = state->bs;
    CoppiceVolume* volume = coppice_bdrv_volume(bs);
    CoppiceImage* image = volume->image;
    if (!image) return 0;
    bool write = wants_to_write(state->flags);
    if (!image->store) {
        error_setg(errp, "the image has failed; close it and open it anew");
        return -EIO;
    }
    struct coppice_volume_info info;
    int result = coppice_get_volume(image->store, volume->id, &info);
    if (result < 0) {
        error_setg(errp, "the volume is gone");
        return result;
    }
    if (write && (info.snapshot || info.read_only)) {
        error_setg(errp, "%s '%s' is read-only", info.snapshot ? "snapshot" : "volume", info.name);
        return -EACCES;
    }
    if (image->owner != bs) {
        if (write && image->read_only) {
            error_setg(errp, "the image is open read-only as node '%s'",
                       bdrv_get_node_name(image->owner));
            return -EACCES;
        }
        return 0;
    }
    if (!write && !image->read_only) {
        if (image->users->next) {
            error_setg(errp, "other volumes of the image are open on this node's permissions");
            return -EBUSY;
        }
        Sync sync = {.store = image->store};
        result = coppice_bdrv_run(bs, checkpoint, &sync);
        if (result < 0) error_setg(errp, "%s", sync.error.text);
    }
    return result;
}

static void coppice_bdrv_reopen_commit_post(BDRVReopenState* state)
{
    BlockDriverState* bs = state->bs;
    CoppiceImage* image = coppice_bdrv_volume(bs)->image;
    bool read_only = !wants_to_write(bs->open_flags);
    if (!image || image->owner != bs || image->read_only == read_only) return;
    Error* error = NULL;
    coppice_bdrv_image_drop_store(image);
    if (coppice_bdrv_image_open_store(image, read_only, &error) < 0) {
        error_reportf_err(error, "coppice: %s: reopening failed, requests will fail: ",
                          bdrv_get_device_or_node_name(bs));
    }
}

/* ---- Migration hands the file over ---- */

static int coppice_bdrv_inactivate(BlockDriverState* bs)
{
    CoppiceImage* image = coppice_bdrv_volume(bs)->image;
    if (!image || image->owner != bs) return 0;
    Error* error = NULL;
    int result = coppice_bdrv_image_close_store(image, &error);
    if (result < 0) {
        error_reportf_err(
            error, "coppice: %s: handing the image over: ", bdrv_get_device_or_node_name(bs));
    }
    return result;
}

static void coroutine_fn coppice_bdrv_co_invalidate_cache(BlockDriverState* bs, Error** errp)
{
    CoppiceImage* image = coppice_bdrv_volume(bs)->image;
    if (!image || image->owner != bs) return;
    coppice_bdrv_image_drop_store(image);
    coppice_bdrv_image_open_store(image, !(bs->open_flags & BDRV_O_RDWR), errp);
}

/* ---- Drained sections and contexts ---- */

static void coroutine_fn coppice_bdrv_co_drain_begin(BlockDriverState* bs)
{
    CoppiceImage* image = coppice_bdrv_volume(bs)->image;
    if (image) coppice_bdrv_image_pause(image);
}

static void coroutine_fn coppice_bdrv_co_drain_end(BlockDriverState* bs)
{
    CoppiceImage* image = coppice_bdrv_volume(bs)->image;
    if (image) coppice_bdrv_image_resume(image);
}

#if COPPICE_QEMU_AT_LEAST(8, 0)
/* No coroutines any more. The drained section waits for what is counted as under way. */
typedef struct Drain {
    BlockDriverState* bs;
    void (*body)(BlockDriverState* bs);
} Drain;

static void coroutine_fn drain_entry(void* opaque)
{
    Drain drain = *(Drain*)opaque;
    g_free(opaque);
    drain.body(drain.bs);
    bdrv_dec_in_flight(drain.bs);
}

static void start_drain(BlockDriverState* bs, void (*body)(BlockDriverState* bs))
{
    Drain* drain = g_new(Drain, 1);
    *drain = (Drain){.bs = bs, .body = body};
    bdrv_inc_in_flight(bs);
    aio_co_schedule(bdrv_get_aio_context(bs), qemu_coroutine_create(drain_entry, drain));
}

static void coppice_bdrv_drain_begin(BlockDriverState* bs)
{
    start_drain(bs, coppice_bdrv_co_drain_begin);
}

static void coppice_bdrv_drain_end(BlockDriverState* bs)
{
    start_drain(bs, coppice_bdrv_co_drain_end);
}
#endif

static void coppice_bdrv_detach_aio_context(BlockDriverState* bs)
{
    CoppiceImage* image = coppice_bdrv_volume(bs)->image;
    if (image && image->owner == bs) coppice_bdrv_image_stop_tick(image);
}

static void coppice_bdrv_attach_aio_context(BlockDriverState* bs, AioContext* context)
{
    CoppiceImage* image = coppice_bdrv_volume(bs)->image;
    if (image && image->owner == bs && !image->drained) coppice_bdrv_image_start_tick(image);
}

/* ---- Permissions ---- */

static void coppice_bdrv_child_perm(BlockDriverState* bs, BdrvChild* child, BdrvChildRole role,
                                    BlockReopenQueue* queue, uint64_t parent_needed,
                                    uint64_t parent_shared, uint64_t* needed, uint64_t* shared)
{
    if (coppice_bdrv_volume(bs)->joined) {
        *needed = 0;
        *shared = BLK_PERM_ALL;
        return;
    }
    bdrv_default_perms(bs, child, role, queue, parent_needed, parent_shared, needed, shared);
}

/* ---- The driver ---- */

static BlockDriver coppice_bdrv_driver = {
    .format_name = "coppice",
    .instance_size = sizeof(CoppiceVolume),
    .is_format = true,
    .create_opts = &coppice_bdrv_create_options,
    .strong_runtime_opts = strong_options,

    .bdrv_probe = coppice_bdrv_probe,
    .bdrv_co_create_opts = coppice_bdrv_co_create_opts,
    .bdrv_measure = coppice_bdrv_measure,
    .bdrv_has_zero_init = bdrv_has_zero_init_1,

    .bdrv_open = coppice_bdrv_open,
    .bdrv_close = coppice_bdrv_close,
    .bdrv_child_perm = coppice_bdrv_child_perm,
    .bdrv_reopen_prepare = coppice_bdrv_reopen_prepare,
    .bdrv_reopen_commit_post = coppice_bdrv_reopen_commit_post,
    .bdrv_inactivate = coppice_bdrv_inactivate,
    .bdrv_co_invalidate_cache = coppice_bdrv_co_invalidate_cache,
#if COPPICE_QEMU_AT_LEAST(8, 0)
    .bdrv_drain_begin = coppice_bdrv_drain_begin,
    .bdrv_drain_end = coppice_bdrv_drain_end,
#else
    .bdrv_co_drain_begin = coppice_bdrv_co_drain_begin,
    .bdrv_co_drain_end = coppice_bdrv_co_drain_end,
#endif
    .bdrv_detach_aio_context = coppice_bdrv_detach_aio_context,
    .bdrv_attach_aio_context = coppice_bdrv_attach_aio_context,

    .bdrv_co_preadv = coppice_bdrv_co_preadv,
    .bdrv_co_pwritev = coppice_bdrv_co_pwritev,
    .bdrv_co_pwrite_zeroes = coppice_bdrv_co_pwrite_zeroes,
    .bdrv_co_pdiscard = coppice_bdrv_co_pdiscard,
    .bdrv_co_flush = coppice_bdrv_co_flush,
    .bdrv_co_block_status = coppice_bdrv_co_block_status,
    .bdrv_co_copy_range_from = coppice_bdrv_co_copy_range_from,
    .bdrv_co_copy_range_to = coppice_bdrv_co_copy_range_to,
    .COPPICE_BDRV_GETLENGTH = coppice_bdrv_getlength,
    .bdrv_co_truncate = coppice_bdrv_co_truncate,
    .COPPICE_BDRV_GET_INFO = coppice_bdrv_get_info,
    .bdrv_co_check = coppice_bdrv_co_check,
    .bdrv_refresh_limits = coppice_bdrv_refresh_limits,
    .bdrv_probe_blocksizes = coppice_bdrv_probe_blocksizes,

    .bdrv_snapshot_create = coppice_bdrv_snapshot_create,
    .bdrv_snapshot_goto = coppice_bdrv_snapshot_goto,
    .bdrv_snapshot_delete = coppice_bdrv_snapshot_delete,
    .bdrv_snapshot_list = coppice_bdrv_snapshot_list,
    .bdrv_snapshot_load_tmp = coppice_bdrv_snapshot_load_tmp,
    .COPPICE_BDRV_SAVE_VMSTATE = coppice_bdrv_save_vmstate,
    .COPPICE_BDRV_LOAD_VMSTATE = coppice_bdrv_load_vmstate,
};

/* ---- For the device module ---- */

struct coppice_store* coppice_block_store(BlockDriverState* bs)
{
    bool ours = bs && bs->drv && bs->drv->bdrv_open == coppice_bdrv_open;
    return ours ? coppice_bdrv_store(bs) : NULL;
}

uint32_t coppice_block_volume(BlockDriverState* bs) { return coppice_bdrv_volume(bs)->id; }

void coppice_block_wrote(BlockDriverState* bs) { qatomic_inc(&bs->write_gen); }

/* ---- A name for -blockdev ----
 *
 * What -blockdev, blockdev-add and qemu-storage-daemon accept as driver= is an enumeration that was
 * fixed when QEMU was compiled. So that they can open an image at all, the format also answers to
 * the name of one that nobody has used for twenty years (compressed loop images of Knoppix,
 * read-only in QEMU). That takes only `file`: the first volume. Real ones need QEMU without us. */
static BlockDriver closed_list_driver;

static void register_closed_list_name(void)
{
    closed_list_driver = coppice_bdrv_driver;
    closed_list_driver.format_name = CLOSED_LIST_NAME;
    closed_list_driver.bdrv_probe = NULL;
    closed_list_driver.bdrv_co_create_opts = NULL;
    closed_list_driver.create_opts = NULL;
    bdrv_register(&closed_list_driver);
}

static void coppice_bdrv_init(void)
{
    bdrv_register(&coppice_bdrv_driver);
    /* The driver registered last is found first. QEMU's own come after us, and this after them. */
    register_module_init(register_closed_list_name, MODULE_INIT_BLOCK);
}
block_init(coppice_bdrv_init);
