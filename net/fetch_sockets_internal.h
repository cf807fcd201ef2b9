/* SPDX-License-Identifier: Apache-2.0 */
/* fetch_sockets: the descriptors that libcurl works with, polled on the ring. Only for fetch_curl.c.
 *
 * libcurl says which events it wants of a descriptor and is told when they are there. It wants level-triggered readiness, so
 * each is a one-shot poll, armed again while the wish lasts. Opening and closing are ours (CURLOPT_OPENSOCKETFUNCTION,
 * CURLOPT_CLOSESOCKETFUNCTION). Descriptors that libcurl opens for itself (the pipe of its resolver thread) are polled
 * through a duplicate.
 *
 * Invariants
 *  K1  A descriptor is closed only after the poll on it has ended, so that its number is never used again under a live poll.
 *  K2  Nothing is closed while libcurl runs (is_held): what it says about a number always means the same socket.
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
    /* `events` (POLLIN, ...) are there: runs libcurl, and nothing else. */
    void (*on_ready)(void *context, int fd, uint32_t events);
    /* A socket that was closed for `owner` is closed now. */
    void (*on_closed)(void *context, void *owner);
    /* Everything is consistent again after a poll: the place for what libcurl has finished. */
    void (*on_handled)(void *context);
};

/* Embed it. Fields are private but is_held and count. */
struct fetch_sockets {
    struct ring *ring;
    struct fetch_sockets_handler handler;
    struct fetch_socket **by_fd;   /* as libcurl numbers them */
    uint32_t fd_limit;             /* entries of by_fd */
    uint32_t count;                /* not closed yet */
    struct fetch_socket *unpolled; /* to be closed, without a poll */
    bool is_held;                  /* libcurl runs */
};

void fetch_sockets_init(struct fetch_sockets *sockets, struct ring *ring, const struct fetch_sockets_handler *handler);
/* All sockets must be closed (count 0). Accepts zeroed. */
void fetch_sockets_deinit(struct fetch_sockets *sockets);

/* Returns: a descriptor, -1 when there is none to be had. */
int fetch_sockets_open(struct fetch_sockets *sockets, int family, int type, int protocol);
/* Owns: takes `fd`. on_closed follows once it is closed; `owner` may be NULL, and nobody is told then. */
void fetch_sockets_close(struct fetch_sockets *sockets, int fd, void *owner);
/* `events`: POLLIN, POLLOUT, 0 for none. When a duplicate is wanted and there is no descriptor or memory for it, nothing is
 * watched, and the deadline of the fetch ends it: a refusal here would make libcurl give up all its transfers. */
void fetch_sockets_watch(struct fetch_sockets *sockets, int fd, uint32_t events);
/* Closes what libcurl has let go of. Call it whenever libcurl has returned. */
void fetch_sockets_sweep(struct fetch_sockets *sockets);

#endif
