/* SPDX-License-Identifier: Apache-2.0 */
/* sse: writes server-sent events (text/event-stream) into a buffer. The typed way is the only way: nobody prints a stream.
 *
 * Ids and event names are tokens made by the server; one that could end its line is refused at write, whoever passed it on
 * (CR or LF starts a field, NUL makes clients drop an id). Data and comments may hold anything: they are split into one line
 * each at CR, LF and CRLF, as a client splits them, so that no byte of them can become a field. */
#ifndef CIRANDA_NET_SSE_H
#define CIRANDA_NET_SSE_H

#include <stdint.h>

#include "runtime/buffer.h"
#include "runtime/error.h"

/* `id` and `event` may be empty: the field is then left out. Returns: ERR_INVALID when one of them holds CR, LF or NUL, with
 * nothing written. A full buffer shows in out->is_overflow. Line ends in `data` reach the client as LF. */
MUST_USE enum err sse_write_event(struct buffer *out, struct slice id, struct slice event, struct slice data);

/* ": text", for keep-alive; clients ignore it. */
void sse_write_comment(struct buffer *out, struct slice text);

/* How long a client waits before it connects again. */
void sse_write_retry(struct buffer *out, uint64_t ms);

#endif
