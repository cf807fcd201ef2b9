/* SPDX-License-Identifier: Apache-2.0 */
/* buffer: grows to its maximum and not a byte further; what it holds is a prefix of what was written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/buffer.h"

static void assert_holds(const struct buffer *buffer, const char *text)
{
    assert_int_equal(buffer->size, strlen(text));
    assert_memory_equal(buffer->data, text, strlen(text));
}

static void appends_in_order_over_many_growths(void **state)
{
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer, 1 << 20);
    for (int i = 0; i < 20000; i++) {
        buffer_append_text(&buffer, "ab");
        buffer_append_byte(&buffer, 'c');
        buffer_append_slice(&buffer, SLICE_LITERAL("de"));
        buffer_append_format(&buffer, "%05d", i);
    }
    assert_false(buffer.is_overflow);
    assert_int_equal(buffer.size, 20000 * 10);
    assert_memory_equal(buffer.data + 199990, "abcde19999", 10);
    assert_true(buffer.capacity <= 1 << 20);
    buffer_deinit(&buffer);
    assert_null(buffer.data);
}

static void exactly_the_maximum_fits_and_one_more_does_not(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        struct buffer buffer;
        buffer_init(&buffer, 5);
        if (way == 0)
            buffer_append_text(&buffer, "12345");
        else
            buffer_append_format(&buffer, "%d", 12345);
        assert_false(buffer.is_overflow);
        assert_holds(&buffer, "12345");
        if (way == 0)
            buffer_append_byte(&buffer, '6');
        else
            buffer_append_format(&buffer, "%d", 6);
        assert_true(buffer.is_overflow);
        assert_holds(&buffer, "12345");
        buffer_deinit(&buffer);
    }
}

static void nothing_follows_a_hole(void **state)
{
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer, 4);
    buffer_append_text(&buffer, "ab");
    buffer_append_text(&buffer, "too long");
    buffer_append_text(&buffer, "c");
    buffer_append_format(&buffer, "%c", 'd');
    assert_null(buffer_reserve(&buffer, 1));
    assert_holds(&buffer, "ab");
    assert_true(buffer.is_overflow);
    buffer_clear(&buffer);
    assert_false(buffer.is_overflow);
    buffer_append_text(&buffer, "cd");
    assert_holds(&buffer, "cd");
    buffer_deinit(&buffer);
}

static void sizes_near_the_end_of_the_range_do_not_wrap(void **state)
{
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer, 100);
    buffer_append_text(&buffer, "ab");
    assert_null(buffer_reserve(&buffer, SIZE_MAX));
    assert_true(buffer.is_overflow);
    assert_holds(&buffer, "ab");
    buffer_deinit(&buffer);
}

static void front_is_removed_and_the_rest_stays(void **state)
{
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer, 100);
    buffer_append_text(&buffer, "headtail");
    buffer_remove_front(&buffer, 4);
    assert_holds(&buffer, "tail");
    buffer_remove_front(&buffer, 0);
    buffer_remove_front(&buffer, 4);
    assert_int_equal(buffer.size, 0);
    buffer_deinit(&buffer);
}

static void zeroed_buffer_is_valid_and_takes_nothing(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    buffer_append(&buffer, NULL, 0);
    buffer_append_text(&buffer, "");
    assert_false(buffer.is_overflow);
    buffer_append_byte(&buffer, 'x');
    assert_true(buffer.is_overflow);
    buffer_remove_front(&buffer, 0);
    buffer_deinit(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_in_order_over_many_growths),
        cmocka_unit_test(exactly_the_maximum_fits_and_one_more_does_not),
        cmocka_unit_test(nothing_follows_a_hole),
        cmocka_unit_test(sizes_near_the_end_of_the_range_do_not_wrap),
        cmocka_unit_test(front_is_removed_and_the_rest_stays),
        cmocka_unit_test(zeroed_buffer_is_valid_and_takes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
