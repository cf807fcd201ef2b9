/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server in the simulated world: order, deadlines, slow readers, drain, floods, faults. Rows A15, A16, B1-B4, B6, R2,
 * R3 of the bad-input catalogue, and invariants H1-H6. Time is virtual: nothing here sleeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/http1.h"
#include "net/http_server.h"
#include "runtime/assert.h"
#include "runtime/buffer.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/metrics.h"
#include "runtime/ring_sim.h"
#include "runtime/worker.h"
#include "tests/unit/net/stepped_world.h"

enum { WORKERS_MAX = 2, KEPT_MAX = 64 };
#define SECOND UINT64_C(1000000000)
#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

/* ---- the world: a runtime of one or two workers, each with a server, stepped here ---------------------------------------- */
static struct {
    uint32_t worker_count;
    struct http_server *servers[WORKERS_MAX];
    struct http_server_options options;
    char address[64];
    /* what the handler saw */
    struct http_exchange_id kept[KEPT_MAX]; /* of /later/N */
    struct http_server *kept_server[KEPT_MAX];
    struct http_exchange_id gone[KEPT_MAX];
    uint32_t gone_count, request_count, exchanges_peak, drained_count;
    uint64_t received_ns;
    char big[100000];
} world;

static void on_request(void *context, struct http_server *server, struct http_exchange_id exchange,
                       const struct http_request *request)
{
    (void)context;
    world.request_count++;
    world.received_ns = request->received_ns;
    assert_int_equal(worker_now_ns(worker_current()), clock_mono_ns()); /* in a callback of the ring, too */
    struct http_server_stats stats;
    http_server_get_stats(server, &stats);
    if (stats.exchanges > world.exchanges_peak)
        world.exchanges_peak = stats.exchanges;

    char path[64], text[200];
    snprintf(path, sizeof path, "%.*s", SLICE_PRINT(request->path));
    unsigned number;
    if (sscanf(path, "/later/%u", &number) == 1 && number < KEPT_MAX) {
        world.kept[number] = exchange;
        world.kept_server[number] = server;
        return;
    }
    if (strcmp(path, "/parked") == 0)
        return;
    struct http_response response = {.status = 200, .content_type = "text/plain"};
    int size = snprintf(text, sizeof text, "%s %s %zu", http_method_text(request->method), path, request->body.size);
    response.body = slice_of(text, (size_t)size);
    if (strcmp(path, "/big") == 0)
        response.body = slice_of(world.big, sizeof world.big);
    if (strcmp(path, "/empty") == 0)
        response = (struct http_response){.status = 204};
    response.close = strcmp(path, "/close") == 0;
    assert_int_equal(http_respond(server, exchange, &response), OK);
}

static void on_gone(void *context, struct http_server *server, struct http_exchange_id exchange)
{
    (void)context;
    assert_true(world.gone_count < KEPT_MAX);
    world.gone[world.gone_count++] = exchange;
    struct http_response response = {.status = 200};
    assert_int_equal(http_respond(server, exchange, &response), ERR_NOT_FOUND); /* stale already, and harmless */
}

static void on_drained(void *context, struct http_server *server, struct http_exchange_id exchange)
{
    (void)context;
    assert_int_equal(http_stream_unsent(server, exchange), 0);
    world.drained_count++;
}

static size_t write_refusal(void *context, int status, const char *reason, const char *trace_id, char *buffer,
                            size_t size)
{
    (void)context;
    return (size_t)snprintf(buffer, size, "refused %d %s %s.", status, reason, trace_id);
}

static enum err on_start(struct worker *worker, void *user, struct error *error)
{
    (void)user;
    return http_server_create(worker, &world.options, &world.servers[worker_index(worker)], error);
}

static void on_stop(struct worker *worker, void *user)
{
    (void)user;
    http_server_destroy(world.servers[worker_index(worker)]);
}

static void listen_here(struct worker *worker, void *argument)
{
    (void)worker, (void)argument;
    struct error error;
    assert_int_equal(http_server_listen(world.servers[0], "127.0.0.1:0", world.servers, world.worker_count, &error), OK);
    http_server_address(world.servers[0], world.address, sizeof world.address);
}

static void drain_here(struct worker *worker, void *argument)
{
    (void)argument;
    http_server_drain(world.servers[worker_index(worker)]);
}

static void start(uint64_t seed, const struct sim_options *sim, uint32_t worker_count, struct http_server_options options)
{
    memset(&world, 0, sizeof world);
    memset(world.big, 'b', sizeof world.big);
    options.handler = (struct http_handler){
        .on_request = on_request, .on_gone = on_gone, .on_drained = on_drained, .write_refusal = write_refusal};
    world.options = options;
    world.worker_count = worker_count;
    struct runtime_options runtime_options = {
        .worker_count = worker_count, .on_start = on_start, .on_stop = on_stop, .ring = {.buffer_count = 64}};
    stepped_world_start(seed, sim, &runtime_options);
    stepped_run(0, listen_here, NULL);
    assert_true(world.address[0] != 0);
}

static void start_plain(void)
{
    start(1, NULL, 1, (struct http_server_options){0});
}

static int stop(void **state)
{
    (void)state;
    for (uint32_t w = 0; w < world.worker_count; w++)
        stepped_run(w, drain_here, NULL);
    world.worker_count = 0;
    return stepped_world_stop(); /* with whatever is still open: nothing may leak */
}

static struct http_server_stats stats_of(uint32_t index)
{
    struct http_server_stats stats;
    http_server_get_stats(world.servers[index], &stats);
    return stats;
}

/* ---- clients -------------------------------------------------------------------------------------------------------------- */
static struct sim_client *connect_client(void)
{
    struct sim_client *client = sim_connect(world.address);
    assert_non_null(client);
    stepped_settle();
    return client;
}

static void say(struct sim_client *client, const char *text)
{
    assert_int_equal(sim_client_send(client, text, strlen(text)), strlen(text));
    stepped_settle();
}

/* All that is there, NUL-terminated, Date lines cut out (their value is not the matter). */
static const char *hear(struct sim_client *client)
{
    static char text[1 << 21];
    size_t size = 0, got;
    stepped_settle();
    while ((got = sim_client_receive(client, text + size, sizeof text - 1 - size)) > 0) {
        size += got;
        stepped_settle();
    }
    text[size] = 0;
    for (char *date; (date = strstr(text, "Date: "));) {
        char *end = strstr(date, "\r\n");
        assert_non_null(end);
        assert_int_equal(end - date, 6 + 29);
        memmove(date, end + 2, strlen(end + 2) + 1);
    }
    return text;
}

#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"

static uint32_t count_of(const char *text, const char *part)
{
    uint32_t count = 0;
    for (; (text = strstr(text, part)); text += strlen(part))
        count++;
    return count;
}

struct answer {
    uint32_t number;
    struct http_response response;
};
static void answer_here(struct worker *worker, void *argument)
{
    (void)worker;
    struct answer *answer = argument;
    struct http_server *server = world.kept_server[answer->number];
    world.kept_server[answer->number] = NULL;
    assert_int_equal(http_respond(server, world.kept[answer->number], &answer->response), OK);
}
static void answer_later(uint32_t number, const char *body)
{
    struct answer answer = {number, {.status = 200, .content_type = "text/plain", .body = slice_from_text(body)}};
    stepped_run(0, answer_here, &answer);
}

struct part {
    uint32_t number;
    struct slice data;
    enum err result;
};
static void stream_start_here(struct worker *worker, void *argument)
{
    (void)worker;
    struct part *part = argument;
    part->result = http_stream_start(world.servers[0], world.kept[part->number],
                                     &(struct http_response){.status = 200, .content_type = "text/event-stream"});
}
static void stream_write_here(struct worker *worker, void *argument)
{
    (void)worker;
    struct part *part = argument;
    part->result = http_stream_write(world.servers[0], world.kept[part->number], part->data);
}
static void stream_end_here(struct worker *worker, void *argument)
{
    (void)worker;
    struct part *part = argument;
    part->result = http_stream_end(world.servers[0], world.kept[part->number]);
}
static enum err stream(void (*act)(struct worker *, void *), uint32_t number, struct slice data)
{
    struct part part = {.number = number, .data = data};
    stepped_run(0, act, &part);
    return part.result;
}

/* ---- requests and answers -------------------------------------------------------------------------------------------------- */
static void a_connection_carries_one_request_after_another(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    for (int i = 0; i < 3; i++) {
        say(client, "POST /a%20b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
        assert_string_equal(hear(client), OK_HEAD "Content-Length: 11\r\n\r\nPOST /a b 5");
    }
    say(client, "HEAD /h HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_string_equal(hear(client), OK_HEAD "Content-Length: 9\r\n\r\n");
    say(client, GET("/empty"));
    assert_string_equal(hear(client), "HTTP/1.1 204 No Content\r\n\r\n");
    assert_int_equal(stats_of(0).requests, 5);
    assert_int_equal(stats_of(0).exchanges, 0);
}

static void a_request_in_single_bytes_is_the_same_request(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    const char text[] =
        "\r\nPOST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;a=b\r\nyou\r\n0\r\n"
        "X: y\r\n\r\n" GET("/next");
    for (size_t i = 0; i < sizeof text - 1; i++) {
        assert_int_equal(sim_client_send(client, text + i, 1), 1);
        stepped_settle();
    }
    assert_string_equal(hear(client),
                        OK_HEAD "Content-Length: 9\r\n\r\nPOST /x 8" OK_HEAD "Content-Length: 11\r\n\r\nGET /next 0");
}

static void a_large_body_arrives_whole(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    say(client, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 262144\r\n\r\n");
    static char body[262144];
    for (size_t sent = 0; sent < sizeof body; stepped_settle())
        sent += sim_client_send(client, body + sent, sizeof body - sent);
    assert_string_equal(hear(client), OK_HEAD "Content-Length: 14\r\n\r\nPOST /x 262144");
}

static void http_1_0_closes_unless_asked_to_stay(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    say(client, "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_string_equal(hear(client), OK_HEAD "Content-Length: 8\r\nConnection: keep-alive\r\n\r\nGET /a 0");
    say(client, "GET /b HTTP/1.0\r\n\r\n" GET("/never"));
    assert_string_equal(hear(client), OK_HEAD "Content-Length: 8\r\nConnection: close\r\n\r\nGET /b 0");
    assert_true(sim_client_is_closed_by_peer(client));
    assert_int_equal(world.request_count, 2);
}

static void answers_leave_in_the_order_of_requests(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    say(client, GET("/later/0") GET("/now") GET("/later/1") GET("/now"));
    assert_string_equal(hear(client), "");
    answer_later(1, "second");
    assert_string_equal(hear(client), "");
    answer_later(0, "first");
    assert_string_equal(hear(client),
                        OK_HEAD "Content-Length: 5\r\n\r\nfirst" OK_HEAD "Content-Length: 10\r\n\r\nGET /now 0" OK_HEAD
                                "Content-Length: 6\r\n\r\nsecond" OK_HEAD "Content-Length: 10\r\n\r\nGET /now 0");
}

static void read_submitted(struct worker *worker, void *argument)
{
    struct ring_stats stats;
    ring_get_stats(worker_ring(worker), &stats);
    *(uint64_t *)argument = stats.submitted;
}

static void what_gathers_in_a_turn_leaves_in_one_send(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    uint64_t before, after;
    stepped_run(0, read_submitted, &before);
    say(client, GET("/1") GET("/2") GET("/3") GET("/4") GET("/5") GET("/6") GET("/7") GET("/8"));
    stepped_run(0, read_submitted, &after);
    assert_int_equal(count_of(hear(client), "HTTP/1.1 200"), 8);
    assert_int_equal(after - before, 1);
}

static void a16_a_valid_request_before_an_invalid_one_is_answered(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    say(client, GET("/later/0") "GET /bad HTTP/1.1\nHost: x\r\n\r\n" GET("/never"));
    assert_string_equal(hear(client), "");
    answer_later(0, "first");
    const char *text = hear(client);
    assert_ptr_equal(strstr(text, OK_HEAD "Content-Length: 5\r\n\r\nfirst"), text);
    const char *refusal = strstr(text, "HTTP/1.1 400 Bad Request\r\n");
    assert_non_null(refusal);
    assert_non_null(strstr(refusal, "Connection: close\r\n"));
    /* The trace id of the head is that of the body. */
    char trace_id[33], ending[40];
    assert_int_equal(sscanf(strstr(refusal, "X-Trace-Id: "), "X-Trace-Id: %32[0-9a-f]\r\n", trace_id), 1);
    assert_int_equal(strlen(trace_id), 32);
    snprintf(ending, sizeof ending, "%s.", trace_id);
    assert_non_null(strstr(refusal, "refused 400 line ends in LF without CR"));
    assert_string_equal(text + strlen(text) - strlen(ending), ending);
    assert_true(sim_client_is_closed_by_peer(client));
    say(client, GET("/never"));
    assert_int_equal(world.request_count, 1);
    assert_int_equal(stats_of(0).refused_by_status[4], 1);
    assert_int_equal(metrics_read(metrics_register_counter("http_refusals_total", "", "reason=\"bare_lf\"")), 1);
}

static void a16_ten_thousand_pipelined_requests_are_taken_32_at_a_time(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    enum { COUNT = 10000 };
    struct buffer text;
    buffer_init(&text, 1 << 20);
    for (int i = 0; i < COUNT; i++)
        buffer_append_text(&text, i % 100 == 0 ? GET("/later/1") : GET("/now"));
    uint32_t answered = 0, later = 0;
    for (size_t sent = 0, turns = 0; answered < COUNT; turns++) {
        assert_true(turns < COUNT);
        sent += sim_client_send(client, text.data + sent, text.size - sent);
        answered += count_of(hear(client), "HTTP/1.1 200");
        if (world.kept_server[1]) {
            answer_later(1, "late");
            later++;
        }
        answered += count_of(hear(client), "HTTP/1.1 200");
    }
    assert_int_equal(later, COUNT / 100);
    assert_true(world.exchanges_peak <= 32);
    assert_true(world.exchanges_peak > 30);
    buffer_deinit(&text);
}

static void an_unanswered_pipeline_stops_the_reading(void **state)
{
    (void)state;
    struct sim_options sim = {.socket_buffer_bytes = 65536};
    start(1, &sim, 1, (struct http_server_options){0});
    struct sim_client *client = connect_client();
    struct buffer text;
    buffer_init(&text, 1 << 20);
    while (text.size < 1000000)
        buffer_append_text(&text, GET("/parked"));
    size_t sent = 0, took;
    do {
        took = sim_client_send(client, text.data + sent, text.size - sent);
        sent += took;
        stepped_settle();
    } while (took > 0);
    assert_int_equal(stats_of(0).exchanges, 32);
    assert_true(sent < 400000); /* the rest stays with the client */
    buffer_deinit(&text);
}

static void large_answers_to_a_reader_that_does_not_read_stop_the_reading(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    for (int i = 0; i < 20; i++)
        say(client, GET("/big"));
    assert_true(world.request_count <= 6); /* 64 KiB in the socket, 256 KiB here, and the one that went over it */
    assert_int_equal(count_of(hear(client), "HTTP/1.1 200"), 20);
    assert_int_equal(world.request_count, 20);
}

static void a_closing_answer_leaves_those_behind_it_unanswered(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    say(client, GET("/later/0") GET("/parked") GET("/close") GET("/never"));
    assert_int_equal(world.request_count, 3); /* what follows the close is not read */
    struct answer answer = {0,
                            {.status = 200, .content_type = "text/plain", .body = SLICE_LITERAL("bye"), .close = true}};
    stepped_run(0, answer_here, &answer);
    assert_string_equal(hear(client), OK_HEAD "Content-Length: 3\r\nConnection: close\r\n\r\nbye");
    assert_true(sim_client_is_closed_by_peer(client));
    assert_int_equal(world.gone_count, 1); /* /parked; /close had ended by its answer */
    assert_int_equal(stats_of(0).exchanges, 0);
}

/* ---- 100-continue ------------------------------------------------------------------------------------------------------- */
#define EXPECT "POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: "
#define CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"

static void a15_continue_is_sent_once_when_the_head_has_passed(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    say(client, EXPECT "5\r\n\r\n");
    assert_string_equal(hear(client), CONTINUE);
    say(client, "he");
    assert_string_equal(hear(client), "");
    say(client, "llo");
    assert_string_equal(hear(client), OK_HEAD "Content-Length: 9\r\n\r\nPOST /x 5");
    say(client, EXPECT "5\r\n\r\nhello"); /* who does not wait needs none */
    assert_string_equal(hear(client), OK_HEAD "Content-Length: 9\r\n\r\nPOST /x 5");
    say(client, GET("/later/0") EXPECT "5\r\n\r\n");
    assert_string_equal(hear(client), ""); /* not before the answer to the request before */
    answer_later(0, "a");
    assert_string_equal(hear(client), OK_HEAD "Content-Length: 1\r\n\r\na" CONTINUE);
    say(client, "hello" EXPECT "300000\r\n\r\n");
    const char *text = hear(client);
    assert_null(strstr(text, "100 Continue"));
    assert_non_null(strstr(text, "HTTP/1.1 413 "));
}

/* ---- deadlines ------------------------------------------------------------------------------------------------------------ */
static void b1_a_slow_head_is_refused_ten_seconds_after_its_first_byte(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    stepped_advance(60 * SECOND); /* idle before it: that is not held against it */
    uint64_t began = clock_mono_ns();
    const char head[] = "GET / HTTP/1.1\r\n";
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(sim_client_send(client, head + i, 1), 1);
        stepped_advance(5 * SECOND - SECOND / 100);
        assert_string_equal(hear(client), "");
    }
    stepped_advance_to(began + 10 * SECOND - SECOND / 100);
    assert_string_equal(hear(client), "");
    stepped_advance_to(began + 10 * SECOND + SECOND / 100);
    const char *text = hear(client);
    assert_ptr_equal(strstr(text, "HTTP/1.1 408 "), text);
    assert_non_null(strstr(text, "Connection: close\r\n"));
    assert_true(sim_client_is_closed_by_peer(client));
    assert_int_equal(world.request_count, 0);
}

static void b2_a_slow_body_is_refused_after_the_grace(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *slow = connect_client(), *steady = connect_client();
    say(slow, "POST /s HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
    say(steady, "POST /s HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\n\r\n");
    static char bytes[2048];
    uint64_t began = clock_mono_ns(), refused_ns = 0;
    for (int second = 1; second <= 32; second++) {
        assert_int_equal(sim_client_send(steady, bytes, 2048), 2048);
        if (!refused_ns)
            sim_client_send(slow, bytes, 100);
        stepped_advance(SECOND);
        if (!refused_ns && strstr(hear(slow), "HTTP/1.1 408 "))
            refused_ns = clock_mono_ns();
    }
    assert_true(refused_ns >= began + 5 * SECOND && refused_ns <= began + 7 * SECOND);
    assert_string_equal(hear(steady), OK_HEAD "Content-Length: 13\r\n\r\nPOST /s 65536");
    assert_int_equal(world.request_count, 1);
}

static void an_idle_connection_is_closed_after_its_time_and_not_before(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *quiet = connect_client(), *busy = connect_client();
    uint64_t began = clock_mono_ns();
    for (int i = 0; i < 20; i++) {
        say(busy, GET("/now"));
        hear(busy);
        stepped_advance(SECOND * 37 / 10);
    }
    assert_false(sim_client_is_closed_by_peer(quiet)); /* 74 s */
    stepped_advance_to(began + 76 * SECOND);
    hear(quiet);
    assert_true(sim_client_is_closed_by_peer(quiet));
    say(busy, GET("/later/0"));
    stepped_advance(1000 * SECOND); /* an open exchange has no deadline here */
    answer_later(0, "late");
    assert_string_equal(hear(busy), OK_HEAD "Content-Length: 4\r\n\r\nlate");
    stepped_advance(74 * SECOND);
    assert_false(sim_client_is_closed_by_peer(busy));
    stepped_advance(2 * SECOND);
    hear(busy);
    assert_true(sim_client_is_closed_by_peer(busy));
}

static void received_is_when_the_bytes_came_also_after_a_long_sleep(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    stepped_advance(50 * SECOND);
    sim_clock_advance_to(clock_mono_ns() + SECOND / 2); /* the worker slept through it */
    say(client, GET("/now"));
    assert_int_equal(world.received_ns, clock_mono_ns());
}

static void a_refused_client_that_goes_on_sending_still_hears_the_answer(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    say(client, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n");
    static char bytes[30000];
    for (int i = 0; i < 10; i++) {
        sim_client_send(client, bytes, sizeof bytes);
        stepped_advance(SECOND / 10);
    }
    assert_false(sim_client_is_reset(client));
    assert_non_null(strstr(hear(client), "HTTP/1.1 413 "));
    assert_int_equal(stats_of(0).connections, 1);
    stepped_advance(2 * SECOND); /* lingering ends */
    assert_int_equal(stats_of(0).connections, 0);
}

static void a_reader_stuck_in_an_answer_is_closed(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    say(client, GET("/big"));
    stepped_advance(74 * SECOND);
    assert_int_equal(stats_of(0).connections, 1);
    stepped_advance(2 * SECOND);
    assert_int_equal(stats_of(0).connections, 0);
    (void)client;
}

/* ---- streams -------------------------------------------------------------------------------------------------------------- */
static void a_stream_is_chunked_and_ends(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    say(client, GET("/later/0") GET("/now"));
    assert_int_equal(stream(stream_start_here, 0, (struct slice){0}), OK);
    assert_string_equal(hear(client),
                        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_int_equal(stream(stream_write_here, 0, SLICE_LITERAL("data: 0123456789abcdef\n\n")), OK);
    assert_int_equal(stream(stream_write_here, 0, SLICE_LITERAL("")), OK); /* not the end */
    assert_string_equal(hear(client), "18\r\ndata: 0123456789abcdef\n\n\r\n");
    assert_true(world.drained_count > 0);
    assert_int_equal(stream(stream_end_here, 0, (struct slice){0}), OK);
    assert_string_equal(hear(client), "0\r\n\r\n" OK_HEAD "Content-Length: 10\r\n\r\nGET /now 0");
    assert_int_equal(stream(stream_write_here, 0, SLICE_LITERAL("x")), ERR_NOT_FOUND);
    assert_int_equal(world.gone_count, 0);
}

static void a_stream_behind_another_exchange_waits_for_it(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    say(client, GET("/later/1") GET("/later/0"));
    assert_int_equal(stream(stream_start_here, 0, (struct slice){0}), OK);
    assert_int_equal(stream(stream_write_here, 0, SLICE_LITERAL("abc")), OK);
    assert_string_equal(hear(client), "");
    answer_later(1, "first");
    const char *text = hear(client);
    assert_ptr_equal(strstr(text, OK_HEAD "Content-Length: 5\r\n\r\nfirst"), text);
    assert_string_equal(text + strlen(text) - 8, "3\r\nabc\r\n");
    assert_int_equal(stream(stream_write_here, 0, SLICE_LITERAL("d")), OK);
    assert_string_equal(hear(client), "1\r\nd\r\n");
}

static void a_stream_to_http_1_0_ends_with_the_connection(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    say(client, "GET /later/0 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_int_equal(stream(stream_start_here, 0, (struct slice){0}), OK);
    assert_int_equal(stream(stream_write_here, 0, SLICE_LITERAL("data: x\n\n")), OK);
    assert_int_equal(stream(stream_end_here, 0, (struct slice){0}), OK);
    assert_string_equal(hear(client),
                        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: x\n\n");
    assert_true(sim_client_is_closed_by_peer(client));
}

static void b3_a_stream_nobody_reads_is_closed(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    say(client, GET("/later/0"));
    assert_int_equal(stream(stream_start_here, 0, (struct slice){0}), OK);
    enum err result = OK;
    size_t written = 0;
    while (result == OK && written < 10000000) {
        result = stream(stream_write_here, 0, slice_of(world.big, 10000));
        written += 10000;
    }
    assert_int_equal(result, ERR_LIMIT);
    assert_true(written < 65536 + 65536 + 262144 + 20000); /* socket, one send, the limit */
    assert_int_equal(world.gone_count, 1);
    assert_int_equal(world.gone[0].index, world.kept[0].index);
    assert_int_equal(stats_of(0).connections, 0);
    assert_int_equal(stream(stream_write_here, 0, SLICE_LITERAL("x")), ERR_NOT_FOUND);
    (void)client;
}

/* ---- ends ----------------------------------------------------------------------------------------------------------------- */
static void h6_a_client_that_has_finished_sending_gets_its_answers(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    say(client, GET("/later/0") GET("/now") "GET /half");
    sim_client_shutdown_write(client);
    stepped_settle();
    assert_int_equal(world.gone_count, 0);
    answer_later(0, "a");
    assert_string_equal(hear(client),
                        OK_HEAD "Content-Length: 1\r\n\r\na" OK_HEAD "Content-Length: 10\r\n\r\nGET /now 0");
    assert_true(sim_client_is_closed_by_peer(client));
    assert_int_equal(stats_of(0).connections, 0);
}

static void h6_a_stream_whose_reader_leaves_is_gone(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    say(client, GET("/later/0"));
    assert_int_equal(stream(stream_start_here, 0, (struct slice){0}), OK);
    sim_client_shutdown_write(client); /* a plain end of stream, no reset */
    stepped_settle();
    assert_int_equal(world.gone_count, 1);
    assert_int_equal(stats_of(0).connections, 0);
}

static void h3_a_reset_ends_each_open_exchange_once(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *client = connect_client();
    say(client, GET("/later/0") GET("/now") GET("/later/1"));
    sim_client_reset(client);
    stepped_settle();
    assert_int_equal(world.gone_count, 2); /* /now had ended */
    assert_int_equal(world.gone[0].index, world.kept[0].index);
    assert_int_equal(world.gone[1].index, world.kept[1].index);
    assert_int_equal(stats_of(0).connections, 0);
    assert_int_equal(stats_of(0).exchanges, 0);
    /* The slot is used again; the old id does not reach the new exchange. */
    struct http_exchange_id old = world.kept[0];
    struct sim_client *next = connect_client();
    say(next, GET("/later/2") GET("/later/3") GET("/later/4"));
    assert_int_equal(old.index, world.kept[4].index);
    struct part part = {.number = 0};
    stepped_run(0, stream_end_here, &part);
    assert_int_equal(part.result, ERR_NOT_FOUND);
}

static void drain_closes_the_idle_and_answers_the_rest(void **state)
{
    (void)state;
    start_plain();
    struct sim_client *idle = connect_client(), *open = connect_client();
    say(open, GET("/later/0"));
    stepped_run(0, drain_here, NULL);
    hear(idle);
    assert_true(sim_client_is_closed_by_peer(idle));
    assert_null(sim_connect(world.address));
    assert_false(http_server_is_idle(world.servers[0]));
    say(open, GET("/never"));
    assert_int_equal(world.request_count, 1);
    answer_later(0, "a");
    assert_string_equal(hear(open), OK_HEAD "Content-Length: 1\r\nConnection: close\r\n\r\na");
    assert_true(sim_client_is_closed_by_peer(open));
    assert_true(http_server_is_idle(world.servers[0]));
    assert_int_equal(world.request_count, 1);
}

static void destroy_with_everything_open_leaks_nothing(void **state)
{
    (void)state;
    start(1, NULL, 2, (struct http_server_options){0});
    for (int i = 0; i < 4; i++) {
        struct sim_client *client = connect_client();
        const char *texts[] = {GET("/parked") GET("/now"), GET("/big") GET("/big"), "GET /half", ""};
        say(client, texts[i]);
    }
    assert_int_equal(stats_of(0).connections + stats_of(1).connections, 4);
    /* stop() checks the descriptors, the address sanitizer the memory */
}

/* ---- floods --------------------------------------------------------------------------------------------------------------- */
static void connections_go_to_the_worker_with_the_fewest(void **state)
{
    (void)state;
    start(1, NULL, 2, (struct http_server_options){0});
    struct sim_client *clients[10];
    for (int i = 0; i < 10; i++)
        clients[i] = connect_client();
    assert_int_equal(stats_of(0).connections, 5);
    assert_int_equal(stats_of(1).connections, 5);
    for (int i = 0; i < 10; i++) {
        say(clients[i], GET("/now"));
        assert_int_equal(count_of(hear(clients[i]), "HTTP/1.1 200"), 1);
    }
    for (int i = 1; i < 10; i += 2) /* dealt in turn: these are all on one worker */
        sim_client_close(clients[i]);
    stepped_settle();
    uint32_t emptied = stats_of(0).connections == 0 ? 0 : 1;
    assert_int_equal(stats_of(emptied).connections, 0);
    assert_int_equal(stats_of(1 - emptied).connections, 5);
    for (int i = 0; i < 5; i++)
        connect_client();
    assert_int_equal(stats_of(emptied).connections, 5);
}

static void b6_at_the_cap_the_oldest_idle_is_closed(void **state)
{
    (void)state;
    start(1, NULL, 1, (struct http_server_options){.connections_max = 3});
    struct sim_client *clients[3];
    for (int i = 0; i < 3; i++)
        clients[i] = connect_client();
    say(clients[0], GET("/now")); /* younger idle than 1 and 2 now */
    hear(clients[0]);
    struct sim_client *fourth = connect_client();
    hear(clients[1]);
    assert_true(sim_client_is_closed_by_peer(clients[1]));
    assert_false(sim_client_is_closed_by_peer(clients[0]));
    assert_false(sim_client_is_closed_by_peer(clients[2]));
    say(fourth, GET("/now"));
    assert_int_equal(count_of(hear(fourth), "HTTP/1.1 200"), 1);
}

static void b6_at_the_cap_each_that_comes_costs_an_idle_one(void **state)
{
    (void)state;
    start(1, NULL, 1, (struct http_server_options){.connections_max = 6});
    for (int i = 0; i < 6; i++)
        connect_client();
    for (int i = 0; i < 3; i++)
        assert_non_null(sim_connect(world.address)); /* all three in one turn */
    stepped_settle();
    assert_int_equal(stats_of(0).connections, 6);
    assert_int_equal(stats_of(0).accepted, 9);
}

static void b6_one_that_has_just_asked_is_no_idle_one(void **state)
{
    (void)state;
    /* An accept that ends each time is armed behind the receives, so that it completes after them. */
    struct sim_options sim = {.multishot_end_per_mille = 1000};
    start(1, &sim, 1, (struct http_server_options){.connections_max = 2});
    struct sim_client *oldest = connect_client(), *other = connect_client();
    assert_true(sim_client_send(oldest, GET("/later/0"), strlen(GET("/later/0"))) > 0);
    assert_non_null(sim_connect(world.address));
    stepped_settle(); /* the request and the connection come in one turn */
    answer_later(0, "there");
    assert_int_equal(count_of(hear(oldest), "HTTP/1.1 200"), 1);
    assert_true(sim_client_is_closed_by_peer(other));
    assert_int_equal(world.gone_count, 0);
}

static void b6_without_idle_ones_accepting_pauses(void **state)
{
    (void)state;
    start(1, NULL, 1, (struct http_server_options){.connections_max = 3});
    struct sim_client *clients[3];
    for (int i = 0; i < 3; i++) {
        clients[i] = connect_client();
        say(clients[i], GET("/later/0"));
    }
    struct sim_client *waiting = connect_client();
    say(waiting, GET("/now"));
    stepped_advance(SECOND);
    uint32_t accepted = (uint32_t)stats_of(0).accepted;
    assert_true(accepted <= 4);
    sim_client_close(connect_client());
    stepped_advance(SECOND);
    assert_int_equal(stats_of(0).accepted, accepted); /* paused */
    answer_later(0, "room");                          /* the last of the three */
    hear(clients[2]);
    stepped_advance(SECOND);
    assert_int_equal(count_of(hear(waiting), "HTTP/1.1 200"), 1);
}

static void b6_out_of_descriptors_others_are_served_and_accepting_goes_on_later(void **state)
{
    (void)state;
    struct sim_options sim = {.descriptor_count_max = 12};
    start(1, &sim, 1, (struct http_server_options){0});
    struct sim_client *held[30];
    for (int i = 0; i < 30; i++) {
        held[i] = connect_client();
        say(held[i], GET("/parked")); /* none of them is idle */
    }
    uint64_t steps_before, steps_after;
    stepped_run(0, read_submitted, &steps_before);
    stepped_advance(10 * SECOND);
    stepped_run(0, read_submitted, &steps_after);
    assert_true(steps_after - steps_before < 1000); /* no busy loop */
    for (int i = 0; i < 30; i++)
        sim_client_reset(held[i]);
    stepped_advance(SECOND);
    struct sim_client *client = connect_client();
    say(client, GET("/now"));
    stepped_advance(SECOND);
    assert_int_equal(count_of(hear(client), "HTTP/1.1 200"), 1);
}

static uint32_t reset_or_closed(struct sim_client *const *clients, uint32_t count)
{
    uint32_t gone = 0;
    for (uint32_t i = 0; i < count; i++)
        gone += sim_client_is_reset(clients[i]) || sim_client_is_closed_by_peer(clients[i]);
    return gone;
}

static void b6_out_of_descriptors_one_is_shed_a_pause_and_none_once_there_are_some(void **state)
{
    (void)state;
    enum { HELD = 10, WAITING = 8 }; /* the listener and the reserve are the other two */
    struct sim_options sim = {.descriptor_count_max = HELD + 2};
    start(1, &sim, 1, (struct http_server_options){0});
    struct sim_client *held[HELD], *waiting[WAITING];
    for (int i = 0; i < HELD; i++) {
        held[i] = connect_client();
        say(held[i], GET("/parked"));
    }
    for (int i = 0; i < WAITING; i++)
        waiting[i] = sim_connect(world.address);
    stepped_settle();
    assert_int_equal(reset_or_closed(waiting, WAITING), 1);
    stepped_advance(SECOND / 10 + SECOND / 100);
    assert_int_equal(reset_or_closed(waiting, WAITING), 2);

    for (int i = 0; i < HELD; i++)
        sim_client_reset(held[i]);
    stepped_advance(SECOND);
    assert_int_equal(reset_or_closed(waiting, WAITING), 2);
    for (int i = 0; i < WAITING; i++)
        if (!sim_client_is_reset(waiting[i]) && !sim_client_is_closed_by_peer(waiting[i])) {
            say(waiting[i], GET("/now"));
            assert_int_equal(count_of(hear(waiting[i]), "HTTP/1.1 200"), 1);
        }
}

/* ---- faults --------------------------------------------------------------------------------------------------------------- */
/* Whatever the kernel and the network do short of losing bytes, each client gets the answers to its requests, in order. */
static void answers_survive_faults(uint64_t seed)
{
    const struct sim_options sim = {
        .latency_ns_min = 1000,
        .latency_ns_max = 3000000,
        .segment_bytes_max = 200,
        .stall_per_mille = 20,
        .stall_ns_max = 100000000,
        .socket_buffer_bytes = 3000,
        .reorder_per_mille = 200,
        .delay_per_mille = 100,
        .delay_ns_max = 2000000,
        .transient_per_mille = 50,
        .multishot_end_per_mille = 100,
        .short_send_per_mille = 200,
        .no_buffer_per_mille = 50,
        .cancel_race_per_mille = 300,
        .cancel_lost_per_mille = 0,
        .late_per_mille = 100,
        .busy_per_mille = 50,
    };
    enum { CLIENTS = 4, REQUESTS = 60 };
    start(seed, &sim, 2, (struct http_server_options){.pipeline_max = 5});
    struct sim_client *clients[CLIENTS];
    struct buffer requests[CLIENTS], expected[CLIENTS], heard[CLIENTS];
    size_t sent[CLIENTS] = {0};
    for (int c = 0; c < CLIENTS; c++) {
        buffer_init(&requests[c], 1 << 20);
        buffer_init(&expected[c], 1 << 20);
        buffer_init(&heard[c], 1 << 20);
        for (int i = 0; i < REQUESTS; i++) {
            unsigned body = (unsigned)sim_random_below(400);
            if (sim_random_below(2) == 0) {
                buffer_append_format(&requests[c], "POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: %u\r\n\r\n%*s", i,
                                     body, (int)body, "");
            } else {
                buffer_append_format(&requests[c], "POST /%d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
                                     i);
                if (body > 0)
                    buffer_append_format(&requests[c], "%x\r\n%*s\r\n", body, (int)body, "");
                buffer_append_text(&requests[c], "0\r\n\r\n");
            }
            buffer_append_format(&expected[c], "POST /%d %u\n", i, body);
        }
        clients[c] = sim_connect(world.address);
        assert_non_null(clients[c]);
    }
    uint64_t until = clock_mono_ns() + 300 * SECOND;
    size_t done = 0;
    while (done < CLIENTS && clock_mono_ns() < until) {
        done = 0;
        for (int c = 0; c < CLIENTS; c++) {
            size_t left = requests[c].size - sent[c];
            size_t piece = left ? 1 + (size_t)sim_random_below(left < 1000 ? left : 1000) : 0;
            sent[c] += sim_client_send(clients[c], requests[c].data + sent[c], piece);
            char bytes[4096];
            size_t got = sim_client_receive(clients[c], bytes, sizeof bytes);
            buffer_append(&heard[c], bytes, got);
            buffer_append_byte(&heard[c], 0);
            heard[c].size--;
            done += count_of(heard[c].data, "HTTP/1.1 200") == REQUESTS && left == 0;
        }
        stepped_advance(5000000);
    }
    for (int c = 0; c < CLIENTS; c++) {
        char bytes[4096]; /* the rest of the last answer, which may lie in several segments */
        for (int round = 0; round < 100; round++, stepped_advance(10000000))
            buffer_append(&heard[c], bytes, sim_client_receive(clients[c], bytes, sizeof bytes));
        buffer_append_byte(&heard[c], 0);
        struct buffer seen;
        buffer_init(&seen, 1 << 20);
        for (const char *at = heard[c].data; (at = strstr(at, "POST /"));) {
            unsigned path, size;
            assert_int_equal(sscanf(at, "POST /%u %u", &path, &size), 2);
            buffer_append_format(&seen, "POST /%u %u\n", path, size);
            at++;
        }
        if (!slice_is_equal(buffer_slice(&seen), buffer_slice(&expected[c])))
            fail_msg("seed %llu client %d: %.*s", (unsigned long long)seed, c, SLICE_PRINT(buffer_slice(&seen)));
        buffer_deinit(&seen);
        buffer_deinit(&requests[c]);
        buffer_deinit(&expected[c]);
        buffer_deinit(&heard[c]);
    }
}

static void answers_survive_a_faulty_kernel_and_network(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        answers_survive_faults(seed);
        assert_int_equal(stop(state), 0);
    }
}

/* Resets and half-closes at any point: nothing leaks, each exchange ends once, the server stays able to answer. */
static void clients_that_vanish_leave_nothing_behind(void **state)
{
    const struct sim_options sim = {
        .latency_ns_max = 2000000,
        .segment_bytes_max = 100,
        .reset_per_mille = 30,
        .reorder_per_mille = 200,
        .delay_per_mille = 200,
        .delay_ns_max = 5000000,
        .short_send_per_mille = 200,
        .cancel_race_per_mille = 500,
        .late_per_mille = 200,
        .multishot_end_per_mille = 100,
    };
    for (uint64_t seed = 1; seed <= 20; seed++) {
        start(seed, &sim, 2, (struct http_server_options){.idle_ns_max = 5 * SECOND});
        for (int i = 0; i < 40; i++) {
            struct sim_client *client = sim_connect(world.address);
            assert_non_null(client);
            const char *texts[] = {GET("/now") GET("/now"), GET("/big"), "GET /half", "BAD\r\n\r\n",
                                   "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"};
            const char *text = texts[sim_random_below(5)];
            sim_client_send(client, text, strlen(text));
            stepped_advance(sim_random_below(20000000));
            char bytes[1000];
            sim_client_receive(client, bytes, sizeof bytes);
            switch (sim_random_below(4)) {
            case 0: sim_client_reset(client); break;
            case 1: sim_client_shutdown_write(client); break;
            case 2: sim_client_close(client); break;
            case 3: break;
            }
        }
        sim_world_set_options(NULL);
        stepped_advance(60 * SECOND);
        assert_int_equal(stats_of(0).exchanges + stats_of(1).exchanges, 0);
        assert_int_equal(stats_of(0).connections + stats_of(1).connections, 0);
        struct sim_client *client = connect_client();
        say(client, GET("/now"));
        assert_int_equal(count_of(hear(client), "HTTP/1.1 200"), 1);
        assert_int_equal(stop(state), 0);
    }
}

static void impossible_limits_are_refused_at_start(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    sim_world_reset(1, NULL);
    world.options = (struct http_server_options){.head_bytes_max = 70000, .handler = {.on_request = on_request}};
    struct runtime_options options = {.worker_count = 1, .on_start = on_start};
    struct runtime *runtime;
    struct error error;
    assert_int_equal(runtime_create(&options, &runtime, &error), OK);
    assert_int_equal(worker_start(runtime_worker(runtime, 0), &error), ERR_CONFIG);
    assert_non_null(strstr(error.text, "65535"));
    runtime_destroy(runtime);
}

#define TEST(name) cmocka_unit_test_teardown(name, stop)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_connection_carries_one_request_after_another),
        TEST(a_request_in_single_bytes_is_the_same_request),
        TEST(a_large_body_arrives_whole),
        TEST(http_1_0_closes_unless_asked_to_stay),
        TEST(answers_leave_in_the_order_of_requests),
        TEST(what_gathers_in_a_turn_leaves_in_one_send),
        TEST(a16_a_valid_request_before_an_invalid_one_is_answered),
        TEST(a16_ten_thousand_pipelined_requests_are_taken_32_at_a_time),
        TEST(an_unanswered_pipeline_stops_the_reading),
        TEST(large_answers_to_a_reader_that_does_not_read_stop_the_reading),
        TEST(a_closing_answer_leaves_those_behind_it_unanswered),
        TEST(a15_continue_is_sent_once_when_the_head_has_passed),
        TEST(b1_a_slow_head_is_refused_ten_seconds_after_its_first_byte),
        TEST(b2_a_slow_body_is_refused_after_the_grace),
        TEST(an_idle_connection_is_closed_after_its_time_and_not_before),
        TEST(received_is_when_the_bytes_came_also_after_a_long_sleep),
        TEST(a_refused_client_that_goes_on_sending_still_hears_the_answer),
        TEST(a_reader_stuck_in_an_answer_is_closed),
        TEST(a_stream_is_chunked_and_ends),
        TEST(a_stream_behind_another_exchange_waits_for_it),
        TEST(a_stream_to_http_1_0_ends_with_the_connection),
        TEST(b3_a_stream_nobody_reads_is_closed),
        TEST(h6_a_client_that_has_finished_sending_gets_its_answers),
        TEST(h6_a_stream_whose_reader_leaves_is_gone),
        TEST(h3_a_reset_ends_each_open_exchange_once),
        TEST(drain_closes_the_idle_and_answers_the_rest),
        TEST(destroy_with_everything_open_leaks_nothing),
        TEST(connections_go_to_the_worker_with_the_fewest),
        TEST(b6_at_the_cap_the_oldest_idle_is_closed),
        TEST(b6_at_the_cap_each_that_comes_costs_an_idle_one),
        TEST(b6_one_that_has_just_asked_is_no_idle_one),
        TEST(b6_without_idle_ones_accepting_pauses),
        TEST(b6_out_of_descriptors_others_are_served_and_accepting_goes_on_later),
        TEST(b6_out_of_descriptors_one_is_shed_a_pause_and_none_once_there_are_some),
        TEST(answers_survive_a_faulty_kernel_and_network),
        TEST(clients_that_vanish_leave_nothing_behind),
        TEST(impossible_limits_are_refused_at_start),
    };
    return cmocka_run_group_tests_name("http_server", tests, NULL, NULL);
}
