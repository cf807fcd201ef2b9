/* SPDX-License-Identifier: Apache-2.0 */
/* http1: a strict, incremental HTTP/1.1 request parser. Pure: bytes in, decisions out; no I/O, no clock, no allocation.
 *
 * Life of one request: http1_init; http1_parse_head each time more bytes are there, until it says anything but HTTP1_MORE;
 * then the body: http1_size says where a sized one ends, http1_decode_chunks takes a chunked one apart; http1_get_request.
 *
 * `input` is always the bytes from the first of this request on. It may move between calls (offsets are kept, no pointers)
 * and may go on beyond the request (pipelining).
 *
 * Invariants
 *  P1  The result depends on the bytes alone, not on how they were split over calls.
 *  P2  Linear time: each byte is looked at a bounded number of times, also when it comes alone.
 *  P3  Every refusal ends the connection: no further byte of it may be interpreted. We refuse wherever servers are known to
 *      read one request differently, also where the RFC would be lenient.
 */
#ifndef CIRANDA_NET_HTTP1_H
#define CIRANDA_NET_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/http_request.h"
#include "runtime/error.h"
#include "runtime/slice.h"

enum http1_reason {
    HTTP1_ACCEPTED, /* no refusal */
#define HTTP1_REASON(name, label, status, text) HTTP1_##name,
#include "net/http1_reason.def"
#undef HTTP1_REASON
    HTTP1_REASON_COUNT
};

int http1_reason_status(enum http1_reason reason);
const char *http1_reason_text(enum http1_reason reason);  /* static, for a person */
const char *http1_reason_label(enum http1_reason reason); /* static, [a-z0-9_]+ */

enum {
    HTTP1_HEAD_BYTES_MAX = 65535, /* what head_bytes_max may be at most: fields are kept as 16-bit offsets */
    HTTP1_TRAILERS_MAX = 16,
    HTTP1_CHUNK_EXTENSION_BYTES_MAX = 256,
};

struct http1_limits {
    uint32_t head_bytes_max;   /* whole head, and whole trailer section; at most HTTP1_HEAD_BYTES_MAX */
    uint32_t target_bytes_max; /* at most head_bytes_max */
    uint32_t body_bytes_max;
};

enum http1_result {
    HTTP1_MORE,    /* not complete yet */
    HTTP1_DONE,    /* head / body complete and acceptable */
    HTTP1_REFUSED, /* see `reason`; answer it and close: P3 */
};

struct http1_field {
    uint16_t name, name_size, value, value_size; /* offsets into the input */
};

/* Fields are read-only to others; those below the mark are private. */
struct http1 {
    enum http1_reason reason; /* why it was refused */
    bool is_keep_alive;       /* the client wants to go on after this request */
    bool is_http_1_0;
    bool is_chunked;
    bool expects_continue; /* wants "100 Continue" before it sends the body */
    enum http_method method;
    uint32_t head_size;      /* with its last CRLF CRLF */
    uint32_t content_length; /* of a sized body; at most body_bytes_max */
    uint32_t body_size;      /* decoded so far; chunked only */

    /* private */
    uint8_t state;
    bool has_path_escape, has_content_length, has_content_coding, has_unknown_expect, wants_close, wants_keep_alive;
    uint32_t line; /* offset of the line being read */
    uint32_t scan; /* offset of the first byte of it not looked at yet */
    uint32_t seen; /* bit set over the table of known headers */
    uint64_t claimed_length;
    uint32_t chunk_left;
    uint32_t trailer_count, trailer_bytes;
    struct http1_span {
        uint16_t begin, size;
    } path, query, authority, host;
    uint32_t field_count;
    struct http1_field fields[HTTP_HEADERS_MAX];
};

void http1_init(struct http1 *parser);

/* Thread: any, one at a time. Returns: HTTP1_DONE once the head is complete and has passed every limit (also that of the
 * body's announced size): only then may "100 Continue" be sent. */
enum http1_result http1_parse_head(struct http1 *parser, const struct http1_limits *limits, const char *input,
                                   size_t size);

/* After HTTP1_DONE of the head, not chunked: where the request ends, body included. */
static inline size_t http1_size(const struct http1 *parser)
{
    return (size_t)parser->head_size + parser->content_length;
}

/* After HTTP1_DONE of the head, chunked: moves the decoded body together behind the head, in place, and takes what it has
 * used out of the input: *size shrinks, so that the input never outgrows head + body + one line. On HTTP1_DONE the body is
 * body_size bytes at head_size and *ret_request_size is where the next request begins (the bytes up to there may be gone
 * over twice, but not those behind). */
enum http1_result http1_decode_chunks(struct http1 *parser, const struct http1_limits *limits, char *input, size_t *size,
                                      size_t *ret_request_size);

/* The complete request as a handler sees it. `headers` has room for HTTP_HEADERS_MAX, `path` for target_bytes_max: the
 * request's slices point into them and into `input`. */
void http1_get_request(const struct http1 *parser, const char *input, struct http_header *headers, char *path,
                       struct http_request *ret_request);

#endif
