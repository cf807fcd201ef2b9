/* SPDX-License-Identifier: Apache-2.0 */
/* A server with nothing but net/http_server in it: answers 200 with method, path and body size, for comparing what it accepts
 * with what other servers do (tests/blackbox/http_differential.py) and for measuring the HTTP part alone.
 * Usage: http_probe_server [ADDRESS [WORKERS]]; prints {"http":"127.0.0.1:port"}; SIGTERM and SIGINT end it orderly. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/http_server.h"
#include "runtime/assert.h"
#include "runtime/worker.h"

enum { WORKERS_MAX = 64 };

static struct http_server *servers[WORKERS_MAX];
static uint32_t worker_count = 1;
static const char *address = "127.0.0.1:0";

static void on_request(void *context, struct http_server *server, struct http_exchange_id exchange,
                       const struct http_request *request)
{
    (void)context;
    char text[8300];
    int size = snprintf(text, sizeof text, "%s %.*s %zu\n", http_method_text(request->method), SLICE_PRINT(request->path),
                        request->body.size);
    http_respond(server, exchange,
                 &(struct http_response){.status = 200, .content_type = "text/plain", .body = {text, (size_t)size}});
}

static size_t write_refusal(void *context, int status, const char *reason, const char *trace_id, char *buffer,
                            size_t size)
{
    (void)context;
    int written =
        snprintf(buffer, size, "{\"status\":%d,\"detail\":\"%s\",\"trace_id\":\"%s\"}\n", status, reason, trace_id);
    return (size_t)written < size ? (size_t)written : 0;
}

static enum err on_start(struct worker *worker, void *user, struct error *error)
{
    (void)user;
    struct http_server_options options = {.handler = {.on_request = on_request, .write_refusal = write_refusal}};
    return http_server_create(worker, &options, &servers[worker_index(worker)], error);
}

static void on_stop(struct worker *worker, void *user)
{
    (void)user;
    http_server_destroy(servers[worker_index(worker)]);
}

static void run_listen(struct worker *worker, struct worker_task *task)
{
    (void)worker, (void)task;
    struct error error;
    char text[64];
    if (http_server_listen(servers[0], address, servers, worker_count, &error) != OK) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
    http_server_address(servers[0], text, sizeof text);
    printf("{\"http\":\"%s\"}\n", text);
    fflush(stdout);
}

static void run_drain(struct worker *worker, struct worker_task *task)
{
    (void)task;
    http_server_drain(servers[0]);
    runtime_stop(worker_runtime(worker));
}

int main(int argc, char **argv)
{
    if (argc > 1)
        address = argv[1];
    if (argc > 2)
        worker_count = (uint32_t)strtoul(argv[2], NULL, 10);
    if (worker_count < 1 || worker_count > WORKERS_MAX)
        return 2;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    struct runtime_options options = {.worker_count = worker_count, .on_start = on_start, .on_stop = on_stop};
    struct runtime *runtime;
    struct error error;
    if (runtime_create(&options, &runtime, &error) != OK || runtime_start(runtime, &error) != OK) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    static struct worker_task listen_task = {.run = run_listen}, drain_task = {.run = run_drain};
    worker_post(runtime_worker(runtime, 0), &listen_task);
    int number;
    sigwait(&signals, &number);
    worker_post(runtime_worker(runtime, 0), &drain_task);
    runtime_join(runtime);
    runtime_destroy(runtime);
    return 0;
}
