/* SPDX-License-Identifier: Apache-2.0 */
/* wire: see wire.h. Writes are gathered and leave at the next poll, one system call a connection; reads go into one buffer for
 * all, and what is not a whole answer yet is kept with its connection and looked at again with more behind it.
 */
#include "bench/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_MAX = 512, READ_BYTES = 64 << 10, BUFFER_BYTES_MAX = 64 << 20 };

static const uint64_t retry_delay_ns = 50000000;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(2);
}

uint64_t wire_now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* ---- connections -------------------------------------------------------------------------------------------------------- */

static void set_interest(struct wire *wire, struct wire_connection *connection, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | (connection->wants_out ? EPOLLOUT : 0), .data.ptr = connection};
    if (epoll_ctl(wire->epoll, operation, connection->fd, &event) != 0)
        die("epoll_ctl");
}

static void open_connection(struct wire *wire, struct wire_connection *connection)
{
    int one = 1;
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        die("socket (see ulimit -n)");
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(connection->fd, (struct sockaddr *)&wire->address, sizeof wire->address) != 0 && errno != EINPROGRESS)
        die("connect");
    connection->is_connecting = true;
    connection->wants_out = true;
    set_interest(wire, connection, EPOLL_CTL_ADD);
}

static void break_connection(struct wire *wire, struct wire_connection *connection)
{
    close(connection->fd);
    connection->fd = -1;
    connection->retry_ns = wire_now_ns() + retry_delay_ns;
    wire->down_count++;
    wire->broken_count++;
    connection->is_connecting = false;
    buffer_clear(&connection->in);
    buffer_clear(&connection->out);
    connection->out_sent = 0;
    wire->handler.on_broken(wire->handler.context, connection);
}

void wire_init(struct wire *wire, const char *address, uint32_t connection_count, const struct wire_handler *handler)
{
    *wire = (struct wire){.handler = *handler, .connection_count = connection_count};
    char host[64];
    const char *colon = strrchr(address, ':');
    if (!colon || (size_t)(colon - address) >= sizeof host)
        die("address must be IPv4:PORT");
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    wire->address.sin_family = AF_INET;
    wire->address.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    if (inet_pton(AF_INET, host, &wire->address.sin_addr) != 1)
        die("address must be IPv4:PORT");
    wire->epoll = epoll_create1(EPOLL_CLOEXEC);
    wire->connections = calloc(connection_count, sizeof *wire->connections);
    wire->scratch = malloc(READ_BYTES);
    if (wire->epoll < 0 || !wire->connections || !wire->scratch)
        die("connections");
    for (uint32_t i = 0; i < connection_count; i++) {
        struct wire_connection *connection = &wire->connections[i];
        connection->index = i;
        buffer_init(&connection->in, BUFFER_BYTES_MAX);
        buffer_init(&connection->out, BUFFER_BYTES_MAX);
        open_connection(wire, connection);
    }
}

void wire_deinit(struct wire *wire)
{
    for (uint32_t i = 0; i < wire->connection_count; i++) {
        struct wire_connection *connection = &wire->connections[i];
        if (connection->fd >= 0)
            close(connection->fd);
        buffer_deinit(&connection->in);
        buffer_deinit(&connection->out);
    }
    free(wire->connections);
    free(wire->scratch);
    close(wire->epoll);
}

bool wire_is_connected(const struct wire *wire)
{
    for (uint32_t i = 0; i < wire->connection_count; i++) {
        if (!wire_is_up(&wire->connections[i]))
            return false;
    }
    return true;
}

/* ---- writing ------------------------------------------------------------------------------------------------------------ */

void wire_send(struct wire *wire, struct wire_connection *connection, struct slice bytes)
{
    buffer_append_slice(&connection->out, bytes);
    if (connection->out.is_overflow)
        die("a connection that does not take what is sent");
    if (!connection->is_dirty) {
        connection->is_dirty = true;
        connection->next_dirty = wire->dirty;
        wire->dirty = connection;
    }
}

static void flush(struct wire *wire, struct wire_connection *connection)
{
    bool wants_out = connection->is_connecting;
    while (!connection->is_connecting && connection->out_sent < connection->out.size) {
        ssize_t sent = send(connection->fd, connection->out.data + connection->out_sent,
                            connection->out.size - connection->out_sent, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            wants_out = true;
            break;
        }
        if (sent < 0) {
            break_connection(wire, connection);
            return;
        }
        connection->out_sent += (size_t)sent;
    }
    if (connection->out_sent == connection->out.size) {
        buffer_clear(&connection->out);
        connection->out_sent = 0;
    }
    if (wants_out != connection->wants_out) {
        connection->wants_out = wants_out;
        set_interest(wire, connection, EPOLL_CTL_MOD);
    }
}

static void flush_dirty(struct wire *wire)
{
    for (struct wire_connection *connection; (connection = wire->dirty);) {
        wire->dirty = connection->next_dirty;
        connection->is_dirty = false;
        if (connection->fd >= 0)
            flush(wire, connection);
    }
}

/* ---- reading ------------------------------------------------------------------------------------------------------------ */

static bool take_bytes(struct wire *wire, struct wire_connection *connection, size_t size)
{
    struct buffer *in = &connection->in;
    void *context = wire->handler.context;
    if (in->size > 0) {
        buffer_append(in, wire->scratch, size);
        size_t used = in->is_overflow ? SIZE_MAX : wire->handler.on_bytes(context, connection, in->data, in->size);
        if (used != SIZE_MAX)
            buffer_remove_front(in, used);
        return used != SIZE_MAX;
    }
    size_t used = wire->handler.on_bytes(context, connection, wire->scratch, size);
    if (used != SIZE_MAX && used < size)
        buffer_append(in, wire->scratch + used, size - used);
    return used != SIZE_MAX && !in->is_overflow;
}

static void read_connection(struct wire *wire, struct wire_connection *connection)
{
    for (;;) {
        ssize_t got = recv(connection->fd, wire->scratch, READ_BYTES, 0);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0 || !take_bytes(wire, connection, (size_t)got)) {
            break_connection(wire, connection);
            return;
        }
        if (got < READ_BYTES)
            return;
    }
}

static void finish_connect(struct wire *wire, struct wire_connection *connection)
{
    int code = 0;
    socklen_t size = sizeof code;
    getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &code, &size);
    if (code != 0) {
        break_connection(wire, connection);
        return;
    }
    connection->is_connecting = false;
    flush(wire, connection);
}

static void reopen_broken(struct wire *wire, uint64_t now_ns)
{
    for (uint32_t i = 0; i < wire->connection_count; i++) {
        struct wire_connection *connection = &wire->connections[i];
        if (connection->fd < 0 && now_ns >= connection->retry_ns) {
            wire->down_count--;
            open_connection(wire, connection);
        }
    }
}

void wire_poll(struct wire *wire, uint64_t deadline_ns)
{
    flush_dirty(wire);
    uint64_t now_ns = wire_now_ns();
    uint64_t wait_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    struct timespec timeout = {.tv_sec = (time_t)(wait_ns / 1000000000), .tv_nsec = (long)(wait_ns % 1000000000)};
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_pwait2(wire->epoll, events, EVENTS_MAX, &timeout, NULL);
    for (int i = 0; i < count; i++) {
        struct wire_connection *connection = events[i].data.ptr;
        if (connection->fd >= 0 && connection->is_connecting && events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
            finish_connect(wire, connection);
        else if (connection->fd >= 0 && events[i].events & EPOLLOUT)
            flush(wire, connection);
        if (wire_is_up(connection) && events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
            read_connection(wire, connection);
    }
    if (wire->down_count > 0)
        reopen_broken(wire, wire_now_ns());
}
