/* SPDX-License-Identifier: Apache-2.0 */
/* GET …/stream: where it begins (row C2), that a long history leaves no faster than it is read, and how it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/api/api_world.h"

#define STREAM "/v1/conversations/c-17/stream"
#define CONVERSATION_AT_3 "{\"id\":\"c-17\",\"version\":3}"
#define ENVELOPE(version) "{\"event\":\"e." version "\",\"version\":" version "}"

static void assert_status(uint32_t exchange, int status)
{
    if (world_answer(exchange)->status != status)
        fail_msg("status %d instead of %d: %s", world_answer(exchange)->status, status, world_body(exchange));
}

/* A stream from `target` on that stands live, with nothing in its history. */
static uint32_t open_live(const char *target)
{
    uint32_t exchange = world_request("GET", target, NULL, NULL);
    world_finish_body(world_last_sent(), CONVERSATION_AT_3);
    assert_status(exchange, 200);
    world_finish_body(world_last_sent(), "{\"events\":[],\"next\":null}");
    assert_int_equal(world_last_sent()->msg.kind, CONV_SUBSCRIBE);
    return exchange;
}

static void history_comes_first_then_what_happens(void **state)
{
    (void)state;
    uint32_t exchange = world_request("GET", STREAM, "Last-Event-ID: 1\nAccept: text/event-stream\n", NULL);
    assert_int_equal(world_last_sent()->msg.kind, CONV_GET);
    assert_int_equal(world_answer(exchange)->status, 0);
    world_finish_body(world_last_sent(), CONVERSATION_AT_3);
    assert_string_equal(world_answer(exchange)->content_type, "text/event-stream");
    assert_int_equal(world_last_sent()->msg.kind, CONV_EVENTS);
    assert_int_equal(world_last_sent()->after, 1);
    world_finish_body(world_last_sent(), "{\"events\":[" ENVELOPE("2") "],\"next\":2}");
    assert_int_equal(world_last_sent()->msg.kind, CONV_EVENTS);
    assert_int_equal(world_last_sent()->after, 2);
    world_finish_body(world_last_sent(), "{\"events\":[" ENVELOPE("3") "],\"next\":null}");
    assert_int_equal(world_last_sent()->msg.kind, CONV_SUBSCRIBE);
    assert_int_equal(world_last_sent()->after, 3);
    world_reply(world_last_sent(), CONV_EVENT,
                &(struct conv_answer){.version = 4, .agent = SLICE_LITERAL("e.4"), .body = SLICE_LITERAL("{\"a\":\n1}")});
    assert_string_equal(world_body(exchange), ": stream\n\n"
                                              "id: 2\nevent: e.2\ndata: " ENVELOPE(
                                                  "2") "\n\n"
                                                       "id: 3\nevent: e.3\ndata: " ENVELOPE(
                                                           "3") "\n\n"
                                                                "id: 4\nevent: e.4\ndata: {\"a\":\ndata: 1}\n\n");
    assert_false(world_answer(exchange)->is_ended);
}

static void after_in_the_query_is_the_same_and_the_header_wins(void **state)
{
    (void)state;
    open_live(STREAM "?after=3");
    assert_int_equal(world_last_sent()->after, 3);
    world_request("GET", STREAM "?after=3", "Last-Event-ID: 2\n", NULL);
    world_finish_body(world_last_sent(), CONVERSATION_AT_3);
    assert_int_equal(world_last_sent()->after, 2);
}

static void garbage_and_the_future_are_400_and_an_unknown_conversation_404(void **state)
{
    (void)state;
    static const char *const garbage[] = {"abc", "-1", "1.5", "18446744073709551616", "1 2", "0x1"};
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        char header[64];
        snprintf(header, sizeof header, "Last-Event-ID: %s\n", garbage[i]);
        assert_status(world_request("GET", STREAM, header, NULL), 400);
    }
    assert_status(world_request("GET", STREAM "?after=x", NULL, NULL), 400);
    assert_int_equal(world_sent_count(), 0);
    uint32_t exchange = world_request("GET", STREAM, "Last-Event-ID: 4\n", NULL);
    world_finish_body(world_last_sent(), CONVERSATION_AT_3);
    assert_status(exchange, 400);
    exchange = world_request("GET", STREAM, NULL, NULL);
    world_refuse(world_last_sent(), ERR_NOT_FOUND);
    assert_status(exchange, 404);
}

static void a_long_history_waits_for_its_reader(void **state)
{
    (void)state;
    static char page[400000];
    size_t used = (size_t)snprintf(page, sizeof page, "{\"events\":[");
    for (int version = 1; version <= 10; version++)
        used += (size_t)snprintf(page + used, sizeof page - used, "%s{\"event\":\"e\",\"version\":%d,\"x\":\"%030000d\"}",
                                 version > 1 ? "," : "", version, 0);
    snprintf(page + used, sizeof page - used, "],\"next\":null}");

    uint32_t exchange = world_request("GET", STREAM, NULL, NULL);
    world_finish_body(world_last_sent(), "{\"version\":10}");
    world_finish_body(world_last_sent(), page);
    uint32_t count = world_sent_count();
    assert_int_equal(world_last_sent()->msg.kind, CONV_EVENTS); /* not yet live */
    assert_true(world_answer(exchange)->unsent_bytes < 128 << 10);
    for (int drains = 0; world_sent_count() == count; drains++) {
        assert_true(drains < 10);
        world_stream_drains(exchange);
        assert_true(world_answer(exchange)->unsent_bytes < 128 << 10);
    }
    assert_int_equal(world_last_sent()->msg.kind, CONV_SUBSCRIBE);
    assert_int_equal(world_last_sent()->after, 10);
    const char *at = world_body(exchange);
    for (int version = 1; version <= 10; version++) {
        char line[32];
        snprintf(line, sizeof line, "id: %d\n", version);
        at = strstr(at, line);
        assert_non_null(at);
    }
}

static void a_reader_that_leaves_is_unsubscribed(void **state)
{
    (void)state;
    uint32_t exchange = open_live(STREAM);
    const struct conv_request *subscribe = world_last_sent();
    world_client_leaves(exchange);
    assert_int_equal(world_last_sent()->msg.kind, CONV_UNSUBSCRIBE);
    assert_int_equal(world_last_sent()->target_token, subscribe->reply_token);
}

static void a_reader_that_leaves_while_a_page_waits_leaks_nothing(void **state)
{
    (void)state;
    uint32_t exchange = world_request("GET", STREAM, NULL, NULL);
    world_finish_body(world_last_sent(), CONVERSATION_AT_3);
    world_answer(exchange)->unsent_bytes = 1 << 20;
    world_finish_body(world_last_sent(), "{\"events\":[" ENVELOPE("1") "],\"next\":null}"); /* kept */
    world_client_leaves(exchange);
    world_stream_drains(exchange);
    assert_int_equal(world_last_sent()->msg.kind, CONV_EVENTS);
}

static void a_reader_that_is_too_slow_is_cut(void **state)
{
    (void)state;
    uint32_t exchange = open_live(STREAM);
    const struct conv_request *subscribe = world_last_sent();
    world_reader_is_slow = true;
    world_reply(subscribe, CONV_EVENT,
                &(struct conv_answer){.version = 4, .agent = SLICE_LITERAL("e"), .body = SLICE_LITERAL("{}")});
    assert_true(world_answer(exchange)->is_ended);
    assert_int_equal(world_last_sent()->msg.kind, CONV_UNSUBSCRIBE);
}

static void the_stream_ends_when_the_conversation_says_so(void **state)
{
    (void)state;
    static const uint16_t kinds[] = {CONV_END, CONV_REFUSED};
    for (size_t i = 0; i < 2; i++) {
        uint32_t exchange = open_live(STREAM);
        world_reply(world_last_sent(), kinds[i], &(struct conv_answer){.code = ERR_SHUTDOWN});
        assert_true(world_answer(exchange)->is_ended);
    }
}

static void a_refusal_in_the_middle_of_the_history_ends_the_stream(void **state)
{
    (void)state;
    uint32_t exchange = world_request("GET", STREAM, NULL, NULL);
    world_finish_body(world_last_sent(), CONVERSATION_AT_3);
    world_refuse(world_last_sent(), ERR_STORAGE_CORRUPT);
    assert_true(world_answer(exchange)->is_ended);
    exchange = world_request("GET", STREAM, NULL, NULL);
    world_directory_code = ERR_MAILBOX_FULL;
    world_finish_body(world_last_sent(), CONVERSATION_AT_3);
    assert_true(world_answer(exchange)->is_ended); /* it comes again with the same id */
}

static void a_quiet_stream_gets_a_comment_every_fifteen_seconds(void **state)
{
    (void)state;
    uint32_t exchange = open_live(STREAM);
    world_pass_ms(14000);
    assert_string_equal(world_body(exchange), ": stream\n\n");
    world_pass_ms(17000);
    assert_string_equal(world_body(exchange), ": stream\n\n: still here\n\n: still here\n\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_start, world_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(history_comes_first_then_what_happens),
        TEST(after_in_the_query_is_the_same_and_the_header_wins),
        TEST(garbage_and_the_future_are_400_and_an_unknown_conversation_404),
        TEST(a_long_history_waits_for_its_reader),
        TEST(a_reader_that_leaves_is_unsubscribed),
        TEST(a_reader_that_leaves_while_a_page_waits_leaks_nothing),
        TEST(a_reader_that_is_too_slow_is_cut),
        TEST(the_stream_ends_when_the_conversation_says_so),
        TEST(a_refusal_in_the_middle_of_the_history_ends_the_stream),
        TEST(a_quiet_stream_gets_a_comment_every_fifteen_seconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
