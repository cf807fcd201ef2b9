/* SPDX-License-Identifier: Apache-2.0 */
/* runtime: the workers together: made, started on threads, stopped and freed. Everything else happens inside a worker. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/log.h"
#include "runtime/worker_internal.h"

static void fill_defaults(struct runtime_options *options)
{
    if (options->worker_count == 0) {
        long processors = sysconf(_SC_NPROCESSORS_ONLN);
        options->worker_count = processors < 1 ? 1 : processors > WORKERS_MAX ? WORKERS_MAX : (uint32_t)processors;
    }
    if (options->memory_bytes_max == 0)
        options->memory_bytes_max = 1ull << 30;
    if (options->mailbox_count_max == 0)
        options->mailbox_count_max = 4096;
    if (options->handler_ns_max == 0)
        options->handler_ns_max = 1000000000ull;
    if (options->watchdog_ns == 0)
        options->watchdog_ns = 30 * 1000000000ull;
    if (options->donation_message_ns_min == 0)
        options->donation_message_ns_min = 1000;
}

enum err runtime_create(const struct runtime_options *options, struct runtime **ret_runtime, struct error *error)
{
    if (options->worker_count > WORKERS_MAX)
        return error_set(error, ERR_INVALID, "%u workers: at most %d", options->worker_count, WORKERS_MAX);
    struct runtime *runtime = aligned_alloc(_Alignof(struct runtime), sizeof *runtime);
    if (!runtime)
        return error_set(error, ERR_NO_MEMORY, "make the runtime: no memory");
    memset(runtime, 0, sizeof *runtime);
    runtime->options = *options;
    fill_defaults(&runtime->options);
    runtime->account.bytes_max = runtime->options.memory_bytes_max;
    watchdog_init(runtime);
    for (uint32_t i = 0; i < runtime->options.worker_count; i++) {
        if (worker_create(runtime, i, &runtime->workers[i]) != OK) {
            runtime_destroy(runtime);
            return error_set(error, ERR_NO_MEMORY, "make worker %u: no memory", i);
        }
        runtime->slab_chunks[i] = runtime->workers[i]->slab.chunks;
        runtime->worker_count++;
    }
    *ret_runtime = runtime;
    return OK;
}

/* ---- threads ---------------------------------------------------------------------------------------------------------- */

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct runtime *runtime = worker->runtime;
    worker_current_ = worker;
    worker->start_code = worker_start(worker, &worker->start_error);
    atomic_add_release(&runtime->started, 1);
    event_count_notify(&runtime->gate_event);

    for (;;) {
        uint32_t seen = event_count_prepare(&runtime->gate_event);
        if (atomic_load_acquire(&runtime->gate) == GATE_OPEN)
            break;
        (void)event_count_wait(&runtime->gate_event, seen, UINT64_MAX);
    }
    if (worker->is_started)
        worker_run(worker);

    atomic_store_relaxed(&worker->is_done, true);
    (void)pthread_barrier_wait(&runtime->all_left);
    worker_finish(worker);
    return NULL;
}

/* A preference: where the system does not allow it, the thread runs anywhere. */
static void pin_thread(pthread_t thread, uint32_t index)
{
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return;
    uint32_t wanted = index % (uint32_t)CPU_COUNT(&allowed), seen = 0;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || seen++ != wanted)
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        (void)pthread_setaffinity_np(thread, sizeof one, &one);
        return;
    }
}

static enum err start_thread(struct worker *worker, struct error *error)
{
    int os_errno = pthread_create(&worker->thread, NULL, worker_main, worker);
    if (os_errno != 0)
        return error_set_errno(error, ERR_SYSTEM, os_errno, "start the thread of worker %u: %s", worker->index,
                               strerror(os_errno));
    char name[16];
    snprintf(name, sizeof name, "worker-%u", (unsigned)worker->index % 100);
    (void)pthread_setname_np(worker->thread, name);
    if (worker->runtime->options.is_pinned)
        pin_thread(worker->thread, worker->index);
    return OK;
}

/* Signals are for the thread that called runtime_start. Returns: how many threads run now. */
static uint32_t start_threads(struct runtime *runtime, struct error *error)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    uint32_t count = 0;
    while (count < runtime->worker_count && start_thread(runtime->workers[count], error) == OK)
        count++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return count;
}

static void wait_until_started(struct runtime *runtime, uint32_t count)
{
    for (;;) {
        uint32_t seen = event_count_prepare(&runtime->gate_event);
        if (atomic_load_acquire(&runtime->started) == count)
            return;
        (void)event_count_wait(&runtime->gate_event, seen, UINT64_MAX);
    }
}

/* Returns: the first failure of an on_start. */
static enum err start_result(struct runtime *runtime, struct error *error)
{
    for (uint32_t i = 0; i < runtime->thread_count; i++) {
        struct worker *worker = runtime->workers[i];
        if (worker->start_code == OK)
            continue;
        if (error)
            *error = worker->start_error;
        error_prefix(error, "start worker %u", i);
        return worker->start_code;
    }
    return OK;
}

static void open_gate(struct runtime *runtime)
{
    atomic_store_release(&runtime->gate, GATE_OPEN);
    event_count_notify(&runtime->gate_event);
}

enum err runtime_start(struct runtime *runtime, struct error *error)
{
    ASSERT(!runtime->is_threaded && !runtime->workers[0]->is_started);
    runtime->is_threaded = true;
    runtime->thread_count = start_threads(runtime, error);
    if (runtime->thread_count > 0)
        pthread_barrier_init(&runtime->all_left, NULL, runtime->thread_count);
    wait_until_started(runtime, runtime->thread_count);

    enum err code = runtime->thread_count < runtime->worker_count ? ERR_SYSTEM : start_result(runtime, error);
    if (code == OK)
        code = watchdog_start(runtime, error);
    if (code != OK)
        runtime_stop(runtime);
    open_gate(runtime);
    if (code != OK)
        runtime_join(runtime);
    return code;
}

void runtime_stop(struct runtime *runtime)
{
    if (atomic_exchange_relaxed(&runtime->is_stopping, true))
        return;
    for (uint32_t i = 0; i < runtime->worker_count; i++) {
        struct worker *worker = runtime->workers[i];
        lane_push(worker_current_, worker, &worker->stop_link, &worker->stop_link);
    }
}

void runtime_join(struct runtime *runtime)
{
    if (runtime->thread_count == 0)
        return;
    for (uint32_t i = 0; i < runtime->thread_count; i++)
        pthread_join(runtime->workers[i]->thread, NULL);
    runtime->thread_count = 0;
    watchdog_stop(runtime);
    pthread_barrier_destroy(&runtime->all_left);
}

/* ---- the end ---------------------------------------------------------------------------------------------------------- */

/* What one worker discards may put blocks into the lane of another: until all are empty. In each round first all send home what they
 * hold of others, then all look: who looked before a later one sent would leave it behind, if nobody else had anything. */
static void discard_lanes(struct runtime *runtime)
{
    bool did;
    do {
        did = false;
        for (uint32_t i = 0; i < runtime->worker_count; i++) {
            worker_current_ = runtime->workers[i];
            msg_flush_foreign(runtime->workers[i]);
        }
        for (uint32_t i = 0; i < runtime->worker_count; i++) {
            worker_current_ = runtime->workers[i];
            did |= lane_discard(runtime->workers[i]);
        }
    } while (did);
    worker_current_ = NULL;
}

void runtime_end(struct runtime *runtime)
{
    runtime_stop(runtime);
    runtime_join(runtime);
    for (uint32_t i = 0; i < runtime->worker_count; i++) {
        if (!runtime->workers[i]->is_ending)
            worker_finish(runtime->workers[i]);
    }
    discard_lanes(runtime);
}

uint64_t runtime_blocks_alive(const struct runtime *runtime)
{
    uint64_t alive = 0; /* the sum alone counts: large blocks are released where they die */
    for (uint32_t i = 0; i < runtime->worker_count; i++) {
        const struct pool *pool = &runtime->workers[i]->pool;
        alive += atomic_load_relaxed(&pool->acquired) - atomic_load_relaxed(&pool->released);
    }
    return alive;
}

void runtime_destroy(struct runtime *runtime)
{
    if (!runtime)
        return;
    runtime_end(runtime);
    uint64_t alive = runtime_blocks_alive(runtime);
    if (alive > 0) /* somebody kept a message past on_exit and on_stop: his leak, and worth a line */
        LOG(LOG_WARN, "messages_leaked", LOG_UINT("count", alive));
    for (uint32_t i = 0; i < runtime->worker_count; i++)
        worker_destroy(runtime->workers[i]);
    free(runtime);
}

uint32_t runtime_worker_count(const struct runtime *runtime)
{
    return runtime->worker_count;
}

struct worker *runtime_worker(struct runtime *runtime, uint32_t index)
{
    ASSERT(index < runtime->worker_count);
    return runtime->workers[index];
}

void runtime_get_memory(const struct runtime *runtime, uint64_t *ret_used_bytes, uint64_t *ret_peak_bytes)
{
    *ret_used_bytes = atomic_load_relaxed(&runtime->account.used_bytes);
    *ret_peak_bytes = atomic_load_relaxed(&runtime->account.peak_bytes);
}
