/* SPDX-License-Identifier: Apache-2.0 */
/* No call allocates once the server is warm: neither in whole frames nor in pieces, answered at once or later. On the kernel's
 * ring and a loopback socket; every allocator call of the program is counted (ld --wrap). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/rpc_server.h"
#include "runtime/worker.h"
#include "tests/unit/net/warm_server.h"

enum { CALLS = 100 };
#define CALL "\x94\x00\x07\xa4ping\x91\x80"
enum { ANSWER_BYTES = 5 }; /* [1, 7, nil, nil] */

static struct rpc_server *server;
static struct rpc_call_id late;

/* Every other call is answered when the next one has come. */
static void on_request(void *context, struct rpc_server *of, struct rpc_call_id call, const struct rpc_request *request)
{
    (void)context, (void)request;
    if (late.generation == 0) {
        late = call;
        return;
    }
    assert_int_equal(rpc_respond(of, call, SLICE_LITERAL("\xc0")), OK);
    assert_int_equal(rpc_respond(of, late, SLICE_LITERAL("\xc0")), OK);
    late = (struct rpc_call_id){0};
}

static enum err on_start(struct worker *worker, void *user, struct error *error)
{
    (void)user;
    struct rpc_server_options options = {.handler = {.on_request = on_request}};
    enum err result = rpc_server_create(worker, &options, &server, error);
    return result == OK ? rpc_server_listen(server, "127.0.0.1:0", &server, 1, error) : result;
}

static void on_stop(struct worker *worker, void *user)
{
    (void)worker, (void)user;
    rpc_server_destroy(server);
}

/* So many calls in pieces of `piece` bytes, and all their answers. */
static void exchange_some(struct worker *worker, int fd, size_t piece)
{
    char calls[CALLS * (sizeof CALL - 1)], answers[4096];
    for (size_t i = 0; i < CALLS; i++)
        memcpy(calls + i * (sizeof CALL - 1), CALL, sizeof CALL - 1);
    for (size_t at = 0; at < sizeof calls; at += piece) {
        size_t size = sizeof calls - at < piece ? sizeof calls - at : piece;
        assert_int_equal(send(fd, calls + at, size, 0), size);
        worker_step(worker);
    }
    size_t heard = 0;
    for (int i = 0; heard < (size_t)CALLS * ANSWER_BYTES; i++) {
        assert_true(i < 10000000);
        worker_step(worker);
        ssize_t size = recv(fd, answers, sizeof answers, MSG_DONTWAIT);
        heard += size > 0 ? (size_t)size : 0;
    }
    assert_int_equal(heard, (size_t)CALLS * ANSWER_BYTES);
}

static void a_warm_server_allocates_nothing(void **state)
{
    (void)state;
    struct runtime *runtime = warm_server_start(on_start, on_stop);
    struct worker *worker = runtime_worker(runtime, 0);
    char address[64];
    rpc_server_address(server, address, sizeof address);
    int fd = warm_server_connect(address);
    for (int i = 0; i < 300; i++) /* until each of its few buffers has been as large as any needs to be */
        exchange_some(worker, fd, 1 + (size_t)(i % 100) * 13);
    uint64_t before = allocations;
    for (int i = 0; i < 100; i++)
        exchange_some(worker, fd, 1 + (size_t)i * 13);
    assert_int_equal(allocations - before, 0);
    assert_true(before > 0); /* the counter counts */
    close(fd);
    runtime_destroy(runtime);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_warm_server_allocates_nothing)};
    return cmocka_run_group_tests_name("rpc_allocation", tests, NULL, NULL);
}
