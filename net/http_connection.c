/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP on a connection (tcp_server.h). A request that is whole in its receive buffer is parsed there and handed on without a
 * copy; what is left over (half a request, or requests that may not be taken yet) is kept in an http_input until it is used
 * up. */
#include <stdlib.h>

#include "net/http_server_internal.h"

static struct http_connection *http_of(const struct tcp_connection *tcp)
{
    return container_of(tcp, struct http_connection, tcp);
}

/* ---- input ------------------------------------------------------------------------------------------------------------- */
/* H2, H5: otherwise what is received waits. */
static bool may_take_request(const struct http_connection *connection)
{
    const struct http_server *server = http_connection_server(connection);
    return connection->tcp.state == TCP_OPEN && !connection->tcp.is_broken &&
           connection->exchange_count < server->options.pipeline_max &&
           tcp_connection_unsent(&connection->tcp) <= server->options.send_bytes_max &&
           !(server->tcp.is_draining && connection->first);
}

static void refuse(struct http_connection *connection, const struct http1 *parser, enum http1_reason reason)
{
    struct http_exchange *exchange = http_exchange_create(connection, parser);
    if (exchange)
        http_exchange_refuse(exchange, reason);
    else
        connection->tcp.is_broken = true;
}

static void hand_on(struct http_connection *connection, const struct http1 *parser, const char *input)
{
    struct http_server *server = http_connection_server(connection);
    struct http_exchange *exchange = http_exchange_create(connection, parser);
    if (!exchange) {
        connection->tcp.is_broken = true;
        return;
    }
    if (!parser->is_keep_alive)
        tcp_connection_set_last(&connection->tcp);
    struct http_request request;
    http1_get_request(parser, input, server->headers, server->path, &request);
    request.received_ns = tcp_connection_now_ns(&connection->tcp);
    server->stats.requests++;
    metrics_add(server->metrics.requests, 1);
    server->options.handler.on_request(server->options.handler.context, server, exchange->id, &request);
}

/* Bytes from the first of a request on. Lent ones lie in a receive buffer and are only read. */
struct input_bytes {
    char *data;
    size_t size;
    bool is_lent;
};

static enum http1_result parse_request(struct http1 *parser, const struct http1_limits *limits, struct input_bytes *bytes,
                                       size_t *ret_request_size)
{
    enum http1_result result = http1_parse_head(parser, limits, bytes->data, bytes->size);
    if (result != HTTP1_DONE)
        return result;
    if (parser->is_chunked && bytes->is_lent)
        return HTTP1_MORE; /* it is decoded in place, so it needs a place of its own */
    if (parser->is_chunked)
        return http1_decode_chunks(parser, limits, bytes->data, &bytes->size, ret_request_size);
    *ret_request_size = http1_size(parser);
    return bytes->size >= *ret_request_size ? HTTP1_DONE : HTTP1_MORE;
}

/* Takes complete requests off the front while there is room for them; `parser` then stands in the one that is left over.
 * Returns: how many. */
static uint32_t take_requests(struct http_connection *connection, struct http1 *parser, struct input_bytes *bytes)
{
    uint32_t count = 0;
    while (bytes->size > 0 && may_take_request(connection)) {
        size_t request_size = 0;
        switch (parse_request(parser, &http_connection_server(connection)->limits, bytes, &request_size)) {
        case HTTP1_MORE: return count;
        case HTTP1_REFUSED: refuse(connection, parser, parser->reason); return count;
        case HTTP1_DONE: break;
        }
        hand_on(connection, parser, bytes->data);
        bytes->data += request_size;
        bytes->size -= request_size;
        http1_init(parser);
        count++;
    }
    return count;
}

static void drop_input(struct http_connection *connection)
{
    if (connection->input)
        http_server_give_input(http_connection_server(connection), connection->input);
    connection->input = NULL;
    connection->tcp.is_paused = false;
}

static void keep_input(struct http_connection *connection, const struct http1 *parser, struct slice rest)
{
    connection->input = http_server_take_input(http_connection_server(connection));
    if (!connection->input) {
        connection->tcp.is_broken = true;
        return;
    }
    connection->input->parser = *parser;
    connection->input->head_since_ns = tcp_connection_now_ns(&connection->tcp);
    buffer_append_slice(&connection->input->buffer, rest);
}

static bool has_stream(const struct http_connection *connection)
{
    for (const struct http_exchange *exchange = connection->first; exchange; exchange = exchange->next)
        if (exchange->state == HTTP_EXCHANGE_STREAMING)
            return true;
    return false;
}

static void on_bytes(struct tcp_connection *tcp, const char *data, size_t size)
{
    struct http_connection *connection = http_of(tcp);
    struct http_server *server = http_connection_server(connection);
    if (connection->input) {
        buffer_append(&connection->input->buffer, data, size); /* taken when the connection is settled */
        return;
    }
    http1_init(&server->parser);
    struct input_bytes bytes = {.data = (char *)data, .size = size, .is_lent = true};
    take_requests(connection, &server->parser, &bytes);
    if (bytes.size > 0 && connection->tcp.state == TCP_OPEN)
        keep_input(connection, &server->parser, slice_of(bytes.data, bytes.size));
}

/* H6 */
static void on_peer_finished(struct tcp_connection *tcp)
{
    if (has_stream(http_of(tcp)))
        tcp->is_broken = true;
}

/* Goes on with what is held: more bytes have come, or room has. */
static void take_held(struct tcp_connection *tcp)
{
    struct http_connection *connection = http_of(tcp);
    struct http_input *input = connection->input;
    if (!input)
        return;
    if (connection->tcp.state != TCP_OPEN || input->buffer.is_overflow) {
        connection->tcp.is_broken |= input->buffer.is_overflow;
        drop_input(connection);
        return;
    }
    struct input_bytes bytes = {.data = input->buffer.data, .size = input->buffer.size};
    bool is_other_request = take_requests(connection, &input->parser, &bytes) > 0;
    if (bytes.size == 0 || connection->tcp.state != TCP_OPEN) {
        drop_input(connection);
        return;
    }
    /* What was decoded or taken is gone from the front or the end. */
    if (bytes.data != input->buffer.data)
        memmove(input->buffer.data, bytes.data, bytes.size);
    input->buffer.size = bytes.size;

    /* Deadlines count from when the client could have gone on: not from before a pause, nor from the request before. */
    if (is_other_request)
        input->is_body = input->has_continued = false;
    if (is_other_request || connection->tcp.is_paused)
        input->head_since_ns = input->body_since_ns = tcp_connection_now_ns(&connection->tcp);
    if (!input->is_body && input->parser.head_size > 0) {
        input->is_body = true;
        input->body_since_ns = tcp_connection_now_ns(&connection->tcp);
    }
    connection->tcp.is_paused = !may_take_request(connection);
}

/* A15: only when the head has passed every limit, the body has not begun, and earlier answers are out. */
static void send_continue(struct http_connection *connection)
{
    struct http_input *input = connection->input;
    if (!input || !input->is_body || input->has_continued || !input->parser.expects_continue || connection->first ||
        connection->tcp.is_paused || input->buffer.size > input->parser.head_size)
        return;
    input->has_continued = true;
    buffer_append_slice(tcp_connection_output(&connection->tcp), SLICE_LITERAL("HTTP/1.1 100 Continue\r\n\r\n"));
}

/* ---- deadlines --------------------------------------------------------------------------------------------------------- */
static uint64_t input_deadline(const struct http_connection *connection)
{
    const struct http_server_options *options = &http_connection_server(connection)->options;
    const struct http_input *input = connection->input;
    if (!input->is_body)
        return input->head_since_ns + options->head_ns_max;
    /* The body has until here at the least rate for the bytes that are there; each received one moves it on. */
    uint64_t body_bytes = input->buffer.size - input->parser.head_size;
    return input->body_since_ns + options->body_grace_ns +
           body_bytes * UINT64_C(1000000000) / options->body_bytes_per_s_min;
}

static uint64_t deadline_ns(const struct tcp_connection *tcp)
{
    const struct http_connection *connection = http_of(tcp);
    return connection->input && !tcp->is_paused ? input_deadline(connection) : UINT64_MAX;
}

static void on_deadline(struct tcp_connection *tcp)
{
    struct http_connection *connection = http_of(tcp);
    refuse(connection, &connection->input->parser, connection->input->is_body ? HTTP1_BODY_TIMEOUT : HTTP1_HEAD_TIMEOUT);
    drop_input(connection);
}

/* ---- what the connection below asks ------------------------------------------------------------------------------------ */
static void drop_held(struct tcp_connection *tcp)
{
    drop_input(http_of(tcp));
}

static size_t held_bytes(const struct tcp_connection *tcp)
{
    return http_of(tcp)->input ? http_of(tcp)->input->buffer.size : 0;
}

static bool is_busy(const struct tcp_connection *tcp)
{
    return http_of(tcp)->first || http_of(tcp)->input;
}

static void before_send(struct tcp_connection *tcp)
{
    struct http_connection *connection = http_of(tcp);
    if (connection->is_answered)
        http_exchange_abandon_all(connection);
    if (!tcp->is_broken)
        send_continue(connection);
}

static void on_drained(struct tcp_connection *tcp)
{
    struct http_connection *connection = http_of(tcp);
    struct http_server *server = http_connection_server(connection);
    const struct http_handler *handler = &server->options.handler;
    if (handler->on_drained && connection->first && connection->first->state == HTTP_EXCHANGE_STREAMING)
        handler->on_drained(handler->context, server, connection->first->id);
}

static void on_close(struct tcp_connection *tcp)
{
    http_exchange_abandon_all(http_of(tcp));
    drop_input(http_of(tcp));
}

const struct tcp_protocol http_protocol = {
    .name = "http",
    .connection_bytes = sizeof(struct http_connection),
    .on_bytes = on_bytes,
    .take_held = take_held,
    .drop_held = drop_held,
    .held_bytes = held_bytes,
    .is_busy = is_busy,
    .deadline_ns = deadline_ns,
    .on_deadline = on_deadline,
    .before_send = before_send,
    .on_drained = on_drained,
    .on_peer_finished = on_peer_finished,
    .on_close = on_close,
};
