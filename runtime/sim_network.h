/* SPDX-License-Identifier: Apache-2.0 */
/* sim_network: simulated TCP: descriptors of the server, listeners, connections as a pair of byte streams. What the sockets of
 * a kernel do without its ring: every call answers at once with bytes or a negated errno, -EAGAIN for "not now".
 *
 * Not for tests: they play clients through ring_sim.h. Callers: ring_sim.c.
 */
#ifndef CIRANDA_RUNTIME_SIM_NETWORK_H
#define CIRANDA_RUNTIME_SIM_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/ring_sim.h"

const struct sim_options *sim_world_options(void);

/* As io_uring's results. */
int32_t sim_socket_accept(int fd);
int32_t sim_socket_read(int fd, char *ret_bytes, size_t size);
int32_t sim_socket_write(int fd, const char *bytes, size_t size);
int32_t sim_socket_poll(int fd, uint32_t events); /* 0: none of them */

/* World's; see ring_sim.h. */
void sim_network_reset(void);
void sim_network_kill_server(void);
uint64_t sim_network_next_event_ns(void);

/* Returns: whether a ring still has an operation on it. In ring_sim.c; asked at ring_close. */
bool sim_kernel_has_operation_on(int fd);

#endif
