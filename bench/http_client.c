/* SPDX-License-Identifier: Apache-2.0 */
/* http_client: see http_client.h. Writes are gathered and leave at the next poll, one system call a connection; an answer is
 * looked at again from its beginning whenever bytes came, until it is whole, which is cheap since answers are small.
 */
#include "bench/http_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
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

uint64_t http_client_now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* ---- connections -------------------------------------------------------------------------------------------------------- */

static void set_interest(struct http_client *client, struct http_connection *connection, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | (connection->wants_out ? EPOLLOUT : 0), .data.ptr = connection};
    if (epoll_ctl(client->epoll, operation, connection->fd, &event) != 0)
        die("epoll_ctl");
}

static void open_connection(struct http_client *client, struct http_connection *connection)
{
    int one = 1;
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        die("socket (see ulimit -n)");
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(connection->fd, (struct sockaddr *)&client->address, sizeof client->address) != 0 && errno != EINPROGRESS)
        die("connect");
    connection->is_connecting = true;
    connection->wants_out = true;
    set_interest(client, connection, EPOLL_CTL_ADD);
}

static void break_connection(struct http_client *client, struct http_connection *connection)
{
    close(connection->fd);
    connection->fd = -1;
    connection->retry_ns = http_client_now_ns() + retry_delay_ns;
    client->down_count++;
    client->broken_count += connection->in_flight > 0 || connection->is_connecting;
    connection->is_connecting = false;
    buffer_clear(&connection->in);
    buffer_clear(&connection->out);
    connection->out_sent = 0;
    while (connection->in_flight > 0) {
        uint32_t tag = connection->tags[connection->tag_first];
        connection->tag_first = (connection->tag_first + 1) % HTTP_CLIENT_IN_FLIGHT_MAX;
        connection->in_flight--;
        client->handler.on_lost(client->handler.context, connection, tag);
    }
}

void http_client_init(struct http_client *client, const char *address, uint32_t connection_count,
                      const struct http_client_handler *handler)
{
    *client = (struct http_client){.handler = *handler, .connection_count = connection_count};
    char host[64];
    const char *colon = strrchr(address, ':');
    if (!colon || (size_t)(colon - address) >= sizeof host)
        die("address must be IPv4:PORT");
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    client->address.sin_family = AF_INET;
    client->address.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    if (inet_pton(AF_INET, host, &client->address.sin_addr) != 1)
        die("address must be IPv4:PORT");
    client->epoll = epoll_create1(EPOLL_CLOEXEC);
    client->connections = calloc(connection_count, sizeof *client->connections);
    client->scratch = malloc(READ_BYTES);
    if (client->epoll < 0 || !client->connections || !client->scratch)
        die("client");
    for (uint32_t i = 0; i < connection_count; i++) {
        struct http_connection *connection = &client->connections[i];
        connection->index = i;
        buffer_init(&connection->in, BUFFER_BYTES_MAX);
        buffer_init(&connection->out, BUFFER_BYTES_MAX);
        open_connection(client, connection);
    }
}

void http_client_deinit(struct http_client *client)
{
    for (uint32_t i = 0; i < client->connection_count; i++) {
        struct http_connection *connection = &client->connections[i];
        if (connection->fd >= 0)
            close(connection->fd);
        buffer_deinit(&connection->in);
        buffer_deinit(&connection->out);
    }
    free(client->connections);
    free(client->scratch);
    close(client->epoll);
}

bool http_client_is_connected(const struct http_client *client)
{
    for (uint32_t i = 0; i < client->connection_count; i++) {
        if (client->connections[i].fd < 0 || client->connections[i].is_connecting)
            return false;
    }
    return true;
}

/* ---- writing ------------------------------------------------------------------------------------------------------------ */

bool http_client_send(struct http_client *client, struct http_connection *connection, struct slice request, uint32_t tag)
{
    if (connection->fd < 0 || connection->in_flight == HTTP_CLIENT_IN_FLIGHT_MAX)
        return false;
    buffer_append_slice(&connection->out, request);
    if (connection->out.is_overflow)
        die("a connection that does not take what is sent");
    uint32_t last = (connection->tag_first + connection->in_flight++) % HTTP_CLIENT_IN_FLIGHT_MAX;
    connection->tags[last] = tag;
    if (!connection->is_dirty) {
        connection->is_dirty = true;
        connection->next_dirty = client->dirty;
        client->dirty = connection;
    }
    return true;
}

static void flush(struct http_client *client, struct http_connection *connection)
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
            break_connection(client, connection);
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
        set_interest(client, connection, EPOLL_CTL_MOD);
    }
}

static void flush_dirty(struct http_client *client)
{
    for (struct http_connection *connection; (connection = client->dirty);) {
        client->dirty = connection->next_dirty;
        connection->is_dirty = false;
        if (connection->fd >= 0)
            flush(client, connection);
    }
}

/* ---- reading ------------------------------------------------------------------------------------------------------------ */

struct head {
    int status;
    size_t size, body_size;
    bool is_chunked, is_close;
};

static bool header_is(struct slice line, const char *name)
{
    size_t size = strlen(name);
    return line.size > size && strncasecmp(line.data, name, size) == 0;
}

/* Returns: false when it is not whole yet. A head that is no HTTP has status 0. */
static bool read_head(struct slice bytes, struct head *ret_head)
{
    const char *end = bytes.size > 0 ? memmem(bytes.data, bytes.size, "\r\n\r\n", 4) : NULL;
    if (!end)
        return false;
    *ret_head = (struct head){.size = (size_t)(end - bytes.data) + 4};
    if (ret_head->size < 13 || memcmp(bytes.data, "HTTP/1.1 ", 9) != 0)
        return true;
    ret_head->status = (int)strtol(bytes.data + 9, NULL, 10);
    const char *line = memchr(bytes.data, '\n', ret_head->size);
    for (line++; line < end;) {
        const char *line_end = memchr(line, '\r', (size_t)(end + 2 - line));
        struct slice header = slice_of(line, (size_t)(line_end - line));
        if (header_is(header, "content-length:"))
            ret_head->body_size = strtoul(line + 15, NULL, 10);
        else if (header_is(header, "transfer-encoding:"))
            ret_head->is_chunked = true;
        else if (header_is(header, "connection: close"))
            ret_head->is_close = true;
        line = line_end + 2;
    }
    return true;
}

/* Moves the chunks' data together to the front of `bytes`. Returns: bytes taken, 0 when it is not whole yet (then nothing was
 * moved), SIZE_MAX when it is no chunked body. */
static size_t read_chunks(char *bytes, size_t size, bool is_moving, size_t *ret_body_size)
{
    size_t position = 0, body_size = 0;
    for (;;) {
        const char *line_end = size > position ? memmem(bytes + position, size - position, "\r\n", 2) : NULL;
        if (!line_end)
            return 0;
        char *digits_end;
        size_t chunk = strtoul(bytes + position, &digits_end, 16);
        if (digits_end == bytes + position)
            return SIZE_MAX;
        position = (size_t)(line_end - bytes) + 2;
        if (chunk > size || size - position < chunk + 2)
            return 0;
        if (is_moving)
            memmove(bytes + body_size, bytes + position, chunk);
        body_size += chunk;
        position += chunk + 2;
        if (chunk == 0) {
            *ret_body_size = body_size;
            return position;
        }
    }
}

/* Returns: bytes of the first whole answer, which it has handed over; 0 when there is none; SIZE_MAX when it is none. */
static size_t take_answer(struct http_client *client, struct http_connection *connection, char *bytes, size_t size,
                          bool *ret_is_close)
{
    struct head head;
    if (!read_head(slice_of(bytes, size), &head))
        return size > 65536 ? SIZE_MAX : 0;
    if (head.status == 0 || connection->in_flight == 0)
        return SIZE_MAX; /* an answer that nobody asked for is as wrong as none */
    char *body = bytes + head.size;
    size_t taken = head.body_size, body_size = head.body_size;
    if (head.is_chunked) {
        taken = read_chunks(body, size - head.size, false, &body_size);
        if (taken == 0 || taken == SIZE_MAX)
            return taken;
        (void)read_chunks(body, size - head.size, true, &body_size);
    } else if (size - head.size < head.body_size) {
        return 0;
    }
    uint32_t tag = connection->tags[connection->tag_first];
    connection->tag_first = (connection->tag_first + 1) % HTTP_CLIENT_IN_FLIGHT_MAX;
    connection->in_flight--;
    *ret_is_close = head.is_close;
    client->handler.on_answer(client->handler.context, connection, tag, head.status, slice_of(body, body_size));
    return head.size + taken;
}

/* Returns: bytes used; SIZE_MAX when the connection must not go on. */
static size_t take_answers(struct http_client *client, struct http_connection *connection, char *bytes, size_t size)
{
    size_t used = 0;
    while (used < size) {
        bool is_close = false;
        size_t taken = take_answer(client, connection, bytes + used, size - used, &is_close);
        if (taken == SIZE_MAX || is_close)
            return SIZE_MAX;
        if (taken == 0)
            break;
        used += taken;
    }
    return used;
}

/* Read into one buffer for all: only an answer that is not whole is kept with its connection. */
static bool take_bytes(struct http_client *client, struct http_connection *connection, size_t size)
{
    struct buffer *in = &connection->in;
    if (in->size > 0) {
        buffer_append(in, client->scratch, size);
        size_t used = take_answers(client, connection, in->data, in->size);
        if (used != SIZE_MAX)
            buffer_remove_front(in, used);
        return used != SIZE_MAX && !in->is_overflow;
    }
    size_t used = take_answers(client, connection, client->scratch, size);
    if (used != SIZE_MAX && used < size)
        buffer_append(in, client->scratch + used, size - used);
    return used != SIZE_MAX && !in->is_overflow;
}

static void read_connection(struct http_client *client, struct http_connection *connection)
{
    for (;;) {
        ssize_t got = recv(connection->fd, client->scratch, READ_BYTES, 0);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0 || !take_bytes(client, connection, (size_t)got)) {
            break_connection(client, connection);
            return;
        }
        if (got < READ_BYTES)
            return;
    }
}

static void finish_connect(struct http_client *client, struct http_connection *connection)
{
    int code = 0;
    socklen_t size = sizeof code;
    getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &code, &size);
    if (code != 0) {
        break_connection(client, connection);
        return;
    }
    connection->is_connecting = false;
    flush(client, connection);
}

static void reopen_broken(struct http_client *client, uint64_t now_ns)
{
    for (uint32_t i = 0; i < client->connection_count; i++) {
        struct http_connection *connection = &client->connections[i];
        if (connection->fd < 0 && now_ns >= connection->retry_ns) {
            client->down_count--;
            open_connection(client, connection);
        }
    }
}

void http_client_poll(struct http_client *client, uint64_t deadline_ns)
{
    flush_dirty(client);
    uint64_t now_ns = http_client_now_ns();
    uint64_t wait_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    struct timespec timeout = {.tv_sec = (time_t)(wait_ns / 1000000000), .tv_nsec = (long)(wait_ns % 1000000000)};
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_pwait2(client->epoll, events, EVENTS_MAX, &timeout, NULL);
    for (int i = 0; i < count; i++) {
        struct http_connection *connection = events[i].data.ptr;
        if (connection->fd >= 0 && connection->is_connecting && events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
            finish_connect(client, connection);
        else if (connection->fd >= 0 && events[i].events & EPOLLOUT)
            flush(client, connection);
        if (connection->fd >= 0 && !connection->is_connecting && events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
            read_connection(client, connection);
    }
    if (client->down_count > 0)
        reopen_broken(client, http_client_now_ns());
}
