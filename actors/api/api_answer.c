/* SPDX-License-Identifier: Apache-2.0 */
/* api_answer: the ways to end an exchange. Every answer passes here, so that each carries its trace id, is counted, and has a
 * status that its route owns up to. */
#include "actors/api/api_internal.h"

#include <stdio.h>

#include "net/sse.h"
#include "runtime/assert.h"

enum { HEADERS_MAX = 4, STATUS_CLASSES = 6 };

/* Headers of one answer, filled front to back. */
struct headers {
    struct http_header list[HEADERS_MAX];
    uint32_t count;
};

static void add_header(struct headers *headers, const char *name, struct slice value)
{
    ASSERT(headers->count < HEADERS_MAX);
    headers->list[headers->count++] = (struct http_header){slice_from_text(name), value};
}

static struct headers headers_of(const struct api_exchange *exchange)
{
    struct headers headers = {.count = 0};
    add_header(&headers, "X-Trace-Id", trace_id_slice(&exchange->trace));
    add_header(&headers, "Cache-Control", SLICE_LITERAL("no-store")); /* what customers said is nothing for caches */
    return headers;
}

static void count_answer(struct api *api, const struct api_exchange *exchange, int status)
{
    ASSERT_SLOW(!exchange->route || route_may_answer(exchange->route, status));
    size_t row = exchange->route ? (size_t)(exchange->route - api_routes) : api_route_count;
    metrics_add(api->answers[row * STATUS_CLASSES + (size_t)status / 100], 1);
}

static void respond(struct api *api, const struct api_exchange *exchange, int status, const char *content_type,
                    const struct headers *headers, struct slice body)
{
    count_answer(api, exchange, status);
    const struct http_response response = {.status = status,
                                           .content_type = content_type,
                                           .headers = headers->list,
                                           .header_count = headers->count,
                                           .body = body};
    (void)http_respond(api->http, exchange->id, &response); /* gone meanwhile: nobody is left to tell */
}

void api_answer_json(struct api *api, const struct api_exchange *exchange, int status, struct slice body)
{
    struct headers headers = headers_of(exchange);
    respond(api, exchange, status, JSON_CONTENT_TYPE, &headers, body);
}

void api_answer_json_at(struct api *api, const struct api_exchange *exchange, int status, struct slice body,
                        struct slice location)
{
    struct headers headers = headers_of(exchange);
    add_header(&headers, "Location", location);
    respond(api, exchange, status, JSON_CONTENT_TYPE, &headers, body);
}

void api_answer_out(struct api *api, const struct api_exchange *exchange, int status)
{
    if (api->out.is_overflow)
        api_refuse(api, exchange, 500, "the answer is larger than the server may send");
    else
        api_answer_json(api, exchange, status, buffer_slice(&api->out));
}

void api_answer_text(struct api *api, const struct api_exchange *exchange, const char *content_type, struct slice body)
{
    struct headers headers = headers_of(exchange);
    respond(api, exchange, 200, content_type, &headers, body);
}

void api_answer_problem(struct api *api, const struct api_exchange *exchange, const struct problem *problem)
{
    buffer_clear(&api->out);
    problem_write(&api->out, problem, trace_id_slice(&exchange->trace));
    struct headers headers = headers_of(exchange);
    char seconds[16];
    if (problem->retry_after_s) {
        int size = snprintf(seconds, sizeof seconds, "%u", problem->retry_after_s);
        add_header(&headers, "Retry-After", slice_of(seconds, (size_t)size));
    }
    respond(api, exchange, problem->status, PROBLEM_CONTENT_TYPE, &headers, buffer_slice(&api->out));
}

void api_refuse(struct api *api, const struct api_exchange *exchange, int status, const char *detail)
{
    const struct problem problem = {.status = status, .detail = slice_from_text(detail)};
    api_answer_problem(api, exchange, &problem);
}

void api_refuse_code(struct api *api, const struct api_exchange *exchange, enum err code, struct slice detail,
                     uint32_t retry_after_s)
{
    const struct problem problem = problem_of(code, detail, retry_after_s);
    api_answer_problem(api, exchange, &problem);
}

void api_answer_not_allowed(struct api *api, const struct api_exchange *exchange, uint32_t allowed)
{
    char allow[64];
    size_t used = 0;
    for (uint32_t method = 0; method < HTTP_METHOD_COUNT; method++) {
        if (allowed & 1u << method)
            used += (size_t)snprintf(allow + used, sizeof allow - used, "%s%s", used ? ", " : "",
                                     http_method_text((enum http_method)method));
    }
    const struct problem problem = {.status = 405, .detail = SLICE_LITERAL("this path does not take that method")};
    buffer_clear(&api->out);
    problem_write(&api->out, &problem, trace_id_slice(&exchange->trace));
    struct headers headers = headers_of(exchange);
    add_header(&headers, "Allow", slice_of(allow, used));
    respond(api, exchange, 405, PROBLEM_CONTENT_TYPE, &headers, buffer_slice(&api->out));
}

void api_answer_stream(struct api *api, const struct api_exchange *exchange)
{
    count_answer(api, exchange, 200);
    struct headers headers = headers_of(exchange);
    const struct http_response head = {
        .status = 200, .content_type = SSE_CONTENT_TYPE, .headers = headers.list, .header_count = headers.count};
    (void)http_stream_start(api->http, exchange->id, &head); /* gone: the first write says so */
}

static bool lose_stream(struct api *api, struct api_request *request)
{
    (void)http_stream_end(api->http, request->exchange.id);
    api_request_abandon(request);
    return false;
}

bool api_stream_out(struct api *api, struct api_request *request)
{
    bool is_out =
        !api->out.is_overflow && http_stream_write(api->http, request->exchange.id, buffer_slice(&api->out)) == OK;
    return is_out || lose_stream(api, request);
}

bool api_stream_event(struct api *api, struct api_request *request, struct slice id, struct slice type, struct slice data)
{
    buffer_clear(&api->out);
    return sse_write_event(&api->out, id, type, data) == OK ? api_stream_out(api, request) : lose_stream(api, request);
}

void api_stream_expect_silence(struct api *api, struct api_request *request)
{
    timer_start(api->worker, &request->timer, worker_now_ns(api->worker) + API_COMMENT_S * UINT64_C(1000000000));
}

void api_stream_on_silence(struct api *api, struct api_request *request)
{
    buffer_clear(&api->out);
    sse_write_comment(&api->out, SLICE_LITERAL("still here"));
    if (api_stream_out(api, request))
        api_stream_expect_silence(api, request);
}

void api_stream_end(struct api *api, struct api_request *request)
{
    (void)http_stream_end(api->http, request->exchange.id);
    api_request_release(request);
}
