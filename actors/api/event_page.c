/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/api/event_page.h"

#include "actors/api/api_input.h"

uint64_t event_page_number(struct json_value object, const char *key)
{
    struct json_value value;
    uint64_t number = 0;
    return json_find(object, key, &value) && input_number(value.raw, &number) ? number : 0;
}

bool event_page_open(struct event_page *page, struct slice body)
{
    struct json_value root;
    struct json_problem problem;
    *page = (struct event_page){0};
    if (json_validate(body, &root, &problem) != OK || !json_find(root, "events", &page->events))
        return false;
    page->has_next_page = event_page_number(root, "next") > 0;
    return true;
}

bool event_page_next(struct event_page *page, struct page_event *ret_event)
{
    struct json_value type;
    while (json_next_element(page->events, &page->position, &ret_event->envelope)) {
        /* What has no type is no envelope: nothing that a client could resume after. */
        if (!json_find(ret_event->envelope, "event", &type) ||
            json_string(type, ret_event->type_bytes, sizeof ret_event->type_bytes, &ret_event->type) != OK)
            continue;
        ret_event->version = event_page_number(ret_event->envelope, "version");
        return true;
    }
    return false;
}
