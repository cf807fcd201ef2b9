/* SPDX-License-Identifier: Apache-2.0 */
/* breaker: thresholds, leases and stale permits one by one; then every sequence of a bounded length, and a million random
 * steps, both against a second breaker that is written as its rules read: lists and counting, no ring of bits, no rounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "runtime/breaker.h"

#define S UINT64_C(1000000000)

static struct {
    uint32_t count;
    enum breaker_state from, to;
    const char *reason;
} seen;

static void on_transition(void *context, enum breaker_state from, enum breaker_state to, const char *reason)
{
    assert_ptr_equal(context, &seen);
    assert_true((from == BREAKER_CLOSED && to == BREAKER_OPEN) || (from == BREAKER_OPEN && to == BREAKER_HALF_OPEN) ||
                (from == BREAKER_HALF_OPEN && to != BREAKER_HALF_OPEN));
    seen.count++;
    seen.from = from;
    seen.to = to;
    seen.reason = reason;
}

static struct breaker_options options_of(uint32_t failures, uint32_t probes, uint32_t successes)
{
    return (struct breaker_options){.failure_count_max = failures,
                                    .open_ns = 10 * S,
                                    .probe_count_max = probes,
                                    .probe_ns_max = 5 * S,
                                    .success_count = successes,
                                    .on_transition = on_transition,
                                    .context = &seen};
}

static struct breaker_permit take(struct breaker *breaker, uint64_t now_ns)
{
    struct breaker_permit permit = {0};
    uint64_t retry_after_ns = 0;
    assert_int_equal(breaker_acquire(breaker, now_ns, &permit, &retry_after_ns), OK);
    return permit;
}

static uint64_t refused(struct breaker *breaker, uint64_t now_ns)
{
    struct breaker_permit permit = {.round = 77};
    uint64_t retry_after_ns = 0;
    assert_int_equal(breaker_acquire(breaker, now_ns, &permit, &retry_after_ns), ERR_BREAKER_OPEN);
    assert_int_equal(permit.round, 77); /* untouched on failure */
    return retry_after_ns;
}

static enum breaker_state state_of(const struct breaker *breaker)
{
    struct breaker_snapshot snapshot;
    breaker_get_snapshot(breaker, &snapshot);
    return snapshot.state;
}

static void give(struct breaker *breaker, enum breaker_verdict verdict, uint64_t now_ns)
{
    breaker_release(breaker, take(breaker, now_ns), verdict, now_ns);
}

static void open_by_failures(struct breaker *breaker, uint32_t failures, uint64_t now_ns)
{
    for (uint32_t i = 0; i < failures; i++)
        give(breaker, BREAKER_FAILURE, now_ns);
    assert_int_equal(state_of(breaker), BREAKER_OPEN);
}

static void opens_at_exactly_the_failures_in_a_row(void **unused)
{
    (void)unused;
    struct breaker breaker;
    const struct breaker_options options = options_of(3, 1, 1);
    breaker_init(&breaker, &options, 0);
    seen.count = 0;
    give(&breaker, BREAKER_FAILURE, 0);
    give(&breaker, BREAKER_FAILURE, 0);
    give(&breaker, BREAKER_SUCCESS, 0); /* begins the row anew */
    give(&breaker, BREAKER_FAILURE, 0);
    give(&breaker, BREAKER_NEUTRAL, 0); /* does not */
    give(&breaker, BREAKER_FAILURE, 0);
    assert_int_equal(state_of(&breaker), BREAKER_CLOSED);
    give(&breaker, BREAKER_FAILURE, 0);
    assert_int_equal(state_of(&breaker), BREAKER_OPEN);
    assert_int_equal(seen.count, 1);
    assert_string_equal(seen.reason, "failures_in_row");
    assert_int_equal(refused(&breaker, 4 * S), 6 * S);
}

static void opens_at_the_error_rate_but_not_below_the_minimum(void **unused)
{
    (void)unused;
    struct breaker breaker;
    struct breaker_options options = options_of(0, 1, 1);
    options.error_per_mille = 500;
    options.window_size = 20;
    options.window_count_min = 4;
    breaker_init(&breaker, &options, 0);
    give(&breaker, BREAKER_FAILURE, 0);
    give(&breaker, BREAKER_FAILURE, 0);
    give(&breaker, BREAKER_FAILURE, 0);
    assert_int_equal(state_of(&breaker), BREAKER_CLOSED); /* 100 % of three */
    give(&breaker, BREAKER_SUCCESS, 0);                   /* 75 % of four: a success may be the one that completes it */
    assert_int_equal(state_of(&breaker), BREAKER_OPEN);
    assert_string_equal(seen.reason, "error_rate");
}

static void the_window_forgets_what_left_it(void **unused)
{
    (void)unused;
    struct breaker breaker;
    struct breaker_snapshot snapshot;
    struct breaker_options options = options_of(0, 1, 1);
    options.error_per_mille = 500;
    options.window_size = 10;
    options.window_count_min = 10;
    breaker_init(&breaker, &options, 0);
    for (int round = 0; round < 50; round++) { /* 4 of every 10 fail, never 5 of any 10 in a row */
        for (int i = 0; i < 10; i++)
            give(&breaker, i % 5 < 2 ? BREAKER_FAILURE : BREAKER_SUCCESS, 0);
        breaker_get_snapshot(&breaker, &snapshot);
        assert_int_equal(snapshot.window_count, 10);
        assert_int_equal(snapshot.window_failures, 4);
    }
    assert_int_equal(state_of(&breaker), BREAKER_CLOSED);
    give(&breaker, BREAKER_FAILURE, 0); /* pushes out a failure */
    give(&breaker, BREAKER_FAILURE, 0);
    give(&breaker, BREAKER_FAILURE, 0); /* pushes out a success: five of ten */
    assert_int_equal(state_of(&breaker), BREAKER_OPEN);
}

static void half_open_lets_no_more_probes_through_than_it_has_leases(void **unused)
{
    (void)unused;
    struct breaker breaker;
    const struct breaker_options options = options_of(1, 3, 2);
    breaker_init(&breaker, &options, 0);
    open_by_failures(&breaker, 1, 0);
    assert_int_equal(refused(&breaker, 10 * S - 1), 1);
    const struct breaker_permit a = take(&breaker, 10 * S), b = take(&breaker, 11 * S), c = take(&breaker, 11 * S);
    assert_int_equal(state_of(&breaker), BREAKER_HALF_OPEN);
    assert_int_equal(refused(&breaker, 12 * S), 3 * S); /* until the first lease runs out */
    breaker_release(&breaker, a, BREAKER_SUCCESS, 12 * S);
    breaker_release(&breaker, a, BREAKER_SUCCESS, 12 * S); /* given back twice: counted once */
    assert_int_equal(state_of(&breaker), BREAKER_HALF_OPEN);
    breaker_release(&breaker, b, BREAKER_SUCCESS, 12 * S);
    assert_int_equal(state_of(&breaker), BREAKER_CLOSED);
    breaker_release(&breaker, c, BREAKER_FAILURE, 13 * S); /* of the round before: changes nothing */
    assert_int_equal(state_of(&breaker), BREAKER_CLOSED);
}

static void a_probe_that_never_reports_counts_as_failed(void **unused)
{
    (void)unused;
    struct breaker breaker;
    struct breaker_snapshot snapshot;
    const struct breaker_options options = options_of(1, 1, 1);
    breaker_init(&breaker, &options, 0);
    open_by_failures(&breaker, 1, 0);
    const struct breaker_permit lost = take(&breaker, 10 * S);
    breaker_expire(&breaker, 15 * S - 1);
    assert_int_equal(state_of(&breaker), BREAKER_HALF_OPEN);
    assert_int_equal(refused(&breaker, 15 * S), 10 * S);
    breaker_get_snapshot(&breaker, &snapshot);
    assert_int_equal(snapshot.state, BREAKER_OPEN);
    assert_int_equal(snapshot.expired_count, 1);
    assert_string_equal(seen.reason, "probe_expired");
    breaker_release(&breaker, lost, BREAKER_SUCCESS, 16 * S); /* too late */
    assert_int_equal(state_of(&breaker), BREAKER_OPEN);
    breaker_release(&breaker, take(&breaker, 25 * S), BREAKER_SUCCESS, 25 * S); /* it is not stuck */
    assert_int_equal(state_of(&breaker), BREAKER_CLOSED);
}

static void a_lease_given_back_at_its_deadline_has_failed(void **unused)
{
    (void)unused;
    struct breaker breaker;
    const struct breaker_options options = options_of(1, 1, 1);
    breaker_init(&breaker, &options, 0);
    open_by_failures(&breaker, 1, 0);
    breaker_release(&breaker, take(&breaker, 10 * S), BREAKER_SUCCESS, 15 * S);
    assert_int_equal(state_of(&breaker), BREAKER_OPEN);
}

static void a_neutral_probe_gives_its_lease_back_without_a_verdict(void **unused)
{
    (void)unused;
    struct breaker breaker;
    const struct breaker_options options = options_of(1, 1, 1);
    breaker_init(&breaker, &options, 0);
    open_by_failures(&breaker, 1, 0);
    for (int i = 0; i < 100; i++)
        breaker_release(&breaker, take(&breaker, 10 * S), BREAKER_NEUTRAL, 10 * S);
    assert_int_equal(state_of(&breaker), BREAKER_HALF_OPEN);
    breaker_release(&breaker, take(&breaker, 10 * S), BREAKER_FAILURE, 10 * S);
    assert_int_equal(state_of(&breaker), BREAKER_OPEN);
    assert_string_equal(seen.reason, "probe_failed");
}

static void verdicts_of_calls_from_before_it_opened_change_nothing(void **unused)
{
    (void)unused;
    struct breaker breaker;
    const struct breaker_options options = options_of(1, 1, 2);
    breaker_init(&breaker, &options, 0);
    const struct breaker_permit old[] = {take(&breaker, 0), take(&breaker, 0), take(&breaker, 0)};
    open_by_failures(&breaker, 1, 0);
    breaker_release(&breaker, old[0], BREAKER_SUCCESS, S);
    assert_int_equal(state_of(&breaker), BREAKER_OPEN);
    const struct breaker_permit probe = take(&breaker, 10 * S);
    breaker_release(&breaker, old[1], BREAKER_FAILURE, 10 * S);
    assert_int_equal(state_of(&breaker), BREAKER_HALF_OPEN);
    breaker_release(&breaker, probe, BREAKER_SUCCESS, 10 * S);
    breaker_release(&breaker, take(&breaker, 11 * S), BREAKER_SUCCESS, 11 * S);
    breaker_release(&breaker, old[2], BREAKER_FAILURE, 11 * S);
    assert_int_equal(state_of(&breaker), BREAKER_CLOSED);
}

static void reset_closes_it_and_makes_permits_stale(void **unused)
{
    (void)unused;
    struct breaker breaker;
    struct breaker_options options = options_of(1, 1, 1);
    options.on_transition = NULL;
    breaker_init(&breaker, &options, 0);
    open_by_failures(&breaker, 1, 0);
    const struct breaker_permit probe = take(&breaker, 10 * S);
    breaker_reset(&breaker, &options, 11 * S);
    breaker_release(&breaker, probe, BREAKER_FAILURE, 11 * S);
    assert_int_equal(state_of(&breaker), BREAKER_CLOSED);
}

static void deadlines_at_the_end_of_time_do_not_wrap(void **unused)
{
    (void)unused;
    struct breaker breaker;
    struct breaker_options options = options_of(1, 1, 1);
    options.open_ns = UINT64_MAX;
    breaker_init(&breaker, &options, 0);
    open_by_failures(&breaker, 1, 50);
    assert_int_equal(refused(&breaker, UINT64_MAX - 1), 1);
}

/* ---- the second breaker ----------------------------------------------------------------------------------------------- */

enum { CALLS_MAX = 8, HISTORY_MAX = 64 };

struct spec {
    enum breaker_state state;
    uint64_t open_until_ns;
    uint32_t successes;
    uint32_t history_count;
    bool history[HISTORY_MAX]; /* failures since it closed, oldest first */
};

struct call {
    bool is_out, is_stale, is_probe;
    uint64_t deadline_ns;
    struct breaker_permit permit;
};

struct world {
    struct breaker breaker;
    struct spec spec;
    struct call calls[CALLS_MAX];
    uint64_t now_ns;
};

static void spec_enter(struct world *world, enum breaker_state state)
{
    world->spec = (struct spec){.state = state};
    if (state == BREAKER_OPEN)
        world->spec.open_until_ns = world->now_ns + world->breaker.options.open_ns;
    for (int i = 0; i < CALLS_MAX; i++)
        world->calls[i].is_stale = true;
}

static uint32_t spec_probes_out(const struct world *world)
{
    uint32_t count = 0;
    for (int i = 0; i < CALLS_MAX; i++)
        count += world->calls[i].is_out && !world->calls[i].is_stale && world->calls[i].is_probe;
    return count;
}

static void spec_expire(struct world *world)
{
    for (int i = 0; i < CALLS_MAX; i++)
        if (world->calls[i].is_out && !world->calls[i].is_stale && world->calls[i].is_probe &&
            world->calls[i].deadline_ns <= world->now_ns) {
            spec_enter(world, BREAKER_OPEN);
            return;
        }
}

static bool spec_acquire(struct world *world)
{
    spec_expire(world);
    if (world->spec.state == BREAKER_OPEN && world->now_ns >= world->spec.open_until_ns)
        spec_enter(world, BREAKER_HALF_OPEN);
    return world->spec.state == BREAKER_CLOSED ||
           (world->spec.state == BREAKER_HALF_OPEN && spec_probes_out(world) < world->breaker.options.probe_count_max);
}

static void spec_closed_verdict(struct world *world, bool is_failure)
{
    const struct breaker_options *const options = &world->breaker.options;
    struct spec *const spec = &world->spec;
    uint32_t failures = 0, row = 0;
    if (spec->history_count == HISTORY_MAX) { /* the window is far smaller: drop the oldest half */
        spec->history_count = HISTORY_MAX / 2;
        for (uint32_t i = 0; i < HISTORY_MAX / 2; i++)
            spec->history[i] = spec->history[i + HISTORY_MAX / 2];
    }
    spec->history[spec->history_count++] = is_failure;
    const uint32_t count = spec->history_count < options->window_size ? spec->history_count : options->window_size;
    for (uint32_t i = spec->history_count - count; i < spec->history_count; i++)
        failures += spec->history[i];
    while (row < spec->history_count && spec->history[spec->history_count - 1 - row])
        row++;
    if ((options->failure_count_max && row >= options->failure_count_max) ||
        (options->error_per_mille && count >= options->window_count_min &&
         failures * 1000 >= options->error_per_mille * count))
        spec_enter(world, BREAKER_OPEN);
}

static void spec_release(struct world *world, struct call *call, enum breaker_verdict verdict)
{
    spec_expire(world);
    call->is_out = false;
    if (call->is_stale || verdict == BREAKER_NEUTRAL)
        return;
    if (world->spec.state == BREAKER_CLOSED)
        spec_closed_verdict(world, verdict == BREAKER_FAILURE);
    else if (verdict == BREAKER_FAILURE)
        spec_enter(world, BREAKER_OPEN);
    else if (++world->spec.successes >= world->breaker.options.success_count)
        spec_enter(world, BREAKER_CLOSED);
}

static void compare(const struct world *world)
{
    struct breaker_snapshot snapshot;
    breaker_get_snapshot(&world->breaker, &snapshot);
    assert_int_equal(snapshot.state, world->spec.state);
    assert_int_equal(snapshot.probe_count, spec_probes_out(world));
    assert_true(snapshot.probe_count <= world->breaker.options.probe_count_max);
    assert_true(snapshot.probe_count == 0 || snapshot.state == BREAKER_HALF_OPEN);
}

static void step_acquire(struct world *world)
{
    struct call *call = NULL;
    for (int i = 0; i < CALLS_MAX && call == NULL; i++)
        if (!world->calls[i].is_out)
            call = &world->calls[i];
    if (call == NULL)
        return;
    uint64_t retry_after_ns = 0;
    const bool is_allowed = spec_acquire(world);
    const enum err err = breaker_acquire(&world->breaker, world->now_ns, &call->permit, &retry_after_ns);
    assert_int_equal(err, is_allowed ? OK : ERR_BREAKER_OPEN);
    assert_true(is_allowed || retry_after_ns > 0);
    if (is_allowed)
        *call = (struct call){.is_out = true,
                              .is_probe = world->spec.state == BREAKER_HALF_OPEN,
                              .deadline_ns = world->now_ns + world->breaker.options.probe_ns_max,
                              .permit = call->permit};
}

static void step_release(struct world *world, struct call *call, enum breaker_verdict verdict)
{
    spec_release(world, call, verdict);
    breaker_release(&world->breaker, call->permit, verdict, world->now_ns);
}

static void world_init(struct world *world, const struct breaker_options *options)
{
    *world = (struct world){.spec = {.state = BREAKER_CLOSED}};
    breaker_init(&world->breaker, options, 0);
}

static uint64_t explored;

/* Every sequence of acquire, release with each verdict, and time, up to `depth` steps. */
static void explore(const struct world *world, int depth)
{
    explored++;
    if (depth == 0)
        return;
    struct world next = *world;
    step_acquire(&next);
    compare(&next);
    explore(&next, depth - 1);
    for (int i = 0; i < CALLS_MAX; i++)
        for (int verdict = 0; verdict < 3 && world->calls[i].is_out; verdict++) {
            next = *world;
            step_release(&next, &next.calls[i], (enum breaker_verdict)verdict);
            compare(&next);
            explore(&next, depth - 1);
        }
    for (int seconds = 5; seconds <= 10; seconds += 5) { /* a lease's time, the open time */
        next = *world;
        next.now_ns += (uint64_t)seconds * S;
        explore(&next, depth - 1);
    }
}

static void every_short_sequence_does_what_the_rules_say(void **unused)
{
    (void)unused;
    for (uint32_t probes = 1; probes <= 3; probes++) {
        struct world world;
        const struct breaker_options options = options_of(1, probes, 2);
        world_init(&world, &options);
        /* The first steps have one way only: a failure opens it, and its time passes. */
        step_acquire(&world);
        step_release(&world, &world.calls[0], BREAKER_FAILURE);
        world.now_ns += 10 * S;
        explore(&world, 7);
    }
    assert_true(explored > 50000);
}

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33);
}

static void a_million_random_steps_do_what_the_rules_say(void **unused)
{
    (void)unused;
    uint64_t seed = 20261120;
    uint32_t reached[BREAKER_STATE_COUNT] = {0};
    for (int run = 0; run < 100; run++) {
        struct world world;
        struct breaker_options options =
            options_of(next_random(&seed) % 5, 1 + next_random(&seed) % 3, 1 + next_random(&seed) % 3);
        options.error_per_mille = next_random(&seed) % 3 ? 200 + next_random(&seed) % 800 : 0;
        options.window_size = 1 + next_random(&seed) % 20;
        options.window_count_min = 1 + next_random(&seed) % options.window_size;
        world_init(&world, &options);
        for (int step = 0; step < 10000; step++) {
            struct call *const call = &world.calls[next_random(&seed) % CALLS_MAX];
            const uint32_t what = next_random(&seed) % 20;
            if (what < 9)
                step_acquire(&world);
            else if (what < 17 && call->is_out)
                step_release(&world, call, what < 13 ? BREAKER_SUCCESS : what < 16 ? BREAKER_FAILURE : BREAKER_NEUTRAL);
            else if (what >= 17)
                world.now_ns += next_random(&seed) % (4 * S);
            compare(&world);
            reached[world.spec.state]++;
        }
    }
    for (int state = 0; state < BREAKER_STATE_COUNT; state++)
        assert_true(reached[state] > 10000); /* else the steps no longer lead there, and nothing was compared */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_at_exactly_the_failures_in_a_row),
        cmocka_unit_test(opens_at_the_error_rate_but_not_below_the_minimum),
        cmocka_unit_test(the_window_forgets_what_left_it),
        cmocka_unit_test(half_open_lets_no_more_probes_through_than_it_has_leases),
        cmocka_unit_test(a_probe_that_never_reports_counts_as_failed),
        cmocka_unit_test(a_lease_given_back_at_its_deadline_has_failed),
        cmocka_unit_test(a_neutral_probe_gives_its_lease_back_without_a_verdict),
        cmocka_unit_test(verdicts_of_calls_from_before_it_opened_change_nothing),
        cmocka_unit_test(reset_closes_it_and_makes_permits_stale),
        cmocka_unit_test(deadlines_at_the_end_of_time_do_not_wrap),
        cmocka_unit_test(every_short_sequence_does_what_the_rules_say),
        cmocka_unit_test(a_million_random_steps_do_what_the_rules_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
