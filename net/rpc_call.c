/* SPDX-License-Identifier: Apache-2.0 */
/* Calls and streams of a worker's connections, and the frames that answer them. They lie in blocks that are never given back
 * while the server lives, so that an id can be looked up safely at any time. */
#include <stdlib.h>

#include "net/pack.h"
#include "net/rpc_server_internal.h"

enum { BLOCK_CALLS = 256, RESPONSE = 1, NOTIFICATION = 2, RESPONSE_PARTS = 4, NOTIFICATION_PARTS = 3 };

/* ---- the slab ---------------------------------------------------------------------------------------------------------- */
static bool add_block(struct rpc_server *server)
{
    struct rpc_call **blocks = realloc(server->call_blocks, (server->call_block_count + 1) * sizeof *blocks);
    if (!blocks)
        return false;
    server->call_blocks = blocks;
    struct rpc_call *block = calloc(BLOCK_CALLS, sizeof *block);
    if (!block)
        return false;
    uint32_t first_index = server->call_block_count * BLOCK_CALLS;
    blocks[server->call_block_count++] = block;
    for (uint32_t i = BLOCK_CALLS; i-- > 0;) {
        block[i].id = (struct rpc_call_id){.index = first_index + i, .generation = 1};
        block[i].next_free = server->free_calls;
        server->free_calls = &block[i];
    }
    return true;
}

void rpc_call_free_blocks(struct rpc_server *server)
{
    for (uint32_t i = 0; i < server->call_block_count; i++)
        free(server->call_blocks[i]);
    free(server->call_blocks);
}

static struct rpc_call *find(struct rpc_server *server, struct rpc_call_id id)
{
    ASSERT_ON_WORKER(server->tcp.worker);
    if (id.index / BLOCK_CALLS >= server->call_block_count)
        return NULL;
    struct rpc_call *call = &server->call_blocks[id.index / BLOCK_CALLS][id.index % BLOCK_CALLS];
    return call->connection && call->id.generation == id.generation ? call : NULL;
}

struct rpc_call *rpc_call_create(struct rpc_connection *connection, const struct rpc_frame *frame)
{
    struct rpc_server *server = rpc_connection_server(connection);
    if (!server->free_calls && !add_block(server))
        return NULL;
    struct rpc_call *call = server->free_calls;
    server->free_calls = call->next_free;
    *call = (struct rpc_call){
        .connection = connection, .id = call->id, .msgid = frame->msgid, .is_notification = frame->is_notification};
    tcp_link_append(&connection->calls, &call->link);
    connection->call_count++;
    metrics_set(server->metrics.calls, ++server->stats.calls);
    return call;
}

static void uncount(struct rpc_call *call)
{
    struct rpc_connection *connection = call->connection;
    struct rpc_server *server = rpc_connection_server(connection);
    if (call->is_stream) {
        connection->stream_count--;
        metrics_set(server->metrics.streams, --server->stats.streams);
    } else {
        connection->call_count--;
        connection->large_count -= call->is_large;
        metrics_set(server->metrics.calls, --server->stats.calls);
    }
}

static void release(struct rpc_call *call)
{
    struct rpc_server *server = rpc_connection_server(call->connection);
    uncount(call);
    tcp_link_remove(&call->link);
    call->connection = NULL;
    if (++call->id.generation == 0)
        call->id.generation = 1; /* {0,0} stays nobody's */
    call->next_free = server->free_calls;
    server->free_calls = call;
}

void rpc_call_abandon_all(struct rpc_connection *connection, struct tcp_link *list)
{
    struct rpc_server *server = rpc_connection_server(connection);
    const struct rpc_handler *handler = &server->options.handler;
    while (list->next != list) {
        struct rpc_call *call = container_of(list->next, struct rpc_call, link);
        void *user = call->user;
        release(call); /* before the handler is told: the id is stale from now on */
        if (handler->on_gone)
            handler->on_gone(handler->context, server, user);
    }
}

void rpc_call_tell_drained(struct rpc_connection *connection)
{
    struct rpc_server *server = rpc_connection_server(connection);
    const struct rpc_handler *handler = &server->options.handler;
    struct tcp_link *next, *link = connection->streams.next;
    for (; handler->on_drained && link != &connection->streams; link = next) {
        next = link->next; /* the stream may end in the call */
        handler->on_drained(handler->context, server, container_of(link, struct rpc_call, link)->user);
    }
}

void rpc_call_set_user(struct rpc_server *server, struct rpc_call_id id, void *user)
{
    struct rpc_call *call = find(server, id);
    if (call)
        call->user = user;
}

void rpc_call_set_large(struct rpc_server *server, struct rpc_call_id id)
{
    struct rpc_call *call = find(server, id);
    if (!call)
        return;
    ASSERT(!call->is_large && !call->is_stream);
    call->is_large = true;
    call->connection->large_count++;
}

void *rpc_call_user(struct rpc_server *server, struct rpc_call_id id)
{
    const struct rpc_call *call = find(server, id);
    return call ? call->user : NULL;
}

/* ---- answering --------------------------------------------------------------------------------------------------------- */
static void write_result(struct rpc_call *call, struct slice result)
{
    struct buffer *out = tcp_connection_output(&call->connection->tcp);
    msgpack_packer packer;
    pack_init(&packer, out);
    msgpack_pack_array(&packer, RESPONSE_PARTS);
    msgpack_pack_uint8(&packer, RESPONSE);
    msgpack_pack_uint32(&packer, call->msgid);
    msgpack_pack_nil(&packer);
    buffer_append_slice(out, result);
}

static void write_error(msgpack_packer *packer, const struct rpc_error *error)
{
    msgpack_pack_map(packer, error->retry_after_ms ? 3 : 2);
    pack_text(packer, SLICE_LITERAL("code"));
    pack_text(packer, slice_from_text(error->code));
    pack_text(packer, SLICE_LITERAL("message"));
    pack_text(packer, error->message);
    if (error->retry_after_ms) {
        pack_text(packer, SLICE_LITERAL("retry_after_ms"));
        msgpack_pack_uint64(packer, error->retry_after_ms);
    }
}

enum err rpc_respond(struct rpc_server *server, struct rpc_call_id id, struct slice result)
{
    struct rpc_call *call = find(server, id);
    if (!call)
        return ERR_NOT_FOUND;
    ASSERT(!call->is_stream);
    _Static_assert(RPC_UNSENT_BYTES_MAX <= TCP_OUTPUT_BYTES_MAX / 2, "behind them there is room for the largest answer");
    if (tcp_connection_unsent(&call->connection->tcp) > RPC_UNSENT_BYTES_MAX)
        return ERR_LIMIT;
    if (!call->is_notification)
        write_result(call, result);
    tcp_server_mark_dirty(&server->tcp, &call->connection->tcp); /* there is room for another */
    release(call);
    return OK;
}

enum err rpc_refuse(struct rpc_server *server, struct rpc_call_id id, const struct rpc_error *error)
{
    struct rpc_call *call = find(server, id);
    if (!call)
        return ERR_NOT_FOUND;
    ASSERT(!call->is_stream);
    if (!call->is_notification) {
        msgpack_packer packer;
        pack_init(&packer, tcp_connection_output(&call->connection->tcp));
        msgpack_pack_array(&packer, RESPONSE_PARTS);
        msgpack_pack_uint8(&packer, RESPONSE);
        msgpack_pack_uint32(&packer, call->msgid);
        write_error(&packer, error);
        msgpack_pack_nil(&packer);
    }
    tcp_server_mark_dirty(&server->tcp, &call->connection->tcp);
    release(call);
    return OK;
}

void rpc_write_refusal(struct buffer *out, enum rpc_reason reason)
{
    msgpack_packer packer;
    pack_init(&packer, out);
    msgpack_pack_array(&packer, RESPONSE_PARTS);
    msgpack_pack_uint8(&packer, RESPONSE);
    msgpack_pack_nil(&packer);
    write_error(&packer, &(struct rpc_error){.code = rpc_reason_code(reason),
                                             .message = slice_from_text(rpc_reason_text(reason))});
    msgpack_pack_nil(&packer);
}

/* ---- streams ----------------------------------------------------------------------------------------------------------- */
static void write_notification(struct buffer *out, const char *method, struct slice params)
{
    msgpack_packer packer;
    pack_init(&packer, out);
    msgpack_pack_array(&packer, NOTIFICATION_PARTS);
    msgpack_pack_uint8(&packer, NOTIFICATION);
    pack_text(&packer, slice_from_text(method));
    msgpack_pack_array(&packer, 1);
    buffer_append_slice(out, params);
}

void rpc_write_heartbeat(struct buffer *out)
{
    write_notification(out, "heartbeat", SLICE_LITERAL("\x80")); /* an empty map */
}

static struct rpc_call *find_stream(struct rpc_connection *connection, uint32_t msgid)
{
    for (struct tcp_link *link = connection->streams.next; link != &connection->streams; link = link->next) {
        struct rpc_call *call = container_of(link, struct rpc_call, link);
        if (call->msgid == msgid)
            return call;
    }
    return NULL;
}

struct rpc_call_id rpc_stream_find(struct rpc_server *server, struct rpc_call_id id, uint32_t msgid)
{
    const struct rpc_call *call = find(server, id);
    const struct rpc_call *stream = call ? find_stream(call->connection, msgid) : NULL;
    return stream ? stream->id : (struct rpc_call_id){0};
}

enum err rpc_stream_start(struct rpc_server *server, struct rpc_call_id id, struct slice result)
{
    struct rpc_call *call = find(server, id);
    if (!call)
        return ERR_NOT_FOUND;
    ASSERT(!call->is_stream && !call->is_notification);
    struct rpc_connection *connection = call->connection;
    if (connection->stream_count == server->options.streams_max)
        return ERR_LIMIT;
    if (find_stream(connection, call->msgid))
        return ERR_EXISTS;
    write_result(call, result);
    connection->told_ns = tcp_connection_now_ns(&connection->tcp);
    tcp_server_mark_dirty(&server->tcp, &connection->tcp);
    uncount(call);
    call->is_stream = true;
    tcp_link_remove(&call->link);
    tcp_link_append(&connection->streams, &call->link);
    connection->stream_count++;
    metrics_set(server->metrics.streams, ++server->stats.streams);
    return OK;
}

enum err rpc_stream_notify(struct rpc_server *server, struct rpc_call_id id, const char *method, struct slice params)
{
    struct rpc_call *call = find(server, id);
    if (!call)
        return ERR_NOT_FOUND;
    ASSERT(call->is_stream);
    struct tcp_connection *tcp = &call->connection->tcp;
    if (tcp_connection_unsent(tcp) > server->options.send_bytes_max) { /* before it: the largest event passes alone */
        metrics_add(server->metrics.slow_readers, 1);
        return ERR_LIMIT;
    }
    write_notification(tcp_connection_output(tcp), method, params);
    call->connection->told_ns = tcp_connection_now_ns(tcp);
    tcp_server_mark_dirty(&server->tcp, tcp);
    return OK;
}

size_t rpc_stream_unsent(struct rpc_server *server, struct rpc_call_id id)
{
    const struct rpc_call *call = find(server, id);
    return call ? tcp_connection_unsent(&call->connection->tcp) : 0;
}

enum err rpc_stream_end(struct rpc_server *server, struct rpc_call_id id, const char *method, struct slice params)
{
    struct rpc_call *call = find(server, id);
    if (!call)
        return ERR_NOT_FOUND;
    ASSERT(call->is_stream);
    if (method)
        write_notification(tcp_connection_output(&call->connection->tcp), method, params);
    tcp_server_mark_dirty(&server->tcp, &call->connection->tcp);
    release(call);
    return OK;
}
