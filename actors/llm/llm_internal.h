/* SPDX-License-Identifier: Apache-2.0 */
/* llm_internal: what the gateways and the providers actor say to each other, and the memory both live in.
 *
 * A permit is a message: one block goes from a gateway to the providers (PERMIT_ASK), back with the answer (PERMIT_GIVEN), is
 * kept for the length of the call and then given back with the verdict (PERMIT_RETURN). So giving it back never needs memory
 * and never fails. Both actors are pinned; `struct providers` outlives them and every worker's fetch client, since a fetch
 * that ends after its gateway still points to its call.
 */
#ifndef CIRANDA_ACTORS_LLM_LLM_INTERNAL_H
#define CIRANDA_ACTORS_LLM_LLM_INTERNAL_H

#include "actors/llm/llm.h"
#include "runtime/breaker.h"

struct gateway;
struct model_attempt;

enum {
    PERMIT_ASK = MODEL_DONE + 1,
    PERMIT_GIVEN,
    PERMIT_RETURN,
};

enum { PROVIDER_NAME_BYTES_MAX = 64, PROVIDERS_MAX = 64 };

struct permit {
    struct msg msg;
    struct actor_id gateway;
    struct model_attempt *attempt; /* the gateway's; the providers only carry it */
    char provider[PROVIDER_NAME_BYTES_MAX];
    /* PERMIT_GIVEN */
    enum err
        code; /* OK; ERR_BREAKER_OPEN, ERR_BUSY (too many wait), ERR_INVALID (unknown), each with nothing to give back */
    uint64_t retry_after_ns;
    struct breaker_permit breaker;
    uint32_t record; /* the providers' */
    /* PERMIT_RETURN */
    enum breaker_verdict verdict;
};

/* Thread: any, after providers_start. */
struct actor_id providers_actor(const struct providers *providers);

/* This worker's gateway, owned by `providers` from now on: freed by providers_destroy with gateway_free. */
void providers_keep_gateway(struct providers *providers, struct worker *worker, struct gateway *gateway);
struct gateway *providers_gateway(const struct providers *providers, uint32_t worker_index);
void gateway_free(struct gateway *gateway);

#endif
