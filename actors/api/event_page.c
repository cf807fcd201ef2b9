/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/api/event_page.h"

#include "actors/api/api_input.h"
#include "actors/protocol.h"
#include "runtime/assert.h"

uint64_t event_page_number(struct json_value object, const char *key)
{
    struct json_value value;
    uint64_t number = 0;
    return json_find(object, key, &value) && input_number(value.raw, &number) ? number : 0;
}

bool event_page_open(struct event_page *page, struct worker *worker, struct msg **msg)
{
    struct json_value body;
    struct json_problem problem;
    ASSERT(!page->msg);
    *page = (struct event_page){.msg = *msg};
    *msg = NULL;
    const struct conv_answer *answer = container_of(page->msg, struct conv_answer, msg);
    if (json_validate(answer->body, &body, &problem) != OK || !json_find(body, "events", &page->events)) {
        event_page_close(page, worker);
        return false;
    }
    page->has_next_page = event_page_number(body, "next") > 0;
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

void event_page_close(struct event_page *page, struct worker *worker)
{
    msg_destroy(worker, &page->msg);
}
