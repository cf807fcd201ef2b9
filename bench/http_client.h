/* SPDX-License-Identifier: Apache-2.0 */
/* http_client: keep-alive HTTP/1.1 connections on one epoll, for the load generator: requests are written as the bytes they
 * are, answers come back in their order with the tags of their requests.
 *
 * Independent of the server under test: it shares no code with it. Not a general client: no TLS, no redirects, trailers are
 * skipped, a head has at most 64 KiB.
 *
 * Life: http_client_init; http_client_send; http_client_poll again and again. A connection that breaks tells the tags that had
 * no answer, and is opened again at the next poll.
 */
#ifndef CIRANDA_BENCH_HTTP_CLIENT_H
#define CIRANDA_BENCH_HTTP_CLIENT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/buffer.h"
#include "runtime/slice.h"

enum { HTTP_CLIENT_IN_FLIGHT_MAX = 32 };

struct http_connection {
    int fd; /* -1: to be opened */
    uint32_t index;
    struct buffer in, out; /* in: an answer that is not whole yet */
    size_t out_sent;
    uint32_t tags[HTTP_CLIENT_IN_FLIGHT_MAX]; /* a ring: requests without an answer */
    uint32_t tag_first, in_flight;
    uint64_t retry_ns; /* not opened again before */
    bool wants_out, is_dirty, is_connecting;
    struct http_connection *next_dirty;
};

struct http_client_handler {
    void *context;
    void (*on_answer)(void *context, struct http_connection *connection, uint32_t tag, int status, struct slice body);
    /* The connection broke before the answer came. */
    void (*on_lost)(void *context, struct http_connection *connection, uint32_t tag);
};

struct http_client {
    int epoll;
    struct sockaddr_in address;
    struct http_connection *connections;
    uint32_t connection_count;
    struct http_connection *dirty; /* have something to write */
    struct http_client_handler handler;
    uint32_t down_count;   /* connections to be opened again */
    uint64_t broken_count; /* times that one broke with requests open, or could not be opened */
    char *scratch;
};

/* Exits with a message when the address is none or descriptors are missing. Opens all connections. */
void http_client_init(struct http_client *client, const char *address, uint32_t connection_count,
                      const struct http_client_handler *handler);
void http_client_deinit(struct http_client *client);
/* Returns: false when the connection is down or has HTTP_CLIENT_IN_FLIGHT_MAX requests open. Copies. */
bool http_client_send(struct http_client *client, struct http_connection *connection, struct slice request, uint32_t tag);
/* Writes what was sent, waits until something comes or `deadline_ns` (CLOCK_MONOTONIC), reads and calls the handler. */
void http_client_poll(struct http_client *client, uint64_t deadline_ns);
bool http_client_is_connected(const struct http_client *client); /* all of them */

uint64_t http_client_now_ns(void);

#endif
