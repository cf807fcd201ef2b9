/* SPDX-License-Identifier: Apache-2.0 */
/* ring_world_uring: see ring_world.h. Plain non-blocking sockets on loopback in the ring's own thread; connecting works
 * without an accept because the listener's backlog completes the handshake.
 */
#include "tests/unit/runtime/ring_world.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/ring.h"
#include "runtime/ring_address.h"

struct world_client {
    int fd;
    bool is_closed_by_peer;
};

void world_set_up(void) {}
void world_tear_down(void) {}

size_t world_bulk_bytes(void)
{
    return 16 << 20;
}

uint32_t world_step(struct ring *ring)
{
    return ring_step(ring, clock_mono_ns() + 20 * 1000000u);
}

struct world_client *world_connect(const char *address)
{
    struct sockaddr_storage parsed;
    socklen_t size;
    ASSERT(ring_address_parse(address, &parsed, &size, NULL) == OK);
    struct world_client *client = calloc(1, sizeof *client);
    ASSERT(client);
    client->fd = socket(parsed.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT(client->fd >= 0);
    ASSERT(connect(client->fd, (const struct sockaddr *)&parsed, size) == 0);
    return client;
}

size_t world_send(struct world_client *client, const void *bytes, size_t size)
{
    ssize_t sent = send(client->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? 0 : (size_t)sent;
}

size_t world_receive(struct world_client *client, void *ret_bytes, size_t size)
{
    ssize_t got = recv(client->fd, ret_bytes, size, MSG_DONTWAIT);
    client->is_closed_by_peer |= got == 0 || (got < 0 && errno != EAGAIN);
    return got < 0 ? 0 : (size_t)got;
}

bool world_is_closed_by_peer(struct world_client *client)
{
    return client->is_closed_by_peer;
}

void world_shutdown_write(struct world_client *client)
{
    ASSERT(shutdown(client->fd, SHUT_WR) == 0);
}

void world_reset(struct world_client *client)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    ASSERT(setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    world_close(client);
}

void world_close(struct world_client *client)
{
    close(client->fd);
    free(client);
}
