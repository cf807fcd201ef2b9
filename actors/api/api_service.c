/* SPDX-License-Identifier: Apache-2.0 */
/* api_service: what operators ask of the server itself: agents, breakers, dead letters, metrics, its own description. All but
 * the dead letters are answered at once from this worker's memory. */
#include "actors/api/api_input.h"
#include "actors/api/api_internal.h"
#include "actors/config/config.h"
#include "actors/dead_letters.h"
#include "actors/llm/llm.h"
#include "net/json.h"
#include "runtime/assert.h"

extern const unsigned char api_openapi_json[];
extern const size_t api_openapi_json_size;

/* ---- agents ------------------------------------------------------------------------------------------------------------- */

static const char *agent_kind_name(enum agent_kind kind)
{
    switch (kind) {
    case AGENT_ECHO: return "echo";
    case AGENT_RULES: return "rules";
    case AGENT_LLM: return "llm";
    }
    return "echo";
}

/* What anybody may know of an agent: neither instructions nor anything of a provider but its name. */
static void write_agent(struct buffer *out, const struct config *config, int index)
{
    const struct agent_config *agent = &config->agents[index];
    bool is_first = true;
    buffer_append_byte(out, '{');
    json_write_key(out, "name", &is_first);
    json_write_string(out, agent->name);
    json_write_key(out, "kind", &is_first);
    json_write_string(out, slice_from_text(agent_kind_name(agent->kind)));
    json_write_key(out, "on_busy", &is_first);
    json_write_string(out, slice_from_text(agent->reject_when_busy ? "reject" : "enqueue"));
    json_write_key(out, "is_default", &is_first);
    buffer_append_text(out, index == config->default_agent ? "true" : "false");
    if (agent->kind == AGENT_RULES) {
        json_write_key(out, "rules", &is_first);
        json_write_unsigned(out, agent->rule_count);
    }
    if (agent->kind == AGENT_LLM) {
        json_write_key(out, "provider", &is_first);
        json_write_string(out, config->providers[agent->provider].name);
        json_write_key(out, "model", &is_first);
        json_write_string(out, agent->model);
    }
    buffer_append_byte(out, '}');
}

void api_handle_agents(struct api *api, const struct api_call *call)
{
    const struct config *config = api->services->config;
    buffer_clear(&api->out);
    buffer_append_text(&api->out, "{\"agents\":[");
    for (uint32_t i = 0; i < config->agent_count; i++) {
        if (i)
            buffer_append_byte(&api->out, ',');
        write_agent(&api->out, config, (int)i);
    }
    buffer_append_text(&api->out, "]}");
    api_answer_out(api, &call->exchange, 200);
}

void api_handle_agent(struct api *api, const struct api_call *call)
{
    int index = config_find_agent(api->services->config, call->parameters[0]);
    if (index < 0) {
        api_refuse(api, &call->exchange, 404, "no such agent in the configuration");
        return;
    }
    buffer_clear(&api->out);
    write_agent(&api->out, api->services->config, index);
    api_answer_out(api, &call->exchange, 200);
}

/* ---- dead letters ------------------------------------------------------------------------------------------------------- */

static void on_dead_letters(struct api *api, struct api_request *request, struct msg **msg)
{
    const struct conv_answer *answer = container_of(*msg, struct conv_answer, msg);
    if ((*msg)->kind == CONV_FINISHED)
        api_answer_json(api, &request->exchange, 200, answer->body);
    else
        api_refuse_code(api, &request->exchange, answer->code, answer->detail, answer->retry_after_s);
    api_request_release(request);
}

static const struct api_waiter dead_letters_waiter = {.on_answer = on_dead_letters};

void api_handle_dead_letters(struct api *api, const struct api_call *call)
{
    struct problem problem;
    uint64_t after, limit;
    if (!input_query_page(call->request, &after, &limit, &problem)) {
        api_answer_problem(api, &call->exchange, &problem);
        return;
    }
    struct api_request *request = api_request_open(api, call, &dead_letters_waiter, (struct slice){0});
    if (!request)
        return;
    const struct dead_letters_read fill = {.reply_to = api->self,
                                           .reply_token = api_request_token(request),
                                           .tenant = api_tenant,
                                           .after = after,
                                           .limit = (uint32_t)limit};
    struct dead_letters_read *read = dead_letters_read_create(api->worker, &fill);
    struct msg *msg = read ? &read->msg : NULL;
    enum err code = msg ? actor_send(api->worker, api->services->dead_letters, &msg) : ERR_NO_MEMORY;
    if (code == OK)
        return;
    msg_destroy(api->worker, &msg);
    api_refuse_code(api, &call->exchange, code == ERR_MAILBOX_FULL ? ERR_OVERLOAD : code, (struct slice){0}, 0);
    api_request_release(request);
}

/* ---- the rest ----------------------------------------------------------------------------------------------------------- */

void api_handle_breakers(struct api *api, const struct api_call *call)
{
    buffer_clear(&api->out);
    providers_write_json(api->services->providers, &api->out);
    api_answer_out(api, &call->exchange, 200);
}

void api_handle_metrics(struct api *api, const struct api_call *call)
{
    buffer_clear(&api->out);
    metrics_write_text(&api->out);
    if (api->out.is_overflow)
        api_refuse(api, &call->exchange, 500, "the metrics are larger than the server may send");
    else
        api_answer_text(api, &call->exchange, "text/plain; version=0.0.4; charset=utf-8", buffer_slice(&api->out));
}

void api_handle_openapi(struct api *api, const struct api_call *call)
{
    struct slice document = slice_of((const char *)api_openapi_json, api_openapi_json_size);
    api_answer_json(api, &call->exchange, 200, document);
}
