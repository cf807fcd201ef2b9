/* SPDX-License-Identifier: Apache-2.0 */
/* stepped_world: a runtime of a few workers on the simulated network, stepped by the test: all that is due now, time that passes, a
 * function run on a worker. For the tests of the servers. */
#ifndef CIRANDA_TESTS_UNIT_NET_STEPPED_WORLD_H
#define CIRANDA_TESTS_UNIT_NET_STEPPED_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/ring_sim.h"
#include "runtime/worker.h"

/* Fails the test when it cannot be. `sim` NULL: no faults. */
void stepped_world_start(uint64_t seed, const struct sim_options *sim, const struct runtime_options *options);
/* With whatever is still open. Returns: descriptors that leaked; 0 also when there is no world. */
int stepped_world_stop(void);
void stepped_settle(void); /* all that is due now; fails the test when it never ends */
void stepped_advance_to(uint64_t target_ns);
void stepped_advance(uint64_t ns);
/* Runs a function on a worker, as an actor would, and what follows from it. */
void stepped_run(uint32_t worker, void (*run)(struct worker *worker, void *argument), void *argument);

#endif
