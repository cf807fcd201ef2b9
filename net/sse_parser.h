/* SPDX-License-Identifier: Apache-2.0 */
/* sse_parser: incremental parser of text/event-stream (WHATWG HTML, section 9.2.6): bytes in pieces of any size, events out.
 *
 * For streams that come in (model providers). Not for writing streams, and no decoder: bytes pass as they are, so who reads
 * `data` checks its UTF-8. Line ends CR, LF and CRLF, also split between pieces; a byte order mark at the beginning, comments,
 * several data lines; an event that lacks its blank line when the stream ends is dropped, as the standard asks.
 *
 * Life: sse_parser_init; sse_parser_feed for each piece; sse_parser_deinit.
 *
 * Invariants
 *  S1  The events do not depend on how the stream was cut into pieces.
 *  S2  What is held at once (data, type, the last id, the line being read) is at most event_bytes_max; above it
 *      ERR_LIMIT, and from then on every call returns ERR_LIMIT: nothing after a lost piece is interpreted.
 *  S3  A piece that holds whole lines is read in place; only what a line or an event lacks is copied.
 */
#ifndef CIRANDA_NET_SSE_PARSER_H
#define CIRANDA_NET_SSE_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/buffer.h"
#include "runtime/error.h"
#include "runtime/slice.h"

/* Lent for the call. */
struct sse_event {
    struct slice type; /* "message" when none was given */
    struct slice data; /* lines joined by LF; an event without data is not delivered */
    struct slice id;   /* the last one seen, of this event or an earlier one */
    uint64_t retry_ms; /* the last one seen; 0: none */
};

/* Embed it; fields are private. */
struct sse_parser {
    struct buffer line;           /* the part of a line that came in earlier pieces */
    struct buffer data, type, id; /* of the event being read; every data line with its LF */
    uint64_t retry_ms;
    size_t event_bytes_max;
    bool is_first_line_read;
    bool is_after_cr; /* an LF that comes next belongs to it */
    bool is_failed;
    void *context;
    void (*on_event)(void *context, const struct sse_event *event);
};

/* `event_bytes_max` 0: 1 MiB. */
void sse_parser_init(struct sse_parser *parser, size_t event_bytes_max, void *context,
                     void (*on_event)(void *context, const struct sse_event *event));
void sse_parser_deinit(struct sse_parser *parser); /* accepts zeroed */

/* Calls on_event for each event that `piece` completes; on_event must neither feed nor deinit this parser. Returns: ERR_LIMIT,
 * by the cap or for want of memory. Limits: linear in the piece; allocates only to grow its buffers. */
MUST_USE enum err sse_parser_feed(struct sse_parser *parser, struct slice piece);

#endif
