/* SPDX-License-Identifier: Apache-2.0 */
/* One connection. A request that is whole in its receive buffer is parsed there and handed on without a copy; what is left
 * over (half a request, or requests that may not be taken yet) is kept in an http_input until it is used up. Whatever happens
 * only changes fields and marks the connection dirty; http_connection_settle(), at the end of the turn, does what follows, and
 * is the only place where a connection is closed. */
#include <errno.h>
#include <stdlib.h>

#include "net/http_server_internal.h"
#include "runtime/planted.h"

static uint64_t now_ns(const struct http_connection *connection)
{
    return worker_now_ns(connection->server->worker);
}

static void set_state(struct http_connection *connection, enum http_connection_state state)
{
    static const uint8_t successors[] = {
        [HTTP_CONNECTION_OPEN] = 1 << HTTP_CONNECTION_LAST | 1 << HTTP_CONNECTION_CLOSING,
        [HTTP_CONNECTION_LAST] = 1 << HTTP_CONNECTION_LINGERING | 1 << HTTP_CONNECTION_CLOSING,
        [HTTP_CONNECTION_LINGERING] = 1 << HTTP_CONNECTION_CLOSING,
        [HTTP_CONNECTION_CLOSING] = 0,
    };
    ASSERT(successors[connection->state] & 1 << state);
    connection->state = state;
}

/* ---- output ------------------------------------------------------------------------------------------------------------ */
size_t http_connection_unsent(const struct http_connection *connection)
{
    return connection->queued.size + connection->sending.size - connection->sent;
}

struct buffer *http_connection_output(struct http_connection *connection)
{
    if (!connection->queued.data)
        http_server_take_buffer(connection->server, &connection->queued, HTTP_ANSWER_BYTES_MAX);
    return &connection->queued;
}

void http_connection_set_last(struct http_connection *connection)
{
    if (connection->state == HTTP_CONNECTION_OPEN)
        set_state(connection, HTTP_CONNECTION_LAST);
}

static void send_piece(struct http_connection *connection)
{
    size_t left = connection->sending.size - connection->sent;
    connection->vector = (struct iovec){
        .iov_base = connection->sending.data + connection->sent,
        .iov_len = left < HTTP_SEND_PIECE_BYTES ? left : HTTP_SEND_PIECE_BYTES,
    };
    connection->send_since_ns = now_ns(connection);
    connection->is_sending = true;
    ring_start_send(worker_ring(connection->server->worker), &connection->send_op, connection->fd, &connection->vector,
                    1);
}

static void on_send_done(struct ring_op *op, const struct ring_completion *completion)
{
    struct http_connection *connection = container_of(op, struct http_connection, send_op);
    ASSERT_ON_WORKER(connection->server->worker);
    connection->is_sending = false;
    connection->has_sent = true;
    if (completion->result > 0) {
        connection->sent += (size_t)completion->result;
        ASSERT(connection->sent <= connection->sending.size);
    } else {
        connection->is_broken = true;
    }
    http_server_mark_dirty(connection->server, connection);
}

/* What gathered becomes what is sent, in one piece unless it is large. */
static void continue_sending(struct http_connection *connection)
{
    if (connection->is_sending)
        return;
    if (connection->sending.data && connection->sent == connection->sending.size) {
        http_server_give_buffer(connection->server, &connection->sending);
        connection->sent = 0;
    }
    if (connection->sending.size == 0 && connection->queued.size > 0) {
        connection->sending = connection->queued;
        connection->queued = (struct buffer){0};
    }
    if (connection->sending.size > 0)
        send_piece(connection);
}

/* ---- idle -------------------------------------------------------------------------------------------------------------- */
static bool is_idle(const struct http_connection *connection)
{
    return connection->state == HTTP_CONNECTION_OPEN && !connection->is_broken && !connection->first &&
           !connection->input && http_connection_unsent(connection) == 0;
}

static void update_idle(struct http_connection *connection)
{
    struct http_server *server = connection->server;
    bool is_listed = http_link_is_in_list(&connection->idle), is_now = is_idle(connection);
    if (is_listed == is_now)
        return;
    if (is_now) {
        connection->idle_since_ns = now_ns(connection);
        http_link_append(&server->idle, &connection->idle);
    } else {
        http_link_remove(&connection->idle);
    }
    uint32_t count = atomic_load_explicit(&server->idle_count, memory_order_relaxed);
    atomic_store_explicit(&server->idle_count, is_now ? count + 1 : count - 1, memory_order_relaxed);
}

void http_connection_break(struct http_connection *connection)
{
    connection->is_broken = true;
    update_idle(connection);
    http_server_mark_dirty(connection->server, connection);
}

/* ---- input ------------------------------------------------------------------------------------------------------------- */
/* H2, H5: otherwise what is received waits. */
static bool may_take_request(const struct http_connection *connection)
{
    const struct http_server *server = connection->server;
    return connection->state == HTTP_CONNECTION_OPEN && !connection->is_broken &&
           connection->exchange_count < server->options.pipeline_max &&
           http_connection_unsent(connection) <= server->options.send_bytes_max &&
           !(server->is_draining && connection->first);
}

static void refuse(struct http_connection *connection, const struct http1 *parser, enum http1_reason reason)
{
    struct http_exchange *exchange = http_exchange_create(connection, parser);
    if (exchange)
        http_exchange_refuse(exchange, reason);
    else
        connection->is_broken = true;
}

static void hand_on(struct http_connection *connection, const struct http1 *parser, const char *input)
{
    struct http_server *server = connection->server;
    struct http_exchange *exchange = http_exchange_create(connection, parser);
    if (!exchange) {
        connection->is_broken = true;
        return;
    }
    if (!parser->is_keep_alive)
        http_connection_set_last(connection);
    struct http_request request;
    http1_get_request(parser, input, server->headers, server->path, &request);
    request.received_ns = now_ns(connection);
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
        switch (parse_request(parser, &connection->server->limits, bytes, &request_size)) {
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
        http_server_give_input(connection->server, connection->input);
    connection->input = NULL;
    connection->is_paused = false;
}

static void keep_input(struct http_connection *connection, const struct http1 *parser, struct slice rest)
{
    connection->input = http_server_take_input(connection->server);
    if (!connection->input) {
        connection->is_broken = true;
        return;
    }
    connection->input->parser = *parser;
    connection->input->head_since_ns = now_ns(connection);
    buffer_append_slice(&connection->input->buffer, rest);
}

static bool has_stream(const struct http_connection *connection)
{
    for (const struct http_exchange *exchange = connection->first; exchange; exchange = exchange->next)
        if (exchange->state == HTTP_EXCHANGE_STREAMING)
            return true;
    return false;
}

static void receive(struct http_connection *connection, const char *data, size_t size)
{
    struct http_server *server = connection->server;
    if (connection->state != HTTP_CONNECTION_OPEN || connection->is_broken)
        return;
    if (connection->input) {
        buffer_append(&connection->input->buffer, data, size); /* taken when the connection is settled */
        return;
    }
    http1_init(&server->parser);
    struct input_bytes bytes = {.data = (char *)data, .size = size, .is_lent = true};
    take_requests(connection, &server->parser, &bytes);
    if (bytes.size > 0 && connection->state == HTTP_CONNECTION_OPEN)
        keep_input(connection, &server->parser, slice_of(bytes.data, bytes.size));
}

static void on_receive(struct ring_op *op, const struct ring_completion *completion)
{
    struct http_connection *connection = container_of(op, struct http_connection, receive_op);
    ASSERT_ON_WORKER(connection->server->worker);
    if (completion->has_buffer) {
        if (PLANTED(BUFFER_RETURNED_EARLY))
            ring_buffer_return(worker_ring(connection->server->worker), completion->buffer_id);
        if (completion->result > 0)
            receive(connection, completion->data, (size_t)completion->result);
        if (!PLANTED(BUFFER_RETURNED_EARLY))
            ring_buffer_return(worker_ring(connection->server->worker), completion->buffer_id);
        update_idle(connection); /* at once: who makes room in this very turn must not choose one that has just asked */
    }
    if (!completion->more) {
        connection->is_receiving = connection->is_receive_cancelled = false;
        connection->has_peer_finished |= completion->result == 0;
        connection->is_broken |= completion->result < 0 && completion->result != -ECANCELED;
        connection->is_broken |= completion->result == 0 && has_stream(connection); /* H6 */
    }
    http_server_mark_dirty(connection->server, connection);
}

/* Goes on with what is held: more bytes have come, or room has. */
static void take_held_requests(struct http_connection *connection)
{
    struct http_input *input = connection->input;
    if (!input)
        return;
    if (connection->state != HTTP_CONNECTION_OPEN || input->buffer.is_overflow) {
        connection->is_broken |= input->buffer.is_overflow;
        drop_input(connection);
        return;
    }
    struct input_bytes bytes = {.data = input->buffer.data, .size = input->buffer.size};
    bool is_other_request = take_requests(connection, &input->parser, &bytes) > 0;
    if (bytes.size == 0 || connection->state != HTTP_CONNECTION_OPEN) {
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
    if (is_other_request || connection->is_paused)
        input->head_since_ns = input->body_since_ns = now_ns(connection);
    if (!input->is_body && input->parser.head_size > 0) {
        input->is_body = true;
        input->body_since_ns = now_ns(connection);
    }
    connection->is_paused = !may_take_request(connection);
}

/* A15: only when the head has passed every limit, the body has not begun, and earlier answers are out. */
static void send_continue(struct http_connection *connection)
{
    struct http_input *input = connection->input;
    if (!input || !input->is_body || input->has_continued || !input->parser.expects_continue || connection->first ||
        connection->is_paused || input->buffer.size > input->parser.head_size)
        return;
    input->has_continued = true;
    buffer_append_slice(http_connection_output(connection), SLICE_LITERAL("HTTP/1.1 100 Continue\r\n\r\n"));
}

/* ---- deadlines --------------------------------------------------------------------------------------------------------- */
static uint64_t input_deadline(const struct http_connection *connection)
{
    const struct http_server_options *options = &connection->server->options;
    const struct http_input *input = connection->input;
    if (!input->is_body)
        return input->head_since_ns + options->head_ns_max;
    /* The body has until here at the least rate for the bytes that are there; each received one moves it on. */
    uint64_t body_bytes = input->buffer.size - input->parser.head_size;
    return input->body_since_ns + options->body_grace_ns +
           body_bytes * UINT64_C(1000000000) / options->body_bytes_per_s_min;
}

static uint64_t deadline_of(const struct http_connection *connection)
{
    uint64_t deadline = UINT64_MAX, idle_ns_max = connection->server->options.idle_ns_max;
    if (connection->state == HTTP_CONNECTION_LINGERING)
        deadline = connection->linger_until_ns;
    if (connection->is_sending && connection->send_since_ns + idle_ns_max < deadline)
        deadline = connection->send_since_ns + idle_ns_max;
    if (connection->input && !connection->is_paused && input_deadline(connection) < deadline)
        deadline = input_deadline(connection);
    if (is_idle(connection) && http_link_is_in_list(&connection->idle) &&
        connection->idle_since_ns + idle_ns_max < deadline)
        deadline = connection->idle_since_ns + idle_ns_max;
    return deadline;
}

static void on_timer(struct worker *worker, struct timer *timer)
{
    (void)worker;
    struct http_connection *connection = container_of(timer, struct http_connection, timer);
    connection->armed_ns = UINT64_MAX;
    http_server_mark_dirty(connection->server, connection);
}

/* The timer only ever moves to an earlier time; when it fires too early it is set again. So a busy connection, whose
 * deadlines move on with each request, touches the wheel once a deadline and not once a request. */
static void arm_timer(struct http_connection *connection)
{
    uint64_t deadline = deadline_of(connection);
    if (deadline >= connection->armed_ns)
        return;
    connection->armed_ns = deadline;
    timer_start(connection->server->worker, &connection->timer, deadline);
}

static void judge_deadlines(struct http_connection *connection)
{
    uint64_t now = now_ns(connection);
    if (deadline_of(connection) > now)
        return;
    if (connection->input && !connection->is_paused && input_deadline(connection) <= now) {
        bool is_body = connection->input->is_body;
        refuse(connection, &connection->input->parser, is_body ? HTTP1_BODY_TIMEOUT : HTTP1_HEAD_TIMEOUT);
        drop_input(connection);
        return;
    }
    connection->is_broken = true; /* idle, lingering or stuck in a send for too long: nothing more to say */
}

/* ---- end --------------------------------------------------------------------------------------------------------------- */
static void free_connection(struct http_connection *connection)
{
    struct http_server *server = connection->server;
    ring_close(connection->fd);
    http_link_remove(&connection->all);
    metrics_set(server->metrics.connections, --server->stats.connections);
    atomic_fetch_sub_explicit(&server->connection_count, 1, memory_order_relaxed);
    free(connection);
}

/* Both operations end by the shutdown; the cancels are for what does not look at the socket. Freed when they have. */
static void close_connection(struct http_connection *connection)
{
    struct http_server *server = connection->server;
    struct ring *ring = worker_ring(server->worker);
    set_state(connection, HTTP_CONNECTION_CLOSING);
    timer_cancel(server->worker, &connection->timer);
    http_exchange_abandon_all(connection);
    drop_input(connection);
    http_server_give_buffer(server, &connection->queued);
    ring_shutdown_both(connection->fd);
    ring_cancel(ring, &connection->receive_op);
    ring_cancel(ring, &connection->send_op);
}

static void finish_close(struct http_connection *connection)
{
    if (connection->is_receiving || connection->is_sending)
        return;
    http_server_give_buffer(connection->server, &connection->sending);
    free_connection(connection);
}

/* ---- what follows ------------------------------------------------------------------------------------------------------ */
/* The state that follows from the rest. */
static void advance_state(struct http_connection *connection)
{
    bool is_done = !connection->first && http_connection_unsent(connection) == 0;
    if (connection->state == HTTP_CONNECTION_OPEN) {
        bool has_no_more = connection->has_peer_finished && !connection->is_paused; /* half a request will stay one */
        bool is_drained = connection->server->is_draining && !connection->input && is_done;
        if (has_no_more || is_drained) {
            drop_input(connection);
            set_state(connection, HTTP_CONNECTION_LAST);
        }
    }
    if (connection->state == HTTP_CONNECTION_LAST && is_done) {
        ring_shutdown_write(connection->fd);
        connection->linger_until_ns = now_ns(connection) + HTTP_LINGER_NS;
        set_state(connection, HTTP_CONNECTION_LINGERING);
    }
    if (connection->state == HTTP_CONNECTION_LINGERING && connection->has_peer_finished)
        connection->is_broken = true;
}

static void update_receiving(struct http_connection *connection)
{
    struct ring *ring = worker_ring(connection->server->worker);
    bool is_held_full = connection->is_paused && connection->input->buffer.size > HTTP_HOLD_BYTES_MAX;
    bool wants = !connection->has_peer_finished && !is_held_full;
    if (wants && !connection->is_receiving) {
        connection->is_receiving = true;
        ring_start_recv(ring, &connection->receive_op, connection->fd);
    } else if (!wants && connection->is_receiving && !connection->is_receive_cancelled) {
        connection->is_receive_cancelled = true;
        ring_cancel(ring, &connection->receive_op);
    }
}

static void tell_drained(struct http_connection *connection)
{
    const struct http_handler *handler = &connection->server->options.handler;
    bool is_drained = connection->has_sent && http_connection_unsent(connection) == 0;
    connection->has_sent = false;
    if (is_drained && handler->on_drained && connection->first && connection->first->state == HTTP_EXCHANGE_STREAMING)
        handler->on_drained(handler->context, connection->server, connection->first->id);
}

/* It counts as dirty until its end: what handlers do meanwhile is seen to in this very call, and the object cannot be in the
 * list of dirty ones when it is freed. */
void http_connection_settle(struct http_connection *connection)
{
    if (connection->state == HTTP_CONNECTION_CLOSING) {
        connection->is_dirty = false;
        finish_close(connection);
        return;
    }
    take_held_requests(connection);
    judge_deadlines(connection);
    if (connection->is_answered)
        http_exchange_abandon_all(connection);
    connection->is_broken |= connection->queued.is_overflow;

    if (!connection->is_broken) {
        send_continue(connection);
        continue_sending(connection);
        advance_state(connection);
    }
    if (connection->is_broken) {
        close_connection(connection);
        update_idle(connection);
        connection->is_dirty = false;
        finish_close(connection);
        return;
    }
    update_receiving(connection);
    update_idle(connection);
    arm_timer(connection);
    connection->is_dirty = false;
    tell_drained(connection);
}

void http_connection_adopt(struct http_connection *connection)
{
    struct http_server *server = connection->server;
    ASSERT_ON_WORKER(server->worker);
    connection->receive_op.on_complete = on_receive;
    connection->send_op.on_complete = on_send_done;
    connection->timer.on_fire = on_timer;
    connection->armed_ns = UINT64_MAX;
    http_link_append(&server->connections, &connection->all);
    server->stats.accepted++;
    metrics_add(server->metrics.accepted, 1);
    metrics_set(server->metrics.connections, ++server->stats.connections);
    http_server_mark_dirty(server, connection);
}
