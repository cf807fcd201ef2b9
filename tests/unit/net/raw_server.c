/* SPDX-License-Identifier: Apache-2.0 */
/* raw_server: see raw_server.h. */
#include "raw_server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void check(bool condition)
{
    if (!condition)
        abort(); /* the test's own plumbing broke */
}

static void *run(void *argument)
{
    struct raw_server *server = argument;
    for (;;) {
        struct pollfd fds[2] = {{.fd = server->listen_fd, .events = POLLIN},
                                {.fd = server->stop_fds[0], .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 || fds[1].revents)
            return NULL;
        int fd = accept(server->listen_fd, NULL, NULL);
        if (fd < 0)
            continue;
        atomic_fetch_add(&server->accepted, 1);
        server->serve(server, fd);
        close(fd);
    }
}

void raw_server_start(struct raw_server *server, void (*serve)(struct raw_server *server, int fd), void *context)
{
    memset(server, 0, sizeof *server);
    server->serve = serve;
    server->context = context;
    server->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    check(server->listen_fd >= 0 && bind(server->listen_fd, (struct sockaddr *)&address, sizeof address) == 0);
    check(listen(server->listen_fd, 1024) == 0);
    socklen_t size = sizeof address;
    check(getsockname(server->listen_fd, (struct sockaddr *)&address, &size) == 0);
    server->port = ntohs(address.sin_port);
    check(pipe(server->stop_fds) == 0);
    check(pthread_create(&server->thread, NULL, run, server) == 0);
}

void raw_server_stop(struct raw_server *server)
{
    check(write(server->stop_fds[1], "x", 1) == 1);
    check(pthread_join(server->thread, NULL) == 0);
    close(server->listen_fd);
    close(server->stop_fds[0]);
    close(server->stop_fds[1]);
}

static bool wait_readable(int fd, int wait_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, wait_ms) == 1;
}

bool raw_server_read_request(struct raw_server *server, int fd)
{
    size_t used = 0, total = 0;
    while (total == 0 || used < total) {
        if (used == sizeof server->request - 1 || !wait_readable(fd, RAW_SERVER_WAIT_MS))
            return false;
        ssize_t got = recv(fd, server->request + used, sizeof server->request - 1 - used, 0);
        if (got <= 0)
            return false;
        used += (size_t)got;
        server->request[used] = '\0';
        const char *end = strstr(server->request, "\r\n\r\n");
        if (end) {
            const char *length = strcasestr(server->request, "\r\ncontent-length:");
            size_t body = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
            total = (size_t)(end - server->request) + 4 + body;
        }
    }
    atomic_fetch_add(&server->requests, 1);
    return true;
}

void raw_server_write(int fd, const char *text)
{
    for (size_t left = strlen(text); left > 0;) {
        ssize_t sent = send(fd, text, left, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* the client has gone: its own check */
        text += sent;
        left -= (size_t)sent;
    }
}

bool raw_server_peer_closed(int fd, int wait_ms)
{
    char byte;
    return wait_readable(fd, wait_ms) && recv(fd, &byte, 1, 0) <= 0;
}

bool raw_server_wait_eof(struct raw_server *server, int fd)
{
    bool is_closed = raw_server_peer_closed(fd, RAW_SERVER_WAIT_MS);
    if (is_closed)
        atomic_fetch_add(&server->seen_eof, 1);
    return is_closed;
}
