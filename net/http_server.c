/* SPDX-License-Identifier: Apache-2.0 */
/* The server of one worker: limits, pools, life. See http_server_internal.h for the map.
 * Pools: inputs that were used once stay warm up to a bound, so that no request allocates. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "net/http_server_internal.h"
#include "runtime/clock.h"
#include "runtime/log.h"

enum { SPARE_INPUTS_MAX = 64 };

/* ---- pools ------------------------------------------------------------------------------------------------------------- */
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
    size_t size_max = (size_t)server->limits.head_bytes_max + server->limits.body_bytes_max + TCP_RECEIVE_SLACK_BYTES;
    tcp_server_take_buffer(&server->tcp, &input->buffer, size_max);
    return input;
}

void http_server_give_input(struct http_server *server, struct http_input *input)
{
    tcp_server_give_buffer(&server->tcp, &input->buffer);
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
    uint64_t now_ns = worker_now_ns(server->tcp.worker);
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
    if (filled.body_bytes_max > TCP_OUTPUT_BYTES_MAX)
        return error_set(error, ERR_CONFIG, "HTTP limits: a body of %u bytes is over %d", filled.body_bytes_max,
                         TCP_OUTPUT_BYTES_MAX);

    struct http_server *server = aligned_alloc(_Alignof(struct http_server), sizeof *server);
    if (!server)
        return error_set(error, ERR_NO_MEMORY, "create the HTTP server");
    *server = (struct http_server){
        .tcp = {.worker = worker,
                .protocol = &http_protocol,
                .connections_max = filled.connections_max,
                .idle_ns_max = filled.idle_ns_max},
        .options = filled,
        .limits = {.head_bytes_max = filled.head_bytes_max,
                   .target_bytes_max = filled.target_bytes_max,
                   .body_bytes_max = filled.body_bytes_max},
        .path = malloc(filled.target_bytes_max),
    };
    if (!server->path) {
        free(server);
        return error_set(error, ERR_NO_MEMORY, "create the HTTP server");
    }
    tcp_server_init(&server->tcp);
    register_metrics(&server->metrics);
    *ret_server = server;
    return OK;
}

enum err http_server_listen(struct http_server *server, const char *address, struct http_server *const *peers,
                            uint32_t peer_count, struct error *error)
{
    /* The part comes first in the whole, so that an array of the one is an array of the other. */
    _Static_assert(offsetof(struct http_server, tcp) == 0, "peers are passed on as they are");
    return tcp_server_listen(&server->tcp, address, (struct tcp_server *const *)(const void *)peers, peer_count, error);
}

void http_server_address(const struct http_server *server, char *ret_text, size_t size)
{
    tcp_server_address(&server->tcp, ret_text, size);
}

void http_server_drain(struct http_server *server)
{
    tcp_server_drain(&server->tcp);
}

bool http_server_is_idle(const struct http_server *server)
{
    return server->exchange_count == 0 && !tcp_server_has_unsent(&server->tcp);
}

void http_server_get_stats(const struct http_server *server, struct http_server_stats *ret_stats)
{
    *ret_stats = server->stats;
    ret_stats->accepted = server->tcp.accepted;
    ret_stats->connections = server->tcp.connections_open;
    ret_stats->exchanges = server->exchange_count;
}

void http_server_destroy(struct http_server *server)
{
    if (!server)
        return;
    server->options.handler.on_gone = NULL; /* who would be told is being destroyed as well */
    server->options.handler.on_drained = NULL;
    server->options.handler.write_refusal = NULL;
    if (!tcp_server_close(&server->tcp))
        return;
    while (server->spare_inputs) {
        struct http_input *input = server->spare_inputs;
        server->spare_inputs = input->next;
        free(input);
    }
    http_exchange_free_blocks(server);
    free(server->path);
    free(server);
}
