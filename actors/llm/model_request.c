/* SPDX-License-Identifier: Apache-2.0 */
/* model_request: see model_request.h. Members that an agent does not configure are left out, so that the provider's own
 * defaults hold: some endpoints refuse members they do not know. */
#include "actors/llm/model_request.h"

#include <stdbool.h>

#include "actors/config/config.h"
#include "net/json.h"

static const char *const role_names[] = {
    [MODEL_ROLE_SYSTEM] = "system",
    [MODEL_ROLE_USER] = "user",
    [MODEL_ROLE_ASSISTANT] = "assistant",
};

static void write_messages(const struct model_call *call, struct buffer *out)
{
    buffer_append_byte(out, '[');
    for (uint32_t i = 0; i < call->message_count; i++) {
        const struct model_message *const message = &call->messages[i];
        bool is_first = true;
        buffer_append_text(out, i == 0 ? "{" : ",{");
        json_write_key(out, "role", &is_first);
        json_write_string(out, slice_from_text(role_names[message->role]));
        json_write_key(out, "content", &is_first);
        json_write_string(out, message->text);
        buffer_append_byte(out, '}');
    }
    buffer_append_byte(out, ']');
}

enum err model_request_write(const struct agent_config *agent, const struct model_call *call, struct buffer *out)
{
    bool is_first = true;
    buffer_append_byte(out, '{');
    json_write_key(out, "model", &is_first);
    json_write_string(out, agent->model);
    json_write_key(out, "messages", &is_first);
    write_messages(call, out);
    json_write_key(out, "stream", &is_first);
    buffer_append_text(out, "true");
    json_write_key(out, "stream_options", &is_first);
    buffer_append_text(out, "{\"include_usage\":true}");
    if (agent->temperature >= 0) {
        json_write_key(out, "temperature", &is_first);
        buffer_append_format(out, "%.6g", agent->temperature); /* the process keeps the C locale: a point, no comma */
    }
    if (agent->max_tokens > 0) {
        json_write_key(out, "max_tokens", &is_first);
        json_write_unsigned(out, agent->max_tokens);
    }
    buffer_append_byte(out, '}');
    return out->is_overflow ? ERR_LIMIT : OK;
}
