/* SPDX-License-Identifier: Apache-2.0 */
/* The server of one worker: limits, metrics, life. See rpc_server_internal.h for the map. */
#include <stdio.h>
#include <stdlib.h>

#include "net/rpc_server_internal.h"

static void set_defaults(struct rpc_server_options *options)
{
    static const struct rpc_server_options defaults = {
        .connections_max = 8192,
        .frame_bytes_max = 1 << 20,
        .calls_max = 1024,
        .streams_max = 256,
        .send_bytes_max = 256 << 10,
        .frame_ns_max = UINT64_C(10000000000),
        .idle_ns_max = UINT64_C(300000000000),
        .heartbeat_ns = UINT64_C(15000000000),
    };
#define DEFAULT(field) options->field = options->field ? options->field : defaults.field
    DEFAULT(connections_max);
    DEFAULT(frame_bytes_max);
    DEFAULT(calls_max);
    DEFAULT(streams_max);
    DEFAULT(send_bytes_max);
    DEFAULT(frame_ns_max);
    DEFAULT(idle_ns_max);
    DEFAULT(heartbeat_ns);
#undef DEFAULT
}

static void register_metrics(struct rpc_metrics *metrics)
{
    metrics->requests = metrics_register_counter("rpc_requests_total", "Requests handed to a method.", NULL);
    metrics->notifications =
        metrics_register_counter("rpc_notifications_total", "Notifications handed to a method.", NULL);
    metrics->slow_readers =
        metrics_register_counter("rpc_slow_readers_total", "Times a stream had to wait for a slow reader.", NULL);
    metrics->calls = metrics_register_gauge("rpc_calls", "Calls not yet answered.", NULL);
    metrics->streams = metrics_register_gauge("rpc_streams", "Subscriptions.", NULL);
    for (unsigned reason = 1; reason < RPC_REASON_COUNT; reason++) {
        char labels[64];
        snprintf(labels, sizeof labels, "reason=\"%s\"", rpc_reason_code((enum rpc_reason)reason));
        metrics->refusals[reason] = metrics_register_counter(
            "rpc_refusals_total", "Connections refused for what came as a frame, by reason.", labels);
    }
}

enum err rpc_server_create(struct worker *worker, const struct rpc_server_options *options,
                           struct rpc_server **ret_server, struct error *error)
{
    ASSERT(options->handler.on_request);
    struct rpc_server *server = aligned_alloc(_Alignof(struct rpc_server), sizeof *server);
    if (!server)
        return error_set(error, ERR_NO_MEMORY, "create the RPC server");
    *server = (struct rpc_server){.options = *options};
    set_defaults(&server->options);
    server->tcp = (struct tcp_server){.worker = worker,
                                      .protocol = &rpc_protocol,
                                      .connections_max = server->options.connections_max,
                                      .idle_ns_max = server->options.idle_ns_max};
    tcp_server_init(&server->tcp);
    register_metrics(&server->metrics);
    *ret_server = server;
    return OK;
}

enum err rpc_server_listen(struct rpc_server *server, const char *address, struct rpc_server *const *peers,
                           uint32_t peer_count, struct error *error)
{
    /* The part comes first in the whole, so that an array of the one is an array of the other. */
    _Static_assert(offsetof(struct rpc_server, tcp) == 0, "peers are passed on as they are");
    return tcp_server_listen(&server->tcp, address, (struct tcp_server *const *)(const void *)peers, peer_count, error);
}

void rpc_server_address(const struct rpc_server *server, char *ret_text, size_t size)
{
    tcp_server_address(&server->tcp, ret_text, size);
}

void rpc_server_drain(struct rpc_server *server)
{
    tcp_server_drain(&server->tcp);
}

bool rpc_server_is_idle(const struct rpc_server *server)
{
    return server->stats.calls == 0 && server->stats.streams == 0 && !tcp_server_has_unsent(&server->tcp);
}

void rpc_server_get_stats(const struct rpc_server *server, struct rpc_server_stats *ret_stats)
{
    *ret_stats = server->stats;
    ret_stats->accepted = server->tcp.accepted;
    ret_stats->connections = server->tcp.connections_open;
}

void rpc_server_destroy(struct rpc_server *server)
{
    if (!server)
        return;
    server->options.handler.on_gone = NULL; /* who would be told is being destroyed as well */
    server->options.handler.on_drained = NULL;
    if (!tcp_server_close(&server->tcp))
        return;
    rpc_call_free_blocks(server);
    free(server);
}
