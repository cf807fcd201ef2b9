/* SPDX-License-Identifier: Apache-2.0 */
/* A chunked body, decoded in place: the data of each chunk is moved down to the end of what is decoded already, and what is
 * left over between the two (sizes, extensions, trailers) is taken out of the input before more is asked for.
 *
 * Every length goes through one unsigned digit-by-digit reader that is capped before any arithmetic: signs, "0x", blanks and
 * overflows are how chunked parsers have been broken. Extensions are checked and ignored; trailers are checked and dropped,
 * since a field that arrives after routing must not change what was routed. */
#include "net/http1.h"
#include "net/http1_internal.h"
#include "runtime/assert.h"

enum { CHUNK_SIZE_DIGITS_MAX = 8, CHUNK_LINE_MAX = CHUNK_SIZE_DIGITS_MAX + HTTP1_CHUNK_EXTENSION_BYTES_MAX + 2 };

static size_t token_size(struct slice text, size_t from)
{
    size_t at = from;
    while (at < text.size && http1_is_class(text.data[at], HTTP1_TOKEN_BYTE))
        at++;
    return at - from;
}

/* `"` … `"` with backslash escapes. Returns: its size, 0 when it is none. */
static size_t quoted_size(struct slice text, size_t from)
{
    if (from >= text.size || text.data[from] != '"')
        return 0;
    for (size_t at = from + 1; at < text.size; at++) {
        if (text.data[at] == '"')
            return at + 1 - from;
        if (text.data[at] == '\\' && ++at == text.size)
            break;
        if ((uint8_t)text.data[at] > 0x7f)
            break;
    }
    return 0;
}

/* *( ";" token [ "=" ( token / quoted-string ) ] ), without the blanks that RFC 9112 tolerates and servers disagree about. */
static bool is_extension(struct slice text)
{
    size_t at = 0;
    while (at < text.size) {
        if (text.data[at++] != ';')
            return false;
        size_t size = token_size(text, at);
        if (size == 0)
            return false;
        at += size;
        if (at < text.size && text.data[at] == '=') {
            at++;
            size = token_size(text, at);
            if (size == 0)
                size = quoted_size(text, at);
            if (size == 0)
                return false;
            at += size;
        }
    }
    return true;
}

static enum http1_reason parse_chunk_line(struct slice line, uint32_t *ret_size)
{
    uint32_t value = 0;
    size_t digits = 0;
    for (; digits < line.size && http1_hex_value(line.data[digits]) >= 0; digits++) {
        if (digits == CHUNK_SIZE_DIGITS_MAX)
            return HTTP1_CHUNK_SIZE;
        value = value * 16 + (uint32_t)http1_hex_value(line.data[digits]);
    }
    if (digits == 0 || (digits < line.size && line.data[digits] != ';'))
        return HTTP1_CHUNK_SIZE;
    struct slice extension = slice_of(line.data + digits, line.size - digits);
    if (extension.size > HTTP1_CHUNK_EXTENSION_BYTES_MAX || !is_extension(extension))
        return HTTP1_CHUNK_EXTENSION;
    *ret_size = value;
    return HTTP1_ACCEPTED;
}

static enum http1_result read_chunk_size(struct http1 *parser, const struct http1_limits *limits, const char *input,
                                         size_t size)
{
    size_t line_end_max = (size_t)parser->line + CHUNK_LINE_MAX;
    struct slice line;
    enum http1_result result = http1_next_line(parser, input, size < line_end_max ? size : line_end_max, &line);
    if (result == HTTP1_MORE && size >= line_end_max)
        return http1_refuse(parser, HTTP1_CHUNK_EXTENSION);
    if (result != HTTP1_DONE)
        return result;
    enum http1_reason reason = parse_chunk_line(line, &parser->chunk_left);
    if (reason != HTTP1_ACCEPTED)
        return http1_refuse(parser, reason);
    if (parser->chunk_left > limits->body_bytes_max - parser->body_size)
        return http1_refuse(parser, HTTP1_BODY_TOO_LARGE);
    parser->state = parser->chunk_left > 0 ? HTTP1_STATE_CHUNK_DATA : HTTP1_STATE_TRAILERS;
    return HTTP1_DONE;
}

static enum http1_result read_chunk_data(struct http1 *parser, char *input, size_t size)
{
    size_t there = size - parser->line;
    uint32_t taken = there < parser->chunk_left ? (uint32_t)there : parser->chunk_left;
    memmove(input + parser->head_size + parser->body_size, input + parser->line, taken);
    parser->body_size += taken;
    parser->chunk_left -= taken;
    parser->line += taken;
    parser->scan = parser->line;
    if (parser->chunk_left > 0)
        return HTTP1_MORE;
    parser->state = HTTP1_STATE_CHUNK_END;
    return HTTP1_DONE;
}

static enum http1_result read_chunk_end(struct http1 *parser, const char *input, size_t size)
{
    size_t there = size - parser->line;
    if ((there > 0 && input[parser->line] != '\r') || (there > 1 && input[parser->line + 1] != '\n'))
        return http1_refuse(parser, HTTP1_CHUNK_END);
    if (there < 2)
        return HTTP1_MORE;
    parser->line += 2;
    parser->scan = parser->line;
    parser->state = HTTP1_STATE_CHUNK_SIZE;
    return HTTP1_DONE;
}

static enum http1_result read_trailer(struct http1 *parser, const struct http1_limits *limits, const char *input,
                                      size_t size)
{
    uint32_t begin = parser->line;
    size_t end_max = (size_t)begin + limits->head_bytes_max - parser->trailer_bytes;
    struct slice line;
    enum http1_result result = http1_next_line(parser, input, size < end_max ? size : end_max, &line);
    if (result == HTTP1_MORE && size >= end_max)
        return http1_refuse(parser, HTTP1_TRAILERS_TOO_MANY);
    if (result != HTTP1_DONE)
        return result;
    parser->trailer_bytes += parser->line - begin;
    if (line.size == 0) {
        parser->state = HTTP1_STATE_BODY_DONE;
        return HTTP1_DONE;
    }
    struct http_header field;
    enum http1_reason reason = http1_split_field(line, &field);
    if (reason != HTTP1_ACCEPTED)
        return http1_refuse(parser, reason);
    if (http1_is_used_header(field.name))
        return http1_refuse(parser, HTTP1_TRAILER_FORBIDDEN);
    if (++parser->trailer_count > HTTP1_TRAILERS_MAX)
        return http1_refuse(parser, HTTP1_TRAILERS_TOO_MANY);
    return HTTP1_DONE;
}

static void close_gap(struct http1 *parser, char *input, size_t *size)
{
    uint32_t body_end = parser->head_size + parser->body_size;
    uint32_t gap = parser->line - body_end;
    if (gap == 0)
        return;
    memmove(input + body_end, input + parser->line, *size - parser->line);
    *size -= gap;
    parser->line -= gap;
    parser->scan -= gap;
}

enum http1_result http1_decode_chunks(struct http1 *parser, const struct http1_limits *limits, char *input, size_t *size,
                                      size_t *ret_request_size)
{
    ASSERT(parser->is_chunked && parser->state >= HTTP1_STATE_CHUNK_SIZE);
    enum http1_result result = HTTP1_DONE;
    while (result == HTTP1_DONE) {
        switch ((enum http1_state)parser->state) {
        case HTTP1_STATE_CHUNK_SIZE: result = read_chunk_size(parser, limits, input, *size); break;
        case HTTP1_STATE_CHUNK_DATA: result = read_chunk_data(parser, input, *size); break;
        case HTTP1_STATE_CHUNK_END: result = read_chunk_end(parser, input, *size); break;
        case HTTP1_STATE_TRAILERS: result = read_trailer(parser, limits, input, *size); break;
        case HTTP1_STATE_BODY_DONE: *ret_request_size = parser->line; return HTTP1_DONE;
        case HTTP1_STATE_REFUSED:
        case HTTP1_STATE_REQUEST_LINE:
        case HTTP1_STATE_FIELDS:
        case HTTP1_STATE_HEAD_DONE: return HTTP1_REFUSED;
        }
    }
    if (result == HTTP1_MORE)
        close_gap(parser, input, size);
    return result;
}
