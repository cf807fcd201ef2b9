/* SPDX-License-Identifier: Apache-2.0 */
/* timer_wheel: T1 to T3 of timer.h, and a comparison with a plain table under random operations. Time is passed in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/assert.h"
#include "runtime/timer_wheel.h"

static const uint64_t MS = 1000000;
static struct timer_wheel wheel;

struct probe {
    struct timer timer;
    uint32_t fired;
    uint32_t order;
    uint64_t restart_ns;  /* on fire: start again at; 0: no */
    struct probe *victim; /* on fire: cancel it */
};
static uint32_t fired_total;

static void on_fire(struct worker *worker, struct timer *timer)
{
    (void)worker;
    struct probe *probe = container_of(timer, struct probe, timer);
    assert_false(timer_is_active(timer)); /* T2 */
    probe->fired++;
    probe->order = ++fired_total;
    if (probe->restart_ns)
        timer_wheel_start(&wheel, timer, probe->restart_ns);
    if (probe->victim)
        timer_wheel_cancel(&wheel, &probe->victim->timer);
}

static int setup(void **state)
{
    (void)state;
    timer_wheel_init(&wheel, 5 * MS);
    fired_total = 0;
    return 0;
}

static struct probe probe_of(void)
{
    return (struct probe){.timer.on_fire = on_fire};
}

static void fires_once_and_never_early(void **state)
{
    (void)state;
    struct probe probe = probe_of();
    timer_wheel_start(&wheel, &probe.timer, 7 * MS + 1);
    assert_true(timer_is_active(&probe.timer));
    assert_int_equal(timer_wheel_fire(&wheel, NULL, 7 * MS + 1), 0); /* rounded up to the next tick */
    assert_int_equal(timer_wheel_fire(&wheel, NULL, 8 * MS - 1), 0);
    assert_int_equal(timer_wheel_fire(&wheel, NULL, 8 * MS), 1);
    assert_int_equal(timer_wheel_fire(&wheel, NULL, 900 * MS), 0);
    assert_int_equal(probe.fired, 1);
}

static void a_deadline_in_the_past_fires_at_the_next_turn(void **state)
{
    (void)state;
    struct probe probe = probe_of();
    timer_wheel_start(&wheel, &probe.timer, 0);
    assert_int_equal(timer_wheel_next_ns(&wheel), 0);
    assert_int_equal(timer_wheel_fire(&wheel, NULL, 5 * MS), 1);
}

static void one_that_starts_itself_again_for_the_past_waits_for_the_next_turn(void **state)
{
    (void)state;
    struct probe probe = probe_of();
    probe.restart_ns = 1;
    timer_wheel_start(&wheel, &probe.timer, 1);
    assert_int_equal(timer_wheel_fire(&wheel, NULL, 6 * MS), 1);
    assert_int_equal(timer_wheel_fire(&wheel, NULL, 6 * MS), 1);
    assert_true(timer_is_active(&probe.timer));
}

static void a_cancelled_timer_never_fires_not_even_one_due_in_the_same_turn(void **state)
{
    (void)state;
    struct probe killer = probe_of(), victim = probe_of(), far = probe_of();
    killer.victim = &victim;
    timer_wheel_start(&wheel, &killer.timer, 6 * MS);
    timer_wheel_start(&wheel, &victim.timer, 6 * MS);
    timer_wheel_start(&wheel, &far.timer, 100000ull * MS);
    timer_wheel_cancel(&wheel, &far.timer);
    timer_wheel_cancel(&wheel, &far.timer); /* idle: nothing */
    assert_int_equal(timer_wheel_fire(&wheel, NULL, 6 * MS), 1);
    assert_int_equal(timer_wheel_fire(&wheel, NULL, 200000ull * MS), 0);
    assert_int_equal(killer.fired, 1);
    assert_int_equal(victim.fired, 0); /* T3 */
    assert_int_equal(timer_wheel_next_ns(&wheel), UINT64_MAX);
}

static void a_started_timer_moves_and_equal_deadlines_keep_their_order(void **state)
{
    (void)state;
    struct probe first = probe_of(), second = probe_of(), third = probe_of();
    timer_wheel_start(&wheel, &first.timer, 6 * MS);
    timer_wheel_start(&wheel, &second.timer, 5000 * MS);
    timer_wheel_start(&wheel, &third.timer, 5000 * MS);
    timer_wheel_start(&wheel, &first.timer, 5000 * MS); /* T1: moved, not doubled */
    assert_int_equal(timer_wheel_fire(&wheel, NULL, 4999 * MS), 0);
    assert_int_equal(timer_wheel_fire(&wheel, NULL, 5000 * MS), 3);
    assert_true(second.order < third.order && third.order < first.order);
}

static void the_farthest_deadline_of_64_bits_is_kept(void **state)
{
    (void)state;
    struct probe probe = probe_of(), near = probe_of();
    timer_wheel_start(&wheel, &probe.timer, UINT64_MAX);
    timer_wheel_start(&wheel, &near.timer, 3600ull * 1000 * MS);
    assert_true(timer_wheel_next_ns(&wheel) <= 3600ull * 1000 * MS);
    assert_int_equal(timer_wheel_fire(&wheel, NULL, 3600ull * 1000 * MS), 1);
    assert_int_equal(timer_wheel_fire(&wheel, NULL, 1ull << 63), 0);
    assert_true(timer_is_active(&probe.timer));
    timer_wheel_cancel(&wheel, &probe.timer);
}

/* ---- against a model --------------------------------------------------------------------------------------------------- */

enum { MODEL_TIMERS = 500 };

static uint64_t seed;
static uint64_t random_u64(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Delays of every order of magnitude, so that every wheel is used. */
static uint64_t random_delay(void)
{
    return random_u64() >> (random_u64() % 64) >> 4;
}

static void agrees_with_a_plain_table(void **state)
{
    (void)state;
    static struct probe probes[MODEL_TIMERS];
    static uint64_t deadlines[MODEL_TIMERS]; /* UINT64_MAX: idle */
    seed = 88172645463325252ull;
    uint64_t now_ns = 5 * MS;
    for (int i = 0; i < MODEL_TIMERS; i++) {
        probes[i] = probe_of();
        deadlines[i] = UINT64_MAX;
    }
    for (int step = 0; step < 20000; step++) {
        for (int operation = 0; operation < 5; operation++) {
            size_t i = random_u64() % MODEL_TIMERS;
            if (random_u64() % 4 == 0) {
                timer_wheel_cancel(&wheel, &probes[i].timer);
                deadlines[i] = UINT64_MAX;
            } else {
                deadlines[i] = now_ns + random_delay();
                timer_wheel_start(&wheel, &probes[i].timer, deadlines[i]);
            }
        }
        uint64_t nearest = UINT64_MAX;
        for (int i = 0; i < MODEL_TIMERS; i++)
            nearest = deadlines[i] < nearest ? deadlines[i] : nearest;
        uint64_t next_ns = timer_wheel_next_ns(&wheel);
        assert_true(nearest == UINT64_MAX ? next_ns == UINT64_MAX : next_ns < nearest + MS);

        now_ns +=
            random_u64() % 3 == 0 && next_ns != UINT64_MAX && next_ns > now_ns ? next_ns - now_ns : random_delay() >> 20;
        uint32_t expected = 0;
        for (int i = 0; i < MODEL_TIMERS; i++) {
            uint64_t tick = deadlines[i] / MS + (deadlines[i] % MS != 0);
            if (deadlines[i] == UINT64_MAX || tick > now_ns / MS)
                continue;
            deadlines[i] = UINT64_MAX;
            expected++;
        }
        assert_int_equal(timer_wheel_fire(&wheel, NULL, now_ns), expected);
        for (int i = 0; i < MODEL_TIMERS; i++)
            assert_int_equal(timer_is_active(&probes[i].timer), deadlines[i] != UINT64_MAX);
    }
    assert_true(fired_total > 1000);
}

/* R10: a storm. Bounded by the test's time limit: quadratic work would take hours. */
static void a_million_timers_start_move_cancel_and_fire(void **state)
{
    (void)state;
    enum { COUNT = 1000000 };
    struct probe *probes = calloc(COUNT, sizeof *probes);
    assert_non_null(probes);
    seed = 1;
    for (size_t i = 0; i < COUNT; i++) {
        probes[i].timer.on_fire = on_fire;
        timer_wheel_start(&wheel, &probes[i].timer, 6 * MS + random_u64() % (100000ull * MS));
    }
    for (size_t i = 0; i < COUNT; i += 2)
        timer_wheel_start(&wheel, &probes[i].timer, 6 * MS + random_u64() % (100000ull * MS));
    for (size_t i = 0; i < COUNT; i += 4)
        timer_wheel_cancel(&wheel, &probes[i].timer);
    uint32_t fired = 0;
    for (uint64_t now_ns = 5 * MS; now_ns <= 100010ull * MS; now_ns += 7 * MS)
        fired += timer_wheel_fire(&wheel, NULL, now_ns);
    assert_int_equal(fired, COUNT - COUNT / 4);
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(probes[i].fired, i % 4 != 0);
    free(probes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(fires_once_and_never_early, setup),
        cmocka_unit_test_setup(a_deadline_in_the_past_fires_at_the_next_turn, setup),
        cmocka_unit_test_setup(one_that_starts_itself_again_for_the_past_waits_for_the_next_turn, setup),
        cmocka_unit_test_setup(a_cancelled_timer_never_fires_not_even_one_due_in_the_same_turn, setup),
        cmocka_unit_test_setup(a_started_timer_moves_and_equal_deadlines_keep_their_order, setup),
        cmocka_unit_test_setup(the_farthest_deadline_of_64_bits_is_kept, setup),
        cmocka_unit_test_setup(agrees_with_a_plain_table, setup),
        cmocka_unit_test_setup(a_million_timers_start_move_cancel_and_fire, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
