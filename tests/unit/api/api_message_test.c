/* SPDX-License-Identifier: Apache-2.0 */
/* POST …/messages: each status of the contract, the three ways to answer, clients that leave, answers that come late. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "actors/admission.h"
#include "tests/unit/api/api_world.h"

#define PATH "/v1/conversations/c-17/messages"
#define JSON_HEADER "Content-Type: application/json\n"
#define STREAM_HEADERS JSON_HEADER "Accept: text/event-stream\n"
#define SAY "{\"text\":\"hello\",\"message_id\":\"m-1\"}"

static const struct conv_answer completed = {
    .version = 4,
    .status = TURN_COMPLETED,
    .has_reply = true,
    .message_id = {.data = "m-1", .size = 3},
    .turn_id = {.data = "t-1", .size = 3},
    .text = {.data = "hi \"you\"", .size = 8},
    .agent = {.data = "echo", .size = 4},
    .duration_ms = 3,
};

static struct conv_answer running(void)
{
    struct conv_answer answer = completed;
    answer.status = TURN_RUNNING;
    answer.has_reply = false;
    return answer;
}

static void assert_status(uint32_t exchange, int status)
{
    if (world_answer(exchange)->status != status)
        fail_msg("status %d instead of %d: %s", world_answer(exchange)->status, status, world_body(exchange));
    if (status >= 400)
        assert_string_equal(world_answer(exchange)->content_type, "application/problem+json");
}

static void assert_body_has(uint32_t exchange, const char *text)
{
    if (!strstr(world_body(exchange), text))
        fail_msg("no %s in %s", text, world_body(exchange));
}

/* ---- 200, 202 ----------------------------------------------------------------------------------------------------------- */

static void a_message_goes_out_and_its_reply_comes_back(void **state)
{
    (void)state;
    uint32_t exchange =
        world_request("POST", PATH, JSON_HEADER "X-Trace-Id: trace-9\n",
                      "{\"text\":\"hello\",\"message_id\":\"m-1\",\"customer_id\":\"k\",\"channel\":\"web\","
                      "\"agent\":\"echo\",\"on_busy\":\"reject\",\"metadata\":{\"a\":\"b\"}}");
    const struct conv_request *sent = world_last_sent();
    assert_int_equal(sent->msg.kind, CONV_MESSAGE);
    assert_true(slice_has_text(sent->tenant, "default"));
    assert_true(slice_has_text(sent->conversation, "c-17"));
    assert_true(slice_has_text(sent->text, "hello"));
    assert_true(slice_has_text(sent->message_id, "m-1"));
    assert_true(slice_has_text(sent->customer_id, "k"));
    assert_true(slice_has_text(sent->channel, "web"));
    assert_true(slice_has_text(sent->agent, "echo"));
    assert_true(slice_has_text(sent->metadata, "{\"a\":\"b\"}"));
    assert_true(slice_has_text(sent->trace_id, "trace-9"));
    assert_int_equal(sent->on_busy, CONV_ON_BUSY_REJECT);
    assert_false(sent->subscribe);
    assert_false(sent->has_if_match);
    assert_int_equal(world_answer(exchange)->status, 0);

    world_reply(sent, CONV_FINISHED, &completed);
    assert_status(exchange, 200);
    assert_true(world_has_header(exchange, "X-Trace-Id: trace-9\n"));
    assert_string_equal(world_body(exchange),
                        "{\"conversation_id\":\"c-17\",\"message_id\":\"m-1\",\"turn_id\":\"t-1\",\"version\":4,"
                        "\"duplicate\":false,\"status\":\"completed\",\"reply\":{\"text\":\"hi \\\"you\\\"\",\"agent\":"
                        "\"echo\"},\"trace_id\":\"trace-9\",\"duration_ms\":3}");
}

static void a_models_reply_has_usage_and_finish_reason(void **state)
{
    (void)state;
    uint32_t exchange = world_post(PATH, SAY);
    struct conv_answer answer = completed;
    answer.has_usage = true;
    answer.input_tokens = 11;
    answer.output_tokens = 7;
    answer.finish_reason = SLICE_LITERAL("stop");
    world_reply(world_last_sent(), CONV_FINISHED, &answer);
    assert_body_has(exchange, "\"usage\":{\"input_tokens\":11,\"output_tokens\":7}");
    assert_body_has(exchange, "\"finish_reason\":\"stop\"");
}

static void a_copy_of_a_finished_message_is_200_also_when_asked_async(void **state)
{
    (void)state;
    uint32_t exchange = world_request("POST", PATH, JSON_HEADER "Prefer: respond-async\n", SAY);
    struct conv_answer answer = completed;
    answer.is_duplicate = true;
    world_reply(world_last_sent(), CONV_FINISHED, &answer);
    assert_status(exchange, 200);
    assert_body_has(exchange, "\"duplicate\":true");
}

static void respond_async_is_202_once_durable_and_not_before(void **state)
{
    (void)state;
    uint32_t exchange = world_request("POST", PATH, JSON_HEADER "Prefer: respond-async\n", SAY);
    world_pass_ms(5000);
    assert_int_equal(world_answer(exchange)->status, 0);
    struct conv_answer answer = running();
    world_reply(world_last_sent(), CONV_ACCEPTED, &answer);
    assert_status(exchange, 202);
    assert_true(world_has_header(exchange, "Location: /v1/conversations/c-17/turns/t-1\n"));
    assert_body_has(exchange, "\"status\":\"running\"");
    assert_null(strstr(world_body(exchange), "reply"));
}

static void respond_async_of_a_turn_that_is_done_at_once_is_202(void **state)
{
    (void)state;
    uint32_t exchange = world_request("POST", PATH, JSON_HEADER "Prefer: respond-async\n", SAY);
    world_reply(world_last_sent(), CONV_FINISHED, &completed);
    assert_status(exchange, 202);
    assert_true(world_has_header(exchange, "Location: /v1/conversations/c-17/turns/t-1\n"));
}

static void a_wait_that_runs_out_is_202_with_what_was_accepted(void **state)
{
    (void)state;
    uint32_t exchange = world_request("POST", PATH, JSON_HEADER "Prefer: wait=2\n", SAY);
    struct conv_answer answer = running();
    answer.status = TURN_QUEUED;
    world_reply(world_last_sent(), CONV_ACCEPTED, &answer);
    world_pass_ms(1800);
    assert_int_equal(world_answer(exchange)->status, 0);
    world_pass_ms(400);
    assert_status(exchange, 202);
    assert_body_has(exchange, "\"status\":\"queued\"");
    world_reply(world_last_sent(), CONV_FINISHED, &completed); /* late: dropped */
    assert_status(exchange, 202);
}

static void a_wait_that_runs_out_before_the_flush_waits_for_the_flush(void **state)
{
    (void)state;
    uint32_t exchange = world_request("POST", PATH, JSON_HEADER "Prefer: wait=1\n", SAY);
    world_pass_ms(3000);
    assert_int_equal(world_answer(exchange)->status, 0); /* not durable: nothing may be promised */
    struct conv_answer answer = running();
    world_reply(world_last_sent(), CONV_ACCEPTED, &answer);
    assert_status(exchange, 202);
}

static void the_default_wait_is_thirty_seconds(void **state)
{
    (void)state;
    uint32_t exchange = world_post(PATH, SAY);
    struct conv_answer answer = running();
    world_reply(world_last_sent(), CONV_ACCEPTED, &answer);
    world_pass_ms(29500);
    assert_int_equal(world_answer(exchange)->status, 0);
    world_pass_ms(1000);
    assert_status(exchange, 202);
}

static void waiting_for_a_human_failed_and_cancelled_are_told(void **state)
{
    (void)state;
    static const struct {
        enum turn_status status;
        const char *text;
    } cases[] = {{TURN_WAITING_HUMAN, "\"status\":\"waiting_human\""},
                 {TURN_FAILED, "\"status\":\"failed\""},
                 {TURN_IS_CANCELLED, "\"status\":\"cancelled\""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t exchange = world_post(PATH, SAY);
        struct conv_answer answer = running();
        answer.status = cases[i].status;
        answer.code = ERR_LIMIT;
        world_reply(world_last_sent(), CONV_FINISHED, &answer);
        assert_status(exchange, 200);
        assert_body_has(exchange, cases[i].text);
    }
}

/* ---- refusals ----------------------------------------------------------------------------------------------------------- */

static void refusals_of_the_conversation_have_the_contracts_status(void **state)
{
    (void)state;
    static const struct {
        enum err code;
        int status;
        bool has_retry_after;
    } cases[] = {
        {ERR_BUSY, 409, false},
        {ERR_STALE, 409, false},
        {ERR_EXISTS, 409, false},
        {ERR_CONFLICT, 422, false},
        {ERR_INVALID, 422, false},
        {ERR_LIMIT, 429, true},
        {ERR_MAILBOX_FULL, 429, true},
        {ERR_BREAKER_OPEN, 503, true},
        {ERR_SHUTDOWN, 503, true},
        {ERR_NO_MEMORY, 503, true},
        {ERR_STORAGE_FULL, 507, true},
        {ERR_STORAGE_FAILED, 503, true},
        {ERR_STORAGE_CORRUPT, 503, false},
        {ERR_CRASHED, 503, true},
        {ERR_NOT_FOUND, 404, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t exchange = world_post(PATH, SAY);
        world_refuse(world_last_sent(), cases[i].code);
        assert_status(exchange, cases[i].status);
        assert_int_equal(world_has_header(exchange, "Retry-After: "), cases[i].has_retry_after);
        assert_true(world_has_header(exchange, "X-Trace-Id: "));
    }
}

/* Else its client would send again what is on disk already. */
static void what_was_accepted_is_never_refused_but_by_an_erasure(void **state)
{
    (void)state;
    static const struct {
        enum err code;
        int status;
    } cases[] = {{ERR_STORAGE_FULL, 202}, {ERR_CRASHED, 202}, {ERR_SHUTDOWN, 202}, {ERR_NOT_FOUND, 404}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t exchange = world_post(PATH, SAY);
        struct conv_answer answer = running();
        world_reply(world_last_sent(), CONV_ACCEPTED, &answer);
        world_refuse(world_last_sent(), cases[i].code);
        assert_status(exchange, cases[i].status);
        if (cases[i].status == 202)
            assert_true(world_has_header(exchange, "Location: /v1/conversations/c-17/turns/t-1\n"));
    }
}

static void the_conversations_retry_after_is_passed_on(void **state)
{
    (void)state;
    uint32_t exchange = world_post(PATH, SAY);
    world_reply(world_last_sent(), CONV_REFUSED,
                &(struct conv_answer){.code = ERR_LIMIT, .retry_after_s = 17, .detail = SLICE_LITERAL("100 turns wait")});
    assert_status(exchange, 429);
    assert_true(world_has_header(exchange, "Retry-After: 17\n"));
    assert_body_has(exchange, "100 turns wait");
}

static void a_turn_that_failed_is_an_answer_with_its_error(void **state)
{
    (void)state;
    uint32_t exchange = world_post(PATH, SAY);
    struct conv_answer answer = running();
    answer.status = TURN_FAILED;
    answer.code = ERR_BREAKER_OPEN;
    world_reply(world_last_sent(), CONV_FINISHED, &answer);
    assert_status(exchange, 200);
    assert_body_has(exchange, "\"status\":\"failed\",\"error\":{\"code\":\"ERR_BREAKER_OPEN\"");
}

static void malformed_requests_never_reach_a_conversation(void **state)
{
    (void)state;
    static const struct {
        const char *headers, *body;
        int status;
    } cases[] = {
        {JSON_HEADER, "", 400},
        {JSON_HEADER, "{\"text\":\"a\",\"colour\":1}", 400},
        {JSON_HEADER, "{\"text\":\"\"}", 422},
        {"Content-Type: text/plain\n", SAY, 415},
        {NULL, SAY, 415},
        {JSON_HEADER "Accept: text/html\n", SAY, 406},
        {JSON_HEADER "Prefer: wait=301\n", SAY, 422},
        {JSON_HEADER "Prefer: wait=soon\n", SAY, 400},
        {JSON_HEADER "If-Match: *\n", SAY, 400},
        {JSON_HEADER "Idempotency-Key: other\n", SAY, 400},
        {JSON_HEADER "Idempotency-Key: \"\"\n", "{\"text\":\"a\"}", 422},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t exchange = world_request("POST", PATH, cases[i].headers, cases[i].body);
        assert_status(exchange, cases[i].status);
        assert_true(world_has_header(exchange, "X-Trace-Id: "));
    }
    assert_int_equal(world_sent_count(), 0);
}

static void the_idempotency_key_is_the_message_id(void **state)
{
    (void)state;
    static const char *const headers[] = {JSON_HEADER "Idempotency-Key: key-1\n",
                                          JSON_HEADER "Idempotency-Key: \"key-1\"\n"};
    for (size_t i = 0; i < 2; i++) {
        world_request("POST", PATH, headers[i], "{\"text\":\"a\"}");
        assert_true(slice_has_text(world_last_sent()->message_id, "key-1"));
    }
    world_request("POST", PATH, JSON_HEADER "Idempotency-Key: m-1\n", SAY); /* the same in both places */
    assert_true(slice_has_text(world_last_sent()->message_id, "m-1"));
    world_post(PATH, "{\"text\":\"a\"}");
    assert_int_equal(world_last_sent()->message_id.size, 0); /* the conversation makes one */
}

static void if_match_goes_to_the_conversation(void **state)
{
    (void)state;
    world_request("POST", PATH, JSON_HEADER "If-Match: \"12\"\n", SAY);
    assert_true(world_last_sent()->has_if_match);
    assert_int_equal(world_last_sent()->if_match, 12);
}

static void a_draining_server_takes_no_message(void **state)
{
    (void)state;
    world_services.is_draining = true;
    uint32_t exchange = world_post(PATH, SAY);
    assert_status(exchange, 503);
    assert_true(world_has_header(exchange, "Retry-After: "));
    assert_int_equal(world_sent_count(), 0);
}

static void when_too_much_waits_for_the_disk_messages_are_refused_and_acts_are_not(void **state)
{
    (void)state;
    world_appends_waiting = ADMISSION_RECORDS_WAITING_MAX;
    uint32_t refused = world_post(PATH, "not even looked at");
    assert_status(refused, 503);
    assert_body_has(refused, "urn:ciranda:problem:overload");
    assert_true(world_has_header(refused, "Retry-After: "));
    assert_int_equal(world_sent_count(), 0);
    world_post("/v1/conversations/c-1/cancel", "{}");
    assert_int_equal(world_sent_count(), 1);
    world_appends_waiting--;
    world_post(PATH, SAY);
    assert_int_equal(world_sent_count(), 2);
}

static void an_overloaded_or_leaving_directory_is_503(void **state)
{
    (void)state;
    static const enum err codes[] = {ERR_MAILBOX_FULL, ERR_ACTOR_GONE};
    for (size_t i = 0; i < 2; i++) {
        world_directory_code = codes[i];
        uint32_t exchange = world_post(PATH, SAY);
        assert_status(exchange, 503);
        assert_true(world_has_header(exchange, "Retry-After: "));
    }
}

/* ---- leaving and late answers ------------------------------------------------------------------------------------------- */

static void a_client_that_leaves_is_told_to_the_conversation_and_cancels_nothing(void **state)
{
    (void)state;
    uint32_t exchange = world_post(PATH, SAY);
    const struct conv_request *message = world_last_sent();
    world_client_leaves(exchange);
    assert_int_equal(world_sent_count(), 2);
    const struct conv_request *abandon = world_last_sent();
    assert_int_equal(abandon->msg.kind, CONV_ABANDON);
    assert_int_equal(abandon->target_token, message->reply_token);
    assert_true(slice_has_text(abandon->conversation, "c-17"));
    world_reply(message, CONV_FINISHED, &completed); /* nobody is harmed */
    assert_int_equal(world_answer(exchange)->status, 0);
}

static void an_answer_to_an_earlier_life_of_a_request_is_dropped(void **state)
{
    (void)state;
    world_post(PATH, SAY);
    struct conv_request old = *world_last_sent();
    world_reply(&old, CONV_FINISHED, &completed);
    uint32_t second = world_post("/v1/conversations/other/messages", SAY); /* the same place of the pool */
    assert_int_equal((uint32_t)world_last_sent()->reply_token, (uint32_t)old.reply_token);
    assert_int_not_equal(world_last_sent()->reply_token, old.reply_token);
    world_reply(&old, CONV_FINISHED, &completed);
    assert_int_equal(world_answer(second)->status, 0);
}

static void many_open_requests_are_answered_each_with_its_own(void **state)
{
    (void)state;
    enum { COUNT = 1000 }; /* more than a slab of the pool */
    uint32_t exchanges[COUNT];
    for (uint32_t i = 0; i < COUNT; i++)
        exchanges[i] = world_post(PATH, SAY);
    for (uint32_t i = COUNT; i-- > 0;) {
        struct conv_answer answer = completed;
        answer.version = i;
        world_reply(world_sent(i), CONV_FINISHED, &answer);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        char version[32];
        snprintf(version, sizeof version, "\"version\":%u,", i);
        assert_status(exchanges[i], 200);
        assert_body_has(exchanges[i], version);
    }
}

/* ---- the turn as events ------------------------------------------------------------------------------------------------- */

static const struct conv_answer received_event = {
    .version = 1, .agent = {.data = "inbox.message.received", .size = 22}, .body = {.data = "{\"event\":1}", .size = 11}};
static const struct conv_answer completed_event = {
    .version = 2, .agent = {.data = "turn.completed", .size = 14}, .body = {.data = "{\"event\":2}", .size = 11}};

static void a_turn_is_streamed_to_the_event_that_ends_it(void **state)
{
    (void)state;
    uint32_t exchange = world_request("POST", PATH, STREAM_HEADERS, SAY);
    assert_true(world_last_sent()->subscribe);
    const struct conv_request *sent = world_last_sent();
    world_reply(sent, CONV_EVENT, &received_event);
    assert_status(exchange, 200);
    assert_string_equal(world_answer(exchange)->content_type, "text/event-stream");
    struct conv_answer delta = {.turn_id = SLICE_LITERAL("t-1"), .text = SLICE_LITERAL("he")};
    world_reply(sent, CONV_DELTA, &delta);
    world_reply(sent, CONV_EVENT, &completed_event);
    world_reply(sent, CONV_FINISHED, &completed);
    assert_true(world_answer(exchange)->is_ended);
    assert_string_equal(world_body(exchange), "id: 1\nevent: inbox.message.received\ndata: {\"event\":1}\n\n"
                                              "event: turn.delta\ndata: {\"turn_id\":\"t-1\",\"text\":\"he\"}\n\n"
                                              "id: 2\nevent: turn.completed\ndata: {\"event\":2}\n\n");
}

static void a_copy_streams_its_stored_answer(void **state)
{
    (void)state;
    uint32_t exchange = world_request("POST", PATH, STREAM_HEADERS, SAY);
    struct conv_answer answer = completed;
    answer.is_duplicate = true;
    world_reply(world_last_sent(), CONV_FINISHED, &answer);
    assert_true(world_answer(exchange)->is_ended);
    assert_body_has(exchange, "event: turn.completed\ndata: {\"conversation_id\":\"c-17\"");
    assert_body_has(exchange, "\"duplicate\":true");
}

static void a_stream_that_is_refused_before_its_head_is_a_problem(void **state)
{
    (void)state;
    uint32_t exchange = world_request("POST", PATH, STREAM_HEADERS, SAY);
    world_refuse(world_last_sent(), ERR_CONFLICT);
    assert_status(exchange, 422);
    assert_false(world_answer(exchange)->is_stream);
}

static void a_stream_that_is_refused_after_its_head_ends_with_turn_failed(void **state)
{
    (void)state;
    uint32_t exchange = world_request("POST", PATH, STREAM_HEADERS, SAY);
    struct conv_answer answer = running();
    world_reply(world_last_sent(), CONV_ACCEPTED, &answer);
    assert_status(exchange, 200);
    world_refuse(world_last_sent(), ERR_SHUTDOWN);
    assert_true(world_answer(exchange)->is_ended);
    assert_body_has(exchange, "event: turn.failed\ndata: {\"type\":\"urn:ciranda:problem:draining\"");
}

static void a_quiet_stream_gets_a_comment_every_fifteen_seconds(void **state)
{
    (void)state;
    uint32_t exchange = world_request("POST", PATH, STREAM_HEADERS "Prefer: wait=1\n", SAY);
    struct conv_answer answer = running();
    world_reply(world_last_sent(), CONV_ACCEPTED, &answer);
    world_pass_ms(14500);
    assert_string_equal(world_body(exchange), "");
    world_pass_ms(1000);
    assert_string_equal(world_body(exchange), ": still here\n\n");
    world_pass_ms(15000);
    assert_string_equal(world_body(exchange), ": still here\n\n: still here\n\n");
    assert_false(world_answer(exchange)->is_ended);
}

static void a_stream_whose_reader_is_too_slow_is_abandoned(void **state)
{
    (void)state;
    world_request("POST", PATH, STREAM_HEADERS, SAY);
    const struct conv_request *sent = world_last_sent();
    world_reader_is_slow = true;
    world_reply(sent, CONV_EVENT, &received_event);
    assert_int_equal(world_last_sent()->msg.kind, CONV_ABANDON);
    assert_int_equal(world_last_sent()->target_token, sent->reply_token);
    uint32_t count = world_sent_count();
    world_reply(sent, CONV_EVENT, &completed_event); /* late */
    assert_int_equal(world_sent_count(), count);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_start, world_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_message_goes_out_and_its_reply_comes_back),
        TEST(a_models_reply_has_usage_and_finish_reason),
        TEST(a_copy_of_a_finished_message_is_200_also_when_asked_async),
        TEST(respond_async_is_202_once_durable_and_not_before),
        TEST(respond_async_of_a_turn_that_is_done_at_once_is_202),
        TEST(a_wait_that_runs_out_is_202_with_what_was_accepted),
        TEST(a_wait_that_runs_out_before_the_flush_waits_for_the_flush),
        TEST(the_default_wait_is_thirty_seconds),
        TEST(waiting_for_a_human_failed_and_cancelled_are_told),
        TEST(refusals_of_the_conversation_have_the_contracts_status),
        TEST(what_was_accepted_is_never_refused_but_by_an_erasure),
        TEST(the_conversations_retry_after_is_passed_on),
        TEST(a_turn_that_failed_is_an_answer_with_its_error),
        TEST(malformed_requests_never_reach_a_conversation),
        TEST(the_idempotency_key_is_the_message_id),
        TEST(if_match_goes_to_the_conversation),
        TEST(a_draining_server_takes_no_message),
        TEST(when_too_much_waits_for_the_disk_messages_are_refused_and_acts_are_not),
        TEST(an_overloaded_or_leaving_directory_is_503),
        TEST(a_client_that_leaves_is_told_to_the_conversation_and_cancels_nothing),
        TEST(an_answer_to_an_earlier_life_of_a_request_is_dropped),
        TEST(many_open_requests_are_answered_each_with_its_own),
        TEST(a_turn_is_streamed_to_the_event_that_ends_it),
        TEST(a_copy_streams_its_stored_answer),
        TEST(a_stream_that_is_refused_before_its_head_is_a_problem),
        TEST(a_stream_that_is_refused_after_its_head_ends_with_turn_failed),
        TEST(a_quiet_stream_gets_a_comment_every_fifteen_seconds),
        TEST(a_stream_whose_reader_is_too_slow_is_abandoned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
