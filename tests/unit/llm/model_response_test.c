/* SPDX-License-Identifier: Apache-2.0 */
/* model_response: the three forms of an answer, cut at every place; what a provider may get wrong; the caps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "actors/llm/model_response.h"

#define CHUNK(text) "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" text "\"},\"finish_reason\":null}]}\n\n"
#define FINISH "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
#define USAGE "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":7}}\n\n"
#define DONE "data: [DONE]\n\n"
#define ROLE "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\n\n"

static const struct fetch_result fine = {.code = OK, .status = 200};

static struct model_response response;

static void begin(void)
{
    model_response_init(&response);
}

static enum err feed(int status, const char *text)
{
    return model_response_feed(&response, status, slice_from_text(text));
}

static void finish(const struct fetch_result *result)
{
    model_response_finish(&response, result, slice_of(NULL, 0));
}

static void expect(enum err code, const char *text)
{
    assert_int_equal(response.code, code);
    assert_true(slice_has_text(buffer_slice(&response.text), text));
    model_response_deinit(&response);
}

/* One whole answer of `status` in one piece. */
static void read_all(int status, const char *body)
{
    const struct fetch_result result = {.code = OK, .status = status};
    begin();
    (void)feed(status, body);
    finish(&result);
}

static void the_cut_of_the_pieces_does_not_matter(void **unused)
{
    (void)unused;
    static const char *const bodies[] = {
        ": hello\r\n\r\n" ROLE CHUNK("ol\\u00e1 \\\"\\ud83d\\ude00\\\" ") CHUNK("\xc3\xa9t\xc3\xa9") FINISH USAGE DONE,
        " \n{\"id\":\"x\",\"choices\":[{\"message\":{\"content\":\"ol\\u00e1 \\\"\\ud83d\\ude00\\\" \xc3\xa9t\xc3\xa9\"},"
        "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":7}}\n",
    };
    for (size_t b = 0; b < 2; b++)
        for (size_t cut = 0; cut <= strlen(bodies[b]); cut++) {
            begin();
            assert_int_equal(model_response_feed(&response, 200, slice_of(bodies[b], cut)), OK);
            assert_int_equal(feed(200, bodies[b] + cut), OK);
            finish(&fine);
            assert_int_equal(response.input_tokens, 12);
            assert_int_equal(response.output_tokens, 7);
            assert_string_equal(response.finish_reason, "stop");
            expect(OK, "ol\xc3\xa1 \"\xf0\x9f\x98\x80\" \xc3\xa9t\xc3\xa9");
        }
}

static void a_byte_at_a_time_is_read_like_any_other(void **unused)
{
    (void)unused;
    static const char body[] = "\xef\xbb\xbf" CHUNK("a") CHUNK("b") FINISH DONE;
    begin();
    for (size_t i = 0; i < sizeof body - 1; i++)
        assert_int_equal(model_response_feed(&response, 200, slice_of(body + i, 1)), OK);
    assert_true(response.is_done);
    finish(&fine);
    expect(OK, "ab");
}

static void a_stream_that_was_cut_is_no_success_and_keeps_its_text(void **unused)
{
    (void)unused;
    const struct fetch_result cut = {.code = ERR_PEER_CLOSED, .status = 200, .detail = "cut"};
    const struct fetch_result late = {.code = ERR_TIMEOUT, .status = 200, .detail = "idle"};
    begin();
    assert_int_equal(feed(200, CHUNK("half") "data: {\"choi"), OK);
    finish(&cut);
    assert_string_equal(response.detail, "cut");
    expect(ERR_PEER_CLOSED, "half");
    begin();
    assert_int_equal(feed(200, CHUNK("half")), OK);
    finish(&late);
    expect(ERR_TIMEOUT, "half");
    read_all(200, CHUNK("half")); /* ended in good order, but without a word that it is finished */
    expect(ERR_PEER_CLOSED, "half");
    read_all(200, "");
    expect(ERR_PEER_CLOSED, "");
    read_all(200, ": nothing but comments\n\n");
    expect(ERR_PEER_CLOSED, "");
}

static void a_finished_text_stays_finished_however_the_connection_ended(void **unused)
{
    (void)unused;
    const struct fetch_result cut = {.code = ERR_PEER_CLOSED, .status = 200};
    begin();
    assert_int_equal(feed(200, CHUNK("all") FINISH), OK);
    finish(&cut);
    expect(OK, "all");
    read_all(200, CHUNK("all") DONE CHUNK(" and what comes after"));
    expect(OK, "all");
}

static void malformed_chunks_are_a_broken_protocol(void **unused)
{
    (void)unused;
    static const char *const bad[] = {
        "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]\n\n",
        "data: not json\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":17}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"\\ud800\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":{}}]}\n\n",
        "data: {\"choices\":[],\"choices\":[]}\n\n",
        "data: \xff\n\n",
        "data: {\"choices\":[{\"finish_reason\":\"a reason far longer than any that is spoken of here\"}]}\n\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        begin();
        assert_int_equal(feed(200, CHUNK("so far")), OK);
        assert_int_equal(feed(200, bad[i]), ERR_PROTOCOL);
        assert_int_equal(feed(200, CHUNK(" more") FINISH DONE), ERR_PROTOCOL); /* the first failure stays */
        finish(&fine);
        assert_true(response.detail[0] != '\0');
        expect(ERR_PROTOCOL, "so far");
    }
}

static void what_is_unknown_is_passed_over(void **unused)
{
    (void)unused;
    read_all(200, "event: ping\ndata: {\"type\":\"ping\"}\n\nid: 7\nretry: 10\ndata: []\n\ndata: {\"choices\":{}}\n\n"
                  "data: {\"choices\":[{\"delta\":null}],\"usage\":null}\n\n" CHUNK("hi") FINISH DONE);
    expect(OK, "hi");
}

static void documents_are_whole_or_malformed(void **unused)
{
    (void)unused;
    read_all(200, "{\"choices\":[{\"message\":{\"content\":\"hi\"}}]");
    expect(ERR_PROTOCOL, "");
    read_all(200, "{\"choices\":[]}");
    expect(ERR_PROTOCOL, "");
    read_all(200, "{\"choices\":[{\"message\":{\"content\":null},\"finish_reason\":\"stop\"}]}");
    expect(OK, "");
    read_all(200, "{\"error\":{\"message\":\"model is asleep\"}}");
    assert_string_equal(response.detail, "provider: model is asleep");
    expect(ERR_PROTOCOL, "");
}

static void statuses_say_whether_to_try_again(void **unused)
{
    (void)unused;
    static const struct {
        int status;
        enum err code;
    } cases[] = {{400, ERR_INVALID}, {401, ERR_INVALID},  {404, ERR_INVALID},  {422, ERR_INVALID}, {408, ERR_TIMEOUT},
                 {429, ERR_BUSY},    {500, ERR_BUSY},     {502, ERR_BUSY},     {503, ERR_BUSY},    {504, ERR_BUSY},
                 {529, ERR_BUSY},    {302, ERR_PROTOCOL}, {304, ERR_PROTOCOL}, {501, ERR_PROTOCOL}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char detail[64];
        read_all(cases[i].status, "{\"error\":{\"message\":\"because\",\"code\":200}}");
        snprintf(detail, sizeof detail, "HTTP %d: because", cases[i].status);
        assert_string_equal(response.detail, detail);
        expect(cases[i].code, "");
        read_all(cases[i].status, "<html>sorry</html>"); /* not JSON: not quoted */
        snprintf(detail, sizeof detail, "HTTP %d", cases[i].status);
        assert_string_equal(response.detail, detail);
        expect(cases[i].code, "");
        read_all(cases[i].status, "");
        expect(cases[i].code, "");
    }
    read_all(400, "{\"error\":\"plain words\"}");
    assert_string_equal(response.detail, "HTTP 400: plain words");
    expect(ERR_INVALID, "");
}

static void an_error_inside_the_stream_ends_it(void **unused)
{
    (void)unused;
    begin();
    assert_int_equal(feed(200, CHUNK("a") "data: {\"error\":{\"message\":\"overloaded\",\"code\":529}}\n\n"), ERR_BUSY);
    finish(&fine);
    assert_string_equal(response.detail, "provider: overloaded");
    expect(ERR_BUSY, "a");
    begin();
    assert_int_equal(feed(200, "data: {\"error\":{\"code\":\"server_error\"}}\n\n"), ERR_PROTOCOL);
    finish(&fine);
    expect(ERR_PROTOCOL, "");
}

static void secrets_are_blotted_out_of_what_the_provider_says(void **unused)
{
    (void)unused;
    const struct fetch_result refused = {.code = OK, .status = 401};
    begin();
    (void)feed(401, "{\"error\":{\"message\":\"bad key sk-secret-1, really sk-secret-1sk-secret-1\"}}");
    model_response_finish(&response, &refused, SLICE_LITERAL("sk-secret-1"));
    assert_string_equal(response.detail, "HTTP 401: bad key ***, really ******");
    expect(ERR_INVALID, "");
}

static void a_long_message_is_cut_between_characters(void **unused)
{
    (void)unused;
    static char body[4096];
    size_t size = (size_t)snprintf(body, sizeof body, "{\"error\":{\"message\":\"");
    for (int i = 0; i < 500; i++)
        size += (size_t)snprintf(body + size, sizeof body - size, "\xe2\x82\xac");
    snprintf(body + size, sizeof body - size, "\"}}");
    read_all(400, body);
    size = strlen(response.detail);
    /* 1,500 bytes do not fit the room for a message: either it is cut at a whole character, or left out. */
    assert_true(size < MODEL_DETAIL_BYTES_MAX);
    if (size > sizeof "HTTP 400")
        assert_memory_equal(response.detail + size - 3, "\xe2\x82\xac", 3);
    expect(ERR_INVALID, "");
}

static char *repeat(const char *head, char filler, size_t count, const char *tail)
{
    const size_t head_size = strlen(head), tail_size = strlen(tail);
    char *const text = malloc(head_size + count + tail_size + 1);
    assert_non_null(text);
    memcpy(text, head, head_size);
    memset(text + head_size, filler, count);
    memcpy(text + head_size + count, tail, tail_size + 1);
    return text;
}

static void an_endless_text_is_a_limit_with_what_had_come(void **unused)
{
    (void)unused;
    char *const chunk = repeat("data: {\"choices\":[{\"delta\":{\"content\":\"", 'x', 60000, "\"}}]}\n\n");
    enum err err = OK;
    begin();
    for (int i = 0; i < 100 && err == OK; i++)
        err = feed(200, chunk);
    assert_int_equal(err, ERR_LIMIT);
    finish(&fine);
    assert_int_equal(response.code, ERR_LIMIT);
    assert_int_equal(response.text.size, 4 * 60000);
    model_response_deinit(&response);
    free(chunk);
}

static void an_event_without_end_is_a_limit(void **unused)
{
    (void)unused;
    char *const piece = repeat("", 'x', 100000, "");
    begin();
    enum err err = feed(200, "data: ");
    int pieces = 0;
    for (; pieces < 1000 && err == OK; pieces++)
        err = feed(200, piece);
    assert_int_equal(err, ERR_LIMIT);
    assert_in_range(pieces, 10, 11);
    finish(&fine);
    expect(ERR_LIMIT, "");
    free(piece);
}

static void an_endless_document_is_a_limit_and_an_endless_error_page_is_not_held(void **unused)
{
    (void)unused;
    char *const piece = repeat("", ' ', 1 << 20, "");
    begin();
    enum err err = feed(200, "{");
    int pieces = 0;
    for (; pieces < 100 && err == OK; pieces++)
        err = feed(200, piece);
    assert_int_equal(err, ERR_LIMIT);
    assert_in_range(pieces, 8, 8);
    finish(&fine);
    expect(ERR_LIMIT, "");

    const struct fetch_result busy = {.code = OK, .status = 503};
    begin();
    for (int i = 0; i < 20; i++)
        assert_int_equal(feed(503, piece), OK);
    assert_true(response.body.capacity <= MODEL_ERROR_BYTES_MAX);
    finish(&busy);
    expect(ERR_BUSY, "");
    free(piece);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cut_of_the_pieces_does_not_matter),
        cmocka_unit_test(a_byte_at_a_time_is_read_like_any_other),
        cmocka_unit_test(a_stream_that_was_cut_is_no_success_and_keeps_its_text),
        cmocka_unit_test(a_finished_text_stays_finished_however_the_connection_ended),
        cmocka_unit_test(malformed_chunks_are_a_broken_protocol),
        cmocka_unit_test(what_is_unknown_is_passed_over),
        cmocka_unit_test(documents_are_whole_or_malformed),
        cmocka_unit_test(statuses_say_whether_to_try_again),
        cmocka_unit_test(an_error_inside_the_stream_ends_it),
        cmocka_unit_test(secrets_are_blotted_out_of_what_the_provider_says),
        cmocka_unit_test(a_long_message_is_cut_between_characters),
        cmocka_unit_test(an_endless_text_is_a_limit_with_what_had_come),
        cmocka_unit_test(an_event_without_end_is_a_limit),
        cmocka_unit_test(an_endless_document_is_a_limit_and_an_endless_error_page_is_not_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
