/* SPDX-License-Identifier: Apache-2.0 */
/* api_message: POST …/messages and its three ways to answer: the reply (200), a receipt once the message is durable (202), or
 * the turn's events as they happen.
 *
 *   sent --- CONV_FINISHED ------------------------------------------> 200 (or 202 when the client did not want to wait)
 *    |  \--- CONV_REFUSED -------------------------------------------> a problem
 *    \------ CONV_ACCEPTED, kept --- CONV_FINISHED ------------------> 200
 *                               \--- the wait ran out, CONV_REFUSED -> 202 with Location
 *   sent, the wait ran out (late) --- CONV_ACCEPTED -----------------> 202 with Location
 *
 * A client that leaves cancels nothing (api_internal.h A2): the turn goes on, and its answer can be looked up.
 */
#include "actors/api/api_message.h"

#include "actors/admission.h"
#include "actors/api/api_input.h"
#include "actors/api/api_internal.h"
#include "net/json.h"
#include "net/sse.h"
#include "runtime/assert.h"
#include "runtime/decimal.h"

static const uint64_t second_ns = 1000000000;

/* ---- the answer's JSON -------------------------------------------------------------------------------------------------- */

static void write_text(struct buffer *out, const char *key, struct slice text, bool *is_first)
{
    json_write_key(out, key, is_first);
    json_write_string(out, text);
}

static void write_number(struct buffer *out, const char *key, uint64_t number, bool *is_first)
{
    json_write_key(out, key, is_first);
    json_write_unsigned(out, number);
}

static void write_reply(struct buffer *out, const struct conv_answer *answer)
{
    bool is_first = true;
    buffer_append_byte(out, '{');
    write_text(out, "text", answer->text, &is_first);
    write_text(out, "agent", answer->agent, &is_first);
    buffer_append_byte(out, '}');
}

static void write_usage(struct buffer *out, const struct conv_answer *answer)
{
    bool is_first = true;
    buffer_append_byte(out, '{');
    write_number(out, "input_tokens", answer->input_tokens, &is_first);
    write_number(out, "output_tokens", answer->output_tokens, &is_first);
    buffer_append_byte(out, '}');
}

static void write_failure(struct buffer *out, const struct conv_answer *answer)
{
    bool is_first = true;
    buffer_append_byte(out, '{');
    write_text(out, "code", slice_from_text(err_name(answer->code)), &is_first);
    write_text(out, "detail", answer->detail.size ? answer->detail : slice_from_text(err_text(answer->code)), &is_first);
    buffer_append_byte(out, '}');
}

void api_write_turn(struct buffer *out, struct slice conversation, const struct conv_answer *answer,
                    struct slice trace_id)
{
    bool is_first = true;
    buffer_append_byte(out, '{');
    write_text(out, "conversation_id", conversation, &is_first);
    write_text(out, "message_id", answer->message_id, &is_first);
    write_text(out, "turn_id", answer->turn_id, &is_first);
    write_number(out, "version", answer->version, &is_first);
    json_write_key(out, "duplicate", &is_first);
    buffer_append_text(out, answer->is_duplicate ? "true" : "false");
    write_text(out, "status", slice_from_text(turn_status_name(answer->status)), &is_first);
    if (answer->has_reply) {
        json_write_key(out, "reply", &is_first);
        write_reply(out, answer);
    }
    if (answer->has_usage) {
        json_write_key(out, "usage", &is_first);
        write_usage(out, answer);
    }
    if (answer->finish_reason.size)
        write_text(out, "finish_reason", answer->finish_reason, &is_first);
    if (answer->status == TURN_FAILED) {
        json_write_key(out, "error", &is_first);
        write_failure(out, answer);
    }
    write_text(out, "trace_id", trace_id, &is_first);
    write_number(out, "duration_ms", answer->duration_ms, &is_first);
    buffer_append_byte(out, '}');
}

/* ---- plain answers ------------------------------------------------------------------------------------------------------ */

static void write_answer(struct api *api, const struct api_request *request, const struct conv_answer *answer)
{
    buffer_clear(&api->out);
    api_write_turn(&api->out, api_request_conversation(request), answer, trace_id_slice(&request->exchange.trace));
}

/* 202: durable, and here is where its answer will be. */
static void answer_receipt(struct api *api, struct api_request *request, const struct conv_answer *answer)
{
    struct buffer *location = &api->input; /* the request's texts are long sent */
    buffer_clear(location);
    buffer_append_text(location, "/v1/conversations/");
    buffer_append_slice(location, api_request_conversation(request));
    buffer_append_text(location, "/turns/");
    buffer_append_slice(location, answer->turn_id);
    write_answer(api, request, answer);
    api_answer_json_at(api, &request->exchange, 202, buffer_slice(&api->out), buffer_slice(location));
    api_request_release(request);
}

/* A turn that failed is an answer too (200, status failed): a 503 would say that nothing was accepted, and have its client
 * try for ever what will not run again. */
static void answer_finished(struct api *api, struct api_request *request, const struct conv_answer *answer)
{
    if (request->u.message.is_late && !answer->is_duplicate) {
        answer_receipt(api, request, answer);
        return;
    }
    write_answer(api, request, answer);
    api_answer_out(api, &request->exchange, 200);
    api_request_release(request);
}

static void keep_accepted(struct api_request *request, struct msg **msg)
{
    msg_destroy(request->api->worker, &request->kept); /* a second one, after a crash and restart, is the newer */
    request->kept = *msg;
    *msg = NULL;
    request->u.message.is_accepted = true;
}

static void on_plain_answer(struct api *api, struct api_request *request, struct msg **msg)
{
    const struct conv_answer *answer = container_of(*msg, struct conv_answer, msg);
    switch ((*msg)->kind) {
    case CONV_ACCEPTED:
        if (request->u.message.is_late)
            answer_receipt(api, request, answer);
        else
            keep_accepted(request, msg);
        return;
    case CONV_FINISHED: answer_finished(api, request, answer); return;
    case CONV_REFUSED:
        /* Durable is durable: what failed after it (a full disk, a crash, a shutdown) is taken up again, and a problem would
         * have its client say the same once more. Only an erasure takes it back. */
        if (request->u.message.is_accepted && answer->code != ERR_NOT_FOUND) {
            answer_receipt(api, request, container_of(request->kept, struct conv_answer, msg));
            return;
        }
        api_refuse_code(api, &request->exchange, answer->code, answer->detail, answer->retry_after_s);
        api_request_release(request);
        return;
    default: return; /* events and deltas were not asked for */
    }
}

static void on_plain_timer(struct api *api, struct api_request *request)
{
    if (request->u.message.is_accepted)
        answer_receipt(api, request, container_of(request->kept, struct conv_answer, msg));
    else
        request->u.message.is_late = true;
}

static const struct api_waiter plain_waiter = {
    .on_answer = on_plain_answer, .on_timer = on_plain_timer, .kind_when_gone = CONV_ABANDON};

/* ---- the turn as events ------------------------------------------------------------------------------------------------- */

static void begin_events(struct api *api, struct api_request *request)
{
    if (request->u.message.is_streaming)
        return;
    request->u.message.is_streaming = true;
    api_answer_stream(api, &request->exchange);
    api_stream_expect_silence(api, request);
}

static void send_event(struct api *api, struct api_request *request, const struct conv_answer *answer)
{
    char digits[DECIMAL_DIGITS_MAX];
    begin_events(api, request);
    if (slice_has_text(answer->agent, "turn.completed") || slice_has_text(answer->agent, "turn.failed") ||
        slice_has_text(answer->agent, "turn.cancelled"))
        request->u.message.has_ended = true;
    (void)api_stream_event(api, request, decimal_format(answer->version, digits), answer->agent, answer->body);
}

/* Without id: it is not journalled, so that nobody can resume after it. */
static void send_delta(struct api *api, struct api_request *request, const struct conv_answer *answer)
{
    begin_events(api, request);
    struct buffer *data = &api->input;
    bool is_first = true;
    buffer_clear(data);
    buffer_append_byte(data, '{');
    write_text(data, "turn_id", answer->turn_id, &is_first);
    write_text(data, "text", answer->text, &is_first);
    buffer_append_byte(data, '}');
    (void)api_stream_event(api, request, (struct slice){0}, SLICE_LITERAL("turn.delta"), buffer_slice(data));
}

/* The stream ends with the event that ended the turn; a copy of a finished message has none, and gets the answer as one. */
static void end_events(struct api *api, struct api_request *request, const struct conv_answer *answer)
{
    begin_events(api, request);
    if (!request->u.message.has_ended) {
        write_answer(api, request, answer);
        buffer_clear(&api->input);
        buffer_append_slice(&api->input, buffer_slice(&api->out));
        struct slice event = answer->status == TURN_FAILED         ? SLICE_LITERAL("turn.failed")
                             : answer->status == TURN_IS_CANCELLED ? SLICE_LITERAL("turn.cancelled")
                                                                   : SLICE_LITERAL("turn.completed");
        if (!api_stream_event(api, request, (struct slice){0}, event, buffer_slice(&api->input)))
            return;
    }
    api_stream_end(api, request);
}

/* Refused after the head was out (the conversation crashed for good, the server leaves): the problem as the last event. */
static void end_events_refused(struct api *api, struct api_request *request, const struct conv_answer *answer)
{
    const struct problem problem = problem_of(answer->code, answer->detail, answer->retry_after_s);
    buffer_clear(&api->input);
    problem_write(&api->input, &problem, trace_id_slice(&request->exchange.trace));
    if (!api_stream_event(api, request, (struct slice){0}, SLICE_LITERAL("turn.failed"), buffer_slice(&api->input)))
        return;
    api_stream_end(api, request);
}

static void on_event_answer(struct api *api, struct api_request *request, struct msg **msg)
{
    const struct conv_answer *answer = container_of(*msg, struct conv_answer, msg);
    switch ((*msg)->kind) {
    case CONV_ACCEPTED: begin_events(api, request); return;
    case CONV_EVENT: send_event(api, request, answer); return;
    case CONV_DELTA: send_delta(api, request, answer); return;
    case CONV_FINISHED: end_events(api, request, answer); return;
    case CONV_END: /* nothing more will come */
    case CONV_REFUSED:
        if (request->u.message.is_streaming) {
            end_events_refused(api, request, answer);
            return;
        }
        api_refuse_code(api, &request->exchange, answer->code, answer->detail, answer->retry_after_s);
        api_request_release(request);
        return;
    default: return;
    }
}

static const struct api_waiter event_waiter = {
    .on_answer = on_event_answer, .on_timer = api_stream_on_silence, .kind_when_gone = CONV_ABANDON};

/* ---- the route ---------------------------------------------------------------------------------------------------------- */

/* Reads Prefer into the seconds to wait. Returns: false when it was refused and answered. */
static bool read_wait(struct api *api, const struct api_call *call, uint64_t *ret_wait_s)
{
    struct input_prefer prefer;
    if (!input_prefer(call->request, &prefer)) {
        api_refuse(api, &call->exchange, 400, "Prefer: wait must be a whole number of seconds");
        return false;
    }
    if (prefer.wait_s > API_WAIT_S_MAX) {
        api_refuse(api, &call->exchange, 422, "Prefer: wait must be at most 300 seconds");
        return false;
    }
    *ret_wait_s = prefer.has_wait ? prefer.wait_s : prefer.respond_async ? 0 : API_WAIT_S_DEFAULT;
    return true;
}

static bool read_message(struct api *api, const struct api_call *call, struct conv_request *ret_message)
{
    struct problem problem;
    if (!input_is_json(call->request)) {
        api_refuse(api, &call->exchange, 415, "Content-Type must be application/json");
        return false;
    }
    if (!message_read(call->request, &api->input, &api->out, ret_message, &problem)) {
        api_answer_problem(api, &call->exchange, &problem);
        return false;
    }
    if (!input_if_match(call->request, &ret_message->has_if_match, &ret_message->if_match)) {
        api_refuse(api, &call->exchange, 400, "If-Match must be a version");
        return false;
    }
    return true;
}

/* Returns: false when it was refused and answered. */
static bool is_within_limits(struct api *api, const struct api_call *call, const struct conv_request *message)
{
    const char *whose;
    uint64_t retry_after_ns = 0;
    if (message_is_within_limits(api->services, api_tenant, call->parameters[0], message->customer_id,
                                 worker_now_ns(api->worker), &whose, &retry_after_ns))
        return true;
    api_refuse_code(api, &call->exchange, ERR_LIMIT, slice_from_text(whose), (uint32_t)(retry_after_ns / second_ns) + 1);
    return false;
}

void api_handle_message(struct api *api, const struct api_call *call)
{
    struct conv_request message;
    uint64_t wait_s;
    enum err admitted = admission_check(api->services);
    if (admitted != OK) {
        api_refuse_code(api, &call->exchange, admitted, slice_from_text(err_text(admitted)), 0);
        return;
    }
    if (!read_message(api, call, &message) || !read_wait(api, call, &wait_s) || !is_within_limits(api, call, &message))
        return;
    message.received_ns = call->request->received_ns;
    message.subscribe = input_asks_for(call->request, SSE_CONTENT_TYPE);
    struct api_request *request =
        api_request_open(api, call, message.subscribe ? &event_waiter : &plain_waiter, call->parameters[0]);
    if (!request)
        return;
    request->u.message.is_late = wait_s == 0;
    if (api_request_send(request, CONV_MESSAGE, &message) && !message.subscribe && wait_s)
        timer_start(api->worker, &request->timer, message.received_ns + wait_s * second_ns);
}
