/* SPDX-License-Identifier: Apache-2.0 */
/* tcp_server: what the servers of net/ have in common, whatever protocol they speak: accepting and dealing connections,
 * receiving, one send a turn, idleness, deadlines, the end of a connection. For http_server and rpc_server, nobody else.
 *
 *   tcp_listener.c    accepting and dealing out connections, on worker 0
 *   tcp_connection.c  one connection: receive, send, deadlines, end
 *   tcp_server.c      the connections of a worker: buffers, the flush once a turn, drain
 *
 * A protocol embeds struct tcp_server first in its server and struct tcp_connection first in its connection, and answers the
 * questions of struct tcp_protocol. Nothing acts at once: whatever happens to a connection (bytes, an answer, a deadline, a
 * completed send) changes its fields and marks it dirty; tcp_connection_settle() then does what follows, once a turn, and is
 * the only place where a connection is closed. So all that gathered in a turn leaves in one send.
 *
 * Invariants
 *  T1  At most one send is in flight a socket; what gathers meanwhile leaves in one send.
 *  T2  While a paused connection holds more than TCP_HOLD_BYTES_MAX received bytes, nothing more is received.
 *  T3  A connection is freed when both its operations have ended, never before.
 *  T4  A peer that has finished sending still gets what it is owed.
 */
#ifndef CIRANDA_NET_TCP_SERVER_H
#define CIRANDA_NET_TCP_SERVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/assert.h"
#include "runtime/buffer.h"
#include "runtime/error.h"
#include "runtime/metrics.h"
#include "runtime/ring.h"
#include "runtime/timer.h"
#include "runtime/worker.h"

struct tcp_connection;
struct tcp_listener;
struct tcp_server;

enum {
    TCP_SEND_PIECE_BYTES = 65536,      /* of one send operation, so that its completions show a slow reader's progress */
    TCP_HOLD_BYTES_MAX = 65536,        /* received and not yet wanted: then the receive is cancelled */
    TCP_RECEIVE_SLACK_BYTES = 1 << 20, /* what may still arrive until the cancel has its effect */
    TCP_OUTPUT_BYTES_MAX = 64 << 20,
    TCP_SPARE_BUFFERS_MAX = 256, /* kept warm a server, each at most TCP_SPARE_BUFFER_BYTES */
    TCP_SPARE_BUFFER_BYTES = 16384,
};

/* A ring of links through its head. */
struct tcp_link {
    struct tcp_link *previous, *next;
};
void tcp_link_init(struct tcp_link *head);
void tcp_link_append(struct tcp_link *head, struct tcp_link *link);
void tcp_link_remove(struct tcp_link *link); /* accepts zeroed */
static inline bool tcp_link_is_in_list(const struct tcp_link *link)
{
    return link->next != NULL;
}

/* What differs between protocols. Each function runs on the connection's worker. */
struct tcp_protocol {
    const char *name;        /* of metrics and log lines */
    size_t connection_bytes; /* of the protocol's connection, made zeroed */
    /* Bytes came while the connection was open; lent for the call. */
    void (*on_bytes)(struct tcp_connection *connection, const char *data, size_t size);
    /* First when a connection is settled: goes on with what is held, as more has come or room has; sets is_paused. When the
     * connection is no longer open, what is held is dropped. */
    void (*take_held)(struct tcp_connection *connection);
    /* Nothing more will be taken. */
    void (*drop_held)(struct tcp_connection *connection);
    size_t (*held_bytes)(const struct tcp_connection *connection);
    /* Something is open or half received: neither idle nor done. */
    bool (*is_busy)(const struct tcp_connection *connection);
    /* UINT64_MAX: none. When it has passed, on_deadline says what follows, or breaks the connection. */
    uint64_t (*deadline_ns)(const struct tcp_connection *connection);
    void (*on_deadline)(struct tcp_connection *connection);
    /* The last word before what gathered is sent. May be NULL. */
    void (*before_send)(struct tcp_connection *connection);
    /* What was written has left, but for TCP_SEND_PIECE_BYTES at most: not all of it, since whoever pipelines always has
     * something on its way. May be NULL. */
    void (*on_drained)(struct tcp_connection *connection);
    /* The peer finished sending. May be NULL. */
    void (*on_peer_finished)(struct tcp_connection *connection);
    /* The connection ends: lets go of all that is open. */
    void (*on_close)(struct tcp_connection *connection);
};

/*            refused, last answer known, peer done            all sent                peer closed, 2 s, broken
 *   OPEN ------------------------------------> LAST ----------------> LINGERING ----------------------> CLOSING -> freed
 *     `-- idle too long, broken ---------------- ' ------------------------------------------------------^
 */
enum tcp_state {
    TCP_OPEN,      /* takes requests */
    TCP_LAST,      /* what it still receives is dropped; what is open is answered */
    TCP_LINGERING, /* our side is shut; drains, since a close over unread bytes would destroy our last answer */
    TCP_CLOSING,   /* both operations are to end; then the descriptor is closed and the object freed */
};

struct tcp_connection {
    /* fixed after adoption */
    struct tcp_server *server;
    int fd;

    /* owner worker only */
    enum tcp_state state;
    bool is_dirty, is_receiving, is_receive_cancelled, is_sending;
    bool has_sent;                 /* a send completed since on_drained was last asked */
    bool is_paused;                /* the protocol's: what is held waits for room */
    bool has_peer_finished;        /* end of its stream was received */
    bool is_broken;                /* to be closed without further ado */
    struct buffer queued, sending; /* memory only while there is something in them */
    size_t sent;                   /* of `sending` */
    struct iovec vector;
    uint64_t send_since_ns, idle_since_ns, linger_until_ns;
    uint64_t armed_ns; /* the timer's deadline; may be too early, never too late; UINT64_MAX: not armed */
    struct timer timer;
    struct ring_op receive_op, send_op;
    struct tcp_connection *next_dirty;
    struct tcp_link all, idle;
    struct worker_task adopt_task; /* from worker 0 to the owner, before anything else is used */
};

struct tcp_server {
    /* fixed after creation */
    struct worker *worker;
    const struct tcp_protocol *protocol;
    uint32_t connections_max; /* of this worker; above it the oldest idle one is closed, else accepting pauses */
    uint64_t idle_ns_max;     /* of a connection without anything to do, and of a send that makes no progress */
    struct metric accepted_metric, connections_metric;

    /* owner worker only */
    bool is_draining;
    struct tcp_link connections, idle; /* idle: the longest idle first */
    uint64_t accepted;
    uint32_t connections_open;
    struct tcp_connection *dirty_first, *dirty_last;
    struct timer flush_timer;
    struct buffer spare_buffers[TCP_SPARE_BUFFERS_MAX];
    uint32_t spare_buffer_count;
    struct tcp_listener *listener; /* worker 0 */

    /* shared: written by the owner and (count) by worker 0, read by worker 0 when it deals. Relaxed: they order nothing. */
    _Alignas(64) atomic_uint connection_count; /* exact: counted up when dealt, down when freed */
    atomic_uint idle_count;                    /* advisory: whether room can be made */
};

/* ---- tcp_server.c; Thread: the worker's -------------------------------------------------------------------------------- */
/* The fields fixed after creation but for the metrics are set. */
void tcp_server_init(struct tcp_server *server);
/* Closes the listener; connections end as soon as they are owed nothing. */
void tcp_server_drain(struct tcp_server *server);
bool tcp_server_has_unsent(const struct tcp_server *server);
/* Closes everything and steps the ring until the kernel has let go of it (at most 0.2 s). Returns: false, and logs, when it has
 * not: then nothing that operations point to may be freed. */
bool tcp_server_close(struct tcp_server *server);
void tcp_server_mark_dirty(struct tcp_server *server, struct tcp_connection *connection);
/* Buffers with memory from the pool when there is one; size_max is set. */
void tcp_server_take_buffer(struct tcp_server *server, struct buffer *ret_buffer, size_t size_max);
void tcp_server_give_buffer(struct tcp_server *server, struct buffer *buffer);

/* ---- tcp_connection.c; Thread: the connection's worker ----------------------------------------------------------------- */
/* Owns: takes the connection, which is already counted. */
void tcp_connection_adopt(struct tcp_connection *connection);
void tcp_connection_settle(struct tcp_connection *connection);
/* To be closed when it is settled; from now on it is none of the idle ones. */
void tcp_connection_break(struct tcp_connection *connection);
/* Nothing more is taken: what is open is answered, and that is the end. */
void tcp_connection_set_last(struct tcp_connection *connection);
/* Where what goes out next is written; the caller marks the connection dirty. */
struct buffer *tcp_connection_output(struct tcp_connection *connection);
size_t tcp_connection_unsent(const struct tcp_connection *connection);
static inline uint64_t tcp_connection_now_ns(const struct tcp_connection *connection)
{
    return worker_now_ns(connection->server->worker);
}

/* ---- tcp_listener.c; Thread: worker 0's -------------------------------------------------------------------------------- */
/* `peers[i]` is worker i's server (peers[0] == server); the array is copied. */
MUST_USE enum err tcp_server_listen(struct tcp_server *server, const char *address, struct tcp_server *const *peers,
                                    uint32_t peer_count, struct error *error);
void tcp_server_address(const struct tcp_server *server, char *ret_text, size_t size); /* "" without a listener */
void tcp_listener_close(struct tcp_server *server);                                    /* accepts a server without one */
bool tcp_listener_is_closed(const struct tcp_server *server);                          /* or there is none */
void tcp_listener_free(struct tcp_server *server);

#endif
