/* SPDX-License-Identifier: Apache-2.0 */
/* model_call: one block with everything a call needs, so that it can cross to another worker and be freed as one.
 *
 *   [struct model_call][struct model_message x count][effect_key][trace_id][text]...
 */
#include <stddef.h>
#include <string.h>

#include "actors/config/config.h"
#include "actors/llm/llm.h"
#include "runtime/assert.h"

_Static_assert(sizeof(struct model_call) % _Alignof(struct model_message) == 0,
               "the messages follow the struct directly");

static size_t call_bytes(const struct model_call *fill)
{
    size_t size =
        sizeof *fill + fill->message_count * sizeof *fill->messages + fill->effect_key.size + fill->trace_id.size;
    for (uint32_t i = 0; i < fill->message_count; i++)
        size += fill->messages[i].text.size;
    /* A refusal before anything was sent re-uses the block for its answer. */
    return size < sizeof(struct model_done) ? sizeof(struct model_done) : size;
}

static struct slice copy_to(char **end, struct slice text)
{
    const struct slice copy = slice_of(*end, text.size);
    if (text.size > 0)
        memcpy(*end, text.data, text.size);
    *end += text.size;
    return copy;
}

struct model_call *model_call_create(struct worker *worker, const struct model_call *fill)
{
    const size_t size = call_bytes(fill);
    if (size > UINT32_MAX)
        return NULL;
    /* Control: its intent is in the journal already, so that a refusal would only be noise. At most one a conversation. */
    struct msg *const msg = msg_create(worker, MODEL_CALL, MSG_CONTROL, (uint32_t)size);
    if (msg == NULL)
        return NULL;
    struct model_call *const call = container_of(msg, struct model_call, msg);
    const struct msg header = call->msg;
    *call = *fill;
    call->msg = header;
    call->config = config_ref(fill->config);
    call->messages = (struct model_message *)(void *)(call + 1);
    char *end = (char *)(call->messages + fill->message_count);
    call->effect_key = copy_to(&end, fill->effect_key);
    call->trace_id = copy_to(&end, fill->trace_id);
    for (uint32_t i = 0; i < fill->message_count; i++)
        call->messages[i] =
            (struct model_message){.role = fill->messages[i].role, .text = copy_to(&end, fill->messages[i].text)};
    return call;
}

void model_call_destroy(struct worker *worker, struct model_call **call)
{
    if (*call == NULL)
        return;
    config_unref((*call)->config);
    struct msg *msg = &(*call)->msg;
    msg_destroy(worker, &msg);
    *call = NULL;
}
