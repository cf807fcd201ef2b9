/* SPDX-License-Identifier: Apache-2.0 */
/* rpc_events: reading a conversation, a page of its events, or all of them as they happen.
 *
 * events.subscribe goes the way of GET …/stream (api_stream.c):
 *
 *   LOOK   CONV_GET: is there such a conversation, and is the version asked for not in its future? Then the call is answered,
 *          and its id names the stream.
 *   READ   CONV_EVENTS, page by page, each sent only as fast as the client reads (rpc_server P4).
 *   LIVE   CONV_SUBSCRIBE after the last version sent. What comes in between is after that version, so nothing is missed.
 *   WAIT   the connection has too much unsent, of whatever kind: the stream leaves the conversation, and goes back to READ when
 *          there is room. The journal keeps what happens meanwhile, so that a slow reader costs no memory.
 *
 * `after` is the cursor of all of them: an event is sent when it is the next one. What a conversation still sends to a
 * subscription that was left is either before it, and passed over, or leaves a gap, and is read again. */
#include "actors/api/api_input.h"
#include "actors/rpc/rpc_internal.h"
#include "net/json_pack.h"
#include "runtime/assert.h"

/* Events of a page are written while no more than this is unsent: what on_drained waits for, and the least that rpc.send_bytes
 * may be. */
enum { PAGE_EVENTS = 64, UNSENT_BYTES_MAX = 64 << 10 };

/* ---- one answer -------------------------------------------------------------------------------------------------------- */

static void on_body(struct rpc *rpc, struct rpc_pending *pending, struct msg **msg)
{
    const struct conv_answer *answer = container_of(*msg, struct conv_answer, msg);
    struct json_value body;
    struct json_problem problem;
    if ((*msg)->kind == CONV_REFUSED) {
        rpc_pending_refuse(pending, answer);
    } else if ((*msg)->kind == CONV_FINISHED) {
        if (json_validate(answer->body, &body, &problem) != OK) {
            rpc_pending_refuse(pending, &(struct conv_answer){.code = ERR_STORAGE_CORRUPT});
            return;
        }
        buffer_clear(&rpc->out);
        json_pack(&rpc->out, body);
        rpc_pending_answer_out(pending);
    }
}

/* Nobody needs to know when the client has gone: there is one answer, and it comes at once. */
static const struct rpc_waiter body_waiter = {.on_answer = on_body};

void rpc_handle_get(struct rpc *rpc, const struct rpc_asked *asked)
{
    struct rpc_pending *pending = rpc_pending_open(rpc, asked, &body_waiter);
    if (pending)
        rpc_pending_ask(pending, CONV_GET, &(struct conv_request){0});
}

void rpc_handle_events(struct rpc *rpc, const struct rpc_asked *asked)
{
    const struct rpc_params *params = asked->params;
    uint64_t limit = params->present & RPC_FIELD(RPC_LIMIT) ? params->limit : INPUT_PAGE_DEFAULT;
    if (limit == 0 || limit > INPUT_PAGE_MAX) {
        problem_add_error(asked->problem, 422, "/limit", "must be from 1 to %d", INPUT_PAGE_MAX);
        rpc_answer_problem(rpc, asked->call, asked->problem);
        return;
    }
    struct rpc_pending *pending = rpc_pending_open(rpc, asked, &body_waiter);
    if (pending)
        rpc_pending_ask(pending, CONV_EVENTS, &(struct conv_request){.after = params->after, .limit = (uint32_t)limit});
}

/* ---- streams ----------------------------------------------------------------------------------------------------------- */

/* {"subscription": msgid, ...}: more pairs follow. */
static void begin_params(struct rpc_pending *pending, msgpack_packer *packer, uint32_t pairs)
{
    struct buffer *out = &pending->rpc->out;
    buffer_clear(out);
    pack_init(packer, out);
    msgpack_pack_map(packer, pairs);
    pack_text(packer, SLICE_LITERAL("subscription"));
    msgpack_pack_uint32(packer, pending->u.stream.msgid);
}

/* Says `why` as the last notification, and ends it. */
static void end_stream(struct rpc_pending *pending, const char *why)
{
    msgpack_packer packer;
    begin_params(pending, &packer, 2);
    pack_text(&packer, SLICE_LITERAL("code"));
    pack_text(&packer, slice_from_text(why));
    (void)rpc_stream_end(pending->rpc->server, pending->call, "end", buffer_slice(&pending->rpc->out));
    rpc_pending_release(pending);
}

/* Returns: ERR_LIMIT: the reader is slow, nothing was sent. */
static enum err send_event(struct rpc_pending *pending, uint64_t version, struct json_value envelope)
{
    struct rpc *rpc = pending->rpc;
    msgpack_packer packer;
    begin_params(pending, &packer, 2);
    pack_text(&packer, SLICE_LITERAL("event"));
    json_pack(&rpc->out, envelope);
    if (rpc->out.is_overflow)
        return ERR_NO_MEMORY;
    enum err code = rpc_stream_notify(rpc->server, pending->call, "event", buffer_slice(&rpc->out));
    if (code == OK)
        pending->u.stream.after = version;
    return code;
}

static void read_on(struct rpc_pending *pending);

/* ---- live -------------------------------------------------------------------------------------------------------------- */

static void on_live_event(struct rpc_pending *pending, const struct conv_answer *answer)
{
    struct json_value envelope;
    struct json_problem problem;
    uint64_t after = pending->u.stream.after;
    if (answer->version <= after || json_validate(answer->body, &envelope, &problem) != OK)
        return; /* a page may have been ahead of the conversation's gate */
    enum err code = answer->version == after + 1 ? send_event(pending, answer->version, envelope) : ERR_STALE;
    if (code == OK)
        return;
    rpc_pending_leave(pending);
    if (code == ERR_LIMIT || code == ERR_STALE)
        read_on(pending);
    else
        end_stream(pending, rpc_code_of(code));
}

static void on_live_answer(struct rpc *rpc, struct rpc_pending *pending, struct msg **msg)
{
    (void)rpc;
    const struct conv_answer *answer = container_of(*msg, struct conv_answer, msg);
    if ((*msg)->kind == CONV_EVENT)
        on_live_event(pending, answer);
    else if ((*msg)->kind == CONV_END)
        end_stream(pending, "ended");
    else if ((*msg)->kind == CONV_REFUSED)
        end_stream(pending, rpc_code_of(answer->code));
}

static const struct rpc_waiter live_waiter = {.on_answer = on_live_answer, .kind_when_gone = CONV_UNSUBSCRIBE};

static void go_live(struct rpc_pending *pending)
{
    pending->waiter = &live_waiter;
    enum err code = rpc_pending_send(pending, CONV_SUBSCRIBE, &(struct conv_request){.after = pending->u.stream.after});
    if (code != OK)
        end_stream(pending, rpc_code_of(code));
}

/* ---- reading ----------------------------------------------------------------------------------------------------------- */

static void ask_page(struct rpc_pending *pending)
{
    const struct conv_request fill = {.after = pending->u.stream.after, .limit = PAGE_EVENTS};
    enum err code = rpc_pending_send(pending, CONV_EVENTS, &fill);
    if (code != OK)
        end_stream(pending, rpc_code_of(code));
}

/* Sends events of the page, from where it stopped, until too much waits unsent. */
static void send_page(struct rpc *rpc, struct rpc_pending *pending)
{
    struct event_page *page = &pending->u.stream.page;
    struct page_event event;
    for (;;) {
        if (rpc_stream_unsent(rpc->server, pending->call) > UNSENT_BYTES_MAX)
            return; /* goes on when that has left */
        if (!event_page_next(page, &event))
            break;
        enum err code = send_event(pending, event.version, event.envelope);
        if (code != OK) {
            end_stream(pending, rpc_code_of(code));
            return;
        }
    }
    msg_destroy(rpc->worker, &pending->kept);
    if (page->has_next_page)
        ask_page(pending);
    else
        go_live(pending);
}

static void on_page(struct rpc *rpc, struct rpc_pending *pending, struct msg **msg)
{
    const struct conv_answer *answer = container_of(*msg, struct conv_answer, msg);
    if ((*msg)->kind == CONV_REFUSED) {
        end_stream(pending, rpc_code_of(answer->code));
    } else if ((*msg)->kind == CONV_FINISHED) {
        pending->kept = *msg;
        *msg = NULL;
        if (event_page_open(&pending->u.stream.page, container_of(pending->kept, struct conv_answer, msg)->body))
            send_page(rpc, pending);
        else
            end_stream(pending, rpc_code_of(ERR_STORAGE_CORRUPT));
    }
}

static void on_drained(struct rpc *rpc, struct rpc_pending *pending)
{
    if (pending->kept)
        send_page(rpc, pending);
}

static const struct rpc_waiter page_waiter = {.on_answer = on_page, .on_drained = on_drained};

/* ---- waiting for room -------------------------------------------------------------------------------------------------- */

/* What still comes of the subscription that was left will be read. */
static void pass_over(struct rpc *rpc, struct rpc_pending *pending, struct msg **msg)
{
    (void)rpc, (void)pending, (void)msg;
}

static void on_room(struct rpc *rpc, struct rpc_pending *pending)
{
    (void)rpc;
    read_on(pending);
}

static const struct rpc_waiter room_waiter = {.on_answer = pass_over, .on_drained = on_room};

static void read_on(struct rpc_pending *pending)
{
    if (rpc_stream_unsent(pending->rpc->server, pending->call) > UNSENT_BYTES_MAX) {
        pending->waiter = &room_waiter;
    } else {
        pending->waiter = &page_waiter;
        ask_page(pending);
    }
}

/* ---- looking ----------------------------------------------------------------------------------------------------------- */

static void begin_stream(struct rpc *rpc, struct rpc_pending *pending, uint64_t version)
{
    msgpack_packer packer;
    begin_params(pending, &packer, 4);
    pack_text(&packer, SLICE_LITERAL("conversation_id"));
    pack_text(&packer, rpc_pending_conversation(pending));
    pack_text(&packer, SLICE_LITERAL("after"));
    msgpack_pack_uint64(&packer, pending->u.stream.after);
    pack_text(&packer, SLICE_LITERAL("version"));
    msgpack_pack_uint64(&packer, version);
    enum err code = rpc_stream_start(rpc->server, pending->call, buffer_slice(&rpc->out));
    if (code != OK) {
        struct slice detail = code == ERR_LIMIT ? SLICE_LITERAL("too many subscriptions on this connection")
                                                : SLICE_LITERAL("a subscription of this connection has this msgid");
        rpc_pending_refuse(pending, &(struct conv_answer){.code = code, .detail = detail});
        return;
    }
    read_on(pending);
}

static void on_look(struct rpc *rpc, struct rpc_pending *pending, struct msg **msg)
{
    const struct conv_answer *answer = container_of(*msg, struct conv_answer, msg);
    struct json_value conversation;
    struct json_problem problem;
    if ((*msg)->kind == CONV_REFUSED) {
        rpc_pending_refuse(pending, answer);
    } else if ((*msg)->kind == CONV_FINISHED) {
        bool is_read = json_validate(answer->body, &conversation, &problem) == OK;
        uint64_t version = is_read ? event_page_number(conversation, "version") : 0;
        if (pending->u.stream.after <= version) {
            begin_stream(rpc, pending, version);
            return;
        }
        rpc_answer_error(rpc, pending->call, "bad_request", SLICE_LITERAL("/after is later than the last event"), 0);
        rpc_pending_release(pending);
    }
}

static const struct rpc_waiter look_waiter = {.on_answer = on_look};

void rpc_handle_subscribe(struct rpc *rpc, const struct rpc_asked *asked)
{
    struct rpc_pending *pending = rpc_pending_open(rpc, asked, &look_waiter);
    if (!pending)
        return;
    pending->u.stream.after = asked->params->after;
    pending->u.stream.msgid = asked->request->msgid;
    rpc_pending_ask(pending, CONV_GET, &(struct conv_request){0});
}

/* ---- unsubscribing ----------------------------------------------------------------------------------------------------- */

void rpc_handle_unsubscribe(struct rpc *rpc, const struct rpc_asked *asked)
{
    if (!(asked->params->present & RPC_FIELD(RPC_SUBSCRIPTION))) { /* 0 is a name like another */
        problem_add_error(asked->problem, 400, "/subscription", "is required");
        rpc_answer_problem(rpc, asked->call, asked->problem);
        return;
    }
    struct rpc_call_id none = {0}, stream = none;
    if (asked->params->subscription <= UINT32_MAX)
        stream = rpc_stream_find(rpc->server, asked->call, (uint32_t)asked->params->subscription);
    struct rpc_pending *pending = rpc_call_user(rpc->server, stream);
    if (!pending) {
        rpc_answer_code(rpc, asked->call, ERR_NOT_FOUND, SLICE_LITERAL("no such subscription on this connection"), 0);
        return;
    }
    msgpack_packer packer;
    begin_params(pending, &packer, 2);
    pack_text(&packer, SLICE_LITERAL("after")); /* where to go on */
    msgpack_pack_uint64(&packer, pending->u.stream.after);
    rpc_answer_out(rpc, asked->call);
    (void)rpc_stream_end(rpc->server, stream, NULL, (struct slice){0});
    rpc_pending_abandon(pending);
}
