/* SPDX-License-Identifier: Apache-2.0 */
/* http_request: what a handler sees of one request, and how it looks things up in it. Not the parser: that is http1.h. */
#ifndef CIRANDA_NET_HTTP_REQUEST_H
#define CIRANDA_NET_HTTP_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"
#include "runtime/slice.h"

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_DELETE, HTTP_OPTIONS, HTTP_PATCH, HTTP_METHOD_COUNT };

struct http_header {
    struct slice name, value;
}; /* value trimmed of blanks */

enum { HTTP_HEADERS_MAX = 100 };

/* Lent for the call of on_request; every slice points into the connection's buffers. */
struct http_request {
    enum http_method method;
    struct slice path;  /* decoded once, checked: no "." or ".." segment, no %2f, %5c, %25, no control bytes, UTF-8 */
    struct slice query; /* raw, after '?', without it */
    struct slice body;
    const struct http_header *headers;
    uint32_t header_count;
    uint64_t received_ns; /* worker clock when its last byte was there */
};

/* Thread: any. Returns: "GET", …; static. */
const char *http_method_text(enum http_method method);

/* Case-insensitive; {NULL,0} when absent, the first one when a list header (Accept, Prefer) came in several lines. The parser
 * has refused duplicates of headers that must be single. */
struct slice http_request_header(const struct http_request *request, const char *name);

/* The decoded value of `name` in the query ('+' is a blank) into `buffer`. Returns: ERR_NOT_FOUND; ERR_INVALID (bad escape,
 * NUL, not UTF-8, given twice, does not fit). */
MUST_USE enum err http_request_query(const struct http_request *request, const char *name, char *buffer, size_t size,
                                     struct slice *ret_value);

/* ASCII only, as HTTP's names and tokens are. */
bool http_text_is_equal(struct slice text, const char *other);

#endif
