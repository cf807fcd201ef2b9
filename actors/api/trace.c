/* SPDX-License-Identifier: Apache-2.0 */
/* trace: see the header. The traceparent grammar is https://www.w3.org/TR/trace-context/, section 3.2. */
#include "actors/api/trace.h"

#include <ctype.h>

#include "runtime/clock.h"

_Static_assert(CONV_TRACE_ID_BYTES_MAX >= 32, "a W3C trace id fits");

static bool is_name_byte(char byte)
{
    return isalnum((unsigned char)byte) || byte == '.' || byte == '_' || byte == '-';
}

static bool take_plain(struct slice text, struct trace_id *ret_trace)
{
    if (text.size == 0 || text.size > sizeof ret_trace->text)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        if (!is_name_byte(text.data[i]))
            return false;
    }
    memcpy(ret_trace->text, text.data, text.size);
    ret_trace->size = (uint8_t)text.size;
    return true;
}

/* Lower-case hexadecimal digits only, as the grammar says. */
static bool is_hex(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (!(text[i] >= '0' && text[i] <= '9') && !(text[i] >= 'a' && text[i] <= 'f'))
            return false;
    }
    return true;
}

static bool is_zero(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] != '0')
            return false;
    }
    return true;
}

/* version "-" trace-id "-" parent-id "-" flags; a later version than 00 may go on after another "-". */
static bool take_traceparent(struct slice text, struct trace_id *ret_trace)
{
    enum { VERSION = 0, TRACE = 3, PARENT = 36, FLAGS = 53, SIZE = 55 };
    const char *t = text.data;
    if (text.size < SIZE || t[TRACE - 1] != '-' || t[PARENT - 1] != '-' || t[FLAGS - 1] != '-')
        return false;
    if (!is_hex(t, 2) || !is_hex(t + TRACE, 32) || !is_hex(t + PARENT, 16) || !is_hex(t + FLAGS, 2))
        return false;
    bool is_version_0 = is_zero(t, 2);
    if (memcmp(t, "ff", 2) == 0 || is_zero(t + TRACE, 32) || is_zero(t + PARENT, 16))
        return false;
    if (text.size > SIZE && (is_version_0 || t[SIZE] != '-'))
        return false;
    memcpy(ret_trace->text, t + TRACE, 32);
    ret_trace->size = 32;
    return true;
}

struct trace_id trace_id_create(void)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[16];
    clock_random_bytes(bytes, sizeof bytes);
    struct trace_id trace = {.size = 32};
    for (size_t i = 0; i < sizeof bytes; i++) {
        trace.text[2 * i] = digits[bytes[i] >> 4];
        trace.text[2 * i + 1] = digits[bytes[i] & 15];
    }
    return trace;
}

struct trace_id trace_id_of(struct slice plain, struct slice traceparent)
{
    struct trace_id trace;
    if (take_plain(plain, &trace) || take_traceparent(traceparent, &trace))
        return trace;
    return trace_id_create();
}

struct trace_id trace_id_of_request(const struct http_request *request)
{
    return trace_id_of(http_request_header(request, "X-Trace-Id"), http_request_header(request, "traceparent"));
}
