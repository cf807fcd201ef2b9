/* SPDX-License-Identifier: Apache-2.0 */
/* api_conversation: reading one conversation and acting on it. Each route is one request to the conversation and one answer,
 * whose body is passed on as it comes. */
#include "actors/api/api_input.h"
#include "actors/api/api_internal.h"
#include "net/json.h"
#include "runtime/assert.h"

static void refuse(struct api *api, struct api_request *request, const struct conv_answer *answer)
{
    api_refuse_code(api, &request->exchange, answer->code, answer->detail, answer->retry_after_s);
    api_request_release(request);
}

static void on_body(struct api *api, struct api_request *request, struct msg **msg)
{
    const struct conv_answer *answer = container_of(*msg, struct conv_answer, msg);
    if ((*msg)->kind == CONV_REFUSED) {
        refuse(api, request, answer);
    } else if ((*msg)->kind == CONV_FINISHED) {
        api_answer_json(api, &request->exchange, 200, answer->body.size ? answer->body : SLICE_LITERAL("{}"));
        api_request_release(request);
    }
}

static void on_turn(struct api *api, struct api_request *request, struct msg **msg)
{
    const struct conv_answer *answer = container_of(*msg, struct conv_answer, msg);
    if ((*msg)->kind == CONV_REFUSED) {
        refuse(api, request, answer);
    } else if ((*msg)->kind == CONV_FINISHED) {
        buffer_clear(&api->out);
        api_write_turn(&api->out, api_request_conversation(request), answer, trace_id_slice(&request->exchange.trace));
        api_answer_out(api, &request->exchange, 200);
        api_request_release(request);
    }
}

/* Nobody needs to know when the client has gone: there is one answer, and it comes at once. */
static const struct api_waiter body_waiter = {.on_answer = on_body};
static const struct api_waiter turn_waiter = {.on_answer = on_turn};

static void ask(struct api *api, const struct api_call *call, const struct api_waiter *waiter, uint16_t kind,
                const struct conv_request *fill)
{
    struct api_request *request = api_request_open(api, call, waiter, call->parameters[0]);
    if (request)
        (void)api_request_send(request, kind, fill);
}

/* ---- reading ------------------------------------------------------------------------------------------------------------ */

void api_handle_get(struct api *api, const struct api_call *call)
{
    ask(api, call, &body_waiter, CONV_GET, &(struct conv_request){0});
}

void api_handle_turn(struct api *api, const struct api_call *call)
{
    ask(api, call, &turn_waiter, CONV_TURN, &(struct conv_request){.turn_id = call->parameters[1]});
}

static void ask_page(struct api *api, const struct api_call *call, uint16_t kind)
{
    struct problem problem;
    uint64_t after, limit;
    if (input_query_page(call->request, &after, &limit, &problem))
        ask(api, call, &body_waiter, kind, &(struct conv_request){.after = after, .limit = (uint32_t)limit});
    else
        api_answer_problem(api, &call->exchange, &problem);
}

void api_handle_events(struct api *api, const struct api_call *call)
{
    ask_page(api, call, CONV_EVENTS);
}

void api_handle_messages(struct api *api, const struct api_call *call)
{
    ask_page(api, call, CONV_MESSAGES);
}

/* ---- acting ------------------------------------------------------------------------------------------------------------- */

enum { REASON_BYTES_MAX = 256, CONTEXT_BYTES_MAX = 4096, TO_BYTES_MAX = 69 };

/* The fields that the body of an act may have. */
struct act_body {
    struct slice to, reason, context;
};

static void read_act_string(struct api *api, struct json_value value, const char *pointer, uint32_t size_max,
                            struct slice *ret_text, struct problem *problem)
{
    if (value.type != JSON_STRING) {
        problem_add_error(problem, 400, pointer, "must be a string");
        return;
    }
    *ret_text = input_text(&api->input, value);
    if (ret_text->size == 0 || ret_text->size > size_max)
        problem_add_error(problem, 422, pointer, "must be 1 to %u bytes", size_max);
}

static void read_act_member(struct api *api, bool is_handoff, struct slice raw_key, struct json_value value,
                            struct act_body *body, struct problem *problem)
{
    if (json_key_is(raw_key, "reason")) {
        read_act_string(api, value, "/reason", REASON_BYTES_MAX, &body->reason, problem);
    } else if (is_handoff && json_key_is(raw_key, "to")) {
        read_act_string(api, value, "/to", TO_BYTES_MAX, &body->to, problem);
    } else if (is_handoff && json_key_is(raw_key, "context")) {
        body->context = value.raw;
        if (value.type != JSON_OBJECT)
            problem_add_error(problem, 400, "/context", "must be an object");
        else if (value.raw.size > CONTEXT_BYTES_MAX)
            problem_add_error(problem, 422, "/context", "must be at most %d bytes", CONTEXT_BYTES_MAX);
    } else {
        char pointer[PROBLEM_POINTER_BYTES];
        input_pointer(pointer, sizeof pointer, "", raw_key);
        problem_add_error(problem, 400, pointer, "unknown field");
    }
}

/* "agent:sales", "human:agent-7", "queue:vendas" */
static bool is_target(struct slice to)
{
    static const char *const kinds[] = {"agent:", "human:", "queue:"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        size_t size = strlen(kinds[i]);
        if (to.size > size && memcmp(to.data, kinds[i], size) == 0)
            return input_is_id(slice_of(to.data + size, to.size - size), TO_BYTES_MAX);
    }
    return false;
}

static bool read_act_body(struct api *api, const struct api_call *call, bool is_handoff, struct act_body *body,
                          struct problem *problem)
{
    *problem = (struct problem){.status = 415, .detail = SLICE_LITERAL("Content-Type must be application/json")};
    if (!input_is_json(call->request))
        return false;
    struct json_value object, value;
    if (!input_object(call->request, &object, problem))
        return false;
    if (!input_make_room(&api->input, call->request)) {
        *problem = problem_of(ERR_NO_MEMORY, (struct slice){0}, 0);
        return false;
    }
    problem->status = 0; /* set by the first error */
    struct json_iterator iterator = {0};
    struct slice raw_key;
    while (json_next_member(object, &iterator, &raw_key, &value))
        read_act_member(api, is_handoff, raw_key, value, body, problem);
    if (is_handoff && !json_find(object, "to", &value))
        problem_add_error(problem, 400, "/to", "is required");
    else if (is_handoff && body->to.size && !is_target(body->to))
        problem_add_error(problem, 422, "/to", "must be agent:NAME, human:NAME or queue:NAME");
    return problem->error_count == 0;
}

static void act(struct api *api, const struct api_call *call, uint16_t kind)
{
    bool is_handoff = kind == CONV_HANDOFF;
    struct act_body body = {0};
    struct problem problem;
    if ((is_handoff || call->request->body.size) && !read_act_body(api, call, is_handoff, &body, &problem)) {
        api_answer_problem(api, &call->exchange, &problem);
        return;
    }
    struct conv_request fill = {.to = body.to, .reason = body.reason, .context = body.context};
    if (!input_if_match(call->request, &fill.has_if_match, &fill.if_match)) {
        api_refuse(api, &call->exchange, 400, "If-Match must be a version");
        return;
    }
    ask(api, call, &body_waiter, kind, &fill);
}

void api_handle_handoff(struct api *api, const struct api_call *call)
{
    act(api, call, CONV_HANDOFF);
}

void api_handle_cancel(struct api *api, const struct api_call *call)
{
    act(api, call, CONV_CANCEL);
}

void api_handle_park(struct api *api, const struct api_call *call)
{
    act(api, call, CONV_PARK);
}

void api_handle_resume(struct api *api, const struct api_call *call)
{
    act(api, call, CONV_RESUME);
}

void api_handle_close(struct api *api, const struct api_call *call)
{
    act(api, call, CONV_CLOSE);
}

void api_handle_reopen(struct api *api, const struct api_call *call)
{
    act(api, call, CONV_REOPEN);
}

void api_handle_erase(struct api *api, const struct api_call *call)
{
    act(api, call, CONV_ERASE);
}
