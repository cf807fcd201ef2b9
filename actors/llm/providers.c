/* SPDX-License-Identifier: Apache-2.0 */
/* providers: one pinned actor on worker 0 that holds, for the whole process, each provider's breaker and its count of calls in
 * flight; gateways ask it for a permit before each call.
 *
 * One actor, so that half-open lets exactly one probe through and the cap on calls in flight is exact, without a lock: a call
 * costs one hop there and one back, against hundreds of milliseconds of model. Calls over the cap wait here in order; when
 * the breaker opens, all that wait are refused at once.
 *
 * Records are named and only ever added, so that a permit of an old configuration still finds its record after a reload and
 * other threads may read names without a lock. What other threads see of a breaker is advisory: single words, each whole,
 * not of one moment.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/config/config.h"
#include "actors/llm/llm_internal.h"
#include "net/json.h"
#include "runtime/actor.h"
#include "runtime/assert.h"
#include "runtime/atomic.h"
#include "runtime/buffer.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/metrics.h"
#include "runtime/worker.h"

#define SECOND_NS UINT64_C(1000000000)

enum {
    WAITING_MAX = 16384, /* permits asked for and not yet given, a provider; above: ERR_BUSY */
    WORKERS_MAX = 64,    /* worker.h */
};

/* Advisory: written by the actor after each change, relaxed, since no reader draws a conclusion from two words. Readers:
 * providers_is_open before a message is accepted, GET /v1/breakers. */
struct provider_view {
    ATOMIC(uint32_t) state, failures_in_row, window_count, window_failures, in_flight, in_flight_max, waiting_count;
    ATOMIC(uint64_t) open_until_ns, opened_count, refused_count;
};

struct provider {
    char name[PROVIDER_NAME_BYTES_MAX]; /* fixed once the record is published by providers->record_count */
    /* worker 0 only */
    struct breaker breaker;
    struct breaker_config breaker_config;
    uint64_t probe_ns_max;
    uint32_t in_flight, in_flight_max;
    struct msg *waiting_first, *waiting_last; /* PERMIT_ASK, FIFO by msg.next; owned */
    uint32_t waiting_count;
    struct metric state_metric, in_flight_metric, transition_metrics[BREAKER_STATE_COUNT];
    /* any thread */
    struct provider_view view;
};

struct providers {
    /* fixed after start */
    struct actor_id actor;
    struct gateway *gateways[WORKERS_MAX]; /* [i]: set and read by worker i; freed with this */
    /* worker 0 only: see struct provider */
    struct provider records[PROVIDERS_MAX];
    /* any thread: release when a record is whole, acquire to read its name */
    ATOMIC(uint32_t) record_count;
    ATOMIC(uint32_t) config_count;                    /* of the present configuration; advisory */
    ATOMIC(uint32_t) record_of_config[PROVIDERS_MAX]; /* index in the present configuration -> record; advisory */
};

/* ---- a record --------------------------------------------------------------------------------------------------------- */

static void publish(struct provider *provider)
{
    struct breaker_snapshot snapshot;
    breaker_get_snapshot(&provider->breaker, &snapshot);
    struct provider_view *const view = &provider->view;
    atomic_store_relaxed(&view->state, (uint32_t)snapshot.state);
    atomic_store_relaxed(&view->open_until_ns, snapshot.open_until_ns);
    atomic_store_relaxed(&view->failures_in_row, snapshot.failures_in_row);
    atomic_store_relaxed(&view->window_count, snapshot.window_count);
    atomic_store_relaxed(&view->window_failures, snapshot.window_failures);
    atomic_store_relaxed(&view->opened_count, snapshot.opened_count);
    atomic_store_relaxed(&view->refused_count, snapshot.refused_count);
    atomic_store_relaxed(&view->in_flight, provider->in_flight);
    atomic_store_relaxed(&view->in_flight_max, provider->in_flight_max);
    atomic_store_relaxed(&view->waiting_count, provider->waiting_count);
    metrics_set(provider->state_metric, (int64_t)snapshot.state);
    metrics_set(provider->in_flight_metric, (int64_t)provider->in_flight);
}

static void on_transition(void *context, enum breaker_state from, enum breaker_state to, const char *reason)
{
    struct provider *const provider = context;
    LOG(to == BREAKER_OPEN ? LOG_WARN : LOG_INFO, "breaker_state", LOG_TEXT("provider", provider->name),
        LOG_TEXT("from", breaker_state_name(from)), LOG_TEXT("to", breaker_state_name(to)), LOG_TEXT("reason", reason));
    metrics_add(provider->transition_metrics[to], 1);
}

static uint32_t per_mille(double rate)
{
    if (!(rate > 0))
        return 0;
    return rate >= 1 ? 1000 : (uint32_t)(rate * 1000 + 0.5);
}

/* A probe that has used all the time its call may take, and five seconds more, will not report. */
static uint64_t probe_time(const struct provider_config *config)
{
    const uint64_t total = config->total_ns_max ? config->total_ns_max : 300 * SECOND_NS;
    return total > UINT64_MAX - 5 * SECOND_NS ? UINT64_MAX : total + 5 * SECOND_NS;
}

static struct breaker_options breaker_options_of(struct provider *provider, const struct provider_config *config)
{
    const struct breaker_config *const breaker = &config->breaker;
    return (struct breaker_options){
        .failure_count_max = breaker->failures,
        .error_per_mille = per_mille(breaker->error_rate),
        .window_size = breaker->window < BREAKER_WINDOW_MAX ? breaker->window : BREAKER_WINDOW_MAX,
        .open_ns = breaker->open_for_ns,
        .probe_count_max = 1,
        .probe_ns_max = probe_time(config),
        .success_count = breaker->successes,
        .on_transition = on_transition,
        .context = provider,
    };
}

static bool is_same_breaker(const struct provider *provider, const struct provider_config *config)
{
    const struct breaker_config *const a = &provider->breaker_config, *const b = &config->breaker;
    return a->failures == b->failures && a->successes == b->successes && a->window == b->window &&
           per_mille(a->error_rate) == per_mille(b->error_rate) && a->open_for_ns == b->open_for_ns &&
           provider->probe_ns_max == probe_time(config);
}

/* Thread: any. Returns: the record's index, -1 when there is none. */
static int provider_find(const struct providers *providers, struct slice name)
{
    const uint32_t count = atomic_load_acquire(&providers->record_count);
    for (uint32_t i = 0; i < count; i++)
        if (slice_has_text(name, providers->records[i].name))
            return (int)i;
    return -1;
}

/* Only names that need no escaping in a label have metrics; the configuration allows no others. */
static void register_metrics(struct provider *provider)
{
    char labels[PROVIDER_NAME_BYTES_MAX + 48];
    if (strpbrk(provider->name, "\"\\\n") != NULL)
        return;
    snprintf(labels, sizeof labels, "provider=\"%s\"", provider->name);
    provider->state_metric = metrics_register_gauge("model_breaker_state", "0 closed, 1 open, 2 half-open", labels);
    provider->in_flight_metric =
        metrics_register_gauge("model_calls_in_flight", "Permits given and not yet returned", labels);
    for (int to = 0; to < BREAKER_STATE_COUNT; to++) {
        snprintf(labels, sizeof labels, "provider=\"%s\",to=\"%s\"", provider->name,
                 breaker_state_name((enum breaker_state)to));
        provider->transition_metrics[to] =
            metrics_register_counter("model_breaker_transitions_total", "Changes of a breaker's state", labels);
    }
}

/* Returns: the new record's index, -1 when there is no room for it or its name. */
static int provider_add(struct providers *providers, const struct provider_config *config, uint64_t now_ns)
{
    const uint32_t index = atomic_load_relaxed(&providers->record_count);
    if (index == PROVIDERS_MAX || config->name.size >= PROVIDER_NAME_BYTES_MAX)
        return -1;
    struct provider *const provider = &providers->records[index];
    memcpy(provider->name, config->name.data, config->name.size);
    provider->name[config->name.size] = '\0';
    const struct breaker_options options = breaker_options_of(provider, config);
    breaker_init(&provider->breaker, &options, now_ns);
    provider->breaker_config = config->breaker;
    provider->probe_ns_max = probe_time(config);
    register_metrics(provider);
    atomic_store_release(&providers->record_count, index + 1);
    return (int)index;
}

static void provider_configure(struct provider *provider, const struct provider_config *config, uint64_t now_ns)
{
    provider->in_flight_max = config->in_flight_max ? config->in_flight_max : UINT32_MAX;
    if (!is_same_breaker(provider, config)) {
        const struct breaker_options options = breaker_options_of(provider, config);
        breaker_reset(&provider->breaker, &options, now_ns);
        provider->breaker_config = config->breaker;
        provider->probe_ns_max = probe_time(config);
    }
    publish(provider);
}

/* ---- permits ---------------------------------------------------------------------------------------------------------- */

/* Sends the block back to its gateway. Owns: `permit`. */
static void give(struct worker *worker, struct permit *permit, enum err code)
{
    permit->code = code;
    permit->msg.kind = PERMIT_GIVEN;
    struct msg *msg = &permit->msg;
    if (actor_send(worker, permit->gateway, &msg) != OK)
        msg_destroy(worker, &msg); /* gateways end only with the process */
}

static void waiting_push(struct provider *provider, struct permit *permit)
{
    permit->msg.next = NULL;
    if (provider->waiting_last)
        provider->waiting_last->next = &permit->msg;
    else
        provider->waiting_first = &permit->msg;
    provider->waiting_last = &permit->msg;
    provider->waiting_count++;
}

static struct permit *waiting_pop(struct provider *provider)
{
    struct msg *const msg = provider->waiting_first;
    provider->waiting_first = msg->next;
    if (msg->next == NULL)
        provider->waiting_last = NULL;
    msg->next = NULL;
    provider->waiting_count--;
    return container_of(msg, struct permit, msg);
}

/* Gives what can be given, in order. What the breaker refuses does not wait: its caller has a fallback, or a retry. */
static void serve_waiting(struct worker *worker, struct provider *provider, uint64_t now_ns)
{
    while (provider->waiting_count > 0 && provider->in_flight < provider->in_flight_max) {
        struct permit *const permit = waiting_pop(provider);
        const enum err err = breaker_acquire(&provider->breaker, now_ns, &permit->breaker, &permit->retry_after_ns);
        if (err == OK)
            provider->in_flight++;
        give(worker, permit, err);
    }
}

static void refuse_waiting_while_open(struct worker *worker, struct provider *provider, uint64_t now_ns)
{
    struct breaker_snapshot snapshot;
    breaker_get_snapshot(&provider->breaker, &snapshot);
    if (snapshot.state != BREAKER_OPEN || snapshot.open_until_ns <= now_ns)
        return;
    while (provider->waiting_count > 0) {
        struct permit *const permit = waiting_pop(provider);
        permit->retry_after_ns = snapshot.open_until_ns - now_ns;
        give(worker, permit, ERR_BREAKER_OPEN);
    }
}

static void on_ask(struct providers *providers, struct worker *worker, struct permit *permit, uint64_t now_ns)
{
    const int record = provider_find(providers, slice_from_text(permit->provider));
    if (record < 0) {
        give(worker, permit, ERR_INVALID);
        return;
    }
    permit->record = (uint32_t)record;
    struct provider *const provider = &providers->records[record];
    if (provider->waiting_count == WAITING_MAX) {
        permit->retry_after_ns = SECOND_NS;
        give(worker, permit, ERR_BUSY);
        return;
    }
    waiting_push(provider, permit);
    refuse_waiting_while_open(worker, provider, now_ns);
    serve_waiting(worker, provider, now_ns);
    publish(provider);
}

static void on_return(struct providers *providers, struct worker *worker, const struct permit *permit, uint64_t now_ns)
{
    ASSERT(permit->record < atomic_load_relaxed(&providers->record_count));
    struct provider *const provider = &providers->records[permit->record];
    ASSERT(provider->in_flight > 0);
    provider->in_flight--;
    breaker_release(&provider->breaker, permit->breaker, permit->verdict, now_ns);
    refuse_waiting_while_open(worker, provider, now_ns);
    serve_waiting(worker, provider, now_ns);
    publish(provider);
}

static enum err providers_on_message(struct actor_context *context, struct msg **msg)
{
    struct providers *const providers = context->state;
    switch ((*msg)->kind) {
    case PERMIT_ASK:
        on_ask(providers, context->worker, container_of(*msg, struct permit, msg), context->now_ns);
        *msg = NULL;
        return OK;
    case PERMIT_RETURN:
        on_return(providers, context->worker, container_of(*msg, struct permit, msg), context->now_ns);
        return OK;
    }
    LOG(LOG_WARN, "providers_stray_message", LOG_UINT("kind", (*msg)->kind));
    return OK;
}

static void providers_on_exit(struct actor_context *context, enum err reason)
{
    (void)reason;
    struct providers *const providers = context->state;
    for (uint32_t i = 0; i < atomic_load_relaxed(&providers->record_count); i++)
        while (providers->records[i].waiting_count > 0) {
            struct msg *msg = &waiting_pop(&providers->records[i])->msg;
            msg_destroy(context->worker, &msg);
        }
}

static const struct actor_type providers_type = {
    .name = "providers",
    .on_message = providers_on_message,
    .on_exit = providers_on_exit,
    .is_pinned = true,
};

/* ---- start and reload ------------------------------------------------------------------------------------------------- */

enum err providers_create(struct runtime *runtime, struct providers **ret_providers, struct error *error)
{
    ASSERT(runtime_worker_count(runtime) <= WORKERS_MAX);
    struct providers *const providers = calloc(1, sizeof *providers);
    if (providers == NULL)
        return error_set(error, ERR_NO_MEMORY, "%zu bytes for the providers", sizeof *providers);
    *ret_providers = providers;
    return OK;
}

void providers_destroy(struct providers *providers)
{
    if (providers == NULL)
        return;
    for (uint32_t i = 0; i < WORKERS_MAX; i++)
        gateway_free(providers->gateways[i]);
    free(providers);
}

/* Returns: how many providers found no room. */
static uint32_t configure(struct providers *providers, const struct config *config, uint64_t now_ns)
{
    uint32_t left_out = 0;
    for (uint32_t i = 0; i < config->provider_count; i++) {
        const struct provider_config *const provider_config = &config->providers[i];
        int record = provider_find(providers, provider_config->name);
        if (record < 0)
            record = provider_add(providers, provider_config, now_ns);
        if (record < 0 || i >= PROVIDERS_MAX) {
            left_out++;
            continue;
        }
        provider_configure(&providers->records[record], provider_config, now_ns);
        atomic_store_relaxed(&providers->record_of_config[i], (uint32_t)record);
    }
    atomic_store_relaxed(&providers->config_count,
                         config->provider_count < PROVIDERS_MAX ? config->provider_count : PROVIDERS_MAX);
    return left_out;
}

enum err providers_start(struct providers *providers, struct worker *worker, struct config *config, struct error *error)
{
    ASSERT_ON_WORKER(worker);
    if (configure(providers, config, worker_now_ns(worker)) > 0)
        return error_set(error, ERR_LIMIT, "at most %d providers, names of at most %d bytes", PROVIDERS_MAX,
                         PROVIDER_NAME_BYTES_MAX - 1);
    const enum err err = actor_spawn(worker, &providers_type, providers, NULL, &providers->actor);
    return err == OK ? OK : error_set(error, err, "spawn the providers actor");
}

/* A provider beyond the table stays without a record: its calls answer ERR_INVALID, and this line says why. */
void providers_reload(struct providers *providers, struct worker *worker, struct config *config)
{
    ASSERT_ON_WORKER(worker);
    const uint32_t left_out = configure(providers, config, worker_now_ns(worker));
    if (left_out > 0)
        LOG(LOG_ERROR, "providers_left_out", LOG_UINT("count", left_out), LOG_UINT("max", PROVIDERS_MAX));
    for (uint32_t i = 0; i < atomic_load_relaxed(&providers->record_count); i++)
        serve_waiting(worker, &providers->records[i], worker_now_ns(worker));
}

struct actor_id providers_actor(const struct providers *providers)
{
    return providers->actor;
}

void providers_keep_gateway(struct providers *providers, struct worker *worker, struct gateway *gateway)
{
    ASSERT_ON_WORKER(worker);
    ASSERT(providers->gateways[worker_index(worker)] == NULL);
    providers->gateways[worker_index(worker)] = gateway;
}

struct gateway *providers_gateway(const struct providers *providers, uint32_t worker_index)
{
    return providers->gateways[worker_index];
}

/* ---- what other threads may ask --------------------------------------------------------------------------------------- */

bool providers_is_open(const struct providers *providers, struct slice provider, uint64_t *ret_retry_after_ms)
{
    const int record = provider_find(providers, provider);
    if (record < 0)
        return false;
    const struct provider_view *const view = &providers->records[record].view;
    const uint64_t open_until_ns = atomic_load_relaxed(&view->open_until_ns);
    const uint64_t now_ns = clock_mono_ns();
    if (atomic_load_relaxed(&view->state) != BREAKER_OPEN || open_until_ns <= now_ns)
        return false;
    *ret_retry_after_ms = (open_until_ns - now_ns + 999999) / 1000000;
    return true;
}

static void write_member(struct buffer *out, const char *key, uint64_t value, bool *is_first)
{
    json_write_key(out, key, is_first);
    json_write_unsigned(out, value);
}

static void write_breaker(const struct provider *provider, uint64_t now_ns, struct buffer *out)
{
    const struct provider_view *const view = &provider->view;
    const uint64_t open_until_ns = atomic_load_relaxed(&view->open_until_ns);
    const uint32_t in_flight_max = atomic_load_relaxed(&view->in_flight_max);
    bool is_first = true;
    buffer_append_byte(out, '{');
    json_write_key(out, "provider", &is_first);
    json_write_string(out, slice_from_text(provider->name));
    json_write_key(out, "state", &is_first);
    json_write_string(out, slice_from_text(breaker_state_name((enum breaker_state)atomic_load_relaxed(&view->state))));
    write_member(out, "failures_in_row", atomic_load_relaxed(&view->failures_in_row), &is_first);
    write_member(out, "window_calls", atomic_load_relaxed(&view->window_count), &is_first);
    write_member(out, "window_failures", atomic_load_relaxed(&view->window_failures), &is_first);
    write_member(out, "opened", atomic_load_relaxed(&view->opened_count), &is_first);
    write_member(out, "refused", atomic_load_relaxed(&view->refused_count), &is_first);
    write_member(out, "retry_after_ms", open_until_ns > now_ns ? (open_until_ns - now_ns + 999999) / 1000000 : 0,
                 &is_first);
    write_member(out, "in_flight", atomic_load_relaxed(&view->in_flight), &is_first);
    if (in_flight_max != UINT32_MAX)
        write_member(out, "in_flight_max", in_flight_max, &is_first);
    write_member(out, "waiting", atomic_load_relaxed(&view->waiting_count), &is_first);
    buffer_append_byte(out, '}');
}

void providers_write_json(const struct providers *providers, struct buffer *out)
{
    const uint64_t now_ns = clock_mono_ns();
    /* Acquire pairs with provider_add's release: the records that this configuration names are whole. */
    const uint32_t record_count = atomic_load_acquire(&providers->record_count);
    const uint32_t config_count = atomic_load_relaxed(&providers->config_count);
    buffer_append_text(out, "{\"breakers\":[");
    bool is_first = true;
    for (uint32_t i = 0; i < config_count; i++) {
        const uint32_t record = atomic_load_relaxed(&providers->record_of_config[i]);
        if (record >= record_count)
            continue;
        if (!is_first)
            buffer_append_byte(out, ',');
        is_first = false;
        write_breaker(&providers->records[record], now_ns, out);
    }
    buffer_append_text(out, "]}");
}
