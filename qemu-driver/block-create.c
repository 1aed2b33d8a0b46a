/* Making an image: qemu-img create, and convert without -n. What an image needs: qemu-img measure.
 *
 *   size=BYTES              of the volume
 *   lba_size=512|4096       what a guest on coppice-nvme sees as a block; default 4096
 *   flush=durable|ordered   what a flush does (format/volume/store.h); default durable
 *   volume=NAME             its name; default "main"
 *   journal_size=BYTES      default: by the size of the volume, 4 to 64 MiB
 *   preallocation=off       nothing else, as data never stay in their places */
#include "image.h"

#include "qapi/qapi-types-block-core.h"

#define OPTION_LBA_SIZE "lba_size"
#define OPTION_FLUSH "flush"
#define OPTION_VOLUME "volume"
#define OPTION_JOURNAL_SIZE "journal_size"

QemuOptsList coppice_bdrv_create_options = {
    .name = "coppice-create-opts",
    .head = QTAILQ_HEAD_INITIALIZER(coppice_bdrv_create_options.head),
    .desc =
        {
            {
                .name = BLOCK_OPT_SIZE,
                .type = QEMU_OPT_SIZE,
                .help = "Virtual disk size",
            },
            {
                .name = OPTION_LBA_SIZE,
                .type = QEMU_OPT_SIZE,
                .help = "Bytes of a block as a guest on coppice-nvme sees it: 512 or 4096",
                .def_value_str = "4096",
            },
            {
                .name = OPTION_VOLUME,
                .type = QEMU_OPT_STRING,
                .help = "Name of the volume",
                .def_value_str = "main",
            },
            {
                .name = OPTION_JOURNAL_SIZE,
                .type = QEMU_OPT_SIZE,
                .help = "Bytes of the journal (default: by the size of the disk)",
            },
            {
                .name = OPTION_FLUSH,
                .type = QEMU_OPT_STRING,
                .help =
                    "What a flush does: durable, or ordered (returns at once; after a crash the "
                    "disk holds an earlier state)",
                .def_value_str = "durable",
            },
            {
                .name = BLOCK_OPT_PREALLOC,
                .type = QEMU_OPT_STRING,
                .help = "Preallocation mode (allowed values: off)",
            },
            {},
        },
};

typedef struct Wanted {
    struct coppice_create_options options;
    char* volume_name;
} Wanted;

/* Takes our options out of `options`; what stays is the file's. */
static bool take_options(QemuOpts* options, Wanted* wanted, Error** errp)
{
    g_autofree char* flush = qemu_opt_get_del(options, OPTION_FLUSH);
    g_autofree char* preallocation = qemu_opt_get_del(options, BLOCK_OPT_PREALLOC);
    uint64_t size = qemu_opt_get_size_del(options, BLOCK_OPT_SIZE, 0);
    uint64_t lba_size = qemu_opt_get_size_del(options, OPTION_LBA_SIZE, 4096);
    wanted->volume_name = qemu_opt_get_del(options, OPTION_VOLUME);
    wanted->options.journal_bytes = qemu_opt_get_size_del(options, OPTION_JOURNAL_SIZE, 0);
    wanted->options.volume_name = wanted->volume_name;
    if (preallocation && strcmp(preallocation, "off") != 0) {
        error_setg(errp,
                   "preallocation=%s is not supported; what is written goes to new places "
                   "anyway",
                   preallocation);
        return false;
    }
    if (lba_size != 512 && lba_size != 4096) {
        error_setg(errp, "lba_size is 512 or 4096, not %" PRIu64, lba_size);
        return false;
    }
    wanted->options.flush_ordered = flush && strcmp(flush, "ordered") == 0;
    if (flush && !wanted->options.flush_ordered && strcmp(flush, "durable") != 0) {
        error_setg(errp, "flush is durable or ordered, not %s", flush);
        return false;
    }
    if (size == 0) {
        error_setg(errp, "a disk of size 0 cannot be made");
        return false;
    }
    if (size > BDRV_MAX_LENGTH) {
        error_setg(errp, "the size is more than a block node of QEMU can have");
        return false;
    }
    wanted->options.lba_bytes = lba_size;
    wanted->options.volume_bytes = ROUND_UP(size, lba_size);
    return true;
}

int coroutine_fn coppice_bdrv_co_create_opts(BlockDriver* driver, const char* filename,
                                             QemuOpts* options, Error** errp)
{
    Wanted wanted = {};
    BlockDriverState* bs = NULL;
    BlockBackend* blk = NULL;
    struct coppice_error error = {};
    CoppicePorts ports;
    int result = -EINVAL;

    if (!take_options(options, &wanted, errp)) goto out;
    result = COPPICE_CREATE_FILE(filename, options, errp);
    if (result < 0) goto out;
    bs = COPPICE_OPEN_NODE(filename, NULL, NULL, BDRV_O_RDWR | BDRV_O_RESIZE | BDRV_O_PROTOCOL,
                           errp);
    if (!bs) {
        result = -EIO;
        goto out;
    }
    blk = COPPICE_BLK_NEW_WITH_BS(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE | BLK_PERM_RESIZE,
                                  BLK_PERM_ALL, errp);
    if (!blk) {
        result = -EPERM;
        goto out;
    }
    blk_set_allow_write_beyond_eof(blk, true);
    coppice_bdrv_ports_init(&ports, NULL, blk, false);
    result = coppice_create(&ports.ports, &wanted.options, &error);
    if (result < 0) error_setg(errp, "%s", error.text);
out:
    COPPICE_BLK_UNREF(blk);
    if (result < 0 && bs) bdrv_co_delete_file_noerr(bs);
    COPPICE_BDRV_UNREF(bs);
    g_free(wanted.volume_name);
    return result;
}

/* ---- Measure ---- */

/* Bytes of the source that a copy has to hold, or -errno. */
static int64_t data_bytes(BlockDriverState* source, int64_t size)
{
    int64_t sum = 0, length = 0;
    for (int64_t offset = 0; offset < size; offset += length) {
        int status =
            bdrv_block_status_above(source, NULL, offset, size - offset, &length, NULL, NULL);
        if (status < 0) return status;
        if (length == 0) break;
        if ((status & BDRV_BLOCK_ZERO) || !(status & BDRV_BLOCK_DATA)) continue;
        sum += ROUND_UP(offset + length, 4096) - ROUND_DOWN(offset, 4096);
    }
    return MIN(sum, ROUND_UP(size, 4096));
}

/* What the format adds to so many bytes of data: checksums (4 bytes for each block), map and space
 * (up to 100 bytes for each run; written sequentially there are few), twice, as nodes are copied
 * when they change, and what there is always. Generous, as scripts make volumes of this size. */
static uint64_t overhead_bytes(uint64_t data, uint64_t journal)
{
    return data / 256 + journal + 4 * MiB;
}

BlockMeasureInfo* coppice_bdrv_measure(QemuOpts* options, BlockDriverState* source, Error** errp)
{
    uint64_t size = qemu_opt_get_size_del(options, BLOCK_OPT_SIZE, 0);
    uint64_t journal = qemu_opt_get_size_del(options, OPTION_JOURNAL_SIZE, 0);
    int64_t data = 0;
    if (source) {
        int64_t length = bdrv_getlength(source);
        data = length < 0 ? length : data_bytes(source, length);
        if (data < 0) {
            error_setg_errno(errp, -data, "the source cannot be looked through");
            return NULL;
        }
        size = length;
    }
    if (journal == 0) journal = size / 64; /* as the store scales it */
    journal = MAX(MIN(journal, 64 * MiB), 4 * MiB);
    BlockMeasureInfo* info = g_new0(BlockMeasureInfo, 1);
    info->required = data + overhead_bytes(data, journal);
    info->fully_allocated = ROUND_UP(size, 4096) + overhead_bytes(size, journal);
    return info;
}
