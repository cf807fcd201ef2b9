/* SPDX-License-Identifier: Apache-2.0 */
/* trace: the id that ties an answer, its events and its log lines together. Honoured when it comes in well-formed, else made:
 * an id that could break a header or a log line is replaced, not refused, since tracing must not fail a request. */
#ifndef CIRANDA_ACTORS_API_TRACE_H
#define CIRANDA_ACTORS_API_TRACE_H

#include "actors/protocol.h"
#include "net/http_server.h"

struct trace_id {
    uint8_t size;
    char text[CONV_TRACE_ID_BYTES_MAX];
};

static inline struct slice trace_id_slice(const struct trace_id *trace)
{
    return slice_of(trace->text, trace->size);
}

/* `plain` (1 to 64 of A-Z a-z 0-9 . _ -) before `traceparent` (W3C Trace Context, its trace-id) before a new one. */
struct trace_id trace_id_of(struct slice plain, struct slice traceparent);
/* Of the headers X-Trace-Id and traceparent. */
struct trace_id trace_id_of_request(const struct http_request *request);
struct trace_id trace_id_create(void); /* 32 hexadecimal digits, as W3C wants them */

#endif
