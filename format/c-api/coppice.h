/* The C boundary of the store: what the QEMU modules call, and the ports that they provide.
 *
 *   QEMU module --coppice_*--> store --struct coppice_ports--> QEMU module
 *
 * Errors are negative errno values; where a message helps, it comes back in struct coppice_error.
 * Everything happens on one thread at a time (the block node's AioContext). Calls marked "task"
 * may give way and must be made from a task that the ports know (in QEMU: a coroutine). No C++
 * exception leaves here: what is not an error value (no memory) ends the process. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define COPPICE_API __attribute__((visibility("default")))

struct coppice_error {
    char name[32];  /* a short word, e.g. "bad_node" */
    char text[512]; /* one sentence */
};

/* ---- Ports that the host of the store provides ---- */

enum coppice_io_kind {
    COPPICE_IO_READ,     /* beyond the end of the file: zeroes */
    COPPICE_IO_WRITE,    /* beyond the end: the file grows */
    COPPICE_IO_ALLOCATE, /* make physically present, contents stay; may be a no-op */
    COPPICE_IO_DISCARD,
    COPPICE_IO_SYNC,
    COPPICE_IO_TRUNCATE, /* set the length to offset */
};

/* Lives until coppice_io_complete has been called for it. */
struct coppice_io {
    enum coppice_io_kind kind;
    uint64_t offset;
    uint64_t length;
    const struct iovec* iov;
    size_t iov_count;
    void* cookie; /* the store's */
    void* port;   /* the port's own */
};

struct coppice_ports {
    void* opaque;
    /* Starts one request; coppice_io_complete is called for it exactly once, on the same thread,
     * never from inside this call. */
    void (*io)(void* opaque, struct coppice_io* request);
    int64_t (*size)(void* opaque); /* length of the file in bytes or -errno (task) */
    bool read_only;
    /* Tasks. None of these runs another task from inside the call, but for suspend and yield. */
    void (*spawn)(void* opaque, void (*body)(void* arg), void* arg); /* body(arg) as a new task */
    void* (*current)(void* opaque);                                  /* the running task */
    void (*suspend)(void* opaque);          /* until wake is called for the running task */
    void (*wake)(void* opaque, void* task); /* called once for each suspend, never before it */
    void (*yield)(void* opaque);            /* lets the event loop and other tasks run once */
    uint64_t (*now_ns)(void* opaque);       /* never goes back */
    uint64_t (*unix_ns)(void* opaque);
};

COPPICE_API void coppice_io_complete(const struct coppice_io* request, int result);

/* ---- Store ---- */

struct coppice_store;

struct coppice_create_options {
    uint64_t volume_bytes;
    const char* volume_name; /* NULL: "main" */
    unsigned lba_bytes;      /* 512 or 4096; 0: 4096 */
    uint64_t journal_bytes;  /* 0: scaled to the volume */
    bool flush_ordered;      /* flush=ordered: a flush orders and returns at once */
};

struct coppice_open_options {
    bool read_only;
    bool punch;           /* freed space goes back to the host */
    uint64_t cache_bytes; /* 0: default */
};

/* 0 .. 100: does this beginning of a file (at least 512 bytes) look like an image? */
COPPICE_API int coppice_probe(const uint8_t* bytes, size_t length);

COPPICE_API int coppice_create(const struct coppice_ports* ports,
                               const struct coppice_create_options* options,
                               struct coppice_error* error); /* task */
COPPICE_API struct coppice_store* coppice_open(const struct coppice_ports* ports,
                                               const struct coppice_open_options* options,
                                               struct coppice_error* error); /* task */
/* Makes durable, writes a checkpoint, frees the store, also when it fails. task */
COPPICE_API int coppice_close(struct coppice_store* store, struct coppice_error* error);
/* Frees the store, writes nothing. */
COPPICE_API void coppice_abandon(struct coppice_store* store);
COPPICE_API void coppice_pause(struct coppice_store* store); /* task */
COPPICE_API void coppice_resume(struct coppice_store* store);
COPPICE_API bool coppice_is_read_only(struct coppice_store* store);
/* To be called about once a second while the store is open and not paused: starts background work
 * that is due (pending operations reach the journal, checkpoints, removals). Never waits. */
COPPICE_API void coppice_tick(struct coppice_store* store);

struct coppice_image_info {
    uint8_t uuid[16];
    unsigned major_version, minor_version;
    uint64_t generation, sequence;
    uint64_t journal_bytes, journal_used_bytes;
    uint64_t replayed_operations;
    uint64_t image_bytes, free_bytes, fixed_bytes, data_bytes, node_bytes, pending_free_bytes;
};
COPPICE_API void coppice_get_info(struct coppice_store* store, struct coppice_image_info* info);

struct coppice_volume_info {
    uint32_t id;
    uint32_t parent;
    bool snapshot, read_only, guest_made;
    unsigned lba_bytes;
    bool flush_ordered;
    uint64_t size_bytes;
    uint64_t mapped_bytes;
    uint64_t created_unix_ns;
    uint64_t created_sequence;
    uint64_t vm_state_bytes, vm_clock_ns, icount;
    uint8_t nguid[16];
    uint8_t eui64[8];
    char name[128];
};

/* Fills up to `capacity` entries, by id, snapshots included; returns how many there are. */
COPPICE_API size_t coppice_list_volumes(struct coppice_store* store,
                                        struct coppice_volume_info* entries, size_t capacity);
COPPICE_API int coppice_get_volume(struct coppice_store* store, uint32_t id,
                                   struct coppice_volume_info* info);
/* Snapshot of volume `of`, or with of = 0 a volume; returns its id or -ENOENT. */
COPPICE_API int64_t coppice_find(struct coppice_store* store, const char* name, uint32_t of);

/* Management (task). Those that make something return its id. */
COPPICE_API int64_t coppice_create_volume(struct coppice_store* store, const char* name,
                                          uint64_t size_bytes, unsigned lba_bytes, bool guest_made,
                                          struct coppice_error* error);
COPPICE_API int64_t coppice_snapshot(struct coppice_store* store, uint32_t volume, const char* name,
                                     bool guest_made, uint64_t vm_state_bytes, uint64_t vm_clock_ns,
                                     uint64_t icount, struct coppice_error* error);
COPPICE_API int64_t coppice_clone_volume(struct coppice_store* store, uint32_t snapshot,
                                         const char* name, bool guest_made,
                                         struct coppice_error* error);
COPPICE_API int coppice_remove(struct coppice_store* store, uint32_t id,
                               struct coppice_error* error);
COPPICE_API int coppice_rollback(struct coppice_store* store, uint32_t volume, uint32_t snapshot,
                                 struct coppice_error* error);
COPPICE_API int coppice_resize(struct coppice_store* store, uint32_t volume, uint64_t size_bytes,
                               struct coppice_error* error);

/* Input and output (task). Offsets and lengths are multiples of 512. `error` may be NULL. */
struct coppice_range {
    uint64_t offset, length;
};
struct coppice_clone_source {
    uint32_t volume;
    struct coppice_range range;
};
COPPICE_API int coppice_read(struct coppice_store* store, uint32_t volume, uint64_t offset,
                             const struct iovec* iov, size_t iov_count,
                             struct coppice_error* error);
COPPICE_API int coppice_write(struct coppice_store* store, uint32_t volume, uint64_t offset,
                              const struct iovec* iov, size_t iov_count, bool fua,
                              struct coppice_error* error);
COPPICE_API int coppice_deallocate(struct coppice_store* store, uint32_t volume,
                                   const struct coppice_range* ranges, size_t count,
                                   struct coppice_error* error);
COPPICE_API int coppice_write_zeroes(struct coppice_store* store, uint32_t volume, uint64_t offset,
                                     uint64_t length, struct coppice_error* error);
COPPICE_API int coppice_clone(struct coppice_store* store, uint32_t volume, uint64_t offset,
                              const struct coppice_clone_source* sources, size_t count,
                              struct coppice_error* error);
COPPICE_API int coppice_flush(struct coppice_store* store, uint32_t volume,
                              struct coppice_error* error);
COPPICE_API int coppice_checkpoint(struct coppice_store* store, struct coppice_error* error);

enum coppice_block_state { COPPICE_BLOCK_DATA, COPPICE_BLOCK_ZERO, COPPICE_BLOCK_HOLE };
struct coppice_block_status {
    enum coppice_block_state state;
    uint64_t length;
    int64_t host_offset; /* -1: none */
};
COPPICE_API int coppice_get_block_status(struct coppice_store* store, uint32_t volume,
                                         uint64_t offset, uint64_t length,
                                         struct coppice_block_status* status); /* task */

/* ---- Checker (task): reads the image through the ports, writes nothing, needs no store ---- */

struct coppice_check_result {
    uint64_t corruptions; /* what can cost data */
    uint64_t leaks;       /* space that nothing owns */
    uint64_t total_blocks, used_blocks, data_blocks, node_blocks, fragmented_extents, extents;
    uint64_t image_end_offset;
};
/* `line` is called with each finding, one sentence. */
COPPICE_API int coppice_check(const struct coppice_ports* ports, bool verify_data,
                              void (*line)(void* opaque, const char* text), void* opaque,
                              struct coppice_check_result* result, struct coppice_error* error);

#ifdef __cplusplus
}
#endif
