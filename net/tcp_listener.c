/* SPDX-License-Identifier: Apache-2.0 */
/* Accepting, on worker 0 only. Each new connection goes to the worker that has the fewest, by exact counts: SO_REUSEPORT would
 * deal by hash, and with a few long-lived connections hashes lump.
 *
 * When descriptors run out, accepting pauses (a listener is readable all the time then, and would spin): the reserve
 * descriptor is given up to accept one connection and close it at once, so that its client learns of it, the oldest idle
 * connection is closed, and a timer tries again. When every worker is full and has no idle connection to give up, accepting
 * pauses too and the backlog holds the rest. A line is logged once a second at most. */
#include <errno.h>
#include <stdlib.h>

#include "net/tcp_server.h"
#include "runtime/log.h"

static const uint64_t ACCEPT_PAUSE_NS = UINT64_C(100000000);

struct tcp_listener {
    int fd, reserve_fd;
    struct ring_op accept_op;
    struct timer timer; /* after a pause */
    bool is_accepting;
    bool is_shedding; /* the reserve descriptor is lent to one connection, only to close it */
    bool is_closed;   /* by drain or destroy */
    uint64_t logged_ns;
    struct tcp_server **peers;
    uint32_t peer_count;
};

static void start_accepting(struct tcp_server *server)
{
    struct tcp_listener *listener = server->listener;
    if (listener->is_accepting || listener->is_closed)
        return;
    listener->is_accepting = true;
    ring_start_accept(worker_ring(server->worker), &listener->accept_op, listener->fd);
}

static void pause_accepting(struct tcp_server *server, const char *reason, int os_errno)
{
    struct tcp_listener *listener = server->listener;
    uint64_t now = worker_now_ns(server->worker);
    timer_start(server->worker, &listener->timer, now + ACCEPT_PAUSE_NS);
    if (listener->is_accepting)
        ring_cancel(worker_ring(server->worker), &listener->accept_op);
    if (listener->logged_ns != 0 && now - listener->logged_ns < UINT64_C(1000000000))
        return;
    listener->logged_ns = now;
    LOG(LOG_WARN, "accept_paused", LOG_TEXT("protocol", server->protocol->name), LOG_TEXT("reason", reason),
        LOG_INT("errno", os_errno), LOG_UINT("connections", server->connections_open));
}

/* ---- dealing ----------------------------------------------------------------------------------------------------------- */
static uint32_t count_of(const struct tcp_server *server)
{
    return atomic_load_explicit(&server->connection_count, memory_order_relaxed);
}

static struct tcp_server *emptiest_peer(const struct tcp_listener *listener)
{
    struct tcp_server *emptiest = listener->peers[0];
    for (uint32_t i = 1; i < listener->peer_count; i++)
        if (count_of(listener->peers[i]) < count_of(emptiest))
            emptiest = listener->peers[i];
    return emptiest;
}

static bool has_room(const struct tcp_listener *listener)
{
    for (uint32_t i = 0; i < listener->peer_count; i++) {
        const struct tcp_server *peer = listener->peers[i];
        if (count_of(peer) < peer->connections_max || atomic_load_explicit(&peer->idle_count, memory_order_relaxed) > 0)
            return true;
    }
    return false;
}

static void close_oldest_idle(struct tcp_server *server)
{
    if (server->idle.next == &server->idle)
        return;
    tcp_connection_break(container_of(server->idle.next, struct tcp_connection, idle));
}

static void adopt(struct tcp_connection *connection)
{
    if (connection->server->connections_open >= connection->server->connections_max)
        close_oldest_idle(connection->server);
    tcp_connection_adopt(connection);
}

static void on_adopt(struct worker *worker, struct worker_task *task)
{
    (void)worker;
    adopt(container_of(task, struct tcp_connection, adopt_task));
}

/* The peer is gone. */
static void on_adopt_dropped(struct worker_task *task)
{
    struct tcp_connection *connection = container_of(task, struct tcp_connection, adopt_task);
    ring_close(connection->fd);
    free(connection);
}

static void deal(struct tcp_server *server, int fd)
{
    struct tcp_server *peer = emptiest_peer(server->listener);
    struct tcp_connection *connection = calloc(1, peer->protocol->connection_bytes);
    if (!connection) {
        ring_close(fd);
        return;
    }
    connection->server = peer;
    connection->fd = fd;
    connection->adopt_task.run = on_adopt;
    connection->adopt_task.drop = on_adopt_dropped;
    atomic_fetch_add_explicit(&peer->connection_count, 1, memory_order_relaxed);
    if (peer == server)
        adopt(connection);
    else
        worker_post(peer->worker, &connection->adopt_task);
}

/* ---- accepting --------------------------------------------------------------------------------------------------------- */
static void open_reserve(struct tcp_listener *listener)
{
    if (listener->reserve_fd < 0)
        listener->reserve_fd = ring_open_reserve();
}

static void close_reserve(struct tcp_listener *listener)
{
    if (listener->reserve_fd >= 0)
        ring_close(listener->reserve_fd);
    listener->reserve_fd = -1;
}

static void on_out_of_descriptors(struct tcp_server *server, int os_errno)
{
    struct tcp_listener *listener = server->listener;
    if (timer_is_active(&listener->timer))
        return; /* paused already: this end came with the connection that was shed */
    close_oldest_idle(server);
    if (listener->reserve_fd >= 0) {
        close_reserve(listener);
        listener->is_shedding = true;
        start_accepting(server);
        return;
    }
    listener->is_shedding = false;
    open_reserve(listener);
    pause_accepting(server, "descriptors", os_errno);
}

/* Accepted on the reserve's descriptor. If the reserve is to be had again beside it, the shortage is over: it may stay. */
static void on_shed(struct tcp_server *server, int fd)
{
    struct tcp_listener *listener = server->listener;
    listener->is_shedding = false;
    open_reserve(listener);
    if (listener->reserve_fd >= 0) {
        deal(server, fd);
        return;
    }
    ring_close(fd);
    open_reserve(listener);
    pause_accepting(server, "descriptors", EMFILE);
}

static void on_accept(struct ring_op *op, const struct ring_completion *completion)
{
    struct tcp_listener *listener = container_of(op, struct tcp_listener, accept_op);
    struct tcp_server *server = listener->peers[0];
    ASSERT_ON_WORKER(server->worker);
    if (!completion->more)
        listener->is_accepting = false;
    if (listener->is_closed) {
        if (completion->result >= 0)
            ring_close(completion->result);
        if (!listener->is_accepting)
            ring_close(listener->fd);
        return;
    }
    if (completion->result >= 0 && listener->is_shedding) {
        on_shed(server, completion->result);
    } else if (completion->result >= 0) {
        deal(server, completion->result);
        if (!has_room(listener) && !timer_is_active(&listener->timer))
            pause_accepting(server, "connections_max", 0);
    } else if (completion->result == -EMFILE || completion->result == -ENFILE) {
        on_out_of_descriptors(server, -completion->result);
    } else if (completion->result != -ECANCELED) {
        pause_accepting(server, "accept", -completion->result);
    }
    if (!listener->is_accepting && !timer_is_active(&listener->timer))
        start_accepting(server);
}

static void on_pause_over(struct worker *worker, struct timer *timer)
{
    struct tcp_listener *listener = container_of(timer, struct tcp_listener, timer);
    struct tcp_server *server = listener->peers[0];
    if (has_room(listener))
        start_accepting(server);
    else
        timer_start(worker, timer, worker_now_ns(worker) + ACCEPT_PAUSE_NS);
}

/* ---- life -------------------------------------------------------------------------------------------------------------- */
enum err tcp_server_listen(struct tcp_server *server, const char *address, struct tcp_server *const *peers,
                           uint32_t peer_count, struct error *error)
{
    ASSERT_ON_WORKER(server->worker);
    ASSERT(!server->listener && peer_count > 0 && peers[0] == server);
    struct tcp_listener *listener = calloc(1, sizeof *listener);
    if (!listener)
        return error_set(error, ERR_NO_MEMORY, "listen on %s", address);
    enum err result = ERR_NO_MEMORY;
    listener->peers = calloc(peer_count, sizeof(struct tcp_server *));
    if (!listener->peers) {
        error_set(error, result, "listen on %s", address);
        goto free_listener;
    }
    memcpy(listener->peers, peers, peer_count * sizeof(struct tcp_server *));
    listener->peer_count = peer_count;
    result = ring_listen(address, &listener->fd, error);
    if (result != OK) {
        error_prefix(error, "listen on %s", address);
        goto free_peers;
    }
    listener->reserve_fd = -1;
    open_reserve(listener);
    listener->accept_op.on_complete = on_accept;
    listener->timer.on_fire = on_pause_over;
    server->listener = listener;
    start_accepting(server);
    return OK;

free_peers:
    free(listener->peers);
free_listener:
    free(listener);
    return result;
}

void tcp_server_address(const struct tcp_server *server, char *ret_text, size_t size)
{
    ASSERT(size > 0);
    ret_text[0] = 0;
    if (server->listener && !server->listener->is_closed &&
        ring_local_address(server->listener->fd, ret_text, size) != OK)
        ret_text[0] = 0;
}

void tcp_listener_close(struct tcp_server *server)
{
    struct tcp_listener *listener = server->listener;
    if (!listener || listener->is_closed)
        return;
    listener->is_closed = true;
    timer_cancel(server->worker, &listener->timer);
    close_reserve(listener);
    if (listener->is_accepting)
        ring_cancel(worker_ring(server->worker), &listener->accept_op); /* the descriptor is closed when it has ended */
    else
        ring_close(listener->fd);
}

bool tcp_listener_is_closed(const struct tcp_server *server)
{
    return !server->listener || (server->listener->is_closed && !server->listener->is_accepting);
}

void tcp_listener_free(struct tcp_server *server)
{
    if (!server->listener)
        return;
    free(server->listener->peers);
    free(server->listener);
    server->listener = NULL;
}
