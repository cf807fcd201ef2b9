/* SPDX-License-Identifier: Apache-2.0 */
/* births: actors that come and go, or stay and do nothing.
 *
 *   spawn             spawn an actor and send it a message, on which it stops; 64 spawns, then the 64 run
 *   fork_join_create  the same, but all are spawned before the first of them runs, and each does a little arithmetic
 *   idle_actor_bytes  resident memory of each of 1,000,000 actors without state
 */
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "bench/actors/bench.h"
#include "runtime/atomic.h"

enum { SPAWNS = 2000000, SPAWN_BURST = 64, CREATES = 1000000, IDLE_ACTORS = 1000000 };

static ATOMIC(uint64_t) children_left; /* relaxed: the last to count finishes; it orders nothing else */

static enum err on_child(struct actor_context *context, struct msg **msg)
{
    (void)msg;
    actor_stop(context);
    if (atomic_sub_relaxed(&children_left, 1) == 1)
        bench_finish(context->worker);
    return OK;
}
static const struct actor_type child_type = {"child", on_child, NULL, 0, false};

static enum err on_parent(struct actor_context *context, struct msg **msg)
{
    struct work *go = work_of(*msg);
    for (int i = 0; i < SPAWN_BURST && go->left > 0; i++, go->left--)
        bench_send(context->worker, bench_spawn_actor(context->worker, &child_type, NULL), MSG_WORK, go->left);
    if (go->left > 0)
        bench_pass(context->worker, context->self, msg);
    return OK;
}
static const struct actor_type parent_type = {"parent", on_parent, NULL, 0, false};

static void start_spawn(struct worker *worker)
{
    atomic_store_relaxed(&children_left, SPAWNS);
    bench_send(worker, bench_spawn_actor(worker, &parent_type, NULL), MSG_GO, SPAWNS);
}

static enum err on_computing_child(struct actor_context *context, struct msg **msg)
{
    double sine = sin((double)work_of(*msg)->left);
    return sine * sine > 1.0 ? ERR_INVALID : on_child(context, msg);
}
static const struct actor_type computing_child_type = {"computing_child", on_computing_child, NULL, 0, false};

static enum err on_forker(struct actor_context *context, struct msg **msg)
{
    for (uint64_t i = work_of(*msg)->left; i > 0; i--)
        bench_send(context->worker, bench_spawn_actor(context->worker, &computing_child_type, NULL), MSG_WORK, i);
    return OK;
}
static const struct actor_type forker_type = {"forker", on_forker, NULL, 0, false};

static void start_fork_join_create(struct worker *worker)
{
    atomic_store_relaxed(&children_left, CREATES);
    bench_send(worker, bench_spawn_actor(worker, &forker_type, NULL), MSG_GO, CREATES);
}

/* ---- idle actors ------------------------------------------------------------------------------------------------------ */

static double idle_bytes;

static uint64_t resident_bytes(void)
{
    unsigned long long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%llu %llu", &total, &resident) != 2)
        resident = 0;
    if (file)
        fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void start_idle(struct worker *worker)
{
    uint64_t before = resident_bytes();
    for (uint32_t i = 0; i < IDLE_ACTORS; i++)
        (void)bench_spawn_actor(worker, &child_type, NULL);
    idle_bytes = (double)(resident_bytes() - before) / IDLE_ACTORS;
    bench_finish(worker);
}

static double idle_value(void)
{
    return idle_bytes;
}

const struct bench bench_spawn = {"spawn", "actors/s", SPAWNS, 0, start_spawn, NULL};
const struct bench bench_fork_join_create = {"fork_join_create", "actors/s", CREATES, 0, start_fork_join_create, NULL};
const struct bench bench_idle_actor_bytes = {"idle_actor_bytes", "B", IDLE_ACTORS, 0, start_idle, idle_value};
