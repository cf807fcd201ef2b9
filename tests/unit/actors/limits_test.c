/* SPDX-License-Identifier: Apache-2.0 */
/* limits_test: L1-L3 of limits.h, time passed in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>

#include "actors/limits.h"

static const uint64_t SECOND = 1000000000;
static const struct slice tenant = {.data = "t", .size = 1};
static struct limits *limits;

static int create(void **state)
{
    (void)state;
    return limits_create(&limits) == OK ? 0 : -1;
}

static int destroy(void **state)
{
    (void)state;
    limits_destroy(limits);
    return 0;
}

static bool take(const char *customer, const struct limit *limit, uint64_t now_ns)
{
    uint64_t retry_after_ns = 0;
    bool is_taken =
        limits_take(limits, LIMIT_CUSTOMER, tenant, slice_from_text(customer), limit, now_ns, &retry_after_ns);
    assert_true(is_taken || retry_after_ns > 0);
    return is_taken;
}

static void no_limit_never_refuses(void **state)
{
    (void)state;
    const struct limit limit = {0};
    for (int i = 0; i < 1000; i++)
        assert_true(take("a", &limit, 5));
}

static void a_burst_is_allowed_and_then_one_an_interval(void **state)
{
    (void)state;
    const struct limit limit = {.messages = 10, .per_ns = SECOND};
    for (int i = 0; i < 10; i++)
        assert_true(take("a", &limit, SECOND));
    assert_false(take("a", &limit, SECOND));
    assert_false(take("a", &limit, SECOND + SECOND / 10 - 1));
    assert_true(take("a", &limit, SECOND + SECOND / 10));
    assert_false(take("a", &limit, SECOND + SECOND / 10));
}

static void no_window_holds_more_than_the_limit(void **state)
{
    (void)state;
    const struct limit limit = {.messages = 7, .per_ns = SECOND};
    uint64_t taken_ns[4096];
    uint32_t count = 0;
    for (uint64_t now_ns = SECOND; now_ns < 20 * SECOND; now_ns += 9 * SECOND / 1000) {
        if (take("a", &limit, now_ns))
            taken_ns[count++] = now_ns;
    }
    assert_true(count >= 7 * 19);
    for (uint32_t i = 0; i + 14 < count; i++)
        assert_true(taken_ns[i + 14] - taken_ns[i] >= SECOND); /* a full burst and its refill, at most */
    for (uint32_t i = 20; i + 7 < count; i++)
        assert_true(taken_ns[i + 7] - taken_ns[i] >= SECOND - 9 * SECOND / 1000);
}

static void the_answer_says_when_it_would_be_taken(void **state)
{
    (void)state;
    const struct limit limit = {.messages = 2, .per_ns = 60 * SECOND};
    uint64_t retry_after_ns = 0;
    assert_true(take("a", &limit, SECOND));
    assert_true(take("a", &limit, SECOND));
    assert_false(limits_take(limits, LIMIT_CUSTOMER, tenant, slice_from_text("a"), &limit, SECOND, &retry_after_ns));
    assert_int_equal(retry_after_ns, 30 * SECOND);
    assert_false(take("a", &limit, SECOND + retry_after_ns - 1));
    assert_true(take("a", &limit, SECOND + retry_after_ns)); /* L3: the refusals between did not push it away */
}

static void subjects_and_scopes_do_not_meet(void **state)
{
    (void)state;
    const struct limit limit = {.messages = 1, .per_ns = SECOND};
    uint64_t retry_after_ns;
    char name[32];
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "customer-%d", i);
        assert_true(take(name, &limit, SECOND)); /* of a million cells: two of eight meet once in 40,000 runs */
        assert_false(take(name, &limit, SECOND));
    }
    assert_true(
        limits_take(limits, LIMIT_TENANT, tenant, slice_from_text("customer-1"), &limit, SECOND, &retry_after_ns));
}

enum { THREADS = 4, TRIES = 20000 };

static void *hammer(void *context)
{
    const struct limit limit = {.messages = 5000, .per_ns = SECOND};
    uint32_t *taken = context;
    for (int i = 0; i < TRIES; i++) {
        uint64_t retry_after_ns;
        *taken += limits_take(limits, LIMIT_CUSTOMER, tenant, slice_from_text("hot"), &limit, SECOND, &retry_after_ns);
    }
    return NULL;
}

static void racing_workers_take_exactly_the_limit(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    uint32_t taken[THREADS] = {0}, sum = 0;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, &taken[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        sum += taken[i];
    }
    assert_int_equal(sum, 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_limit_never_refuses, create, destroy),
        cmocka_unit_test_setup_teardown(a_burst_is_allowed_and_then_one_an_interval, create, destroy),
        cmocka_unit_test_setup_teardown(no_window_holds_more_than_the_limit, create, destroy),
        cmocka_unit_test_setup_teardown(the_answer_says_when_it_would_be_taken, create, destroy),
        cmocka_unit_test_setup_teardown(subjects_and_scopes_do_not_meet, create, destroy),
        cmocka_unit_test_setup_teardown(racing_workers_take_exactly_the_limit, create, destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
