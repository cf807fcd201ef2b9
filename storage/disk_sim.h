/* SPDX-License-Identifier: Apache-2.0 */
/* disk_sim: a SQLite VFS over a simulated disk that loses, tears and refuses what a real one may. First-class part of the tree:
 * the whole server is simulated upon it, real SQLite included.
 *
 * A file has two images: `durable`, what a power cut leaves, and `cached`, what a read sees. Between them stands the list of
 * writes and size changes since the last flush, in order. A flush applies the list to the durable image. A crash applies a
 * random part of it: per 512-byte sector the new bytes, the old ones, zeroes or garbage; the size is an item of its own; the
 * name of a file that was never flushed may vanish, one deleted without flushing the folder may come back. A test that goes
 * through all I/Os chooses the part instead (disk_sim_set_loss).
 *
 * A failed flush is that of Linux: the pages count as clean and will not be written again, so that the next flush succeeds
 * and proves nothing.
 *
 * Life: disk_sim_create registers the VFS; SQLite opens files on it; faults are scheduled; after a crash (scheduled or called)
 * every call fails until the connections are closed and disk_sim_restart shows what survived; disk_sim_destroy.
 *
 * An *I/O* is what changes the disk: a write, a truncation, a flush, a deletion. They are counted from 1; reads are counted
 * apart. Limits: everything in memory; one thread; no memory mapping of files. Depends on sqlite3.h alone.
 */
#ifndef CIRANDA_STORAGE_DISK_SIM_H
#define CIRANDA_STORAGE_DISK_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct disk_sim;

struct disk_sim_options {
    const char *name;                  /* of the VFS; unique in the process; lives as long as the disk */
    uint64_t (*random)(void *context); /* every draw comes from it, in a fixed order: same seed, same disk */
    void *random_context;
    uint64_t bytes_max; /* sum of the files' sizes; 0: no bound */
    /* A torn write harms only bytes that it covers, as SQLite assumes of real disks by default. Else it may harm the rest of
     * its first and last sector. */
    bool is_powersafe;
};

enum disk_sim_fault {
    DISK_SIM_READ_ERROR,
    DISK_SIM_WRITE_ERROR, /* nothing of it is written */
    DISK_SIM_SHORT_WRITE, /* the first half is written, then the disk is full */
    DISK_SIM_FULL,
    DISK_SIM_SYNC_ERROR,
    DISK_SIM_CRASH, /* within the I/O: it may have happened, wholly or in parts */
    DISK_SIM_FAULT_COUNT
};

/* What the next crash takes of what was not flushed. */
enum disk_sim_loss {
    DISK_SIM_LOSS_DRAWN,
    DISK_SIM_LOSS_ALL,
    DISK_SIM_LOSS_NONE, /* only the process died: its writes are the kernel's */
    DISK_SIM_LOSS_COUNT
};

struct disk_sim_stats {
    uint64_t ios, reads, writes, syncs, truncations, deletions, crashes, faults;
};

/* Returns: NULL when out of memory or when SQLite refuses. */
struct disk_sim *disk_sim_create(const struct disk_sim_options *options);
/* All files must be closed. Accepts NULL. */
void disk_sim_destroy(struct disk_sim *disk);

/* From the n-th I/O from now (1: the next; of reads for a read error) the next `count` that fit the fault meet it. One schedule
 * a kind: a new one replaces it; count 0 takes it back. */
void disk_sim_schedule(struct disk_sim *disk, enum disk_sim_fault fault, uint64_t n, uint64_t count);
void disk_sim_set_loss(struct disk_sim *disk, enum disk_sim_loss loss);
void disk_sim_set_bytes_max(struct disk_sim *disk, uint64_t bytes_max);
/* Power off. Every call fails from now on. */
void disk_sim_crash(struct disk_sim *disk);
bool disk_sim_is_crashed(const struct disk_sim *disk);
/* Power on again, with what survived; schedules are gone. What was open before stays dead and must be closed. */
void disk_sim_restart(struct disk_sim *disk);

void disk_sim_get_stats(const struct disk_sim *disk, struct disk_sim_stats *ret_stats);
/* Of one file since its creation. Returns: false when there is no such file. */
bool disk_sim_get_file_stats(const struct disk_sim *disk, const char *name, struct disk_sim_stats *ret_stats);

/* The bytes that a read would see; lent until the next call. Returns: false when there is no such file. */
bool disk_sim_peek(const struct disk_sim *disk, const char *name, const uint8_t **ret_bytes, size_t *ret_size);
/* Bit rot, in both images. `bit` counts from the start of the file; beyond its end: nothing happens. */
void disk_sim_flip_bit(struct disk_sim *disk, const char *name, uint64_t bit);

#endif
