/* SPDX-License-Identifier: Apache-2.0 */
/* ring_world: the outside of a ring for ring_conformance_test.c: clients that connect to it, and time that passes. Two
 * implementations, so that one source tests both kernels: ring_world_uring.c (sockets of loopback) and ring_world_sim.c.
 * All calls answer at once; what takes time happens in world_step.
 */
#ifndef CIRANDA_TESTS_UNIT_RUNTIME_RING_WORLD_H
#define CIRANDA_TESTS_UNIT_RUNTIME_RING_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring;
struct world_client;

void world_set_up(void);
void world_tear_down(void);

size_t world_bulk_bytes(void); /* more than the sockets of a connection hold */

/* One ring_step that may wait a little (uring) or moves the virtual clock (sim). Returns: callbacks run. */
uint32_t world_step(struct ring *ring);

struct world_client *world_connect(const char *address);
size_t world_send(struct world_client *client, const void *bytes, size_t size); /* Returns: how many it took. */
/* Returns: bytes; 0 when there is nothing now. */
size_t world_receive(struct world_client *client, void *ret_bytes, size_t size);
bool world_is_closed_by_peer(struct world_client *client); /* as far as world_receive has read */
void world_shutdown_write(struct world_client *client);
void world_reset(struct world_client *client);
void world_close(struct world_client *client);

#endif
