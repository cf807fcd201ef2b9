/* SPDX-License-Identifier: Apache-2.0 */
/* warm_server: every allocator call of the program counted (link with -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc), one worker
 * on the kernel's ring, and a loopback socket to talk to it. For the tests that a warm server allocates nothing. */
#ifndef CIRANDA_TESTS_UNIT_NET_WARM_SERVER_H
#define CIRANDA_TESTS_UNIT_NET_WARM_SERVER_H

#include <stdint.h>

#include "runtime/worker.h"

extern uint64_t allocations;

/* Skips the test where the kernel has no io_uring. */
struct runtime *warm_server_start(enum err (*on_start)(struct worker *worker, void *user, struct error *error),
                                  void (*on_stop)(struct worker *worker, void *user));
int warm_server_connect(const char *address); /* with TCP_NODELAY */

#endif
