/* SPDX-License-Identifier: Apache-2.0 */
/* load_protocol_test: guards the judge: what the load generator writes and reads in each protocol, and that it sees what is wrong.
 * Every answer is also given to it cut at every byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "bench/load_protocol.h"
#include "runtime/buffer.h"

enum { ANSWER_BYTES_MAX = 4096 };

static char bytes[ANSWER_BYTES_MAX]; /* a reader may change them */

static size_t take(const struct load_protocol *protocol, struct slice answer, struct load_answer *ret_answer)
{
    assert_true(answer.size <= sizeof bytes);
    memcpy(bytes, answer.data, answer.size);
    return protocol->take_answer(bytes, answer.size, ret_answer);
}

static struct load_answer take_whole(const struct load_protocol *protocol, struct slice answer)
{
    struct load_answer taken = {0};
    for (size_t size = 0; size < answer.size; size++)
        assert_int_equal(take(protocol, slice_of(answer.data, size), &taken), 0);
    assert_int_equal(take(protocol, answer, &taken), answer.size);
    return taken;
}

static void assert_text(struct slice text, const char *expected)
{
    assert_int_equal(text.size, strlen(expected));
    assert_memory_equal(text.data, expected, text.size);
}

static struct slice http_answer(const char *body)
{
    static char text[ANSWER_BYTES_MAX];
    int size =
        snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
                 strlen(body), body);
    return slice_of(text, (size_t)size);
}

/* In chunks of 29 bytes, so that lines and words are cut. */
static struct slice chunked_answer(const char *body)
{
    static char text[ANSWER_BYTES_MAX];
    size_t left = strlen(body), chunk;
    int size = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    do {
        chunk = left < 29 ? left : 29;
        size += snprintf(text + size, sizeof text - (size_t)size, "%zX\r\n%.*s\r\n", chunk, (int)chunk, body);
        body += chunk;
        left -= chunk;
    } while (chunk > 0);
    return slice_of(text, (size_t)size);
}

static void an_http_answer_is_read_in_one_pass(void **state)
{
    (void)state;
    struct load_answer answer = take_whole(
        &load_http, http_answer("{\"conversation_id\":\"c-1\", \"message_id\":\"0-7\",\"version\":12,\"duplicate\":true,"
                                "\"usage\":{\"text\":\"}\\\"\",\"n\":[1,{}]},\"status\":\"completed\","
                                "\"reply\":{\"agent\":\"echo\",\"text\":\"a \\\"b\\\" \\u00e9\"}}"));
    assert_null(answer.wrong);
    assert_int_equal(answer.status, 200);
    assert_text(answer.conversation_id, "c-1");
    assert_text(answer.message_id, "0-7");
    assert_text(answer.state, "completed");
    assert_text(answer.text, "a \"b\" \xc3\xa9");
    assert_int_equal(answer.version, 12);
    assert_true(answer.is_duplicate);
}

static void members_of_another_type_are_wrong(void **state)
{
    (void)state;
    assert_non_null(take_whole(&load_http, http_answer("{\"version\":\"12\"}")).wrong);
    assert_non_null(take_whole(&load_http, http_answer("{\"message_id\":7}")).wrong);
    assert_non_null(take_whole(&load_http, http_answer("{\"message_id\":\"\\u0037\"}")).wrong);
    assert_non_null(take_whole(&load_http, http_answer("[]")).wrong);
}

static void a_null_reply_is_no_text(void **state)
{
    (void)state;
    struct load_answer answer = take_whole(&load_http, http_answer("{\"status\":\"running\",\"reply\":null}"));
    assert_null(answer.wrong);
    assert_int_equal(answer.text.size, 0);
}

static void bytes_that_are_no_http_end_the_connection(void **state)
{
    (void)state;
    struct load_answer answer;
    assert_true(take(&load_http, SLICE_LITERAL("SSH-2.0-OpenSSH_9.2\r\n\r\n"), &answer) == SIZE_MAX);
    assert_true(take(&load_sse, SLICE_LITERAL("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"), &answer) ==
                SIZE_MAX);
}

static void a_turn_as_events_is_put_together_from_chunks(void **state)
{
    (void)state;
    struct load_answer answer = take_whole(
        &load_sse, chunked_answer("id: 4\nevent: inbox.message.received\n"
                                  "data: {\"conversation_id\":\"c-1\",\"idempotency_key\":\"0-1\",\"version\":4}\n\n"
                                  "id: 5\nevent: agent.response.generated\ndata: {\"payload\":{\"text\":\"hello\"}}\n\n"
                                  "id: 6\nevent: turn.completed\ndata: {}\n\n"));
    assert_null(answer.wrong);
    assert_text(answer.conversation_id, "c-1");
    assert_text(answer.message_id, "0-1");
    assert_text(answer.text, "hello");
    assert_text(answer.state, "completed");
    assert_int_equal(answer.version, 6);
}

static void a_gap_in_the_versions_of_a_stream_is_wrong(void **state)
{
    (void)state;
    struct load_answer answer =
        take_whole(&load_sse, chunked_answer("id: 4\nevent: a\ndata: {}\n\nid: 6\nevent: turn.completed\ndata: {}\n\n"));
    assert_string_equal(answer.wrong, "versions are not dense");
}

static void a_request_over_rpc_is_these_bytes(void **state)
{
    (void)state;
    struct buffer out;
    buffer_init(&out, 4096);
    const struct load_message message = {.tag = 0x01020304,
                                         .conversation_id = SLICE_LITERAL("c"),
                                         .message_id = SLICE_LITERAL("0-1"),
                                         .text = SLICE_LITERAL("a text of more than 31 bytes, so str 8"),
                                         .agent = SLICE_LITERAL("echo"),
                                         .is_async = true};
    load_rpc.write_message(&out, &message);
    static const char expected[] = "\x94\x00\xce\x01\x02\x03\x04\xac"
                                   "message.send\x91\x85\xaf"
                                   "conversation_id\xa1"
                                   "c\xaamessage_id\xa3"
                                   "0-1\xa4text\xd9\x26"
                                   "a text of more than 31 bytes, so str 8\xa5"
                                   "agent\xa4"
                                   "echo\xa7wait_ms";
    assert_int_equal(out.size, sizeof expected); /* the NUL is wait_ms' 0 */
    assert_memory_equal(out.data, expected, sizeof expected);
    buffer_deinit(&out);
}

static void an_answer_over_rpc_is_read_in_one_pass(void **state)
{
    (void)state;
    struct load_answer answer =
        take_whole(&load_rpc, SLICE_LITERAL("\x94\x01\xcd\x01\x00\xc0\x87\xaf"
                                            "conversation_id\xa1"
                                            "c\xaamessage_id\xa3"
                                            "0-1\xa7version\x0c\xa9"
                                            "duplicate\xc2\xa6status\xa9"
                                            "completed\xa5reply\x82\xa4text\xa2hi\xa5"
                                            "agent\xa4"
                                            "echo\xa5other\x92\xcb\x00\x00\x00\x00\x00\x00\x00\x00"
                                            "\x81\xa1x\xc4\x01y"));
    assert_int_equal(answer.tag, 256);
    assert_int_equal(answer.status, 200);
    assert_text(answer.conversation_id, "c");
    assert_text(answer.message_id, "0-1");
    assert_text(answer.state, "completed");
    assert_text(answer.text, "hi");
    assert_int_equal(answer.version, 12);
    assert_false(answer.is_duplicate);
}

static void errors_over_rpc_have_the_status_of_http(void **state)
{
    (void)state;
    struct load_answer answer = take_whole(&load_rpc, SLICE_LITERAL("\x94\x01\x05\x82\xa4"
                                                                    "code\xaaoverloaded\xa7message\xa0\xc0"));
    assert_int_equal(answer.tag, 5);
    assert_int_equal(answer.status, 503);
}

static void what_is_no_response_ends_the_connection(void **state)
{
    (void)state;
    struct load_answer answer;
    assert_true(take(&load_rpc, SLICE_LITERAL("\x94\x00\x05\xc0\xc0"), &answer) == SIZE_MAX); /* a request */
    assert_true(take(&load_rpc, SLICE_LITERAL("HTTP"), &answer) == SIZE_MAX);
    assert_true(take(&load_rpc, SLICE_LITERAL("\x94\x01\x05\xc0\x93\x01\x02\x03"), &answer) == SIZE_MAX); /* no map */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_http_answer_is_read_in_one_pass),
        cmocka_unit_test(members_of_another_type_are_wrong),
        cmocka_unit_test(a_null_reply_is_no_text),
        cmocka_unit_test(bytes_that_are_no_http_end_the_connection),
        cmocka_unit_test(a_turn_as_events_is_put_together_from_chunks),
        cmocka_unit_test(a_gap_in_the_versions_of_a_stream_is_wrong),
        cmocka_unit_test(a_request_over_rpc_is_these_bytes),
        cmocka_unit_test(an_answer_over_rpc_is_read_in_one_pass),
        cmocka_unit_test(errors_over_rpc_have_the_status_of_http),
        cmocka_unit_test(what_is_no_response_ends_the_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
