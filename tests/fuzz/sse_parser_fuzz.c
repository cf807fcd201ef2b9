/* SPDX-License-Identifier: Apache-2.0 */
/* sse_parser_fuzz: any stream, cut in any way, gives the same events (S1); and without a cap in the way those of a reference
 * that follows the standard's text step by step on the whole stream. The first byte chooses cap and cuts. */
#include <stdint.h>
#include <stdlib.h>

#include "net/sse_parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_slice(struct buffer *transcript, struct slice slice)
{
    buffer_append_format(transcript, "%zu:", slice.size);
    if (slice.size > 0)
        buffer_append_slice(transcript, slice);
}

static void write_event(void *context, const struct sse_event *event)
{
    struct buffer *transcript = context;
    write_slice(transcript, event->type);
    write_slice(transcript, event->data);
    write_slice(transcript, event->id);
    buffer_append_format(transcript, "%llu;", (unsigned long long)event->retry_ms);
}

static enum err feed(struct slice stream, size_t step, size_t event_bytes_max, struct buffer *transcript)
{
    struct sse_parser parser;
    enum err err = OK;
    sse_parser_init(&parser, event_bytes_max, transcript, write_event);
    for (size_t at = 0; at < stream.size; at += step) {
        size_t size = stream.size - at < step ? stream.size - at : step;
        err = sse_parser_feed(&parser, slice_of(stream.data + at, size));
    }
    sse_parser_deinit(&parser);
    return err;
}

/* ---- the reference ---------------------------------------------------------------------------------------------------- */

struct reference {
    struct buffer data, type, id;
    unsigned long long retry_ms;
};

static void reference_dispatch(struct reference *reference, struct buffer *transcript)
{
    if (reference->data.size > 0) {
        struct sse_event event = {.type = buffer_slice(&reference->type),
                                  .data = slice_of(reference->data.data, reference->data.size - 1),
                                  .id = buffer_slice(&reference->id),
                                  .retry_ms = reference->retry_ms};
        if (event.type.size == 0)
            event.type = SLICE_LITERAL("message");
        write_event(transcript, &event);
    }
    buffer_clear(&reference->data);
    buffer_clear(&reference->type);
}

static void reference_field(struct reference *reference, struct slice name, struct slice value)
{
    if (slice_has_text(name, "event")) {
        buffer_clear(&reference->type);
        buffer_append(&reference->type, value.data, value.size);
    } else if (slice_has_text(name, "data")) {
        buffer_append(&reference->data, value.data, value.size);
        buffer_append_byte(&reference->data, '\n');
    } else if (slice_has_text(name, "id") && !memchr(value.data, 0, value.size)) {
        buffer_clear(&reference->id);
        buffer_append(&reference->id, value.data, value.size);
    } else if (slice_has_text(name, "retry") && value.size > 0 && value.size <= 12) {
        char digits[13] = {0};
        memcpy(digits, value.data, value.size);
        if (strspn(digits, "0123456789") == value.size)
            reference->retry_ms = strtoull(digits, NULL, 10);
    }
}

static void reference_line(struct reference *reference, struct slice line, struct buffer *transcript)
{
    if (line.size == 0) {
        reference_dispatch(reference, transcript);
        return;
    }
    size_t colon = 0;
    while (colon < line.size && line.data[colon] != ':')
        colon++;
    size_t value = colon < line.size ? colon + 1 : line.size;
    if (colon < line.size && value < line.size && line.data[value] == ' ')
        value++;
    reference_field(reference, slice_of(line.data, colon), slice_of(line.data + value, line.size - value));
}

static void read_by_reference(struct slice stream, struct buffer *transcript)
{
    struct reference reference = {0};
    buffer_init(&reference.data, stream.size + 1);
    buffer_init(&reference.type, stream.size + 1);
    buffer_init(&reference.id, stream.size + 1);
    size_t start = stream.size >= 3 && memcmp(stream.data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    for (size_t i = start; i < stream.size; i++) {
        if (stream.data[i] != '\r' && stream.data[i] != '\n')
            continue;
        reference_line(&reference, slice_of(stream.data + start, i - start), transcript);
        if (stream.data[i] == '\r' && i + 1 < stream.size && stream.data[i + 1] == '\n')
            i++;
        start = i + 1;
    }
    buffer_deinit(&reference.data);
    buffer_deinit(&reference.type);
    buffer_deinit(&reference.id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct slice stream = slice_of((const char *)data + 1, size - 1);
    size_t event_bytes_max = data[0] & 0x80 ? 1 + (data[0] & 0x7f) : 0;
    struct buffer whole, pieces;
    buffer_init(&whole, 64 << 20);
    buffer_init(&pieces, 64 << 20);
    enum err whole_err = feed(stream, size, event_bytes_max, &whole);
    enum err pieces_err = feed(stream, 1 + data[0] % 7, event_bytes_max, &pieces);
    if (whole_err != pieces_err || !slice_is_equal(buffer_slice(&whole), buffer_slice(&pieces)))
        abort();
    if (event_bytes_max == 0 && size <= 1 << 20) {
        buffer_clear(&pieces);
        read_by_reference(stream, &pieces);
        if (whole_err || !slice_is_equal(buffer_slice(&whole), buffer_slice(&pieces)))
            abort();
    }
    buffer_deinit(&whole);
    buffer_deinit(&pieces);
    return 0;
}
