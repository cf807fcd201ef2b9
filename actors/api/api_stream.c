/* SPDX-License-Identifier: Apache-2.0 */
/* api_stream: GET …/stream: the events of a conversation after a version, then as they happen, as server-sent events.
 *
 *   LOOK   CONV_GET: is there such a conversation, and is the version asked for not in its future? A refusal must come before
 *          the head of the answer.
 *   READ   CONV_EVENTS, page by page, each written only as fast as the client reads: a history larger than what may wait
 *          unsent would otherwise close every reader that asks for it (http_server H5).
 *   LIVE   CONV_SUBSCRIBE after the last version written. What comes in between is after that version, so nothing is missed.
 */
#include "actors/api/api_input.h"
#include "actors/api/api_internal.h"
#include "net/json.h"
#include "net/sse.h"
#include "runtime/assert.h"
#include "runtime/decimal.h"

enum { PAGE_EVENTS = 64, UNSENT_BYTES_MAX = 64 << 10 };

static bool send_event(struct api *api, struct api_request *request, uint64_t version, struct slice type,
                       struct slice envelope)
{
    char digits[DECIMAL_DIGITS_MAX];
    if (!api_stream_event(api, request, decimal_format(version, digits), type, envelope))
        return false;
    request->u.stream.after = version;
    return true;
}

/* ---- live --------------------------------------------------------------------------------------------------------------- */

static void on_live_answer(struct api *api, struct api_request *request, struct msg **msg)
{
    const struct conv_answer *answer = container_of(*msg, struct conv_answer, msg);
    if ((*msg)->kind == CONV_EVENT)
        (void)send_event(api, request, answer->version, answer->agent, answer->body);
    else if ((*msg)->kind == CONV_END || (*msg)->kind == CONV_REFUSED)
        api_stream_end(api, request);
}

static const struct api_waiter live_waiter = {
    .on_answer = on_live_answer, .on_timer = api_stream_on_silence, .kind_when_gone = CONV_UNSUBSCRIBE};

static void go_live(struct api *api, struct api_request *request)
{
    request->waiter = &live_waiter;
    const struct conv_request fill = {.after = request->u.stream.after};
    if (api_request_try_send(request, CONV_SUBSCRIBE, &fill) != OK)
        api_stream_end(api, request);
}

/* ---- reading ------------------------------------------------------------------------------------------------------------ */

static void ask_page(struct api *api, struct api_request *request)
{
    const struct conv_request fill = {.after = request->u.stream.after, .limit = PAGE_EVENTS};
    if (api_request_try_send(request, CONV_EVENTS, &fill) != OK)
        api_stream_end(api, request);
}

/* Sends envelopes of the page, from where it stopped, until too much waits unsent. */
static void send_page(struct api *api, struct api_request *request)
{
    struct event_page *page = &request->u.stream.page;
    struct page_event event;
    for (;;) {
        if (http_stream_unsent(api->http, request->exchange.id) > UNSENT_BYTES_MAX)
            return; /* goes on when that has left */
        if (!event_page_next(page, &event))
            break;
        if (!send_event(api, request, event.version, event.type, event.envelope.raw))
            return;
    }
    msg_destroy(api->worker, &request->kept);
    if (page->has_next_page)
        ask_page(api, request);
    else
        go_live(api, request);
}

static void on_page(struct api *api, struct api_request *request, struct msg **msg)
{
    if ((*msg)->kind == CONV_REFUSED) {
        api_stream_end(api, request);
    } else if ((*msg)->kind == CONV_FINISHED) {
        request->kept = *msg;
        *msg = NULL;
        if (event_page_open(&request->u.stream.page, container_of(request->kept, struct conv_answer, msg)->body))
            send_page(api, request);
        else
            api_stream_end(api, request);
    }
}

static void on_drained(struct api *api, struct api_request *request)
{
    if (request->kept)
        send_page(api, request);
}

static const struct api_waiter page_waiter = {
    .on_answer = on_page, .on_timer = api_stream_on_silence, .on_drained = on_drained};

/* ---- looking ------------------------------------------------------------------------------------------------------------ */

static void begin_stream(struct api *api, struct api_request *request)
{
    request->waiter = &page_waiter;
    api_answer_stream(api, &request->exchange);
    buffer_clear(&api->out);
    sse_write_comment(&api->out,
                      SLICE_LITERAL("stream")); /* some clients report a connection only with its first bytes */
    if (!api_stream_out(api, request))
        return;
    api_stream_expect_silence(api, request);
    ask_page(api, request);
}

static void on_look(struct api *api, struct api_request *request, struct msg **msg)
{
    const struct conv_answer *answer = container_of(*msg, struct conv_answer, msg);
    struct json_value conversation;
    struct json_problem problem;
    if ((*msg)->kind == CONV_REFUSED) {
        api_refuse_code(api, &request->exchange, answer->code, answer->detail, answer->retry_after_s);
        api_request_release(request);
    } else if ((*msg)->kind == CONV_FINISHED) {
        uint64_t version =
            json_validate(answer->body, &conversation, &problem) == OK ? event_page_number(conversation, "version") : 0;
        if (request->u.stream.after <= version) {
            begin_stream(api, request);
            return;
        }
        api_refuse(api, &request->exchange, 400, "Last-Event-ID (or after) is later than the last event");
        api_request_release(request);
    }
}

static const struct api_waiter look_waiter = {.on_answer = on_look};

/* Last-Event-ID wins over ?after: a browser that connects again sends both, and the header is the newer. */
static bool read_after(struct api *api, const struct api_call *call, uint64_t *ret_after)
{
    struct problem problem;
    struct slice last = http_request_header(call->request, "Last-Event-ID");
    if (last.size) {
        if (input_number(last, ret_after))
            return true;
        api_refuse(api, &call->exchange, 400, "Last-Event-ID must be a version");
        return false;
    }
    if (input_query_number(call->request, "after", 0, UINT64_MAX, ret_after, &problem))
        return true;
    api_answer_problem(api, &call->exchange, &problem);
    return false;
}

void api_handle_stream(struct api *api, const struct api_call *call)
{
    uint64_t after;
    if (!read_after(api, call, &after))
        return;
    struct api_request *request = api_request_open(api, call, &look_waiter, call->parameters[0]);
    if (!request)
        return;
    request->u.stream.after = after;
    (void)api_request_send(request, CONV_GET, &(struct conv_request){0});
}
