/* SPDX-License-Identifier: Apache-2.0 */
/* See sse.h. A stream is UTF-8 by definition; whether the bytes are is the caller's matter (JSON writers guarantee it). */
#include "net/sse.h"

static bool can_end_line(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] == '\r' || text.data[i] == '\n' || text.data[i] == '\0')
            return true;
    return false;
}

/* Takes the next line off `text`, at CR, LF or CRLF. Returns: whether a line end was there, so that another line follows. */
static bool next_line(struct slice *text, struct slice *ret_line)
{
    size_t size = 0;
    while (size < text->size && text->data[size] != '\r' && text->data[size] != '\n')
        size++;
    *ret_line = slice_of(text->data, size);
    if (size == text->size)
        return false;
    bool is_pair = text->data[size] == '\r' && size + 1 < text->size && text->data[size + 1] == '\n';
    size += is_pair ? 2 : 1;
    *text = slice_of(text->data + size, text->size - size);
    return true;
}

static void write_lines(struct buffer *out, struct slice prefix, struct slice text)
{
    bool has_more = true;
    while (has_more) {
        struct slice line;
        has_more = next_line(&text, &line);
        buffer_append_slice(out, prefix);
        buffer_append_slice(out, line);
        buffer_append_byte(out, '\n');
    }
}

enum err sse_write_event(struct buffer *out, struct slice id, struct slice event, struct slice data)
{
    if (can_end_line(id) || can_end_line(event))
        return ERR_INVALID;
    if (id.size > 0)
        write_lines(out, SLICE_LITERAL("id: "), id);
    if (event.size > 0)
        write_lines(out, SLICE_LITERAL("event: "), event);
    write_lines(out, SLICE_LITERAL("data: "), data);
    buffer_append_byte(out, '\n');
    return OK;
}

void sse_write_comment(struct buffer *out, struct slice text)
{
    write_lines(out, SLICE_LITERAL(": "), text);
    buffer_append_byte(out, '\n');
}

void sse_write_retry(struct buffer *out, uint64_t ms)
{
    buffer_append_format(out, "retry: %llu\n\n", (unsigned long long)ms);
}
