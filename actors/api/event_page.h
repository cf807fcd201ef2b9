/* SPDX-License-Identifier: Apache-2.0 */
/* event_page: a page of history (the answer to CONV_EVENTS) that is sent on event by event, as fast as its reader takes it.
 *
 * Parsed once: a page may be megabytes, and a slow reader takes it in many pieces. Life: zeroed; event_page_open; event_page_next
 * until false; event_page_close. Thread: the message's worker. Callers: api_stream, rpc_events. */
#ifndef CIRANDA_ACTORS_API_EVENT_PAGE_H
#define CIRANDA_ACTORS_API_EVENT_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "net/json.h"
#include "runtime/msg.h"

struct worker;

struct event_page {
    struct msg *msg; /* holds the bytes; NULL: none is open */
    struct json_value events;
    struct json_iterator position; /* behind the last one taken */
    bool has_next_page;
};

struct page_event {
    uint64_t version;
    struct slice type;          /* lent from `type_bytes` or the page */
    struct json_value envelope; /* lent from the page */
    char type_bytes[64];
};

/* Owns: takes *msg, a CONV_FINISHED. Returns: false when it holds no page; nothing is open then. */
bool event_page_open(struct event_page *page, struct worker *worker, struct msg **msg);
bool event_page_next(struct event_page *page, struct page_event *ret_event); /* false: no more */
void event_page_close(struct event_page *page, struct worker *worker);

/* The number `key` of an object of ours; 0 when there is none. */
uint64_t event_page_number(struct json_value object, const char *key);

#endif
