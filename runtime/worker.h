/* SPDX-License-Identifier: Apache-2.0 */
/* worker: one thread with one ring, one timer wheel, its message pools and its actors; and the runtime that holds them.
 *
 * Life: runtime_create; runtime_start (each worker on its thread: on_start, then the loop); runtime_stop asks, runtime_join
 * waits; runtime_destroy. A simulation never calls runtime_start: it calls worker_start and worker_step itself, one worker
 * at a time, on one thread.
 *
 * The loop of a worker: reap completions -> lane from other threads -> run actors (quantum 64 messages or 50 us each) ->
 * timers -> hand over (chains to other workers, donations) -> one submit-and-wait.
 *
 * Parking: one word a worker = sequence and WAITING bit; a poster enqueues, fences, and wakes only when it sees WAITING; the
 * worker sets WAITING, fences, looks again at every queue, then blocks (helio, Seastar: see docs/RUNTIME.md).
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
    struct ring_options ring;
    /* Product's per-worker parts. on_start runs on the worker's thread before its first turn; a failure stops the start. */
    void *user;
    enum err (*on_start)(struct worker *worker, void *user, struct error *error);
    void (*on_stop)(struct worker *worker, void *user); /* on the worker's thread, actors already ended */
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
uint64_t worker_now_ns(const struct worker *worker); /* read once a turn */
void *worker_user(const struct worker *worker);      /* the product's per-worker part */
void worker_set_user(struct worker *worker, void *user);

/* Thread: any, worker or not. Hands a chain of messages (msg.next, FIFO order from `first` to `last`) to `worker`, which
 * delivers each to its msg.to in that order; one wake at most. Owns: takes the chain. Messages to nobody are freed. */
void worker_deliver(struct worker *worker, struct msg *first, struct msg *last);

/* A function to run on a worker, from any thread; the struct is the caller's until it has run. */
struct worker_task {
    struct worker_task *next;
    void (*run)(struct worker *worker, struct worker_task *task);
};
void worker_post(struct worker *worker, struct worker_task *task); /* Thread: any */

/* ---- stepping (simulation and tests) ---------------------------------------------------------------------------------- */
MUST_USE enum err worker_start(struct worker *worker, struct error *error); /* ring and on_start, on this thread */
/* One turn of the loop; never blocks. Returns: whether it did something. */
bool worker_step(struct worker *worker);
/* When it next has a timer; UINT64_MAX: none. */
uint64_t worker_next_deadline_ns(const struct worker *worker);

/* One thread's asserts: names object, right and wrong worker. On in release until a benchmark shows its cost. */
#define ASSERT_ON_WORKER(x_worker) worker_assert_current((x_worker), __func__)
void worker_assert_current(const struct worker *worker, const char *function);

#endif
