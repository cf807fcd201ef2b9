/* SPDX-License-Identifier: Apache-2.0 */
/* fetch_sockets: see fetch_sockets_internal.h. A socket is in one of three situations: known to libcurl (in by_fd), let go of
 * with its poll still alive (referred to by the poll alone), or let go of without one (in `unpolled`, closed by the next sweep).
 */
#include "net/fetch_sockets_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "runtime/assert.h"

struct fetch_socket {
    struct ring_op poll;
    struct fetch_sockets *sockets;
    struct fetch_socket *next; /* sockets->unpolled */
    void *owner;
    int fd;                 /* ours: polled and closed */
    int curl_fd;            /* libcurl's: another one when ours is a duplicate */
    uint32_t events;        /* wanted */
    uint32_t polled_events; /* of the poll that is alive */
    bool is_released;       /* libcurl has let go of it */
};

void fetch_sockets_init(struct fetch_sockets *sockets, struct ring *ring, const struct fetch_sockets_handler *handler)
{
    *sockets = (struct fetch_sockets){.ring = ring, .handler = *handler};
}

void fetch_sockets_deinit(struct fetch_sockets *sockets)
{
    ASSERT(sockets->count == 0);
    free(sockets->by_fd);
    *sockets = (struct fetch_sockets){0};
}

static struct fetch_socket *find(const struct fetch_sockets *sockets, int fd)
{
    return fd >= 0 && (uint32_t)fd < sockets->fd_limit ? sockets->by_fd[fd] : NULL;
}

/* Descriptors are small and dense: a plain table, doubled when one is beyond it, is all the index that is needed. */
static bool reserve_fd(struct fetch_sockets *sockets, int fd)
{
    uint32_t limit = sockets->fd_limit ? sockets->fd_limit : 64;
    while (limit <= (uint32_t)fd)
        limit *= 2;
    if (limit == sockets->fd_limit)
        return true;
    struct fetch_socket **table = realloc(sockets->by_fd, limit * sizeof(struct fetch_socket *));
    if (!table)
        return false;
    for (uint32_t i = sockets->fd_limit; i < limit; i++)
        table[i] = NULL;
    sockets->by_fd = table;
    sockets->fd_limit = limit;
    return true;
}

static void on_poll(struct ring_op *op, const struct ring_completion *completion);

static void release(struct fetch_socket *socket)
{
    ASSERT(!socket->is_released);
    socket->is_released = true;
    socket->events = 0;
    if (ring_op_is_active(&socket->poll)) {
        ring_cancel(socket->sockets->ring, &socket->poll);
        return;
    }
    socket->next = socket->sockets->unpolled;
    socket->sockets->unpolled = socket;
}

/* `fd` is ours; libcurl calls it `curl_fd`. Returns: NULL for want of memory; the caller keeps `fd` then. */
static struct fetch_socket *add(struct fetch_sockets *sockets, int fd, int curl_fd)
{
    struct fetch_socket *socket = calloc(1, sizeof *socket);
    if (!socket || !reserve_fd(sockets, curl_fd)) {
        free(socket);
        return NULL;
    }
    struct fetch_socket *former = sockets->by_fd[curl_fd];
    if (former) { /* libcurl closed one of its own without saying so, and the number came back */
        ASSERT(former->fd != former->curl_fd);
        release(former);
    }
    socket->poll.on_complete = on_poll;
    socket->sockets = sockets;
    socket->fd = fd;
    socket->curl_fd = curl_fd;
    sockets->by_fd[curl_fd] = socket;
    sockets->count++;
    return socket;
}

int fetch_sockets_open(struct fetch_sockets *sockets, int family, int type, int protocol)
{
    int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
    if (fd < 0)
        return -1;
    if (add(sockets, fd, fd))
        return fd;
    ring_close(fd);
    return -1;
}

static void close_now(struct fetch_socket *socket)
{
    struct fetch_sockets *sockets = socket->sockets;
    ASSERT(!ring_op_is_active(&socket->poll));
    ASSERT(!sockets->is_held);
    if (sockets->by_fd[socket->curl_fd] == socket)
        sockets->by_fd[socket->curl_fd] = NULL;
    ring_close(socket->fd);
    sockets->count--;
    void *owner = socket->owner;
    free(socket);
    if (owner)
        sockets->handler.on_closed(sockets->handler.context, owner);
}

void fetch_sockets_close(struct fetch_sockets *sockets, int fd, void *owner)
{
    struct fetch_socket *socket = find(sockets, fd);
    ASSERT(socket && socket->fd == fd);
    socket->owner = owner;
    release(socket);
}

void fetch_sockets_sweep(struct fetch_sockets *sockets)
{
    ASSERT(!sockets->is_held);
    while (sockets->unpolled) {
        struct fetch_socket *socket = sockets->unpolled;
        sockets->unpolled = socket->next;
        close_now(socket);
    }
}

/* Brings the poll in line with the wish. */
static void arm(struct fetch_socket *socket)
{
    if (ring_op_is_active(&socket->poll)) {
        if (socket->polled_events != socket->events)
            ring_cancel(socket->sockets->ring, &socket->poll); /* armed anew when it has ended */
    } else if (socket->events != 0) {
        socket->polled_events = socket->events;
        ring_start_poll(socket->sockets->ring, &socket->poll, socket->fd, socket->events);
    }
}

static struct fetch_socket *add_duplicate(struct fetch_sockets *sockets, int curl_fd)
{
    int fd = fcntl(curl_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return NULL;
    struct fetch_socket *socket = add(sockets, fd, curl_fd);
    if (!socket)
        ring_close(fd);
    return socket;
}

void fetch_sockets_watch(struct fetch_sockets *sockets, int fd, uint32_t events)
{
    struct fetch_socket *socket = find(sockets, fd);
    if (!socket && events != 0)
        socket = add_duplicate(sockets, fd);
    if (!socket || socket->is_released) /* released: the farewell of a socket that was closed in this very run */
        return;
    socket->events = events;
    if (events == 0 && socket->fd != fd) {
        sockets->by_fd[fd] = NULL; /* libcurl closes its own at once, and the number may come back at once */
        release(socket);
    } else {
        arm(socket);
    }
}

static void on_poll(struct ring_op *op, const struct ring_completion *completion)
{
    struct fetch_socket *socket = container_of(op, struct fetch_socket, poll);
    struct fetch_sockets *sockets = socket->sockets;
    if (socket->is_released) {
        close_now(socket);
        sockets->handler.on_handled(sockets->handler.context);
        return;
    }
    bool was_cancelled = completion->result == -ECANCELED; /* for another wish */
    if (!was_cancelled && socket->events != 0) {
        /* A poll that the kernel refused: libcurl is told that something is there and finds the error itself. */
        uint32_t events = completion->result >= 0 ? (uint32_t)completion->result : POLLERR;
        sockets->handler.on_ready(sockets->handler.context, socket->curl_fd, events);
    }
    /* Still here: what libcurl closed in on_ready is closed by the sweep. */
    if (!socket->is_released)
        arm(socket);
    fetch_sockets_sweep(sockets);
    sockets->handler.on_handled(sockets->handler.context);
}
