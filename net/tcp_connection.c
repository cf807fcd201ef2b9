/* SPDX-License-Identifier: Apache-2.0 */
/* One connection below its protocol: what it receives, sends, waits for, and how it ends. See tcp_server.h. */
#include <errno.h>
#include <stdlib.h>

#include "net/tcp_server.h"
#include "runtime/planted.h"

static const uint64_t TCP_LINGER_NS = UINT64_C(2000000000);

static const struct tcp_protocol *protocol_of(const struct tcp_connection *connection)
{
    return connection->server->protocol;
}

static void set_state(struct tcp_connection *connection, enum tcp_state state)
{
    static const uint8_t successors[] = {
        [TCP_OPEN] = 1 << TCP_LAST | 1 << TCP_CLOSING,
        [TCP_LAST] = 1 << TCP_LINGERING | 1 << TCP_CLOSING,
        [TCP_LINGERING] = 1 << TCP_CLOSING,
        [TCP_CLOSING] = 0,
    };
    ASSERT(successors[connection->state] & 1 << state);
    connection->state = state;
}

void tcp_connection_set_last(struct tcp_connection *connection)
{
    if (connection->state == TCP_OPEN)
        set_state(connection, TCP_LAST);
}

/* ---- output ------------------------------------------------------------------------------------------------------------ */
size_t tcp_connection_unsent(const struct tcp_connection *connection)
{
    return connection->queued.size + connection->sending.size - connection->sent;
}

struct buffer *tcp_connection_output(struct tcp_connection *connection)
{
    if (!connection->queued.data)
        tcp_server_take_buffer(connection->server, &connection->queued, TCP_OUTPUT_BYTES_MAX);
    return &connection->queued;
}

static void send_piece(struct tcp_connection *connection)
{
    size_t left = connection->sending.size - connection->sent;
    connection->vector = (struct iovec){
        .iov_base = connection->sending.data + connection->sent,
        .iov_len = left < TCP_SEND_PIECE_BYTES ? left : TCP_SEND_PIECE_BYTES,
    };
    connection->send_since_ns = tcp_connection_now_ns(connection);
    connection->is_sending = true;
    ring_start_send(worker_ring(connection->server->worker), &connection->send_op, connection->fd, &connection->vector,
                    1);
}

static void on_send_done(struct ring_op *op, const struct ring_completion *completion)
{
    struct tcp_connection *connection = container_of(op, struct tcp_connection, send_op);
    ASSERT_ON_WORKER(connection->server->worker);
    connection->is_sending = false;
    connection->has_sent = true;
    if (completion->result > 0) {
        connection->sent += (size_t)completion->result;
        ASSERT(connection->sent <= connection->sending.size);
    } else {
        connection->is_broken = true;
    }
    tcp_server_mark_dirty(connection->server, connection);
}

/* What gathered becomes what is sent, in one piece unless it is large. */
static void continue_sending(struct tcp_connection *connection)
{
    if (connection->is_sending)
        return;
    if (connection->sending.data && connection->sent == connection->sending.size) {
        tcp_server_give_buffer(connection->server, &connection->sending);
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
static bool is_done(const struct tcp_connection *connection)
{
    return !protocol_of(connection)->is_busy(connection) && tcp_connection_unsent(connection) == 0;
}

static bool is_idle(const struct tcp_connection *connection)
{
    return connection->state == TCP_OPEN && !connection->is_broken && is_done(connection);
}

static void update_idle(struct tcp_connection *connection)
{
    struct tcp_server *server = connection->server;
    bool is_listed = tcp_link_is_in_list(&connection->idle), is_now = is_idle(connection);
    if (is_listed == is_now)
        return;
    if (is_now) {
        connection->idle_since_ns = tcp_connection_now_ns(connection);
        tcp_link_append(&server->idle, &connection->idle);
    } else {
        tcp_link_remove(&connection->idle);
    }
    uint32_t count = atomic_load_explicit(&server->idle_count, memory_order_relaxed);
    atomic_store_explicit(&server->idle_count, is_now ? count + 1 : count - 1, memory_order_relaxed);
}

void tcp_connection_break(struct tcp_connection *connection)
{
    connection->is_broken = true;
    update_idle(connection);
    tcp_server_mark_dirty(connection->server, connection);
}

/* ---- input ------------------------------------------------------------------------------------------------------------- */
static void on_receive(struct ring_op *op, const struct ring_completion *completion)
{
    struct tcp_connection *connection = container_of(op, struct tcp_connection, receive_op);
    ASSERT_ON_WORKER(connection->server->worker);
    if (completion->has_buffer) {
        if (PLANTED(BUFFER_RETURNED_EARLY))
            ring_buffer_return(worker_ring(connection->server->worker), completion->buffer_id);
        if (completion->result > 0 && connection->state == TCP_OPEN && !connection->is_broken)
            protocol_of(connection)->on_bytes(connection, completion->data, (size_t)completion->result);
        if (!PLANTED(BUFFER_RETURNED_EARLY))
            ring_buffer_return(worker_ring(connection->server->worker), completion->buffer_id);
        update_idle(connection); /* at once: who makes room in this very turn must not choose one that has just asked */
    }
    if (!completion->more) {
        connection->is_receiving = connection->is_receive_cancelled = false;
        connection->has_peer_finished |= completion->result == 0;
        connection->is_broken |= completion->result < 0 && completion->result != -ECANCELED;
        if (completion->result == 0 && protocol_of(connection)->on_peer_finished)
            protocol_of(connection)->on_peer_finished(connection);
    }
    tcp_server_mark_dirty(connection->server, connection);
}

static void update_receiving(struct tcp_connection *connection)
{
    struct ring *ring = worker_ring(connection->server->worker);
    bool is_held_full = connection->is_paused && protocol_of(connection)->held_bytes(connection) > TCP_HOLD_BYTES_MAX;
    bool wants = !connection->has_peer_finished && !is_held_full; /* T2 */
    if (wants && !connection->is_receiving) {
        connection->is_receiving = true;
        ring_start_recv(ring, &connection->receive_op, connection->fd);
    } else if (!wants && connection->is_receiving && !connection->is_receive_cancelled) {
        connection->is_receive_cancelled = true;
        ring_cancel(ring, &connection->receive_op);
    }
}

/* ---- deadlines --------------------------------------------------------------------------------------------------------- */
static uint64_t deadline_of(const struct tcp_connection *connection)
{
    uint64_t deadline = protocol_of(connection)->deadline_ns(connection), idle_ns_max = connection->server->idle_ns_max;
    if (connection->state == TCP_LINGERING && connection->linger_until_ns < deadline)
        deadline = connection->linger_until_ns;
    if (connection->is_sending && connection->send_since_ns + idle_ns_max < deadline)
        deadline = connection->send_since_ns + idle_ns_max;
    if (is_idle(connection) && tcp_link_is_in_list(&connection->idle) &&
        connection->idle_since_ns + idle_ns_max < deadline)
        deadline = connection->idle_since_ns + idle_ns_max;
    return deadline;
}

static void on_timer(struct worker *worker, struct timer *timer)
{
    (void)worker;
    struct tcp_connection *connection = container_of(timer, struct tcp_connection, timer);
    connection->armed_ns = UINT64_MAX;
    tcp_server_mark_dirty(connection->server, connection);
}

/* The timer only ever moves to an earlier time; when it fires too early it is set again. So a busy connection, whose
 * deadlines move on with each request, touches the wheel once a deadline and not once a request. */
static void arm_timer(struct tcp_connection *connection)
{
    uint64_t deadline = deadline_of(connection);
    if (deadline >= connection->armed_ns)
        return;
    connection->armed_ns = deadline;
    timer_start(connection->server->worker, &connection->timer, deadline);
}

static void judge_deadlines(struct tcp_connection *connection)
{
    uint64_t now = tcp_connection_now_ns(connection);
    if (deadline_of(connection) > now)
        return;
    if (protocol_of(connection)->deadline_ns(connection) <= now)
        protocol_of(connection)->on_deadline(connection);
    else
        connection->is_broken = true; /* idle, lingering or stuck in a send for too long: nothing more to say */
}

/* ---- end --------------------------------------------------------------------------------------------------------------- */
static void free_connection(struct tcp_connection *connection)
{
    struct tcp_server *server = connection->server;
    ring_close(connection->fd);
    tcp_link_remove(&connection->all);
    metrics_set(server->connections_metric, --server->connections_open);
    atomic_fetch_sub_explicit(&server->connection_count, 1, memory_order_relaxed);
    free(connection);
}

/* Both operations end by the shutdown; the cancels are for what does not look at the socket. Freed when they have. */
static void close_connection(struct tcp_connection *connection)
{
    struct tcp_server *server = connection->server;
    struct ring *ring = worker_ring(server->worker);
    set_state(connection, TCP_CLOSING);
    timer_cancel(server->worker, &connection->timer);
    protocol_of(connection)->on_close(connection);
    tcp_server_give_buffer(server, &connection->queued);
    ring_shutdown_both(connection->fd);
    ring_cancel(ring, &connection->receive_op);
    ring_cancel(ring, &connection->send_op);
}

static void finish_close(struct tcp_connection *connection)
{
    if (connection->is_receiving || connection->is_sending)
        return;
    tcp_server_give_buffer(connection->server, &connection->sending);
    free_connection(connection);
}

/* ---- what follows ------------------------------------------------------------------------------------------------------ */
/* The state that follows from the rest. */
static void advance_state(struct tcp_connection *connection)
{
    if (connection->state == TCP_OPEN) {
        bool has_no_more = connection->has_peer_finished && !connection->is_paused; /* half a request will stay one */
        bool is_drained = connection->server->is_draining && is_done(connection);
        if (has_no_more || is_drained) {
            protocol_of(connection)->drop_held(connection);
            set_state(connection, TCP_LAST);
        }
    }
    if (connection->state == TCP_LAST && is_done(connection)) {
        ring_shutdown_write(connection->fd);
        connection->linger_until_ns = tcp_connection_now_ns(connection) + TCP_LINGER_NS;
        set_state(connection, TCP_LINGERING);
    }
    if (connection->state == TCP_LINGERING && connection->has_peer_finished)
        connection->is_broken = true;
}

static void tell_drained(struct tcp_connection *connection)
{
    const struct tcp_protocol *protocol = protocol_of(connection);
    bool is_drained = connection->has_sent && tcp_connection_unsent(connection) <= TCP_SEND_PIECE_BYTES;
    connection->has_sent = false;
    if (is_drained && protocol->on_drained)
        protocol->on_drained(connection);
}

/* It counts as dirty until its end: what handlers do meanwhile is seen to in this very call, and the object cannot be in the
 * list of dirty ones when it is freed. */
void tcp_connection_settle(struct tcp_connection *connection)
{
    const struct tcp_protocol *protocol = protocol_of(connection);
    if (connection->state == TCP_CLOSING) {
        connection->is_dirty = false;
        finish_close(connection);
        return;
    }
    protocol->take_held(connection);
    judge_deadlines(connection);
    if (protocol->before_send)
        protocol->before_send(connection);
    connection->is_broken |= connection->queued.is_overflow;

    if (!connection->is_broken) {
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

void tcp_connection_adopt(struct tcp_connection *connection)
{
    struct tcp_server *server = connection->server;
    ASSERT_ON_WORKER(server->worker);
    connection->receive_op.on_complete = on_receive;
    connection->send_op.on_complete = on_send_done;
    connection->timer.on_fire = on_timer;
    connection->armed_ns = UINT64_MAX;
    tcp_link_append(&server->connections, &connection->all);
    server->accepted++;
    metrics_add(server->accepted_metric, 1);
    metrics_set(server->connections_metric, ++server->connections_open);
    tcp_server_mark_dirty(server, connection);
}
