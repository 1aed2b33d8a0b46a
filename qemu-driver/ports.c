/* The ports of the store in QEMU: a task is a coroutine, the disk is a node of the block graph.
 *
 *   io      one coroutine for each request; begun when the caller gives way, or from a bottom half
 *   wake    the same: nothing of the store ever runs inside of a call into these ports
 *
 * So a change of the running task happens where the store suspends, and nowhere else. */
#include "image.h"

AioContext* coppice_bdrv_ports_context(CoppicePorts* ports)
{
    return ports->bs ? bdrv_get_aio_context(ports->bs) : blk_get_aio_context(ports->blk);
}

/* In a coroutine the other one is put behind it and enters when it yields or ends. */
static void enter_soon(CoppicePorts* ports, Coroutine* coroutine)
{
    AioContext* context = coppice_bdrv_ports_context(ports);
    if (qemu_in_coroutine()) {
        aio_co_enter(context, coroutine);
    } else {
        aio_co_schedule(context, coroutine);
    }
}

/* ---- Disk ---- */

static int coroutine_fn GRAPH_RDLOCK read_or_write(CoppicePorts* ports, struct coppice_io* io,
                                                   QEMUIOVector* qiov)
{
    bool write = io->kind == COPPICE_IO_WRITE;
    if (ports->blk) {
        return write ? blk_co_pwritev(ports->blk, io->offset, io->length, qiov, 0)
                     : blk_co_preadv(ports->blk, io->offset, io->length, qiov, 0);
    }
    return write ? bdrv_co_pwritev(ports->bs->file, io->offset, io->length, qiov, 0)
                 : bdrv_co_preadv(ports->bs->file, io->offset, io->length, qiov, 0);
}

enum { COPY_BELOW_BYTES = 64 * 1024 };

/* Memory that direct I/O cannot use (a tree node's) makes QEMU hand the request to a thread, which
 * costs more than copying it when it is small. More pieces than the host takes at once, from a
 * guest with small ones, have to be copied. */
static bool better_copied(BlockDriverState* file, struct coppice_io* io)
{
    return io->iov_count > IOV_MAX ||
           (io->length < COPY_BELOW_BYTES &&
            !QEMU_PTR_IS_ALIGNED(io->iov[0].iov_base, bdrv_min_mem_align(file)));
}

static int coroutine_fn GRAPH_RDLOCK transfer(CoppicePorts* ports, struct coppice_io* io)
{
    BlockDriverState* file = ports->bs ? ports->bs->file->bs : blk_bs(ports->blk);
    QEMUIOVector qiov;
    if (!better_copied(file, io)) {
        qemu_iovec_init_external(&qiov, (struct iovec*)io->iov, io->iov_count);
        return read_or_write(ports, io, &qiov);
    }

    void* buffer = qemu_try_blockalign(file, io->length);
    if (!buffer) return -ENOMEM;
    qemu_iovec_init_buf(&qiov, buffer, io->length);
    if (io->kind == COPPICE_IO_WRITE) {
        iov_to_buf(io->iov, io->iov_count, 0, buffer, io->length);
    }
    int result = read_or_write(ports, io, &qiov);
    if (io->kind == COPPICE_IO_READ && result >= 0) {
        iov_from_buf(io->iov, io->iov_count, 0, buffer, io->length);
    }
    qemu_vfree(buffer);
    return result;
}

/* The store allocates what holds nothing of value, but may do so twice; so only what the file lacks
 * is zeroed. -ENOTSUP where the file cannot do it quickly or does not say what it lacks. */
static int coroutine_fn GRAPH_RDLOCK allocate(CoppicePorts* ports, struct coppice_io* io)
{
    BlockDriverState* file = ports->bs ? ports->bs->file->bs : blk_bs(ports->blk);
    int64_t offset = io->offset, end = io->offset + io->length;
    while (offset < end) {
        int64_t length = 0;
        int result = COPPICE_BLOCK_STATUS(file, NULL, offset, end - offset, &length, NULL, NULL);
        if (result < 0) return -ENOTSUP;
        if (length == 0) length = end - offset; /* behind the end of the file */
        if (!(result & BDRV_BLOCK_DATA)) {
            /* NO_FALLBACK: or it would write zeroes, which takes long and gains nothing. */
            result =
                ports->blk
                    ? blk_co_pwrite_zeroes(ports->blk, offset, length, BDRV_REQ_NO_FALLBACK)
                    : bdrv_co_pwrite_zeroes(ports->bs->file, offset, length, BDRV_REQ_NO_FALLBACK);
            if (result < 0) return result;
        }
        offset += length;
    }
    return 0;
}

static int coroutine_fn GRAPH_RDLOCK truncate_file(CoppicePorts* ports, struct coppice_io* io)
{
    Error* error = NULL;
    int result =
        ports->blk
            ? blk_co_truncate(ports->blk, io->offset, false, PREALLOC_MODE_OFF, 0, &error)
            : bdrv_co_truncate(ports->bs->file, io->offset, false, PREALLOC_MODE_OFF, 0, &error);
    error_free(error); /* the store says it, with the place */
    return result;
}

static int coroutine_fn GRAPH_RDLOCK perform(CoppicePorts* ports, struct coppice_io* io)
{
    int result = -EINVAL;
    switch (io->kind) {
    case COPPICE_IO_READ:
    case COPPICE_IO_WRITE: return transfer(ports, io);
    case COPPICE_IO_ALLOCATE: return allocate(ports, io);
    case COPPICE_IO_DISCARD:
        if (ports->blk) return 0; /* a new image has nothing to give back */
        result = bdrv_co_pdiscard(ports->bs->file, io->offset, io->length);
        return result == -ENOTSUP ? 0 : result;
    case COPPICE_IO_SYNC:
        return bdrv_co_flush(ports->bs ? ports->bs->file->bs : blk_bs(ports->blk));
    case COPPICE_IO_TRUNCATE: return truncate_file(ports, io);
    }
    return result;
}

static void coroutine_fn io_entry(void* opaque)
{
    struct coppice_io* io = opaque;
    int result;
    {
        GRAPH_RDLOCK_GUARD();
        result = perform(io->port, io);
    }
    coppice_io_complete(io, MIN(result, 0));
}

static void port_io(void* opaque, struct coppice_io* io)
{
    io->port = opaque;
    enter_soon(opaque, qemu_coroutine_create(io_entry, io));
}

static int64_t port_size(void* opaque)
{
    CoppicePorts* ports = opaque;
    GRAPH_RDLOCK_GUARD();
    return COPPICE_GETLENGTH(ports->bs ? ports->bs->file->bs : blk_bs(ports->blk));
}

/* ---- Tasks ---- */

typedef struct SpawnedTask {
    void (*body)(void* argument);
    void* argument;
} SpawnedTask;

static void coroutine_fn spawned_entry(void* opaque)
{
    SpawnedTask task = *(SpawnedTask*)opaque;
    g_free(opaque);
    task.body(task.argument);
}

static void port_spawn(void* opaque, void (*body)(void* argument), void* argument)
{
    SpawnedTask* task = g_new(SpawnedTask, 1);
    *task = (SpawnedTask){.body = body, .argument = argument};
    enter_soon(opaque, qemu_coroutine_create(spawned_entry, task));
}

static void* port_current(void* opaque)
{
    assert(qemu_in_coroutine());
    return qemu_coroutine_self();
}

static void coroutine_fn port_suspend(void* opaque) { qemu_coroutine_yield(); }

static void port_wake(void* opaque, void* task) { enter_soon(opaque, task); }

static void coroutine_fn port_yield(void* opaque)
{
    aio_co_schedule(coppice_bdrv_ports_context(opaque), qemu_coroutine_self());
    qemu_coroutine_yield();
}

static uint64_t port_now_ns(void* opaque) { return qemu_clock_get_ns(QEMU_CLOCK_REALTIME); }

static uint64_t port_unix_ns(void* opaque) { return (uint64_t)g_get_real_time() * 1000; }

void coppice_bdrv_ports_init(CoppicePorts* ports, BlockDriverState* bs, BlockBackend* blk,
                             bool read_only)
{
    *ports = (CoppicePorts){
        .ports =
            {
                .opaque = ports,
                .io = port_io,
                .size = port_size,
                .read_only = read_only,
                .spawn = port_spawn,
                .current = port_current,
                .suspend = port_suspend,
                .wake = port_wake,
                .yield = port_yield,
                .now_ns = port_now_ns,
                .unix_ns = port_unix_ns,
            },
        .bs = bs,
        .blk = blk,
    };
}
