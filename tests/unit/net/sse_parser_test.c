/* SPDX-License-Identifier: Apache-2.0 */
/* sse_parser_test: guards the event stream parser: the standard's examples, line ends, limits. Each stream is fed whole, byte
 * by byte and cut in two at every place; the events must be the same (invariant S1). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/sse_parser.h"

#define TEXT(literal) slice_of((literal), sizeof(literal) - 1)

/* An event as "type|data|id|retry;". */
static void write_event(void *context, const struct sse_event *event)
{
    struct buffer *transcript = context;
    buffer_append_format(transcript, "%.*s|%.*s|%.*s|%u;", SLICE_PRINT(event->type), SLICE_PRINT(event->data),
                         SLICE_PRINT(event->id), (unsigned)event->retry_ms);
}

static enum err feed_cut(struct slice stream, size_t cut, size_t event_bytes_max, struct buffer *transcript)
{
    struct sse_parser parser;
    sse_parser_init(&parser, event_bytes_max, transcript, write_event);
    buffer_clear(transcript);
    enum err err = sse_parser_feed(&parser, slice_of(stream.data, cut));
    enum err second = sse_parser_feed(&parser, slice_of(stream.data + cut, stream.size - cut));
    assert_true(err == OK || second == err); /* a failure stays */
    sse_parser_deinit(&parser);
    return second;
}

static enum err feed_bytes(struct slice stream, size_t event_bytes_max, struct buffer *transcript)
{
    struct sse_parser parser;
    sse_parser_init(&parser, event_bytes_max, transcript, write_event);
    buffer_clear(transcript);
    enum err err = OK;
    for (size_t i = 0; i < stream.size; i++)
        err = sse_parser_feed(&parser, slice_of(stream.data + i, 1));
    sse_parser_deinit(&parser);
    return err;
}

static void expect(struct slice stream, size_t event_bytes_max, enum err code, const char *events)
{
    struct buffer transcript;
    buffer_init(&transcript, 1 << 16);
    for (size_t cut = 0; cut <= stream.size; cut++) {
        assert_int_equal(feed_cut(stream, cut, event_bytes_max, &transcript), code);
        assert_true(slice_has_text(buffer_slice(&transcript), events));
    }
    assert_int_equal(feed_bytes(stream, event_bytes_max, &transcript), code);
    assert_true(slice_has_text(buffer_slice(&transcript), events));
    buffer_deinit(&transcript);
}

static void the_examples_of_the_standard_are_read(void **state)
{
    (void)state;
    expect(TEXT("data: YHOO\ndata: +2\ndata: 10\n\n"), 0, OK, "message|YHOO\n+2\n10||0;");
    expect(TEXT(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"), 0, OK,
           "message|first event|1|0;message|second event||0;message| third event||0;");
    expect(TEXT("data\n\ndata\ndata\n\ndata:"), 0, OK, "message|||0;message|\n||0;");
    expect(TEXT("data:test\n\ndata: test\n\n"), 0, OK, "message|test||0;message|test||0;");
    expect(TEXT("event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\n"), 0, OK, "add|73857293||0;remove|2153||0;");
}

static void every_line_end_is_the_same_line_end(void **state)
{
    (void)state;
    const char *events = "message|a\nb||0;message|c||0;";
    expect(TEXT("data:a\ndata:b\n\ndata:c\n\n"), 0, OK, events);
    expect(TEXT("data:a\rdata:b\r\rdata:c\r\r"), 0, OK, events);
    expect(TEXT("data:a\r\ndata:b\r\n\r\ndata:c\r\n\r\n"), 0, OK, events);
    expect(TEXT("data:a\r\ndata:b\n\r\ndata:c\r\r\n"), 0, OK, events);
    expect(TEXT("\n\n\r\r\n\ndata:a\ndata:b\n\n\n\r\n\rdata:c\n\n"), 0, OK, events);
}

static void a_byte_order_mark_is_skipped_only_at_the_beginning(void **state)
{
    (void)state;
    expect(TEXT("\xef\xbb\xbf"
                "data: a\n\n"),
           0, OK, "message|a||0;");
    expect(TEXT("\xef\xbb\xbf\xef\xbb\xbf"
                "data: a\n\n"),
           0, OK, "");
    expect(TEXT("data: a\n\xef\xbb\xbf"
                "data: b\n\n"),
           0, OK, "message|a||0;");
    expect(TEXT("\xef\xbb"
                "data: a\n\n"),
           0, OK, "");
}

static void fields_without_meaning_are_ignored(void **state)
{
    (void)state;
    expect(TEXT("foo: bar\ndata : x\nDATA: y\n data: z\n:data: c\n\n"), 0, OK, "");
    expect(TEXT("retry: 10\nretry: -1\nretry: 2s\nretry:\nretry: 9999999999999\ndata: a\n\n"), 0, OK, "message|a||10;");
    expect(TEXT("id: 1\nid: 2\0003\ndata: a\n\n"), 0, OK, "message|a|1|0;");
    expect(TEXT("event: x\n\ndata: a\n\n"), 0, OK, "message|a||0;"); /* a type dies with its empty event */
}

static void an_unfinished_event_is_dropped(void **state)
{
    (void)state;
    expect(TEXT("data: a\n\ndata: lost\n"), 0, OK, "message|a||0;");
    expect(TEXT("data: lost"), 0, OK, "");
}

static void nothing_is_interpreted_after_an_event_over_the_cap(void **state)
{
    (void)state;
    expect(TEXT("data: 12345678\n\n"), 14, OK, "message|12345678||0;");
    expect(TEXT("data: 123456789\n\ndata: b\n\n"), 14, ERR_LIMIT, "");
    expect(TEXT("data: a\n\n: a comment that is too long\ndata: b\n\n"), 14, ERR_LIMIT, "message|a||0;");
    /* The sum of what is held counts, the id of an earlier event too. */
    expect(TEXT("data: 1234\ndata: 1234\n\n"), 14, ERR_LIMIT, "");
    expect(TEXT("id: 1234567\ndata: a\n\ndata: 12\n\n"), 14, ERR_LIMIT, "message|a|1234567|0;");
    /* Events one after the other do not add up. */
    expect(TEXT("data: 12345678\n\ndata: 12345678\n\n"), 14, OK, "message|12345678||0;message|12345678||0;");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_examples_of_the_standard_are_read),
        cmocka_unit_test(every_line_end_is_the_same_line_end),
        cmocka_unit_test(a_byte_order_mark_is_skipped_only_at_the_beginning),
        cmocka_unit_test(fields_without_meaning_are_ignored),
        cmocka_unit_test(an_unfinished_event_is_dropped),
        cmocka_unit_test(nothing_is_interpreted_after_an_event_over_the_cap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
