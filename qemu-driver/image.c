/* One store for one file node, however many volumes of it are open as nodes of the block graph.
 *
 * The first node to open the image owns it: its file child has the permissions, as those of any
 * format do, and all of the store's reads and writes go through it. Nodes that join later have a
 * file child without permissions, so that they are in the graph (drains, context changes) and in
 * nobody's way. When the owner leaves, another node takes its place.
 *
 * Background work of the store is no request of any node. It is started by a timer, once a second,
 * and a drained section begins with the store's `pause`, which QEMU waits for. */
#include "image.h"

enum { TICK_MS = 1000 };

/* Touched by the main thread only, when nodes are opened and closed. */
static GSList* images;

/* ---- Running in a coroutine ---- */

typedef struct Run {
    BlockDriverState* bs;
    int (*body)(void* argument);
    void* argument;
    int result;
    bool done;
} Run;

static void coroutine_fn run_entry(void* opaque)
{
    Run* run = opaque;
    BlockDriverState* bs = run->bs;
    run->result = run->body(run->argument);
    run->done = true;
    bdrv_dec_in_flight(bs); /* wakes who polls */
}

int coppice_bdrv_run(BlockDriverState* bs, int (*body)(void* argument), void* argument)
{
    if (qemu_in_coroutine()) return body(argument);
    Run run = {.bs = bs, .body = body, .argument = argument};
    bdrv_inc_in_flight(bs);
    aio_co_enter(bdrv_get_aio_context(bs), qemu_coroutine_create(run_entry, &run));
    BDRV_POLL_WHILE(bs, !run.done);
    return run.result;
}

/* ---- Errors ---- */

int coppice_bdrv_result(BlockDriverState* bs, int result, const struct coppice_error* error)
{
    CoppiceVolume* volume = coppice_bdrv_volume(bs);
    if (result != -EIO || !volume->image) return result;
    /* A guest that tries again and again shall not fill the log. */
    if (g_hash_table_add(volume->image->reported, g_strdup(error->name))) {
        error_report("coppice: %s: %s", bdrv_get_device_or_node_name(bs), error->text);
    }
    return result;
}

/* ---- The store's life ---- */

typedef struct StoreCall {
    CoppiceImage* image;
    bool read_only;
    struct coppice_error error;
} StoreCall;

static int open_store(void* opaque)
{
    StoreCall* call = opaque;
    CoppiceImage* image = call->image;
    /* discard=unmap of the node decides whether the file gets holes, as for every format. */
    struct coppice_open_options options = {
        .read_only = call->read_only,
        .punch = (image->owner->open_flags & BDRV_O_UNMAP) != 0,
    };
    image->ports.ports.read_only = call->read_only;
    image->store = coppice_open(&image->ports.ports, &options, &call->error);
    return image->store ? 0 : -EINVAL;
}

int coppice_bdrv_image_open_store(CoppiceImage* image, bool read_only, Error** errp)
{
    StoreCall call = {.image = image, .read_only = read_only};
    assert(!image->store);
    int result = coppice_bdrv_run(image->owner, open_store, &call);
    if (result < 0) {
        error_setg(errp, "%s", call.error.text);
        return result;
    }
    image->read_only = coppice_is_read_only(image->store);
    g_hash_table_remove_all(image->reported);
    if (!image->drained) coppice_bdrv_image_start_tick(image);
    return 0;
}

static int close_store(void* opaque)
{
    StoreCall* call = opaque;
    struct coppice_store* store = call->image->store;
    call->image->store = NULL;
    return coppice_close(store, &call->error);
}

int coppice_bdrv_image_close_store(CoppiceImage* image, Error** errp)
{
    StoreCall call = {.image = image};
    if (!image->store) return 0;
    coppice_bdrv_image_stop_tick(image);
    int result = coppice_bdrv_run(image->owner, close_store, &call);
    if (result < 0) error_setg(errp, "%s", call.error.text);
    return result;
}

static int drop_store(void* opaque)
{
    StoreCall* call = opaque;
    struct coppice_store* store = call->image->store;
    call->image->store = NULL;
    coppice_pause(store); /* background work still stands on it */
    coppice_abandon(store);
    return 0;
}

void coppice_bdrv_image_drop_store(CoppiceImage* image)
{
    StoreCall call = {.image = image};
    if (!image->store) return;
    coppice_bdrv_image_stop_tick(image);
    coppice_bdrv_run(image->owner, drop_store, &call);
}

/* ---- Background work ---- */

static void tick(void* opaque)
{
    CoppiceImage* image = opaque;
    coppice_tick(image->store);
    timer_mod(image->tick, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + TICK_MS);
}

void coppice_bdrv_image_start_tick(CoppiceImage* image)
{
    if (!image->store || image->read_only || image->tick) return;
    image->tick = aio_timer_new(coppice_bdrv_ports_context(&image->ports), QEMU_CLOCK_REALTIME,
                                SCALE_MS, tick, image);
    timer_mod(image->tick, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + TICK_MS);
}

void coppice_bdrv_image_stop_tick(CoppiceImage* image)
{
    timer_free(image->tick);
    image->tick = NULL;
}

void coppice_bdrv_image_pause(CoppiceImage* image)
{
    image->drained++;
    coppice_bdrv_image_stop_tick(image);
    if (image->store) coppice_pause(image->store);
}

void coppice_bdrv_image_resume(CoppiceImage* image)
{
    if (--image->drained > 0 || !image->store) return;
    coppice_resume(image->store);
    coppice_bdrv_image_start_tick(image);
}

/* ---- Nodes come and go ---- */

static CoppiceImage* find_image(BlockDriverState* file)
{
    for (GSList* entry = images; entry; entry = entry->next) {
        CoppiceImage* image = entry->data;
        if (image->owner->file->bs == file) return image;
    }
    return NULL;
}

bool coppice_bdrv_image_is_open(BlockDriverState* file) { return find_image(file) != NULL; }

static void free_image(CoppiceImage* image)
{
    images = g_slist_remove(images, image);
    g_slist_free(image->users);
    g_hash_table_destroy(image->reported);
    g_free(image);
}

CoppiceImage* coppice_bdrv_image_join(BlockDriverState* bs, bool read_only, Error** errp)
{
    CoppiceImage* image = find_image(bs->file->bs);
    if (image) {
        if (!image->store) {
            error_setg(errp, "the image is open as node '%s', which is inactive or has failed",
                       bdrv_get_node_name(image->owner));
            return NULL;
        }
        if (!read_only && image->read_only) {
            error_setg(errp,
                       "the image is open read-only as node '%s'; open that one for writing "
                       "first",
                       bdrv_get_node_name(image->owner));
            return NULL;
        }
        image->users = g_slist_prepend(image->users, bs);
        return image;
    }
    image = g_new0(CoppiceImage, 1);
    image->owner = bs;
    image->users = g_slist_prepend(NULL, bs);
    image->reported = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    coppice_bdrv_ports_init(&image->ports, bs, NULL, read_only);
    images = g_slist_prepend(images, image);
    if (coppice_bdrv_image_open_store(image, read_only, errp) < 0) {
        free_image(image);
        return NULL;
    }
    return image;
}

/* The node that has the permissions from now on: one that may write, if there is one. */
static BlockDriverState* choose_heir(CoppiceImage* image)
{
    for (GSList* entry = image->users; entry; entry = entry->next) {
        if (!bdrv_is_read_only(entry->data)) return entry->data;
    }
    return image->users->data;
}

static void hand_over(CoppiceImage* image, BlockDriverState* from, BlockDriverState* to)
{
    Error* error = NULL;
    bool store_is_open = image->store;
    /* Nobody is left who may write: what there is to write is written by who still can. */
    bool stays_writable = !image->read_only && !bdrv_is_read_only(to);
    int result = stays_writable ? 0 : coppice_bdrv_image_close_store(image, &error);
    image->owner = to;
    image->ports.bs = to;
    coppice_bdrv_volume(from)->joined = true;
    coppice_bdrv_volume(to)->joined = false;
    /* First given up there, then asked for here. Nothing is under way in between: a node is closed
     * in a drained section, in which the store's own work rests. */
    if (result >= 0) result = bdrv_child_refresh_perms(from, from->file, &error);
    if (result >= 0) result = bdrv_child_refresh_perms(to, to->file, &error);
    if (result >= 0 && store_is_open && !stays_writable) {
        result = coppice_bdrv_image_open_store(image, true, &error);
    }
    if (result < 0) {
        error_reportf_err(
            error, "coppice: %s cannot take the image over: ", bdrv_get_device_or_node_name(to));
        coppice_bdrv_image_drop_store(image);
    }
}

void coppice_bdrv_image_leave(CoppiceImage* image, BlockDriverState* bs)
{
    image->users = g_slist_remove(image->users, bs);
    if (image->users) {
        if (image->owner == bs) hand_over(image, bs, choose_heir(image));
        return;
    }
    Error* error = NULL;
    if (coppice_bdrv_image_close_store(image, &error) < 0) {
        error_reportf_err(error,
                          "coppice: %s: closing the image: ", bdrv_get_device_or_node_name(bs));
    }
    free_image(image);
}
