/* SPDX-License-Identifier: Apache-2.0 */
/* rpc_server_internal: the objects behind net/rpc_server.h.
 *
 *   rpc_server.c      the server: limits, life
 *   rpc_connection.c  one connection: taking frames, deadlines
 *   rpc_call.c        calls and streams: the slab, answers, notifications
 *
 * Below them is tcp_server.h: what happens to a connection marks it dirty, and what follows is done once a turn. */
#ifndef CIRANDA_NET_RPC_SERVER_INTERNAL_H
#define CIRANDA_NET_RPC_SERVER_INTERNAL_H

#include "net/rpc_scan.h"
#include "net/rpc_server.h"
#include "net/tcp_server.h"

struct rpc_call {
    struct rpc_connection *connection; /* NULL while free */
    struct tcp_link link;              /* of the connection's calls or streams */
    struct rpc_call *next_free;
    struct rpc_call_id id;
    void *user;
    uint32_t msgid;
    bool is_notification, is_large, is_stream;
};

struct rpc_connection {
    struct tcp_connection tcp;
    /* owner worker only */
    bool has_had_frame;
    uint32_t call_count, stream_count;
    uint32_t large_count;           /* of the calls */
    struct tcp_link calls, streams; /* zeroed until the first settle */
    struct buffer input;            /* bytes that are not taken yet: memory only while there are some */
    size_t input_taken;             /* of them, from the front */
    struct rpc_scan scan;           /* of the frame that begins there */
    uint64_t waiting_since_ns;      /* for the rest of that frame, or for the first one */
    uint64_t told_ns;               /* when streams were last told something */
};
_Static_assert(sizeof(struct rpc_connection) <= 832, "an idle connection costs this and a socket, nothing else");

struct rpc_metrics {
    struct metric requests, notifications, refusals[RPC_REASON_COUNT], slow_readers, calls, streams;
};

struct rpc_server {
    struct tcp_server tcp;
    /* fixed after creation */
    struct rpc_server_options options;
    struct rpc_metrics metrics;
    /* owner worker only */
    struct rpc_call **call_blocks;
    uint32_t call_block_count;
    struct rpc_call *free_calls;
    struct rpc_server_stats stats; /* but for the connections */
};

/* ---- rpc_connection.c -------------------------------------------------------------------------------------------------- */
extern const struct tcp_protocol rpc_protocol;
static inline struct rpc_server *rpc_connection_server(const struct rpc_connection *connection)
{
    return container_of(connection->tcp.server, struct rpc_server, tcp);
}

/* ---- rpc_call.c -------------------------------------------------------------------------------------------------------- */
/* Returns: NULL: out of memory. */
struct rpc_call *rpc_call_create(struct rpc_connection *connection, const struct rpc_frame *frame);
/* Lets go of the calls of a list and tells the handler of each. */
void rpc_call_abandon_all(struct rpc_connection *connection, struct tcp_link *list);
void rpc_call_tell_drained(struct rpc_connection *connection);
void rpc_call_free_blocks(struct rpc_server *server);
/* [1, nil, {code, message}, nil]: about no call of the peer's. */
void rpc_write_refusal(struct buffer *out, enum rpc_reason reason);
void rpc_write_heartbeat(struct buffer *out);

#endif
