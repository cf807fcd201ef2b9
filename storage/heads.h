/* SPDX-License-Identifier: Apache-2.0 */
/* heads: which keys' last records are newer than what the store's table of heads says, and the lazy writing of them.
 *
 * A commit is append-only; the new heads stay here. They are written by a *sweep*: all that are dirty at its start, in the
 * order of their keys, a batch in each following transaction. Sorted, because neighbours share pages: a batch of 1,000 out of
 * 60,000 heads touches a page once for some 20 heads, where first-in first-out touches a page for each. When a sweep is
 * through, every record up to its floor (the last offset at its start) is reflected in the table, and that offset is stored as
 * heads_offset: a start needs to scan only what follows it.
 *
 * A head that was written stays as a clean entry until heads_free_clean, which its caller does once a sweep, after its end: a key
 * that was appended to meanwhile is dirty again and stays, the others cost no memory any more.
 *
 * Shared by two threads. Only the writer changes anything. The reader looks up under the lock; the writer takes the lock for
 * each change of what a reader can see (H2) and for nothing else, so that it is held for fractions of a millisecond a group
 * and never over I/O. An entry has two views: the committed one, which readers see, and the pending one of the group at work.
 *
 * Invariants
 *  H1  A key without an entry: the table's row is its head. A key with one: the committed view is, whether dirty or not.
 *  H2  What readers see (buckets, links, committed view) changes only under the lock.
 *  H3  The committed view names only records that are committed.
 *  H4  An entry is freed only by heads_free_clean, between transactions: nobody has one lent then.
 */
#ifndef CIRANDA_STORAGE_HEADS_H
#define CIRANDA_STORAGE_HEADS_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"
#include "storage/journal.h"
#include "storage/record.h"

struct heads;

/* A longer owner is left out: who writes the head reads it from the record (heads_sweep_peek). A name of an agent fits. */
enum { HEAD_OWNER_BYTES_MAX = 19 };

/* A hundred bytes and the key: there may be some 200,000 of them, so that each byte counts. */
struct head_entry {
    struct head_entry *next; /* bucket or free list */
    uint64_t hash;
    /* committed view: lock */
    uint64_t offset, version; /* version 0: the key has no records */
    uint64_t created_ms, updated_ms;
    uint32_t record_count, messages;
    uint8_t status;
    bool is_open;
    bool is_owner_left_out;
    char owner[HEAD_OWNER_BYTES_MAX + 1];
    /* writer only */
    bool is_dirty;
    uint32_t group; /* the last that touched it; when it is the present one, the pending view counts */
    uint64_t pending_offset, pending_version;
    /* fixed while in the table */
    uint8_t key_size;
    char key[];
};

MUST_USE enum err heads_create(struct heads **ret_heads);
void heads_destroy(struct heads *heads); /* accepts NULL */

/* Thread: writer. Lends the entry of a key. Returns: NULL when there is none. */
struct head_entry *heads_find(struct heads *heads, struct slice key);
/* Thread: writer. Ask the processor for what heads_find is going to read for `key`: the bucket, then, some keys later, the entry
 * that it leads to. In a group of hundreds of random keys those were three misses of the cache each, a fifth of an append. */
void heads_prefetch_bucket(const struct heads *heads, struct slice key);
void heads_prefetch_entry(const struct heads *heads, struct slice key);
/* Thread: writer. Enters a key that has no entry, not dirty, with `row` (its row in the table; NULL: none) as committed view.
 * Returns: NULL when out of memory. */
struct head_entry *heads_add(struct heads *heads, struct slice key, const struct record_head *row);

/* Thread: writer. Several calls of heads_publish stand between these two. */
void heads_lock(struct heads *heads);
void heads_unlock(struct heads *heads);
/* Lock held. The committed view moves on and the entry is dirty. `summary` NULL: emptied. */
void heads_publish(struct heads *heads, struct head_entry *entry, uint64_t offset, uint64_t version,
                   uint32_t record_count, const struct journal_summary *summary);

/* Thread: reader, lock held. Returns: whether the key has an entry; then *ret_head is its committed view, with `key`. */
bool heads_peek(struct heads *heads, struct slice key, struct record_head *ret_head);

uint32_t heads_dirty_count(const struct heads *heads);
uint32_t heads_count(const struct heads *heads); /* clean ones, too */

/* ---- the sweep; Thread: writer ---------------------------------------------------------------------------------------- */
/* Gathers and sorts what is dirty. None may be under way. Returns: ERR_NO_MEMORY. */
MUST_USE enum err heads_sweep_start(struct heads *heads, uint64_t floor);
bool heads_sweep_is_active(const struct heads *heads);
uint64_t heads_sweep_floor(const struct heads *heads);
/* How many are left to be written. */
uint32_t heads_sweep_left(const struct heads *heads);
/* The next but `index` one to be written, committed view; slices into the entry. *ret_is_whole false: without its owner. */
struct record_head heads_sweep_peek(const struct heads *heads, uint32_t index, bool *ret_is_whole);
/* The transaction that wrote the next `count` has been committed: they are clean. With the last one the sweep ends. Call it
 * before the group's own heads are published. */
void heads_sweep_advance(struct heads *heads, uint32_t count);
/* Between transactions, no sweep under way: entries lent before are gone. Costs a walk over all of them. */
void heads_free_clean(struct heads *heads);

#endif
