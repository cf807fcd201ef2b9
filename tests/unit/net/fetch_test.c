/* SPDX-License-Identifier: Apache-2.0 */
/* fetch_test: guards outbound HTTP (fetch.h) over libcurl and the kernel's ring, against a server of raw bytes: invariants F1
 * to F3, deadlines, and that it fails closed (rows H1, H2, H5, H6 and H13 of the bad-input catalogue). */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/fetch.h"
#include "raw_server.h"
#include "runtime/buffer.h"
#include "runtime/clock.h"
#include "runtime/worker.h"
#include "tls_identity.h"

static const uint64_t ms_ns = 1000000;
static const uint64_t patience_ns = 20 * 1000000000ull; /* only a hang is ever this slow */

/* ---- a worker that this test steps, with a client on it ---------------------------------------------------------------- */

struct bench {
    struct runtime *runtime;
    struct worker *worker;
    struct fetch_client *client;
    struct fetch_options options;
};

static enum err bench_on_start(struct worker *worker, void *user, struct error *error)
{
    struct bench *bench = user;
    return fetch_client_create(worker, &bench->options, &bench->client, error);
}

static void bench_on_stop(struct worker *worker, void *user)
{
    (void)worker;
    struct bench *bench = user;
    fetch_client_destroy(bench->client);
}

static void bench_init(struct bench *bench, const struct fetch_options *options)
{
    *bench = (struct bench){.options = *options};
    struct runtime_options runtime_options = {
        .worker_count = 1, .user = bench, .on_start = bench_on_start, .on_stop = bench_on_stop};
    struct error error = {0};
    if (runtime_create(&runtime_options, &bench->runtime, &error) != OK)
        fail_msg("%s", error.text);
    bench->worker = runtime_worker(bench->runtime, 0);
    if (worker_start(bench->worker, &error) != OK)
        fail_msg("%s", error.text);
}

static void bench_deinit(struct bench *bench)
{
    runtime_destroy(bench->runtime);
}

static void step_until(struct bench *bench, bool (*is_true)(void *), void *context)
{
    uint64_t give_up_ns = clock_mono_ns() + patience_ns;
    while (!is_true(context)) {
        assert_true(clock_mono_ns() < give_up_ns);
        if (!worker_step(bench->worker))
            sched_yield();
    }
}

/* Runs a function inside a turn of the worker, where fetch.h may be called. */
struct errand {
    struct worker_task task;
    void (*run)(void *context);
    void *context;
    bool is_done;
};

static void run_errand(struct worker *worker, struct worker_task *task)
{
    (void)worker;
    struct errand *errand = (struct errand *)task;
    errand->run(errand->context);
    errand->is_done = true;
}

static bool errand_is_done(void *context)
{
    return ((struct errand *)context)->is_done;
}

static void on_worker(struct bench *bench, void (*run)(void *context), void *context)
{
    struct errand errand = {.task = {.run = run_errand}, .run = run, .context = context};
    worker_post(bench->worker, &errand.task);
    step_until(bench, errand_is_done, &errand);
}

/* ---- one fetch and what it brought -------------------------------------------------------------------------------------- */

struct
try {
    struct bench *bench;
    char url[256];
    struct fetch_request request;
    struct fetch_id id;
    enum err start_code;
    struct error error;
    struct buffer body;
    int data_calls, done_calls;
    int first_status; /* as on_data saw it */
    bool is_starting, is_cancelled;
    bool cancels_on_data;
    int peer_fd; /* the server's end, to look at from on_done; -1: none */
    bool peer_saw_eof;
    uint64_t started_ns, ended_ns;
    struct fetch_result result;
};

static void try_cancel(void *context)
{
    struct try *try = context;
    try->is_cancelled = true;
    try->is_starting = true;
    fetch_cancel(try->bench->client, try->id);
    try->is_starting = false;
}

static void try_on_data(void *context, struct fetch_id id, int status, struct slice data)
{
    struct try *try = context;
    assert_false(try->is_cancelled);
    assert_int_equal(id.index, try->id.index);
    if (try->data_calls++ == 0)
        try->first_status = status;
    buffer_append_slice(&try->body, data);
    if (try->cancels_on_data)
        try_cancel(try);
}

static void try_on_done(void *context, struct fetch_id id, const struct fetch_result *result)
{
    struct try *try = context;
    assert_false(try->is_starting); /* F1 */
    assert_int_equal(id.generation, try->id.generation);
    try->done_calls++;
    try->result = *result;
    try->ended_ns = clock_mono_ns();
    char byte;
    if (try->peer_fd >= 0)
        try->peer_saw_eof = recv(try->peer_fd, &byte, 1, MSG_DONTWAIT) == 0;
}

static void try_start(void *context)
{
    struct try *try = context;
    try->is_starting = true;
    try->started_ns = clock_mono_ns();
    try->start_code = fetch_start(try->bench->client, &try->request, &try->id, &try->error);
    try->is_starting = false;
}

static bool try_is_done(void *context)
{
    struct try *try = context;
    return try->done_calls > 0;
}

static bool try_has_data(void *context)
{
    struct try *try = context;
    return try->data_calls > 0;
}

static void try_init(struct try *try, struct bench *bench, const char *scheme, int port, const char *path)
{
    *try = (struct try){.bench = bench, .peer_fd = -1};
    snprintf(try->url, sizeof try->url, "%s:%d%s", scheme, port, path);
    try->request = (struct fetch_request){
        .method = "GET", .url = try->url, .context = try, .on_data = try_on_data, .on_done = try_on_done};
    buffer_init(&try->body, 16 << 20);
}

static void try_begin(struct try *try)
{
    on_worker(try->bench, try_start, try);
    assert_int_equal(try->start_code, OK);
}

static void try_run(struct try *try)
{
    try_begin(try);
    step_until(try->bench, try_is_done, try);
    assert_int_equal(try->done_calls, 1);
    assert_int_equal(try->result.received_bytes, try->body.size);
}

static void try_deinit(struct try *try)
{
    buffer_deinit(&try->body);
}

static uint64_t try_ms(const struct try *try)
{
    return (try->ended_ns - try->started_ns) / ms_ns;
}

/* A server that answers each request of each connection with the same bytes, then waits for the next or for the end. */
static void serve_text(struct raw_server *server, int fd)
{
    while (raw_server_read_request(server, fd))
        raw_server_write(fd, server->context);
}

/* As serve_text, but closes after the first answer: what is missing in it stays missing. */
static void serve_text_and_close(struct raw_server *server, int fd)
{
    if (raw_server_read_request(server, fd))
        raw_server_write(fd, server->context);
}

/* Does not wait for a request. */
static void serve_garbage(struct raw_server *server, int fd)
{
    raw_server_write(fd, "HTTP/1.1 400 Bad\r\n\r\n");
    raw_server_wait_eof(server, fd);
}

/* As serve_text, and waits for the client to close. */
static void serve_text_and_stall(struct raw_server *server, int fd)
{
    if (raw_server_read_request(server, fd))
        raw_server_write(fd, server->context);
    raw_server_wait_eof(server, fd);
}

struct fixture {
    struct bench bench;
    struct raw_server server;
    struct try try;
};

static void fixture_init(struct fixture *fixture, void (*serve)(struct raw_server *, int), const char *text)
{
    static const struct fetch_options defaults;
    static char path[] = "/v1/x";
    bench_init(&fixture->bench, &defaults);
    raw_server_start(&fixture->server, serve, (void *)(uintptr_t)text);
    try_init(&fixture->try, &fixture->bench, "http://127.0.0.1", fixture->server.port, path);
}

static void fixture_deinit(struct fixture *fixture)
{
    bench_deinit(&fixture->bench); /* first: closes its connections, which the server waits for */
    raw_server_stop(&fixture->server);
    try_deinit(&fixture->try);
}

/* The whole of most tests: one GET against `serve`, ended with `code`. */
static void expect_end(void (*serve)(struct raw_server *, int), const char *text, enum err code, int status,
                       const char *body)
{
    struct fixture fixture;
    fixture_init(&fixture, serve, text);
    try_run(&fixture.try);
    assert_string_equal(err_name(fixture.try.result.code), err_name(code));
    assert_int_equal(fixture.try.result.status, status);
    assert_true(slice_has_text(buffer_slice(&fixture.try.body), body));
    assert_true(code == OK || fixture.try.result.detail[0] != '\0');
    fixture_deinit(&fixture);
}

/* ---- what works --------------------------------------------------------------------------------------------------------- */

static void a_request_arrives_as_it_was_given(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, serve_text, "HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello");
    static const char *const headers[] = {"Content-Type: application/json", "X-Trace-Id: t-1", NULL};
    fixture.try.request.method = "POST";
    fixture.try.request.headers = headers;
    fixture.try.request.body = SLICE_LITERAL("{\"a\":1}");
    try_run(&fixture.try);
    assert_int_equal(fixture.try.result.code, OK);
    assert_int_equal(fixture.try.result.status, 201);
    assert_int_equal(fixture.try.first_status, 201);
    assert_true(slice_has_text(buffer_slice(&fixture.try.body), "hello"));
    const char *request = fixture.server.request;
    assert_non_null(strstr(request, "POST /v1/x HTTP/1.1\r\n"));
    assert_non_null(strstr(request, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(request, "\r\nX-Trace-Id: t-1\r\n"));
    assert_non_null(strstr(request, "\r\n\r\n{\"a\":1}"));
    assert_null(strcasestr(request, "accept-encoding"));
    assert_null(strcasestr(request, "expect"));
    fixture_deinit(&fixture);
}

static void a_chunked_response_is_put_together(void **state)
{
    (void)state;
    expect_end(serve_text, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", OK,
               200, "abcde");
}

static void an_error_status_is_a_complete_response(void **state)
{
    (void)state;
    expect_end(serve_text, "HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno", OK, 503, "no");
    expect_end(serve_text, "HTTP/1.1 204 None\r\n\r\n", OK, 204, "");
}

static void connections_are_used_again(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, serve_text, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    for (int i = 0; i < 5; i++) {
        fixture.try.done_calls = 0;
        buffer_clear(&fixture.try.body);
        try_run(&fixture.try);
        assert_int_equal(fixture.try.result.code, OK);
    }
    assert_int_equal(atomic_load(&fixture.server.accepted), 1);
    assert_int_equal(atomic_load(&fixture.server.requests), 5);
    fixture_deinit(&fixture);
}

static void names_are_resolved(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, serve_text, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    try_deinit(&fixture.try);
    try_init(&fixture.try, &fixture.bench, "http://localhost", fixture.server.port, "/");
    try_run(&fixture.try);
    assert_int_equal(fixture.try.result.code, OK);
    fixture_deinit(&fixture);
}

/* ---- what goes wrong on the way ----------------------------------------------------------------------------------------- */

static void a_cut_response_is_no_response(void **state)
{
    (void)state;
    expect_end(serve_text_and_close, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", ERR_PEER_CLOSED, 200, "abc");
    expect_end(serve_text_and_close, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nde",
               ERR_PEER_CLOSED, 200, "abcde");
    expect_end(serve_text_and_close, "", ERR_PEER_CLOSED, 0, "");
}

static void what_is_not_http_is_refused(void **state)
{
    (void)state;
    expect_end(serve_text_and_close, "hello\r\n\r\n", ERR_PROTOCOL, 0, "");
    /* libcurl says CURLE_RECV_ERROR to a bad chunk as to a broken connection: it counts as cut. */
    expect_end(serve_text_and_close, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", ERR_PEER_CLOSED, 200,
               "");
}

static void a_refused_connection_is_told(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, serve_text, "");
    struct raw_server closed;
    raw_server_start(&closed, serve_text, NULL);
    raw_server_stop(&closed);
    struct try try;
    try_init(&try, &fixture.bench, "http://127.0.0.1", closed.port, "/");
    try_run(&try);
    assert_int_equal(try.result.code, ERR_CONNECT);
    assert_int_equal(try.result.status, 0);
    try_deinit(&try);
    fixture_deinit(&fixture);
}

static void a_redirect_is_not_followed(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, serve_text,
                 "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/secret\r\nContent-Length: 0\r\n\r\n");
    try_run(&fixture.try);
    assert_int_equal(fixture.try.result.code, OK);
    assert_int_equal(fixture.try.result.status, 302);
    assert_int_equal(atomic_load(&fixture.server.requests), 1);
    fixture_deinit(&fixture);
}

static void proxies_of_the_environment_are_ignored(void **state)
{
    (void)state;
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    expect_end(serve_text, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", OK, 200, "ok");
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
}

/* Answers the first request of the first connection; reads whatever else comes and closes on it without a word. */
static void serve_once_then_close_silently(struct raw_server *server, int fd)
{
    if (!raw_server_read_request(server, fd))
        return;
    if (atomic_load(&server->requests) == 1) {
        raw_server_write(fd, server->context);
        raw_server_read_request(server, fd);
    }
}

static void one_fetch_is_one_attempt_on_a_dead_connection_too(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, serve_once_then_close_silently, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    fixture.try.request.method = "POST";
    fixture.try.request.body = SLICE_LITERAL("x");
    try_run(&fixture.try);
    assert_int_equal(fixture.try.result.code, OK);
    fixture.try.done_calls = 0;
    buffer_clear(&fixture.try.body);
    try_run(&fixture.try);
    assert_int_equal(fixture.try.result.code, ERR_PEER_CLOSED);
    assert_int_equal(atomic_load(&fixture.server.requests), 2); /* libcurl by itself would have made it 3 */
    fixture_deinit(&fixture);
}

/* ---- TLS fails closed ----------------------------------------------------------------------------------------------------- */

static void expect_tls(int days, bool is_trusted, const char *scheme, enum err code)
{
    struct tls_identity identity;
    tls_identity_init(&identity, days);
    struct fetch_options options = {.ca_file = is_trusted ? identity.file : NULL};
    struct bench bench;
    struct raw_server server;
    struct try try;
    bench_init(&bench, &options);
    raw_server_start(&server, tls_identity_serve, &identity);
    try_init(&try, &bench, scheme, server.port, "/");
    try_run(&try);
    assert_string_equal(err_name(try.result.code), err_name(code));
    assert_int_equal(atomic_load(&server.requests), code == OK ? 1 : 0); /* nothing was sent to a stranger */
    bench_deinit(&bench);
    raw_server_stop(&server);
    try_deinit(&try);
    tls_identity_deinit(&identity);
}

static void a_certificate_must_be_trusted_valid_and_of_that_host(void **state)
{
    (void)state;
    expect_tls(10, true, "https://localhost", OK);
    expect_tls(10, false, "https://localhost", ERR_TLS);
    expect_tls(-1, true, "https://localhost", ERR_TLS);
    expect_tls(10, true, "https://127.0.0.1", ERR_TLS);
}

static void plain_text_is_not_taken_for_tls(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, serve_garbage, NULL);
    struct try try;
    try_init(&try, &fixture.bench, "https://localhost", fixture.server.port, "/");
    try_run(&try);
    assert_int_equal(try.result.code, ERR_TLS);
    try_deinit(&try);
    fixture_deinit(&fixture);
}

/* ---- limits and deadlines ----------------------------------------------------------------------------------------------- */

static void a_body_over_the_limit_is_cut_there(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, serve_text_and_stall,
                 "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n0123456789012345678901234567890123456789");
    fixture.try.request.response_bytes_max = 25;
    try_run(&fixture.try);
    assert_int_equal(fixture.try.result.code, ERR_LIMIT);
    assert_int_equal(fixture.try.body.size, 25);
    fixture_deinit(&fixture);
}

/* Header lines until the client gives up. */
static void serve_endless_head(struct raw_server *server, int fd)
{
    raw_server_read_request(server, fd);
    raw_server_write(fd, "HTTP/1.1 200 OK\r\n");
    char line[1024];
    memset(line, 'x', sizeof line);
    memcpy(line, "X-A: ", 5);
    memcpy(line + sizeof line - 3, "\r\n", 3);
    while (!raw_server_peer_closed(fd, 0) && atomic_fetch_add(&server->seen_eof, 1) < 10000)
        raw_server_write(fd, line);
}

static void an_endless_head_is_cut(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, serve_endless_head, NULL);
    try_run(&fixture.try);
    assert_int_equal(fixture.try.result.code, ERR_LIMIT);
    fixture_deinit(&fixture);
    assert_true(atomic_load(&fixture.server.seen_eof) < 10000);
}

static void expect_timeout(struct fixture *fixture, const char *detail, uint64_t at_least_ms)
{
    try_run(&fixture->try);
    assert_string_equal(err_name(fixture->try.result.code), "ERR_TIMEOUT");
    assert_string_equal(fixture->try.result.detail, detail);
    assert_true(try_ms(&fixture->try) >= at_least_ms);
}

static void silence_before_the_first_byte_ends_in_a_timeout(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, serve_text_and_stall, "");
    fixture.try.request.first_byte_ns_max = 50 * ms_ns;
    expect_timeout(&fixture, "first byte timeout after 50 ms", 50);
    fixture_deinit(&fixture);
    assert_int_equal(atomic_load(&fixture.server.seen_eof), 1);
}

/* A head that never ends, a byte at a time. */
static void serve_trickle(struct raw_server *server, int fd)
{
    raw_server_read_request(server, fd);
    raw_server_write(fd, "HTTP/1.1 200 OK\r\nX-Slow: ");
    for (int i = 0; i < 1000 && !raw_server_peer_closed(fd, 10); i++)
        raw_server_write(fd, "x");
}

static void a_trickled_head_does_not_move_the_deadline(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, serve_trickle, NULL);
    fixture.try.request.first_byte_ns_max = 100 * ms_ns;
    fixture.try.request.idle_ns_max = 50 * ms_ns;
    expect_timeout(&fixture, "first byte timeout after 100 ms", 100);
    fixture_deinit(&fixture);
}

static void a_stalled_body_ends_in_an_idle_timeout(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, serve_text_and_stall, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc");
    fixture.try.request.idle_ns_max = 50 * ms_ns;
    expect_timeout(&fixture, "idle timeout after 50 ms", 50);
    assert_int_equal(fixture.try.body.size, 3);
    assert_int_equal(fixture.try.result.status, 200);
    fixture_deinit(&fixture);
}

/* A body of single bytes for ever. */
static void serve_drip(struct raw_server *server, int fd)
{
    raw_server_read_request(server, fd);
    raw_server_write(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    for (int i = 0; i < 1000 && !raw_server_peer_closed(fd, 10); i++)
        raw_server_write(fd, "x");
}

static void an_endless_body_ends_at_the_total(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, serve_drip, NULL);
    fixture.try.request.idle_ns_max = 5000 * ms_ns;
    fixture.try.request.total_ns_max = 150 * ms_ns;
    expect_timeout(&fixture, "total timeout after 150 ms", 150);
    assert_true(fixture.try.data_calls > 1);
    fixture_deinit(&fixture);
}

static void a_connection_that_does_not_come_about_ends_in_a_timeout(void **state)
{
    (void)state;
    /* A full backlog drops the SYN, and depends on nothing outside this machine. */
    struct fixture fixture;
    fixture_init(&fixture, serve_text, NULL);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fillers[8];
    struct sockaddr_storage address = {.ss_family = AF_INET};
    socklen_t size = sizeof(struct sockaddr_storage);
    assert_int_equal(listen(listener, 0), 0); /* binds to any port of 0.0.0.0 */
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    for (size_t i = 0; i < 8; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)!connect(fillers[i], (struct sockaddr *)&address, size);
    }
    const unsigned char *port = (const unsigned char *)&address + 2;
    struct try try;
    try_init(&try, &fixture.bench, "http://127.0.0.1", port[0] << 8 | port[1], "/");
    try.request.connect_ns_max = 50 * ms_ns;
    try_run(&try);
    assert_int_equal(try.result.code, ERR_TIMEOUT);
    assert_string_equal(try.result.detail, "connect timeout after 50 ms");
    try_deinit(&try);
    for (size_t i = 0; i < 8; i++)
        close(fillers[i]);
    close(listener);
    fixture_deinit(&fixture);
}

static uint64_t retry_after(const char *value)
{
    char text[256];
    snprintf(text, sizeof text, "HTTP/1.1 429 Slow\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n", value);
    struct fixture fixture;
    fixture_init(&fixture, serve_text, text);
    try_run(&fixture.try);
    assert_int_equal(fixture.try.result.code, OK);
    assert_int_equal(fixture.try.result.status, 429);
    uint64_t retry_after_ms = fixture.try.result.retry_after_ms;
    fixture_deinit(&fixture);
    return retry_after_ms;
}

static void retry_after_is_read_in_both_forms_and_capped(void **state)
{
    (void)state;
    assert_int_equal(retry_after("120"), 120000);
    assert_int_equal(retry_after("000120 "), 120000);
    assert_int_equal(retry_after("0"), 0);
    assert_int_equal(retry_after("99999999999999999999999"), 3600000);
    assert_int_equal(retry_after("-5"), 0);
    assert_int_equal(retry_after("1.5"), 0);
    assert_int_equal(retry_after("soon"), 0);
    assert_int_equal(retry_after(""), 0);
    assert_int_equal(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), 0);
    assert_int_equal(retry_after("Sun, 06 Nov 2094 08:49:37 GMT"), 3600000);
    char date[64];
    time_t at = (time_t)(clock_wall_ms() / 1000) + 100;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime(&at));
    uint64_t ms = retry_after(date);
    assert_in_range(ms, 80000, 100000);
}

/* ---- cancelling --------------------------------------------------------------------------------------------------------- */

/* Shows the server's end to the test before it answers. */
static void serve_shown(struct raw_server *server, int fd)
{
    struct try *try = server->context;
    raw_server_read_request(server, fd);
    try->peer_fd = dup(fd);
    raw_server_write(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc");
    raw_server_wait_eof(server, fd);
}

static void a_cancel_closes_the_socket_before_it_is_told(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, serve_shown, NULL);
    fixture.server.context = &fixture.try;
    try_begin(&fixture.try);
    step_until(&fixture.bench, try_has_data, &fixture.try);
    on_worker(&fixture.bench, try_cancel, &fixture.try);
    step_until(&fixture.bench, try_is_done, &fixture.try);
    assert_int_equal(fixture.try.result.code, ERR_CANCELLED);
    assert_int_equal(fixture.try.result.received_bytes, 3);
    assert_true(fixture.try.peer_saw_eof); /* F2 */
    assert_int_equal(fetch_in_flight(fixture.bench.client), 0);
    on_worker(&fixture.bench, try_cancel, &fixture.try); /* stale: harmless */
    assert_int_equal(fixture.try.done_calls, 1);
    close(fixture.try.peer_fd);
    fixture_deinit(&fixture);
}

static void a_cancel_from_inside_on_data_is_the_last_data(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, serve_shown, NULL);
    fixture.server.context = &fixture.try;
    fixture.try.cancels_on_data = true;
    try_run(&fixture.try);
    assert_int_equal(fixture.try.result.code, ERR_CANCELLED);
    assert_int_equal(fixture.try.data_calls, 1);
    assert_true(fixture.try.peer_saw_eof);
    close(fixture.try.peer_fd);
    fixture_deinit(&fixture);
}

static void start_and_cancel(void *context)
{
    try_start(context);
    try_cancel(context);
}

static void a_cancel_before_the_connection_stands_is_told_once(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, serve_text, "");
    on_worker(&fixture.bench, start_and_cancel, &fixture.try);
    step_until(&fixture.bench, try_is_done, &fixture.try);
    assert_int_equal(fixture.try.result.code, ERR_CANCELLED);
    for (int i = 0; i < 100; i++)
        (void)worker_step(fixture.bench.worker);
    assert_int_equal(fixture.try.done_calls, 1);
    fixture_deinit(&fixture);
}

/* ---- calls from inside callbacks ----------------------------------------------------------------------------------------- */

struct chain {
    struct try first, second;
    bool starts_on_data;
};

static void chain_on_data(void *context, struct fetch_id id, int status, struct slice data)
{
    struct chain *chain = context;
    (void)id, (void)status, (void)data;
    if (chain->starts_on_data)
        try_start(&chain->second);
}

static void chain_on_done(void *context, struct fetch_id id, const struct fetch_result *result)
{
    struct chain *chain = context;
    (void)id;
    chain->first.result = *result;
    chain->first.done_calls++;
    if (!chain->starts_on_data)
        try_start(&chain->second);
}

static void a_fetch_can_be_started_from_any_callback(void **state)
{
    (void)state;
    for (int starts_on_data = 0; starts_on_data < 2; starts_on_data++) {
        struct fixture fixture;
        fixture_init(&fixture, serve_text, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        fixture.server.serve = serve_text_and_close;
        struct chain chain = {.starts_on_data = starts_on_data != 0};
        try_init(&chain.first, &fixture.bench, "http://127.0.0.1", fixture.server.port, "/1");
        try_init(&chain.second, &fixture.bench, "http://127.0.0.1", fixture.server.port, "/2");
        chain.first.request.context = &chain;
        chain.first.request.on_data = chain_on_data;
        chain.first.request.on_done = chain_on_done;
        on_worker(&fixture.bench, try_start, &chain.first);
        step_until(&fixture.bench, try_is_done, &chain.first);
        step_until(&fixture.bench, try_is_done, &chain.second);
        assert_int_equal(chain.first.result.code, OK);
        assert_int_equal(chain.second.result.code, OK);
        assert_int_equal(atomic_load(&fixture.server.requests), 2);
        try_deinit(&chain.first);
        try_deinit(&chain.second);
        fixture_deinit(&fixture);
    }
}

/* ---- many at once --------------------------------------------------------------------------------------------------------- */

enum { MANY = 600 }; /* over two stripes of fetch_curl.c */

struct crowd {
    struct bench *bench;
    struct fetch_request request;
    struct fetch_id ids[MANY];
    int done, ok, cancelled;
};

static void crowd_on_done(void *context, struct fetch_id id, const struct fetch_result *result)
{
    struct crowd *crowd = context;
    (void)id;
    crowd->done++;
    crowd->ok += result->code == OK;
    crowd->cancelled += result->code == ERR_CANCELLED;
}

static void crowd_start(void *context)
{
    struct crowd *crowd = context;
    for (int i = 0; i < MANY; i++)
        assert_int_equal(fetch_start(crowd->bench->client, &crowd->request, &crowd->ids[i], NULL), OK);
    for (int i = 0; i < MANY; i += 3)
        fetch_cancel(crowd->bench->client, crowd->ids[i]);
}

static bool crowd_is_done(void *context)
{
    return ((struct crowd *)context)->done == MANY;
}

static void many_at_once_end_each_exactly_once(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, serve_text_and_close, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    struct crowd crowd = {.bench = &fixture.bench, .request = fixture.try.request};
    crowd.request.context = &crowd;
    crowd.request.on_data = NULL;
    crowd.request.on_done = crowd_on_done;
    on_worker(&fixture.bench, crowd_start, &crowd);
    step_until(&fixture.bench, crowd_is_done, &crowd);
    for (int i = 0; i < 100; i++)
        (void)worker_step(fixture.bench.worker);
    assert_int_equal(crowd.done, MANY);
    assert_int_equal(crowd.cancelled, MANY / 3);
    assert_int_equal(crowd.ok, MANY - MANY / 3);
    assert_int_equal(fetch_in_flight(fixture.bench.client), 0);
    fixture_deinit(&fixture);
}

/* ---- refusals and the end ------------------------------------------------------------------------------------------------ */

static void expect_refusal(struct fixture *fixture, const char *url, const char *method, const char *const *headers)
{
    struct try *try = &fixture->try;
    try->request.url = url;
    try->request.method = method;
    try->request.headers = headers;
    on_worker(&fixture->bench, try_start, try);
    assert_int_equal(try->start_code, ERR_INVALID);
    assert_int_equal(fetch_in_flight(fixture->bench.client), 0);
}

static void bad_requests_are_refused_at_the_start(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture, serve_text, NULL);
    static const char *const bad_header[] = {"X-A: 1\r\nX-B: 2", NULL};
    expect_refusal(&fixture, "", "GET", NULL);
    expect_refusal(&fixture, "http://", "GET", NULL);
    expect_refusal(&fixture, "ftp://127.0.0.1/x", "GET", NULL);
    expect_refusal(&fixture, "file:///etc/passwd", "GET", NULL);
    expect_refusal(&fixture, "gopher://127.0.0.1:1/x", "GET", NULL);
    expect_refusal(&fixture, "http://127.0.0.1/a b\r\nX: y", "GET", NULL);
    expect_refusal(&fixture, fixture.try.url, "GET /x HTTP/1.1\r\nX: y\r\n", NULL);
    expect_refusal(&fixture, fixture.try.url, "", NULL);
    expect_refusal(&fixture, fixture.try.url, "GET", bad_header);
    fixture_deinit(&fixture);
}

static void the_limit_of_requests_in_flight_holds(void **state)
{
    (void)state;
    struct fetch_options options = {.in_flight_max = 2};
    struct bench bench;
    struct raw_server server;
    bench_init(&bench, &options);
    raw_server_start(&server, serve_text_and_stall, (void *)(uintptr_t) "");
    struct try tries[3];
    for (int i = 0; i < 3; i++) {
        try_init(&tries[i], &bench, "http://127.0.0.1", server.port, "/");
        on_worker(&bench, try_start, &tries[i]);
        assert_int_equal(tries[i].start_code, i < 2 ? OK : ERR_LIMIT);
    }
    on_worker(&bench, try_cancel, &tries[0]);
    step_until(&bench, try_is_done, &tries[0]);
    on_worker(&bench, try_start, &tries[2]); /* there is room again */
    assert_int_equal(tries[2].start_code, OK);

    /* The end: nobody is called any more. */
    bench_deinit(&bench);
    assert_int_equal(tries[1].done_calls, 0);
    assert_int_equal(tries[2].done_calls, 0);
    raw_server_stop(&server);
    for (int i = 0; i < 3; i++)
        try_deinit(&tries[i]);
}

static int count_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += dup2(fd, fd) == fd;
    return count;
}

static void no_descriptor_is_left_behind(void **state)
{
    (void)state;
    int before = count_descriptors();
    expect_end(serve_text, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", OK, 200, "ok");
    expect_end(serve_text_and_close, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", ERR_PEER_CLOSED, 200, "ok");
    names_are_resolved(NULL);
    assert_int_equal(count_descriptors(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_arrives_as_it_was_given),
        cmocka_unit_test(a_chunked_response_is_put_together),
        cmocka_unit_test(an_error_status_is_a_complete_response),
        cmocka_unit_test(connections_are_used_again),
        cmocka_unit_test(names_are_resolved),
        cmocka_unit_test(a_cut_response_is_no_response),
        cmocka_unit_test(what_is_not_http_is_refused),
        cmocka_unit_test(a_refused_connection_is_told),
        cmocka_unit_test(a_redirect_is_not_followed),
        cmocka_unit_test(proxies_of_the_environment_are_ignored),
        cmocka_unit_test(one_fetch_is_one_attempt_on_a_dead_connection_too),
        cmocka_unit_test(a_certificate_must_be_trusted_valid_and_of_that_host),
        cmocka_unit_test(plain_text_is_not_taken_for_tls),
        cmocka_unit_test(a_body_over_the_limit_is_cut_there),
        cmocka_unit_test(an_endless_head_is_cut),
        cmocka_unit_test(silence_before_the_first_byte_ends_in_a_timeout),
        cmocka_unit_test(a_trickled_head_does_not_move_the_deadline),
        cmocka_unit_test(a_stalled_body_ends_in_an_idle_timeout),
        cmocka_unit_test(an_endless_body_ends_at_the_total),
        cmocka_unit_test(a_connection_that_does_not_come_about_ends_in_a_timeout),
        cmocka_unit_test(retry_after_is_read_in_both_forms_and_capped),
        cmocka_unit_test(a_cancel_closes_the_socket_before_it_is_told),
        cmocka_unit_test(a_cancel_from_inside_on_data_is_the_last_data),
        cmocka_unit_test(a_cancel_before_the_connection_stands_is_told_once),
        cmocka_unit_test(a_fetch_can_be_started_from_any_callback),
        cmocka_unit_test(many_at_once_end_each_exactly_once),
        cmocka_unit_test(bad_requests_are_refused_at_the_start),
        cmocka_unit_test(the_limit_of_requests_in_flight_holds),
        cmocka_unit_test(no_descriptor_is_left_behind),
    };
    signal(SIGPIPE, SIG_IGN); /* as fetch.h asks */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
