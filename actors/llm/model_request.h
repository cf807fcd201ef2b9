/* SPDX-License-Identifier: Apache-2.0 */
/* model_request: the body of one /chat/completions request, from a model_call and the agent's configuration.
 *
 * Pure. Always asks for a stream with usage in its last chunk; endpoints that ignore both are understood all the same
 * (model_response.h). Caller: the gateway.
 */
#ifndef CIRANDA_ACTORS_LLM_MODEL_REQUEST_H
#define CIRANDA_ACTORS_LLM_MODEL_REQUEST_H

#include "actors/llm/llm.h"
#include "runtime/buffer.h"
#include "runtime/error.h"

struct agent_config;

/* Appends the JSON to `out`, whose size_max is the request's cap. Returns: ERR_LIMIT when it does not fit. Thread: any. */
MUST_USE enum err model_request_write(const struct agent_config *agent, const struct model_call *call,
                                      struct buffer *out);

#endif
