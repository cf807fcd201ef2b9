/* SPDX-License-Identifier: Apache-2.0 */
/* histogram_test: guards the load generator's histogram: percentiles against the sorted values, within 0.1 %. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bench/histogram.h"

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static void expect_close(uint64_t value, uint64_t exact)
{
    assert_true(value >= exact);
    assert_true(value - exact <= exact / 1000 + 1);
}

static void percentiles_are_those_of_the_sorted_values(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    static struct histogram histogram, half;
    static uint64_t values[COUNT];
    uint64_t random = 42;
    for (uint32_t i = 0; i < COUNT; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        values[i] = random >> (22 + random % 40); /* from a few units to 2^42 */
        histogram_record(i % 2 ? &histogram : &half, values[i]);
    }
    histogram_add(&histogram, &half);
    qsort(values, COUNT, sizeof values[0], compare);
    assert_int_equal(histogram.total, COUNT);
    assert_true(histogram.max == values[COUNT - 1]);
    static const uint32_t asked[] = {1, 100, 1000, 5000, 9000, 9900, 9990, 9999, 10000};
    for (uint32_t i = 0; i < sizeof asked / sizeof asked[0]; i++)
        expect_close(histogram_percentile(&histogram, asked[i]), values[COUNT * asked[i] / 10000 - 1]);
}

static void the_ends_of_the_range_are_counted(void **state)
{
    (void)state;
    static struct histogram histogram;
    assert_true(histogram_percentile(&histogram, 5000) == 0);
    histogram_record(&histogram, 0);
    assert_true(histogram_percentile(&histogram, 10000) == 0);
    histogram_record(&histogram, UINT64_MAX);
    assert_int_equal(histogram.total, 2);
    assert_true(histogram_percentile(&histogram, 5000) == 0);
    assert_true(histogram_percentile(&histogram, 10000) > (uint64_t)1 << 41);
    for (uint64_t value = 0; value < 5000; value++) { /* exact below 2,048, then every second, then every fourth */
        static struct histogram one;
        one = (struct histogram){0};
        histogram_record(&one, value);
        histogram_record(&one, (uint64_t)1 << 40);
        expect_close(histogram_percentile(&one, 5000), value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_those_of_the_sorted_values),
        cmocka_unit_test(the_ends_of_the_range_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
