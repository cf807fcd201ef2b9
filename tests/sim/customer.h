/* SPDX-License-Identifier: Apache-2.0 */
/* customer: a client that says its messages in order, repeats what was not answered, and remembers every promise it got.
 * observer: a client that follows a conversation's event stream and resumes after each break. */
#ifndef CIRANDA_TESTS_SIM_CUSTOMER_H
#define CIRANDA_TESTS_SIM_CUSTOMER_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/buffer.h"
#include "tests/sim/plan.h"
#include "tests/sim/sim_http.h"
#include "tests/sim/world.h"

struct sim_message {
    char id[32], text[64];
    const char *from; /* NULL: the customer; else "human:x" */
    bool is_async, is_reject, wants_copy, wants_forgery;
    bool was_sent, was_accepted;      /* accepted: a 200 or 202 said that it is durable */
    bool is_done;                     /* 200, final; or refused for good, then without a status */
    bool is_refused;                  /* 409, 422 and said only once: must never appear */
    uint32_t said_life, said_in_life; /* life of the server when it was said last; how often in that life */
    uint32_t accepted_life;
    uint32_t said_count; /* tries and copies: one that was refused may be followed by one that is not */
    bool is_unsure;      /* sent behind one that was refused for now: the order is no longer promised */
    char status[20], reply[128], turn_id[40];
};

struct customer {
    uint32_t index, conversation;
    const char *agent;
    struct sim_message messages[MESSAGES_MAX];
    uint32_t count;
    uint32_t next;      /* first that is not done */
    uint32_t in_flight; /* requests on the line, messages next .. next + in_flight - 1 */
    bool is_polling;    /* the one in flight is a look at an asynchronous turn */
    struct sim_http line, copy_line;
    bool is_copying, is_forging;
    uint32_t copied;  /* the message on the copy line */
    uint64_t wake_ns; /* thinks until then */
    uint64_t answer_deadline_ns;
};

void customer_create(struct customer *customer, const struct plan *plan, uint32_t index, const char *agent);
/* Its id, and its text: "say-<customer>-<number>" and the ending. */
void customer_set_message(struct customer *customer, uint32_t number, const char *ending);
/* Returns: did it do anything? */
bool customer_step(struct customer *customer, struct world *world);
bool customer_is_done(const struct customer *customer);
uint64_t customer_next_ns(const struct customer *customer);
void customer_hang_up(struct customer *customer); /* after a crash of the server or at the end */

struct observer {
    uint32_t conversation;
    struct sim_http line;
    uint64_t version; /* last seen */
    size_t consumed;  /* of the stream's body */
    uint64_t wake_ns;
    struct buffer seen; /* data of all events, one a line: compared with the journal at the end */
};
void observer_create(struct observer *observer, uint32_t conversation);
bool observer_step(struct observer *observer, struct world *world);
void observer_destroy(struct observer *observer);

#endif
