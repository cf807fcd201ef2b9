/* SPDX-License-Identifier: Apache-2.0 */
/* api_input: small readers over borrowed slices; a list header may come in several lines, so all of them are looked at. */
#include "actors/api/api_input.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>

#include "runtime/assert.h"
#include "runtime/buffer.h"

bool input_number(struct slice text, uint64_t *ret_number)
{
    uint64_t number = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || __builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(text.data[i] - '0'), &number))
            return false;
    }
    *ret_number = number;
    return text.size > 0;
}

bool input_is_id(struct slice text, size_t size_max)
{
    for (size_t i = 0; i < text.size; i++) {
        if (!isalnum((unsigned char)text.data[i]) && !memchr("._~:-", text.data[i], 5))
            return false;
    }
    return text.size > 0 && text.size <= size_max;
}

static struct slice trim(struct slice text)
{
    while (text.size && (text.data[0] == ' ' || text.data[0] == '\t'))
        text = slice_of(text.data + 1, text.size - 1);
    while (text.size && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t'))
        text.size--;
    return text;
}

/* Takes what stands before the next `separator` off the front. Quoted separators do not occur in what we read. */
static struct slice take_part(struct slice *rest, char separator)
{
    const char *end = rest->size ? memchr(rest->data, separator, rest->size) : NULL;
    size_t size = end ? (size_t)(end - rest->data) : rest->size;
    struct slice part = slice_of(rest->data, size);
    *rest = end ? slice_of(end + 1, rest->size - size - 1) : (struct slice){0};
    return trim(part);
}

/* The next element of a list header over all its lines. */
struct list_header {
    const struct http_request *request;
    const char *name;
    uint32_t next_line;
    struct slice rest;
};

static bool next_element(struct list_header *list, struct slice *ret_element)
{
    for (;;) {
        while (list->rest.size) {
            *ret_element = take_part(&list->rest, ',');
            if (ret_element->size)
                return true;
        }
        do {
            if (list->next_line == list->request->header_count)
                return false;
            list->rest = list->request->headers[list->next_line].value;
        } while (!http_text_is_equal(list->request->headers[list->next_line++].name, list->name));
    }
}

/* ---- Accept, Content-Type ----------------------------------------------------------------------------------------------- */

/* "q=0", "q=0.000": the type is refused. */
static bool has_quality_zero(struct slice parameters)
{
    while (parameters.size) {
        struct slice parameter = take_part(&parameters, ';');
        if (parameter.size < 3 || strncasecmp(parameter.data, "q=0", 3) != 0)
            continue;
        struct slice digits = slice_of(parameter.data + 3, parameter.size - 3);
        bool is_zero = true;
        for (size_t i = 0; i < digits.size; i++)
            is_zero &= digits.data[i] == '0' || digits.data[i] == '.';
        return is_zero;
    }
    return false;
}

/* "text/x" in range "text/x" (exact), or "text/" followed by a star, or star/star. */
static bool range_holds(struct slice range, const char *type, bool only_exact)
{
    if (http_text_is_equal(range, type))
        return true;
    if (only_exact)
        return false;
    size_t main_size = strcspn(type, "/") + 1;
    bool is_main =
        range.size == main_size + 1 && range.data[main_size] == '*' && strncasecmp(range.data, type, main_size) == 0;
    return is_main || slice_has_text(range, "*/*");
}

/* An exact element outweighs a range, as RFC 9110 says: "text/event-stream;q=0, * / *" refuses streams. */
static bool accept_allows(const struct http_request *request, const char *type, bool only_exact, bool if_absent)
{
    struct list_header accept = {.request = request, .name = "Accept"};
    struct slice element;
    bool is_present = false, is_in_range = false;
    while (next_element(&accept, &element)) {
        is_present = true;
        struct slice range = take_part(&element, ';');
        if (http_text_is_equal(range, type))
            return !has_quality_zero(element);
        if (range_holds(range, type, only_exact) && !has_quality_zero(element))
            is_in_range = true;
    }
    return is_present ? is_in_range : if_absent;
}

bool input_accepts(const struct http_request *request, const char *content_type)
{
    return accept_allows(request, content_type, false, true);
}

bool input_asks_for(const struct http_request *request, const char *content_type)
{
    return accept_allows(request, content_type, true, false);
}

bool input_is_json(const struct http_request *request)
{
    struct slice value = http_request_header(request, "Content-Type");
    struct slice type = take_part(&value, ';');
    if (!http_text_is_equal(type, "application/json"))
        return false;
    while (value.size) {
        struct slice parameter = take_part(&value, ';');
        if (parameter.size > 8 && strncasecmp(parameter.data, "charset=", 8) == 0) {
            struct slice charset = slice_of(parameter.data + 8, parameter.size - 8);
            return http_text_is_equal(charset, "utf-8") || http_text_is_equal(charset, "\"utf-8\"");
        }
    }
    return true;
}

/* ---- Prefer, If-Match, query -------------------------------------------------------------------------------------------- */

static struct slice unquote(struct slice text)
{
    if (text.size >= 2 && text.data[0] == '"' && text.data[text.size - 1] == '"')
        return slice_of(text.data + 1, text.size - 2);
    return text;
}

bool input_prefer(const struct http_request *request, struct input_prefer *ret_prefer)
{
    struct input_prefer prefer = {0};
    struct list_header list = {.request = request, .name = "Prefer"};
    struct slice element;
    while (next_element(&list, &element)) {
        struct slice value = take_part(&element, ';'); /* what follows are parameters, of which we know none */
        struct slice name = take_part(&value, '=');
        if (http_text_is_equal(name, "respond-async"))
            prefer.respond_async = true;
        if (!http_text_is_equal(name, "wait") || prefer.has_wait) /* the first one counts (RFC 7240, section 2) */
            continue;
        if (!input_number(unquote(trim(value)), &prefer.wait_s))
            return false;
        prefer.has_wait = true;
    }
    *ret_prefer = prefer;
    return true;
}

bool input_if_match(const struct http_request *request, bool *ret_has, uint64_t *ret_version)
{
    struct slice value = http_request_header(request, "If-Match");
    *ret_has = value.data != NULL;
    return !*ret_has || input_number(unquote(value), ret_version);
}

bool input_query_number(const struct http_request *request, const char *name, uint64_t standard, uint64_t max,
                        uint64_t *ret_number, struct problem *problem)
{
    char buffer[32];
    struct slice text;
    enum err code = http_request_query(request, name, buffer, sizeof buffer, &text);
    if (code == ERR_NOT_FOUND) {
        *ret_number = standard;
        return true;
    }
    uint64_t number;
    if (code != OK || !input_number(text, &number)) {
        *problem = (struct problem){.status = 400, .detail = SLICE_LITERAL("a number in the query is malformed")};
        problem_add_error(problem, 400, "", "query parameter %s must be a whole number, once", name);
        return false;
    }
    if (number > max) {
        *problem = (struct problem){.status = 422, .detail = SLICE_LITERAL("a number in the query is out of range")};
        problem_add_error(problem, 422, "", "query parameter %s must be at most %lu", name, max);
        return false;
    }
    *ret_number = number;
    return true;
}

bool input_query_page(const struct http_request *request, uint64_t *ret_after, uint64_t *ret_limit,
                      struct problem *problem)
{
    if (!input_query_number(request, "after", 0, UINT64_MAX, ret_after, problem) ||
        !input_query_number(request, "limit", INPUT_PAGE_DEFAULT, INPUT_PAGE_MAX, ret_limit, problem))
        return false;
    if (*ret_limit > 0)
        return true;
    *problem = (struct problem){.status = 422, .detail = SLICE_LITERAL("limit must be from 1 to 1000")};
    return false;
}

/* ---- body --------------------------------------------------------------------------------------------------------------- */

bool input_object(const struct http_request *request, struct json_value *ret_object, struct problem *problem)
{
    *problem = (struct problem){.status = 400, .detail = SLICE_LITERAL("the body is not what this route takes")};
    struct json_problem json_problem;
    if (json_validate(request->body, ret_object, &json_problem) != OK) {
        problem_add_error(problem, 400, json_problem.pointer, "not JSON: %s, at byte %zu", json_problem.reason,
                          json_problem.offset);
        return false;
    }
    if (ret_object->type != JSON_OBJECT) {
        problem_add_error(problem, 400, "", "must be an object");
        return false;
    }
    return true;
}

bool input_make_room(struct buffer *room, const struct http_request *request)
{
    buffer_clear(room);
    return buffer_reserve(room, request->body.size) != NULL;
}

struct slice input_text(struct buffer *room, struct json_value string)
{
    struct slice text;
    char *free_room = room->data + room->size;
    enum err code = json_string(string, free_room, room->capacity - room->size, &text);
    ASSERT(code == OK); /* a string of a body that was checked, and all of them fit */
    if (text.data == free_room)
        room->size += text.size;
    return text;
}

void input_pointer(char *out, size_t size, const char *parent, struct slice raw_key)
{
    char text[PROBLEM_POINTER_BYTES];
    struct slice key = slice_of("?", 1);
    /* The raw key stands between quotes in the body, so the string value is one byte wider on each side. */
    const struct json_value quoted = {JSON_STRING, slice_of(raw_key.data - 1, raw_key.size + 2)};
    if (json_string(quoted, text, sizeof text, &key) != OK)
        key = slice_of("?", 1); /* longer than a pointer may be */
    size_t used = (size_t)snprintf(out, size, "%s/", parent);
    for (size_t i = 0; i < key.size && used + 3 < size; i++) {
        if (key.data[i] == '~' || key.data[i] == '/') {
            out[used++] = '~';
            out[used++] = key.data[i] == '~' ? '0' : '1';
        } else {
            out[used++] = key.data[i];
        }
    }
    out[used < size ? used : size - 1] = '\0';
}
