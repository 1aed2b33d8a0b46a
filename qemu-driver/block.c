/* The image format `coppice` as a block driver of QEMU. */
#include "compat.h"

/* The first bytes of an image; format/layout/layout.h says so too. */
static const char image_magic[8] = {'C', 'O', 'P', 'P', 'I', 'C', 'E', '\n'};

static int coppice_bdrv_probe(const uint8_t* bytes, int length, const char* file_name) {
    bool ours =
        length >= (int)sizeof image_magic && !memcmp(bytes, image_magic, sizeof image_magic);
    return ours ? 100 : 0;
}

static int coppice_bdrv_open(BlockDriverState* bs, QDict* options, int flags, Error** errp) {
    int result = bdrv_open_file_child(NULL, options, "file", bs, errp);
    if (result < 0) return result;
    error_setg(errp, "this build of the driver has no store");
    return -ENOTSUP;
}

static BlockDriver coppice_bdrv_driver = {
    .format_name = "coppice",
    .is_format = true,
    .bdrv_probe = coppice_bdrv_probe,
    .bdrv_open = coppice_bdrv_open,
    .bdrv_child_perm = bdrv_default_perms,
};

static void coppice_bdrv_init(void) {
    bdrv_register(&coppice_bdrv_driver);
}
block_init(coppice_bdrv_init);
