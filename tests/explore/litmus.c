/* SPDX-License-Identifier: Apache-2.0 */
/* litmus: whether the explorer finds what C11 allows, and nothing else. The known small programs (Alglave, Maranget and Tautschnig,
 * TOPLAS 2014, have their names), each with the set of outcomes that must come out of all its schedules. An outcome is what its
 * threads read, a bit each. */
#include <string.h>

#include "runtime/atomic.h"
#include "tests/explore/scenario.h"
#include "tests/explore/world.h"

static struct {
    ATOMIC(uint32_t) x, y;
    uint32_t plain;
    uint32_t read[6];
} s;
static uint32_t outcomes; /* a bit for each that was seen */

static void begin(void *(*const *threads)(void *), uint32_t count)
{
    world_reset(&(struct model_bounds){.stale = 8});
    memset(&s, 0, sizeof s);
    for (uint32_t i = 0; i < count; i++)
        schedule_spawn(threads[i], NULL);
}

static void end(void)
{
    uint32_t outcome = 0;
    for (uint32_t i = 0; i < 4; i++)
        outcome |= s.read[i] << i;
    outcomes |= 1u << outcome;
}

#define THREAD(name, ...)                                                                                                \
    static void *name(void *unused)                                                                                      \
    {                                                                                                                    \
        (void)unused;                                                                                                    \
        __VA_ARGS__;                                                                                                     \
        return NULL;                                                                                                     \
    }
#define PROGRAM(name, ...)                                                                                               \
    static void name(void)                                                                                               \
    {                                                                                                                    \
        static void *(*const threads[])(void *) = {__VA_ARGS__};                                                         \
        begin(threads, sizeof threads / sizeof threads[0]);                                                              \
    }

THREAD(set_x_read_y, atomic_store_release(&s.x, 1); s.read[0] = atomic_load_acquire(&s.y))
THREAD(set_y_read_x, atomic_store_release(&s.y, 1); s.read[1] = atomic_load_acquire(&s.x))
PROGRAM(store_buffering, set_x_read_y, set_y_read_x)

THREAD(set_x_then_y, atomic_store_relaxed(&s.x, 1); atomic_store_release(&s.y, 1))
THREAD(read_y_then_x, s.read[0] = atomic_load_acquire(&s.y); s.read[1] = atomic_load_relaxed(&s.x))
PROGRAM(message_passing, set_x_then_y, read_y_then_x)

THREAD(read_y_relaxed_then_x, s.read[0] = atomic_load_relaxed(&s.y); s.read[1] = atomic_load_relaxed(&s.x))
PROGRAM(message_passing_relaxed, set_x_then_y, read_y_relaxed_then_x)

THREAD(set_x, atomic_store_relaxed(&s.x, 1))
THREAD(read_x_twice, s.read[0] = atomic_load_relaxed(&s.x); s.read[1] = atomic_load_relaxed(&s.x))
PROGRAM(coherence, set_x, read_x_twice)

THREAD(read_x_then_set_y, s.read[0] = atomic_load_relaxed(&s.x); atomic_store_relaxed(&s.y, 1))
THREAD(read_y_then_set_x, s.read[1] = atomic_load_relaxed(&s.y); atomic_store_relaxed(&s.x, 1))
PROGRAM(load_buffering, read_x_then_set_y, read_y_then_set_x)

THREAD(release_x, atomic_store_release(&s.x, 1))
THREAD(release_y, atomic_store_release(&s.y, 1))
THREAD(read_x_y, s.read[0] = atomic_load_acquire(&s.x); s.read[1] = atomic_load_acquire(&s.y))
THREAD(read_y_x, s.read[2] = atomic_load_acquire(&s.y); s.read[3] = atomic_load_acquire(&s.x))
PROGRAM(independent_reads, release_x, release_y, read_x_y, read_y_x)

/* y is 1, then 2 by a relaxed read-modify-write: who acquires the 2 sees what the 1 published. */
THREAD(count_y, (void)atomic_add_relaxed(&s.y, 1))
THREAD(read_two_then_x, s.read[0] = atomic_load_acquire(&s.y) == 2; s.read[1] = atomic_load_relaxed(&s.x))
PROGRAM(release_sequence, set_x_then_y, count_y, read_two_then_x)

/* By a relaxed store of another thread it ends. */
THREAD(overwrite_y, atomic_store_relaxed(&s.y, 2))
PROGRAM(release_sequence_broken, set_x_then_y, overwrite_y, read_two_then_x)

THREAD(add_first, s.read[0] = atomic_add_relaxed(&s.x, 1))
THREAD(add_second, s.read[1] = atomic_add_relaxed(&s.x, 1))
PROGRAM(atomicity, add_first, add_second)

/* A race on a plain field: found in one of the orders at least, whichever is tried first. */
THREAD(write_plain_then_release, s.plain = 1; atomic_store_release(&s.x, 1))
THREAD(acquire_then_read_plain, if (atomic_load_acquire(&s.x)) s.read[0] = s.plain)
THREAD(relaxed_then_read_plain, if (atomic_load_relaxed(&s.x)) s.read[0] = s.plain)
PROGRAM(handed_over, write_plain_then_release, acquire_then_read_plain)
PROGRAM(race, write_plain_then_release, relaxed_then_read_plain)

/* Outcome `first, second, ...` as its number: bit i is what read[i] was. */
#define SEEN(number) (1u << (number))
const struct litmus litmus_programs[] = {
    {"store_buffering", {store_buffering, end}, SEEN(0) | SEEN(1) | SEEN(2) | SEEN(3), false},
    {"message_passing", {message_passing, end}, SEEN(0) | SEEN(2) | SEEN(3), false}, /* not y without x */
    {"message_passing_relaxed", {message_passing_relaxed, end}, SEEN(0) | SEEN(1) | SEEN(2) | SEEN(3), false},
    {"coherence", {coherence, end}, SEEN(0) | SEEN(2) | SEEN(3), false}, /* not new, then old */
    /* C11 allows 1, 1 as well, which a store from the future would take: not in this model. */
    {"load_buffering", {load_buffering, end}, SEEN(0) | SEEN(1) | SEEN(2), false},
    {"independent_reads", {independent_reads, end}, 0xFFFF, false}, /* the two readers may disagree */
    {"release_sequence", {release_sequence, end}, SEEN(0) | SEEN(2) | SEEN(3), false},
    {"release_sequence_broken", {release_sequence_broken, end}, SEEN(0) | SEEN(1) | SEEN(2) | SEEN(3), false},
    {"atomicity", {atomicity, end}, SEEN(1) | SEEN(2), false}, /* one is first, the other adds to it */
    {"handed_over", {handed_over, end}, SEEN(0) | SEEN(1), false},
    {"race", {race, end}, 0, true},
};
const size_t litmus_count = sizeof litmus_programs / sizeof litmus_programs[0];

uint32_t litmus_take_outcomes(void)
{
    uint32_t seen = outcomes;
    outcomes = 0;
    return seen;
}
