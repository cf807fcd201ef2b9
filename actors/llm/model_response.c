/* SPDX-License-Identifier: Apache-2.0 */
/* model_response: see model_response.h. Reads in the order of a response's life: pieces, events, chunks, the end.
 *
 * Members we do not know are passed over, and so are events that are no chunk: providers add both. What we do read must have
 * its type, else the response is malformed: a `content` that is a number is no text.
 */
#include "actors/llm/model_response.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "net/json.h"
#include "runtime/assert.h"

/* ---- failures --------------------------------------------------------------------------------------------------------- */

/* Cuts `text` so that no UTF-8 sequence is halved at `size`: steps back over continuation bytes. */
static size_t utf8_cut(struct slice text, size_t size)
{
    if (text.size <= size)
        return text.size;
    while (size > 0 && ((unsigned char)text.data[size] & 0xC0) == 0x80)
        size--;
    return size;
}

static void fail(struct model_response *response, enum err code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void fail(struct model_response *response, enum err code, const char *format, ...)
{
    if (response->code != OK)
        return; /* M4 */
    response->code = code;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(response->detail, sizeof response->detail, format, arguments);
    va_end(arguments);
}

/* The failure as the provider worded it. */
static void fail_with_message(struct model_response *response, enum err code, int status, struct slice message)
{
    const size_t size = utf8_cut(message, MODEL_DETAIL_BYTES_MAX - 32);
    if (status != 0)
        fail(response, code, "HTTP %d: %.*s", status, (int)size, message.data);
    else
        fail(response, code, "provider: %.*s", (int)size, message.data);
}

/* Blots out every occurrence: some providers quote the key that they refuse. Never lengthens. */
static void blot_out(char *text, struct slice secret)
{
    if (secret.size < 4) /* so short it would hit by accident, and "***" may not fit */
        return;
    for (char *at = text; (at = memmem(at, strlen(at), secret.data, secret.size)) != NULL; at += 3) {
        memcpy(at, "***", 3);
        memmove(at + 3, at + secret.size, strlen(at + secret.size) + 1);
    }
}

/* ---- JSON members ----------------------------------------------------------------------------------------------------- */

/* A member that is absent or null is not there. */
static bool find_member(struct json_value object, const char *key, struct json_value *ret_value)
{
    return object.type == JSON_OBJECT && json_find(object, key, ret_value) && ret_value->type != JSON_NULL;
}

struct member {
    const char *key;
    struct json_value value; /* JSON_NULL (0) until found */
};

/* Several members in one walk: a stream is tens of thousands of chunks a second, and a member that is absent costs a whole one. */
static void find_members(struct json_value object, struct member *members, size_t count)
{
    struct json_iterator iterator = {0};
    struct slice raw_key;
    struct json_value value;
    while (json_next_member(object, &iterator, &raw_key, &value)) {
        for (size_t i = 0; i < count; i++)
            if (json_key_is(raw_key, members[i].key))
                members[i].value = value;
    }
}

/* Appends the string to the text. */
static void append_text(struct model_response *response, struct json_value value)
{
    if (value.type != JSON_STRING) {
        fail(response, ERR_PROTOCOL, "content is no string");
        return;
    }
    struct buffer *const text = &response->text;
    char *const room = buffer_reserve(text, value.raw.size); /* always enough for what is unescaped */
    struct slice plain;
    if (room == NULL) {
        /* Escapes shrink, so that what does not fit raw may still fit: not worth a second way. */
        fail(response, text->size + value.raw.size > text->size_max ? ERR_LIMIT : ERR_NO_MEMORY, "over %d bytes of text",
             MODEL_TEXT_BYTES_MAX);
        return;
    }
    const enum err err = json_string(value, room, value.raw.size, &plain);
    ASSERT(err == OK); /* it is a string, and there is room */
    if (plain.data != room && plain.size > 0)
        memcpy(room, plain.data, plain.size);
    text->size += plain.size;
}

static void read_tokens(struct json_value usage, const char *key, uint64_t *tokens)
{
    struct json_value value;
    int64_t count;
    if (find_member(usage, key, &value) && json_integer(value, &count) == OK && count >= 0)
        *tokens = (uint64_t)count;
}

static void read_usage(struct model_response *response, struct json_value usage)
{
    read_tokens(usage, "prompt_tokens", &response->input_tokens);
    read_tokens(usage, "completion_tokens", &response->output_tokens);
}

static void read_finish_reason(struct model_response *response, struct json_value value)
{
    struct slice reason;
    char buffer[MODEL_FINISH_REASON_BYTES_MAX];
    if (value.type == JSON_NULL)
        return;
    if (json_string(value, buffer, sizeof buffer, &reason) != OK || reason.size >= sizeof response->finish_reason) {
        fail(response, ERR_PROTOCOL, "finish_reason is no short string");
        return;
    }
    memcpy(response->finish_reason, reason.data, reason.size);
    response->finish_reason[reason.size] = '\0';
}

/* choices[0]: text, in member `key` ("delta" of a chunk, "message" of a document), and finish_reason. Whatever other choices
 * there are were not asked for. Returns: false when there is none. */
static bool read_choice(struct model_response *response, struct json_value choices, const char *key)
{
    struct json_iterator iterator = {0};
    struct json_value choice, content;
    if (!json_next_element(choices, &iterator, &choice))
        return false;
    struct member members[] = {{.key = key}, {.key = "finish_reason"}};
    find_members(choice, members, 2);
    if (find_member(members[0].value, "content", &content))
        append_text(response, content);
    if (response->code == OK)
        read_finish_reason(response, members[1].value);
    return true;
}

/* ---- errors of the provider ------------------------------------------------------------------------------------------- */

/* What a status outside 2xx means for the caller; what may be tried again is what err_may_retry says of the code. */
static enum err code_of_status(int status)
{
    if (status == 408)
        return ERR_TIMEOUT;
    if (status == 429)
        return ERR_BUSY;
    if (status >= 400 && status < 500)
        return ERR_INVALID;
    if (status == 501 || status == 505)
        return ERR_PROTOCOL; /* what this server does not do today it does not do in a second either */
    return status >= 500 ? ERR_BUSY : ERR_PROTOCOL; /* redirects are not followed: a wrong base_url */
}

/* {"error":{"message":"…"}}, {"error":"…"} or {"message":"…"}. */
static bool find_error_message(struct json_value root, struct json_value *ret_message)
{
    struct json_value error;
    if (!find_member(root, "error", &error))
        return find_member(root, "message", ret_message) && ret_message->type == JSON_STRING;
    if (error.type == JSON_STRING) {
        *ret_message = error;
        return true;
    }
    return find_member(error, "message", ret_message) && ret_message->type == JSON_STRING;
}

static bool fail_with_error_in(struct model_response *response, struct json_value root, enum err code, int status)
{
    struct json_value message;
    struct slice text;
    char buffer[2 * MODEL_DETAIL_BYTES_MAX];
    if (!find_error_message(root, &message) || json_string(message, buffer, sizeof buffer, &text) != OK)
        return false;
    fail_with_message(response, code, status, text);
    return true;
}

static void finish_error(struct model_response *response, int status)
{
    struct json_value root;
    struct json_problem problem;
    const enum err code = code_of_status(status);
    if (json_validate(buffer_slice(&response->body), &root, &problem) == OK &&
        fail_with_error_in(response, root, code, status))
        return;
    fail(response, code, "HTTP %d", status); /* a gateway's HTML page, perhaps: nothing to quote */
}

/* An error in the middle of a stream, whose status was 200 long ago. `code` may be a number like a status, or a word. */
static void fail_in_stream(struct model_response *response, struct json_value root, struct json_value error)
{
    struct json_value value;
    int64_t status = 0;
    if (find_member(error, "code", &value) && (json_integer(value, &status) != OK || status < 400 || status > 599))
        status = 0;
    const enum err code = status != 0 ? code_of_status((int)status) : ERR_PROTOCOL;
    if (!fail_with_error_in(response, root, code, 0))
        fail(response, code, "the provider reported an error in the stream");
}

/* ---- pieces ----------------------------------------------------------------------------------------------------------- */

static void on_event(void *context, const struct sse_event *event)
{
    struct model_response *const response = context;
    struct json_value root;
    struct json_problem problem;
    if (response->code != OK || response->is_done)
        return;
    if (slice_has_text(event->data, "[DONE]")) {
        response->is_done = true;
        return;
    }
    if (json_validate(event->data, &root, &problem) != OK) {
        fail(response, ERR_PROTOCOL, "malformed chunk: %s at byte %zu", problem.reason, problem.offset);
        return;
    }
    struct member members[] = {{.key = "error"}, {.key = "choices"}, {.key = "usage"}};
    find_members(root, members, 3);
    if (members[0].value.type != JSON_NULL) {
        fail_in_stream(response, root, members[0].value);
        return;
    }
    (void)read_choice(response, members[1].value, "delta"); /* the chunk with the usage has none */
    read_usage(response, members[2].value);
}

void model_response_init(struct model_response *response)
{
    *response = (struct model_response){.code = OK};
    sse_parser_init(&response->sse, MODEL_EVENT_BYTES_MAX, response, on_event);
    buffer_init(&response->text, MODEL_TEXT_BYTES_MAX);
}

void model_response_deinit(struct model_response *response)
{
    sse_parser_deinit(&response->sse);
    buffer_deinit(&response->text);
    buffer_deinit(&response->body);
}

/* Looks at the first byte that is no blank. Blanks before it mean nothing to either form. */
static void tell_form(struct model_response *response, int status, struct slice *piece)
{
    if (status < 200 || status > 299) {
        response->form = MODEL_RESPONSE_ERROR;
        buffer_init(&response->body, MODEL_ERROR_BYTES_MAX);
        return;
    }
    while (piece->size > 0 && memchr(" \t\r\n", *piece->data, 4))
        *piece = slice_of(piece->data + 1, piece->size - 1);
    if (piece->size == 0)
        return;
    response->form = *piece->data == '{' ? MODEL_RESPONSE_DOCUMENT : MODEL_RESPONSE_STREAM;
    if (response->form == MODEL_RESPONSE_DOCUMENT)
        buffer_init(&response->body, MODEL_RESPONSE_BYTES_MAX);
}

enum err model_response_feed(struct model_response *response, int status, struct slice piece)
{
    if (response->form == MODEL_RESPONSE_EMPTY)
        tell_form(response, status, &piece);
    switch (response->form) {
    case MODEL_RESPONSE_EMPTY: break;
    case MODEL_RESPONSE_STREAM:
        if (!response->is_done && response->code == OK && sse_parser_feed(&response->sse, piece) != OK)
            fail(response, ERR_LIMIT, "an event over %d bytes", MODEL_EVENT_BYTES_MAX);
        break;
    case MODEL_RESPONSE_DOCUMENT:
        buffer_append_slice(&response->body, piece);
        if (response->body.is_overflow)
            fail(response, ERR_LIMIT, "a response over %d bytes", MODEL_RESPONSE_BYTES_MAX);
        break;
    case MODEL_RESPONSE_ERROR:
        buffer_append_slice(&response->body, piece); /* a refused append leaves a torn text, which is then not quoted */
        break;
    }
    return response->code;
}

/* ---- the end ---------------------------------------------------------------------------------------------------------- */

static void finish_document(struct model_response *response)
{
    struct json_value root;
    struct json_problem problem;
    if (json_validate(buffer_slice(&response->body), &root, &problem) != OK) {
        fail(response, ERR_PROTOCOL, "malformed response: %s at byte %zu", problem.reason, problem.offset);
        return;
    }
    struct member members[] = {{.key = "choices"}, {.key = "usage"}};
    find_members(root, members, 2);
    if (!read_choice(response, members[0].value, "message")) {
        if (!fail_with_error_in(response, root, ERR_PROTOCOL, 0))
            fail(response, ERR_PROTOCOL, "a response without choices");
        return;
    }
    read_usage(response, members[1].value);
}

static void finish_stream(struct model_response *response, const struct fetch_result *result)
{
    if (response->is_done || response->finish_reason[0] != '\0')
        return; /* M3: complete, however the connection ended afterwards */
    if (result->code != OK)
        fail(response, result->code, "%s", result->detail);
    else
        fail(response, ERR_PEER_CLOSED, "the stream ended without finish_reason and without [DONE]");
}

void model_response_finish(struct model_response *response, const struct fetch_result *result, struct slice secret)
{
    if (response->code == OK && response->form == MODEL_RESPONSE_ERROR)
        finish_error(response, result->status);
    else if (response->code == OK && response->form == MODEL_RESPONSE_STREAM)
        finish_stream(response, result);
    else if (response->code == OK && result->code != OK)
        fail(response, result->code, "%s", result->detail);
    else if (response->code == OK && response->form == MODEL_RESPONSE_DOCUMENT)
        finish_document(response);
    else if (response->code == OK && (result->status < 200 || result->status > 299))
        finish_error(response, result->status);
    else if (response->code == OK)
        fail(response, ERR_PEER_CLOSED, "an empty response");
    blot_out(response->detail, secret);
}
