/* SPDX-License-Identifier: Apache-2.0 */
/* backend: the engine beneath the journal: rows in, rows out, synchronously. journal_writer.c and journal_reader.c drive it from
 * their own threads (or all on one, in simulation); it knows nothing of messages, groups, chains or checksums.
 *
 * Two sides: the write side belongs to the writer's thread with every write and every checkpoint, the read side to the
 * reader's. They share no state but what the engine shares by itself; the read side never writes nor checkpoints.
 *
 * Life: open; then transactions (begin ... commit or rollback) on one side and (read_begin ... read_end) on the other; close.
 * Before open returns, the engine has repaired itself: what a crash left half done is gone.
 *
 * Results, the same for every function: OK; ERR_STORAGE_FULL (undone by rollback; may be tried again); ERR_NO_MEMORY and
 * ERR_STORAGE_BUSY (as FULL); ERR_STORAGE_CORRUPT (the engine's own structures are damaged); ERR_STORAGE_FAILED (everything else: a
 * failed write or flush, or an outcome that nobody knows). A `commit` that returns anything but OK, FULL or BUSY may or may
 * not have happened, and says ERR_STORAGE_FAILED or ERR_STORAGE_CORRUPT.
 */
#ifndef CIRANDA_STORAGE_BACKEND_H
#define CIRANDA_STORAGE_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"
#include "storage/record.h"

struct backend;

struct backend_options {
    const char *directory; /* exists and is locked, or is a name in the simulation's disk */
    const char *vfs;       /* journal_options.vfs */
};

/* What the journal remembers about itself, in the same transaction as what it is about. */
enum backend_mark {
    BACKEND_MARK_HEADS,  /* every record up to this offset is reflected in the heads */
    BACKEND_MARK_OFFSET, /* offsets up to this one are used, though an erase may have removed the record */
    BACKEND_MARK_COUNT
};

/* An erasure that is under way: which records of a key are to go, and where to go on. */
#define BACKEND_ERASURE_SCAN ((uint64_t)INT64_MAX) /* as `next`: no chain leads to the records */
struct backend_erasure {
    struct slice key;
    uint64_t upto; /* later records are of the key's next life */
    uint64_t next; /* the record from which the chain leads back to the others; 0: none is left */
};

struct backend_type {
    const char *name;
    const char *file; /* that a store in use has in its directory; NULL: none */

    /* Thread: start-up. Returns also ERR_STORAGE_FORMAT and ERR_SYSTEM. */
    enum err (*open)(const struct backend_options *options, struct backend **ret_backend, struct error *error);
    /* `is_clean`: may tidy up (a last checkpoint); else writes nothing. Accepts NULL. */
    void (*close)(struct backend *backend, bool is_clean);

    /* ---- write side --------------------------------------------------------------------------------------------------- */
    enum err (*begin)(struct backend *backend);
    enum err (*commit)(struct backend *backend); /* OK: flushed */
    void (*rollback)(struct backend *backend);   /* also after a failed commit; no-op when nothing is open */
    /* Offsets rise by one within a transaction. What fails may be told by a later call, the commit's at the latest. */
    enum err (*append)(struct backend *backend, const struct record *record);
    enum err (*put_head)(struct backend *backend, const struct record_head *head);
    enum err (*put_snapshot)(struct backend *backend, const struct record_snapshot *snapshot);
    enum err (*put_mark)(struct backend *backend, enum backend_mark mark, uint64_t offset);
    /* In a transaction. ERR_NOT_FOUND: no such row. Slices live until the next call. */
    enum err (*find_head)(struct backend *backend, struct slice key, struct record_head *ret_head);
    enum err (*find_record)(struct backend *backend, uint64_t offset, struct record *ret_record);
    /* The newest record of a key by looking at all of them, the newest first: for a head that is damaged. ERR_NOT_FOUND also when a
     * damaged one lies on the way, since it might be the one. */
    enum err (*find_last_of)(struct backend *backend, struct slice key, struct record *ret_record);
    /* Overwrites what they delete, within the engine's pages. No such row: OK. */
    enum err (*erase_record)(struct backend *backend, uint64_t offset);
    /* By a scan of all records up to `upto`. */
    enum err (*erase_records_of)(struct backend *backend, struct slice key, uint64_t upto);
    enum err (*erase_head)(struct backend *backend, struct slice key);                       /* and the snapshot */
    enum err (*put_erasure)(struct backend *backend, const struct backend_erasure *erasure); /* one a key */
    enum err (*drop_erasure)(struct backend *backend, struct slice key);
    /* Also outside a transaction. ERR_NOT_FOUND: none. Slices live until the next call. */
    enum err (*find_erasure)(struct backend *backend, struct slice key, struct backend_erasure *ret_erasure);
    enum err (*first_erasure)(struct backend *backend, struct backend_erasure *ret_erasure);
    /* Outside a transaction: writes back what gathered when it is due; `is_idle`: there is time. `ret_did` false: nothing. */
    enum err (*maintain)(struct backend *backend, bool is_idle, bool *ret_did);
    /* Outside a transaction: nothing erased is left in any file of the engine. ERR_STORAGE_BUSY: a reader keeps it. */
    enum err (*scrub)(struct backend *backend);
    /* The engine's words for the last failure on the write side; static or until the next call. */
    const char *(*last_error)(struct backend *backend);

    /* ---- read side ---------------------------------------------------------------------------------------------------- */
    /* Everything up to read_end sees one state, at least as new as the last commit before read_begin. */
    enum err (*read_begin)(struct backend *backend);
    void (*read_end)(struct backend *backend);
    enum err (*read_mark)(struct backend *backend, enum backend_mark mark, uint64_t *ret_offset);
    /* ERR_NOT_FOUND: no such row. Slices live until the next call of the same function. */
    enum err (*read_record)(struct backend *backend, uint64_t offset, struct record *ret_record);
    enum err (*read_last)(struct backend *backend, uint64_t *ret_offset); /* of the newest record; 0: none */
    enum err (*read_last_of)(struct backend *backend, struct slice key, struct record *ret_record); /* as find_last_of */
    enum err (*read_head)(struct backend *backend, struct slice key, struct record_head *ret_head);
    enum err (*read_snapshot)(struct backend *backend, struct slice key, struct record_snapshot *ret_snapshot);
    /* Cursors: one of each at a time. next: ERR_NOT_FOUND at the end. Records in offset order after `after_offset`, heads in key
     * order. What is there but cannot be read is one record or head whose checksum does not hold. */
    enum err (*scan_start)(struct backend *backend, uint64_t after_offset);
    enum err (*scan_next)(struct backend *backend, struct record *ret_record);
    /* Of the keys with that prefix, those after `after_key` (empty: all). */
    enum err (*list_start)(struct backend *backend, struct slice prefix, struct slice after_key);
    enum err (*list_next)(struct backend *backend, struct record_head *ret_head);
};

extern const struct backend_type sqlite_backend_type;

#endif
