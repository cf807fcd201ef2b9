/* SPDX-License-Identifier: Apache-2.0 */
/* Probes that tell the truth, agents without their secrets, dead letters, metrics, the description. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/api/api_world.h"

static void assert_status(uint32_t exchange, int status)
{
    if (world_answer(exchange)->status != status)
        fail_msg("status %d instead of %d: %s", world_answer(exchange)->status, status, world_body(exchange));
}

static uint32_t get(const char *target)
{
    return world_request("GET", target, NULL, NULL);
}

/* ---- probes ------------------------------------------------------------------------------------------------------------- */

static void live_and_startup_answer_at_once(void **state)
{
    (void)state;
    static const char *const targets[] = {"/livez", "/health/live", "/startupz", "/health/startup"};
    for (size_t i = 0; i < 4; i++) {
        uint32_t exchange = get(targets[i]);
        assert_status(exchange, 200);
        assert_non_null(strstr(world_body(exchange), "{\"status\":\"ok\",\"checks\":{"));
    }
    world_journal_stats.is_failed = true;
    assert_status(get("/livez"), 200);
    assert_status(get("/startupz"), 503);
}

static void ready_asks_every_worker(void **state)
{
    (void)state;
    uint32_t exchange = get("/readyz");
    assert_int_equal(world_sent_count(), 2); /* two workers, two shards */
    assert_false(slice_is_equal(world_sent(0)->conversation, world_sent(1)->conversation));
    world_refuse(world_sent(0), ERR_NOT_FOUND);
    assert_int_equal(world_answer(exchange)->status, 0);
    world_refuse(world_sent(1), ERR_NOT_FOUND);
    assert_status(exchange, 200);
    assert_non_null(strstr(world_body(exchange), "2 of 2 answered"));
}

static void a_worker_that_does_not_answer_is_not_ready(void **state)
{
    (void)state;
    uint32_t exchange = get("/health/ready");
    world_finish_body(world_sent(0), "{}"); /* there is such a conversation: an answer all the same */
    world_refuse(world_sent(1), ERR_NO_MEMORY);
    world_pass_ms(2100);
    assert_status(exchange, 503);
    assert_non_null(strstr(world_body(exchange), "1 of 2 answered"));
    assert_string_equal(world_answer(exchange)->content_type, "application/json");
}

static void an_unreachable_directory_is_not_ready(void **state)
{
    (void)state;
    world_directory_code = ERR_ACTOR_GONE;
    uint32_t exchange = get("/readyz");
    world_pass_ms(2100);
    assert_status(exchange, 503);
}

static void a_failed_journal_and_a_draining_server_are_not_ready(void **state)
{
    (void)state;
    for (int fault = 0; fault < 2; fault++) {
        world_journal_stats.is_failed = fault == 0;
        world_services.is_draining = fault == 1;
        uint32_t exchange = get("/readyz");
        uint32_t count = world_sent_count();
        world_refuse(world_sent(count - 2), ERR_NOT_FOUND);
        world_refuse(world_sent(count - 1), ERR_NOT_FOUND);
        assert_status(exchange, 503);
        assert_non_null(strstr(world_body(exchange), "\"status\":\"fail\""));
    }
}

static void a_full_disk_is_told_but_still_ready_to_read(void **state)
{
    (void)state;
    world_journal_stats.is_full = true;
    uint32_t exchange = get("/readyz");
    world_refuse(world_sent(0), ERR_NOT_FOUND);
    world_refuse(world_sent(1), ERR_NOT_FOUND);
    assert_status(exchange, 200);
    assert_non_null(strstr(world_body(exchange), "disk is full"));
}

/* ---- the rest ----------------------------------------------------------------------------------------------------------- */

static void agents_are_listed_without_their_instructions(void **state)
{
    (void)state;
    uint32_t exchange = get("/v1/agents");
    assert_status(exchange, 200);
    assert_non_null(strstr(world_body(exchange),
                           "{\"name\":\"echo\",\"kind\":\"echo\",\"on_busy\":\"enqueue\",\"is_default\":false}"));
    assert_non_null(
        strstr(world_body(exchange),
               "\"name\":\"triage\",\"kind\":\"rules\",\"on_busy\":\"enqueue\",\"is_default\":true,\"rules\":"));
    assert_null(strstr(world_body(exchange), "Olá"));
    exchange = get("/v1/agents/echo");
    assert_string_equal(world_body(exchange),
                        "{\"name\":\"echo\",\"kind\":\"echo\",\"on_busy\":\"enqueue\",\"is_default\":false}");
    assert_status(get("/v1/agents/nobody"), 404);
}

static void breakers_metrics_and_the_description_are_served(void **state)
{
    (void)state;
    uint32_t exchange = get("/v1/breakers");
    assert_status(exchange, 200);
    assert_string_equal(world_body(exchange), "{\"breakers\":[]}");
    exchange = get("/metrics");
    assert_status(exchange, 200);
    assert_string_equal(world_answer(exchange)->content_type, "text/plain; version=0.0.4; charset=utf-8");
    assert_non_null(strstr(world_body(exchange), "ciranda_http_answers_total{route=\"list_breakers\",status=\"2xx\"} "));
    exchange = get("/openapi.json");
    assert_status(exchange, 200);
    assert_non_null(strstr(world_body(exchange), "\"openapi\": \"3.1.0\""));
}

static void dead_letters_are_asked_for_by_pages(void **state)
{
    (void)state;
    uint32_t exchange = get("/v1/dead-letters?after=5&limit=7");
    assert_true(world_dead_letters.is_asked);
    assert_int_equal(world_dead_letters.after, 5);
    assert_int_equal(world_dead_letters.limit, 7);
    assert_status(exchange, 503); /* the played dead letters had no memory for the question */
    assert_status(get("/v1/dead-letters?limit=0"), 422);
    assert_status(get("/v1/dead-letters?after=x"), 400);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_start, world_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(live_and_startup_answer_at_once),
        TEST(ready_asks_every_worker),
        TEST(a_worker_that_does_not_answer_is_not_ready),
        TEST(an_unreachable_directory_is_not_ready),
        TEST(a_failed_journal_and_a_draining_server_are_not_ready),
        TEST(a_full_disk_is_told_but_still_ready_to_read),
        TEST(agents_are_listed_without_their_instructions),
        TEST(breakers_metrics_and_the_description_are_served),
        TEST(dead_letters_are_asked_for_by_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
