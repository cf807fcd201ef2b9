/* SPDX-License-Identifier: Apache-2.0 */
/* log: no input can break a line, forge another or reach a terminal as more than text; a slow sink costs lines, not time.
 * Linked against the simulated clock: the time in a line is known. */
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/log.h"
#include "runtime/ring_sim.h"

static struct {
    char text[1 << 16];
    size_t size, lines;
} seen;

static void see_line(void *context, struct slice line)
{
    (void)context;
    assert_true(seen.size + line.size < sizeof seen.text);
    memcpy(seen.text + seen.size, line.data, line.size);
    seen.size += line.size;
    seen.text[seen.size] = '\0';
    seen.lines++;
    /* Whatever came in: one line, one JSON object, no byte that is not printable. */
    assert_int_equal(line.data[line.size - 1], '\n');
    assert_null(memchr(line.data, '\n', line.size - 1));
    for (size_t i = 0; i < line.size - 1; i++)
        assert_true((unsigned char)line.data[i] >= 0x20 && line.data[i] != 0x7F);
    json_t *parsed = json_loadb(line.data, line.size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    assert_non_null(parsed);
    json_decref(parsed);
}

static int set_up(void **state)
{
    (void)state;
    memset(&seen, 0, sizeof seen);
    sim_world_reset(1, NULL);
    log_set_level(LOG_INFO);
    log_set_sink(see_line, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    log_set_sink(NULL, NULL);
    return 0;
}

static void line_is_event_and_fields(void **state)
{
    (void)state;
    LOG(LOG_WARN, "conn_refused", LOG_TEXT("reason", "accept_cap"), LOG_UINT("cap", INT64_MAX), LOG_INT("left", -1),
        LOG_ERR(ERR_LIMIT));
    assert_string_equal(seen.text, "{\"ts\":\"2026-01-01T00:00:01.000Z\",\"level\":\"warn\",\"event\":\"conn_refused\","
                                   "\"reason\":\"accept_cap\",\"cap\":9223372036854775807,\"left\":-1,"
                                   "\"error\":\"ERR_LIMIT\"}\n");
}

static void level_below_the_chosen_is_silent(void **state)
{
    (void)state;
    LOG(LOG_DEBUG, "quiet");
    assert_int_equal(seen.lines, 0);
    log_set_level(LOG_DEBUG);
    LOG(LOG_DEBUG, "loud");
    assert_int_equal(seen.lines, 1);
}

static void log_value(const char *bytes, size_t size)
{
    seen.size = 0;
    LOG(LOG_INFO, "e", LOG_SLICE("v", slice_of(bytes, size)));
}

#define ASSERT_VALUE(input, expected)                                                                                    \
    do {                                                                                                                 \
        log_value((input), sizeof(input) - 1);                                                                           \
        assert_non_null(strstr(seen.text, "\"v\":\"" expected "\"}\n"));                                                 \
    } while (0)

static void hostile_bytes_are_escaped(void **state)
{
    (void)state;
    ASSERT_VALUE("a\r\nb", "a\\u000d\\u000ab");
    ASSERT_VALUE("\x1b[2J", "\\u001b[2J");
    ASSERT_VALUE("nul\0nul", "nul\\u0000nul");
    ASSERT_VALUE("\"},{\"level\":\"error", "\\\"},{\\\"level\\\":\\\"error");
    ASSERT_VALUE("back\\slash", "back\\\\slash");
    ASSERT_VALUE("\x7f", "\\u007f");
    ASSERT_VALUE("\xc2\x9b"
                 "31m",
                 "\\u009b31m"); /* C1: CSI in one character */
    ASSERT_VALUE("\xe2\x80\xa8\xe2\x80\xa9", "\\u2028\\u2029");
    ASSERT_VALUE("%s%n%1000000d", "%s%n%1000000d");
    ASSERT_VALUE("a\xc3\xa3o \xf0\x9f\x8e\xb6", "a\xc3\xa3o \xf0\x9f\x8e\xb6");
}

static void invalid_utf8_becomes_a_replacement(void **state)
{
    (void)state;
    ASSERT_VALUE("\xff", "\\ufffd");
    ASSERT_VALUE("\xc0\xaf", "\\ufffd\\ufffd");            /* overlong '/' */
    ASSERT_VALUE("\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"); /* surrogate */
    ASSERT_VALUE("\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd");
    ASSERT_VALUE("\xe2\x82", "\\ufffd\\ufffd"); /* cut short */
    ASSERT_VALUE("\xe0\x80\xaf", "\\ufffd\\ufffd\\ufffd");
    ASSERT_VALUE("\x80x", "\\ufffdx");
}

static void long_value_is_cut_with_a_mark(void **state)
{
    (void)state;
    static char bytes[1 << 20];
    memset(bytes, 'x', sizeof bytes);
    log_value(bytes, sizeof bytes);
    assert_true(seen.size < 1200);
    assert_non_null(strstr(seen.text, "xxx\xe2\x80\xa6\"}\n"));
    memset(bytes, 0x1b, sizeof bytes);
    log_value(bytes, sizeof bytes);
    assert_true(seen.size < 1200);
    /* Never inside a character or an escape. */
    for (size_t i = 0; i + 3 <= sizeof bytes; i += 3)
        memcpy(bytes + i, "\xe2\x82\xac", 3);
    log_value(bytes, sizeof bytes);
    assert_null(strstr(seen.text, "fffd"));
}

static void too_many_fields_are_cut_with_a_mark(void **state)
{
    (void)state;
    char value[1000];
    memset(value, 'v', sizeof value);
    struct log_field fields[40];
    for (int i = 0; i < 40; i++)
        fields[i] = LOG_SLICE("v", slice_of(value, sizeof value));
    fields[1].key = "w"; /* see_line refuses duplicates */
    fields[2].key = "x";
    fields[3].key = "y";
    log_write(LOG_INFO, "wide", fields, 40);
    assert_true(seen.size <= 4096);
    assert_non_null(strstr(seen.text, ",\"cut\":true}\n"));
}

/* stderr becomes a pipe that nobody reads: the writers go on, lines are dropped and counted, and the stop still comes. */
static void slow_sink_drops_and_counts(void **state)
{
    (void)state;
    log_set_sink(NULL, NULL);
    int ends[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    dup2(ends[1], STDERR_FILENO);
    struct error error;
    assert_int_equal(log_start(&error), OK);
    uint64_t before = log_dropped_count();
    char value[1000];
    memset(value, 'v', sizeof value);
    for (int i = 0; i < 2000; i++)
        LOG(LOG_INFO, "flood", LOG_SLICE("v", slice_of(value, sizeof value)));
    time_t stopped = time(NULL);
    log_stop();
    assert_true(time(NULL) - stopped < 4); /* one second for the sink, and no more for each line that is left */
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(ends[1]);
    size_t lines = 0;
    char bytes[4096];
    for (ssize_t got; (got = read(ends[0], bytes, sizeof bytes)) > 0;)
        for (ssize_t i = 0; i < got; i++)
            lines += bytes[i] == '\n';
    close(ends[0]);
    uint64_t dropped = log_dropped_count() - before;
    assert_true(dropped > 0);
    assert_int_equal(lines + dropped, 2000);
}

static void stop_writes_what_is_queued(void **state)
{
    (void)state;
    log_set_sink(NULL, NULL);
    int ends[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    dup2(ends[1], STDERR_FILENO);
    struct error error;
    assert_int_equal(log_start(&error), OK);
    for (int i = 0; i < 100; i++)
        LOG(LOG_INFO, "e", LOG_INT("i", i));
    log_stop();
    LOG(LOG_INFO, "direct_after_stop");
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(ends[1]);
    FILE *file = fdopen(ends[0], "r");
    char line[4096];
    int count = 0;
    while (fgets(line, sizeof line, file)) {
        char expected[32];
        snprintf(expected, sizeof expected, "\"i\":%d}", count);
        assert_non_null(strstr(line, count < 100 ? expected : "direct_after_stop"));
        count++;
    }
    fclose(file);
    assert_int_equal(count, 101);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(line_is_event_and_fields, set_up, tear_down),
        cmocka_unit_test_setup_teardown(level_below_the_chosen_is_silent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(hostile_bytes_are_escaped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(invalid_utf8_becomes_a_replacement, set_up, tear_down),
        cmocka_unit_test_setup_teardown(long_value_is_cut_with_a_mark, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_many_fields_are_cut_with_a_mark, set_up, tear_down),
        cmocka_unit_test_setup_teardown(slow_sink_drops_and_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stop_writes_what_is_queued, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
