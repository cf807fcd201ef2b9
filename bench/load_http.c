/* SPDX-License-Identifier: Apache-2.0 */
/* load_http: messages over HTTP/1.1, and their answers: a JSON body; the turn's events as server-sent events; or bytes that
 * mean nothing (load_constant). Answers come in the order of their requests. Trailers are skipped, a head has at most 64 KiB.
 */
#include <stdlib.h>
#include <strings.h>

#include "bench/json_scan.h"
#include "bench/load_protocol.h"
#include "net/json.h"
#include "runtime/buffer.h"
#include "runtime/decimal.h"

enum { HEAD_BYTES_MAX = 64 << 10, BODY_DIGITS_MAX = 7, TEXT_BYTES_MAX = 64 << 10 };

/* ---- writing ------------------------------------------------------------------------------------------------------------ */

/* The size of the body is known when it is written: its place in the head is kept free, and spaces before it are allowed. */
static void write_request(struct buffer *out, const struct load_message *message, const char *accept)
{
    char room[DECIMAL_DIGITS_MAX];
    buffer_append_text(out, "POST /v1/conversations/");
    buffer_append_slice(out, message->conversation_id);
    buffer_append_text(out, "/messages HTTP/1.1\r\nHost: load\r\nContent-Type: application/json\r\n");
    buffer_append_text(out, accept);
    if (message->is_async)
        buffer_append_text(out, "Prefer: respond-async\r\n");
    buffer_append_text(out, "Content-Length:        \r\n\r\n");
    size_t head_size = out->size;
    buffer_append_text(out, "{\"message_id\":\"");
    buffer_append_slice(out, message->message_id);
    if (message->agent.size > 0) {
        buffer_append_text(out, "\",\"agent\":\"");
        buffer_append_slice(out, message->agent);
    }
    buffer_append_text(out, "\",\"text\":");
    json_write_string(out, message->text);
    buffer_append_byte(out, '}');
    struct slice digits = decimal_format(out->size - head_size, room);
    if (!out->is_overflow && digits.size <= BODY_DIGITS_MAX)
        memcpy(out->data + head_size - strlen("\r\n\r\n") - digits.size, digits.data, digits.size);
}

static void write_message(struct buffer *out, const struct load_message *message)
{
    write_request(out, message, "");
}

static void write_sse_message(struct buffer *out, const struct load_message *message)
{
    write_request(out, message, "Accept: text/event-stream\r\n");
}

/* ---- heads and bodies --------------------------------------------------------------------------------------------------- */

struct head {
    int status; /* 0: no HTTP */
    size_t size, body_size;
    bool is_chunked, is_close;
};

/* Returns: whether the line begins with `name`, which is in lower case. */
static bool line_is(struct slice line, struct slice name)
{
    return line.size >= name.size && (line.data[0] | 32) == name.data[0] &&
           strncasecmp(line.data, name.data, name.size) == 0;
}

/* Returns: false when it is not whole yet. */
static bool read_head(const char *bytes, size_t size, struct head *ret_head)
{
    static const struct slice content_length = {.data = "content-length:", .size = 15};
    static const struct slice chunked = {.data = "transfer-encoding: chunked", .size = 26};
    static const struct slice close = {.data = "connection: close", .size = 17};
    const char *end = memmem(bytes, size, "\r\n\r\n", 4);
    if (!end)
        return false;
    *ret_head = (struct head){.size = (size_t)(end - bytes) + 4};
    if (ret_head->size < 16 || memcmp(bytes, "HTTP/1.1 ", 9) != 0)
        return true;
    ret_head->status = (int)strtol(bytes + 9, NULL, 10);
    for (const char *line = bytes; line < end;) {
        const char *line_end = memchr(line, '\r', (size_t)(end + 1 - line));
        struct slice header = slice_of(line, (size_t)(line_end - line));
        if (line_is(header, content_length))
            ret_head->body_size = strtoul(line + content_length.size, NULL, 10);
        else if (line_is(header, chunked))
            ret_head->is_chunked = true;
        else if (line_is(header, close))
            ret_head->is_close = true;
        line = line_end + 2;
    }
    return true;
}

/* Moves the chunks' data together to the front of `bytes`. Returns: bytes taken, 0 when it is not whole yet (then nothing was
 * moved), SIZE_MAX when it is no chunked body. */
static size_t read_chunks(char *bytes, size_t size, bool is_moving, size_t *ret_body_size)
{
    size_t position = 0, body_size = 0;
    for (;;) {
        const char *line_end = size > position ? memmem(bytes + position, size - position, "\r\n", 2) : NULL;
        if (!line_end)
            return 0;
        char *digits_end;
        size_t chunk = strtoul(bytes + position, &digits_end, 16);
        if (digits_end == bytes + position)
            return SIZE_MAX;
        position = (size_t)(line_end - bytes) + 2;
        if (chunk > size || size - position < chunk + 2)
            return 0;
        if (is_moving)
            memmove(bytes + body_size, bytes + position, chunk);
        body_size += chunk;
        position += chunk + 2;
        if (chunk == 0) {
            *ret_body_size = body_size;
            return position;
        }
    }
}

static size_t take_constant(char *bytes, size_t size, struct load_answer *ret_answer)
{
    struct head head;
    if (!read_head(bytes, size, &head))
        return size > HEAD_BYTES_MAX ? SIZE_MAX : 0;
    if (head.status == 0)
        return SIZE_MAX;
    char *body = bytes + head.size;
    size_t taken = head.body_size, body_size = head.body_size;
    if (head.is_chunked) {
        taken = read_chunks(body, size - head.size, false, &body_size);
        if (taken == 0 || taken == SIZE_MAX)
            return taken;
        (void)read_chunks(body, size - head.size, true, &body_size);
    } else if (size - head.size < head.body_size) {
        return 0;
    }
    *ret_answer =
        (struct load_answer){.status = head.status, .body = slice_of(body, body_size), .is_last = head.is_close};
    return head.size + taken;
}

/* ---- what they say ------------------------------------------------------------------------------------------------------ */

static bool read_unsigned(struct slice value, uint64_t *ret_number)
{
    uint64_t number = 0;
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(value.data[i] - '0');
    }
    *ret_number = number;
    return value.size > 0;
}

/* A text that may be as long as a reply; the thread has one at a time. */
static bool read_text(struct slice value, struct slice *ret_text)
{
    static _Thread_local char unescaped[TEXT_BYTES_MAX];
    return json_scan_text(value, unescaped, sizeof unescaped, ret_text);
}

/* Ids and states: without escapes, or they are not what was asked for. */
static bool read_name(struct slice value, struct slice *ret_name)
{
    return json_scan_text(value, NULL, 0, ret_name);
}

/* The member `name` of `object` as a text. */
static bool find_text(struct slice object, const char *name, struct slice *ret_text)
{
    struct json_scan scan;
    struct slice key, value;
    if (!json_scan_begin(&scan, object))
        return false;
    while (json_scan_next(&scan, &key, &value)) {
        if (slice_has_text(key, name))
            return read_text(value, ret_text);
    }
    return false;
}

static const char *read_message_answer(struct load_answer *answer)
{
    struct json_scan scan;
    struct slice key, value;
    if (!json_scan_begin(&scan, answer->body))
        return "the body is no object";
    while (json_scan_next(&scan, &key, &value)) {
        bool is_read = true;
        if (slice_is_equal(key, SLICE_LITERAL("conversation_id")))
            is_read = read_name(value, &answer->conversation_id);
        else if (slice_is_equal(key, SLICE_LITERAL("message_id")))
            is_read = read_name(value, &answer->message_id);
        else if (slice_is_equal(key, SLICE_LITERAL("status")))
            is_read = read_name(value, &answer->state);
        else if (slice_is_equal(key, SLICE_LITERAL("version")))
            is_read = read_unsigned(value, &answer->version);
        else if (slice_is_equal(key, SLICE_LITERAL("duplicate")))
            answer->is_duplicate = slice_is_equal(value, SLICE_LITERAL("true"));
        else if (slice_is_equal(key, SLICE_LITERAL("reply")) && value.data[0] == '{')
            is_read = find_text(value, "text", &answer->text);
        if (!is_read)
            return "a member of another type";
    }
    return NULL;
}

static size_t take_message_answer(char *bytes, size_t size, struct load_answer *ret_answer)
{
    size_t taken = take_constant(bytes, size, ret_answer);
    if (taken != 0 && taken != SIZE_MAX && ret_answer->status / 100 == 2)
        ret_answer->wrong = read_message_answer(ret_answer);
    return taken;
}

/* ---- the turn as events --------------------------------------------------------------------------------------------------- */

/* The value of a field of an event, which ends at `end`. Returns: empty when it is not the next line. */
static struct slice take_field(const char **at, const char *end, struct slice name)
{
    const char *line_end = memchr(*at, '\n', (size_t)(end - *at));
    if (!line_end || (size_t)(line_end - *at) < name.size || memcmp(*at, name.data, name.size) != 0)
        return (struct slice){0};
    struct slice value = slice_of(*at + name.size, (size_t)(line_end - *at) - name.size);
    *at = line_end + 1;
    return value;
}

static const char *read_envelope(struct load_answer *answer, struct slice type, struct slice envelope)
{
    struct json_scan scan;
    struct slice key, value;
    bool is_said = slice_has_text(type, "inbox.message.received");
    bool is_reply =
        slice_has_text(type, "agent.response.generated") || slice_has_text(type, "agent.ai.response.generated");
    if (!json_scan_begin(&scan, envelope))
        return "an event without an envelope";
    while (json_scan_next(&scan, &key, &value)) {
        bool is_read = true;
        if (is_said && slice_has_text(key, "conversation_id"))
            is_read = read_name(value, &answer->conversation_id);
        else if (is_said && slice_has_text(key, "idempotency_key"))
            is_read = read_name(value, &answer->message_id);
        else if (is_reply && slice_has_text(key, "payload"))
            is_read = find_text(value, "text", &answer->text);
        if (!is_read)
            return "a member of another type";
    }
    return NULL;
}

static const char *read_events(struct load_answer *answer)
{
    const char *at = answer->body.data, *end = at + answer->body.size;
    while (at < end) {
        struct slice id = take_field(&at, end, SLICE_LITERAL("id: "));
        struct slice type = take_field(&at, end, SLICE_LITERAL("event: "));
        struct slice data = take_field(&at, end, SLICE_LITERAL("data: "));
        uint64_t version = answer->version;
        if (at == end || *at++ != '\n')
            return "an event does not end";
        if (id.size > 0 && (!read_unsigned(id, &version) || (answer->version > 0 && version != answer->version + 1)))
            return "versions are not dense";
        answer->version = version;
        const char *wrong = read_envelope(answer, type, data);
        if (wrong)
            return wrong;
        if (slice_has_text(type, "turn.completed"))
            answer->state = SLICE_LITERAL("completed");
    }
    return NULL;
}

static size_t take_events(char *bytes, size_t size, struct load_answer *ret_answer)
{
    size_t taken = take_constant(bytes, size, ret_answer);
    if (taken != 0 && taken != SIZE_MAX && ret_answer->status / 100 == 2)
        ret_answer->wrong = read_events(ret_answer);
    return taken;
}

const struct load_protocol load_http = {"http", false, write_message, take_message_answer};
const struct load_protocol load_sse = {"sse", false, write_sse_message, take_events};
const struct load_protocol load_constant = {"constant", false, NULL, take_constant};
