/* SPDX-License-Identifier: Apache-2.0 */
/* bench: what the rows of bench/actors share. A row is a small program of actors with a fixed amount of work; it starts on
 * worker 0 and says when it is done. Each of them is written again, for the same amount of work, in bench/peers.
 *
 * Life of a run: a fresh runtime, all of whose workers sleep; from here on it is timed: bench.start on worker 0, which spawns
 * and sends the first messages; the actors; bench_finish from one of them. Then the runtime ends.
 */
#ifndef CIRANDA_BENCH_ACTORS_BENCH_H
#define CIRANDA_BENCH_ACTORS_BENCH_H

#include <stdint.h>

#include "runtime/actor.h"
#include "runtime/worker.h"

struct bench {
    const char *name, *unit;
    uint64_t count;            /* of `unit` without its "/s", in one run */
    uint32_t worker_count_min; /* 0: any */
    void (*start)(struct worker *worker);
    double (*value)(void); /* NULL: the result is a rate; else what was measured, and start finishes at once */
};

/* The rows, by file. */
extern const struct bench bench_ping_pong, bench_thread_ring, bench_cross_worker_ping;                  /* rounds.c */
extern const struct bench bench_counting, bench_fork_join_throughput, bench_fan_in_2, bench_fan_in_100; /* streams.c */
extern const struct bench bench_fork_join_create, bench_spawn, bench_idle_actor_bytes;                  /* births.c */
extern const struct bench bench_big, bench_chameneos;                                                   /* crowds.c */

/* The one message of all rows: a number, and who asks. */
struct work {
    struct msg msg;
    uint64_t left;
    struct actor_id from;
};
static inline struct work *work_of(struct msg *msg)
{
    return (struct work *)(void *)msg;
}

enum { MSG_WORK = MSG_KIND_TEST, MSG_GO, MSG_DONE };

/* All of these end the program when what they do fails, so that a row cannot hang or flatter itself. */
struct actor_id bench_spawn_actor(struct worker *worker, const struct actor_type *type, void *state);
void bench_send(struct worker *worker, struct actor_id to, uint16_t kind, uint64_t left);
/* The block that came goes on. Owns: takes *msg. */
void bench_pass(struct worker *worker, struct actor_id to, struct msg **msg);

/* Returns: false when the mailbox is full. */
MUST_USE bool bench_try_send(struct worker *worker, struct actor_id to, uint16_t kind, uint64_t left);

/* The run is over. Thread: any worker's. */
void bench_finish(struct worker *worker);

/* Savina's generator: the same choices in every peer. */
static inline uint32_t bench_random(uint32_t *random)
{
    return *random = (*random * 1309 + 13849) & 65535;
}

#endif
