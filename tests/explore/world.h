/* SPDX-License-Identifier: Apache-2.0 */
/* world: what the product calls beneath it, for the explorer: a ring that only sleeps and wakes, a clock that stands, futexes,
 * threads and barriers as operations of the schedule, and memory that is gone after the run.
 *
 * A wake orders nothing: neither the kernel's eventfd nor its futex is counted on to publish what was written before it. */
#ifndef CIRANDA_TESTS_EXPLORE_WORLD_H
#define CIRANDA_TESTS_EXPLORE_WORLD_H

#include <stdbool.h>

#include "tests/explore/model.h"

/* Between runs; see model_reset. */
void world_reset(const struct model_bounds *bounds);

/* Sleep of a scenario's own thread. Zeroed is valid; a set that nobody waits for is kept, as by a ring. */
struct world_event {
    bool is_set;
};
void world_event_set(struct world_event *event);
void world_event_wait(struct world_event *event);

#endif
