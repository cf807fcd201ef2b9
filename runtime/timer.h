/* SPDX-License-Identifier: Apache-2.0 */
/* timer: something to do at a time, on one worker: a hierarchical timing wheel (timer_wheel.h: 8 wheels of 64 slots, 1 ms
 * ticks). Start and cancel are O(1); a timer fires once, never early, at most one tick plus one loop turn late. Its owner
 * stays on that worker: an actor with a timer of its own is pinned (actor_send_after is for those that are not).
 *
 * Invariants: T1 a timer is in at most one slot, exactly while it is active. T2 on_fire runs after it was taken off the
 * wheel, so it may start itself again. T3 a cancelled timer never fires, also when it was due in the turn of the cancel.
 */
#ifndef CIRANDA_RUNTIME_TIMER_H
#define CIRANDA_RUNTIME_TIMER_H

#include <stdbool.h>
#include <stdint.h>

struct worker;

/* Embed it. Zeroed is valid and idle. Fields are private but on_fire. */
struct timer {
    void (*on_fire)(struct worker *worker, struct timer *timer);
    struct timer *next, **previous_next;
    uint64_t deadline_ns;
};

/* Thread: worker's. Starting an active timer moves it. `deadline_ns` in clock_mono_ns time. */
void timer_start(struct worker *worker, struct timer *timer, uint64_t deadline_ns);
void timer_cancel(struct worker *worker, struct timer *timer); /* no-op when idle */
bool timer_is_active(const struct timer *timer);

#endif
