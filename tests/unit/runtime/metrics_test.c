/* SPDX-License-Identifier: Apache-2.0 */
/* metrics: the text is what Prometheus reads (HELP and TYPE once a name, cumulative buckets), and no count is lost between
 * threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/buffer.h"
#include "runtime/clock.h"
#include "runtime/metrics.h"

static struct buffer text;

static void write_text(void)
{
    buffer_deinit(&text);
    buffer_init(&text, 1 << 20);
    metrics_write_text(&text);
    buffer_append_byte(&text, '\0');
    assert_false(text.is_overflow);
}

static int count_of(const char *needle)
{
    int count = 0;
    for (const char *at = strstr(text.data, needle); at; at = strstr(at + 1, needle))
        count++;
    return count;
}

static void same_name_and_labels_is_the_same_metric(void **state)
{
    (void)state;
    struct metric first = metrics_register_counter("test_same_total", "Help.", "a=\"1\"");
    assert_true(first.index > 0);
    assert_int_equal(metrics_register_counter("test_same_total", "Help.", "a=\"1\"").index, first.index);
    assert_int_not_equal(metrics_register_counter("test_same_total", "Help.", "a=\"2\"").index, first.index);
}

static void zero_metric_is_ignored(void **state)
{
    (void)state;
    metrics_add((struct metric){0}, 1);
    metrics_set((struct metric){0}, 1);
    metrics_observe_ns((struct metric){0}, 1);
    assert_int_equal(metrics_read((struct metric){0}), 0);
}

static void help_and_type_stand_once_and_label_sets_together(void **state)
{
    (void)state;
    struct metric a = metrics_register_counter("test_group_total", "Grouped.", "r=\"a\"");
    (void)metrics_register_gauge("test_between", "Between.", NULL);
    struct metric b = metrics_register_counter("test_group_total", "Grouped.", "r=\"b\"");
    metrics_add(a, 3);
    metrics_add(b, UINT64_C(1) << 40);
    write_text();
    assert_non_null(strstr(text.data,
                           "# HELP ciranda_test_group_total Grouped.\n# TYPE ciranda_test_group_total counter\n"
                           "ciranda_test_group_total{r=\"a\"} 3\n"
                           "ciranda_test_group_total{r=\"b\"} 1099511627776\n"));
    assert_int_equal(count_of("# TYPE ciranda_test_group_total "), 1);
}

static void gauge_may_be_negative(void **state)
{
    (void)state;
    struct metric gauge = metrics_register_gauge("test_gauge", "Gauge.", NULL);
    metrics_set(gauge, 7);
    metrics_set(gauge, -5);
    write_text();
    assert_non_null(strstr(text.data, "# TYPE ciranda_test_gauge gauge\nciranda_test_gauge -5\n"));
}

static void buckets_are_cumulative_and_bounds_inclusive(void **state)
{
    (void)state;
    struct metric histogram = metrics_register_histogram("test_seconds", "Time.", "k=\"v\"");
    metrics_observe_ns(histogram, 0);
    metrics_observe_ns(histogram, 1000);              /* le 1e-06, inclusive */
    metrics_observe_ns(histogram, 1001);              /* le 2e-06 */
    metrics_observe_ns(histogram, 100000000000);      /* le 100 */
    metrics_observe_ns(histogram, UINT64_C(1) << 40); /* +Inf */
    write_text();
    assert_non_null(strstr(text.data, "_bucket{k=\"v\",le=\"1e-06\"} 2\n"));
    assert_non_null(strstr(text.data, "_bucket{k=\"v\",le=\"2e-06\"} 3\n"));
    assert_non_null(strstr(text.data, "_bucket{k=\"v\",le=\"50\"} 3\n"));
    assert_non_null(strstr(text.data, "_bucket{k=\"v\",le=\"100\"} 4\n"));
    assert_non_null(strstr(text.data, "_bucket{k=\"v\",le=\"+Inf\"} 5\n"));
    assert_non_null(strstr(text.data, "ciranda_test_seconds_count{k=\"v\"} 5\n"));
    assert_non_null(strstr(text.data, "ciranda_test_seconds_sum{k=\"v\"} 1199.511629777\n"));
    assert_int_equal(metrics_read(histogram), 5);
}

static void *add_many(void *metric)
{
    for (int i = 0; i < 100000; i++)
        metrics_add(*(struct metric *)metric, 1);
    return NULL;
}

static void threads_that_are_no_workers_lose_no_count(void **state)
{
    (void)state;
    struct metric counter = metrics_register_counter("test_threads_total", "Threads.", NULL);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, &counter), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(metrics_read(counter), 400000);
}

static void reset_forgets_counts_and_keeps_names(void **state)
{
    (void)state;
    struct metric counter = metrics_register_counter("test_reset_total", "Reset.", NULL);
    metrics_add(counter, 9);
    metrics_reset();
    assert_int_equal(metrics_read(counter), 0);
    assert_int_equal(metrics_register_counter("test_reset_total", "Reset.", NULL).index, counter.index);
}

static void process_metrics_are_plausible(void **state)
{
    (void)state;
    struct buffer process;
    buffer_init(&process, 4096);
    metrics_write_process(&process, clock_mono_ns());
    buffer_append_byte(&process, '\0');
    assert_false(process.is_overflow);
    const char *descriptors = strstr(process.data, "\nprocess_open_fds ");
    assert_non_null(descriptors);
    int count = 0;
    assert_int_equal(sscanf(descriptors, "\nprocess_open_fds %d", &count), 1);
    assert_in_range(count, 3, 1000);
    assert_null(strstr(process.data, "process_resident_memory_bytes 0\n"));
    assert_non_null(strstr(process.data, "ciranda_uptime_seconds 0."));
    buffer_deinit(&process);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_name_and_labels_is_the_same_metric),
        cmocka_unit_test(zero_metric_is_ignored),
        cmocka_unit_test(help_and_type_stand_once_and_label_sets_together),
        cmocka_unit_test(gauge_may_be_negative),
        cmocka_unit_test(buckets_are_cumulative_and_bounds_inclusive),
        cmocka_unit_test(threads_that_are_no_workers_lose_no_count),
        cmocka_unit_test(reset_forgets_counts_and_keeps_names),
        cmocka_unit_test(process_metrics_are_plausible),
    };
    int result = cmocka_run_group_tests(tests, NULL, NULL);
    buffer_deinit(&text);
    return result;
}
