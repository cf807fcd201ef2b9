/* SPDX-License-Identifier: Apache-2.0 */
/* MessagePack-RPC on a connection (tcp_server.h). Frames that are whole in their receive buffer are taken there; what is left
 * over (half a frame, or frames that may not be taken yet) is kept in `input`, and the scan goes on where it stopped. */
#include "net/rpc_server_internal.h"

static struct rpc_connection *rpc_of(const struct tcp_connection *tcp)
{
    return container_of(tcp, struct rpc_connection, tcp);
}

/* ---- input ------------------------------------------------------------------------------------------------------------- */
/* P2: otherwise what is received waits. */
static bool may_take(const struct rpc_connection *connection)
{
    const struct rpc_server *server = rpc_connection_server(connection);
    return connection->tcp.state == TCP_OPEN && !connection->tcp.is_broken && !server->tcp.is_draining &&
           connection->call_count < server->options.calls_max && connection->large_count < RPC_LARGE_CALLS_MAX &&
           tcp_connection_unsent(&connection->tcp) <= server->options.send_bytes_max;
}

static void refuse(struct rpc_connection *connection, enum rpc_reason reason)
{
    struct rpc_server *server = rpc_connection_server(connection);
    server->stats.refused++;
    metrics_add(server->metrics.refusals[reason], 1);
    rpc_write_refusal(tcp_connection_output(&connection->tcp), reason);
    tcp_connection_set_last(&connection->tcp);
    tcp_server_mark_dirty(&server->tcp, &connection->tcp);
}

static void hand_on(struct rpc_connection *connection, struct slice bytes)
{
    struct rpc_server *server = rpc_connection_server(connection);
    struct rpc_frame frame;
    if (!rpc_frame_read(bytes, &frame)) {
        refuse(connection, RPC_FRAME_UNKNOWN);
        return;
    }
    const struct rpc_call *call = rpc_call_create(connection, &frame);
    if (!call) {
        connection->tcp.is_broken = true;
        return;
    }
    if (frame.is_notification)
        server->stats.notifications++;
    else
        server->stats.requests++;
    metrics_add(frame.is_notification ? server->metrics.notifications : server->metrics.requests, 1);
    const struct rpc_request request = {.is_notification = frame.is_notification,
                                        .msgid = frame.msgid,
                                        .method = frame.method,
                                        .params = frame.params,
                                        .received_ns = tcp_connection_now_ns(&connection->tcp)};
    server->options.handler.on_request(server->options.handler.context, server, call->id, &request);
}

/* Takes whole frames off the front while there is room for their calls. Returns: what is left. */
static struct slice take_frames(struct rpc_connection *connection, struct slice bytes)
{
    uint32_t frame_bytes_max = rpc_connection_server(connection)->options.frame_bytes_max;
    while (bytes.size > 0 && may_take(connection)) {
        enum rpc_reason reason;
        switch (rpc_scan(&connection->scan, frame_bytes_max, bytes, &reason)) {
        case RPC_SCAN_MORE: return bytes;
        case RPC_SCAN_REFUSED: refuse(connection, reason); return bytes;
        case RPC_SCAN_DONE: break;
        }
        size_t size = connection->scan.at;
        connection->scan = (struct rpc_scan){0};
        connection->has_had_frame = true;
        connection->waiting_since_ns = tcp_connection_now_ns(&connection->tcp);
        hand_on(connection, slice_of(bytes.data, size));
        bytes = slice_of(bytes.data + size, bytes.size - size);
    }
    return bytes;
}

static void drop_held(struct tcp_connection *tcp)
{
    struct rpc_connection *connection = rpc_of(tcp);
    tcp_server_give_buffer(tcp->server, &connection->input);
    connection->input_taken = 0;
    tcp->is_paused = false;
}

static size_t held_bytes(const struct tcp_connection *tcp)
{
    return rpc_of(tcp)->input.size - rpc_of(tcp)->input_taken;
}

static void take_from_input(struct rpc_connection *connection)
{
    struct tcp_connection *tcp = &connection->tcp;
    struct buffer *input = &connection->input;
    struct slice held = slice_of(input->data + connection->input_taken, held_bytes(tcp));
    struct slice left = take_frames(connection, held);
    connection->input_taken += held.size - left.size;
    if (left.size == 0)
        drop_held(tcp);
}

/* What was taken is cut off when it is most of the buffer, so that each byte moves once or twice and not once a frame. */
static void append_input(struct rpc_connection *connection, struct slice bytes)
{
    struct rpc_server *server = rpc_connection_server(connection);
    struct buffer *input = &connection->input;
    if (!input->data) {
        tcp_server_take_buffer(&server->tcp, input, server->options.frame_bytes_max + TCP_RECEIVE_SLACK_BYTES);
        connection->waiting_since_ns = tcp_connection_now_ns(&connection->tcp);
    }
    if (connection->input_taken > input->size / 2) {
        buffer_remove_front(input, connection->input_taken);
        connection->input_taken = 0;
    }
    buffer_append_slice(input, bytes);
    connection->tcp.is_broken |= input->is_overflow;
}

static void on_bytes(struct tcp_connection *tcp, const char *data, size_t size)
{
    struct rpc_connection *connection = rpc_of(tcp);
    if (tcp->server->is_draining)
        return;
    if (connection->input.size > 0) {
        append_input(connection, slice_of(data, size));
        take_from_input(connection);
        return;
    }
    struct slice left = take_frames(connection, slice_of(data, size));
    if (left.size > 0 && tcp->state == TCP_OPEN && !tcp->is_broken)
        append_input(connection, left);
}

/* Goes on with what is held: room has come. The first time it is a new connection. */
static void take_held(struct tcp_connection *tcp)
{
    struct rpc_connection *connection = rpc_of(tcp);
    if (!connection->calls.next) {
        tcp_link_init(&connection->calls);
        tcp_link_init(&connection->streams);
        connection->waiting_since_ns = tcp_connection_now_ns(tcp);
    }
    if (connection->input.size > 0 && !tcp->server->is_draining)
        take_from_input(connection);
    if (tcp->state != TCP_OPEN || tcp->server->is_draining)
        drop_held(tcp);
    bool was_paused = tcp->is_paused;
    tcp->is_paused = connection->input.size > 0 && !may_take(connection);
    if (was_paused && !tcp->is_paused)
        connection->waiting_since_ns = tcp_connection_now_ns(tcp); /* the client could not have gone on before */
}

/* ---- deadlines --------------------------------------------------------------------------------------------------------- */
static uint64_t frame_deadline(const struct rpc_connection *connection)
{
    bool waits = connection->input.size > 0 ? !connection->tcp.is_paused : !connection->has_had_frame;
    if (!waits || connection->tcp.state != TCP_OPEN)
        return UINT64_MAX;
    return connection->waiting_since_ns + rpc_connection_server(connection)->options.frame_ns_max;
}

static uint64_t heartbeat_deadline(const struct rpc_connection *connection)
{
    if (connection->stream_count == 0 || connection->tcp.is_sending || connection->tcp.state != TCP_OPEN)
        return UINT64_MAX;
    return connection->told_ns + rpc_connection_server(connection)->options.heartbeat_ns;
}

static uint64_t deadline_ns(const struct tcp_connection *tcp)
{
    uint64_t frame = frame_deadline(rpc_of(tcp)), heartbeat = heartbeat_deadline(rpc_of(tcp));
    return frame < heartbeat ? frame : heartbeat;
}

static void on_deadline(struct tcp_connection *tcp)
{
    struct rpc_connection *connection = rpc_of(tcp);
    if (frame_deadline(connection) <= tcp_connection_now_ns(tcp)) {
        refuse(connection, RPC_FRAME_TIMEOUT);
        drop_held(tcp);
    } else {
        rpc_write_heartbeat(tcp_connection_output(tcp));
        connection->told_ns = tcp_connection_now_ns(tcp);
    }
}

/* ---- what the connection below asks ------------------------------------------------------------------------------------ */
static bool is_busy(const struct tcp_connection *tcp)
{
    const struct rpc_connection *connection = rpc_of(tcp);
    return connection->call_count > 0 || connection->stream_count > 0 || connection->input.size > 0;
}

/* Streams do not hold up the end of a connection that takes nothing more. */
static void before_send(struct tcp_connection *tcp)
{
    if (tcp->state != TCP_OPEN || tcp->has_peer_finished)
        rpc_call_abandon_all(rpc_of(tcp), &rpc_of(tcp)->streams);
}

static void on_drained(struct tcp_connection *tcp)
{
    rpc_call_tell_drained(rpc_of(tcp));
}

static void on_close(struct tcp_connection *tcp)
{
    struct rpc_connection *connection = rpc_of(tcp);
    rpc_call_abandon_all(connection, &connection->calls);
    rpc_call_abandon_all(connection, &connection->streams);
    drop_held(tcp);
}

const struct tcp_protocol rpc_protocol = {
    .name = "rpc",
    .connection_bytes = sizeof(struct rpc_connection),
    .on_bytes = on_bytes,
    .take_held = take_held,
    .drop_held = drop_held,
    .held_bytes = held_bytes,
    .is_busy = is_busy,
    .deadline_ns = deadline_ns,
    .on_deadline = on_deadline,
    .before_send = before_send,
    .on_drained = on_drained,
    .on_close = on_close,
};
