/* SPDX-License-Identifier: Apache-2.0 */
/* gateway: one pinned actor a worker that runs model calls, thousands at once, each as a small state machine.
 *
 *   MODEL_CALL -> WAITING --permit--> RUNNING --on_done--> answered and freed
 *                    |                   |
 *                    |                   +--[DONE]--> answered, LINGERING --on_done--> freed
 *                    +--cancelled or late--> answered, ABANDONED --permit--> given back, freed
 *
 * An attempt is answered exactly once (attempt_answer), which also gives its permit back with the verdict. Its memory lives
 * until both the providers and the fetch client have let go of it: the permit names it, the fetch points to it.
 *
 * Callbacks of fetch and of timers run on the worker's thread, outside of any handler; the gateway is pinned, so its state
 * has one owner all the same. Memory is sized by what runs: about 1 KiB an attempt, its text, and what a chunk lacks; the
 * request is freed as soon as the fetch client has copied it.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/config/config.h"
#include "actors/llm/llm_internal.h"
#include "actors/llm/model_request.h"
#include "actors/llm/model_response.h"
#include "actors/services.h"
#include "net/fetch.h"
#include "runtime/actor.h"
#include "runtime/assert.h"
#include "runtime/buffer.h"
#include "runtime/log.h"
#include "runtime/metrics.h"
#include "runtime/timer.h"
#include "runtime/worker.h"

#define SECOND_NS UINT64_C(1000000000)
#define MS_NS UINT64_C(1000000)
#define TOTAL_NS_DEFAULT (300 * SECOND_NS)
#define TOTAL_NS_LIMIT (86400 * SECOND_NS) /* so that no sum with it overflows */
#define LINGER_NS SECOND_NS /* how long an answered stream may take to end by itself, so that its connection is kept */

enum {
    REQUEST_BYTES_MAX = 4 << 20,
    BUCKET_COUNT = 4096,      /* of (reply_to, token): three attempts a chain at 12,000 */
    API_KEY_BYTES_MAX = 4096, /* config_secret.c */
    HEADER_BYTES_MAX = API_KEY_BYTES_MAX + 1024,
};

enum attempt_state {
    ATTEMPT_WAITING,   /* for its permit; the timer is its deadline */
    ATTEMPT_ABANDONED, /* answered; the permit still comes */
    ATTEMPT_RUNNING,   /* the fetch runs, and has its own deadlines */
    ATTEMPT_LINGERING, /* answered; the fetch has not ended; the timer cuts it short */
    ATTEMPT_STATE_COUNT
};

static const bool attempt_legal[ATTEMPT_STATE_COUNT][ATTEMPT_STATE_COUNT] = {
    [ATTEMPT_WAITING] = {[ATTEMPT_ABANDONED] = true, [ATTEMPT_RUNNING] = true},
    [ATTEMPT_RUNNING] = {[ATTEMPT_LINGERING] = true},
};

struct model_attempt {
    struct model_attempt *next, **previous_next; /* bucket chain while unanswered, then gateway->leftovers */
    struct gateway *gateway;
    enum attempt_state state;
    struct actor_id reply_to;
    uint64_t token;
    struct config *config; /* a reference */
    const struct provider_config *provider;
    struct model_call *call;  /* owned until it was sent */
    struct model_done *spare; /* owned: the answer when there is no memory for a better one */
    struct permit *permit;    /* owned while a call may run */
    struct fetch_id fetch;
    struct timer timer;
    uint64_t began_ns, first_token_ns, deadline_ns; /* first_token_ns 0: none yet; deadline_ns UINT64_MAX: none */
    size_t delta_bytes;                             /* of the text: told already */
    bool wants_deltas, is_cancelled, is_answered;
    struct model_response response;
};

struct gateway {
    struct worker *worker;
    struct services *services;
    struct actor_id self;
    bool is_ended;                   /* the actor is gone: nothing is answered any more */
    struct buffer request;           /* being written; kept warm */
    struct model_attempt *leftovers; /* answered, and not yet let go of */
    struct metric outcomes[ERR_COUNT], tokens_in, tokens_out, first_token, duration;
    struct model_attempt *buckets[BUCKET_COUNT];
};

/* ---- the table of attempts -------------------------------------------------------------------------------------------- */

static struct model_attempt **bucket_of(struct gateway *gateway, struct actor_id reply_to, uint64_t token)
{
    const uint64_t key = (((uint64_t)reply_to.generation << 32 | reply_to.slot) ^ token) * UINT64_C(0x9E3779B97F4A7C15);
    return &gateway->buckets[key >> 52];
}
_Static_assert(BUCKET_COUNT == 1 << (64 - 52), "a bucket is the top bits of the mixed key");

static void attempt_link(struct model_attempt *attempt, struct model_attempt **head)
{
    attempt->next = *head;
    attempt->previous_next = head;
    if (attempt->next)
        attempt->next->previous_next = &attempt->next;
    *head = attempt;
}

static void attempt_unlink(struct model_attempt *attempt)
{
    *attempt->previous_next = attempt->next;
    if (attempt->next)
        attempt->next->previous_next = attempt->previous_next;
}

static struct model_attempt *attempt_find(struct gateway *gateway, struct actor_id reply_to, uint64_t token)
{
    struct model_attempt *attempt = *bucket_of(gateway, reply_to, token);
    while (attempt && !(attempt->token == token && actor_id_is_equal(attempt->reply_to, reply_to)))
        attempt = attempt->next;
    return attempt;
}

static void attempt_set_state(struct model_attempt *attempt, enum attempt_state to)
{
    ASSERT(attempt_legal[attempt->state][to]);
    attempt->state = to;
}

/* Everything but the block itself, which the fetch or the permit may still name. Answered ones keep nothing else. */
static void attempt_release(struct model_attempt *attempt)
{
    struct worker *const worker = attempt->gateway->worker;
    timer_cancel(worker, &attempt->timer);
    model_call_destroy(worker, &attempt->call);
    config_unref(attempt->config);
    attempt->config = NULL;
    model_response_deinit(&attempt->response);
    attempt->response = (struct model_response){0};
    if (attempt->spare) {
        struct msg *msg = &attempt->spare->msg;
        msg_destroy(worker, &msg);
        attempt->spare = NULL;
    }
}

static void attempt_free(struct model_attempt *attempt)
{
    ASSERT(attempt->permit == NULL);
    attempt_release(attempt);
    attempt_unlink(attempt);
    free(attempt);
}

/* ---- the answer ------------------------------------------------------------------------------------------------------- */

static void send_or_free(struct worker *worker, struct actor_id to, struct msg *msg)
{
    if (actor_send(worker, to, &msg) != OK)
        msg_destroy(worker, &msg); /* the conversation is gone; it will read from the journal that its attempt began */
}

static struct slice copy_behind(char **end, struct slice text)
{
    const struct slice copy = slice_of(*end, text.size);
    if (text.size > 0)
        memcpy(*end, text.data, text.size);
    *end += text.size;
    return copy;
}

/* With its texts behind it; the spare one, without text, when there is no memory. */
static struct model_done *done_create(struct model_attempt *attempt, enum err code, struct slice detail)
{
    const struct slice text = buffer_slice(&attempt->response.text);
    const struct slice finish_reason = slice_from_text(attempt->response.finish_reason);
    const size_t size = sizeof(struct model_done) + text.size + finish_reason.size + detail.size;
    struct msg *const msg = msg_create(attempt->gateway->worker, MODEL_DONE, MSG_URGENT | MSG_CONTROL, (uint32_t)size);
    if (msg == NULL) {
        struct model_done *const spare = attempt->spare;
        attempt->spare = NULL;
        spare->code = code == OK ? ERR_NO_MEMORY : code;
        spare->detail = SLICE_LITERAL("no memory for the answer");
        return spare;
    }
    struct model_done *const done = container_of(msg, struct model_done, msg);
    char *end = (char *)(done + 1);
    done->code = code;
    done->text = copy_behind(&end, text);
    done->finish_reason = copy_behind(&end, finish_reason);
    done->detail = copy_behind(&end, detail);
    return done;
}

/* What an outcome says about the provider, not about the call. */
static enum breaker_verdict verdict_of(const struct model_attempt *attempt, enum err code)
{
    if (code == OK || code == ERR_INVALID)
        return BREAKER_SUCCESS; /* it answered, and be it that it found fault with us: it is up */
    if (code == ERR_CANCELLED || code == ERR_NO_MEMORY)
        return BREAKER_NEUTRAL;
    /* The turn's own deadline came first: the provider kept to its times. */
    if (code == ERR_TIMEOUT && worker_now_ns(attempt->gateway->worker) >= attempt->deadline_ns)
        return BREAKER_NEUTRAL;
    return BREAKER_FAILURE;
}

static void return_permit(struct model_attempt *attempt, enum breaker_verdict verdict)
{
    struct gateway *const gateway = attempt->gateway;
    struct msg *msg = &attempt->permit->msg;
    msg->kind = PERMIT_RETURN;
    attempt->permit->verdict = verdict;
    attempt->permit = NULL;
    send_or_free(gateway->worker, providers_actor(gateway->services->providers), msg);
}

static void count(struct model_attempt *attempt, const struct model_done *done)
{
    const struct gateway *const gateway = attempt->gateway;
    metrics_add(gateway->outcomes[done->code], 1);
    metrics_add(gateway->tokens_in, done->input_tokens);
    metrics_add(gateway->tokens_out, done->output_tokens);
    if (attempt->first_token_ns)
        metrics_observe_ns(gateway->first_token, attempt->first_token_ns - attempt->began_ns);
    metrics_observe_ns(gateway->duration, worker_now_ns(gateway->worker) - attempt->began_ns);
}

/* MODEL_DONE, the permit, the counters: exactly once an attempt. Frees all but the block. */
static void attempt_answer(struct model_attempt *attempt, enum err code, bool was_sent, int status,
                           uint64_t retry_after_ms, struct slice detail)
{
    struct gateway *const gateway = attempt->gateway;
    ASSERT(!attempt->is_answered);
    attempt->is_answered = true;

    struct model_done *const done = done_create(attempt, code, detail);
    done->token = attempt->token;
    done->http_status = status;
    done->was_sent = was_sent;
    done->input_tokens = attempt->response.input_tokens;
    done->output_tokens = attempt->response.output_tokens;
    done->retry_after_ms = retry_after_ms;
    done->duration_ms = (worker_now_ns(gateway->worker) - attempt->began_ns) / MS_NS;
    done->first_token_ms = attempt->first_token_ns ? (attempt->first_token_ns - attempt->began_ns) / MS_NS : 0;
    count(attempt, done);
    send_or_free(gateway->worker, attempt->reply_to, &done->msg);

    if (attempt->permit)
        return_permit(attempt, verdict_of(attempt, code));
    attempt_release(attempt);
    attempt_unlink(attempt);
    attempt_link(attempt, &gateway->leftovers);
}

/* A refusal before anything began: the call's own block becomes the answer, so it cannot fail. `detail` is a literal. */
static void refuse_call(struct gateway *gateway, struct model_call *call, enum err code, const char *detail)
{
    ASSERT(call->msg.size >= sizeof(struct model_done));
    const struct actor_id reply_to = call->reply_to;
    const uint64_t token = call->token;
    config_unref(call->config);
    struct model_done *const done = container_of(&call->msg, struct model_done, msg);
    memset((char *)done + sizeof done->msg, 0, sizeof *done - sizeof done->msg);
    done->msg.kind = MODEL_DONE;
    done->msg.flags = MSG_URGENT | MSG_CONTROL;
    done->token = token;
    done->code = code;
    done->detail = slice_from_text(detail);
    metrics_add(gateway->outcomes[code], 1);
    send_or_free(gateway->worker, reply_to, &done->msg);
}

/* ---- the fetch -------------------------------------------------------------------------------------------------------- */

/* What was said since the last delta, all chunks of one piece in one message. When there is no room it waits for the next
 * piece, or for MODEL_DONE, which carries the whole text. A conversation that is gone cancels its call. */
static void tell_delta(struct model_attempt *attempt)
{
    struct gateway *const gateway = attempt->gateway;
    const struct buffer *const text = &attempt->response.text;
    const size_t size = text->size - attempt->delta_bytes;
    if (size == 0)
        return;
    if (attempt->first_token_ns == 0)
        attempt->first_token_ns = worker_now_ns(gateway->worker);
    if (!attempt->wants_deltas)
        return;
    struct msg *msg = msg_create(gateway->worker, MODEL_DELTA, MSG_URGENT, (uint32_t)(sizeof(struct model_delta) + size));
    if (msg == NULL)
        return;
    struct model_delta *const delta = container_of(msg, struct model_delta, msg);
    char *end = (char *)(delta + 1);
    delta->token = attempt->token;
    delta->text = copy_behind(&end, slice_of(text->data + attempt->delta_bytes, size));
    const enum err err = actor_send(gateway->worker, attempt->reply_to, &msg);
    if (err == OK) {
        attempt->delta_bytes = text->size;
        return;
    }
    msg_destroy(gateway->worker, &msg);
    if (err == ERR_ACTOR_GONE && !attempt->is_cancelled) {
        attempt->is_cancelled = true;
        fetch_cancel(gateway->services->fetch, attempt->fetch);
    }
}

/* [DONE]: the answer need not wait for the end of the connection's exchange. */
static void finish_early(struct model_attempt *attempt, int status)
{
    struct gateway *const gateway = attempt->gateway;
    const struct fetch_result result = {.code = OK, .status = status};
    model_response_finish(&attempt->response, &result, attempt->provider->api_key);
    attempt_answer(attempt, attempt->response.code, true, status, 0, slice_from_text(attempt->response.detail));
    attempt_set_state(attempt, ATTEMPT_LINGERING);
    timer_start(gateway->worker, &attempt->timer, worker_now_ns(gateway->worker) + LINGER_NS);
}

static void on_data(void *context, struct fetch_id id, int status, struct slice data)
{
    (void)id;
    struct model_attempt *const attempt = context;
    if (attempt->state != ATTEMPT_RUNNING || attempt->is_cancelled || attempt->gateway->is_ended)
        return;
    const enum err err = model_response_feed(&attempt->response, status, data);
    tell_delta(attempt);
    if (err != OK && !attempt->is_cancelled) /* the answer waits for on_done: then the socket is closed */
        fetch_cancel(attempt->gateway->services->fetch, attempt->fetch);
    else if (attempt->response.is_done && !attempt->is_cancelled)
        finish_early(attempt, status);
}

static bool was_sent(enum err code)
{
    return code != ERR_CONNECT && code != ERR_TLS;
}

static void on_done(void *context, struct fetch_id id, const struct fetch_result *result)
{
    (void)id;
    struct model_attempt *const attempt = context;
    if (attempt->state == ATTEMPT_RUNNING && !attempt->gateway->is_ended) {
        struct model_response *const response = &attempt->response;
        /* A body that failed us was cancelled by us: what finish keeps then is the body's failure. */
        model_response_finish(response, result, attempt->provider->api_key);
        if (attempt->is_cancelled)
            attempt_answer(attempt, ERR_CANCELLED, was_sent(result->code), result->status, 0, slice_of(NULL, 0));
        else
            attempt_answer(attempt, response->code, was_sent(result->code), result->status, result->retry_after_ms,
                           slice_from_text(response->detail));
    }
    attempt_free(attempt);
}

/* "Name: value" at `end` of the caller's block. Returns: NULL when it does not fit or the value would end its line: a value
 * that could add headers of its own is never sent. */
static const char *write_header(char **end, const char *limit, const char *name, struct slice value)
{
    for (size_t i = 0; i < value.size; i++)
        if ((unsigned char)value.data[i] < ' ' || value.data[i] == 0x7f)
            return NULL;
    const size_t room = (size_t)(limit - *end);
    const int size = snprintf(*end, room, "%s: %.*s", name, SLICE_PRINT(value));
    if (size < 0 || (size_t)size >= room)
        return NULL;
    const char *const header = *end;
    *end += size + 1;
    return header;
}

/* Until the turn's deadline or the provider's, whichever comes first. */
static uint64_t time_left(const struct model_attempt *attempt, uint64_t now_ns)
{
    uint64_t total_ns = attempt->provider->total_ns_max ? attempt->provider->total_ns_max : TOTAL_NS_DEFAULT;
    if (total_ns > TOTAL_NS_LIMIT)
        total_ns = TOTAL_NS_LIMIT;
    if (attempt->deadline_ns == UINT64_MAX)
        return total_ns;
    const uint64_t left_ns = attempt->deadline_ns > now_ns ? attempt->deadline_ns - now_ns : 1;
    return left_ns < total_ns ? left_ns : total_ns;
}

static enum err start_fetch(struct model_attempt *attempt, const char *url, const char *const *headers)
{
    struct gateway *const gateway = attempt->gateway;
    const struct provider_config *const provider = attempt->provider;
    const struct fetch_request request = {
        .method = "POST",
        .url = url,
        .headers = headers,
        .body = buffer_slice(&gateway->request),
        .connect_ns_max = provider->connect_ns_max,
        .first_byte_ns_max = provider->first_byte_ns_max,
        .idle_ns_max = provider->idle_ns_max,
        .total_ns_max = time_left(attempt, worker_now_ns(gateway->worker)),
        .response_bytes_max = MODEL_RESPONSE_BYTES_MAX,
        .context = attempt,
        .on_data = on_data,
        .on_done = on_done,
    };
    return fetch_start(gateway->services->fetch, &request, &attempt->fetch, NULL);
}

/* Returns: what stands against sending it: ERR_LIMIT (request too large), ERR_INVALID (URL, header), ERR_BUSY (too many in
 * flight here), ERR_NO_MEMORY. */
static enum err attempt_send(struct model_attempt *attempt)
{
    struct gateway *const gateway = attempt->gateway;
    const struct provider_config *const provider = attempt->provider;
    buffer_clear(&gateway->request);
    const enum err err =
        model_request_write(&attempt->config->agents[attempt->call->agent], attempt->call, &gateway->request);
    if (err != OK)
        return err;

    char block[HEADER_BYTES_MAX], bearer[sizeof "Bearer " + API_KEY_BYTES_MAX];
    char *end = block;
    const char *const limit = block + sizeof block;
    const char *headers[6], **header = headers;
    *header++ = "Content-Type: application/json";
    *header++ = "Accept: text/event-stream, application/json";
    bool is_whole = provider->api_key.size <= API_KEY_BYTES_MAX;
    if (is_whole && provider->api_key.size > 0) {
        const int size = snprintf(bearer, sizeof bearer, "Bearer %.*s", SLICE_PRINT(provider->api_key));
        *header = write_header(&end, limit, "Authorization", slice_of(bearer, (size_t)size));
        is_whole = *header++ != NULL;
    }
    if (is_whole && attempt->call->effect_key.size > 0) {
        *header = write_header(&end, limit, "Idempotency-Key", attempt->call->effect_key);
        is_whole = *header++ != NULL;
    }
    if (is_whole && attempt->call->trace_id.size > 0) {
        *header = write_header(&end, limit, "X-Trace-Id", attempt->call->trace_id);
        is_whole = *header++ != NULL;
    }
    *header = NULL;
    char url[2048];
    const int url_size = snprintf(url, sizeof url, "%.*s/chat/completions", SLICE_PRINT(provider->base_url));
    is_whole = is_whole && url_size > 0 && (size_t)url_size < sizeof url;

    const enum err started = is_whole ? start_fetch(attempt, url, headers) : ERR_INVALID;
    explicit_bzero(bearer, sizeof bearer);
    explicit_bzero(block, sizeof block);
    return started == ERR_LIMIT ? ERR_BUSY : started; /* this worker's cap on fetches, not the request's */
}

/* ---- messages --------------------------------------------------------------------------------------------------------- */

static void on_timer(struct worker *worker, struct timer *timer)
{
    (void)worker;
    struct model_attempt *const attempt = container_of(timer, struct model_attempt, timer);
    switch (attempt->state) {
    case ATTEMPT_WAITING:
        attempt_answer(attempt, ERR_TIMEOUT, false, 0, 0, SLICE_LITERAL("no permit before the deadline"));
        attempt_set_state(attempt, ATTEMPT_ABANDONED);
        return;
    case ATTEMPT_LINGERING: fetch_cancel(attempt->gateway->services->fetch, attempt->fetch); return;
    case ATTEMPT_ABANDONED:
    case ATTEMPT_RUNNING:
    case ATTEMPT_STATE_COUNT: ASSERT(false);
    }
}

static bool is_call_valid(const struct model_call *call)
{
    if (call->agent < 0 || (uint32_t)call->agent >= call->config->agent_count)
        return false;
    const struct agent_config *const agent = &call->config->agents[call->agent];
    return agent->kind == AGENT_LLM && agent->provider >= 0 && (uint32_t)agent->provider < call->config->provider_count &&
           call->config->providers[agent->provider].name.size < PROVIDER_NAME_BYTES_MAX;
}

/* The whole of an attempt's memory, or nothing. */
static struct model_attempt *attempt_create(struct gateway *gateway)
{
    struct model_attempt *const attempt = calloc(1, sizeof *attempt);
    if (attempt == NULL)
        return NULL;
    attempt->gateway = gateway;
    attempt->spare = MSG_CREATE(gateway->worker, struct model_done, MODEL_DONE, MSG_URGENT | MSG_CONTROL);
    attempt->permit = MSG_CREATE(gateway->worker, struct permit, PERMIT_ASK, MSG_CONTROL);
    if (attempt->spare && attempt->permit)
        return attempt;
    struct msg *spare = attempt->spare ? &attempt->spare->msg : NULL;
    struct msg *permit = attempt->permit ? &attempt->permit->msg : NULL;
    msg_destroy(gateway->worker, &spare);
    msg_destroy(gateway->worker, &permit);
    free(attempt);
    return NULL;
}

static void ask_permit(struct model_attempt *attempt)
{
    struct gateway *const gateway = attempt->gateway;
    struct permit *const permit = attempt->permit;
    permit->gateway = gateway->self;
    permit->attempt = attempt;
    memcpy(permit->provider, attempt->provider->name.data, attempt->provider->name.size); /* zeroed behind it */
    struct msg *msg = &permit->msg;
    if (actor_send(gateway->worker, providers_actor(gateway->services->providers), &msg) == OK) {
        attempt->permit = NULL;
        return;
    }
    msg_destroy(gateway->worker, &msg);
    attempt->permit = NULL;
    attempt_answer(attempt, ERR_SHUTDOWN, false, 0, 0, SLICE_LITERAL("no providers actor"));
    attempt_free(attempt);
}

static void on_call(struct gateway *gateway, struct model_call *call, uint64_t now_ns)
{
    if (!is_call_valid(call)) {
        refuse_call(gateway, call, ERR_INVALID, "no agent of kind llm with a provider");
        return;
    }
    if (call->deadline_ns != 0 && call->deadline_ns <= now_ns) {
        refuse_call(gateway, call, ERR_TIMEOUT, "the turn's deadline has passed");
        return;
    }
    struct model_attempt *const attempt = attempt_create(gateway);
    if (attempt == NULL) {
        refuse_call(gateway, call, ERR_NO_MEMORY, "no memory for the call");
        return;
    }
    attempt->state = ATTEMPT_WAITING;
    attempt->reply_to = call->reply_to;
    attempt->token = call->token;
    attempt->call = call;
    attempt->config = config_ref(call->config);
    attempt->provider = &call->config->providers[call->config->agents[call->agent].provider];
    attempt->wants_deltas = call->wants_deltas;
    attempt->began_ns = now_ns;
    attempt->deadline_ns = call->deadline_ns ? call->deadline_ns : UINT64_MAX;
    attempt->timer.on_fire = on_timer;
    model_response_init(&attempt->response);
    attempt_link(attempt, bucket_of(gateway, attempt->reply_to, attempt->token));
    timer_start(gateway->worker, &attempt->timer, now_ns + time_left(attempt, now_ns));
    ask_permit(attempt);
}

/* Owns: `permit`, when it is one to give back. */
static void on_permit(struct permit *permit)
{
    struct model_attempt *const attempt = permit->attempt;
    struct worker *const worker = attempt->gateway->worker;
    struct msg *msg = &permit->msg;
    if (permit->code == OK) {
        attempt->permit = permit;
        msg = NULL;
    }
    switch (attempt->state) {
    case ATTEMPT_ABANDONED:
        if (attempt->permit)
            return_permit(attempt, BREAKER_NEUTRAL);
        attempt_free(attempt);
        break;
    case ATTEMPT_WAITING: {
        timer_cancel(worker, &attempt->timer);
        const enum err err = permit->code == OK ? attempt_send(attempt) : permit->code;
        if (err == OK) {
            model_call_destroy(worker, &attempt->call);
            attempt_set_state(attempt, ATTEMPT_RUNNING);
            break;
        }
        const uint64_t retry_after_ms = permit->code == OK ? 0 : (permit->retry_after_ns + MS_NS - 1) / MS_NS;
        if (attempt->permit)
            return_permit(attempt, BREAKER_NEUTRAL); /* the provider saw nothing of it */
        attempt_answer(attempt, err, false, 0, retry_after_ms, slice_from_text(err_text(err)));
        attempt_free(attempt);
        break;
    }
    case ATTEMPT_RUNNING:
    case ATTEMPT_LINGERING:
    case ATTEMPT_STATE_COUNT: ASSERT(false); /* one permit an attempt */
    }
    msg_destroy(worker, &msg);
}

static void on_cancel(struct gateway *gateway, const struct model_cancel *cancel)
{
    struct model_attempt *const attempt = attempt_find(gateway, cancel->reply_to, cancel->token);
    if (attempt == NULL || attempt->is_cancelled)
        return; /* answered already: its MODEL_DONE is on its way */
    if (attempt->state == ATTEMPT_WAITING) {
        attempt_answer(attempt, ERR_CANCELLED, false, 0, 0, slice_of(NULL, 0));
        attempt_set_state(attempt, ATTEMPT_ABANDONED);
        return;
    }
    attempt->is_cancelled = true;
    fetch_cancel(gateway->services->fetch, attempt->fetch); /* answered in on_done: the socket is then closed */
}

static enum err gateway_on_message(struct actor_context *context, struct msg **msg)
{
    struct gateway *const gateway = context->state;
    switch ((*msg)->kind) {
    case MODEL_CALL:
        on_call(gateway, container_of(*msg, struct model_call, msg), context->now_ns);
        *msg = NULL;
        return OK;
    case PERMIT_GIVEN:
        on_permit(container_of(*msg, struct permit, msg));
        *msg = NULL;
        return OK;
    case MODEL_CANCEL: on_cancel(gateway, container_of(*msg, struct model_cancel, msg)); return OK;
    }
    LOG(LOG_WARN, "gateway_stray_message", LOG_UINT("kind", (*msg)->kind));
    return OK;
}

/* The process ends: whoever waits is ending too. Messages must go back to their pools while the worker is there; the blocks
 * themselves stay for the fetch client's last callbacks, or for gateway_free. */
static void gateway_on_exit(struct actor_context *context, enum err reason)
{
    (void)reason;
    struct gateway *const gateway = context->state;
    gateway->is_ended = true;
    for (size_t i = 0; i < BUCKET_COUNT; i++)
        while (gateway->buckets[i]) {
            struct model_attempt *const attempt = gateway->buckets[i];
            if (attempt->permit) {
                struct msg *msg = &attempt->permit->msg;
                msg_destroy(context->worker, &msg);
                attempt->permit = NULL;
            }
            attempt_release(attempt);
            attempt_unlink(attempt);
            attempt_link(attempt, &gateway->leftovers);
        }
    for (struct model_attempt *attempt = gateway->leftovers; attempt; attempt = attempt->next)
        timer_cancel(context->worker, &attempt->timer);
}

/* ---- start and end ---------------------------------------------------------------------------------------------------- */

static void register_metrics(struct gateway *gateway)
{
    for (int code = 0; code < ERR_COUNT; code++) {
        /* "ERR_BREAKER_OPEN" -> outcome="breaker_open" */
        const char *const name = err_name((enum err)code);
        char label[64] = "outcome=\"";
        size_t size = strlen(label);
        for (const char *at = strncmp(name, "ERR_", 4) == 0 ? name + 4 : name; *at && size < sizeof label - 2; at++)
            label[size++] = (char)(*at >= 'A' && *at <= 'Z' ? *at + ('a' - 'A') : *at);
        label[size] = '"';
        gateway->outcomes[code] = metrics_register_counter("model_calls_total", "Attempts at a model by outcome", label);
    }
    gateway->tokens_in =
        metrics_register_counter("model_tokens_total", "Tokens as the providers counted them", "direction=\"input\"");
    gateway->tokens_out =
        metrics_register_counter("model_tokens_total", "Tokens as the providers counted them", "direction=\"output\"");
    gateway->first_token =
        metrics_register_histogram("model_first_token_seconds", "From the call to the first text, permit included", NULL);
    gateway->duration = metrics_register_histogram("model_call_seconds", "From the call to its answer", NULL);
}

static const struct actor_type gateway_type = {
    .name = "llm_gateway",
    .on_message = gateway_on_message,
    .on_exit = gateway_on_exit,
    .is_pinned = true,
};

enum err llm_gateway_start(struct worker *worker, struct services *services, struct error *error)
{
    ASSERT_ON_WORKER(worker);
    struct gateway *const gateway = calloc(1, sizeof *gateway);
    if (gateway == NULL)
        return error_set(error, ERR_NO_MEMORY, "%zu bytes for the model gateway", sizeof *gateway);
    gateway->worker = worker;
    gateway->services = services;
    buffer_init(&gateway->request, REQUEST_BYTES_MAX);
    register_metrics(gateway);
    const enum err err = actor_spawn(worker, &gateway_type, gateway, NULL, &gateway->self);
    if (err != OK) {
        free(gateway);
        return error_set(error, err, "spawn the model gateway");
    }
    providers_keep_gateway(services->providers, worker, gateway);
    return OK;
}

struct actor_id llm_gateway(const struct services *services)
{
    const struct gateway *const gateway = providers_gateway(services->providers, worker_index(services->worker));
    return gateway ? gateway->self : (struct actor_id){0};
}

/* After every worker and fetch client: nothing points here any more. */
void gateway_free(struct gateway *gateway)
{
    if (gateway == NULL)
        return;
    ASSERT(gateway->is_ended);
    for (struct model_attempt *attempt = gateway->leftovers, *next; attempt; attempt = next) {
        next = attempt->next;
        free(attempt);
    }
    buffer_deinit(&gateway->request);
    free(gateway);
}
