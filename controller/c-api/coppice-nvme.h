/* The C boundary of the NVMe controller: what a device module needs.
 *
 * Threads. Everything happens on the store's thread (the block node's AioContext), one call at a
 * time, with three exceptions that any thread may call: coppice_nvme_read, coppice_nvme_doorbell
 * and coppice_nvme_is_doorbell. So with an iothread a virtual CPU's register write becomes:
 *   doorbell:  if (coppice_nvme_doorbell(...)) schedule coppice_nvme_poll on the store's thread
 *   other:     have coppice_nvme_write run on the store's thread, and wait for it
 * Without an iothread coppice_nvme_write does for both.
 *
 * Nothing in here waits. Where the caller must wait (a reset, a drained section, before destroy),
 * it runs its event loop until coppice_nvme_busy is false; the port `idle` says when to look.
 *
 * Structures begin with their size, so that a field can be added at the end: set it to sizeof. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef COPPICE_API
#define COPPICE_API __attribute__((visibility("default")))
#endif

struct coppice_nvme;
struct coppice_store; /* of format/c-api/coppice.h */

/* ---- Ports ---- */

enum coppice_nvme_class {
    COPPICE_NVME_READ,
    COPPICE_NVME_WRITE,
    COPPICE_NVME_FLUSH,
    COPPICE_NVME_DEALLOCATE,
};

enum coppice_nvme_action {
    COPPICE_NVME_REPORT, /* the guest gets the error */
    COPPICE_NVME_IGNORE, /* the guest gets success */
    COPPICE_NVME_RETRY,  /* held back until coppice_nvme_retry (the machine stops meanwhile) */
};

struct coppice_nvme_ports {
    size_t size;
    void* opaque;

    /* Guest memory, by copying; 0 or -errno where there is none. */
    int (*read_memory)(void* opaque, uint64_t address, void* into, size_t length);
    int (*write_memory)(void* opaque, uint64_t address, const void* from, size_t length);
    /* Guest memory, by mapping the beginning of [address, address + *length): *length comes back as
     * what is contiguous (at least 1). NULL: not now or not at all; then it is copied. The device
     * writes to the memory if `to_guest`. */
    void* (*map)(void* opaque, uint64_t address, size_t* length, bool to_guest);
    void (*unmap)(void* opaque, void* pointer, size_t length, bool to_guest, size_t used);

    bool (*msix_enabled)(void* opaque);
    void (*send_msix)(void* opaque, unsigned vector);
    void (*set_pin)(void* opaque, bool asserted); /* level of INTx */

    uint64_t (*now_ns)(void* opaque);
    uint64_t (*unix_ns)(void* opaque);

    /* Have coppice_nvme_poll called soon, from the store's thread's event loop, not from inside
     * this call (a bottom half). */
    void (*schedule_poll)(void* opaque);

    /* Those below may be NULL. */
    void (*idle)(void* opaque);                     /* coppice_nvme_busy became false */
    void (*report)(void* opaque, const char* text); /* a sentence for the log */
    /* Accounting: `cookie` is the caller's, 32 bytes that stay with the command. */
    void (*io_begins)(void* opaque, enum coppice_nvme_class io, uint64_t bytes, uint64_t cookie[4]);
    void (*io_ends)(void* opaque, enum coppice_nvme_class io, uint64_t cookie[4], bool failed);
    /* A command failed with this errno (positive): rerror, werror. */
    enum coppice_nvme_action (*on_error)(void* opaque, enum coppice_nvme_class io, int error);
};

/* ---- What holds the data: a store, or a plain block device ---- */

enum coppice_nvme_block_kind {
    COPPICE_NVME_BLOCK_READ,
    COPPICE_NVME_BLOCK_WRITE,
    COPPICE_NVME_BLOCK_FLUSH,
    COPPICE_NVME_BLOCK_DISCARD, /* must read as zeroes afterwards: write zeroes, may unmap */
    COPPICE_NVME_BLOCK_WRITE_ZEROES,
};

struct coppice_nvme_block_io {
    enum coppice_nvme_block_kind kind;
    bool fua;
    uint64_t offset, length;
    const struct iovec* iov; /* read, write; stays until the completion */
    size_t iov_count;
    void* cookie; /* the controller's; hand it to coppice_nvme_block_complete */
};

struct coppice_nvme_block {
    size_t size;
    void* opaque;
    uint64_t (*size_bytes)(void* opaque);
    bool (*read_only)(void* opaque);
    /* Begins one request; it is completed once, at once or later. The structure itself need not
     * outlive the call. */
    void (*submit)(void* opaque, const struct coppice_nvme_block_io* io);
    /* The namespace as the guest sees it: of the volume that lies below, so that it stays the same
     * disk when the device changes over from the store. */
    uint32_t nsid;      /* 0: 1 */
    unsigned lba_bytes; /* 512 or 4096; 0: 512 */
    uint8_t nguid[16];
    uint8_t eui64[8];
};

/* 0 or -errno; on the store's thread. */
COPPICE_API void coppice_nvme_block_complete(void* cookie, int result);

/* ---- The controller ---- */

enum coppice_nvme_manage {
    COPPICE_NVME_MANAGE_OWN, /* what the guest made; the default */
    COPPICE_NVME_MANAGE_OFF,
    COPPICE_NVME_MANAGE_ALL,
};

enum {
    COPPICE_NVME_BAR_BYTES = 16384,
    COPPICE_NVME_DEFAULT_VECTORS = 65, /* the admin queue and 64 pairs */
};

struct coppice_nvme_config {
    size_t size;
    uint16_t pci_vendor, pci_subsystem_vendor;
    uint16_t controller_id;
    const char* serial; /* up to 20 ASCII characters; NULL or "": from the image's identity */
    const char* subnqn; /* up to 223 bytes; NULL: a uuid NQN from image and serial */
    unsigned vectors;   /* MSI-X table size; 0: COPPICE_NVME_DEFAULT_VECTORS */
    enum coppice_nvme_manage manage;
    bool detach_volumes;    /* at power-on do not attach all volumes, only those named here */
    const uint32_t* attach; /* also attached at power-on: volumes, or snapshots (read-only) */
    size_t attach_count;
    uint8_t uuid[16]; /* identity when there is no store; else ignored */
};

/* Exactly one of `store` and `block` is given; it, and what `ports->opaque` names, outlive the
 * controller. The structures themselves are copied. NULL: out of range configuration. */
COPPICE_API struct coppice_nvme* coppice_nvme_create(const struct coppice_nvme_config* config,
                                                     const struct coppice_nvme_ports* ports,
                                                     struct coppice_store* store,
                                                     const struct coppice_nvme_block* block);
/* Only when stopped and not busy. */
COPPICE_API void coppice_nvme_destroy(struct coppice_nvme* nvme);

/* BAR 0. Reads of 1, 2, 4, 8 bytes (any thread); writes of 4 or 8, others are dropped. */
COPPICE_API uint64_t coppice_nvme_read(struct coppice_nvme* nvme, uint64_t offset, unsigned size);
COPPICE_API void coppice_nvme_write(struct coppice_nvme* nvme, uint64_t offset, uint64_t value,
                                    unsigned size);
/* Any thread. */
COPPICE_API bool coppice_nvme_is_doorbell(uint64_t offset);
COPPICE_API bool coppice_nvme_doorbell(struct coppice_nvme* nvme, uint64_t offset, uint32_t value);

COPPICE_API void coppice_nvme_poll(struct coppice_nvme* nvme);
/* MSI-X was enabled or disabled: sets the pin anew. */
COPPICE_API void coppice_nvme_interrupt_mode_changed(struct coppice_nvme* nvme);
/* PCI function or machine reset, as after power-on. Done when not busy. */
COPPICE_API void coppice_nvme_reset(struct coppice_nvme* nvme);
/* Nothing new is begun between stop and start (drained sections, a stopped machine). Calls do not
 * nest. Quiet once not busy. */
COPPICE_API void coppice_nvme_stop(struct coppice_nvme* nvme);
COPPICE_API void coppice_nvme_start(struct coppice_nvme* nvme);
COPPICE_API bool coppice_nvme_busy(struct coppice_nvme* nvme);
/* Begins again what on_error held back. */
COPPICE_API void coppice_nvme_retry(struct coppice_nvme* nvme);
/* Volumes or snapshots changed on the host's side (QMP, the host tool, resize). */
COPPICE_API void coppice_nvme_rescan(struct coppice_nvme* nvme);
/* Changes over to another store or block device; only when stopped and not busy. */
COPPICE_API void coppice_nvme_use_store(struct coppice_nvme* nvme, struct coppice_store* store);
COPPICE_API void coppice_nvme_use_block(struct coppice_nvme* nvme,
                                        const struct coppice_nvme_block* block);
COPPICE_API unsigned coppice_nvme_vectors(struct coppice_nvme* nvme);

#ifdef __cplusplus
}
#endif
