/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a response, written in one piece into reserved room: one bound computed, then copies. */
#include <stdint.h>

#include "net/http_server_internal.h"
#include "runtime/decimal.h"

static const struct {
    int status;
    const char *text;
} status_texts[] = {
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {422, "Unprocessable Content"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
};

static const char *status_text(int status)
{
    for (size_t i = 0; i < sizeof status_texts / sizeof status_texts[0]; i++)
        if (status_texts[i].status == status)
            return status_texts[i].text;
    return "Status"; /* the phrase means nothing to clients, but must not be missing */
}

static bool can_break_line(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] == '\r' || text.data[i] == '\n' || text.data[i] == '\0')
            return true;
    return false;
}

static char *put(char *place, struct slice text)
{
    memcpy(place, text.data, text.size);
    return place + text.size;
}

static char *put_line(char *place, struct slice name, struct slice value)
{
    place = put(place, name);
    place = put(place, SLICE_LITERAL(": "));
    place = put(place, value);
    return put(place, SLICE_LITERAL("\r\n"));
}

static char *put_number(char *place, uint64_t number)
{
    char digits[DECIMAL_DIGITS_MAX];
    return put(place, decimal_format(number, digits));
}

void http_response_write_head(struct buffer *out, const struct http_response_head *head)
{
    const struct http_response *response = head->response;
    ASSERT(response->status >= 100 && response->status <= 999);
    struct slice phrase = slice_from_text(status_text(response->status));
    struct slice type = slice_from_text(response->content_type);
    ASSERT(!can_break_line(type));
    size_t bound = 320 + phrase.size + type.size; /* 320: every fixed text below, with numbers of 20 digits */
    for (uint32_t i = 0; i < response->header_count; i++) {
        ASSERT(!can_break_line(response->headers[i].name) && !can_break_line(response->headers[i].value));
        bound += response->headers[i].name.size + response->headers[i].value.size + 4;
    }
    char *begin = buffer_reserve(out, bound);
    if (!begin)
        return; /* the buffer remembers */

    char *place = put(begin, SLICE_LITERAL("HTTP/1.1 "));
    place = put_number(place, (uint64_t)response->status);
    *place++ = ' ';
    place = put(place, phrase);
    place = put(place, SLICE_LITERAL("\r\n"));
    place = put_line(place, SLICE_LITERAL("Date"), head->date);
    if (type.size > 0)
        place = put_line(place, SLICE_LITERAL("Content-Type"), type);
    switch (head->framing) {
    case HTTP_FRAMING_SIZED:
        place = put(place, SLICE_LITERAL("Content-Length: "));
        place = put_number(place, head->body_size);
        place = put(place, SLICE_LITERAL("\r\n"));
        break;
    case HTTP_FRAMING_CHUNKED: place = put(place, SLICE_LITERAL("Transfer-Encoding: chunked\r\n")); break;
    case HTTP_FRAMING_NONE:
    case HTTP_FRAMING_CLOSE: break;
    }
    if (head->trace_id.size > 0)
        place = put_line(place, SLICE_LITERAL("X-Trace-Id"), head->trace_id);
    for (uint32_t i = 0; i < response->header_count; i++)
        place = put_line(place, response->headers[i].name, response->headers[i].value);
    if (head->connection)
        place = put_line(place, SLICE_LITERAL("Connection"), slice_from_text(head->connection));
    place = put(place, SLICE_LITERAL("\r\n"));
    ASSERT((size_t)(place - begin) <= bound);
    out->size += (size_t)(place - begin);
}
