/* SPDX-License-Identifier: Apache-2.0 */
/* restart_intensity: OTP's "more than R within T", at its borders, and against OTP's own way of counting: a list of all
 * times, cut where they are older than the period (supervisor.erl, add_restart/3). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "runtime/restart_intensity.h"

static void no_restart_at_all_when_the_count_is_zero(void **unused)
{
    (void)unused;
    struct restart_intensity intensity;
    restart_intensity_init(&intensity, 0, 1000);
    assert_false(restart_intensity_allow(&intensity, 0));
    assert_false(restart_intensity_allow(&intensity, 1000000));
}

static void as_many_as_the_count_are_allowed_and_no_more(void **unused)
{
    (void)unused;
    struct restart_intensity intensity;
    restart_intensity_init(&intensity, 5, 30);
    for (int i = 0; i < 5; i++)
        assert_true(restart_intensity_allow(&intensity, 100));
    assert_false(restart_intensity_allow(&intensity, 100));
}

static void one_exactly_a_period_old_still_counts(void **unused)
{
    (void)unused;
    struct restart_intensity intensity;
    restart_intensity_init(&intensity, 1, 30);
    assert_true(restart_intensity_allow(&intensity, 100));
    assert_false(restart_intensity_allow(&intensity, 130));
    restart_intensity_init(&intensity, 1, 30);
    assert_true(restart_intensity_allow(&intensity, 100));
    assert_true(restart_intensity_allow(&intensity, 131));
}

static void it_counts_as_otp_does(void **unused)
{
    (void)unused;
    static uint64_t times[200];
    uint64_t seed = 7;
    for (int run = 0; run < 3000; run++) {
        struct restart_intensity intensity;
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
        const uint32_t count_max = (uint32_t)(seed >> 33) % (RESTART_COUNT_MAX + 1);
        const uint64_t period = 1 + (seed >> 20) % 500;
        restart_intensity_init(&intensity, count_max, period);
        uint64_t now = 0;
        for (uint32_t n = 0; n < 200; n++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
            now += (seed >> 33) % (1 + 2 * period / (count_max + 1));
            times[n] = now;
            uint32_t within = 0;
            for (uint32_t i = 0; i <= n; i++)
                within += times[i] + period >= now;
            const bool is_allowed = restart_intensity_allow(&intensity, now);
            assert_int_equal(is_allowed, within <= count_max);
            if (!is_allowed)
                break; /* its owner has given up */
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_restart_at_all_when_the_count_is_zero),
        cmocka_unit_test(as_many_as_the_count_are_allowed_and_no_more),
        cmocka_unit_test(one_exactly_a_period_old_still_counts),
        cmocka_unit_test(it_counts_as_otp_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
