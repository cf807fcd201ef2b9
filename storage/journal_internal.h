/* SPDX-License-Identifier: Apache-2.0 */
/* journal_internal: what journal.c (life, submission), journal_writer.c (groups, sweeps), journal_erasure.c and journal_reader.c (loads,
 * pages, listings) share.
 *
 * Two threads and two lanes. Locks: the one of heads.h, and what the engine has inside; nothing else is shared but counters.
 */
#ifndef CIRANDA_STORAGE_JOURNAL_INTERNAL_H
#define CIRANDA_STORAGE_JOURNAL_INTERNAL_H

#include <pthread.h>

#include "runtime/buffer.h"
#include "storage/backend.h"
#include "storage/chain.h"
#include "storage/data_directory.h"
#include "storage/heads.h"
#include "storage/journal.h"
#include "storage/request_lane.h"

enum {
    WORKERS_MAX = 64,        /* worker.h */
    READ_BATCH_MAX = 32,     /* loads, and pages, a read transaction: longer ones hold up checkpoints */
    READ_BYTES_MAX = 4 << 20 /* of a page or a scan */
};

/* Answers on their way home: one chain and at most one wake a worker. */
struct answers {
    uint64_t workers; /* bit set: which chains are not empty */
    uint32_t append_count;
    struct msg_list chains[WORKERS_MAX];
};

/* One request of a group. */
struct group_item {
    struct msg *msg;
    struct head_entry *entry;
    bool is_refused;            /* alone, and has its result */
    bool is_applied;            /* part of the transaction */
    struct journal_head before; /* of an append: the lent head, as far as its path goes */
};

struct writer {
    struct msg_list queue;
    struct msg_list lists; /* wait until the heads are written up to lists_floor */
    uint64_t lists_floor;
    struct msg_list erasures; /* begun: their keys are unknown already; they wait until the bytes are gone */
    bool has_erasures;        /* there may be some in the store; false also when a step was refused */
    uint64_t tail_bytes;      /* of records behind the floor of the last sweep that began */
    uint32_t group;           /* number of the present one, from 1; no entry lives for 2^32 of them */
    bool has_swept;           /* a sweep has ended, and what it left clean is still there */
    struct group_item *items;
    struct answers answers;
};

/* An answer on its way: rows of its kind, and the bytes that they name by position. */
struct gathered {
    struct buffer rows, bytes;
};

struct reader {
    struct msg_list loads;    /* before all others: a conversation cannot do anything until it is awake */
    struct msg_list pages;    /* and scans; some a step: loads do not wait for the last */
    struct msg_list lists;    /* the first is walked, a slice a step: loads do not wait for its end */
    struct gathered gathered; /* of the request at work */
    struct gathered listed;   /* of the first of `lists` */
    struct slice listed_upto; /* the key that its last slice ended at, in listed_key; empty: it has not begun */
    char listed_key[JOURNAL_KEY_BYTES_MAX];
    struct answers answers;
};

/* One thread writes each, any reads. */
struct journal_counters {
    ATOMIC(uint64_t) appends, groups, flushes, heads, bytes, full, stale, corrupt_writer; /* writer */
    ATOMIC(uint64_t) last_offset, heads_offset, flush_ns_last, flush_ns_max, commit_ns;   /* writer */
    ATOMIC(uint32_t) queued, group_last;                                                  /* writer */
    ATOMIC(uint64_t) loads, reads, corrupt_reader;                                        /* reader */
};

struct journal {
    /* fixed after open */
    const struct backend_type *type;
    struct backend *backend;
    struct runtime *runtime;
    struct heads *heads;
    struct data_directory directory;
    uint32_t group_count_max, tail_records_max;
    void (*on_failed)(void *context, const struct error *error);
    void *on_failed_context;
    bool has_threads;
    pthread_t writer_thread, reader_thread;

    struct writer writer; /* writer thread only */
    struct reader reader; /* reader thread only */

    /* shared */
    struct request_lane write_lane, read_lane;
    /* Set by close or abandon (release), read by the threads (acquire, request_lane_wait); without it they would not end. */
    ATOMIC(bool) is_writer_stopping, is_reader_stopping, is_abandoned;
    ATOMIC(bool) is_failed, is_full; /* writer; for the others advisory */
    /* Workers add, the writer takes off what it answers, they what is refused after the end. Advisory: admission.h */
    ATOMIC(uint32_t) appends_waiting;
    struct journal_counters counters;
};

/* ---- journal.c: Thread: any ------------------------------------------------------------------------------------------- */
void request_set_result(struct msg *msg, enum err result);
void answers_push(struct answers *answers, struct msg *msg);
void answers_send(struct journal *journal, struct answers *answers);
/* To the reader, or refused when that has stopped. */
void journal_forward_read(struct journal *journal, struct msg *msg);

/* ---- journal_writer.c: Thread: writer, or start-up ---------------------------------------------------------------------- */
MUST_USE enum err writer_init(struct journal *journal, struct error *error);
/* Reads the tail behind heads_offset into the heads: all of them are then up to date, the late ones in memory. */
MUST_USE enum err writer_recover(struct journal *journal, struct error *error);
/* Commits what is queued, refuses what comes, writes all heads. After it the lane is closed. */
void writer_finish(struct journal *journal);
/* Answers all that is queued with `result`; closes the lane. */
void writer_refuse_all(struct journal *journal, enum err result);
void writer_deinit(struct journal *journal);

/* Of the writer's, for journal_erasure.c. */
uint64_t writer_last_offset(const struct journal *journal);
MUST_USE enum err writer_commit(struct journal *journal);
/* After a transaction that did not happen: rolls back, and J4. Returns: what its requests are told. */
enum err writer_give_up(struct journal *journal, const char *doing, enum err err);
/* Within a transaction: the entry of a key, from its row in the table when it has none.
 * Returns: OK with NULL entry and *ret_refusal set when the row is damaged; else as the backend. */
MUST_USE enum err writer_enter_head(struct journal *journal, struct slice key, struct head_entry **ret_entry,
                                    enum err *ret_refusal);

/* ---- journal_erasure.c: Thread: writer, or start-up --------------------------------------------------------------------- */
/* The request at the head of the queue: its key is unknown once this returns, and it waits; or it is answered, refused. */
void erasure_begin(struct journal *journal);
/* The next step of an erasure that has begun, a transaction. Returns: whether it did something. */
bool erasure_step(struct journal *journal);
/* Answers those that wait; `key` empty: all. */
void erasure_answer(struct journal *journal, struct slice key, enum err result);
/* Finds out whether a crash has left any. */
MUST_USE enum err erasure_recover(struct journal *journal);
/* Whether a record of the tail counts for nothing since its key is being erased. */
MUST_USE enum err erasure_covers(struct journal *journal, const struct record *record, bool *ret_is_erased);

/* ---- journal_reader.c: Thread: reader ----------------------------------------------------------------------------------- */
void reader_init(struct journal *journal);
void reader_refuse_all(struct journal *journal, enum err result);
void reader_deinit(struct journal *journal);

#endif
