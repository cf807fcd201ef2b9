/* SPDX-License-Identifier: Apache-2.0 */
/* fetch_sockets: see fetch_sockets_internal.h. A socket is in one of three situations: known to libcurl (in by_fd), let go of
 * with its poll still alive (known to the poll alone), or let go of without one (in `unpolled`).
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
    void *user;             /* for on_ready */
    int curl_fd;            /* libcurl's number */
    int poll_fd;            /* the one that is polled: a duplicate or the same */
    uint32_t events;        /* wanted */
    uint32_t polled_events; /* of the poll that is alive */
    bool is_connected;      /* libcurl closes it through us only */
    bool is_ours_to_close;  /* it has done so */
    bool is_released;       /* libcurl has let go of it */
};

static void on_poll(struct ring_op *op, const struct ring_completion *completion);

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

/* ---- the table: descriptors are small and dense, so they are their own index ------------------------------------------- */

static struct fetch_socket *find(const struct fetch_sockets *sockets, int fd)
{
    return fd >= 0 && (uint32_t)fd < sockets->fd_limit ? sockets->by_fd[fd] : NULL;
}

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

/* Returns: NULL for want of memory or descriptors. */
static struct fetch_socket *add(struct fetch_sockets *sockets, int curl_fd, bool is_connected)
{
    struct fetch_socket *socket = calloc(1, sizeof *socket);
    int poll_fd = is_connected ? curl_fd : fcntl(curl_fd, F_DUPFD_CLOEXEC, 0);
    if (!socket || poll_fd < 0 || !reserve_fd(sockets, curl_fd)) {
        if (poll_fd >= 0 && poll_fd != curl_fd)
            ring_close(poll_fd);
        free(socket);
        return NULL;
    }
    *socket = (struct fetch_socket){
        .poll = {.on_complete = on_poll},
        .sockets = sockets,
        .curl_fd = curl_fd,
        .poll_fd = poll_fd,
        .is_connected = is_connected,
    };
    sockets->by_fd[curl_fd] = socket;
    sockets->count++;
    return socket;
}

/* ---- letting go ---------------------------------------------------------------------------------------------------------- */

static void close_now(struct fetch_socket *socket)
{
    struct fetch_sockets *sockets = socket->sockets;
    ASSERT(socket->is_released && !ring_op_is_active(&socket->poll));
    ASSERT(!sockets->is_held);
    if (socket->poll_fd != socket->curl_fd)
        ring_close(socket->poll_fd);
    if (socket->is_ours_to_close) {
        sockets->by_fd[socket->curl_fd] = NULL;
        ring_close(socket->curl_fd);
    }
    void *owner = socket->owner;
    free(socket);
    sockets->count--;
    if (owner)
        sockets->handler.on_closed(sockets->handler.context, owner);
}

static void release(struct fetch_socket *socket)
{
    struct fetch_sockets *sockets = socket->sockets;
    ASSERT(!socket->is_released);
    socket->is_released = true;
    socket->events = 0;
    socket->owner = sockets->owner;
    if (socket->owner)
        sockets->handler.on_released(sockets->handler.context, socket->owner);
    if (!socket->is_ours_to_close)
        sockets->by_fd[socket->curl_fd] = NULL; /* libcurl closes that number itself, and it may come back at once */
    if (ring_op_is_active(&socket->poll)) {
        ring_cancel(sockets->ring, &socket->poll);
        return;
    }
    socket->next = sockets->unpolled;
    sockets->unpolled = socket;
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

/* ---- libcurl's side ------------------------------------------------------------------------------------------------------ */

int fetch_sockets_open(struct fetch_sockets *sockets, int family, int type, int protocol)
{
    int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
    struct fetch_socket *former = find(sockets, fd);
    if (former) { /* closed by libcurl without a word, and the number came back */
        ASSERT(!former->is_connected);
        release(former);
    }
    return fd;
}

void fetch_sockets_close(struct fetch_sockets *sockets, int fd)
{
    struct fetch_socket *socket = find(sockets, fd);
    if (!socket) { /* not watched, or no longer: no poll knows the number */
        ring_close(fd);
        return;
    }
    socket->is_ours_to_close = true;
    release(socket);
}

/* Brings the poll in line with the wish. */
static void arm(struct fetch_socket *socket)
{
    if (ring_op_is_active(&socket->poll)) {
        if (socket->polled_events != socket->events)
            ring_cancel(socket->sockets->ring, &socket->poll); /* armed anew when it has ended */
        return;
    }
    if (socket->is_connected && socket->poll_fd != socket->curl_fd) {
        ring_close(socket->poll_fd);
        socket->poll_fd = socket->curl_fd;
    }
    if (socket->events != 0) {
        socket->polled_events = socket->events;
        ring_start_poll(socket->sockets->ring, &socket->poll, socket->poll_fd, socket->events);
    }
}

void fetch_sockets_watch(struct fetch_sockets *sockets, int fd, uint32_t events, bool is_connected, void *user)
{
    struct fetch_socket *socket = find(sockets, fd);
    if (!socket && events != 0)
        socket = add(sockets, fd, is_connected);
    if (!socket || socket->is_released) /* released: the farewell of a socket that was closed in this very run */
        return;
    socket->user = user;
    socket->events = events;
    socket->is_connected = socket->is_connected || is_connected;
    if (events == 0 && !socket->is_connected)
        release(socket);
    else
        arm(socket);
}

/* ---- the ring's side ----------------------------------------------------------------------------------------------------- */

static void on_poll(struct ring_op *op, const struct ring_completion *completion)
{
    struct fetch_socket *socket = container_of(op, struct fetch_socket, poll);
    struct fetch_sockets *sockets = socket->sockets;
    bool was_cancelled = completion->result == -ECANCELED; /* for another wish */
    if (socket->is_released) {
        close_now(socket);
    } else {
        if (!was_cancelled && socket->events != 0) {
            /* A poll that the kernel refused: libcurl is told that something is there and finds the error itself. */
            uint32_t events = completion->result >= 0 ? (uint32_t)completion->result : POLLERR;
            sockets->handler.on_ready(sockets->handler.context, socket->user, socket->curl_fd, events);
        }
        if (!socket->is_released) /* if it was, it is still here: the sweep closes it */
            arm(socket);
        fetch_sockets_sweep(sockets);
    }
    sockets->handler.on_handled(sockets->handler.context);
}
