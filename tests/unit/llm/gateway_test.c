/* SPDX-License-Identifier: Apache-2.0 */
/* gateway and providers: model calls from MODEL_CALL to MODEL_DONE over a scripted fetch client, on a stepped worker with
 * virtual time. Every test also checks at its end that no block, no permit and no reference was lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "actors/config/config.h"
#include "actors/llm/llm.h"
#include "actors/services.h"
#include "runtime/actor.h"
#include "runtime/assert.h"
#include "runtime/buffer.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/ring_sim.h"
#include "runtime/worker.h"
#include "scripted_fetch.h"

#define MS UINT64_C(1000000)
#define S (1000 * MS)
#define CHUNK(text) "data: {\"choices\":[{\"delta\":{\"content\":\"" text "\"}}]}\n\n"
#define FINISH                                                                                                           \
    "data: "                                                                                                             \
    "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}"  \
    "\n\n"
#define DONE "data: [DONE]\n\n"

enum { ANSWERS_MAX = 128 };

static struct agent_config agents[2];
static struct provider_config provider_config;
static struct config config;
static struct services services;
static struct runtime *runtime;
static struct worker *worker;
static uint64_t blocks_before;

/* Instead of actors/config's: the configuration is the test's own, and only its count matters. */
struct config *config_ref(struct config *referenced)
{
    referenced->references++;
    return referenced;
}

void config_unref(struct config *referenced)
{
    if (referenced)
        referenced->references--;
}

/* What the conversation got. */
static struct {
    struct actor_id self;
    uint32_t done_count, delta_count;
    char deltas[256];
    struct answer {
        struct model_done done; /* slices are void */
        char text[256], detail[256], finish_reason[32];
    } answers[ANSWERS_MAX];
} customer;

static void copy(char *to, size_t size, struct slice from)
{
    snprintf(to, size, "%.*s", SLICE_PRINT(from));
}

static enum err customer_on_message(struct actor_context *context, struct msg **msg)
{
    (void)context;
    if ((*msg)->kind == MODEL_DELTA) {
        const struct model_delta *const delta = container_of(*msg, struct model_delta, msg);
        const size_t size = strlen(customer.deltas);
        copy(customer.deltas + size, sizeof customer.deltas - size, delta->text);
        customer.delta_count++;
        return OK;
    }
    assert_int_equal((*msg)->kind, MODEL_DONE);
    assert_true(customer.done_count < ANSWERS_MAX);
    struct answer *const answer = &customer.answers[customer.done_count++];
    answer->done = *container_of(*msg, struct model_done, msg);
    copy(answer->text, sizeof answer->text, answer->done.text);
    copy(answer->detail, sizeof answer->detail, answer->done.detail);
    copy(answer->finish_reason, sizeof answer->finish_reason, answer->done.finish_reason);
    return OK;
}

static const struct actor_type customer_type = {.name = "customer", .on_message = customer_on_message, .is_pinned = true};

static void run(void)
{
    while (worker_step(worker)) {}
}

static void pass(uint64_t ns)
{
    const uint64_t until_ns = clock_mono_ns() + ns;
    for (run(); clock_mono_ns() < until_ns; run()) {
        const uint64_t now_ns = clock_mono_ns(), due_ns = worker_next_deadline_ns(worker);
        const uint64_t next_ns = due_ns > now_ns ? due_ns : now_ns + MS;
        sim_clock_advance_to(next_ns < until_ns ? next_ns : until_ns);
    }
}

static uint64_t blocks_alive(void)
{
    struct worker_stats stats;
    worker_get_stats(worker, &stats);
    return stats.blocks_acquired - stats.blocks_released;
}

static int set_up(void **unused)
{
    (void)unused;
    struct error error = {0};
    log_set_level((enum log_level)(LOG_ERROR + 1));
    scripted_reset();
    memset(&customer, 0, sizeof customer);
    agents[0] = (struct agent_config){.name = SLICE_LITERAL("bot"),
                                      .kind = AGENT_LLM,
                                      .model = SLICE_LITERAL("m-1"),
                                      .temperature = 0.25,
                                      .max_tokens = 100};
    agents[1] = (struct agent_config){.name = SLICE_LITERAL("echo"), .kind = AGENT_ECHO};
    provider_config = (struct provider_config){
        .name = SLICE_LITERAL("main"),
        .base_url = SLICE_LITERAL("http://127.0.0.1:9/v1"),
        .api_key = SLICE_LITERAL("sk-very-secret"),
        .first_byte_ns_max = 3 * S,
        .idle_ns_max = 4 * S,
        .total_ns_max = 20 * S,
        .in_flight_max = 2,
        .breaker = {.failures = 3, .successes = 1, .window = 20, .open_for_ns = 10 * S},
    };
    config = (struct config){
        .references = 1, .agents = agents, .agent_count = 2, .providers = &provider_config, .provider_count = 1};
    sim_world_reset(1, NULL);
    const struct runtime_options options = {.worker_count = 1, .memory_bytes_max = 1 << 26};
    assert_int_equal(runtime_create(&options, &runtime, &error), OK);
    worker = runtime_worker(runtime, 0);
    assert_int_equal(worker_start(worker, &error), OK);
    services = (struct services){.worker = worker, .config = &config};
    assert_int_equal(providers_create(runtime, &services.providers, &error), OK);
    assert_int_equal(providers_start(services.providers, worker, &config, &error), OK);
    assert_int_equal(llm_gateway_start(worker, &services, &error), OK);
    assert_int_equal(actor_spawn(worker, &customer_type, NULL, NULL, &customer.self), OK);
    run();
    blocks_before = blocks_alive();
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    runtime_destroy(runtime);
    providers_destroy(services.providers);
    sim_world_destroy();
    return 0;
}

/* Nothing is under way any more. */
static void expect_nothing_left(void)
{
    struct buffer json;
    scripted_finish_cancelled();
    run();
    buffer_init(&json, 4096);
    providers_write_json(services.providers, &json);
    buffer_append_byte(&json, '\0');
    assert_non_null(strstr(json.data, "\"in_flight\":0,"));
    assert_non_null(strstr(json.data, "\"waiting\":0}"));
    buffer_deinit(&json);
    assert_int_equal(blocks_alive(), blocks_before);
    assert_int_equal(config.references, 1);
}

static void send_call(struct model_call *fill)
{
    struct model_message messages[] = {
        {.role = MODEL_ROLE_SYSTEM, .text = SLICE_LITERAL("Be kind.")},
        {.role = MODEL_ROLE_USER, .text = SLICE_LITERAL("say \"hi\"\n")},
        {.role = MODEL_ROLE_ASSISTANT, .text = SLICE_LITERAL("hi")},
    };
    fill->reply_to = customer.self;
    fill->config = &config;
    fill->effect_key = SLICE_LITERAL("effect-1");
    if (fill->trace_id.size == 0)
        fill->trace_id = SLICE_LITERAL("trace-1");
    fill->messages = messages;
    fill->message_count = 3;
    struct model_call *const call = model_call_create(worker, fill);
    assert_non_null(call);
    struct msg *msg = &call->msg;
    assert_int_equal(actor_send(worker, llm_gateway(&services), &msg), OK);
    run();
}

static void ask(uint64_t token)
{
    send_call(&(struct model_call){.token = token, .wants_deltas = true});
}

static void cancel(uint64_t token)
{
    struct model_cancel *const cancel = MSG_CREATE(worker, struct model_cancel, MODEL_CANCEL, MSG_URGENT);
    cancel->reply_to = customer.self;
    cancel->token = token;
    struct msg *msg = &cancel->msg;
    assert_int_equal(actor_send(worker, llm_gateway(&services), &msg), OK);
    run();
}

static const struct answer *last_answer(uint32_t count)
{
    run();
    assert_int_equal(customer.done_count, count);
    return &customer.answers[count - 1];
}

static void end_with(uint32_t index, enum err code, int status)
{
    scripted_end(index, (struct fetch_result){.code = code, .status = status, .detail = "as scripted"});
    run();
}

/* One call that ends so. */
static void call_and_fail(uint64_t token, enum err code)
{
    ask(token);
    end_with(scripted_count - 1, code, 0);
}

static void the_request_says_what_the_agent_is_configured_to(void **unused)
{
    (void)unused;
    ask(1);
    assert_int_equal(scripted_count, 1);
    assert_string_equal(scripted[0].url, "http://127.0.0.1:9/v1/chat/completions");
    assert_string_equal(scripted[0].headers,
                        "Content-Type: application/json\nAccept: text/event-stream, application/json\n"
                        "Authorization: Bearer sk-very-secret\nIdempotency-Key: effect-1\nX-Trace-Id: trace-1\n");
    assert_string_equal(
        scripted[0].body,
        "{\"model\":\"m-1\",\"messages\":[{\"role\":\"system\",\"content\":\"Be kind.\"},"
        "{\"role\":\"user\",\"content\":\"say \\\"hi\\\"\\n\"},{\"role\":\"assistant\",\"content\":\"hi\"}],"
        "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"temperature\":0.25,"
        "\"max_tokens\":100}");
    assert_int_equal(scripted[0].request.total_ns_max, 20 * S);
    assert_int_equal(scripted[0].request.first_byte_ns_max, 3 * S);
    assert_int_equal(scripted[0].request.idle_ns_max, 4 * S);
    assert_int_equal(scripted[0].request.response_bytes_max, 8 << 20);
    end_with(0, ERR_CONNECT, 0);
    expect_nothing_left();
}

/* As long as the configuration lets it be: tokens of some gateways are JWTs of several KiB. */
static void the_longest_key_is_sent_whole(void **unused)
{
    (void)unused;
    static char key[4096];
    memset(key, 'k', sizeof key);
    provider_config.api_key = slice_of(key, sizeof key);
    ask(1);
    assert_int_equal(scripted_count, 1);
    const char *const sent = strstr(scripted[0].headers, "Bearer k");
    assert_non_null(sent);
    assert_int_equal(strspn(sent + sizeof "Bearer " - 1, "k"), sizeof key);
    end_with(0, ERR_CONNECT, 0);
    expect_nothing_left();
}

static void a_stream_comes_as_deltas_and_then_whole(void **unused)
{
    (void)unused;
    ask(7);
    pass(250 * MS);
    scripted_say(0, 200, CHUNK("Hel") CHUNK("lo"));
    run();
    assert_int_equal(customer.delta_count, 1); /* one message a piece, not one a chunk */
    pass(100 * MS);
    scripted_say(0, 200, CHUNK(", you") FINISH);
    run();
    assert_int_equal(customer.done_count, 0);
    scripted_say(0, 200, DONE);
    const struct answer *const answer = last_answer(1); /* [DONE] is enough: nobody waits for the end of the exchange */
    end_with(0, OK, 200);
    assert_int_equal(customer.done_count, 1);
    assert_string_equal(customer.deltas, "Hello, you");
    assert_int_equal(answer->done.code, OK);
    assert_int_equal(answer->done.token, 7);
    assert_string_equal(answer->text, "Hello, you");
    assert_string_equal(answer->finish_reason, "stop");
    assert_int_equal(answer->done.input_tokens, 3);
    assert_int_equal(answer->done.output_tokens, 5);
    assert_in_range(answer->done.first_token_ms, 250, 252);
    assert_in_range(answer->done.duration_ms, 350, 354);
    assert_true(answer->done.was_sent);
    expect_nothing_left();
}

static void an_exchange_that_does_not_end_after_done_is_cut_short(void **unused)
{
    (void)unused;
    ask(1);
    scripted_say(0, 200, CHUNK("x") DONE);
    assert_int_equal(last_answer(1)->done.code, OK);
    pass(900 * MS);
    assert_false(scripted[0].is_cancelled);
    pass(200 * MS);
    assert_true(scripted[0].is_cancelled);
    expect_nothing_left();
}

static void failures_keep_their_code_and_the_partial_text(void **unused)
{
    (void)unused;
    static const struct {
        enum err code;
        bool was_sent;
    } cases[] = {{ERR_CONNECT, false}, {ERR_TLS, false}, {ERR_TIMEOUT, true}, {ERR_PEER_CLOSED, true}, {ERR_LIMIT, true}};
    provider_config.breaker.failures = 0;
    providers_reload(services.providers, worker, &config);
    for (uint32_t i = 0; i < 5; i++) {
        ask(i);
        if (cases[i].was_sent)
            scripted_say(i, 200, CHUNK("par"));
        end_with(i, cases[i].code, cases[i].was_sent ? 200 : 0);
        const struct answer *const answer = last_answer(i + 1);
        assert_int_equal(answer->done.code, cases[i].code);
        assert_int_equal(answer->done.was_sent, cases[i].was_sent);
        assert_string_equal(answer->text, cases[i].was_sent ? "par" : "");
        assert_string_equal(answer->detail, "as scripted");
    }
    expect_nothing_left();
}

static void a_busy_provider_says_when_to_come_back_and_no_secret_is_told(void **unused)
{
    (void)unused;
    ask(1);
    scripted_say(0, 429, "{\"error\":{\"message\":\"slow down, sk-very-secret\"}}");
    scripted_end(0, (struct fetch_result){.code = OK, .status = 429, .retry_after_ms = 1500});
    const struct answer *const answer = last_answer(1);
    assert_int_equal(answer->done.code, ERR_BUSY);
    assert_int_equal(answer->done.http_status, 429);
    assert_int_equal(answer->done.retry_after_ms, 1500);
    assert_string_equal(answer->detail, "HTTP 429: slow down, ***");
    expect_nothing_left();
}

static void a_malformed_stream_closes_the_socket_before_it_is_told(void **unused)
{
    (void)unused;
    ask(1);
    scripted_say(0, 200, CHUNK("ok so far") "data: {\n\n");
    run();
    assert_true(scripted[0].is_cancelled);
    assert_int_equal(customer.done_count, 0);
    scripted_finish_cancelled();
    const struct answer *const answer = last_answer(1);
    assert_int_equal(answer->done.code, ERR_PROTOCOL);
    assert_string_equal(answer->text, "ok so far");
    expect_nothing_left();
}

static void a_cancelled_call_is_answered_once_its_socket_is_closed(void **unused)
{
    (void)unused;
    ask(1);
    scripted_say(0, 200, CHUNK("half"));
    cancel(1);
    cancel(1); /* twice is once */
    assert_true(scripted[0].is_cancelled);
    assert_int_equal(customer.done_count, 0);
    scripted_finish_cancelled();
    const struct answer *const answer = last_answer(1);
    assert_int_equal(answer->done.code, ERR_CANCELLED);
    assert_true(answer->done.was_sent);
    assert_string_equal(answer->text, "half");
    cancel(1); /* after the end: nothing */
    assert_int_equal(customer.done_count, 1);
    expect_nothing_left();
}

static void calls_over_the_cap_wait_in_order_and_can_be_cancelled_there(void **unused)
{
    (void)unused;
    for (uint64_t token = 1; token <= 5; token++)
        ask(token);
    assert_int_equal(scripted_count, 2); /* in_flight: 2 */
    cancel(4);
    assert_int_equal(last_answer(1)->done.code, ERR_CANCELLED);
    assert_false(last_answer(1)->done.was_sent);
    scripted_say(0, 200, CHUNK("a") DONE);
    run();
    assert_int_equal(scripted_count, 3);
    scripted_say(1, 200, CHUNK("b") DONE);
    run();
    assert_int_equal(scripted_count, 4); /* 4 was passed over */
    scripted_say(2, 200, CHUNK("c") DONE);
    scripted_say(3, 200, CHUNK("d") DONE);
    run();
    assert_int_equal(customer.done_count, 5);
    assert_int_equal(customer.answers[3].done.token, 3);
    assert_int_equal(customer.answers[4].done.token, 5);
    for (uint32_t i = 0; i < 4; i++)
        end_with(i, OK, 200);
    expect_nothing_left();
}

static void a_call_that_waits_too_long_times_out_without_being_sent(void **unused)
{
    (void)unused;
    ask(1);
    ask(2);
    send_call(&(struct model_call){.token = 3, .deadline_ns = clock_mono_ns() + 5 * S});
    pass(4900 * MS);
    assert_int_equal(customer.done_count, 0);
    pass(200 * MS);
    const struct answer *const answer = last_answer(1);
    assert_int_equal(answer->done.token, 3);
    assert_int_equal(answer->done.code, ERR_TIMEOUT);
    assert_false(answer->done.was_sent);
    end_with(0, ERR_CONNECT, 0); /* frees a permit, which the late call gives back at once */
    end_with(1, ERR_CONNECT, 0);
    assert_int_equal(scripted_count, 2);
    expect_nothing_left();
}

static void the_turns_deadline_bounds_the_fetch_and_does_not_count_against_the_provider(void **unused)
{
    (void)unused;
    uint64_t retry_after_ms = 0;
    for (uint32_t i = 0; i < 3; i++) {
        send_call(&(struct model_call){.token = i, .deadline_ns = clock_mono_ns() + 2 * S});
        assert_int_equal(scripted[i].request.total_ns_max, 2 * S);
        pass(2 * S);
        end_with(i, ERR_TIMEOUT, 0);
    }
    assert_int_equal(last_answer(3)->done.code, ERR_TIMEOUT);
    assert_false(providers_is_open(services.providers, provider_config.name, &retry_after_ms));
    send_call(&(struct model_call){.token = 9, .deadline_ns = clock_mono_ns() - 1});
    assert_int_equal(last_answer(4)->done.code, ERR_TIMEOUT);
    assert_int_equal(scripted_count, 3);
    expect_nothing_left();
}

static void the_breaker_opens_refuses_and_lets_one_probe_through(void **unused)
{
    (void)unused;
    uint64_t retry_after_ms = 0;
    for (uint64_t token = 0; token < 3; token++)
        call_and_fail(token, ERR_CONNECT);
    assert_true(providers_is_open(services.providers, provider_config.name, &retry_after_ms));
    assert_in_range(retry_after_ms, 9900, 10000);
    ask(3);
    const struct answer *answer = last_answer(4);
    assert_int_equal(answer->done.code, ERR_BREAKER_OPEN);
    assert_false(answer->done.was_sent);
    assert_in_range(answer->done.retry_after_ms, 9900, 10000);
    assert_int_equal(scripted_count, 3);

    pass(10 * S + 10 * MS);
    assert_false(providers_is_open(services.providers, provider_config.name, &retry_after_ms));
    ask(4);
    ask(5);
    assert_int_equal(scripted_count, 4); /* one probe */
    assert_int_equal(last_answer(5)->done.code, ERR_BREAKER_OPEN);
    cancel(4); /* a neutral end: the permit comes back, nothing is decided */
    scripted_finish_cancelled();
    run();
    ask(6);
    assert_int_equal(scripted_count, 5);
    scripted_say(4, 200, CHUNK("well again") DONE);
    assert_int_equal(last_answer(7)->done.code, OK);
    ask(7);
    ask(8);
    assert_int_equal(scripted_count, 7); /* closed */
    end_with(4, OK, 200);
    end_with(5, OK, 200);
    end_with(6, OK, 200);
    expect_nothing_left();
}

static void calls_that_wait_are_refused_when_the_breaker_opens(void **unused)
{
    (void)unused;
    call_and_fail(0, ERR_CONNECT);
    call_and_fail(1, ERR_CONNECT);
    ask(2);
    ask(3);
    ask(4);
    ask(5);
    assert_int_equal(scripted_count, 4);
    end_with(2, ERR_CONNECT, 0); /* the third in a row */
    assert_int_equal(customer.done_count, 5);
    assert_int_equal(customer.answers[3].done.code, ERR_BREAKER_OPEN);
    assert_int_equal(customer.answers[4].done.code, ERR_BREAKER_OPEN);
    end_with(3, OK, 200);
    expect_nothing_left();
}

static void a_refused_request_is_no_failure_of_the_provider(void **unused)
{
    (void)unused;
    uint64_t retry_after_ms = 0;
    for (uint32_t i = 0; i < 10; i++) {
        ask(i);
        scripted_say(i, 400, "{\"error\":{\"message\":\"no\"}}");
        end_with(i, OK, 400);
    }
    assert_int_equal(last_answer(10)->done.code, ERR_INVALID);
    assert_string_equal(last_answer(10)->detail, "HTTP 400: no");
    assert_false(providers_is_open(services.providers, provider_config.name, &retry_after_ms));
    expect_nothing_left();
}

static void what_cannot_be_sent_is_refused_and_counts_for_nothing(void **unused)
{
    (void)unused;
    uint64_t retry_after_ms = 0;
    send_call(&(struct model_call){.token = 1, .agent = 1}); /* not of kind llm */
    assert_int_equal(last_answer(1)->done.code, ERR_INVALID);
    send_call(&(struct model_call){.token = 2, .agent = 99});
    assert_int_equal(last_answer(2)->done.code, ERR_INVALID);
    send_call(&(struct model_call){.token = 3, .trace_id = SLICE_LITERAL("a\r\nX-Evil: 1")});
    assert_int_equal(last_answer(3)->done.code, ERR_INVALID);
    scripted_start_error = ERR_LIMIT; /* this worker's cap */
    for (uint64_t token = 4; token < 9; token++)
        ask(token);
    assert_int_equal(last_answer(8)->done.code, ERR_BUSY);
    assert_false(last_answer(8)->done.was_sent);
    assert_false(providers_is_open(services.providers, provider_config.name, &retry_after_ms));
    assert_int_equal(scripted_count, 0);
    expect_nothing_left();
}

static void a_conversation_that_is_gone_cancels_its_call(void **unused)
{
    (void)unused;
    ask(1);
    actor_kill(worker, customer.self, OK);
    run();
    scripted_say(0, 200, CHUNK("anybody there?"));
    assert_true(scripted[0].is_cancelled);
    expect_nothing_left();
}

static void a_reload_resets_a_breaker_only_when_its_options_change(void **unused)
{
    (void)unused;
    uint64_t retry_after_ms = 0;
    for (uint64_t token = 0; token < 3; token++)
        call_and_fail(token, ERR_CONNECT);
    providers_reload(services.providers, worker, &config);
    assert_true(providers_is_open(services.providers, provider_config.name, &retry_after_ms));
    provider_config.breaker.failures = 4;
    providers_reload(services.providers, worker, &config);
    assert_false(providers_is_open(services.providers, provider_config.name, &retry_after_ms));
    expect_nothing_left();
}

/* A turn asks by its own configuration, in which the numbers are others. */
static void a_breaker_is_found_by_name_whatever_a_reload_did_to_the_order(void **unused)
{
    (void)unused;
    uint64_t retry_after_ms = 0;
    for (uint64_t token = 0; token < 3; token++)
        call_and_fail(token, ERR_CONNECT);
    struct provider_config reordered[] = {provider_config, provider_config};
    reordered[0].name = SLICE_LITERAL("added");
    struct config reloaded = config;
    reloaded.providers = reordered;
    reloaded.provider_count = 2;
    providers_reload(services.providers, worker, &reloaded);
    assert_true(providers_is_open(services.providers, provider_config.name, &retry_after_ms));
    assert_false(providers_is_open(services.providers, SLICE_LITERAL("added"), &retry_after_ms));
    assert_false(providers_is_open(services.providers, SLICE_LITERAL("nobody's"), &retry_after_ms));
    expect_nothing_left();
}

static void an_end_in_the_middle_of_calls_loses_no_memory(void **unused)
{
    (void)unused;
    for (uint64_t token = 0; token < 6; token++)
        ask(token); /* two run, four wait; tear_down ends them */
    scripted_say(0, 200, CHUNK("x") DONE);
    scripted_say(1, 200, CHUNK("y"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_request_says_what_the_agent_is_configured_to),
        TEST(the_longest_key_is_sent_whole),
        TEST(a_stream_comes_as_deltas_and_then_whole),
        TEST(an_exchange_that_does_not_end_after_done_is_cut_short),
        TEST(failures_keep_their_code_and_the_partial_text),
        TEST(a_busy_provider_says_when_to_come_back_and_no_secret_is_told),
        TEST(a_malformed_stream_closes_the_socket_before_it_is_told),
        TEST(a_cancelled_call_is_answered_once_its_socket_is_closed),
        TEST(calls_over_the_cap_wait_in_order_and_can_be_cancelled_there),
        TEST(a_call_that_waits_too_long_times_out_without_being_sent),
        TEST(the_turns_deadline_bounds_the_fetch_and_does_not_count_against_the_provider),
        TEST(the_breaker_opens_refuses_and_lets_one_probe_through),
        TEST(calls_that_wait_are_refused_when_the_breaker_opens),
        TEST(a_refused_request_is_no_failure_of_the_provider),
        TEST(what_cannot_be_sent_is_refused_and_counts_for_nothing),
        TEST(a_conversation_that_is_gone_cancels_its_call),
        TEST(a_reload_resets_a_breaker_only_when_its_options_change),
        TEST(a_breaker_is_found_by_name_whatever_a_reload_did_to_the_order),
        TEST(an_end_in_the_middle_of_calls_loses_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
