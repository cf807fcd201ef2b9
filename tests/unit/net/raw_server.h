/* SPDX-License-Identifier: Apache-2.0 */
/* raw_server: a TCP server of one thread that plays a script of raw bytes, one connection after the other. For tests of
 * clients: what it does with a connection is a function of the test. Every wait in it is bounded.
 */
#ifndef CIRANDA_TESTS_RAW_SERVER_H
#define CIRANDA_TESTS_RAW_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum { RAW_SERVER_WAIT_MS = 10000, RAW_SERVER_REQUEST_MAX = 64 << 10 };

struct raw_server {
    /* Serves one connection; the server closes it when it returns. */
    void (*serve)(struct raw_server *server, int fd);
    void *context;
    int listen_fd, stop_fds[2], port;
    pthread_t thread;
    atomic_int accepted, requests, seen_eof;
    char request[RAW_SERVER_REQUEST_MAX]; /* the last one: read it after the client has its answer */
};

void raw_server_start(struct raw_server *server, void (*serve)(struct raw_server *server, int fd), void *context);
void raw_server_stop(struct raw_server *server);

/* Reads one request, body by Content-Length included. Returns: false when the peer closed or nothing came in time. */
bool raw_server_read_request(struct raw_server *server, int fd);
void raw_server_write(int fd, const char *text);
/* Waits until the peer closes, and counts it in seen_eof; false: it did not in time. */
bool raw_server_wait_eof(struct raw_server *server, int fd);
/* Waits `wait_ms` for the peer to close. Returns: whether it did. */
bool raw_server_peer_closed(int fd, int wait_ms);

#endif
