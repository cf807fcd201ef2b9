/* SPDX-License-Identifier: Apache-2.0 */
/* api_list: GET /v1/conversations: a page of heads from the journal, without waking a conversation.
 *
 * The cursor is the last id of the page before, with a check so that a mangled one is refused instead of meaning another
 * place; it holds no tenant, so that a forged one cannot leave the caller's.
 */
#include <stdio.h>

#include "actors/api/api_input.h"
#include "actors/api/api_internal.h"
#include "actors/conversation_key.h"
#include "actors/conversation_state.h"
#include "actors/event.h"
#include "actors/hash.h"
#include "net/json.h"
#include "runtime/assert.h"

enum { CHECK_DIGITS = 8, CURSOR_BYTES = CHECK_DIGITS + CONV_ID_BYTES_MAX };

/* ---- the cursor --------------------------------------------------------------------------------------------------------- */

static void write_check(struct slice id, char ret_digits[CHECK_DIGITS + 1])
{
    const struct hash128 key = {0x637572736f720001, 0}; /* fixed: a cursor outlives a restart */
    snprintf(ret_digits, CHECK_DIGITS + 1, "%08x", (uint32_t)hash_bytes(id, key).low);
}

/* "" is the first page. */
static bool read_cursor(struct slice cursor, struct slice *ret_id)
{
    char check[CHECK_DIGITS + 1];
    *ret_id = (struct slice){0};
    if (cursor.size == 0)
        return true;
    if (cursor.size <= CHECK_DIGITS)
        return false;
    *ret_id = slice_of(cursor.data + CHECK_DIGITS, cursor.size - CHECK_DIGITS);
    write_check(*ret_id, check);
    return input_is_id(*ret_id, CONV_ID_BYTES_MAX) && memcmp(check, cursor.data, CHECK_DIGITS) == 0;
}

/* ---- the answer --------------------------------------------------------------------------------------------------------- */

static void write_item(struct buffer *out, struct slice id, const struct journal_list_item *item)
{
    bool is_first = true;
    buffer_append_byte(out, '{');
    json_write_key(out, "id", &is_first);
    json_write_string(out, id);
    json_write_key(out, "status", &is_first);
    json_write_string(out, slice_from_text(conversation_status_name((enum conversation_status)item->summary.status)));
    json_write_key(out, "owner", &is_first);
    json_write_string(out, slice_from_text(item->summary.owner));
    json_write_key(out, "version", &is_first);
    json_write_unsigned(out, item->version);
    json_write_key(out, "messages", &is_first);
    json_write_unsigned(out, item->summary.messages);
    json_write_key(out, "created_at", &is_first);
    event_write_time(out, item->summary.created_ms);
    json_write_key(out, "updated_at", &is_first);
    event_write_time(out, item->summary.updated_ms);
    buffer_append_byte(out, '}');
}

static void write_page(struct buffer *out, const struct journal_list *list)
{
    struct slice tenant, id = {0};
    bool is_first = true;
    buffer_clear(out);
    buffer_append_text(out, "{\"conversations\":[");
    for (uint32_t i = 0; i < list->item_count; i++) {
        if (!conversation_key_split(list->items[i].key, &tenant, &id))
            continue; /* the server's own */
        if (!is_first)
            buffer_append_byte(out, ',');
        is_first = false;
        write_item(out, id, &list->items[i]);
    }
    buffer_append_text(out, "],\"next\":");
    if (list->has_more && id.size) {
        char check[CHECK_DIGITS + 1];
        write_check(id, check);
        buffer_append_format(out, "\"%s%.*s\"", check, SLICE_PRINT(id)); /* of an id's characters: nothing to escape */
    } else {
        buffer_append_text(out, "null");
    }
    buffer_append_byte(out, '}');
}

static void on_list(struct api *api, struct api_request *request, struct msg **msg)
{
    const struct journal_list *list = container_of(*msg, struct journal_list, msg);
    if (list->result != OK) {
        api_refuse_code(api, &request->exchange, list->result, (struct slice){0}, 0);
    } else {
        write_page(&api->out, list);
        api_answer_out(api, &request->exchange, 200);
    }
    api_request_release(request);
}

static const struct api_waiter list_waiter = {.on_answer = on_list};

/* ---- the request -------------------------------------------------------------------------------------------------------- */

struct filter {
    uint64_t limit;
    int status; /* -1: any */
    struct slice owner, after_id;
    char owner_bytes[JOURNAL_OWNER_BYTES_MAX + 1], cursor_bytes[CURSOR_BYTES + 1];
};

static bool refuse_filter(struct problem *problem, int status, const char *detail)
{
    *problem = (struct problem){.status = status, .detail = slice_from_text(detail)};
    return false;
}

static bool read_status(const struct http_request *request, int *ret_status, struct problem *problem)
{
    char buffer[32];
    struct slice text = {0};
    enum err code = http_request_query(request, "status", buffer, sizeof buffer, &text);
    *ret_status = -1;
    if (code == ERR_NOT_FOUND || (code == OK && text.size == 0))
        return true;
    for (int status = CONVERSATION_ACTIVE; code == OK && status <= CONVERSATION_CLOSED; status++) {
        if (slice_has_text(text, conversation_status_name((enum conversation_status)status))) {
            *ret_status = status;
            return true;
        }
    }
    return refuse_filter(problem, 422, "status must be one of active, waiting_human, parked, closed");
}

static bool read_filter(const struct http_request *request, struct filter *filter, struct problem *problem)
{
    *filter = (struct filter){.status = -1};
    uint64_t after; /* pages here go by cursor, not by version */
    if (!input_query_page(request, &after, &filter->limit, problem) || !read_status(request, &filter->status, problem))
        return false;
    enum err code = http_request_query(request, "owner", filter->owner_bytes, sizeof filter->owner_bytes, &filter->owner);
    if (code != OK && code != ERR_NOT_FOUND)
        return refuse_filter(problem, 422, "owner must be at most 79 bytes, such as queue:vendas");
    struct slice cursor = {0};
    code = http_request_query(request, "cursor", filter->cursor_bytes, sizeof filter->cursor_bytes, &cursor);
    if ((code != OK && code != ERR_NOT_FOUND) || !read_cursor(cursor, &filter->after_id))
        return refuse_filter(problem, 400, "cursor must be the next of a page before");
    return true;
}

/* The texts of the question travel behind its block: the exchange may be gone before the journal has read them. */
static struct journal_list *create_list(struct api *api, const struct api_request *request, const struct filter *filter)
{
    char prefix[JOURNAL_KEY_BYTES_MAX], after[JOURNAL_KEY_BYTES_MAX];
    const struct slice any = SLICE_LITERAL("x");
    size_t prefix_size = conversation_key_write(api_tenant, any, prefix) - any.size;
    size_t after_size = filter->after_id.size ? conversation_key_write(api_tenant, filter->after_id, after) : 0;
    size_t size = sizeof(struct journal_list) + prefix_size + after_size + filter->owner.size;
    struct msg *msg = msg_create(api->worker, MSG_JOURNAL_LIST, MSG_URGENT | MSG_CONTROL, (uint32_t)size);
    if (!msg)
        return NULL;
    struct journal_list *list = container_of(msg, struct journal_list, msg);
    char *texts = (char *)(list + 1);
    memcpy(texts, prefix, prefix_size);
    list->prefix = slice_of(texts, prefix_size);
    memcpy(texts + prefix_size, after, after_size);
    list->after_key = slice_of(texts + prefix_size, after_size);
    if (filter->owner.size)
        memcpy(texts + prefix_size + after_size, filter->owner.data, filter->owner.size);
    list->owner = slice_of(texts + prefix_size + after_size, filter->owner.size);
    list->status = filter->status;
    list->item_count_max = (uint32_t)filter->limit;
    list->context = (void *)(uintptr_t)api_request_token(request);
    list->msg.to = api->self;
    return list;
}

void api_handle_list(struct api *api, const struct api_call *call)
{
    struct filter filter;
    struct problem problem;
    if (!read_filter(call->request, &filter, &problem)) {
        api_answer_problem(api, &call->exchange, &problem);
        return;
    }
    struct api_request *request = api_request_open(api, call, &list_waiter, (struct slice){0});
    if (!request)
        return;
    struct journal_list *list = create_list(api, request, &filter);
    if (!list) {
        api_refuse_code(api, &call->exchange, ERR_NO_MEMORY, (struct slice){0}, 0);
        api_request_release(request);
        return;
    }
    journal_submit_list(api->services->journal, list);
}
