/* SPDX-License-Identifier: Apache-2.0 */
/* worker: one thread with one ring, one timer wheel, its message pools and its actors; and the runtime that holds them.
 *
 * Life: runtime_create; runtime_start (each worker on its thread: on_start, then the loop); runtime_stop asks, runtime_join
 * waits; runtime_destroy. A simulation never calls runtime_start: it calls worker_start and worker_step itself, one worker
 * at a time, on one thread.
 *
 * The loop of a worker: one ring step (submit, reap, callbacks; it blocks when there is nothing else to do) -> lane from
 * other threads -> run actors (each what it has, for 50 us at most; all of them for 200 us) -> timers -> hand over (donations).
 *
 * Parking: what other threads want of a worker comes through one word, its lane (inbox.h). Before it blocks the worker
 * changes the word from EMPTY to PARKED; the push that replaces PARKED wakes the ring. One wake a sleep, none lost, and no
 * fence: the idle mark lies in the word that the poster changes (docs/RUNTIME.md).
 */
#ifndef CIRANDA_RUNTIME_WORKER_H
#define CIRANDA_RUNTIME_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/actor.h"
#include "runtime/error.h"
#include "runtime/msg.h"
#include "runtime/ring.h"

struct runtime;
struct worker;

struct runtime_options {
    uint32_t worker_count;      /* 0: one a processor; at most 64 */
    bool is_pinned;             /* threads to processors; default off */
    uint64_t memory_bytes_max;  /* cap of all message pools and accounted blocks; 0: 1 GiB */
    uint32_t mailbox_count_max; /* default of an actor's cap; 0: 4096 */
    uint64_t handler_ns_max;    /* budget of one handler call; 0: 1 s */
    uint64_t watchdog_ns;       /* a worker that makes no progress this long stops the process; 0: 30 s */
    uint32_t spin_us;           /* before blocking; 0: none */
    /* Actors move to idle workers only while a message or run takes this long on average (the time that a turn's handlers took,
     * over the messages handled and the runs made in it together); 0: 1 us; UINT64_MAX: never. */
    uint64_t donation_message_ns_min;
    struct ring_options ring;
    /* Product's per-worker parts. on_start runs on the worker's thread before its first turn; a failure stops the start. */
    void *user;
    enum err (*on_start)(struct worker *worker, void *user, struct error *error);
    /* On the worker's thread, actors already ended; wherever on_start was called, also where it failed half way. */
    void (*on_stop)(struct worker *worker, void *user);
    /* On the worker's thread: gives back what a message that reaches nobody holds beside its block, which goes after it. */
    void (*on_drop)(struct worker *worker, struct msg *msg);
};

MUST_USE enum err runtime_create(const struct runtime_options *options, struct runtime **ret_runtime,
                                 struct error *error);
/* Starts the threads; returns when every on_start has answered. */
MUST_USE enum err runtime_start(struct runtime *runtime, struct error *error);
/* Thread: any, also from a handler. Workers finish their turn and leave the loop. */
void runtime_stop(struct runtime *runtime);
void runtime_join(struct runtime *runtime);
/* Ends what is left (on_exit of every actor), frees all, in whatever state it was. Accepts NULL. */
void runtime_destroy(struct runtime *runtime);

uint32_t runtime_worker_count(const struct runtime *runtime);
struct worker *runtime_worker(struct runtime *runtime, uint32_t index);

/* ---- a worker; Thread: its own unless said otherwise ------------------------------------------------------------------ */
struct worker *worker_current(void); /* NULL on a thread that is no worker; in simulation the one being stepped */
uint32_t worker_index(const struct worker *worker); /* Thread: any */
struct runtime *worker_runtime(const struct worker *worker);
struct ring *worker_ring(struct worker *worker);
uint64_t worker_now_ns(const struct worker *worker); /* read once a turn, after the wait and before the callbacks */
void *worker_user(const struct worker *worker);      /* the product's per-worker part */
void worker_set_user(struct worker *worker, void *user);

/* Thread: any, worker or not. Hands a chain of messages (msg.next, FIFO order from `first` to `last`) to `worker`, which
 * delivers each to its msg.to in that order; one wake at most. Owns: takes the chain. What reaches nobody (no such actor, or
 * a full mailbox and not MSG_CONTROL) is freed and counted as a dead letter. */
void worker_deliver(struct worker *worker, struct msg *first, struct msg *last);

/* A function to run on a worker, from any thread; the struct is the caller's until it has run. */
struct worker_task {
    struct msg link; /* private: its place in the lane */
    void (*run)(struct worker *worker, struct worker_task *task);
    void (*drop)(
        struct worker_task *task); /* NULL, or instead of run when the worker has ended: frees what the task holds */
};
void worker_post(struct worker *worker, struct worker_task *task); /* Thread: any */

/* Thread: any; advisory: the numbers of one call may be of slightly different moments. */
struct worker_stats {
    uint64_t turns;                            /* of the loop */
    uint64_t runs, messages;                   /* actor runs, and the messages handled in them */
    uint64_t spawned, ended;                   /* actors; their difference, over all workers, are those alive */
    uint64_t crashes;                          /* ended with a reason other than OK, kills included */
    uint64_t activations;                      /* parked actors made runnable by another worker */
    uint64_t wakes;                            /* sent to sleeping workers */
    uint64_t sleeps;                           /* blocked in the ring */
    uint64_t donations;                        /* actors given away */
    uint64_t foreign_frees;                    /* blocks of other workers, carried home */
    uint64_t dead_letters;                     /* messages that reached nobody */
    uint64_t refusals;                         /* sends to a full mailbox */
    uint64_t pool_misses;                      /* calls of malloc: chunks and large blocks */
    uint64_t blocks_acquired, blocks_released; /* their difference, over all workers, are the blocks alive */
};
void worker_get_stats(const struct worker *worker, struct worker_stats *ret_stats);
/* Bytes taken from the system under memory_bytes_max, now and at most. */
void runtime_get_memory(const struct runtime *runtime, uint64_t *ret_used_bytes, uint64_t *ret_peak_bytes);

/* ---- stepping (simulation and tests) ---------------------------------------------------------------------------------- */
/* The ring and on_start, on this thread. Between steps this thread may use any worker of a stepped runtime (spawn, send). */
MUST_USE enum err worker_start(struct worker *worker, struct error *error);
/* One turn of the loop; never blocks. Returns: whether it did something. */
bool worker_step(struct worker *worker);
/* When it next has something to do by the clock: a timer, or one that moves down its wheels; UINT64_MAX: none. */
uint64_t worker_next_deadline_ns(const struct worker *worker);
/* Between steps: asserts of every actor that its mailbox is counted right and that nobody who has a message was forgotten; at
 * rest (no step has anything to do), that nobody has one. */
void runtime_check(const struct runtime *runtime, bool is_at_rest);

/* One thread's asserts: names object, right and wrong worker. On in release until a benchmark shows its cost. */
#define ASSERT_ON_WORKER(x_worker) worker_assert_current((x_worker), __func__)
void worker_assert_current(const struct worker *worker, const char *function);

#endif
