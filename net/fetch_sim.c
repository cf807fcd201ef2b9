/* SPDX-License-Identifier: Apache-2.0 */
/* fetch_sim: see fetch_sim.h. A fetch is one timer: it fires at the next step of the script or at the next deadline of the
 * request, whichever is first. on_done comes from that timer only, so never from inside fetch_start or fetch_cancel (F1).
 */
#include "net/fetch_sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/fetch_request.h"
#include "runtime/assert.h"
#include "runtime/clock.h"
#include "runtime/timer.h"
#include "runtime/worker.h"

static const uint64_t way_ns_max = 2000000; /* of a request to its provider */

/*   FREE -> TRAVELLING -> PLAYING -> ENDING -> FREE
 *                \____________________^              */
enum sim_state {
    SIM_FREE,       /* in client->free */
    SIM_TRAVELLING, /* the provider does not know of it */
    SIM_PLAYING,    /* its script runs */
    SIM_ENDING,     /* its result is decided; the timer tells it */
};

struct fetch {
    struct fetch_client *client;
    struct fetch *next; /* client->free */
    struct timer timer;
    enum sim_state state;
    struct fetch_id id;
    char *method, *url, **headers;
    struct buffer body;
    struct fetch_sim_script *script; /* in PLAYING */
    uint32_t next_piece;
    size_t body_sent;
    uint64_t step_ns; /* when the script goes on; UINT64_MAX: never */
    uint64_t started_ns, phase_ns, phase_ns_max;
    struct fetch_request request; /* its bounds and callbacks: fetch_request_keep */
    struct fetch_result result;
};

struct fetch_client {
    struct worker *worker;
    struct fetch *fetches, *free;
    uint32_t in_flight_max, in_flight;
};

static struct {
    fetch_sim_provider *function;
    void *context;
    uint64_t seen_count;
} provider;

void fetch_sim_set_provider(fetch_sim_provider *function, void *context)
{
    provider.function = function;
    provider.context = context;
    provider.seen_count = 0;
}

uint64_t fetch_sim_seen_count(void)
{
    return provider.seen_count;
}

static void set_state(struct fetch *fetch, enum sim_state state)
{
    static const uint8_t successors[] = {
        [SIM_FREE] = 1 << SIM_TRAVELLING,
        [SIM_TRAVELLING] = 1 << SIM_PLAYING | 1 << SIM_ENDING,
        [SIM_PLAYING] = 1 << SIM_ENDING,
        [SIM_ENDING] = 1 << SIM_FREE,
    };
    ASSERT(successors[fetch->state] & 1 << state);
    fetch->state = state;
}

static uint64_t deadline_ns(const struct fetch *fetch)
{
    uint64_t phase = fetch->phase_ns + fetch->phase_ns_max, total = fetch->started_ns + fetch->request.total_ns_max;
    return phase < total ? phase : total;
}

static void enter_phase(struct fetch *fetch, uint64_t now_ns, uint64_t ns_max)
{
    fetch->phase_ns = now_ns;
    fetch->phase_ns_max = ns_max;
}

static void wait_for_next(struct fetch *fetch)
{
    uint64_t deadline = deadline_ns(fetch);
    timer_start(fetch->client->worker, &fetch->timer, fetch->step_ns < deadline ? fetch->step_ns : deadline);
}

/* The timer tells it, at once. */
static void end(struct fetch *fetch, enum err code, const char *detail)
{
    set_state(fetch, SIM_ENDING);
    fetch->result.code = code;
    snprintf(fetch->result.detail, sizeof fetch->result.detail, "%s", detail);
    timer_start(fetch->client->worker, &fetch->timer, 0);
}

/* Everything a fetch holds, but its place. */
static void free_contents(struct fetch *fetch)
{
    for (char **header = fetch->headers; header && *header; header++)
        free(*header);
    free(fetch->headers);
    free(fetch->method);
    free(fetch->url);
    buffer_deinit(&fetch->body);
    if (fetch->script)
        buffer_deinit(&fetch->script->body);
    free(fetch->script);
}

static void tell(struct fetch *fetch)
{
    struct fetch_client *client = fetch->client;
    struct fetch ended = *fetch;
    free_contents(fetch);
    set_state(fetch, SIM_FREE);
    fetch->id.generation++;
    fetch->next = client->free;
    client->free = fetch;
    client->in_flight--;
    ended.request.on_done(ended.request.context, ended.id, &ended.result);
}

/* ---- the script ------------------------------------------------------------------------------------------------------- */

static void schedule_step(struct fetch *fetch, uint64_t now_ns)
{
    const struct fetch_sim_script *script = fetch->script;
    if (fetch->next_piece < script->piece_count)
        fetch->step_ns = now_ns + script->pieces[fetch->next_piece].delay_ns;
    else if (fetch->body_sent < script->body.size)
        fetch->step_ns = now_ns;
    else
        fetch->step_ns = script->is_stalled ? UINT64_MAX : now_ns + script->end_delay_ns;
}

static void arrive(struct fetch *fetch, uint64_t now_ns)
{
    set_state(fetch, SIM_PLAYING);
    struct fetch_sim_script *script = calloc(1, sizeof *script);
    ASSERT(script);
    fetch->script = script;
    buffer_init(&script->body, 64 << 20);
    script->is_refused = provider.function == NULL;
    const struct fetch_sim_call call = {
        .method = fetch->method,
        .url = fetch->url,
        .headers = (const char *const *)fetch->headers,
        .body = buffer_slice(&fetch->body),
        .number = provider.seen_count + 1,
        .random = clock_random_u64(),
    };
    if (provider.function)
        provider.function(provider.context, &call, script);
    ASSERT(script->piece_count <= FETCH_SIM_PIECES_MAX);
    ASSERT(!script->body.is_overflow);
    if (script->is_refused) {
        end(fetch, ERR_CONNECT, "refused by the simulated provider");
        return;
    }
    provider.seen_count++;
    enter_phase(fetch, now_ns, fetch->request.first_byte_ns_max);
    schedule_step(fetch, now_ns);
    wait_for_next(fetch);
}

static void send_piece(struct fetch *fetch, uint64_t now_ns)
{
    const struct fetch_sim_script *script = fetch->script;
    size_t left = script->body.size - fetch->body_sent, size = left;
    if (fetch->next_piece < script->piece_count)
        size = script->pieces[fetch->next_piece++].size;
    ASSERT(size <= left);
    struct slice piece = slice_of(script->body.data + fetch->body_sent, size);
    fetch->body_sent += size;
    enter_phase(fetch, now_ns, fetch->request.idle_ns_max);
    fetch->result.status = script->status;

    uint64_t room = fetch->request.response_bytes_max - fetch->result.received_bytes;
    bool is_over = piece.size > room;
    if (is_over)
        piece.size = (size_t)room;
    fetch->result.received_bytes += piece.size;
    if (piece.size > 0 && fetch->request.on_data)
        fetch->request.on_data(fetch->request.context, fetch->id, script->status, piece);
    if (fetch->state != SIM_PLAYING)
        return; /* cancelled from inside on_data */
    if (is_over) {
        end(fetch, ERR_LIMIT, "response body too large");
        return;
    }
    schedule_step(fetch, now_ns);
    wait_for_next(fetch);
}

static void play(struct fetch *fetch, uint64_t now_ns)
{
    const struct fetch_sim_script *script = fetch->script;
    if (fetch->next_piece < script->piece_count || fetch->body_sent < script->body.size) {
        send_piece(fetch, now_ns);
        return;
    }
    if (script->code == OK) {
        fetch->result.status = script->status;
        fetch->result.retry_after_ms = script->retry_after_ms;
    }
    end(fetch, script->code, script->code == OK ? "" : err_text(script->code));
}

static void on_timer(struct worker *worker, struct timer *timer)
{
    (void)worker;
    struct fetch *fetch = container_of(timer, struct fetch, timer);
    uint64_t now_ns = clock_mono_ns();
    if (fetch->state == SIM_ENDING)
        tell(fetch);
    else if (now_ns >= deadline_ns(fetch) && fetch->step_ns > deadline_ns(fetch))
        end(fetch, ERR_TIMEOUT, "timeout");
    else if (fetch->state == SIM_TRAVELLING)
        arrive(fetch, now_ns);
    else
        play(fetch, now_ns);
}

/* ---- fetch.h ---------------------------------------------------------------------------------------------------------- */

static bool copy_headers(struct fetch *fetch, const char *const *headers)
{
    size_t count = 0;
    while (headers && headers[count])
        count++;
    fetch->headers = calloc(count + 1, sizeof *fetch->headers);
    for (size_t i = 0; fetch->headers && i < count; i++) {
        fetch->headers[i] = strdup(headers[i]);
        if (!fetch->headers[i])
            return false;
    }
    return fetch->headers != NULL;
}

enum err fetch_start(struct fetch_client *client, const struct fetch_request *asked, struct fetch_id *ret_id,
                     struct error *error)
{
    ASSERT_ON_WORKER(client->worker);
    ASSERT(asked->on_done);
    struct fetch_request request;
    if (strncmp(asked->url, "http://", 7) != 0 && strncmp(asked->url, "https://", 8) != 0)
        return error_set(error, ERR_INVALID, "not an http or https URL: %.200s", asked->url);
    enum err err = fetch_request_complete(asked, &request, error);
    if (err)
        return err;
    struct fetch *fetch = client->free;
    if (!fetch)
        return error_set(error, ERR_LIMIT, "%u requests in flight", client->in_flight);
    struct fetch *next_free = fetch->next;
    uint64_t now_ns = clock_mono_ns();
    *fetch = (struct fetch){
        .client = client,
        .timer = {.on_fire = on_timer},
        .id = fetch->id,
        .method = strdup(request.method),
        .url = strdup(request.url),
        .step_ns = now_ns + clock_random_u64() % way_ns_max,
        .started_ns = now_ns,
        .phase_ns = now_ns,
        .phase_ns_max = request.connect_ns_max,
        .request = fetch_request_keep(&request),
    };
    buffer_init(&fetch->body, request.body.size);
    buffer_append_slice(&fetch->body, request.body);
    if (!copy_headers(fetch, request.headers) || !fetch->method || !fetch->url || fetch->body.is_overflow) {
        free_contents(fetch);
        fetch->next = next_free;
        return error_set(error, ERR_NO_MEMORY, "no memory for a request");
    }
    client->free = next_free;
    client->in_flight++;
    set_state(fetch, SIM_TRAVELLING);
    wait_for_next(fetch);
    *ret_id = fetch->id;
    return OK;
}

void fetch_cancel(struct fetch_client *client, struct fetch_id id)
{
    ASSERT_ON_WORKER(client->worker);
    if (id.index >= client->in_flight_max)
        return;
    struct fetch *fetch = &client->fetches[id.index];
    bool is_open = fetch->state == SIM_TRAVELLING || fetch->state == SIM_PLAYING;
    if (fetch->id.generation == id.generation && is_open)
        end(fetch, ERR_CANCELLED, "cancelled");
}

uint32_t fetch_in_flight(const struct fetch_client *client)
{
    return client->in_flight;
}

enum err fetch_client_create(struct worker *worker, const struct fetch_options *options, struct fetch_client **ret_client,
                             struct error *error)
{
    struct fetch_client *client = calloc(1, sizeof *client);
    uint32_t in_flight_max = options->in_flight_max ? options->in_flight_max : 16384;
    struct fetch *fetches = calloc(in_flight_max, sizeof *fetches);
    if (!client || !fetches) {
        free(client);
        free(fetches);
        return error_set(error, ERR_NO_MEMORY, "no memory for %u requests in flight", in_flight_max);
    }
    *client = (struct fetch_client){.worker = worker, .fetches = fetches, .in_flight_max = in_flight_max};
    for (uint32_t i = in_flight_max; i-- > 0;) {
        fetches[i].id = (struct fetch_id){.index = i, .generation = 1}; /* a zeroed id names nothing */
        fetches[i].next = client->free;
        client->free = &fetches[i];
    }
    *ret_client = client;
    return OK;
}

void fetch_client_destroy(struct fetch_client *client)
{
    if (!client)
        return;
    ASSERT_ON_WORKER(client->worker);
    for (uint32_t i = 0; i < client->in_flight_max; i++) {
        struct fetch *fetch = &client->fetches[i];
        if (fetch->state == SIM_FREE)
            continue;
        timer_cancel(client->worker, &fetch->timer);
        free_contents(fetch);
    }
    free(client->fetches);
    free(client);
}
