/* SPDX-License-Identifier: Apache-2.0 */
/* verify: holds what customers were promised and observers saw against what the journal holds in the end. */
#ifndef CIRANDA_TESTS_SIM_VERIFY_H
#define CIRANDA_TESTS_SIM_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/customer.h"
#include "tests/sim/operator.h"
#include "tests/sim/world.h"

/* Have all turns ended, and all observers seen the last event? */
bool verify_is_at_rest(struct world *world, const struct observer *observers);
/* Reads every conversation page by page. `damaged`: a conversation whose bytes were harmed, which may be refused (503), but
 * never be told differently; -1: none. */
void verify_all(struct world *world, struct customer *customers, struct observer *observers,
                const struct operator_ *operator_, int damaged);
/* Is there an event of this kind in any conversation? */
bool verify_has_event(struct world *world, const char *kind);

#endif
