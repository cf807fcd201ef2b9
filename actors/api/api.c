/* SPDX-License-Identifier: Apache-2.0 */
/* api: the actor of one worker: takes requests from http_server, finds their route, keeps what is open, and gives answers of
 * other actors to the waiter whose token they carry.
 *
 * Nothing here knows a route; nothing here allocates once the pool and the buffers are warm.
 */
#include "actors/api/api_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "actors/api/api_input.h"
#include "actors/directory.h"
#include "runtime/assert.h"
#include "runtime/planted.h"

enum {
    MAILBOX_COUNT_MAX = 1 << 20, /* answers are bounded by the exchanges that are open, not by this */
    STATUS_CLASSES = 6,
    INPUT_BYTES_MAX = 16 << 20, /* the largest body the configuration allows */
};

const struct slice api_tenant = {.data = "default", .size = 7};

/* ---- the pool ----------------------------------------------------------------------------------------------------------- */

static bool grow_pool(struct api *api)
{
    struct api_request **slabs = realloc(api->slabs, (api->slab_count + 1) * sizeof(struct api_request *));
    if (!slabs)
        return false;
    api->slabs = slabs;
    struct api_request *slab = calloc(API_SLAB_REQUESTS, sizeof *slab);
    if (!slab)
        return false;
    for (uint32_t i = 0; i < API_SLAB_REQUESTS; i++) {
        slab[i].api = api;
        slab[i].index = api->slab_count * API_SLAB_REQUESTS + i;
        slab[i].next_free = api->free_requests;
        api->free_requests = &slab[i];
    }
    slabs[api->slab_count++] = slab;
    return true;
}

/* Room in the map for this exchange; twice what is needed, so that it grows a few times and never again. */
static bool grow_map(struct api *api, uint32_t exchange_index)
{
    if (exchange_index < api->by_exchange_count)
        return true;
    uint32_t count = (exchange_index + 1) * 2;
    uint32_t *map = realloc(api->by_exchange, count * sizeof *map);
    if (!map)
        return false;
    memset(map + api->by_exchange_count, 0, (count - api->by_exchange_count) * sizeof *map);
    api->by_exchange = map;
    api->by_exchange_count = count;
    return true;
}

static void on_timer(struct worker *worker, struct timer *timer)
{
    (void)worker;
    struct api_request *request = container_of(timer, struct api_request, timer);
    ASSERT(request->waiter && request->waiter->on_timer);
    request->waiter->on_timer(request->api, request);
}

struct api_request *api_request_open(struct api *api, const struct api_call *call, const struct api_waiter *waiter,
                                     struct slice conversation)
{
    ASSERT(conversation.size <= CONV_ID_BYTES_MAX);
    if (!grow_map(api, call->exchange.id.index) || (!api->free_requests && !grow_pool(api))) {
        api_refuse_code(api, &call->exchange, ERR_NO_MEMORY, (struct slice){0}, 0);
        return NULL;
    }
    struct api_request *request = api->free_requests;
    api->free_requests = request->next_free;
    request->waiter = waiter;
    request->generation++;
    request->exchange = call->exchange;
    request->timer.on_fire = on_timer;
    if (conversation.size)
        memcpy(request->conversation, conversation.data, conversation.size);
    request->conversation_size = (uint32_t)conversation.size;
    memset(&request->u, 0, sizeof request->u);
    api->by_exchange[call->exchange.id.index] = request->index + 1;
    metrics_set(api->open_requests, ++api->open_count);
    return request;
}

void api_request_release(struct api_request *request)
{
    struct api *api = request->api;
    ASSERT(request->waiter);
    timer_cancel(api->worker, &request->timer);
    msg_destroy(api->worker, &request->kept);
    request->waiter = NULL;
    /* The exchange's place may be another one's already: its on_gone came before we were told. */
    uint32_t *entry = &api->by_exchange[request->exchange.id.index];
    if (*entry == request->index + 1)
        *entry = 0;
    request->next_free = api->free_requests;
    api->free_requests = request;
    metrics_set(api->open_requests, --api->open_count);
}

uint64_t api_request_token(const struct api_request *request)
{
    return (uint64_t)request->generation << 32 | request->index;
}

struct slice api_request_conversation(const struct api_request *request)
{
    return slice_of(request->conversation, request->conversation_size);
}

static struct api_request *find_by_token(const struct api *api, uint64_t token)
{
    uint32_t index = (uint32_t)token;
    if (index / API_SLAB_REQUESTS >= api->slab_count)
        return NULL;
    struct api_request *request = &api->slabs[index / API_SLAB_REQUESTS][index % API_SLAB_REQUESTS];
    bool is_it = request->generation == (uint32_t)(token >> 32) || PLANTED(ANSWER_TO_A_STRANGER);
    return request->waiter && is_it ? request : NULL;
}

static struct api_request *find_by_exchange(const struct api *api, struct http_exchange_id exchange)
{
    if (exchange.index >= api->by_exchange_count || api->by_exchange[exchange.index] == 0)
        return NULL;
    uint32_t index = api->by_exchange[exchange.index] - 1;
    struct api_request *request = &api->slabs[index / API_SLAB_REQUESTS][index % API_SLAB_REQUESTS];
    bool is_it = request->waiter && request->exchange.id.index == exchange.index &&
                 request->exchange.id.generation == exchange.generation;
    return is_it ? request : NULL;
}

/* ---- to conversations --------------------------------------------------------------------------------------------------- */

enum err api_request_try_send(struct api_request *request, uint16_t kind, const struct conv_request *fill)
{
    struct api *api = request->api;
    struct conv_request filled = *fill;
    filled.reply_to = api->self;
    filled.reply_token = api_request_token(request);
    filled.tenant = api_tenant;
    filled.conversation = api_request_conversation(request);
    filled.trace_id = trace_id_slice(&request->exchange.trace);
    struct conv_request *message = conv_request_create(api->worker, kind, &filled);
    if (!message)
        return ERR_NO_MEMORY;
    enum err code = directory_send(api->worker, api->services, &message);
    if (code != OK) {
        struct msg *msg = &message->msg;
        msg_destroy(api->worker, &msg);
    }
    /* A directory whose own mailbox is full is an overload of the server, not the client's limit. */
    return code == ERR_MAILBOX_FULL ? ERR_OVERLOAD : code;
}

bool api_request_send(struct api_request *request, uint16_t kind, const struct conv_request *fill)
{
    enum err code = api_request_try_send(request, kind, fill);
    if (code == OK)
        return true;
    api_refuse_code(request->api, &request->exchange, code, (struct slice){0}, 0);
    api_request_release(request);
    return false;
}

void api_request_abandon(struct api_request *request)
{
    if (request->waiter->kind_when_gone) {
        const struct conv_request fill = {.target_token = api_request_token(request)};
        /* Lost when there is no memory: the answers then come to a token that is stale, and are dropped. */
        (void)api_request_try_send(request, request->waiter->kind_when_gone, &fill);
    }
    api_request_release(request);
}

/* ---- from http_server --------------------------------------------------------------------------------------------------- */

static bool parameters_are_ids(const struct api_call *call)
{
    for (size_t i = 0; i < ROUTE_PARAMETERS_MAX; i++) {
        if (call->parameters[i].data && !input_is_id(call->parameters[i], CONV_ID_BYTES_MAX))
            return false;
    }
    return true;
}

static bool route_is_accepted(const struct api_call *call)
{
    const char *const *types = call->exchange.route->produces;
    return input_accepts(call->request, types[0]) || (types[1] && input_accepts(call->request, types[1]));
}

static void on_request(void *context, struct http_server *server, struct http_exchange_id exchange,
                       const struct http_request *request)
{
    struct api *api = context;
    ASSERT_ON_WORKER(api->worker);
    api->http = server;
    struct api_call call = {.exchange = {.id = exchange, .trace = trace_id_of_request(request)}, .request = request};
    uint32_t allowed;
    const struct route *route = route_find(request->method, request->path, call.parameters, &allowed);
    if (!route && allowed) {
        api_answer_not_allowed(api, &call.exchange, allowed);
        return;
    }
    if (!route) {
        api_refuse(api, &call.exchange, 404, "no such route: see /openapi.json");
        return;
    }
    call.exchange.route = route;
    if (!parameters_are_ids(&call))
        api_refuse(api, &call.exchange, 400, "an id in the path must be 1 to 128 of A-Z a-z 0-9 . _ ~ : -");
    else if (!route_is_accepted(&call))
        api_refuse(api, &call.exchange, 406, "Accept names no type that this route can answer with");
    else
        route->handle(api, &call);
}

static void on_gone(void *context, struct http_server *server, struct http_exchange_id exchange)
{
    (void)server;
    struct api *api = context;
    struct api_request *request = find_by_exchange(api, exchange);
    if (request)
        api_request_abandon(request);
}

static void on_drained(void *context, struct http_server *server, struct http_exchange_id exchange)
{
    (void)server;
    struct api *api = context;
    struct api_request *request = find_by_exchange(api, exchange);
    if (request && request->waiter->on_drained)
        request->waiter->on_drained(api, request);
}

static size_t write_refusal(void *context, int status, const char *reason, const char *trace_id, char *buffer,
                            size_t size)
{
    (void)context;
    const struct problem problem = {.status = status, .detail = slice_from_text(reason)};
    struct buffer out = {.data = buffer, .capacity = size - 1, .size_max = size - 1}; /* full-grown: never reallocates */
    problem_write(&out, &problem, slice_from_text(trace_id));
    return out.is_overflow ? 0 : out.size;
}

/* ---- from actors and the journal ---------------------------------------------------------------------------------------- */

static enum err on_message(struct actor_context *context, struct msg **msg)
{
    struct api *api = context->state;
    uint64_t token = UINT64_MAX; /* nobody's */
    if ((*msg)->kind == MSG_JOURNAL_LIST)
        token = (uint64_t)(uintptr_t)container_of(*msg, struct journal_list, msg)->context;
    else if ((*msg)->kind >= CONV_ACCEPTED && (*msg)->kind <= CONV_END)
        token = container_of(*msg, struct conv_answer, msg)->reply_token;

    struct api_request *request = find_by_token(api, token);
    if (request)
        request->waiter->on_answer(api, request, msg);
    else
        metrics_add(api->late_answers, 1);
    if (*msg && (*msg)->kind == MSG_JOURNAL_LIST)
        journal_release(container_of(*msg, struct journal_list, msg)->memory);
    return OK;
}

static const struct actor_type api_type = {
    .name = "api",
    .on_message = on_message,
    .mailbox_count_max = MAILBOX_COUNT_MAX,
    .is_pinned = true, /* its exchanges and timers are this worker's */
};

/* ---- life --------------------------------------------------------------------------------------------------------------- */

static bool register_metrics(struct api *api)
{
    static const char *const classes[STATUS_CLASSES] = {"other", "1xx", "2xx", "3xx", "4xx", "5xx"};
    api->answers = calloc((api_route_count + 1) * STATUS_CLASSES, sizeof *api->answers);
    if (!api->answers)
        return false;
    for (size_t row = 0; row <= api_route_count; row++) {
        const char *name = row < api_route_count ? api_routes[row].name : "none";
        for (size_t class = 2; class < STATUS_CLASSES; class ++) {
            char labels[96];
            snprintf(labels, sizeof labels, "route=\"%s\",status=\"%s\"", name, classes[class]);
            api->answers[row * STATUS_CLASSES + class] =
                metrics_register_counter("http_answers_total", "Answers by route and class of status", labels);
        }
    }
    api->late_answers =
        metrics_register_counter("api_late_answers_total", "Answers that came after their exchange", NULL);
    api->open_requests = metrics_register_gauge("api_open_requests", "Exchanges that wait for an answer", NULL);
    return true;
}

enum err api_start(struct worker *worker, struct services *services, struct api **ret_api,
                   struct http_handler *ret_handler, struct error *error)
{
    struct api *api = calloc(1, sizeof *api);
    if (!api || !register_metrics(api)) {
        free(api);
        return error_set(error, ERR_NO_MEMORY, "no memory for the API");
    }
    api->worker = worker;
    api->services = services;
    buffer_init(&api->out, API_OUT_BYTES_MAX);
    buffer_init(&api->input, INPUT_BYTES_MAX);
    enum err code = actor_spawn(worker, &api_type, api, &(struct actor_options){0}, &api->self);
    if (code != OK) {
        api_destroy(api);
        return error_set(error, code, "start the API: %s", err_text(code));
    }
    *ret_api = api;
    *ret_handler = (struct http_handler){.context = api,
                                         .on_request = on_request,
                                         .on_gone = on_gone,
                                         .on_drained = on_drained,
                                         .write_refusal = write_refusal};
    return OK;
}

void api_destroy(struct api *api)
{
    if (!api)
        return;
    for (uint32_t i = 0; i < api->slab_count; i++) {
        for (uint32_t k = 0; k < API_SLAB_REQUESTS; k++) {
            if (api->slabs[i][k].waiter)
                api_request_release(&api->slabs[i][k]);
        }
        free(api->slabs[i]);
    }
    free(api->slabs);
    free(api->by_exchange);
    free(api->answers);
    buffer_deinit(&api->out);
    buffer_deinit(&api->input);
    free(api);
}
