/* SPDX-License-Identifier: Apache-2.0 */
/* server: makes the parts of one process, starts them in order, and ends them in order. Holds no product logic.
 *
 * Order of a start: runtime (rings) and journal (lock, recovery) -> journal threads -> on each worker: outbound HTTP, model
 * gateway, directory, API, HTTP server, RPC, RPC server -> on worker 0: providers first, then the listeners once every worker
 * stands -> open conversations resumed. The end runs the other way: the listeners close, what runs may finish until the drain
 * deadline, the workers leave their loops, the journal commits and closes.
 *
 * The two threads of a start (the caller's and the workers') meet in runtime_start; later calls reach the workers as tasks.
 */
#include "actors/server.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/admission.h"
#include "actors/api/api.h"
#include "actors/config/config.h"
#include "actors/conversation.h"
#include "actors/conversation_key.h"
#include "actors/dead_letters.h"
#include "actors/directory.h"
#include "actors/limits.h"
#include "actors/llm/llm.h"
#include "actors/rpc/rpc.h"
#include "actors/server_metrics.h"
#include "actors/services.h"
#include "net/fetch.h"
#include "net/http_server.h"
#include "net/rpc_server.h"
#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/event_count.h"
#include "runtime/log.h"
#include "runtime/timer.h"
#include "runtime/worker.h"
#include "storage/journal.h"

enum {
    /* Of a reader that lags: more than the largest event (a model's 256 KiB of text, escaped), or its stream could never
     * resume past it. */
    SEND_BYTES_MAX = 1 << 20,
};
enum { ADDRESS_BYTES = 64, TICK_NS = 250 * 1000 * 1000, DRAIN_TICK_NS = 5 * 1000 * 1000 };

/* One worker's share. `services` first, so that worker_user() points to it. */
struct station {
    struct services services;
    struct timer tick;
    struct timer drain;
    uint64_t drain_deadline_ns;
    struct worker_task open_task;
    struct worker_task drain_task;
};

struct server {
    /* fixed after start */
    struct config *config;
    struct runtime *runtime;
    struct journal *journal;
    struct providers *providers;
    struct limits *limits;
    struct station *stations;
    struct actor_id *directories;
    struct http_server **https;
    struct rpc_server **rpcs;
    uint32_t worker_count;
    char http_address[ADDRESS_BYTES];
    char rpc_address[ADDRESS_BYTES];
    struct error listen_error;
    /* shared */
    _Atomic uint32_t stations_open;    /* run_open was there; release, pairs with the acquire of is_open */
    _Atomic uint32_t stations_drained; /* the last one stops the runtime */
    _Atomic bool is_draining;
    _Atomic bool is_failed; /* the journal gave up */
    struct event_count opened;
};

/* ---- metrics and drain ticks -------------------------------------------------------------------------------------------- */

static void on_tick(struct worker *worker, struct timer *timer)
{
    struct station *station = container_of(timer, struct station, tick);
    server_metrics_publish(&station->services);
    timer_start(worker, timer, worker_now_ns(worker) + TICK_NS);
}

static bool station_is_quiet(const struct station *station)
{
    struct directory_stats stats;
    directory_get_stats(&station->services, &stats);
    return http_server_is_idle(station->services.http) && rpc_server_is_idle(station->services.rpc_server) &&
           stats.turns_running == 0 && stats.turns_queued == 0;
}

static void on_drain_tick(struct worker *worker, struct timer *timer)
{
    struct station *station = container_of(timer, struct station, drain);
    struct server *server = station->services.server;
    uint64_t now_ns = worker_now_ns(worker);
    if (!station_is_quiet(station) && now_ns < station->drain_deadline_ns) {
        timer_start(worker, timer, now_ns + DRAIN_TICK_NS);
        return;
    }
    /* acq_rel: the last station sees what the others did before it stops them all. */
    if (atomic_fetch_add_explicit(&server->stations_drained, 1, memory_order_acq_rel) + 1 == server->worker_count)
        runtime_stop(server->runtime);
}

/* Exchanges end in one of two ways: their turn ends, or the deadline leaves it to the next start. */
static void run_drain(struct worker *worker, struct worker_task *task)
{
    struct station *station = container_of(task, struct station, drain_task);
    struct server *server = station->services.server;
    station->services.is_draining = true;
    http_server_drain(station->services.http);
    rpc_server_drain(station->services.rpc_server);
    directory_drain(worker, &station->services);
    bool is_failed = atomic_load_explicit(&server->is_failed, memory_order_acquire);
    /* A failed journal finishes nothing any more: only the refusals still have to leave. */
    uint64_t patience_ns = is_failed ? 500ull * 1000 * 1000 : station->services.config->server.drain_ns_max;
    station->drain_deadline_ns = worker_now_ns(worker) + patience_ns;
    station->drain.on_fire = on_drain_tick;
    timer_start(worker, &station->drain, worker_now_ns(worker) + DRAIN_TICK_NS);
}

void server_drain(struct server *server)
{
    if (atomic_exchange_explicit(&server->is_draining, true, memory_order_acq_rel))
        return;
    for (uint32_t i = 0; i < server->worker_count; i++) {
        server->stations[i].drain_task.run = run_drain;
        worker_post(runtime_worker(server->runtime, i), &server->stations[i].drain_task);
    }
}

static void on_journal_failed(void *context, const struct error *error)
{
    struct server *server = context;
    (void)error; /* the journal has logged it */
    atomic_store_explicit(&server->is_failed, true, memory_order_release);
    server_drain(server);
}

/* ---- start -------------------------------------------------------------------------------------------------------------- */

static void station_close(struct worker *worker, struct station *station)
{
    timer_cancel(worker, &station->tick);
    timer_cancel(worker, &station->drain);
    http_server_destroy(station->services.http);
    station->services.http = NULL;
    api_destroy(station->services.api);
    station->services.api = NULL;
    rpc_server_destroy(station->services.rpc_server);
    station->services.rpc_server = NULL;
    rpc_destroy(station->services.rpc);
    station->services.rpc = NULL;
    fetch_client_destroy(station->services.fetch);
    station->services.fetch = NULL;
    config_unref(station->services.config);
    station->services.config = NULL;
}

static enum err start_http(struct worker *worker, struct services *services, struct error *error)
{
    const struct config *config = services->config;
    struct http_server_options options = {
        .connections_max = config->http.connections,
        .head_bytes_max = config->http.head_bytes,
        .body_bytes_max = config->http.body_bytes,
        .pipeline_max = config->http.pipeline,
        .send_bytes_max = SEND_BYTES_MAX,
        .head_ns_max = config->http.head_ns,
        .idle_ns_max = config->http.idle_ns,
    };
    enum err code = api_start(worker, services, &services->api, &options.handler, error);
    if (code != OK)
        return code;
    return http_server_create(worker, &options, &services->http, error);
}

static enum err start_rpc(struct worker *worker, struct services *services, struct error *error)
{
    const struct config *config = services->config;
    struct rpc_server_options options = {
        .connections_max = config->rpc.connections,
        .frame_bytes_max = config->rpc.frame_bytes,
        .calls_max = config->rpc.pipeline,
        .send_bytes_max = config->rpc.send_bytes,
        .frame_ns_max = config->rpc.frame_ns,
        .idle_ns_max = config->rpc.idle_ns,
    };
    enum err code = rpc_start(worker, services, &services->rpc, &options.handler, error);
    if (code != OK)
        return code;
    return rpc_server_create(worker, &options, &services->rpc_server, error);
}

/* Thread: the worker's, before its first turn. */
static enum err on_worker_start(struct worker *worker, void *user, struct error *error)
{
    struct server *server = user;
    uint32_t index = worker_index(worker);
    struct station *station = &server->stations[index];
    struct services *services = &station->services;
    services->worker = worker;
    services->config = config_ref(server->config);
    worker_set_user(worker, services);

    const struct fetch_options fetch_options = {0};
    enum err code = OK;
    if (index == 0)
        code = providers_start(server->providers, worker, server->config, error);
    if (code == OK && index == 0)
        code = dead_letters_start(worker, services, &services->dead_letters, error);
    if (code == OK)
        code = fetch_client_create(worker, &fetch_options, &services->fetch, error);
    if (code == OK)
        code = llm_gateway_start(worker, services, error);
    if (code == OK)
        code = directory_start(worker, services, &server->directories[index], error);
    if (code == OK)
        code = start_http(worker, services, error);
    if (code == OK)
        code = start_rpc(worker, services, error);
    if (code != OK)
        return code;
    server->https[index] = services->http;
    server->rpcs[index] = services->rpc_server;
    station->tick.on_fire = on_tick;
    timer_start(worker, &station->tick, worker_now_ns(worker) + TICK_NS);
    return OK;
}

/* What the end of the workers, or of an actor, leaves undelivered. */
static void on_drop(struct worker *worker, struct msg *msg)
{
    struct journal_read *read;
    switch (msg->kind) {
    case MSG_JOURNAL_LOAD: journal_release(container_of(msg, struct journal_load, msg)->memory); return;
    case MSG_JOURNAL_LIST: journal_release(container_of(msg, struct journal_list, msg)->memory); return;
    case MSG_JOURNAL_SCAN: journal_release(container_of(msg, struct journal_scan, msg)->memory); return;
    case MSG_JOURNAL_READ:
        read = container_of(msg, struct journal_read, msg);
        journal_release(read->memory);
        if (read->on_drop)
            read->on_drop(worker, read);
        return;
    case MODEL_CALL: config_unref(container_of(msg, struct model_call, msg)->config); return;
    }
}

static void on_worker_stop(struct worker *worker, void *user)
{
    struct server *server = user;
    station_close(worker, &server->stations[worker_index(worker)]);
}

/* Worker 0, once every worker stands: from here on requests come in. */
static void listen_on(struct station *station)
{
    struct server *server = station->services.server;
    const struct slice http = server->config->server.http_listen, rpc = server->config->server.rpc_listen;
    char address[ADDRESS_BYTES + 1];
    snprintf(address, sizeof address, "%.*s", SLICE_PRINT(http));
    enum err code =
        http_server_listen(station->services.http, address, server->https, server->worker_count, &server->listen_error);
    if (code == OK && rpc.size > 0) { /* "" switches it off */
        snprintf(address, sizeof address, "%.*s", SLICE_PRINT(rpc));
        code = rpc_server_listen(station->services.rpc_server, address, server->rpcs, server->worker_count,
                                 &server->listen_error);
    }
    server->listen_error.code = code;
    if (code != OK)
        return;
    http_server_address(station->services.http, server->http_address, sizeof server->http_address);
    rpc_server_address(station->services.rpc_server, server->rpc_address, sizeof server->rpc_address);
}

/* On each worker, once every on_worker_start has answered: what the workers know of each other is complete. */
static void run_open(struct worker *worker, struct worker_task *task)
{
    struct station *station = container_of(task, struct station, open_task);
    struct server *server = station->services.server;
    station->services.dead_letters = server->stations[0].services.dead_letters;
    directory_resume_open(worker, &station->services);
    if (worker_index(worker) == 0)
        listen_on(station);
    atomic_fetch_add_explicit(&server->stations_open, 1, memory_order_release);
    event_count_notify(&server->opened);
}

static bool is_open(struct server *server)
{
    return atomic_load_explicit(&server->stations_open, memory_order_acquire) == server->worker_count;
}

static void post_open_tasks(struct server *server)
{
    for (uint32_t i = 0; i < server->worker_count; i++) {
        server->stations[i].open_task.run = run_open;
        worker_post(runtime_worker(server->runtime, i), &server->stations[i].open_task);
    }
}

static enum err take_listen_error(const struct server *server, struct error *error)
{
    if (server->listen_error.code == OK)
        return OK;
    if (error)
        *error = server->listen_error;
    return error_prefix(error, "listen");
}

enum err server_create(const struct server_options *options, struct server **ret_server, struct error *error)
{
    ASSERT(options->config);
    struct server *server = calloc(1, sizeof *server);
    if (!server)
        return error_set(error, ERR_NO_MEMORY, "server");
    server->config = config_ref(options->config);

    struct runtime_options runtime_options = {
        .worker_count = server->config->server.workers,
        .memory_bytes_max = server->config->server.memory_bytes_max,
        .mailbox_count_max = server->config->conversation.mailbox_messages,
        .user = server,
        .on_start = on_worker_start,
        .on_stop = on_worker_stop,
        .on_drop = on_drop,
    };
    enum err code = runtime_create(&runtime_options, &server->runtime, error);
    if (code != OK)
        goto destroy;
    server_metrics_register();
    conversation_metrics_register();
    admission_metrics_register();
    struct hash128 seed;
    clock_random_bytes(&seed, sizeof seed);
    conversation_key_set_seed(seed);
    server->worker_count = runtime_worker_count(server->runtime);
    server->stations = calloc(server->worker_count, sizeof *server->stations);
    server->directories = calloc(server->worker_count, sizeof *server->directories);
    server->https = calloc(server->worker_count, sizeof *server->https);
    server->rpcs = calloc(server->worker_count, sizeof *server->rpcs);
    if (!server->stations || !server->directories || !server->https || !server->rpcs) {
        code = error_set(error, ERR_NO_MEMORY, "stations of %u workers", server->worker_count);
        goto destroy;
    }
    code = providers_create(server->runtime, &server->providers, error);
    if (code != OK)
        goto destroy;
    code = limits_create(&server->limits);
    if (code != OK) {
        (void)error_set(error, code, "limits");
        goto destroy;
    }
    char directory[4096];
    snprintf(directory, sizeof directory, "%.*s", SLICE_PRINT(server->config->server.data));
    const struct journal_options journal_options = {
        .directory = directory,
        .backend = "sqlite",
        .vfs = options->journal_vfs,
        .on_failed = on_journal_failed,
        .on_failed_context = server,
    };
    code = journal_open(&journal_options, server->runtime, &server->journal, error);
    if (code != OK)
        goto destroy;
    for (uint32_t i = 0; i < server->worker_count; i++) {
        struct services *services = &server->stations[i].services;
        services->server = server;
        services->journal = server->journal;
        services->providers = server->providers;
        services->limits = server->limits;
        services->directories = server->directories;
        services->records_waiting_max = options->records_waiting_max;
    }
    *ret_server = server;
    return OK;

destroy:
    server_destroy(server);
    return code;
}

enum err server_start(struct server *server, struct error *error)
{
    enum err code = journal_start(server->journal, error);
    if (code == OK)
        code = runtime_start(server->runtime, error);
    if (code != OK)
        return code;
    post_open_tasks(server);
    while (!is_open(server)) {
        uint32_t seen = event_count_prepare(&server->opened);
        if (!is_open(server))
            event_count_wait(&server->opened, seen, UINT64_MAX);
    }
    return take_listen_error(server, error);
}

const char *server_http_address(const struct server *server)
{
    return server->http_address;
}
const char *server_rpc_address(const struct server *server)
{
    return server->rpc_address;
}

/* ---- reload ------------------------------------------------------------------------------------------------------------- */

struct reload {
    struct worker_task task;
    struct config *config; /* a reference */
};

static void run_reload(struct worker *worker, struct worker_task *task)
{
    struct reload *reload = container_of(task, struct reload, task);
    struct services *services = worker_user(worker);
    if (worker_index(worker) == 0)
        providers_reload(services->providers, worker, reload->config);
    struct config *old = services->config;
    services->config = reload->config;
    config_unref(old);
    free(reload);
}

static void drop_reload(struct worker_task *task)
{
    struct reload *reload = container_of(task, struct reload, task);
    config_unref(reload->config);
    free(reload);
}

void server_reload(struct server *server, struct config *config)
{
    for (uint32_t i = 0; i < server->worker_count; i++) {
        struct reload *reload = calloc(1, sizeof *reload);
        if (!reload) {
            /* Workers before this one already have the new configuration; each is whole, and the next reload evens it out. */
            LOG(LOG_ERROR, "reload_incomplete", LOG_ERR(ERR_NO_MEMORY), LOG_UINT("worker", i));
            return;
        }
        reload->task.run = run_reload;
        reload->task.drop = drop_reload;
        reload->config = config_ref(config);
        worker_post(runtime_worker(server->runtime, i), &reload->task);
    }
}

/* ---- end ---------------------------------------------------------------------------------------------------------------- */

enum err server_join(struct server *server)
{
    runtime_join(server->runtime);
    bool is_failed = atomic_load_explicit(&server->is_failed, memory_order_acquire);
    journal_close(server->journal);
    server->journal = NULL;
    return is_failed ? ERR_STORAGE_FAILED : OK;
}

/* The journal is closed or abandoned. */
static void server_free(struct server *server)
{
    runtime_destroy(server->runtime); /* ends actors and calls on_worker_stop where a worker still stands */
    for (uint32_t i = 0; server->stations && i < server->worker_count; i++)
        directory_destroy(server->stations[i].services.directory);
    providers_destroy(server->providers);
    limits_destroy(server->limits);
    config_unref(server->config);
    free(server->https);
    free(server->rpcs);
    free(server->directories);
    free(server->stations);
    free(server);
}

void server_destroy(struct server *server)
{
    if (!server)
        return;
    if (server->runtime) { /* after a start that failed half way there are threads */
        runtime_stop(server->runtime);
        runtime_join(server->runtime);
    }
    journal_close(server->journal);
    server_free(server);
}

/* ---- stepped ------------------------------------------------------------------------------------------------------------ */

enum { OPEN_STEPS_MAX = 100000 };

enum err server_start_stepped(struct server *server, struct error *error)
{
    for (uint32_t i = 0; i < server->worker_count; i++) {
        enum err code = worker_start(runtime_worker(server->runtime, i), error);
        if (code != OK)
            return code;
    }
    post_open_tasks(server);
    for (uint32_t steps = 0; !is_open(server); steps++) {
        ASSERT(steps < OPEN_STEPS_MAX);
        for (uint32_t part = 0; part < server_part_count(server); part++)
            server_step_part(server, part);
    }
    return take_listen_error(server, error);
}

uint32_t server_part_count(const struct server *server)
{
    return server->worker_count + 2;
}

bool server_step_part(struct server *server, uint32_t part)
{
    ASSERT(part < server_part_count(server));
    if (part < server->worker_count)
        return worker_step(runtime_worker(server->runtime, part));
    return part == server->worker_count ? journal_write_step(server->journal) : journal_read_step(server->journal);
}

uint64_t server_part_deadline_ns(const struct server *server, uint32_t part)
{
    return part < server->worker_count ? worker_next_deadline_ns(runtime_worker(server->runtime, part)) : UINT64_MAX;
}

void server_check(const struct server *server, bool is_at_rest)
{
    runtime_check(server->runtime, is_at_rest);
}

bool server_is_drained(const struct server *server)
{
    return atomic_load_explicit(&server->stations_drained, memory_order_acquire) == server->worker_count;
}

void server_abandon(struct server *server)
{
    if (!server)
        return;
    journal_abandon(server->journal);
    server_free(server);
}
