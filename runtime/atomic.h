/* SPDX-License-Identifier: Apache-2.0 */
/* atomic: the door to C11 atomics of the lock-free parts. Every operation names its memory order, so that a reader sees at the
 * call what it pairs with, and so that the schedule explorer can put its own header in the place of this one (tests/explore): it
 * tries the schedules and the values that these orders allow, and shows that none of them is stronger than needed. What is not
 * explored, counters and flags of a few files, is in docs/LOCKFREE.md, "Not explored".
 *
 * There is no fence on purpose: ThreadSanitizer does not model atomic_thread_fence (LLVM issue 52942). Where two threads must
 * not both miss each other (parking), the flag lives in the very word that the other side exchanges: see inbox.h.
 */
#ifndef CIRANDA_RUNTIME_ATOMIC_H
#define CIRANDA_RUNTIME_ATOMIC_H

#include <ck_pr.h>
#include <stdatomic.h>

#define ATOMIC(type) _Atomic(type)

#define atomic_load_relaxed(p) atomic_load_explicit((p), memory_order_relaxed)
#define atomic_load_acquire(p) atomic_load_explicit((p), memory_order_acquire)
#define atomic_store_relaxed(p, value) atomic_store_explicit((p), (value), memory_order_relaxed)
#define atomic_store_release(p, value) atomic_store_explicit((p), (value), memory_order_release)

/* All return the value before. */
#define atomic_exchange_relaxed(p, value) atomic_exchange_explicit((p), (value), memory_order_relaxed)
#define atomic_exchange_acquire(p, value) atomic_exchange_explicit((p), (value), memory_order_acquire)
#define atomic_add_relaxed(p, value) atomic_fetch_add_explicit((p), (value), memory_order_relaxed)
#define atomic_add_release(p, value) atomic_fetch_add_explicit((p), (value), memory_order_release)
#define atomic_add_acq_rel(p, value) atomic_fetch_add_explicit((p), (value), memory_order_acq_rel)
#define atomic_sub_relaxed(p, value) atomic_fetch_sub_explicit((p), (value), memory_order_relaxed)
#define atomic_or_relaxed(p, value) atomic_fetch_or_explicit((p), (value), memory_order_relaxed)
#define atomic_and_relaxed(p, value) atomic_fetch_and_explicit((p), (value), memory_order_relaxed)

/* Return whether it was swapped; else *expected holds what is there, read relaxed: load it again where what it names is looked
 * at. The weak ones may fail for no reason: for loops. */
#define atomic_cas_relaxed(p, expected, desired)                                                                         \
    atomic_compare_exchange_strong_explicit((p), (expected), (desired), memory_order_relaxed, memory_order_relaxed)
#define atomic_cas_release(p, expected, desired)                                                                         \
    atomic_compare_exchange_strong_explicit((p), (expected), (desired), memory_order_release, memory_order_relaxed)
#define atomic_cas_weak_release(p, expected, desired)                                                                    \
    atomic_compare_exchange_weak_explicit((p), (expected), (desired), memory_order_release, memory_order_relaxed)
#define atomic_cas_weak_acq_rel(p, expected, desired)                                                                    \
    atomic_compare_exchange_weak_explicit((p), (expected), (desired), memory_order_acq_rel, memory_order_relaxed)

/* A counter that one thread writes and any thread reads: no read-modify-write needed. */
#define counter_add(p, amount) atomic_store_relaxed((p), atomic_load_relaxed(p) + (amount))

/* Tells the processor that this is a spin loop. */
static inline void cpu_pause(void)
{
    ck_pr_stall();
}

#endif
