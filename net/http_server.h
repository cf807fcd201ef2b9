/* SPDX-License-Identifier: Apache-2.0 */
/* http_server: HTTP/1.1 connections of one worker; parses requests, keeps pipelined answers in order, streams SSE.
 *
 * Knows no route: each complete request (head and body) goes to one handler, which answers now or later by exchange id.
 *
 * Life: http_server_create on each worker; http_server_listen on worker 0 only, which accepts and hands connections to the
 * worker with the fewest (exact counters) before their first receive is armed; http_server_drain on each, worker 0 first;
 * http_server_destroy, when worker 0 has drained (until then it may deal a connection to any of them).
 *
 * Answers may be given from anywhere on the worker: they are written at the end of the loop turn, all of a connection in one
 * send. An idle connection costs under 600 bytes and its socket; a request that is whole in its receive buffer is not copied,
 * and nothing is allocated for it once warm.
 *
 * Invariants
 *  H1  A request reaches the handler whole (body included, at most body_bytes_max) or not at all; after the first byte that
 *      breaks the grammar nothing of that connection is interpreted any more. A refusal is answered after what is open
 *      before it, and ends the connection.
 *  H2  Answers leave in the order of their requests; at most 32 exchanges of a connection are open, then reading stops.
 *  H3  Each exchange ends exactly once: by http_respond, by http_stream_end, or by on_gone.
 *  H4  At most one send is in flight a socket; what gathers meanwhile leaves in one send.
 *  H5  A reader of a stream that leaves more than send_bytes_max unread is closed (SSE resumes by id); while whole answers
 *      of that many bytes wait for their reader, no further request of the connection is read.
 *  H6  A peer that has finished sending (half-close) still gets its answers; a stream that had begun before counts as gone.
 */
#ifndef CIRANDA_NET_HTTP_SERVER_H
#define CIRANDA_NET_HTTP_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "net/http_request.h"
#include "runtime/error.h"
#include "runtime/slice.h"

struct worker;
struct http_server;

/* Names one exchange for later; stale ids are harmless. */
struct http_exchange_id {
    uint32_t index, generation;
};

struct http_response {
    int status;
    const char *content_type;          /* NULL: no body */
    const struct http_header *headers; /* extra ones; CR, LF and NUL in them are refused by assert */
    uint32_t header_count;
    struct slice body;
    bool close; /* close the connection after it */
};

struct http_handler {
    void *context;
    /* Must lead, now or later, to the end of the exchange. */
    void (*on_request)(void *context, struct http_server *server, struct http_exchange_id exchange,
                       const struct http_request *request);
    /* The peer is gone before the exchange ended; its id is stale from now on. */
    void (*on_gone)(void *context, struct http_server *server, struct http_exchange_id exchange);
    /* What was written to a stream has left, but for a piece (TCP_SEND_PIECE_BYTES); who has more to send (a long history)
     * writes the next part. May be NULL. */
    void (*on_drained)(void *context, struct http_server *server, struct http_exchange_id exchange);
    /* Body of a refusal made by the server itself (400, 408, 413, ...): writes a problem document for (status, reason) into
     * `buffer`, returns its size. `trace_id` is the 32 hexadecimal digits of the answer's X-Trace-Id. NULL: no body. */
    size_t (*write_refusal)(void *context, int status, const char *reason, const char *trace_id, char *buffer,
                            size_t size);
};

struct http_server_options {
    struct http_handler handler;
    uint32_t connections_max; /* of this worker; 0: 8192. Above it the oldest idle one is closed, else accepting pauses */
    uint32_t head_bytes_max;  /* 0: 16384 -> 431 */
    uint32_t target_bytes_max; /* 0: 8192 -> 414 */
    uint32_t body_bytes_max;   /* 0: 262144 -> 413 */
    uint32_t pipeline_max;     /* 0: 32 */
    uint32_t send_bytes_max;   /* 0: 262144 */
    uint64_t head_ns_max;      /* first byte to end of head; 0: 10 s -> 408 */
    uint64_t body_grace_ns;    /* 0: 5 s; then body_bytes_per_s_min (0: 1024) -> 408 */
    uint32_t body_bytes_per_s_min;
    uint64_t idle_ns_max; /* keep-alive; 0: 75 s */
};

MUST_USE enum err http_server_create(struct worker *worker, const struct http_server_options *options,
                                     struct http_server **ret_server, struct error *error);
/* Thread: worker 0's. `peers[i]` is worker i's server (peers[0] == server); connections are dealt out among them.
 * `address` "127.0.0.1:7400"; port 0 picks one. */
MUST_USE enum err http_server_listen(struct http_server *server, const char *address, struct http_server *const *peers,
                                     uint32_t peer_count, struct error *error);
void http_server_address(const struct http_server *server, char *ret_text, size_t size);
/* Stops accepting, closes idle connections, answers what is open with Connection: close. */
void http_server_drain(struct http_server *server);
bool http_server_is_idle(const struct http_server *server); /* no open exchange and nothing unsent */
/* Closes what is open, without a word to the handler, and steps the ring until the kernel has let go of it (at most 0.2 s).
 * Thread: the worker's, e.g. on_stop. Accepts NULL. */
void http_server_destroy(struct http_server *server);

/* ---- answering; Thread: the exchange's worker. ERR_NOT_FOUND: the exchange is gone, which is no failure. -------------- */
enum err http_respond(struct http_server *server, struct http_exchange_id exchange, const struct http_response *response);
/* Chunked streaming (text/event-stream and others): head at once, then parts, then the end. Copies what it is given.
 * http_stream_write returns ERR_LIMIT when the reader is too slow: the connection is then closed (H5). */
enum err http_stream_start(struct http_server *server, struct http_exchange_id exchange,
                           const struct http_response *head);
enum err http_stream_write(struct http_server *server, struct http_exchange_id exchange, struct slice data);
/* Bytes written and not yet taken by the kernel, 0 when gone: for who sends much, to stay below send_bytes_max. */
size_t http_stream_unsent(struct http_server *server, struct http_exchange_id exchange);
enum err http_stream_end(struct http_server *server, struct http_exchange_id exchange);

struct http_server_stats {
    uint64_t accepted, requests, refused_by_status[6]; /* index status/100 */
    uint32_t connections, exchanges;
};
void http_server_get_stats(const struct http_server *server, struct http_server_stats *ret_stats);

#endif
