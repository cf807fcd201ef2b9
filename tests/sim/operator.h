/* SPDX-License-Identifier: Apache-2.0 */
/* operator: a client that cancels, hands over, parks and closes conversations, and in the end opens them all again. What it was
 * answered is a promise like any other: V9.
 * eraser: a client with a conversation of its own, which it fills and erases, and then looks for what is left: V10. */
#ifndef CIRANDA_TESTS_SIM_OPERATOR_H
#define CIRANDA_TESTS_SIM_OPERATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/plan.h"
#include "tests/sim/sim_http.h"
#include "tests/sim/world.h"

struct operator_ {
    struct sim_http line;
    uint32_t acts_left;
    uint32_t conversation, act; /* the one under way */
    uint32_t opening;           /* conversations that were opened again, once the acts are over */
    bool is_waiting;
    uint64_t wake_ns;
    uint64_t version[CONVERSATIONS_MAX], epoch[CONVERSATIONS_MAX]; /* the highest it was told: V9 */
};
void operator_create(struct operator_ *operator_, const struct plan *plan);
bool operator_step(struct operator_ *operator_, struct world *world);
bool operator_is_done(const struct operator_ *operator_, const struct plan *plan);

enum eraser_phase { ERASER_SAYS, ERASER_LOOKS, ERASER_ERASES, ERASER_LOOKS_AGAIN, ERASER_IS_DONE };

struct eraser {
    struct sim_http line;
    enum eraser_phase phase;
    uint32_t rounds_left, round, said, count; /* said: messages of this round that were answered */
    bool is_waiting;
    bool was_repeated; /* a request was sent twice: the first may still arrive, so nothing is known for sure any more */
    uint64_t wake_ns;
};
void eraser_create(struct eraser *eraser, const struct plan *plan);
bool eraser_step(struct eraser *eraser, struct world *world);
bool eraser_is_done(const struct eraser *eraser);

#endif
