/* SPDX-License-Identifier: Apache-2.0 */
/* sse_parser: see sse_parser.h. Lines are cut out of the piece; a line is a field of the event being read, and a blank one
 * ends the event. The cap is tested against the line as it grows, with the same sum whether it came in one piece or in many
 * (S1), before anything is copied.
 */
#include "net/sse_parser.h"

#include "runtime/assert.h"

static const size_t event_bytes_max_default = 1 << 20;

void sse_parser_init(struct sse_parser *parser, size_t event_bytes_max, void *context,
                     void (*on_event)(void *context, const struct sse_event *event))
{
    *parser = (struct sse_parser){
        .event_bytes_max = event_bytes_max ? event_bytes_max : event_bytes_max_default,
        .context = context,
        .on_event = on_event,
    };
    buffer_init(&parser->line, parser->event_bytes_max);
    buffer_init(&parser->data, parser->event_bytes_max);
    buffer_init(&parser->type, parser->event_bytes_max);
    buffer_init(&parser->id, parser->event_bytes_max);
}

void sse_parser_deinit(struct sse_parser *parser)
{
    buffer_deinit(&parser->line);
    buffer_deinit(&parser->data);
    buffer_deinit(&parser->type);
    buffer_deinit(&parser->id);
}

static void set(struct buffer *buffer, struct slice value)
{
    buffer_clear(buffer);
    buffer_append_slice(buffer, value);
}

static void finish_event(struct sse_parser *parser)
{
    if (parser->data.size > 0) {
        struct sse_event event = {
            .type = parser->type.size > 0 ? buffer_slice(&parser->type) : SLICE_LITERAL("message"),
            .data = slice_of(parser->data.data, parser->data.size - 1), /* without the last LF */
            .id = buffer_slice(&parser->id),
            .retry_ms = parser->retry_ms,
        };
        parser->on_event(parser->context, &event);
    }
    buffer_clear(&parser->data);
    buffer_clear(&parser->type);
}

/* Digits only, as the standard asks; a value too large to mean anything is ignored like any other garbage. */
static void set_retry(struct sse_parser *parser, struct slice value)
{
    uint64_t retry_ms = 0;
    if (value.size == 0 || value.size > 12)
        return;
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return;
        retry_ms = retry_ms * 10 + (uint64_t)(value.data[i] - '0');
    }
    parser->retry_ms = retry_ms;
}

static void read_field(struct sse_parser *parser, struct slice line)
{
    const char *colon = memchr(line.data, ':', line.size);
    struct slice name = line, value = {0};
    if (colon) {
        name.size = (size_t)(colon - line.data);
        value = slice_of(colon + 1, line.size - name.size - 1);
        if (value.size > 0 && value.data[0] == ' ')
            value = slice_of(value.data + 1, value.size - 1);
    }
    if (slice_has_text(name, "data")) {
        buffer_append_slice(&parser->data, value);
        buffer_append_byte(&parser->data, '\n');
    } else if (slice_has_text(name, "event")) {
        set(&parser->type, value);
    } else if (slice_has_text(name, "id")) {
        if (value.size == 0 || !memchr(value.data, '\0', value.size))
            set(&parser->id, value);
    } else if (slice_has_text(name, "retry")) {
        set_retry(parser, value);
    } /* other names, and a comment, whose name is empty, mean nothing */
}

static void read_line(struct sse_parser *parser, struct slice line)
{
    static const char byte_order_mark[] = "\xef\xbb\xbf";
    if (!parser->is_first_line_read) {
        parser->is_first_line_read = true;
        if (line.size >= 3 && memcmp(line.data, byte_order_mark, 3) == 0)
            line = slice_of(line.data + 3, line.size - 3);
    }
    if (line.size == 0)
        finish_event(parser);
    else
        read_field(parser, line);
}

static size_t find_line_end(struct slice bytes)
{
    size_t i = 0;
    while (i < bytes.size && bytes.data[i] != '\n' && bytes.data[i] != '\r')
        i++;
    return i;
}

/* Takes the next line, or what there is of it, from the front of `piece`. Returns: whether it was whole. */
static bool take_line(struct sse_parser *parser, struct slice *piece, struct slice *ret_part)
{
    size_t size = find_line_end(*piece);
    bool is_whole = size < piece->size;
    *ret_part = slice_of(piece->data, size);
    if (is_whole)
        parser->is_after_cr = piece->data[size] == '\r';
    size_t used = size + is_whole;
    *piece = slice_of(piece->data + used, piece->size - used);
    return is_whole;
}

/* A line leaves less behind than it has itself (a name goes, at most an LF comes), so that what fitted keeps fitting. */
static bool fits(const struct sse_parser *parser, size_t part_size)
{
    size_t held = parser->data.size + parser->type.size + parser->id.size + parser->line.size;
    ASSERT(held <= parser->event_bytes_max);
    return part_size <= parser->event_bytes_max - held;
}

static bool has_overflow(const struct sse_parser *parser)
{
    return parser->line.is_overflow || parser->data.is_overflow || parser->type.is_overflow || parser->id.is_overflow;
}

enum err sse_parser_feed(struct sse_parser *parser, struct slice piece)
{
    while (!parser->is_failed && piece.size > 0) {
        if (parser->is_after_cr) {
            parser->is_after_cr = false;
            if (piece.data[0] == '\n') {
                piece = slice_of(piece.data + 1, piece.size - 1);
                continue;
            }
        }
        struct slice part;
        bool is_whole = take_line(parser, &piece, &part);
        if (!fits(parser, part.size)) {
            parser->is_failed = true;
            break;
        }
        if (!is_whole || parser->line.size > 0)
            buffer_append_slice(&parser->line, part);
        if (is_whole && !parser->line.is_overflow) {
            read_line(parser, parser->line.size > 0 ? buffer_slice(&parser->line) : part);
            buffer_clear(&parser->line);
        }
        parser->is_failed = has_overflow(parser);
    }
    return parser->is_failed ? ERR_LIMIT : OK;
}
