/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

#include "tests/unit/net/warm_server.h"

uint64_t allocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

void *__wrap_malloc(size_t size)
{
    allocations++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    allocations++;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    allocations++;
    return __real_realloc(memory, size);
}

struct runtime *warm_server_start(enum err (*on_start)(struct worker *worker, void *user, struct error *error),
                                  void (*on_stop)(struct worker *worker, void *user))
{
    struct runtime_options options = {.worker_count = 1, .on_start = on_start, .on_stop = on_stop};
    struct runtime *runtime;
    struct error error = {0};
    assert_int_equal(runtime_create(&options, &runtime, &error), OK);
    if (worker_start(runtime_worker(runtime, 0), &error) == ERR_RING_UNAVAILABLE) {
        print_message("skipped: %s\n", error.text);
        runtime_destroy(runtime);
        skip();
    }
    return runtime;
}

int warm_server_connect(const char *address)
{
    unsigned port = 0;
    assert_int_equal(sscanf(address, "127.0.0.1:%u", &port), 1);
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    int one = 1;
    assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&place, sizeof place), 0);
    return fd;
}
