/* SPDX-License-Identifier: Apache-2.0 */
/* llm: calls to OpenAI-compatible /chat/completions endpoints, streamed. One pinned actor a worker ("model gateway") runs the
 * calls; one pinned actor on worker 0 ("providers") holds breaker and permits of every provider for the whole process.
 *
 * One MODEL_CALL is one attempt: whether to try again is the conversation's decision, since each attempt is journalled
 * before it starts. Breaker permits are leases with a deadline (runtime/breaker.h).
 *
 *   conversation -> MODEL_CALL -> gateway -> permit of providers -> fetch ... MODEL_DELTA* -> MODEL_DONE (exactly once)
 */
#ifndef CIRANDA_ACTORS_LLM_LLM_H
#define CIRANDA_ACTORS_LLM_LLM_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"
#include "runtime/msg.h"
#include "runtime/slice.h"

struct buffer;
struct config;
struct providers;
struct runtime;
struct services;
struct worker;

enum {
    MODEL_CALL = MSG_KIND_ACTORS + 0x100,
    MODEL_CANCEL,
    MODEL_DELTA,
    MODEL_DONE,
};

struct model_message {
    enum { MODEL_ROLE_SYSTEM, MODEL_ROLE_USER, MODEL_ROLE_ASSISTANT } role;
    struct slice text;
};

/* To llm_gateway(services). Slices and `messages` live behind the struct in the same block: model_call_create. */
struct model_call {
    struct msg msg;
    struct actor_id reply_to;
    uint64_t token;          /* comes back in every answer */
    struct config *config;   /* a reference, owned by the message */
    int agent;               /* index; kind llm */
    struct slice effect_key; /* sent as Idempotency-Key */
    struct slice trace_id;   /* sent as X-Trace-Id */
    bool wants_deltas;
    uint64_t deadline_ns;           /* of the turn; 0: none */
    struct model_message *messages; /* system first; oldest to newest */
    uint32_t message_count;
};

/* Cancels the call with that (reply_to, token): its MODEL_DONE says ERR_CANCELLED and carries the partial text; the
 * upstream socket is closed. */
struct model_cancel {
    struct msg msg;
    struct actor_id reply_to;
    uint64_t token;
};

struct model_delta {
    struct msg msg;
    uint64_t token;
    struct slice text;
};

struct model_done {
    struct msg msg;
    uint64_t token;
    enum err code; /* OK; ERR_BREAKER_OPEN (never sent), ERR_CONNECT, ERR_TIMEOUT, ERR_TLS, ERR_PROTOCOL (malformed),
                                ERR_PEER_CLOSED (cut), ERR_LIMIT, ERR_INVALID (4xx: do not retry), ERR_BUSY (429, 503, 529),
                                ERR_CANCELLED; ERR_NO_MEMORY, ERR_SHUTDOWN */
    int http_status;
    bool was_sent;     /* false: the provider saw nothing */
    struct slice text; /* complete, or what had come */
    struct slice finish_reason, detail;
    uint64_t input_tokens, output_tokens, retry_after_ms, duration_ms, first_token_ms;
};

MUST_USE enum err providers_create(struct runtime *runtime, struct providers **ret_providers, struct error *error);
/* After runtime_destroy: frees the gateways' memory too. Accepts NULL. */
void providers_destroy(struct providers *providers);
/* Worker 0, before the gateways start; again after a reload with the new configuration (Thread: worker 0's). */
MUST_USE enum err providers_start(struct providers *providers, struct worker *worker, struct config *config,
                                  struct error *error);
void providers_reload(struct providers *providers, struct worker *worker, struct config *config);
MUST_USE enum err llm_gateway_start(struct worker *worker, struct services *services, struct error *error);
struct actor_id llm_gateway(const struct services *services);

/* Copies the texts and takes a reference of its own to fill->config. NULL: over the memory cap. */
struct model_call *model_call_create(struct worker *worker, const struct model_call *fill);
/* For a call that was not sent: gives its reference back too. Nulls *call; accepts NULL inside. */
void model_call_destroy(struct worker *worker, struct model_call **call);

/* Advisory, any thread: would a call be refused now? Then *ret_retry_after_ms. By name: a turn that began before a reload asks
 * by its own configuration. */
bool providers_is_open(const struct providers *providers, struct slice provider, uint64_t *ret_retry_after_ms);
/* JSON of GET /v1/breakers; advisory, any thread. */
void providers_write_json(const struct providers *providers, struct buffer *out);

#endif
