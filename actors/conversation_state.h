/* SPDX-License-Identifier: Apache-2.0 */
/* conversation_state: what a conversation is, as a fold over its events and nothing else (design.md, section 4).
 *
 * A live step and a replay call the same conversation_state_apply, so that state is a function of the journal by construction;
 * a snapshot is the encoded state and two states are equal exactly when their encodings are. Pure: no clock, no I/O, no
 * configuration but the sizes of its windows.
 *
 * Invariants
 *  S1  version rises by one with each event.
 *  S2  turns leave in the order received, but for those cancelled; only the first of the list is being worked on.
 *  S3  A customer's text enters the history when its turn becomes the first, so that the history reads as a dialogue though
 *      messages came while an answer was being made.
 *  S4  epoch rises with every change of the owner and with nothing else.
 */
#ifndef CIRANDA_ACTORS_CONVERSATION_STATE_H
#define CIRANDA_ACTORS_CONVERSATION_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "actors/dedup.h"
#include "actors/event.h"
#include "actors/history.h"
#include "actors/uuid.h"
#include "runtime/error.h"
#include "storage/journal.h"

/* Numbers are in journal summaries and snapshots: append only. */
enum conversation_status { CONVERSATION_ACTIVE, CONVERSATION_WAITING_HUMAN, CONVERSATION_PARKED, CONVERSATION_CLOSED };

enum { CONVERSATION_AGENT_BYTES_MAX = 63 };

struct agent_name {
    uint8_t size;
    char text[CONVERSATION_AGENT_BYTES_MAX];
};

/* An accepted message whose turn has not ended. */
struct conversation_turn {
    struct conversation_turn *next;
    uint8_t id[UUID_BYTES];
    uint64_t received_version, received_ms;
    /* The effect under way, or the last one: the attempts of one agent at one answer. */
    bool is_intent_open;              /* an attempt was started and has no result yet */
    uint32_t attempts;                /* of this turn, by whatever agent */
    uint32_t failures;                /* of `agent`, interruptions apart */
    uint32_t interruptions;           /* attempts of this turn that a crash or restart cut off */
    uint32_t fallback;                /* 0: `agent` is the primary; n: the primary's n-th fallback */
    struct agent_name primary, agent; /* of the first, of the last attempt; empty: none yet */
    /* Behind the struct. */
    struct slice message_id, trace_id, requested_agent, text;
};

struct conversation_limits {
    uint32_t history_messages, history_bytes, dedup_messages;
};

struct conversation_state {
    struct conversation_limits limits;
    uint64_t version, epoch, created_ms, updated_ms;
    enum conversation_status status;
    uint32_t messages;    /* said, by anybody */
    uint32_t turns_ended; /* in whatever way */
    uint32_t dead_letters;
    uint32_t turn_count; /* not ended */
    uint64_t input_tokens, output_tokens;
    char owner[JOURNAL_OWNER_BYTES_MAX + 1]; /* "agent:x", "queue:x", "human:x"; "" before the first message */
    struct slice customer_id, channel;       /* owned */
    struct conversation_turn *turns, **turns_end;
    struct history history;
    struct dedup dedup;
};

void conversation_state_init(struct conversation_state *state, const struct conversation_limits *limits);
void conversation_state_deinit(struct conversation_state *state); /* accepts zeroed */

/* Returns: ERR_STORAGE_CORRUPT when the event cannot follow (wrong version, unknown turn, broken id), ERR_NO_MEMORY. After a
 * failure the state is good for nothing but deinit. */
MUST_USE enum err conversation_state_apply(struct conversation_state *state, const struct event *event);

/* A snapshot. Decoding takes an initialised state and trims to its limits. Returns: ERR_STORAGE_CORRUPT, ERR_STORAGE_FORMAT (a
 * newer build wrote it), ERR_NO_MEMORY; the state is then good for nothing but deinit. */
void conversation_state_encode(const struct conversation_state *state, struct buffer *out);
MUST_USE enum err conversation_state_decode(struct conversation_state *state, struct slice data);

const char *conversation_status_name(enum conversation_status status);
bool conversation_owner_is_agent(struct slice owner);
struct slice conversation_state_owner(const struct conversation_state *state);
struct slice agent_name_slice(const struct agent_name *name);
void conversation_state_summarize(const struct conversation_state *state, struct journal_summary *ret_summary);
/* The object of GET /v1/conversations/{id}. */
void conversation_state_write_json(const struct conversation_state *state, struct slice id, struct buffer *out);

#endif
