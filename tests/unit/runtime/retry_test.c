/* SPDX-License-Identifier: Apache-2.0 */
/* retry: the ceiling's growth, both jitters at the ends of the random range, the floor of Retry-After, and the budget. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "runtime/retry.h"

#define MS UINT64_C(1000000)

static const struct retry_policy full = {
    .attempt_count_max = 10, .backoff_ns_min = 500 * MS, .backoff_ns_max = 8000 * MS};

static uint64_t delay(const struct retry_policy *policy, uint32_t attempts, uint64_t retry_after_ns, uint64_t random)
{
    uint64_t delay_ns = UINT64_MAX;
    assert_true(retry_next(policy, attempts, retry_after_ns, random, &delay_ns));
    return delay_ns;
}

static void the_ceiling_doubles_from_min_to_max(void **unused)
{
    (void)unused;
    /* A random number that is the ceiling itself picks it. */
    assert_int_equal(delay(&full, 1, 0, 500 * MS), 500 * MS);
    assert_int_equal(delay(&full, 2, 0, 1000 * MS), 1000 * MS);
    assert_int_equal(delay(&full, 3, 0, 2000 * MS), 2000 * MS);
    assert_int_equal(delay(&full, 5, 0, 8000 * MS), 8000 * MS);
    assert_int_equal(delay(&full, 9, 0, 8000 * MS), 8000 * MS);
}

static void full_jitter_stays_within_zero_and_the_ceiling(void **unused)
{
    (void)unused;
    uint64_t low = UINT64_MAX, high = 0, random = 1;
    for (int i = 0; i < 10000; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        const uint64_t d = delay(&full, 2, 0, random);
        low = d < low ? d : low;
        high = d > high ? d : high;
        assert_true(d <= 1000 * MS);
    }
    assert_true(low < 10 * MS && high > 990 * MS); /* it uses the whole range */
}

static void equal_jitter_never_comes_back_at_once(void **unused)
{
    (void)unused;
    struct retry_policy equal = full;
    equal.jitter = RETRY_JITTER_EQUAL;
    assert_int_equal(delay(&equal, 2, 0, 0), 500 * MS);
    assert_int_equal(delay(&equal, 2, 0, 500 * MS), 1000 * MS);
    assert_true(delay(&equal, 2, 0, UINT64_MAX) <= 1000 * MS);
}

static void retry_after_is_a_capped_floor_under_the_jitter(void **unused)
{
    (void)unused;
    struct retry_policy policy = full;
    policy.retry_after_ns_max = 60000 * MS;
    assert_int_equal(delay(&policy, 1, 3000 * MS, 0), 3000 * MS);
    assert_int_equal(delay(&policy, 1, 3000 * MS, 200 * MS), 3200 * MS); /* not all at the same moment */
    assert_int_equal(delay(&policy, 1, UINT64_MAX, 0), 60000 * MS);
    policy.retry_after_ns_max = 0;
    assert_int_equal(delay(&policy, 1, UINT64_MAX, 0), 3600000 * MS);
}

static void the_budget_counts_the_first_attempt(void **unused)
{
    (void)unused;
    struct retry_policy policy = full;
    uint64_t delay_ns = 42;
    policy.attempt_count_max = 3;
    assert_true(retry_next(&policy, 2, 0, 0, &delay_ns));
    delay_ns = 42;
    assert_false(retry_next(&policy, 3, 0, 0, &delay_ns));
    assert_false(retry_next(&policy, 4, 0, 0, &delay_ns));
    policy.attempt_count_max = 0;
    assert_false(retry_next(&policy, 1, 0, 0, &delay_ns));
    assert_int_equal(delay_ns, 42); /* untouched */
}

static void absurd_numbers_saturate(void **unused)
{
    (void)unused;
    const struct retry_policy policy = {.attempt_count_max = UINT32_MAX,
                                        .backoff_ns_min = UINT64_MAX / 2 + 1,
                                        .backoff_ns_max = UINT64_MAX,
                                        .retry_after_ns_max = UINT64_MAX};
    assert_true(delay(&policy, 4000000000u, 0, UINT64_MAX) == UINT64_MAX);
    assert_true(delay(&policy, 2, UINT64_MAX, UINT64_MAX) == UINT64_MAX);
    const struct retry_policy none = {.attempt_count_max = 2};
    assert_int_equal(delay(&none, 1, 0, UINT64_MAX), 0);
    const struct retry_policy upside_down = {.attempt_count_max = 9, .backoff_ns_min = 100, .backoff_ns_max = 10};
    assert_true(delay(&upside_down, 1, 0, UINT64_MAX) <= 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_ceiling_doubles_from_min_to_max),
        cmocka_unit_test(full_jitter_stays_within_zero_and_the_ceiling),
        cmocka_unit_test(equal_jitter_never_comes_back_at_once),
        cmocka_unit_test(retry_after_is_a_capped_floor_under_the_jitter),
        cmocka_unit_test(the_budget_counts_the_first_attempt),
        cmocka_unit_test(absurd_numbers_saturate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
