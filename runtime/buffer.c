/* SPDX-License-Identifier: Apache-2.0 */
/* buffer: growth by doubling up to the maximum it was born with.
 *
 * Once an append was refused all later ones are too, until buffer_clear: what the buffer holds is always a prefix of what
 * was written, never a text with a hole. Limits: size_max bytes; one realloc a doubling, none once warm.
 * Callers: every part that composes bytes (answers, records, metrics).
 */
#include "runtime/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/assert.h"

enum { BUFFER_FIRST_CAPACITY = 256 };

void buffer_init(struct buffer *buffer, size_t size_max)
{
    *buffer = (struct buffer){.size_max = size_max};
}

void buffer_deinit(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){.size_max = buffer->size_max};
}

void buffer_clear(struct buffer *buffer)
{
    buffer->size = 0;
    buffer->is_overflow = false;
}

char *buffer_reserve(struct buffer *buffer, size_t size)
{
    ASSERT(buffer->size <= buffer->capacity && buffer->capacity <= buffer->size_max);
    if (buffer->is_overflow || size > buffer->size_max - buffer->size) {
        buffer->is_overflow = true;
        return NULL;
    }
    size_t needed = buffer->size + size;
    if (buffer->data && needed <= buffer->capacity)
        return buffer->data + buffer->size;
    size_t capacity = buffer->capacity;
    if (capacity == 0)
        capacity = buffer->size_max < BUFFER_FIRST_CAPACITY ? buffer->size_max : BUFFER_FIRST_CAPACITY;
    while (capacity < needed)
        capacity = capacity > buffer->size_max / 2 ? buffer->size_max : capacity * 2;
    char *data = realloc(buffer->data, capacity + 1); /* + 1: the NUL that vsnprintf writes and nobody keeps */
    if (!data) {
        buffer->is_overflow = true;
        return NULL;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return data + buffer->size;
}

void buffer_append_growing(struct buffer *buffer, const void *data, size_t size)
{
    char *place = buffer_reserve(buffer, size);
    if (!place || size == 0)
        return;
    memcpy(place, data, size);
    buffer->size += size;
}

void buffer_append_format(struct buffer *buffer, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    size_t room = buffer->capacity - buffer->size;
    int length =
        vsnprintf(buffer->data ? buffer->data + buffer->size : NULL, buffer->data ? room + 1 : 0, format, arguments);
    ASSERT(length >= 0);
    size_t size = (size_t)length;
    if (buffer->data && size <= room && !buffer->is_overflow) {
        buffer->size += size;
    } else {
        char *place = buffer_reserve(buffer, size);
        if (place) {
            vsnprintf(place, size + 1, format, again);
            buffer->size += size;
        }
    }
    va_end(again);
    va_end(arguments);
}

void buffer_remove_front(struct buffer *buffer, size_t size)
{
    ASSERT(size <= buffer->size);
    if (size == 0)
        return;
    buffer->size -= size;
    memmove(buffer->data, buffer->data + size, buffer->size);
}
