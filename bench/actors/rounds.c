/* SPDX-License-Identifier: Apache-2.0 */
/* rounds: one token that goes round and round; at each moment one actor has something to do. What is timed is the way of a
 * message to an idle actor.
 *
 *   ping_pong          two actors on one worker
 *   thread_ring        1,000 actors in a ring
 *   cross_worker_ping  two actors, each pinned to a worker of its own: every message crosses, and each worker has run dry
 *                      when its message comes
 */
#include "bench/actors/bench.h"

enum { PING_PONGS = 10000000, RING_ACTORS = 1000, RING_HOPS = 10000000, CROSS_PINGS = 1000000 };

static struct actor_id ids[RING_ACTORS];

static enum err on_token(struct actor_context *context, struct msg **msg)
{
    const struct actor_id *next = context->state;
    if (--work_of(*msg)->left == 0)
        bench_finish(context->worker);
    else
        bench_pass(context->worker, *next, msg);
    return OK;
}
static const struct actor_type token_type = {"token", on_token, NULL, 0, false};
static const struct actor_type pinned_token_type = {"pinned_token", on_token, NULL, 0, true};

static void start_round(struct worker *worker, uint32_t count, uint64_t hops)
{
    for (uint32_t i = 0; i < count; i++)
        ids[i] = bench_spawn_actor(worker, &token_type, &ids[(i + 1) % count]);
    bench_send(worker, ids[0], MSG_WORK, hops);
}

static void start_ping_pong(struct worker *worker)
{
    start_round(worker, 2, PING_PONGS);
}
static void start_thread_ring(struct worker *worker)
{
    start_round(worker, RING_ACTORS, RING_HOPS);
}

static void start_on_other_worker(struct worker *worker, struct worker_task *task)
{
    (void)task;
    ids[1] = bench_spawn_actor(worker, &pinned_token_type, &ids[0]);
    bench_send(worker, ids[0], MSG_WORK, CROSS_PINGS);
}

static void start_cross_worker_ping(struct worker *worker)
{
    static struct worker_task task;
    ids[0] = bench_spawn_actor(worker, &pinned_token_type, &ids[1]);
    task.run = start_on_other_worker;
    worker_post(runtime_worker(worker_runtime(worker), 1), &task);
}

const struct bench bench_ping_pong = {"ping_pong", "msg/s", PING_PONGS, 0, start_ping_pong, NULL};
const struct bench bench_thread_ring = {"thread_ring", "msg/s", RING_HOPS, 0, start_thread_ring, NULL};
const struct bench bench_cross_worker_ping = {"cross_worker_ping",     "msg/s", CROSS_PINGS, 2,
                                              start_cross_worker_ping, NULL};
