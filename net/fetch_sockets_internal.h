/* SPDX-License-Identifier: Apache-2.0 */
/* fetch_sockets: the descriptors that libcurl works with, polled on the ring. Only for fetch_curl.c.
 *
 * libcurl says which events it wants of a descriptor and is told when they are there. It wants level-triggered readiness, so
 * each is a one-shot poll, armed again while the wish lasts.
 *
 * Who closes: a connected socket is closed by us (CURLOPT_CLOSESOCKETFUNCTION). A socket that is still connecting, and the
 * pipe of the resolver thread, libcurl closes behind our back (7.88, cf_socket_close), so these are polled through a
 * duplicate, which is given up when the connection stands.
 *
 * Invariants
 *  K1  A poll is alive only on a number that we close, and we close it only after the poll has ended: no number is ever
 *      used again under a live poll.
 *  K2  No connected socket is closed while libcurl runs (is_held): what it says about a number always means the same socket.
 *  K3  on_ready and on_handled come from the ring only, on_closed from there or from fetch_sockets_sweep.
 */
#ifndef CIRANDA_NET_FETCH_SOCKETS_INTERNAL_H
#define CIRANDA_NET_FETCH_SOCKETS_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/ring.h"

struct fetch_socket;

struct fetch_sockets_handler {
    void *context;
    /* `events` (POLLIN, ...) are there: runs libcurl, and nothing else. `user`: as given to fetch_sockets_watch. */
    void (*on_ready)(void *context, void *user, int fd, uint32_t events);
    /* libcurl has let go of a socket while it ran for `owner`; and it is closed. */
    void (*on_released)(void *context, void *owner);
    void (*on_closed)(void *context, void *owner);
    /* Everything is consistent again after a poll: the place for what libcurl has finished. */
    void (*on_handled)(void *context);
};

/* Embed it. Fields are private but is_held, owner and count. */
struct fetch_sockets {
    struct ring *ring;
    struct fetch_sockets_handler handler;
    struct fetch_socket **by_fd;   /* as libcurl numbers them */
    uint32_t fd_limit;             /* entries of by_fd */
    uint32_t count;                /* not closed yet */
    struct fetch_socket *unpolled; /* let go of, without a poll: closed by the next sweep */
    bool is_held;                  /* libcurl runs */
    void *owner;                   /* for whom; NULL: nobody who waits for closed sockets */
};

void fetch_sockets_init(struct fetch_sockets *sockets, struct ring *ring, const struct fetch_sockets_handler *handler);
/* All sockets must be closed (count 0). Accepts zeroed. */
void fetch_sockets_deinit(struct fetch_sockets *sockets);

/* Returns: a descriptor, -1 when there is none to be had. */
int fetch_sockets_open(struct fetch_sockets *sockets, int family, int type, int protocol);
/* Owns: takes `fd`. */
void fetch_sockets_close(struct fetch_sockets *sockets, int fd);
/* `events`: POLLIN, POLLOUT, 0 for none. `is_connected`: a socket whose connection stands. When a duplicate is needed and
 * there is no descriptor or memory for it, nothing is watched, and the deadline of the fetch ends it: a refusal here would
 * make libcurl give up all its transfers. */
void fetch_sockets_watch(struct fetch_sockets *sockets, int fd, uint32_t events, bool is_connected, void *user);
/* Closes what libcurl has let go of. Call it whenever libcurl has returned. */
void fetch_sockets_sweep(struct fetch_sockets *sockets);

#endif
