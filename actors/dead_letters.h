/* SPDX-License-Identifier: Apache-2.0 */
/* dead_letters: the list of what could not be processed, for people. One pinned actor for the process (worker 0).
 *
 * Kept in the journal, one reserved key a tenant (tenant, zero byte, "\1dead-letters"), so that it survives and pages like any
 * other history. The truth is the event message.dead_lettered in the conversation; the list is written after it is on disk,
 * and a crash of the process between the two leaves the event without an entry here. It names the message and why it failed,
 * never what the customer wrote: an erased conversation leaves no text behind.
 */
#ifndef CIRANDA_ACTORS_DEAD_LETTERS_H
#define CIRANDA_ACTORS_DEAD_LETTERS_H

#include <stdint.h>

#include "runtime/error.h"
#include "runtime/msg.h"
#include "runtime/slice.h"

struct services;
struct worker;

enum {
    DEAD_LETTERS_ADD = MSG_KIND_ACTORS + 0x200,
    DEAD_LETTERS_READ, /* -> CONV_FINISHED with body {"dead_letters":[...],"next":V|null}, or CONV_REFUSED */
};

struct dead_letter {
    struct slice tenant, conversation, message_id, turn_id, reason, trace_id;
    uint64_t attempt, version; /* of the event in the conversation */
};

struct dead_letters_read {
    struct msg msg;
    struct actor_id reply_to;
    uint64_t reply_token;
    struct slice tenant; /* behind the struct: dead_letters_read_create */
    uint64_t after;      /* version in the list */
    uint32_t limit;      /* 0: 100; at most 1000 */
};

MUST_USE enum err dead_letters_start(struct worker *worker, struct services *services, struct actor_id *ret_id,
                                     struct error *error);
/* Thread: any worker's. Best effort: no memory, no list entry; it is logged in any case. */
void dead_letters_send(struct worker *worker, struct services *services, const struct dead_letter *letter);
/* To be sent to services->dead_letters. NULL: no memory. */
struct dead_letters_read *dead_letters_read_create(struct worker *worker, const struct dead_letters_read *fill);

#endif
