/* SPDX-License-Identifier: Apache-2.0 */
/* event_page: a page of history (the answer to CONV_EVENTS) that is sent on event by event, as fast as its reader takes it.
 *
 * Parsed once: a page may be megabytes, and a slow reader takes it in many pieces. Life: event_page_open; event_page_next
 * until false. Pure. Callers: api_stream, rpc_events. */
#ifndef CIRANDA_ACTORS_API_EVENT_PAGE_H
#define CIRANDA_ACTORS_API_EVENT_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "net/json.h"
struct event_page {
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

/* `body` is the answer's, and must outlive the page. Returns: false when it is no page. */
bool event_page_open(struct event_page *page, struct slice body);
bool event_page_next(struct event_page *page, struct page_event *ret_event); /* false: no more */

/* The number `key` of an object of ours; 0 when there is none. */
uint64_t event_page_number(struct json_value object, const char *key);

#endif
