/* SPDX-License-Identifier: Apache-2.0 */
/* http_server_internal: the objects behind net/http_server.h and what its files owe each other.
 *
 *   http_server.c      the server: limits, pools, drain
 *   http_connection.c  one connection: parsing what it receives, deadlines of a request
 *   http_exchange.c    one request and its answer: order, heads, streams
 *   http_response.c    the bytes of a response head
 *
 * Below them is tcp_server.h: what happens to a connection marks it dirty, and what follows is done once a turn, when it is
 * settled. That gives one send a turn for all that gathered (H4), and no handler is ever called from inside a call of its own,
 * but on_request from the receive. */
#ifndef CIRANDA_NET_HTTP_SERVER_INTERNAL_H
#define CIRANDA_NET_HTTP_SERVER_INTERNAL_H

#include "net/http1.h"
#include "net/http_server.h"
#include "net/tcp_server.h"
#include "runtime/buffer.h"
#include "runtime/metrics.h"

enum {
    HTTP_REFUSAL_BYTES = 1024,
    HTTP_TRACE_ID_SIZE = 32,
    HTTP_DATE_SIZE = 29, /* "Sun, 06 Nov 1994 08:49:37 GMT" */
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
    struct tcp_connection tcp;
    /* owner worker only */
    bool is_answered; /* the last answer is complete; exchanges behind it get none */
    uint32_t exchange_count;
    struct http_exchange *first, *last;
    struct http_input *input; /* NULL: nothing is held */
};
_Static_assert(sizeof(struct http_connection) <= 576, "an idle connection costs this and a socket, nothing else");

struct http_metrics {
    struct metric requests, responses[6], refusals[HTTP1_REASON_COUNT], slow_readers;
};

struct http_server {
    struct tcp_server tcp;
    /* fixed after creation */
    struct http_server_options options;
    struct http1_limits limits;
    struct http_metrics metrics;

    /* owner worker only */
    uint32_t exchange_count;
    struct http_input *spare_inputs;
    uint32_t spare_input_count;
    struct http_exchange **exchange_blocks;
    uint32_t exchange_block_count;
    struct http_exchange *free_exchanges;
    struct http1 parser;                          /* of requests that are whole where they were received */
    struct http_header headers[HTTP_HEADERS_MAX]; /* of the request in on_request */
    char *path;                                   /* the same, decoded */
    char date[HTTP_DATE_SIZE + 1];
    uint64_t date_until_ns;
    struct http_server_stats stats; /* but for the connections */
};

/* ---- http_server.c ----------------------------------------------------------------------------------------------------- */
struct http_input *http_server_take_input(struct http_server *server); /* NULL: out of memory */
void http_server_give_input(struct http_server *server, struct http_input *input);
struct slice http_server_date(struct http_server *server);

/* ---- http_connection.c ------------------------------------------------------------------------------------------------- */
extern const struct tcp_protocol http_protocol;
static inline struct http_server *http_connection_server(const struct http_connection *connection)
{
    return container_of(connection->tcp.server, struct http_server, tcp);
}

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

#endif
