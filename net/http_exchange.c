/* SPDX-License-Identifier: Apache-2.0 */
/* One request and its answer. Answers come in any order and leave in the order of the requests: the first exchange of a
 * connection writes straight into the connection's output, a later one into its own `held`, which moves over when those
 * before it have ended. Exchanges live in blocks that are never given back while the server lives, so that an id can be
 * looked up safely at any time. */
#include <stdio.h>
#include <stdlib.h>

#include "net/http_server_internal.h"
#include "runtime/clock.h"
#include "runtime/planted.h"
#include "runtime/sometimes.h"

enum { BLOCK_EXCHANGES = 256 };

/* ---- the slab ---------------------------------------------------------------------------------------------------------- */
static bool add_block(struct http_server *server)
{
    struct http_exchange **blocks =
        realloc(server->exchange_blocks, (server->exchange_block_count + 1) * sizeof *server->exchange_blocks);
    if (!blocks)
        return false;
    server->exchange_blocks = blocks;
    struct http_exchange *block = calloc(BLOCK_EXCHANGES, sizeof *block);
    if (!block)
        return false;
    uint32_t first_index = server->exchange_block_count * BLOCK_EXCHANGES;
    blocks[server->exchange_block_count++] = block;
    for (uint32_t i = BLOCK_EXCHANGES; i-- > 0;) {
        block[i].id = (struct http_exchange_id){.index = first_index + i, .generation = 1};
        block[i].next = server->free_exchanges;
        server->free_exchanges = &block[i];
    }
    return true;
}

void http_exchange_free_blocks(struct http_server *server)
{
    for (uint32_t i = 0; i < server->exchange_block_count; i++)
        free(server->exchange_blocks[i]);
    free(server->exchange_blocks);
}

static struct http_exchange *find(struct http_server *server, struct http_exchange_id id)
{
    ASSERT_ON_WORKER(server->tcp.worker);
    if (id.index / BLOCK_EXCHANGES >= server->exchange_block_count)
        return NULL;
    struct http_exchange *exchange = &server->exchange_blocks[id.index / BLOCK_EXCHANGES][id.index % BLOCK_EXCHANGES];
    return exchange->connection && exchange->id.generation == id.generation ? exchange : NULL;
}

struct http_exchange *http_exchange_create(struct http_connection *connection, const struct http1 *parser)
{
    struct http_server *server = http_connection_server(connection);
    if (!server->free_exchanges && !add_block(server))
        return NULL;
    struct http_exchange *exchange = server->free_exchanges;
    server->free_exchanges = exchange->next;
    *exchange = (struct http_exchange){
        .connection = connection,
        .id = exchange->id,
        .state = HTTP_EXCHANGE_OPEN,
        .is_head = parser->method == HTTP_HEAD,
        .is_http_1_0 = parser->is_http_1_0,
        .is_keep_alive = parser->is_keep_alive,
    };
    if (connection->last)
        connection->last->next = exchange;
    else
        connection->first = exchange;
    connection->last = exchange;
    connection->exchange_count++;
    server->exchange_count++;
    return exchange;
}

/* Takes the first exchange of its connection off. */
static void release_first(struct http_connection *connection)
{
    struct http_server *server = http_connection_server(connection);
    struct http_exchange *exchange = connection->first;
    connection->first = exchange->next;
    if (!connection->first)
        connection->last = NULL;
    connection->exchange_count--;
    server->exchange_count--;
    tcp_server_give_buffer(&server->tcp, &exchange->held);
    exchange->connection = NULL;
    if (++exchange->id.generation == 0)
        exchange->id.generation = 1; /* {0,0} stays nobody's */
    exchange->next = server->free_exchanges;
    server->free_exchanges = exchange;
}

void http_exchange_abandon_all(struct http_connection *connection)
{
    struct http_server *server = http_connection_server(connection);
    while (connection->first) {
        struct http_exchange_id id = connection->first->id;
        bool is_owed = connection->first->state != HTTP_EXCHANGE_ENDED;
        release_first(connection); /* before the handler is told: the id is stale from now on */
        if (is_owed && server->options.handler.on_gone)
            server->options.handler.on_gone(server->options.handler.context, server, id);
    }
}

/* ---- writing ----------------------------------------------------------------------------------------------------------- */
static struct buffer *output_of(struct http_exchange *exchange)
{
    struct http_connection *connection = exchange->connection;
    SOMETIMES(ANSWER_HELD_BACK, connection->first != exchange);
    if (connection->first == exchange || PLANTED(PIPELINE_OUT_OF_ORDER))
        return tcp_connection_output(&connection->tcp);
    if (!exchange->held.data)
        tcp_server_take_buffer(connection->tcp.server, &exchange->held, TCP_OUTPUT_BYTES_MAX);
    return &exchange->held;
}

/* The exchange ended: what is complete at the front leaves, and the one behind it may write through. */
static void end(struct http_exchange *exchange)
{
    struct http_connection *connection = exchange->connection;
    exchange->state = HTTP_EXCHANGE_ENDED;
    while (connection->first && connection->first->state == HTTP_EXCHANGE_ENDED && !connection->is_answered) {
        connection->is_answered = connection->first->is_last;
        release_first(connection);
        if (!connection->first || connection->is_answered)
            break;
        struct buffer *held = &connection->first->held, *output = tcp_connection_output(&connection->tcp);
        buffer_append_slice(output, buffer_slice(held));
        output->is_overflow |= held->is_overflow;
        tcp_server_give_buffer(connection->tcp.server, held);
    }
}

static enum http_framing framing_of(int status, enum http_framing usual)
{
    return status < 200 || status == 204 || status == 304 ? HTTP_FRAMING_NONE : usual;
}

/* Writes the head and decides whether the connection goes on after this answer. */
static void write_head(struct http_exchange *exchange, const struct http_response *response, enum http_framing framing,
                       struct slice trace_id)
{
    struct http_connection *connection = exchange->connection;
    struct http_server *server = http_connection_server(connection);
    exchange->is_last = response->close || !exchange->is_keep_alive || framing == HTTP_FRAMING_CLOSE ||
                        (server->tcp.is_draining && connection->last == exchange);
    if (exchange->is_last)
        tcp_connection_set_last(&connection->tcp);
    http_response_write_head(output_of(exchange), &(struct http_response_head){
                                                      .response = response,
                                                      .framing = framing,
                                                      .body_size = response->body.size,
                                                      .date = http_server_date(server),
                                                      .trace_id = trace_id,
                                                      .connection = exchange->is_last       ? "close"
                                                                    : exchange->is_http_1_0 ? "keep-alive"
                                                                                            : NULL,
                                                  });
    metrics_add(server->metrics.responses[response->status / 100 < 6 ? response->status / 100 : 0], 1);
}

static void write_answer(struct http_exchange *exchange, const struct http_response *response, struct slice trace_id)
{
    ASSERT(exchange->state == HTTP_EXCHANGE_OPEN);
    ASSERT(response->content_type || response->body.size == 0);
    struct http_connection *connection = exchange->connection;
    enum http_framing framing = framing_of(response->status, HTTP_FRAMING_SIZED);
    write_head(exchange, response, framing, trace_id);
    if (framing == HTTP_FRAMING_SIZED && !exchange->is_head)
        buffer_append_slice(output_of(exchange), response->body);
    end(exchange);
    tcp_server_mark_dirty(connection->tcp.server, &connection->tcp);
}

enum err http_respond(struct http_server *server, struct http_exchange_id id, const struct http_response *response)
{
    struct http_exchange *exchange = find(server, id);
    if (!exchange)
        return ERR_NOT_FOUND;
    write_answer(exchange, response, (struct slice){0});
    return OK;
}

void http_exchange_refuse(struct http_exchange *exchange, enum http1_reason reason)
{
    struct http_server *server = http_connection_server(exchange->connection);
    const struct http_handler *handler = &server->options.handler;
    int status = http1_reason_status(reason);
    uint64_t random[2] = {clock_random_u64(), clock_random_u64()};
    char trace_id[HTTP_TRACE_ID_SIZE + 1], body[HTTP_REFUSAL_BYTES];
    snprintf(trace_id, sizeof trace_id, "%016llx%016llx", (unsigned long long)random[0], (unsigned long long)random[1]);
    size_t size = 0;
    if (handler->write_refusal)
        size = handler->write_refusal(handler->context, status, http1_reason_text(reason), trace_id, body, sizeof body);
    ASSERT(size <= sizeof body);

    server->stats.refused_by_status[status / 100]++;
    metrics_add(server->metrics.refusals[reason], 1);
    struct http_response response = {
        .status = status,
        .content_type = size > 0 ? "application/problem+json" : NULL,
        .body = slice_of(body, size),
        .close = true,
    };
    write_answer(exchange, &response, slice_of(trace_id, HTTP_TRACE_ID_SIZE));
}

/* ---- streams ----------------------------------------------------------------------------------------------------------- */
enum err http_stream_start(struct http_server *server, struct http_exchange_id id, const struct http_response *head)
{
    struct http_exchange *exchange = find(server, id);
    if (!exchange)
        return ERR_NOT_FOUND;
    ASSERT(exchange->state == HTTP_EXCHANGE_OPEN);
    exchange->is_chunked = !exchange->is_http_1_0;
    exchange->state = HTTP_EXCHANGE_STREAMING;
    write_head(exchange, head, exchange->is_chunked ? HTTP_FRAMING_CHUNKED : HTTP_FRAMING_CLOSE, (struct slice){0});
    tcp_server_mark_dirty(&server->tcp, &exchange->connection->tcp);
    return OK;
}

enum err http_stream_write(struct http_server *server, struct http_exchange_id id, struct slice data)
{
    struct http_exchange *exchange = find(server, id);
    if (!exchange)
        return ERR_NOT_FOUND;
    ASSERT(exchange->state == HTTP_EXCHANGE_STREAMING);
    if (data.size == 0 || exchange->is_head)
        return OK; /* an empty chunk would end the stream */
    struct http_connection *connection = exchange->connection;
    size_t waiting = tcp_connection_unsent(&connection->tcp) + exchange->held.size;
    if (data.size > server->options.send_bytes_max || waiting > server->options.send_bytes_max - data.size) {
        if (!connection->tcp.is_broken)
            metrics_add(server->metrics.slow_readers, 1);
        connection->tcp.is_broken = true;
        tcp_server_mark_dirty(&server->tcp, &connection->tcp);
        return ERR_LIMIT;
    }
    struct buffer *output = output_of(exchange);
    if (exchange->is_chunked)
        buffer_append_format(output, "%zx\r\n", data.size);
    buffer_append_slice(output, data);
    if (exchange->is_chunked)
        buffer_append_text(output, "\r\n");
    tcp_server_mark_dirty(&server->tcp, &connection->tcp);
    return OK;
}

size_t http_stream_unsent(struct http_server *server, struct http_exchange_id id)
{
    const struct http_exchange *exchange = find(server, id);
    return exchange ? tcp_connection_unsent(&exchange->connection->tcp) + exchange->held.size : 0;
}

enum err http_stream_end(struct http_server *server, struct http_exchange_id id)
{
    struct http_exchange *exchange = find(server, id);
    if (!exchange)
        return ERR_NOT_FOUND;
    ASSERT(exchange->state == HTTP_EXCHANGE_STREAMING);
    struct http_connection *connection = exchange->connection;
    if (exchange->is_chunked && !exchange->is_head)
        buffer_append_text(output_of(exchange), "0\r\n\r\n");
    end(exchange);
    tcp_server_mark_dirty(&server->tcp, &connection->tcp);
    return OK;
}
