/* SPDX-License-Identifier: Apache-2.0 */
/* sleeping_ring: a ring that does no I/O: it sleeps and is woken. For tests of the runtime's threads: ThreadSanitizer sees all
 * of it, which it does not of the kernel's ring (google/sanitizers#1729). Now and then it gives the processor away between
 * the worker's parking and its sleep, and between a push and its wake: the places where a wake-up could be lost. */
#include <sched.h>
#include <stdlib.h>

#include "runtime/assert.h"
#include "runtime/event_count.h"
#include "runtime/ring.h"

struct ring {
    struct event_count wakes;
    ATOMIC(uint32_t) wake_count; /* release by the waker; acquire by the sleeper */
    uint32_t seen_count;
};

static void delay(void)
{
    static _Thread_local uint32_t seed = 12345;
    seed = seed * 1664525u + 1013904223u;
    for (uint32_t yields = (seed >> 16) % 8; yields > 4; yields--)
        sched_yield();
}

enum err ring_create(const struct ring_options *options, struct ring **ret_ring, struct error *error)
{
    (void)options, (void)error;
    *ret_ring = calloc(1, sizeof **ret_ring);
    return *ret_ring ? OK : ERR_NO_MEMORY;
}

void ring_destroy(struct ring *ring)
{
    free(ring);
}

bool ring_wait(struct ring *ring, uint64_t deadline_ns)
{
    delay();
    for (;;) {
        uint32_t seen = event_count_prepare(&ring->wakes);
        uint32_t count = atomic_load_acquire(&ring->wake_count);
        if (count != ring->seen_count || deadline_ns == 0) {
            ring->seen_count = count;
            return false;
        }
        if (!event_count_wait(&ring->wakes, seen, deadline_ns))
            return false;
    }
}

uint32_t ring_dispatch(struct ring *ring)
{
    (void)ring;
    return 0;
}

void ring_wake(struct ring *ring)
{
    delay();
    atomic_add_acq_rel(&ring->wake_count, 1);
    event_count_notify(&ring->wakes);
}
