/* The ports of the controller in QEMU. All but coppice_nvme_send_interrupts are called in the
 * device's context, perhaps an iothread's. */
#include "nvme.h"

/* ---- Guest memory ----
 *
 * RAM only. The registers of another device (or our own) as the target of a transfer would need
 * the big lock, which an iothread must not wait for: a virtual CPU that holds it may be waiting
 * for the iothread. Real machines may refuse such transfers too. */

static bool is_ram(CoppiceNvme* nvme, hwaddr address, hwaddr length, bool write)
{
    AddressSpace* space = pci_get_address_space(&nvme->pci);
    RCU_READ_LOCK_GUARD();
    while (length > 0) {
        hwaddr inside, piece = length;
        MemoryRegion* region =
            address_space_translate(space, address, &inside, &piece, write, MEMTXATTRS_UNSPECIFIED);
        if (piece == 0 || !COPPICE_MEMORY_IS_DIRECT(region, write)) return false;
        address += piece;
        length -= piece;
    }
    return true;
}

static int port_read_memory(void* opaque, uint64_t address, void* into, size_t length)
{
    CoppiceNvme* nvme = opaque;
    if (!is_ram(nvme, address, length, false)) return -EFAULT;
    return pci_dma_read(&nvme->pci, address, into, length) == MEMTX_OK ? 0 : -EFAULT;
}

static int port_write_memory(void* opaque, uint64_t address, const void* from, size_t length)
{
    CoppiceNvme* nvme = opaque;
    if (!is_ram(nvme, address, length, true)) return -EFAULT;
    return pci_dma_write(&nvme->pci, address, from, length) == MEMTX_OK ? 0 : -EFAULT;
}

static void* port_map(void* opaque, uint64_t address, size_t* length, bool to_guest)
{
    CoppiceNvme* nvme = opaque;
    dma_addr_t mapped = *length;
    if (!is_ram(nvme, address, mapped, to_guest)) return NULL;
    void* pointer = pci_dma_map(&nvme->pci, address, &mapped,
                                to_guest ? DMA_DIRECTION_FROM_DEVICE : DMA_DIRECTION_TO_DEVICE);
    *length = mapped;
    return pointer;
}

static void port_unmap(void* opaque, void* pointer, size_t length, bool to_guest, size_t used)
{
    CoppiceNvme* nvme = opaque;
    pci_dma_unmap(&nvme->pci, pointer, length,
                  to_guest ? DMA_DIRECTION_FROM_DEVICE : DMA_DIRECTION_TO_DEVICE, used);
}

/* ---- Interrupts ----
 *
 * Sending one needs the big lock. The main loop's thread has it; an iothread leaves a note. */

static bool in_main_loop(CoppiceNvme* nvme) { return nvme->context == qemu_get_aio_context(); }

static bool port_msix_enabled(void* opaque)
{
    CoppiceNvme* nvme = opaque;
    return msix_enabled(&nvme->pci);
}

static void port_send_msix(void* opaque, unsigned vector)
{
    CoppiceNvme* nvme = opaque;
    if (vector >= COPPICE_NVME_MAX_VECTORS) return;
    if (in_main_loop(nvme)) {
        msix_notify(&nvme->pci, vector);
        return;
    }
    set_bit_atomic(vector, nvme->messages);
    qemu_bh_schedule(nvme->interrupt);
}

static void port_set_pin(void* opaque, bool asserted)
{
    CoppiceNvme* nvme = opaque;
    qatomic_set(&nvme->pin, asserted);
    if (in_main_loop(nvme)) {
        pci_set_irq(&nvme->pci, asserted);
    } else {
        qemu_bh_schedule(nvme->interrupt);
    }
}

void coppice_nvme_send_interrupts(void* opaque)
{
    CoppiceNvme* nvme = opaque;
    for (size_t word = 0; word < ARRAY_SIZE(nvme->messages); word++) {
        unsigned long vectors = qatomic_xchg(&nvme->messages[word], 0);
        while (vectors) {
            unsigned bit = ctzl(vectors);
            vectors &= vectors - 1;
            msix_notify(&nvme->pci, word * BITS_PER_LONG + bit);
        }
    }
    if (!msix_enabled(&nvme->pci)) pci_set_irq(&nvme->pci, qatomic_read(&nvme->pin));
}

/* ---- Time and turns ---- */

static uint64_t port_now_ns(void* opaque) { return qemu_clock_get_ns(QEMU_CLOCK_REALTIME); }

static uint64_t port_unix_ns(void* opaque) { return (uint64_t)g_get_real_time() * 1000; }

static void port_schedule_poll(void* opaque)
{
    CoppiceNvme* nvme = opaque;
    qemu_bh_schedule(nvme->poll);
}

static void port_idle(void* opaque)
{
    CoppiceNvme* nvme = opaque;
    if (nvme->stopped) qemu_bh_schedule(nvme->settle);
    aio_wait_kick();
}

static void port_report(void* opaque, const char* text) { error_report("coppice-nvme: %s", text); }

/* ---- Accounting and error policy ---- */

static void port_io_begins(void* opaque, enum coppice_nvme_class io, uint64_t bytes,
                           uint64_t cookie[4])
{
    static const enum BlockAcctType types[] = {
        [COPPICE_NVME_READ] = BLOCK_ACCT_READ,
        [COPPICE_NVME_WRITE] = BLOCK_ACCT_WRITE,
        [COPPICE_NVME_FLUSH] = BLOCK_ACCT_FLUSH,
        [COPPICE_NVME_DEALLOCATE] = BLOCK_ACCT_UNMAP,
    };
    CoppiceNvme* nvme = opaque;
    QEMU_BUILD_BUG_ON(sizeof(BlockAcctCookie) > 4 * sizeof(uint64_t));
    blk_inc_in_flight(nvme->conf.blk);
    block_acct_start(blk_get_stats(nvme->conf.blk), (BlockAcctCookie*)cookie, bytes, types[io]);
    if (nvme->store && io != COPPICE_NVME_READ && io != COPPICE_NVME_FLUSH) nvme->wrote = true;
}

static void port_io_ends(void* opaque, enum coppice_nvme_class io, uint64_t cookie[4], bool failed)
{
    CoppiceNvme* nvme = opaque;
    BlockAcctStats* stats = blk_get_stats(nvme->conf.blk);
    if (failed) {
        block_acct_failed(stats, (BlockAcctCookie*)cookie);
    } else {
        block_acct_done(stats, (BlockAcctCookie*)cookie);
    }
    blk_dec_in_flight(nvme->conf.blk);
}

static enum coppice_nvme_action port_on_error(void* opaque, enum coppice_nvme_class io, int error)
{
    CoppiceNvme* nvme = opaque;
    bool is_read = io == COPPICE_NVME_READ;
    BlockErrorAction action = blk_get_error_action(nvme->conf.blk, is_read, error);
    blk_error_action(nvme->conf.blk, action, is_read, error);
    switch (action) {
    case BLOCK_ERROR_ACTION_IGNORE: return COPPICE_NVME_IGNORE;
    case BLOCK_ERROR_ACTION_STOP: return COPPICE_NVME_RETRY;
    default: return COPPICE_NVME_REPORT;
    }
}

void coppice_nvme_fill_ports(CoppiceNvme* nvme, struct coppice_nvme_ports* ports)
{
    *ports = (struct coppice_nvme_ports){
        .size = sizeof *ports,
        .opaque = nvme,
        .read_memory = port_read_memory,
        .write_memory = port_write_memory,
        .map = port_map,
        .unmap = port_unmap,
        .msix_enabled = port_msix_enabled,
        .send_msix = port_send_msix,
        .set_pin = port_set_pin,
        .now_ns = port_now_ns,
        .unix_ns = port_unix_ns,
        .schedule_poll = port_schedule_poll,
        .idle = port_idle,
        .report = port_report,
        .io_begins = port_io_begins,
        .io_ends = port_io_ends,
        .on_error = port_on_error,
    };
}

/* ---- The block layer, when something stands between us and the image ---- */

typedef struct BlockRequest {
    CoppiceNvme* nvme;
    void* cookie;
    QEMUIOVector qiov;
} BlockRequest;

static void block_done(void* opaque, int result)
{
    BlockRequest* request = opaque;
    AioContext* context = request->nvme->context;
    COPPICE_CONTEXT_ACQUIRE(context);
    coppice_nvme_block_complete(request->cookie, MIN(result, 0));
    COPPICE_CONTEXT_RELEASE(context);
    g_free(request);
}

static uint64_t block_size_bytes(void* opaque)
{
    CoppiceNvme* nvme = opaque;
    return MAX(COPPICE_BLK_GETLENGTH(nvme->conf.blk), 0);
}

static bool block_read_only(void* opaque)
{
    CoppiceNvme* nvme = opaque;
    return !blk_is_writable(nvme->conf.blk);
}

static void block_submit(void* opaque, const struct coppice_nvme_block_io* io)
{
    CoppiceNvme* nvme = opaque;
    BlockBackend* blk = nvme->conf.blk;
    BlockRequest* request = g_new(BlockRequest, 1);
    *request = (BlockRequest){.nvme = nvme, .cookie = io->cookie};
    BdrvRequestFlags flags = io->fua ? BDRV_REQ_FUA : 0;
    qemu_iovec_init_external(&request->qiov, (struct iovec*)io->iov, io->iov_count);
    switch (io->kind) {
    case COPPICE_NVME_BLOCK_READ:
        blk_aio_preadv(blk, io->offset, &request->qiov, 0, block_done, request);
        break;
    case COPPICE_NVME_BLOCK_WRITE:
        blk_aio_pwritev(blk, io->offset, &request->qiov, flags, block_done, request);
        break;
    case COPPICE_NVME_BLOCK_FLUSH: blk_aio_flush(blk, block_done, request); break;
    case COPPICE_NVME_BLOCK_DISCARD:
    case COPPICE_NVME_BLOCK_WRITE_ZEROES:
        /* Both have to read as zeroes, which a discard of the block layer does not promise. */
        if (io->kind == COPPICE_NVME_BLOCK_DISCARD) flags |= BDRV_REQ_MAY_UNMAP;
        blk_aio_pwrite_zeroes(blk, io->offset, io->length, flags, block_done, request);
        break;
    }
}

void coppice_nvme_fill_block(CoppiceNvme* nvme, const struct coppice_volume_info* volume)
{
    nvme->block = (struct coppice_nvme_block){
        .size = sizeof nvme->block,
        .opaque = nvme,
        .size_bytes = block_size_bytes,
        .read_only = block_read_only,
        .submit = block_submit,
        .nsid = volume->id,
        .lba_bytes = volume->lba_bytes,
    };
    memcpy(nvme->block.nguid, volume->nguid, sizeof nvme->block.nguid);
    memcpy(nvme->block.eui64, volume->eui64, sizeof nvme->block.eui64);
}
