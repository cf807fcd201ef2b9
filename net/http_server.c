/* SPDX-License-Identifier: Apache-2.0 */
/* The server of one worker: limits, pools, and the flush at the end of the turn. See http_server_internal.h for the map.
 *
 * The flush is a timer that is already due: the worker runs timers after completions and actors, so every answer of a turn,
 * whoever gave it, is there when the connections are settled, and each leaves in one send.
 * Pools: inputs and buffers that were used once stay warm up to a bound, so that no request allocates. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "net/http_server_internal.h"
#include "runtime/clock.h"
#include "runtime/log.h"

enum { SPARE_INPUTS_MAX = 64 };

/* ---- links ------------------------------------------------------------------------------------------------------------- */
void http_link_init(struct http_link *head)
{
    head->previous = head->next = head;
}

void http_link_append(struct http_link *head, struct http_link *link)
{
    ASSERT(!http_link_is_in_list(link));
    *link = (struct http_link){.previous = head->previous, .next = head};
    head->previous->next = link;
    head->previous = link;
}

void http_link_remove(struct http_link *link)
{
    if (!http_link_is_in_list(link))
        return;
    link->previous->next = link->next;
    link->next->previous = link->previous;
    *link = (struct http_link){0};
}

/* ---- pools ------------------------------------------------------------------------------------------------------------- */
void http_server_take_buffer(struct http_server *server, struct buffer *ret_buffer, size_t size_max)
{
    if (server->spare_buffer_count > 0)
        *ret_buffer = server->spare_buffers[--server->spare_buffer_count];
    else
        buffer_init(ret_buffer, size_max);
    ret_buffer->size_max = size_max;
}

void http_server_give_buffer(struct http_server *server, struct buffer *buffer)
{
    buffer_clear(buffer);
    if (buffer->data && buffer->capacity <= HTTP_SPARE_BUFFER_BYTES &&
        server->spare_buffer_count < HTTP_SPARE_BUFFERS_MAX)
        server->spare_buffers[server->spare_buffer_count++] = *buffer;
    else
        buffer_deinit(buffer);
    *buffer = (struct buffer){0};
}

struct http_input *http_server_take_input(struct http_server *server)
{
    struct http_input *input = server->spare_inputs;
    if (input) {
        server->spare_inputs = input->next;
        server->spare_input_count--;
    } else {
        input = malloc(sizeof *input);
        if (!input)
            return NULL;
    }
    input->head_since_ns = input->body_since_ns = 0;
    input->is_body = input->has_continued = false;
    size_t size_max = (size_t)server->limits.head_bytes_max + server->limits.body_bytes_max + HTTP_RECEIVE_SLACK_BYTES;
    http_server_take_buffer(server, &input->buffer, size_max);
    return input;
}

void http_server_give_input(struct http_server *server, struct http_input *input)
{
    http_server_give_buffer(server, &input->buffer);
    if (server->spare_input_count == SPARE_INPUTS_MAX) {
        free(input);
        return;
    }
    input->next = server->spare_inputs;
    server->spare_inputs = input;
    server->spare_input_count++;
}

struct slice http_server_date(struct http_server *server)
{
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    uint64_t now_ns = worker_now_ns(server->worker);
    if (now_ns >= server->date_until_ns) {
        uint64_t wall_ms = clock_wall_ms();
        time_t seconds = (time_t)(wall_ms / 1000);
        struct tm tm;
        gmtime_r(&seconds, &tm);
        char text[64];
        snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday,
                 months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
        memcpy(server->date, text, HTTP_DATE_SIZE);
        server->date_until_ns = now_ns + (1000 - wall_ms % 1000) * 1000000;
    }
    return slice_of(server->date, HTTP_DATE_SIZE);
}

/* ---- the flush --------------------------------------------------------------------------------------------------------- */
void http_server_mark_dirty(struct http_server *server, struct http_connection *connection)
{
    ASSERT_ON_WORKER(server->worker);
    if (connection->is_dirty)
        return;
    connection->is_dirty = true;
    connection->next_dirty = NULL;
    if (server->dirty_last)
        server->dirty_last->next_dirty = connection;
    else
        server->dirty_first = connection;
    server->dirty_last = connection;
    if (!timer_is_active(&server->flush_timer))
        timer_start(server->worker, &server->flush_timer, 0);
}

static void flush(struct http_server *server)
{
    while (server->dirty_first) {
        struct http_connection *connection = server->dirty_first;
        server->dirty_first = connection->next_dirty;
        if (!server->dirty_first)
            server->dirty_last = NULL;
        http_connection_settle(connection);
    }
}

static void on_flush(struct worker *worker, struct timer *timer)
{
    (void)worker;
    flush(container_of(timer, struct http_server, flush_timer));
}

/* ---- life -------------------------------------------------------------------------------------------------------------- */
static void set_defaults(struct http_server_options *options)
{
    static const struct http_server_options defaults = {
        .connections_max = 8192,
        .head_bytes_max = 16384,
        .target_bytes_max = 8192,
        .body_bytes_max = 262144,
        .pipeline_max = 32,
        .send_bytes_max = 262144,
        .head_ns_max = UINT64_C(10000000000),
        .body_grace_ns = UINT64_C(5000000000),
        .body_bytes_per_s_min = 1024,
        .idle_ns_max = UINT64_C(75000000000),
    };
#define DEFAULT(field) options->field = options->field ? options->field : defaults.field
    DEFAULT(connections_max);
    DEFAULT(head_bytes_max);
    DEFAULT(target_bytes_max);
    DEFAULT(body_bytes_max);
    DEFAULT(pipeline_max);
    DEFAULT(send_bytes_max);
    DEFAULT(head_ns_max);
    DEFAULT(body_grace_ns);
    DEFAULT(body_bytes_per_s_min);
    DEFAULT(idle_ns_max);
#undef DEFAULT
}

static void register_metrics(struct http_metrics *metrics)
{
    static const char *const classes[] = {"class=\"other\"", "class=\"1xx\"", "class=\"2xx\"",
                                          "class=\"3xx\"",   "class=\"4xx\"", "class=\"5xx\""};
    metrics->accepted = metrics_register_counter("http_connections_accepted_total", "Accepted connections.", NULL);
    metrics->connections = metrics_register_gauge("http_connections", "Open connections.", NULL);
    metrics->requests = metrics_register_counter("http_requests_total", "Requests handed to a route.", NULL);
    metrics->slow_readers =
        metrics_register_counter("http_slow_readers_total", "Streams closed since their reader was too slow.", NULL);
    for (int i = 0; i < 6; i++)
        metrics->responses[i] = metrics_register_counter("http_responses_total", "Answers by status class.", classes[i]);
    for (unsigned reason = 1; reason < HTTP1_REASON_COUNT; reason++) {
        char labels[64];
        snprintf(labels, sizeof labels, "reason=\"%s\"", http1_reason_label((enum http1_reason)reason));
        metrics->refusals[reason] = metrics_register_counter(
            "http_refusals_total", "Requests refused before a route saw them, by reason.", labels);
    }
}

enum err http_server_create(struct worker *worker, const struct http_server_options *options,
                            struct http_server **ret_server, struct error *error)
{
    ASSERT(options->handler.on_request);
    struct http_server_options filled = *options;
    set_defaults(&filled);
    if (filled.head_bytes_max > HTTP1_HEAD_BYTES_MAX || filled.target_bytes_max > filled.head_bytes_max)
        return error_set(error, ERR_CONFIG, "HTTP limits: target %u <= head %u <= %d bytes must hold",
                         filled.target_bytes_max, filled.head_bytes_max, HTTP1_HEAD_BYTES_MAX);
    if (filled.body_bytes_max > HTTP_ANSWER_BYTES_MAX)
        return error_set(error, ERR_CONFIG, "HTTP limits: a body of %u bytes is over %d", filled.body_bytes_max,
                         HTTP_ANSWER_BYTES_MAX);

    struct http_server *server = aligned_alloc(_Alignof(struct http_server), sizeof *server);
    if (!server)
        return error_set(error, ERR_NO_MEMORY, "create the HTTP server");
    *server = (struct http_server){
        .worker = worker,
        .options = filled,
        .limits = {.head_bytes_max = filled.head_bytes_max,
                   .target_bytes_max = filled.target_bytes_max,
                   .body_bytes_max = filled.body_bytes_max},
        .path = malloc(filled.target_bytes_max),
        .flush_timer = {.on_fire = on_flush},
    };
    if (!server->path) {
        free(server);
        return error_set(error, ERR_NO_MEMORY, "create the HTTP server");
    }
    http_link_init(&server->connections);
    http_link_init(&server->idle);
    register_metrics(&server->metrics);
    *ret_server = server;
    return OK;
}

static void mark_all_dirty(struct http_server *server, bool is_broken)
{
    for (struct http_link *link = server->connections.next; link != &server->connections; link = link->next) {
        struct http_connection *connection = container_of(link, struct http_connection, all);
        connection->is_broken |= is_broken;
        http_server_mark_dirty(server, connection);
    }
}

void http_server_drain(struct http_server *server)
{
    ASSERT_ON_WORKER(server->worker);
    server->is_draining = true;
    http_listener_close(server);
    mark_all_dirty(server, false);
}

bool http_server_is_idle(const struct http_server *server)
{
    if (server->exchange_count > 0)
        return false;
    for (struct http_link *link = server->connections.next; link != &server->connections; link = link->next)
        if (http_connection_unsent(container_of(link, struct http_connection, all)) > 0)
            return false;
    return true;
}

void http_server_get_stats(const struct http_server *server, struct http_server_stats *ret_stats)
{
    *ret_stats = server->stats;
    ret_stats->exchanges = server->exchange_count;
}

void http_server_destroy(struct http_server *server)
{
    enum { STEPS_MAX = 200, STEP_NS = 1000000 };
    if (!server)
        return;
    server->options.handler.on_gone = NULL; /* who would be told is being destroyed as well */
    server->options.handler.on_drained = NULL;
    server->options.handler.write_refusal = NULL;
    http_listener_close(server);
    mark_all_dirty(server, true);
    timer_cancel(server->worker, &server->flush_timer);
    /* The kernel may still write where operations point: their memory is freed only when the last of them has ended. */
    for (int i = 0; i < STEPS_MAX && (server->stats.connections > 0 || !http_listener_is_closed(server)); i++) {
        flush(server);
        ring_step(worker_ring(server->worker), clock_mono_ns() + STEP_NS);
    }
    flush(server);
    timer_cancel(server->worker, &server->flush_timer);
    if (server->stats.connections > 0 || !http_listener_is_closed(server)) {
        LOG(LOG_ERROR, "http_server_not_freed", LOG_UINT("connections", server->stats.connections));
        return;
    }
    http_listener_free(server);
    while (server->spare_inputs) {
        struct http_input *input = server->spare_inputs;
        server->spare_inputs = input->next;
        free(input);
    }
    for (uint32_t i = 0; i < server->spare_buffer_count; i++)
        buffer_deinit(&server->spare_buffers[i]);
    http_exchange_free_blocks(server);
    free(server->path);
    free(server);
}
