/* SPDX-License-Identifier: Apache-2.0 */
/* event_count: see event_count.h. One futex word; the kernel compares it again before it lets a thread sleep, which closes
 * the gap between our last look and the sleep. */
#include "runtime/event_count.h"

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { EVENT_COUNT_WAITING = 1, EVENT_COUNT_STEP = 2 };

uint32_t event_count_prepare(struct event_count *event_count)
{
    /* Acquire, pairs with notify: who sees the new sequence sees what was put into the queue before it. */
    return atomic_load_acquire(&event_count->word) & ~(uint32_t)EVENT_COUNT_WAITING;
}

/* Absolute CLOCK_MONOTONIC time, which is what clock_mono_ns counts. Returns: false on time-out. */
static bool futex_wait(ATOMIC(uint32_t) * word, uint32_t expected, uint64_t deadline_ns)
{
    struct timespec deadline = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                                .tv_nsec = (long)(deadline_ns % 1000000000u)};
    long result = syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, expected,
                          deadline_ns == UINT64_MAX ? NULL : &deadline, NULL, FUTEX_BITSET_MATCH_ANY);
    return !(result == -1 && errno == ETIMEDOUT);
}

bool event_count_wait(struct event_count *event_count, uint32_t seen, uint64_t deadline_ns)
{
    for (;;) {
        uint32_t word = atomic_load_acquire(&event_count->word); /* as prepare's */
        if ((word & ~(uint32_t)EVENT_COUNT_WAITING) != seen)
            return true;
        if (!(word & EVENT_COUNT_WAITING) && !atomic_cas_relaxed(&event_count->word, &word, seen | EVENT_COUNT_WAITING))
            continue;
        if (!futex_wait(&event_count->word, seen | EVENT_COUNT_WAITING, deadline_ns))
            return event_count_prepare(event_count) != seen;
    }
}

void event_count_notify(struct event_count *event_count)
{
    uint32_t word = atomic_load_relaxed(&event_count->word);
    /* Release: what was put into the queue before is seen with the new sequence. Clearing WAITING makes a second notify
     * free until somebody waits again. */
    while (
        !atomic_cas_weak_release(&event_count->word, &word, (word & ~(uint32_t)EVENT_COUNT_WAITING) + EVENT_COUNT_STEP))
        ;
    if (word & EVENT_COUNT_WAITING)
        (void)syscall(SYS_futex, &event_count->word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}
