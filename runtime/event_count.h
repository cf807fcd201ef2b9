/* SPDX-License-Identifier: Apache-2.0 */
/* event_count: lets a thread without a ring (journal, logger) sleep until somebody has put something into its queue. Not for
 * workers: they park in their ring.
 *
 * Use, consumer:  seen = event_count_prepare(e); if the queue has something: take it, else event_count_wait(e, seen, ...).
 * Use, producer:  put into the queue, then event_count_notify(e).
 *
 * The word is a sequence (upper 31 bits) and a WAITING bit. Invariant E1: no wake is lost. If the consumer's look into the
 * queue missed an item, the producer's notify comes after `prepare` in the word's order of changes: then either the sequence
 * has moved and wait returns at once, or WAITING was set first and notify sees it.
 *
 * The manner is that of ck_ec32 (Concurrency Kit). Written over C11 atomics and the futex call instead of wrapping it, since
 * ck's inline assembly is opaque to ThreadSanitizer, and its 80 lines of modes serve variants that we do not have.
 */
#ifndef CIRANDA_RUNTIME_EVENT_COUNT_H
#define CIRANDA_RUNTIME_EVENT_COUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/atomic.h"

/* Embed it. Zeroed is valid. The field is private. */
struct event_count {
    ATOMIC(uint32_t) word;
};

/* Thread: any. Returns: what event_count_wait compares with. */
uint32_t event_count_prepare(struct event_count *event_count);

/* Thread: any. Blocks until a notify after the `prepare` that returned `seen`, or until `deadline_ns` (clock_mono_ns;
 * UINT64_MAX: no deadline). Returns: whether notified; false on time-out. */
bool event_count_wait(struct event_count *event_count, uint32_t seen, uint64_t deadline_ns);

/* Thread: any. Wakes all waiters; one atomic operation when there is none. */
void event_count_notify(struct event_count *event_count);

#endif
