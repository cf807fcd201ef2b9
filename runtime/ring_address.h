/* SPDX-License-Identifier: Apache-2.0 */
/* ring_address: "127.0.0.1:7400" and "[::1]:7400" as socket addresses, and back. Numbers only: a name would need a lookup,
 * which blocks. Callers: ring_socket.c and ring_sim.c.
 * Thread: any. Limits: none allocates nor blocks. */
#ifndef CIRANDA_RUNTIME_RING_ADDRESS_H
#define CIRANDA_RUNTIME_RING_ADDRESS_H

#include <stddef.h>
#include <sys/socket.h>

#include "runtime/error.h"

/* Returns: ERR_INVALID, with what is wrong and an example. */
MUST_USE enum err ring_address_parse(const char *text, struct sockaddr_storage *ret_address, socklen_t *ret_size,
                                     struct error *error);
/* Returns: ERR_LIMIT when `size` is too small (64 always suffices), ERR_INVALID for other families than IPv4 and IPv6. */
MUST_USE enum err ring_address_format(const struct sockaddr_storage *address, char *ret_text, size_t size);

#endif
