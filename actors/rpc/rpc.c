/* SPDX-License-Identifier: Apache-2.0 */
/* rpc: the actor of one worker: takes requests from rpc_server, finds their method, keeps what is open, and gives answers of
 * conversations to the waiter whose call they carry. Nothing allocates once the pool and the buffers are warm. */
#include "actors/rpc/rpc_internal.h"

#include <stdlib.h>

#include "actors/admission.h"
#include "actors/api/api_input.h"
#include "actors/directory.h"
#include "net/pack.h"
#include "runtime/assert.h"

enum { MAILBOX_COUNT_MAX = 1 << 20 }; /* answers are bounded by the calls that are open, not by this */

const struct slice rpc_tenant = {.data = "default", .size = 7};

static void handle_ping(struct rpc *rpc, const struct rpc_asked *asked);

#define TRACE_FIELDS (RPC_FIELD(RPC_TRACE_ID) | RPC_FIELD(RPC_TRACEPARENT))
#define CONVERSATION_FIELDS (RPC_FIELD(RPC_CONVERSATION_ID) | TRACE_FIELDS)
const struct rpc_method rpc_methods[] = {
    {.name = "message.send",
     .handle = rpc_handle_message,
     .fields = RPC_MESSAGE_FIELDS | CONVERSATION_FIELDS | RPC_FIELD(RPC_WAIT_MS) | RPC_FIELD(RPC_IF_MATCH),
     .needs_conversation = true,
     .is_message = true},
    {.name = "ping", .handle = handle_ping, .fields = TRACE_FIELDS},
    {.name = "conversation.get",
     .handle = rpc_handle_get,
     .fields = CONVERSATION_FIELDS,
     .needs_conversation = true,
     .is_large = true},
    {.name = "events.read",
     .handle = rpc_handle_events,
     .fields = CONVERSATION_FIELDS | RPC_FIELD(RPC_AFTER) | RPC_FIELD(RPC_LIMIT),
     .needs_conversation = true,
     .is_large = true},
    {.name = "events.subscribe",
     .handle = rpc_handle_subscribe,
     .fields = CONVERSATION_FIELDS | RPC_FIELD(RPC_AFTER),
     .needs_conversation = true},
    {.name = "events.unsubscribe",
     .handle = rpc_handle_unsubscribe,
     .fields = TRACE_FIELDS | RPC_FIELD(RPC_SUBSCRIPTION)},
};
const size_t rpc_method_count = sizeof rpc_methods / sizeof rpc_methods[0];
_Static_assert(sizeof rpc_methods / sizeof rpc_methods[0] <= RPC_METHODS_MAX, "one metric a method");

/* ---- the pool ---------------------------------------------------------------------------------------------------------- */

static bool grow_pool(struct rpc *rpc)
{
    struct rpc_pending **slabs = realloc(rpc->slabs, (rpc->slab_count + 1) * sizeof *slabs);
    if (!slabs)
        return false;
    rpc->slabs = slabs;
    struct rpc_pending *slab = calloc(RPC_SLAB_PENDING, sizeof *slab);
    if (!slab)
        return false;
    for (uint32_t i = 0; i < RPC_SLAB_PENDING; i++) {
        slab[i].rpc = rpc;
        slab[i].next_free = rpc->free_pending;
        rpc->free_pending = &slab[i];
    }
    slabs[rpc->slab_count++] = slab;
    return true;
}

static void on_timer(struct worker *worker, struct timer *timer)
{
    (void)worker;
    struct rpc_pending *pending = container_of(timer, struct rpc_pending, timer);
    ASSERT(pending->waiter && pending->waiter->on_timer);
    pending->waiter->on_timer(pending->rpc, pending);
}

struct rpc_pending *rpc_pending_open(struct rpc *rpc, const struct rpc_asked *asked, const struct rpc_waiter *waiter)
{
    const struct slice conversation = asked->params->conversation_id;
    ASSERT(conversation.size <= CONV_ID_BYTES_MAX);
    if (!rpc->free_pending && !grow_pool(rpc)) {
        rpc_answer_code(rpc, asked->call, ERR_NO_MEMORY, (struct slice){0}, 0);
        return NULL;
    }
    struct rpc_pending *pending = rpc->free_pending;
    rpc->free_pending = pending->next_free;
    pending->waiter = waiter;
    pending->call = asked->call;
    pending->method = asked->method;
    pending->trace = asked->trace;
    pending->timer.on_fire = on_timer;
    if (conversation.size)
        memcpy(pending->conversation, conversation.data, conversation.size);
    pending->conversation_size = (uint32_t)conversation.size;
    memset(&pending->u, 0, sizeof pending->u);
    rpc_call_set_user(rpc->server, asked->call, pending);
    return pending;
}

void rpc_pending_release(struct rpc_pending *pending)
{
    struct rpc *rpc = pending->rpc;
    ASSERT(pending->waiter);
    timer_cancel(rpc->worker, &pending->timer);
    msg_destroy(rpc->worker, &pending->kept);
    pending->waiter = NULL;
    pending->next_free = rpc->free_pending;
    rpc->free_pending = pending;
}

struct slice rpc_pending_conversation(const struct rpc_pending *pending)
{
    return slice_of(pending->conversation, pending->conversation_size);
}

/* ---- to conversations -------------------------------------------------------------------------------------------------- */

static uint64_t token_of(struct rpc_call_id call)
{
    return (uint64_t)call.generation << 32 | call.index;
}

enum err rpc_pending_send(struct rpc_pending *pending, uint16_t kind, const struct conv_request *fill)
{
    struct rpc *rpc = pending->rpc;
    struct conv_request filled = *fill;
    filled.reply_to = rpc->self;
    filled.reply_token = token_of(pending->call);
    filled.tenant = rpc_tenant;
    filled.conversation = rpc_pending_conversation(pending);
    filled.trace_id = trace_id_slice(&pending->trace);
    struct conv_request *message = conv_request_create(rpc->worker, kind, &filled);
    if (!message)
        return ERR_NO_MEMORY;
    enum err code = directory_send(rpc->worker, rpc->services, &message);
    if (code != OK) {
        struct msg *msg = &message->msg;
        msg_destroy(rpc->worker, &msg);
    }
    /* A directory whose own mailbox is full is an overload of the server, not the client's limit. */
    return code == ERR_MAILBOX_FULL ? ERR_OVERLOAD : code;
}

void rpc_pending_ask(struct rpc_pending *pending, uint16_t kind, const struct conv_request *fill)
{
    enum err code = rpc_pending_send(pending, kind, fill);
    if (code != OK)
        rpc_pending_refuse(pending, &(struct conv_answer){.code = code});
}

void rpc_pending_leave(struct rpc_pending *pending)
{
    if (!pending->waiter->kind_when_gone)
        return;
    const struct conv_request fill = {.target_token = token_of(pending->call)};
    /* Lost when there is no memory: the answers then come to a call that is stale, or passed over by their version. */
    (void)rpc_pending_send(pending, pending->waiter->kind_when_gone, &fill);
}

void rpc_pending_abandon(struct rpc_pending *pending)
{
    rpc_pending_leave(pending);
    rpc_pending_release(pending);
}

/* ---- from rpc_server --------------------------------------------------------------------------------------------------- */

static void handle_ping(struct rpc *rpc, const struct rpc_asked *asked)
{
    msgpack_packer packer;
    buffer_clear(&rpc->out);
    pack_init(&packer, &rpc->out);
    msgpack_pack_map(&packer, 2);
    pack_text(&packer, SLICE_LITERAL("version"));
    pack_text(&packer, SLICE_LITERAL(CIRANDA_VERSION));
    pack_text(&packer, SLICE_LITERAL("trace_id"));
    pack_text(&packer, trace_id_slice(&asked->trace));
    rpc_answer_out(rpc, asked->call);
}

static const struct rpc_method *find_method(struct slice name)
{
    for (size_t i = 0; i < rpc_method_count; i++) {
        if (slice_has_text(name, rpc_methods[i].name))
            return &rpc_methods[i];
    }
    return NULL;
}

/* Reads and checks what all methods share, then lets the method go on. */
static void handle(struct rpc *rpc, struct rpc_asked *asked)
{
    enum err admitted = asked->method->is_message ? admission_check(rpc->services) : OK;
    if (admitted != OK) {
        rpc_answer_code(rpc, asked->call, admitted, (struct slice){0}, 0);
        return;
    }
    bool is_read =
        rpc_params_read(asked->request->params, asked->method->fields, &rpc->metadata, asked->params, asked->problem);
    if (is_read && asked->method->needs_conversation && !input_is_id(asked->params->conversation_id, CONV_ID_BYTES_MAX))
        problem_add_error(asked->problem, 400, "/conversation_id", "must be 1 to 128 of A-Z a-z 0-9 . _ ~ : -");
    if (asked->problem->error_count) {
        rpc_answer_problem(rpc, asked->call, asked->problem);
        return;
    }
    if (asked->method->is_large)
        rpc_call_set_large(rpc->server, asked->call);
    asked->trace = trace_id_of(asked->params->trace_id, asked->params->traceparent);
    asked->method->handle(rpc, asked);
}

static void on_request(void *context, struct rpc_server *server, struct rpc_call_id call,
                       const struct rpc_request *request)
{
    struct rpc *rpc = context;
    ASSERT_ON_WORKER(rpc->worker);
    rpc->server = server;
    struct rpc_params params;
    struct problem problem;
    struct rpc_asked asked = {
        .call = call, .method = find_method(request->method), .request = request, .params = &params, .problem = &problem};
    if (request->is_notification && !(asked.method && asked.method->is_message)) {
        metrics_add(rpc->ignored_notifications, 1);
        (void)rpc_respond(server, call, (struct slice){0});
    } else if (!request->method.data) {
        rpc_answer_error(rpc, call, "bad_request", SLICE_LITERAL("the method must be a string"), 0);
    } else if (!asked.method) {
        rpc_answer_error(rpc, call, "unknown_method", SLICE_LITERAL("no such method: see docs/RPC.md"), 0);
    } else {
        metrics_add(rpc->calls[asked.method - rpc_methods], 1);
        handle(rpc, &asked);
    }
}

static void on_gone(void *context, struct rpc_server *server, void *user)
{
    (void)context, (void)server;
    if (user)
        rpc_pending_abandon(user);
}

static void on_drained(void *context, struct rpc_server *server, void *user)
{
    (void)server;
    struct rpc_pending *pending = user;
    if (pending && pending->waiter->on_drained)
        pending->waiter->on_drained(context, pending);
}

/* ---- from conversations ------------------------------------------------------------------------------------------------ */

static enum err on_message(struct actor_context *context, struct msg **msg)
{
    struct rpc *rpc = context->state;
    if ((*msg)->kind < CONV_ACCEPTED || (*msg)->kind > CONV_END)
        return OK;
    uint64_t token = container_of(*msg, struct conv_answer, msg)->reply_token;
    struct rpc_call_id call = {.index = (uint32_t)token, .generation = (uint32_t)(token >> 32)};
    struct rpc_pending *pending = rpc->server ? rpc_call_user(rpc->server, call) : NULL;
    if (pending)
        pending->waiter->on_answer(rpc, pending, msg);
    else
        metrics_add(rpc->late_answers, 1);
    return OK;
}

static const struct actor_type rpc_type = {
    .name = "rpc",
    .on_message = on_message,
    .mailbox_count_max = MAILBOX_COUNT_MAX,
    .is_pinned = true, /* its calls and timers are this worker's */
};

/* ---- life -------------------------------------------------------------------------------------------------------------- */

enum err rpc_start(struct worker *worker, struct services *services, struct rpc **ret_rpc,
                   struct rpc_handler *ret_handler, struct error *error)
{
    struct rpc *rpc = calloc(1, sizeof *rpc);
    if (!rpc)
        return error_set(error, ERR_NO_MEMORY, "no memory for RPC");
    rpc->worker = worker;
    rpc->services = services;
    rpc_answers_register(rpc);
    rpc->ignored_notifications = metrics_register_counter("rpc_ignored_notifications_total",
                                                          "Notifications of methods that are not taken as such.", NULL);
    rpc->late_answers =
        metrics_register_counter("rpc_late_answers_total", "Answers that came after their call had ended.", NULL);
    buffer_init(&rpc->out, RPC_OUT_BYTES_MAX);
    buffer_init(&rpc->metadata, RPC_OUT_BYTES_MAX);
    enum err code = actor_spawn(worker, &rpc_type, rpc, &(struct actor_options){0}, &rpc->self);
    if (code != OK) {
        rpc_destroy(rpc);
        return error_set(error, code, "start RPC: %s", err_text(code));
    }
    *ret_rpc = rpc;
    *ret_handler =
        (struct rpc_handler){.context = rpc, .on_request = on_request, .on_gone = on_gone, .on_drained = on_drained};
    return OK;
}

void rpc_destroy(struct rpc *rpc)
{
    if (!rpc)
        return;
    for (uint32_t i = 0; i < rpc->slab_count; i++) {
        for (uint32_t k = 0; k < RPC_SLAB_PENDING; k++) {
            if (rpc->slabs[i][k].waiter)
                rpc_pending_release(&rpc->slabs[i][k]);
        }
        free(rpc->slabs[i]);
    }
    free(rpc->slabs);
    buffer_deinit(&rpc->out);
    buffer_deinit(&rpc->metadata);
    free(rpc);
}
