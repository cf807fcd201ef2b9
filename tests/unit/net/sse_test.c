/* SPDX-License-Identifier: Apache-2.0 */
/* The event-stream writer: row C1 of the bad-input catalogue. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "net/sse.h"

static void writes(const char *id, const char *event, struct slice data, const char *expected)
{
    struct buffer out;
    buffer_init(&out, 4096);
    assert_int_equal(sse_write_event(&out, slice_from_text(id), slice_from_text(event), data), OK);
    assert_int_equal(out.size, strlen(expected));
    assert_memory_equal(out.data, expected, out.size);
    buffer_deinit(&out);
}

static void an_event_has_id_name_and_data(void **state)
{
    (void)state;
    writes("7", "turn.completed", SLICE_LITERAL("{\"a\":1}"), "id: 7\nevent: turn.completed\ndata: {\"a\":1}\n\n");
    writes("", "", SLICE_LITERAL("x"), "data: x\n\n");
    writes(NULL, NULL, (struct slice){0}, "data: \n\n");
}

static void data_cannot_become_a_field(void **state)
{
    (void)state;
    writes("1", "", SLICE_LITERAL("a\nevent: forged"), "id: 1\ndata: a\ndata: event: forged\n\n");
    writes("1", "", SLICE_LITERAL("a\revent: forged"), "id: 1\ndata: a\ndata: event: forged\n\n");
    writes("1", "", SLICE_LITERAL("a\r\nevent: forged"), "id: 1\ndata: a\ndata: event: forged\n\n");
    writes("1", "", SLICE_LITERAL("a\n\n\r\rid: 9"), "id: 1\ndata: a\ndata: \ndata: \ndata: \ndata: id: 9\n\n");
    writes("1", "", SLICE_LITERAL("\n"), "id: 1\ndata: \ndata: \n\n");
    writes("1", "", SLICE_LITERAL("a\r"), "id: 1\ndata: a\ndata: \n\n");
}

static void ids_and_names_that_could_end_their_line_are_refused(void **state)
{
    (void)state;
    const struct slice bad[] = {SLICE_LITERAL("a\nb"), SLICE_LITERAL("a\rb"), SLICE_LITERAL("a\0b"), SLICE_LITERAL("\n"),
                                SLICE_LITERAL("a\r\n")};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct buffer out;
        buffer_init(&out, 4096);
        assert_int_equal(sse_write_event(&out, bad[i], SLICE_LITERAL("ok"), SLICE_LITERAL("x")), ERR_INVALID);
        assert_int_equal(sse_write_event(&out, SLICE_LITERAL("ok"), bad[i], SLICE_LITERAL("x")), ERR_INVALID);
        assert_int_equal(out.size, 0);
        buffer_deinit(&out);
    }
}

static void a_comment_stays_a_comment(void **state)
{
    (void)state;
    struct buffer out;
    buffer_init(&out, 4096);
    sse_write_comment(&out, SLICE_LITERAL("a\ndata: forged"));
    sse_write_comment(&out, (struct slice){0});
    sse_write_retry(&out, 1500);
    assert_true(slice_has_text(buffer_slice(&out), ": a\n: data: forged\n\n: \n\nretry: 1500\n\n"));
    buffer_deinit(&out);
}

static void a_full_buffer_shows(void **state)
{
    (void)state;
    struct buffer out;
    buffer_init(&out, 8);
    assert_int_equal(sse_write_event(&out, SLICE_LITERAL("1"), SLICE_LITERAL("abc"), SLICE_LITERAL("abcdef")), OK);
    assert_true(out.is_overflow);
    buffer_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_has_id_name_and_data),
        cmocka_unit_test(data_cannot_become_a_field),
        cmocka_unit_test(ids_and_names_that_could_end_their_line_are_refused),
        cmocka_unit_test(a_comment_stays_a_comment),
        cmocka_unit_test(a_full_buffer_shows),
    };
    return cmocka_run_group_tests_name("sse", tests, NULL, NULL);
}
