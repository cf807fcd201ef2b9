/* SPDX-License-Identifier: Apache-2.0 */
/* event: one fact of a conversation, its two encodings, and the record that groups them.
 *
 * A flat struct of borrowed slices: the same struct is built by a live turn and decoded from a journal, and goes through the
 * same fold (conversation_state.h), so that state is a function of the journal by construction.
 *
 * Record bytes (docs/FORMAT.md): format byte, then one MessagePack array of events
 * [type, event_id (16 bytes, may be left out), {field number: value, ...}]; written with msgpack-c, read back behind a pre-scan against limits. Golden files in tests/golden hold the format.
 */
#ifndef CIRANDA_ACTORS_EVENT_H
#define CIRANDA_ACTORS_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/buffer.h"
#include "runtime/error.h"
#include "runtime/slice.h"

enum event_type {
    EVENT_NONE, /* never on disk: numbers start at 1 */
#define EVENT(name, text, is_said) EVENT_##name,
#include "actors/event.def"
#undef EVENT
    EVENT_TYPE_COUNT
};

struct event {
    enum event_type type;
    uint64_t version;
    uint64_t time_ms;
    uint8_t event_id[16]; /* UUIDv7 */
    struct slice trace_id;
#define FIELD_TYPE_TEXT struct slice
#define FIELD_TYPE_NUMBER uint64_t
#define FIELD_TYPE_JSON struct slice
#define FIELD(name, kind) FIELD_TYPE_##kind name;
#include "actors/event_field.def"
#undef FIELD
};

const char *event_type_name(enum event_type type);
bool event_type_is_said(enum event_type type);

/* Appends one record holding `events[0..count)`. The buffer remembers an overflow. */
void event_record_encode(struct buffer *out, const struct event *events, uint32_t count);

/* Calls `on_event` for each event with version first_version, +1, ...; slices point into `data`. Unknown fields are kept out,
 * unknown event types are ERR_STORAGE_FORMAT (a newer build wrote them). Returns: ERR_STORAGE_CORRUPT when it is no record,
 * maybe after some of its events: what they built is thrown away; or the first failure of `on_event`. */
MUST_USE enum err event_record_decode(struct slice data, uint64_t first_version,
                                      enum err (*on_event)(void *context, const struct event *event), void *context);

/* The envelope of design.md section 4 as JSON: event, event_id, trace_id, tenant_id, conversation_id, customer_id,
 * idempotency_key, timestamp (RFC 3339, ms), version, payload. */
struct event_envelope {
    struct slice tenant, conversation, customer_id;
};
void event_write_json(struct buffer *out, const struct event *event, const struct event_envelope *envelope);
/* "2026-11-20T10:30:28.123Z", quotes included. */
void event_write_time(struct buffer *out, uint64_t wall_ms);

#endif
