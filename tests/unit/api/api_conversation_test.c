/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a conversation and acting on it, the listing, and what is refused before anything is asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "actors/conversation_key.h"
#include "actors/conversation_state.h"
#include "tests/unit/api/api_world.h"

#define C "/v1/conversations/c-17"

static void assert_status(uint32_t exchange, int status)
{
    if (world_answer(exchange)->status != status)
        fail_msg("status %d instead of %d: %s", world_answer(exchange)->status, status, world_body(exchange));
}

static void get(const char *target, int status)
{
    assert_status(world_request("GET", target, NULL, NULL), status);
}

/* ---- one conversation --------------------------------------------------------------------------------------------------- */

static void reads_and_acts_are_one_question_and_its_body(void **state)
{
    (void)state;
    static const struct {
        const char *method, *target;
        uint16_t kind;
    } cases[] = {
        {"GET", C, CONV_GET},
        {"GET", C "/events", CONV_EVENTS},
        {"GET", C "/messages", CONV_MESSAGES},
        {"POST", C "/cancel", CONV_CANCEL},
        {"POST", C "/park", CONV_PARK},
        {"POST", C "/resume", CONV_RESUME},
        {"POST", C "/close", CONV_CLOSE},
        {"POST", C "/reopen", CONV_REOPEN},
        {"DELETE", C, CONV_ERASE},
        {"HEAD", C, CONV_GET},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t exchange = world_request(cases[i].method, cases[i].target, NULL, NULL);
        assert_int_equal(world_last_sent()->msg.kind, cases[i].kind);
        assert_true(slice_has_text(world_last_sent()->conversation, "c-17"));
        assert_int_equal(world_answer(exchange)->status, 0);
        world_finish_body(world_last_sent(), "{\"it\":\"is\"}");
        assert_status(exchange, 200);
        assert_string_equal(world_answer(exchange)->content_type, "application/json");
        assert_string_equal(world_body(exchange), "{\"it\":\"is\"}");

        exchange = world_request(cases[i].method, cases[i].target, NULL, NULL);
        world_refuse(world_last_sent(), ERR_NOT_FOUND);
        assert_status(exchange, 404);
    }
}

static void an_act_without_anything_to_say_answers_an_empty_object(void **state)
{
    (void)state;
    uint32_t exchange = world_request("DELETE", C, NULL, NULL);
    world_finish_body(world_last_sent(), "");
    assert_string_equal(world_body(exchange), "{}");
}

static void pages_pass_after_and_limit_on(void **state)
{
    (void)state;
    world_request("GET", C "/events", NULL, NULL);
    assert_int_equal(world_last_sent()->after, 0);
    assert_int_equal(world_last_sent()->limit, 100);
    world_request("GET", C "/messages?after=17&limit=1000", NULL, NULL);
    assert_int_equal(world_last_sent()->after, 17);
    assert_int_equal(world_last_sent()->limit, 1000);
    uint32_t count = world_sent_count();
    get(C "/events?limit=1001", 422);
    get(C "/events?limit=0", 422);
    get(C "/events?limit=x", 400);
    get(C "/events?after=-1", 400);
    get(C "/events?after=99999999999999999999", 400);
    assert_int_equal(world_sent_count(), count);
}

static void a_turn_is_shown_as_its_message_was_answered(void **state)
{
    (void)state;
    uint32_t exchange = world_request("GET", C "/turns/0192f7a0-0000-7000-8000-000000000000", NULL, NULL);
    assert_int_equal(world_last_sent()->msg.kind, CONV_TURN);
    assert_true(slice_has_text(world_last_sent()->turn_id, "0192f7a0-0000-7000-8000-000000000000"));
    world_reply(world_last_sent(), CONV_FINISHED,
                &(struct conv_answer){.status = TURN_FAILED, .code = ERR_BREAKER_OPEN, .message_id = SLICE_LITERAL("m")});
    assert_status(exchange, 200); /* looking at a failed turn does not fail */
    assert_non_null(strstr(world_body(exchange), "\"status\":\"failed\""));
}

static void reasons_are_passed_on_and_checked(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        int status;
    } refused[] = {
        {"{\"reason\":1}", 400},      {"{\"reason\":\"\"}", 422}, {"{\"why\":\"x\"}", 400}, {"[]", 400}, {"{", 400},
        {"{\"to\":\"agent:x\"}", 400}};
    world_post(C "/park", "{\"reason\":\"lunch\\n\"}");
    assert_true(slice_has_text(world_last_sent()->reason, "lunch\n"));
    uint32_t count = world_sent_count();
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        assert_status(world_post(C "/park", refused[i].body), refused[i].status);
    char body[400];
    snprintf(body, sizeof body, "{\"reason\":\"%0257d\"}", 0);
    assert_status(world_post(C "/park", body), 422);
    assert_status(world_request("POST", C "/park", "Content-Type: text/plain\n", "reason=x"), 415);
    assert_status(world_request("POST", C "/park", "If-Match: x\n", NULL), 400);
    assert_int_equal(world_sent_count(), count);
}

static void a_handoff_names_its_target(void **state)
{
    (void)state;
    uint32_t exchange = world_post(C "/handoff", "{\"to\":\"queue:vendas\",\"reason\":\"r\",\"context\":{\"a\":[1]}}");
    assert_int_equal(world_last_sent()->msg.kind, CONV_HANDOFF);
    assert_true(slice_has_text(world_last_sent()->to, "queue:vendas"));
    assert_true(slice_has_text(world_last_sent()->reason, "r"));
    assert_true(slice_has_text(world_last_sent()->context, "{\"a\":[1]}"));
    world_finish_body(world_last_sent(), "{\"owner\":\"queue:vendas\",\"epoch\":2}");
    assert_status(exchange, 200);
    static const struct {
        const char *body;
        int status;
    } refused[] = {{"{}", 400},
                   {"{\"to\":\"vendas\"}", 422},
                   {"{\"to\":\"queue:\"}", 422},
                   {"{\"to\":\"queue:a b\"}", 422},
                   {"{\"to\":\"\"}", 422},
                   {"{\"to\":7}", 400},
                   {"{\"to\":\"queue:q\",\"context\":\"x\"}", 400},
                   {"{\"to\":\"queue:q\",\"when\":\"now\"}", 400}};
    uint32_t count = world_sent_count();
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        assert_status(world_post(C "/handoff", refused[i].body), refused[i].status);
    assert_status(world_request("POST", C "/handoff", NULL, NULL), 415);
    assert_int_equal(world_sent_count(), count);
}

static void a_reader_that_leaves_is_no_news_to_the_conversation(void **state)
{
    (void)state;
    uint32_t exchange = world_request("GET", C, NULL, NULL);
    uint32_t count = world_sent_count();
    world_client_leaves(exchange);
    assert_int_equal(world_sent_count(), count);
    world_finish_body(world_last_sent(), "{}"); /* dropped */
    assert_int_equal(world_answer(exchange)->status, 0);
}

/* ---- routes ------------------------------------------------------------------------------------------------------------- */

static void unknown_paths_are_404_and_wrong_methods_405_with_allow(void **state)
{
    (void)state;
    static const char *const unknown[] = {
        "/",        "/v1",       "/v1/nothing", C "/",     C "/nothing", "/v1/conversations/",
        C "/turns", C "/turns/", "//livez",     "/livez/", "*"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        get(unknown[i], 404);
    static const struct {
        const char *method, *target, *allow;
    } wrong[] = {
        {"PUT", C "/messages", "Allow: GET, HEAD, POST\n"},
        {"POST", C, "Allow: GET, HEAD, DELETE\n"},
        {"DELETE", "/livez", "Allow: GET, HEAD\n"},
        {"GET", C "/park", "Allow: POST\n"},
        {"HEAD", C "/stream", "Allow: GET\n"},
        {"OPTIONS", C "/messages", "Allow: GET, HEAD, POST\n"},
        {"PATCH", "/v1/conversations", "Allow: GET, HEAD\n"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint32_t exchange = world_request(wrong[i].method, wrong[i].target, NULL, NULL);
        assert_status(exchange, 405);
        if (!world_has_header(exchange, wrong[i].allow))
            fail_msg("no %s in %s", wrong[i].allow, world_answer(exchange)->headers);
    }
    assert_int_equal(world_sent_count(), 0);
}

static void ids_in_paths_are_checked(void **state)
{
    (void)state;
    char target[300];
    snprintf(target, sizeof target, "/v1/conversations/%0128d", 0);
    world_request("GET", target, NULL, NULL);
    assert_int_equal(world_sent_count(), 1);
    snprintf(target, sizeof target, "/v1/conversations/%0129d", 0);
    get(target, 400);
    static const char *const refused[] = {"/v1/conversations/a b", "/v1/conversations/olá",
                                          "/v1/conversations/a@b/events", "/v1/conversations/ok/turns/a b",
                                          "/v1/agents/a b"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        get(refused[i], 400);
    world_request("GET", "/v1/conversations/ok.A_z~0:9-", NULL, NULL);
    assert_int_equal(world_sent_count(), 2);
}

static void an_answer_nobody_accepts_is_406(void **state)
{
    (void)state;
    assert_status(world_request("GET", C, "Accept: text/html\n", NULL), 406);
    assert_status(world_request("GET", C "/stream", "Accept: application/json\n", NULL), 406);
    assert_status(world_request("GET", "/metrics", "Accept: application/json\n", NULL), 406);
    assert_int_equal(world_sent_count(), 0);
}

/* ---- the listing -------------------------------------------------------------------------------------------------------- */

static struct slice key_of(const char *id, char *ret_key)
{
    return slice_of(ret_key, conversation_key_write(SLICE_LITERAL("default"), slice_from_text(id), ret_key));
}

static void a_page_is_listed_with_a_cursor_that_goes_on(void **state)
{
    (void)state;
    char key_a[JOURNAL_KEY_BYTES_MAX], key_b[JOURNAL_KEY_BYTES_MAX];
    uint32_t exchange =
        world_request("GET", "/v1/conversations?limit=2&status=waiting_human&owner=queue%3Avendas&cursor=", NULL, NULL);
    struct journal_list *list = world_list();
    assert_true(slice_is_equal(list->prefix, slice_of("default\0", 8)));
    assert_int_equal(list->after_key.size, 0);
    assert_int_equal(list->status, CONVERSATION_WAITING_HUMAN);
    assert_true(slice_has_text(list->owner, "queue:vendas"));
    assert_int_equal(list->item_count_max, 2);
    struct journal_list_item items[] = {
        {slice_of("default\0\1dead-letters", 21), 3, {0}},
        {key_of("a", key_a), 4, {.status = CONVERSATION_WAITING_HUMAN, .messages = 2, .owner = "queue:vendas"}},
        {key_of("b", key_b), 5, {.status = CONVERSATION_WAITING_HUMAN, .messages = 3, .owner = "queue:vendas"}},
    };
    world_answer_list(OK, items, 3, true);
    assert_status(exchange, 200);
    const char *body = world_body(exchange);
    assert_non_null(strstr(
        body, "{\"id\":\"a\",\"status\":\"waiting_human\",\"owner\":\"queue:vendas\",\"version\":4,\"messages\":2,"));
    assert_non_null(strstr(body, "{\"id\":\"b\","));
    assert_null(strstr(body, "dead-letters"));

    char target[200], cursor[64] = "";
    const char *next = strstr(body, "\"next\":\"");
    assert_non_null(next);
    sscanf(next, "\"next\":\"%63[^\"]", cursor);
    snprintf(target, sizeof target, "/v1/conversations?cursor=%s", cursor);
    exchange = world_request("GET", target, NULL, NULL);
    assert_true(slice_is_equal(world_list()->after_key, key_of("b", key_b)));
    assert_int_equal(world_list()->status, -1);
    world_answer_list(OK, items, 0, false);
    assert_string_equal(world_body(exchange), "{\"conversations\":[],\"next\":null}");
}

static void bad_filters_are_refused_before_the_journal_is_asked(void **state)
{
    (void)state;
    static const struct {
        const char *query;
        int status;
    } cases[] = {{"cursor=forged", 400},
                 {"cursor=00000000b", 400},
                 {"cursor=0", 400},
                 {"limit=0", 422},
                 {"limit=5000", 422},
                 {"limit=x", 400},
                 {"status=asleep", 422},
                 {"owner=01234567890123456789012345678901234567890123456789012345678901234567890123456789x", 422}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char target[200];
        snprintf(target, sizeof target, "/v1/conversations?%s", cases[i].query);
        get(target, cases[i].status);
    }
    assert_null(world_list());
}

static void a_listing_whose_client_left_or_whose_journal_failed_leaks_nothing(void **state)
{
    (void)state;
    uint32_t exchange = world_request("GET", "/v1/conversations?owner=x", NULL, NULL);
    world_client_leaves(exchange);
    assert_true(slice_has_text(world_list()->owner, "x")); /* its texts are its own */
    world_answer_list(OK, NULL, 0, false);
    assert_int_equal(world_answer(exchange)->status, 0);
    exchange = world_request("GET", "/v1/conversations", NULL, NULL);
    world_answer_list(ERR_STORAGE_FAILED, NULL, 0, false);
    assert_status(exchange, 503);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_start, world_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads_and_acts_are_one_question_and_its_body),
        TEST(an_act_without_anything_to_say_answers_an_empty_object),
        TEST(pages_pass_after_and_limit_on),
        TEST(a_turn_is_shown_as_its_message_was_answered),
        TEST(reasons_are_passed_on_and_checked),
        TEST(a_handoff_names_its_target),
        TEST(a_reader_that_leaves_is_no_news_to_the_conversation),
        TEST(unknown_paths_are_404_and_wrong_methods_405_with_allow),
        TEST(ids_in_paths_are_checked),
        TEST(an_answer_nobody_accepts_is_406),
        TEST(a_page_is_listed_with_a_cursor_that_goes_on),
        TEST(bad_filters_are_refused_before_the_journal_is_asked),
        TEST(a_listing_whose_client_left_or_whose_journal_failed_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
