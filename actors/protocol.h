/* SPDX-License-Identifier: Apache-2.0 */
/* protocol: the messages between the front (api, rpc) and the conversations.
 *
 * Way of a request: front -> directory of the shard (worker = hash(key) % workers) -> conversation -> front. One block makes
 * the way there; answers are blocks of their own, since one request may be answered more than once:
 *
 *   CONV_MESSAGE    -> CONV_ACCEPTED (durable, turn not finished)? then CONV_FINISHED, or CONV_REFUSED
 *                      with subscribe: CONV_EVENT for each event of the turn (in version order, after its flush) and
 *                      CONV_DELTA (text as the model speaks it, not journalled) before CONV_FINISHED
 *   CONV_SUBSCRIBE  -> CONV_EVENT..., CONV_END when the conversation ends it (erased, shutdown); CONV_REFUSED
 *   CONV_UNSUBSCRIBE, and CONV_ABANDON (the waiter is gone; the turn goes on): no answer
 *   all others      -> CONV_FINISHED or CONV_REFUSED, exactly once
 *
 * Answers carry the request's reply_token. Text slices of a message point behind the struct, inside the same block.
 */
#ifndef CIRANDA_ACTORS_PROTOCOL_H
#define CIRANDA_ACTORS_PROTOCOL_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"
#include "runtime/msg.h"
#include "runtime/slice.h"

enum {
    CONV_MESSAGE = MSG_KIND_ACTORS + 1,
    CONV_GET,      /* -> CONV_FINISHED with body: the JSON of GET /v1/conversations/{id} */
    CONV_TURN,     /* turn by id -> CONV_FINISHED like a message's */
    CONV_EVENTS,   /* page of envelopes -> body */
    CONV_MESSAGES, /* page of what was said -> body */
    CONV_SUBSCRIBE,
    CONV_UNSUBSCRIBE,
    CONV_ABANDON,
    CONV_CANCEL,
    CONV_PARK,
    CONV_RESUME,
    CONV_CLOSE,
    CONV_REOPEN,
    CONV_ERASE,
    CONV_HANDOFF, /* to `to`; whoever speaks now is cut off -> body: the conversation, with owner and epoch */

    CONV_ACCEPTED = MSG_KIND_ACTORS + 0x40,
    CONV_FINISHED,
    CONV_REFUSED,
    CONV_EVENT,
    CONV_DELTA,
    CONV_END,
};

enum {
    CONV_ID_BYTES_MAX = 128,
    CONV_TENANT_BYTES_MAX = 63,
    CONV_MESSAGE_ID_BYTES_MAX = 128,
    CONV_TEXT_BYTES_MAX = 32768,
    CONV_METADATA_BYTES_MAX = 4096,
    CONV_TRACE_ID_BYTES_MAX = 64,
    TURN_ID_BYTES = 36
};

enum conv_on_busy { CONV_ON_BUSY_DEFAULT, CONV_ON_BUSY_ENQUEUE, CONV_ON_BUSY_REJECT };

struct conv_request {
    struct msg msg;
    struct actor_id reply_to;
    uint64_t reply_token;
    uint64_t hash[2]; /* of the key: conversation_key_hash() */
    struct slice tenant, conversation;
    struct slice trace_id;
    uint64_t received_ns;
    bool has_if_match;
    uint64_t if_match; /* expected version, else ERR_STALE */

    /* CONV_MESSAGE */
    struct slice text, message_id /* empty: made by the conversation */, customer_id, channel, metadata, agent, from;
    uint64_t payload_hash; /* of everything the client said but the id: same id, other hash is ERR_CONFLICT (422) */
    enum conv_on_busy on_busy;
    bool subscribe; /* wants CONV_EVENT and CONV_DELTA of this turn */

    /* CONV_EVENTS, CONV_MESSAGES, CONV_SUBSCRIBE, CONV_TURN, CONV_CANCEL, ... */
    uint64_t after; /* version */
    uint32_t limit;
    struct slice turn_id, reason;
    struct slice to, context; /* CONV_HANDOFF: "agent:x", "queue:x", "human:x"; context: validated JSON */
    uint64_t target_token;    /* CONV_UNSUBSCRIBE, CONV_ABANDON: the reply_token of the request meant */

    /* Private to directory and conversation. */
    uint8_t turn_key[16];                /* the turn it waits for */
    char made_message_id[TURN_ID_BYTES]; /* when the client gave none */
    uint8_t crashes;                     /* of the conversation while it handled this one */
    bool was_accepted;                   /* CONV_ACCEPTED was sent */
    bool is_copy;                        /* of a message that was there before */
    bool is_returned;                    /* it waited in a conversation that crashed: not a copy of itself */
    bool is_admitted;                    /* it was in the mailbox of a conversation that ended */
};

enum turn_status { TURN_QUEUED, TURN_RUNNING, TURN_COMPLETED, TURN_WAITING_HUMAN, TURN_FAILED, TURN_IS_CANCELLED };
const char *turn_status_name(enum turn_status status); /* as clients see it */

struct conv_answer {
    struct msg msg;
    uint64_t reply_token;
    /* ACCEPTED, FINISHED of a message or turn; EVENT: version */
    uint64_t version;
    enum turn_status status;
    bool is_duplicate, has_reply, has_usage;
    struct slice message_id, turn_id, text, agent, finish_reason;
    uint64_t input_tokens, output_tokens, duration_ms;
    /* FINISHED of a read or an act: a JSON document. EVENT: the envelope, `agent` then holds the event type's name */
    struct slice body;
    /* REFUSED; FINISHED with TURN_FAILED */
    enum err code;          /* ERR_NOT_FOUND 404, ERR_CONFLICT 422 (other payload), ERR_BUSY 409 (reject), ERR_STALE 409
                                    (If-Match), ERR_MAILBOX_FULL / ERR_LIMIT 429, ERR_BREAKER_OPEN / ERR_SHUTDOWN /
                                    ERR_NO_MEMORY / ERR_CRASHED 503, ERR_STORAGE_FULL 507, ERR_STORAGE_FAILED / ERR_STORAGE_CORRUPT 503,
                                    ERR_INVALID 422 (unknown agent, from, state), ERR_EXISTS 409 (closed, parked) */
    uint32_t retry_after_s; /* 0: none */
    struct slice detail;

    uint64_t gate_version; /* private to the conversation: may leave once this version is on disk */
};

struct worker;

/* A block with room for its texts: the slices of `fill` are copied behind the struct. The rest of `fill` is copied but for its
 * header. NULL: over the memory cap. Thread: any worker's. */
struct conv_request *conv_request_create(struct worker *worker, uint16_t kind, const struct conv_request *fill);
struct conv_answer *conv_answer_create(struct worker *worker, uint16_t kind, const struct conv_answer *fill);

/* Turns the request's own block into its refusal, so that refusing needs no memory; msg.to is then its reply_to. `detail` is a
 * static text. Owns: the block stays the caller's. */
struct conv_answer *conv_request_into_refusal(struct conv_request *request, enum err code, uint32_t retry_after_s,
                                              const char *detail);
/* The same and sends it; nobody to answer: frees it. Nulls *request. Thread: any worker's. */
void conv_request_refuse(struct worker *worker, struct conv_request **request, enum err code, uint32_t retry_after_s,
                         const char *detail);

#endif
