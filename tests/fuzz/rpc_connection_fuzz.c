/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as what a client of the RPC port says, in pieces as its first byte draws them, on the simulated network: the server
 * answers or closes, holds on to nothing, and goes on with the next client. One world for all inputs; every frame that is whole
 * is answered with its own params, so that the answers' sizes are the client's, too. */
#include <stdlib.h>

#include "net/rpc_server.h"
#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/ring_sim.h"
#include "runtime/worker.h"

#define SECOND UINT64_C(1000000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct runtime *runtime;
static struct rpc_server *server;
static char address[64];

static void on_request(void *context, struct rpc_server *of, struct rpc_call_id call, const struct rpc_request *request)
{
    (void)context;
    if (slice_has_text(request->method, "stream") && !request->is_notification) {
        if (rpc_stream_start(of, call, SLICE_LITERAL("\xc0")) == OK) {
            (void)rpc_stream_notify(of, call, "event", request->params);
            return;
        }
    }
    (void)rpc_respond(of, call, request->params);
}

static enum err on_start(struct worker *worker, void *user, struct error *error)
{
    (void)user;
    struct rpc_server_options options = {
        .handler = {.on_request = on_request}, .frame_bytes_max = 1024, .calls_max = 4, .send_bytes_max = 2048};
    enum err code = rpc_server_create(worker, &options, &server, error);
    if (code == OK)
        code = rpc_server_listen(server, "127.0.0.1:0", &server, 1, error);
    rpc_server_address(server, address, sizeof address);
    return code;
}

static void on_stop(struct worker *worker, void *user)
{
    (void)worker, (void)user;
    rpc_server_destroy(server);
}

static void end_world(void)
{
    runtime_destroy(runtime);
    sim_world_destroy();
}

static void start_world(void)
{
    struct runtime_options options = {
        .worker_count = 1, .on_start = on_start, .on_stop = on_stop, .ring = {.buffer_count = 16}};
    struct error error;
    log_set_level(LOG_ERROR);
    sim_world_reset(1, &(struct sim_options){.socket_buffer_bytes = 4096});
    ASSERT(runtime_create(&options, &runtime, &error) == OK);
    ASSERT(worker_start(runtime_worker(runtime, 0), &error) == OK);
    atexit(end_world); /* nothing may leak over all inputs */
}

static void settle(void)
{
    struct worker *worker = runtime_worker(runtime, 0);
    while (worker_step(worker) || sim_world_next_event_ns() <= clock_mono_ns())
        continue;
}

/* In steps, so that deadlines are met one by one. */
static void pass_seconds(int count)
{
    for (int i = 0; i < count; i++) {
        sim_clock_advance_to(clock_mono_ns() + SECOND);
        settle();
    }
}

static void drain(struct sim_client *client)
{
    char bytes[4096];
    do
        settle();
    while (sim_client_receive(client, bytes, sizeof bytes) > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!runtime)
        start_world();
    if (size == 0)
        return 0;
    struct sim_client *client = sim_connect(address);
    ASSERT(client);
    const size_t piece = data[0] == 0 ? size : data[0];
    for (size_t at = 1; at < size;) {
        size_t want = size - at < piece ? size - at : piece;
        size_t took = sim_client_send(client, data + at, want);
        at += took;
        drain(client);
        if (took < want && sim_client_is_closed_by_peer(client))
            break;
    }
    if (data[0] & 1)
        sim_client_shutdown_write(client);
    pass_seconds(12);
    drain(client);
    sim_client_close(client);
    settle();
    struct rpc_server_stats stats;
    rpc_server_get_stats(server, &stats);
    ASSERT(stats.connections == 0 && stats.calls == 0 && stats.streams == 0);
    return 0;
}
