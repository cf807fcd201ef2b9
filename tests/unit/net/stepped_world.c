/* SPDX-License-Identifier: Apache-2.0 */
/* One world at a time: the simulated network is one, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/metrics.h"
#include "tests/unit/net/stepped_world.h"

static struct runtime *runtime;

void stepped_world_start(uint64_t seed, const struct sim_options *sim, const struct runtime_options *options)
{
    struct error error;
    sim_world_reset(seed, sim);
    metrics_reset();
    log_set_level(LOG_ERROR);
    assert_int_equal(runtime_create(options, &runtime, &error), OK);
    for (uint32_t w = 0; w < runtime_worker_count(runtime); w++)
        assert_int_equal(worker_start(runtime_worker(runtime, w), &error), OK);
}

int stepped_world_stop(void)
{
    if (!runtime)
        return 0;
    runtime_destroy(runtime);
    runtime = NULL;
    int leaked = (int)sim_world_descriptor_count();
    sim_world_destroy();
    return leaked;
}

void stepped_settle(void)
{
    bool did = true;
    for (int i = 0; did; i++) {
        assert_true(i < 100000); /* no busy loop */
        did = false;
        for (uint32_t w = 0; w < runtime_worker_count(runtime); w++)
            did |= worker_step(runtime_worker(runtime, w));
        if (!did && sim_world_next_event_ns() <= clock_mono_ns())
            did = true;
    }
}

static uint64_t next_event_ns(void)
{
    uint64_t next = sim_world_next_event_ns();
    for (uint32_t w = 0; w < runtime_worker_count(runtime); w++) {
        uint64_t deadline = worker_next_deadline_ns(runtime_worker(runtime, w));
        next = deadline < next ? deadline : next;
    }
    return next;
}

void stepped_advance_to(uint64_t target_ns)
{
    stepped_settle();
    for (uint64_t next; (next = next_event_ns()) <= target_ns;) {
        sim_clock_advance_to(next);
        stepped_settle();
    }
    sim_clock_advance_to(target_ns);
    stepped_settle();
}

void stepped_advance(uint64_t ns)
{
    stepped_advance_to(clock_mono_ns() + ns);
}

struct call {
    struct worker_task task;
    void (*run)(struct worker *worker, void *argument);
    void *argument;
};

static void run_call(struct worker *worker, struct worker_task *task)
{
    struct call *call = container_of(task, struct call, task);
    call->run(worker, call->argument);
}

void stepped_run(uint32_t worker, void (*run)(struct worker *worker, void *argument), void *argument)
{
    struct call call = {.task = {.run = run_call}, .run = run, .argument = argument};
    worker_post(runtime_worker(runtime, worker), &call.task);
    stepped_settle();
}
