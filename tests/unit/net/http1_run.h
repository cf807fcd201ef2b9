/* SPDX-License-Identifier: Apache-2.0 */
/* http1_run: feeds bytes to the request parser in pieces, as a connection would, and keeps what came out in a form that can be
 * compared. Shared by the unit test and the fuzz target, which both hold P1: the result depends on the bytes alone. */
#ifndef CIRANDA_TESTS_UNIT_NET_HTTP1_RUN_H
#define CIRANDA_TESTS_UNIT_NET_HTTP1_RUN_H

#include <stdio.h>
#include <stdlib.h>

#include "net/http1.h"
#include "runtime/buffer.h"

struct http1_run {
    enum http1_result result;
    enum http1_reason reason;
    size_t consumed; /* bytes of the stream that the request took */
    bool is_keep_alive, expects_continue;
    struct buffer text;     /* request as text: method, path, query, headers, body, each with its size */
    size_t input_size_peak; /* of the input that had to be kept */
};

static inline void http1_run_describe(struct http1_run *run, const struct http1 *parser, const char *input)
{
    struct http_header headers[HTTP_HEADERS_MAX];
    char path[HTTP1_HEAD_BYTES_MAX];
    struct http_request request;
    http1_get_request(parser, input, headers, path, &request);
    run->is_keep_alive = parser->is_keep_alive;
    run->expects_continue = parser->expects_continue;
    buffer_append_format(&run->text, "%s|%zu|", http_method_text(request.method), request.path.size);
    buffer_append_slice(&run->text, request.path);
    buffer_append_format(&run->text, "|%zu|", request.query.size);
    buffer_append_slice(&run->text, request.query);
    for (uint32_t i = 0; i < request.header_count; i++) {
        buffer_append_format(&run->text, "|%zu,%zu|", headers[i].name.size, headers[i].value.size);
        buffer_append_slice(&run->text, headers[i].name);
        buffer_append_slice(&run->text, headers[i].value);
    }
    buffer_append_format(&run->text, "|%zu|", request.body.size);
    buffer_append_slice(&run->text, request.body);
}

static inline enum http1_result http1_run_step(struct http1 *parser, const struct http1_limits *limits, char *input,
                                               size_t *size, size_t *ret_request_size)
{
    enum http1_result result = http1_parse_head(parser, limits, input, *size);
    if (result != HTTP1_DONE)
        return result;
    if (parser->is_chunked)
        return http1_decode_chunks(parser, limits, input, size, ret_request_size);
    *ret_request_size = http1_size(parser);
    return *size >= *ret_request_size ? HTTP1_DONE : HTTP1_MORE;
}

/* The first `first` bytes at once, the rest `piece` bytes at a time. */
static inline void http1_run(struct http1_run *run, const struct http1_limits *limits, const char *data, size_t size,
                             size_t first, size_t piece)
{
    struct http1 parser;
    memset(&parser, 0xa5, sizeof parser); /* http1_init must not count on zeroes */
    http1_init(&parser);
    *run = (struct http1_run){.result = HTTP1_MORE};
    buffer_init(&run->text, size + HTTP1_HEAD_BYTES_MAX);
    /* Exactly as large as what is there, so that the address sanitizer sees a read past the end. */
    char *input = NULL;
    size_t input_size = 0, fed = 0, request_size = 0;
    while (run->result == HTTP1_MORE && fed < size) {
        size_t take = fed == 0 && first > 0 ? first : piece;
        take = take < size - fed ? take : size - fed;
        char *grown = realloc(input, input_size + take);
        if (!grown)
            abort();
        input = grown;
        memcpy(input + input_size, data + fed, take);
        input_size += take;
        fed += take;
        run->input_size_peak = input_size > run->input_size_peak ? input_size : run->input_size_peak;
        run->result = http1_run_step(&parser, limits, input, &input_size, &request_size);
    }
    run->reason = parser.reason;
    if (run->result == HTTP1_DONE) {
        run->consumed = fed - (input_size - request_size);
        http1_run_describe(run, &parser, input);
    }
    free(input);
}

static inline bool http1_run_is_equal(const struct http1_run *a, const struct http1_run *b)
{
    return a->result == b->result && a->reason == b->reason && a->consumed == b->consumed &&
           a->is_keep_alive == b->is_keep_alive && a->expects_continue == b->expects_continue &&
           slice_is_equal(buffer_slice(&a->text), buffer_slice(&b->text));
}

#endif
