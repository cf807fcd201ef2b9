/* SPDX-License-Identifier: Apache-2.0 */
/* journal: the append-only store of conversation records, and the event bus. The one interface that every backend serves.
 *
 * Not a general database: it knows keys, versions, opaque record bytes and a small summary for listings.
 *
 * Shape: a writer thread gathers what came while the last group was being flushed and commits it as one group (no artificial
 * delay); a reader thread serves loads, so that they never wait for a flush. Requests are messages: the block that carries
 * the request comes back as the answer, to msg.to, once its work is done; a whole group comes back to a worker at once.
 * In simulation nobody starts the threads: journal_write_step and journal_read_step are called instead.
 *
 * Invariants
 *  J1  An append is answered OK only after the group that holds it was committed and flushed (synchronous=FULL).
 *  J2  Versions of a key are dense from 1; an append with another expected_version is ERR_STALE and changes nothing.
 *  J3  Appends of one key are applied in the order submitted; each answer is sent after those of earlier appends of its key.
 *  J4  After the first failed write or flush nothing is acknowledged ever again (ERR_STORAGE_FAILED, also for what waits);
 *      ERR_STORAGE_FULL rolls the group back and is not fatal.
 *  J5  A load or read sees every append answered before it was submitted.
 *  J6  Every record read back has passed its CRC-32C, which covers offset, key, version and bytes.
 *  J7  One process at a time: an exclusive lock on the data directory (ERR_STORAGE_LOCKED), a format number in it
 *      (ERR_STORAGE_FORMAT).
 *
 * Record n of a key carries `back`: the places of the records n-1, (n-1) minus its lowest set bit, and so on (the chain of a
 * Fenwick tree, Fenwick 1994; chain.h), so that any version is found from the head in O(log n) reads without an index; an
 * index would cost four times the CPU an append (docs/STORAGE.md).
 */
#ifndef CIRANDA_STORAGE_JOURNAL_H
#define CIRANDA_STORAGE_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"
#include "runtime/msg.h"
#include "runtime/slice.h"

struct runtime;
struct journal;

enum {
    JOURNAL_BACK_MAX = 28, /* a key has at most 2^28 - 1 records: a path has one place a set bit */
    JOURNAL_KEY_BYTES_MAX = 200,
    JOURNAL_OWNER_BYTES_MAX = 79,
    JOURNAL_RECORD_BYTES_MAX = 1 << 20,
    JOURNAL_SNAPSHOT_BYTES_MAX = 16 << 20,
};

/* Where a record is, and the last version it covers. */
struct journal_back {
    uint64_t offset, last_version;
};

/* Where a key's records end. The conversation keeps one; it is lent to the journal while appends are in flight (only the
 * writer thread touches it then) and comes back advanced. Zeroed: a key without records. */
struct journal_head {
    uint64_t version; /* last version; 0: none */
    uint64_t offset;  /* of the last record; 0: none */
    uint32_t record_count;
    uint32_t back_count;
    struct journal_back back[JOURNAL_BACK_MAX]; /* chain for the next record, oldest first; private to chain.c */
};

/* What listings show; kept with the head. */
struct journal_summary {
    uint8_t status; /* the product's enum */
    bool is_open;   /* an unfinished turn: journal_scan_open finds it after a crash */
    uint32_t messages;
    uint64_t created_ms, updated_ms;
    char owner[JOURNAL_OWNER_BYTES_MAX + 1];
};

enum {
    MSG_JOURNAL_APPEND = MSG_KIND_STORAGE + 1, /* also the kind of the answer */
    MSG_JOURNAL_LOAD,
    MSG_JOURNAL_READ,
    MSG_JOURNAL_LIST,
    MSG_JOURNAL_SAVE,
    MSG_JOURNAL_ERASE,
    MSG_JOURNAL_SCAN,
};

/* All requests: create with MSG_CREATE(worker, struct journal_x, MSG_JOURNAL_X, MSG_URGENT | MSG_CONTROL), set msg.to to the
 * actor that gets the answer, fill, submit. Owns: the journal has the block until it comes back; what slices and pointers
 * name must live until then (keep the actor pinned). */
struct journal_append {
    struct msg msg;
    struct slice key;          /* 1..JOURNAL_KEY_BYTES_MAX bytes */
    struct journal_head *head; /* lent */
    uint64_t expected_version; /* version of the head when the appends before this one are done; else ERR_STALE */
    uint32_t event_count;      /* >= 1; the record covers versions expected+1 .. expected+event_count */
    struct journal_summary summary;
    struct slice data; /* the record; at most JOURNAL_RECORD_BYTES_MAX, else ERR_LIMIT */
    /* answer: OK; ERR_STALE, ERR_INVALID (no key, no events), ERR_LIMIT: refused alone, the rest of its group goes on;
     * ERR_STORAGE_FULL, ERR_STORAGE_BUSY, ERR_NO_MEMORY: not written, may be tried again; ERR_STORAGE_FAILED, ERR_SHUTDOWN */
    enum err result;
    uint64_t offset; /* answer */
    void *context;   /* the caller's */
};

struct journal_record {
    uint64_t offset, first_version;
    uint32_t event_count;
    struct slice data;
};

/* Wakes a key: the head, the newest snapshot that checks out (or none), and the records after it in order. */
struct journal_load {
    struct msg msg;
    struct slice key;
    enum err result; /* OK, ERR_NOT_FOUND, ERR_STORAGE_CORRUPT, ERR_STORAGE_FAILED, ERR_NO_MEMORY, ERR_SHUTDOWN */
    struct journal_head head;
    struct journal_summary summary;
    uint64_t snapshot_version; /* 0: none */
    struct slice snapshot;
    struct journal_record *records;
    uint32_t record_count;
    void *memory; /* holds the answer's slices: journal_release(memory) when done */
    void *context;
};

/* Records that cover versions > after_version, from the first such, at most `event_count_max` events (0: none; else at least
 * one record) and about 4 MiB. */
struct worker;
struct journal_read {
    struct msg msg;
    /* NULL, or for the answer that reaches nobody: gives back what its maker keeps beside it, but neither memory nor block. */
    void (*on_drop)(struct worker *worker, struct journal_read *read);
    struct slice key;
    uint64_t after_version;
    uint64_t until_version; /* 0: no bound */
    uint32_t event_count_max;
    enum err result; /* OK (maybe no records), ERR_NOT_FOUND, ERR_STORAGE_CORRUPT, ERR_STORAGE_FAILED */
    struct journal_record *records;
    uint32_t record_count;
    void *memory;
    void *context;
};

struct journal_list_item {
    struct slice key;
    uint64_t version;
    struct journal_summary summary;
};
/* Keys in order, after `after_key`, that start with `prefix` and pass the filter. Sees every append answered before it. */
struct journal_list {
    struct msg msg;
    struct slice prefix, after_key;
    int status;         /* -1: any */
    struct slice owner; /* empty: any */
    bool only_open;
    uint32_t item_count_max; /* 1..1000 */
    /* Also ERR_STORAGE_FULL and ERR_STORAGE_FAILED: heads that are only in memory could not be written first. */
    enum err result;
    struct journal_list_item *items;
    uint32_t item_count;
    bool has_more;
    void *memory;
    void *context;
};

/* A snapshot: written lazily, not flushed for its own sake; losing one loses nothing. */
struct journal_save {
    struct msg msg;
    struct slice key;
    uint64_t version;  /* of the state it holds; newer than the head: ERR_STALE; no such key: ERR_NOT_FOUND */
    struct slice data; /* at most JOURNAL_SNAPSHOT_BYTES_MAX, else ERR_LIMIT */
    enum err result;   /* else as an append's */
    void *context;
};

/* Overwrites the bytes of all records of a key, its snapshot and its summary, durably. Appends submitted after it find the key
 * unknown and begin again at version 1; those of others are served while it goes on. ERR_BUSY: unknown already, but a long reader keeps old pages alive, or a full disk takes no new ones:
 * erase once more. OK also for a key that does not exist; else as an append's. */
struct journal_erase {
    struct msg msg;
    struct slice key;
    struct journal_head *head; /* lent; zeroed once the key is unknown, before the answer; may be NULL */
    enum err result;
    void *context;
};

/* The bus: records of all keys in offset order after a cursor; only committed ones. */
struct journal_scan_item {
    uint64_t offset;
    struct slice key;
    uint64_t first_version;
    uint32_t event_count;
    struct slice data;
};
struct journal_scan {
    struct msg msg;
    uint64_t after_offset;
    uint32_t item_count_max; /* 1..10000; the answer also ends at about 4 MiB */
    /* ERR_STORAGE_CORRUPT: the items before the damaged record, and after_offset moved to it: who submits again goes on behind
     * it and has decided so. */
    enum err result;
    struct journal_scan_item *items;
    uint32_t item_count;
    void *memory;
    void *context;
};

struct journal_options {
    const char *directory;     /* created when missing */
    const char *backend;       /* "sqlite" */
    const char *vfs;           /* SQLite VFS name; NULL: the system's. The simulation passes its own */
    uint32_t group_count_max;  /* appends a commit; 0: 4096 */
    uint32_t tail_records_max; /* records that a start may have to scan; 0: 1000000 */
    /* Thread: the writer's, once, on the first failed write or flush (J4): say why and stop the process. */
    void (*on_failed)(void *context, const struct error *error);
    void *on_failed_context;
};

/* Thread: start-up. Opens or creates, takes the lock, checks the format, recovers: cuts a torn tail, brings the heads up to
 * date. Returns: ERR_STORAGE_LOCKED, _FORMAT, _CORRUPT, _FULL, ERR_SYSTEM with cause and remedy. */
MUST_USE enum err journal_open(const struct journal_options *options, struct runtime *runtime,
                               struct journal **ret_journal, struct error *error);
MUST_USE enum err journal_start(struct journal *journal, struct error *error); /* the two threads */
/* Commits what is queued, writes the heads, frees. Submits that race with it are answered ERR_SHUTDOWN; there must be none
 * once it has returned. Thread: the one that opened. Accepts NULL. */
void journal_close(struct journal *journal);
/* As a crash: writes nothing, frees everything; what was queued comes back ERR_SHUTDOWN. For the simulation. Accepts NULL. */
void journal_abandon(struct journal *journal);

/* Thread: any worker's. Never blocks, never fails: the verdict is in the answer. */
void journal_submit_append(struct journal *journal, struct journal_append *append);
void journal_submit_load(struct journal *journal, struct journal_load *load);
void journal_submit_read(struct journal *journal, struct journal_read *read);
void journal_submit_list(struct journal *journal, struct journal_list *list);
void journal_submit_save(struct journal *journal, struct journal_save *save);
void journal_submit_erase(struct journal *journal, struct journal_erase *erase);
void journal_submit_scan(struct journal *journal, struct journal_scan *scan);
void journal_release(void *memory); /* Thread: any. Accepts NULL. */
/* Appends submitted and not yet answered. Thread: any; advisory. */
uint32_t journal_appends_waiting(const struct journal *journal);

/* Simulation: one group / one read request on the calling thread. Returns: whether there was something to do. */
bool journal_write_step(struct journal *journal);
bool journal_read_step(struct journal *journal);

struct journal_stats {
    uint64_t appends, groups, flushes, heads /* rows of heads written */, bytes, full, stale, loads, reads, corrupt;
    uint64_t last_offset, heads_offset;
    uint32_t queued, group_last;
    uint64_t flush_ns_last, flush_ns_max, commit_ns_total;
    bool is_failed, is_full;
};
void journal_get_stats(const struct journal *journal, struct journal_stats *ret_stats); /* Thread: any; advisory */

#endif
