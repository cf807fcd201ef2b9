/* SPDX-License-Identifier: Apache-2.0 */
/* timer_wheel: the hierarchical timing wheel behind timer.h, without its worker: time is passed in.
 *
 * Varghese and Lauck 1987, scheme 7, with the level chosen as in Linux before 4.8 and tokio: eight wheels of 64 slots; a
 * timer lies in the wheel of the highest group of 6 bits in which its tick differs from the present one. So every
 * occupied slot of a wheel is ahead of the present position and none wraps: the first bit set in the lowest non-empty wheel
 * is the next thing to happen. In wheel 0 that is a tick whose timers are due; in a higher one, a slot whose timers move down. Eight wheels
 * hold 2^48 ticks of 1 ms, which is more than 64 bits of nanoseconds: there is no far list.
 *
 * A timer moves down at most 7 times in its life; cancel is one unlink. Limits: 4.2 KiB a wheel, no allocation.
 */
#ifndef CIRANDA_RUNTIME_TIMER_WHEEL_H
#define CIRANDA_RUNTIME_TIMER_WHEEL_H

#include "runtime/timer.h"

enum { TIMER_LEVELS = 8, TIMER_SLOT_BITS = 6, TIMER_SLOTS = 1 << TIMER_SLOT_BITS, TIMER_TICK_NS = 1000000 };

struct timer_wheel {
    uint64_t tick;        /* the last one handled; every timer in a slot is later */
    struct timer *due;    /* newest first: fire in the next (or present) timer_wheel_fire */
    struct timer *firing; /* what timer_wheel_fire still has to run */
    struct timer *slots[TIMER_LEVELS][TIMER_SLOTS];
    uint64_t occupied[TIMER_LEVELS]; /* bit s: slots[level][s] is not empty */
};

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ns);
void timer_wheel_start(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline_ns);
void timer_wheel_cancel(struct timer_wheel *wheel, struct timer *timer);
/* Runs on_fire of each timer due at `now_ns`. One that starts itself again, even for the past, waits for the next call.
 * Returns: how many fired. */
uint32_t timer_wheel_fire(struct timer_wheel *wheel, struct worker *worker, uint64_t now_ns);
/* Returns: no later than the next deadline (a timer in a higher wheel has to move down first); UINT64_MAX: none. */
uint64_t timer_wheel_next_ns(const struct timer_wheel *wheel);

#endif
