/* SPDX-License-Identifier: Apache-2.0 */
/* sim_network: see sim_network.h. A connection is two streams; a stream is a queue of segments, each with the time at which it
 * arrives, so reading is looking at the front and the clock. A reset is a time, too: what arrived before it can still be
 * read, as on Linux.
 *
 * Everything lies in arrays in order of creation and is walked by index: no order depends on an address. Descriptors are
 * given lowest first, as a kernel does, so that a number that is used again soon finds who kept it too long.
 */
#include "runtime/sim_network.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/ring.h"
#include "runtime/ring_address.h"

enum {
    FD_BASE = 1 << 20, /* beyond any real descriptor: a system call on one fails */
    SERVER_PORT_FIRST = 40000,
    CLIENT_PORT_FIRST = 50000,
    SOCKET_BUFFER_BYTES = 65536,
    ADDRESS_BYTES = 64,
};
#define NEVER UINT64_MAX

struct segment {
    struct segment *next;
    uint64_t due_ns;
    size_t size, offset; /* size 0: the sender finished */
    char bytes[];
};

/* One direction. */
struct stream {
    struct segment *first, *last;
    struct segment *future; /* the first that had not arrived when last asked; NULL: none */
    size_t queued_bytes;
    uint64_t last_due_ns; /* segments do not overtake */
    uint64_t reset_ns;    /* the reader learns of a reset then; NEVER */
    bool is_finished;     /* the writer has sent its end */
    bool is_error_told;   /* the reader has seen ECONNRESET; from then on EPIPE and 0 */
    bool is_reader_gone;  /* reads as if the writer had finished */
};

struct sim_client {
    struct stream to_server, to_client;
    uint64_t connect_ns; /* the listener sees it then */
    bool is_closed_by_client, is_closed_by_server;
    char server_address[ADDRESS_BYTES], client_address[ADDRESS_BYTES];
};

enum socket_kind { SOCKET_FREE, SOCKET_LISTENER, SOCKET_CONNECTION, SOCKET_RESERVE };

struct sim_socket {
    enum socket_kind kind;
    struct sim_client *connection;
    char address[ADDRESS_BYTES];
    struct sim_client **pending; /* of a listener, in order of connecting */
    size_t pending_count, pending_capacity;
};

static struct {
    struct sim_socket *sockets; /* by descriptor - FD_BASE */
    size_t socket_count, socket_capacity, open_count;
    struct sim_client **connections;
    size_t connection_count, connection_capacity;
    uint32_t next_server_port, next_client_port;
} network;

static void *grow(void *array, size_t *capacity, size_t count, size_t item_size)
{
    if (count < *capacity)
        return array;
    *capacity = *capacity ? *capacity * 2 : 16;
    array = realloc(array, *capacity * item_size);
    ASSERT(array != NULL);
    return array;
}

/* ---- streams ------------------------------------------------------------------------------------------------------------ */

static uint64_t draw_delay_ns(void)
{
    const struct sim_options *options = sim_world_options();
    uint64_t delay_ns = options->latency_ns_min;
    if (options->latency_ns_max > options->latency_ns_min)
        delay_ns += sim_random_below(options->latency_ns_max - options->latency_ns_min + 1);
    if (sim_chance(options->stall_per_mille))
        delay_ns += sim_random_below(options->stall_ns_max + 1);
    return delay_ns;
}

static uint64_t draw_due_ns(struct stream *stream)
{
    uint64_t due_ns = clock_mono_ns() + draw_delay_ns();
    if (due_ns < stream->last_due_ns)
        due_ns = stream->last_due_ns;
    stream->last_due_ns = due_ns;
    return due_ns;
}

static void stream_append(struct stream *stream, const char *bytes, size_t size)
{
    struct segment *segment = malloc(sizeof *segment + size);
    ASSERT(segment != NULL);
    *segment = (struct segment){.due_ns = draw_due_ns(stream), .size = size};
    if (size > 0)
        memcpy(segment->bytes, bytes, size);
    if (stream->last)
        stream->last->next = segment;
    else
        stream->first = segment;
    stream->last = segment;
    stream->future = stream->future ? stream->future : segment;
    stream->queued_bytes += size;
}

static void stream_finish(struct stream *stream)
{
    if (stream->is_finished)
        return;
    stream->is_finished = true;
    stream_append(stream, NULL, 0);
}

static void stream_remove_first(struct stream *stream)
{
    struct segment *segment = stream->first;
    stream->first = segment->next;
    if (!stream->first)
        stream->last = NULL;
    if (stream->future == segment)
        stream->future = segment->next;
    stream->queued_bytes -= segment->size - segment->offset;
    free(segment);
}

static void stream_drop_all(struct stream *stream)
{
    while (stream->first)
        stream_remove_first(stream);
}

/* A reset overtakes nothing that has arrived, but what is still under way is lost. */
static void stream_reset(struct stream *stream)
{
    if (stream->reset_ns != NEVER)
        return;
    stream->reset_ns = clock_mono_ns() + draw_delay_ns();
    stream->is_finished = true;
    struct segment **link = &stream->first;
    struct segment *last_kept = NULL;
    while (*link && (*link)->due_ns <= stream->reset_ns && (*link)->size > 0) {
        last_kept = *link;
        link = &(*link)->next;
    }
    struct segment *lost = *link;
    *link = NULL;
    stream->last = last_kept;
    stream->future = stream->first;
    while (lost) {
        struct segment *next = lost->next;
        stream->queued_bytes -= lost->size - lost->offset;
        free(lost);
        lost = next;
    }
}

static bool stream_is_reset(const struct stream *stream)
{
    return stream->reset_ns <= clock_mono_ns();
}

static bool stream_has_arrived(const struct stream *stream)
{
    return stream->first && stream->first->due_ns <= clock_mono_ns();
}

static bool stream_is_readable(const struct stream *stream)
{
    return stream_has_arrived(stream) || stream_is_reset(stream) || stream->is_reader_gone;
}

static size_t stream_room(const struct stream *stream)
{
    size_t capacity = sim_world_options()->socket_buffer_bytes;
    capacity = capacity ? capacity : SOCKET_BUFFER_BYTES;
    return stream->queued_bytes < capacity ? capacity - stream->queued_bytes : 0;
}

/* As recv(2). With segments on, a read sometimes stops at a segment's end though the next has arrived, too. */
static int32_t stream_read(struct stream *stream, char *ret_bytes, size_t size)
{
    size_t used = 0;
    while (used < size && stream_has_arrived(stream)) {
        struct segment *segment = stream->first;
        if (segment->size == 0)
            break; /* the end stays: it is read again and again */
        size_t piece = segment->size - segment->offset;
        piece = piece < size - used ? piece : size - used;
        memcpy(ret_bytes + used, segment->bytes + segment->offset, piece);
        used += piece;
        segment->offset += piece;
        stream->queued_bytes -= piece;
        if (segment->offset == segment->size) {
            stream_remove_first(stream);
            if (sim_world_options()->segment_bytes_max > 0 && sim_chance(500))
                break;
        }
    }
    if (used > 0 || size == 0)
        return (int32_t)used;
    if (stream_has_arrived(stream) || stream->is_reader_gone)
        return 0;
    if (!stream_is_reset(stream))
        return -EAGAIN;
    if (stream->is_error_told)
        return 0;
    stream->is_error_told = true;
    return -ECONNRESET;
}

static void connection_reset(struct sim_client *connection)
{
    stream_reset(&connection->to_server);
    stream_reset(&connection->to_client);
}

/* Cuts into segments; a segment may turn into a reset. */
static void connection_write(struct sim_client *connection, struct stream *stream, const char *bytes, size_t size)
{
    const struct sim_options *options = sim_world_options();
    while (size > 0) {
        if (sim_chance(options->reset_per_mille)) {
            connection_reset(connection);
            return;
        }
        size_t piece = size;
        if (options->segment_bytes_max > 0) {
            piece = 1 + (size_t)sim_random_below(options->segment_bytes_max);
            piece = piece < size ? piece : size;
        }
        stream_append(stream, bytes, piece);
        bytes += piece;
        size -= piece;
    }
}

/* ---- connections ----------------------------------------------------------------------------------------------------------- */

static void connection_free(size_t index)
{
    struct sim_client *connection = network.connections[index];
    stream_drop_all(&connection->to_server);
    stream_drop_all(&connection->to_client);
    free(connection);
    memmove(&network.connections[index], &network.connections[index + 1],
            (network.connection_count - index - 1) * sizeof *network.connections);
    network.connection_count--;
}

static void connection_free_if_over(struct sim_client *connection)
{
    if (!connection->is_closed_by_client || !connection->is_closed_by_server)
        return;
    size_t index = 0;
    while (network.connections[index] != connection)
        index++;
    connection_free(index);
}

/* close(2) of one side: unread bytes make it a reset, as in TCP. */
static void connection_close_side(struct sim_client *connection, struct stream *incoming, struct stream *outgoing)
{
    if (incoming->queued_bytes > 0)
        stream_reset(outgoing);
    else
        stream_finish(outgoing);
    stream_drop_all(incoming);
    incoming->is_reader_gone = true;
    connection_free_if_over(connection);
}

/* Bytes for somebody who has closed are answered with a reset. Returns: whether they were. */
static bool connection_bounce(struct stream *outgoing, bool is_closed_by_peer, struct stream *incoming)
{
    if (!is_closed_by_peer)
        return false;
    stream_drop_all(outgoing);
    stream_reset(incoming);
    return true;
}

/* ---- descriptors ------------------------------------------------------------------------------------------------------------- */

static struct sim_socket *find_socket(int fd)
{
    size_t index = (size_t)fd - FD_BASE;
    if (fd < FD_BASE || index >= network.socket_count || network.sockets[index].kind == SOCKET_FREE)
        return NULL;
    return &network.sockets[index];
}

static struct sim_socket *use_socket(int fd)
{
    struct sim_socket *found = find_socket(fd);
    ASSERT(found != NULL); /* W4 */
    return found;
}

/* Returns: -EMFILE above the limit. */
static int open_socket(enum socket_kind kind)
{
    uint32_t count_max = sim_world_options()->descriptor_count_max;
    if (count_max > 0 && network.open_count >= count_max)
        return -EMFILE;
    size_t index = 0;
    while (index < network.socket_count && network.sockets[index].kind != SOCKET_FREE)
        index++;
    if (index == network.socket_count) {
        network.sockets = grow(network.sockets, &network.socket_capacity, network.socket_count, sizeof *network.sockets);
        network.socket_count++;
    }
    network.sockets[index] = (struct sim_socket){.kind = kind};
    network.open_count++;
    return FD_BASE + (int)index;
}

static void close_socket(struct sim_socket *closing)
{
    struct sim_client *connection = closing->connection;
    if (closing->kind == SOCKET_CONNECTION) {
        connection->is_closed_by_server = true;
        connection_close_side(connection, &connection->to_server, &connection->to_client);
    }
    for (size_t i = 0; i < closing->pending_count; i++) {
        struct sim_client *pending = closing->pending[i];
        pending->is_closed_by_server = true;
        stream_reset(&pending->to_client);
        connection_free_if_over(pending);
    }
    free(closing->pending);
    *closing = (struct sim_socket){0};
    network.open_count--;
}

static bool has_pending(const struct sim_socket *listener)
{
    return listener->pending_count > 0 && listener->pending[0]->connect_ns <= clock_mono_ns();
}

int32_t sim_socket_accept(int fd)
{
    struct sim_socket *listener = find_socket(fd);
    if (!listener)
        return -EBADF;
    if (listener->kind != SOCKET_LISTENER)
        return -EINVAL;
    if (!has_pending(listener))
        return -EAGAIN;
    int accepted = open_socket(SOCKET_CONNECTION);
    if (accepted < 0)
        return accepted;
    listener = find_socket(fd); /* the table may have moved */
    find_socket(accepted)->connection = listener->pending[0];
    listener->pending_count--;
    memmove(listener->pending, listener->pending + 1, listener->pending_count * sizeof *listener->pending);
    return accepted;
}

int32_t sim_socket_read(int fd, char *ret_bytes, size_t size)
{
    struct sim_socket *reading = find_socket(fd);
    if (!reading)
        return -EBADF;
    if (reading->kind != SOCKET_CONNECTION)
        return -ENOTCONN;
    return stream_read(&reading->connection->to_server, ret_bytes, size);
}

int32_t sim_socket_write(int fd, const char *bytes, size_t size)
{
    struct sim_socket *writing = find_socket(fd);
    if (!writing)
        return -EBADF;
    if (writing->kind != SOCKET_CONNECTION)
        return -ENOTCONN;
    struct sim_client *connection = writing->connection;
    struct stream *incoming = &connection->to_server, *outgoing = &connection->to_client;
    if (stream_is_reset(incoming)) {
        bool is_error_told = incoming->is_error_told;
        incoming->is_error_told = true;
        return is_error_told ? -EPIPE : -ECONNRESET;
    }
    if (outgoing->is_finished && outgoing->reset_ns == NEVER)
        return -EPIPE;
    if (connection_bounce(outgoing, connection->is_closed_by_client, incoming) || outgoing->reset_ns != NEVER)
        return (int32_t)size; /* under way to nobody: TCP takes them */
    size_t room = stream_room(outgoing);
    if (room == 0 && size > 0)
        return -EAGAIN;
    size = size < room ? size : room;
    connection_write(connection, outgoing, bytes, size);
    return (int32_t)size;
}

int32_t sim_socket_poll(int fd, uint32_t events)
{
    struct sim_socket *polled = find_socket(fd);
    if (!polled)
        return POLLNVAL;
    if (polled->kind == SOCKET_LISTENER)
        return has_pending(polled) ? (int32_t)(events & POLLIN) : 0;
    const struct stream *incoming = &polled->connection->to_server, *outgoing = &polled->connection->to_client;
    uint32_t mask = 0;
    if (stream_is_readable(incoming))
        mask |= POLLIN;
    if (stream_room(outgoing) > 0 || outgoing->is_finished)
        mask |= POLLOUT;
    if (incoming->first && stream_has_arrived(incoming) && incoming->first->size == 0)
        mask |= POLLRDHUP;
    mask &= events;
    if (stream_is_reset(incoming))
        mask |= POLLERR | POLLHUP;
    return (int32_t)mask;
}

/* ---- ring.h: the socket calls ------------------------------------------------------------------------------------------------ */

static struct sim_socket *find_listener(const char *address)
{
    const char *port = strrchr(address, ':');
    for (size_t i = 0; i < network.socket_count; i++) {
        struct sim_socket *candidate = &network.sockets[i];
        if (candidate->kind != SOCKET_LISTENER || strcmp(strrchr(candidate->address, ':'), port) != 0)
            continue;
        bool is_wildcard =
            strncmp(candidate->address, "0.0.0.0:", 8) == 0 || strncmp(candidate->address, "[::]:", 5) == 0;
        if (is_wildcard || strcmp(candidate->address, address) == 0)
            return candidate;
    }
    return NULL;
}

enum err ring_listen(const char *address, int *ret_fd, struct error *error)
{
    struct sockaddr_storage parsed;
    socklen_t parsed_size;
    enum err code = ring_address_parse(address, &parsed, &parsed_size, error);
    if (code != OK)
        return code;
    char text[ADDRESS_BYTES];
    code = ring_address_format(&parsed, text, sizeof text);
    ASSERT(code == OK);
    char *port = strrchr(text, ':') + 1;
    if (strcmp(port, "0") == 0)
        snprintf(port, (size_t)(text + sizeof text - port), "%u", network.next_server_port++);
    if (find_listener(text))
        return error_set_errno(error, ERR_SYSTEM, EADDRINUSE,
                               "listen on %s (another process listens there: stop it or choose another port)", address);
    int fd = open_socket(SOCKET_LISTENER);
    if (fd < 0)
        return error_set_errno(error, ERR_SYSTEM, -fd, "listen on %s", address);
    memcpy(use_socket(fd)->address, text, sizeof text);
    *ret_fd = fd;
    return OK;
}

static enum err copy_address(const char *address, char *ret_text, size_t size)
{
    size_t length = strlen(address);
    if (length >= size)
        return ERR_LIMIT;
    memcpy(ret_text, address, length + 1);
    return OK;
}

enum err ring_local_address(int fd, char *ret_text, size_t size)
{
    const struct sim_socket *asked = use_socket(fd);
    return copy_address(asked->connection ? asked->connection->server_address : asked->address, ret_text, size);
}

enum err ring_peer_address(int fd, char *ret_text, size_t size)
{
    const struct sim_socket *asked = use_socket(fd);
    if (!asked->connection)
        return ERR_SYSTEM;
    return copy_address(asked->connection->client_address, ret_text, size);
}

int ring_open_reserve(void)
{
    int fd = open_socket(SOCKET_RESERVE);
    return fd < 0 ? -1 : fd;
}

void ring_shutdown_write(int fd)
{
    struct sim_socket *closing = use_socket(fd);
    if (closing->kind == SOCKET_CONNECTION)
        stream_finish(&closing->connection->to_client);
}

void ring_shutdown_both(int fd)
{
    struct sim_socket *closing = use_socket(fd);
    ring_shutdown_write(fd);
    if (closing->kind == SOCKET_CONNECTION)
        closing->connection->to_server.is_reader_gone = true;
}

void ring_close(int fd)
{
    struct sim_socket *closing = use_socket(fd);
    ASSERT(!sim_kernel_has_operation_on(fd)); /* W4: cancel first, wait for the end, then close */
    close_socket(closing);
}

/* ---- clients --------------------------------------------------------------------------------------------------------------------- */

struct sim_client *sim_connect(const char *address)
{
    struct sim_socket *listener = find_listener(address);
    if (!listener)
        return NULL;
    struct sim_client *client = calloc(1, sizeof *client);
    ASSERT(client != NULL);
    client->to_server.reset_ns = client->to_client.reset_ns = NEVER;
    client->connect_ns = clock_mono_ns() + draw_delay_ns();
    if (listener->pending_count > 0 && listener->pending[listener->pending_count - 1]->connect_ns > client->connect_ns)
        client->connect_ns = listener->pending[listener->pending_count - 1]->connect_ns;
    client->to_server.last_due_ns = client->connect_ns;
    snprintf(client->server_address, sizeof client->server_address, "%s", address);
    snprintf(client->client_address, sizeof client->client_address, "127.0.0.1:%u", network.next_client_port++);
    listener->pending = grow(listener->pending, &listener->pending_capacity, listener->pending_count, sizeof client);
    listener->pending[listener->pending_count++] = client;
    network.connections =
        grow(network.connections, &network.connection_capacity, network.connection_count, sizeof client);
    network.connections[network.connection_count++] = client;
    return client;
}

size_t sim_client_send(struct sim_client *client, const void *bytes, size_t size)
{
    struct stream *outgoing = &client->to_server;
    if (outgoing->is_finished || stream_is_reset(&client->to_client))
        return 0;
    if (connection_bounce(outgoing, client->is_closed_by_server, &client->to_client))
        return size;
    size_t room = stream_room(outgoing);
    size = size < room ? size : room;
    connection_write(client, outgoing, bytes, size);
    return size;
}

size_t sim_client_receive(struct sim_client *client, void *ret_bytes, size_t size)
{
    int32_t got = stream_read(&client->to_client, ret_bytes, size);
    return got > 0 ? (size_t)got : 0;
}

bool sim_client_is_closed_by_peer(const struct sim_client *client)
{
    const struct stream *incoming = &client->to_client;
    bool is_end_first = stream_has_arrived(incoming) && incoming->first->size == 0;
    return is_end_first || (!stream_has_arrived(incoming) && stream_is_reset(incoming));
}

bool sim_client_is_reset(const struct sim_client *client)
{
    return stream_is_reset(&client->to_client);
}

void sim_client_shutdown_write(struct sim_client *client)
{
    stream_finish(&client->to_server);
}

void sim_client_reset(struct sim_client *client)
{
    stream_reset(&client->to_server);
    client->is_closed_by_client = true;
    stream_drop_all(&client->to_client);
    connection_free_if_over(client);
}

void sim_client_close(struct sim_client *client)
{
    client->is_closed_by_client = true;
    connection_close_side(client, &client->to_client, &client->to_server);
}

/* ---- the world's ----------------------------------------------------------------------------------------------------------------- */

void sim_network_kill_server(void)
{
    for (size_t i = 0; i < network.socket_count; i++)
        if (network.sockets[i].kind != SOCKET_FREE)
            close_socket(&network.sockets[i]);
}

void sim_network_reset(void)
{
    sim_network_kill_server();
    while (network.connection_count > 0)
        connection_free(network.connection_count - 1);
    free(network.sockets);
    free(network.connections);
    memset(&network, 0, sizeof network);
    network.next_server_port = SERVER_PORT_FIRST;
    network.next_client_port = CLIENT_PORT_FIRST;
}

uint32_t sim_world_descriptor_count(void)
{
    return (uint32_t)network.open_count;
}

static uint64_t earlier_future(uint64_t best_ns, uint64_t candidate_ns)
{
    return candidate_ns > clock_mono_ns() && candidate_ns < best_ns ? candidate_ns : best_ns;
}

static uint64_t stream_next_event_ns(struct stream *stream, uint64_t best_ns)
{
    while (stream->future && stream->future->due_ns <= clock_mono_ns())
        stream->future = stream->future->next;
    if (stream->future)
        best_ns = earlier_future(best_ns, stream->future->due_ns);
    return earlier_future(best_ns, stream->reset_ns);
}

uint64_t sim_network_next_event_ns(void)
{
    uint64_t best_ns = NEVER;
    for (size_t i = 0; i < network.connection_count; i++) {
        struct sim_client *connection = network.connections[i];
        best_ns = earlier_future(best_ns, connection->connect_ns);
        if (!connection->is_closed_by_server)
            best_ns = stream_next_event_ns(&connection->to_server, best_ns);
        if (!connection->is_closed_by_client)
            best_ns = stream_next_event_ns(&connection->to_client, best_ns);
    }
    return best_ns;
}
