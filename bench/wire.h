/* SPDX-License-Identifier: Apache-2.0 */
/* wire: many TCP connections on one epoll, for the load generator: bytes out in one send a connection and poll, bytes in as they
 * come, to whoever knows the protocol.
 *
 * Independent of the server under test: it shares no code with its network side. Not a general client: IPv4, no TLS.
 *
 * Life: wire_init; wire_send; wire_poll again and again. A connection that breaks says so once, and is opened again at a later
 * poll.
 */
#ifndef CIRANDA_BENCH_WIRE_H
#define CIRANDA_BENCH_WIRE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/buffer.h"

struct wire_connection {
    int fd; /* -1: to be opened */
    uint32_t index;
    struct buffer in, out; /* in: bytes that the handler could not use yet */
    size_t out_sent;
    uint64_t retry_ns; /* not opened again before */
    bool wants_out, is_dirty, is_connecting;
    struct wire_connection *next_dirty;
};

struct wire_handler {
    void *context;
    /* Returns: bytes used (the rest comes again with more behind it), SIZE_MAX when the connection must not go on. May change
     * the bytes, and may call wire_send. */
    size_t (*on_bytes)(void *context, struct wire_connection *connection, char *bytes, size_t size);
    void (*on_broken)(void *context, struct wire_connection *connection); /* or could not be opened */
};

struct wire {
    int epoll;
    struct sockaddr_in address;
    struct wire_connection *connections;
    uint32_t connection_count;
    struct wire_connection *dirty; /* have something to write */
    struct wire_handler handler;
    uint32_t down_count;   /* connections to be opened again */
    uint64_t broken_count; /* times that one broke or could not be opened */
    char *scratch;
};

/* Exits with a message when the address is none or descriptors are missing. Opens all connections. */
void wire_init(struct wire *wire, const char *address, uint32_t connection_count, const struct wire_handler *handler);
void wire_deinit(struct wire *wire);
/* Copies; leaves at the next poll. Nothing is sent on a connection that is not up. */
void wire_send(struct wire *wire, struct wire_connection *connection, struct slice bytes);
/* Writes what was sent, waits until something comes or `deadline_ns` (CLOCK_MONOTONIC), reads and calls the handler. */
void wire_poll(struct wire *wire, uint64_t deadline_ns);
bool wire_is_connected(const struct wire *wire); /* all of them */
static inline bool wire_is_up(const struct wire_connection *connection)
{
    return connection->fd >= 0 && !connection->is_connecting;
}

uint64_t wire_now_ns(void);

#endif
