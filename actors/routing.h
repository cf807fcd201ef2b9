/* SPDX-License-Identifier: Apache-2.0 */
/* routing: who answers a message and how. Pure: configuration + owner + message -> decision; nothing is done here.
 *
 * The way: the agent asked for, else the owner, else routing.default; a rules agent answers itself, hands the conversation over
 * (`handoff`, which changes the owner) or lets another agent speak this once (`agent`). At most routing_hops such steps.
 */
#ifndef CIRANDA_ACTORS_ROUTING_H
#define CIRANDA_ACTORS_ROUTING_H

#include <stdint.h>

#include "runtime/error.h"
#include "runtime/slice.h"

struct config;

enum route_kind {
    ROUTE_REPLY,   /* `agent` says `text` */
    ROUTE_MODEL,   /* `agent` asks its model */
    ROUTE_HANDOFF, /* to people: `text` is the new owner */
    ROUTE_HUMAN,   /* people own the conversation: nobody else speaks */
    ROUTE_NOBODY,  /* `code` says why: ERR_LIMIT too many hops, ERR_NOT_FOUND no rule fits and there is no `otherwise` */
};

enum { ROUTE_HANDOFFS_MAX = 16 };

struct route {
    enum route_kind kind;
    int agent;         /* index; the last one on the way */
    struct slice text; /* lent from the configuration or the message */
    enum err code;
    int handoffs[ROUTE_HANDOFFS_MAX]; /* agents that became owner on the way, in order */
    uint32_t handoff_count;
};

struct route_question {
    struct slice owner;           /* "" for a new conversation */
    struct slice requested_agent; /* "" for none; must be known */
    struct slice text;            /* at most CONV_TEXT_BYTES_MAX */
};

/* Where the walk begins; an owner who is no agent, or no more, gives routing.default. */
int route_first_agent(const struct config *config, const struct route_question *question);
struct route route_message(const struct config *config, const struct route_question *question);
/* The n-th fallback (from 1) of an llm agent whose call failed for good. Its own fallbacks do not count. Returns: ROUTE_NOBODY
 * with ERR_NOT_FOUND when there are no more. */
struct route route_fallback(const struct config *config, int agent, uint32_t n, const struct route_question *question);

#endif
