/* SPDX-License-Identifier: Apache-2.0 */
/* timer_wheel: see timer_wheel.h. The lists are singly linked with a back pointer to the link before (as in BSD's LIST), so
 * that an unlink needs to know neither list nor wheel; whether it emptied a slot, the address of that link tells. */
#include "runtime/timer_wheel.h"

#include <stddef.h>

#include "runtime/assert.h"

static void link_timer(struct timer **head, struct timer *timer)
{
    timer->next = *head;
    timer->previous_next = head;
    if (timer->next)
        timer->next->previous_next = &timer->next;
    *head = timer;
}

static void unlink_timer(struct timer_wheel *wheel, struct timer *timer)
{
    struct timer **link = timer->previous_next;
    *link = timer->next;
    if (timer->next)
        timer->next->previous_next = link;
    timer->next = NULL;
    timer->previous_next = NULL;

    struct timer **first_slot = &wheel->slots[0][0];
    if (!*link && link >= first_slot && link < first_slot + TIMER_LEVELS * TIMER_SLOTS) {
        size_t index = (size_t)(link - first_slot);
        wheel->occupied[index / TIMER_SLOTS] &= ~(1ull << index % TIMER_SLOTS);
    }
}

/* Rounded up: never early. */
static uint64_t tick_of(uint64_t deadline_ns)
{
    return deadline_ns / TIMER_TICK_NS + (deadline_ns % TIMER_TICK_NS != 0);
}

static void place(struct timer_wheel *wheel, struct timer *timer)
{
    uint64_t tick = tick_of(timer->deadline_ns);
    if (tick <= wheel->tick) {
        link_timer(&wheel->due, timer);
        return;
    }
    unsigned highest_bit = 63u - (unsigned)__builtin_clzll(tick ^ wheel->tick);
    unsigned level = highest_bit / TIMER_SLOT_BITS;
    unsigned slot = (unsigned)(tick >> (level * TIMER_SLOT_BITS)) % TIMER_SLOTS;
    link_timer(&wheel->slots[level][slot], timer);
    wheel->occupied[level] |= 1ull << slot;
}

/* Empties a slot, oldest timer first, so that timers of one deadline fire in the order they were started. */
static struct timer *take_slot(struct timer_wheel *wheel, unsigned level, unsigned slot)
{
    struct timer *oldest_first = NULL;
    for (struct timer *timer = wheel->slots[level][slot], *next; timer; timer = next) {
        next = timer->next;
        link_timer(&oldest_first, timer);
    }
    wheel->slots[level][slot] = NULL;
    wheel->occupied[level] &= ~(1ull << slot);
    return oldest_first;
}

/* The next slot to handle. Returns: its first tick; UINT64_MAX when all wheels are empty. */
static uint64_t next_slot(const struct timer_wheel *wheel, unsigned *ret_level, unsigned *ret_slot)
{
    for (unsigned level = 0; level < TIMER_LEVELS; level++) {
        if (!wheel->occupied[level])
            continue;
        unsigned slot = (unsigned)__builtin_ctzll(wheel->occupied[level]);
        unsigned shift = level * TIMER_SLOT_BITS;
        uint64_t above = wheel->tick >> shift >> TIMER_SLOT_BITS; /* two shifts: their sum may be the word's width */
        *ret_level = level;
        *ret_slot = slot;
        return (above << TIMER_SLOT_BITS | slot) << shift;
    }
    return UINT64_MAX;
}

/* Moves the wheel past `now_tick`; what is due goes to `due`. */
static void advance(struct timer_wheel *wheel, uint64_t now_tick)
{
    unsigned level, slot;
    uint64_t tick;
    while ((tick = next_slot(wheel, &level, &slot)) <= now_tick) {
        struct timer *timer = take_slot(wheel, level, slot);
        wheel->tick = tick;
        /* Those of this very tick are due; the others, of a slot in a higher wheel, find their place in a lower one. */
        while (timer) {
            struct timer *next = timer->next;
            place(wheel, timer);
            timer = next;
        }
    }
    if (wheel->tick < now_tick)
        wheel->tick = now_tick; /* no slot begins in between, so each timer is still in its right wheel */
}

bool timer_is_active(const struct timer *timer)
{
    return timer->previous_next;
}

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ns)
{
    *wheel = (struct timer_wheel){.tick = now_ns / TIMER_TICK_NS};
}

void timer_wheel_start(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline_ns)
{
    if (timer_is_active(timer))
        unlink_timer(wheel, timer);
    timer->deadline_ns = deadline_ns;
    place(wheel, timer);
}

void timer_wheel_cancel(struct timer_wheel *wheel, struct timer *timer)
{
    if (timer_is_active(timer))
        unlink_timer(wheel, timer);
}

uint32_t timer_wheel_fire(struct timer_wheel *wheel, struct worker *worker, uint64_t now_ns)
{
    ASSERT(!wheel->firing); /* on_fire must not call back into the loop */
    advance(wheel, now_ns / TIMER_TICK_NS);
    while (wheel->due) {
        struct timer *timer = wheel->due;
        unlink_timer(wheel, timer);
        link_timer(&wheel->firing, timer); /* turns `due`, which is newest first */
    }
    uint32_t fired = 0;
    while (wheel->firing) {
        struct timer *timer = wheel->firing;
        unlink_timer(wheel, timer); /* T2 */
        fired++;
        timer->on_fire(worker, timer);
    }
    return fired;
}

uint64_t timer_wheel_next_ns(const struct timer_wheel *wheel)
{
    if (wheel->due)
        return 0;
    unsigned level, slot;
    uint64_t tick = next_slot(wheel, &level, &slot);
    return tick > UINT64_MAX / TIMER_TICK_NS ? UINT64_MAX : tick * TIMER_TICK_NS;
}
