/* SPDX-License-Identifier: Apache-2.0 */
/* worker: one turn of the loop, the sleep between turns, and the end. A thread of the runtime and a simulation run the same
 * turn; only the thread's may block.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/clock.h"
#include "runtime/worker_internal.h"

enum {
    TURN_MESSAGES_MAX = 4096,
    STEP_MESSAGES_MAX = 64, /* stepped: more borders between turns, where a simulation can choose */
};

_Thread_local struct worker *worker_current_;

/* ---- birth and end ---------------------------------------------------------------------------------------------------- */

enum err worker_create(struct runtime *runtime, uint32_t index, struct worker **ret_worker)
{
    struct worker *worker = aligned_alloc(_Alignof(struct worker), sizeof *worker);
    if (!worker)
        return ERR_NO_MEMORY;
    memset(worker, 0, sizeof *worker);
    worker->runtime = runtime;
    worker->index = index;
    worker->turn_messages_max = STEP_MESSAGES_MAX;
    worker->clock_step = worker->clock_left = 1;
    worker->stop_link.kind = LANE_STOP;
    worker->now_ns = clock_mono_ns();
    timer_wheel_init(&worker->wheel, worker->now_ns);
    pool_init(&worker->pool, &runtime->account);
    enum err code = slab_init(&worker->slab);
    if (code != OK) {
        free(worker);
        return code;
    }
    *ret_worker = worker;
    return OK;
}

void worker_destroy(struct worker *worker)
{
    slab_deinit(&worker->slab, &worker->runtime->account);
    pool_deinit(&worker->pool);
    ring_destroy(
        worker->ring); /* not when its loop ends: a poster that has just unparked it may still be about to wake it */
    free(worker);
}

enum err worker_start(struct worker *worker, struct error *error)
{
    struct runtime_options *options = &worker->runtime->options;
    struct worker *previous = worker_current_;
    worker_current_ = worker;
    enum err code = ring_create(&options->ring, &worker->ring, error);
    if (code == OK && options->on_start)
        code = options->on_start(worker, options->user, error);
    worker->is_started = code == OK;
    worker_current_ = previous;
    return code;
}

/* Relaxed: no thread is in its loop any more, and the barrier that they met at has ordered all that they did. */
static void end_actors_of_slab(struct worker *worker, const struct slab *slab)
{
    for (uint32_t i = 0; i < SLAB_CHUNKS_MAX; i++) {
        struct actor *chunk = atomic_load_relaxed(&slab->chunks[i]);
        if (!chunk)
            return;
        for (uint32_t j = 0; j < SLAB_CHUNK_ACTORS; j++) {
            struct actor *actor = &chunk[j];
            if (atomic_load_relaxed(&actor->home) != worker->index) /* the state is its home's to read */
                continue;
            if (actor->state != ACTOR_FREE && actor->state != ACTOR_ENDED)
                actor_end(worker, actor, ERR_SHUTDOWN, NULL);
        }
    }
}

void worker_finish(struct worker *worker)
{
    struct worker *previous = worker_current_;
    struct runtime *runtime = worker->runtime;
    worker_current_ = worker;
    worker->is_ending = true;
    for (uint32_t i = 0; i < runtime->worker_count; i++)
        end_actors_of_slab(worker, &runtime->workers[i]->slab);
    if (worker->ring && runtime->options.on_stop) /* an on_start that failed leaves its first parts to it, too */
        runtime->options.on_stop(worker, runtime->options.user);
    actor_drop_delayed(worker);
    worker_current_ = previous;
}

/* ---- the loop --------------------------------------------------------------------------------------------------------- */

static bool has_news(struct worker *worker)
{
    return ring_wait(worker->ring, 0) || !inbox_is_empty(&worker->lane);
}

/* A sleep costs two switches, and whoever ends it a system call. So what we have prepared is submitted, then the others run once:
 * where they share our processor, what they bring is there when they are through. Where they do not, it costs 0.3 us.
 * Measured: docs/RUNTIME-MEASURED.md. Returns: whether it was worth it. */
static bool wait_awake(struct worker *worker)
{
    if (has_news(worker))
        return true;
    (void)sched_yield();
    if (has_news(worker))
        return true;
    uint64_t spin_ns = worker->runtime->options.spin_us * 1000ull;
    for (uint64_t began_ns = clock_mono_ns(); spin_ns && clock_mono_ns() - began_ns < spin_ns; cpu_pause()) {
        if (has_news(worker))
            return true;
    }
    return false;
}

/* With nothing to run: blocks until a completion, a timer or another thread. */
static void sleep_in_ring(struct worker *worker)
{
    msg_flush_foreign(worker); /* others may wait for these blocks longer than we sleep */
    donation_ask(worker);
    if (!wait_awake(worker)) {
        uint64_t deadline_ns = 0;
        if (inbox_try_park(&worker->lane)) {
            counter_add(&worker->counters.sleeps, 1);
            deadline_ns = timer_wheel_next_ns(&worker->wheel);
        }
        (void)ring_wait(worker->ring, deadline_ns);
    }
    donation_withdraw(worker);
}

/* Returns: whether it did something. */
static bool turn(struct worker *worker, bool may_block)
{
    if (may_block && worker->run_queue.count == 0)
        sleep_in_ring(worker);
    else
        (void)ring_wait(worker->ring, 0);
    worker->now_ns = clock_mono_ns(); /* after the wait and before all that asks for it */
    counter_add(&worker->counters.turns, 1);
    counter_add(&worker->progress, 1);

    uint32_t completed = ring_dispatch(worker->ring);
    bool did_lane = lane_drain(worker);
    lane_wake_due(worker);
    bool did_run = worker->run_queue.count > 0;
    actor_run_queued(worker);
    actor_sweep_lingering(worker);
    uint32_t fired = timer_wheel_fire(&worker->wheel, worker, worker->now_ns);
    donation_give(worker);
    lane_wake_due(worker);
    return completed > 0 || did_lane || did_run || fired > 0;
}

void worker_run(struct worker *worker)
{
    worker->turn_messages_max = TURN_MESSAGES_MAX;
    while (!worker->is_stopping)
        (void)turn(worker, true);
    msg_flush_foreign(worker);
    lane_wake_due(worker);
}

bool worker_step(struct worker *worker)
{
    ASSERT(!worker_current_ && worker->is_started && !worker->runtime->is_threaded);
    worker_current_ = worker;
    donation_withdraw(worker);
    bool did = turn(worker, false);
    if (!did) { /* what a thread does before it sleeps */
        msg_flush_foreign(worker);
        donation_ask(worker);
    }
    worker_current_ = NULL;
    return did;
}

uint64_t worker_next_deadline_ns(const struct worker *worker)
{
    return timer_wheel_next_ns(&worker->wheel);
}

/* ---- looking at it ---------------------------------------------------------------------------------------------------- */

struct worker *worker_current(void)
{
    return worker_current_;
}

uint32_t worker_index(const struct worker *worker)
{
    return worker->index;
}

struct runtime *worker_runtime(const struct worker *worker)
{
    return worker->runtime;
}

struct ring *worker_ring(struct worker *worker)
{
    ASSERT_CURRENT(worker);
    return worker->ring;
}

uint64_t worker_now_ns(const struct worker *worker)
{
    return worker->now_ns;
}

void *worker_user(const struct worker *worker)
{
    return worker->user;
}

void worker_set_user(struct worker *worker, void *user)
{
    ASSERT_CURRENT(worker);
    worker->user = user;
}

void worker_assert_current(const struct worker *worker, const char *function)
{
    if (!worker_is_current(worker))
        worker_is_not_current(worker, function);
}

_Noreturn void worker_is_not_current(const struct worker *worker, const char *function)
{
    int current = worker_current_ ? (int)worker_current_->index : -1;
    char text[160];
    snprintf(text, sizeof text, "worker %u called on the thread of worker %d", (unsigned)worker->index, current);
    assert_failed(text, __FILE__, __LINE__, function);
}

void worker_get_stats(const struct worker *worker, struct worker_stats *ret_stats)
{
    const struct worker_counters *counters = &worker->counters;
    *ret_stats = (struct worker_stats){
        .turns = atomic_load_relaxed(&counters->turns),
        .runs = atomic_load_relaxed(&counters->runs),
        .messages = atomic_load_relaxed(&counters->messages),
        .spawned = atomic_load_relaxed(&counters->spawned),
        .ended = atomic_load_relaxed(&counters->ended),
        .crashes = atomic_load_relaxed(&counters->crashes),
        .activations = atomic_load_relaxed(&counters->activations),
        .wakes = atomic_load_relaxed(&counters->wakes),
        .sleeps = atomic_load_relaxed(&counters->sleeps),
        .donations = atomic_load_relaxed(&counters->donations),
        .foreign_frees = atomic_load_relaxed(&counters->foreign_frees),
        .dead_letters = atomic_load_relaxed(&counters->dead_letters),
        .refusals = atomic_load_relaxed(&counters->refusals),
        .pool_misses = atomic_load_relaxed(&worker->pool.misses),
        .blocks_acquired = atomic_load_relaxed(&worker->pool.acquired),
        .blocks_released = atomic_load_relaxed(&worker->pool.released),
    };
}
