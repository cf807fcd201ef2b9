/* SPDX-License-Identifier: Apache-2.0 */
/* rpc_server: MessagePack-RPC connections of one worker: https://github.com/msgpack-rpc/msgpack-rpc/blob/master/spec.md.
 *
 * Knows no method: each whole frame goes to one handler, which answers now or later by call id, in any order.
 *
 * Life: as http_server's: rpc_server_create on each worker; rpc_server_listen on worker 0 only; rpc_server_drain on each,
 * worker 0 first; rpc_server_destroy. Answers may be given from anywhere on the worker: all of a turn that go to one connection
 * leave in one send. Frames that are whole in their receive buffer are not copied, and nothing is allocated once warm.
 *
 * Invariants
 *  P1  A frame reaches the handler whole and within the limits (rpc_scan.h), or not at all. What can never be a frame is
 *      answered with an error of msgid nil; what is open is still answered, and that is the connection's end.
 *  P2  While calls_max calls of a connection are open, or RPC_LARGE_CALLS_MAX large ones, or more than send_bytes_max bytes wait
 *      for their reader, nothing more of it is taken, and soon nothing more received. A notification is a call like another
 *      until the handler has ended it.
 *  P3  Each call ends exactly once: by rpc_respond, by rpc_refuse, or by on_gone. One that became a stream ends by
 *      rpc_stream_end or by on_gone.
 *  P4  While more than send_bytes_max bytes wait for their reader, streams of its connection are told to wait: their handler goes
 *      on, from where it keeps what it has to say, when on_drained says that there is room. A reader that takes nothing at all
 *      for idle_ns_max is closed: it resumes by version.
 *  P5  A peer that has finished sending still gets its answers; its streams are gone.
 *  P6  No connection is closed for how much it has asked: an answer that would follow RPC_UNSENT_BYTES_MAX unsent bytes is not
 *      taken (ERR_LIMIT), and the handler refuses the call instead.
 *  P7  Whoever has streams hears something at least every heartbeat_ns, so that a peer that vanished is noticed.
 */
#ifndef CIRANDA_NET_RPC_SERVER_H
#define CIRANDA_NET_RPC_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"
#include "runtime/slice.h"

struct rpc_server;
struct worker;

enum {
    RPC_LARGE_CALLS_MAX = 8,        /* open ones of a connection: pages of 4 MiB */
    RPC_UNSENT_BYTES_MAX = 32 << 20 /* of a connection: as many pages, and the answers of small calls up to as much */
};

/* Names one call for later; stale ids are harmless. */
struct rpc_call_id {
    uint32_t index, generation;
};

/* Lent for the call of on_request. */
struct rpc_request {
    bool is_notification; /* whatever it is answered with, nothing is sent */
    uint32_t msgid;
    struct slice method; /* {NULL, 0}: it was no text */
    struct slice params; /* one value, MessagePack */
    uint64_t received_ns;
};

struct rpc_error {
    const char *code;
    struct slice message;
    uint64_t retry_after_ms; /* 0: left out */
};

struct rpc_handler {
    void *context;
    /* Must lead, now or later, to the end of the call. */
    void (*on_request)(void *context, struct rpc_server *server, struct rpc_call_id call,
                       const struct rpc_request *request);
    /* The peer is gone before the call or stream ended; its id is stale from now on. `user` is the call's. */
    void (*on_gone)(void *context, struct rpc_server *server, void *user);
    /* What was written to a connection has left, but for TCP_SEND_PIECE_BYTES at most; called for each of its streams. The
     * handler may end that stream, and no other. May be NULL. */
    void (*on_drained)(void *context, struct rpc_server *server, void *user);
};

struct rpc_server_options {
    struct rpc_handler handler;
    uint32_t connections_max; /* of this worker; 0: 8192. Above it the oldest idle one is closed, else accepting pauses */
    uint32_t frame_bytes_max; /* 0: 1 MiB */
    uint32_t calls_max;       /* open ones of a connection; 0: 1024 */
    uint32_t streams_max;     /* of a connection; 0: 256 */
    uint32_t send_bytes_max;  /* 0: 256 KiB */
    uint64_t frame_ns_max;    /* first byte to end of a frame, and connect to the end of the first frame; 0: 10 s */
    uint64_t idle_ns_max;     /* without calls and streams, or of a send that makes no progress; 0: 300 s */
    uint64_t heartbeat_ns;    /* 0: 15 s */
};

MUST_USE enum err rpc_server_create(struct worker *worker, const struct rpc_server_options *options,
                                    struct rpc_server **ret_server, struct error *error);
/* Thread: worker 0's. `peers[i]` is worker i's server (peers[0] == server); connections are dealt out among them.
 * `address` "127.0.0.1:7401"; port 0 picks one. */
MUST_USE enum err rpc_server_listen(struct rpc_server *server, const char *address, struct rpc_server *const *peers,
                                    uint32_t peer_count, struct error *error);
void rpc_server_address(const struct rpc_server *server, char *ret_text, size_t size);
/* Stops accepting and taking frames; what is open is answered, then the connections close. */
void rpc_server_drain(struct rpc_server *server);
bool rpc_server_is_idle(const struct rpc_server *server); /* no open call, no stream, nothing unsent */
/* Closes what is open, without a word to the handler, and steps the ring until the kernel has let go of it (at most 0.2 s).
 * Thread: the worker's, e.g. on_stop. Accepts NULL. */
void rpc_server_destroy(struct rpc_server *server);

/* ---- answering; Thread: the call's worker. ERR_NOT_FOUND: the call is gone, which is no failure. ------------------------ */
/* `result` is one value, MessagePack. Returns: ERR_LIMIT: too much waits for the reader; the call is as open as before (P6). */
enum err rpc_respond(struct rpc_server *server, struct rpc_call_id call, struct slice result);
enum err rpc_refuse(struct rpc_server *server, struct rpc_call_id call, const struct rpc_error *error);
/* Answers, and keeps the id for notifications. Returns: ERR_LIMIT too many streams, ERR_EXISTS one of this msgid; the call is
 * then as open as before. Not of a notification. */
enum err rpc_stream_start(struct rpc_server *server, struct rpc_call_id call, struct slice result);
/* Sends the notification [2, method, [params]]; `params` is one value, MessagePack. Returns: ERR_LIMIT: the reader is slow, and
 * nothing was sent: there is room again when on_drained is called (P4). */
enum err rpc_stream_notify(struct rpc_server *server, struct rpc_call_id call, const char *method, struct slice params);
/* Bytes written and not yet taken by the kernel, 0 when gone: for who sends much, to stay below send_bytes_max. */
size_t rpc_stream_unsent(struct rpc_server *server, struct rpc_call_id call);
/* `method` NULL: without a word; else that notification is the last, and waits for no room. */
enum err rpc_stream_end(struct rpc_server *server, struct rpc_call_id call, const char *method, struct slice params);
/* Its answer may take megabytes: counted for P2 until it is given. Once a call. */
void rpc_call_set_large(struct rpc_server *server, struct rpc_call_id call);
/* What the handler keeps of a call. Returns: NULL: never set, or the call is gone. */
void rpc_call_set_user(struct rpc_server *server, struct rpc_call_id call, void *user);
void *rpc_call_user(struct rpc_server *server, struct rpc_call_id call);
/* The stream that the request `msgid` of the call's connection became. Returns: {0, 0}: there is none. */
struct rpc_call_id rpc_stream_find(struct rpc_server *server, struct rpc_call_id call, uint32_t msgid);

struct rpc_server_stats {
    uint64_t accepted, requests, notifications, refused;
    uint32_t connections, calls, streams;
};
void rpc_server_get_stats(const struct rpc_server *server, struct rpc_server_stats *ret_stats);

#endif
