/* SPDX-License-Identifier: Apache-2.0 */
/* buffer: growable bytes, born with its maximum (curl's dynbuf). A refused append sets `is_overflow` and changes nothing more,
 * so that a writer checks once at its end. */
#ifndef CIRANDA_RUNTIME_BUFFER_H
#define CIRANDA_RUNTIME_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "runtime/slice.h"

struct buffer {
    char *data;
    size_t size, capacity, size_max;
    bool is_overflow; /* over size_max, or out of memory */
};

void buffer_init(struct buffer *buffer, size_t size_max);
void buffer_deinit(struct buffer *buffer);                                        /* accepts zeroed */
void buffer_clear(struct buffer *buffer);                                         /* keeps the memory */
void buffer_append_growing(struct buffer *buffer, const void *data, size_t size); /* buffer_append for all other cases */

/* Inline where there is room: a record or an answer is some two hundred appends of a few bytes, whose calls cost more than their
 * bytes; a constant size becomes a store. */
static inline void buffer_append(struct buffer *buffer, const void *data, size_t size)
{
    if (size == 0 || buffer->is_overflow || size > buffer->capacity - buffer->size) {
        buffer_append_growing(buffer, data, size);
        return;
    }
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

static inline void buffer_append_slice(struct buffer *buffer, struct slice slice)
{
    buffer_append(buffer, slice.data, slice.size);
}

static inline void buffer_append_text(struct buffer *buffer, const char *text)
{
    buffer_append(buffer, text, strlen(text));
}

static inline void buffer_append_byte(struct buffer *buffer, char byte)
{
    buffer_append(buffer, &byte, 1);
}

void buffer_append_format(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buffer_remove_front(struct buffer *buffer, size_t size);
char *buffer_reserve(struct buffer *buffer, size_t size); /* room for `size` more at data+size, or NULL and is_overflow */
static inline struct slice buffer_slice(const struct buffer *buffer)
{
    return slice_of(buffer->data, buffer->size);
}

#endif
