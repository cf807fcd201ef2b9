/* SPDX-License-Identifier: Apache-2.0 */
/* http_server_internal: the objects behind net/http_server.h and what its files owe each other.
 *
 *   http_server.c      the server: limits, pools, the flush once a turn, drain
 *   http_listener.c    accepting and dealing out connections, on worker 0
 *   http_connection.c  one connection: receive, parse, send, deadlines, end
 *   http_exchange.c    one request and its answer: order, heads, streams
 *   http_response.c    the bytes of a response head
 *
 * Nothing acts at once: whatever happens to a connection (bytes, an answer, a deadline, a completed send) changes its fields
 * and marks it dirty; http_connection_settle() then does what follows, once a turn. That gives one send a turn for all that
 * gathered (H4), and no handler is ever called from inside a call of its own, but on_request from the receive. */
#ifndef CIRANDA_NET_HTTP_SERVER_INTERNAL_H
#define CIRANDA_NET_HTTP_SERVER_INTERNAL_H

#include <stdatomic.h>

#include "net/http1.h"
#include "net/http_server.h"
#include "runtime/assert.h"
#include "runtime/buffer.h"
#include "runtime/metrics.h"
#include "runtime/ring.h"
#include "runtime/timer.h"
#include "runtime/worker.h"

enum {
    HTTP_SEND_PIECE_BYTES = 65536,      /* of one send operation, so that its completions show a slow reader's progress */
    HTTP_HOLD_BYTES_MAX = 65536,        /* received and not yet wanted: then the receive is cancelled */
    HTTP_RECEIVE_SLACK_BYTES = 1 << 20, /* what may still arrive until the cancel has its effect */
    HTTP_ANSWER_BYTES_MAX = 64 << 20,
    HTTP_SPARE_BUFFERS_MAX = 256, /* kept warm a server, each at most HTTP_SPARE_BUFFER_BYTES */
    HTTP_SPARE_BUFFER_BYTES = 16384,
    HTTP_REFUSAL_BYTES = 1024,
    HTTP_TRACE_ID_SIZE = 32,
    HTTP_DATE_SIZE = 29, /* "Sun, 06 Nov 1994 08:49:37 GMT" */
};
static const uint64_t HTTP_LINGER_NS = UINT64_C(2000000000);
static const uint64_t HTTP_ACCEPT_PAUSE_NS = UINT64_C(100000000);

/* A ring of links through its head. */
struct http_link {
    struct http_link *previous, *next;
};
void http_link_init(struct http_link *head);
void http_link_append(struct http_link *head, struct http_link *link);
void http_link_remove(struct http_link *link); /* accepts zeroed */
static inline bool http_link_is_in_list(const struct http_link *link)
{
    return link->next != NULL;
}

/*            refused, last answer known, peer done            all sent                peer closed, 2 s, broken
 *   OPEN ------------------------------------> LAST ----------------> LINGERING ----------------------> CLOSING -> freed
 *     `-- idle too long, broken ---------------- ' ------------------------------------------------------^
 */
enum http_connection_state {
    HTTP_CONNECTION_OPEN,      /* reads requests */
    HTTP_CONNECTION_LAST,      /* what it still receives is dropped; open exchanges are answered */
    HTTP_CONNECTION_LINGERING, /* our side is shut; drains, since a close over unread bytes would destroy our last answer */
    HTTP_CONNECTION_CLOSING,   /* both operations are to end; then the descriptor is closed and the object freed */
};

/* Bytes of a request that is not complete, or of requests that may not be taken yet. Only such a connection has one. */
struct http_input {
    struct http_input *next; /* in the pool */
    struct http1 parser;
    struct buffer buffer;
    uint64_t head_since_ns, body_since_ns;
    bool is_body;       /* the head is complete */
    bool has_continued; /* 100 Continue was sent */
};

enum http_exchange_state {
    HTTP_EXCHANGE_OPEN,      /* the handler owes an answer */
    HTTP_EXCHANGE_STREAMING, /* its head is written, parts follow */
    HTTP_EXCHANGE_ENDED,     /* complete; leaves when those before it have */
};

struct http_exchange {
    struct http_connection *connection; /* NULL while free */
    struct http_exchange *next;         /* of the connection, in the order of requests; or of the free list */
    struct buffer held;                 /* the answer so far, while other exchanges are before it */
    struct http_exchange_id id;
    enum http_exchange_state state;
    bool is_head; /* asked with HEAD */
    bool is_http_1_0, is_keep_alive;
    bool is_chunked; /* the answer */
    bool is_last;    /* its answer announces the close */
};

struct http_connection {
    /* fixed after adoption */
    struct http_server *server;
    int fd;

    /* owner worker only */
    enum http_connection_state state;
    bool is_dirty, is_receiving, is_receive_cancelled, is_sending;
    bool has_sent;          /* a send completed since the handler was last told */
    bool is_paused;         /* input waits for room among the exchanges or in the output */
    bool has_peer_finished; /* end of its stream was received */
    bool is_answered;       /* the last answer is complete; exchanges behind it get none */
    bool is_broken;         /* to be closed without further ado */
    uint32_t exchange_count;
    struct http_exchange *first, *last;
    struct http_input *input;      /* NULL: nothing is held */
    struct buffer queued, sending; /* memory only while there is something in them */
    size_t sent;                   /* of `sending` */
    struct iovec vector;
    uint64_t send_since_ns, idle_since_ns, linger_until_ns;
    uint64_t armed_ns; /* the timer's deadline; may be too early, never too late; UINT64_MAX: not armed */
    struct timer timer;
    struct ring_op receive_op, send_op;
    struct http_connection *next_dirty;
    struct http_link all, idle;
    struct worker_task adopt_task; /* from worker 0 to the owner, before anything else is used */
};
_Static_assert(sizeof(struct http_connection) <= 576, "an idle connection costs this and a socket, nothing else");

struct http_listener {
    int fd, reserve_fd;
    struct ring_op accept_op;
    struct timer timer; /* after a pause */
    bool is_accepting;
    bool is_shedding; /* the reserve descriptor is lent to one connection, only to close it */
    bool is_closed;   /* by drain or destroy */
    uint64_t logged_ns;
    struct http_server **peers;
    uint32_t peer_count;
};

struct http_metrics {
    struct metric accepted, requests, responses[6], refusals[HTTP1_REASON_COUNT], connections, slow_readers;
};

struct http_server {
    /* fixed after creation */
    struct worker *worker;
    struct http_server_options options;
    struct http1_limits limits;
    struct http_metrics metrics;

    /* owner worker only */
    bool is_draining;
    struct http_link connections, idle; /* idle: the longest idle first */
    uint32_t exchange_count;
    struct http_connection *dirty_first, *dirty_last;
    struct timer flush_timer;
    struct http_input *spare_inputs;
    uint32_t spare_input_count;
    struct buffer spare_buffers[HTTP_SPARE_BUFFERS_MAX];
    uint32_t spare_buffer_count;
    struct http_exchange **exchange_blocks;
    uint32_t exchange_block_count;
    struct http_exchange *free_exchanges;
    struct http1 parser;                          /* of requests that are whole where they were received */
    struct http_header headers[HTTP_HEADERS_MAX]; /* of the request in on_request */
    char *path;                                   /* the same, decoded */
    char date[HTTP_DATE_SIZE + 1];
    uint64_t date_until_ns;
    struct http_server_stats stats; /* but for `connections` */
    struct http_listener *listener; /* worker 0 */

    /* shared: written by the owner and (count) by worker 0, read by worker 0 when it deals. Relaxed: they order nothing. */
    _Alignas(64) atomic_uint connection_count; /* exact: counted up when dealt, down when freed */
    atomic_uint idle_count;                    /* advisory: whether room can be made */
};

/* ---- http_server.c ----------------------------------------------------------------------------------------------------- */
void http_server_mark_dirty(struct http_server *server, struct http_connection *connection);
/* Buffers with memory from the pool when there is one; size_max is set. */
void http_server_take_buffer(struct http_server *server, struct buffer *ret_buffer, size_t size_max);
void http_server_give_buffer(struct http_server *server, struct buffer *buffer);
struct http_input *http_server_take_input(struct http_server *server); /* NULL: out of memory */
void http_server_give_input(struct http_server *server, struct http_input *input);
struct slice http_server_date(struct http_server *server);

/* ---- http_connection.c ------------------------------------------------------------------------------------------------- */
/* Owns: takes the connection, which is already counted. */
void http_connection_adopt(struct http_connection *connection);
void http_connection_settle(struct http_connection *connection);
/* To be closed when it is settled; from now on it is none of the idle ones. */
void http_connection_break(struct http_connection *connection);
/* Unsent bytes; those held for later exchanges apart. */
size_t http_connection_unsent(const struct http_connection *connection);
/* Where what goes out next is written. */
struct buffer *http_connection_output(struct http_connection *connection);
/* Nothing more is read as a request: the answer being written is the last. */
void http_connection_set_last(struct http_connection *connection);

/* ---- http_exchange.c --------------------------------------------------------------------------------------------------- */
/* A new exchange at the end of the connection's. Returns: NULL: out of memory. */
struct http_exchange *http_exchange_create(struct http_connection *connection, const struct http1 *parser);
/* Lets go of all exchanges of the connection; tells the handler of those that are not ended. */
void http_exchange_abandon_all(struct http_connection *connection);
/* Answers `exchange` for the server itself and makes it the connection's last. */
void http_exchange_refuse(struct http_exchange *exchange, enum http1_reason reason);
void http_exchange_free_blocks(struct http_server *server);

/* ---- http_response.c --------------------------------------------------------------------------------------------------- */
enum http_framing {
    HTTP_FRAMING_NONE,  /* no body by definition: 1xx, 204, 304 */
    HTTP_FRAMING_SIZED, /* Content-Length */
    HTTP_FRAMING_CHUNKED,
    HTTP_FRAMING_CLOSE, /* until the connection ends: streams to HTTP/1.0 */
};
struct http_response_head {
    const struct http_response *response;
    enum http_framing framing;
    size_t body_size;
    struct slice date;
    struct slice trace_id;  /* empty: the handler's headers have it */
    const char *connection; /* "close", "keep-alive" or NULL */
};
void http_response_write_head(struct buffer *out, const struct http_response_head *head);

/* ---- http_listener.c --------------------------------------------------------------------------------------------------- */
void http_listener_close(struct http_server *server); /* accepts a server without one */
/* Returns: whether it is gone, its accept ended. */
bool http_listener_is_closed(const struct http_server *server);
void http_listener_free(struct http_server *server);

#endif
