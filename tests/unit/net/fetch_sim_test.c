/* SPDX-License-Identifier: Apache-2.0 */
/* fetch_sim_test: guards the scripted provider of simulations: scripts play in virtual time, the deadlines and the promises of
 * fetch.h hold, the same seed gives the same course, and what was cancelled on the way was never seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "net/fetch_sim.h"
#include "runtime/clock.h"
#include "runtime/ring_sim.h"
#include "runtime/worker.h"

static const uint64_t second_ns = 1000000000;

struct bench {
    struct runtime *runtime;
    struct worker *worker;
    struct fetch_client *client;
    struct buffer body;
    struct fetch_request request;
    struct fetch_id id;
    int data_calls, done_calls;
    bool is_calling, cancels_at_once, cancels_on_data;
    struct fetch_result result;
};

static enum err on_start(struct worker *worker, void *user, struct error *error)
{
    struct bench *bench = user;
    struct fetch_options options = {.in_flight_max = 4};
    return fetch_client_create(worker, &options, &bench->client, error);
}

static void on_stop(struct worker *worker, void *user)
{
    (void)worker;
    fetch_client_destroy(((struct bench *)user)->client);
}

static void on_data(void *context, struct fetch_id id, int status, struct slice data)
{
    struct bench *bench = context;
    assert_int_equal(status, 200);
    bench->data_calls++;
    buffer_append_slice(&bench->body, data);
    if (bench->cancels_on_data)
        fetch_cancel(bench->client, id);
}

static void on_done(void *context, struct fetch_id id, const struct fetch_result *result)
{
    struct bench *bench = context;
    assert_false(bench->is_calling);
    assert_int_equal(id.generation, bench->id.generation);
    bench->done_calls++;
    bench->result = *result;
}

static void bench_init(struct bench *bench, uint64_t seed, fetch_sim_provider *provider, void *context)
{
    sim_world_reset(seed, NULL);
    fetch_sim_set_provider(provider, context);
    *bench = (struct bench){.request = {.method = "POST",
                                        .url = "http://provider/v1/x",
                                        .body = SLICE_LITERAL("question"),
                                        .context = bench,
                                        .on_data = on_data,
                                        .on_done = on_done}};
    buffer_init(&bench->body, 1 << 20);
    struct runtime_options options = {.worker_count = 1, .user = bench, .on_start = on_start, .on_stop = on_stop};
    struct error error = {0};
    if (runtime_create(&options, &bench->runtime, &error) != OK)
        fail_msg("%s", error.text);
    bench->worker = runtime_worker(bench->runtime, 0);
    if (worker_start(bench->worker, &error) != OK)
        fail_msg("%s", error.text);
}

static void bench_deinit(struct bench *bench)
{
    runtime_destroy(bench->runtime);
    buffer_deinit(&bench->body);
    fetch_sim_set_provider(NULL, NULL);
    sim_world_destroy();
}

struct errand {
    struct worker_task task;
    struct bench *bench;
};

static void start(struct worker *worker, struct worker_task *task)
{
    (void)worker;
    struct bench *bench = ((struct errand *)task)->bench;
    bench->is_calling = true;
    assert_int_equal(fetch_start(bench->client, &bench->request, &bench->id, NULL), OK);
    if (bench->cancels_at_once)
        fetch_cancel(bench->client, bench->id);
    bench->is_calling = false;
}

/* Starts the fetch and lets time pass until nothing is left to happen. */
static void run(struct bench *bench)
{
    struct errand errand = {.task = {.run = start}, .bench = bench};
    worker_post(bench->worker, &errand.task);
    for (;;) {
        while (worker_step(bench->worker))
            continue;
        uint64_t next_ns = worker_next_deadline_ns(bench->worker);
        if (next_ns == UINT64_MAX)
            break;
        sim_clock_advance_to(next_ns);
    }
    assert_int_equal(bench->done_calls, 1);
    assert_int_equal(fetch_in_flight(bench->client), 0);
    assert_int_equal(bench->result.received_bytes, bench->body.size);
}

static void speak_in_pieces(void *context, const struct fetch_sim_call *call, struct fetch_sim_script *script)
{
    (void)context;
    assert_true(slice_has_text(call->body, "question"));
    script->status = 200;
    script->retry_after_ms = 7;
    buffer_append_text(&script->body, "one two three");
    script->pieces[0] = (struct fetch_sim_piece){.delay_ns = second_ns, .size = 4};
    script->pieces[1] = (struct fetch_sim_piece){.delay_ns = 30 * second_ns, .size = 4};
    script->piece_count = 2;
}

static void a_script_plays_in_virtual_time(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 1, speak_in_pieces, NULL);
    uint64_t began_ns = clock_mono_ns();
    run(&bench);
    assert_int_equal(bench.result.code, OK);
    assert_int_equal(bench.result.status, 200);
    assert_int_equal(bench.result.retry_after_ms, 7);
    assert_int_equal(bench.data_calls, 3); /* the rest of the body is a piece */
    assert_true(slice_has_text(buffer_slice(&bench.body), "one two three"));
    assert_true(clock_mono_ns() - began_ns >= 31 * second_ns);
    assert_int_equal(fetch_sim_seen_count(), 1);
    bench_deinit(&bench);
}

static void stall(void *context, const struct fetch_sim_call *call, struct fetch_sim_script *script)
{
    (void)call;
    script->status = 200;
    buffer_append_text(&script->body, context);
    script->is_stalled = true;
}

static void a_stalled_script_ends_at_the_deadline(void **state)
{
    (void)state;
    for (int has_body = 0; has_body < 2; has_body++) {
        struct bench bench;
        bench_init(&bench, 2, stall, has_body ? "abc" : "");
        bench.request.first_byte_ns_max = 5 * second_ns;
        bench.request.idle_ns_max = 9 * second_ns;
        uint64_t began_ns = clock_mono_ns();
        run(&bench);
        assert_int_equal(bench.result.code, ERR_TIMEOUT);
        assert_in_range(clock_mono_ns() - began_ns, (has_body ? 9 : 5) * second_ns, (has_body ? 10 : 6) * second_ns);
        bench_deinit(&bench);
    }
}

static void cut(void *context, const struct fetch_sim_call *call, struct fetch_sim_script *script)
{
    (void)call;
    script->status = 200;
    buffer_append_text(&script->body, "half an ans");
    script->code = *(enum err *)context;
}

static void a_failure_comes_after_what_was_said(void **state)
{
    (void)state;
    enum err code = ERR_PEER_CLOSED;
    struct bench bench;
    bench_init(&bench, 3, cut, &code);
    run(&bench);
    assert_int_equal(bench.result.code, ERR_PEER_CLOSED);
    assert_true(slice_has_text(buffer_slice(&bench.body), "half an ans"));
    bench_deinit(&bench);
}

static void the_byte_limit_holds(void **state)
{
    (void)state;
    enum err code = OK;
    struct bench bench;
    bench_init(&bench, 4, cut, &code);
    bench.request.response_bytes_max = 4;
    run(&bench);
    assert_int_equal(bench.result.code, ERR_LIMIT);
    assert_true(slice_has_text(buffer_slice(&bench.body), "half"));
    bench_deinit(&bench);
}

static void without_a_provider_nobody_is_reached(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 5, NULL, NULL);
    run(&bench);
    assert_int_equal(bench.result.code, ERR_CONNECT);
    assert_int_equal(fetch_sim_seen_count(), 0);
    bench_deinit(&bench);
}

static void what_is_cancelled_on_the_way_was_not_seen(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 6, speak_in_pieces, NULL);
    bench.cancels_at_once = true;
    run(&bench);
    assert_int_equal(bench.result.code, ERR_CANCELLED);
    assert_int_equal(fetch_sim_seen_count(), 0);
    bench_deinit(&bench);
}

static void a_cancel_from_inside_on_data_is_the_last_data(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 7, speak_in_pieces, NULL);
    bench.cancels_on_data = true;
    run(&bench);
    assert_int_equal(bench.result.code, ERR_CANCELLED);
    assert_int_equal(bench.data_calls, 1);
    bench_deinit(&bench);
}

static void remember_random(void *context, const struct fetch_sim_call *call, struct fetch_sim_script *script)
{
    *(uint64_t *)context = call->random;
    script->status = 200;
}

static void the_same_seed_gives_the_same_chance(void **state)
{
    (void)state;
    uint64_t numbers[3];
    for (uint64_t i = 0; i < 3; i++) {
        struct bench bench;
        bench_init(&bench, i < 2 ? 11 : 12, remember_random, &numbers[i]);
        run(&bench);
        bench_deinit(&bench);
    }
    assert_true(numbers[0] == numbers[1]);
    assert_true(numbers[0] != numbers[2]);
}

static void the_end_of_the_client_tells_nobody(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 8, stall, "abc");
    struct errand errand = {.task = {.run = start}, .bench = &bench};
    worker_post(bench.worker, &errand.task);
    while (worker_step(bench.worker))
        continue;
    assert_int_equal(fetch_in_flight(bench.client), 1);
    bench_deinit(&bench);
    assert_int_equal(bench.done_calls, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_script_plays_in_virtual_time),
        cmocka_unit_test(a_stalled_script_ends_at_the_deadline),
        cmocka_unit_test(a_failure_comes_after_what_was_said),
        cmocka_unit_test(the_byte_limit_holds),
        cmocka_unit_test(without_a_provider_nobody_is_reached),
        cmocka_unit_test(what_is_cancelled_on_the_way_was_not_seen),
        cmocka_unit_test(a_cancel_from_inside_on_data_is_the_last_data),
        cmocka_unit_test(the_same_seed_gives_the_same_chance),
        cmocka_unit_test(the_end_of_the_client_tells_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
