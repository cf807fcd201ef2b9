/* SPDX-License-Identifier: Apache-2.0 */
/* watchdog: a thread that counts ticks, and stops the process when a worker makes no progress.
 *
 * A handler's budget is measured in its ticks: one relaxed load a message instead of two looks at the clock, which would cost
 * more than the message. The ticks count sleeps of at least tick_ns that the watchdog has slept, so they stand still when the
 * process is stopped (SIGSTOP, a paused machine): nobody is killed for time in which nobody could run.
 *
 * A stuck worker: its progress counter stands, and its lane is not parked, so it neither runs nor sleeps. C cannot take a
 * thread back, so the process ends (actor.h I5); half-running would be worse.
 *
 * In a stepped runtime there is no thread: ticks are the (virtual) clock's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/clock.h"
#include "runtime/worker_internal.h"

enum { TICKS_A_BUDGET = 16, TICK_NS_MIN = 1000 * 1000, TICK_NS_MAX = 100 * 1000 * 1000 };

void watchdog_init(struct runtime *runtime)
{
    uint64_t budget_ns = runtime->options.handler_ns_max, stall_ns = runtime->options.watchdog_ns;
    uint64_t tick_ns = (budget_ns < stall_ns ? budget_ns : stall_ns) / TICKS_A_BUDGET;
    runtime->tick_ns = tick_ns < TICK_NS_MIN ? TICK_NS_MIN : tick_ns > TICK_NS_MAX ? TICK_NS_MAX : tick_ns;
    /* k ticks seen during a handler mean that it ran longer than (k - 1) * tick_ns. */
    runtime->handler_ticks_max = (budget_ns + runtime->tick_ns - 1) / runtime->tick_ns;
    runtime->watchdog_ticks_max = (stall_ns + runtime->tick_ns - 1) / runtime->tick_ns;
}

uint64_t watchdog_stepped_ticks(const struct runtime *runtime)
{
    return clock_mono_ns() / runtime->tick_ns;
}

_Noreturn static void report_stall(struct worker *worker, uint64_t stalled_ns)
{
    const struct actor_type *type = atomic_load_relaxed(&worker->running_type);
    /* Not through the logger: its thread may be what the worker waits for. */
    fprintf(
        stderr,
        "{\"level\":\"error\",\"event\":\"worker_stalled\",\"worker\":%u,\"actor_type\":\"%s\",\"stalled_ms\":%llu}\n",
        (unsigned)worker->index, type ? type->name : "", (unsigned long long)(stalled_ns / 1000000));
    abort();
}

struct observed {
    uint64_t progress;
    uint64_t stalled_ticks;
};

static void observe(struct runtime *runtime, struct worker *worker, struct observed *observed)
{
    uint64_t progress = atomic_load_relaxed(&worker->progress);
    bool is_idle = inbox_is_parked(&worker->lane) || atomic_load_relaxed(&worker->is_done);
    if (is_idle || progress != observed->progress) {
        *observed = (struct observed){.progress = progress};
        return;
    }
    if (++observed->stalled_ticks > runtime->watchdog_ticks_max)
        report_stall(worker, observed->stalled_ticks * runtime->tick_ns);
}

static void *watchdog_main(void *argument)
{
    struct runtime *runtime = argument;
    struct observed observed[WORKERS_MAX] = {0};
    for (;;) {
        uint32_t seen = event_count_prepare(&runtime->watchdog_event);
        if (atomic_load_relaxed(&runtime->watchdog_is_stopping)) /* seen at the latest with the notify that follows it */
            return NULL;
        (void)event_count_wait(&runtime->watchdog_event, seen, clock_mono_ns() + runtime->tick_ns);
        counter_add(&runtime->ticks, 1);
        for (uint32_t i = 0; i < runtime->worker_count; i++)
            observe(runtime, runtime->workers[i], &observed[i]);
    }
}

enum err watchdog_start(struct runtime *runtime, struct error *error)
{
    int os_errno = pthread_create(&runtime->watchdog, NULL, watchdog_main, runtime);
    if (os_errno != 0)
        return error_set_errno(error, ERR_SYSTEM, os_errno, "start the watchdog thread: %s", strerror(os_errno));
    (void)pthread_setname_np(runtime->watchdog, "watchdog");
    runtime->has_watchdog = true;
    return OK;
}

void watchdog_stop(struct runtime *runtime)
{
    if (!runtime->has_watchdog)
        return;
    atomic_store_relaxed(&runtime->watchdog_is_stopping, true);
    event_count_notify(&runtime->watchdog_event);
    pthread_join(runtime->watchdog, NULL);
    runtime->has_watchdog = false;
}
