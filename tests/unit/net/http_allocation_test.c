/* SPDX-License-Identifier: Apache-2.0 */
/* No request allocates once the server is warm: neither whole ones, nor ones in pieces, chunked ones or answers out of order.
 * On the kernel's ring and a loopback socket; every allocator call of the program is counted (ld --wrap). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/http_server.h"
#include "runtime/worker.h"
#include "tests/unit/net/warm_server.h"

static struct http_server *server;
static struct http_exchange_id late;

static void answer(struct http_exchange_id exchange)
{
    assert_int_equal(http_respond(server, exchange,
                                  &(struct http_response){
                                      .status = 200, .content_type = "text/plain", .body = SLICE_LITERAL("hello")}),
                     OK);
}

/* /late is answered when the next request has come, so that one answer is held behind it. */
static void on_request(void *context, struct http_server *of, struct http_exchange_id exchange,
                       const struct http_request *request)
{
    (void)context, (void)of;
    if (slice_has_text(request->path, "/late")) {
        late = exchange;
        return;
    }
    answer(exchange);
    if (late.generation) {
        answer(late);
        late = (struct http_exchange_id){0};
    }
}

static enum err on_start(struct worker *worker, void *user, struct error *error)
{
    (void)user;
    struct http_server_options options = {.handler = {.on_request = on_request}};
    enum err result = http_server_create(worker, &options, &server, error);
    return result == OK ? http_server_listen(server, "127.0.0.1:0", &server, 1, error) : result;
}

static void on_stop(struct worker *worker, void *user)
{
    (void)worker, (void)user;
    http_server_destroy(server);
}

static void step_until_heard(struct worker *worker, int fd, size_t count)
{
    char bytes[65536];
    size_t heard = 0;
    for (int i = 0; heard < count; i++) {
        assert_true(i < 10000000);
        worker_step(worker);
        ssize_t size = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        for (ssize_t at = 0; at + 5 <= size; at++)
            heard += memcmp(bytes + at, "hello", 5) == 0;
    }
}

static void exchange_some(struct worker *worker, int fd)
{
    static const char whole[] = "GET /now HTTP/1.1\r\nHost: x\r\n\r\n";
    static const char reordered[] = "GET /late HTTP/1.1\r\nHost: x\r\n\r\nGET /now HTTP/1.1\r\nHost: x\r\n\r\n";
    static const char chunked[] =
        "POST /now HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert_int_equal(send(fd, whole, sizeof whole - 1, 0), sizeof whole - 1);
    step_until_heard(worker, fd, 1);
    assert_int_equal(send(fd, reordered, sizeof reordered - 1, 0), sizeof reordered - 1);
    step_until_heard(worker, fd, 2);
    assert_int_equal(send(fd, chunked, sizeof chunked - 1, 0), sizeof chunked - 1);
    step_until_heard(worker, fd, 1);
    assert_int_equal(send(fd, whole, 10, 0), 10);
    for (int i = 0; i < 100; i++)
        worker_step(worker);
    assert_int_equal(send(fd, whole + 10, sizeof whole - 11, 0), sizeof whole - 11);
    step_until_heard(worker, fd, 1);
}

static void a_warm_server_allocates_nothing(void **state)
{
    (void)state;
    struct runtime *runtime = warm_server_start(on_start, on_stop);
    struct worker *worker = runtime_worker(runtime, 0);
    char address[64];
    http_server_address(server, address, sizeof address);
    int fd = warm_server_connect(address);
    for (int i = 0; i < 20; i++)
        exchange_some(worker, fd);
    uint64_t before = allocations;
    for (int i = 0; i < 200; i++)
        exchange_some(worker, fd);
    assert_int_equal(allocations - before, 0);
    assert_true(before > 0); /* the counter counts */
    close(fd);
    runtime_destroy(runtime);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_warm_server_allocates_nothing)};
    return cmocka_run_group_tests_name("http_allocation", tests, NULL, NULL);
}
