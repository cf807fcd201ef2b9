/* SPDX-License-Identifier: Apache-2.0 */
/* The connections of one worker: lists, buffers, and the flush at the end of the turn. See tcp_server.h for the map.
 *
 * The flush is a timer that is already due: the worker runs timers after completions and actors, so every answer of a turn,
 * whoever gave it, is there when the connections are settled, and each leaves in one send.
 * Buffers that were used once stay warm up to a bound, so that no request allocates. */
#include <stdio.h>

#include "net/tcp_server.h"
#include "runtime/clock.h"
#include "runtime/log.h"

/* ---- links ------------------------------------------------------------------------------------------------------------- */
void tcp_link_init(struct tcp_link *head)
{
    head->previous = head->next = head;
}

void tcp_link_append(struct tcp_link *head, struct tcp_link *link)
{
    ASSERT(!tcp_link_is_in_list(link));
    *link = (struct tcp_link){.previous = head->previous, .next = head};
    head->previous->next = link;
    head->previous = link;
}

void tcp_link_remove(struct tcp_link *link)
{
    if (!tcp_link_is_in_list(link))
        return;
    link->previous->next = link->next;
    link->next->previous = link->previous;
    *link = (struct tcp_link){0};
}

/* ---- buffers ----------------------------------------------------------------------------------------------------------- */
void tcp_server_take_buffer(struct tcp_server *server, struct buffer *ret_buffer, size_t size_max)
{
    if (server->spare_buffer_count > 0)
        *ret_buffer = server->spare_buffers[--server->spare_buffer_count];
    else
        buffer_init(ret_buffer, size_max);
    ret_buffer->size_max = size_max;
}

void tcp_server_give_buffer(struct tcp_server *server, struct buffer *buffer)
{
    buffer_clear(buffer);
    if (buffer->data && buffer->capacity <= TCP_SPARE_BUFFER_BYTES && server->spare_buffer_count < TCP_SPARE_BUFFERS_MAX)
        server->spare_buffers[server->spare_buffer_count++] = *buffer;
    else
        buffer_deinit(buffer);
    *buffer = (struct buffer){0};
}

/* ---- the flush --------------------------------------------------------------------------------------------------------- */
void tcp_server_mark_dirty(struct tcp_server *server, struct tcp_connection *connection)
{
    ASSERT_ON_WORKER(server->worker);
    if (connection->is_dirty)
        return;
    connection->is_dirty = true;
    connection->next_dirty = NULL;
    if (server->dirty_last)
        server->dirty_last->next_dirty = connection;
    else
        server->dirty_first = connection;
    server->dirty_last = connection;
    if (!timer_is_active(&server->flush_timer))
        timer_start(server->worker, &server->flush_timer, 0);
}

static void flush(struct tcp_server *server)
{
    while (server->dirty_first) {
        struct tcp_connection *connection = server->dirty_first;
        server->dirty_first = connection->next_dirty;
        if (!server->dirty_first)
            server->dirty_last = NULL;
        tcp_connection_settle(connection);
    }
}

static void on_flush(struct worker *worker, struct timer *timer)
{
    (void)worker;
    flush(container_of(timer, struct tcp_server, flush_timer));
}

/* ---- life -------------------------------------------------------------------------------------------------------------- */
void tcp_server_init(struct tcp_server *server)
{
    char name[64];
    server->flush_timer.on_fire = on_flush;
    tcp_link_init(&server->connections);
    tcp_link_init(&server->idle);
    snprintf(name, sizeof name, "%s_connections_accepted_total", server->protocol->name);
    server->accepted_metric = metrics_register_counter(name, "Accepted connections.", NULL);
    snprintf(name, sizeof name, "%s_connections", server->protocol->name);
    server->connections_metric = metrics_register_gauge(name, "Open connections.", NULL);
}

static void mark_all_dirty(struct tcp_server *server, bool is_broken)
{
    for (struct tcp_link *link = server->connections.next; link != &server->connections; link = link->next) {
        struct tcp_connection *connection = container_of(link, struct tcp_connection, all);
        connection->is_broken |= is_broken;
        tcp_server_mark_dirty(server, connection);
    }
}

void tcp_server_drain(struct tcp_server *server)
{
    ASSERT_ON_WORKER(server->worker);
    server->is_draining = true;
    tcp_listener_close(server);
    mark_all_dirty(server, false);
}

bool tcp_server_has_unsent(const struct tcp_server *server)
{
    for (struct tcp_link *link = server->connections.next; link != &server->connections; link = link->next)
        if (tcp_connection_unsent(container_of(link, struct tcp_connection, all)) > 0)
            return true;
    return false;
}

bool tcp_server_close(struct tcp_server *server)
{
    enum { STEPS_MAX = 200, STEP_NS = 1000000 };
    tcp_listener_close(server);
    mark_all_dirty(server, true);
    timer_cancel(server->worker, &server->flush_timer);
    /* The kernel may still write where operations point: their memory is freed only when the last of them has ended. */
    for (int i = 0; i < STEPS_MAX && (server->connections_open > 0 || !tcp_listener_is_closed(server)); i++) {
        flush(server);
        ring_step(worker_ring(server->worker), clock_mono_ns() + STEP_NS);
    }
    flush(server);
    timer_cancel(server->worker, &server->flush_timer);
    if (server->connections_open > 0 || !tcp_listener_is_closed(server)) {
        LOG(LOG_ERROR, "tcp_server_not_freed", LOG_TEXT("protocol", server->protocol->name),
            LOG_UINT("connections", server->connections_open));
        return false;
    }
    tcp_listener_free(server);
    for (uint32_t i = 0; i < server->spare_buffer_count; i++)
        buffer_deinit(&server->spare_buffers[i]);
    return true;
}
