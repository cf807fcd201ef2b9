/* SPDX-License-Identifier: Apache-2.0 */
/* model_response: reads what a provider answers to /chat/completions, in pieces of any size, and says what it means.
 *
 * Three forms: an event stream of chunks; one JSON document (endpoints that ignore `stream`); an error of any status, of which
 * the provider's own message is kept. The form of a 2xx body is told by its first byte: '{' begins a document and no event
 * stream. Pure: no actor, no clock; what came is untrusted. Caller: the gateway.
 *
 * Life: model_response_init; model_response_feed for each piece; model_response_finish once; model_response_deinit.
 *
 * Invariants
 *  M1  The result does not depend on how the body was cut into pieces.
 *  M2  At most MODEL_TEXT_BYTES_MAX of text, MODEL_EVENT_BYTES_MAX for one event, MODEL_RESPONSE_BYTES_MAX for a document and
 *      MODEL_ERROR_BYTES_MAX for an error body are held.
 *  M3  OK is said only of a text that its provider called finished: by [DONE] or a finish_reason, or by a whole document.
 *  M4  The first failure stays; nothing after it is interpreted.
 */
#ifndef CIRANDA_ACTORS_LLM_MODEL_RESPONSE_H
#define CIRANDA_ACTORS_LLM_MODEL_RESPONSE_H

#include <stdbool.h>
#include <stdint.h>

#include "net/fetch.h"
#include "net/sse_parser.h"
#include "runtime/buffer.h"
#include "runtime/error.h"
#include "runtime/slice.h"

enum {
    MODEL_RESPONSE_BYTES_MAX = 8 << 20,
    MODEL_TEXT_BYTES_MAX = 256 << 10,
    MODEL_EVENT_BYTES_MAX = 1 << 20,
    MODEL_ERROR_BYTES_MAX = 64 << 10,
    MODEL_DETAIL_BYTES_MAX = 512,
    MODEL_FINISH_REASON_BYTES_MAX = 32,
};

enum model_response_form {
    MODEL_RESPONSE_EMPTY,    /* no byte that tells */
    MODEL_RESPONSE_STREAM,   /* 2xx, text/event-stream */
    MODEL_RESPONSE_DOCUMENT, /* 2xx, one JSON object, gathered in `body` */
    MODEL_RESPONSE_ERROR,    /* any other status, gathered in `body` */
};

/* Embed it. Fields are private but `text`, `is_done` and, after finish, those of the last block. */
struct model_response {
    struct sse_parser sse;
    struct buffer body;
    struct buffer text; /* what the model has said so far */
    enum model_response_form form;
    bool is_done; /* [DONE] came: what still comes says nothing */

    enum err code;
    uint64_t input_tokens, output_tokens;
    char finish_reason[MODEL_FINISH_REASON_BYTES_MAX]; /* "" when none came */
    char detail[MODEL_DETAIL_BYTES_MAX];               /* for a person; valid UTF-8 */
};

/* In place: it must not be moved afterwards, the parser points to it. */
void model_response_init(struct model_response *response);
void model_response_deinit(struct model_response *response);

/* Returns: OK to go on; else why nothing more is wanted: ERR_PROTOCOL, ERR_LIMIT, ERR_BUSY (an error inside the stream),
 * ERR_NO_MEMORY. */
MUST_USE enum err model_response_feed(struct model_response *response, int status, struct slice piece);

/* The verdict over the whole attempt, left in response->code and ->detail. `secret` is blotted out of the detail. */
void model_response_finish(struct model_response *response, const struct fetch_result *result, struct slice secret);

#endif
