/* SPDX-License-Identifier: Apache-2.0 */
/* story: a short day of the server, told the same way each time: a model that answers, refuses once, refuses for ever (a dead
 * letter); typing ahead, copies, a forgery, an asynchronous turn; a call for a person, who speaks; acts of an operator; an
 * erasure; conversations that fall asleep between. Without faults of its own: run.h cuts it, I/O by I/O. */
#ifndef CIRANDA_TESTS_SIM_STORY_H
#define CIRANDA_TESTS_SIM_STORY_H

#include "tests/sim/customer.h"
#include "tests/sim/plan.h"

void story_plan(struct plan *ret_plan);
/* `customers` and `observers` have room for as many as the plan says. */
void story_cast(const struct plan *plan, struct customer *customers, struct observer *observers);
/* After an uncut run: has everything happened that the story is for? Else the run fails. */
void story_check(struct world *world);

#endif
