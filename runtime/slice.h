/* SPDX-License-Identifier: Apache-2.0 */
/* slice: borrowed bytes with a length, not NUL-terminated. Not an owner: who hands one out says how long it lives. */
#ifndef CIRANDA_RUNTIME_SLICE_H
#define CIRANDA_RUNTIME_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct slice {
    const char *data; /* may be NULL only when size is 0 */
    size_t size;
};

#define SLICE_LITERAL(text) ((struct slice){.data = (text), .size = sizeof(text) - 1})
#define SLICE_PRINT(s) (int)(s).size, (s).data /* for "%.*s" */

static inline struct slice slice_of(const char *data, size_t size)
{
    return (struct slice){.data = data, .size = size};
}

static inline struct slice slice_from_text(const char *text)
{
    return (struct slice){.data = text, .size = text ? strlen(text) : 0};
}

static inline bool slice_is_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool slice_has_text(struct slice s, const char *text)
{
    return slice_is_equal(s, slice_from_text(text));
}

#endif
